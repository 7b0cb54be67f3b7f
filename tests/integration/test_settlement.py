"""Merchants' statements against real servers: made by the clock, reconciled, approved, paid, corrected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backend.identity.errors import ForbiddenError
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Refusal
from backend.ledger.model import BANK, COMMISSION, REDEEMED, REWARDS
from backend.rewards.merchants.errors import OwnApprovalError
from backend.rewards.merchants.model import Cycle
from backend.rewards.settlement.errors import (
    EarlierUnpaidError,
    NotReconciledError,
    UnknownStatementError,
    WrongStatementStageError,
)
from backend.rewards.settlement.model import (
    StatementId,
    StatementKind,
    StatementStage,
    Sums,
    statement_id,
)
from tests.conftest import dump
from tests.factories import citizen, partner, replay
from tests.integration.selling import (
    APPROVER,
    BEGIN,
    DAY,
    HOUR,
    MAKER,
    MONTH_END,
    PAYER,
    REST,
    TEA,
    WEEK_END,
    Market,
    agree,
    give_back,
    move_to,
    open_market,
    owner_of,
    register,
    sell,
)

if TYPE_CHECKING:
    from backend.runtime import Services

READY = StatementStage.READY
APPROVED = StatementStage.APPROVED
PAID = StatementStage.PAID
UNRECONCILED = StatementStage.UNRECONCILED
FIRST = statement_id(TEA, 1)
SECOND = statement_id(TEA, 2)


@pytest.fixture
async def market(services: Services) -> Market:
    """A market at the beginning of a week."""
    return await open_market(services)


async def test_a_week_becomes_a_statement_to_the_fen(market: Market) -> None:
    services = market.services
    await register(services)
    await sell(services, TEA, 100, 70, at=BEGIN)
    tea = await sell(services, TEA, 300, 333, at=WEEK_END - timedelta(milliseconds=1))
    await give_back(services, tea, 100, 111, at=WEEK_END - timedelta(milliseconds=1))
    await sell(services, TEA, 100, 70, at=WEEK_END)

    assert await market.close_at(WEEK_END + REST - timedelta(milliseconds=1)) == 0
    assert await market.statements() == []
    assert await market.close_at(WEEK_END + REST) == 1

    [made] = await market.statements()
    assert (made.id, made.number, made.kind, made.stage) == (FIRST, 1, StatementKind.REGULAR, READY)
    assert (made.since, made.until) == (BEGIN, WEEK_END)
    assert made.totals.captures == Sums(2, 400, 403)
    assert made.totals.refunds == Sums(1, 100, 111)
    # 2 % of 292 fen is 5.84.
    assert (made.totals.gross_fen, made.totals.commission_fen, made.adjustment_fen) == (292, 5, 0)
    assert (made.net_fen, made.brought_forward_fen, made.payable_fen) == (287, 0, 287)
    assert made.difference.is_nothing
    assert (made.lines, made.made_by, made.made_at) == (3, None, WEEK_END + REST)
    assert market.events() == [("tea", 1, "REGULAR")]
    assert (await dump(services))["outbox"] == []
    # Nothing is due twice.
    assert await market.close_at(WEEK_END + 2 * REST) == 0


async def test_several_periods_behind_give_several_statements_and_quiet_ones_none(market: Market) -> None:
    services = market.services
    await register(services)
    await sell(services, TEA, at=BEGIN)
    await sell(services, TEA, at=BEGIN + 22 * DAY)
    assert await market.close_at(BEGIN + 35 * DAY + REST) == 2
    made = await market.statements()
    assert [(one.number, one.since, one.until) for one in made] == [
        (1, BEGIN, WEEK_END),
        (2, BEGIN + 21 * DAY, BEGIN + 28 * DAY),
    ]
    [account] = (await dump(services))["settlement_accounts"]
    assert (account["settled_until"], account["number"]) == (BEGIN + 35 * DAY, 2)


async def test_periods_follow_the_contract_in_force_as_they_begin(market: Market) -> None:
    services = market.services
    await register(services, cycle=Cycle.MONTH, since=BEGIN + 3 * HOUR)
    await agree(services, TEA, cycle=Cycle.WEEK, valid_from=BEGIN + 10 * DAY)
    for day in (1, 20, 31):
        await sell(services, TEA, at=BEGIN + day * DAY)
    assert await market.close_at(MONTH_END + 10 * DAY) == 2
    assert [(one.since, one.until) for one in await market.statements()] == [
        (BEGIN + 3 * HOUR, MONTH_END),
        # 1 December 2026 is a Tuesday; the week ends with Sunday the 6th.
        (MONTH_END, datetime(2026, 12, 6, 16, tzinfo=UTC)),
    ]


async def test_a_merchant_without_contract_or_before_it_begins_is_not_settled(market: Market) -> None:
    services = market.services
    await register(services, since=BEGIN + 30 * DAY)
    before = (await dump(services))["settlement_accounts"]
    assert await market.close_at(BEGIN + 20 * DAY) == 0
    assert (await dump(services))["settlement_accounts"] == before == []


async def test_approving_and_paying_move_the_money_through_the_book(market: Market) -> None:
    services = market.services
    await register(services)
    await sell(services, TEA, 1_000, 700, at=BEGIN)
    await market.close_at(WEEK_END + REST)

    approved = await market.approve(FIRST)
    assert (approved.stage, approved.approved_by, approved.approved_at) == (APPROVED, "staff:approver", WEEK_END + REST)
    pointless = {REDEEMED: 1_000, "programme:issuance": -1_000}
    assert await market.balances() == {"merchant:tea:cny": 686, COMMISSION: 14, REWARDS: -700, **pointless}

    move_to(services, WEEK_END + HOUR)
    paid = await market.pay(FIRST)
    assert (paid.stage, paid.paid_by, paid.paid_at) == (PAID, "staff:payer", WEEK_END + HOUR)
    assert paid.bank_reference == "ICBC 2026-11-0001"
    assert await market.balances() == {BANK: 686, COMMISSION: 14, REWARDS: -700, **pointless}
    assert (await replay(services)).findings == []
    assert paid.checksum == approved.checksum == (await market.statements())[0].checksum

    # Repeating either changes nothing and answers alike.
    before = await dump(services)
    assert await market.approve(FIRST) == await market.pay(FIRST) == paid
    assert await dump(services) == before


async def test_a_refund_after_settlement_lands_in_the_next_period_and_a_debt_is_carried(market: Market) -> None:
    services = market.services
    await register(services)
    tea = await sell(services, TEA, 1_000, 700, at=BEGIN)
    await market.close_at(WEEK_END + REST)
    await market.approve(FIRST)
    await market.pay(FIRST)
    await give_back(services, tea, at=WEEK_END + DAY)
    await market.close_at(WEEK_END + 7 * DAY + REST)
    await sell(services, TEA, 1_000, 800, at=WEEK_END + 15 * DAY)
    await market.close_at(WEEK_END + 21 * DAY + REST)

    first, second, third = await market.statements()
    assert second.totals.refunds == Sums(1, 1_000, 700)
    assert (second.totals.gross_fen, second.totals.commission_fen) == (-700, -14)
    assert (second.net_fen, second.payable_fen) == (-686, 0)
    # A week in which nothing happened needs no statement: what is owed is carried past it.
    assert (third.since, third.until) == (WEEK_END + 14 * DAY, WEEK_END + 21 * DAY)
    assert (third.brought_forward_fen, third.net_fen, third.payable_fen) == (-686, 784, 98)
    for number in (2, 3):
        await market.approve(statement_id(TEA, number), f"approve-{number}")
        await market.pay(statement_id(TEA, number), f"pay-000{number}")
    assert (await market.balances())[BANK] == first.payable_fen + third.payable_fen == 686 + 98
    assert {"merchant:tea:cny", "merchant:tea:points"} & set(await market.balances()) == set()
    assert (await replay(services)).findings == []
    assert [one.stage for one in await market.statements()] == [PAID] * 3
    assert all(one.difference.is_nothing for one in await market.statements())


async def test_statements_that_wait_do_not_disturb_those_that_follow(market: Market) -> None:
    services = market.services
    await register(services)
    for week in range(3):
        await sell(services, TEA, 100, 70 + week, at=BEGIN + week * 7 * DAY)
        await market.close_at(BEGIN + (week + 1) * 7 * DAY + REST)
        if week == 1:
            await market.approve(SECOND)
    made = await market.statements()
    assert [one.stage for one in made] == [READY, APPROVED, READY]
    assert [one.payable_fen for one in made] == [69, 70, 71]
    assert [one.brought_forward_fen for one in made] == [0, 0, 0]


async def test_a_statement_that_neither_book_nor_vouchers_confirm_goes_no_further(market: Market) -> None:
    services = market.services
    await register(services)
    tea = await sell(services, TEA, 100, 70, at=BEGIN)
    [capture] = tea.captures
    raw = services.database.raw["vouchers"]
    from bson import Int64  # noqa: PLC0415 - only what breaks the records needs the driver

    await raw.update_one({"_id": tea.id}, {"$set": {"captures.0.points": Int64(90), "captures.0.fen": Int64(71)}})
    await market.close_at(WEEK_END + REST)
    [made] = await market.statements()
    assert made.stage is UNRECONCILED
    assert (made.difference.captures, made.difference.refunds) == (Sums(0, -10, 1), Sums())
    assert (made.difference.points, made.difference.fen) == (0, 0)
    assert market.events() == []

    for call in (market.approve(FIRST), market.pay(FIRST)):
        error = await market.refused(NotReconciledError, call)
        assert (error.points, error.fen, error.voucher_points, error.voucher_fen) == (0, 0, -10, 1)

    # Once the records are right again, the next run finds out.
    await raw.update_one(
        {"_id": tea.id}, {"$set": {"captures.0.points": Int64(capture.points), "captures.0.fen": Int64(capture.fen)}}
    )
    assert await market.settlement.close_due() == 0
    [made] = await market.statements()
    assert (made.stage, made.difference.is_nothing) == (READY, True)
    assert market.events() == [("tea", 1, "REGULAR")]
    await market.approve(FIRST)


async def test_what_reaches_a_settled_period_too_late_is_found_and_corrected(market: Market) -> None:
    services = market.services
    await register(services)
    await sell(services, TEA, 100, 70, at=BEGIN)
    await market.close_at(WEEK_END + REST)
    await market.approve(FIRST)
    # No clock of ours does this: it takes somebody who writes into the past.
    await sell(services, TEA, 10, 7, at=BEGIN + DAY)
    await market.close_at(WEEK_END + 7 * DAY + REST)
    second = (await market.statements())[1]
    assert (second.stage, second.lines, second.difference.points) == (UNRECONCILED, 0, 10)

    made = await market.settlement.correct(MAKER, FIRST, 0, "补记漏单", key="correct-1")
    assert (made.number, made.kind, made.corrects, made.stage) == (3, StatementKind.CORRECTION, FIRST, READY)
    assert (made.since, made.until) == (BEGIN, WEEK_END)
    assert made.totals.captures == Sums(1, 10, 7)
    # 2 % of 77 fen is one fen, of 70 fen one fen too.
    assert (made.totals.commission_fen, made.net_fen, made.payable_fen, made.lines) == (0, 7, 7, 1)
    await market.settlement.close_due()
    assert [one.stage for one in await market.statements()] == [APPROVED, READY, READY]
    for number in (2, 3):
        await market.approve(statement_id(TEA, number), f"approve-{number}")
    for number in (1, 2, 3):
        await market.pay(statement_id(TEA, number), f"pay-000{number}")
    assert (await market.balances())[BANK] == 76
    assert "merchant:tea:points" not in await market.balances()
    assert (await replay(services)).findings == []


@pytest.mark.parametrize(("adjustment", "payable", "till"), [(500, 500, -570), (-500, 0, 430)])
async def test_a_correction_adjusts_and_needs_two_others(
    market: Market, adjustment: int, payable: int, till: int
) -> None:
    services = market.services
    await register(services)
    await sell(services, TEA, 100, 70, at=BEGIN)
    await market.close_at(WEEK_END + REST)
    await market.approve(FIRST)
    made = await market.settlement.correct(MAKER, FIRST, adjustment, "活动补贴", key="correct-1")
    assert (made.totals.is_nothing, made.adjustment_fen, made.reason, made.lines) == (True, adjustment, "活动补贴", 0)
    assert (made.made_by, made.net_fen, made.payable_fen) == ("staff:maker", adjustment, payable)
    assert market.events() == [("tea", 1, "REGULAR"), ("tea", 2, "CORRECTION")]
    # The same request again finds the same statement.
    before = await dump(services)
    assert await market.settlement.correct(MAKER, FIRST, adjustment, "活动补贴", key="correct-1") == made
    assert await dump(services) == before

    await market.refused(OwnApprovalError, market.settlement.approve(MAKER, SECOND, key="approve-2"))
    await market.approve(SECOND, "approve-2")
    await market.refused(OwnApprovalError, market.settlement.pay(APPROVER, SECOND, "x", key="pay-0002"))
    assert (await market.refused(EarlierUnpaidError, market.pay(SECOND))).number == 1
    await market.pay(FIRST)
    await market.pay(SECOND, "pay-0002")
    assert (await market.balances())[REWARDS] == till
    assert (await replay(services)).findings == []


async def test_the_adjustment_is_carried_into_the_next_period(market: Market) -> None:
    services = market.services
    await register(services)
    await sell(services, TEA, 100, 70, at=BEGIN)
    await sell(services, TEA, 1_000, 700, at=WEEK_END)
    await market.close_at(WEEK_END + REST)
    await market.settlement.correct(MAKER, FIRST, -500, "多付", key="correct-1")
    await market.close_at(WEEK_END + 7 * DAY + REST)
    assert [(one.number, one.brought_forward_fen, one.payable_fen, one.stage) for one in await market.statements()] == [
        (1, 0, 69, READY),
        (2, 0, 0, READY),
        (3, -500, 186, READY),
    ]


async def test_what_costs_the_programme_nothing_is_settled_in_points_alone(market: Market) -> None:
    services = market.services
    await register(services)
    await sell(services, TEA, 100, 0, at=BEGIN)
    await market.close_at(WEEK_END + REST)
    await market.approve(FIRST)
    paid = await market.pay(FIRST)
    assert (paid.stage, paid.payable_fen) == (PAID, 0)
    assert await market.balances() == {REDEEMED: 100, "programme:issuance": -100}
    kinds = [document["kind"] for document in (await dump(services))["ledger_transactions"]]
    assert (kinds.count("SETTLE"), kinds.count("PAYOUT")) == (1, 0)


async def test_a_statement_of_zeros_is_approved_and_posts_nothing(market: Market) -> None:
    services = market.services
    await register(services)
    tea = await sell(services, TEA, 100, 70, at=BEGIN)
    await give_back(services, tea, at=BEGIN + HOUR)
    await market.close_at(WEEK_END + REST)
    book = (await dump(services))["ledger_transactions"]
    await market.approve(FIRST)
    assert (await market.pay(FIRST)).stage is PAID
    assert (await dump(services))["ledger_transactions"] == book


async def test_each_refusal_changes_nothing(market: Market) -> None:
    services, settlement = market.services, market.settlement
    await register(services)
    for week in range(2):
        await sell(services, TEA, 100, 70, at=BEGIN + week * 7 * DAY)
    await market.close_at(WEEK_END + 7 * DAY + REST)
    nobody = StatementId("stm_none")
    for call in (
        settlement.approve(APPROVER, nobody, key="approve-1"),
        settlement.pay(PAYER, nobody, "x", key="pay-0001"),
        settlement.correct(MAKER, nobody, 1, "x", key="correct-1"),
    ):
        await market.refused(UnknownStatementError, call)
    for principal in (citizen(), partner(), owner_of(TEA)):
        for call in (
            settlement.approve(principal, FIRST, key="approve-1"),
            settlement.pay(principal, FIRST, "x", key="pay-0001"),
            settlement.correct(principal, FIRST, 1, "x", key="correct-1"),
        ):
            await market.refused(ForbiddenError, call)
    for field, call in (
        ("idempotencyKey", settlement.approve(APPROVER, FIRST, key="short")),
        ("bankReference", settlement.pay(PAYER, FIRST, " ", key="pay-0001")),
        ("bankReference", settlement.pay(PAYER, FIRST, "x" * 65, key="pay-0001")),
        ("reason", settlement.correct(MAKER, FIRST, 1, "", key="correct-1")),
        ("adjustmentFen", settlement.correct(MAKER, FIRST, 10**12 + 1, "x", key="correct-1")),
        ("adjustmentFen", settlement.correct(MAKER, FIRST, 0, "x", key="correct-1")),
    ):
        assert (await market.refused(InvalidInputError, call)).field == field
    assert (await market.refused(WrongStatementStageError, market.pay(FIRST))).standing == "READY"
    await market.approve(FIRST)
    assert (
        await market.refused(WrongStatementStageError, market.approve(FIRST, key="approve-9"))
    ).standing == "APPROVED"
    await market.refused(IdempotencyConflictError, market.approve(SECOND))
    await market.refused(OwnApprovalError, settlement.pay(APPROVER, FIRST, "x", key="pay-0001"))
    await market.approve(SECOND, "approve-2")
    await market.refused(EarlierUnpaidError, market.pay(SECOND))
    await market.pay(FIRST)
    assert (await market.refused(WrongStatementStageError, market.pay(FIRST, key="pay-0009"))).standing == "PAID"
    await market.refused(IdempotencyConflictError, settlement.pay(PAYER, FIRST, "another", key="pay-0001"))
    assert isinstance(
        await market.refused(Refusal, settlement.approve(PAYER, FIRST, key="approve-1")), WrongStatementStageError
    )
