"""What anybody may fetch without signing in: the published roots, as documents that caches and mirrors can keep.

Serves what ``Sealing`` signed, byte for byte; adds nothing and signs nothing.
"""

from __future__ import annotations

import re
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson
import structlog
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from backend.kernel.errors import UnavailableError
from backend.ledger.sealing.model import SealBrokenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from backend.ledger.sealing.model import DayDocument
    from backend.runtime import Services

LOG = structlog.get_logger(__name__)
ROOTS = "/.well-known/tanhui/roots"
DAY_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.json")
FOR_EVER = "public, max-age=31536000, immutable"
FOR_A_MOMENT = "public, max-age=15"


def wellknown_routes(services: Services) -> list[Route]:
    """The list of days, and one document a day."""

    async def days(request: Request) -> Response:
        """Every local date that has blocks, and every key."""
        return await _answer(request, services.sealing.days_document)

    async def day(request: Request) -> Response:
        """The blocks of one local date."""
        asked = _date(request.path_params["name"])

        async def find() -> DayDocument | None:
            return await services.sealing.day_document(asked) if asked else None

        return await _answer(request, find)

    async def towards_days(_: Request) -> Response:
        """With the slash, so that the names of the days are relative to it."""
        return RedirectResponse(f"{ROOTS}/", 308)

    return [
        Route(ROOTS, towards_days),
        Route(f"{ROOTS}/", days),
        Route(f"{ROOTS}/{{name}}", day),
    ]


def _date(name: str) -> date | None:
    found = DAY_NAME.fullmatch(name)
    try:
        return date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


async def _answer(request: Request, find: Callable[[], Awaitable[DayDocument | bytes | None]]) -> Response:
    try:
        found = await find()
    except UnavailableError as error:
        return _problem(503, error.code, error.message())
    except SealBrokenError:
        LOG.exception("published roots cannot be shown", path=request.url.path)
        return _problem(500, "INTERNAL", "these roots are damaged; the programme has been told")
    if found is None:
        return _problem(404, "NOT_FOUND", "no block was made on that date")
    text, is_final = (found, False) if isinstance(found, bytes) else (found.text, found.is_final)
    tag = f'"{sha256(text).hexdigest()[:32]}"'
    headers = {
        "Cache-Control": FOR_EVER if is_final else FOR_A_MOMENT,
        "ETag": tag,
        # Public data: a verifier in a web page may read it too.
        "Access-Control-Allow-Origin": "*",
    }
    known = {item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")}
    if known & {tag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(text, 200, headers, "application/json")


def _problem(status: int, code: str, message: str) -> Response:
    body = orjson.dumps({"code": code, "message": message})
    headers = {"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}
    return Response(body, status, headers, "application/json")
