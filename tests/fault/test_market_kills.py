"""A matcher killed at random instants while orders flow: no fill is lost or doubled, the reference has the same."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.kernel.errors import BusyError, TransientError
from backend.kernel.ids import CitizenId
from backend.ledger.model import OwnerId
from backend.market.exchange.book import Fill, Order, Outcome, Side, TimeInForce
from backend.market.exchange.model import Amending, OrderKind, OrderStatus, Placing
from backend.market.funds.model import FundAccount
from backend.process.child import ChildProcess
from tests import factories
from tests.counters import answer
from tests.floor import CREDIT, give_credits
from tests.integration.banking import Bank
from tests.simulation.chance import IS_NIGHTLY, seeded
from tests.simulation.market_real import BORN, findings
from tests.unit.market.reference_market import ReferenceMarket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from backend.kernel.clock import ManualClock
    from backend.market.exchange.model import Order as Placed
    from backend.market.exchange.model import Trade
    from backend.runtime import Services
    from backend.settings import Settings

KILLS = 30 if IS_NIGHTLY else 3
LONGEST_PEACE_S, START_S = 1.0, 30
NAMES = [f"k{number}" for number in range(12)]
KG, REFERENCE_FEN, FEN_EACH, KILOS_EACH = 1_000, 8_000, 1_000_000, 50_000
PROGRAM = Path(__file__).with_name("market_matcher.py")
ROOT = PROGRAM.parents[2]
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK


@dataclass(frozen=True)
class Asked:
    """What was acknowledged, in its order: an order of that force, a cancellation (no grams), or an amendment."""

    order: str
    owner: str
    side: Side
    price: int
    grams: int
    tif: TimeInForce | None


@dataclass
class Flow:
    """Orders by chance, one after another; only what rests is cancelled and amended, so that its turn is known."""

    services: Services
    clock: ManualClock
    chance: Random
    asked: list[Asked] = field(default_factory=list)
    is_over: bool = False

    async def run(self) -> None:
        """Ask on until it is over."""
        number = 0
        while not self.is_over:
            number += 1
            self.clock.advance(timedelta(milliseconds=1))
            key = f"flow-{number:06}"
            resting = await self.resting() if number % 3 == 0 else []
            await (self.change(self.chance.choice(resting), key) if resting else self.place(key))

    async def resting(self) -> list[Placed]:
        """Some of somebody's orders that rest in the book."""
        owner = OwnerId(f"citizen:{self.chance.choice(NAMES)}")
        orders = self.services.market.orders
        found = await orders.list_orders(owner, open_only=True, limit=20, older=None, newer=None, newest=True)
        return [one for one in found if one.status is OrderStatus.OPEN and one.command is None]

    async def place(self, key: str) -> None:
        chance, name = self.chance, self.chance.choice(NAMES)
        side, tif = chance.choice(list(Side)), chance.choice([GTC, GTC, GTC, GTC, IOC, FOK])
        price, grams = self.price, chance.randint(1, 40) * KG
        placing = Placing(CREDIT, side, OrderKind.LIMIT, price, grams, tif)
        told = await insist(lambda: self.services.market.orders.place(factories.citizen(name), placing, key=key))
        # Who has fifty orders open, or nothing to give, is refused and asks for something else.
        if getattr(told, "code", "") not in {"TOO_MANY_ORDERS", "INSUFFICIENT_MONEY", "TOO_FEW_CREDITS"}:
            self.asked.append(Asked(told.id, told.owner, side, price, grams, tif))

    async def change(self, order: Placed, key: str) -> None:
        who = factories.citizen(order.owner.removeprefix("citizen:"))
        if self.chance.randrange(3):
            told = await insist(lambda: self.services.market.orders.cancel(who, order.id, key=key))
            price, grams = order.price_fen, 0
        else:
            price, grams = self.price, self.chance.randint(1, 20) * KG
            told = await insist(
                lambda: self.services.market.orders.amend(who, order.id, Amending(price, grams), key=key)
            )
        if getattr(told, "code", "") != "ORDER_CLOSED":
            self.asked.append(Asked(told.id, order.owner, order.side, price, grams, None))

    @property
    def price(self) -> int:
        return REFERENCE_FEN + self.chance.randint(-5, 5) * 20


async def insist(call: Callable[[], Awaitable[Any]]) -> Any:
    """The answer to a call that is made again under its key until there is one."""
    heard: Any = BusyError()
    while isinstance(heard, TransientError):
        heard = await answer(call())
    return heard


@dataclass
class Victim:
    """The matcher's process, which starts again after each death."""

    settings: Settings
    services: Services
    process: ChildProcess | None = None

    def start(self) -> None:
        settings = self.settings
        words = [settings.mongodb_url, settings.valkey_url, settings.database, settings.data_dir, BORN.isoformat()]
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = ChildProcess.start(
            [sys.executable, str(PROGRAM), *map(str, words)],
            env={**os.environ, "PYTHONPATH": paths},
            log=settings.data_dir / "matcher.log",
            cwd=ROOT,
        )

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        # The time of its leases passes.
        await self.services.valkey.flushdb()

    async def matched(self, more: int) -> None:
        """Wait until so many trades more are there."""
        before = await self.trades()
        async with asyncio.timeout(START_S):
            while await self.trades() < before + more:
                self.look()
                await asyncio.sleep(0.01)

    async def idle(self) -> None:
        """Wait until nothing is queued."""
        orders = self.services.database.raw["market_orders"]
        async with asyncio.timeout(START_S):
            while await orders.count_documents({"queued_at": {"$type": "date"}}):
                self.look()
                await asyncio.sleep(0.01)

    def look(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, (self.settings.data_dir / "matcher.log").read_text()

    async def trades(self) -> int:
        return await self.services.database.raw["market_trades"].count_documents({})


async def test_a_matcher_killed_at_random_instants_fills_everything_once(
    services: Services, settings: Settings, clock: ManualClock
) -> None:
    chance, clock.current = seeded(), BORN
    await services.identity.register_citizens({CitizenId(name): name for name in NAMES})
    bank = Bank(services)
    for number, name in enumerate(NAMES):
        await bank.deposited(FundAccount(citizen=CitizenId(name)), FEN_EACH)
        await give_credits(services, OwnerId(f"citizen:{name}"), KILOS_EACH * KG, first=1 + number * KILOS_EACH * KG)
    desk = services.market.exchange.desk
    await desk.list_instrument(factories.ADMIN, CREDIT, REFERENCE_FEN, key="list-it-0001")
    victim, flow = Victim(settings, services), Flow(services, clock, chance)
    flowing = asyncio.create_task(flow.run())
    try:
        victim.start()
        for _ in range(KILLS):
            # Something must have been matched since the last death; then death comes when it likes.
            await victim.matched(1)
            await asyncio.sleep(chance.random() * LONGEST_PEACE_S)
            await victim.kill()
            victim.start()
        await victim.matched(5)
        flow.is_over = True
        await flowing
        await victim.idle()
    finally:
        flow.is_over = True
        await victim.kill()
        await flowing
    print(f"killed {KILLS} times in {len(flow.asked)} requests and {await victim.trades()} trades")  # noqa: T201 - a figure
    await judge(services, flow)


async def judge(services: Services, flow: Flow) -> None:
    """What was acknowledged, one after the other, gives the very fills in the reference, and the books add up."""
    data = services.market.exchange.data
    trades = (await data.list_trades(CREDIT, below=None, above=None, limit=100_000, newest=False))[::-1]
    assert [filled(one) for one in trades] == replayed(flow.asked)
    assert [one.number for one in trades] == list(range(1, len(trades) + 1))
    assert await findings(services, of_acts=False) == []


def filled(trade: Trade) -> Fill:
    """The trade as the book's fill."""
    buy, sell = trade.buy_order, trade.sell_order
    maker, taker = (sell, buy) if trade.taker_side is Side.BUY else (buy, sell)
    return Fill(maker, taker, trade.price_fen, trade.quantity_g)


def replayed(asked: list[Asked]) -> list[Fill]:
    """All fills of the reference market."""
    market, fills = ReferenceMarket(), list[Fill]()
    for sequence, one in enumerate(asked, 1):
        outcome: Outcome | None = None
        if one.tif is not None:
            order = Order(one.order, one.owner, one.side, one.price, one.grams, sequence)
            outcome = market.place(order, one.tif)
        elif one.grams:
            outcome = market.amend(one.order, one.price, one.grams, sequence)
        else:
            market.cancel(one.order)
        fills += outcome.fills if outcome else ()
    return fills
