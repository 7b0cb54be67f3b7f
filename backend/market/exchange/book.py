"""The order book of one instrument, in memory: price–time priority, integers only. Reads no clock, makes no ids.

Whoever changes the book has already checked lot, tick, band, hours and funds: what is impossible here is a bug of the
caller and raises ``ValueError`` before anything moved. Expiry is the caller's too: an order that ended is cancelled.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Side(StrEnum):
    """What an order does with the instrument."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        """The side it trades with."""
        return Side.SELL if self is Side.BUY else Side.BUY


class TimeInForce(StrEnum):
    """How long an order waits for what it did not get at once."""

    GTC = "GTC"
    """Until it is cancelled."""
    GTD = "GTD"
    """Until a date, which its caller keeps; here the same as ``GTC``."""
    IOC = "IOC"
    """Not at all: the rest is cancelled."""
    FOK = "FOK"
    """Not at all, and it takes all or nothing."""


WAITING = frozenset({TimeInForce.GTC, TimeInForce.GTD})


class StopReason(StrEnum):
    """Why the rest of an order was cancelled by the book."""

    IOC_REST = "IOC_REST"
    FOK_UNFILLABLE = "FOK_UNFILLABLE"
    SELF_TRADE = "SELF_TRADE"
    """The next it would have met was its owner's own order."""


class Order(NamedTuple):
    """An order as the book knows it. A market order arrives with the limit at the edge of the band."""

    id: str
    owner: str
    side: Side
    price_fen: int
    """Limit in whole fen per tonne."""
    remaining_g: int
    """Whole grams still open."""
    sequence: int
    """Time priority: the lower came first. Every order placed or amended brings a higher one than all before."""


class Fill(NamedTuple):
    """A meeting of two orders. The maker rested, the taker came; in an auction the maker is the earlier of the two."""

    maker: str
    taker: str
    price_fen: int
    quantity_g: int


class Outcome(NamedTuple):
    """What became of an order placed or amended: its fills in the order in which they happened, and its rest."""

    fills: tuple[Fill, ...]
    rested_g: int
    """Grams that now rest in the book."""
    cancelled_g: int
    """Grams that the book cancelled, for the reason ``stop``."""
    stop: StopReason | None
    waiting_g: int = 0
    """Grams still to be matched before anything else happens: there was room for no more fills."""


class Room(NamedTuple):
    """For how many fills there is room now, and for how many grams in the first of them; None is for any number."""

    fills: int | None = None
    first_g: int | None = None


ANY_ROOM = Room()


class LevelDepth(NamedTuple):
    """All that rests at one price."""

    price_fen: int
    quantity_g: int
    orders: int


class Depth(NamedTuple):
    """The best levels of both sides, the best first."""

    bids: tuple[LevelDepth, ...]
    asks: tuple[LevelDepth, ...]


@dataclass(slots=True)
class _Resting:
    order: Order
    remaining_g: int


@dataclass(slots=True)
class _Level:
    price_fen: int
    quantity_g: int = 0
    # The first in is served first, and any may leave: both in constant time, which a dict does not give at its front.
    queue: OrderedDict[str, _Resting] = field(default_factory=OrderedDict)


@dataclass(slots=True)
class _Ladder:
    """The levels of one side. ``keys`` are prices times ``sign``, ascending: the best is the last on both sides."""

    sign: int
    keys: list[int] = field(default_factory=list)
    levels: dict[int, _Level] = field(default_factory=dict)

    def add(self, resting: _Resting) -> None:
        order = resting.order
        level = self.levels.get(order.price_fen)
        if level is None:
            level = self.levels[order.price_fen] = _Level(order.price_fen)
            insort(self.keys, self.sign * order.price_fen)
        level.quantity_g += resting.remaining_g
        level.queue[order.id] = resting

    def drop(self, level: _Level) -> None:
        del self.levels[level.price_fen]
        del self.keys[bisect_left(self.keys, self.sign * level.price_fen)]

    def best(self) -> _Level | None:
        return self.levels[self.sign * self.keys[-1]] if self.keys else None

    def ranked(self) -> Iterator[_Level]:
        """Levels from the best on."""
        return (self.levels[self.sign * key] for key in reversed(self.keys))

    def reached(self, limit_fen: int) -> Iterator[_Resting]:
        """What an order of the other side with that limit would meet, in this order."""
        for key in reversed(self.keys):
            if key < self.sign * limit_fen:
                return
            yield from self.levels[self.sign * key].queue.values()


class Book:
    """Resting orders of one instrument. While it ``collects`` for a call auction, orders rest without matching."""

    def __init__(self) -> None:
        self._ladders = {Side.BUY: _Ladder(1), Side.SELL: _Ladder(-1)}
        self._resting: dict[str, _Resting] = {}
        self._last_sequence = 0
        self._collects = False

    @classmethod
    def load(cls, orders: Iterable[Order], *, collects: bool = False) -> Self:
        """The book in which these orders rest: after a restart, the same as before.

        Raises:
            ValueError: an order that cannot be, or orders that cross though the book does not collect.
        """
        book = cls()
        for order in sorted(orders, key=lambda order: order.sequence):
            book._admit(order)
            book._rest(order)
        book._collects = collects
        if not collects:
            book._require_uncrossed()
        return book

    @property
    def collects(self) -> bool:
        """Whether this is the call phase of an auction."""
        return self._collects

    def open_call(self) -> None:
        """Begin the call phase of an auction: from now on orders rest without matching."""
        self._collects = True

    def close_call(self) -> None:
        """Go on with continuous matching.

        Raises:
            ValueError: orders still cross; the auction was not executed, or its floor left some that must be cancelled.
        """
        self._require_uncrossed()
        self._collects = False

    def place(self, order: Order, tif: TimeInForce, room: Room = ANY_ROOM) -> Outcome:
        """Match an order against the other side, at the resting orders' prices, and let its rest wait or cancel it.

        It stops where it would meet an order of its owner: its rest is cancelled, what it filled before stands. FOK is
        decided before anything moves. Where there is no room for all fills, the caller lets it ``go_on`` before
        anything else.

        Raises:
            ValueError: not a new order, or one that does not wait while the book collects.
        """
        if self._collects and tif not in WAITING:
            raise ValueError(f"{order.id} is {tif}, and the book collects for an auction")
        self._admit(order)
        if tif is TimeInForce.FOK and not self._can_fill(order):
            return Outcome((), 0, order.remaining_g, StopReason.FOK_UNFILLABLE)
        return self.go_on(order, tif, room)

    def go_on(self, order: Order, tif: TimeInForce, room: Room = ANY_ROOM) -> Outcome:
        """Match what is still to be matched of an order for whose fills there was no room; it is not decided anew."""
        self._last_sequence = max(self._last_sequence, order.sequence)
        fills, open_g, met_own = self._match(order, room)
        if not open_g:
            return Outcome(tuple(fills), 0, 0, None)
        if not met_own and self._would_meet(order):
            return Outcome(tuple(fills), 0, 0, None, open_g)
        if met_own or tif not in WAITING:
            return Outcome(tuple(fills), 0, open_g, StopReason.SELF_TRADE if met_own else StopReason.IOC_REST)
        self._rest(order._replace(remaining_g=open_g) if fills else order)
        return Outcome(tuple(fills), open_g, 0, None)

    def cancel(self, order_id: str) -> int | None:
        """Take an order out; the grams that were open. None where it does not rest here."""
        resting = self._resting.get(order_id)
        if resting is None:
            return None
        open_g = resting.remaining_g
        self._reduce(resting, open_g)
        return open_g

    def amend(
        self, order_id: str, price_fen: int, remaining_g: int, sequence: int, room: Room = ANY_ROOM
    ) -> Outcome | None:
        """Give an order another limit or other open grams. None where it does not rest here.

        Fewer grams at the same price keep its time priority; anything else loses it: it is taken out and placed anew
        with ``sequence``, may match at once as taker and rests with what is left.

        Raises:
            ValueError: not an order that can be, or a sequence that is not new.
        """
        resting = self._resting.get(order_id)
        if resting is None:
            return None
        order = resting.order
        if price_fen == order.price_fen and 0 < remaining_g <= resting.remaining_g:
            self._reduce(resting, resting.remaining_g - remaining_g)
            return Outcome((), remaining_g, 0, None)
        anew = order._replace(price_fen=price_fen, remaining_g=remaining_g, sequence=sequence)
        self._require_possible(anew)
        self._reduce(resting, resting.remaining_g)
        return self.place(anew, TimeInForce.GTC, room)

    def execute(self, fills: Iterable[Fill]) -> None:
        """Take what an auction filled from both orders of each fill.

        Raises:
            ValueError: an order of them does not rest here with so much; nothing moved.
        """
        taken: dict[str, int] = {}
        for fill in fills:
            for order_id in (fill.maker, fill.taker):
                taken[order_id] = taken.get(order_id, 0) + fill.quantity_g
        for order_id, quantity_g in taken.items():
            resting = self._resting.get(order_id)
            if resting is None or resting.remaining_g < quantity_g:
                raise ValueError(f"{order_id} has no {quantity_g} g open")
        for order_id, quantity_g in taken.items():
            self._reduce(self._resting[order_id], quantity_g)

    def meets_own(self, owner: str, side: Side, price_fen: int) -> bool:
        """Whether an order like this crosses one of the same owner: refused by the caller while the book collects."""
        return any(resting.order.owner == owner for resting in self._ladders[side.opposite].reached(price_fen))

    def crossing(self) -> tuple[Order, Order] | None:
        """The first bid and the first ask where they cross: left by an auction that could not execute them."""
        bid, ask = (next(self.orders(side), None) for side in (Side.BUY, Side.SELL))
        return (bid, ask) if bid is not None and ask is not None and bid.price_fen >= ask.price_fen else None

    def find(self, order_id: str) -> Order | None:
        """A resting order with what of it is open."""
        resting = self._resting.get(order_id)
        return None if resting is None else resting.order._replace(remaining_g=resting.remaining_g)

    def orders(self, side: Side) -> Iterator[Order]:
        """The resting orders of a side in priority order, each with what of it is open."""
        for level in self._ladders[side].ranked():
            for resting in level.queue.values():
                yield resting.order._replace(remaining_g=resting.remaining_g)

    def __iter__(self) -> Iterator[Order]:
        """All resting orders, bids before asks, each side in priority order."""
        return chain(self.orders(Side.BUY), self.orders(Side.SELL))

    def __len__(self) -> int:
        """How many orders rest."""
        return len(self._resting)

    def depth(self, levels: int) -> Depth:
        """So many levels of each side at most."""

        def best(side: Side) -> tuple[LevelDepth, ...]:
            return tuple(
                LevelDepth(level.price_fen, level.quantity_g, len(level.queue))
                for level in islice(self._ladders[side].ranked(), levels)
            )

        return Depth(best(Side.BUY), best(Side.SELL))

    @property
    def best_bid(self) -> int | None:
        """The highest limit of a buyer, fen per tonne."""
        level = self._ladders[Side.BUY].best()
        return None if level is None else level.price_fen

    @property
    def best_ask(self) -> int | None:
        """The lowest limit of a seller, fen per tonne."""
        level = self._ladders[Side.SELL].best()
        return None if level is None else level.price_fen

    def _require_possible(self, order: Order) -> None:
        if order.remaining_g <= 0 or order.price_fen <= 0:
            raise ValueError(f"{order} is no order")
        if order.sequence <= self._last_sequence:
            raise ValueError(f"{order} does not follow on {self._last_sequence}")

    def _require_uncrossed(self) -> None:
        bid, ask = self.best_bid, self.best_ask
        if bid is not None and ask is not None and bid >= ask:
            raise ValueError(f"a bid of {bid} crosses an ask of {ask}")

    def _admit(self, order: Order) -> None:
        self._require_possible(order)
        if order.id in self._resting:
            raise ValueError(f"{order.id} rests already")
        # The queues are in the order of arrival; with this they are in the order of sequences too, as after a restart.
        self._last_sequence = order.sequence

    def _rest(self, order: Order) -> None:
        resting = self._resting[order.id] = _Resting(order, order.remaining_g)
        self._ladders[order.side].add(resting)

    def _reduce(self, resting: _Resting, quantity_g: int) -> None:
        order = resting.order
        ladder = self._ladders[order.side]
        level = ladder.levels[order.price_fen]
        level.quantity_g -= quantity_g
        resting.remaining_g -= quantity_g
        if not resting.remaining_g:
            del self._resting[order.id]
            del level.queue[order.id]
            if not level.queue:
                ladder.drop(level)

    def _would_meet(self, order: Order) -> bool:
        ladder = self._ladders[order.side.opposite]
        return not self._collects and bool(ladder.keys) and ladder.keys[-1] >= ladder.sign * order.price_fen

    def _match(self, order: Order, room: Room) -> tuple[list[Fill], int, bool]:
        """Fill the order; its fills, what of it stays open, and whether it met its owner's own."""
        if self._collects:
            return [], order.remaining_g, False
        ladder = self._ladders[order.side.opposite]
        limit = ladder.sign * order.price_fen
        fills: list[Fill] = []
        open_g = order.remaining_g
        while open_g and ladder.keys and ladder.keys[-1] >= limit:
            level = ladder.levels[ladder.sign * ladder.keys[-1]]
            maker = next(iter(level.queue.values()))
            if maker.order.owner == order.owner:
                return fills, open_g, True
            if len(fills) == room.fills:
                break
            traded_g = min(open_g, maker.remaining_g)
            if room.first_g is not None and not fills:
                traded_g = min(traded_g, room.first_g)
            fills.append(Fill(maker.order.id, order.id, level.price_fen, traded_g))
            open_g -= traded_g
            self._reduce(maker, traded_g)
        return fills, open_g, False

    def _can_fill(self, order: Order) -> bool:
        """Whether the other side has all of it before the owner's own order comes."""
        found_g = 0
        for resting in self._ladders[order.side.opposite].reached(order.price_fen):
            if resting.order.owner == order.owner:
                return False
            found_g += resting.remaining_g
            if found_g >= order.remaining_g:
                return True
        return False
