"""How grams are shared, deducted, drawn and followed. Pure: integers only, every sum exact."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from backend.kernel.units import MG_PER_GRAM
from backend.market.pooling.model import BPS, G_PER_TONNE, BatchCode
from backend.market.serials.model import SerialRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from backend.kernel.ids import ActionId
    from backend.market.pooling.model import Adjustment, Contribution
    from backend.rules.model import Category


def batch_code(programme: str, profile: str, scenario: Category, vintage: int, number: int) -> BatchCode:
    """``zhenjiang-conservative-transit-2026-001``."""
    name = scenario.value.replace("_", "-")
    return BatchCode(f"{programme}-{profile}-{name}-{vintage:04}-{number:03}")


def shares(weights: Sequence[int], total: int) -> list[int]:
    """``total`` divided in proportion to the weights, which it does not exceed together: largest remainders first.

    Of equal remainders the first in order is served first. No part exceeds its weight.

    Raises:
        ValueError: the weights are less than the total.
    """
    whole = sum(weights)
    if not 0 <= total <= whole:
        message = f"{total} cannot be taken from {whole}"
        raise ValueError(message)
    if not total:
        return [0] * len(weights)
    parts = [weight * total // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda place: (-(weights[place] * total % whole), place))
    for place in order[: total - sum(parts)]:
        parts[place] += 1
    return parts


def split_at_threshold(mg: int, pooled_mg: int, threshold_g: int) -> tuple[int, int]:
    """Of a contribution's milligrams the pool's, up to the threshold, and the citizen's own.

    ``pooled_mg`` are the pool's already, of the same citizen and vintage in other batches.
    """
    pool = min(mg, max(threshold_g * MG_PER_GRAM - pooled_mg, 0))
    return pool, mg - pool


def split_again(
    contributions: Iterable[Contribution], bound: AbstractSet[BatchCode], threshold_g: int
) -> list[Contribution]:
    """One citizen's contributions of a vintage, those of batches that are not bound with their split anew.

    What bound batches have of the pool's counts first, then the others in the order in which they were given.
    """
    given = sorted(contributions, key=lambda one: (one.given_at, one.batch))
    pooled_mg = sum(one.pool_mg for one in given if one.batch in bound)
    split = []
    for one in given:
        if one.batch not in bound:
            pool_mg, own_mg = split_at_threshold(one.mg, pooled_mg, threshold_g)
            pooled_mg += pool_mg
            split.append(dataclasses.replace(one, pool_mg=pool_mg, own_mg=own_mg))
        else:
            split.append(one)
    return split


def count_covered(amounts: Iterable[int], available: int) -> int:
    """How many of the amounts, in their order, are covered before the first that is not."""
    count = 0
    for amount in amounts:
        available -= amount
        if available < 0:
            break
        count += 1
    return count


def work_out(adjustments: Sequence[Adjustment], acts: Mapping[ActionId, int], total_mg: int) -> tuple[Adjustment, ...]:
    """The adjustments with their milligrams: acts first, then each share of what is left, rounded up."""
    left, worked_out = total_mg, []
    for adjustment in sorted(adjustments, key=lambda one: one.action is None):
        mg = acts[adjustment.action] if adjustment.action is not None else -(-left * (adjustment.bps or 0) // BPS)
        left -= mg
        worked_out.append(dataclasses.replace(adjustment, mg=mg))
    return tuple(worked_out)


class Weight(NamedTuple):
    """What a contribution weighs: its shares, and what was taken off its acts by name."""

    citizen: str
    pool_mg: int
    own_mg: int
    by_act_mg: int = 0

    @property
    def left_mg(self) -> int:
        """What no act's deduction took."""
        return self.pool_mg + self.own_mg - self.by_act_mg


class Part(NamedTuple):
    """What becomes of a contribution: taken off, left over (milligrams), and the serials of pool and citizen."""

    citizen: str
    deducted_mg: int
    residual_mg: int
    pool: SerialRange | None
    own: SerialRange | None


def issuable_g(weights: Sequence[Weight], pro_rata_mg: int) -> int:
    """Grams that can be issued: whole tonnes of the contributions' whole grams.

    Nobody is issued more than they gave, so what lies below a contributor's gram cannot fill another's.
    """
    return sum(_whole_grams(weights, pro_rata_mg)) // G_PER_TONNE * G_PER_TONNE


def verified_g(weights: Sequence[Weight], pro_rata_mg: int) -> int:
    """All whole grams that deductions left the contributors."""
    return sum(_whole_grams(weights, pro_rata_mg))


def _whole_grams(weights: Sequence[Weight], pro_rata_mg: int) -> list[int]:
    taken = shares([weight.left_mg for weight in weights], pro_rata_mg)
    return [(weight.left_mg - part) // MG_PER_GRAM for weight, part in zip(weights, taken, strict=True)]


def lay_out(weights: Sequence[Weight], pro_rata_mg: int, grams: int) -> list[Part]:
    """The issuance of so many grams over contributions in order of citizen id: always the same.

    Each gets in proportion to its whole grams, largest remainders first. Of that the own share, rounded down, is the
    citizen's. Serials run from 1 through all pool shares, then through the own ones.
    """
    taken = shares([weight.left_mg for weight in weights], pro_rata_mg)
    issued = shares(_whole_grams(weights, pro_rata_mg), grams)
    own = [part * w.own_mg // (w.pool_mg + w.own_mg) if part else 0 for part, w in zip(issued, weights, strict=True)]
    pool_next, own_next = 1, 1 + grams - sum(own)
    parts = []
    for weight, off, part, mine in zip(weights, taken, issued, own, strict=True):
        residual = weight.left_mg - off - part * MG_PER_GRAM
        pool_run, own_run = _run(pool_next, part - mine), _run(own_next, mine)
        pool_next, own_next = pool_next + part - mine, own_next + mine
        parts.append(Part(weight.citizen, weight.by_act_mg + off, residual, pool_run, own_run))
    return parts


def _run(first: int, grams: int) -> SerialRange | None:
    return SerialRange(first, first + grams - 1) if grams else None


class Span(NamedTuple):
    """Milligrams [start, end) of those a contribution's acts gave, one after the other."""

    start: int
    end: int


def spans_of(pool: SerialRange | None, own: SerialRange | None, asked: Sequence[SerialRange]) -> list[Span]:
    """Which of a contribution's milligrams are behind those of the asked serials that were issued for it.

    Its first grams are the pool's, those behind them the citizen's own. The asked ranges are in order.
    """
    spans, offset = [], 0
    for run in (pool, own):
        if run is None:
            continue
        for wanted in asked[bisect_left(asked, run.first, key=lambda one: one.last) :]:
            if wanted.first > run.last:
                break
            first, last = max(run.first, wanted.first), min(run.last, wanted.last)
            begin = offset + first - run.first
            spans.append(Span(begin * MG_PER_GRAM, (begin + last - first + 1) * MG_PER_GRAM))
        offset += run.grams
    return spans


def used_of(amounts: Iterable[int], spans: Sequence[Span]) -> Iterator[int]:
    """For each act's milligrams, in order, how many lie in the spans; acts taken off by name count as 0."""
    start = 0
    for amount in amounts:
        end = start + amount
        yield sum(max(min(end, span.end) - max(start, span.start), 0) for span in spans)
        start = end


def whole_grams_of(amounts: Mapping[str, int]) -> dict[str, int]:
    """Milligrams by name as grams that sum to their whole grams, largest remainders first, ties by name."""
    names = sorted(amounts)
    parts = shares([amounts[name] for name in names], sum(amounts.values()) // MG_PER_GRAM)
    return dict(zip(names, parts, strict=True))


class Drawing:
    """Draws a sample, kind by kind: of each the acts whose hash with the seed is lowest, so that nobody chooses."""

    def __init__(self, seed: str, size: int) -> None:
        self._seed = seed
        self._size = size
        self._counts: Counter[str] = Counter()
        # By kind the lowest hashes, negated: a heap gives up its largest first.
        self._lowest: defaultdict[str, list[tuple[int, ActionId]]] = defaultdict(list)

    def add(self, kind: str, action: ActionId) -> None:
        """Let an act take part."""
        self._counts[kind] += 1
        score = int.from_bytes(hashlib.sha256(f"{self._seed}:{action}".encode()).digest())
        heap = self._lowest[kind]
        heapq.heappush(heap, (-score, action))
        if len(heap) > self._size:
            heapq.heappop(heap)

    def result(self) -> tuple[ActionId, ...]:
        """The sample, by kind: in proportion, but one act of every kind at least, for which the largest gives way."""
        kinds = sorted(self._counts, key=lambda kind: (-self._counts[kind], kind))
        size = min(self._size, self._counts.total())
        parts = shares([self._counts[kind] for kind in kinds], size)
        numbers = dict(zip(kinds, parts, strict=True))
        for kind in kinds[:size]:
            if not numbers[kind]:
                numbers[max(kinds, key=lambda other: numbers[other])] -= 1
                numbers[kind] = 1
        return tuple(
            action
            for kind in sorted(numbers)
            for _, action in sorted(self._lowest[kind], reverse=True)[: numbers[kind]]
        )
