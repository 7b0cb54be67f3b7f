"""POST /graphql: from bytes to bytes, with parsed and validated documents kept from request to request.

A mobile app sends the same few documents for ever; parsing and validating them again each time costs more than the rest
of a small request (``make bench-edge`` in docs/performance.md).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import orjson
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    execute,
    get_operation_ast,
    parse,
    validate,
)
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from backend.identity.errors import UnauthenticatedError
from schemas.context import Context, authenticate, preferred_language
from schemas.faults import show_error
from schemas.limits import MAX_TOKENS, find_excess
from schemas.schema import GRAPHQL_SCHEMA

if TYPE_CHECKING:
    from backend.runtime import Services

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
MAX_DOCUMENT_CHARS = 32_768
CACHED_DOCUMENTS = 512


class BadRequestError(Exception):
    """The request is not GraphQL over HTTP; answered with ``status`` and one GraphQL error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Documents:
    """Parsed and validated documents by their text; the least recently used is forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, DocumentNode | list[GraphQLError]] = OrderedDict()

    def get(self, text: str) -> DocumentNode | list[GraphQLError]:
        """The document, or what is wrong with it."""
        found = self._known.get(text)
        if found is None:
            found = self._read(text)
            self._known[text] = found
            if len(self._known) > CACHED_DOCUMENTS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(text)
        return found

    @staticmethod
    def _read(text: str) -> DocumentNode | list[GraphQLError]:
        try:
            document = parse(text, max_tokens=MAX_TOKENS)
        except GraphQLError as error:
            error.extensions = {"code": "GRAPHQL_PARSE_FAILED"}
            return [error]
        excess = find_excess(GRAPHQL_SCHEMA, document)
        if excess is not None:
            return [excess]
        problems = validate(GRAPHQL_SCHEMA, document, max_errors=20)
        for problem in problems:
            problem.extensions = {"code": "GRAPHQL_VALIDATION_FAILED"}
        return problems or document


class GraphQLEndpoint:
    """The HTTP face of the schema."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._documents = Documents()

    async def answer(self, request: Request) -> Response:
        """Answer one POST with a GraphQL response, whatever was sent."""
        language = preferred_language(request.headers.get("accept-language"))
        media_type = GRAPHQL_JSON if GRAPHQL_JSON in request.headers.get("accept", "") else JSON
        try:
            authorization = request.headers.get("authorization")
            principal = authenticate(self._services.tokens, authorization) if authorization is not None else None
            asked = await self._read(request)
        except BadRequestError as error:
            return _answer({"errors": [_shown(error.message, error.code)]}, error.status, media_type)
        except UnauthenticatedError as error:
            body = {"errors": [_shown(error.message(language), error.code)]}
            return _answer(body, 401, media_type, {"WWW-Authenticate": "Bearer"})
        except ClientDisconnect:
            return Response(status_code=400)
        return await self._execute(asked, Context(self._services, principal, language), media_type)

    async def _read(self, request: Request) -> Mapping[str, Any]:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise BadRequestError(415, "UNSUPPORTED_MEDIA_TYPE", f"send {JSON}")
        limit = self._services.settings.max_body_bytes
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise BadRequestError(413, "PAYLOAD_TOO_LARGE", f"at most {limit} bytes")
        try:
            asked = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequestError(400, "BAD_REQUEST", "the body is not JSON in UTF-8") from error
        if not isinstance(asked, dict) or not isinstance(asked.get("query"), str):
            raise BadRequestError(400, "BAD_REQUEST", 'the body must be an object with a text "query"')
        if len(asked["query"]) > MAX_DOCUMENT_CHARS:
            raise BadRequestError(400, "COST_LIMIT", f"a document has at most {MAX_DOCUMENT_CHARS} characters")
        if not isinstance(asked.get("variables"), dict | None) or not isinstance(
            asked.get("operationName"), str | None
        ):
            raise BadRequestError(400, "BAD_REQUEST", '"variables" must be an object, "operationName" a text')
        return asked

    async def _execute(self, asked: Mapping[str, Any], context: Context, media_type: str) -> Response:
        refused = 400 if media_type == GRAPHQL_JSON else 200
        document = self._documents.get(asked["query"])
        if isinstance(document, list):
            return _answer({"errors": [error.formatted for error in document]}, refused, media_type)
        operation = get_operation_ast(document, asked.get("operationName"))
        problem = _unfit(operation)
        if problem:
            return _answer({"errors": [_shown(problem, "BAD_REQUEST")]}, refused, media_type)
        outcome = execute(
            GRAPHQL_SCHEMA,
            document,
            context_value=context,
            variable_values=asked.get("variables"),
            operation_name=asked.get("operationName"),
        )
        result = await _result(outcome)
        body: dict[str, Any] = {}
        if result.errors:
            body["errors"] = [show_error(error, context.language) for error in result.errors]
        if result.data is None and all(error.path is None for error in result.errors or ()):
            # Variables that do not fit: nothing was executed, so there is no data to speak of.
            return _answer(body, refused, media_type)
        return _answer({"data": result.data, **body}, 200, media_type)


async def _result(outcome: Awaitable[ExecutionResult] | ExecutionResult) -> ExecutionResult:
    return await outcome if isawaitable(outcome) else outcome


def _unfit(operation: OperationDefinitionNode | None) -> str | None:
    if operation is None:
        return "name one of the document's operations in operationName"
    if operation.operation is OperationType.SUBSCRIPTION:
        return "subscriptions need a websocket (graphql-transport-ws)"
    return None


def _shown(message: str, code: str) -> dict[str, Any]:
    return {"message": message, "extensions": {"code": code}}


def _answer(
    body: Mapping[str, Any], status: int, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type)
