"""What everybody may know of the market: instruments, order book, trades, candles."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime

import strawberry

from backend.kernel.errors import InvalidInputError
from backend.ledger.model import CREDIT, Asset, credit_asset
from backend.market.exchange.book import LevelDepth
from backend.market.exchange.candles import Candle, Ticker
from backend.market.exchange.model import Instrument, Trade, trade_channel
from backend.market.exchange.rules import Band
from backend.market.exchange.service import ShownBook
from schemas.actions import next_events
from schemas.context import Info
from schemas.enums import CandleInterval, MarketPhase, Side
from schemas.relay import (
    NOT_A_CURSOR,
    Connection,
    Node,
    connect,
    connect_by_moment,
    local_id_of,
    page_span,
    to_global_id,
)
from schemas.scalars import BigInt
from schemas.view import view

MAX_DIGITS = 18


def instrument_id_of(given: str) -> Asset:
    """The instrument that an input names: by its global id, its credit, or its batch."""
    local_id = local_id_of(Instrument.__name__, given)
    return Asset(local_id) if local_id.startswith(CREDIT) else credit_asset(local_id)


@view(of=Band, name="PriceBand")
class PriceBandType:
    """The lowest and the highest price of the day, in fen a tonne."""

    low_fen: BigInt
    high_fen: BigInt


@view(of=Ticker, name="Ticker")
class TickerType:
    """Where an instrument stands: prices in fen a tonne; volume, value and trades of the last 24 hours."""

    last_fen: BigInt | None
    change_fen: BigInt | None
    change_bps: int | None
    high_fen: BigInt | None
    low_fen: BigInt | None
    volume_g: BigInt
    value_fen: BigInt
    trades: int


@view(of=Instrument, name="Instrument")
class InstrumentType(Node):
    """The credits of one batch as they are traded; prices in fen a tonne, quantities in grams."""

    listed_at: datetime
    last_at: datetime | None

    @strawberry.field
    @staticmethod
    def credit(parent: strawberry.Parent[Instrument]) -> str:
        """The credit, as the book names it."""
        return parent.id

    @strawberry.field
    @staticmethod
    def batch(parent: strawberry.Parent[Instrument]) -> str:
        """Code of the batch."""
        return parent.id.removeprefix(CREDIT)

    @strawberry.field
    @staticmethod
    def phase(parent: strawberry.Parent[Instrument], info: Info) -> MarketPhase:
        """What its market does now."""
        return info.context.services.market.exchange.data.phase_of(parent).kind

    @strawberry.field
    @staticmethod
    def phase_until(parent: strawberry.Parent[Instrument], info: Info) -> datetime | None:
        """When that ends; null where only staff end it."""
        return info.context.services.market.exchange.data.phase_of(parent).until

    @strawberry.field
    @staticmethod
    def halt_reason(parent: strawberry.Parent[Instrument]) -> str | None:
        """Why trading is halted, where it is."""
        return parent.halt.reason if parent.halt else None

    @strawberry.field
    @staticmethod
    def auction_floor_fen(parent: strawberry.Parent[Instrument], info: Info) -> BigInt | None:
        """Below which price the auction that now runs executes nothing."""
        is_on = info.context.services.market.exchange.data.phase_of(parent).kind is MarketPhase.AUCTION
        floor_fen = parent.auction.floor_fen if is_on and parent.auction else None
        return None if floor_fen is None else BigInt(floor_fen)

    @strawberry.field
    @staticmethod
    def is_irrevocable(parent: strawberry.Parent[Instrument], info: Info) -> bool:
        """Whether orders can now be neither changed nor taken back."""
        is_on = info.context.services.market.exchange.data.phase_of(parent).kind is MarketPhase.AUCTION
        return is_on and parent.auction is not None and parent.auction.irrevocable

    @strawberry.field
    @staticmethod
    def reference_fen(parent: strawberry.Parent[Instrument], info: Info) -> BigInt:
        """Today's reference price."""
        return BigInt(info.context.services.market.exchange.data.reference_of(parent))

    @strawberry.field(graphql_type=PriceBandType)
    @staticmethod
    def band(parent: strawberry.Parent[Instrument], info: Info) -> Band:
        """Today's band of prices."""
        return info.context.services.market.exchange.data.band_of(parent)

    @strawberry.field
    @staticmethod
    def lot_g(parent: strawberry.Parent[Instrument], info: Info) -> BigInt:  # noqa: ARG004 - of the programme
        """Quantities are a multiple of this."""
        return BigInt(info.context.services.market.settings.lot_g)

    @strawberry.field
    @staticmethod
    def tick_fen(parent: strawberry.Parent[Instrument], info: Info) -> BigInt:  # noqa: ARG004 - of the programme
        """Prices are a multiple of this."""
        return BigInt(info.context.services.market.settings.tick_fen)

    @strawberry.field
    @staticmethod
    def maker_fee_bps(parent: strawberry.Parent[Instrument], info: Info) -> int:  # noqa: ARG004 - of the programme
        """Fee of the order that was there first, and of both sides of an auction, in hundredths of a per cent."""
        return info.context.services.market.settings.maker_fee_bps

    @strawberry.field
    @staticmethod
    def taker_fee_bps(parent: strawberry.Parent[Instrument], info: Info) -> int:  # noqa: ARG004 - of the programme
        """Fee of the order that came, in hundredths of a per cent."""
        return info.context.services.market.settings.taker_fee_bps

    @strawberry.field(graphql_type=TickerType)
    @staticmethod
    async def ticker(parent: strawberry.Parent[Instrument], info: Info) -> Ticker:
        """The last price beside the reference, and what the last 24 hours traded."""
        return await info.context.services.market.exchange.data.ticker(parent)


@view(of=LevelDepth, name="PriceLevel")
class PriceLevelType:
    """All that waits at one price: fen a tonne, grams, number of orders."""

    price_fen: BigInt
    quantity_g: BigInt
    orders: int


@view(of=ShownBook, name="OrderBook")
class OrderBookType:
    """The best prices of both sides, best first, as they were at that moment.

    ``sequence`` grows with every order that entered.
    """

    sequence: BigInt
    at: datetime

    @strawberry.field(graphql_type=list[PriceLevelType])
    @staticmethod
    def bids(parent: strawberry.Parent[ShownBook]) -> list[LevelDepth]:
        """What is bid, the highest price first."""
        return list(parent.depth.bids)

    @strawberry.field(graphql_type=list[PriceLevelType])
    @staticmethod
    def asks(parent: strawberry.Parent[ShownBook]) -> list[LevelDepth]:
        """What is asked, the lowest price first."""
        return list(parent.depth.asks)


@view(of=Trade, name="Trade")
class TradeType(Node):
    """What was exchanged; who did is nobody's business here. ``takerSide`` is null in an auction."""

    at: datetime
    price_fen: BigInt
    quantity_g: BigInt
    value_fen: BigInt
    taker_side: Side | None

    @strawberry.field
    @staticmethod
    def number(parent: strawberry.Parent[Trade]) -> BigInt:
        """Its number in its instrument, from 1."""
        return BigInt(parent.number)

    @strawberry.field
    @staticmethod
    def instrument_id(parent: strawberry.Parent[Trade]) -> strawberry.ID:
        """Global id of the instrument."""
        return to_global_id(Instrument.__name__, parent.instrument)

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Trade]) -> str:
        """Id of the transaction in the book, to ask for its receipt."""
        assert parent.transaction is not None
        return parent.transaction


@view(of=Candle, name="Candle")
class CandleType:
    """What was traded from ``start`` on; prices in fen a tonne. Where nothing was, there is none."""

    start: datetime
    open_fen: BigInt
    high_fen: BigInt
    low_fen: BigInt
    close_fen: BigInt
    volume_g: BigInt
    value_fen: BigInt
    trades: int


def _number(text: str | None, field: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise InvalidInputError(field, NOT_A_CURSOR)
    return int(text)


@strawberry.type
class MarketDataQuery:
    """Queries on the market; no token is needed."""

    @strawberry.field(graphql_type=list[InstrumentType])
    async def instruments(self, info: Info) -> list[Instrument]:
        """What is traded: the hundred that were listed last, newest first; `listedInstruments` has all."""
        return await info.context.services.market.exchange.data.list_instruments()

    @strawberry.field(graphql_type=Connection[InstrumentType])
    async def listed_instruments(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Instrument]:
        """All that is traded, listed last first; at most 100 a page."""
        list_page = info.context.services.market.exchange.data.list_instruments
        return await connect_by_moment(
            page_span(first, after, last, before), list_page, lambda one: (one.listed_at, one.id)
        )

    @strawberry.field(graphql_type=InstrumentType | None)
    async def instrument(self, info: Info, id: strawberry.ID) -> Instrument | None:  # noqa: A002 - the contract's name
        """One instrument; null where there is none."""
        return await find_instrument(info, instrument_id_of(id))

    @strawberry.field(graphql_type=OrderBookType | None)
    async def order_book(self, info: Info, instrument: strawberry.ID, depth: int = 10) -> ShownBook | None:
        """The best prices (1–50) of both sides; null where there is no such instrument.

        Read as often as the market changes, but at most four times a second, whoever asks: so old it may be.
        """
        data = info.context.services.market.exchange.data
        found = await data.find_instrument(instrument_id_of(instrument))
        return None if found is None else await data.book(found, depth)

    @strawberry.field(graphql_type=Connection[TradeType])
    async def trades(
        self,
        info: Info,
        instrument: strawberry.ID,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Trade]:
        """Trades in an instrument, newest first; at most 100 a page."""
        span = page_span(first, after, last, before)
        below, above = _number(span.after, "after"), _number(span.before, "before")
        asset = instrument_id_of(instrument)

        async def fetch(limit: int) -> list[Trade]:
            data = info.context.services.market.exchange.data
            return await data.list_trades(asset, below=below, above=above, limit=limit, newest=span.newest)

        return await connect(span, fetch, lambda trade: str(trade.number))

    @strawberry.field(graphql_type=list[CandleType])
    async def candles(
        self, info: Info, instrument: strawberry.ID, interval: CandleInterval, since: datetime, until: datetime
    ) -> list[Candle]:
        """Candles that begin in the span, oldest first; the span may have 500 of them, of hours 166."""
        data = info.context.services.market.exchange.data
        return await data.list_candles(instrument_id_of(instrument), interval, since, until)


async def find_instrument(info: Info, local_id: str) -> Instrument | None:
    """The instrument of that id, for everybody."""
    return await info.context.services.market.exchange.data.find_instrument(Asset(local_id))


async def find_trade(info: Info, local_id: str) -> Trade | None:
    """The trade of that id, for everybody."""
    return (await info.context.services.market.exchange.data.find_trades([local_id])).get(local_id)


@strawberry.type
class MarketDataSubscription:
    """Subscriptions on the market."""

    @strawberry.subscription(graphql_type=TradeType)
    async def trade_executed(self, info: Info, instrument: strawberry.ID) -> AsyncGenerator[Trade, None]:
        """Trades in an instrument as they happen; for whoever has a token."""
        info.context.require_principal()
        asset = instrument_id_of(instrument)
        async with info.context.services.channels.listen(trade_channel(asset)) as events:
            while True:
                ids = [event["trade"] for event in await next_events(events)]
                info.context.require_principal()  # a websocket can outlive its token
                found = await info.context.services.market.exchange.data.find_trades(ids)
                for name in dict.fromkeys(ids):
                    if name in found:
                        yield found[name]
