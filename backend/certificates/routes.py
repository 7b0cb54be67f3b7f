"""``GET /certificates`` and what is below it: pages, PDF, PNG and receipt, for anybody, in the language asked for."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import OrderedDict
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import structlog
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from backend.certificates.pages import (
    OWNERS,
    POLICY,
    Listed,
    Proof,
    Standing,
    certificate_page,
    message_page,
    missing_page,
    register_page,
)
from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import InvalidInputError, Language, Refusal, Text, TransientError
from backend.ledger.model import Asset
from backend.ledger.sealing.canonical import canonical_bytes, receipt_object
from backend.ledger.sealing.model import SealBrokenError
from backend.market.retirement.booking import words_of
from backend.market.retirement.drawing import draw, picture
from backend.market.retirement.wording import Seal, Setting, show

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from backend.ledger.sealing.model import Receipt
    from backend.market.retirement.model import Certificate
    from backend.market.retirement.wording import Shown
    from backend.runtime import Services

    Show = Callable[[Request, Language], Awaitable[Response]]
    Preferred = Callable[[str | None], Language]

LOG = structlog.get_logger(__name__)
A_PAGE = 20
LANGUAGES = {"zh": Language.ZH_CN, "zh-cn": Language.ZH_CN, "en": Language.EN}
FOR_A_MOMENT, FOR_A_DAY = "public, max-age=60", "public, max-age=86400"
# What prints the address by which it was asked for: nobody else's.
FOR_ONE = "private, max-age=60"
HTML = "text/html; charset=utf-8"
MEDIA_TYPES = {"pdf": "application/pdf", "png": "image/png"}
# Drawing takes a processor for half a second: few at once, and what was drawn last is kept.
DRAWN_AT_ONCE, KEPT = 2, 32
BROKEN_LINK = Text("此链接不完整", "this link is damaged")
NOT_SEALED = Text("尚未封存，请稍后再试", "not sealed yet; try again in a minute")
DAMAGED = Text("封存记录已损坏，运营方已收到通知", "the seal is damaged; the programme has been told")
FALLS = Text("账本中没有与此证书一致的注销", "the book has no retirement that agrees with this certificate")


def certificate_routes(services: Services, preferred_language: Preferred) -> list[Route]:
    """The register, and for each certificate a page, two files and the receipt."""
    desk = _Desk(services)

    def answering(handle: Show) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            """Answer in the language asked for, whatever is asked."""
            asked = request.query_params.get("lang", "").lower()
            language = LANGUAGES.get(asked) or preferred_language(request.headers.get("accept-language"))
            try:
                return await handle(request, language)
            except Refusal as error:
                return desk.message(400, error.message(language), language)
            except TransientError as error:
                return desk.message(503, error.message(language), language)

        return answer

    return [
        Route("/certificates", answering(desk.register)),
        Route("/certificates/{number}.pdf", answering(desk.pdf)),
        Route("/certificates/{number}.png", answering(desk.png)),
        Route("/certificates/{number}/receipt.json", answering(desk.receipt)),
        Route("/certificates/{number}", answering(desk.page)),
    ]


class _Desk:
    """Answers what is asked of certificates."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._retirement = services.market.retirement
        self._programme = Text(services.programme.name_zh, services.programme.name_en)
        self._zone = services.programme.zone
        self._address = services.settings.public_url
        self._places = asyncio.Semaphore(DRAWN_AT_ONCE)
        self._drawn: OrderedDict[tuple[Shown, str], bytes] = OrderedDict()

    async def page(self, request: Request, language: Language) -> Response:
        """The page of a certificate, with what book and seals say of it now."""
        certificate = await self._retirement.find_numbered(request.path_params["number"])
        if certificate is None:
            return self._missing(language)
        if certificate.number != request.path_params["number"]:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"/certificates/{certificate.number}{query}", 308)
        proof = await self._prove(certificate)
        shown = await self._show(request, certificate, proof, language)
        page = certificate_page(shown, proof, self._programme, self._zone).encode()
        return _answer(request, page, language, kept=self._kept(FOR_A_MOMENT))

    async def pdf(self, request: Request, language: Language) -> Response:
        """The certificate to print."""
        return await self._file(request, language, "pdf")

    async def png(self, request: Request, language: Language) -> Response:
        """The certificate as a picture."""
        return await self._file(request, language, "png")

    async def _file(self, request: Request, language: Language, form: str) -> Response:
        certificate = await self._retirement.find_numbered(request.path_params["number"])
        if certificate is None:
            return self._missing(language)
        proof = await self._prove(certificate)
        if not proof.stands:
            return self.message(409, FALLS.said(language), language)
        if proof.standing is Standing.BROKEN:
            return self.message(500, DAMAGED.said(language), language)
        shown = await self._show(request, certificate, proof, language)
        drawn = await self._draw(shown, form)
        kept = self._kept(FOR_A_DAY if proof.block and shown.shares else FOR_A_MOMENT)
        headers = {"Content-Disposition": f'inline; filename="{certificate.number}.{form}"'}
        return _answer(request, drawn, language, media_type=MEDIA_TYPES[form], kept=kept, headers=headers)

    async def receipt(self, request: Request, language: Language) -> Response:
        """The receipt of a certificate's transaction, byte for byte as it is verified, where everybody may have it."""
        certificate = await self._retirement.find_numbered(request.path_params["number"])
        if certificate is None:
            return self._missing(language)
        if not certificate.has_public_receipt:
            return self.message(404, OWNERS.said(language), language)
        if not await self._retirement.stands(certificate):
            return self.message(409, FALLS.said(language), language)
        try:
            receipt = await self._find_receipt(certificate)
        except SealBrokenError:
            return self.message(500, DAMAGED.said(language), language)
        if receipt is None:
            return self.message(404, NOT_SEALED.said(language), language)
        # Public data: a verifier in a web page may read it too.
        headers = {"Access-Control-Allow-Origin": "*"}
        text = canonical_bytes(receipt_object(receipt))
        return _answer(request, text, None, media_type="application/json", kept=FOR_A_DAY, headers=headers)

    async def register(self, request: Request, language: Language) -> Response:
        """A page of the register."""
        asked = request.query_params
        sought, named = asked.get("beneficiary", "").strip(), asked.get("credit", "").strip()
        credit = Asset(named) if named else None
        older = _place(asked.get("older"))
        found = await self._retirement.list_certificates(
            credit=credit, beneficiary=sought or None, limit=A_PAGE + 1, older=older
        )
        count, grams = await self._retirement.total(credit=credit, beneficiary=sought or None)
        shown, scope = found[:A_PAGE], {"beneficiary": sought, "credit": named, "lang": language}
        last = shown[-1] if len(found) > A_PAGE else None
        listed = Listed(
            certificates=tuple(shown),
            count=count,
            grams=grams,
            sought=sought,
            credit=named,
            older=f"/certificates?{_query(scope, older=f'{last.at.isoformat()}|{last.id}')}" if last else None,
        )
        return _answer(request, register_page(listed, self._programme, self._zone, language).encode(), language)

    def message(self, status: int, said: str, language: Language) -> Response:
        """A page that says what is wrong."""
        return _problem(status, message_page(said, self._programme, language), language)

    def _missing(self, language: Language) -> Response:
        return _problem(404, missing_page(self._programme, language), language)

    async def _prove(self, certificate: Certificate) -> Proof:
        words = words_of(certificate)
        stands = await self._retirement.stands(certificate)
        standing, receipt = Standing.UNSEALED, None
        if stands:
            try:
                receipt = await self._find_receipt(certificate)
                standing = Standing.SEALED if receipt else Standing.UNSEALED
            except SealBrokenError:
                standing = Standing.BROKEN
        block = receipt.block if receipt else None
        return Proof(
            stands=stands,
            standing=standing,
            block=block,
            words=words.decode(),
            words_hash=sha256(words).hexdigest(),
            is_public=certificate.has_public_receipt,
        )

    def _kept(self, kept: str) -> str:
        """How long, and by whom, an answer is kept that prints our address."""
        return kept if self._address else FOR_ONE

    async def _find_receipt(self, certificate: Certificate) -> Receipt | None:
        try:
            return await self._services.sealing.find_receipt(certificate.transaction, None)
        except SealBrokenError:
            LOG.exception("receipt of a certificate cannot be shown", certificate=certificate.number)
            raise

    async def _show(self, request: Request, certificate: Certificate, proof: Proof, language: Language) -> Shown:
        book = await self._services.rules.book()
        setting = Setting(
            programme=self._programme,
            kinds={code: Text(kind.name_zh, kind.name_en) for code, kind in book.kinds.items()},
            zone=self._zone,
            # Without an address of ours, which only development lacks, the one by which whoever asks reached it.
            url=self._address or str(request.base_url).rstrip("/"),
        )
        origin = await self._retirement.origin_of(certificate)
        seal = Seal(proof.block.header.height, proof.block.header.root) if proof.block else None
        return show(dataclasses.replace(certificate, origin=origin), setting, seal, language)

    async def _draw(self, shown: Shown, form: str) -> bytes:
        key = (shown, form)
        async with self._places:
            if key not in self._drawn:
                drawn = await asyncio.to_thread(draw, shown)
                self._drawn[key] = await asyncio.to_thread(picture, drawn) if form == "png" else drawn
            self._drawn.move_to_end(key)
            while len(self._drawn) > KEPT:
                self._drawn.popitem(last=False)
            return self._drawn[key]


def _place(text: str | None) -> tuple[datetime, str] | None:
    """The place in the register behind which a page begins.

    Raises:
        InvalidInputError: it is none.
    """
    if text is None:
        return None
    moment, _, certificate = text.partition("|")
    try:
        return to_milliseconds(datetime.fromisoformat(moment)), certificate
    except (ValueError, OverflowError) as error:
        raise InvalidInputError("older", BROKEN_LINK) from error


def _query(scope: dict[str, str], **more: str) -> str:
    return urlencode({name: said for name, said in {**scope, **more}.items() if said})


def _answer(
    request: Request,
    body: bytes,
    language: Language | None,
    *,
    media_type: str = HTML,
    kept: str = FOR_A_MOMENT,
    headers: dict[str, str] | None = None,
) -> Response:
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    told = {"Cache-Control": kept, "ETag": tag, **_safe(language), **(headers or {})}
    known = {item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")}
    if known & {tag, "*"}:
        return Response(status_code=304, headers=told)
    return Response(body, 200, told, media_type)


def _problem(status: int, page: str, language: Language) -> Response:
    return Response(page, status, {"Cache-Control": "no-store", **_safe(language)}, HTML)


def _safe(language: Language | None) -> dict[str, str]:
    spoken = {"Content-Language": language.value, "Vary": "Accept-Language"} if language else {}
    return {
        **spoken,
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
