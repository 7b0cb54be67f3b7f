"""Orders through doors, queue, matcher and settlement beside the reference market: the same fills in the same order.

The matcher works in rounds of any size, is another process now and then, and dies in some of its rounds.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from backend.market.exchange.book import Fill, Side
from backend.market.exchange.book import Order as Entry
from backend.market.exchange.matching import Size
from tests.fault.test_redemption_kills import Mortal, outcome_of
from tests.floor import EVERYWHERE
from tests.integration.test_exchange_matchers import another_process
from tests.integration.trading_floor import FOK, GTC, IOC, KG, TradingFloor
from tests.unit.market.reference_market import ReferenceMarket

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.market.exchange.model import Order, Trade
    from backend.runtime import Services

pytestmark = pytest.mark.anyio

TRADERS = ("alice", "bob", "carol", "@steelworks", "@cement")
ROUNDS = 60


class Beside:
    """The exchange and the reference, given the same."""

    def __init__(self, floor: TradingFloor, seed: int) -> None:
        self.floor = floor
        self.chance = random.Random(seed)
        self.reference = ReferenceMarket()
        self.sequence = 0
        self.fills: list[Fill] = []
        self.known: list[Order] = []

    async def step(self, seen: list[Order], asked: set[str]) -> Order | None:
        """One thing that a trader does, here and there; requests are about orders that the matcher has seen."""
        chance = self.chance
        if seen and chance.random() < 0.3:
            order = chance.choice(seen)
            if order.id not in asked:
                asked.add(order.id)
                await self.ask(order)
            return None
        order = await self.floor.place(
            chance.choice(TRADERS),
            chance.choice(list(Side)),
            chance.randint(1, 9),
            6_000 + chance.randint(-12, 12),
            time_in_force=chance.choice((GTC, GTC, GTC, IOC, FOK)),
        )
        self.sequence += 1
        entry = Entry(order.id, order.owner, order.side, order.price_fen, order.quantity_g, self.sequence)
        self.fills += self.reference.place(entry, order.time_in_force).fills
        return order

    async def ask(self, order: Order) -> None:
        """Cancel or amend; where the order has ended both markets refuse."""
        price, kg = 6_000 + self.chance.randint(-12, 12), self.chance.randint(1, 9)
        resting = self.reference.find(order.id)
        if self.chance.random() < 0.5:
            await self.floor.refused(self.floor.cancel(order))
            self.reference.cancel(order.id)
            return
        await self.floor.refused(self.floor.amend(order, price_fen=price, kg=kg))
        if resting is None:
            return
        keeps = price == resting.price_fen and kg * KG <= resting.remaining_g
        self.sequence += not keeps
        outcome = self.reference.amend(order.id, price, kg * KG, self.sequence)
        assert outcome is not None
        self.fills += outcome.fills

    async def round(self, number: int) -> None:
        """Some steps, then a matcher, which may be new, and may die before another goes on."""
        seen, asked = [await self.floor.now(order) for order in self.known[-40:]], set[str]()
        for _ in range(self.chance.randint(1, 12)):
            order = await self.step(seen, asked)
            if order is not None:
                self.known.append(order)
        if number % 3 == 0:
            await outcome_of(Mortal(another_process(self.floor.services).matching.run(EVERYWHERE), number))
            await self.floor.services.valkey.flushdb()
        await self.floor.match()


def fill_of(trade: Trade) -> Fill:
    """The trade as the reference tells it."""
    maker, taker = (
        (trade.sell_order, trade.buy_order) if trade.taker_side is Side.BUY else (trade.buy_order, trade.sell_order)
    )
    return Fill(maker, taker, trade.price_fen, trade.quantity_g)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_exchange_fills_what_the_reference_fills(services: Services, clock: ManualClock, seed: int) -> None:
    # The third in rounds with room for little.
    services.market.exchange.matching.size = Size(orders=5, moves=2) if seed == 3 else Size()
    floor = await TradingFloor(services, clock).open()
    for name in TRADERS:
        await floor.give_credits(name, 5_000 * KG)
        await floor.give_fen(name, 100_000)
    beside = Beside(floor, seed)
    for number in range(1, ROUNDS + 1):
        await beside.round(number)
    assert [fill_of(trade) for trade in await floor.trades()] == beside.fills
    assert len(beside.fills) > 60
    resting = services.market.exchange.matching._floors[(await floor.instrument()).id].book
    assert [(order.id, order.remaining_g) for order in resting] == [
        (order.id, order.remaining_g) for order in beside.reference.resting()
    ]
    assert await floor.findings() == []
