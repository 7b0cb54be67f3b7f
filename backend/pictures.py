"""Pictures of offers over HTTP: merchants and administrators upload them, everybody sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from backend.kernel.errors import AccessError, DomainError, Language, Refusal, TransientError
from backend.rewards.offers.errors import PictureTooLargeError
from backend.rewards.offers.imaging import BYTES, MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from backend.identity.model import Principal
    from backend.identity.tokens import Tokens
    from backend.runtime import Services

MAX_DIGITS = 12
# A picture's name is the digest of its bytes, so whoever has it never asks again.
SHOWN_WITH = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


def picture_routes(
    services: Services,
    authenticate: Callable[[Tokens, str], Principal],
    preferred_language: Callable[[str | None], Language],
) -> list[Route]:
    """``POST /pictures`` takes the bytes as they are, ``GET /pictures/{id}.webp`` shows them."""

    async def upload(request: Request) -> Response:
        """Store the picture in the body; for owners at work and administrators."""
        language = preferred_language(request.headers.get("accept-language"))
        try:
            principal = authenticate(services.tokens, request.headers.get("authorization", ""))
            if not principal.is_admin:
                await services.rewards.merchants.owner_desk(principal)
            picture = await services.rewards.pictures.save(await _read(request))
        except DomainError as error:
            return _problem(error, language)
        except ClientDisconnect:
            return Response(status_code=400)
        url = f"/pictures/{picture}.webp"
        body = orjson.dumps({"id": picture, "url": url})
        return Response(body, 201, {"Cache-Control": "no-store", "Location": url}, "application/json")

    async def show(request: Request) -> Response:
        """The picture of that id."""
        try:
            webp = await services.rewards.pictures.find(request.path_params["picture"])
        except TransientError as error:
            return _problem(error, preferred_language(request.headers.get("accept-language")))
        if webp is None:
            return Response(status_code=404, headers={"Cache-Control": "no-store"})
        return Response(webp, 200, SHOWN_WITH, "image/webp")

    return [Route("/pictures", upload, methods=["POST"]), Route("/pictures/{picture}.webp", show)]


async def _read(request: Request) -> bytes:
    """The body, of which no more is read than a picture may have.

    Raises:
        PictureTooLargeError: it has more.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and (len(announced) > MAX_DIGITS or int(announced) > MAX_BYTES):
        raise PictureTooLargeError(MAX_BYTES, BYTES)
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > MAX_BYTES:
            raise PictureTooLargeError(MAX_BYTES, BYTES)
        body += chunk
    return bytes(body)


def _problem(error: DomainError, language: Language) -> Response:
    if isinstance(error, PictureTooLargeError):
        status = 413
    elif isinstance(error, Refusal):
        status = 422
    elif isinstance(error, AccessError):
        status = 401 if error.code == "UNAUTHENTICATED" else 403
    else:
        status = 503
    body = orjson.dumps({"code": error.code, "message": error.message(language)})
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")
