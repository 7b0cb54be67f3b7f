"""What the audit of money finds: forged records, records that are gone, and what no record tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.ledger.model import BANK, CNY, Posting, Transaction, TransactionKind, account_of
from backend.market.funds.documents import DEPOSITS, ENTERPRISES, PAYOUTS, REFERENCES
from tests.integration.banking import ALICES, DAY, FRED, open_bank

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.integration.banking import Bank

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bank(services: Services) -> Bank:
    """The bank's desk."""
    return await open_bank(services)


async def _paid_and_open(bank: Bank) -> None:
    """Two deposits, one of them rejected; a payout paid, one under way, one asked for, one turned down; two firms."""
    await bank.deposited()
    wrong = await bank.proposed()
    await bank.services.market.deposits.reject(FRED, wrong.id, "x", key=bank.key())
    await bank.paid(fen=100)
    await bank.settling(fen=200)
    await bank.requested(fen=300)
    turned_down = await bank.requested(fen=400)
    await bank.services.market.payouts.reject(FRED, turned_down.id, "x", key=bank.key())
    await bank.approved(1)
    await bank.registered(2)


FORGERIES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a deposit of more": (DEPOSITS.name, {"stage": "APPROVED"}, {"fen": Int64(10_001)}, "is not what"),
    "a deposit of somebody else": (DEPOSITS.name, {"stage": "APPROVED"}, {"owner": "citizen:bob"}, "is not what"),
    "a deposit with another reference": (
        DEPOSITS.name,
        {"stage": "APPROVED"},
        {"entry.reference": "X"},
        "is told by a deposit or payout alone",
    ),
    "an approved deposit that was rejected": (
        DEPOSITS.name,
        {"stage": "APPROVED"},
        {"stage": "REJECTED"},
        "is of no deposit or payout",
    ),
    "a rejected deposit that was approved": (
        DEPOSITS.name,
        {"stage": "REJECTED"},
        {"stage": "APPROVED"},
        "is told by a deposit or payout alone",
    ),
    "a payout of less": (PAYOUTS.name, {"stage": "PAID"}, {"fen": Int64(99)}, "is not what"),
    "a payout of somebody else": (PAYOUTS.name, {"stage": "PAID"}, {"owner": "citizen:bob"}, "is not what"),
    "a paid one that is under way": (
        PAYOUTS.name,
        {"stage": "PAID"},
        {"stage": "SETTLING"},
        "is under way and holds nothing",
    ),
    "one under way that was paid": (PAYOUTS.name, {"stage": "SETTLING"}, {"stage": "PAID"}, "still holds 200 fen"),
    "one asked for that was cancelled": (
        PAYOUTS.name,
        {"stage": "REQUESTED"},
        {"stage": "CANCELLED"},
        "still holds 300 fen",
    ),
    "one turned down that is asked for": (
        PAYOUTS.name,
        {"stage": "REJECTED"},
        {"stage": "REQUESTED"},
        "is under way and holds nothing",
    ),
    "one that lapsed": (PAYOUTS.name, {"stage": "REJECTED"}, {"stage": "LAPSED"}, "though its payout has ended"),
    "another proposer": (DEPOSITS.name, {"stage": "APPROVED"}, {"proposed_by": "staff:zoe"}, "is not what"),
    "another approver": (DEPOSITS.name, {"stage": "APPROVED"}, {"decided_by": "staff:zoe"}, "is not what"),
    "another salt": (DEPOSITS.name, {"stage": "APPROVED"}, {"salt": "x"}, "is not what"),
    "one who did both": (DEPOSITS.name, {"stage": "APPROVED"}, {"decided_by": "staff:fay"}, "decided on by staff:fay"),
    "one who turned down their own": (
        DEPOSITS.name,
        {"stage": "REJECTED"},
        {"proposed_by": "staff:fred"},
        "decided on by staff:fred",
    ),
    "a deposit that nobody approved": (DEPOSITS.name, {"stage": "APPROVED"}, {"decided_by": None}, "nobody decided"),
    "a deposit that waits again": (DEPOSITS.name, {"stage": "REJECTED"}, {"stage": "PROPOSED"}, "waits and was"),
    "a deposit of no enterprise": (DEPOSITS.name, {"stage": "APPROVED"}, {"owner": "enterprise:x"}, "no enterprise: x"),
    "another who recorded it": (PAYOUTS.name, {"stage": "PAID"}, {"settled_by": "staff:zoe"}, "is not what"),
    "another who approved it": (PAYOUTS.name, {"stage": "PAID"}, {"decided_by": "staff:zoe"}, "is not what"),
    "one who paid alone": (PAYOUTS.name, {"stage": "PAID"}, {"decided_by": "staff:fay"}, "decided on by staff:fay"),
    "one paid by nothing": (PAYOUTS.name, {"stage": "PAID"}, {"transaction": None}, "names None as what paid it"),
    "one paid without a record": (
        PAYOUTS.name,
        {"stage": "PAID"},
        {"entry": None},
        "is of no deposit or payout",
    ),
    "another payee": (PAYOUTS.name, {"stage": "REQUESTED"}, {"sealed": "eA=="}, "is not what"),
    "a payee shown otherwise": (PAYOUTS.name, {"stage": "REQUESTED"}, {"masked.name": "李**"}, "is not what"),
    "one recorded that was not": (
        PAYOUTS.name,
        {"stage": "REQUESTED"},
        {"stage": "SETTLING"},
        "is SETTLING and its transfer was recorded at None",
    ),
    "one not recorded that was": (
        PAYOUTS.name,
        {"stage": "SETTLING"},
        {"stage": "REQUESTED"},
        "is REQUESTED and its transfer was recorded",
    ),
    "one recorded by nobody": (
        PAYOUTS.name,
        {"stage": "SETTLING"},
        {"settled_by": None},
        "its transfer was recorded at",
    ),
    "one under way that was decided on": (
        PAYOUTS.name,
        {"stage": "SETTLING"},
        {"decided_by": "staff:fred"},
        "is SETTLING and was decided on",
    ),
    "one cancelled by somebody else": (
        PAYOUTS.name,
        {"stage": "REJECTED"},
        {"stage": "CANCELLED"},
        "was cancelled by staff:fred, not by its owner",
    ),
    "an enterprise that was never let in": (
        ENTERPRISES.name,
        {"stage": "PROPOSED"},
        {"stage": "APPROVED"},
        "is APPROVED, its steps leave it PROPOSED",
    ),
    "one let in by who registered it": (
        ENTERPRISES.name,
        {"stage": "APPROVED"},
        {"steps.1.actor": "staff:root"},
        "was registered and decided on by staff:root",
    ),
    "one resumed that was not suspended": (
        ENTERPRISES.name,
        {"stage": "APPROVED"},
        {"steps.1.step": "RESUME"},
        "was PROPOSED when staff:rita took the step RESUME",
    ),
    "one that was never registered": (ENTERPRISES.name, {"stage": "APPROVED"}, {"steps": []}, "was never registered"),
    "one that begins otherwise": (
        ENTERPRISES.name,
        {"stage": "APPROVED"},
        {"steps.0.step": "SUSPEND"},
        "was never registered",
    ),
    "another credit code": (
        ENTERPRISES.name,
        {"stage": "APPROVED"},
        {"credit_code": "91321100MA0000001X"},
        "which is none",
    ),
    "a credit code that is free again": (
        ENTERPRISES.name,
        {"stage": "APPROVED"},
        {"held_code": None},
        "is not stored as",
    ),
    "one that is held for less": (PAYOUTS.name, {"stage": "REQUESTED"}, {"fen": Int64(299)}, "holds 300 fen"),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_the_audit_finds_a_forged_record(bank: Bank, name: str) -> None:
    await _paid_and_open(bank)
    assert await bank.findings() == []
    collection, query, change, finding = FORGERIES[name]
    assert await bank.services.database.update_one(collection, query, {"$set": change})
    assert any(finding in one for one in await bank.findings())


UNREADABLE: list[tuple[str, dict[str, Any]]] = [
    (DEPOSITS.name, {"entry.value_date": "2026-11-22x"}),
    (DEPOSITS.name, {"stage": "SUSPENDED"}),
    (DEPOSITS.name, {"fen": "all"}),
    (DEPOSITS.name, {"entry": None}),
    (PAYOUTS.name, {"stage": "DONE"}),
    (PAYOUTS.name, {"masked": {}}),
    (PAYOUTS.name, {"expires_at": "tomorrow"}),
    (PAYOUTS.name, {"owner": 5}),
    (ENTERPRISES.name, {"steps": [{"at": "now"}]}),
    (ENTERPRISES.name, {"stage": "SOLD"}),
    (REFERENCES.name, {"of": 5}),
]


@pytest.mark.parametrize(("collection", "change"), UNREADABLE)
async def test_the_audit_names_what_it_cannot_read(bank: Bank, collection: str, change: dict[str, Any]) -> None:
    await _paid_and_open(bank)
    update = {"q": {}, "u": {"$set": change}}
    done = await bank.services.database.raw.command(
        {"update": collection, "updates": [update], "bypassDocumentValidation": True}
    )
    assert done["nModified"] == 1
    named = [one for one in await bank.findings() if one.startswith(f"{collection} ")]
    assert len(named) == 1
    assert ("is not of the form" in named[0]) is ("value_date" not in str(change))


@pytest.mark.parametrize("collection", [DEPOSITS, PAYOUTS, REFERENCES])
async def test_the_audit_finds_a_record_that_is_gone(bank: Bank, collection: Any) -> None:
    await _paid_and_open(bank)
    query = {"stage": {"$ne": "REJECTED"}} if collection is not REFERENCES else {}
    assert await bank.services.database.delete_one(collection.name, query)
    assert any("alone" in one or "of no deposit or payout" in one for one in await bank.findings())


async def test_the_audit_finds_what_came_from_the_bank_or_is_held_for_it_without_a_record(
    bank: Bank, clock: ManualClock
) -> None:
    await bank.deposited()
    purse = account_of(ALICES, CNY)
    moved = Posting(from_account=BANK, to_account=purse, asset=CNY, amount=5)
    await bank.services.ledger.post(Transaction(key="stray-in", kind=TransactionKind.DEPOSIT, postings=(moved,)))
    back = Posting(from_account=purse, to_account=BANK, asset=CNY, amount=5)
    held = Transaction(key="stray-out", kind=TransactionKind.HOLD, postings=(back,), expires_at=clock.now() + DAY)
    await bank.services.ledger.post(held)
    findings = await bank.findings()
    assert len(findings) == 2
    assert all("is of no deposit or payout" in one for one in findings)
