"""Files that staff download over HTTP with their token: what a back-test found, as CSV or Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from starlette.responses import Response
from starlette.routing import Route

from backend.actions.backtesting.exporting import to_csv, to_parquet
from backend.kernel.errors import AccessError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from backend.identity.model import Principal
    from backend.identity.tokens import Tokens
    from backend.runtime import Services

FORMS = {
    "csv": (to_csv, "text/csv; charset=utf-8"),
    "parquet": (to_parquet, "application/vnd.apache.parquet"),
}


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


def _problem(status: int, code: str, message: str) -> Response:
    body = orjson.dumps({"code": code, "message": message})
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")
