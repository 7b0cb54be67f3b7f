"""What a fill makes of two orders: the trade, what it draws on, and both as they stand after it. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.kernel.units import MG_PER_GRAM
from backend.market.exchange import rules
from backend.market.exchange.book import Side
from backend.market.exchange.model import Trade

if TYPE_CHECKING:
    from datetime import datetime

    from backend.market.exchange.book import Fill
    from backend.market.exchange.model import Order


@dataclass
class Drawn:
    """A trade that was decided on; whether it is the last to draw on the one or the other order's hold."""

    trade: Trade
    buyer: Order
    seller: Order
    last_of_buyer: bool = False
    last_of_seller: bool = False

    @property
    def buyer_pays(self) -> bool:
        """Whether the buyer's hold is drawn on at all: a fill can be worth less than a fen."""
        return bool(self.trade.value_fen or self.trade.buyer_fee_fen)


def drawn_on(
    buyer: Order, seller: Order, fill: Fill, taker_side: Side | None, number: int, at: datetime
) -> tuple[Drawn, tuple[Order, Order]]:
    """The trade of that number out of the holds of both orders, and both orders after it, the buyer's first."""
    value_fen = rules.fill_value(buyer.numerator, fill.price_fen, fill.quantity_g)
    buyer_after = _filled(buyer, fill, value_fen, is_taker=taker_side is Side.BUY)
    seller_after = _filled(seller, fill, value_fen, is_taker=taker_side is Side.SELL)
    trade = Trade(
        instrument=buyer.instrument,
        number=number,
        at=at,
        price_fen=fill.price_fen,
        quantity_g=fill.quantity_g,
        value_fen=value_fen,
        buy_order=buyer.id,
        sell_order=seller.id,
        buyer=buyer.owner,
        seller=seller.owner,
        buyer_fee_fen=buyer_after.fee_fen - buyer.fee_fen,
        seller_fee_fen=seller_after.fee_fen - seller.fee_fen,
        taker_side=taker_side,
    )
    return Drawn(trade, buyer, seller), (buyer_after, seller_after)


def _filled(order: Order, fill: Fill, value_fen: int, *, is_taker: bool) -> Order:
    bps = order.fees.taker_bps if is_taker else order.fees.maker_bps
    fee_fen = rules.fee_of(order.fee_numerator, order.fee_fen, value_fen, bps)
    drawn = value_fen + fee_fen if order.side is Side.BUY else fill.quantity_g * MG_PER_GRAM
    return dataclasses.replace(
        order,
        filled_g=order.filled_g + fill.quantity_g,
        remaining_g=order.remaining_g - fill.quantity_g,
        numerator=order.numerator + fill.price_fen * fill.quantity_g,
        value_fen=order.value_fen + value_fen,
        fee_numerator=order.fee_numerator + value_fen * bps,
        fee_fen=order.fee_fen + fee_fen,
        held=order.held - drawn,
    )
