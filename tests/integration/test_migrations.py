"""Migrations: declared collections come about once, whoever starts, and validators keep bad documents out."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64
from pymongo.errors import WriteError

from backend.ledger.documents import PAGES, TRANSACTIONS
from backend.mongo.client import open_database
from backend.mongo.collections import COUNTER, TEXT, Collection, Index, record
from backend.mongo.migrations import Step, migrate
from backend.rules.drafts_store import LOG
from backend.rules.store import VERSIONS
from backend.runtime import COLLECTIONS

if TYPE_CHECKING:
    from backend.mongo.client import Database
    from backend.mongo.embedded import EmbeddedMongo

THINGS = Collection("things", record({"_id": TEXT, "count": COUNTER}), (Index("count", [("count", 1)]),))
NOW = datetime(2026, 11, 2, tzinfo=UTC)
LOT = {"expires_at": NOW, "amount": Int64(5)}
BALANCE = {"asset": "points", "posted": Int64(5), "held": Int64(0), "debt": Int64(0)}
PAGE = {
    "_id": "citizen:alice",
    "shard": Int64(0),
    "version": Int64(1),
    "at": NOW,
    "balances": [BALANCE],
    "lots": [LOT],
    "holds": [],
    "due_at": NOW,
}
POSTING = {"from": "programme:issuance", "to": "citizen:alice:points", "asset": "points", "amount": Int64(5)}
LINE = {"asset": "points", "change": Int64(5), "balance": Int64(5), "held": Int64(0), "debt": Int64(0), "lots": [LOT]}
TRANSACTION = {
    "_id": "tx_1",
    "owner": "citizen:alice",
    "sequence": Int64(1),
    "copy_of": None,
    "key": "key",
    "payload": "hash",
    "kind": "EARN",
    "at": NOW,
    "opens": NOW,
    "postings": [POSTING],
    "lines": [LINE],
    "cause": {},
}
VERSION = {
    "_id": "conservative/R-BUS2/1",
    "profile": "conservative",
    "rule": "R-BUS2",
    "version": Int64(1),
    "kind": "bus_ride",
    "revision": Int64(1),
    "published_at": NOW,
    "draft": None,
    "wording": {"rule": "R-BUS2"},
}
ENTRY = {
    "_id": "draft_1/000001",
    "at": NOW,
    "actor": "staff:root",
    "step": "DRAFT",
    "subject": "rule:R-BUS2",
    "draft": "draft_1",
    "reason": "",
    "difference": [{"path": "minimum", "before": None, "after": "1"}],
    "revision": None,
}


async def indexes(database: Database, collection: str) -> dict[str, Any]:
    return dict(await database.raw[collection].index_information())


async def test_the_second_migration_changes_nothing(database: Database) -> None:
    assert await migrate(database, COLLECTIONS) is True
    first = await database.raw.command("listCollections")
    assert await migrate(database, COLLECTIONS) is False
    assert (await database.raw.command("listCollections"))["cursor"] == first["cursor"]
    names = set(await database.raw.list_collection_names())
    assert names == {collection.name for collection in COLLECTIONS} | {"migrations"}
    for collection in COLLECTIONS:
        expected = {index.name for index in collection.indexes} | {"_id_"}
        assert set(await indexes(database, collection.name)) == expected


async def test_several_starters_at_once_agree(database: Database, mongo: EmbeddedMongo) -> None:
    starters = [open_database(mongo.url, database.raw.name) for _ in range(6)]
    applied = []

    async def step(_: Database) -> None:
        applied.append(1)

    async def start(starter: Database) -> bool:
        return await migrate(starter, COLLECTIONS, [Step(1, "first", step)])

    assert True in await asyncio.gather(*map(start, starters))
    assert 1 <= len(applied) <= 6  # a step is repeatable because starters may meet in it
    assert await migrate(database, COLLECTIONS, [Step(1, "first", step)]) is False
    assert "owner_sequence" in await indexes(database, "ledger_transactions")
    for starter in starters:
        await starter.client.close()


@pytest.mark.parametrize(
    "page",
    [
        {**PAGE, "version": 1},
        {**PAGE, "version": Int64(0)},
        {**PAGE, "balances": [{**BALANCE, "posted": 5}]},
        {**PAGE, "balances": [{**BALANCE, "posted": 5.0}]},
        {**PAGE, "balances": [{**BALANCE, "posted": Int64(-1)}]},
        {**PAGE, "balances": [{**BALANCE, "held": Int64(-1)}]},
        {**PAGE, "lots": [{**LOT, "amount": Int64(0)}]},
        {**PAGE, "due_at": "soon"},
        {**PAGE, "balances": [{"asset": "points"}]},
        {**PAGE, "note": "x"},
        {"_id": "citizen:alice", "balances": []},
        {**PAGE, "_id": 7},
    ],
)
async def test_the_server_itself_refuses_a_page_no_ledger_writes(database: Database, page: dict[str, Any]) -> None:
    await migrate(database, [PAGES])
    with pytest.raises(WriteError, match="Document failed validation"):
        await database.raw[PAGES.name].insert_one(page)
    await database.raw[PAGES.name].insert_one(PAGE)


@pytest.mark.parametrize(
    "transaction",
    [
        {**TRANSACTION, "postings": [{**POSTING, "amount": 5}]},
        {**TRANSACTION, "postings": [{**POSTING, "amount": Int64(0)}]},
        {**TRANSACTION, "lines": [{**LINE, "balance": Int64(-1)}]},
        {**TRANSACTION, "kind": "GIFT"},
        {**TRANSACTION, "sequence": Int64(0)},
        {**TRANSACTION, "cause": {"action": 1}},
        {**TRANSACTION, "note": "x"},
    ],
)
async def test_the_server_itself_refuses_a_transaction_no_ledger_writes(
    database: Database, transaction: dict[str, Any]
) -> None:
    await migrate(database, [TRANSACTIONS])
    with pytest.raises(WriteError, match="Document failed validation"):
        await database.raw[TRANSACTIONS.name].insert_one(transaction)
    await database.raw[TRANSACTIONS.name].insert_one(TRANSACTION)


@pytest.mark.parametrize(
    ("collection", "document", "changes"),
    [
        (
            VERSIONS,
            VERSION,
            [{"revision": 1}, {"revision": Int64(0)}, {"published_at": None}, {"wording": "text"}, {"status": "x"}],
        ),
        (
            LOG,
            ENTRY,
            [{"step": "UNDO"}, {"actor": None}, {"difference": [{"path": "minimum"}]}, {"revision": 1}, {"note": "x"}],
        ),
    ],
    ids=["version", "log"],
)
async def test_the_server_itself_refuses_rules_and_entries_that_nobody_writes(
    database: Database, collection: Collection, document: dict[str, Any], changes: list[dict[str, Any]]
) -> None:
    await migrate(database, [collection])
    for change in changes:
        with pytest.raises(WriteError, match="Document failed validation"):
            await database.raw[collection.name].insert_one({**document, **change})
    await database.raw[collection.name].insert_one(document)


async def test_a_changed_declaration_changes_validator_and_indexes(database: Database) -> None:
    await migrate(database, [THINGS])
    wider = dataclasses.replace(
        THINGS,
        schema=record({"_id": TEXT, "count": COUNTER, "name": TEXT}),
        indexes=(*THINGS.indexes, Index("name", [("name", 1)], unique=True)),
    )
    named = {"_id": "one", "count": Int64(1), "name": "first"}
    with pytest.raises(WriteError):
        await database.raw["things"].insert_one(named)
    assert await migrate(database, [wider]) is True
    await database.raw["things"].insert_one(named)
    assert set(await indexes(database, "things")) == {"_id_", "count", "name"}
    with pytest.raises(WriteError, match="Document failed validation"):
        await database.raw["things"].insert_one({"_id": "two", "count": Int64(1)})


async def test_an_index_of_that_name_with_another_definition_is_named(database: Database) -> None:
    await migrate(database, [THINGS])
    other = dataclasses.replace(THINGS, indexes=(Index("count", [("count", -1)]),))
    with pytest.raises(ValueError, match=r"things: .*count"):
        await migrate(database, [other])
    # Nothing was noted as done, so the next start says it again.
    with pytest.raises(ValueError, match=r"things: .*count"):
        await migrate(database, [other])


async def test_steps_run_once_in_the_order_of_their_numbers(database: Database) -> None:
    applied: list[int] = []

    def step(number: int) -> Step:
        async def apply(_: Database) -> None:
            applied.append(number)

        return Step(number, f"step {number}", apply)

    assert await migrate(database, [THINGS], [step(2), step(1)]) is True
    assert await migrate(database, [THINGS], [step(3), step(1), step(2)]) is True
    assert await migrate(database, [THINGS], [step(1), step(2), step(3)]) is False
    assert applied == [1, 2, 3]


async def test_a_step_that_fails_stops_the_start_and_is_tried_again(database: Database) -> None:
    attempts: list[bool] = []

    async def apply(_: Database) -> None:
        attempts.append(True)
        if len(attempts) == 1:
            raise RuntimeError("cut off")

    steps = [Step(1, "shaky", apply)]
    with pytest.raises(RuntimeError, match="cut off"):
        await migrate(database, [THINGS], steps)
    assert await database.raw.list_collection_names() == []
    assert await migrate(database, [THINGS], steps) is True
    assert await migrate(database, [THINGS], steps) is False
    assert len(attempts) == 2
