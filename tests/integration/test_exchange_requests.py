"""What owners ask of their orders: amendments and cancellations, in their turn, too late, or beyond their means."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.model import CommandOutcome, EndReason, OrderStatus
from tests.integration.trading_floor import KG, TradingFloor

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.market.exchange.model import Order
    from backend.runtime import Services

pytestmark = pytest.mark.anyio


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> TradingFloor:
    """A floor on which alice and bob have ten kilograms each, the steelworks and carol money."""
    floor = await TradingFloor(services, clock).open()
    for name in ("alice", "bob"):
        await floor.give_credits(name, 10 * KG)
    await floor.give_fen("@steelworks", 10_000)
    await floor.give_fen("carol", 1_000)
    return floor


async def test_amendments_that_cannot_be_paid_for_are_found_at_once(floor: TradingFloor) -> None:
    bids = [await floor.buy("carol", 1, 6_000 - number) for number in range(6)]
    ask = await floor.sell("alice", 1, 6_000)
    bids[0], ask = await floor.match(bids[0], ask)
    assert ask.status is OrderStatus.FILLED
    for bid in bids[1:]:
        await floor.amend(bid, price_fen=6_100, kg=150)
    await floor.sell("bob", 3, 6_100)
    bids = await floor.match(*bids)
    outcomes = [bid.last_command.outcome for bid in bids[1:] if bid.last_command]
    # The first could be paid for, and after it none.
    assert outcomes == [CommandOutcome.DONE] + [CommandOutcome.INSUFFICIENT_FUNDS] * 4
    assert bids[1].filled_g == 3 * KG
    assert await floor.findings() == []


async def test_amendments_exchange_what_is_held(floor: TradingFloor) -> None:
    first, second = await floor.buy("carol", 4, 6_000), await floor.buy("@steelworks", 4, 6_000)
    await floor.match()
    # Fewer grams at the same price keep their place; another price does not.
    first = await floor.amend(first, kg=2)
    [first] = await floor.match(first)
    assert (first.quantity_g, first.remaining_g, first.held, first.sequence) == (2 * KG, 2 * KG, 13, 1)
    assert first.last_command is not None
    assert first.last_command.outcome is CommandOutcome.DONE
    assert await floor.fen("carol") == (1_000, 987)
    await floor.sell("alice", 1, 6_000)
    first, second = await floor.match(first, second)
    assert (first.filled_g, second.filled_g) == (KG, 0)
    [first] = await floor.match(await floor.amend(first, price_fen=5_990, kg=100))
    assert (first.quantity_g, first.remaining_g, first.sequence) == (101 * KG, 100 * KG, 4)
    assert await floor.fen("carol") == (994, 994 - first.held)
    await floor.sell("alice", 1, 5_990)
    first, second = await floor.match(first, second)
    assert (first.filled_g, second.filled_g) == (KG, KG)
    assert await floor.findings() == []


async def test_an_amendment_for_which_funds_do_not_suffice_changes_nothing(floor: TradingFloor) -> None:
    bid = await floor.buy("carol", 4, 6_000)
    await floor.match()
    other = await floor.sell("alice", 1, 6_050)
    asked = await floor.amend(bid, price_fen=6_100, kg=200)
    assert (asked.command is not None, asked.price_fen) == (True, 6_000)
    bid, other = await floor.match(bid, other)
    assert bid.last_command is not None
    assert bid.last_command.outcome is CommandOutcome.INSUFFICIENT_FUNDS
    assert (bid.price_fen, bid.quantity_g, bid.status, other.filled_g) == (6_000, 4 * KG, OrderStatus.OPEN, 0)
    assert await floor.fen("carol") == (1_000, 1_000 - bid.held)
    assert await floor.findings() == []


async def test_an_amended_order_can_take_at_once(floor: TradingFloor) -> None:
    bid, _ = await floor.buy("carol", 4, 5_900), await floor.sell("alice", 3, 6_000)
    await floor.match()
    [bid] = await floor.match(await floor.amend(bid, price_fen=6_000))
    assert (bid.filled_g, bid.remaining_g, bid.status) == (3 * KG, KG, OrderStatus.OPEN)
    [trade] = await floor.trades()
    assert trade.taker_side is Side.BUY
    assert await floor.findings() == []


async def test_requests_on_orders_that_nobody_saw_yet(floor: TradingFloor) -> None:
    given_up, changed, dear = [await floor.buy("carol", 1, 6_000) for _ in range(3)]
    await floor.cancel(given_up)
    await floor.amend(changed, kg=2)
    await floor.amend(dear, kg=500)
    given_up, changed, dear = await floor.match(given_up, changed, dear)
    assert (given_up.status, given_up.reason, given_up.sequence) == (OrderStatus.CANCELLED, EndReason.BY_OWNER, 0)
    assert (changed.status, changed.quantity_g, changed.held) == (OrderStatus.OPEN, 2 * KG, 13)
    assert dear.last_command is not None
    assert (dear.status, dear.quantity_g, dear.last_command.outcome) == (
        OrderStatus.OPEN,
        KG,
        CommandOutcome.INSUFFICIENT_FUNDS,
    )
    assert await floor.findings() == []


async def test_a_cancellation_that_comes_too_late_gives_up_nothing(floor: TradingFloor) -> None:
    """The fill was queued before: in the same round the order is filled, then the request finds nothing left."""
    bid = await floor.buy("carol", 1, 6_000)
    await floor.match()
    await floor.sell("alice", 1, 6_000)
    await floor.cancel(bid)
    [bid] = await floor.match(bid)
    assert (bid.status, bid.reason, bid.queued_at, bid.command) == (OrderStatus.FILLED, None, None, None)
    refusal = await floor.refused(floor.cancel(bid))
    assert (refusal.code, refusal.status) == ("ORDER_CLOSED", "FILLED")


async def test_a_cancellation_replaces_an_amendment_that_waits(floor: TradingFloor) -> None:
    bid = await floor.buy("carol", 1, 6_000)
    await floor.match()
    await floor.amend(bid, kg=2)
    assert (await floor.refused(floor.amend(bid, kg=3))).code == "COMMAND_PENDING"
    await floor.cancel(bid)
    assert (await floor.refused(floor.cancel(bid))).code == "COMMAND_PENDING"
    [bid] = await floor.match(bid)
    assert (bid.status, bid.reason, bid.quantity_g) == (OrderStatus.CANCELLED, EndReason.BY_OWNER, KG)
    assert await floor.fen("carol") == (1_000, 1_000)
    assert await floor.findings() == []


async def test_amendments_beyond_somebodys_means_stop_nobody(floor: TradingFloor) -> None:
    """Twenty-five of them in one round, of one owner who has not a fen to spare."""
    await floor.give_fen("poor", 7 * 25)
    bids = [await floor.buy("poor", 1, 5_500) for _ in range(25)]
    await floor.match()
    _, free_fen = await floor.fen("poor")
    for bid in bids:
        await floor.amend(bid, kg=100)
    ask, bid = await floor.sell("alice", 5, 6_000), await floor.buy("@steelworks", 5, 6_000)
    ask, bid, *bids = await floor.match(ask, bid, *bids)
    assert (ask.status, bid.status) == (OrderStatus.FILLED, OrderStatus.FILLED)
    assert {one.last_command.outcome for one in bids if one.last_command} == {CommandOutcome.INSUFFICIENT_FUNDS}
    assert {(one.status, one.quantity_g, one.command) for one in bids} == {(OrderStatus.OPEN, KG, None)}
    assert (await floor.fen("poor"))[1] == free_fen
    assert await floor.findings() == []


async def test_another_limit_alone_does_not_open_again_what_was_filled_meanwhile(floor: TradingFloor) -> None:
    bid = await floor.buy("carol", 10, 6_000)
    await floor.match()
    await floor.sell("alice", 6, 6_000)
    [bid] = await floor.match(await floor.amend(bid, price_fen=6_010))
    assert (bid.quantity_g, bid.filled_g, bid.remaining_g, bid.price_fen) == (10 * KG, 6 * KG, 4 * KG, 6_010)
    [bid] = await floor.match(await floor.amend(bid, kg=1))
    assert (bid.quantity_g, bid.remaining_g, bid.price_fen) == (7 * KG, KG, 6_010)
    assert await floor.findings() == []


async def test_what_is_asked_while_a_round_is_written_waits_for_the_next(floor: TradingFloor) -> None:
    """The round itself is not thrown away: only the request is left to be done."""
    bid = await floor.buy("carol", 2, 6_000)
    asked: list[Order] = []

    async def ask_late(*_: Any) -> None:
        if not asked:
            asked.append(await floor.cancel(bid))

    matching = floor.services.market.exchange.matching
    decided: list[Any] = []
    found = matching._purses

    async def purses_late(*given: Any) -> Any:
        decided.append(given)
        await ask_late()
        return await found(*given)

    matching._purses = purses_late  # type: ignore[assignment, method-assign]
    taken = await matching._reads.take_fence(bid.instrument, "fence-of-this-test")
    assert await matching._round(bid.instrument, taken.holder) == (1, True)
    # One try; the order rests, and what was asked of it is queued still.
    assert len(decided) == 1
    seen = await floor.now(bid)
    assert (seen.status, seen.sequence, seen.command is not None) == (OrderStatus.OPEN, 1, True)
    assert await floor.findings() == []
    [seen] = await floor.match(bid)
    assert (seen.status, seen.reason, seen.queued_at) == (OrderStatus.CANCELLED, EndReason.BY_OWNER, None)
    assert await floor.findings() == []


async def test_what_became_of_an_amendment_is_told_though_the_order_ends_in_the_same_round(floor: TradingFloor) -> None:
    until = floor.clock.now() + timedelta(minutes=30)
    ask = await floor.sell("alice", 1, 5_900, time_in_force=TimeInForce.GTD, good_until=until)
    await floor.match()
    await floor.amend(ask, kg=900)
    floor.wait(hours=1)
    [ask] = await floor.match(ask)
    assert (ask.status, ask.reason) == (OrderStatus.CANCELLED, EndReason.EXPIRED)
    assert ask.last_command is not None
    assert ask.last_command.outcome is CommandOutcome.INSUFFICIENT_FUNDS
    assert await floor.findings() == []


async def test_who_would_have_met_an_order_whose_hold_is_over_keeps_theirs(floor: TradingFloor) -> None:
    until = floor.clock.now() + timedelta(minutes=30)
    ask = await floor.sell("alice", 1, 5_900, time_in_force=TimeInForce.GTD, good_until=until)
    await floor.match()
    await floor.amend(ask, kg=2)
    bid = await floor.buy("carol", 1, 5_900)
    floor.wait(days=3)
    bid, ask = await floor.match(bid, ask)
    assert (ask.status, ask.reason) == (OrderStatus.CANCELLED, EndReason.HOLD_LOST)
    assert (bid.status, bid.held, await floor.trades()) == (OrderStatus.OPEN, 7, [])
    assert await floor.findings() == []
