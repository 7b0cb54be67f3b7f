"""Comparing multisets in constant memory: equal ones leave nothing, one difference is named."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.tally import Suspects, Tally

ENTRIES = st.lists(st.text(max_size=4), max_size=30)


def differences(one: list[str], other: list[str]) -> list[tuple[str, int]]:
    """What the two passes say about two sides."""
    tally = Tally()
    for entry in one:
        tally.add(entry)
    for entry in other:
        tally.add(entry, -1)
    suspects = Suspects(tally.unequal())
    for entry in one:
        suspects.add(entry)
    for entry in other:
        suspects.add(entry, -1)
    return suspects.differences()


@given(data=st.data(), entries=ENTRIES)
def test_equal_multisets_in_any_order_leave_nothing(data: st.DataObject, entries: list[str]) -> None:
    assert differences(entries, data.draw(st.permutations(entries))) == []


@given(data=st.data(), entries=ENTRIES, odd=st.text(max_size=4))
def test_one_entry_too_many_is_named_on_its_side(data: st.DataObject, entries: list[str], odd: str) -> None:
    shuffled = data.draw(st.permutations(entries))
    assert differences([*entries, odd], shuffled) == [(odd, 1)]
    assert differences(entries, [*shuffled, odd]) == [(odd, -1)]


@given(one=ENTRIES, other=ENTRIES)
def test_every_difference_is_named_with_its_count(one: list[str], other: list[str]) -> None:
    lead = Counter(one)
    lead.subtract(other)
    assert dict(differences(one, other)) == {entry: count for entry, count in lead.items() if count}


def test_the_same_entry_twice_is_not_the_same_as_once() -> None:
    assert differences(["a", "a"], ["a"]) == [("a", 1)]


def test_counts_given_at_once_equal_counts_one_by_one() -> None:
    tally = Tally()
    tally.add("a", 3)
    for _ in range(3):
        tally.add("a", -1)
    assert tally.unequal() == frozenset()
