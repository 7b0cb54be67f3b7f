"""Every query on instruments, orders, trades and candles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo import UpdateOne

from backend.ledger.model import Asset
from backend.market.exchange.book import Side
from backend.market.exchange.documents import (
    INSTRUMENTS,
    ORDERS,
    book_of,
    command_to_document,
    instrument_from_document,
    instrument_to_document,
    mode_of,
    order_from_document,
    order_to_document,
    standing,
)
from backend.market.exchange.model import TRADE_DIGITS, CommandKind, OrderStatus, trade_id
from backend.market.exchange.trade_documents import (
    CANDLES,
    TRADES,
    candle_from_document,
    candle_id,
    trade_from_document,
    trade_to_document,
)
from backend.mongo.idempotency import KeyedWrites
from backend.mongo.paging import page_by_moment
from backend.mongo.transactions import StaleReadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from backend.ledger.model import OwnerId
    from backend.market.exchange.candles import Candle, Interval
    from backend.market.exchange.model import Command, Instrument, Order, OrderId, Trade
    from backend.mongo.client import Database, Document

Place = tuple["datetime", str]
QUEUED = {"$type": "date"}
ANY = {"$gt": ""}
INSTRUMENTS_PAGE = 1_000
MAX_RESTING = 1_000_000
MOST_TRADES = 10**TRADE_DIGITS - 1


class OvertakenError(Exception):
    """What the matcher decided on has changed since: it reads again and decides anew."""


class ExchangeWrites(KeyedWrites):
    """Instruments, orders and trades inside one MongoDB transaction."""

    async def find_instrument(self, instrument: Asset) -> Instrument | None:
        """The instrument of that id."""
        found = await self._tx.find_one(INSTRUMENTS.name, {"_id": instrument})
        return instrument_from_document(found) if found else None

    async def is_any_queued(self, instrument: Asset, before: datetime) -> bool:
        """Whether an order waits for the matcher since before that moment."""
        query = {"instrument": instrument, "queued_at": {"$type": "date", "$lt": before}}
        return bool(await self._tx.find(ORDERS.name, query, ["_id"], limit=1))

    async def insert_instrument(self, instrument: Instrument) -> None:
        """List a new one."""
        await self._tx.insert_many(INSTRUMENTS.name, [instrument_to_document(instrument)])

    async def set_mode(self, before: Instrument, after: Instrument) -> None:
        """Change what staff decide on; one changed since it was read starts the transaction again."""
        await self._tx.update_one(
            INSTRUMENTS.name,
            {"_id": before.id, "revision": Int64(before.revision)},
            {"$set": mode_of(after), "$inc": {"revision": Int64(1)}},
        )

    async def turn(self, before: Instrument, after: Instrument) -> None:
        """Turn the instrument whose book this matcher holds.

        Raises:
            OvertakenError: another matcher holds it, or it changed.
        """
        try:
            await self._tx.update_one(
                INSTRUMENTS.name,
                {"_id": before.id, "holder": before.holder, "revision": Int64(before.revision)},
                {"$set": {**book_of(after), "turned_by": before.holder}, "$inc": {"revision": Int64(1)}},
            )
        except StaleReadError as error:
            raise OvertakenError from error

    async def find_orders(self, ids: Iterable[OrderId]) -> dict[OrderId, Order]:
        """Those of the orders that exist."""
        found = await self._tx.find(ORDERS.name, {"_id": {"$in": list(ids)}})
        return {order.id: order for order in map(order_from_document, found)}

    async def insert_orders(self, orders: Sequence[Order]) -> None:
        """Insert new orders; one there already starts the transaction again."""
        await self._tx.insert_soon(ORDERS.name, [order_to_document(order) for order in orders])

    async def ask(self, order: Order, command: Command) -> None:
        """Queue a command with the order, which must stand as it was read."""
        await self._tx.update_one(
            ORDERS.name,
            {"_id": order.id, "open": True, "commands": Int64(order.commands)},
            {
                "$set": {
                    "command": command_to_document(command),
                    "commands": Int64(order.commands + 1),
                    "queued_at": order.queued_at or command.at,
                }
            },
        )

    async def write_orders(self, changed: Iterable[Order], handled: Mapping[OrderId, int]) -> None:
        """Write how orders stand now, and what is asked of those ``handled`` (with how many requests they had then).

        Only the holder of the instrument writes how an order stands. What was asked since then stays queued.
        """
        # The first run hopes that nothing was; a filter that meets nothing starts the body again.
        late = set() if self._tx.is_first else await self._find_late(handled)
        changes = []
        for order in changed:
            query: Document = {"_id": order.id}
            change = standing(order)
            if not order.is_open:
                # Whatever was asked of it meanwhile comes too late.
                change |= {"queued_at": None, "command": None}
            elif order.id in handled and order.id not in late:
                query["commands"] = Int64(handled[order.id])
                change |= {"queued_at": order.queued_at, "command": None}
            changes.append(UpdateOne(query, {"$set": change}))
        await self._tx.bulk_write(ORDERS.name, changes)

    async def _find_late(self, handled: Mapping[OrderId, int]) -> set[OrderId]:
        """Orders of which more was asked than was handled."""
        found = await self._tx.find(ORDERS.name, {"_id": {"$in": list(handled)}}, fields=["commands"])
        return {document["_id"] for document in found if document["commands"] != handled[document["_id"]]}

    async def insert_trades(self, trades: Sequence[Trade]) -> None:
        """Insert new trades of one instrument, which learns when the last of them was."""
        await self._tx.insert_soon(TRADES.name, [trade_to_document(trade) for trade in trades])
        if trades:
            # The book's time of the trade, which the matcher does not know before it is posted.
            last = trades[-1]
            await self._tx.update_one(INSTRUMENTS.name, {"_id": last.instrument}, {"$set": {"last_at": last.at}})

    async def add_candles(self, instrument: Asset, candles: Iterable[Candle]) -> None:
        """Add what was traded to candles of minutes and days, which follow on what is there."""
        await self._tx.bulk_write(CANDLES.name, [_added(instrument, candle) for candle in candles])

    async def list_open(self, owners: Iterable[OwnerId], instrument: Asset) -> list[Order]:
        """The open orders of these owners in the instrument; each has few."""
        found = await self._tx.find(
            ORDERS.name, {"owner": {"$in": list(owners)}, "instrument": instrument, "open": True}
        )
        return [order_from_document(document) for document in found]


def _added(instrument: Asset, candle: Candle) -> UpdateOne:
    return UpdateOne(
        {"_id": candle_id(instrument, candle)},
        {
            "$setOnInsert": {
                "instrument": instrument,
                "interval": candle.interval.value,
                "start": candle.start,
                "open_fen": Int64(candle.open_fen),
            },
            "$set": {"close_fen": Int64(candle.close_fen)},
            "$max": {"high_fen": Int64(candle.high_fen)},
            "$min": {"low_fen": Int64(candle.low_fen)},
            "$inc": {
                "volume_g": Int64(candle.volume_g),
                "value_fen": Int64(candle.value_fen),
                "trades": Int64(candle.trades),
            },
        },
        upsert=True,
    )


class ExchangeReads:
    """Instruments, orders and trades as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_instrument(self, instrument: Asset) -> Instrument | None:
        """The instrument of that id."""
        found = await self._database.find_one(INSTRUMENTS.name, {"_id": instrument})
        return instrument_from_document(found) if found else None

    async def list_instruments(self, shards: Sequence[int] | None = None) -> list[Instrument]:
        """All instruments, or those of some shards, by id."""
        query: Document = {} if shards is None else {"shard": {"$in": [Int64(shard) for shard in shards]}}
        found: list[Document] = []
        while not len(found) % INSTRUMENTS_PAGE:
            after = {**query, "_id": {"$gt": found[-1]["_id"] if found else ""}}
            more = await self._database.find(INSTRUMENTS.name, after, limit=INSTRUMENTS_PAGE, sort=[("_id", 1)])
            found += more
            if not more:
                break
        return [instrument_from_document(document) for document in found]

    async def list_listed(
        self, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Instrument]:
        """Instruments, listed last first."""
        found = await page_by_moment(
            self._database,
            INSTRUMENTS.name,
            {},
            moment="listed_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [instrument_from_document(document) for document in found]

    async def take_fence(self, instrument: Asset, holder: str) -> Instrument:
        """Become the one who may turn the instrument; whoever was it before cannot any more."""
        found = await self._database.find_one_and_update(
            INSTRUMENTS.name, {"_id": instrument}, {"$set": {"holder": holder}}
        )
        assert found is not None
        return instrument_from_document(found)

    async def list_resting(self, instrument: Asset) -> list[Order]:
        """Every order that rests in the instrument's book, as of one instant."""
        query = {"instrument": instrument, "open": True, "status": OrderStatus.OPEN.value}
        found = await self._database.find(ORDERS.name, query, limit=MAX_RESTING)
        return [order_from_document(document) for document in found]

    async def list_queued(self, instrument: Asset, *, limit: int, cancels_only: bool) -> list[Order]:
        """Orders with which the matcher has something to do, longest waiting first."""
        query: dict[str, Any] = {"instrument": instrument, "queued_at": QUEUED}
        if cancels_only:
            query["command.kind"] = CommandKind.CANCEL.value
        found = await self._database.find(
            ORDERS.name, query, limit=limit, sort=[("instrument", 1), ("queued_at", 1), ("turn", 1), ("_id", 1)]
        )
        return [order_from_document(document) for document in found]

    async def list_expired(self, instrument: Asset, now: datetime, *, limit: int) -> list[Order]:
        """Open orders whose time is over, longest ago first."""
        query = {"instrument": instrument, "open": True, "good_until": {"$lte": now}}
        found = await self._database.find(ORDERS.name, query, limit=limit, sort=[("instrument", 1), ("good_until", 1)])
        return [order_from_document(document) for document in found]

    async def list_waiting(self, now: datetime) -> set[Asset]:
        """Instruments with orders that the matcher has not seen, or that have ended."""
        # Both indexes begin with the instrument.
        either = [
            {"instrument": ANY, "queued_at": QUEUED},
            {"instrument": ANY, "open": True, "good_until": {"$lte": now}},
        ]
        found = await self._database.aggregate(
            ORDERS.name, [{"$match": {"$or": either}}, {"$group": {"_id": "$instrument"}}]
        )
        return {Asset(document["_id"]) for document in found}

    async def find_orders(self, ids: Sequence[OrderId]) -> dict[OrderId, Order]:
        """Those of the orders that exist."""
        if not ids:
            return {}
        found = await self._database.find(ORDERS.name, {"_id": {"$in": list(ids)}}, limit=len(ids))
        return {order.id: order for order in map(order_from_document, found)}

    async def list_of_owner(
        self,
        owner: OwnerId,
        *,
        open_only: bool,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Order]:
        """The owner's orders, newest first."""
        found = await page_by_moment(
            self._database,
            ORDERS.name,
            {"owner": owner, "open": True} if open_only else {"owner": owner},
            moment="created_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [order_from_document(document) for document in found]

    async def list_depth(self, instrument: Asset) -> list[tuple[str, int, int, int]]:
        """Side, price, open grams and number of orders of every price at which something rests."""
        match = {"instrument": instrument, "open": True, "status": OrderStatus.OPEN.value}
        group = {
            "_id": {"side": "$side", "price": "$price_fen"},
            "grams": {"$sum": "$remaining_g"},
            "orders": {"$sum": Int64(1)},
        }
        found = await self._database.aggregate(ORDERS.name, [{"$match": match}, {"$group": group}])
        return [
            (level["_id"]["side"], int(level["_id"]["price"]), int(level["grams"]), int(level["orders"]))
            for level in found
        ]

    async def list_trades(
        self, instrument: Asset, *, below: int | None, above: int | None, limit: int, newest: bool
    ) -> list[Trade]:
        """Trades with numbers between the bounds, newest first."""
        first, last = (above or 0) + 1, MOST_TRADES if below is None else min(below - 1, MOST_TRADES)
        if first > last:
            return []
        query = {"_id": {"$gte": trade_id(instrument, first), "$lte": trade_id(instrument, last)}}
        found = await self._database.find(TRADES.name, query, limit=limit, sort=[("_id", -1 if newest else 1)])
        trades = [trade_from_document(document) for document in found]
        return trades if newest else trades[::-1]

    async def find_trades(self, ids: Sequence[str]) -> dict[str, Trade]:
        """Those of the trades that exist."""
        if not ids:
            return {}
        found = await self._database.find(TRADES.name, {"_id": {"$in": list(ids)}}, limit=len(ids))
        return {trade.id: trade for trade in map(trade_from_document, found)}

    async def list_candles(
        self, instrument: Asset, interval: Interval, since: datetime, until: datetime, *, limit: int
    ) -> list[Candle]:
        """Stored candles (minutes or days) that begin in ``since <= t < until``, oldest first."""
        query = {"instrument": instrument, "interval": interval.value, "start": {"$gte": since, "$lt": until}}
        found = await self._database.find(CANDLES.name, query, limit=limit, sort=[("start", 1)])
        return [candle_from_document(document) for document in found]

    async def sum_filled(self, owner: OwnerId, instrument: Asset) -> tuple[int, int, int]:
        """Fen paid for purchases with their fees, grams bought and grams sold, of all the owner's orders ever."""
        group = {
            "_id": "$side",
            "fen": {"$sum": {"$add": ["$value_fen", "$fee_fen"]}},
            "grams": {"$sum": "$filled_g"},
        }
        match = {"owner": owner, "instrument": instrument}
        found = await self._database.aggregate(ORDERS.name, [{"$match": match}, {"$group": group}])
        sums = {one["_id"]: (int(one["fen"]), int(one["grams"])) for one in found}
        (paid_fen, bought_g), (_, sold_g) = (sums.get(side.value, (0, 0)) for side in Side)
        return paid_fen, bought_g, sold_g
