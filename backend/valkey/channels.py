"""Publish and subscribe: one connection per process, fanned out to local listeners with bounded queues."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from redis.exceptions import RedisError

from backend.kernel.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

LOG = structlog.get_logger(__name__)
QUEUE_LIMIT = 256
RECONNECT_PAUSE_S = 0.5
SUBSCRIBE_TIMEOUT_S = 5


class Channels:
    """Messages between processes: small JSON objects, delivered at most once to whoever listens now."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._listeners: dict[str, set[asyncio.Queue[Any]]] = defaultdict(set)
        self._heard: dict[str, asyncio.Event] = {}
        self._pubsub: PubSub | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    async def publish_many(self, messages: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Send each message to its channel in one round trip.

        Raises:
            RedisError: Valkey does not answer.
        """
        async with self._valkey.pipeline(transaction=False) as pipe:
            for channel, message in messages:
                pipe.publish(channel, orjson.dumps(message))
            await pipe.execute()

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[asyncio.Queue[Any]]:
        """A queue that receives the channel's messages while the block runs; a slow reader loses the oldest.

        Raises:
            UnavailableError: Valkey does not answer.
        """
        queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE_LIMIT)
        async with self._changing:
            try:
                pubsub = await self._connected()
                if channel not in self._heard:
                    self._heard[channel] = asyncio.Event()
                    await pubsub.subscribe(channel)
            except RedisError as error:
                self._heard.pop(channel, None)
                raise UnavailableError from error
            self._listeners[channel].add(queue)
            heard = self._heard[channel]
        try:
            # subscribe() only sends: until the server says so, a message may still pass unheard.
            await asyncio.wait_for(heard.wait(), SUBSCRIBE_TIMEOUT_S)
            yield queue
        except TimeoutError as error:
            if heard.is_set():
                raise
            raise UnavailableError from error
        finally:
            async with self._changing:
                listeners = self._listeners[channel]
                listeners.discard(queue)
                if not listeners:
                    del self._listeners[channel], self._heard[channel]
                    with contextlib.suppress(RedisError):
                        await pubsub.unsubscribe(channel)

    async def _connected(self) -> PubSub:
        if self._pubsub is None:
            pubsub = self._valkey.pubsub()
            # A connection with no channel cannot be read from: keep one of our own.
            await pubsub.subscribe("tanhui:hello")
            self._pubsub = pubsub
            self._reader = asyncio.create_task(self._read(self._pubsub), name="valkey channels")
        return self._pubsub

    async def _read(self, pubsub: PubSub) -> None:
        while True:
            try:
                async for message in pubsub.listen():
                    self._take(message)
            except RedisError:
                # The client subscribes again to all its channels when it reconnects.
                LOG.warning("valkey channel connection lost; reconnecting")
                await asyncio.sleep(RECONNECT_PAUSE_S)

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "subscribe" and message["channel"] in self._heard:
            self._heard[message["channel"]].set()
        elif message["type"] == "message":
            with contextlib.suppress(orjson.JSONDecodeError):  # not one of ours
                self._deliver(message["channel"], orjson.loads(message["data"]))

    def _deliver(self, channel: str, message: Any) -> None:
        for queue in self._listeners.get(channel, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    async def close(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        if self._pubsub is not None:
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
