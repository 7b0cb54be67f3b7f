"""The book's two collections and every query on them.

``ledger_pages``: one document per guarded owner with all their balances and the number of their transactions.
``ledger_transactions``: each transaction once on the page of every guarded owner it touches (first its home, then
copies with ``copy_of``), so that a statement is read from one shard; ``_id`` is derived from the key, so a key takes
effect once.
Both are sharded by owner. Transactions are only ever inserted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo import UpdateOne

from backend.kernel.ids import TransactionId
from backend.ledger.model import (
    Asset,
    Entry,
    Line,
    OwnerId,
    Page,
    StatementLine,
    TransactionKind,
    split_account,
)
from backend.mongo.collections import (
    AMOUNT,
    COUNTER,
    LONG,
    MOMENT,
    TEXT,
    TEXT_MAP,
    Collection,
    Index,
    list_of,
    nullable,
    one_of,
    record,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from datetime import datetime

    from backend.ledger.model import Transaction
    from backend.mongo.client import Database, Document, Snapshot
    from backend.mongo.transactions import Tx

PAGES = Collection(
    "ledger_pages",
    record({"_id": TEXT, "version": AMOUNT, "balances": list_of(record({"asset": TEXT, "posted": COUNTER}))}),
)
TRANSACTIONS = Collection(
    "ledger_transactions",
    record(
        {
            "_id": TEXT,
            "owner": TEXT,
            "sequence": nullable(AMOUNT),
            "copy_of": nullable(TEXT),
            "key": TEXT,
            "payload": TEXT,
            "kind": one_of(*TransactionKind),
            "at": MOMENT,
            "postings": list_of(record({"from": TEXT, "to": TEXT, "asset": TEXT, "amount": AMOUNT})),
            "lines": list_of(record({"asset": TEXT, "change": LONG, "balance": COUNTER})),
            "cause": TEXT_MAP,
        }
    ),
    (
        Index("owner_sequence", [("owner", 1), ("sequence", 1)], unique=True, partial={"sequence": {"$type": "long"}}),
        Index("owner_asset_sequence", [("owner", 1), ("lines.asset", 1), ("sequence", -1)]),
    ),
)
COLLECTIONS = (PAGES, TRANSACTIONS)


def page_to_document(page: Page) -> Document:
    """The page as stored."""
    return {"_id": page.owner, "version": Int64(page.version), "balances": _balances(page)}


def _balances(page: Page) -> list[Document]:
    return [{"asset": asset, "posted": Int64(amount)} for asset, amount in sorted(page.balances.items())]


def page_from_document(document: Mapping[str, Any]) -> Page:
    """The stored page."""
    balances = {Asset(item["asset"]): int(item["posted"]) for item in document["balances"]}
    return Page(OwnerId(document["_id"]), int(document["version"]), balances)


def transaction_documents(transaction: Transaction, entries: Sequence[Entry], at: datetime) -> list[Document]:
    """One document per guarded owner touched; a single one without sequence where none is."""
    postings = [
        {"from": p.from_account, "to": p.to_account, "asset": p.asset, "amount": Int64(p.amount)}
        for p in transaction.postings
    ]
    shared = {
        "key": transaction.key,
        "payload": transaction.payload,
        "kind": transaction.kind.value,
        "at": at,
        "postings": postings,
        "cause": dict(transaction.cause),
    }
    if not entries:
        owner, _ = split_account(transaction.postings[0].from_account)
        return [{"_id": transaction.id, "owner": owner, "sequence": None, "copy_of": None, "lines": [], **shared}]
    return [
        {
            "_id": f"{transaction.id}@{entry.owner}" if number else transaction.id,
            "owner": entry.owner,
            "sequence": Int64(entry.sequence),
            "copy_of": transaction.id if number else None,
            "lines": [
                {"asset": line.asset, "change": Int64(line.change), "balance": Int64(line.balance)}
                for line in entry.lines
            ],
            **shared,
        }
        for number, entry in enumerate(entries)
    ]


class LedgerWrites:
    """The book inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def payloads(self, ids: Iterable[TransactionId]) -> dict[TransactionId, str]:
        """Payload hash of those transactions that are already in the book."""
        found = await self._tx.find(TRANSACTIONS.name, {"_id": {"$in": list(ids)}}, ["payload"])
        return {TransactionId(document["_id"]): document["payload"] for document in found}

    async def pages(self, owners: Iterable[OwnerId]) -> dict[OwnerId, Page]:
        """The pages that exist among these owners'."""
        found = await self._tx.find(PAGES.name, {"_id": {"$in": list(owners)}})
        return {page.owner: page for page in map(page_from_document, found)}

    async def write(
        self, documents: Sequence[Document], before: Mapping[OwnerId, Page], after: Mapping[OwnerId, Page]
    ) -> None:
        """Insert the transactions, then turn the pages; a page changed since it was read starts it all again."""
        await self._tx.insert_many(TRANSACTIONS.name, documents)
        await self._tx.insert_many(
            PAGES.name, [page_to_document(page) for owner, page in after.items() if owner not in before]
        )
        await self._tx.bulk_write(
            PAGES.name,
            [
                UpdateOne(
                    {"_id": owner, "version": Int64(before[owner].version)},
                    {"$set": {"version": Int64(page.version), "balances": _balances(page)}},
                )
                for owner, page in after.items()
                if owner in before
            ],
        )


class LedgerReads:
    """The book as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_pages(self, owners: Sequence[OwnerId]) -> dict[OwnerId, Page]:
        """The pages that exist among these owners'."""
        found = await self._database.find(PAGES.name, {"_id": {"$in": list(owners)}}, limit=len(owners) or 1)
        return {page.owner: page for page in map(page_from_document, found)}

    async def list_statement(
        self, owner: OwnerId, asset: Asset, *, older_than: int | None, newer_than: int | None, limit: int, newest: bool
    ) -> list[StatementLine]:
        """At most ``limit`` lines with sequence between the bounds; from the newest or from the oldest."""
        query: dict[str, Any] = {"owner": owner, "lines.asset": asset}
        bounds: dict[str, Int64] = {}
        if older_than is not None:
            bounds["$lt"] = Int64(older_than)
        if newer_than is not None:
            bounds["$gt"] = Int64(newer_than)
        if bounds:
            query["sequence"] = bounds
        order = -1 if newest else 1
        documents = await self._database.find(TRANSACTIONS.name, query, limit=limit, sort=[("sequence", order)])
        return [_statement_line(document, asset) for document in documents]


def _statement_line(document: Document, asset: Asset) -> StatementLine:
    line = next(line for line in document["lines"] if line["asset"] == asset)
    return StatementLine(
        sequence=int(document["sequence"]),
        transaction=TransactionId(document["copy_of"] or document["_id"]),
        kind=TransactionKind(document["kind"]),
        at=document["at"],
        line=Line(asset, int(line["change"]), int(line["balance"])),
        cause=document["cause"],
    )


async def stream_transactions(snapshot: Snapshot) -> AsyncIterator[Document]:
    """Every stored transaction by owner and sequence, for the auditor."""
    async for document in snapshot.stream(TRANSACTIONS.name, {}, sort=[("owner", 1), ("sequence", 1)]):
        yield document


async def stream_pages(snapshot: Snapshot) -> AsyncIterator[Page]:
    """Every page by owner, for the auditor."""
    async for document in snapshot.stream(PAGES.name, {}, sort=[("_id", 1)]):
        yield page_from_document(document)
