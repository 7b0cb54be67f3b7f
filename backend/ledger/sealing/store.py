"""The sealer's collections and every query on them; transactions and what is announced are the book's own.

``ledger_blocks``: one signed header per height. ``ledger_leaves``: the ids and leaf hashes of a block, in leaf order.
``ledger_keys``: every public key that ever signed. ``ledger_days``: what is published of each local date.
``ledger_unsealable``: announced transactions that a block had to leave out.
A block is written in one MongoDB transaction with all that belongs to it and with the deletion of what it consumed; its
``_id`` is the height, so of two sealers at work one loses and starts again. But for the running day nothing is changed.
"""

from __future__ import annotations

import asyncio
from datetime import date
from typing import TYPE_CHECKING, Any

import bson
from bson import Int64
from bson.codec_options import CodecOptions
from pymongo import DeleteOne, UpdateOne

from backend.ledger.documents import TRANSACTIONS, UNSEALED
from backend.ledger.sealing.canonical import NAIVE_EPOCH, NotCanonicalError, leaf_digest
from backend.ledger.sealing.model import Backlog, Block, Day, Header, KeyId, SealBrokenError, Unsealable
from backend.ledger.sealing.model import UnsealableReason as Reason
from backend.mongo.client import DuplicateError, translated
from backend.mongo.collections import AMOUNT, COUNTER, FLAG, MOMENT, TEXT, Collection, Index, list_of, one_of, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from backend.mongo.client import Database, Document, Snapshot
    from backend.mongo.transactions import Tx

BINARY: Mapping[str, Any] = {"bsonType": "binData"}
BLOCKS = Collection(
    "ledger_blocks",
    record(
        {
            "_id": AMOUNT,
            "programme": TEXT,
            "previous": TEXT,
            "size": COUNTER,
            "root": TEXT,
            "sealed_at": MOMENT,
            "key": TEXT,
            "hash": TEXT,
            "signature": TEXT,
            "date": TEXT,
        }
    ),
)
LEAVES = Collection(
    "ledger_leaves",
    record({"_id": AMOUNT, "transactions": list_of(BINARY), "leaves": BINARY}),
    # Unique over all blocks: nothing is sealed twice, by index.
    (Index("transactions", [("transactions", 1)], unique=True),),
)
KEYS = Collection("ledger_keys", record({"_id": TEXT, "public": TEXT, "at": MOMENT}))
DAYS = Collection(
    "ledger_days",
    record({"_id": TEXT, "final": FLAG, "first": AMOUNT, "last": AMOUNT, "root": TEXT, "key": TEXT, "signature": TEXT}),
)
UNSEALABLE = Collection(
    "ledger_unsealable",
    record({"_id": TEXT, "transaction": TEXT, "reason": one_of(*Reason), "height": AMOUNT, "at": MOMENT}),
)
COLLECTIONS = (BLOCKS, LEAVES, KEYS, DAYS, UNSEALABLE)
ID_PREFIX = "tx_"
# The rest of a transaction's document is where it is kept, not what it is; reading less of it seals a third faster.
LEAF_FIELDS = (
    "key",
    "kind",
    "at",
    "opens",
    "postings",
    "cause",
    "hold",
    "draws",
    "final",
    "expires_at",
    "corrects",
    "lots",
)
MANY = 100_000
# Making moments aware takes a quarter of the time of decoding a transaction.
_NAIVE: CodecOptions[Document] = CodecOptions(tz_aware=False)
# Transactions asked for at once.
READ_SIZE = 2_500


class OutrunError(Exception):
    """Another sealer made the block of this height first."""


class SealedBeforeError(Exception):
    """Some block holds one of the transactions already."""


def block_document(block: Block) -> Document:
    """The block as stored."""
    header = block.header
    return {
        "_id": Int64(header.height),
        "programme": header.programme,
        "previous": header.previous,
        "size": Int64(header.size),
        "root": header.root,
        "sealed_at": header.sealed_at,
        "key": header.key,
        "hash": block.hash,
        "signature": block.signature,
        "date": block.day.isoformat(),
    }


def block_from_document(document: Mapping[str, Any], keys: Mapping[KeyId, str]) -> Block:
    """The stored block.

    Raises:
        SealBrokenError: its key is not registered.
    """
    key = KeyId(document["key"])
    if key not in keys:
        raise SealBrokenError(f"block {document['_id']}: its key {key} is not registered")
    header = Header(
        programme=document["programme"],
        height=int(document["_id"]),
        previous=document["previous"],
        size=int(document["size"]),
        root=document["root"],
        sealed_at=document["sealed_at"],
        key=key,
    )
    return Block(header, document["hash"], document["signature"], keys[key], day=date.fromisoformat(document["date"]))


def _day(document: Mapping[str, Any]) -> Day:
    return Day(
        date=date.fromisoformat(document["_id"]),
        is_final=document["final"],
        first=int(document["first"]),
        last=int(document["last"]),
        root=document["root"],
        key=KeyId(document["key"]),
        signature=document["signature"],
    )


class SealReads:
    """Blocks, days and what waits, as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keys(self) -> dict[KeyId, str]:
        """Every public key that ever signed, in hex, by its name."""
        found = await self._database.find(KEYS.name, {}, limit=MANY, sort=[("at", 1)])
        return {KeyId(document["_id"]): document["public"] for document in found}

    async def last_block(self) -> Document | None:
        """The stored block of the greatest height."""
        found = await self._database.find(BLOCKS.name, {}, limit=1, sort=[("_id", -1)])
        return found[0] if found else None

    async def find_block(self, height: int) -> Document | None:
        """The stored block of that height."""
        return await self._database.find_one(BLOCKS.name, {"_id": Int64(height)})

    async def list_blocks(self, first: int, last: int) -> list[Document]:
        """The stored blocks of these heights, both included, in order."""
        span = {"$gte": Int64(first), "$lte": Int64(last)}
        return await self._database.find(BLOCKS.name, {"_id": span}, limit=last - first + 1, sort=[("_id", 1)])

    async def find_day(self, day: date) -> Day | None:
        """What is published of that local date."""
        found = await self._database.find_one(DAYS.name, {"_id": day.isoformat()})
        return _day(found) if found else None

    async def list_days(self) -> list[Day]:
        """Every local date that has blocks, oldest first."""
        return [_day(document) for document in await self._database.find(DAYS.name, {}, limit=MANY, sort=[("_id", 1)])]

    async def list_unsealable(self, limit: int) -> list[Unsealable]:
        """The latest announced transactions that blocks had to leave out."""
        found = await self._database.find(UNSEALABLE.name, {}, limit=limit, sort=[("height", -1), ("_id", 1)])
        return [
            Unsealable(document["transaction"], Reason(document["reason"]), int(document["height"]), document["at"])
            for document in found
        ]

    async def backlog(self, limit: int) -> Backlog:
        """What waits, counted until ``limit`` announcements."""
        found = await self._database.aggregate(
            UNSEALED.name,
            [
                {"$sort": {"at": 1}},
                {"$limit": limit},
                {"$group": {"_id": None, "count": {"$sum": {"$size": "$transactions"}}, "since": {"$min": "$at"}}},
            ],
        )
        return Backlog(int(found[0]["count"]), found[0]["since"]) if found else Backlog(0, None)

    async def take_waiting(self, limit: int) -> tuple[list[str], set[str]]:
        """Announcements, the longest waiting first, until they name ``limit`` transactions; and what they name."""
        announcements: list[str] = []
        named: set[str] = set()
        with translated():
            async with self._database.raw[UNSEALED.name].find({}).sort("at", 1) as documents:
                async for document in documents:
                    announcements.append(document["_id"])
                    named.update(document["transactions"])
                    if len(named) >= limit:
                        break
        return announcements, named

    async def find_leaves(self, ids: Sequence[str]) -> dict[str, bytes | None]:
        """The leaf of each of the transactions that exists; None for one whose document has none."""
        chunks = [ids[start : start + READ_SIZE] for start in range(0, len(ids), READ_SIZE)]
        leaves: dict[str, bytes | None] = {}
        for batches in await asyncio.gather(*(self._fetch(chunk) for chunk in chunks)):
            for document in (document for batch in batches for document in bson.decode_all(batch, _NAIVE)):
                try:
                    leaves[document["_id"]] = leaf_digest(document, NAIVE_EPOCH)
                except NotCanonicalError:
                    leaves[document["_id"]] = None
        return leaves

    async def _fetch(self, ids: Sequence[str]) -> list[bytes]:
        """What leaves need of the transactions, undecoded: all at once takes half the time of the driver's cursor."""
        with translated():
            batches: Any = self._database.raw[TRANSACTIONS.name].find_raw_batches(
                {"_id": {"$in": list(ids)}}, list(LEAF_FIELDS), batch_size=len(ids) + 1
            )
            return [batch async for batch in batches]

    async def find_sealed(self, ids: Sequence[bytes]) -> frozenset[bytes]:
        """Those of the transactions (16 bytes each) that some block holds already."""
        found = await self._database.aggregate(
            LEAVES.name,
            [
                {"$match": {"transactions": {"$in": list(ids)}}},
                {"$project": {"both": {"$setIntersection": ["$transactions", list(ids)]}}},
            ],
        )
        return frozenset(transaction for document in found for transaction in document["both"])

    async def find_transaction(self, transaction: str) -> Document | None:
        """What a leaf needs of a transaction."""
        return await self._database.find_one(TRANSACTIONS.name, {"_id": transaction}, LEAF_FIELDS)

    async def find_place(self, transaction: bytes) -> tuple[int, int, bytes] | None:
        """Height, index and all leaves of the block that holds the transaction (16 bytes)."""
        found = await self._database.aggregate(
            LEAVES.name,
            [
                {"$match": {"transactions": transaction}},
                {"$sort": {"_id": 1}},
                {"$limit": 1},
                {"$project": {"leaves": 1, "index": {"$indexOfArray": ["$transactions", transaction]}}},
            ],
        )
        return (int(found[0]["_id"]), int(found[0]["index"]), found[0]["leaves"]) if found else None


async def write_block(
    tx: Tx,
    block: Block,
    *,
    transactions: Sequence[bytes],
    leaves: bytes,
    days: Sequence[Day],
    announcements: Sequence[str],
    unsealable: Sequence[Unsealable],
) -> None:
    """Write the block, its leaves and days, and delete what it consumed.

    Raises:
        OutrunError: another sealer made the block of this height.
        SealedBeforeError: a transaction stands in an earlier block.
    """
    height = Int64(block.header.height)
    if await tx.find_one(BLOCKS.name, {"_id": height}) is not None:
        raise OutrunError
    if await tx.find_one(KEYS.name, {"_id": block.header.key}) is None:
        key = {"_id": block.header.key, "public": block.public_key, "at": block.header.sealed_at}
        await tx.insert_many(KEYS.name, [key])
    await tx.insert_many(BLOCKS.name, [block_document(block)])
    try:
        with translated():
            await tx.insert_many(LEAVES.name, [{"_id": height, "transactions": list(transactions), "leaves": leaves}])
    except DuplicateError:
        # The height was free, so it was a transaction.
        raise SealedBeforeError from None
    await tx.bulk_write(DAYS.name, [_day_change(day) for day in days])
    await tx.insert_many(UNSEALABLE.name, [_unsealable_document(item) for item in unsealable])
    await tx.bulk_write(UNSEALED.name, [DeleteOne({"_id": announcement}) for announcement in announcements])


def _day_change(day: Day) -> UpdateOne:
    change = {
        "final": day.is_final,
        "first": Int64(day.first),
        "last": Int64(day.last),
        "root": day.root,
        "key": day.key,
        "signature": day.signature,
    }
    return UpdateOne({"_id": day.date.isoformat()}, {"$set": change}, upsert=True)


def _unsealable_document(item: Unsealable) -> Document:
    return {
        "_id": f"{item.height}:{item.transaction}",
        "transaction": item.transaction,
        "reason": item.reason.value,
        "height": Int64(item.height),
        "at": item.at,
    }


async def stream_blocks(snapshot: Snapshot, keys: Mapping[KeyId, str]) -> AsyncIterator[Block]:
    """Every block by height, for the auditor."""
    async for document in snapshot.stream(BLOCKS.name, {}, sort=[("_id", 1)]):
        yield block_from_document(document, keys)


async def stream_leaves(snapshot: Snapshot, *, above: int = 0) -> AsyncIterator[tuple[int, list[bytes], bytes]]:
    """Height, transactions (16 bytes each) and leaves of every block above that height, for the auditor."""
    query = {"_id": {"$gt": Int64(above)}}
    async for document in snapshot.stream(LEAVES.name, query, sort=[("_id", 1)], batch_size=8):
        yield int(document["_id"]), document["transactions"], document["leaves"]
