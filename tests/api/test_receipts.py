"""receipt, block and the published roots: who sees which, and that what is handed out verifies by itself."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.kernel.clock import local_date
from backend.kernel.ids import derived_id
from backend.ledger.sealing.receipts import verify, verify_day
from tests.api.documents import shown
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import earning, spending, transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

ROOTS = "/.well-known/tanhui/roots/"
RECEIPT = """query ($id: ID!) { receipt(transactionId: $id) { transactionId index path document
    block { height previous size root sealedAt keyId publicKey hash signature day } } }"""
BRIEF = "query ($id: ID!) { receipt(transactionId: $id) { index } }"
BLOCK = "query ($height: Int!) { block(height: $height) { height size previous hash } }"
MISSING = derived_id("tx", "nothing")


async def seal(services: Services) -> None:
    """100 points for alice, 10 of them for bob, 10 for the shop, all in one block."""
    for transaction in (earning(), transfer(), spending()):
        await services.ledger.post(transaction)
    assert await services.sealing.seal_now() == 1


async def test_a_receipt_is_there_once_the_transaction_is_sealed(
    api: Api, services: Services, clock: ManualClock, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    await services.ledger.post(earning())
    assert (await api.post(RECEIPT, {"id": earning().id}, token=token)).result is None
    await seal(services)
    before = await dump(services)
    receipt = (await api.post(RECEIPT, {"id": transfer().id}, token=token)).result
    assert await dump(services) == before
    block = receipt["block"]
    document = json.loads(receipt["document"])
    assert document["transaction"]["id"] == receipt["transactionId"] == transfer().id
    assert document["proof"] == {"index": receipt["index"], "path": receipt["path"]}
    assert document["block"] == {
        "version": 1,
        "programme": "zhenjiang",
        "height": 1,
        "previous": block["previous"],
        "size": 3,
        "root": block["root"],
        "sealed_at": int(clock.now().timestamp() * 1000),
        "key": block["keyId"],
    }
    assert (document["signature"], document["public_key"]) == (block["signature"], block["publicKey"])
    today = local_date(clock.now(), services.programme.zone).isoformat()
    assert (block["height"], block["size"], block["previous"], block["day"]) == (1, 3, "0" * 64, today)
    assert block["sealedAt"] == shown(clock.now())
    published = await api.http.get(f"{ROOTS}{block['day']}.json")
    verdict = verify(receipt["document"].encode(), published.content)
    assert verdict.failures == ()
    assert (verdict.height, verdict.is_final) == (1, False)


async def test_nobody_sees_a_receipt_without_signing_in(api: Api, services: Services) -> None:
    await seal(services)
    for transaction in (earning().id, MISSING):
        answer = await api.post(BRIEF, {"id": transaction})
        assert answer.body["data"] == {"receipt": None}
        assert [error["extensions"]["code"] for error in answer.body["errors"]] == ["UNAUTHENTICATED"]


@pytest.mark.parametrize(
    ("role", "subject", "sees"),
    [
        ("citizen", "alice", [True, True, True]),
        ("citizen", "bob", [False, True, False]),
        ("citizen", "shop", [False, False, False]),
        ("merchant", "shop", [False, False, True]),
        ("merchant", "alice", [False, False, False]),
        ("enterprise", "alice", [False, False, False]),
        ("partner", "alice", [False, False, False]),
        ("admin", "root", [True, True, True]),
        ("reviewer", "rita", [True, True, True]),
        ("verifier", "vera", [True, True, True]),
    ],
)
async def test_who_stands_in_a_transaction_and_staff_see_its_receipt(
    role: str, subject: str, sees: list[bool], api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    await seal(services)
    token = token_for(role, subject)
    missing = await api.post(BRIEF, {"id": MISSING}, token=token)
    assert (missing.status, missing.body) == (200, {"data": {"receipt": None}})
    for transaction, seen in zip((earning(), transfer(), spending()), sees, strict=True):
        answer = await api.post(BRIEF, {"id": transaction.id}, token=token)
        if seen:
            assert answer.result["index"] in range(3)
        else:
            # A foreign one answers like a missing one.
            assert (answer.status, answer.body) == (missing.status, missing.body)


async def test_what_is_no_id_finds_no_receipt(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    await seal(services)
    for text in ("", "tx_", "\x00", "alice", f"{transfer().id}@citizen:bob", "tx_" + "g" * 32, "碳", "x" * 100_000):
        assert (await api.post(BRIEF, {"id": text}, token=token_for("admin", "root"))).result is None


async def test_anybody_sees_blocks(api: Api, services: Services) -> None:
    await seal(services)
    assert (await api.post(BLOCK, {"height": 1})).result["size"] == 3
    for height in (-1, 0, 2, 2**31 - 1):
        assert (await api.post(BLOCK, {"height": height})).result is None


async def test_a_falsified_book_gives_no_receipt_and_no_details(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    await seal(services)
    book = services.database.raw["ledger_transactions"]
    await book.update_one({"_id": earning().id}, {"$set": {"postings.0.amount": Int64(1_000)}})
    LEDGER_WATCH.strays.clear()
    answer = await api.post(BRIEF, {"id": earning().id}, token=token_for("citizen", "alice"))
    assert answer.code == "INTERNAL"
    assert "1000" not in str(answer.body)
    assert (await api.post(BRIEF, {"id": transfer().id}, token=token_for("citizen", "alice"))).result is not None


async def test_the_published_days_are_listed_and_served(api: Api, services: Services, clock: ManualClock) -> None:
    empty = await api.http.get(ROOTS)
    assert empty.json() == {"version": 1, "programme": "zhenjiang", "keys": {}, "days": []}
    await seal(services)
    first = local_date(clock.now(), services.programme.zone)
    running = await api.http.get(f"{ROOTS}{first}.json")
    clock.advance(timedelta(days=1))
    assert await services.sealing.seal_due() == 1
    second = first + timedelta(days=1)
    listing = (await api.http.get(ROOTS)).json()
    assert listing["days"] == [
        {"date": str(first), "final": True, "first": 1, "last": 1},
        {"date": str(second), "final": False, "first": 2, "last": 2},
    ]
    final = await api.http.get(f"{ROOTS}{first}.json")
    assert listing["keys"] == final.json()["keys"]
    for response, is_final in ((running, False), (final, True)):
        assert response.status_code == 200
        assert verify_day(response.content).holds
        assert response.json()["final"] is is_final
        assert response.headers["content-type"] == "application/json"
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.headers["cache-control"] == (
            "public, max-age=31536000, immutable" if is_final else "public, max-age=15"
        )
    assert running.headers["etag"] != final.headers["etag"]
    # Nothing that happens later changes a final day.
    await services.ledger.post(earning("later"))
    clock.advance(timedelta(days=1))
    assert await services.sealing.seal_due() == 1
    assert (await api.http.get(f"{ROOTS}{first}.json")).content == final.content


async def test_published_days_are_asked_for_by_tag_and_head(api: Api, services: Services, clock: ManualClock) -> None:
    await seal(services)
    for path in (ROOTS, f"{ROOTS}{local_date(clock.now(), services.programme.zone)}.json"):
        whole = await api.http.get(path)
        tag = whole.headers["etag"]
        for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            same = await api.http.get(path, headers={"if-none-match": given})
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
            assert same.headers["cache-control"] == whole.headers["cache-control"]
        assert (await api.http.get(path, headers={"if-none-match": '"other"'})).status_code == 200
        head = await api.http.head(path)
        assert (head.status_code, head.headers["etag"], head.content) == (200, tag, b"")
        assert head.headers["content-length"] == str(len(whole.content))
        assert (await api.http.post(path)).status_code == 405


@pytest.mark.parametrize(
    "name",
    [
        "2026-11-20.json",
        "0001-01-01.json",
        "2026-02-30.json",
        "2026-1-1.json",
        "2026-11-21",
        "20261121.json",
        "2026-W47-6.json",
        "٢٠٢٦-11-21.json",
        "x.json",
        "..%2f..%2fetc%2fpasswd",
        "%00.json",
        "a" * 2_000,
    ],
)
async def test_a_day_without_blocks_or_no_day_at_all_is_not_found(name: str, api: Api, services: Services) -> None:
    await seal(services)
    response = await api.http.get(f"{ROOTS}{name}")
    assert response.status_code == 404
    if "%2f" not in name:
        assert response.json() == {"code": "NOT_FOUND", "message": "no block was made on that date"}


async def test_the_list_of_days_has_a_slash(api: Api) -> None:
    answer = await api.http.get(ROOTS.rstrip("/"))
    assert (answer.status_code, answer.headers["location"]) == (308, ROOTS)


async def test_damaged_roots_are_not_served(api: Api, services: Services, clock: ManualClock) -> None:
    await seal(services)
    path = f"{ROOTS}{local_date(clock.now(), services.programme.zone)}.json"
    blocks: Any = services.database.raw["ledger_blocks"]
    await blocks.delete_many({})
    LEDGER_WATCH.strays.clear()
    answer = await api.http.get(path)
    assert (answer.status_code, answer.json()["code"], answer.headers["cache-control"]) == (500, "INTERNAL", "no-store")
