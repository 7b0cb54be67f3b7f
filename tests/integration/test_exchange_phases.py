"""Call auctions, staff's auctions, halts, extra sessions, and the first moment of a new day."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import BusyError
from backend.ledger.model import credit_asset
from backend.market.exchange.errors import (
    AlreadyListedError,
    BelowFloorError,
    LimitOnlyError,
    MarketClosedError,
    MarketHaltedError,
    NotHaltedError,
    NotIssuedError,
    SelfTradeError,
    UnknownInstrumentError,
)
from backend.market.exchange.model import CommandOutcome, EndReason, OrderStatus
from tests.factories import ADMIN
from tests.floor import CREDIT
from tests.integration.trading_floor import FOK, IOC, KG, TradingFloor

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.market.exchange.desk import MarketDesk
    from backend.runtime import Services

pytestmark = pytest.mark.anyio


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> TradingFloor:
    """A floor on which alice and bob have a hundred kilograms each, the steelworks and carol money."""
    floor = await TradingFloor(services, clock).open()
    for name in ("alice", "bob"):
        await floor.give_credits(name, 100 * KG)
    await floor.give_fen("@steelworks", 10_000)
    await floor.give_fen("carol", 1_000)
    return floor


def at(floor: TradingFloor, hour: int, minute: int = 0, days: int = 0) -> datetime:
    """That local time of the floor's day, or of a later one."""
    zone = floor.services.programme.zone
    day = datetime(2026, 11, 2, tzinfo=zone) + timedelta(days=days)
    return day.replace(hour=hour, minute=minute)


def desk(floor: TradingFloor) -> MarketDesk:
    """The administrators' door."""
    return floor.services.market.exchange.desk


async def test_orders_of_the_call_are_executed_together_at_one_price(floor: TradingFloor) -> None:
    floor.clock.current = at(floor, 9, 15)
    asks = [await floor.sell(name, kg, price) for name, kg, price in (("alice", 30, 5_900), ("bob", 30, 6_000))]
    bids = [await floor.buy(name, kg, price) for name, kg, price in (("carol", 20, 6_200), ("@steelworks", 60, 6_050))]
    asks_seen = await floor.match(*asks)
    assert [order.status for order in asks_seen] == [OrderStatus.OPEN] * 2
    assert await floor.trades() == []
    assert await floor.findings() == []
    for refused, tif in ((LimitOnlyError, IOC), (LimitOnlyError, FOK)):
        with pytest.raises(refused):
            await floor.buy("carol", 1, 6_000, time_in_force=tif)
    with pytest.raises(LimitOnlyError):
        await floor.buy("carol", 1, None)
    # At its end nobody nudges: the sweep executes it.
    floor.clock.current = at(floor, 9, 25)
    await floor.services.market.exchange.matching.sweep()
    # 60 kg can be exchanged from 6,000 to 6,050; twenty more are asked for, so the highest of these prices.
    assert [(price, kg) for price, kg, _ in await floor.fills()] == [(6_050, 20), (6_050, 10), (6_050, 30)]
    trades = await floor.trades()
    assert {trade.taker_side for trade in trades} == {None}
    # The maker's fee for both sides: nothing.
    assert sum(trade.buyer_fee_fen + trade.seller_fee_fen for trade in trades) == 0
    left = await floor.match(*asks, *bids)
    assert [order.remaining_g for order in left] == [0, 0, 0, 20 * KG]
    assert (await floor.instrument()).collecting is None
    assert await floor.findings() == []


async def test_what_was_placed_in_the_call_is_in_the_auction_however_late_the_matcher_is(floor: TradingFloor) -> None:
    floor.clock.current = at(floor, 9, 24)
    await floor.sell("alice", 10, 5_900)
    await floor.buy("carol", 10, 6_100)
    floor.clock.current = at(floor, 9, 31)
    await floor.buy("@steelworks", 1, 6_000)
    await floor.match()
    # At once: the auction at the reference, in the middle of both limits; then what came after it finds nothing.
    assert await floor.fills() == [(6_000, 10, 60)]
    [trade] = await floor.trades()
    assert trade.taker_side is None
    assert await floor.findings() == []


async def test_nobody_crosses_themselves_in_a_call(floor: TradingFloor) -> None:
    floor.clock.current = at(floor, 9, 16)
    await floor.give_credits("carol", 5 * KG)
    bid = await floor.buy("carol", 1, 6_000)
    with pytest.raises(SelfTradeError) as refusal:
        await floor.sell("carol", 1, 5_990)
    assert refusal.value.order == bid.id
    ask = await floor.sell("carol", 1, 6_010)
    await floor.match()
    [ask] = await floor.match(await floor.amend(ask, price_fen=6_000))
    assert ask.last_command is not None
    assert (ask.price_fen, ask.last_command.outcome) == (6_010, CommandOutcome.SELF_TRADE)
    assert await floor.findings() == []


async def test_an_auction_of_staff_has_a_floor_and_takes_nothing_back(floor: TradingFloor) -> None:
    floor.clock.current = at(floor, 16)
    until = at(floor, 17)
    with pytest.raises(MarketClosedError):
        await floor.buy("carol", 1, 6_000)
    opened = await desk(floor).open_auction(ADMIN, CREDIT, until, floor_fen=5_800, irrevocable=True, key="auction-0001")
    assert opened == await desk(floor).open_auction(
        ADMIN, CREDIT, until, floor_fen=5_800, irrevocable=True, key="auction-0001"
    )
    with pytest.raises(BelowFloorError):
        await floor.buy("carol", 1, 5_799)
    bids = [await floor.buy(name, kg, price) for name, kg, price in (("carol", 20, 5_900), ("@steelworks", 30, 5_850))]
    ask = await floor.sell("alice", 40, 5_800)
    assert {(await floor.refused(call)).code for call in (floor.cancel(ask), floor.amend(bids[0], kg=1))} == {
        "IRREVOCABLE"
    }
    await floor.match()
    # Staff may take out whatever they must.
    bid = await floor.buy("carol", 1, 6_000)
    [bid] = await floor.match(await floor.cancel(bid, by=ADMIN))
    assert bid.reason is EndReason.BY_STAFF
    floor.clock.current = until
    await floor.services.market.exchange.matching.sweep()
    assert [(price, kg) for price, kg, _ in await floor.fills()] == [(5_850, 20), (5_850, 20)]
    assert await floor.findings() == []


async def test_an_auction_begins_once_the_one_before_it_is_executed(floor: TradingFloor) -> None:
    """A matcher that looked at nothing of the first must still find out that its orders were collected."""
    floor.clock.current = at(floor, 16)
    until = at(floor, 17)
    given: dict[str, Any] = {"floor_fen": None, "irrevocable": False}
    await desk(floor).open_auction(ADMIN, CREDIT, until, **given, key="auction-0001")
    for name, price in (("carol", 6_020), ("@steelworks", 6_010)):
        await floor.buy(name, 10, price)
    await floor.sell("alice", 20, 6_000)
    floor.clock.current = until
    before = await floor.instrument()
    with pytest.raises(BusyError):
        await desk(floor).open_auction(ADMIN, CREDIT, at(floor, 18), **given, key="auction-0002")
    assert await floor.instrument() == before
    await floor.services.market.exchange.matching.sweep()
    await desk(floor).open_auction(ADMIN, CREDIT, at(floor, 18), **given, key="auction-0002")
    assert len({price for price, _, _ in await floor.fills()}) == 1
    assert await floor.findings() == []


async def test_a_floor_above_all_bids_sells_nothing(floor: TradingFloor) -> None:
    bid = await floor.buy("carol", 1, 5_500)
    await floor.match()
    await desk(floor).open_auction(ADMIN, CREDIT, at(floor, 11), floor_fen=6_000, irrevocable=False, key="auction-0001")
    ask = await floor.sell("alice", 1, 6_000)
    await floor.match()
    floor.clock.current = at(floor, 11)
    bid, ask = await floor.match(bid, ask)
    assert (bid.status, ask.status, await floor.trades()) == (OrderStatus.OPEN, OrderStatus.OPEN, [])
    assert await floor.findings() == []


async def test_a_halt_stops_all_but_cancellations_and_ends(floor: TradingFloor) -> None:
    ask = await floor.sell("alice", 1, 6_000)
    [ask] = await floor.match(ask)
    seen_before, short = await floor.buy("carol", 1, 6_000), await floor.buy("carol", 1, None)
    given_up = await floor.buy("carol", 1, 6_000)
    await desk(floor).halt(ADMIN, CREDIT, "价格异常", key="halt-0001")
    with pytest.raises(MarketHaltedError) as refusal:
        await floor.buy("carol", 1, 6_000)
    assert refusal.value.reason == "价格异常"
    assert (await floor.refused(floor.amend(ask, kg=2))).code == "MARKET_HALTED"
    with pytest.raises(MarketHaltedError):
        await desk(floor).halt(ADMIN, CREDIT, "again", key="halt-0002")
    with pytest.raises(MarketHaltedError):
        await desk(floor).open_session(ADMIN, CREDIT, at(floor, 20), key="session-0001")
    await floor.cancel(given_up)
    seen_before, given_up = await floor.match(seen_before, given_up)
    assert (seen_before.status, given_up.reason) == (OrderStatus.PENDING, EndReason.BY_OWNER)
    floor.wait(minutes=6)
    [short] = await floor.match(short)
    assert short.reason is EndReason.EXPIRED
    assert await floor.findings() == []
    await desk(floor).resume(ADMIN, CREDIT, key="resume-0001")
    with pytest.raises(NotHaltedError):
        await desk(floor).resume(ADMIN, CREDIT, key="resume-0002")
    seen_before, ask = await floor.match(seen_before, ask)
    assert (seen_before.status, ask.status) == (OrderStatus.FILLED, OrderStatus.FILLED)
    assert await floor.findings() == []


async def test_an_auction_that_ends_in_a_halt_is_executed_when_trading_is_resumed(floor: TradingFloor) -> None:
    floor.clock.current = at(floor, 9, 16)
    await floor.sell("alice", 1, 6_000)
    await floor.buy("carol", 1, 6_000)
    await floor.match()
    await desk(floor).halt(ADMIN, CREDIT, "检查", key="halt-0001")
    floor.clock.current = at(floor, 9, 40)
    assert await floor.services.market.exchange.matching.sweep() == 0
    assert await floor.trades() == []
    await desk(floor).resume(ADMIN, CREDIT, key="resume-0001")
    await floor.services.market.exchange.matching.sweep()
    assert await floor.fills() == [(6_000, 1, 6)]
    assert await floor.findings() == []


async def test_an_extra_session_trades_outside_the_hours(floor: TradingFloor) -> None:
    floor.clock.current = at(floor, 20, days=5)
    with pytest.raises(MarketClosedError):
        await floor.sell("alice", 1, 6_000)
    await desk(floor).open_session(ADMIN, CREDIT, at(floor, 21, days=5), key="session-0001")
    await floor.sell("alice", 1, 6_000)
    await floor.buy("carol", 1, 6_000)
    await floor.match()
    assert await floor.fills() == [(6_000, 1, 6)]
    floor.clock.current = at(floor, 21, days=5)
    with pytest.raises(MarketClosedError):
        await floor.sell("alice", 1, 6_000)


async def test_a_new_day_has_a_new_reference_and_what_is_too_far_from_it_is_given_up(floor: TradingFloor) -> None:
    far, near = await floor.sell("alice", 1, 6_600), await floor.sell("alice", 1, 5_500)
    await floor.match()
    await floor.buy("carol", 1, 5_500)
    await floor.match()
    data = floor.services.market.exchange.data
    assert data.reference_of(await floor.instrument()) == 6_000
    floor.clock.current = at(floor, 9, 30, days=1)
    # Before the matcher has been there the reference is known already.
    assert data.reference_of(await floor.instrument()) == 5_500
    assert (await floor.refused(floor.buy("carol", 1, 6_100))).code == "OUTSIDE_BAND"
    await floor.services.market.exchange.matching.sweep()
    far, near = await floor.now(far), await floor.now(near)
    assert (far.status, far.reason, near.status) == (
        OrderStatus.CANCELLED,
        EndReason.OUTSIDE_BAND,
        OrderStatus.FILLED,
    )
    instrument = await floor.instrument()
    assert (instrument.reference_fen, instrument.day.isoformat()) == (5_500, "2026-11-03")
    assert await floor.findings() == []


async def test_only_what_is_issued_is_listed_and_once(floor: TradingFloor) -> None:
    with pytest.raises(NotIssuedError):
        await desk(floor).list_instrument(ADMIN, credit_asset("none"), 6_000, key="list-0001")
    with pytest.raises(AlreadyListedError):
        await desk(floor).list_instrument(ADMIN, CREDIT, 6_000, key="list-0002")
    with pytest.raises(UnknownInstrumentError):
        await desk(floor).halt(ADMIN, credit_asset("none"), "x", key="halt-0001")
    with pytest.raises(UnknownInstrumentError):
        await floor.buy("carol", 1, 6_000, instrument=credit_asset("none"))
