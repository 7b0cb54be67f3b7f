"""An issued batch whose pool has been sold: shares written straight into pooling's collections, fen into the book."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import Text
from backend.kernel.ids import CitizenId, TransactionId
from backend.ledger.audit.findings import Audit
from backend.ledger.model import CNY, POINTS, citizen_owner, pool_owner
from backend.market.benefits.invariants import audit_benefits
from backend.market.benefits.paying import Paying
from backend.market.benefits.store import Shares
from backend.market.pooling.model import Batch, BatchCode, BatchStage, Benefit, Contribution, Share
from backend.market.pooling.store import PoolingWrites
from backend.market.serials.model import SerialRange
from backend.mongo.transactions import Transactions
from backend.rules.model import Category
from backend.valkey.leases import Leases
from tests.conftest import dump
from tests.factories import replay
from tests.floor import BATCH, give_fen
from tests.integration.banking import FAY, FRED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from backend.kernel.errors import DomainError
    from backend.market.benefits.model import Round
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

CODE = BatchCode(BATCH)
OTHER = BatchCode(f"{BATCH}-b")
POOL = pool_owner(BATCH)
Held = tuple[int, Benefit]


@dataclass
class Pool:
    """One issued batch."""

    services: Services
    code: BatchCode = CODE
    number: int = 1
    keys: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def key(self) -> str:
        """A key that nobody used."""
        return f"pool-{next(self.keys):06}"

    async def issue(
        self,
        shares: Mapping[str, int | Held],
        *,
        own: Mapping[str, int] | None = None,
        stage: BatchStage = BatchStage.ISSUED,
    ) -> Pool:
        """Write the batch, and what these citizens have in its pool: grams, as fen where no choice is said."""
        now = self.services.clock.now()
        batch = Batch(
            code=self.code,
            number=self.number,
            scenario=next(iter(Category)),
            profile="conservative",
            vintage=2026,
            since=date(2026, 1, 1),
            until=date(2026, 7, 1),
            project=Text("镇江公交", "Zhenjiang transit"),
            opener="staff:ann",
            opened_at=now,
            opening=f"use-{self.number}",
            stage=stage,
        )
        first = itertools.count(1, 10**12)
        contributions = [
            self._contribution(name, held if isinstance(held, tuple) else (held, Benefit.FEN), next(first))
            for name, held in shares.items()
        ]
        contributions += [self._contribution(name, (0, Benefit.FEN), grams) for name, grams in (own or {}).items()]

        async def body(tx: Tx) -> None:
            writes = PoolingWrites(tx)
            await writes.insert_batch(batch)
            await writes.put_contributions(contributions)

        await Transactions(self.services.database).run(body)
        return self

    def _contribution(self, name: str, held: Held, first: int) -> Contribution:
        grams, choice = held
        share = Share(run=SerialRange(first, first + grams - 1), transaction=TransactionId("tx")) if grams else None
        return Contribution(
            batch=self.code,
            citizen=CitizenId(name),
            vintage=2026,
            benefit=choice,
            given_at=self.services.clock.now(),
            acts=1,
            pool_mg=grams * 1_000,
            own_mg=0 if grams else 1_000,
            transfers=(TransactionId("tx"),),
            deducted_mg=0,
            residual_mg=0,
            pool=share,
        )

    async def sell(self, fen: int) -> None:
        """Let the pool's credits have brought so much."""
        await give_fen(self.services, pool_owner(self.code), fen)

    async def proposed(self, fen: int | None = None) -> Round:
        """A round that fay proposes."""
        return await self.services.market.benefits.propose(FAY, self.code, fen, key=self.key())

    async def approved(self, fen: int | None = None) -> Round:
        """A round that fred approved."""
        proposed = await self.proposed(fen)
        return await self.services.market.benefits.approve(FRED, proposed.id, key=self.key())

    async def returned(self, fen: int | None = None) -> Round:
        """A round that was paid."""
        one = await self.approved(fen)
        await self.services.market.paying.work_off()
        return await self.round(one)

    async def round(self, one: Round) -> Round:
        """The round as it stands."""
        listed = await self.services.market.benefits.list_rounds(
            FAY, self.code, None, limit=99, older=None, newer=None, newest=True
        )
        return next(found for found in listed if found.id == one.id)

    def paying(self, **changes: Any) -> Paying:
        """Whoever pays, made of other parts."""
        services = self.services
        given: dict[str, Any] = {
            "database": services.database,
            "transactions": Transactions(services.database),
            "ledger": services.ledger,
            "leases": Leases(services.valkey),
            "clock": services.clock,
            "stream_shares": Shares(services.database).stream,
        }
        return Paying(**{**given, **changes})

    async def money(self, *names: str) -> list[tuple[int, int]]:
        """Fen and points of these citizens."""
        pages = await self.services.ledger.find_pages([citizen_owner(CitizenId(name)) for name in names])
        return [(page.balance(CNY), page.balance(POINTS)) for page in pages.values()]

    async def left(self) -> int:
        """Fen of the pool."""
        return (await self.services.ledger.get_page(pool_owner(self.code))).balance(CNY)

    async def findings(self) -> list[str]:
        """What the audits of benefits and of the book find."""
        async with self.services.database.snapshot() as snapshot:
            audit = Audit()
            await audit_benefits(snapshot, audit)
        return audit.findings + (await replay(self.services)).findings


async def refused(pool: Pool, asked: Awaitable[Any], error: type[DomainError]) -> DomainError:
    """Assert that this is refused and changes nothing; the refusal."""
    before = await dump(pool.services)
    with pytest.raises(error) as told:
        await asked
    assert type(told.value) is error
    assert await dump(pool.services) == before
    return told.value


async def corrupt(services: Services, collection: str, query: dict[str, Any], change: dict[str, Any]) -> None:
    """Write into one document what no validator lets pass."""
    update = {"q": query, "u": {"$set": change}}
    done = await services.database.raw.command(
        {"update": collection, "updates": [update], "bypassDocumentValidation": True}
    )
    assert done["nModified"] == 1


class LostError(Exception):
    """The process died."""


class Dying(Transactions):
    """Transactions of a process that dies at one of them: in its body, or after the commit before it hears of it."""

    def __init__(self, services: Services, at: int, *, after_commit: bool) -> None:
        super().__init__(services.database)
        self.left = at
        self.after_commit = after_commit

    async def run(self, body: Callable[[Tx], Awaitable[Any]], **rest: Any) -> Any:
        self.left -= 1
        if self.left >= 0:
            return await super().run(body, **rest)

        async def dying(tx: Tx) -> Any:
            answer = await body(tx)
            if not self.after_commit:
                raise LostError
            return answer

        await super().run(dying, **rest)
        raise LostError
