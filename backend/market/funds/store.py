"""Every query on enterprises, deposits, payouts and bank references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pymongo import DeleteOne

from backend.ledger.documents import TRANSACTIONS
from backend.ledger.model import BANK, TransactionKind
from backend.market.funds.documents import (
    DEPOSITS,
    ENTERPRISES,
    PAYOUTS,
    REFERENCES,
    deposit_from_document,
    deposit_to_document,
    enterprise_from_document,
    enterprise_to_document,
    payout_from_document,
    payout_to_document,
)
from backend.market.funds.model import OPEN_PAYOUT, PayoutId
from backend.mongo.idempotency import KeyedWrites
from backend.mongo.paging import page_by_moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from backend.ledger.audit.findings import Audit
    from backend.ledger.model import OwnerId
    from backend.market.funds.model import (
        Deposit,
        DepositStage,
        Enterprise,
        EnterpriseId,
        EnterpriseStage,
        Payout,
        PayoutStage,
    )
    from backend.mongo.client import Database, Document, Snapshot
    from backend.mongo.collections import Collection
    from backend.mongo.paging import Place

OPEN = {"$in": sorted(OPEN_PAYOUT)}
Read = TypeVar("Read")
# What a codec raises at a document that it did not write.
UNREADABLE = (KeyError, TypeError, ValueError)


class FundWrites(KeyedWrites):
    """Enterprises and money inside one MongoDB transaction."""

    async def find_enterprise(self, enterprise: str) -> Enterprise | None:
        """The enterprise of that id."""
        document = await self._tx.find_one(ENTERPRISES.name, {"_id": enterprise})
        return enterprise_from_document(document) if document else None

    async def is_code_held(self, credit_code: str) -> bool:
        """Whether an enterprise that was not rejected is registered under the code."""
        return await self._tx.find_one(ENTERPRISES.name, {"held_code": credit_code}) is not None

    async def insert_enterprise(self, enterprise: Enterprise) -> None:
        """Begin an enterprise."""
        await self._tx.insert_many(ENTERPRISES.name, [enterprise_to_document(enterprise)])

    async def save_enterprise(self, before: Enterprise, after: Enterprise) -> None:
        """Put the enterprise after a step in the place of what it was before."""
        document = enterprise_to_document(after)
        query = {"_id": document.pop("_id"), "stage": before.stage.value, "steps": {"$size": len(before.steps)}}
        await self._tx.update_one(ENTERPRISES.name, query, {"$set": document})

    async def find_deposit(self, deposit: str) -> Deposit | None:
        """The deposit of that id."""
        document = await self._tx.find_one(DEPOSITS.name, {"_id": deposit})
        return deposit_from_document(document) if document else None

    async def insert_deposit(self, deposit: Deposit) -> None:
        """Begin a deposit."""
        await self._tx.insert_many(DEPOSITS.name, [deposit_to_document(deposit)])

    async def save_deposit(self, before: Deposit, after: Deposit) -> None:
        """Put the deposit as decided on in the place of what it was before."""
        document = deposit_to_document(after)
        query = {"_id": document.pop("_id"), "stage": before.stage.value}
        await self._tx.update_one(DEPOSITS.name, query, {"$set": document})

    async def find_payout(self, payout: str) -> Payout | None:
        """The payout of that id."""
        document = await self._tx.find_one(PAYOUTS.name, {"_id": payout})
        return payout_from_document(document) if document else None

    async def count_open_payouts(self, owner: OwnerId, *, limit: int) -> int:
        """How many payouts of the owner are under way, ``limit`` at most."""
        return len(await self._tx.find(PAYOUTS.name, {"owner": owner, "stage": OPEN}, ["_id"], limit=limit))

    async def insert_payout(self, payout: Payout) -> None:
        """Begin a payout."""
        await self._tx.insert_many(PAYOUTS.name, [payout_to_document(payout)])

    async def save_payout(self, before: Payout, after: Payout) -> None:
        """Put the payout after a step in the place of what it was before."""
        document = payout_to_document(after)
        query = {"_id": document.pop("_id"), "stage": before.stage.value, "settled_at": before.settled_at}
        await self._tx.update_one(PAYOUTS.name, query, {"$set": document})

    async def is_reference_used(self, reference: str) -> bool:
        """Whether a line of the bank's statement with that reference was recorded."""
        return await self._tx.find_one(REFERENCES.name, {"_id": reference}) is not None

    async def use_reference(self, reference: str, of: str) -> None:
        """Record that the line of the bank's statement is about that deposit or payout."""
        await self._tx.insert_many(REFERENCES.name, [{"_id": reference, "of": of}])

    async def free_reference(self, reference: str, of: str) -> None:
        """The line was not about that after all."""
        await self._tx.bulk_write(REFERENCES.name, [DeleteOne({"_id": reference, "of": of})])


class FundReads:
    """Enterprises and money as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_enterprises(self, ids: Iterable[EnterpriseId]) -> dict[EnterpriseId, Enterprise]:
        """Those of the enterprises that exist."""
        wanted = list(set(ids))
        found = await self._database.find(ENTERPRISES.name, {"_id": {"$in": wanted}}, limit=len(wanted) or 1)
        return {enterprise.id: enterprise for enterprise in map(enterprise_from_document, found)}

    async def list_enterprises(
        self, stage: EnterpriseStage | None, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Enterprise]:
        """Enterprises in that stage or in any, by registration, newest first."""
        found = await page_by_moment(
            self._database,
            ENTERPRISES.name,
            {} if stage is None else {"stage": stage.value},
            moment="proposed_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [enterprise_from_document(document) for document in found]

    async def list_deposits(
        self, stage: DepositStage | None, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Deposit]:
        """Deposits in that stage or in any, newest first."""
        found = await page_by_moment(
            self._database,
            DEPOSITS.name,
            {} if stage is None else {"stage": stage.value},
            moment="proposed_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [deposit_from_document(document) for document in found]

    async def list_payouts(
        self,
        owner: OwnerId | None,
        stage: PayoutStage | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Payout]:
        """Payouts of that owner or of all, in that stage or in any, newest first."""
        query: dict[str, Any] = {} if owner is None else {"owner": owner}
        if stage is not None:
            query["stage"] = stage.value
        found = await page_by_moment(
            self._database,
            PAYOUTS.name,
            query,
            moment="requested_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [payout_from_document(document) for document in found]

    async def list_overdue(self, now: datetime, *, limit: int) -> list[PayoutId]:
        """Payouts under way of which the hold's time is over, longest ago first."""
        query = {"stage": OPEN, "expires_at": {"$lte": now}}
        found = await self._database.find(PAYOUTS.name, query, limit=limit, sort=[("expires_at", 1)], fields=["_id"])
        return [PayoutId(document["_id"]) for document in found]


async def stream_legible(
    snapshot: Snapshot,
    audit: Audit,
    collection: Collection,
    decode: Callable[[Document], Read],
    *,
    query: Mapping[str, Any] | None = None,
    sort: Sequence[tuple[str, int]] = (),
) -> AsyncIterator[Read]:
    """Every document that can be read; one that cannot, for its form or what it says, is a finding that names it."""
    wanted = query or {}
    malformed = {**wanted, "$nor": [{"$jsonSchema": collection.schema}]}
    async for document in snapshot.stream(collection.name, malformed, fields=["_id"]):
        audit.report(f"{collection.name} {document['_id']}", "is not of the form of its collection")
    async for document in snapshot.stream(collection.name, {**wanted, "$jsonSchema": collection.schema}, sort=sort):
        try:
            read = decode(document)
        except UNREADABLE as error:
            audit.report(f"{collection.name} {document['_id']}", f"cannot be read: {error}")
            continue
        yield read


def stream_enterprises(snapshot: Snapshot, audit: Audit) -> AsyncIterator[tuple[Enterprise, Document]]:
    """Every enterprise there is, and how it is stored."""
    return stream_legible(snapshot, audit, ENTERPRISES, lambda document: (enterprise_from_document(document), document))


def stream_deposits(snapshot: Snapshot, audit: Audit) -> AsyncIterator[Deposit]:
    """Every deposit there is."""
    return stream_legible(snapshot, audit, DEPOSITS, deposit_from_document)


def stream_payouts(snapshot: Snapshot, audit: Audit) -> AsyncIterator[Payout]:
    """Every payout there is."""
    return stream_legible(snapshot, audit, PAYOUTS, payout_from_document)


def stream_references(snapshot: Snapshot, audit: Audit) -> AsyncIterator[tuple[str, str]]:
    """Every bank reference, and what it is of."""
    return stream_legible(snapshot, audit, REFERENCES, lambda document: (document["_id"], document["of"]))


async def stream_of_bank(snapshot: Snapshot) -> AsyncIterator[str]:
    """Ids of the transactions by which fen came in from the bank, were held for it or left by it; not of merchants'."""
    kinds = [kind.value for kind in (TransactionKind.DEPOSIT, TransactionKind.HOLD, TransactionKind.POST)]
    query = {"copy_of": None, "kind": {"$in": kinds}, "$or": [{"postings.to": BANK}, {"postings.from": BANK}]}
    async for document in snapshot.stream(TRANSACTIONS.name, query, fields=["_id"]):
        yield document["_id"]
