"""The connection: errors of the server become ours, duplicates are told by place, snapshots stand still."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from bson import Int64
from pymongo import UpdateOne
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from backend.kernel.clock import SystemClock
from backend.kernel.errors import UnavailableError
from backend.mongo.client import DuplicateError, translated
from backend.mongo.idempotency import IDEMPOTENCY_KEYS, KEPT_FOR, IdempotencyKeys, Use
from backend.mongo.migrations import migrate
from backend.process.errors import WrongClockError
from backend.runtime import open_services

if TYPE_CHECKING:
    from backend.mongo.client import Database
    from backend.settings import Settings

DUPLICATE = {"code": 11000, "index": 3, "errmsg": "E11000"}
INVALID = {"code": 121, "index": 4, "errmsg": "Document failed validation"}
NOW = SystemClock().now()


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("lost"),
        NetworkTimeout("slow"),
        ServerSelectionTimeoutError("nobody"),
        NotPrimaryError("stepped down"),
        WTimeoutError("no majority"),
        ExecutionTimeout("slow"),
        OperationFailure("stepped down", 189),
        OperationFailure("shutting down", 91),
    ],
)
def test_a_server_that_cannot_is_unavailable(error: PyMongoError) -> None:
    with pytest.raises(UnavailableError) as caught, translated():
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "positions"),
    [(DuplicateKeyError("E11000", 11000), (0,)), (BulkWriteError({"writeErrors": [DUPLICATE]}), (3,))],
)
def test_a_duplicate_is_told_with_its_place(error: PyMongoError, positions: tuple[int, ...]) -> None:
    with pytest.raises(DuplicateError) as caught, translated():
        raise error
    assert caught.value.positions == positions


@pytest.mark.parametrize(
    "error",
    [
        BulkWriteError({"writeErrors": [DUPLICATE, INVALID]}),
        BulkWriteError({"writeErrors": []}),
        OperationFailure("Document failed validation", 121),
        ValueError("ours"),
    ],
)
def test_everything_else_is_a_bug_and_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated():
        raise error
    assert caught.value is error


async def test_of_a_batch_all_but_the_duplicates_are_stored(database: Database) -> None:
    assert await database.insert_many("things", []) == frozenset()
    assert await database.insert_many("things", [{"_id": 1}, {"_id": 2}]) == frozenset()
    assert await database.insert_many("things", [{"_id": 2}, {"_id": 3}, {"_id": 1}, {"_id": 3}]) == {0, 2, 3}
    assert await database.count("things", {}) == 3


async def test_single_document_writes_tell_what_they_met(database: Database) -> None:
    assert not await database.update_one("things", {"_id": 1}, {"$set": {"n": 1}})
    assert await database.update_one("things", {"_id": 1}, {"$set": {"n": 1}}, upsert=True)
    assert await database.update_one("things", {"_id": 1}, {"$set": {"n": 1}})
    assert await database.find_one_and_update("things", {"_id": 1}, {"$inc": {"n": 1}}) == {"_id": 1, "n": 2}
    assert await database.find_one_and_update("things", {"_id": 2}, {"$inc": {"n": 1}}) is None
    await database.bulk_write("things", [UpdateOne({"_id": 3}, {"$set": {"n": 3}}, upsert=True)])
    assert await database.find("things", {}, limit=5, sort=[("_id", -1)], fields=["_id"]) == [{"_id": 3}, {"_id": 1}]
    assert await database.delete_one("things", {"_id": 1})
    assert not await database.delete_one("things", {"_id": 1})


async def test_a_unique_index_refuses_a_change_too(database: Database) -> None:
    await database.raw["things"].create_index([("n", 1)], unique=True)
    await database.insert_many("things", [{"_id": 1, "n": 1}, {"_id": 2, "n": 2}])
    with pytest.raises(DuplicateError):
        await database.update_one("things", {"_id": 1}, {"$set": {"n": 2}})


async def test_a_snapshot_stands_still_while_writes_go_on(database: Database) -> None:
    await database.insert_many("things", [{"_id": number} for number in range(3)])
    async with database.snapshot() as snapshot:
        assert await snapshot.find_one("things", {"_id": 0}) == {"_id": 0}
        await database.insert_many("things", [{"_id": number} for number in range(3, 9)])
        await database.delete_one("things", {"_id": 0})
        seen = [document["_id"] async for document in snapshot.stream("things", {}, sort=[("_id", 1)], batch_size=2)]
    assert seen == [0, 1, 2]


@pytest.fixture
async def keys(database: Database) -> IdempotencyKeys:
    """An empty register of keys."""
    await migrate(database, [IDEMPOTENCY_KEYS])
    return IdempotencyKeys(database)


def use(key: str = "key-0001", payload: str = "one", principal: str = "citizen:a", operation: str = "record") -> Use:
    return Use(principal, operation, key, payload)


async def test_a_key_serves_one_payload(keys: IdempotencyKeys) -> None:
    assert await keys.claim_many([use()], now=NOW) == [True]
    assert await keys.claim_many([use(), use(payload="two")], now=NOW) == [True, False]


async def test_a_key_belongs_to_its_principal_and_operation(keys: IdempotencyKeys) -> None:
    await keys.claim_many([use()], now=NOW)
    others = [use(payload="two", principal="citizen:b"), use(payload="two", operation="redeem"), use("key-0002", "two")]
    assert await keys.claim_many(others, now=NOW) == [True, True, True]


async def test_within_one_call_the_first_use_decides(keys: IdempotencyKeys) -> None:
    assert await keys.claim_many([use(), use(payload="two"), use()], now=NOW) == [True, False, True]
    assert await keys.claim_many([], now=NOW) == []


async def test_of_simultaneous_uses_one_payload_wins(keys: IdempotencyKeys) -> None:
    payloads = [str(number % 3) for number in range(60)]
    answers = await asyncio.gather(*(keys.claim_many([use(payload=payload)], now=NOW) for payload in payloads))
    winners = {payload for payload, [won] in zip(payloads, answers, strict=True) if won}
    assert len(winners) == 1
    assert sum(won for [won] in answers) == 20


async def test_a_key_is_kept_for_five_weeks(keys: IdempotencyKeys, database: Database) -> None:
    await keys.claim_many([use()], now=NOW)
    [document] = await database.find(IDEMPOTENCY_KEYS.name, {}, limit=2)
    assert document["expires_at"] == NOW + KEPT_FOR
    assert timedelta(days=30) <= KEPT_FOR
    index = (await database.raw[IDEMPOTENCY_KEYS.name].index_information())["expires_at"]
    assert index["expireAfterSeconds"] == Int64(0)


class FastClock(SystemClock):
    """Nine seconds ahead."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=9)


async def test_a_machine_with_a_wrong_clock_does_not_start(settings: Settings) -> None:
    with pytest.raises(WrongClockError, match=r"differs from that of MongoDB by [89] s"):
        async with open_services(settings, FastClock()):
            raise AssertionError
