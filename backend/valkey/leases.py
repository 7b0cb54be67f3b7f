"""Leases: one holder at a time, for a while. A hint for efficiency; correctness rests on the fence kept in MongoDB."""

from __future__ import annotations

import contextlib
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"


class Leases:
    """Named leases in Valkey."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._release = valkey.register_script(RELEASE)

    @asynccontextmanager
    async def hold(self, names: Sequence[str], *, ttl_ms: int) -> AsyncIterator[frozenset[str]]:
        """Hold those of the leases that are free for the block, and tell which. Without Valkey all count as free."""
        token = secrets.token_hex(12)
        try:
            async with self._valkey.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.set(f"lease:{name}", token, nx=True, px=ttl_ms)
                held = frozenset(name for name, free in zip(names, await pipe.execute(), strict=True) if free)
        except RedisError:
            # The fence in MongoDB still lets only the latest of several holders write.
            yield frozenset(names)
            return
        try:
            yield held
        finally:
            with contextlib.suppress(RedisError):  # then they end by themselves after ttl_ms
                for name in held:
                    await self._release(keys=[f"lease:{name}"], args=[token])
