"""Fixtures of tests below the services: an empty database, clients of Valkey, addresses where nobody listens."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from backend.mongo.client import open_database
from backend.mongo.transactions import Transactions
from backend.process.server import LOOPBACK, free_ports
from backend.rewards.offers.model import Stock, StockKind
from backend.valkey.client import open_valkey
from tests.counters import Street, merchant, offer, shop_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from backend.mongo.client import Database
    from backend.mongo.embedded import EmbeddedMongo
    from backend.runtime import Services
    from backend.valkey.embedded import EmbeddedValkey

ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]


async def eventually(holds: Callable[[], Awaitable[bool]], *, seconds: int = 20) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


@pytest.fixture
async def database(mongo: EmbeddedMongo) -> AsyncIterator[Database]:
    """An empty database of its own, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    opened = open_database(mongo.url, name)
    yield opened
    await opened.client.drop_database(name)
    await opened.client.close()


@pytest.fixture
def transactions(database: Database) -> Transactions:
    """Transactions on that database."""
    return Transactions(database)


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    """A client of an empty Valkey."""
    client = open_valkey(valkey.url)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture
async def lost_redis() -> AsyncIterator[Redis]:
    """A client of a Valkey that is gone."""
    address = f"redis://{LOOPBACK}:{free_ports(1)[0]}/0"
    client: Redis = Redis.from_url(address, decode_responses=True, retry=Retry(NoBackoff(), retries=0))
    yield client
    await client.aclose()


@pytest.fixture
async def street(services: Services) -> AsyncIterator[Street]:
    """A café that sells coffee and cards of ten; alice has a hundred points."""
    now = services.clock.now()
    found = Street(services)
    found.add(
        merchant(now, shops=(shop_at(), shop_at("west"))),
        merchant(now, "bakery"),
        offer(now, stock=Stock(StockKind.TOTAL, 5)),
        offer(now, "card", price_points=77, items=10),
    )
    await found.settle_in("alice")
    yield found
    await found.changing.flush()
