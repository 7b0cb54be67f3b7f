"""Deposits and payouts on a real book: what moves when, races, ends, crashes in between, and what the audit finds."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import IdempotencyConflictError
from backend.kernel.ids import CitizenId
from backend.ledger.errors import HoldExpiredError, HoldNotActiveError, InsufficientFundsError, TooManyHoldsError
from backend.ledger.model import (
    CNY,
    EXCHANGE,
    OwnerId,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    enterprise_owner,
)
from backend.market.funds.documents import DEPOSITS, ENTERPRISES, PAYOUTS, REFERENCES
from backend.market.funds.errors import (
    DepositStageError,
    DuplicateReferenceError,
    EnterpriseRegisteredError,
    PayoutStageError,
    ReferenceChangedError,
    TooManyPayoutsError,
)
from backend.market.funds.model import (
    DepositStage,
    EnterpriseStep,
    FundAccount,
    Payee,
    PayoutStage,
    account_of_owner,
)
from backend.market.funds.rules import pseudonym
from backend.mongo.transactions import Transactions
from tests.conftest import dump
from tests.factories import adjustment
from tests.floor import give_fen
from tests.integration.banking import (
    ALICE,
    ALICES,
    BOB,
    BOBS,
    DAY,
    FAY,
    FRED,
    ICBC,
    application,
    open_bank,
)
from tests.integration.conftest import ALL_SHARDS
from tests.unit.rewards.trading import RITA, ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backend.kernel.clock import ManualClock
    from backend.mongo.transactions import Tx
    from backend.runtime import Services
    from tests.integration.banking import Bank

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bank(services: Services) -> Bank:
    """The bank's desk."""
    return await open_bank(services)


async def test_money_comes_in_only_with_the_approval(bank: Bank) -> None:
    enterprise = await bank.approved()
    steel = enterprise_owner(enterprise)
    waiting = await bank.proposed(bank.order(FundAccount(enterprise=enterprise), 700, note="首笔"))
    assert (waiting.stage, waiting.owner, waiting.note) == (DepositStage.PROPOSED, steel, "首笔")
    assert await bank.money(steel) == (0, 0)
    approved = await bank.services.market.deposits.approve(FRED, waiting.id, key=bank.key())
    assert (approved.stage, approved.decided_by) == (DepositStage.APPROVED, "staff:fred")
    assert await bank.money(steel) == (700, 0)
    assert account_of_owner(steel).enterprise == enterprise
    assert await bank.findings() == []


async def test_a_rejected_deposit_moves_nothing_and_gives_its_reference_back(bank: Bank) -> None:
    deposits, order = bank.services.market.deposits, bank.order()
    wrong = await bank.proposed(order)
    rejected = await deposits.reject(FRED, wrong.id, "金额有误", key=bank.key())
    assert (rejected.stage, rejected.reason, await bank.money()) == (DepositStage.REJECTED, "金额有误", (0, 0))
    assert await bank.findings() == []
    again = await bank.proposed(dataclasses.replace(order, fen=4_000))
    await deposits.approve(FRED, again.id, key=bank.key())
    assert await bank.money() == (4_000, 0)
    await bank.refused(bank.proposed(order), DuplicateReferenceError)
    assert await bank.findings() == []


async def test_of_records_of_one_line_that_come_together_one_stands(bank: Bank) -> None:
    entry = bank.entry("ICBC-SAME")
    asked = [
        bank.services.market.deposits.propose(
            (FAY, FRED)[number % 2], bank.order(fen=100 + number, entry=entry), key=bank.key()
        )
        for number in range(6)
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Deposit", *["DuplicateReferenceError"] * 5]
    assert await bank.services.database.count(DEPOSITS.name, {}) == 1
    assert await bank.findings() == []


async def test_of_decisions_that_come_together_one_takes_effect(bank: Bank) -> None:
    deposit, deposits = await bank.proposed(), bank.services.market.deposits
    asked: list[Awaitable[Any]] = [deposits.approve(who, deposit.id, key=bank.key()) for who in (FRED, RITA, ROOT)]
    asked += [deposits.reject(who, deposit.id, "重复", key=bank.key()) for who in (FRED, RITA, ROOT)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    [one] = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert all(isinstance(answer, DepositStageError) for answer in answers if answer is not one)
    assert await bank.money() == ((10_000 if one.stage is DepositStage.APPROVED else 0), 0)
    assert await bank.findings() == []


async def test_keys_are_remembered_for_what_they_began_after_they_are_forgotten(bank: Bank) -> None:
    services = bank.services
    order, key = bank.order(), bank.key()
    deposit = await services.market.deposits.propose(FAY, order, key=key)
    enterprise = await services.market.enterprises.register(ROOT, application(), key=key)
    await give_fen(services, ALICES, 500)
    payout = await services.market.payouts.request(ALICE, 100, ICBC, key=key)
    await services.database.raw["idempotency_keys"].delete_many({})
    before = await dump(services)
    assert await services.market.deposits.propose(FAY, order, key=key) == deposit
    assert await services.market.enterprises.register(ROOT, application(), key=key) == enterprise
    assert await services.market.payouts.request(ALICE, 100, ICBC, key=key) == payout
    assert await dump(services) == before
    other = dataclasses.replace(order, fen=1)
    await bank.refused(services.market.deposits.propose(FAY, other, key=key), IdempotencyConflictError)
    await bank.refused(services.market.enterprises.register(ROOT, application(2), key=key), IdempotencyConflictError)
    elsewhere = ICBC._replace(number="6222000000000000")
    await bank.refused(services.market.payouts.request(ALICE, 100, elsewhere, key=key), IdempotencyConflictError)


async def test_of_registrations_of_one_firm_that_come_together_one_stands(bank: Bank) -> None:
    asked = [bank.services.market.enterprises.register(ROOT, application(), key=bank.key()) for _ in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(answer, EnterpriseRegisteredError) for answer in answers].count(True) == 4
    assert await bank.services.database.count(ENTERPRISES.name, {}) == 1


async def test_a_rejected_enterprise_may_be_registered_again(bank: Bank) -> None:
    first = await bank.registered()
    await bank.step(first.id, EnterpriseStep.REJECT, "材料不全")
    again = await bank.registered()
    assert again.id != first.id
    approved = await bank.step(again.id, EnterpriseStep.APPROVE)
    suspended = await bank.step(again.id, EnterpriseStep.SUSPEND, "核查中")
    resumed = await bank.step(again.id, EnterpriseStep.RESUME, "核查完毕")
    assert [taken.step for taken in resumed.steps] == ["REGISTER", "APPROVE", "SUSPEND", "RESUME"]
    assert (approved.reason, suspended.reason, resumed.reason) == (None, "核查中", "核查完毕")
    assert {taken.actor for taken in resumed.steps} == {"staff:root", "staff:rita"}


async def test_what_is_asked_for_is_held_and_leaves_with_the_approval(bank: Bank) -> None:
    await bank.deposited()
    payouts = bank.services.market.payouts
    asked = await bank.requested()
    assert await bank.money() == (10_000, 3_000)
    entry = bank.entry()
    settling = await payouts.settle(FAY, asked.id, entry, key=bank.key())
    assert (settling.stage, settling.entry, settling.settled_by) == (PayoutStage.SETTLING, entry, "staff:fay")
    assert settling.expires_at - asked.expires_at == 336 * DAY
    assert await bank.money() == (10_000, 3_000)
    paid = await bank.agreed(settling)
    assert (paid.stage, paid.decided_by, await bank.money()) == (PayoutStage.PAID, "staff:fred", (7_000, 0))
    assert paid.transaction is not None
    posted = await bank.services.ledger.find_transaction(paid.transaction)
    assert posted is not None
    assert posted.cause == {
        "payout": paid.id,
        "reference": entry.reference,
        "proposer": pseudonym(paid.salt, "staff:fay"),
        "approver": pseudonym(paid.salt, "staff:fred"),
    }
    assert await bank.findings() == []


async def test_a_record_can_be_corrected_and_whoever_corrected_it_does_not_approve(bank: Bank) -> None:
    await bank.deposited()
    payouts, payout = bank.services.market.payouts, await bank.settling()
    assert payout.entry is not None
    right = bank.entry("ICBC-RIGHT", 1)
    corrected = await payouts.settle(FRED, payout.id, right, key=bank.key())
    assert (corrected.entry, corrected.settled_by, corrected.expires_at) == (right, "staff:fred", payout.expires_at)
    # The line that it was not is free, for a deposit as for a payout.
    await bank.proposed(bank.order(entry=payout.entry))
    await bank.refused(bank.proposed(bank.order(entry=right)), DuplicateReferenceError)
    # Whoever looked at the record before looks again.
    await bank.refused(bank.agreed(payout, FAY), ReferenceChangedError)
    paid = await bank.agreed(corrected, FAY)
    assert (paid.stage, await bank.money()) == (PayoutStage.PAID, (7_000, 0))
    # The same line again is no other line.
    other = await bank.settling(fen=10)
    assert other.entry is not None
    assert (await payouts.settle(FRED, other.id, other.entry, key=bank.key())).settled_by == "staff:fred"
    assert await bank.findings() == []


@pytest.mark.parametrize("settled", [False, True])
async def test_what_is_turned_down_is_free_again(bank: Bank, *, settled: bool) -> None:
    await bank.deposited()
    payout = await (bank.settling() if settled else bank.requested())
    rejected = await bank.services.market.payouts.reject(FRED, payout.id, "账户不符", key=bank.key())
    assert (rejected.stage, rejected.reason, rejected.entry) == (PayoutStage.REJECTED, "账户不符", None)
    assert await bank.money() == (10_000, 0)
    assert await bank.services.database.count(REFERENCES.name, {}) == 1
    assert await bank.findings() == []


async def test_who_asked_may_take_it_back(bank: Bank) -> None:
    await bank.deposited()
    payout = await bank.requested()
    cancelled = await bank.services.market.payouts.cancel(ALICE, payout.id, key=bank.key())
    assert (cancelled.stage, await bank.money()) == (PayoutStage.CANCELLED, (10_000, 0))
    assert await bank.findings() == []


async def test_of_requests_that_come_together_five_are_taken_and_no_fen_twice(bank: Bank) -> None:
    await bank.deposited(fen=10_000)
    asked = [bank.requested(fen=1_000) for _ in range(9)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers if isinstance(answer, Exception)] == ["TooManyPayoutsError"] * 4
    assert await bank.money() == (10_000, 5_000)
    await bank.services.market.payouts.cancel(
        ALICE, next(answer.id for answer in answers if not isinstance(answer, BaseException)), key=bank.key()
    )
    await bank.refused(bank.requested(fen=6_001), InsufficientFundsError)
    await bank.requested(fen=6_000)
    assert await bank.money() == (10_000, 10_000)
    await bank.refused(bank.requested(fen=1), TooManyPayoutsError)
    assert await bank.findings() == []


async def test_of_what_is_done_to_a_payout_at_once_one_takes_effect(bank: Bank) -> None:
    await bank.deposited()
    payouts = bank.services.market.payouts
    payout = await bank.requested()
    asked: list[Awaitable[Any]] = [
        payouts.cancel(ALICE, payout.id, key=bank.key()),
        payouts.reject(FRED, payout.id, "x", key=bank.key()),
        payouts.cancel(ALICE, payout.id, key=bank.key()),
        payouts.reject(RITA, payout.id, "x", key=bank.key()),
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Payout", *["PayoutStageError"] * 3]
    assert await bank.money() == (10_000, 0)
    assert await bank.findings() == []


@pytest.mark.parametrize("book_first", [False, True])
async def test_a_request_that_nobody_works_off_ends_by_itself(
    bank: Bank, clock: ManualClock, *, book_first: bool
) -> None:
    await bank.deposited()
    payouts, payout = bank.services.market.payouts, await bank.requested()
    clock.current = payout.expires_at - timedelta(milliseconds=1)
    assert await payouts.end_overdue() == 0
    clock.advance(timedelta(milliseconds=1))
    await bank.refused(payouts.cancel(ALICE, payout.id, key=bank.key()), PayoutStageError)
    await bank.refused(payouts.settle(FAY, payout.id, bank.entry(), key=bank.key()), PayoutStageError)
    if book_first:
        await bank.services.expiry.expire_due(ALL_SHARDS)
        assert await bank.findings() == []
    assert (await payouts.end_overdue(), await payouts.end_overdue()) == (1, 0)
    assert await bank.money() == (10_000, 0)
    [ended] = await payouts.list_payouts(ALICE, ALICES, None, limit=9, older=None, newer=None, newest=True)
    assert (ended.stage, ended.decided_at) == (PayoutStage.LAPSED, clock.now())
    await bank.services.expiry.expire_due(ALL_SHARDS)
    assert await bank.findings() == []


async def test_a_payout_that_cannot_be_ended_holds_up_no_other(bank: Bank, clock: ManualClock) -> None:
    await bank.deposited()
    await bank.deposited(FundAccount(citizen=CitizenId("bob")))
    await bank.requested(BOB, 100)
    clock.advance(DAY)
    payout = await bank.requested(ALICE, 200)
    # The book knows of no such hold.
    await bank.services.database.update_one(PAYOUTS.name, {"owner": BOBS}, {"$set": {"owner": "citizen:zoe"}})
    clock.current = payout.expires_at
    assert await bank.services.market.payouts.end_overdue() == 2
    assert await bank.services.market.payouts.end_overdue() == 1
    assert await bank.money(ALICES) == (10_000, 0)


async def test_what_the_bank_has_paid_outlasts_the_request(bank: Bank, clock: ManualClock) -> None:
    await bank.deposited()
    payout = await bank.settling()
    clock.advance(40 * DAY)
    await bank.services.expiry.expire_due(ALL_SHARDS)
    assert await bank.services.market.payouts.end_overdue() == 0
    paid = await bank.agreed(payout)
    assert (paid.stage, await bank.money()) == (PayoutStage.PAID, (7_000, 0))
    assert await bank.findings() == []


async def test_a_record_that_nobody_approves_within_a_year_ends_and_gives_its_reference_back(
    bank: Bank, clock: ManualClock
) -> None:
    await bank.deposited()
    payout = await bank.settling()
    clock.current = payout.expires_at
    assert await bank.services.market.payouts.end_overdue() == 1
    assert await bank.money() == (10_000, 0)
    assert await bank.services.database.count(REFERENCES.name, {"of": payout.id}) == 0
    assert await bank.findings() == []


async def test_by_another_servers_clock_a_hold_may_have_ended(bank: Bank, clock: ManualClock) -> None:
    await bank.deposited()
    payout, now = await bank.settling(), clock.now()
    clock.current = payout.expires_at
    await bank.services.ledger.post(adjustment(5))
    clock.current = now
    await bank.refused(bank.agreed(payout), HoldExpiredError)
    clock.current = payout.expires_at
    await bank.services.expiry.expire_due(ALL_SHARDS)
    clock.current = now
    await bank.refused(bank.agreed(payout), HoldNotActiveError)


async def test_a_page_full_of_holds_takes_no_payout(bank: Bank, clock: ManualClock) -> None:
    await bank.deposited()
    purse = account_of(ALICES, CNY)
    one = Posting(from_account=purse, to_account=EXCHANGE, asset=CNY, amount=1)
    holds = [
        Transaction(
            key=f"order-{number}", kind=TransactionKind.HOLD, postings=(one,), expires_at=clock.now() + number * DAY
        )
        for number in range(1, 201)
    ]
    await asyncio.gather(*map(bank.services.ledger.post, holds))
    await bank.refused(bank.requested(fen=10), TooManyHoldsError)


class LostError(Exception):
    """The process died."""


class Dying(Transactions):
    """Transactions of a process that dies: in the body, or after the commit before anybody hears of it."""

    def __init__(self, services: Services, *, after_commit: bool) -> None:
        super().__init__(services.database)
        self.after_commit = after_commit

    async def run(self, body: Callable[[Tx], Awaitable[Any]], **rest: Any) -> Any:
        async def dying(tx: Tx) -> Any:
            answer = await body(tx)
            if not self.after_commit:
                raise LostError
            return answer

        await super().run(dying, **rest)
        raise LostError


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_death_at_any_step_leaves_it_undone_or_done_and_asking_again_does_it_once(
    bank: Bank, *, after_commit: bool
) -> None:
    services = bank.services
    dying = Dying(services, after_commit=after_commit)
    parts: dict[str, Any] = {"ledger": services.ledger, "clock": services.clock, "zone": services.programme.zone}
    deposits = type(services.market.deposits)(
        database=services.database, transactions=dying, identity=services.identity, **parts
    )
    payouts = type(services.market.payouts)(
        database=services.database, transactions=dying, lookup_key=b"k" * 32, **parts
    )

    async def twice(ask: Callable[[Any], Awaitable[Any]], broken: Any, whole: Any) -> Any:
        before = await dump(services)
        with pytest.raises(LostError):
            await ask(broken)
        assert (await dump(services) == before) is not after_commit
        return await ask(whole)

    whole, order = services.market, bank.order()
    deposit = await twice(lambda door: door.propose(FAY, order, key="die-deposit"), deposits, whole.deposits)
    await twice(lambda door: door.approve(FRED, deposit.id, key="die-approve"), deposits, whole.deposits)
    asked = await twice(lambda door: door.request(ALICE, 3_000, ICBC, key="die-request"), payouts, _same_key(services))
    entry = bank.entry()
    await twice(lambda door: door.settle(FAY, asked.id, entry, key="die-settle"), payouts, whole.payouts)
    paid = await twice(
        lambda door: door.approve(FRED, asked.id, entry.reference, key="die-paying"), payouts, whole.payouts
    )
    assert (paid.stage, await bank.money()) == (PayoutStage.PAID, (7_000, 0))
    assert await bank.findings() == []


def _same_key(services: Services) -> Any:
    """The door to payouts with the key of the one that died."""
    return type(services.market.payouts)(
        database=services.database,
        transactions=Transactions(services.database),
        ledger=services.ledger,
        clock=services.clock,
        zone=services.programme.zone,
        lookup_key=b"k" * 32,
    )


async def test_a_payee_is_nowhere_in_the_database_and_finance_reads_it(bank: Bank) -> None:
    await bank.deposited()
    payout = await bank.requested()
    stored = repr(await dump(bank.services))
    assert "6222021234567890" not in stored.replace(" ", "")
    assert "王芳" not in repr(await bank.services.database.find(PAYOUTS.name, {}, limit=9))
    full = bank.services.market.payouts.reveal_payee(FAY, payout)
    assert full == Payee("王芳", "6222021234567890", "中国工商银行镇江分行")
    assert payout.masked == Payee("王**", "****7890", "中国工商银行镇江分行")


async def test_money_of_two_owners_does_not_mix(bank: Bank) -> None:
    await bank.deposited(fen=500)
    await bank.deposited(FundAccount(citizen=CitizenId("bob")), 700)
    await bank.paid(fen=500)
    payout = await bank.requested(BOB, 700)
    assert (await bank.money(ALICES), await bank.money(BOBS)) == ((0, 0), (700, 700))
    payouts = bank.services.market.payouts
    mine = await payouts.list_payouts(BOB, OwnerId("citizen:bob"), None, limit=9, older=None, newer=None, newest=True)
    assert [one.id for one in mine] == [payout.id]
