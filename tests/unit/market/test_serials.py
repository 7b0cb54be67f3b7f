"""Ranges of serials against sets of serials: joining, taking, spelling, and reading what is spelled."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.market.serials.model import SerialRange, joined, parse_ranges, spelled, taken, total_grams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend.market.serials.model import Ranges

RUN = SerialRange
LAST = 10**18 - 1
# Steps of a gap (0: they touch) and a length.
PIECES = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), max_size=12)


def laid(pieces: Iterable[tuple[int, int]]) -> list[SerialRange]:
    """The pieces side by side from 1 on, with their gaps."""
    runs, free = [], 1
    for gap, grams in pieces:
        runs.append(RUN(free + gap, free + gap + grams - 1))
        free = runs[-1].last + 1
    return runs


def serials(runs: Iterable[SerialRange]) -> list[int]:
    """One by one."""
    return [serial for run in runs for serial in range(run.first, run.last + 1)]


def assert_apart(runs: Ranges) -> None:
    """In order, and no two touch."""
    assert all(one.last + 1 < other.first for one, other in itertools.pairwise(runs))


@given(PIECES, st.randoms(use_true_random=False))
def test_joined_are_the_same_serials_in_as_few_ranges_as_possible(
    pieces: list[tuple[int, int]], chance: object
) -> None:
    runs = laid(pieces)
    mixed = list(runs)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    found = joined(mixed)
    assert serials(found) == serials(runs)
    assert_apart(found)
    assert joined(found) == found
    assert total_grams(found) == len(serials(runs)) == sum(run.grams for run in runs)


@given(PIECES.filter(bool), st.data())
def test_serials_that_two_ranges_have_are_an_error(pieces: list[tuple[int, int]], data: st.DataObject) -> None:
    runs = laid(pieces)
    twice = data.draw(st.sampled_from(serials(runs)))
    more = RUN(twice, twice + data.draw(st.integers(0, 3)))
    with pytest.raises(ValueError, match=r"^serials \d+-\d+ and \d+-\d+ overlap$"):
        joined([*runs, more])


@given(PIECES, st.integers(0, 80))
def test_what_is_taken_are_the_first_and_the_rest_is_left(pieces: list[tuple[int, int]], grams: int) -> None:
    runs = laid(pieces)
    first, rest = taken(runs, grams)
    assert serials(first) == serials(runs)[:grams]
    assert serials(rest) == serials(runs)[grams:]
    assert all(run.grams > 0 for run in (*first, *rest))
    assert joined((*first, *rest)) == joined(runs)


@given(PIECES, st.integers(0, 80), st.integers(0, 80))
def test_taking_twice_is_taking_both(pieces: list[tuple[int, int]], one: int, two: int) -> None:
    runs = laid(pieces)
    first, rest = taken(runs, one)
    second, left = taken(rest, two)
    both, same = taken(runs, one + two)
    assert (joined((*first, *second)), serials(left)) == (joined(both), serials(same))


@given(PIECES.filter(bool))
def test_what_is_spelled_is_read_again(pieces: list[tuple[int, int]]) -> None:
    runs = joined(laid(pieces))
    assert parse_ranges(spelled(runs)) == runs
    assert spelled(parse_ranges(spelled(runs))) == spelled(runs)


@given(st.text(st.sampled_from("0123456789-, +\n٣"), max_size=12))
def test_whatever_is_read_is_spelled_so(text: str) -> None:
    try:
        runs = parse_ranges(text)
    except ValueError:
        return
    assert spelled(runs) == text
    assert joined(runs) == joined(reversed(runs))
    assert all(1 <= run.first <= run.last for run in runs)


def test_they_are_spelled_with_both_ends() -> None:
    assert spelled([RUN(1, 1_000), RUN(2_001, 2_500), RUN(7, 7)]) == "1-1000,2001-2500,7-7"
    assert parse_ranges("1-1000,2001-2500,7000-7000") == (RUN(1, 1_000), RUN(2_001, 2_500), RUN(7_000, 7_000))
    assert parse_ranges(f"{LAST}-{LAST}") == (RUN(LAST, LAST),)


NO_RANGES = (
    *("", ",", "1", "1-", "-1", "1-2,", ",1-2", "1-2,,3-4", "0-1", "01-2", "1-02", "2-1", "a-b", f"1-{10**18}"),
    *("1-2,2-3", "3-4,1-2", "1-5,2-3"),
    *("1-2, 4-5", " 1-2", "1-2\n", "1--2", "1-2-3", "+1-2", "1.0-2", "1e3-2000", "٣-٤", "１-２"),
)


@pytest.mark.parametrize("text", NO_RANGES)
def test_another_text_is_no_ranges(text: str) -> None:
    with pytest.raises(ValueError, match=r"^no ranges of serials: "):
        parse_ranges(text)


def test_a_long_text_is_not_repeated_whole() -> None:
    with pytest.raises(ValueError, match=r"^no ranges of serials: ") as caught:
        parse_ranges("1-2," * 10_000)
    assert len(str(caught.value)) < 120


def test_a_range_is_cut_without_gap() -> None:
    run = RUN(11, 20)
    assert [(run.head(grams), run.tail(grams)) for grams in (1, 9)] == [
        (RUN(11, 11), RUN(12, 20)),
        (RUN(11, 19), RUN(20, 20)),
    ]
    assert (run.grams, run.head(10), str(run)) == (10, run, "11-20")
