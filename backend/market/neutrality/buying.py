"""Buys credits at the exchange for a neutralisation: all at once or none, for at most so much a tonne."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from backend.identity.model import Principal, PrincipalKind
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.model import OrderKind, OrderStatus, Placing

if TYPE_CHECKING:
    from backend.ledger.model import Asset, OwnerId
    from backend.market.exchange.service import Orders


class Bought(NamedTuple):
    """What became of an order to buy: whether it is over, how many grams it gave, why not more."""

    order: str
    is_over: bool
    filled_g: int
    reason: str | None


class Buying(Protocol):
    """What neutrality asks of the exchange."""

    async def buy(self, owner: OwnerId, credit: Asset, grams: int, max_price_fen: int, *, key: str) -> Bought:
        """Order so many grams, all or none, and wait a moment; the same key again tells of the same order.

        Raises:
            Refusal: any of those of the exchange; nothing is ordered.
        """


class ExchangeBuying:
    """Fill-or-kill orders in the owner's name."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    async def buy(self, owner: OwnerId, credit: Asset, grams: int, max_price_fen: int, *, key: str) -> Bought:
        """Order so many grams, all or none: see ``Orders.place``."""
        kind, _, name = owner.partition(":")
        principal = Principal(PrincipalKind(kind), name)
        placing = Placing(
            instrument=credit,
            side=Side.BUY,
            kind=OrderKind.LIMIT,
            price_fen=max_price_fen,
            quantity_g=grams,
            time_in_force=TimeInForce.FOK,
        )
        async with self._orders.watching(owner) as watch:
            order = await watch.seen(await self._orders.place(principal, placing, key=key))
        is_over = order.status in {OrderStatus.FILLED, OrderStatus.CANCELLED}
        return Bought(order.id, is_over, order.filled_g, order.reason.value if order.reason else None)
