"""Statements downloaded over HTTP: by whom, in which form and language, with digests that fit."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

import orjson
import pypdfium2
import pytest

from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import Text
from backend.rewards.settlement.model import StatementStage, statement_id
from tests.integration.selling import (
    BEGIN,
    DAY,
    HOUR,
    REST,
    TEA,
    WEEK_END,
    Market,
    give_back,
    open_market,
    register,
    sell,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from backend.runtime import Services
    from tests.api.client import Api

FIRST = statement_id(TEA, 1)


@pytest.fixture
async def market(services: Services) -> Market:
    """A statement of the tea house, with a refund and a title that would be a formula."""
    opened = await open_market(services)
    await register(services)
    await sell(services, TEA, 1_000, 700, at=BEGIN, title=Text("=乌龙茶", "=Oolong"))
    tea = await sell(services, TEA, 300, 205, at=BEGIN + HOUR)
    await give_back(services, tea, 100, 68, at=BEGIN + DAY)
    await opened.close_at(WEEK_END + REST)
    return opened


async def fetch(
    api: Api, token: str | None, name: str = FIRST, form: str = "csv", language: str | None = None
) -> httpx.Response:
    """Ask for a file."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    if language:
        headers["accept-language"] = language
    return await api.http.get(f"/exports/statements/{name}.{form}", headers=headers)


async def test_administrators_and_the_owner_download_it_in_every_form(
    market: Market, api: Api, token_for: Callable[..., str]
) -> None:
    [made] = await market.statements()
    for token in (token_for("admin", "root"), token_for("merchant", "tea-owner")):
        for form, media_type in (
            ("csv", "text/csv; charset=utf-8"),
            ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            ("pdf", "application/pdf"),
        ):
            answer = await fetch(api, token, form=form)
            assert answer.status_code == 200
            digest = hashlib.sha256(answer.content).digest()
            assert answer.headers["content-type"] == media_type
            assert answer.headers["etag"] == f'"{digest.hex()}"'
            assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
            assert answer.headers["x-statement-checksum"] == made.checksum
            assert answer.headers["content-disposition"] == f'attachment; filename="{FIRST}.{form}"'
            assert answer.headers["cache-control"] == "private, no-store"
            assert answer.headers["content-language"] == "zh-CN"
            assert int(answer.headers["content-length"]) == len(answer.content)
            # The same file again.
            assert (await fetch(api, token, form=form)).content == answer.content


async def test_the_csv_says_every_line_in_the_language_asked_for(
    market: Market, api: Api, token_for: Callable[..., str]
) -> None:
    token = token_for("admin", "root")
    files = [await fetch(api, token, language=language) for language in (None, "en-GB")]
    chinese, english = (list(csv.reader(io.StringIO(file.content.decode("utf-8-sig")))) for file in files)
    assert chinese[0] == ["商户结算单"]
    assert english[0] == ["Merchant statement"]
    assert [row[:9] for row in chinese[-3:]] == [
        ["2026-11-02 00:00:00", "核销", chinese[-3][2], "'=乌龙茶", "人民路店", "1000", "700", "7.00", "2.00%"],
        ["2026-11-02 01:00:00", "核销", chinese[-2][2], "一杯茶", "人民路店", "300", "205", "2.05", "2.00%"],
        ["2026-11-03 00:00:00", "退款", chinese[-2][2], "一杯茶", "人民路店", "-100", "-68", "-0.68", "2.00%"],
    ]
    assert english[-3][3:5] == ["'=Oolong", "People's Road"]


async def test_the_checksum_can_be_computed_from_the_book(market: Market) -> None:
    """As the docstring of the tally says, without its code."""
    [made] = await market.statements()
    digest = hashlib.sha256()
    for one in await market.settlement.list_lines(made, limit=100):
        line = one.line
        at = line.at.isoformat().replace("+00:00", "Z")
        told = [line.transaction, at, line.kind.value, line.voucher, "offer-1", line.points, line.fen, 200]
        digest.update(orjson.dumps(told) + b"\n")
    digest.update(
        orjson.dumps(
            {
                "merchant": "tea",
                "number": 1,
                "kind": "REGULAR",
                "since": "2026-11-01T16:00:00Z",
                "until": "2026-11-08T16:00:00Z",
                "corrects": None,
                "captures": [2, 1_300, 905],
                "refunds": [1, 100, 68],
                "gross_fen": 837,
                "commission_fen": 16,
                "adjustment_fen": 0,
                "reason": None,
                "net_fen": 821,
                "brought_forward_fen": 0,
                "payable_fen": 821,
                "explained": [[0, 0, 0], [0, 0, 0]],
            },
            option=orjson.OPT_SORT_KEYS,
        )
    )
    assert made.checksum == digest.hexdigest()


async def test_who_may_not_is_told_nothing(market: Market, api: Api, token_for: Callable[..., str]) -> None:
    await register(market.services, "book")
    for token, status, code in (
        (None, 401, "UNAUTHENTICATED"),
        ("nonsense", 401, "UNAUTHENTICATED"),
        (token_for("citizen", "alice"), 403, "FORBIDDEN"),
        (token_for("partner", "metro"), 403, "FORBIDDEN"),
        (token_for("reviewer", "rita"), 403, "FORBIDDEN"),
        (token_for("merchant", "nobody"), 403, "FORBIDDEN"),
        (token_for("merchant", "book-owner"), 404, "UNKNOWN_STATEMENT"),
    ):
        answer = await fetch(api, token)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    admin = token_for("admin", "root")
    assert (await fetch(api, admin, name="stm_none")).json() == {
        "code": "UNKNOWN_STATEMENT",
        "message": "没有这份结算单",
    }
    assert (await fetch(api, admin, form="exe")).status_code == 404


async def test_a_statement_that_the_book_no_longer_gives_is_not_given_out(
    market: Market, api: Api, token_for: Callable[..., str]
) -> None:
    # Somebody writes into the past.
    await sell(market.services, TEA, 1, 1, at=BEGIN + 2 * DAY)
    for form in ("csv", "xlsx", "pdf"):
        answer = await fetch(api, token_for("admin", "root"), form=form, language="en")
        assert (answer.status_code, answer.json()["code"]) == (409, "STATEMENT_CHANGED")


async def test_a_correction_without_lines_is_exported_with_its_reason(
    market: Market, api: Api, token_for: Callable[..., str]
) -> None:
    maker = Principal(PrincipalKind.STAFF, "maker", frozenset({StaffRole.ADMIN}))
    made = await market.settlement.correct(maker, FIRST, -205, "多付一笔", key="correct-1")
    assert made.stage is StatementStage.READY
    token = token_for("admin", "root")
    text = (await fetch(api, token, name=made.id)).content.decode("utf-8-sig")
    assert "原因,多付一笔\r\n" in text
    assert "调整（元）,-2.05\r\n" in text
    assert text.endswith("佣金率,交易编号\r\n")
    with pypdfium2.PdfDocument((await fetch(api, token, name=made.id, form="pdf")).content) as document:
        assert "多付一笔" in document[0].get_textpage().get_text_bounded()
    archive = zipfile.ZipFile(io.BytesIO((await fetch(api, token, name=made.id, form="xlsx")).content))
    assert "<v>-2.05</v>" in archive.read("xl/worksheets/sheet1.xml").decode()
