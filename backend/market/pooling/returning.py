"""Grams on their way back: to whoever withdraws, when a batch is called off, and where better evidence replaces an act.

Every change of what a citizen has in batches that are not verified splits it at the yearly threshold anew.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from backend.market.pooling.entries import reversal, taking_out
from backend.market.pooling.model import BOUND, ContributionStage, Cursor, TakenOut
from backend.market.pooling.rules import split_again
from backend.market.pooling.store import PoolingWrites

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backend.kernel.ids import ActionId, CitizenId
    from backend.ledger.service import Ledger
    from backend.market.pooling.model import Batch, BatchCode, Contribution
    from backend.mongo.transactions import Tx


class Returning:
    """Gives grams back inside the caller's transaction."""

    def __init__(self, *, ledger: Ledger, threshold_g: int) -> None:
        self._ledger = ledger
        self._threshold_g = threshold_g

    async def give_back(
        self, tx: Tx, batch: Batch, contributions: Sequence[Contribution], stage: ContributionStage, now: datetime
    ) -> Batch:
        """Reverse all that these contributions moved, and free their acts; the batch as it then stands."""
        writes = PoolingWrites(tx)
        totals, reversals = batch.totals, []
        for contribution in contributions:
            moved = Counter[str]()
            for act in await writes.list_acts(contribution):
                moved[act.pooled] += act.mg
            reversals += [
                reversal(contribution, number, moved[transfer])
                for number, transfer in enumerate(contribution.transfers)
                if moved[transfer]
            ]
            totals = totals.plus(-1, -contribution.acts, -contribution.mg)
        await self._ledger.post_within(tx, reversals, at=now)
        for contribution in contributions:
            await writes.release_acts(contribution)
        changed = [dataclasses.replace(one, stage=stage) for one in contributions]
        await put_split(writes, changed, batch.code, self._threshold_g)
        cursor = Cursor(contributions[-1].citizen) if stage is ContributionStage.RETURNED else batch.cursor
        return await writes.change_batch(batch, dataclasses.replace(batch.holding(totals), cursor=cursor))

    async def take_out(self, tx: Tx, action: ActionId, now: datetime) -> datetime:
        """Take an act that is superseded out of its batch, where there is no verdict on it; when that counts.

        Behind a verdict the act stays, and what is taken back of it becomes its citizen's debt: that happens after the
        verdict, whatever the clocks say.
        """
        writes = PoolingWrites(tx)
        act = await writes.find_act(action)
        if act is None:
            return now
        batch, before = await writes.find_batch(act.batch), await writes.find_contribution(act.batch, act.citizen)
        assert batch is not None, "batches are never deleted"
        assert before is not None, "an act is in a batch by its contribution"
        if batch.verdict is not None:
            return max(now, batch.verdict.at)
        await self._ledger.post_within(tx, [taking_out(act.batch, act.citizen, act)], at=now)
        await writes.release_act(act)
        gone = TakenOut(action=action, number=act.number, mg=act.mg, earned=act.earned, pooled=act.pooled)
        after = dataclasses.replace(
            before,
            acts=before.acts - 1,
            pool_mg=before.mg - act.mg,
            own_mg=0,
            taken_out=(*before.taken_out, gone),
            stage=ContributionStage.GIVEN if before.acts > 1 else ContributionStage.SUPERSEDED,
        )
        await put_split(writes, [after], batch.code, self._threshold_g)
        totals = batch.totals.plus(-int(after.stage is ContributionStage.SUPERSEDED), -1, -act.mg)
        await writes.change_batch(batch, batch.holding(totals))
        return now


async def put_split(writes: PoolingWrites, changed: Sequence[Contribution], own: BatchCode, threshold_g: int) -> None:
    """Write contributions to the batch ``own``, and the split anew of all that their citizens have in others.

    A batch whose contributions are split otherwise counts a change; ``own`` is the caller's to change.
    """
    if not changed:
        return
    known = {
        one.id: one for one in await writes.find_contributions([one.citizen for one in changed], changed[0].vintage)
    }
    merged = {**known, **{one.id: one for one in changed}}
    versions = await writes.find_versions(one.batch for one in merged.values())
    bound = frozenset(code for code, (stage, _) in versions.items() if stage in BOUND)
    by_citizen: defaultdict[CitizenId, list[Contribution]] = defaultdict(list)
    for one in merged.values():
        if one.stage is ContributionStage.GIVEN:
            by_citizen[one.citizen].append(one)
    for given in by_citizen.values():
        merged |= {one.id: one for one in split_again(given, bound, threshold_g)}
    differing = [one for name, one in merged.items() if known.get(name) != one]
    await writes.put_contributions(differing)
    await writes.touch({one.batch: versions[one.batch][1] for one in differing if one.batch != own})
