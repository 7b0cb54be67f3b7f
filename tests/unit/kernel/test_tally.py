"""Comparing multisets in constant memory: equal ones leave nothing, one difference is named."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.tally import BUCKETS, MAX_SUSPECT_BUCKETS, Tally

ENTRIES = st.lists(st.binary(max_size=3), max_size=30)


def differences(one: list[bytes], other: list[bytes]) -> list[tuple[bytes, int]]:
    """What the two passes say about two sides."""
    tally = Tally()
    for entry in one:
        tally.add(entry)
    for entry in other:
        tally.add(entry, -1)
    suspects = tally.suspects()
    if suspects is None:
        return []
    for entry in one:
        suspects.add(entry)
    for entry in other:
        suspects.add(entry, -1)
    return suspects.differences()


@given(data=st.data(), entries=ENTRIES)
def test_equal_multisets_in_any_order_leave_nothing(data: st.DataObject, entries: list[bytes]) -> None:
    assert differences(entries, data.draw(st.permutations(entries))) == []


@given(data=st.data(), entries=ENTRIES, odd=st.binary(max_size=3))
def test_one_entry_too_many_is_named_on_its_side(data: st.DataObject, entries: list[bytes], odd: bytes) -> None:
    shuffled = data.draw(st.permutations(entries))
    assert differences([*entries, odd], shuffled) == [(odd, 1)]
    assert differences(entries, [*shuffled, odd]) == [(odd, -1)]


@given(one=ENTRIES, other=ENTRIES)
def test_every_difference_is_named_with_its_count(one: list[bytes], other: list[bytes]) -> None:
    lead = Counter(one)
    lead.subtract(other)
    assert dict(differences(one, other)) == {entry: count for entry, count in lead.items() if count}


def test_the_same_entry_twice_is_not_the_same_as_once() -> None:
    assert differences([b"a", b"a"], [b"a"]) == [(b"a", 1)]


def test_counts_given_at_once_equal_counts_one_by_one() -> None:
    tally = Tally()
    tally.add(b"a", 3)
    for _ in range(3):
        tally.add(b"a", -1)
    assert tally.suspects() is None


def test_a_second_pass_remembers_a_bounded_part_of_many_differences() -> None:
    tally = Tally()
    entries = [b"%d" % number for number in range(20 * BUCKETS)]
    for entry in entries:
        tally.add(entry)
    suspects = tally.suspects()
    assert suspects is not None
    for entry in entries:
        suspects.add(entry)
    assert MAX_SUSPECT_BUCKETS <= len(suspects.differences()) < len(entries) // 20


def test_no_two_tallies_add_the_same_digests() -> None:
    one, other = Tally(), Tally()
    one.add(b"a")
    other.add(b"a")
    assert one._sums != other._sums
