"""What a batch's contributions weigh: read in order of citizen id, for deductions and issuance."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from backend.market.pooling.rules import Weight

if TYPE_CHECKING:
    from backend.market.pooling.model import Batch
    from backend.market.pooling.store import PoolingReads


async def weigh(reads: PoolingReads, batch: Batch) -> tuple[list[Weight], int]:
    """Each contribution's weight, and the milligrams that the verdict takes off pro rata; nothing changes any more."""
    assert batch.verdict is not None
    named = {one.action: one.mg for one in batch.verdict.adjustments if one.action is not None}
    off = Counter[str]()
    for act in (await reads.find_acts(batch.code, named)).values():
        off[act.citizen] += named[act.action]
    weights = [
        Weight(one.citizen, one.pool_mg, one.own_mg, off[one.citizen]) async for one in reads.stream_given(batch.code)
    ]
    return weights, batch.verdict.deducted_mg - sum(named.values())
