"""Pots in MongoDB, and every query on them.

``stock_pots``: one document a pot, changed by single-document updates only, but for units that come back.
``stock_uses``: how many units of a pot a reservation used, written in the transaction that used them. Its ``_id``
decides between that transaction and whoever finds the reservation orphaned: each inserts it, one succeeds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo import UpdateOne

from backend.mongo.collections import AMOUNT, COUNTER, MOMENT, TEXT, Collection, Index, list_of, record
from backend.rewards.stock.errors import StockTakenError
from backend.rewards.stock.model import Pending, Pot, PotId, Reserved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from datetime import datetime

    from backend.mongo.client import Database, Document, Snapshot
    from backend.mongo.transactions import Tx
    from backend.rewards.stock.model import Reservation

POTS = Collection(
    "stock_pots",
    record(
        {
            "_id": TEXT,
            "total": COUNTER,
            "free": COUNTER,
            "pending": list_of(record({"id": TEXT, "units": AMOUNT, "until": MOMENT})),
        }
    ),
    (Index("pending_until", [("pending.until", 1)]),),
)
USES = Collection(
    "stock_uses",
    record({"_id": TEXT, "used": COUNTER, "expires_at": MOMENT}),
    (Index("expires_at", [("expires_at", 1)], expire_after_s=0),),
)
COLLECTIONS = (POTS, USES)
# Longer than the sweeper may ever be down: without its proof, what was used would be taken for orphaned and sold again.
USES_KEPT_FOR = timedelta(days=35)


def _pot(document: Mapping[str, Any]) -> Pot:
    return Pot(
        PotId(document["_id"]),
        int(document["total"]),
        int(document["free"]),
        tuple(Pending(item["id"], int(item["units"]), item["until"]) for item in document["pending"]),
    )


def _new(pot: PotId, total: int) -> Document:
    return {"_id": pot, "total": Int64(total), "free": Int64(total), "pending": []}


def _use_id(reservation: str, pot: PotId) -> str:
    return f"{reservation} {pot}"


async def stream_pots(snapshot: Snapshot) -> AsyncIterator[tuple[Pot, int]]:
    """Every pot of that instant, and how many of its pending units are used already by their proofs."""
    async for document in snapshot.stream(POTS.name, {}):
        pot, proven = _pot(document), 0
        for pending in pot.pending:
            use = await snapshot.find_one(USES.name, {"_id": _use_id(pending.reservation, pot.id)})
            proven += int(use["used"]) if use else 0
        yield pot, proven


class PotStore:
    """Pots outside of transactions: one document, one change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, ids: Iterable[PotId]) -> dict[PotId, Pot]:
        """Those of the pots that were ever asked."""
        wanted = list(ids)
        if not wanted:
            return {}
        found = await self._database.find(POTS.name, {"_id": {"$in": wanted}}, limit=len(wanted))
        return {pot.id: pot for pot in map(_pot, found)}

    async def open(self, pot: PotId, total: int) -> None:
        """Make a pot that is asked for the first time."""
        await self._database.insert_many(POTS.name, [_new(pot, total)])

    async def take(
        self, reservation: str, pot: PotId, units: int, until: datetime, *, total: int | None = None
    ) -> Reserved | None:
        """Set aside as many of the units as are free; None where the pot was never opened.

        With ``total`` the pot is first made that large, or as large as what is taken already.
        """
        taken = {"$min": ["$free", Int64(units)]}
        entry = {"id": reservation, "units": taken, "until": until}
        gone = {"$subtract": ["$total", "$free"]}
        sized = {"$max": [Int64(0), {"$subtract": [Int64(total), gone]}]} if total is not None else "$free"
        change: list[Document] = [
            {"$set": {"free": sized, "total": {"$add": [gone, sized]}}},
            {
                "$set": {
                    "free": {"$subtract": ["$free", taken]},
                    "pending": {"$cond": [{"$gt": ["$free", 0]}, {"$concatArrays": ["$pending", [entry]]}, "$pending"]},
                }
            },
        ]
        found = await self._database.find_one_and_update(POTS.name, {"_id": pot}, change)
        if found is None:
            return None
        held = _pot(found).pending
        own = sum(pending.units for pending in held if pending.reservation == reservation)
        return Reserved(own, sum(pending.units for pending in held) - own)

    async def close(self, reservation: str, pot: PotId, unused: int) -> None:
        """End a reservation: the pot has the unused units again. A second time changes nothing."""
        await self._database.update_one(
            POTS.name,
            {"_id": pot, "pending.id": reservation},
            {"$inc": {"free": Int64(unused)}, "$pull": {"pending": {"id": reservation}}},
        )

    async def list_orphaned(self, now: datetime, *, limit: int) -> list[Pot]:
        """Pots with units in somebody's hand for too long."""
        found = await self._database.find(POTS.name, {"pending.until": {"$lte": now}}, limit=limit)
        return [_pot(document) for document in found]

    async def settle_use(self, reservation: str, pot: PotId, now: datetime) -> int:
        """How many units the reservation used; if none so far, then none ever."""
        use = _use_id(reservation, pot)
        document: Document = {"_id": use, "used": Int64(0), "expires_at": now + USES_KEPT_FOR}
        if not await self._database.insert_many(USES.name, [document]):
            return 0
        found = await self._database.find_one(USES.name, {"_id": use})
        return int(found["used"]) if found else 0


class PotWrites:
    """Pots inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def prove(self, reservation: Reservation, used: Mapping[PotId, int], now: datetime) -> bool:
        """Write how many units of each pot were used, zero included; False where the reservation is over.

        A reservation that is judged orphaned at the same time makes this transaction run again, and see so.
        """
        ids = [_use_id(reservation.id, pot) for pot in reservation.pots]
        if not ids:
            return True
        if not self._tx.is_first and await self._tx.find(USES.name, {"_id": {"$in": ids}}, ["_id"]):
            return False
        documents: list[Document] = [
            {
                "_id": _use_id(reservation.id, pot),
                "used": Int64(used.get(pot, 0)),
                "expires_at": now + USES_KEPT_FOR,
            }
            for pot in reservation.pots
        ]
        await self._tx.insert_many(USES.name, documents)
        return True

    async def give_back(self, units: Mapping[str, int]) -> None:
        """Units that nobody has any more. Last in a transaction, for many change a pot."""
        await self._tx.bulk_write(
            POTS.name, [UpdateOne({"_id": pot}, {"$inc": {"free": Int64(count)}}) for pot, count in units.items()]
        )

    async def resize(self, pot: PotId, change: int, *, total: int) -> None:
        """Add units to a pot or take free ones away; one that was never asked is made with ``total``.

        So who redeems by what the offer said a moment ago cannot make it of another size.

        Raises:
            StockTakenError: fewer are free.
        """
        found = await self._tx.find_one(POTS.name, {"_id": pot})
        if found is None:
            await self._tx.insert_many(POTS.name, [_new(pot, total)])
            return
        free = int(found["free"])
        if free + change < 0:
            raise StockTakenError(asked=-change, free=free)
        await self._tx.update_one(POTS.name, {"_id": pot}, {"$inc": {"free": Int64(change), "total": Int64(change)}})
