"""Undecoded reading gives the same documents as decoding, in any number of batches, and says when it took too long."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from bson import Int64

from backend.mongo.batches import OutlastedError, decode, encode, long, stream_raw

if TYPE_CHECKING:
    from backend.mongo.client import Database, Snapshot

COUNT = 2_345
WINDOW = "minSnapshotHistoryWindowInSeconds"


@pytest.fixture
async def filled(database: Database) -> Database:
    documents = [{"_id": number, "text": "x" * (number % 7)} for number in range(COUNT)]
    await database.raw["things"].insert_many(documents)
    return database


@pytest.mark.parametrize("batch_size", [9, 10, 11, 100, 1_001, 5_000])
async def test_every_document_comes_once_in_order(filled: Database, batch_size: int) -> None:
    async with filled.snapshot() as snapshot:
        batches = stream_raw(snapshot, "things", {}, sort=[("_id", -1)], batch_size=batch_size)
        found = [decode(batch[at : at + n]) async for batch, spans in batches for at, n in spans]
    assert found == [{"_id": number, "text": "x" * (number % 7)} for number in reversed(range(COUNT))]


async def test_nothing_found_is_nothing_read(filled: Database) -> None:
    async with filled.snapshot() as snapshot:
        assert [span async for _, spans in stream_raw(snapshot, "things", {"_id": -1}) for span in spans] == []


async def test_writes_meanwhile_are_not_seen_and_stopping_early_is_harmless(filled: Database) -> None:
    async with filled.snapshot() as snapshot:
        async with contextlib.aclosing(stream_raw(snapshot, "things", {}, batch_size=10)) as batches:
            await anext(batches)
            await filled.raw["things"].insert_one({"_id": COUNT})
            await anext(batches)
        count = sum([1 async for _, spans in stream_raw(snapshot, "things", {}) for _ in spans])
    assert count == COUNT


async def dawdle(database: Database, snapshot: Snapshot) -> None:
    async for _ in stream_raw(snapshot, "things", {}, batch_size=10):
        await asyncio.sleep(0.5)
        await database.raw["others"].insert_one({})


async def test_a_pass_that_outlasts_the_history_says_so(filled: Database) -> None:
    admin = filled.client.admin
    await admin.command({"setParameter": 1, WINDOW: 1})
    try:
        async with filled.snapshot() as snapshot:
            with pytest.raises(OutlastedError, match=f"raise {WINDOW}$"):
                await dawdle(filled, snapshot)
    finally:
        await admin.command({"setParameter": 1, WINDOW: 300})


def test_numbers_are_told_apart_by_type() -> None:
    assert encode({"n": long(5)}) == encode({"n": Int64(5)}) != encode({"n": 5})
    assert decode(encode({"n": long(5)})) == {"n": 5}
    with pytest.raises(ValueError, match="utf-8"):
        decode(encode({"n": "ab"}).replace(b"ab", b"\xff\xfe"))
