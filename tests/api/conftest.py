"""The application on real servers; every test finds the programme's rules and a few people, and nothing else."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import httpx
import pytest

from backend.app import create_app
from backend.identity.model import ExternalId, Partner
from backend.kernel.clock import ManualClock, SystemClock
from backend.kernel.ids import CitizenId
from backend.rules.store import COLLECTIONS as RULE_COLLECTIONS
from backend.runtime import COLLECTIONS, open_services
from backend.settings import Settings
from tests.api.client import Api
from tests.api.sockets import Server, serving
from tests.conftest import LEDGER_WATCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.mongo.embedded import EmbeddedMongo
    from backend.runtime import Services
    from backend.valkey.embedded import EmbeddedValkey

CARD = "3104-0001"
PUBLISHED = {collection.name for collection in RULE_COLLECTIONS}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One loop for a module's services and its tests."""
    return "asyncio"


@pytest.fixture(scope="module")
def settings(mongo: EmbeddedMongo, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a programme with a database of the module's own."""
    return Settings(
        mongodb_url=mongo.url,
        valkey_url=valkey.url,
        data_dir=tmp_path_factory.mktemp("data"),
        database=f"test_{uuid.uuid4().hex[:16]}",
    )


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    """The module's clock; ``services`` sets it to the machine's time before each test."""
    return ManualClock(SystemClock().now())


@pytest.fixture(scope="module")
async def opened(settings: Settings, clock: ManualClock) -> AsyncIterator[Services]:
    """Services of the module: a database with its rules costs a second."""
    async with open_services(settings, clock) as services:
        yield services
        await services.database.client.drop_database(settings.database)


@pytest.fixture
async def services(opened: Services, clock: ManualClock) -> AsyncIterator[Services]:
    """The module's services, emptied of all but the rules; alice and bob live there, the metro knows alice's card."""
    clock.current = SystemClock().now()
    LEDGER_WATCH.strays.clear()
    await opened.nudges.flush()
    await opened.valkey.flushdb()
    for collection in COLLECTIONS:
        if collection.name not in PUBLISHED:
            await opened.database.raw[collection.name].delete_many({})
    LEDGER_WATCH.strays.clear()
    identity = opened.identity
    people = {CitizenId("alice"): "王芳", CitizenId("bob"): "李伟"}
    await identity.register_citizens(people, district="京口区")
    await identity.register_partner(Partner("metro", "轨道交通", ("metro-afc",)))
    await identity.register_partner(Partner("bikes", "公共自行车", ("bike-share",)))
    await identity.bind({ExternalId("metro-afc", CARD): CitizenId("alice")})
    yield opened
    assert LEDGER_WATCH.strays == []


@pytest.fixture
async def api(services: Services) -> AsyncIterator[Api]:
    """The application on these services, its lifespan entered."""
    app = create_app(services)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tanhui.test") as http,
    ):
        yield Api(http)


@pytest.fixture
async def server(services: Services) -> AsyncIterator[Server]:
    """The application behind a loopback port, for websockets."""
    async with serving(services) as running:
        yield running
