"""Whether an order may be placed or amended at all, before anything is reserved. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.errors import InvalidInputError, Text
from backend.kernel.units import INT64_MAX
from backend.ledger.model import POOL
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.errors import (
    BelowFloorError,
    BelowMinimumError,
    LimitOnlyError,
    MarketClosedError,
    MarketHaltedError,
    OffLotError,
    OffTickError,
    OutsideBandError,
    PoolBuysError,
)
from backend.market.exchange.model import COLLECTING, IMMEDIATE, OrderKind, PhaseKind
from backend.market.exchange.rules import GRAMS_PER_TONNE, band_of, reference_at

if TYPE_CHECKING:
    from datetime import datetime

    from backend.ledger.model import OwnerId
    from backend.market.exchange.hours import Timetable
    from backend.market.exchange.model import Instrument, Placing
    from backend.market.settings import MarketSettings

# More than any city ever saves: products of such amounts with prices and fees stay far from 64 bits.
MAX_QUANTITY_G = 10**12
MAX_PRICE_FEN = 10**6
ENTERPRISE = "enterprise:"
CLOSED = Text("休市时段", "the market is closed")
PRICE_MISSING = Text("限价委托必须有价格", "a limit order needs a price")
PRICE_GIVEN = Text("市价委托不能带价格", "a market order has no price")
MARKET_WAITS = Text("市价委托只能是 IOC 或 FOK", "a market order is IOC or FOK")
END_MISSING = Text("GTD 委托必须有截止时间", "a GTD order needs its end")
ENDS_IN_AUCTION = Text("不可撤销竞价期间的委托不得早于竞价结束", "no order of an irrevocable auction ends before it")
END_GIVEN = Text("仅 GTD 委托有截止时间", "only a GTD order has an end")


def limit_of(placing: Placing, owner: OwnerId, instrument: Instrument, hours: Timetable, now: datetime) -> int:
    """The limit of the order, fen per tonne; of a market order the edge of the day's band.

    Raises:
        InvalidInputError, PoolBuysError, MarketHaltedError, MarketClosedError, LimitOnlyError, OffLotError,
        BelowMinimumError, OffTickError, OutsideBandError, BelowFloorError: in this order.
    """
    require_form(placing, hours, now)
    if placing.side is Side.BUY and owner.startswith(POOL):
        raise PoolBuysError
    phase = require_trading(instrument, hours, now)
    _require_staying(placing, instrument, phase)
    if phase in COLLECTING and (placing.kind is OrderKind.MARKET or placing.time_in_force in IMMEDIATE):
        raise LimitOnlyError
    require_quantity(placing.quantity_g, owner, hours.settings)
    if placing.price_fen is None:
        return band_of(reference_at(instrument, now, hours.zone), hours.settings).edge(placing.side)
    require_price(placing.price_fen, instrument, hours, now)
    return placing.price_fen


def require_form(placing: Placing, hours: Timetable, now: datetime) -> None:
    """Refuse what is no order whatever the market does.

    Raises:
        InvalidInputError: price, time in force and end do not go together, or the end is not to come or too far.
    """
    is_market, tif, end = placing.kind is OrderKind.MARKET, placing.time_in_force, placing.good_until
    problem = None
    if is_market is not (placing.price_fen is None):
        problem = ("priceFen", PRICE_GIVEN if is_market else PRICE_MISSING)
    elif is_market and tif not in IMMEDIATE:
        problem = ("timeInForce", MARKET_WAITS)
    elif (tif is TimeInForce.GTD) is not (end is not None):
        problem = ("goodUntil", END_GIVEN if end is not None else END_MISSING)
    elif end is not None and not now < end <= hours.last_moment(now):
        days = hours.settings.order_days
        problem = ("goodUntil", Text(f"须在当前之后、{days} 天之内", f"must be to come, within {days} days"))
    if problem is not None:
        raise InvalidInputError(*problem)


def _require_staying(placing: Placing, instrument: Instrument, phase: PhaseKind) -> None:
    """Refuse what would take itself back in an auction in which nothing is taken back.

    Raises:
        InvalidInputError: the order would end before the auction.
    """
    auction, end = instrument.auction, placing.good_until
    is_irrevocable = phase is PhaseKind.AUCTION and auction is not None and auction.irrevocable
    if is_irrevocable and auction is not None and end is not None and end < auction.until:
        raise InvalidInputError("goodUntil", ENDS_IN_AUCTION)


def require_trading(instrument: Instrument, hours: Timetable, now: datetime) -> PhaseKind:
    """The phase of the market, which must be one that takes orders.

    Raises:
        MarketHaltedError, MarketClosedError: it does not.
    """
    phase = hours.phase_at(instrument, now).kind
    if phase is PhaseKind.HALTED:
        assert instrument.halt is not None
        raise MarketHaltedError(instrument.halt.reason)
    if phase is PhaseKind.CLOSED:
        raise MarketClosedError(CLOSED)
    return phase


def require_quantity(quantity_g: int, owner: OwnerId, settings: MarketSettings) -> None:
    """Refuse a quantity that this owner cannot order.

    Raises:
        InvalidInputError, OffLotError, BelowMinimumError: not positive or beyond all bounds; off the lot; too little.
    """
    if not 0 < quantity_g <= MAX_QUANTITY_G:
        raise InvalidInputError("quantityG", Text(f"1–{MAX_QUANTITY_G}", f"1–{MAX_QUANTITY_G}"))
    if quantity_g % settings.lot_g:
        raise OffLotError(quantity_g, settings.lot_g)
    minimum_g = settings.enterprise_minimum_g if owner.startswith(ENTERPRISE) else settings.lot_g
    if quantity_g < minimum_g:
        raise BelowMinimumError(quantity_g, minimum_g)


def require_price(price_fen: int, instrument: Instrument, hours: Timetable, now: datetime) -> None:
    """Refuse a limit that the market does not take at that moment.

    Raises:
        InvalidInputError, OffTickError, OutsideBandError, BelowFloorError: see there.
    """
    settings = hours.settings
    if not 0 < price_fen <= MAX_PRICE_FEN:
        raise InvalidInputError("priceFen", Text(f"1–{MAX_PRICE_FEN}", f"1–{MAX_PRICE_FEN}"))
    if price_fen % settings.tick_fen:
        raise OffTickError(price_fen, settings.tick_fen)
    band = band_of(reference_at(instrument, now, hours.zone), settings)
    if not band.has(price_fen):
        raise OutsideBandError(price_fen, band.low_fen, band.high_fen)
    auction = instrument.auction
    is_auction = hours.phase_at(instrument, now).kind is PhaseKind.AUCTION
    if is_auction and auction is not None and auction.floor_fen is not None and price_fen < auction.floor_fen:
        raise BelowFloorError(price_fen, auction.floor_fen)


# Numerators are sums of price times grams over the life of an order, and must be stored.
assert MAX_QUANTITY_G * MAX_PRICE_FEN <= INT64_MAX
assert MAX_QUANTITY_G * MAX_PRICE_FEN // GRAMS_PER_TONNE * 1_000 <= INT64_MAX
