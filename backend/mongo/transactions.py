"""Atomic writes: one body, one MongoDB transaction, retried for a bounded time.

A store that writes receives a ``Tx`` and can reach no collection outside it, so a write that forgets its session
cannot be written down. A body may run more than once: ids and times are made before it.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from backend.kernel.errors import BusyError, UnavailableError
from backend.mongo.client import DuplicateError, translated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pymongo import DeleteOne, UpdateOne
    from pymongo.asynchronous.client_session import AsyncClientSession

    from backend.mongo.client import Database, Document

Result = TypeVar("Result")
RETRY_BUDGET_S = 3.0
FIRST_PAUSE_S = 0.004
LONGEST_PAUSE_S = 0.25
WRITE_CONFLICT = 112
TURNS_TO_SEND = 8


class StaleReadError(Exception):
    """What the body read is no longer so; the transaction starts again from fresh reads."""


class Tx:
    """The collections as one transaction sees them."""

    def __init__(self, database: Database, session: AsyncClientSession, *, is_first: bool) -> None:
        self._raw = database.raw
        self._session = session
        self.is_first = is_first
        """Whether the body runs for the first time: it may then hope, for what it gets wrong is found and run again."""
        self._sent: asyncio.Task[Any] | None = None

    async def settle(self) -> None:
        """Wait for what ``insert_soon`` sent."""
        sent, self._sent = self._sent, None
        if sent is not None:
            await sent

    async def find_one(self, collection: str, query: Mapping[str, Any]) -> Document | None:
        """The first matching document in the transaction's snapshot."""
        await self.settle()
        return await self._raw[collection].find_one(query, session=self._session)

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        fields: Sequence[str] | None = None,
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
    ) -> list[Document]:
        """Every matching document, or the first ``limit``; without a limit only for queries bounded by ids."""
        await self.settle()
        cursor = self._raw[collection].find(query, list(fields) if fields else None, limit=limit, session=self._session)
        return await (cursor.sort(list(sort)) if sort else cursor).to_list(None)

    async def insert_many(self, collection: str, documents: Sequence[Document]) -> None:
        """Insert all or fail the transaction."""
        await self.settle()
        if documents:
            await self._raw[collection].insert_many(documents, session=self._session)

    async def insert_soon(self, collection: str, documents: Sequence[Document]) -> None:
        """Send what is to be inserted, and let the caller prepare more meanwhile; the next operation waits for it."""
        await self.settle()
        if documents:
            insert = self._raw[collection].insert_many(documents, session=self._session)
            self._sent = asyncio.ensure_future(insert)
            # The driver takes some turns of the loop until it has sent it.
            for _ in range(TURNS_TO_SEND):
                await asyncio.sleep(0)

    async def update_one(self, collection: str, query: Mapping[str, Any], change: Mapping[str, Any]) -> None:
        """Change one document, which must match.

        Raises:
            StaleReadError: none matches, so something read before is stale.
        """
        await self.settle()
        result = await self._raw[collection].update_one(query, change, session=self._session)
        if not result.matched_count:
            raise StaleReadError(collection)

    async def force_one(self, collection: str, query: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
        """Change one document even where it breaks its collection's schema; whether one matched."""
        await self.settle()
        result = await self._raw[collection].update_one(
            query, change, bypass_document_validation=True, session=self._session
        )
        return bool(result.matched_count)

    async def bulk_write(self, collection: str, changes: Sequence[UpdateOne | DeleteOne]) -> None:
        """Apply the changes, each of which must meet its document.

        Raises:
            StaleReadError: a change met none, so something read before is stale.
        """
        await self.settle()
        if not changes:
            return
        result = await self._raw[collection].bulk_write(changes, ordered=False, session=self._session)
        if result.matched_count + result.upserted_count + result.deleted_count != len(changes):
            raise StaleReadError(collection)


class Transactions:
    """Runs bodies as transactions on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, body: Callable[[Tx], Awaitable[Result]], *, budget_s: float = RETRY_BUDGET_S) -> Result:
        """Run ``body`` atomically; conflicts, duplicates and stale reads start it again, for at most ``budget_s``.

        Raises:
            BusyError: conflicts outlasted the budget; nothing changed.
            UnavailableError: the server did not answer in time; the effect is unknown, so the caller repeats by key.
        """
        deadline = time.monotonic() + budget_s
        pause = FIRST_PAUSE_S
        is_first = True
        while True:
            try:
                return await self._attempt(body, deadline, is_first=is_first)
            except (StaleReadError, DuplicateError) as error:
                reason: Exception = error
            except PyMongoError as error:
                if not _is_transient(error):
                    with translated():
                        raise
                reason = error
            except UnavailableError as error:
                reason = error
            is_first = False
            if time.monotonic() + pause > deadline:
                if _is_conflict(reason):
                    raise BusyError from reason
                raise UnavailableError from reason
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _attempt(self, body: Callable[[Tx], Awaitable[Result]], deadline: float, *, is_first: bool) -> Result:
        async with self._database.client.start_session() as session:
            transaction = await session.start_transaction(
                ReadConcern("snapshot"), WriteConcern(w="majority", j=True), ReadPreference.PRIMARY
            )
            # Leaving the transaction's block on an error aborts it.
            async with transaction:
                tx = Tx(self._database, session, is_first=is_first)
                try:
                    with translated():
                        result = await body(tx)
                        await tx.settle()
                finally:
                    # A session does one thing at a time: nothing may be under way when the transaction is ended.
                    await asyncio.gather(tx.settle(), return_exceptions=True)
                await self._commit(session, deadline)
                return result

    @staticmethod
    async def _commit(session: AsyncClientSession, deadline: float) -> None:
        while True:
            try:
                await session.commit_transaction()
            except PyMongoError as error:
                # The server may or may not have committed; committing again is safe and tells.
                if not error.has_error_label("UnknownTransactionCommitResult"):
                    raise
                if time.monotonic() > deadline:
                    raise UnavailableError from error
                await asyncio.sleep(FIRST_PAUSE_S)
            else:
                return


def _is_conflict(error: Exception) -> bool:
    return isinstance(error, StaleReadError | DuplicateError) or (
        isinstance(error, OperationFailure) and error.code == WRITE_CONFLICT
    )


def _is_transient(error: PyMongoError) -> bool:
    return error.has_error_label("TransientTransactionError") or _is_conflict(error)
