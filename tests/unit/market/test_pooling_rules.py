"""Shares, deductions, layouts, samples and origins: exact for any amounts, and nobody gets more than they gave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.ids import ActionId, CitizenId
from backend.market.pooling.model import (
    G_PER_TONNE,
    Adjustment,
    AdjustmentReason,
    BatchCode,
    Benefit,
    Contribution,
)
from backend.market.pooling.rules import (
    Drawing,
    Span,
    Weight,
    batch_code,
    count_covered,
    issuable_g,
    lay_out,
    shares,
    spans_of,
    split_again,
    split_at_threshold,
    used_of,
    verified_g,
    whole_grams_of,
    work_out,
)
from backend.market.serials.model import SerialRange
from backend.rules.model import Category

if TYPE_CHECKING:
    from collections.abc import Sequence

AMOUNTS = st.lists(st.integers(0, 3_000_000_000), min_size=1, max_size=30)


@st.composite
def weighed(draw: st.DrawFn) -> tuple[list[Weight], int, int]:
    """Contributions, what is taken off pro rata, and grams to issue: as much as there can be, or less."""
    weights = []
    for number in range(draw(st.integers(1, 20))):
        pool, own = draw(st.integers(0, 5_000_000)), draw(st.integers(0, 900_000_000))
        if pool + own:
            weights.append(Weight(f"c{number:03}", pool, own, draw(st.integers(0, pool + own))))
    pro_rata = draw(st.integers(0, sum(weight.left_mg for weight in weights)))
    grams = draw(st.integers(0, verified_g(weights, pro_rata)))
    return weights, pro_rata, grams


@given(AMOUNTS, st.data())
def test_shares_sum_exactly_and_none_exceeds_its_weight(weights: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(weights)))
    parts = shares(weights, total)
    assert sum(parts) == total
    whole = sum(weights)
    for weight, part in zip(weights, parts, strict=True):
        assert 0 <= part <= weight
        if total:
            assert weight * total // whole <= part <= -(-weight * total // whole)


def test_the_largest_remainders_are_served_first_and_ties_in_order() -> None:
    assert shares([1, 1, 1], 2) == [1, 1, 0]
    assert shares([5, 3, 2], 5) == [3, 1, 1]
    assert shares([10, 1], 5) == [5, 0]
    assert shares([0, 0], 0) == [0, 0]


def test_more_than_there_is_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="6 cannot be taken from 5"):
        shares([2, 3], 6)


@given(weighed())
def test_a_layout_tiles_all_serials_and_gives_nobody_more_than_they_gave(case: tuple[list[Weight], int, int]) -> None:
    weights, pro_rata, grams = case
    parts = lay_out(weights, pro_rata, grams)
    runs = [part.pool for part in parts if part.pool] + [part.own for part in parts if part.own]
    assert [run.first for run in runs] == [1, *(run.last + 1 for run in runs[:-1])][: len(runs)]
    assert (runs[-1].last if runs else 0) == grams
    assert sum(part.deducted_mg for part in parts) == pro_rata + sum(weight.by_act_mg for weight in weights)
    for weight, part in zip(weights, parts, strict=True):
        issued = sum(run.grams for run in (part.pool, part.own) if run)
        assert part.citizen == weight.citizen
        assert part.residual_mg >= 0
        assert issued * 1_000 + part.deducted_mg + part.residual_mg == weight.pool_mg + weight.own_mg
        own = part.own.grams if part.own else 0
        assert own == issued * weight.own_mg // (weight.pool_mg + weight.own_mg)


def test_what_is_issued_are_whole_tonnes_of_whole_grams() -> None:
    assert issuable_g([Weight("a", 999_999_999, 0), Weight("b", 1, 0)], 0) == 0
    weights = [Weight("a", 1_500_000_000, 0), Weight("b", 0, 500_000_999)]
    assert issuable_g(weights, 0) == 2 * G_PER_TONNE
    assert issuable_g(weights, 2_000) == G_PER_TONNE
    # Sub-gram rests of many do not fill a gram of anybody's.
    assert verified_g([Weight(f"c{number}", 999, 0) for number in range(5)], 0) == 0


def test_a_layout_by_hand() -> None:
    weights = [Weight("a", 10_000, 20_000), Weight("b", 10_000, 0), Weight("c", 10_500, 0, 10_000)]
    first, second, third = lay_out(weights, 4_000, 30)
    # Of 40,500 mg without the act, 4,000 are taken off: 2,963, 988 and 49 (largest remainder).
    assert (first.deducted_mg, second.deducted_mg, third.deducted_mg) == (2_963, 988, 10_049)
    # Left are 27, 9 and 0 whole grams; of 30 that are 22.5 and 7.5, and the first in order is served first.
    assert (first.pool, first.own) == (SerialRange(1, 8), SerialRange(16, 30))
    assert (second.pool, second.own, third.pool, third.own) == (SerialRange(9, 15), None, None, None)
    assert (first.residual_mg, second.residual_mg, third.residual_mg) == (4_037, 2_012, 451)


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**7))
def test_the_threshold_splits_what_is_given(mg: int, pooled: int, threshold: int) -> None:
    pool, own = split_at_threshold(mg, pooled, threshold)
    assert (pool + own, pool >= 0, own >= 0) == (mg, True, True)
    assert pool + pooled <= max(threshold * 1_000, pooled)
    assert own == 0 or pool + pooled >= threshold * 1_000


@pytest.mark.parametrize(
    ("amounts", "available", "count"), [([5, 3], 8, 2), ([5, 3], 7, 1), ([5, 1], 4, 0), ([], 4, 0), ([5, 9, 1], 6, 1)]
)
def test_acts_are_covered_in_order(amounts: list[int], available: int, count: int) -> None:
    assert count_covered(amounts, available) == count


def adjusted(action: str | None = None, bps: int | None = None) -> Adjustment:
    return Adjustment(
        action=ActionId(action) if action else None, bps=bps, reason=AdjustmentReason.NOT_ELIGIBLE, note="x"
    )


def test_acts_are_taken_off_first_then_shares_of_what_is_left_rounded_up() -> None:
    asked = [adjusted(bps=500), adjusted("a"), adjusted(bps=1), adjusted("b")]
    worked = work_out(asked, {ActionId("a"): 100, ActionId("b"): 11}, 1_000)
    assert [(one.action, one.bps, one.mg) for one in worked] == [
        ("a", None, 100),
        ("b", None, 11),
        (None, 500, 45),
        (None, 1, 1),
    ]


@given(st.lists(st.integers(1, 10_000), max_size=6), st.integers(1, 10**12))
def test_shares_never_take_off_more_than_there_is(rates: list[int], total: int) -> None:
    worked = work_out([adjusted(bps=rate) for rate in rates], {}, total)
    assert 0 <= sum(one.mg for one in worked) <= total
    assert all(one.mg >= 0 for one in worked)


RUNS = st.tuples(st.integers(0, 20), st.integers(0, 20))


@given(RUNS, st.lists(st.integers(0, 9_000), min_size=1, max_size=12))
def test_every_gram_has_its_milligrams_in_the_acts_and_none_twice(runs: tuple[int, int], acts: list[int]) -> None:
    pool_g, own_g = runs
    if sum(acts) < (pool_g + own_g) * 1_000:
        acts = [*acts, (pool_g + own_g) * 1_000]
    pool = SerialRange(11, 10 + pool_g) if pool_g else None
    own = SerialRange(101, 100 + own_g) if own_g else None
    serials = [*range(11, 11 + pool_g), *range(101, 101 + own_g)]
    singly: list[Sequence[int]] = []
    for serial in serials:
        used = list(used_of(acts, spans_of(pool, own, [SerialRange(serial, serial)])))
        assert sum(used) == 1_000
        singly.append(used)
    together = list(used_of(acts, spans_of(pool, own, [SerialRange(1, 1_000)])))
    assert together == [sum(column) for column in zip(*singly, strict=True)] if singly else not any(together)
    # The first acts are behind the first grams; the last are the residual.
    left = (pool_g + own_g) * 1_000
    for amount, used_mg in zip(acts, together, strict=True):
        assert used_mg == min(amount, left)
        left -= used_mg


def test_the_pools_grams_are_the_first() -> None:
    pool, own = SerialRange(5, 6), SerialRange(20, 22)
    assert spans_of(pool, own, [SerialRange(1, 5)]) == [Span(0, 1_000)]
    assert spans_of(pool, own, [SerialRange(6, 20)]) == [Span(1_000, 2_000), Span(2_000, 3_000)]
    assert spans_of(None, own, [SerialRange(22, 90)]) == [Span(2_000, 3_000)]


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def contribution(number: int, mg: int, pool_mg: int = 0) -> Contribution:
    return Contribution(
        batch=BatchCode(f"batch-{number}"),
        citizen=CitizenId("alice"),
        vintage=2026,
        benefit=Benefit.FEN,
        given_at=NOON + timedelta(minutes=number),
        acts=1,
        pool_mg=pool_mg,
        own_mg=mg - pool_mg,
        transfers=(),
    )


@given(st.lists(st.tuples(st.integers(1, 20_000), st.booleans()), max_size=8), st.integers(0, 40))
def test_all_of_a_vintage_is_split_at_one_threshold_whatever_is_bound(
    given_mg: list[tuple[int, bool]], threshold: int
) -> None:
    fresh = [contribution(number, mg) for number, (mg, _) in enumerate(given_mg)]
    split = split_again(reversed(fresh), frozenset(), threshold)
    assert [one.mg for one in split] == [mg for mg, _ in given_mg]
    assert sum(one.pool_mg for one in split) == min(sum(one.mg for one in split), threshold * 1_000)
    # In order: nobody has grams of their own while an earlier one has room below the threshold.
    assert sorted(split, key=lambda one: one.own_mg > 0) == split
    # Whatever a verdict binds of it, the others stay as they are.
    bound = frozenset(one.batch for one, (_, is_bound) in zip(split, given_mg, strict=True) if is_bound)
    assert split_again(split, bound, threshold) == split


def test_what_is_bound_stays_and_the_others_fill_what_is_left() -> None:
    given = [contribution(1, 5_000), contribution(2, 9_000, 1_000), contribution(3, 9_000)]
    split = split_again(given, frozenset({BatchCode("batch-2")}), 10)
    assert [(one.pool_mg, one.own_mg) for one in split] == [(5_000, 0), (1_000, 8_000), (4_000, 5_000)]


def test_grams_by_kind_sum_to_the_whole() -> None:
    assert whole_grams_of({"bus": 1_400, "tram": 1_600}) == {"bus": 1, "tram": 2}
    assert whole_grams_of({"bus": 500, "tram": 500}) == {"bus": 1, "tram": 0}
    assert whole_grams_of({}) == {}


STRATA = st.dictionaries(st.sampled_from(["bus", "metro", "tram", "walk"]), st.integers(1, 40), min_size=1)


def draw_sample(strata: dict[str, int], size: int, seed: str = "seed") -> list[str]:
    drawing = Drawing(seed, size)
    for kind, count in strata.items():
        for number in range(count):
            drawing.add(kind, ActionId(f"{kind}-{number}"))
    return list(drawing.result())


@given(STRATA, st.integers(1, 100))
def test_a_sample_has_its_size_its_strata_and_no_act_twice(strata: dict[str, int], size: int) -> None:
    sample = draw_sample(strata, size)
    assert len(sample) == len(set(sample)) == min(size, sum(strata.values()))
    kinds = {action.partition("-")[0] for action in sample}
    assert len(kinds) == min(len(strata), size)
    # The order in which acts are met says nothing.
    assert draw_sample(dict(reversed(strata.items())), size) == sample


def test_a_sample_is_the_seeds() -> None:
    strata = {"bus": 90, "tram": 10}
    first = draw_sample(strata, 10)
    assert [sum(action.startswith(kind) for action in first) for kind in strata] == [9, 1]
    assert draw_sample(strata, 10, "another") != first
    # A larger sample of the same seed holds the smaller one.
    assert set(first) < set(draw_sample(strata, 20))
    # One of each kind at least, and the most frequent gives way.
    small = draw_sample({"bus": 90, "metro": 1, "tram": 10}, 4)
    assert sorted(action.partition("-")[0] for action in small) == ["bus", "bus", "metro", "tram"]


def test_a_batchs_code_tells_what_it_is_of() -> None:
    assert batch_code("zhenjiang", "conservative", Category.DRIVING_LESS, 2026, 7) == (
        "zhenjiang-conservative-driving-less-2026-007"
    )
