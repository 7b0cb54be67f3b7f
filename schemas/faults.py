"""GraphQL errors as clients may see them: a code for what is expected, INTERNAL and a correlation id for a bug."""

from __future__ import annotations

import secrets
from typing import Any

import structlog
from graphql import GraphQLError
from strawberry.extensions import MaskErrors

from backend.kernel.errors import DomainError, Language, TransientError

LOG = structlog.get_logger(__name__)


def show_error(error: GraphQLError, language: Language) -> dict[str, Any]:
    """The error as a response shows it, in the reader's language; a bug is logged with its traceback."""
    cause = error.original_error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    shown: dict[str, Any] = dict(error.formatted)
    if isinstance(cause, DomainError):
        shown["message"] = cause.message(language)
        shown["extensions"] = {"code": cause.code}
        if isinstance(cause, TransientError):
            LOG.warning("transient fault", code=cause.code, path=error.path, cause=repr(cause.__cause__))
    elif cause is None:
        shown["extensions"] = {"code": "BAD_USER_INPUT", **(error.extensions or {})}
    else:
        correlation = secrets.token_hex(8)
        LOG.error("unhandled error in a resolver", correlation=correlation, path=error.path, exc_info=cause)
        shown["message"] = "服务内部错误" if language is Language.ZH_CN else "internal error"
        shown["extensions"] = {"code": "INTERNAL", "correlationId": correlation}
    return shown


class ShowErrors(MaskErrors):
    """Does the same for operations over the websocket, which Strawberry executes."""

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        """The error with its public message and code."""
        shown = show_error(error, self.execution_context.context.language)
        return GraphQLError(shown["message"], error.nodes, path=error.path, extensions=shown["extensions"])
