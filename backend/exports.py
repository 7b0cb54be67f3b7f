"""Files downloaded over HTTP: back-tests as CSV or Parquet, merchants' statements as CSV, XLSX or PDF, batches as ZIP.

All but the register of issued serials need a token.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import orjson
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from backend.actions.backtesting.exporting import to_csv, to_parquet
from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind
from backend.kernel.errors import AccessError, Refusal, Text, TransientError
from backend.rewards.settlement.errors import UnknownStatementError
from backend.rewards.settlement.exporting import MEDIA_TYPES, Exported, Form, export
from backend.rewards.settlement.model import StatementId

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from backend.identity.model import Principal
    from backend.identity.tokens import Tokens
    from backend.kernel.errors import Language
    from backend.market.pooling.packing import BatchFiles, Packed
    from backend.rewards.settlement.model import Statement
    from backend.rewards.settlement.service import Settlement
    from backend.runtime import Services

FORMS = {
    "csv": (to_csv, "text/csv; charset=utf-8"),
    "parquet": (to_parquet, "application/vnd.apache.parquet"),
}

# A statement of many thousand lines takes a processor for a while.
STATEMENTS_AT_ONCE = 2
PACKS_AT_ONCE = 2
# Anybody may fetch the register: those who do never keep a verifier waiting.
REGISTERS_AT_ONCE = 2


def export_routes(services: Services, authenticate: Callable[[Tokens, str], Principal]) -> list[Route]:
    """One file a back-test and form, for administrators."""

    async def backtest(request: Request) -> Response:
        """The sums of a back-test that is done."""
        name, form = request.path_params["name"], request.path_params["form"]
        try:
            principal = authenticate(services.tokens, request.headers.get("authorization", ""))
            job = await services.backtesting.find(principal, name)
        except AccessError as error:
            return _problem(401 if error.code == "UNAUTHENTICATED" else 403, error.code, error.message())
        except TransientError as error:
            return _problem(503, error.code, error.message())
        if job is None or job.result is None or form not in FORMS:
            return _problem(404, "NOT_FOUND", "no such file")
        write, media_type = FORMS[form]
        headers = {
            "Cache-Control": "private, no-store",
            "Content-Disposition": f'attachment; filename="{job.id}.{form}"',
        }
        return Response(write(job.result), 200, headers, media_type)

    return [Route("/exports/backtests/{name}.{form}", backtest)]


def statement_routes(
    settlement: Settlement,
    tokens: Tokens,
    authenticate: Callable[[Tokens, str], Principal],
    preferred_language: Callable[[str | None], Language],
) -> list[Route]:
    """One file a statement and form, for administrators and the merchant's owners, in the language asked for."""
    places = asyncio.Semaphore(STATEMENTS_AT_ONCE)

    async def statement(request: Request) -> Response:
        """The statement with all its lines."""
        name, form = StatementId(request.path_params["name"]), request.path_params["form"]
        language = preferred_language(request.headers.get("accept-language"))
        try:
            principal = authenticate(tokens, request.headers.get("authorization", ""))
            found = await _find_statement(settlement, principal, name)
            if form not in set(Form):
                return _problem(404, "NOT_FOUND", "no such file")
            async with places:
                exported = await export(settlement, found, Form(form), language)
        except AccessError as error:
            return _problem(401 if error.code == "UNAUTHENTICATED" else 403, error.code, error.message(language))
        except TransientError as error:
            return _problem(503, error.code, error.message(language))
        except Refusal as error:
            status = 404 if isinstance(error, UnknownStatementError) else 409
            return _problem(status, error.code, error.message(language))
        return _file(found, Form(form), exported, language)

    return [Route("/exports/statements/{name}.{form}", statement)]


def batch_routes(
    files: BatchFiles,
    tokens: Tokens,
    authenticate: Callable[[Tokens, str], Principal],
    preferred_language: Callable[[str | None], Language],
) -> list[Route]:
    """The evidence pack of a batch, for verifiers and administrators; the register of issued serials, for everybody."""
    places, public_places = asyncio.Semaphore(PACKS_AT_ONCE), asyncio.Semaphore(REGISTERS_AT_ONCE)

    async def pack(request: Request) -> Response:
        """A batch with its acts, sample and hashes."""
        name = request.path_params["name"]
        language = preferred_language(request.headers.get("accept-language"))
        try:
            principal = authenticate(tokens, request.headers.get("authorization", ""))
            async with places:
                packed = await files.pack(principal, name)
        except AccessError as error:
            return _problem(401 if error.code == "UNAUTHENTICATED" else 403, error.code, error.message(language))
        except TransientError as error:
            return _problem(503, error.code, error.message(language))
        except Refusal as error:
            return _problem(404, error.code, error.message(language))
        return _packed(packed, f"{name}.zip", "application/zip", "private, no-store")

    async def register(_: Request) -> Response:
        """Who holds how many of which serials, by sort of holder."""
        try:
            async with public_places:
                packed = await files.register()
        except TransientError as error:
            return _problem(503, error.code, error.message())
        return _packed(packed, "registry.csv", "text/csv; charset=utf-8", "no-cache")

    return [Route("/exports/batches/{name}.zip", pack), Route("/exports/registry.csv", register)]


def _packed(packed: Packed, name: str, media_type: str, caching: str) -> Response:
    """The file with its own digest (RFC 9530)."""
    headers = {
        "Cache-Control": caching,
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(packed.size),
        "ETag": f'"{packed.sha256.hex()}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(packed.sha256).decode()}:",
        "Vary": "Authorization",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(packed.chunks(), 200, headers, media_type)


async def _find_statement(settlement: Settlement, principal: Principal, name: StatementId) -> Statement:
    if principal.kind is PrincipalKind.STAFF and not principal.is_admin:
        raise ForbiddenError(Text("导出结算单", "exporting statements"))
    found = await settlement.find(principal, name)
    if found is None:
        raise UnknownStatementError
    return found


def _file(statement: Statement, form: Form, exported: Exported, language: Language) -> Response:
    """The file with its own digest (RFC 9530), beside the statement's checksum that stands in it."""
    headers = {
        "Cache-Control": "private, no-store",
        "Content-Disposition": f'attachment; filename="{statement.id}.{form}"',
        "Content-Language": language,
        "Content-Length": str(exported.size),
        "ETag": f'"{exported.sha256.hex()}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(exported.sha256).decode()}:",
        "Vary": "Accept-Language, Authorization",
        "X-Content-Type-Options": "nosniff",
        "X-Statement-Checksum": statement.checksum,
    }
    return StreamingResponse(exported.chunks(), 200, headers, MEDIA_TYPES[form])


def _problem(status: int, code: str, message: str) -> Response:
    body = orjson.dumps({"code": code, "message": message})
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")
