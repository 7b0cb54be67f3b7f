"""The auditor finds every single falsification and names the place; the command's exit code says whether it did."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.audit import audit_books
from backend.kernel.ids import CitizenId, derived_id
from backend.ledger import rules
from backend.ledger.documents import TRANSACTIONS, page_from_document, page_to_document, transaction_documents
from backend.ledger.model import Terms, citizen_owner
from backend.stack import environment
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import bus_ride, citizen, earning, transfer
from tests.integration.conftest import ALL_SHARDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backend.mongo.client import Document
    from backend.runtime import Services
    from backend.settings import Settings

ALICE = citizen_owner(CitizenId("alice"))


@dataclass(frozen=True)
class Books:
    """Books that add up: three rides settled, a transfer on two pages; and how to falsify them."""

    services: Services

    async def documents(self, collection: str) -> list[Document]:
        return await self.services.database.raw[collection].find().sort("_id", 1).to_list(None)

    async def replace(self, collection: str, document: Document | None, *, of: str) -> None:
        """Put this document, or none, in the place of the one with that id, past every validator."""
        raw = self.services.database.raw[collection]
        await raw.delete_one({"_id": of})
        if document is not None:
            await raw.insert_one(document, bypass_document_validation=True)

    async def findings(self) -> list[str]:
        return (await audit_books(self.services)).findings

    async def try_each(self, collection: str, falsify: Callable[[Document], list[Document | None]]) -> None:
        """Falsify each document of the collection in each way, one at a time: each time its place is named."""
        for document in await self.documents(collection):
            for forged in falsify(copy.deepcopy(document)):
                assert forged != document
                await self.replace(collection, forged, of=document["_id"])
                findings = await self.findings()
                assert any(document["_id"] in finding for finding in findings), (document, forged, findings)
                await self.replace(collection, document, of=document["_id"])
        assert await self.findings() == []


@pytest.fixture
async def books(services: Services) -> AsyncIterator[Books]:
    for name, ref in (("alice", "one"), ("alice", "two"), ("bob", "three")):
        await services.actions.record(citizen(name), bus_ride(ref), key=f"key-{ref}-0001")
    await services.settling.settle(ALL_SHARDS)
    await services.ledger.post(transfer(amount=30))
    assert (await audit_books(services)).findings == []
    yield Books(services)
    # The falsifications went past the ledger on purpose.
    LEDGER_WATCH.strays.clear()


def changed(document: Document, *path: str | int, to: Any) -> Document:
    """A copy with another value at that place."""
    forged = copy.deepcopy(document)
    inner: Any = forged
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return forged


def more(document: Document, *path: str | int) -> Document:
    """A copy with one unit more at that place."""
    value: Any = document
    for step in path:
        value = value[step]
    return changed(document, *path, to=Int64(value + 1))


async def test_pages(books: Books) -> None:
    def falsify(page: Document) -> list[Document | None]:
        amounts = [more(page, "balances", number, "posted") for number in range(len(page["balances"]))]
        other = changed(page, "balances", 0, "asset", to="co2e.quantified")
        fewer = changed(page, "balances", to=page["balances"][1:])
        lots = [more(page, "lots", number, "amount") for number in range(len(page["lots"]))]
        debts = [more(page, "balances", 0, name) for name in ("held", "debt")]
        times = [changed(page, name, to=page["at"] + timedelta(days=1)) for name in ("at", "due_at")]
        return [None, more(page, "version"), more(page, "shard"), other, fewer, *amounts, *lots, *debts, *times]

    await books.try_each("ledger_pages", falsify)


async def test_a_page_nobody_earned(books: Books) -> None:
    page = (await books.documents("ledger_pages"))[0]
    for owner in ("citizen:aaa", "citizen:zzz", "citizen:alicf"):
        await books.replace("ledger_pages", {**page, "_id": owner}, of=owner)
        assert await books.findings() == [f"page {owner}: no transaction explains it"]
        await books.replace("ledger_pages", None, of=owner)


async def test_transactions_and_their_copies(books: Books) -> None:
    def falsify(document: Document) -> list[Document | None]:
        amounts = [more(document, "postings", number, "amount") for number in range(len(document["postings"]))]
        lines = [
            more(document, "lines", number, name)
            for number in range(len(document["lines"]))
            for name in ("change", "balance")
        ]
        texts = [
            changed(document, "payload", to="0" * 64),
            changed(document, "key", to="another"),
            changed(document, "cause", to={**document["cause"], "rule": "R-X"}),
            changed(document, "owner", to="citizen:carol"),
            changed(document, "postings", 0, "to", to="citizen:carol:points"),
        ]
        return [None, changed(document, "sequence", to=Int64(99)), *amounts, *lines, *texts]

    assert {bool(document["copy_of"]) for document in await books.documents(TRANSACTIONS.name)} == {True, False}
    await books.try_each(TRANSACTIONS.name, falsify)


async def test_a_transaction_forged_with_its_page_is_explained_by_no_action(books: Books) -> None:
    [page] = [page for page in await books.documents("ledger_pages") if page["_id"] == ALICE]
    forged = earning(key="action:act_forged", amount=500)
    known = page_from_document(page)
    now = books.services.clock.now()
    applied = rules.apply(forged, {ALICE: known}, Terms(now, now + timedelta(days=700)))
    [document] = transaction_documents(forged, applied, Terms(now, now + timedelta(days=700)))
    await books.replace(TRANSACTIONS.name, document, of=document["_id"])
    findings = await books.findings()
    assert any(finding.startswith(f"page {ALICE}: balances is") for finding in findings)
    await books.replace("ledger_pages", page_to_document(applied.pages[ALICE]), of=ALICE)
    unannounced, unexplained = await books.findings()
    assert unannounced == f"transaction {forged.id}: stands in no block and does not wait for one"
    assert unexplained.startswith(f"transaction {forged.id} for action:act_forged at ")
    assert unexplained.endswith(": no credited action explains it (1×)")


async def test_claims(books: Books) -> None:
    def falsify(claim: Document) -> list[Document | None]:
        return [None, changed(claim, "action", to="act_other"), changed(claim, "citizen", to="carol")]

    await books.try_each("claims", falsify)
    forged = {"_id": "claim_x", "action": "act_other", "citizen": "bob", "tier": "DECLARED"}
    await books.replace("claims", forged, of="claim_x")
    assert await books.findings() == [
        "claim claim_x of action act_other of bob (DECLARED): no credited action explains it (1×)"
    ]


async def test_cap_counters(books: Books) -> None:
    def falsify(counter: Document) -> list[Document | None]:
        return [None, *(more(counter, name) for name in ("count", "quantity", "reduction_mg"))]

    await books.try_each("cap_totals", falsify)


async def test_actions(books: Books) -> None:
    def falsify(action: Document) -> list[Document | None]:
        settlement = [more(action, "settlement", name) for name in ("reduction_mg", "points", "credited_quantity")]
        return [
            None,
            *settlement,
            more(action, "quantity"),
            changed(action, "status", to="REJECTED"),
            changed(action, "settlement", "asset", to="co2e.quantified"),
            changed(action, "settlement", "rule", "version", to=Int64(2)),
            changed(action, "settlement", "transaction", to="tx_other"),
            changed(action, "citizen", to="carol"),
            changed(action, "ref", to="another"),
            changed(action, "tier", to="OPERATOR"),
            changed(action, "tier", to="RUMOUR"),
            changed(action, "kind", to="bus"),
            changed(action, "kind", to="teleport"),
        ]

    await books.try_each("actions", falsify)


async def test_an_action_credited_without_the_book(books: Books) -> None:
    action = (await books.documents("actions"))[0]
    forged = {**action, "ref": "forged", "_id": derived_id("act", action["citizen"], action["source"], "forged")}
    await books.replace("actions", forged, of=forged["_id"])
    findings = await books.findings()
    assert any(forged["_id"] in finding and "credited action without it" in finding for finding in findings)


async def test_many_differences_are_told_up_to_a_hundred(books: Books) -> None:
    page = (await books.documents("ledger_pages"))[0]
    await books.services.database.raw["ledger_pages"].insert_many(
        [{**page, "_id": f"citizen:ghost-{number:03}"} for number in range(150)]
    )
    assert len(await books.findings()) == 100


async def test_the_command_exits_0_on_clean_books_and_1_naming_the_place(books: Books, settings: Settings) -> None:
    def audit() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "backend.cli", "ledger", "audit"],
            env={**environment(settings), "COLUMNS": "500"},
            capture_output=True,
            text=True,
            check=False,
        )

    before = await dump(books.services)
    clean = await asyncio.to_thread(audit)
    assert (clean.returncode, clean.stderr.strip()) == (0, "")
    assert "audited 4 transactions, 7 postings, 2 owners' pages, 3 credited actions" in clean.stdout
    assert await dump(books.services) == before
    page = (await books.documents("ledger_pages"))[0]
    await books.replace("ledger_pages", more(page, "balances", 0, "posted"), of=page["_id"])
    falsified = await asyncio.to_thread(audit)
    assert falsified.returncode == 1
    assert f"page {page['_id']}: balances is" in falsified.stderr
