"""Sums of back-tests: parts add up to the same in any grouping, tenths, movers, and which parts have to be replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.actions.backtesting.exporting import to_csv, to_parquet
from backend.actions.backtesting.model import Comparison, Cuts, Difference, Mover, Row, Side
from backend.actions.backtesting.parts import Part, find_untrue
from backend.actions.backtesting.tallying import (
    COLUMNS,
    MOVERS,
    SAMPLE,
    Tally,
    read_result,
    read_tally,
    write_result,
    write_tally,
)
from backend.kernel.errors import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

BUDGET = ("city", "2026", "POINTS")
OTHER = ("campaign:spring", "always", "POINTS")


def tally(citizens: list[tuple[str, int, int]], district: str = "京口区") -> Tally:
    """Citizens, each with one act: name, points before, points after."""
    made = Tally()
    for name, before, after in citizens:
        sums = [1, 1, 1, 0, 0, before, after, before, after]
        cell = made.cells.setdefault("bus_ride|2026-11-02", [0] * len(COLUMNS))
        made.cells["bus_ride|2026-11-02"] = [old + new for old, new in zip(cell, sums, strict=True)]
        made.add_citizen(district, name, sums)
    return made


def merged(*tallies: Tally) -> Tally:
    """All of them together."""
    total = Tally()
    for each in tallies:
        total.merge(each)
    return total


def test_tenths_are_of_citizens_by_points_before_and_equals_stay_together() -> None:
    result = tally(
        [(f"c{number:02}", points, 0) for number, points in enumerate([5] * 3 + list(range(6, 23)))]
    ).result()
    assert [(row.name, row.citizens, row.sums.points_before) for row in result.deciles] == [
        ("1", 3, 15),
        ("2", 1, 6),
        *((str(tenth), 2, 4 * tenth + 3) for tenth in range(3, 11)),
    ]


def test_movers_are_those_who_move_farthest_in_a_fixed_order() -> None:
    people = [(f"c{number:04}", 1_000, 1_000 + number % 301 - 150) for number in range(3_010)]
    result = tally(people).result()
    ranked = sorted(people, key=lambda person: (-abs(person[2] - 1_000), person[0]))
    gains = [Mover(name, after - 1_000) for name, _, after in ranked if after > 1_000]
    losses = [Mover(name, after - 1_000) for name, _, after in ranked if after < 1_000]
    assert (result.most_gaining, result.most_losing) == (tuple(gains[:MOVERS]), tuple(losses[:MOVERS]))
    assert (result.gaining, result.losing, result.unchanged) == (1_500, 1_500, 10)
    assert result.points_liability == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=60), st.integers(1, 7))
def test_parts_add_up_to_the_same_however_citizens_are_spread(points: list[tuple[int, int]], parts: int) -> None:
    people = [(f"c{number}", before, after) for number, (before, after) in enumerate(points)]
    whole = tally(people).result()
    assert merged(*(tally(people[part::parts]) for part in range(parts))).result() == whole
    assert sum(row.sums.points_after for row in whole.deciles) == whole.total.points_after
    assert sum(row.citizens or 0 for row in whole.districts) == len(people)


def test_a_tally_and_a_result_survive_storage_with_their_sample() -> None:
    side = Side("CREDITED", 5, 1, (Text("五克", "five"),))
    first = tally([("alice", 5, 7), ("bob", 7, 5)])
    first.cuts["city"] = [1, 2]
    first.sample = [(f"{rank:03}", Difference(f"act_{rank}", "bus_ride", side, side)) for rank in range(SAMPLE + 9)]
    assert read_tally(write_tally(first)) == first
    result = merged(first).result()
    assert read_result(write_result(result)) == result
    assert [difference.action for difference in result.sample] == [f"act_{rank}" for rank in range(SAMPLE)]
    assert result.cuts == (Cuts("city", 1, 2),)
    assert result.total == Comparison(2, 2, 2, 0, 0, 12, 12, 12, 12)
    assert result.districts == (Row("京口区", 2, result.total),)


def test_the_table_is_the_same_as_csv_and_parquet() -> None:
    result = merged(tally([("alice", 5, 7)]), tally([("bob", 0, 3)], district="润州区")).result()
    csv = to_csv(result).decode()
    assert csv.splitlines()[:2] == [f"part,name,citizens,{','.join(COLUMNS)}", "total,all,,2,2,2,0,0,5,10,5,10"]
    table = pl.read_parquet(to_parquet(result))
    assert table["part"].to_list() == ["total", "kind", "district", "district", "day", "decile", "decile"]
    assert table.write_csv() == csv


def part(number: int, drawn: int = 0, start: Mapping[Any, int] | None = None, limit: int = 100) -> Part:
    """A part that drew so much of the budget."""
    draw = {BUDGET: drawn} if drawn else {}
    limits = dict.fromkeys(draw, limit)
    return Part(job="job", number=number, holder=None, is_open=False, start=start or {}, drawn=draw, limits=limits)


@pytest.mark.parametrize(
    ("parts", "untrue"),
    [
        ([], None),
        ([part(0, 50), part(1, 50), part(2)], None),
        ([part(0, 100), part(1)], None),
        ([part(0, 50), part(1, 51)], (1, {BUDGET: 50})),
        ([part(0, 50), part(1, 30), part(2, 30), part(3, 1)], (2, {BUDGET: 80})),
        # Replayed again behind the others, it stands; the next one does not.
        ([part(0, 80), part(1, 20, {BUDGET: 80}), part(2, 1)], (2, {BUDGET: 100})),
        ([part(0, 80), part(1, 20, {BUDGET: 80}), part(2, 0, {BUDGET: 100})], None),
        # Behind something else than what was drawn, it does not.
        ([part(0, 80), part(1, 20, {BUDGET: 70})], (1, {BUDGET: 80})),
        ([part(0), part(1, 20, {OTHER: 0})], None),
    ],
)
def test_the_first_part_that_a_budget_would_have_cut_is_replayed_again(parts: list[Part], untrue: Any) -> None:
    found = find_untrue(parts)
    assert (found and (found[0].number, dict(found[1]))) == untrue
