"""The queries of provenance, at one instant: a transaction by its id, an account's transactions from its first."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from backend.kernel.ids import TransactionId
from backend.ledger.attribution import Movement
from backend.ledger.documents import TRANSACTIONS, lots_from, taken_lots, transaction_from_document
from backend.ledger.model import Line, Terms, split_account

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from backend.ledger.model import AccountId, Transaction
    from backend.mongo.client import Document, Snapshot

# What is decoded between two turns of the event loop: some milliseconds.
BATCH = 250


async def find_transaction(snapshot: Snapshot, transaction: TransactionId) -> tuple[Transaction, datetime] | None:
    """The transaction of that id and when it happened."""
    document = await snapshot.find_one(TRANSACTIONS.name, {"_id": transaction, "copy_of": None})
    return (transaction_from_document(document), document["at"]) if document else None


async def stream_movements(
    snapshot: Snapshot, account: AccountId, *, until: datetime | None
) -> AsyncGenerator[Movement, None]:
    """What moved, held or freed amounts of the account, in the owner's sequence; up to and with that moment."""
    owner, asset, _ = split_account(account)
    query = {"owner": owner, "lines.asset": asset, **({"at": {"$lte": until}} if until else {})}
    # The index owner_asset_at, read backwards; the order is the owner's sequence, along which time never decreases.
    order = [("at", 1), ("sequence", 1)]
    stream = snapshot.stream(TRANSACTIONS.name, query, sort=order, batch_size=BATCH)
    # A generator: closed here, and its cursor with it, when a reader stops half-way.
    async with aclosing(cast("AsyncGenerator[Document, None]", stream)) as documents:
        async for document in documents:
            line = next(line for line in document["lines"] if line["asset"] == asset)
            yield Movement(
                id=TransactionId(document["copy_of"] or document["_id"]),
                transaction=transaction_from_document(document),
                terms=Terms(document["at"], document["opens"]),
                taken=taken_lots(document),
                line=Line(asset, int(line["change"]), int(line["balance"]), lots=lots_from(line["lots"])),
            )
