"""What the auditor reads of the book, and how: every query of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.ledger.documents import PAGES, TRANSACTIONS, UNSEALED, page_from_document
from backend.ledger.model import MERCHANT
from backend.ledger.model import TransactionKind as Kind
from backend.ledger.sealing.store import BLOCKS, DAYS, KEYS, LEAVES, UNSEALABLE
from backend.mongo.batches import decode, stream_raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from backend.ledger.model import OwnerId, Page
    from backend.mongo.batches import Batch
    from backend.mongo.client import Document, Snapshot

PLACED = {"sequence": {"$type": "long"}}
UNPLACED = {"sequence": {"$not": {"$type": "long"}}}
# A block's leaves are half a megabyte.
LEAVES_AT_ONCE = 4


def stream_placed(snapshot: Snapshot) -> AsyncIterator[Batch]:
    """Every transaction of an owner's sequence, by owner and sequence, in batches of undecoded documents."""
    # The query is that of the partial index: without it the server would sort the whole book.
    return stream_raw(snapshot, TRANSACTIONS.name, PLACED, sort=[("owner", 1), ("sequence", 1)])


def stream_unplaced(snapshot: Snapshot) -> AsyncIterator[Batch]:
    """Every transaction that stands in no sequence."""
    return stream_raw(snapshot, TRANSACTIONS.name, UNPLACED)


def stream_pages(snapshot: Snapshot) -> AsyncIterator[Batch]:
    """Every page by owner, in batches of undecoded documents."""
    return stream_raw(snapshot, PAGES.name, {}, sort=[("_id", 1)])


async def stream_blocks(snapshot: Snapshot) -> AsyncIterator[bytes]:
    """Every block by height, undecoded."""
    async for raw in _each(snapshot, BLOCKS.name):
        yield raw


async def stream_leaves(snapshot: Snapshot) -> AsyncIterator[bytes]:
    """The leaves of every block by height, undecoded."""
    async for raw in _each(snapshot, LEAVES.name, LEAVES_AT_ONCE):
        yield raw


async def stream_unsealed(snapshot: Snapshot) -> AsyncIterator[bytes]:
    """Every announcement of transactions that wait to be sealed, undecoded."""
    async for raw in _each(snapshot, UNSEALED.name):
        yield raw


async def list_keys(snapshot: Snapshot) -> list[bytes]:
    """Every registered public key, undecoded."""
    return [raw async for raw in _each(snapshot, KEYS.name)]


async def list_days(snapshot: Snapshot) -> list[bytes]:
    """Every published day, undecoded."""
    return [raw async for raw in _each(snapshot, DAYS.name)]


async def stream_unsealable(snapshot: Snapshot) -> AsyncIterator[Document]:
    """Every announcement that a block had to leave out."""
    async for raw in _each(snapshot, UNSEALABLE.name):
        yield decode(raw)


async def _each(snapshot: Snapshot, collection: str, batch_size: int = 1_000) -> AsyncIterator[bytes]:
    async for batch, spans in stream_raw(snapshot, collection, {}, sort=[("_id", 1)], batch_size=batch_size):
        for start, size in spans:
            yield bytes(batch[start : start + size])


async def find_homes(snapshot: Snapshot, ids: Sequence[str]) -> dict[str, Document]:
    """Those of the transactions that are in the book, as their home documents."""
    found = {}
    async for batch, spans in stream_raw(snapshot, TRANSACTIONS.name, {"_id": {"$in": list(ids)}}):
        for start, size in spans:
            document = decode(batch[start : start + size])
            found[document["_id"]] = document
    return found


async def find_pages(snapshot: Snapshot, owners: Sequence[OwnerId]) -> dict[OwnerId, Page]:
    """Those of the owners' pages that exist."""
    found = snapshot.stream(PAGES.name, {"_id": {"$in": list(owners)}})
    return {page.owner: page async for page in (page_from_document(document) async for document in found)}


async def stream_told(snapshot: Snapshot) -> AsyncIterator[str]:
    """Ids of the transactions that reserve, move or give back points for a voucher."""
    kinds = [kind.value for kind in (Kind.HOLD, Kind.TRANSFER, Kind.POST, Kind.REVERSE)]
    query = {"cause.voucher": {"$type": "string"}, "kind": {"$in": kinds}, "copy_of": None}
    async for document in snapshot.stream(TRANSACTIONS.name, query, fields=["_id"]):
        yield document["_id"]


async def stream_of_merchants(snapshot: Snapshot) -> AsyncIterator[Document]:
    """Every transaction that touches a merchant's account."""
    theirs = {"$regex": f"^{MERCHANT}"}
    query = {"copy_of": None, "$or": [{"postings.to": theirs}, {"postings.from": theirs}]}
    async for document in snapshot.stream(TRANSACTIONS.name, query):
        yield document


async def stream_of_credits(snapshot: Snapshot) -> AsyncIterator[Document]:
    """Every transaction of which the cause names a credit."""
    query = {"cause.credit": {"$type": "string"}, "copy_of": None}
    async for document in snapshot.stream(TRANSACTIONS.name, query):
        yield document


async def find_copies(snapshot: Snapshot, transaction: str, owners: Sequence[str]) -> list[Document]:
    """The copies of a transaction on these owners' pages."""
    ids = [f"{transaction}@{owner}" for owner in owners]
    return [document async for document in snapshot.stream(TRANSACTIONS.name, {"_id": {"$in": ids}})]


async def find_corrections(snapshot: Snapshot, transaction: str, owners: Sequence[str]) -> list[Document]:
    """Every document on these owners' pages that corrects the transaction."""
    query = {"owner": {"$in": list(owners)}, "corrects": transaction}
    return [document async for document in snapshot.stream(TRANSACTIONS.name, query)]


async def find_heights(snapshot: Snapshot, transaction: bytes) -> list[str]:
    """The blocks that hold the transaction (16 bytes), whatever is stored as their height."""
    query = {"transactions": transaction}
    return [str(found["_id"]) async for found in snapshot.stream(LEAVES.name, query, sort=[("_id", 1)], fields=["_id"])]
