"""The traders' door to the exchange: place, cancel, amend, read; and what everybody may know of the market."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from backend.kernel.errors import InvalidInputError, Text, UnavailableError
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import is_credit
from backend.market.exchange import rules
from backend.market.exchange.book import Depth, LevelDepth, Side
from backend.market.exchange.candles import LENGTHS, MINUTE, Interval, candle_start, merge, ticker
from backend.market.exchange.model import Holding, order_channel
from backend.market.exchange.store import ExchangeReads
from backend.market.serials.store import list_ranges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
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
# Longer candles are made of minutes, of which so many are read; the first candle begins less than an hour before.
MAX_MINUTES = 10_000
MAX_STORED = MAX_MINUTES + 60
MAX_INSTRUMENTS = 100
SHOWN_RANGES = 100
MINUTES_OF_A_DAY = 1_440
# How old a book may be that is shown: as often as this it is read, however many ask.
SHOWN_FOR_S = 0.25
Shown = TypeVar("Shown")
NO_DATE = Text("超出可用日期范围", "no date that can be")


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


@dataclass(frozen=True, slots=True)
class ShownBook:
    """All prices of a book, best first, and where its instrument stood."""

    depth: Depth
    sequence: int
    at: datetime


@dataclass
class _Shared(Generic[Shown]):
    """What was read of each instrument, for all who ask: again once the instrument changed, but not at every change."""

    _kept: dict[Asset, tuple[object, float, asyncio.Task[Shown]]] = field(default_factory=dict)

    async def get(
        self, instrument: Instrument, *beside: object, lives_s: float, read: Callable[[], Coroutine[Any, Any, Shown]]
    ) -> Shown:
        """What was read when the instrument stood as now, or less than ``lives_s`` ago, or is being read now."""
        # Every round of a matcher makes a revision.
        version = (instrument.revision, instrument.turned_by, *beside)
        now = asyncio.get_running_loop().time()
        known = self._kept.get(instrument.id)
        if known is not None:
            of, since, task = known
            is_broken = task.done() and (task.cancelled() or task.exception() is not None)
            if not is_broken and (of == version or now < since + lives_s or not task.done()):
                return await asyncio.shield(task)
        task = asyncio.create_task(read())
        self._kept[instrument.id] = (version, now, task)
        return await asyncio.shield(task)


class MarketData:
    """What everybody may know: instruments, depth, trades, candles."""

    def __init__(self, database: Database, clock: Clock, hours: Timetable, shown_for_s: float = SHOWN_FOR_S) -> None:
        self._reads = ExchangeReads(database)
        self._clock = clock
        self._hours = hours
        self.shown_for_s = shown_for_s
        # Only instruments that exist are in there.
        self._books: _Shared[ShownBook] = _Shared()
        self._tickers: _Shared[Ticker] = _Shared()

    async def list_instruments(
        self,
        *,
        limit: int = MAX_INSTRUMENTS,
        older: Place | None = None,
        newer: Place | None = None,
        newest: bool = True,
    ) -> list[Instrument]:
        """What is traded, listed last first."""
        return await self._reads.list_listed(limit=limit, older=older, newer=newer, newest=newest)

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

    async def book(self, instrument: Instrument, levels: int) -> ShownBook:
        """The best ``levels`` (1–50) prices of both sides, a quarter of a second old at most where many ask.

        Raises:
            InvalidInputError: more or less levels.
        """
        if not 1 <= levels <= MAX_LEVELS:
            raise InvalidInputError("depth", Text(f"1–{MAX_LEVELS}", f"1–{MAX_LEVELS}"))
        whole = await self._books.get(instrument, lives_s=self.shown_for_s, read=lambda: self._read_book(instrument.id))
        bids, asks = whole.depth
        return dataclasses.replace(whole, depth=Depth(bids[:levels], asks[:levels]))

    async def _read_book(self, name: Asset) -> ShownBook:
        now, instrument = self._clock.now(), await self._reads.find_instrument(name)
        found = await self._reads.list_depth(name)
        sides = {side: sorted(LevelDepth(*level) for name, *level in found if name == side.value) for side in Side}
        depth = Depth(tuple(sides[Side.BUY][::-1]), tuple(sides[Side.SELL]))
        return ShownBook(depth, instrument.sequence if instrument else 0, now)

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
            InvalidInputError: the span runs backwards, is longer than 500 candles or 10,000 minutes (days aside), or
                lies outside the calendar.
        """
        zone, length = self._hours.zone, LENGTHS.get(interval, timedelta(days=1))
        most = MAX_CANDLES if interval is Interval.DAY else min(MAX_CANDLES, MAX_MINUTES * MINUTE // length)
        try:
            since, until = since.astimezone(UTC), until.astimezone(UTC)
            # Whole candles of the interval: the first begins at or after ``since``.
            begin = candle_start(interval, since, zone)
        except OverflowError as error:
            raise InvalidInputError("since", NO_DATE) from error
        if not timedelta() <= until - since <= most * length:
            raise InvalidInputError("until", Text(f"最多 {most} 个周期", f"at most {most} candles"))
        stored = Interval.DAY if interval is Interval.DAY else Interval.MINUTE
        found = await self._reads.list_candles(instrument, stored, begin, until, limit=MAX_STORED)
        return [candle for candle in merge(found, interval, zone) if candle.start >= since]

    async def ticker(self, instrument: Instrument) -> Ticker:
        """The last price beside the reference, and what the last 24 hours traded."""
        minute = candle_start(Interval.MINUTE, self._clock.now(), self._hours.zone)
        return await self._tickers.get(
            instrument, minute, lives_s=self.shown_for_s, read=lambda: self._read_ticker(instrument)
        )

    async def _read_ticker(self, instrument: Instrument) -> Ticker:
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
