"""Ids: derived ones are a function of their parts and of nothing else, random ones sort by birth, shards never move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.ids import SHARD_COUNT, CitizenId, derived_id, new_id, shard_of

PARTS = st.lists(st.text(max_size=6), max_size=4)
BIRTH = datetime(2026, 11, 2, tzinfo=UTC)


@given(one=PARTS, other=PARTS)
def test_different_parts_give_different_ids(one: list[str], other: list[str]) -> None:
    assert (derived_id("p", *one) == derived_id("p", *other)) == (one == other)


@given(parts=PARTS, cut=st.integers(0, 6))
def test_moving_a_boundary_between_parts_changes_the_id(parts: list[str], cut: int) -> None:
    joined = "".join(parts)
    moved = [joined[:cut], joined[cut:]]
    if moved != parts:
        assert derived_id("p", *moved) != derived_id("p", *parts)


@given(length=st.integers(0, 20), rest=st.text(max_size=10))
def test_a_part_cannot_imitate_the_length_of_another(length: int, rest: str) -> None:
    imitation = f"{length}\x1f{rest}"
    assert derived_id("p", imitation) != derived_id("p", rest) != derived_id("p", imitation, rest)


def test_derived_ids_are_the_same_for_ever() -> None:
    # Stored documents are named by these: a change of the derivation would make every act new again.
    assert derived_id("act", "alice", "app", "ride-1") == "act_ab7d61f567c7fb4d29f332c0fed78ef2"


def test_different_prefixes_are_different_worlds() -> None:
    assert derived_id("act", "x").removeprefix("act_") == derived_id("tx", "x").removeprefix("tx_")
    assert derived_id("act", "x") != derived_id("tx", "x")


@given(step=st.integers(1, 10**12))
def test_a_later_id_sorts_after_an_earlier_one(step: int) -> None:
    assert new_id("run", BIRTH) < new_id("run", BIRTH + timedelta(milliseconds=step))


def test_ids_of_one_millisecond_differ() -> None:
    ids = {new_id("run", BIRTH) for _ in range(1_000)}
    assert len(ids) == 1_000
    assert {len(item) for item in ids} == {len("run_") + 32}


def test_shards_are_the_same_for_ever_and_all_in_use() -> None:
    assert [shard_of(CitizenId(name)) for name in ("alice", "bob", "demo-0000", "市民")] == [43, 1, 63, 24]
    assert {shard_of(CitizenId(f"citizen-{number}")) for number in range(2_000)} == set(range(SHARD_COUNT))
