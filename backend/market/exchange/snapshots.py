"""What the auditors of the exchange read, at one instant: whatever cannot be read is a finding that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.ledger.audit.findings import Audit
from backend.ledger.documents import PAGES, TRANSACTIONS
from backend.ledger.model import PROGRAMME, Asset, OwnerId, Purpose, TransactionKind
from backend.market.exchange.documents import (
    INSTRUMENTS,
    ORDERS,
    instrument_from_document,
    instrument_to_document,
    order_from_document,
    order_to_document,
)
from backend.market.exchange.trade_documents import (
    CANDLES,
    TRADES,
    candle_from_document,
    trade_from_document,
    trade_to_document,
)
from backend.market.funds.store import stream_legible

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from backend.market.exchange.candles import Candle
    from backend.market.exchange.model import Instrument, Order, Trade
    from backend.mongo.client import Document, Snapshot


def stream_instruments(snapshot: Snapshot, audit: Audit) -> AsyncIterator[tuple[Instrument, bool]]:
    """Every instrument of that instant that can be read, by id, and whether its document is what it should be."""

    def decode(document: Document) -> tuple[Instrument, bool]:
        instrument = instrument_from_document(document)
        return instrument, instrument_to_document(instrument) == document

    return stream_legible(snapshot, audit, INSTRUMENTS, decode, sort=[("_id", 1)])


def stream_orders(snapshot: Snapshot, audit: Audit) -> AsyncIterator[tuple[Order, bool]]:
    """Every order of that instant that can be read, and whether its document is what it should be."""

    def decode(document: Document) -> tuple[Order, bool]:
        order = order_from_document(document)
        return order, order_to_document(order) == document

    return stream_legible(snapshot, audit, ORDERS, decode)


def stream_trades(snapshot: Snapshot, audit: Audit) -> AsyncIterator[tuple[Trade, bool]]:
    """Every trade of that instant that can be read, by instrument and number; whether its document is as it should."""

    def decode(document: Document) -> tuple[Trade, bool]:
        trade = trade_from_document(document)
        return trade, trade_to_document(trade) == document

    return stream_legible(snapshot, audit, TRADES, decode, sort=[("_id", 1)])


def stream_candles(snapshot: Snapshot, audit: Audit) -> AsyncIterator[tuple[str, Asset, Candle]]:
    """Every stored candle of that instant that can be read, with its id and its instrument."""

    def decode(document: Document) -> tuple[str, Asset, Candle]:
        return document["_id"], Asset(document["instrument"]), candle_from_document(document)

    return stream_legible(snapshot, audit, CANDLES, decode)


async def find_orders_at(snapshot: Snapshot, ids: Iterable[str]) -> dict[str, Order]:
    """Those of the orders of that instant that can be read; the others are told where all are."""
    query = {"_id": {"$in": sorted(set(ids))}}
    found = stream_legible(snapshot, Audit(), ORDERS, order_from_document, query=query)
    return {order.id: order async for order in found}


async def stream_reserved(snapshot: Snapshot) -> AsyncIterator[tuple[str, str]]:
    """Every transaction of the book that reserves something for an order, and the order that it names."""
    query = {"cause.order": {"$type": "string"}, "kind": TransactionKind.HOLD.value, "copy_of": None}
    async for document in snapshot.stream(TRANSACTIONS.name, query, fields=["cause.order"]):
        yield document["_id"], document["cause"]["order"]


async def stream_holders(snapshot: Snapshot) -> AsyncIterator[OwnerId]:
    """Every owner on whose page something is held for the exchange."""
    query = {"holds.to": {"$regex": f"^{PROGRAMME}:{Purpose.EXCHANGE}"}}
    async for document in snapshot.stream(PAGES.name, query, fields=["_id"]):
        yield OwnerId(document["_id"])
