"""POST /pictures and what it shows: bytes in, a clean picture out; refusals by role, form and size store nothing."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from backend.rewards.offers.imaging import MAX_BYTES
from tests.conftest import dump
from tests.integration.market import open_market
from tests.unit.rewards.trading import member_details, works

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx

    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio


def picture(colour: str = "red") -> bytes:
    """A small PNG."""
    file = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
async def shops(services: Services) -> None:
    """A merchant with the owner chen and the cashier li."""
    market = open_market(services)
    await market.approved()
    await market.merchants.add_member(works("chen"), None, "li", member_details(), key="key-0001")


async def send(
    api: Api, token: str | None, content: bytes | AsyncIterator[bytes], language: str = "en"
) -> httpx.Response:
    """Upload these bytes."""
    headers = {"content-type": "application/octet-stream", "accept-language": language}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return await api.http.post("/pictures", content=content, headers=headers)


@pytest.mark.usefixtures("shops")
@pytest.mark.parametrize(("role", "who"), [("merchant", "chen"), ("admin", "root")])
async def test_who_sells_uploads_and_everybody_sees(
    api: Api, services: Services, token_for: Callable[..., str], role: str, who: str
) -> None:
    answer = await send(api, token_for(role, who), picture())
    assert answer.status_code == 201
    name = answer.json()["id"]
    assert answer.json() == {"id": name, "url": f"/pictures/{name}.webp"}
    assert (answer.headers["location"], answer.headers["cache-control"]) == (f"/pictures/{name}.webp", "no-store")
    shown = await api.http.get(f"/pictures/{name}.webp")
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    assert shown.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert hashlib.sha256(shown.content).hexdigest() == name
    assert Image.open(io.BytesIO(shown.content)).size == (30, 20)
    # The same again is the same, stored once.
    before = await dump(services)
    assert (await send(api, token_for(role, who), picture())).json()["id"] == name
    assert await dump(services) == before
    assert (await send(api, token_for(role, who), picture("blue"))).json()["id"] != name


@pytest.mark.usefixtures("shops")
async def test_who_does_not_sell_uploads_nothing(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    before = await dump(services)
    for role, who in (
        ("merchant", "li"),
        ("merchant", "nobody"),
        ("citizen", "chen"),
        ("partner", "chen"),
        ("reviewer", "rita"),
    ):
        answer = await send(api, token_for(role, who), picture())
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    for token in (None, "nonsense"):
        answer = await send(api, token, picture())
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
    assert await dump(services) == before


async def test_what_is_no_picture_is_refused_in_the_readers_language(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    before, token = await dump(services), token_for("admin", "root")
    for raw in (b"", b"hello", b"<svg/>", picture()[:-20]):
        answer = await send(api, token, raw)
        assert answer.status_code == 422
        assert answer.json() == {
            "code": "NOT_A_PICTURE",
            "message": "not a usable picture: send a whole JPEG, PNG, WebP or GIF",
        }
    answer = await send(api, token, b"hello", "zh-CN")
    assert answer.json()["message"] == "不是可用的图片：无法识别，请使用完整的 JPEG、PNG、WebP 或 GIF"
    assert await dump(services) == before


async def test_fifty_megabytes_are_refused_before_they_are_read(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    before, token, sent = await dump(services), token_for("admin", "root"), 0

    async def fifty_megabytes() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(800):
            sent += 2**16
            yield bytes(2**16)

    answer = await send(api, token, fifty_megabytes())
    assert (answer.status_code, answer.json()["code"]) == (413, "PICTURE_TOO_LARGE")
    assert answer.json()["message"] == "a picture has at most 5242880 bytes"
    assert sent <= MAX_BYTES + 2**17
    # Announced as too large, nothing is read at all.
    sent = 0
    for length in (str(50 * 2**20), "9" * 30):
        answer = await api.http.post(
            "/pictures",
            content=fifty_megabytes(),
            headers={"authorization": f"Bearer {token}", "content-length": length},
        )
        assert (answer.status_code, sent) == (413, 0)
    assert await dump(services) == before


async def test_a_picture_that_is_not_there_is_not_found(api: Api) -> None:
    for name in ("0" * 64, "x", "A" * 64):
        answer = await api.http.get(f"/pictures/{name}.webp")
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
    assert (await api.http.get("/pictures")).status_code == 405
