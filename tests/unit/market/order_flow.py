"""A seeded flow of orders for one instrument: what arrives at the book and, beside it, at the reference market."""

from __future__ import annotations

import random
from typing import NamedTuple, Protocol

from backend.market.exchange.book import Book, Order, Outcome, Side, TimeInForce

LOT_G = 1_000
MID_FEN, BAND_FEN = 7_000, 700
OWNERS = 60
LIMITED = (*(TimeInForce.GTC,) * 15, *(TimeInForce.GTD,) * 3, TimeInForce.IOC, TimeInForce.FOK)
AT_ONCE = (TimeInForce.IOC, TimeInForce.IOC, TimeInForce.FOK)


class Place(NamedTuple):
    """A new order."""

    order: Order
    tif: TimeInForce


class Cancel(NamedTuple):
    """An order to take out, which may be gone."""

    order_id: str


class Amend(NamedTuple):
    """An order to change, which may be gone."""

    order_id: str
    price_fen: int
    remaining_g: int
    sequence: int


Step = Place | Cancel | Amend


class Market(Protocol):
    """What both markets do."""

    def place(self, order: Order, tif: TimeInForce) -> Outcome: ...
    def cancel(self, order_id: str) -> int | None: ...
    def amend(self, order_id: str, price_fen: int, remaining_g: int, sequence: int) -> Outcome | None: ...


def play(market: Market, step: Step) -> Outcome | int | None:
    """Let the step happen; what the market answers."""
    if isinstance(step, Place):
        return market.place(step.order, step.tif)
    if isinstance(step, Cancel):
        return market.cancel(step.order_id)
    return market.amend(step.order_id, step.price_fen, step.remaining_g, step.sequence)


class OrderFlow:
    """60 % limit orders, 10 % market orders, 25 % cancellations, 5 % amendments around a price that wanders.

    Limits lie up to ``spread`` ticks from it; while more than ``crowd`` orders rest, more of them cross.
    """

    def __init__(self, seed: int, *, spread: int, crowd: int) -> None:
        self._chance = random.Random(seed)
        self._spread, self._crowd = spread, crowd
        self._mid_fen = MID_FEN
        self._sequence = 0
        self._ids: list[str] = []
        # What rests is looked up here, so that nearly every cancellation meets an order as a real one would.
        self._book = Book()

    def steps(self, count: int) -> list[Step]:
        """The next so many steps."""
        steps = []
        for _ in range(count):
            step = self._step()
            play(self._book, step)
            steps.append(step)
        return steps

    def _step(self) -> Step:
        chance, kind = self._chance, self._chance.randrange(100)
        drift = (self._mid_fen < MID_FEN) - (self._mid_fen > MID_FEN)
        self._mid_fen += chance.choice((-1, 0, 0, 1, drift))
        if kind < 25 and self._ids:
            return Cancel(self._some_id())
        self._sequence += 1
        side = chance.choice(tuple(Side))
        if kind < 30 and self._ids:
            order_id = self._some_id()
            order = self._book.find(order_id)
            if order is not None and chance.randrange(2):
                return Amend(order_id, order.price_fen, max(LOT_G, order.remaining_g - LOT_G), self._sequence)
            side = side if order is None else order.side
            return Amend(order_id, self._limit_fen(side), self._quantity_g(9), self._sequence)
        order_id = f"o{self._sequence}"
        owner = f"c{chance.randrange(OWNERS)}"
        if kind < 40:
            edge_fen = MID_FEN + BAND_FEN if side is Side.BUY else MID_FEN - BAND_FEN
            return Place(
                Order(order_id, owner, side, edge_fen, self._quantity_g(12), self._sequence), chance.choice(AT_ONCE)
            )
        self._ids.append(order_id)
        order = Order(order_id, owner, side, self._limit_fen(side), self._quantity_g(9), self._sequence)
        return Place(order, chance.choice(LIMITED))

    def _limit_fen(self, side: Side) -> int:
        """More often near the middle than far, at times beyond it."""
        far = self._chance.randint(0, self._chance.randint(1, self._spread))
        crosses = self._chance.randrange(100) < (60 if len(self._book) > self._crowd else 10)
        return self._mid_fen + (far if crosses == (side is Side.BUY) else -far)

    def _quantity_g(self, most_lots: int) -> int:
        return self._chance.randint(1, most_lots) * LOT_G

    def _some_id(self) -> str:
        """One that rests, but now and then one that does not."""
        while True:
            place = self._chance.randrange(len(self._ids))
            order_id = self._ids[place]
            if self._book.find(order_id) is not None:
                return order_id
            if len(self._ids) > 1:
                self._ids[place] = self._ids[-1]
                self._ids.pop()
            if len(self._ids) == 1 or self._chance.randrange(10) == 0:
                return order_id
