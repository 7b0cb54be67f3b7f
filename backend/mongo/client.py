"""The connection to MongoDB: durable by default, errors of the server turned into ours, reads without a session.

Writes that must be atomic go through ``transactions``; the writes here are for what needs no transaction.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from backend.kernel.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from pymongo import UpdateOne
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.database import AsyncDatabase

Document = dict[str, Any]
DUPLICATE_KEY = 11000
NOT_WRITABLE_CODES = frozenset({91, 189, 10107, 11600, 11602, 13435, 13436})


class DuplicateError(Exception):
    """A unique index refused a document; ``positions`` are the refused ones of a batch."""

    def __init__(self, positions: tuple[int, ...] = (0,)) -> None:
        super().__init__(positions)
        self.positions = positions


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours; what has no translation is a bug and stays as it is.

    Raises:
        DuplicateError: a unique index refused a document.
        UnavailableError: the server did not answer, or lost its primary.
    """
    try:
        yield
    except DuplicateKeyError as error:
        raise DuplicateError from error
    except BulkWriteError as error:
        failures = error.details["writeErrors"]
        unsure = error.details.get("writeConcernErrors") or any(f["code"] in NOT_WRITABLE_CODES for f in failures)
        if unsure:
            # Written perhaps, but not by a majority: never to be acknowledged.
            raise UnavailableError from error
        if failures and all(failure["code"] == DUPLICATE_KEY for failure in failures):
            raise DuplicateError(tuple(failure["index"] for failure in failures)) from error
        raise
    except (ConnectionFailure, WTimeoutError, ExecutionTimeout) as error:
        raise UnavailableError from error
    except PyMongoError as error:
        if getattr(error, "code", None) in NOT_WRITABLE_CODES:
            raise UnavailableError from error
        raise


class Database:
    """One programme's database: reads and single-document writes, each acknowledged by a journaled majority."""

    def __init__(self, client: AsyncMongoClient[Document], name: str) -> None:
        self.client = client
        self.raw: AsyncDatabase[Document] = client.get_database(
            name,
            codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern(w="majority", j=True),
        )

    async def find_one(
        self, collection: str, query: Mapping[str, Any], fields: Sequence[str] | None = None
    ) -> Document | None:
        """The first matching document."""
        with translated():
            return await self.raw[collection].find_one(query, list(fields) if fields else None)

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        *,
        limit: int,
        sort: Sequence[tuple[str, int]] = (),
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """At most ``limit`` matching documents."""
        with translated():
            cursor = self.raw[collection].find(query, list(fields) if fields else None, limit=limit)
            return await (cursor.sort(list(sort)) if sort else cursor).to_list(limit)

    async def count(self, collection: str, query: Mapping[str, Any]) -> int:
        """How many documents match."""
        with translated():
            return await self.raw[collection].count_documents(query)

    async def aggregate(self, collection: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        """The pipeline's documents; only for pipelines whose result is small."""
        with translated():
            return await (await self.raw[collection].aggregate(list(pipeline), allowDiskUse=True)).to_list(None)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Reads that all see the same instant, while writes go on (the server keeps five minutes of history)."""
        async with self.client.start_session(snapshot=True) as session:
            yield Snapshot(self.raw, session)

    async def insert_many(self, collection: str, documents: Sequence[Document]) -> frozenset[int]:
        """Insert all that no unique index refuses; returns the positions refused as duplicates."""
        if not documents:
            return frozenset()
        try:
            with translated():
                await self.raw[collection].insert_many(documents, ordered=False)
        except DuplicateError as error:
            return frozenset(error.positions)
        return frozenset()

    async def update_one(
        self, collection: str, query: Mapping[str, Any], change: Mapping[str, Any], *, upsert: bool = False
    ) -> bool:
        """Change one document atomically; whether one matched or was made."""
        with translated():
            result = await self.raw[collection].update_one(query, change, upsert=upsert)
            return bool(result.matched_count or result.upserted_id is not None)

    async def bulk_write(self, collection: str, changes: Sequence[UpdateOne]) -> None:
        """Apply the changes, each atomic by itself."""
        with translated():
            await self.raw[collection].bulk_write(changes, ordered=False)

    async def find_one_and_update(
        self,
        collection: str,
        query: Mapping[str, Any],
        change: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        upsert: bool = False,
        sort: Sequence[tuple[str, int]] = (),
    ) -> Document | None:
        """Change one document atomically and return it as it is afterwards."""
        with translated():
            found: Document | None = await self.raw[collection].find_one_and_update(
                query, change, upsert=upsert, return_document=True, sort=list(sort) or None
            )
            return found

    async def delete_one(self, collection: str, query: Mapping[str, Any]) -> bool:
        """Remove one document; whether there was one."""
        with translated():
            return (await self.raw[collection].delete_one(query)).deleted_count == 1

    async def server_time(self) -> datetime:
        """The primary's clock.

        Raises:
            UnavailableError: none answers in time.
        """
        with translated():
            told: datetime = (await self.client.admin.command("hello"))["localTime"]
            return told.replace(tzinfo=UTC)

    async def ping(self) -> None:
        """Answer when a primary does.

        Raises:
            UnavailableError: none answers in time.
        """
        with translated():
            await self.client.admin.command("ping")


class Snapshot:
    """Reads at one instant of the past few minutes."""

    def __init__(self, raw: AsyncDatabase[Document], session: AsyncClientSession) -> None:
        self._raw = raw.with_options(read_concern=ReadConcern("snapshot"))
        self._session = session

    async def stream(
        self,
        collection: str,
        query: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] = (),
        fields: Sequence[str] | None = None,
        batch_size: int = 2_000,
    ) -> AsyncIterator[Document]:
        """Every matching document, in batches, in constant memory."""
        with translated():
            cursor = self._raw[collection].find(
                query, list(fields) if fields else None, session=self._session, batch_size=batch_size
            )
            async with cursor.sort(list(sort)) if sort else cursor as documents:
                async for document in documents:
                    yield document

    async def find_one(self, collection: str, query: Mapping[str, Any]) -> Document | None:
        """The first matching document at that instant."""
        with translated():
            return await self._raw[collection].find_one(query, session=self._session)


def open_database(url: str, name: str, *, pool_size: int = 50) -> Database:
    """Connect lazily to the replica set at ``url``; the caller closes ``database.client``."""
    client: AsyncMongoClient[Document] = AsyncMongoClient(
        url,
        appname="tanhui",
        maxPoolSize=pool_size,
        retryWrites=True,
        serverSelectionTimeoutMS=5_000,
        connectTimeoutMS=5_000,
        socketTimeoutMS=30_000,
    )
    return Database(client, name)
