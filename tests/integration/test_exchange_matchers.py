"""Matchers that die at any instant, two at once, one that begins anew: the same fills, each once."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.kernel.grouping import Groups
from backend.market.exchange.book import Side
from backend.market.exchange.doors import open_exchange
from backend.market.exchange.model import OrderKind, OrderStatus, Placing
from backend.mongo.transactions import Transactions
from backend.valkey.leases import Leases
from tests.factories import citizen
from tests.fault.test_redemption_kills import Mortal, outcome_of
from tests.floor import CREDIT, EVERYWHERE
from tests.integration.trading_floor import FOK, GTC, IOC, KG, TradingFloor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.kernel.clock import ManualClock
    from backend.market.exchange.doors import Exchange
    from backend.market.exchange.model import Order
    from backend.runtime import Services

pytestmark = pytest.mark.anyio

TRADERS = ("alice", "bob", "carol", "@steelworks")


class AlwaysFree(Leases):
    """Leases of a Valkey that is away: everybody has them."""

    def __init__(self) -> None:
        """Without a server."""

    def hold(self, names: Sequence[str], *, ttl_ms: int) -> Any:
        """All of them."""
        return _Held(frozenset(names))


class _Held:
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    async def __aenter__(self) -> frozenset[str]:
        return self._names

    async def __aexit__(self, *_: object) -> None:
        return None


def another_process(services: Services, leases: Leases | None = None) -> Exchange:
    """The exchange as another process has it."""

    async def is_issued(_: Any) -> bool:
        return True

    return open_exchange(
        settings=services.market.settings,
        zone=services.programme.zone,
        database=services.database,
        transactions=Transactions(services.database),
        clock=services.clock,
        ledger=services.ledger,
        leases=leases or Leases(services.valkey),
        channels=services.channels,
        nudges=services.nudges,
        is_issued=is_issued,
        find_barred=services.market.enterprises.find_barred,
    )


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> TradingFloor:
    """A floor on which four traders have much of everything."""
    floor = await TradingFloor(services, clock).open()
    for name in TRADERS:
        await floor.give_credits(name, 1_000 * KG)
        await floor.give_fen(name, 100_000)
    return floor


async def crowd(floor: TradingFloor, chance: random.Random, count: int) -> list[Order]:
    """Orders, cancellations and amendments of all sorts, placed and not yet seen."""
    orders: list[Order] = []
    for _ in range(count):
        name, side = chance.choice(TRADERS), chance.choice(list(Side))
        price = 6_000 + chance.randint(-30, 30)
        order = await floor.place(
            name, side, chance.randint(1, 9), price, time_in_force=chance.choice((GTC, GTC, GTC, IOC, FOK))
        )
        orders.append(order)
        if chance.random() < 0.3:
            earlier = chance.choice(orders)
            if chance.random() < 0.5:
                await floor.refused(floor.cancel(earlier))
            else:
                price = 6_000 + chance.randint(-30, 30)
                await floor.refused(floor.amend(earlier, price_fen=price, kg=chance.randint(1, 9)))
    return orders


async def state(floor: TradingFloor) -> tuple[Any, ...]:
    """All trades but for their times, and every order as it stands."""
    trades = [
        (t.number, t.price_fen, t.quantity_g, t.value_fen, t.buy_order, t.sell_order, t.serials)
        for t in await floor.trades()
    ]
    orders = await floor.services.database.raw["market_orders"].find().sort("_id", 1).to_list(None)
    return trades, orders


async def test_a_matcher_that_begins_anew_after_every_round_goes_on_as_one_that_did_not(floor: TradingFloor) -> None:
    chance = random.Random(7)
    for number in range(12):
        await crowd(floor, chance, 8)
        matching = floor.services.market.exchange.matching if number % 3 else another_process(floor.services).matching
        await matching.run(EVERYWHERE)
        warm = floor.services.market.exchange.matching._floors.get(CREDIT)
        if warm is not None and number % 3:
            cold = await another_process(floor.services).matching._load(await floor.instrument())
            assert cold is not None
            assert list(cold.book) == list(warm.book)
            assert cold.orders == warm.orders
    assert len(await floor.trades()) > 20
    assert await floor.findings() == []


async def test_two_matchers_without_leases_fill_nothing_twice(floor: TradingFloor) -> None:
    chance, leases = random.Random(11), AlwaysFree()
    matchers = [another_process(floor.services, leases).matching for _ in range(3)]
    for _ in range(6):
        await crowd(floor, chance, 8)
        await asyncio.gather(*(matcher.run(EVERYWHERE) for matcher in matchers))
    await floor.match()
    assert not await floor.services.database.find("market_orders", {"queued_at": {"$ne": None}}, limit=1)
    assert len(await floor.trades()) > 10
    assert await floor.findings() == []


async def test_a_matcher_that_lost_its_fence_writes_nothing(floor: TradingFloor) -> None:
    await floor.sell("alice", 1)
    await floor.buy("bob", 1)
    matching = floor.services.market.exchange.matching
    taken = await matching._reads.take_fence(CREDIT, "fence-of-the-first")
    await matching._reads.take_fence(CREDIT, "fence-of-the-second")
    assert await matching._round(CREDIT, taken.holder) == (0, True)
    assert await floor.trades() == []


async def test_a_matcher_that_dies_at_any_instant_has_matched_once_or_not(floor: TradingFloor) -> None:
    """It is cancelled the n-th time that it waits, for every n there is; another one goes on."""
    at, deaths = 0, 0
    while True:
        at += 1
        # Each time the same: two fills of one offer, its rest given up, a bid amended.
        offer = await floor.sell("alice", 3, 6_000)
        await floor.match()
        small, large = await floor.buy("bob", 1, 6_000), await floor.buy("carol", 1, 6_001)
        await floor.cancel(offer)
        waits = await floor.amend(await floor.buy("@steelworks", 1, 5_500), price_fen=5_600)
        before = len(await floor.trades())
        mortal = Mortal(another_process(floor.services).matching.run(EVERYWHERE), at)
        deaths += isinstance(await outcome_of(mortal), asyncio.CancelledError)
        # Its lease is still there.
        await floor.services.valkey.flushdb()
        offer, small, large, waits = await floor.match(offer, small, large, waits)
        assert (offer.status, offer.filled_g) == (OrderStatus.CANCELLED, 2 * KG)
        assert {small.status, large.status} == {OrderStatus.FILLED}
        assert (waits.status, waits.price_fen, waits.quantity_g) == (OrderStatus.OPEN, 5_600, KG)
        assert len(await floor.trades()) == before + 2
        await floor.match(await floor.cancel(waits))
        if mortal.waits < at:
            break
    assert deaths > at // 2 > 10
    assert await floor.findings() == []


async def test_whoever_places_and_dies_at_any_instant_has_placed_once_or_not(floor: TradingFloor) -> None:
    at, deaths = 0, 0
    while True:
        at += 1
        placing = another_process(floor.services)
        key = f"mortal-{at:04}"
        mortals: list[Mortal] = []

        placing.orders._placing._groups[CREDIT] = mortal_groups(placing, at, mortals)
        outcome = await asyncio.gather(asyncio.create_task(bought(placing, key)), return_exceptions=True)
        deaths += isinstance(outcome[0], asyncio.CancelledError)
        again = await floor.buy("carol", 1, 5_900, key=key)
        page = await floor.services.ledger.get_page(again.owner)
        assert [hold.id for hold in page.holds] == [again.hold]
        await floor.match(await floor.cancel(again))
        if mortals[0].waits < at:
            break
    assert deaths > at // 2 > 5
    assert await floor.findings() == []


def mortal_groups(exchange: Exchange, at: int, kept: list[Mortal]) -> Groups[Any, Any]:
    """Groups of orders of which the first is cut off."""

    async def commit(wishes: Any) -> Any:
        kept.append(Mortal(exchange.orders._placing._place_group(wishes), at))
        return await kept[0]

    return Groups(commit, limit=128, name="mortal orders")


async def bought(exchange: Exchange, key: str) -> Order:
    """A bid of carol's through that process."""
    placing = Placing(CREDIT, Side.BUY, OrderKind.LIMIT, 5_900, KG, GTC)
    return await exchange.orders.place(citizen("carol"), placing, key=key)


FORGED: dict[str, tuple[str, dict[str, Any]]] = {
    "a price": ("market_trades", {"price_fen": Int64(5_000)}),
    "a value": ("market_trades", {"value_fen": Int64(5)}),
    "a quantity": ("market_trades", {"quantity_g": Int64(9_000)}),
    "a fee": ("market_trades", {"buyer_fee_fen": Int64(2)}),
    "a number": ("market_trades", {"number": Int64(9)}),
    "serials": ("market_trades", {"serials": "1-1000"}),
    "a transaction": ("market_trades", {"transaction": "tx_none"}),
    "a buyer": ("market_trades", {"buyer": "citizen:carol"}),
    "an order of a trade": ("market_trades", {"sell_order": "ord_none"}),
    "what is open": ("market_orders", {"remaining_g": Int64(1_000)}),
    "what is filled": ("market_orders", {"filled_g": Int64(1_000)}),
    "what is held": ("market_orders", {"held": Int64(1_000)}),
    "what was paid": ("market_orders", {"value_fen": Int64(1)}),
    "a hold": ("market_orders", {"hold": "tx_none"}),
    "a status": ("market_orders", {"status": "FILLED"}),
    "a flag": ("market_orders", {"open": False}),
    "a limit": ("market_orders", {"price_fen": Int64(5_800)}),
    "the last price": ("market_instruments", {"last_fen": Int64(5_000)}),
    "the count of trades": ("market_instruments", {"trades": Int64(7)}),
    "the sequence": ("market_instruments", {"sequence": Int64(1)}),
}


@pytest.mark.parametrize(("collection", "change"), FORGED.values(), ids=FORGED)
async def test_the_auditor_notices_what_somebody_changed(
    floor: TradingFloor, collection: str, change: dict[str, Any]
) -> None:
    await floor.sell("alice", 4, 5_900)
    await floor.buy("bob", 2, 6_000)
    await floor.buy("carol", 2, 5_850)
    await floor.match()
    assert await floor.findings() == []
    query = {} if collection != "market_orders" else {"side": "SELL"}
    assert await floor.services.database.update_one(collection, query, {"$set": change})
    assert await floor.findings() != []


async def test_the_auditor_notices_a_trade_and_an_order_that_are_missing(floor: TradingFloor) -> None:
    await floor.sell("alice", 2, 5_900)
    await floor.buy("bob", 1, 6_000)
    await floor.match()
    for collection in ("market_trades", "market_orders"):
        [document] = await floor.services.database.find(collection, {}, limit=1)
        await floor.services.database.delete_one(collection, {"_id": document["_id"]})
        assert await floor.findings() != []
        await floor.services.database.insert_many(collection, [document])
        assert await floor.findings() == []
