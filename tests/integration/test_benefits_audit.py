"""What the audit of benefits finds: forged, unreadable and missing records, and benefits that no record tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.kernel.ids import CitizenId
from backend.ledger.model import (
    CNY,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
)
from backend.market.benefits.documents import PAYMENTS, ROUNDS
from backend.market.pooling.collections import CONTRIBUTIONS
from backend.market.pooling.model import Benefit
from tests.integration.returning import CODE, POOL, Pool, corrupt

if TYPE_CHECKING:
    from backend.runtime import Services

pytestmark = pytest.mark.anyio


@pytest.fixture
def pool(services: Services) -> Pool:
    """A batch that is not issued yet."""
    return Pool(services)


FORGERIES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a part of more fen": (PAYMENTS.name, {"citizen": "alice"}, {"fen": Int64(34)}, "the shares give alice 33 fen"),
    "a part of somebody else": (PAYMENTS.name, {"citizen": "alice"}, {"citizen": "zoe"}, "the shares give alice"),
    "a part as points": (PAYMENTS.name, {"citizen": "alice"}, {"choice": "POINTS"}, "the shares give alice"),
    "more points": (PAYMENTS.name, {"citizen": "bob"}, {"points": Int64(500)}, "gave 500 points"),
    "another carry": (PAYMENTS.name, {"citizen": "bob"}, {"carry": Int64(1)}, "carries 1, not"),
    "another transaction": (PAYMENTS.name, {"citizen": "bob"}, {"transaction": "tx_0"}, "another transaction"),
    "a round of more fen": (ROUNDS.name, {"stage": "DONE"}, {"fen": Int64(101)}, "the shares give"),
    "a round that says it paid more": (ROUNDS.name, {"stage": "DONE"}, {"paid.fen": Int64(99)}, "says that it paid"),
    "another rate": (ROUNDS.name, {"stage": "DONE"}, {"points_per_yuan": Int64(2_500)}, "not what its benefit payment"),
    "another proposer": (ROUNDS.name, {"stage": "DONE"}, {"proposed_by": "staff:zoe"}, "not what its benefit payment"),
    "another approver": (ROUNDS.name, {"stage": "DONE"}, {"decided_by": "staff:zoe"}, "not what its benefit payment"),
    "another salt": (ROUNDS.name, {"stage": "DONE"}, {"salt": "x"}, "not what its benefit payment"),
    "one who did both": (ROUNDS.name, {"stage": "DONE"}, {"decided_by": "staff:fay"}, "approved by staff:fay"),
    "approved by nobody": (ROUNDS.name, {"stage": "DONE"}, {"decided_by": None}, "was decided on at"),
    "a round that runs again": (ROUNDS.name, {"stage": "DONE"}, {"stage": "RUNNING"}, "is RUNNING and was done at"),
    "a round that is open still": (ROUNDS.name, {"stage": "DONE"}, {"open_batch": CODE}, "is open where its stage"),
    "a payment of no round": (PAYMENTS.name, {"citizen": "alice"}, {"round": "round_0"}, "is of no round"),
    "a round that was rejected": (
        ROUNDS.name,
        {"stage": "DONE"},
        {"stage": "REJECTED", "open_batch": None},
        "the shares give nothing more",
    ),
    "a share of more grams": (CONTRIBUTIONS.name, {"citizen": "bob"}, {"pool.last": Int64(10**13)}, "the shares give"),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_the_audit_finds_a_forged_record(pool: Pool, name: str) -> None:
    await pool.issue({"alice": 1, "bob": (1, Benefit.POINTS), "carol": 1})
    await pool.sell(100)
    done = await pool.returned(99)
    assert (done.paid.fen, await pool.findings()) == (66, [])
    collection, query, change, finding = FORGERIES[name]
    assert await pool.services.database.update_one(collection, query, {"$set": change})
    assert any(finding in one for one in await pool.findings())


UNREADABLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "the stage of a round": (ROUNDS.name, {"stage": "OVER"}, "benefit_rounds"),
    "the grams of a round": (ROUNDS.name, {"grams": "many"}, "benefit_rounds"),
    "the choice of a payment": (PAYMENTS.name, {"choice": "GOLD"}, "benefit_payments"),
    "the fen of a payment": (PAYMENTS.name, {"fen": "3"}, "benefit_payments"),
    "the moment of a payment": (PAYMENTS.name, {"at": "today"}, "benefit_payments"),
    "the choice of a share": (CONTRIBUTIONS.name, {"benefit": "GOLD"}, "has shares that cannot be read"),
    "the serials of a share": (CONTRIBUTIONS.name, {"pool.last": "x"}, "has shares that cannot be read"),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_the_audit_names_what_it_cannot_read(pool: Pool, name: str) -> None:
    await pool.issue({"alice": 1, "bob": (1, Benefit.POINTS), "carol": 1})
    await pool.sell(100)
    await pool.returned(99)
    collection, change, finding = UNREADABLE[name]
    await corrupt(pool.services, collection, {}, change)
    assert any(finding in one for one in await pool.findings())


async def test_the_audit_finds_payments_that_are_gone_and_benefits_without_one(pool: Pool) -> None:
    await pool.issue({"alice": 1, "carol": 1})
    await pool.sell(100)
    await pool.returned(10)
    purse = account_of(POOL, CNY)
    mine = account_of(citizen_owner(CitizenId("alice")), CNY)
    stray = Posting(from_account=purse, to_account=mine, asset=CNY, amount=5)
    await pool.services.ledger.post(Transaction(key="stray", kind=TransactionKind.BENEFIT, postings=(stray,)))
    [finding] = await pool.findings()
    assert "is of no benefit payment" in finding
    assert await pool.services.database.delete_one(PAYMENTS.name, {"citizen": "carol"})
    findings = await pool.findings()
    assert any("did not pay carol 5 fen" in one for one in findings)
    assert len([one for one in findings if "is of no benefit payment" in one]) == 2
