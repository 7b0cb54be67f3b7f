"""The life of orders through the doors and the matcher: what fills, what it costs, what becomes of the rest."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from bson import Int64

from backend.kernel.errors import IdempotencyConflictError
from backend.ledger.model import Purpose, Transaction, TransactionKind, account_of, credit_account
from backend.market.exchange.book import Side
from backend.market.exchange.booking import releasing
from backend.market.exchange.model import EndReason, OrderKind, OrderStatus, Placing
from backend.market.exchange.service import Watch
from backend.market.exchange.store import ExchangeReads
from backend.market.serials.store import SerialSheet, cause_of, list_ranges, retired_owner
from backend.mongo.transactions import Transactions
from tests.conftest import dump
from tests.floor import CREDIT, move
from tests.integration.conftest import ALL_SHARDS
from tests.integration.trading_floor import FOK, GTC, GTD, IOC, KG, TradingFloor, owner_named, works

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.mongo.transactions import Tx
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


async def test_a_bid_and_an_offer_that_cross_are_exchanged_at_the_price_of_the_one_that_was_there(
    floor: TradingFloor,
) -> None:
    offer = await floor.sell("alice", 10, 5_900)
    assert (offer.status, await floor.grams("alice")) == (OrderStatus.PENDING, (10 * KG, 0))
    [offer] = await floor.match(offer)
    assert (offer.status, offer.sequence) == (OrderStatus.OPEN, 1)
    bid = await floor.buy("@steelworks", 4, 6_100)
    # 4 kg at most for 6,100 fen/t are 24.4 fen, and half a per cent of that is rounded up to a fen.
    assert await floor.fen("@steelworks") == (10_000, 10_000 - 26)
    bid, offer = await floor.match(bid, offer)
    assert (bid.status, bid.value_fen, bid.filled_g, bid.held) == (OrderStatus.FILLED, 24, 4 * KG, 0)
    assert (offer.status, offer.remaining_g, offer.value_fen) == (OrderStatus.OPEN, 6 * KG, 24)
    assert await floor.fills() == [(5_900, 4, 24)]
    assert (await floor.fen("@steelworks"), await floor.fen("alice")) == ((9_975, 9_975), (24, 24))
    assert (await floor.grams("@steelworks"), await floor.grams("alice")) == ((4 * KG, 4 * KG), (6 * KG, 0))
    assert await floor.findings() == []


async def test_what_does_not_wait_is_given_up(floor: TradingFloor) -> None:
    await floor.sell("alice", 2, 6_000)
    ioc = await floor.buy("@steelworks", 5, 6_000, time_in_force=IOC)
    fok = await floor.buy("@steelworks", 1, 6_000, time_in_force=FOK)
    ioc, fok = await floor.match(ioc, fok)
    assert (ioc.status, ioc.reason, ioc.filled_g, ioc.cancelled_g) == (
        OrderStatus.CANCELLED,
        EndReason.IOC_REST,
        2 * KG,
        3 * KG,
    )
    assert (fok.status, fok.reason, fok.filled_g) == (OrderStatus.CANCELLED, EndReason.FOK_UNFILLABLE, 0)
    assert await floor.fen("@steelworks") == (10_000 - 13, 10_000 - 13)
    assert await floor.findings() == []


async def test_a_market_order_takes_what_the_band_allows(floor: TradingFloor) -> None:
    await floor.sell("alice", 2, 6_000)
    await floor.sell("bob", 2, 6_600)
    bid = await floor.buy("@steelworks", 10)
    assert (bid.price_fen, bid.kind, bid.time_in_force) == (6_000, OrderKind.LIMIT, GTC)
    [bid] = await floor.match(await floor.cancel(bid))
    market = await floor.buy("@steelworks", 5, None)
    assert (market.price_fen, market.held) == (6_600, 34)
    [market] = await floor.match(market)
    assert (market.filled_g, market.reason) == (4 * KG, EndReason.IOC_REST)
    assert await floor.fills() == [(6_000, 2, 12), (6_600, 2, 14)]
    assert await floor.findings() == []


async def test_time_goes_before_and_price_before_time(floor: TradingFloor) -> None:
    late, early, best = [
        await floor.sell(name, 1, price) for name, price in (("bob", 6_001), ("alice", 6_001), ("bob", 6_000))
    ]
    assert late.created_at < early.created_at < best.created_at
    await floor.buy("@steelworks", 3, 6_100)
    await floor.match()
    assert [trade.sell_order for trade in await floor.trades()] == [best.id, late.id, early.id]
    assert [trade.taker_side for trade in await floor.trades()] == [Side.BUY] * 3


async def test_values_and_fees_are_exact_to_the_fen_whatever_the_parts(floor: TradingFloor) -> None:
    """A bid at 5,999 in parts: each pays what the sum has grown by; half a per cent of the taker's sum is a fee."""
    await floor.give_credits("whale", 900 * KG)
    for _ in range(3):
        await floor.sell("whale", 300, 5_999)
    bid = await floor.buy("@steelworks", 900, 6_100)
    # 5,490 fen at most, and half a per cent of it, rounded up.
    assert bid.held == 5_490 + 28
    [bid] = await floor.match(bid)
    # 300 kg are 1,799.7 fen, 600 kg 3,599.4 fen, 900 kg 5,399.1 fen.
    assert [trade.value_fen for trade in await floor.trades()] == [1_800, 1_800, 1_800]
    assert [trade.buyer_fee_fen for trade in await floor.trades()] == [9, 9, 9]
    assert [trade.seller_fee_fen for trade in await floor.trades()] == [0, 0, 0]
    assert (bid.value_fen, bid.fee_fen) == (5_400, 27)
    assert await floor.fen("whale") == (5_400, 5_400)
    assert await floor.fen("@steelworks") == (10_000 - 5_427,) * 2
    assert await floor.findings() == []


async def test_a_seller_who_takes_pays_the_fee_of_the_money_received(floor: TradingFloor) -> None:
    await floor.give_credits("whale", 1_000 * KG)
    await floor.buy("@steelworks", 1_000, 6_000)
    await floor.sell("whale", 1_000, 5_500)
    await floor.match()
    [trade] = await floor.trades()
    assert (trade.value_fen, trade.buyer_fee_fen, trade.seller_fee_fen) == (6_000, 0, 30)
    assert await floor.fen("whale") == (5_970, 5_970)
    assert await floor.findings() == []


async def test_a_fill_can_be_worth_nothing_and_a_hold_used_up_before_its_order(floor: TradingFloor) -> None:
    """At ten fen a tonne a hundred kilograms are one fen, whoever sells them first."""
    await floor.services.database.update_one(
        "market_instruments", {"_id": CREDIT}, {"$set": {"reference_fen": Int64(10)}}
    )
    await floor.sell("alice", 4, 10)
    await floor.match()
    bid = await floor.buy("carol", 20, 10)
    # One for the credits and one for the fee.
    assert bid.held == 2
    [bid] = await floor.match(bid)
    assert (bid.held, bid.remaining_g, bid.value_fen) == (0, 16 * KG, 1)
    await floor.sell("bob", 4, 10)
    await floor.match()
    assert [trade.value_fen for trade in await floor.trades()] == [1, 0]
    [bid] = await floor.match(await floor.cancel(bid))
    assert (bid.status, bid.filled_g) == (OrderStatus.CANCELLED, 8 * KG)
    assert (await floor.fen("carol"), await floor.fen("bob")) == ((998, 998), (0, 0))
    assert await floor.findings() == []


async def test_nobody_trades_with_themselves(floor: TradingFloor) -> None:
    await floor.give_credits("@steelworks", 5 * KG)
    own = await floor.sell("@steelworks", 2, 6_000)
    await floor.sell("alice", 1, 5_990)
    bid = await floor.buy("@steelworks", 5, 6_000)
    own, bid = await floor.match(own, bid)
    assert (bid.status, bid.reason, bid.filled_g) == (OrderStatus.CANCELLED, EndReason.SELF_TRADE, KG)
    assert (own.status, own.remaining_g) == (OrderStatus.OPEN, 2 * KG)
    assert await floor.findings() == []


async def test_an_order_ends_with_its_time(floor: TradingFloor) -> None:
    until = floor.clock.now() + timedelta(minutes=10)
    named = await floor.buy("carol", 1, 6_000, time_in_force=GTD, good_until=until)
    unseen = await floor.buy("carol", 1, None)
    waits = await floor.buy("carol", 1, 6_000)
    await floor.match()
    await floor.sell("alice", 1, 6_300)
    floor.clock.current = until
    # Nobody nudged: the sweep finds what has ended.
    assert await floor.services.market.exchange.matching.sweep() == 2
    named, unseen, waits = [await floor.now(order) for order in (named, unseen, waits)]
    assert (named.status, named.reason) == (OrderStatus.CANCELLED, EndReason.EXPIRED)
    assert (unseen.reason, waits.status) == (EndReason.IOC_REST, OrderStatus.OPEN)
    assert await floor.fen("carol") == (1_000, 1_000 - waits.held)
    assert await floor.findings() == []


async def test_an_order_that_the_matcher_never_saw_in_time_is_not_filled_late(floor: TradingFloor) -> None:
    await floor.sell("alice", 1, 6_000)
    late = await floor.buy("carol", 1, None)
    floor.wait(minutes=6)
    [late] = await floor.match(late)
    assert (late.status, late.reason, late.filled_g) == (OrderStatus.CANCELLED, EndReason.EXPIRED, 0)
    assert await floor.findings() == []


async def test_an_order_whose_hold_the_book_has_freed_is_never_filled(floor: TradingFloor) -> None:
    """The matcher was away for months; the book has set free what had ended, and others traded on."""
    offer = await floor.sell("alice", 10, 6_000)
    await floor.match()
    floor.clock.current = offer.hold_until + timedelta(seconds=1)
    await floor.services.expiry.expire_due(ALL_SHARDS)
    assert await floor.grams("alice") == (10 * KG, 10 * KG)
    [offer] = await floor.match(offer)
    assert (offer.status, offer.reason) == (OrderStatus.CANCELLED, EndReason.EXPIRED)
    assert await floor.findings() == []


async def test_a_lost_hold_costs_its_order_and_nobody_elses(floor: TradingFloor) -> None:
    """Somebody set it free past the exchange; the order still rests."""
    lost, other = await floor.sell("alice", 1, 5_900), await floor.sell("bob", 1, 6_000)
    await floor.match()
    await floor.services.ledger.post(dataclasses.replace(releasing(lost), key="by-hand"))
    assert await floor.findings() == [f"order {lost.id}: is open and holds nothing under {lost.hold}"]
    bid = await floor.buy("@steelworks", 2, 6_000)
    lost, other, bid = await floor.match(lost, other, bid)
    assert (lost.status, lost.reason, lost.filled_g) == (OrderStatus.CANCELLED, EndReason.HOLD_LOST, 0)
    assert (other.status, bid.filled_g, bid.status) == (OrderStatus.FILLED, KG, OrderStatus.OPEN)
    assert await floor.fills() == [(6_000, 1, 6)]
    assert await floor.findings() == []


async def test_lost_holds_and_credits_that_are_gone_cost_their_orders_and_nobody_elses(floor: TradingFloor) -> None:
    """Several at once, and alice has used up her serials since."""
    lost = [await floor.sell("alice", kg, 5_900) for kg in (1, 2, 3)]
    kept = await floor.sell("bob", 1, 6_000)
    await floor.match()
    for order in lost:
        await floor.services.ledger.post(dataclasses.replace(releasing(order), key=f"by-hand-{order.id}"))
    await retire(floor, "alice", 10)
    bid = await floor.buy("@steelworks", 8, 6_000)
    *lost, kept, bid = await floor.match(*lost, kept, bid)
    assert {(order.status, order.reason) for order in lost} == {(OrderStatus.CANCELLED, EndReason.HOLD_LOST)}
    assert (kept.status, bid.filled_g) == (OrderStatus.FILLED, KG)
    assert await floor.findings() == []


async def retire(floor: TradingFloor, name: str, kg: int) -> None:
    """Use up credits past the room of retirement."""
    owner, now = owner_named(name), floor.clock.now()

    async def body(tx: Tx) -> None:
        serials = SerialSheet(tx)
        ranges = await serials.move(CREDIT, kg * KG, owner, retired_owner("cert"))
        moved = move(account_of(owner, CREDIT), credit_account(Purpose.RETIRED, CREDIT), CREDIT, kg * KG * KG)
        cause = {"certificate": "cert", **cause_of(CREDIT, ranges)}
        retiring = Transaction(key="retire-1", kind=TransactionKind.RETIRE, postings=(moved,), cause=cause)
        await floor.services.ledger.post_within(tx, [retiring], at=now)
        await serials.write()

    await Transactions(floor.services.database).run(body)


async def test_the_same_key_gives_the_same_order_as_it_stands_and_another_a_conflict(floor: TradingFloor) -> None:
    await floor.sell("alice", 1, 6_000)
    first = await floor.buy("carol", 1, 6_000, key="the-same-key")
    await floor.match()
    before = await dump(floor.services)
    again = await floor.buy("carol", 1, 6_000, key="the-same-key")
    assert (again.id, again.status) == (first.id, OrderStatus.FILLED)
    with pytest.raises(IdempotencyConflictError):
        await floor.buy("carol", 2, 6_000, key="the-same-key")
    assert await dump(floor.services) == before


async def test_at_once_the_same_key_makes_one_order(floor: TradingFloor) -> None:
    made = await asyncio.gather(*(floor.buy("carol", 1, 6_000, key="the-same-key") for _ in range(8)))
    assert len({order.id for order in made}) == 1
    assert await floor.fen("carol") == (1_000, 993)


async def test_many_orders_at_once_are_placed_or_refused_one_by_one(floor: TradingFloor) -> None:
    def bid(kg: int, price_fen: int) -> Placing:
        return Placing(CREDIT, Side.BUY, OrderKind.LIMIT, price_fen, kg * KG, GTC)

    orders = floor.services.market.orders
    placings = [bid(1, 6_000), bid(1, 9_000), bid(10_000, 6_000), bid(2, 5_999)]
    answers = await orders.place_many(works(), placings, key="many-0001")
    assert [getattr(answer, "code", "placed") for answer in answers] == [
        "placed",
        "OUTSIDE_BAND",
        "INSUFFICIENT_MONEY",
        "placed",
    ]
    before = await dump(floor.services)
    again = await orders.place_many(works(), placings, key="many-0001")
    assert [getattr(answer, "id", None) for answer in again] == [getattr(answer, "id", None) for answer in answers]
    with pytest.raises(IdempotencyConflictError):
        await orders.place_many(works(), placings[:2], key="many-0001")
    assert await dump(floor.services) == before
    await floor.match()
    assert await floor.findings() == []


async def test_open_orders_are_counted_whoever_places_them_at_once(floor: TradingFloor) -> None:
    limit = floor.services.market.settings.open_orders
    answers = await asyncio.gather(*(floor.refused(floor.buy("@steelworks", 1, 5_500)) for _ in range(limit + 5)))
    assert (
        sorted(getattr(answer, "code", "placed") for answer in answers) == ["TOO_MANY_ORDERS"] * 5 + ["placed"] * limit
    )
    await floor.match()
    assert await floor.findings() == []


async def test_what_is_held_is_told_with_its_serials_cost_and_value(floor: TradingFloor) -> None:
    await floor.sell("alice", 4, 5_900)
    await floor.sell("bob", 4, 6_000)
    await floor.buy("@steelworks", 8, 6_000)
    await floor.match()
    await floor.sell("@steelworks", 2, 6_100)
    await floor.match()
    [holding] = await floor.services.market.orders.list_holdings(owner_named("@steelworks"))
    assert (holding.grams, holding.available_g) == (8 * KG, 6 * KG)
    # 23.6 and 24 fen were paid, 47.6 together, and a fee of one; 8 kg at the last price of 6,000 are 48.
    assert (holding.cost_fen, holding.value_fen) == (49, 48)
    assert holding.serials == await list_ranges(floor.services.database, owner_named("@steelworks"), CREDIT, limit=9)
    await floor.buy("carol", 2, 6_100)
    await floor.match()
    [holding] = await floor.services.market.orders.list_holdings(owner_named("@steelworks"))
    assert (holding.grams, holding.cost_fen, holding.value_fen) == (6 * KG, 36, 36)


async def test_whoever_hears_nothing_looks_for_themselves(floor: TradingFloor) -> None:
    bid = await floor.buy("carol", 1, 6_000)
    watch = Watch(ExchangeReads(floor.services.database), None, patience_s=30)
    seen, _ = await asyncio.gather(watch.seen(bid), floor.match())
    assert (seen.status, seen.queued_at) == (OrderStatus.OPEN, None)
    unseen = await floor.buy("carol", 1, 6_000)
    watch = Watch(ExchangeReads(floor.services.database), None, patience_s=0)
    assert await watch.seen(unseen) == unseen


async def test_every_queue_is_read_by_an_index(floor: TradingFloor) -> None:
    """What sweeps ask every second must not look at all the orders of the past."""
    await floor.buy("carol", 1, 6_000)
    await floor.match()
    await floor.buy("carol", 1, 6_000)
    reads, now = ExchangeReads(floor.services.database), floor.clock.now()
    raw = floor.services.database.raw
    await raw.command({"profile": 2})
    await reads.list_waiting(now)
    await reads.list_queued(CREDIT, limit=9, cancels_only=False)
    await reads.list_expired(CREDIT, now, limit=9)
    await reads.list_resting(CREDIT)
    await reads.list_depth(CREDIT)
    await reads.list_trades(CREDIT, below=None, above=None, limit=9, newest=True)
    await reads.sum_filled(owner_named("carol"), CREDIT)
    await raw.command({"profile": 0})
    plans = [one["planSummary"] async for one in raw["system.profile"].find({"planSummary": {"$exists": True}})]
    assert len(plans) == 7
    assert [plan for plan in plans if "COLLSCAN" in plan] == []
