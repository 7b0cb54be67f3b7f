"""A client of the application under test: sends what it is told, byte for byte if need be, and shows what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"


@dataclass(frozen=True)
class Answer:
    """One response of the GraphQL endpoint."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def data(self) -> Any:
        """What was answered, there being no error."""
        assert self.status == 200, self.body
        assert "errors" not in self.body, self.body
        return self.body["data"]

    @property
    def result(self) -> Any:
        """The value of the only field asked for."""
        (value,) = self.data.values()
        return value

    @property
    def refusal(self) -> tuple[str, str]:
        """Code and message of the only error."""
        (error,) = self.body["errors"]
        return error["extensions"]["code"], error["message"]

    @property
    def code(self) -> str:
        """Code of the only error."""
        return self.refusal[0]


class Api:
    """The application over HTTP, in process."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(
        self,
        asked: str | bytes | Mapping[str, Any] | list[Any] | AsyncIterator[bytes],
        variables: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        language: str | None = "en",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a document (text), a whole JSON body (mapping or list), or raw bytes; English where nothing is said."""
        sent = {"content-type": JSON}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        if language is not None:
            sent["accept-language"] = language
        if isinstance(asked, str):
            asked = {"query": asked, "variables": variables}
        content = orjson.dumps(asked) if isinstance(asked, Mapping | list) else asked
        response = await self.http.post("/graphql", content=content, headers={**sent, **(headers or {})})
        return Answer(response.status_code, response.headers, orjson.loads(response.content))
