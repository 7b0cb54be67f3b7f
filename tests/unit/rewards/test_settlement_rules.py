"""Lines, commission, checksums and reconciliation, by hand and against sums done otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.ids import TransactionId
from backend.ledger.model import CNY, DONATIONS, POINTS, Posted, Transaction, TransactionKind
from backend.ledger.shape import check
from backend.rewards.settlement.closing import draft, draft_correction, explaining, following
from backend.rewards.settlement.model import (
    NO_DIFFERENCE,
    NOTHING,
    Account,
    Adjustment,
    Difference,
    Line,
    LineKind,
    Statement,
    StatementKind,
    StatementStage,
    Sums,
    Totals,
)
from backend.rewards.settlement.rules import Tally, commission_fen, line_of, reconcile, settling_postings
from tests.factories import account, posting, settlement, shop
from tests.unit.rewards.settled import BEGIN, TEA, statement

WEEK = timedelta(days=7)
MERCHANT = shop("tea")
CAUSE = {"merchant": "tea", "voucher": "v1", "offer": "o1", "fen": "70", "commission_bps": "200"}


def moved(kind: TransactionKind = TransactionKind.TRANSFER, **changes: Any) -> Posted:
    """Points that alice pays at the tea house."""
    given: dict[str, Any] = {
        "key": "k",
        "kind": kind,
        "postings": (posting(account(), MERCHANT, 100),),
        "cause": CAUSE,
    }
    return Posted(Transaction(**{**given, **changes}), BEGIN)


def line(number: int = 1, points: int = 100, fen: int = 70, bps: int = 200) -> Line:
    """A line, a refund where points are below zero."""
    return Line(
        transaction=TransactionId(f"tx_{number}"),
        at=BEGIN + timedelta(seconds=number),
        kind=LineKind.CAPTURE if points > 0 else LineKind.REFUND,
        voucher="v1",
        offer="o1",
        points=points,
        fen=fen,
        commission_bps=bps,
    )


def tallied(*lines: Line) -> Tally:
    """These lines, added up."""
    tally = Tally()
    for one in lines:
        tally.add(one)
    return tally


def test_a_capture_is_a_line() -> None:
    assert line_of(moved(), TEA) == Line(
        transaction=moved().transaction.id,
        at=BEGIN,
        kind=LineKind.CAPTURE,
        voucher="v1",
        offer="o1",
        points=100,
        fen=70,
        commission_bps=200,
    )


def test_a_refund_is_a_line_below_zero() -> None:
    back = moved(
        TransactionKind.REVERSE,
        postings=(posting(MERCHANT, account(), 40), posting(MERCHANT, account("bob"), 2)),
        cause={**CAUSE, "fen": "-30"},
        corrects=TransactionId("tx_1"),
    )
    found = line_of(back, TEA)
    assert found is not None
    assert (found.kind, found.points, found.fen) == (LineKind.REFUND, -42, -30)


@pytest.mark.parametrize(
    "posted",
    [
        moved(postings=(posting(account(), DONATIONS, 100),)),
        moved(postings=(posting(account(), shop("other"), 100),)),
        moved(TransactionKind.VOID, postings=()),
        Posted(settlement(merchant="tea"), BEGIN),
    ],
    ids=["donation", "another merchant", "nothing moved", "settlement"],
)
def test_what_moves_none_of_its_customers_points_is_no_line(posted: Posted) -> None:
    assert line_of(posted, TEA) is None


@pytest.mark.parametrize("fen", ["", "7.5", "½", "--7", "seven", "٣"])
def test_a_cause_that_says_no_fen_counts_none(fen: str) -> None:
    found = line_of(moved(cause={**CAUSE, "fen": fen}), TEA)
    assert found is not None
    assert found.fen == 0


@pytest.mark.parametrize(
    ("gross", "bps", "kept"),
    [
        (0, 200, 0),
        (49, 200, 0),
        (50, 200, 1),
        (-49, 200, 0),
        (-50, 200, -1),
        (-99, 200, -1),
        (100, 0, 0),
        (99, 10_000, 99),
    ],
)
def test_commission_is_floored_towards_zero(gross: int, bps: int, kept: int) -> None:
    assert commission_fen(gross, bps) == kept


def test_commission_is_floored_once_for_each_rate() -> None:
    lines = [line(number, 1, 49, 200) for number in range(4)] + [line(9, 1, 49, 250), line(10, -1, -60, 333)]
    totals = tallied(*lines).totals()
    # 2 % of 196 is 3.92; 2.5 % of 49 is 1.2; 3.33 % of -60 is -1.998.
    assert totals.commission_fen == 3 + 1 - 1
    assert (totals.captures, totals.refunds) == (Sums(5, 5, 245), Sums(1, 1, 60))
    assert (totals.points, totals.gross_fen) == (4, 185)


LINES = st.lists(
    st.tuples(st.integers(1, 10**6), st.integers(0, 10**9), st.sampled_from([0, 1, 200, 333, 5_000]), st.booleans()),
    max_size=30,
)


@given(LINES)
def test_totals_equal_sums_done_otherwise(drawn: list[tuple[int, int, int, bool]]) -> None:
    signed = [(points * (-1) ** back, fen * (-1) ** back, bps) for points, fen, bps, back in drawn]
    totals = tallied(*(line(number, *one) for number, one in enumerate(signed))).totals()
    assert totals.points == sum(points for points, _, _ in signed)
    assert totals.gross_fen == sum(fen for _, fen, _ in signed)
    assert totals.captures.count + totals.refunds.count == len(drawn)
    exact = sum((Fraction(fen * bps, 10_000) for _, fen, bps in signed), Fraction())
    rates = {bps for _, _, bps in signed}
    by_rate = [sum(Fraction(fen * bps, 10_000) for _, fen, bps in signed if bps == rate) for rate in rates]
    assert totals.commission_fen == sum(int(kept) for kept in by_rate)
    assert abs(exact - totals.commission_fen) < max(1, len(rates))


@given(LINES, st.data())
def test_a_checksum_tells_any_change(drawn: list[tuple[int, int, int, bool]], data: st.DataObject) -> None:
    lines = [line(number, *one[:3]) for number, one in enumerate(drawn)]
    whole = statement()
    checksum = tallied(*lines).checksum(whole)
    assert tallied(*lines).checksum(whole) == checksum
    if lines:
        number = data.draw(st.integers(0, len(lines) - 1))
        changes: list[dict[str, Any]] = [
            {"points": 7_777_777},
            {"fen": -1},
            {"voucher": "v2"},
            {"offer": "o2"},
            {"commission_bps": 9},
            {"at": BEGIN - WEEK},
            {"transaction": TransactionId("x")},
            {"kind": LineKind.REFUND},
        ]
        for change in changes:
            others = [*lines[:number], replace(lines[number], **change), *lines[number + 1 :]]
            assert tallied(*others).checksum(whole) != checksum
        assert tallied(*lines[:-1]).checksum(whole) != checksum


def test_a_checksum_stays_while_a_statement_goes_its_way() -> None:
    tally, whole = tallied(line()), statement()
    paid = replace(whole, stage=StatementStage.PAID, paid_at=BEGIN, paid_by="x", bank_reference="y", approved_by="z")
    assert tally.checksum(paid) == tally.checksum(whole)
    for change in (
        {"number": 4},
        {"brought_forward_fen": -1},
        {"adjustment_fen": 1},
        {"totals": NOTHING},
        {"reason": "x"},
    ):
        assert tally.checksum(replace(whole, **change)) != tally.checksum(whole)


def test_what_is_owed_is_carried_until_it_is_earned() -> None:
    account_now, seen = Account(TEA, BEGIN), []
    for fen in (100, -300, 50, 400, 10):
        made = draft(account_now, tallied(line(1, 5 if fen > 0 else -5, fen, 0)), until=BEGIN + WEEK, now=BEGIN)
        seen.append((made.number, made.brought_forward_fen, made.net_fen, made.payable_fen))
        account_now = following(account_now, made)
    assert seen == [(1, 0, 100, 100), (2, 0, -300, 0), (3, -300, 50, 0), (4, -250, 400, 150), (5, 0, 10, 10)]
    assert account_now.carried_fen == 0


def test_a_correction_lists_only_what_came_late() -> None:
    first = draft(Account(TEA, BEGIN), tallied(line(1)), until=BEGIN + WEEK, now=BEGIN)
    now = following(Account(TEA, BEGIN), first)
    asked = Adjustment(-9, "why", "staff:ann")
    same = draft_correction(now, first, NOTHING, Tally(), asked=asked, now=BEGIN)
    assert (same.kind, same.number, same.corrects) == (StatementKind.CORRECTION, 2, first.id)
    assert (same.totals, same.lines, same.net_fen) == (NOTHING, 0, -9)
    assert same.checksum == Tally().checksum(same)
    late = tallied(line(2, 10, 7))
    other = draft_correction(now, first, late.totals(), late, asked=asked, now=BEGIN)
    assert (other.totals.captures, other.lines, other.net_fen) == (Sums(1, 10, 7), 1, -2)
    assert other.checksum == late.checksum(other)


def test_a_correction_explains_what_vouchers_know_and_never_what_the_book_has() -> None:
    for points, stage in ((0, StatementStage.READY), (3, StatementStage.UNRECONCILED)):
        found = Difference(points=points, fen=0, captures=Sums(0, -10, 1), refunds=Sums(1, 5, 4))
        stuck = statement(corrects=statement().id, difference=found, stage=StatementStage.UNRECONCILED)
        made = explaining(stuck, Tally())
        assert made.explained == replace(found, points=0)
        assert (made.difference, made.stage) == (replace(NO_DIFFERENCE, points=points), stage)
        assert made.checksum == Tally().checksum(made) != Tally().checksum(stuck)
    found = Difference(points=0, fen=0, captures=Sums(0, -10, 1), refunds=Sums())
    other = statement(number=9, totals=NOTHING, explained=found)
    sums = (WHOLE.totals.captures, WHOLE.totals.refunds)
    assert reconciled(WHOLE, [other], 90, 0, sums[0].plus(found.captures), sums[1]).is_nothing
    assert reconciled(WHOLE, [other], 90, 0, *sums).captures == Sums(0, 10, -1)


def reconciled(whole: Statement, others: list[Statement], points: int, fen: int, captures: Sums, refunds: Sums) -> Any:
    """What reconciliation finds."""
    return reconcile(whole, others, balance_points=points, balance_fen=fen, recorded=(captures, refunds))


WHOLE = statement(number=2, totals=Totals(captures=Sums(2, 100, 70), refunds=Sums(1, 10, 7), commission_fen=1))
BEFORE = statement(number=1, since=BEGIN - WEEK, until=BEGIN, totals=replace(WHOLE.totals, captures=Sums(1, 30, 21)))


@pytest.mark.parametrize(
    ("stage", "points", "fen"),
    [(StatementStage.READY, 20 + 90, 0), (StatementStage.APPROVED, 90, 13), (StatementStage.PAID, 90, 0)],
)
def test_all_agree_however_far_earlier_statements_are(stage: StatementStage, points: int, fen: int) -> None:
    paid_at = BEGIN if stage is StatementStage.PAID else None
    before = replace(BEFORE, stage=stage, brought_forward_fen=0, paid_at=paid_at)
    assert before.net_fen == 13
    assert reconciled(WHOLE, [before], points, fen, Sums(2, 100, 70), Sums(1, 10, 7)).is_nothing


def test_each_source_tells_its_own_difference() -> None:
    found = reconciled(WHOLE, [], 95, 3, Sums(3, 101, 72), Sums(0, 0, 0))
    assert (found.points, found.fen) == (5, 3)
    assert (found.captures, found.refunds) == (Sums(1, 1, 2), Sums(-1, -10, -7))
    assert not found.is_nothing


def test_what_settling_moves_is_well_formed_either_way() -> None:
    for sign in (1, -1):
        totals = Totals(captures=Sums(1, 0, 0), refunds=Sums(1, -sign * 90, -sign * 70), commission_fen=sign * 2)
        postings = settling_postings(statement(totals=totals, adjustment_fen=sign * 5))
        whole = Transaction(
            key="k", kind=TransactionKind.SETTLE, postings=postings, cause={"merchant": "tea", "statement": "s"}
        )
        check(whole)
        ends = [(*(one.from_account, one.to_account)[::sign], one.amount) for one in postings]
        assert ends == [
            (shop("tea", POINTS), "programme:redeemed", 90),
            ("programme:rewards", shop("tea", CNY), 75),
            (shop("tea", CNY), "programme:commission", 2),
        ]
    assert settling_postings(statement(totals=NOTHING)) == ()
