"""Settlement by several workers at once, and with a crash between any two steps: the same statements, nothing twice."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from backend.mongo.transactions import Transactions
from backend.rewards.settlement.errors import (
    WrongStatementStageError,
)
from backend.rewards.settlement.model import (
    StatementStage,
    statement_id,
)
from tests.conftest import dump
from tests.factories import replay
from tests.integration.selling import (
    APPROVER,
    BEGIN,
    DAY,
    HOUR,
    MAKER,
    PAYER,
    REST,
    TEA,
    WEEK_END,
    Market,
    give_back,
    move_to,
    open_market,
    register,
    sell,
)

if TYPE_CHECKING:
    from datetime import datetime

    from backend.ledger.model import Asset
    from backend.rewards.merchants.model import MerchantId
    from backend.rewards.settlement.service import Settlement
    from backend.runtime import Services

READY = StatementStage.READY
APPROVED = StatementStage.APPROVED
PAID = StatementStage.PAID
FIRST = statement_id(TEA, 1)


@pytest.fixture
async def market(services: Services) -> Market:
    """A market at the beginning of a week."""
    return await open_market(services)


async def test_two_workers_at_once_make_each_statement_once(market: Market) -> None:
    services = market.services
    names = [await register(services, f"m{number}") for number in range(6)]
    for name in names:
        for week in range(3):
            await sell(services, name, at=BEGIN + week * 7 * DAY + HOUR)
    move_to(services, BEGIN + 21 * DAY + REST)
    made = await asyncio.gather(*(market.settling().close_due() for _ in range(4)))
    assert sum(made) == 18
    found = [one for name in names for one in await market.statements(name)]
    assert [(one.merchant, one.number, one.stage) for one in found] == [
        (name, number, READY) for name in names for number in (1, 2, 3)
    ]
    assert market.events() == [(name, number, "REGULAR") for name in names for number in (1, 2, 3)]


async def test_approvals_at_once_post_once(market: Market) -> None:
    services = market.services
    await register(services)
    await sell(services, TEA, 100, 70, at=BEGIN)
    await market.close_at(WEEK_END + REST)
    outcomes = await asyncio.gather(
        *(market.approve(FIRST, key=f"approve-{number}") for number in range(6)), return_exceptions=True
    )
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, WrongStatementStageError) for outcome in outcomes) == 5
    assert (await market.balances())["merchant:tea:cny"] == 69


class Interrupted:
    """The book, in whose first sum somebody approves the first statement."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._ledger = market.services.ledger
        self.approvals = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def merchant_balance(self, merchant: str, asset: Asset, *, until: datetime | None) -> int:
        """The balance before the approval, which everything read later has seen."""
        balance = await self._ledger.merchant_balance(merchant, asset, until=until)
        if not self.approvals:
            self.approvals += 1
            await self._market.approve(FIRST)
        return balance


async def test_an_approval_while_the_next_statement_is_compared_makes_it_compare_again(market: Market) -> None:
    services = market.services
    await register(services)
    for week in range(2):
        await sell(services, TEA, at=BEGIN + week * 7 * DAY)
        move_to(services, BEGIN + (week + 1) * 7 * DAY + REST)
        book = Interrupted(market) if week else services.ledger
        await market.settling(ledger=book).close_due()
    assert [one.stage for one in await market.statements()] == [APPROVED, READY]
    assert [one.difference.is_nothing for one in await market.statements()] == [True, True]


async def test_an_approval_while_a_correction_is_compared_makes_it_compare_again(market: Market) -> None:
    await register(market.services)
    await sell(market.services, TEA, at=BEGIN)
    await market.close_at(WEEK_END + REST)
    made = await market.settling(ledger=Interrupted(market)).correct(MAKER, FIRST, 5, "x", key="correct-1")
    assert (made.number, made.stage, made.difference.is_nothing) == (2, READY, True)
    assert [one.stage for one in await market.statements()] == [APPROVED, READY]


async def test_one_merchants_trouble_does_not_hold_up_the_others(market: Market) -> None:
    services = market.services
    for name in ("a", "b", "c"):
        await sell(services, await register(services, name), at=BEGIN)
    move_to(services, WEEK_END + REST)

    class Book:
        def __getattr__(self, name: str) -> Any:
            return getattr(services.ledger, name)

        def stream_merchant(self, merchant: str, **span: Any) -> Any:
            if merchant == "b":
                raise CrashError
            return services.ledger.stream_merchant(merchant, **span)

    with pytest.raises(CrashError):
        await market.settling(ledger=Book()).close_due()
    found = await market.settlement.list_statements(MAKER, limit=9)
    assert {one.merchant for one in found} == {"a", "c"}
    assert await market.settlement.close_due() == 1
    assert dataclasses.replace(found[0], made_at=found[0].made_at) in await market.settlement.list_statements(
        MAKER, limit=9
    )


class CrashError(Exception):
    """The process died there."""


class Failing:
    """A collaborator of which the n-th awaited call of all fails: before it takes effect, or after."""

    def __init__(self, inner: Any, calls: itertools.count[int], at: int, *, after: bool) -> None:
        self._inner, self._calls, self._at, self._after = inner, calls, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        async def called(*given: Any, **named: Any) -> Any:
            doomed = next(self._calls) == self._at
            if doomed and not self._after:
                raise CrashError
            outcome = await found(*given, **named)
            if doomed:
                raise CrashError
            return outcome

        def streamed(*given: Any, **named: Any) -> Any:
            if next(self._calls) == self._at:
                raise CrashError
            return found(*given, **named)

        return streamed if name.startswith("stream") else called


class FailingTransactions:
    """Transactions that fail as a whole, or within: at any call of their body on the database."""

    def __init__(self, services: Services, calls: itertools.count[int], at: int, *, after: bool) -> None:
        self._inner = Transactions(services.database)
        self._wrap = lambda inner: Failing(inner, calls, at, after=after)

    async def run(self, body: Any) -> Any:
        """Run the body on a transaction that fails."""
        return await self._wrap(self._inner).run(lambda tx: body(self._wrap(tx)))


async def _run(market: Market, settlement: Settlement, merchant: MerchantId) -> None:
    """Close, approve and pay whatever there is."""
    await settlement.close_due()
    for one in await market.statements(merchant):
        if one.stage is READY:
            await settlement.approve(APPROVER, one.id, key=f"approve-{one.id}")
    for one in await market.statements(merchant):
        if one.stage is APPROVED:
            await settlement.pay(PAYER, one.id, "x", key=f"pay-{one.id}")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_between_any_two_steps_leaves_the_same_statements(market: Market, *, after: bool) -> None:
    services = market.services
    crashes = 0
    for step in itertools.count(1):
        merchant = await register(services, f"m{step}")
        move_to(services, BEGIN)
        tea = await sell(services, merchant, 100, 70, at=BEGIN)
        await sell(services, merchant, 50, 35, at=BEGIN + 7 * DAY)
        await give_back(services, tea, at=BEGIN + 8 * DAY)
        move_to(services, BEGIN + 14 * DAY + REST)
        calls = itertools.count(1)
        doomed = market.settling(
            database=Failing(services.database, calls, step, after=after),
            ledger=Failing(services.ledger, calls, step, after=after),
            merchants=Failing(services.rewards.merchants, calls, step, after=after),
            transactions=FailingTransactions(services, calls, step, after=after),
        )
        try:
            await _run(market, doomed, merchant)
        except CrashError:
            crashes += 1
        await _run(market, market.settlement, merchant)
        assert [(one.number, one.stage, one.net_fen, one.payable_fen) for one in await market.statements(merchant)] == [
            (1, PAID, 69, 69),
            (2, PAID, -35, 0),
        ]
        if crashes < step:
            break
    assert crashes > 60
    kinds = [document["kind"] for document in (await dump(services))["ledger_transactions"]]
    assert (kinds.count("SETTLE"), kinds.count("PAYOUT")) == (2 * (crashes + 1), crashes + 1)
    assert (await replay(services)).findings == []
    move_to(services, services.clock.now() + HOUR)
    await market.relay().drain()
    # Told at least once each.
    assert set(market.events()) == {(f"m{n}", number, "REGULAR") for n in range(1, crashes + 2) for number in (1, 2)}
