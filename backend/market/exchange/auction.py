"""The uniform price of a call auction over a book that collected orders. Pure: the book is only read.

Guangdong's PHCER auctions clear this way: bids in order of price, all executed at one uniform price, bids of at least
one tonne and not below a floor (Guangzhou Emissions Exchange, auction of 123,760 t on 2025-12-29, floor 29.98 yuan/t).
What decides among prices of equal volume is Tanhui's design, after the call auctions of securities exchanges.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, islice
from typing import TYPE_CHECKING, NamedTuple

from backend.market.exchange.book import Fill, Side

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backend.market.exchange.book import Book, Order


class Uncrossing(NamedTuple):
    """What a call auction comes to. Without a price nothing trades."""

    price_fen: int | None
    volume_g: int
    fills: tuple[Fill, ...]
    """Buyers and sellers paired, each in price–time priority; all at ``price_fen``."""


class _Level(NamedTuple):
    """What would happen at a price: grams executed, and grams demanded beyond those supplied."""

    price_fen: int
    volume_g: int
    surplus_g: int


NOTHING = Uncrossing(None, 0, ())


def uncross(book: Book, reference_fen: int, tick_fen: int, floor_fen: int | None = None) -> Uncrossing:
    """The uniform price that executes the most, and its fills.

    Among prices of the same volume: the least surplus; where all of those leave buyers over the highest, where all
    leave sellers over the lowest; else the nearest to the reference, the lower of two. Prices considered are the limits
    of resting orders where the sides cross, and between them the reference and the floor, on the tick. Bids below the
    floor do not trade; the caller refuses them, as it refuses orders that would cross one of their own owner.
    """
    buyers, sellers = tuple(book.orders(Side.BUY)), tuple(book.orders(Side.SELL))
    _assert_no_own_crossing(buyers, sellers)
    levels = _levels(buyers, sellers, _prices(buyers, sellers, reference_fen, tick_fen, floor_fen))
    if not levels:
        return NOTHING
    price_fen = _choose(levels, reference_fen)
    fills = tuple(_pair(buyers, sellers, price_fen))
    return Uncrossing(price_fen, sum(fill.quantity_g for fill in fills), fills)


def list_fills(book: Book, price_fen: int, limit: int) -> tuple[Fill, ...]:
    """The first ``limit`` fills at that price: once they are executed, the next are those that were to follow them."""
    return tuple(islice(_pair(tuple(book.orders(Side.BUY)), tuple(book.orders(Side.SELL)), price_fen), limit))


def _assert_no_own_crossing(buyers: Sequence[Order], sellers: Sequence[Order]) -> None:
    asks: dict[str, int] = {}
    for order in sellers:
        asks.setdefault(order.owner, order.price_fen)  # an owner's best is the first
    for order in buyers:
        ask = asks.get(order.owner)
        assert ask is None or order.price_fen < ask, f"{order.id} crosses an order of its own owner"


def _prices(
    buyers: Sequence[Order], sellers: Sequence[Order], reference_fen: int, tick_fen: int, floor_fen: int | None
) -> list[int]:
    """The prices to consider: none outside the best limits of both sides, for there one side has nothing."""
    if not buyers or not sellers:
        return []
    lowest, highest = sellers[0].price_fen, buyers[0].price_fen
    prices = {order.price_fen for order in (*buyers, *sellers)}
    below = reference_fen - reference_fen % tick_fen
    prices |= {below, below + (tick_fen if below < reference_fen else 0)}
    if floor_fen is not None:
        floor_on_tick = floor_fen + -floor_fen % tick_fen
        lowest = max(lowest, floor_on_tick)
        prices.add(floor_on_tick)
    return sorted(price for price in prices if lowest <= price <= highest)


def _levels(buyers: Sequence[Order], sellers: Sequence[Order], prices: Sequence[int]) -> list[_Level]:
    bids = [-order.price_fen for order in buyers]
    asks = [order.price_fen for order in sellers]
    bought = [0, *accumulate(order.remaining_g for order in buyers)]
    sold = [0, *accumulate(order.remaining_g for order in sellers)]
    levels = []
    for price in prices:
        demand_g, supply_g = bought[bisect_right(bids, -price)], sold[bisect_right(asks, price)]
        levels.append(_Level(price, min(demand_g, supply_g), demand_g - supply_g))
    return levels


def _choose(levels: Sequence[_Level], reference_fen: int) -> int:
    volume_g = max(level.volume_g for level in levels)
    levels = [level for level in levels if level.volume_g == volume_g]
    surplus_g = min(abs(level.surplus_g) for level in levels)
    levels = [level for level in levels if abs(level.surplus_g) == surplus_g]
    if all(level.surplus_g > 0 for level in levels):
        return levels[-1].price_fen
    if all(level.surplus_g < 0 for level in levels):
        return levels[0].price_fen
    return min((abs(level.price_fen - reference_fen), level.price_fen) for level in levels)[1]


def _pair(buyers: Sequence[Order], sellers: Sequence[Order], price_fen: int) -> Iterator[Fill]:
    supply = ((order, order.remaining_g) for order in sellers if order.price_fen <= price_fen)
    seller, offered_g = next(supply, (None, 0))
    for buyer in buyers:
        wanted_g = buyer.remaining_g if buyer.price_fen >= price_fen else 0
        while wanted_g:
            if seller is None:
                return
            traded_g = min(wanted_g, offered_g)
            maker, taker = (buyer, seller) if buyer.sequence < seller.sequence else (seller, buyer)
            yield Fill(maker.id, taker.id, price_fen, traded_g)
            wanted_g -= traded_g
            offered_g -= traded_g
            if not offered_g:
                seller, offered_g = next(supply, (None, 0))
