"""Reading whole collections without decoding them: for passes that understand a document's bytes by themselves.

Decoding takes many times longer than all that the auditor does with a document whose form it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import contextmanager
from struct import Struct
from typing import TYPE_CHECKING, Any

import bson
from bson import DatetimeConversion, Int64
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from backend.kernel.errors import UnavailableError
from backend.mongo.client import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from backend.mongo.client import Snapshot

Spans = Iterable[tuple[int, int]]
Batch = tuple[memoryview, Spans]
BATCH_SIZE = 1_000
_SNAPSHOT_TOO_OLD = 239
_LENGTH = Struct("<i")
_NEXT_BATCH = b"\x04nextBatch\0"
_UNDECODED: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
# A date that no calendar has must be a finding of whoever reads it, not a failure of the reading.
_FORGIVING: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


class OutlastedError(Exception):
    """A pass took longer than the server keeps the history that a view of one instant needs."""

    def __init__(self) -> None:
        super().__init__("reading took longer than the server keeps history: raise minSnapshotHistoryWindowInSeconds")


@contextmanager
def _reading() -> Iterator[None]:
    """Turn the driver's errors into ours.

    Raises:
        OutlastedError: the instant is too long ago.
        UnavailableError: the server did not answer.
    """
    try:
        with translated():
            yield
    except OperationFailure as error:
        if error.code == _SNAPSHOT_TOO_OLD:
            raise OutlastedError from error
        raise


async def stream_raw(
    snapshot: Snapshot,
    collection: str,
    query: Mapping[str, Any],
    *,
    sort: Sequence[tuple[str, int]] = (),
    batch_size: int = BATCH_SIZE,
) -> AsyncIterator[Batch]:
    """Every matching document of that instant: bytes, and where in them each document begins and how long it is.

    While a batch is being worked on, the server already prepares the next.

    Raises:
        OutlastedError: the instant is longer ago than the server keeps history.
        UnavailableError: the server did not answer.
    """
    raw, session = snapshot._raw, snapshot._session  # noqa: SLF001 - a way to read it, of the same package
    cursor: Any = raw[collection].find_raw_batches(
        query, session=session, batch_size=batch_size, sort=list(sort) or None
    )

    async def fetch(number: int) -> tuple[int, memoryview]:
        """The next batch, asked for by hand: the driver would look at every document in it."""
        with _reading():
            reply = await raw.command(
                {"getMore": Int64(number), "collection": collection, "batchSize": batch_size},
                codec_options=_UNDECODED,
                session=session,
            )
        return _opened(memoryview(reply["cursor"].raw))

    async with cursor:
        with _reading():
            first = memoryview(await anext(cursor, b""))
        yield first, _joined(first)
        number = cursor.cursor_id
        coming = asyncio.ensure_future(fetch(number)) if number else None
        while coming is not None:
            try:
                number, array = await coming
                coming = asyncio.ensure_future(fetch(number)) if number else None
                # One turn of the loop, in which the request is sent.
                await asyncio.sleep(0)
                yield array, _listed(array)
            except BaseException:
                if coming is not None:
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
                raise


async def find_first(
    snapshot: Snapshot, collection: str, query: Mapping[str, Any], *, sort: Sequence[tuple[str, int]]
) -> dict[str, Any] | None:
    """The first matching document of that instant, in that order."""
    raw, session = snapshot._raw, snapshot._session  # noqa: SLF001 - see stream_raw
    with _reading():
        return await raw[collection].find_one(query, sort=list(sort), session=session)


def _opened(cursor: memoryview) -> tuple[int, memoryview]:
    """The cursor's id (0 at its end) and the array of documents, out of what the server says of a cursor."""
    begin = _LENGTH.size + len(_NEXT_BATCH)
    if cursor[_LENGTH.size : begin] != _NEXT_BATCH:
        raise UnavailableError  # a server that speaks otherwise than any known one
    end = begin + _LENGTH.unpack_from(cursor, begin)[0]
    rest = bytes(cursor[end:])
    return int(bson.decode(_LENGTH.pack(_LENGTH.size + len(rest)) + rest)["id"]), cursor[begin:end]


def _joined(documents: memoryview) -> Iterator[tuple[int, int]]:
    """The spans of documents that follow each other directly."""
    start = 0
    while start < len(documents):
        (size,) = _LENGTH.unpack_from(documents, start)
        yield start, size
        start += size


def _listed(array: memoryview) -> Iterator[tuple[int, int]]:
    """The spans of the documents in a BSON array: before each stand its type, its number in digits, and a zero."""
    start, end, length, number = _LENGTH.size, len(array) - 1, _LENGTH.unpack_from, 0
    digits, longer = 1, 10
    while start < end:
        if number == longer:
            digits, longer = digits + 1, longer * 10
        number += 1
        start += digits + 2
        (size,) = length(array, start)
        yield start, size
        start += size


def decode(raw: bytes | memoryview) -> dict[str, Any]:
    """The document, times in UTC.

    Raises:
        ValueError: its texts are no UTF-8.
    """
    try:
        return bson.decode(raw, _FORGIVING)
    except bson.errors.BSONError as error:
        raise ValueError(str(error)) from error


def encode(document: Mapping[str, Any]) -> bytes:
    """The document's bytes, as the server would store it.

    Raises:
        ValueError: it cannot stand in a database.
    """
    try:
        return bson.encode(document)
    except (bson.errors.BSONError, OverflowError) as error:
        raise ValueError(str(error)) from error


def long(value: int) -> int:
    """The number as amounts are stored: a 64-bit integer, which other integers and floats are equal to and are not."""
    return Int64(value)
