"""Settlements and payouts under audit: they stand on nobody's page, and a forged one is found all the same."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.audit import follow_books, list_alerts
from backend.ledger import rules
from backend.ledger.documents import transaction_documents
from backend.ledger.model import Terms, Transaction, TransactionKind
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import account, donation, earning, payout, posting, replay, settlement, shop, spending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backend.kernel.clock import ManualClock
    from backend.mongo.client import Document
    from backend.runtime import Services

SETTLED, PAID = settlement(), payout()


@pytest.fixture
async def book(services: Services) -> AsyncIterator[Services]:
    """Earned, spent, given, settled and paid out; all of it sealed."""
    for transaction in (earning(), spending(amount=10), donation(amount=5), SETTLED, PAID):
        await services.ledger.post(transaction)
    await services.sealing.seal_now()
    assert (await replay(services)).findings == []
    yield services
    # The falsifications went past the ledger on purpose.
    LEDGER_WATCH.strays.clear()


async def findings(services: Services) -> list[str]:
    return (await replay(services)).findings


async def test_a_sound_book_is_summed_up_alike_by_both_auditors(book: Services) -> None:
    audit = await replay(book)
    followed = await follow_books(book)
    assert (audit.findings, audit.transactions, followed.findings) == ([], 5, 0)
    sums = {
        "programme:issuance": -100,
        "citizen:*:points": 85,
        "programme:donations": 5,
        "programme:redeemed": 10,
        "programme:rewards": -90,
        "programme:commission": 3,
        "programme:bank": 87,
    }
    assert {name: amount for name, amount in audit.balances.items() if amount} == sums
    assert {name: amount for name, amount in followed.balances.items() if amount} == sums


def _more(document: Document, number: int) -> Document:
    document["postings"][number]["amount"] += 1
    document["postings"][number]["amount"] = Int64(document["postings"][number]["amount"])
    return document


def _with(document: Document, **changes: Any) -> Document:
    return {**document, **changes}


def _to_other(document: Document) -> Document:
    """All of it another merchant's, cause included."""
    for moved in document["postings"]:
        for end in ("from", "to"):
            moved[end] = moved[end].replace("merchant:shop", "merchant:other")
    return _with(document, cause={**document["cause"], "merchant": "other"})


ONE_MERCHANT = "settle-1: a SETTLE is of the one merchant whom its cause names"
# How the settlement is falsified, and one thing that is said of it.
FORGED: dict[str, tuple[Callable[[Document], Document | None], str]] = {
    "points": (lambda d: _more(d, 0), "payload is "),
    "fen": (lambda d: _more(d, 1), "payload is "),
    "commission": (lambda d: _more(d, 2), "payload is "),
    "another's": (_to_other, "payload is "),
    "of nobody": (lambda d: _with(d, cause={"settlement": "settle-1"}), ONE_MERCHANT),
    "of another by name": (lambda d: _with(d, cause={**d["cause"], "merchant": "other"}), ONE_MERCHANT),
    "a day later": (lambda d: _with(d, at=d["at"].replace(year=2031)), "is not what block 1 sealed"),
    "a transfer": (lambda d: _with(d, kind="TRANSFER"), "a TRANSFER cannot move from merchant:shop:points to "),
    "of another owner": (lambda d: _with(d, owner="merchant:other"), "owner is merchant:other, the replay gives "),
    "on a citizen's page": (lambda d: _with(d, owner="citizen:alice", sequence=Int64(4)), "whom it does not touch"),
    "taken out of lots": (
        lambda d: _with(d, postings=[{**d["postings"][0], "lots": []}, *d["postings"][1:]]),
        "postings is ",
    ),
    "gone": (lambda _: None, "is not in the book and stands in block 1"),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_settlement_is_found(book: Services, name: str) -> None:
    falsify, said = FORGED[name]
    raw = book.database.raw["ledger_transactions"]
    document = await raw.find_one({"_id": SETTLED.id})
    forged = falsify(copy.deepcopy(document))  # type: ignore[arg-type]
    assert forged != document
    await raw.delete_one({"_id": SETTLED.id})
    if forged is not None:
        await raw.insert_one(forged, bypass_document_validation=True)
    found = await findings(book)
    assert any(one.startswith(f"transaction {SETTLED.id}: ") and said in one for one in found), found
    await follow_books(book)
    # What touches no page stands under its payer, which no leaf tells: that is for the whole audit.
    assert bool(await list_alerts(book)) is (name != "of another owner")


def _document(transaction: Transaction, clock: ManualClock) -> Document:
    """What the book would have written."""
    terms = Terms(clock.now(), clock.now())
    [document, *_] = transaction_documents(transaction, rules.apply(transaction, {}, terms), terms)
    return document


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        (settlement("more", points=1, fen=1_000, commission=0), "stands in no block and does not wait for one"),
        (payout("more", fen=1), "stands in no block and does not wait for one"),
        (
            replace(settlement("more"), postings=(posting(shop(), shop("other"), 1),)),
            "more: a SETTLE cannot move from merchant:shop:points to merchant:other:points",
        ),
    ],
    ids=["a settlement", "a payout", "between merchants"],
)
async def test_what_nobody_settled_is_found(book: Services, clock: ManualClock, forged: Transaction, said: str) -> None:
    """Whole in itself, with its own id and payload: it stands in no block and does not wait for one."""
    await book.database.raw["ledger_transactions"].insert_one(_document(forged, clock))
    found = await findings(book)
    assert any(one.startswith(f"transaction {forged.id}: ") and said in one for one in found), found


async def test_points_that_a_merchant_gave_a_citizen_are_found(book: Services, clock: ManualClock) -> None:
    """Written past the book as a gift on the citizen's page, the page turned with it."""
    prize = Transaction(key="prize", kind=TransactionKind.TRANSFER, postings=(posting(shop(), account("bob"), 10),))
    await book.database.raw["ledger_transactions"].insert_one(_document(prize, clock))
    said = "prize: a TRANSFER cannot move from merchant:shop:points to citizen:bob:points"
    assert f"transaction {prize.id}: {said}" in await findings(book)


async def test_auditing_changes_nothing(book: Services) -> None:
    before = await dump(book)
    await findings(book)
    assert await dump(book) == before
