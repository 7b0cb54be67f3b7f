"""Rounds with room for little: what begins in one goes on in the next before anything else, and comes to the same."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.kernel.errors import UnavailableError
from backend.ledger.model import credit_asset
from backend.market.exchange.matching import Size
from backend.market.exchange.model import EndReason, OrderStatus
from backend.market.serials.store import SerialSheet, TooManyRangesError
from backend.mongo.transactions import Transactions
from tests.factories import ADMIN
from tests.floor import CREDIT, give_credits
from tests.integration.test_exchange_matchers import another_process
from tests.integration.trading_floor import FOK, GTC, GTD, KG, TradingFloor, owner_named

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.market.exchange.matching import Matching
    from backend.market.exchange.model import Order
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

pytestmark = pytest.mark.anyio

SELLERS = ("alice", "bob", "dora")


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> TradingFloor:
    """A floor whose rounds have room for three moves and two ranges of serials."""
    floor = await TradingFloor(services, clock).open()
    for name in SELLERS:
        await floor.give_credits(name, 10 * KG)
    await floor.give_fen("@steelworks", 10_000)
    await floor.give_fen("carol", 1_000)
    matching_of(floor).size = Size(orders=4, moves=3, ranges=9)
    return floor


def matching_of(floor: TradingFloor) -> Matching:
    """The floor's matcher."""
    return floor.services.market.exchange.matching


async def one_round(floor: TradingFloor) -> tuple[int, bool]:
    """A single round, by a matcher that knows nothing from before."""
    matching = another_process(floor.services).matching
    matching.size = matching_of(floor).size
    taken = await matching._reads.take_fence(CREDIT, f"fence-{floor.key()}")
    return await matching._round(CREDIT, taken.holder)


async def offers(floor: TradingFloor, count: int) -> list[Order]:
    """Offers of a kilogram each at 6,000, which rest."""
    made = [await floor.sell(SELLERS[number % len(SELLERS)], 1, 6_000) for number in range(count)]
    return await floor.match(*made)


@pytest.mark.parametrize("force", [GTC, FOK])
async def test_a_large_order_is_filled_over_rounds_and_nobody_comes_between(floor: TradingFloor, force: Any) -> None:
    asks = await offers(floor, 8)
    bid = await floor.buy("@steelworks", 8, 6_000, time_in_force=force)
    # It would take the last offer if it came between; and the owner of that offer would like it back.
    other = await floor.buy("carol", 1, 6_000)
    await floor.cancel(asks[-1])
    assert await one_round(floor) == (1, False)
    begun = await floor.now(bid)
    assert (begun.status, begun.filled_g, begun.queued_at) == (OrderStatus.PENDING, 3 * KG, bid.queued_at)
    assert (await floor.instrument()).taking == bid.id
    assert await floor.findings() == []
    # A halt and a request on the order itself come after what has begun.
    await floor.cancel(bid)
    await floor.services.market.exchange.desk.halt(ADMIN, CREDIT, "检查", key=floor.key())
    await one_round(floor)
    assert (await floor.now(bid)).filled_g == 6 * KG
    [bid, last, other] = await floor.match(bid, asks[-1], other)
    assert (bid.status, bid.filled_g, bid.command, bid.queued_at) == (OrderStatus.FILLED, 8 * KG, None, None)
    assert (last.status, other.status) == (OrderStatus.FILLED, OrderStatus.PENDING)
    assert (await floor.instrument()).taking is None
    assert [(price, kg) for price, kg, _ in await floor.fills()] == [(6_000, 1)] * 8
    assert await floor.findings() == []


async def test_an_amended_order_that_takes_much_goes_on_too_and_a_request_waits(floor: TradingFloor) -> None:
    await offers(floor, 6)
    bid = await floor.buy("@steelworks", 8, 5_900)
    await floor.match()
    await floor.amend(bid, price_fen=6_000)
    # Its old hold, its new hold, one fill.
    assert await one_round(floor) == (1, False)
    begun = await floor.now(bid)
    assert (begun.status, begun.filled_g, begun.price_fen, begun.command) == (OrderStatus.PENDING, KG, 6_000, None)
    await floor.cancel(bid)
    assert await floor.findings() == []
    [bid] = await floor.match(bid)
    assert (bid.status, bid.filled_g, bid.reason) == (OrderStatus.CANCELLED, 6 * KG, EndReason.BY_OWNER)
    assert await floor.findings() == []


async def test_an_auction_is_executed_over_rounds_at_its_price(floor: TradingFloor) -> None:
    desk, until = floor.services.market.exchange.desk, floor.clock.now() + timedelta(minutes=10)
    await desk.open_auction(ADMIN, CREDIT, until, floor_fen=5_900, irrevocable=True, key=floor.key())
    for number in range(8):
        await floor.sell(SELLERS[number % 3], 1, 5_900 + number)
    bid = await floor.buy("@steelworks", 8, 6_000)
    await floor.match()
    floor.clock.current = until
    late = await floor.sell("alice", 1, 5_900)
    assert await one_round(floor) == (0, False)
    collecting = (await floor.instrument()).collecting
    assert collecting is not None
    assert (collecting.price_fen, len(await floor.trades())) == (6_000, 3)
    assert await floor.findings() == []
    await desk.halt(ADMIN, CREDIT, "检查", key=floor.key())
    await matching_of(floor).sweep()
    bid, late = await floor.now(bid), await floor.now(late)
    assert (bid.status, late.status) == (OrderStatus.FILLED, OrderStatus.PENDING)
    assert [(price, kg) for price, kg, _ in await floor.fills()] == [(6_000, 1)] * 8
    assert (await floor.instrument()).collecting is None
    assert await floor.findings() == []


async def test_a_fill_of_many_ranges_is_several(floor: TradingFloor) -> None:
    """Alice's serials lie in twenty ranges; nine go into a round."""
    for _ in range(20):
        await floor.give_credits("alice", KG)
        await floor.give_credits("bob", KG)
    await floor.sell("alice", 30, 6_000)
    bid = await floor.buy("@steelworks", 30, 6_000)
    [bid] = await floor.match(bid)
    # The first range is of eleven kilograms.
    assert (bid.status, bid.filled_g) == (OrderStatus.FILLED, 30 * KG)
    trades = await floor.trades()
    assert [trade.quantity_g for trade in trades] == [18 * KG, 9 * KG, 3 * KG]
    assert max(len(trade.serials) for trade in trades) == 9
    assert sum(trade.value_fen for trade in trades) == 180
    assert await floor.findings() == []


async def test_what_ends_with_a_day_and_a_backlog_are_worked_off_in_parts(floor: TradingFloor) -> None:
    asks = await offers(floor, 5)
    far = [await floor.sell("dora", 1, 6_600) for _ in range(5)]
    await floor.match()
    await floor.buy("carol", 1, 6_000)
    await floor.match()
    await floor.services.database.update_one(
        "market_instruments", {"_id": CREDIT}, {"$set": {"last_fen": Int64(5_500)}}
    )
    floor.clock.current += timedelta(days=1)
    await matching_of(floor).sweep()
    assert {(await floor.now(order)).reason for order in far} == {EndReason.OUTSIDE_BAND}
    assert {(await floor.now(order)).status for order in asks[1:]} == {OrderStatus.OPEN}


async def test_a_round_that_the_server_does_not_take_is_made_smaller(floor: TradingFloor) -> None:
    matching = matching_of(floor)
    matching.size = Size(orders=64, moves=64, ranges=64)
    write, tried = matching._write, list[int]()

    async def weak(before: Any, planned: Any, size: Size) -> Any:
        tried.append(len(planned.moves))
        if len(planned.moves) > 4:
            raise UnavailableError
        return await write(before, planned, size)

    matching._write = weak  # type: ignore[method-assign]
    asks = [await floor.sell(SELLERS[number % 3], 1, 6_000) for number in range(12)]
    bid = await floor.buy("@steelworks", 12, 6_000)
    [bid, *asks] = await floor.match(bid, *asks)
    assert (bid.status, {ask.status for ask in asks}) == (OrderStatus.FILLED, {OrderStatus.FILLED})
    assert max(tried) > 4
    assert await floor.findings() == []


async def test_what_goes_wrong_in_one_instrument_keeps_no_other_from_being_matched(floor: TradingFloor) -> None:
    other = credit_asset("a-batch-before")
    await give_credits(floor.services, owner_named("alice"), 10 * KG, first=1, batch="a-batch-before")
    await floor.services.market.exchange.desk.list_instrument(ADMIN, other, 6_000, key=floor.key())
    ask, spoilt = await floor.sell("alice", 1, 6_000), await floor.sell("alice", 1, 6_000, instrument=other)
    matching, found = matching_of(floor), matching_of(floor)._match

    async def wedged(instrument: Any) -> int:
        if instrument == other:
            raise ValueError("wedged")
        return await found(instrument)

    matching._match = wedged  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="wedged"):
        await matching.sweep()
    assert ((await floor.now(ask)).status, (await floor.now(spoilt)).status) == (OrderStatus.OPEN, OrderStatus.PENDING)


async def test_what_met_before_it_ended_is_exchanged_however_late_the_matcher_is(floor: TradingFloor) -> None:
    until = floor.clock.now() + timedelta(seconds=30)
    ask = await floor.sell("alice", 5, 6_000, time_in_force=GTD, good_until=until)
    await floor.match()
    bid = await floor.buy("@steelworks", 3, 6_000)
    floor.clock.current = until
    later = await floor.buy("carol", 2, 6_000)
    floor.wait(minutes=1)
    ask, bid, later = await floor.match(ask, bid, later)
    assert (ask.filled_g, ask.reason, bid.status) == (3 * KG, EndReason.EXPIRED, OrderStatus.FILLED)
    assert (later.status, later.filled_g) == (OrderStatus.OPEN, 0)
    assert await floor.findings() == []


async def test_no_order_of_an_irrevocable_auction_ends_before_it(floor: TradingFloor) -> None:
    desk, until = floor.services.market.exchange.desk, floor.clock.now() + timedelta(minutes=10)
    await desk.open_auction(ADMIN, CREDIT, until, floor_fen=None, irrevocable=True, key=floor.key())
    early = floor.buy("carol", 1, 6_000, time_in_force=GTD, good_until=until - timedelta(milliseconds=1))
    assert (await floor.refused(early)).code == "INVALID_INPUT"
    assert await floor.fen("carol") == (1_000, 1_000)
    bids = [
        await floor.buy("carol", 1, 6_000, time_in_force=GTD, good_until=until + timedelta(milliseconds=late))
        for late in (0, 300)
    ]
    await floor.sell("alice", 2, 6_000)
    floor.clock.current = until + timedelta(milliseconds=700)
    bids = await floor.match(*bids)
    assert [bid.status for bid in bids] == [OrderStatus.FILLED] * 2
    assert await floor.findings() == []


async def test_an_order_queued_before_an_auction_opened_with_a_floor_above_it_is_given_up(floor: TradingFloor) -> None:
    desk, until = floor.services.market.exchange.desk, floor.clock.now() + timedelta(minutes=10)
    [ask] = await floor.match(await floor.sell("alice", 5, 6_000))
    await desk.open_auction(ADMIN, CREDIT, until, floor_fen=6_300, irrevocable=False, key=floor.key())
    bid = await floor.buy("@steelworks", 5, 6_300)
    # As if another process had accepted it without knowing of the auction.
    change = {"$set": {"price_fen": Int64(ask.price_fen)}}
    await floor.services.database.update_one("market_orders", {"_id": bid.id}, change)
    bid, ask = await floor.match(bid, ask)
    assert (bid.status, bid.reason, ask.status) == (OrderStatus.CANCELLED, EndReason.BELOW_FLOOR, OrderStatus.OPEN)
    floor.clock.current = until
    [ask] = await floor.match(ask)
    assert ((await floor.instrument()).collecting, ask.status) == (None, OrderStatus.OPEN)


async def test_every_instrument_is_swept(floor: TradingFloor) -> None:
    raw = floor.services.database.raw["market_instruments"]
    ask = await floor.sell("alice", 1, 6_000)
    listed = await raw.find_one({"_id": CREDIT})
    assert listed is not None
    await raw.insert_many([{**listed, "_id": f"credit:a{number:05}"} for number in range(1_000)])
    reads = matching_of(floor)._reads
    assert len(await reads.list_instruments()) == 1_001
    assert (await floor.now(ask)).status is OrderStatus.PENDING


async def test_a_sheet_with_room_for_few_ranges_tells_how_much_it_could_move(floor: TradingFloor) -> None:
    for _ in range(3):
        await floor.give_credits("alice", KG)
        await floor.give_credits("bob", KG)
    alice, carol = owner_named("alice"), owner_named("carol")

    async def body(tx: Tx) -> int:
        serials = SerialSheet(tx, 2)
        await serials.move(CREDIT, 4 * KG, alice, carol)
        with pytest.raises(TooManyRangesError) as refusal:
            await serials.move(CREDIT, 8 * KG, alice, carol)
        # What was refused moved nothing; what had room does.
        await serials.move(CREDIT, refusal.value.grams, alice, carol)
        return refusal.value.grams

    # The first range has six kilograms left.
    assert await Transactions(floor.services.database).run(body) == 6 * KG
