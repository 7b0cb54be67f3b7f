"""A client as an app or a partner would write one: GraphQL over HTTP and graphql-transport-ws, nothing of our core."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import orjson
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from schemas.operations import read_operation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


RETRIES = 2
RETRY_PAUSE_S = 0.1
PROTOCOL = Subprotocol("graphql-transport-ws")


class ClientError(RuntimeError):
    """The server answered with GraphQL errors."""


@dataclass(frozen=True, slots=True)
class Client:
    """Speaks for the principal of one token."""

    http: httpx.AsyncClient
    url: str
    token: str

    async def call(self, operation: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run one of the committed operations and return its data.

        Raises:
            ClientError: the answer has errors.
        """
        body = orjson.dumps({"query": read_operation(operation), "variables": variables or {}})
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        answer = orjson.loads((await self._post(body, headers)).content)
        if "errors" in answer:
            raise ClientError(str(answer["errors"]))
        data: dict[str, Any] = answer["data"]
        return data

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send, and send again where the connection broke: every mutation has a key, so a repetition is harmless."""
        for _ in range(RETRIES):
            with contextlib.suppress(httpx.TransportError):
                return await self.http.post(f"{self.url}/graphql", content=body, headers=headers)
            await asyncio.sleep(RETRY_PAUSE_S)
        return await self.http.post(f"{self.url}/graphql", content=body, headers=headers)

    @asynccontextmanager
    async def watch(self, operation: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Subscribe; the subscription is acknowledged by the server's socket when the block begins."""
        address = f"{self.url.replace('http', 'ws', 1)}/graphql"
        async with connect(address, subprotocols=[PROTOCOL]) as socket:
            await socket.send(_text({"type": "connection_init", "payload": {"authorization": f"Bearer {self.token}"}}))
            assert orjson.loads(await socket.recv())["type"] == "connection_ack"
            query = {"query": read_operation(operation)}
            await socket.send(_text({"id": "1", "type": "subscribe", "payload": query}))

            async def events() -> AsyncIterator[dict[str, Any]]:
                async for message in socket:
                    event = orjson.loads(message)
                    if event["type"] == "next":
                        yield event["payload"]
                    elif event["type"] in ("error", "complete"):
                        raise ClientError(str(event))

            yield events()


def _text(message: Mapping[str, Any]) -> str:
    return orjson.dumps(message).decode()
