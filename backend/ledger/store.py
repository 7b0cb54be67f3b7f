"""Every query on the book."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from bson import Int64
from pymongo import UpdateOne

from backend.kernel.ids import ShardNumber, TransactionId
from backend.ledger.documents import (
    PAGES,
    TRANSACTIONS,
    UNSEALED,
    page_from_document,
    page_to_document,
    position,
    standing_of,
    statement_line,
    transaction_from_document,
)
from backend.ledger.model import (
    SETTLING,
    Asset,
    OwnerId,
    Page,
    Posted,
    StatementLine,
    Transaction,
    TransactionKind,
    account_of,
    merchant_owner,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    from backend.ledger.corrections import Standing
    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Tx

# What is decoded between two turns of the event loop: some milliseconds.
BATCH = 250


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

    async def standing(self, transaction: TransactionId) -> Standing | None:
        """The transaction with the lots of every owner it touches and what corrected it; None where there is none."""
        home = await self._tx.find_one(TRANSACTIONS.name, {"_id": transaction, "copy_of": None})
        if home is None:
            return None
        original = transaction_from_document(home)
        owners = original.owners
        copies = await self._tx.find(
            TRANSACTIONS.name, {"_id": {"$in": [f"{transaction}@{owner}" for owner in owners]}}
        )
        # A correction stands on the page of an owner it corrects, perhaps on several of them.
        found = await self._tx.find(TRANSACTIONS.name, {"owner": {"$in": owners}, "corrects": transaction})
        corrections = {document["copy_of"] or document["_id"]: document for document in found}
        return standing_of([home, *copies], list(corrections.values()))

    async def insert(self, documents: Sequence[Document]) -> None:
        """Insert transactions while the caller prepares what comes next."""
        await self._tx.insert_soon(TRANSACTIONS.name, documents)

    async def announce(self, unsealed: str, transactions: Sequence[str], at: datetime) -> None:
        """Queue what commits together to be sealed."""
        await self._tx.insert_soon(UNSEALED.name, [{"_id": unsealed, "transactions": transactions, "at": at}])

    async def turn(self, before: Mapping[OwnerId, Page], after: Iterable[Page]) -> None:
        """Turn the pages; one changed since it was read starts it all again."""
        turned = list(after)
        await self._tx.insert_soon(PAGES.name, [page_to_document(page) for page in turned if page.owner not in before])
        await self._tx.bulk_write(
            PAGES.name,
            [
                UpdateOne({"_id": page.owner, "version": Int64(before[page.owner].version)}, {"$set": position(page)})
                for page in turned
                if page.owner in before
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

    async def find_transaction(self, transaction: TransactionId) -> Transaction | None:
        """The transaction of that id."""
        document = await self._database.find_one(TRANSACTIONS.name, {"_id": transaction, "copy_of": None})
        return transaction_from_document(document) if document else None

    async def list_due(self, shard: ShardNumber, now: datetime, *, limit: int) -> list[OwnerId]:
        """Owners of the shard on whose page a hold or a lot has ended, longest ago first."""
        query = {"shard": Int64(shard), "due_at": {"$lte": now}}
        documents = await self._database.find(PAGES.name, query, limit=limit, sort=[("due_at", 1)], fields=["_id"])
        return [OwnerId(document["_id"]) for document in documents]

    async def list_statement(
        self, owner: OwnerId, asset: Asset, *, older_than: int | None, newer_than: int | None, limit: int, newest: bool
    ) -> list[StatementLine]:
        """At most ``limit`` lines with sequence between the bounds; from the newest or from the oldest."""
        query: dict[str, Any] = {"owner": owner, "lines.asset": asset}
        # The index is by time, and time never decreases along the sequence: bounds in both keep a deep page as quick.
        moments: dict[str, datetime] = {}
        if older_than is not None:
            query["sequence"] = {"$lt": Int64(older_than)}
            moments["$lte"] = await self._at(owner, older_than)
        if newer_than is not None:
            query.setdefault("sequence", {})["$gt"] = Int64(newer_than)
            moments["$gte"] = await self._at(owner, newer_than)
        if moments:
            query["at"] = moments
        order = -1 if newest else 1
        documents = await self._database.find(
            TRANSACTIONS.name, query, limit=limit, sort=[("at", order), ("sequence", order)]
        )
        return [statement_line(document, asset) for document in documents]

    async def _at(self, owner: OwnerId, sequence: int) -> datetime:
        """When the owner's transaction of that number happened, or the last one before it."""
        query = {"owner": owner, "sequence": {"$lte": Int64(sequence)}}
        found = await self._database.find(TRANSACTIONS.name, query, limit=1, sort=[("sequence", -1)], fields=["at"])
        at: datetime = found[0]["at"] if found else datetime.fromtimestamp(0, UTC)
        return at

    async def list_period(
        self, owner: OwnerId, asset: Asset, *, since: datetime | None, until: datetime, limit: int, newest: bool
    ) -> list[StatementLine]:
        """At most ``limit`` lines with ``since <= at < until``; from the newest or from the oldest."""
        span = {"$lt": until} if since is None else {"$gte": since, "$lt": until}
        order = -1 if newest else 1
        documents = await self._database.find(
            TRANSACTIONS.name,
            {"owner": owner, "lines.asset": asset, "at": span},
            limit=limit,
            sort=[("at", order), ("sequence", order)],
        )
        return [statement_line(document, asset) for document in documents]

    async def stream_merchant(
        self, merchant: str, *, since: datetime | None, until: datetime
    ) -> AsyncGenerator[Posted, None]:
        """Each transaction once that names the merchant, with ``since <= at < until``, by time and id."""
        span = {"$lt": until} if since is None else {"$gte": since, "$lt": until}
        # The type is that of the partial index merchant_at, which no query without it uses.
        query = {"cause.merchant": {"$eq": merchant, "$type": "string"}, "at": span, "copy_of": None}
        async with self._database.snapshot() as snapshot:
            # That index has this order.
            stream = snapshot.stream(TRANSACTIONS.name, query, sort=[("at", 1), ("_id", 1)], batch_size=BATCH)
            # Closed here where a reader stops half-way; the server's cursor is freed by the driver a second later.
            async with aclosing(cast("AsyncGenerator[Document, None]", stream)) as documents:
                async for document in documents:
                    yield Posted(transaction_from_document(document), document["at"])

    async def sum_merchant(self, merchant: str, asset: Asset, *, until: datetime | None) -> int:
        """What transactions that name the merchant moved into the account less what they moved out of it."""
        account = account_of(merchant_owner(merchant), asset)
        query: dict[str, Any] = {
            "cause.merchant": {"$type": "string", "$eq": merchant},
            "copy_of": None,
            # What a hold reserves has not moved.
            "kind": {"$ne": TransactionKind.HOLD.value},
        }
        if until is not None:
            query["$or"] = [{"at": {"$lt": until}}, {"kind": {"$in": sorted(SETTLING)}}]
        signs = [
            {"$cond": [{"$eq": [f"$postings.{end}", account]}, {"$multiply": [sign, "$postings.amount"]}, Int64(0)]}
            for end, sign in (("to", Int64(1)), ("from", Int64(-1)))
        ]
        found = await self._database.aggregate(
            TRANSACTIONS.name,
            [{"$match": query}, {"$unwind": "$postings"}, {"$group": {"_id": None, "sum": {"$sum": {"$add": signs}}}}],
        )
        return int(found[0]["sum"]) if found else 0
