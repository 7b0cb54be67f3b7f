"""Every query on rounds, payments, and the shares that pooling gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backend.ledger.documents import TRANSACTIONS
from backend.ledger.model import TransactionKind
from backend.market.benefits.documents import (
    PAYMENTS,
    ROUNDS,
    payment_from_document,
    payment_to_document,
    round_from_document,
    round_to_document,
)
from backend.market.benefits.model import RoundId, RoundStage, Share
from backend.market.funds.store import stream_legible
from backend.market.pooling.model import ContributionStage
from backend.market.pooling.snapshots import stream_contributions
from backend.market.pooling.store import PoolingReads
from backend.mongo.idempotency import KeyedWrites
from backend.mongo.paging import page_by_moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from backend.kernel.ids import CitizenId
    from backend.ledger.audit.findings import Audit
    from backend.market.benefits.model import Payment, Round
    from backend.market.pooling.model import BatchCode, Contribution
    from backend.mongo.client import Database, Document, Snapshot
    from backend.mongo.paging import Place


def _share(contribution: Contribution) -> Share | None:
    if contribution.stage is not ContributionStage.GIVEN or not contribution.pool_g:
        return None
    return Share(contribution.citizen, contribution.pool_g, contribution.benefit)


class Shares:
    """Who has a part in what a batch's pool has; once the batch is issued, always the same."""

    def __init__(self, database: Database) -> None:
        self._pooling = PoolingReads(database)

    async def stream(self, batch: BatchCode) -> AsyncIterator[Share]:
        """The shares of the batch's pool, by citizen id."""
        async for contribution in self._pooling.stream_given(batch):
            share = _share(contribution)
            if share is not None:
                yield share


class BenefitWrites(KeyedWrites):
    """Rounds and payments inside one MongoDB transaction."""

    async def find_round(self, round_id: str) -> Round | None:
        """The round of that id."""
        document = await self._tx.find_one(ROUNDS.name, {"_id": round_id})
        return round_from_document(document) if document else None

    async def last_round(self, batch: BatchCode) -> Round | None:
        """The batch's last round; while it is open, there is no other."""
        found = await self._tx.find(ROUNDS.name, {"batch": batch}, sort=[("number", -1)], limit=1)
        return round_from_document(found[0]) if found else None

    async def insert_round(self, one: Round) -> None:
        """Begin a round."""
        await self._tx.insert_many(ROUNDS.name, [round_to_document(one)])

    async def save_round(self, before: Round, after: Round) -> None:
        """Put the round in the place of what it was; one that went on meanwhile starts the transaction again."""
        document = round_to_document(after)
        query = {"_id": document.pop("_id"), "stage": before.stage.value, "cursor": before.cursor}
        await self._tx.update_one(ROUNDS.name, query, {"$set": document})

    async def find_carries(self, batch: BatchCode, citizens: Sequence[CitizenId]) -> dict[CitizenId, int]:
        """Hundredths of a point that the last payment of the batch left to each of these citizens."""
        query = {"batch": batch, "citizen": {"$in": list(citizens)}}
        found = await self._tx.find(PAYMENTS.name, query, sort=[("number", 1)])
        return {payment.citizen: payment.carry for payment in map(payment_from_document, found)}

    async def insert_payments(self, payments: Sequence[Payment]) -> None:
        """Note what was paid; a citizen is paid once a round."""
        await self._tx.insert_many(PAYMENTS.name, [payment_to_document(payment) for payment in payments])


class BenefitReads:
    """Rounds and payments as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_round(self, round_id: RoundId) -> Round | None:
        """The round of that id."""
        found = await self._database.find_one(ROUNDS.name, {"_id": round_id})
        return round_from_document(found) if found else None

    async def list_running(self, *, limit: int) -> list[RoundId]:
        """Rounds that are approved and not over, oldest first."""
        query = {"stage": RoundStage.RUNNING.value}
        order = [("proposed_at", 1), ("_id", 1)]
        found = await self._database.find(ROUNDS.name, query, limit=limit, sort=order, fields=["_id"])
        return [RoundId(document["_id"]) for document in found]

    async def list_rounds(
        self,
        batch: BatchCode | None,
        stage: RoundStage | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Round]:
        """Rounds of that batch or of all, in that stage or in any, newest first."""
        query: dict[str, Any] = {} if batch is None else {"batch": batch}
        if stage is not None:
            query["stage"] = stage.value
        found = await page_by_moment(
            self._database,
            ROUNDS.name,
            query,
            moment="proposed_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [round_from_document(document) for document in found]

    async def list_payments(
        self, citizen: CitizenId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Payment]:
        """What the citizen was paid, newest first."""
        found = await page_by_moment(
            self._database,
            PAYMENTS.name,
            {"citizen": citizen},
            moment="at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [payment_from_document(document) for document in found]


def stream_rounds(snapshot: Snapshot, audit: Audit) -> AsyncIterator[tuple[Round, Document]]:
    """Every round there is, by batch and number, and how it is stored."""
    order = [("batch", 1), ("number", 1)]
    return stream_legible(
        snapshot, audit, ROUNDS, lambda document: (round_from_document(document), document), sort=order
    )


async def stream_shares(snapshot: Snapshot, batch: BatchCode) -> AsyncIterator[Share]:
    """The shares of a batch's pool, by citizen id."""
    async for contribution in stream_contributions(snapshot, batch):
        share = _share(contribution)
        if share is not None:
            yield share


def stream_round(snapshot: Snapshot, audit: Audit, one: Round) -> AsyncIterator[Payment]:
    """What a round has paid, by citizen id."""
    order = [("round", 1), ("citizen", 1)]
    return stream_legible(snapshot, audit, PAYMENTS, payment_from_document, query={"round": one.id}, sort=order)


def stream_payments(snapshot: Snapshot, audit: Audit) -> AsyncIterator[Payment]:
    """Every payment, by batch, citizen and round."""
    order = [("batch", 1), ("citizen", 1), ("number", 1)]
    return stream_legible(snapshot, audit, PAYMENTS, payment_from_document, sort=order)


async def stream_posted(snapshot: Snapshot) -> AsyncIterator[str]:
    """Ids of the transactions by which the book says that benefits were returned."""
    query = {"copy_of": None, "kind": TransactionKind.BENEFIT.value}
    async for document in snapshot.stream(TRANSACTIONS.name, query, fields=["_id"]):
        yield document["_id"]
