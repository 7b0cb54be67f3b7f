"""What the audit finds in batches that somebody changed past the doors."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.market.pooling.collections import BATCHES, CONSENTS, CONTRIBUTIONS, POOLED_ACTS
from tests.factories import citizen
from tests.integration.batching import Floor, off, share_off

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.kernel.clock import ManualClock
    from backend.market.pooling.model import Batch
    from backend.runtime import Services

KILO = 1_000_000


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    return await Floor(services, clock).open("alice", "bob", "carol")


async def forged(floor: Floor, collection: str, query: Mapping[str, Any], change: Mapping[str, Any]) -> list[str]:
    """What the audit finds with the change, which is taken back."""
    raw = floor.services.database.raw
    before = await raw[collection].find_one(query)
    assert before is not None
    update = {"q": {"_id": before["_id"]}, "u": change}
    await raw.command({"update": collection, "updates": [update], "bypassDocumentValidation": True})
    found = await floor.audit()
    await raw[collection].replace_one({"_id": before["_id"]}, before, bypass_document_validation=True)
    return found


async def verified(floor: Floor) -> Batch:
    batch, acts = await floor.tonne()
    return await floor.verified(batch.code, off(acts["bob"][0].id), share_off(10))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"stage": "GATHERED"}, "is GATHERED, and its verdict is there"),
        ({"stage": "CANCELLED"}, "is CANCELLED, and its ending is missing"),
        ({"stage": "ISSUED"}, "is ISSUED, and its issuance is missing"),
        ({"stage": "GATHERED", "verdict": None}, "its pool holds 1344654000 mg, 1350000000 mg should be left"),
        ({"sample": None}, "the verdict is on no sample of what it is about"),
        ({"number": Int64(7)}, "its code should end with"),
        ({"vintage": Int64(2007)}, "its code should end with"),
        ({"gathered_at": None}, "is VERIFIED, and was never gathered"),
        ({"opener": "staff:vera"}, "opening, verifying and issuing it was done by staff:vera, staff:vera"),
        ({"verdict.verifier": "staff:zoe"}, "is another in the book"),
        ({"verdict.report_hash": "cd" * 32}, "is another in the book"),
        ({"verdict.content": "cd" * 32}, "its acts have the hash"),
        ({"verdict.shares": "cd" * 32}, "its contributions have the hash"),
        ({"verdict.adjustments.0.reason": "UNCERTAINTY"}, "is another in the book"),
        ({"verdict.adjustments.0.mg": Int64(5 * KILO)}, "is another in the book"),
        ({"verdict.adjustments": []}, "deductions of batch"),
        ({"verdict.at": "yesterday", "verdict.adjustments": "none"}, "cannot be read"),
    ],
)
async def test_a_verified_batch_is_what_its_verdict_said(floor: Floor, change: Mapping[str, Any], found: str) -> None:
    batch = await verified(floor)
    assert await floor.audit() == []
    findings = await forged(floor, BATCHES.name, {"_id": batch.code}, {"$set": change})
    assert any(found in finding for finding in findings), findings
    assert all(batch.code in finding or "contribution" in finding for finding in findings), findings
    assert await floor.audit() == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"stage": "VERIFIED"}, "is VERIFIED, and its issuance is there"),
        ({"stage": "ISSUING"}, "is ISSUING, and its end of the issuance is there"),
        ({"issue.issued_at": None}, "is ISSUED, and its end of the issuance is missing"),
        ({"issue": None}, "is ISSUED, and its issuance is missing"),
        ({"verdict": None}, "is ISSUED, and its verdict is missing"),
        ({"issue.issuer": "staff:vera"}, "opening, verifying and issuing it was done by staff:ann, staff:vera"),
        ({"issue.issuer": "staff:zoe"}, "is another in the book"),
        ({"issue.grams": Int64(2_000_000)}, "cannot be laid out"),
    ],
)
async def test_an_issued_batch_is_what_the_book_has(floor: Floor, change: Mapping[str, Any], found: str) -> None:
    batch = await verified(floor)
    await floor.issued(batch.code)
    assert await floor.audit() == []
    findings = await forged(floor, BATCHES.name, {"_id": batch.code}, {"$set": change})
    assert any(found in finding for finding in findings), findings


MOVED = {"$inc": {"pool_mg": Int64(-1_000), "own_mg": Int64(1_000)}}


async def test_grams_moved_between_pool_and_citizen_are_found_in_every_stage(floor: Floor) -> None:
    batch, _ = await floor.tonne()
    query = {"batch": batch.code, "citizen": "carol"}
    [carol] = await floor.contributions("carol")
    expected = f"contribution {carol.id}: 9999000 mg of it are the pool's, 10000000 mg are below the threshold"
    assert await forged(floor, CONTRIBUTIONS.name, query, MOVED) == [expected]
    await floor.verified(batch.code)
    [finding] = await forged(floor, CONTRIBUTIONS.name, query, MOVED)
    assert finding.startswith(f"batch {batch.code}: its contributions have the hash")


async def test_who_never_agreed_gave_nothing(floor: Floor) -> None:
    await floor.tonne()
    [given] = await floor.contributions("carol")
    place, raw = f"contribution {given.id}", floor.services.database.raw[CONSENTS.name]
    lacking, late = f"{place}: no authorisation was in force when it was given", given.given_at + timedelta(hours=1)
    early, carol = given.given_at - timedelta(hours=1), {"citizen": "carol"}
    assert await forged(floor, CONSENTS.name, carol, {"$set": {"since": late}}) == [lacking]
    assert await forged(floor, CONSENTS.name, carol, {"$set": {"until": early}}) == [lacking]
    assert await forged(floor, CONSENTS.name, carol, {"$set": {"scenarios": ["cycling"]}}) == [lacking]
    benefit = await forged(floor, CONTRIBUTIONS.name, carol, {"$set": {"benefit": "POINTS"}})
    assert benefit == [f"{place}: its benefit POINTS was never chosen"]
    await raw.delete_one(carol)
    assert await floor.audit() == [lacking]


async def test_what_was_given_back_is_told_as_it_was(floor: Floor) -> None:
    batch, _ = await floor.tonne()
    await floor.pooling.batches.withdraw(citizen("carol"), batch.code, key=floor.key())
    [given] = await floor.contributions("carol")
    place, carol = f"contribution {given.id}", {"citizen": "carol"}
    assert await forged(floor, CONTRIBUTIONS.name, carol, {"$inc": {"own_mg": Int64(1)}}) == [
        f"{place}: tells 1 acts and 250000001 mg, its transfers moved 1 and 250000000 mg"
    ]
    assert await forged(floor, CONTRIBUTIONS.name, carol, {"$set": {"vintage": Int64(2007)}}) == [
        f"{place}: is of 2007, its batch is of {batch.vintage}"
    ]


@pytest.mark.parametrize(
    "change", [{"tier": "DEVICE"}, {"evidence": "forged://x"}, {"rule.version": Int64(9)}, {"number": Int64(7)}]
)
async def test_what_the_verifier_is_shown_of_an_act_is_the_acts_own(floor: Floor, change: Mapping[str, Any]) -> None:
    batch, acts = await floor.tonne()
    assert (await forged(floor, POOLED_ACTS.name, {"_id": acts["carol"][0].id}, {"$set": change})) != []
    await floor.verified(batch.code)
    assert await floor.audit() == []


@pytest.mark.parametrize(
    ("collection", "change"),
    [
        (CONTRIBUTIONS.name, {"benefit": "GOLD"}),
        (CONTRIBUTIONS.name, {"transfers": 7}),
        (POOLED_ACTS.name, {"mg": "much"}),
        (CONSENTS.name, {"benefit": "GOLD"}),
        (BATCHES.name, {"since": "yesterday"}),
        (BATCHES.name, {"stage": "SOLD"}),
        ("actions", {"status": "GOLD"}),
    ],
)
async def test_a_document_that_cannot_be_read_is_a_finding_that_names_it(
    floor: Floor, collection: str, change: Mapping[str, Any]
) -> None:
    await verified(floor)
    query = {} if collection == BATCHES.name else {"citizen": "carol"}
    name = (await floor.services.database.raw[collection].find_one(query))["_id"]
    findings = await forged(floor, collection, query, {"$set": change})
    assert any(name in finding and "read" in finding for finding in findings), findings
