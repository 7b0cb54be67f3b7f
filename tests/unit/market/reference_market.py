"""The reference market: price–time priority and the uniform price as one would do them by hand, in plain lists.

Slow and obvious. It shares with the book nothing but the value types.
"""

from __future__ import annotations

from backend.market.exchange.book import (
    Depth,
    Fill,
    LevelDepth,
    Order,
    Outcome,
    Side,
    StopReason,
    TimeInForce,
)


def priority(order: Order) -> tuple[int, int]:
    """Better price first, then the earlier."""
    return (-order.price_fen if order.side is Side.BUY else order.price_fen, order.sequence)


def accepts(order: Order, price_fen: int) -> bool:
    """Whether the order's limit allows the price."""
    return price_fen <= order.price_fen if order.side is Side.BUY else price_fen >= order.price_fen


class ReferenceMarket:
    """All resting orders, each side in one sorted list."""

    def __init__(self, *, collects: bool = False) -> None:
        self.sides: dict[Side, list[Order]] = {Side.BUY: [], Side.SELL: []}
        self.collects = collects

    def place(self, order: Order, tif: TimeInForce) -> Outcome:
        others = self.sides[Side.SELL if order.side is Side.BUY else Side.BUY]
        if tif is TimeInForce.FOK and self.fillable_g(order, others) < order.remaining_g:
            return Outcome((), 0, order.remaining_g, StopReason.FOK_UNFILLABLE)
        fills = []
        open_g, stop = order.remaining_g, None
        while open_g > 0 and others and accepts(order, others[0].price_fen) and not self.collects:
            maker = others.pop(0)
            if maker.owner == order.owner:
                others.insert(0, maker)
                stop = StopReason.SELF_TRADE
                break
            traded_g = min(open_g, maker.remaining_g)
            fills.append(Fill(maker.id, order.id, maker.price_fen, traded_g))
            open_g -= traded_g
            if maker.remaining_g > traded_g:
                others.insert(0, maker._replace(remaining_g=maker.remaining_g - traded_g))
        if open_g > 0 and stop is None and tif in {TimeInForce.IOC, TimeInForce.FOK}:
            stop = StopReason.IOC_REST
        if open_g == 0 or stop is not None:
            return Outcome(tuple(fills), 0, open_g, stop)
        self.sides[order.side].append(order._replace(remaining_g=open_g))
        self.sides[order.side].sort(key=priority)
        return Outcome(tuple(fills), open_g, 0, None)

    @staticmethod
    def fillable_g(order: Order, others: list[Order]) -> int:
        """Grams within the limit before the first order of the same owner."""
        total_g = 0
        for other in others:
            if other.owner == order.owner or not accepts(order, other.price_fen):
                break
            total_g += other.remaining_g
        return total_g

    def cancel(self, order_id: str) -> int | None:
        order = self.find(order_id)
        if order is None:
            return None
        self.sides[order.side].remove(order)
        return order.remaining_g

    def amend(self, order_id: str, price_fen: int, remaining_g: int, sequence: int) -> Outcome | None:
        order = self.find(order_id)
        if order is None:
            return None
        if price_fen == order.price_fen and remaining_g <= order.remaining_g:
            side = self.sides[order.side]
            side[side.index(order)] = order._replace(remaining_g=remaining_g)
            return Outcome((), remaining_g, 0, None)
        self.sides[order.side].remove(order)
        anew = order._replace(price_fen=price_fen, remaining_g=remaining_g, sequence=sequence)
        return self.place(anew, TimeInForce.GTC)

    def find(self, order_id: str) -> Order | None:
        for order in self.resting():
            if order.id == order_id:
                return order
        return None

    def resting(self) -> list[Order]:
        return self.sides[Side.BUY] + self.sides[Side.SELL]

    def depth(self, levels: int) -> Depth:
        shown = {}
        for side, orders in self.sides.items():
            prices = list(dict.fromkeys(order.price_fen for order in orders))
            at = {price: [order.remaining_g for order in orders if order.price_fen == price] for price in prices}
            shown[side] = tuple(LevelDepth(price, sum(at[price]), len(at[price])) for price in prices[:levels])
        return Depth(shown[Side.BUY], shown[Side.SELL])

    def at_price(self, price_fen: int) -> tuple[int, int]:
        """Grams executed and grams demanded beyond those supplied if all traded at one price."""
        demand_g = sum(order.remaining_g for order in self.sides[Side.BUY] if accepts(order, price_fen))
        supply_g = sum(order.remaining_g for order in self.sides[Side.SELL] if accepts(order, price_fen))
        return min(demand_g, supply_g), demand_g - supply_g

    def uniform_price(self, candidates: list[int], reference_fen: int) -> int | None:
        """The best of all candidates by the four criteria, one after the other; None where nothing would trade."""
        sums = {price: self.at_price(price) for price in candidates}
        most_g = max((volume for volume, _ in sums.values()), default=0)
        if most_g == 0:
            return None
        tied = [price for price in candidates if sums[price][0] == most_g]
        least_g = min(abs(sums[price][1]) for price in tied)
        tied = [price for price in tied if abs(sums[price][1]) == least_g]
        if least_g > 0 and {sums[price][1] for price in tied} == {least_g}:
            return max(tied)
        if least_g > 0 and {sums[price][1] for price in tied} == {-least_g}:
            return min(tied)
        return min(tied, key=lambda price: (abs(price - reference_fen), price))
