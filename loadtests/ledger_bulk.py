"""Bulk earnings through the book beside raw writes of the very same documents to the same mongod.

What the book writes is recorded as it goes by and written again by plain ``insert_many`` and ``bulk_write`` into a twin
database with the same validators and indexes, in transactions of the same size.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, NamedTuple

from backend.mongo.client import Database
from backend.mongo.migrations import migrate
from backend.mongo.transactions import Transactions, Tx
from backend.runtime import COLLECTIONS
from loadtests.ledger_book import BATCH, ROUNDS, earn, median, owner
from loadtests.ledger_proofs import seal
from loadtests.report import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pymongo import DeleteOne, UpdateOne

    from backend.ledger.model import Transaction
    from backend.mongo.client import Document
    from backend.runtime import Services

SETTLED_CITIZENS = 10_000
BATCHES = 20
NEWCOMER_EVERY = 5  # one earning in five is its citizen's first, and makes a page


class Write(NamedTuple):
    """One call of the driver: documents to insert, or changes."""

    collection: str
    documents: Sequence[Document] = ()
    changes: Sequence[UpdateOne | DeleteOne] = ()


class Recorder(Tx):
    """A transaction that also notes what is written in it."""

    def __init__(self, tx: Tx) -> None:
        vars(self).update(vars(tx))
        self.writes: list[Write] = []

    async def insert_soon(self, collection: str, documents: Sequence[Document]) -> None:
        """Send what is to be inserted."""
        self.writes.append(Write(collection, documents=documents))
        await super().insert_soon(collection, documents)

    async def insert_many(self, collection: str, documents: Sequence[Document]) -> None:
        """Refuse a write that the twin would lack."""
        raise AssertionError(f"the twin would lack this: {collection} {documents}")

    async def bulk_write(self, collection: str, changes: Sequence[UpdateOne | DeleteOne]) -> None:
        """Apply the changes, each of which must meet its document."""
        self.writes.append(Write(collection, changes=changes))
        await super().bulk_write(collection, changes)

    async def update_one(self, collection: str, query: Mapping[str, Any], change: Mapping[str, Any]) -> None:
        """Refuse to miss a write that the twin would lack."""
        raise AssertionError(f"the twin would lack this: {collection} {query} {change}")


class Bulk:
    """The book and its raw twin, filled with the same documents."""

    def __init__(self, services: Services, twin: Database) -> None:
        self._services = services
        self._book = Transactions(services.database)
        self._twin = Transactions(twin)
        self._numbers = itertools.count()
        self._citizens = 0

    async def post(self, batch: Sequence[Transaction]) -> list[Write]:
        """Post the batch in one MongoDB transaction; what that wrote."""
        at = self._services.clock.now()

        async def body(tx: Tx) -> list[Write]:
            recorder = Recorder(tx)
            await self._services.ledger.post_within(recorder, batch, at=at)
            return recorder.writes

        return await self._book.run(body)

    async def write_raw(self, writes: Sequence[Write]) -> None:
        """Write the same in one MongoDB transaction."""

        async def body(tx: Tx) -> None:
            for write in writes:
                await tx.insert_many(write.collection, write.documents)
                await tx.bulk_write(write.collection, write.changes)

        await self._twin.run(body)

    def batch(self, *, newcomer_every: int) -> list[Transaction]:
        """Earnings of different citizens, spread evenly over all there are."""
        first, known = self._citizens, max(1, self._citizens)
        stride = known // BATCH or 1
        offset = next(self._numbers)
        batch = []
        for place in range(BATCH):
            if place % newcomer_every == 0:
                citizen, self._citizens = self._citizens, self._citizens + 1
            else:
                citizen = (offset + place * stride) % first
            batch.append(earn(next(self._numbers), owner(str(citizen))))
        return batch

    async def settle(self) -> None:
        """Give the first citizens a page, here and in the twin."""
        for _ in range(SETTLED_CITIZENS // BATCH):
            await self.write_raw(await self.post(self.batch(newcomer_every=1)))

    async def round(self) -> tuple[float, float]:
        """Earnings per second through the book, and raw."""
        book_s = raw_s = 0.0
        for batch in [self.batch(newcomer_every=NEWCOMER_EVERY) for _ in range(BATCHES)]:
            begun = time.perf_counter()
            # Batch by batch in turn, so that what is recorded does not pile up and burden the garbage collector.
            writes = await self.post(batch)
            posted = time.perf_counter()
            await self.write_raw(writes)
            book_s += posted - begun
            raw_s += time.perf_counter() - posted
        return BATCHES * BATCH / book_s, BATCHES * BATCH / raw_s


async def measure_bulk(services: Services) -> dict[str, Figure]:
    """Earnings and raw writes in turn, and the sealing of each round's earnings."""
    twin = Database(services.database.client, f"{services.settings.database}_raw")
    await migrate(twin, COLLECTIONS)
    bulk = Bulk(services, twin)
    await bulk.settle()
    await seal(services)
    rates, seals = [], []
    for _ in range(ROUNDS):
        rates.append(await bulk.round())
        seals.append(await seal(services))
    await services.database.client.drop_database(twin.raw.name)
    return {
        "bulk_earn": Figure(median(book for book, _ in rates), "transactions/s"),
        "bulk_raw": Figure(median(raw for _, raw in rates), "transactions/s"),
        "bulk_earn_of_raw": Figure(median(book * 100 / raw for book, raw in rates), "%", 60),
        "seal": Figure(median(seals), "transactions/s", 20_000),
    }
