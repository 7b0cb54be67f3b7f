"""The application behind a loopback port, and phones that speak graphql-transport-ws to it."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from backend.app import create_app
from backend.runtime import citizen_channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from websockets.asyncio.client import ClientConnection

    from backend.runtime import Services

PATIENCE_S = 10
PROTOCOL = "graphql-transport-ws"


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it is so, and fail when that takes too long."""
    for _ in range(PATIENCE_S * 200):
        if await is_so():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


class Phone:
    """One websocket that speaks graphql-transport-ws."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, kind: str, **parts: Any) -> None:
        """Send one message."""
        await self.socket.send(orjson.dumps({"type": kind, **parts}).decode())

    async def receive(self) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(PATIENCE_S):
            return dict(orjson.loads(await self.socket.recv()))

    async def greet(self, token: str | None = None) -> None:
        """Begin the conversation, with a token or without."""
        payload = {} if token is None else {"authorization": f"Bearer {token}"}
        await self.send("connection_init", payload=payload)
        assert (await self.receive())["type"] == "connection_ack"

    async def ask(self, document: str, name: str = "1", variables: Mapping[str, Any] | None = None) -> None:
        """Start an operation."""
        await self.send("subscribe", id=name, payload={"query": document, "variables": variables})

    async def close_code(self) -> int | None:
        """The code with which the server closes."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        return self.socket.close_code


class Server:
    """The application behind a loopback port."""

    def __init__(self, port: int, services: Services) -> None:
        self.port = port
        self._services = services

    @asynccontextmanager
    async def phone(self, protocol: str = PROTOCOL, headers: Mapping[str, str] | None = None) -> AsyncIterator[Phone]:
        """A new connection."""
        url = f"ws://127.0.0.1:{self.port}/graphql"
        async with connect(url, subprotocols=[Subprotocol(protocol)], additional_headers=headers, proxy=None) as socket:
            yield Phone(socket)

    async def until_heard(
        self, citizen: str, phones: int, *, channel_of: Callable[[str], str] = citizen_channel
    ) -> None:
        """Wait until so many phones listen for the citizen, and Valkey knows it."""
        channel = channel_of(citizen)

        async def is_heard() -> bool:
            subscribed = dict(await self._services.valkey.pubsub_numsub(channel))[channel]
            listening = len(self._services.channels._listeners.get(channel, ()))
            return (listening, subscribed) == (phones, min(phones, 1))

        await until(is_heard)


@asynccontextmanager
async def serving(services: Services) -> AsyncIterator[Server]:
    """The application served by uvicorn in the caller's own loop."""
    config = uvicorn.Config(
        create_app(services), host="127.0.0.1", port=0, ws="websockets-sansio", log_config=None, ws_max_size=65_536
    )
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve())

    async def is_started() -> bool:
        return running.started

    try:
        await until(is_started)
        yield Server(running.servers[0].sockets[0].getsockname()[1], services)
    finally:
        running.should_exit = True
        await task
