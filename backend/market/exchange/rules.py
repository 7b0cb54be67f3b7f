"""What fills cost, what orders reserve, where prices may lie. Pure; integers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backend.kernel.clock import local_date
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import CNY
from backend.market.exchange.book import Side

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.ledger.model import Asset
    from backend.market.exchange.model import Instrument, Order
    from backend.market.settings import MarketSettings

GRAMS_PER_TONNE = 1_000_000
BPS = 10_000


class Band(NamedTuple):
    """The lowest and the highest price of a day, fen per tonne, both on the tick and included."""

    low_fen: int
    high_fen: int

    def has(self, price_fen: int) -> bool:
        """Whether a price lies in it."""
        return self.low_fen <= price_fen <= self.high_fen

    def edge(self, side: Side) -> int:
        """The limit of an order that takes any price."""
        return self.high_fen if side is Side.BUY else self.low_fen


def reference_at(instrument: Instrument, moment: datetime, zone: ZoneInfo) -> int:
    """The reference price of the moment's local day: the last price of a day before, at first that of the listing."""
    is_new = local_date(moment, zone) > instrument.day
    return instrument.last_fen if is_new and instrument.last_fen is not None else instrument.reference_fen


def band_of(reference_fen: int, settings: MarketSettings) -> Band:
    """Prices allowed around a reference: rounded inwards to the tick, never below one tick."""
    tick, width = settings.tick_fen, reference_fen * settings.band_bps
    low, high = reference_fen * BPS - width, reference_fen * BPS + width
    return Band(max(tick, -(-low // (BPS * tick)) * tick), max(tick, high // (BPS * tick) * tick))


def value_of(numerator: int) -> int:
    """Fen for a sum of price times grams, rounded up once: splitting an order gains a buyer nothing."""
    return -(-numerator // GRAMS_PER_TONNE)


def fill_value(numerator: int, price_fen: int, quantity_g: int) -> int:
    """Fen that a fill costs a buyer whose earlier fills sum to ``numerator``."""
    return value_of(numerator + price_fen * quantity_g) - value_of(numerator)


def fee_due(numerator: int) -> int:
    """Fen of fee for a sum of value times basis points, rounded up once: splitting an order saves nothing."""
    return -(-numerator // BPS)


def fee_of(numerator: int, paid_fen: int, value_fen: int, bps: int) -> int:
    """Fen of fee that a fill of that value costs an order which paid ``paid_fen`` for a sum of ``numerator``.

    A fee is a part of the value, so by whole fen too no fill costs more than it is worth.
    """
    return fee_due(numerator + value_fen * bps) - paid_fen


def needed(order: Order) -> int:
    """What an order may still need: fen of a buyer, fees included, or milligrams of a seller."""
    if order.side is Side.SELL:
        return order.remaining_g * MG_PER_GRAM
    most_fen = fill_value(order.numerator, order.price_fen, order.remaining_g)
    return most_fen + fee_of(order.fee_numerator, order.fee_fen, most_fen, order.fees.most_bps)


def reserved_asset(side: Side, instrument: Asset) -> Asset:
    """What an order reserves: fen, or the credit itself."""
    return CNY if side is Side.BUY else instrument


def do_cross(order: Order, other: Order) -> bool:
    """Whether two orders of opposite sides could be filled with each other."""
    buy, sell = (order, other) if order.side is Side.BUY else (other, order)
    return order.side is not other.side and buy.price_fen >= sell.price_fen


def worth_of(quantity_g: int, price_fen: int) -> int:
    """What grams are worth at a price, in whole fen."""
    return quantity_g * price_fen // GRAMS_PER_TONNE


def cost_of(paid_fen: int, bought_g: int, sold_g: int, held_g: int) -> int:
    """Of what was paid for purchases the part of what is still held, at the average of all that ever came in."""
    came_in = max(bought_g, held_g + sold_g)
    return paid_fen * held_g // came_in if came_in else 0
