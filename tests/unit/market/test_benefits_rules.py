"""How a round is shared and what parts are in points: exact against fractions, whatever the shares."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.ids import CitizenId, TransactionId
from backend.ledger import shape
from backend.ledger.model import BENEFITS, MINTS, POINTS, TransactionKind
from backend.market.benefits.errors import RateTooHighError
from backend.market.benefits.model import Paid, Payment, Round, RoundId, RoundStage
from backend.market.benefits.rules import Sharing, convert, cut, require_rate, returning, tallied, told
from backend.market.funds.rules import pseudonym
from backend.market.pooling.model import BatchCode, Benefit
from tests.floor import BATCH

GRAMS = st.lists(st.integers(1, 10**12), min_size=1, max_size=60)
FEN = st.integers(1, 10**13)
CODE, ALICE = BatchCode(BATCH), CitizenId("alice")
NOON = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
ROUND = Round(
    id=RoundId("round_1"),
    batch=CODE,
    number=1,
    fen=100,
    points_per_yuan=1_250,
    salt="salt",
    stage=RoundStage.RUNNING,
    proposed_at=NOON,
    proposed_by="staff:fay",
    decided_at=NOON,
    decided_by="staff:fred",
)


def parts(fen: int, weights: list[int]) -> list[int]:
    """What each share gets."""
    sharing = Sharing(cut(fen, weights))
    return [sharing.part_of(weight) for weight in weights]


def by_largest_remainder(fen: int, weights: list[int]) -> list[int]:
    """The same, written down as the method is told: whole parts, then one fen more by remainder, ties by place."""
    exact = [Fraction(fen * weight, sum(weights)) for weight in weights]
    whole = [value.numerator // value.denominator for value in exact]
    order = sorted(range(len(weights)), key=lambda place: (whole[place] - exact[place], place))
    for place in order[: fen - sum(whole)]:
        whole[place] += 1
    return whole


@given(FEN, GRAMS)
def test_parts_are_those_of_the_largest_remainder_and_sum_to_the_round(fen: int, weights: list[int]) -> None:
    shared = parts(fen, weights)
    assert sum(shared) == fen
    assert shared == by_largest_remainder(fen, weights)


@given(st.integers(1, 200), st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=40))
def test_ties_go_to_whoever_comes_first(fen: int, weights: list[int]) -> None:
    shared = parts(fen, weights)
    assert shared == by_largest_remainder(fen, weights)
    for weight in set(weights):
        alike = [part for part, other in zip(shared, weights, strict=True) if other == weight]
        assert alike == sorted(alike, reverse=True)
        assert alike[0] - alike[-1] <= 1


@pytest.mark.parametrize(
    ("fen", "weights", "expected"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (1, [5, 5], [1, 0]),
        (2, [1, 1, 1], [1, 1, 0]),
        (10, [7], [10]),
        (6, [1, 2, 3], [1, 2, 3]),
        (7, [1, 2, 3], [1, 2, 4]),
        (1, [1, 2, 1], [0, 1, 0]),
        # More shares than fen: the heavier ones get them.
        (2, [1, 1, 9, 1, 9], [0, 0, 1, 0, 1]),
    ],
)
def test_a_round_is_shared_by_grams(fen: int, weights: list[int], expected: list[int]) -> None:
    assert parts(fen, weights) == expected


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 5_000)), min_size=1, max_size=30))
def test_points_over_all_rounds_are_what_the_fen_are_worth_but_for_less_than_one(
    rounds: list[tuple[int, int]],
) -> None:
    points, carry = 0, 0
    for fen, rate in rounds:
        more, carry = convert(fen, rate, carry)
        points += more
        assert more >= fen * rate // 100
        assert 0 <= carry < 100
    worth = sum(Fraction(fen * rate, 100) for fen, rate in rounds)
    assert 0 <= worth - points < 1


def test_a_fen_at_a_time_gives_the_points_of_all_of_them_at_once() -> None:
    singles = list(itertools.accumulate(range(100), lambda state, _: convert(1, 1_250, state[1]), initial=(0, 0)))
    assert sum(points for points, _ in singles) == 1_250
    assert [points for points, _ in singles[1:5]] == [12, 13, 12, 13]
    assert convert(1, 50, 0) == (0, 50)
    assert convert(1, 50, 50) == (1, 0)


@pytest.mark.parametrize(
    ("choice", "points", "moves"), [(Benefit.FEN, 0, 1), (Benefit.POINTS, 12, 2), (Benefit.POINTS, 0, 1)]
)
def test_what_is_posted_leaves_the_pool_and_can_stand_in_a_book(choice: Benefit, points: int, moves: int) -> None:
    transaction = returning(ROUND, ALICE, 1, choice, points)
    shape.check(transaction)
    assert (transaction.key, transaction.kind) == ("benefit:round_1:alice", TransactionKind.BENEFIT)
    assert transaction.cause == {
        "round": "round_1",
        "batch": CODE,
        "rate": "1250",
        "proposer": pseudonym("salt", "staff:fay"),
        "approver": pseudonym("salt", "staff:fred"),
    }
    assert len(transaction.postings) == moves
    first = transaction.postings[0]
    assert (first.from_account, first.amount) == (f"pool:{CODE}:cny", 1)
    assert first.to_account == ("citizen:alice:cny" if choice is Benefit.FEN else BENEFITS)
    if points:
        second = transaction.postings[1]
        assert (second.from_account, second.to_account, second.amount) == (MINTS[POINTS], "citizen:alice:points", 12)


def payment(choice: Benefit, fen: int, points: int) -> Payment:
    """A payment."""
    return Payment(
        round=ROUND.id,
        batch=CODE,
        number=1,
        citizen=ALICE,
        grams=1,
        fen=fen,
        choice=choice,
        points=points,
        carry=0,
        at=datetime(2026, 11, 21, tzinfo=UTC),
        transaction=TransactionId("tx_1"),
    )


def test_fen_and_points_are_counted_apart() -> None:
    paid = tallied(Paid(), [payment(Benefit.FEN, 5, 0), payment(Benefit.POINTS, 7, 87), payment(Benefit.POINTS, 1, 0)])
    assert paid == Paid(citizens=3, fen=5, converted_fen=8, points=87)
    assert paid.total_fen == 13
    assert told(ROUND, payment(Benefit.FEN, 5, 0)) == returning(ROUND, ALICE, 5, Benefit.FEN, 0)


def test_no_round_gives_more_than_so_many_points_for_a_yuan() -> None:
    require_rate(10_000)
    with pytest.raises(RateTooHighError) as refused:
        require_rate(10_001)
    assert (refused.value.rate, refused.value.limit) == (10_001, 10_000)
