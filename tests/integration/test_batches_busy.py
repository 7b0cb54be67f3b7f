"""Whoever changes what a worker needs without pause, and batches that are broken, keep nobody else waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.kernel.ids import CitizenId
from backend.ledger.model import citizen_owner
from backend.market.pooling.collections import BATCHES, CONSENTS
from backend.market.pooling.model import BatchStage, Benefit
from tests.factories import citizen
from tests.integration.batching import ANN, Floor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.kernel.clock import ManualClock
    from backend.ledger.model import Transaction
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

KILO = 1_000_000


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    return await Floor(services, clock).open("alice", "bob", "carol")


def hammered(floor: Floor, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Let the citizen's authorisation change whenever a worker is about to rely on it, while ``on``."""
    real, switch = floor.services.ledger.open_within, {"on": True}
    owner, consents = citizen_owner(CitizenId(name)), floor.services.database.raw[CONSENTS.name]

    async def open_within(tx: Tx, transactions: Sequence[Transaction]) -> Any:
        sheet = await real(tx, transactions)
        if switch["on"] and any(owner in transaction.owners for transaction in transactions):
            await consents.update_one({"citizen": name, "current": True}, {"$inc": {"used": Int64(1)}})
        return sheet

    monkeypatch.setattr(floor.services.ledger, "open_within", open_within)
    return switch


async def test_who_is_too_busy_is_passed_over_and_comes_again(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    floor.pooling.gathering.acts_of_one = 2
    await floor.rides("alice", 1, 2, 3)
    await floor.rides("bob", 4)
    await floor.rides("carol", 5)
    batch = await floor.begun()
    other = await floor.begun()
    await floor.pooling.batches.cancel(ANN, other.code, "x", key=floor.key())
    switch = hammered(floor, "alice", monkeypatch)
    await floor.pooling.batches.work_off()
    waiting = await floor.get(batch.code)
    # All others have given, and the batch behind was called off: only alice is missing.
    assert (waiting.stage, waiting.totals.mg, [place.citizen for place in waiting.passed]) == (
        BatchStage.GATHERING,
        9 * KILO,
        ["alice"],
    )
    assert (await floor.get(other.code)).stage is BatchStage.CANCELLED
    assert await floor.audit() == []
    switch["on"] = False
    await floor.pooling.batches.work_off()
    ended = await floor.get(batch.code)
    assert (ended.stage, ended.passed, ended.totals.acts) == (BatchStage.GATHERED, (), 5)
    assert await floor.quantified("alice", "bob", "carol") == [0, 0, 0]
    assert await floor.audit() == []


async def test_broken_batches_keep_none_behind_them_waiting(floor: Floor) -> None:
    await floor.ride("alice", 10)
    broken = [await floor.begun() for _ in range(21)]
    raw = floor.services.database.raw
    change = {"update": BATCHES.name, "bypassDocumentValidation": True}
    for number, batch in enumerate(broken):
        wrong = {"stage": "ISSUING"} if number % 2 else {"totals": "none"}
        await raw.command({**change, "updates": [{"q": {"_id": batch.code}, "u": {"$set": wrong}}]})
    last = await floor.begun()
    await floor.pooling.batches.work_off()
    ended = await floor.get(last.code)
    assert (ended.stage, ended.totals.acts) == (BatchStage.GATHERED, 1)
    findings = await floor.audit()
    # What cannot be read is named, and ends no audit.
    assert sum("totals" not in finding and "cannot be read" in finding for finding in findings) == 11
    assert any(finding.startswith(f"batch {broken[0].code}: cannot be read") for finding in findings)
    assert f"batch {broken[1].code}: is ISSUING, and its verdict is missing" in findings


async def test_agreeing_to_what_is_in_force_makes_no_new_version(floor: Floor) -> None:
    consents, raw = floor.pooling.consents, floor.services.database.raw[CONSENTS.name]
    before = await raw.find({"citizen": "alice"}).to_list(None)
    for _ in range(2):
        await consents.authorise(citizen(), None, Benefit.FEN, key="agree-0001")
    assert await raw.find({"citizen": "alice"}).to_list(None) == before
    await consents.authorise(citizen(), None, Benefit.POINTS, key="agree-0002")
    assert await raw.count_documents({"citizen": "alice"}) == 2
    await consents.withdraw(citizen(), key="agree-0003")
    # What is no longer in force is agreed to anew.
    await consents.authorise(citizen(), None, Benefit.POINTS, key="agree-0004")
    assert await raw.count_documents({"citizen": "alice"}) == 3
