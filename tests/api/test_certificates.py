"""Certificates for everybody over HTTP: pages, files and receipts, in both languages, whatever is asked."""

from __future__ import annotations

import dataclasses
import html
import io
import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pypdfium2
import pytest
import zxingcpp
from bson import Int64
from PIL import Image
from pydantic import ValidationError

from backend.app import create_app
from backend.certificates.pages import POLICY
from backend.identity.model import Principal, PrincipalKind
from backend.kernel.ids import CitizenId
from backend.ledger.model import citizen_owner, enterprise_owner
from backend.ledger.sealing import receipts
from backend.market.retirement.model import Beneficiary, RetirementPurpose, Retiring
from backend.settings import Environment, Settings
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import citizen
from tests.floor import CREDIT, give_credits

if TYPE_CHECKING:
    from backend.market.retirement.model import Certificate
    from backend.runtime import Services
    from tests.api.client import Api

VERIFIER = Path(__file__).parents[2] / "docs" / "verify_receipt.py"
STEEL = Principal(PrincipalKind.ENTERPRISE, "steelworks")
HOSTILE = '<script>alert("1")</script>&\'"'
SPRING = Retiring(
    credit=CREDIT,
    grams=1_250,
    beneficiary=Beneficiary("Spring Marathon", "春季马拉松"),
    purpose=RetirementPurpose.EVENT,
    statement="Travel of all runners.",
)


@pytest.fixture
async def certificate(services: Services) -> Certificate:
    """Of the steelworks', not sealed yet."""
    await give_credits(services, enterprise_owner(STEEL.id), 50_000)
    return await services.market.retirement.retire(STEEL, SPRING, key="retire-0001")


async def get(api: Api, path: str, language: str | None = "en", **headers: str) -> httpx.Response:
    """Ask as a browser does."""
    spoken = {"accept-language": language} if language else {}
    return await api.http.get(path, headers={**spoken, **headers})


async def test_the_page_says_what_book_and_seals_say(api: Api, services: Services, certificate: Certificate) -> None:
    path = f"/certificates/{certificate.number}"
    answer = await get(api, path)
    assert answer.status_code == 200
    for said in (
        "Certificate of Retirement",
        "Spring Marathon",
        "1.25 kg CO2e",
        "neutrality of an event",
        "Travel of all runners.",
        "1–1,250",
        certificate.transaction,
        "The book has this very retirement, of exactly these serials",
        "Not sealed yet",
        f"{path}.pdf?lang=en",
    ):
        assert said in answer.text
    assert "steelworks" not in answer.text
    assert "receipt.json" not in answer.text
    assert (await get(api, f"{path}/receipt.json")).status_code == 404
    await services.sealing.seal_now()
    sealed = await get(api, path)
    receipt = await services.sealing.find_receipt(certificate.transaction, None)
    assert receipt is not None
    assert f"in block {receipt.block.header.height}" in sealed.text
    assert receipt.block.header.root in sealed.text
    assert f"/certificates/{certificate.number}/receipt.json" in sealed.text
    assert sealed.headers["etag"] != answer.headers["etag"]


async def test_the_page_speaks_the_language_asked_for(api: Api, certificate: Certificate) -> None:
    path = f"/certificates/{certificate.number}"
    for url, spoken, language, said in (
        (path, None, "zh-CN", "春季马拉松"),
        (path, "en-GB,en;q=0.9", "en", "Spring Marathon"),
        (f"{path}?lang=zh", "en", "zh-CN", "1.25 千克 二氧化碳当量"),
        (f"{path}?lang=en", "zh", "en", "1.25 kg CO2e"),
        (f"{path}?lang=zh-CN", None, "zh-CN", "注销"),
        (f"{path}?lang=%00", "en", "en", "retired"),
    ):
        answer = await get(api, url, spoken)
        assert answer.headers["content-language"] == language
        assert f'<html lang="{language}">' in answer.text
        assert said in answer.text
        assert answer.headers["vary"] == "Accept-Language"


async def test_pages_are_safe_and_kept_for_a_moment(api: Api, certificate: Certificate) -> None:
    # Without an address of ours the page prints that of whoever asks, so it is theirs alone.
    page = f"/certificates/{certificate.number}"
    for path, kept in (("/certificates", "public, max-age=60"), (page, "private, max-age=60")):
        answer = await get(api, path)
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == kept
        again = await get(api, path, **{"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert "<script" not in answer.text
        # Nothing of anybody else's.
        assert re.findall(r'(?:src|href|action)="(?!/)', answer.text) == []


async def test_what_people_wrote_is_shown_as_written(api: Api, services: Services, certificate: Certificate) -> None:
    asked = dataclasses.replace(SPRING, beneficiary=Beneficiary(HOSTILE, HOSTILE), statement=HOSTILE)
    made = await services.market.retirement.retire(STEEL, asked, key="retire-0002")
    await services.sealing.seal_now()
    for path in (f"/certificates/{made.number}", "/certificates", "/certificates?beneficiary=%3Cscript%3E"):
        text = (await get(api, path)).text
        assert "<script" not in text
        assert html.escape(HOSTILE) in text
    sought = (await get(api, "/certificates", "en")).text
    assert '"alert' not in sought
    for form in ("pdf", "png"):
        assert (await get(api, f"/certificates/{made.number}.{form}")).status_code == 200


async def test_the_receipt_verifies_without_us(
    api: Api, services: Services, certificate: Certificate, tmp_path: Path
) -> None:
    await services.sealing.seal_now()
    answer = await get(api, f"/certificates/{certificate.number}/receipt.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert receipts.verify(answer.content).failures == ()
    told = json.loads(answer.content)["transaction"]
    assert (told["id"], told["kind"], told["cause"]["serials"]) == (certificate.transaction, "RETIRE", "1-1250")
    page = (await get(api, f"/certificates/{certificate.number}")).text
    assert told["cause"]["words"] in page
    receipt = await services.sealing.find_receipt(certificate.transaction, None)
    assert receipt is not None
    day = await get(api, f"/.well-known/tanhui/roots/{receipt.block.day.isoformat()}.json")
    (tmp_path / "receipt.json").write_bytes(answer.content)
    (tmp_path / "roots.json").write_bytes(day.content)
    files = [str(tmp_path / name) for name in ("receipt.json", "roots.json")]
    checked = subprocess.run([sys.executable, str(VERIFIER), *files], capture_output=True, check=False)  # noqa: ASYNC221
    assert checked.returncode == 0, checked.stdout


async def test_the_files_show_the_certificate(api: Api, services: Services, certificate: Certificate) -> None:
    url = f"http://tanhui.test/certificates/{certificate.number}"
    pdf = await get(api, f"/certificates/{certificate.number}.pdf?lang=zh")
    assert pdf.headers["content-type"] == "application/pdf"
    assert pdf.headers["content-disposition"] == f'inline; filename="{certificate.number}.pdf"'
    assert pdf.headers["cache-control"] == "private, max-age=60"
    with pypdfium2.PdfDocument(pdf.content) as document:
        text = document[0].get_textpage().get_text_bounded()
    for said in ("春季马拉松", "1.25 千克", certificate.number, certificate.transaction, "尚未封存"):
        assert said in text
    png = await get(api, f"/certificates/{certificate.number}.png")
    assert png.headers["content-type"] == "image/png"
    [code] = zxingcpp.read_barcodes(Image.open(io.BytesIO(png.content)))
    assert code.text == url
    assert (await get(api, f"/certificates/{certificate.number}.png")).content == png.content
    known = await get(api, f"/certificates/{certificate.number}.png", **{"if-none-match": png.headers["etag"]})
    assert known.status_code == 304
    await services.sealing.seal_now()
    sealed = await get(api, f"/certificates/{certificate.number}.pdf?lang=en")
    with pypdfium2.PdfDocument(sealed.content) as document:
        assert "block 1, root" in document[0].get_textpage().get_text_bounded()


WRONG = "TH-ZHENJIANG-2026-0000000"
MISSING = (f"{WRONG}0", f"{WRONG}1", "x", "%00", "é", "%ff", "a" * 5_000, "style.css")


@pytest.mark.parametrize("number", MISSING)
async def test_an_unknown_number_is_not_found(
    api: Api, services: Services, certificate: Certificate, number: str
) -> None:
    before = await dump(services)
    for tail in ("", ".pdf", ".png", "/receipt.json"):
        answer = await get(api, f"/certificates/{number}{tail}")
        assert answer.status_code == 404
        assert "There is no such certificate" in answer.text
        assert answer.headers["cache-control"] == "no-store"
    assert await dump(services) == before


async def test_a_number_is_found_however_it_is_typed(api: Api, certificate: Certificate) -> None:
    answer = await get(api, f"/certificates/{certificate.number.lower()}?lang=en")
    assert (answer.status_code, answer.headers["location"]) == (308, f"/certificates/{certificate.number}?lang=en")


async def test_the_register_is_paged_and_searched(api: Api, services: Services, certificate: Certificate) -> None:
    numbers = {certificate.number}
    for number in range(2, 25):
        services.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]
        asked = dataclasses.replace(SPRING, grams=10, beneficiary=Beneficiary(f"Shop {number}"))
        made = await services.market.retirement.retire(STEEL, asked, key=f"retire-{number:04}")
        numbers.add(made.number)
    first = (await get(api, "/certificates")).text
    assert "24 retirements of 1.48 kg CO2e in all" in first
    [older] = re.findall(r'rel="next" href="([^"]+)"', first)
    second = (await get(api, html.unescape(older))).text
    assert 'rel="next"' not in second
    shown = [set(re.findall(r"TH-ZHENJIANG-\d{4}-[0-9A-Z]{8}", text)) for text in (first, second)]
    assert (len(shown[0]), len(shown[1])) == (20, 4)
    assert shown[0] | shown[1] == numbers
    found = (await get(api, "/certificates?beneficiary=shop%202")).text
    assert "6 retirements of 60 g CO2e in all" in found
    none = (await get(api, "/certificates?credit=credit:none")).text
    assert "No retirement like that" in none


@pytest.mark.parametrize(
    "query", ["older=x", "older=9999-12-31T23:59:59", "beneficiary=%00", "beneficiary=" + "x" * 500, "older=%ff|"]
)
async def test_a_damaged_link_is_told_so(api: Api, certificate: Certificate, query: str) -> None:
    answer = await get(api, f"/certificates?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")


async def test_a_certificate_that_the_book_does_not_have_is_called_so(
    api: Api, services: Services, certificate: Certificate
) -> None:
    change: dict[str, Any] = {"$set": {"grams": Int64(999_999)}}
    await services.database.update_one("market_certificates", {"_id": certificate.id}, change)
    await services.sealing.seal_now()
    page = (await get(api, f"/certificates/{certificate.number}")).text
    assert "do not rely on it" in page
    assert "Sealed on" not in page
    assert "Not sealed yet" not in page
    for tail in (".pdf", ".png", "/receipt.json"):
        assert (await get(api, f"/certificates/{certificate.number}{tail}")).status_code == 409


async def test_a_damaged_seal_is_told(api: Api, services: Services, certificate: Certificate) -> None:
    await services.sealing.seal_now()
    await services.database.delete_one("ledger_blocks", {})
    page = await get(api, f"/certificates/{certificate.number}")
    assert (page.status_code, "The seal is damaged" in page.text) == (200, True)
    for tail in (".pdf", "/receipt.json"):
        assert (await get(api, f"/certificates/{certificate.number}{tail}")).status_code == 500
    LEDGER_WATCH.strays.clear()


async def test_a_citizen_who_is_not_named_keeps_their_receipt(api: Api, services: Services) -> None:
    """It tells who retired the credits; the page says so and who has it."""
    await give_credits(services, citizen_owner(CitizenId("alice")), 50_000)
    hidden = await services.market.retirement.retire(citizen(), SPRING, key="retire-0001")
    named = await services.market.retirement.retire(
        citizen(), dataclasses.replace(SPRING, is_named=True), key="retire-0002"
    )
    assert named.owner_name is not None
    await services.sealing.seal_now()
    page = (await get(api, f"/certificates/{hidden.number}")).text
    assert "Sealed on" in page
    assert "their owner has it (GraphQL: receipt)" in page
    assert "receipt.json" not in page
    answer = await get(api, f"/certificates/{hidden.number}/receipt.json")
    assert answer.status_code == 404
    assert "their owner has it" in answer.text
    assert "citizen:" not in answer.text + page
    shown = await api.post(RECEIPT_URL, {"number": hidden.number}, token=None)
    assert shown.body["data"]["certificate"] == {"receiptUrl": None}
    told = await get(api, f"/certificates/{named.number}/receipt.json")
    assert told.status_code == 200
    assert f"/certificates/{named.number}/receipt.json" in (await get(api, f"/certificates/{named.number}")).text


RECEIPT_URL = "query ($number: String!) { certificate(number: $number) { receiptUrl } }"


async def test_the_public_address_is_printed_whoever_asks(services: Services, certificate: Certificate) -> None:
    """With an address of ours, no other is printed or drawn, and what is answered is everybody's."""
    settings = services.settings.model_copy(update={"public_url": "https://tanhui.example"})
    app = create_app(dataclasses.replace(services, settings=settings))
    transport = httpx.ASGITransport(app)
    await services.sealing.seal_now()
    path = f"/certificates/{certificate.number}"
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://inner") as http,
    ):
        png = await http.get(f"{path}.png")
        same = await http.get(f"{path}.png", headers={"host": "evil.example"})
        page = await http.get(path, headers={"host": "evil.example"})
    [code] = zxingcpp.read_barcodes(Image.open(io.BytesIO(png.content)))
    assert code.text == f"https://tanhui.example{path}"
    assert same.content == png.content
    assert "evil.example" not in page.text
    assert "https://tanhui.example/.well-known/tanhui/roots/" in page.text
    assert {one.headers["cache-control"] for one in (png, page)} == {"public, max-age=60"}


def test_production_has_a_public_address() -> None:
    """Otherwise whoever asks first would say what certificates print."""
    with pytest.raises(ValidationError, match="TANHUI_PUBLIC_URL must be set where TANHUI_ENV=prod"):
        Settings(env=Environment.PROD)
    assert Settings(env=Environment.PROD, public_url="https://tanhui.example").public_url == "https://tanhui.example"


@pytest.mark.parametrize("url", ["ftp://tanhui.example", "tanhui.example", "https://tanhui.example/", "https://a b"])
def test_a_public_address_is_one(url: str) -> None:
    with pytest.raises(ValidationError):
        Settings(public_url=url)
