"""Origins: which acts are behind serials of a credit, and behind one of them, down to the transactions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind
from backend.kernel.errors import Text
from backend.ledger.model import CREDIT
from backend.market.pooling.model import ActsSummary, KindSum, Origin, Trace
from backend.market.pooling.rules import spans_of, used_of, whole_grams_of
from backend.market.pooling.store import PoolingReads
from backend.market.serials.model import SerialRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from backend.identity.model import Principal
    from backend.kernel.ids import ActionId
    from backend.ledger.model import Asset
    from backend.market.pooling.model import Batch, Contribution, PooledAct
    from backend.market.serials.model import Ranges
    from backend.mongo.client import Database

TRACING = Text("查询减排量来源", "the origin of credits")


class Origins:
    """Where credits came from."""

    def __init__(self, *, database: Database) -> None:
        self._reads = PoolingReads(database)

    async def summarise_acts(self, credit: Asset, ranges: Ranges) -> ActsSummary | None:
        """The acts behind these serials of a credit: grams by kind sum to the serials' number; None if none was issued.

        Reads every act of whoever contributed to them.
        """
        batch = await self._reads.find_batch(credit.removeprefix(CREDIT))
        if batch is None or not ranges:
            return None
        by_kind, acts = Counter[str](), Counter[str]()
        citizens, first, last = set[str](), None, None
        async for contributions in self._reads.stream_behind(batch.code, ranges):
            given = await self._reads.list_acts_of(contributions)
            for contribution in contributions:
                for act, mg in _used(batch, contribution, given[contribution.citizen], ranges):
                    by_kind[act.kind] += mg
                    acts[act.kind] += 1
                    citizens.add(act.citizen)
                    first, last = _earlier(first, act.occurred_at), _later(last, act.occurred_at)
        if first is None or last is None:
            return None
        grams = whole_grams_of(by_kind)
        kinds = [
            KindSum(kind, acts[kind], grams[kind]) for kind in sorted(grams, key=lambda kind: (-grams[kind], kind))
        ]
        return ActsSummary(tuple(kinds), len(citizens), acts.total(), first, last)

    async def trace(self, principal: Principal, credit: Asset, serial: int) -> Trace | None:
        """Where one gram came from: for staff, and for the citizen who contributed it; None for other citizens.

        Raises:
            ForbiddenError: neither staff nor a citizen.
        """
        is_staff = principal.kind is PrincipalKind.STAFF
        if not is_staff and principal.citizen is None:
            raise ForbiddenError(TRACING)
        found = await self.trace_serial(credit, serial)
        return found if found and (is_staff or found.contribution.citizen == principal.citizen) else None

    async def trace_serial(self, credit: Asset, serial: int) -> Trace | None:
        """Where one gram came from; None for a serial that was never issued."""
        batch = await self._reads.find_batch(credit.removeprefix(CREDIT))
        if batch is None or batch.issue is None or not 1 <= serial <= batch.issue.grams:
            return None
        contribution = await self._reads.find_behind(batch.code, serial)
        if contribution is None:
            return None
        acts = (await self._reads.list_acts_of([contribution]))[contribution.citizen]
        used = _used(batch, contribution, acts, [SerialRange(serial, serial)])
        origins = [Origin(act, mg) for act, mg in used]
        share = contribution.pool
        if share is None or not share.run.first <= serial <= share.run.last:
            share = contribution.own
        assert share is not None, "some share of the contribution has the serial"
        return Trace(contribution, tuple(origins), share.transaction)


def _used(
    batch: Batch, contribution: Contribution, acts: Sequence[PooledAct], asked: Sequence[SerialRange]
) -> Iterator[tuple[PooledAct, int]]:
    """The contribution's acts that are behind the asked serials, and how many milligrams of each."""
    pool, own = (share.run if share else None for share in (contribution.pool, contribution.own))
    spans = spans_of(pool, own, asked)
    for act, mg in zip(acts, used_of(_standing(acts, _taken_off(batch)), spans), strict=True):
        if mg:
            yield act, mg


def _taken_off(batch: Batch) -> frozenset[ActionId]:
    """The acts that the verdict took off by name."""
    adjustments = batch.verdict.adjustments if batch.verdict else ()
    return frozenset(one.action for one in adjustments if one.action is not None)


def _standing(acts: Iterable[PooledAct], taken_off: frozenset[ActionId]) -> list[int]:
    return [0 if act.action in taken_off else act.mg for act in acts]


def _earlier(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)


def _later(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)
