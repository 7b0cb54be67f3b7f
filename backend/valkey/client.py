"""The connection to Valkey. Everything kept there can be rebuilt from MongoDB; losing it loses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

if TYPE_CHECKING:
    from redis.asyncio.client import Redis as RedisClient


def open_valkey(url: str) -> RedisClient:
    """Connect lazily; answers are text; every call has a time limit."""
    client: RedisClient = Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=2,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), retries=3),
    )
    return client
