"""No place of any document can be changed, removed, repeated or reordered without the auditor naming it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.ledger.model import TransactionKind
from tests.conftest import LEDGER_WATCH
from tests.integration.whole_book import KINDS, Forgery, audit_acts, forgeries, paths, shape_of, write_whole_book
from tests.simulation.chance import IS_NIGHTLY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from backend.kernel.clock import ManualClock
    from backend.mongo.client import Document
    from backend.runtime import Services

COLLECTIONS = (
    "ledger_pages",
    "ledger_transactions",
    "ledger_unsealed",
    "ledger_blocks",
    "ledger_leaves",
    "ledger_keys",
    "ledger_days",
    "actions",
    "claims",
    "cap_totals",
)
# What no other document repeats: when, by whom and from which file an action was recorded, when it was refused, and the
# random part of an announcement's name.
UNVOUCHED = {
    ("actions", "recorded_at"),
    ("actions", "recorded_by"),
    ("actions", "backfill"),
    ("actions", "import_row"),
}


@pytest.fixture
async def book(services: Services, clock: ManualClock) -> AsyncIterator[Services]:
    await write_whole_book(services, clock)
    audit = await audit_acts(services)
    assert audit.findings == []
    assert (audit.blocks, audit.waiting > 3, audit.actions) == (3, True, 4)
    yield services
    LEDGER_WATCH.strays.clear()


async def stored(services: Services, collection: str) -> list[Document]:
    return await services.database.raw[collection].find().sort("_id", 1).to_list(None)


def one_of_each(collection: str, documents: list[Document]) -> list[Document]:
    """One document of each kind and status; at night all of them."""
    kinds = {
        (document.get("kind"), bool(document.get("copy_of")), document.get("status")): document
        for document in documents
    }
    return documents if IS_NIGHTLY or collection != "ledger_transactions" else list(kinds.values())


async def put(services: Services, collection: str, document: Document) -> None:
    await services.database.raw[collection].insert_one(document, bypass_document_validation=True)


def is_named(collection: str, findings: list[str], *documents: Document) -> bool:
    """Whether a finding names the place of one of these versions of a document."""
    names = set()
    for document in documents:
        name = str(document["_id"])
        names.add(f"block {name}:" if collection in ("ledger_blocks", "ledger_leaves") else name)
        if collection == "ledger_leaves" and isinstance(document.get("transactions"), list):
            names |= {item.hex() for item in document["transactions"] if isinstance(item, bytes)}
        if collection == "ledger_unsealed" and isinstance(document.get("transactions"), list):
            names |= {str(item) for item in document["transactions"]}
        if collection == "ledger_transactions":
            # Of the last thing that happened to an owner, the page may be what tells.
            names.add(f"page {document.get('owner')}:")
    return any(name in finding for name in names for finding in findings)


def all_forgeries(collection: str, documents: list[Document], seen: set[Any]) -> Iterator[tuple[Document, Forgery]]:
    """Every kind of place once, changed in several ways, at night in every way."""
    for document in documents:
        for path, value in paths(document):
            shape = shape_of(collection, document, path)
            if shape in seen or (collection, path[0]) in UNVOUCHED:
                continue
            seen.add(shape)
            ways = list(forgeries(document, path, value))
            # By day another value, and in turn one of the other ways.
            chosen = ways if IS_NIGHTLY else ways[:1] + ways[1:][len(seen) % max(1, len(ways) - 1) :][:1]
            yield from ((document, forgery) for forgery in chosen)


def is_unvouched(collection: str, document: Document, forgery: Forgery) -> bool:
    """Whether nothing else says what stood there."""
    if collection == "ledger_unsealed" and forgery.path == ("_id",):
        return forgery.way == "a number"
    if collection == "ledger_unsealed" and forgery.path == ("transactions",):
        # A block is in the order of ids, whatever the order of announcing.
        return forgery.way == "in another order"
    return (
        collection == "actions"
        and document["status"] != "CREDITED"
        and forgery.path == ("settlement", "at")
        and forgery.way == "a millisecond later"
    )


async def test_everything_happened(book: Services) -> None:
    documents = await stored(book, "ledger_transactions")
    assert {document["kind"] for document in documents} == KINDS
    statuses = {document["status"] for document in await stored(book, "actions")}
    assert statuses == {"CREDITED", "REJECTED", "PENDING"}
    assert any(document["holds"] for document in await stored(book, "ledger_pages"))
    assert [document["final"] for document in await stored(book, "ledger_days")] == [True, True, False]


@pytest.mark.parametrize("collection", COLLECTIONS)
async def test_every_change_of_a_document_is_named(book: Services, collection: str) -> None:
    missed: list[Any] = []
    tried = 0
    for document, forgery in all_forgeries(collection, await stored(book, collection), set()):
        if is_unvouched(collection, document, forgery):
            continue
        await book.database.raw[collection].delete_one({"_id": document["_id"]})
        try:
            await put(book, collection, forgery.document)
        except Exception as error:  # noqa: BLE001 - an index refuses this forgery
            missed += [] if "duplicate key" in str(error) else [(forgery.path, forgery.way, error)]
        else:
            tried += 1
            findings = (await audit_acts(book)).findings
            if not is_named(collection, findings, document, forgery.document):
                missed.append((forgery.path, forgery.way, document["_id"], findings[:3]))
            await book.database.raw[collection].delete_one({"_id": forgery.document["_id"]})
        await put(book, collection, document)
    assert missed == []
    assert tried > 3
    assert (await audit_acts(book)).findings == []


@pytest.mark.parametrize("collection", COLLECTIONS)
async def test_every_missing_document_is_named(book: Services, collection: str) -> None:
    missed = []
    for document in one_of_each(collection, await stored(book, collection)):
        if collection == "actions" and document["status"] in ("PENDING", "REJECTED"):
            continue  # nothing else knows of an act that earned nothing
        await book.database.raw[collection].delete_one({"_id": document["_id"]})
        findings = (await audit_acts(book)).findings
        if not is_named(collection, findings, document):
            missed.append((document["_id"], findings[:3]))
        await put(book, collection, document)
    assert missed == []


@pytest.mark.parametrize("collection", COLLECTIONS)
async def test_every_document_too_many_is_named(book: Services, collection: str) -> None:
    missed = []
    for document in one_of_each(collection, await stored(book, collection)):
        twin = {**document, "_id": f"{document['_id']}0" if isinstance(document["_id"], str) else document["_id"] + 100}
        if collection == "ledger_transactions":
            twin["sequence"] = None if document["sequence"] is None else type(document["sequence"])(1_000)
        if collection == "ledger_leaves":
            twin["transactions"] = [item[::-1] for item in document["transactions"]]
        await put(book, collection, twin)
        findings = (await audit_acts(book)).findings
        if not is_named(collection, findings, twin):
            missed.append((twin["_id"], findings[:3]))
        await book.database.raw[collection].delete_one({"_id": twin["_id"]})
    assert missed == []


async def test_two_blocks_changing_places_are_named(book: Services) -> None:
    blocks = await stored(book, "ledger_blocks")
    for collection in ("ledger_blocks", "ledger_leaves"):
        found = await stored(book, collection)
        raw = book.database.raw[collection]
        await raw.delete_many({})
        swapped = [{**found[0], "_id": found[1]["_id"]}, {**found[1], "_id": found[0]["_id"]}, *found[2:]]
        for document in swapped:
            await put(book, collection, document)
        findings = (await audit_acts(book)).findings
        for block in blocks[:2]:
            assert any(finding.startswith(f"block {block['_id']}: ") for finding in findings)
        await raw.delete_many({})
        for document in found:
            await put(book, collection, document)
    assert (await audit_acts(book)).findings == []


async def test_a_consistent_lie_about_the_past_is_found_by_the_seal(book: Services) -> None:
    """Whoever changes when a sealed gift happened, in all its documents, still cannot change the leaf."""
    raw = book.database.raw["ledger_transactions"]
    [home] = [d for d in await stored(book, "ledger_transactions") if d["key"] == "pay-1" and d["copy_of"] is None]
    await raw.update_many({"key": "pay-1"}, {"$set": {"opens": home["opens"] + timedelta(days=1)}})
    findings = (await audit_acts(book)).findings
    assert findings == [f"transaction {home['_id']}: is not what block 1 sealed"]


async def test_points_lent_without_need_are_named(book: Services) -> None:
    documents = await stored(book, "ledger_transactions")
    [lent] = [document for document in documents if document["kind"] == TransactionKind.LEND]
    raw = book.database.raw["ledger_transactions"]
    more = lent["postings"][0]["amount"] + 1
    await raw.update_one({"_id": lent["_id"]}, {"$set": {"postings.0.amount": type(lent["sequence"])(more)}})
    findings = (await audit_acts(book)).findings
    assert any(f"transaction {lent['_id']}: lends what tx_" in finding for finding in findings)
