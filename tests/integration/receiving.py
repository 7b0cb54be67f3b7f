"""A merchant's system for tests of webhooks: a real HTTP server that answers as it is told, or not at all."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.process.server import LOOPBACK

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

OK = "200 OK"
HANG = ""


@dataclass(frozen=True)
class Call:
    """What arrived."""

    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Receiver:
    """``answers`` by path are used up one by one (the last stays): status lines, perhaps with headers; or nothing."""

    port: int = 0
    answers: dict[str, list[str]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)

    def url(self, path: str = "/", scheme: str = "http", host: str = LOOPBACK) -> str:
        """The address of a path."""
        return f"{scheme}://{host}:{self.port}{path}"

    def bodies(self, path: str) -> list[str]:
        """What arrived at a path, in order."""
        return [call.body for call in self.calls if call.path == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()[:-1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = first.split()[1]
        self.calls.append(Call(path, headers, body.decode()))
        self.at_once[path] += 1
        self.most_at_once[path] = max(self.most_at_once[path], self.at_once[path])
        try:
            queue = self.answers.get(path, [OK])
            answer = queue.pop(0) if len(queue) > 1 else queue[0]
            if answer == HANG:
                await self.release.wait()
                answer = OK
        finally:
            self.at_once[path] -= 1
        writer.write(f"HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n".encode("latin-1"))
        await writer.drain()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that listens on this machine."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver._serve, LOOPBACK, 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.release.set()
        server.close()
        await server.wait_closed()


def signed_by(call: Call, shown: str) -> bool:
    """Whether one of the call's signatures was made with that secret; as a merchant's programmer would write it."""
    key = base64.b64decode(shown.removeprefix("whsec_"))
    content = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.{call.body}"
    wanted = base64.b64encode(hmac.new(key, content.encode(), hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in call.headers["webhook-signature"].split(" ")
