"""Fixtures of all tests that need servers: one mongod and one Valkey a session, one database a test.

Servers are real. A write to the ledger outside a transaction fails the test that made it.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient, monitoring

from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.clock import ManualClock, SystemClock
from backend.mongo.embedded import EmbeddedMongo
from backend.mongo.migrations import MIGRATIONS
from backend.runtime import Services, open_services
from backend.settings import Settings
from backend.valkey.embedded import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from backend.mongo.client import Database

WRITES = frozenset({"insert", "update", "delete", "findAndModify"})


class LedgerWatch(monitoring.CommandListener):
    """Notes every write to the ledger's collections that arrives outside a transaction."""

    def __init__(self) -> None:
        self.strays: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Look at a command before it is sent."""
        collection = event.command.get(event.command_name)
        is_ledger = isinstance(collection, str) and collection.startswith("ledger_")
        if event.command_name in WRITES and is_ledger and event.command.get("autocommit") is not False:
            self.strays.append(f"{event.command_name} {collection}")

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to note."""


LEDGER_WATCH = LedgerWatch()
monitoring.register(LEDGER_WATCH)


@pytest.fixture
def anyio_backend() -> str:
    """Coroutine tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedMongo]:
    """A real mongod, one-member replica set, that soon closes the files of the databases that tests have dropped."""
    with EmbeddedMongo.start(tmp_path_factory.mktemp("mongo")) as server:
        with MongoClient[dict[str, Any]](server.url) as client:
            for name, seconds in (("minSnapshotHistoryWindowInSeconds", 20), ("syncdelay", 5)):
                client.admin.command({"setParameter": 1, name: seconds})
        yield server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A real Valkey."""
    with EmbeddedValkey.start(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def empty_databases() -> list[str]:
    """Names of databases that are declared and empty: making one takes longer than most tests."""
    return []


@pytest.fixture
def settings(mongo: EmbeddedMongo, valkey: EmbeddedValkey, tmp_path: Path, empty_databases: list[str]) -> Settings:
    """Settings of a programme with a database of its own."""
    database = empty_databases.pop() if empty_databases else f"test_{uuid.uuid4().hex[:16]}"
    return Settings(mongodb_url=mongo.url, valkey_url=valkey.url, data_dir=tmp_path, database=database)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at the machine's time until moved."""
    return ManualClock(SystemClock().now())


@pytest.fixture
async def services(settings: Settings, clock: ManualClock, empty_databases: list[str]) -> AsyncIterator[Services]:
    """Services on an empty database, emptied afterwards."""
    LEDGER_WATCH.strays.clear()
    async with open_services(settings, clock) as opened:
        await opened.valkey.flushdb()
        yield opened
        strays = list(LEDGER_WATCH.strays)
        await opened.rewards.flush()
        if await _empty(opened.database):
            empty_databases.append(settings.database)
    assert strays == []


async def _empty(database: Database) -> bool:
    """Delete every document but those that say how the database is declared; whether it is as good as new."""
    names = await database.raw.list_collection_names()
    if any(name.startswith("system.") for name in names):  # the server's own, of a test that profiled
        await database.client.drop_database(database.raw.name)
        return False
    await asyncio.gather(*(database.raw[name].delete_many({}) for name in names if name != MIGRATIONS.name))
    return True


@pytest.fixture
def token_for(services: Services) -> Callable[..., str]:
    """Tokens by kind or staff role: ``token_for("citizen", "alice")``, ``token_for("admin", "root")``."""

    def issue(role: str, subject: str, minutes: int = 15) -> str:
        staff = role in {member.value for member in StaffRole}
        kind = PrincipalKind.STAFF if staff else PrincipalKind(role)
        roles = frozenset({StaffRole(role)}) if staff else frozenset()
        return services.tokens.issue(Principal(kind, subject, roles), timedelta(minutes=minutes))

    return issue


async def dump(services: Services) -> dict[str, list[Any]]:
    """Every document of the database, to show that a refusal changed nothing."""
    names = sorted(await services.database.raw.list_collection_names())
    return {name: await services.database.raw[name].find().sort("_id", 1).to_list(None) for name in names}
