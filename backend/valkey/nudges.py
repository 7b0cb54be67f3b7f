"""Debounced wake-ups: many writes to one shard send at most one task, and losing a wake-up only costs a sweep.

Shards woken in the same moment share a task.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from backend.valkey.task_queue import TaskQueue

LOG = structlog.get_logger(__name__)
DEBOUNCE_MS = 10_000
GATHER_S = 0.04


class Nudges:
    """Wakes the task of a shard, once until that task begins; a task gets the woken shards of one lane.

    As many lanes as worker processes keep them all busy with a backlog, and tasks few and large otherwise.
    """

    def __init__(self, valkey: Redis, queue: TaskQueue, task: str, *, lanes: int) -> None:
        self._valkey = valkey
        self._lanes = lanes
        self._queue = queue
        self._task = task
        self._waiting: set[int] = set()
        self._sender: asyncio.Task[None] | None = None

    def _key(self, shard: int) -> str:
        return f"nudge:{self._task}:{shard}"

    def nudge(self, shards: Iterable[int]) -> None:
        """Wake these shards' tasks soon; never fails and never waits."""
        self._waiting.update(shards)
        if self._waiting and (self._sender is None or self._sender.done()):
            self._sender = asyncio.create_task(self._send(), name="nudges")

    async def begin(self, shards: Iterable[int]) -> None:
        """Called by the task before it reads its work: whatever is written from now on needs a new nudge."""
        with contextlib.suppress(RedisError):
            await self._valkey.delete(*map(self._key, shards))

    async def asked(self, shards: Sequence[int]) -> list[int]:
        """Those of the shards that were nudged since their task began."""
        try:
            marks = await self._valkey.mget([self._key(shard) for shard in shards])
        except RedisError:
            return []
        return [shard for shard, mark in zip(shards, marks, strict=True) if mark]

    async def _send(self) -> None:
        while self._waiting:
            # A few milliseconds let simultaneous records share one task.
            await asyncio.sleep(GATHER_S)
            shards, self._waiting = sorted(self._waiting), set()
            try:
                async with self._valkey.pipeline(transaction=False) as pipe:
                    for shard in shards:
                        pipe.set(self._key(shard), "1", nx=True, px=DEBOUNCE_MS)
                    asleep = [shard for shard, free in zip(shards, await pipe.execute(), strict=True) if free]
                lanes = [[shard for shard in asleep if shard % self._lanes == lane] for lane in range(self._lanes)]
                if asleep:
                    await self._queue.send_many(self._task, [lane for lane in lanes if lane])
            except (RedisError, OperationalError) as error:
                LOG.warning("nudge lost; the sweeper will find the work", shards=len(shards), error=str(error))

    async def flush(self) -> None:
        """Wait until every nudge asked for so far is on its way."""
        while self._sender is not None and not self._sender.done():
            await asyncio.wait([self._sender])
