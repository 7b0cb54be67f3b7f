"""The collections of trades and candles and the codec of their documents; no queries.

``market_trades``: one a fill, its ``_id`` the instrument and its number there, in whose order all are read.
``market_candles``: minutes and local days, added to in the transaction of the trades.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.ids import TransactionId
from backend.ledger.model import Asset, OwnerId
from backend.market.exchange.book import Side
from backend.market.exchange.candles import Candle, Interval
from backend.market.exchange.model import OrderId, Trade
from backend.market.serials.model import parse_ranges, spelled
from backend.mongo.collections import AMOUNT, COUNTER, LONG, MOMENT, TEXT, Collection, Index, nullable, one_of, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document

TRADES = Collection(
    "market_trades",
    record(
        {
            "_id": TEXT,
            "instrument": TEXT,
            "number": AMOUNT,
            "at": MOMENT,
            "price_fen": AMOUNT,
            "quantity_g": AMOUNT,
            "value_fen": COUNTER,
            "buy_order": TEXT,
            "sell_order": TEXT,
            "buyer": TEXT,
            "seller": TEXT,
            "buyer_fee_fen": COUNTER,
            "seller_fee_fen": COUNTER,
            "taker_side": nullable(one_of(*Side)),
            "transaction": TEXT,
            "serials": TEXT,
        }
    ),
)
CANDLES = Collection(
    "market_candles",
    record(
        {
            "_id": TEXT,
            "instrument": TEXT,
            "interval": one_of(Interval.MINUTE, Interval.DAY),
            "start": MOMENT,
            "open_fen": AMOUNT,
            "high_fen": AMOUNT,
            "low_fen": AMOUNT,
            "close_fen": AMOUNT,
            "volume_g": AMOUNT,
            "value_fen": LONG,
            "trades": AMOUNT,
        }
    ),
    (Index("instrument_start", [("instrument", 1), ("interval", 1), ("start", 1)]),),
)
COLLECTIONS = (TRADES, CANDLES)


def trade_to_document(trade: Trade) -> Document:
    """The trade as stored."""
    return {
        "_id": trade.id,
        "instrument": trade.instrument,
        "number": Int64(trade.number),
        "at": trade.at,
        "price_fen": Int64(trade.price_fen),
        "quantity_g": Int64(trade.quantity_g),
        "value_fen": Int64(trade.value_fen),
        "buy_order": trade.buy_order,
        "sell_order": trade.sell_order,
        "buyer": trade.buyer,
        "seller": trade.seller,
        "buyer_fee_fen": Int64(trade.buyer_fee_fen),
        "seller_fee_fen": Int64(trade.seller_fee_fen),
        "taker_side": trade.taker_side.value if trade.taker_side else None,
        "transaction": trade.transaction,
        "serials": spelled(trade.serials),
    }


def trade_from_document(document: Mapping[str, Any]) -> Trade:
    """The stored trade."""
    return Trade(
        instrument=Asset(document["instrument"]),
        number=int(document["number"]),
        at=document["at"],
        price_fen=int(document["price_fen"]),
        quantity_g=int(document["quantity_g"]),
        value_fen=int(document["value_fen"]),
        buy_order=OrderId(document["buy_order"]),
        sell_order=OrderId(document["sell_order"]),
        buyer=OwnerId(document["buyer"]),
        seller=OwnerId(document["seller"]),
        buyer_fee_fen=int(document["buyer_fee_fen"]),
        seller_fee_fen=int(document["seller_fee_fen"]),
        taker_side=Side(document["taker_side"]) if document["taker_side"] else None,
        transaction=TransactionId(document["transaction"]),
        serials=parse_ranges(document["serials"]),
    )


def candle_id(instrument: Asset, candle: Candle) -> str:
    """The one document of that instrument's candle."""
    return f"{instrument}@{candle.interval}@{candle.start.isoformat()}"


def candle_from_document(document: Mapping[str, Any]) -> Candle:
    """The stored candle."""
    numbers = ("open_fen", "high_fen", "low_fen", "close_fen", "volume_g", "value_fen", "trades")
    return Candle(Interval(document["interval"]), document["start"], *(int(document[name]) for name in numbers))
