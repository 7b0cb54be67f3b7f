"""Leases: one holder at a time, for a while. A hint for efficiency; correctness rests on the fence kept in MongoDB."""

from __future__ import annotations

import contextlib
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"


class Leases:
    """Named leases in Valkey."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._release = valkey.register_script(RELEASE)

    @asynccontextmanager
    async def hold(self, name: str, *, ttl_ms: int) -> AsyncIterator[bool]:
        """Hold the lease for the block where it is free; tells whether it was. Without Valkey it counts as free."""
        key, token = f"lease:{name}", secrets.token_hex(12)
        try:
            free = bool(await self._valkey.set(key, token, nx=True, px=ttl_ms))
        except RedisError:
            # The fence in MongoDB still lets only one of several holders write.
            yield True
            return
        try:
            yield free
        finally:
            if free:
                with contextlib.suppress(RedisError):  # then it ends by itself after ttl_ms
                    await self._release(keys=[key], args=[token])
