"""Subscriptions over graphql-transport-ws on the same path; the token comes in ``connection_init`` or the header."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from strawberry import UNSET
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from backend.identity.errors import UnauthenticatedError
from schemas.context import Context, authenticate, preferred_language
from schemas.schema import schema

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket
    from strawberry.types.unset import UnsetType

    from backend.runtime import Services

MAX_SUBSCRIPTIONS = 16


class GraphQLSocket(GraphQL[Context, None]):
    """The websocket face of the schema."""

    def __init__(self, services: Services) -> None:
        super().__init__(
            schema,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            max_subscriptions_per_connection=MAX_SUBSCRIPTIONS,
        )
        self._services = services

    def decode_json(self, data: str | bytes) -> object:
        """Refuse what nests too deep as what is no JSON: the socket closes with 4400."""
        return orjson.loads(data)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:  # noqa: ARG002
        """A context whose principal is known once ``connection_init`` has come."""
        headers = request.headers
        context = Context(self._services, None, preferred_language(headers.get("accept-language")))
        context.handshake_authorization = headers.get("authorization")
        return context

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """Read the token of ``connection_init`` (``{"authorization": "Bearer …"}``) or else of the handshake.

        Raises:
            ConnectionRejectionError: the token is not valid; the socket closes with 4403.
        """
        given = (context.connection_params or {}).get("authorization", context.handshake_authorization)
        if given is not None:
            try:
                context.principal = authenticate(self._services.tokens, str(given))
            except UnauthenticatedError as error:
                raise ConnectionRejectionError from error
        return UNSET  # type: ignore[no-any-return]
