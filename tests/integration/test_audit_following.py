"""Following the book block by block: each once, whatever it finds; what it raises is alert, log line and gauge."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64
from structlog.testing import capture_logs

from backend.audit import follow_books, followed_books, list_alerts
from backend.ledger.audit.follow_store import Followed
from backend.metrics import metrics_text
from backend.stack import environment
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import adjustment, owner, transfer
from tests.integration.whole_book import audit_acts, write_whole_book

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.kernel.clock import ManualClock
    from backend.mongo.client import Document
    from backend.runtime import Services
    from backend.settings import Settings


@pytest.fixture
async def book(services: Services, clock: ManualClock) -> AsyncIterator[Services]:
    await write_whole_book(services, clock)
    yield services
    LEDGER_WATCH.strays.clear()


async def homes(services: Services) -> list[Document]:
    return await services.database.raw["ledger_transactions"].find({"copy_of": None}).sort("_id", 1).to_list(None)


async def change(services: Services, collection: str, query: dict[str, Any], update: dict[str, Any]) -> None:
    raw = services.database.raw[collection]
    result = await raw.update_one(query, update, bypass_document_validation=True)
    assert result.modified_count == 1


async def test_a_sound_book_is_followed_to_its_end_and_summed_up(book: Services) -> None:
    await book.sealing.seal_now()
    before = await dump(book)
    with capture_logs() as logs:
        followed = await follow_books(book)
    audit = await audit_acts(book)
    assert [entry for entry in logs if entry["log_level"] == "error"] == []
    assert (followed.height, followed.transactions) == (4, audit.transactions)
    assert {name: n for name, n in followed.balances.items() if n} == {n: a for n, a in audit.balances.items() if a}
    assert (followed.findings, followed.waiting, followed.at) == (0, 0, book.clock.now())
    changed = {name for name, found in (await dump(book)).items() if found != before.get(name)}
    assert changed == {"audit_state"}


async def test_a_block_counts_once_however_often_it_is_followed(book: Services) -> None:
    first = await follow_books(book)
    assert await follow_books(book) == first
    runs = await asyncio.gather(*(follow_books(book) for _ in range(4)))
    assert {run.transactions for run in runs} == {first.transactions}
    waiting = (await audit_acts(book)).waiting
    assert (first.height, first.waiting, waiting > 3) == (3, waiting, True)
    await book.sealing.seal_now()
    runs = await asyncio.gather(*(follow_books(book) for _ in range(4)))
    assert (await followed_books(book)).transactions == first.transactions + waiting


async def test_nothing_sealed_is_nothing_followed(services: Services) -> None:
    followed = await follow_books(services)
    assert followed == Followed(at=services.clock.now())
    assert await followed_books(services) == followed


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("lines.0.balance", "balance of points is"),
        ("lines.0.held", "held of points is"),
        ("lines.0.debt", "debt of points is"),
        ("lines.0.change", "change of points is"),
        ("postings.0.amount", "is another than its content gives"),
        ("sequence", "no transaction has number"),
    ],
)
async def test_a_changed_transaction_is_raised_once_and_the_next_blocks_are_followed(
    book: Services, field: str, problem: str
) -> None:
    [spent] = [document for document in await homes(book) if document["key"] == "spend-1"]
    await change(book, "ledger_transactions", {"_id": spent["_id"]}, {"$inc": {field: Int64(1_000)}})
    with capture_logs() as logs:
        followed = await follow_books(book)
    alerts = await list_alerts(book)
    assert followed.height == 3
    assert len(alerts) == followed.findings > 0
    assert any(problem in alert for alert in alerts)
    raised = [f"{entry['place']}: {entry['problem']}" for entry in logs if entry["log_level"] == "error"]
    assert sorted(raised) == sorted(alerts)
    with capture_logs() as logs:
        await follow_books(book)
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_a_transaction_and_a_copy_that_are_gone_are_named(book: Services) -> None:
    [gift] = [document for document in await homes(book) if document["key"] == "pay-1"]
    raw = book.database.raw["ledger_transactions"]
    await raw.delete_one({"copy_of": gift["_id"]})
    assert (await follow_books(book)).height == 3
    assert f"transaction {gift['_id']}@{owner('bob')}: is missing" in await list_alerts(book)
    await book.database.raw["audit_state"].delete_many({})
    await raw.delete_one({"_id": gift["_id"]})
    await follow_books(book)
    assert f"transaction {gift['_id']}: is not in the book and stands in block 1" in await list_alerts(book)


async def test_a_page_unlike_its_last_line_is_named(book: Services) -> None:
    await book.sealing.seal_now()
    await change(book, "ledger_pages", {"_id": owner("dora")}, {"$inc": {"balances.0.posted": Int64(1)}})
    await follow_books(book)
    alerts = await list_alerts(book)
    assert f"page {owner('dora')}: its lots and held lots are 8 points, its balance is 9" in alerts
    assert any(alert.startswith(f"page {owner('dora')}: points is") for alert in alerts)


@pytest.mark.parametrize(
    ("collection", "update", "problem"),
    [
        ("ledger_blocks", {"$set": {"root": "0" * 64}}, "its hash is not that of its header"),
        ("ledger_blocks", {"$set": {"signature": "0" * 128}}, "its signature does not hold"),
        ("ledger_blocks", {"$unset": {"previous": ""}}, "'previous'"),
        ("ledger_leaves", {"$set": {"leaves": b"\0" * 32}}, "transactions and 32 bytes of leaves"),
        ("ledger_leaves", {"$set": {"transactions": "none"}}, "are no binary data"),
    ],
)
async def test_a_broken_block_is_named_and_the_next_ones_are_followed(
    book: Services, collection: str, update: dict[str, Any], problem: str
) -> None:
    await change(book, collection, {"_id": 2}, update)
    assert (await follow_books(book)).height == 3
    assert any(alert.startswith("block 2: ") and problem in alert for alert in await list_alerts(book))


async def test_missing_and_rewritten_blocks_are_named(book: Services) -> None:
    await book.database.raw["ledger_blocks"].delete_one({"_id": 2})
    assert (await follow_books(book)).height == 3
    assert "block 2: is missing" in await list_alerts(book)
    await change(book, "ledger_blocks", {"_id": 3}, {"$set": {"hash": "0" * 64}})
    await follow_books(book)
    assert "block 3: is another than it was" in await list_alerts(book)


async def test_the_gauges_tell_how_far_it_came(book: Services) -> None:
    assert b"tanhui_audit_height 0.0" in await metrics_text(book)
    followed = await follow_books(book)
    text = (await metrics_text(book)).decode()
    assert followed.at is not None
    for line in (
        "tanhui_audit_height 3.0",
        "tanhui_audit_findings 0.0",
        f"tanhui_ledger_unsealed {float((await audit_acts(book)).waiting)}",
        f'tanhui_ledger_balance{{account="programme:issuance"}} {float(followed.balances["programme:issuance"])}',
    ):
        assert line in text.splitlines()
    [ran] = [line for line in text.splitlines() if line.startswith("tanhui_audit_last_run_timestamp_seconds ")]
    assert int(float(ran.split()[1])) == int(followed.at.timestamp())


async def test_the_command_follows_and_tells_in_json(services: Services, settings: Settings) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "backend.cli", "ledger", "audit", *words],
            env={**environment(settings), "COLUMNS": "500"},
            capture_output=True,
            text=True,
            check=False,
        )

    await services.ledger.post(adjustment(50))
    await services.ledger.post(transfer())
    await services.sealing.seal_now()
    sound = await asyncio.to_thread(run, "--since-last", "--json")
    figures = json.loads(sound.stdout)
    assert (sound.returncode, figures["height"], figures["transactions"], figures["clean"]) == (0, 1, 2, True)
    [gift] = [document for document in await homes(services) if document["key"] == "pay-1"]
    await change(services, "ledger_transactions", {"_id": gift["_id"]}, {"$inc": {"lines.0.balance": Int64(1)}})
    whole = await asyncio.to_thread(run, "--json")
    found = json.loads(whole.stdout)
    assert (whole.returncode, found["clean"], found["transactions"]) == (1, False, 2)
    assert any(gift["_id"] in finding for finding in found["findings"])
    LEDGER_WATCH.strays.clear()
