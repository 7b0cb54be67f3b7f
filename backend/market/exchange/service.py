"""The traders' door to the exchange: place, cancel, amend, read; and what everybody may know of the market."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.kernel.errors import InvalidInputError, Text, UnavailableError
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import is_credit
from backend.market.exchange import rules
from backend.market.exchange.book import Depth, LevelDepth, Side
from backend.market.exchange.candles import LENGTHS, Interval, candle_start, merge, ticker
from backend.market.exchange.model import Holding, order_channel
from backend.market.exchange.store import ExchangeReads
from backend.market.serials.store import list_ranges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.kernel.errors import DomainError
    from backend.ledger.model import Asset, OwnerId
    from backend.ledger.service import Ledger
    from backend.market.exchange.candles import Candle, Ticker
    from backend.market.exchange.changing import OrderChanging
    from backend.market.exchange.hours import Timetable
    from backend.market.exchange.model import Amending, Instrument, Order, OrderId, Phase, Placing, Trade
    from backend.market.exchange.placing import OrderPlacing
    from backend.market.exchange.rules import Band
    from backend.market.exchange.store import Place
    from backend.mongo.client import Database
    from backend.valkey.channels import Channels

# How long whoever asks waits for the matcher, and how often they look where they hear nothing.
PATIENCE_S = 1.0
LOOK_AGAIN_S = 0.1
MAX_LEVELS = 50
MAX_CANDLES = 500
# Hours are made of minutes.
MAX_STORED = (MAX_CANDLES + 1) * 60
SHOWN_RANGES = 100
MINUTES_OF_A_DAY = 1_440


class Orders:
    """Orders and holdings of citizens, enterprises and pools."""

    def __init__(
        self,
        *,
        database: Database,
        ledger: Ledger,
        channels: Channels,
        clock: Clock,
        placing: OrderPlacing,
        changing: OrderChanging,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._database = database
        self._reads = ExchangeReads(database)
        self._ledger = ledger
        self._channels = channels
        self._clock = clock
        self._placing = placing
        self._changing = changing
        self.patience_s = patience_s

    async def place(self, principal: Principal, placing: Placing, *, key: str) -> Order:
        """Place one order: see ``OrderPlacing.place``. The matcher sees it a moment later."""
        return await self._placing.place(principal, placing, key=key)

    async def place_many(
        self, principal: Principal, placings: Sequence[Placing], *, key: str
    ) -> list[Order | DomainError]:
        """Place up to 100 orders: see ``OrderPlacing.place_many``."""
        return await self._placing.place_many(principal, placings, key=key)

    async def cancel(self, principal: Principal, order: OrderId, *, key: str) -> Order:
        """Ask for the rest of an order to be given up: see ``OrderChanging.cancel``."""
        return await self._changing.cancel(principal, order, key=key)

    async def amend(self, principal: Principal, order: OrderId, amending: Amending, *, key: str) -> Order:
        """Ask for another limit or quantity: see ``OrderChanging.amend``."""
        return await self._changing.amend(principal, order, amending, key=key)

    async def find(self, ids: Sequence[OrderId]) -> dict[OrderId, Order]:
        """Those of the orders that exist; the caller decides who may see them."""
        return await self._reads.find_orders(ids)

    async def list_orders(
        self,
        owner: OwnerId,
        *,
        open_only: bool,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Order]:
        """The owner's orders, newest first."""
        return await self._reads.list_of_owner(
            owner, open_only=open_only, limit=limit, older=older, newer=newer, newest=newest
        )

    @asynccontextmanager
    async def watching(self, owner: OwnerId) -> AsyncIterator[Watch]:
        """Listen to what becomes of the owner's orders; where Valkey is away there is only looking."""
        try:
            async with self._channels.listen(order_channel(owner)) as events:
                yield Watch(self._reads, events, self.patience_s)
        except UnavailableError:
            yield Watch(self._reads, None, self.patience_s)

    async def list_holdings(self, owner: OwnerId) -> list[Holding]:
        """What the owner has of every credit, by batch."""
        page = await self._ledger.get_page(owner)
        assets = sorted(asset for asset, balance in page.balances.items() if is_credit(asset) and balance)
        now = self._clock.now()
        return [await self._holding(owner, asset, page.balance(asset), page.available(asset, now)) for asset in assets]

    async def _holding(self, owner: OwnerId, credit: Asset, held_mg: int, available_mg: int) -> Holding:
        grams = held_mg // MG_PER_GRAM
        ranges, sums, instrument = await asyncio.gather(
            list_ranges(self._database, owner, credit, limit=SHOWN_RANGES),
            self._reads.sum_filled(owner, credit),
            self._reads.find_instrument(credit),
        )
        last_fen = instrument.last_fen or instrument.reference_fen if instrument else None
        return Holding(
            owner=owner,
            instrument=credit,
            grams=grams,
            available_g=available_mg // MG_PER_GRAM,
            serials=ranges,
            cost_fen=rules.cost_of(*sums, grams),
            value_fen=None if last_fen is None else rules.worth_of(grams, last_fen),
        )


@dataclass
class Watch:
    """What an owner hears of their orders while somebody waits."""

    reads: ExchangeReads
    events: asyncio.Queue[dict[str, str]] | None
    patience_s: float

    async def seen(self, order: Order) -> Order:
        """The order as it stands once the matcher has done what it had to do, or as it stands after a while."""
        return (await self.all_seen([order]))[0]

    async def all_seen(self, orders: Sequence[Order]) -> list[Order]:
        """The same for several."""
        waiting = {order.id for order in orders if order.queued_at is not None}
        known = {order.id: order for order in orders}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience_s
        while waiting and loop.time() < deadline:
            heard = await self._heard(deadline - loop.time())
            if heard and not heard & waiting:
                continue
            known |= await self.reads.find_orders(sorted(waiting))
            waiting = {order for order in waiting if known[order].queued_at is not None}
        return [known[order.id] for order in orders]

    async def _heard(self, patience_s: float) -> set[OrderId]:
        """Which orders were told of by the time one was; none where nobody says anything."""
        if self.events is None:
            await asyncio.sleep(min(patience_s, LOOK_AGAIN_S))
            return set()
        try:
            async with asyncio.timeout(patience_s):
                first = await self.events.get()
        except TimeoutError:
            return set()
        return {event["order"] for event in [first, *(self.events.get_nowait() for _ in range(self.events.qsize()))]}  # type: ignore[misc]


class MarketData:
    """What everybody may know: instruments, depth, trades, candles."""

    def __init__(self, database: Database, clock: Clock, hours: Timetable) -> None:
        self._reads = ExchangeReads(database)
        self._clock = clock
        self._hours = hours

    async def list_instruments(self) -> list[Instrument]:
        """All that is traded, by batch."""
        return await self._reads.list_instruments()

    async def find_instrument(self, instrument: Asset) -> Instrument | None:
        """The instrument of that id."""
        return await self._reads.find_instrument(instrument)

    def phase_of(self, instrument: Instrument) -> Phase:
        """What its market does now."""
        return self._hours.phase_at(instrument, self._clock.now())

    def reference_of(self, instrument: Instrument) -> int:
        """Today's reference price, fen per tonne."""
        return rules.reference_at(instrument, self._clock.now(), self._hours.zone)

    def band_of(self, instrument: Instrument) -> Band:
        """Today's band of prices."""
        return rules.band_of(self.reference_of(instrument), self._hours.settings)

    async def depth(self, instrument: Asset, levels: int) -> Depth:
        """The best ``levels`` (1–50) prices of both sides.

        Raises:
            InvalidInputError: more or less levels.
        """
        if not 1 <= levels <= MAX_LEVELS:
            raise InvalidInputError("depth", Text(f"1–{MAX_LEVELS}", f"1–{MAX_LEVELS}"))
        found = await self._reads.list_depth(instrument)
        sides = {side: sorted(LevelDepth(*level) for name, *level in found if name == side.value) for side in Side}
        return Depth(tuple(sides[Side.BUY][::-1][:levels]), tuple(sides[Side.SELL][:levels]))

    async def list_trades(
        self, instrument: Asset, *, below: int | None, above: int | None, limit: int, newest: bool
    ) -> list[Trade]:
        """Trades with numbers between the bounds, newest first."""
        return await self._reads.list_trades(instrument, below=below, above=above, limit=limit, newest=newest)

    async def find_trades(self, ids: Sequence[str]) -> dict[str, Trade]:
        """Those of the trades that exist."""
        return await self._reads.find_trades(ids)

    async def list_candles(
        self, instrument: Asset, interval: Interval, since: datetime, until: datetime
    ) -> list[Candle]:
        """Candles that begin in ``since <= t < until``, oldest first.

        Raises:
            InvalidInputError: the span runs backwards, or is longer than 500 candles.
        """
        stored = Interval.DAY if interval is Interval.DAY else Interval.MINUTE
        if not since <= until <= since + MAX_CANDLES * LENGTHS.get(interval, timedelta(days=1)):
            raise InvalidInputError("until", Text(f"最多 {MAX_CANDLES} 个周期", f"at most {MAX_CANDLES} candles"))
        # Whole candles of the interval: the first begins at or after ``since``.
        begin = candle_start(interval, since, self._hours.zone)
        found = await self._reads.list_candles(instrument, stored, begin, until, limit=MAX_STORED)
        return [candle for candle in merge(found, interval, self._hours.zone) if candle.start >= since]

    async def ticker(self, instrument: Instrument) -> Ticker:
        """The last price beside the reference, and what the last 24 hours traded."""
        now = self._clock.now()
        minutes = await self._reads.list_candles(
            instrument.id,
            Interval.MINUTE,
            now - timedelta(days=1),
            now + timedelta(minutes=1),
            limit=MINUTES_OF_A_DAY + 2,
        )
        return ticker(
            minutes,
            last_fen=instrument.last_fen,
            reference_fen=self.reference_of(instrument),
            now=now,
            zone=self._hours.zone,
        )
