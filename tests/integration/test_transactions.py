"""Transactions: all or nothing, conflicts retried for a bounded time, and told truthfully when it is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from bson import Int64
from pymongo import AsyncMongoClient, UpdateOne

from backend.kernel.errors import BusyError, UnavailableError
from backend.ledger.errors import InsufficientFundsError
from backend.mongo.client import Database
from backend.mongo.transactions import StaleReadError, Transactions, Tx
from backend.process.server import LOOPBACK, free_ports

if TYPE_CHECKING:
    from backend.mongo.client import Document

TASKS = 24
PATIENT_S = 60
BRIEF_S = 0.2


@pytest.fixture
async def counter(database: Database) -> str:
    """A collection with one counter at 0."""
    await database.insert_many("counters", [{"_id": "one", "value": 0}])
    return "counters"


async def contents(database: Database, collection: str = "counters") -> list[Document]:
    return await database.find(collection, {}, limit=100, sort=[("_id", 1)])


async def test_conflicting_writers_all_succeed_and_none_is_lost(
    database: Database, transactions: Transactions, counter: str
) -> None:
    attempts = 0

    async def increment(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        found = await tx.find_one(counter, {"_id": "one"})
        assert found is not None
        await tx.update_one(counter, {"_id": "one"}, {"$set": {"value": found["value"] + 1}})

    await asyncio.gather(*(transactions.run(increment, budget_s=PATIENT_S) for _ in range(TASKS)))
    assert await contents(database) == [{"_id": "one", "value": TASKS}]
    assert attempts > TASKS


async def test_a_conflict_that_outlasts_the_budget_is_busy_and_nothing_is_written(
    database: Database, transactions: Transactions, counter: str
) -> None:
    attempts = 0

    async def body(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        await tx.insert_many("others", [{"_id": "written first"}])
        await tx.update_one(counter, {"_id": "one"}, {"$set": {"value": -1}})

    async with database.client.start_session() as session, await session.start_transaction():
        await database.raw[counter].update_one({"_id": "one"}, {"$set": {"value": 7}}, session=session)
        with pytest.raises(BusyError):
            await transactions.run(body, budget_s=BRIEF_S)
        await session.commit_transaction()
    assert attempts > 1
    assert await contents(database) == [{"_id": "one", "value": 7}]
    assert await contents(database, "others") == []


async def test_a_duplicate_starts_the_body_again(database: Database, transactions: Transactions, counter: str) -> None:
    ids = iter(["one", "two"])

    async def body(tx: Tx) -> None:
        chosen = next(ids)
        await tx.insert_many("others", [{"_id": f"attempt {chosen}"}])
        await tx.insert_many(counter, [{"_id": chosen, "value": 0}])

    await transactions.run(body)
    assert [document["_id"] for document in await contents(database)] == ["one", "two"]
    assert [document["_id"] for document in await contents(database, "others")] == ["attempt two"]


async def test_a_duplicate_that_stays_is_busy(transactions: Transactions, counter: str) -> None:
    async def body(tx: Tx) -> None:
        await tx.insert_many(counter, [{"_id": "one"}])

    with pytest.raises(BusyError):
        await transactions.run(body, budget_s=BRIEF_S)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), InsufficientFundsError("a", 2, 1)])
async def test_an_error_of_the_body_aborts_and_is_not_retried(
    database: Database, transactions: Transactions, counter: str, error: Exception
) -> None:
    attempts = 0

    async def body(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        await tx.update_one(counter, {"_id": "one"}, {"$set": {"value": 9}})
        raise error

    with pytest.raises(type(error)) as caught:
        await transactions.run(body)
    assert caught.value is error
    assert attempts == 1
    assert await contents(database) == [{"_id": "one", "value": 0}]


async def test_a_body_that_gives_up_waiting_leaves_nothing(
    database: Database, transactions: Transactions, counter: str
) -> None:
    reached = asyncio.Event()

    async def body(tx: Tx) -> None:
        await tx.update_one(counter, {"_id": "one"}, {"$set": {"value": 9}})
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(transactions.run(body))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await contents(database) == [{"_id": "one", "value": 0}]
    # The lock is gone with the transaction.
    assert await database.update_one(counter, {"_id": "one"}, {"$set": {"value": 1}})


async def test_a_stale_read_starts_the_body_again_from_fresh_reads(
    database: Database, transactions: Transactions, counter: str
) -> None:
    seen = []

    async def body(tx: Tx) -> None:
        found = await tx.find_one(counter, {"_id": "one"})
        assert found is not None
        seen.append(found["value"])
        if len(seen) == 1:
            await database.update_one(counter, {"_id": "one"}, {"$set": {"value": 5}})
        # The condition names what was read, as the ledger's pages name their version.
        await tx.update_one(counter, {"_id": "one", "value": found["value"]}, {"$inc": {"value": 1}})

    await transactions.run(body)
    assert seen == [0, 5]
    assert await contents(database) == [{"_id": "one", "value": 6}]


@pytest.mark.parametrize("reads", ["update_one", "bulk_write"])
async def test_a_change_that_meets_no_document_is_stale_and_then_busy(
    database: Database, transactions: Transactions, counter: str, reads: str
) -> None:
    reasons: list[BaseException | None] = []

    async def body(tx: Tx) -> None:
        if reads == "update_one":
            await tx.update_one(counter, {"_id": "none"}, {"$set": {"value": 1}})
        else:
            changes = [UpdateOne({"_id": name}, {"$set": {"value": 1}}) for name in ("one", "none")]
            await tx.bulk_write(counter, changes)

    with pytest.raises(BusyError) as caught:
        await transactions.run(body, budget_s=BRIEF_S)
    reasons.append(caught.value.__cause__)
    assert isinstance(reasons[0], StaleReadError)
    assert await contents(database) == [{"_id": "one", "value": 0}]


async def test_a_body_sees_one_instant(database: Database, transactions: Transactions, counter: str) -> None:
    async def body(tx: Tx) -> list[Document]:
        await tx.find_one(counter, {"_id": "one"})
        await database.insert_many(counter, [{"_id": "two", "value": 0}])
        return await tx.find(counter, {})

    assert await transactions.run(body) == [{"_id": "one", "value": 0}]
    assert len(await contents(database)) == 2


async def test_a_forced_change_passes_the_schema_and_tells_whether_it_matched(
    database: Database, transactions: Transactions
) -> None:
    schema = {"$jsonSchema": {"properties": {"value": {"bsonType": "long"}}}}
    await database.raw.create_collection("strict", validator=schema)
    await database.raw["strict"].insert_one({"_id": "odd", "value": "text"}, bypass_document_validation=True)

    async def body(tx: Tx) -> list[bool]:
        change = {"$set": {"seen": True}}
        return [await tx.force_one("strict", {"_id": name}, change) for name in ("odd", "none")]

    assert await transactions.run(body) == [True, False]
    assert await contents(database, "strict") == [{"_id": "odd", "value": "text", "seen": True}]


async def test_empty_writes_ask_the_server_nothing(database: Database, transactions: Transactions) -> None:
    async def body(tx: Tx) -> int:
        await tx.insert_many("others", [])
        await tx.bulk_write("others", [])
        return 3

    assert await transactions.run(body) == 3
    assert await database.raw.list_collection_names() == []


async def test_a_server_that_does_not_answer_is_unavailable_and_not_busy() -> None:
    address = f"mongodb://{LOOPBACK}:{free_ports(1)[0]}/?directConnection=true"
    client: AsyncMongoClient[Document] = AsyncMongoClient(address, serverSelectionTimeoutMS=100)
    async with client:
        gone = Database(client, "gone")

        async def body(tx: Tx) -> None:
            await tx.insert_many("others", [{"_id": Int64(1)}])

        with pytest.raises(UnavailableError):
            await Transactions(gone).run(body, budget_s=BRIEF_S)
        with pytest.raises(UnavailableError):
            await gone.ping()


async def test_what_is_sent_ahead_is_written_with_the_rest(
    database: Database, transactions: Transactions, counter: str
) -> None:
    async def body(tx: Tx) -> int:
        await tx.insert_soon("others", [{"_id": "sent first"}])
        await tx.insert_soon("others", [])
        found = await tx.find("others", {"_id": {"$in": ["sent first"]}})
        await tx.insert_soon("others", [{"_id": "sent last"}])
        return len(found)

    assert await transactions.run(body) == 1
    assert await contents(database, "others") == [{"_id": "sent first"}, {"_id": "sent last"}]


async def test_a_duplicate_sent_ahead_starts_the_body_again(
    database: Database, transactions: Transactions, counter: str
) -> None:
    ids = iter(["one", "two"])
    reached = []

    async def body(tx: Tx) -> None:
        chosen = next(ids)
        await tx.insert_soon(counter, [{"_id": chosen, "value": 5}])
        await tx.insert_many("others", [{"_id": f"after {chosen}"}])
        reached.append(chosen)

    await transactions.run(body)
    assert reached == ["two"]
    assert [document["_id"] for document in await contents(database)] == ["one", "two"]
    assert await contents(database, "others") == [{"_id": "after two"}]


async def test_a_body_that_fails_leaves_nothing_of_what_was_sent_ahead(
    database: Database, transactions: Transactions, counter: str
) -> None:
    async def body(tx: Tx) -> None:
        await tx.insert_soon("others", [{"_id": number} for number in range(1_000)])
        raise InsufficientFundsError("citizen:ct_1:points", 1, 0)

    with pytest.raises(InsufficientFundsError):
        await transactions.run(body)
    assert await contents(database, "others") == []
