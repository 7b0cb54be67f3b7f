"""From a gathered batch to credits: withdrawal, calling off, verdicts, issuance, origins; whatever dies on the way."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.ledger.model import citizen_owner, credit_asset, pool_owner
from backend.market.pooling import errors
from backend.market.pooling.collections import BATCHES, CONTRIBUTIONS, POOLED_ACTS
from backend.market.pooling.model import (
    ActsSummary,
    BatchStage,
    KindSum,
)
from backend.market.serials.model import SerialRange
from backend.market.serials.store import find_owners, list_ranges
from tests.factories import citizen
from tests.integration.batching import ANN, BEN, REPORT, VERA, Floor, off, share_off

if TYPE_CHECKING:
    from backend.actions.model import Action
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

KILO = 1_000_000


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    return await Floor(services, clock).open("alice", "bob", "carol")


async def test_issuance_gives_everybody_exactly_their_grams(floor: Floor) -> None:
    batch, acts = await floor.tonne()
    await floor.verified(batch.code, off(acts["bob"][0].id))
    issued = await floor.issued(batch.code)
    assert issued.issue is not None
    assert (issued.issue.grams, issued.issue.residual_mg) == (1_000_000, 346 * KILO)
    assert (issued.issue.issuer, issued.issue.issued_at) == ("staff:ben", floor.clock.now())
    assert issued.issue.methodologies == ("SZ-TRAVEL-2021",)
    [alice], [bob], [carol] = [await floor.contributions(name) for name in ("alice", "bob", "carol")]
    # 800, 296 and 250 of 1,346 kg: 594,353.64, 219,910.85 and 185,735.51 grams; remainders go to bob and alice.
    grams = [one.pool_g + one.own_g for one in (alice, bob, carol)]
    assert grams == [594_354, 219_911, 185_735]
    # Ten kilograms of each are the pool's, in the proportion in which they gave.
    own = [594_354 * 790 // 800, 219_911 * 290 // 300, 185_735 * 240 // 250]
    assert await floor.credits(batch.code, "alice", "bob", "carol") == own == [alice.own_g, bob.own_g, carol.own_g]
    pool = [total - mine for total, mine in zip(grams, own, strict=True)]
    assert await floor.pool(batch.code) == (346 * KILO, sum(pool) * 1_000)
    assert [one.pool.run for one in (alice, bob, carol) if one.pool] == [
        SerialRange(1, pool[0]),
        SerialRange(pool[0] + 1, pool[0] + pool[1]),
        SerialRange(pool[0] + pool[1] + 1, sum(pool)),
    ]
    assert alice.own is not None
    assert alice.own.run == SerialRange(sum(pool) + 1, sum(pool) + own[0])
    assert (bob.deducted_mg, bob.residual_mg) == (4 * KILO, 296 * KILO - 219_911_000)
    credit, database = credit_asset(batch.code), floor.services.database
    assert await list_ranges(database, pool_owner(batch.code), credit, limit=9) == (SerialRange(1, sum(pool)),)
    owners = await find_owners(database, credit, [1, sum(pool), sum(pool) + 1, 1_000_000, 1_000_001])
    assert owners == [
        pool_owner(batch.code),
        pool_owner(batch.code),
        citizen_owner(alice.citizen),
        citizen_owner(carol.citizen),
        None,
    ]
    transaction = await floor.services.ledger.find_transaction(alice.own.transaction)
    assert transaction is not None
    assert transaction.key == f"issue:{batch.code}:alice:own"
    assert transaction.cause == {
        "batch": batch.code,
        "contribution": alice.id,
        "issuer": transaction.cause["issuer"],
        "report": REPORT.hash,
        "content": issued.content,
        "credit": credit,
        "serials": str(alice.own.run),
    }
    assert "ben" not in transaction.cause["issuer"]
    shares = [share async for share in floor.pooling.batches.stream_shares(batch.code)]
    assert [(name, share) for name, share, _ in shares] == [
        ("alice", pool[0]),
        ("bob", pool[1]),
        ("carol", pool[2]),
    ]
    assert not await floor.pooling.batches.is_under_way(batch.code)
    assert await floor.audit() == []


@pytest.mark.parametrize("steps", range(1, 8))
async def test_a_worker_that_dies_while_issuing_issues_nothing_twice(
    floor: Floor, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after the book is written: whatever did not commit is done again, the same."""
    floor.pooling.issuing.shares_at_once = 1
    batch, _ = await floor.tonne()
    await floor.verified(batch.code)
    await floor.pooling.batches.issue(BEN, batch.code, key=floor.key())
    real, calls = floor.services.ledger.open_within, itertools.count(1)

    async def dying(*args: Any, **given: Any) -> Any:
        sheet = await real(*args, **given)
        if next(calls) == steps:
            raise OSError
        return sheet

    monkeypatch.setattr(floor.services.ledger, "open_within", dying)
    await floor.pooling.batches.work_off()
    assert await floor.audit() == []
    await floor.pooling.batches.work_off()
    ended = await floor.get(batch.code)
    assert ended.stage is BatchStage.ISSUED
    assert sum(await floor.credits(batch.code, "alice", "bob", "carol")) + (await floor.pool(batch.code))[
        1
    ] // 1_000 == (1_000_000)
    assert await floor.audit() == []


async def test_four_workers_at_once_do_everything_once(floor: Floor) -> None:
    floor.pooling.issuing.shares_at_once = 1
    for name in ("alice", "bob", "carol"):
        await floor.rides(name, 300, 300)
    begun = await floor.begun()
    for stage in (BatchStage.GATHERING, BatchStage.ISSUING):
        batch = await floor.get(begun.code)
        if stage is BatchStage.ISSUING:
            await floor.verified(batch.code)
            batch = await floor.pooling.batches.issue(BEN, batch.code, key=floor.key())
        await asyncio.gather(*(floor.pooling.batches._go_on(batch) for _ in range(4)))
    assert (await floor.get(begun.code)).stage is BatchStage.ISSUED
    assert await floor.audit() == []


async def test_less_than_a_tonne_is_not_verified_but_rejected(floor: Floor) -> None:
    batch, acts = await floor.tonne()
    await floor.sampled(batch.code)
    verifying = floor.pooling.verifying
    for adjustments, grams in (([off(acts["alice"][0].id)], 750_000), ([share_off(10_000)], 0)):
        asked = verifying.verify(VERA, batch.code, REPORT, adjustments, key=floor.key())
        error = await floor.refused(asked, errors.BatchTooSmallError)
        assert error.message() == (
            f"{grams} g would be left, which is less than a tonne: nothing could be issued; reject the batch"
        )
    # Neither verdict stands: another may, or everything goes back.
    await verifying.reject(VERA, batch.code, "不足一吨", key=floor.key())
    await floor.pooling.batches.work_off()
    assert await floor.quantified("alice", "bob", "carol") == [800 * KILO, 300 * KILO, 250 * KILO]
    assert await floor.audit() == []


async def test_a_key_takes_its_effect_once_and_another_payload_conflicts(floor: Floor) -> None:
    await floor.rides("alice", 999, 2)
    batches, verifying = floor.pooling.batches, floor.pooling.verifying
    batch = await floor.begun(key="open-0001")
    assert await floor.begun(key="open-0001") == batch
    await floor.refused(floor.begun(BEN, key="bad"), InvalidInputError)
    await floor.pooling.batches.work_off()
    drawn = await verifying.draw_sample(VERA, batch.code, 1, key="draw-0001")
    assert await verifying.draw_sample(VERA, batch.code, 1, key="draw-0001") == drawn
    verified = await verifying.verify(VERA, batch.code, REPORT, [], key="verify-0001")
    assert await verifying.verify(VERA, batch.code, REPORT, [], key="verify-0001") == verified
    issued = await batches.issue(BEN, batch.code, key="issue-0001")
    assert await batches.issue(BEN, batch.code, key="issue-0001") == issued
    other = await floor.begun()
    for asked in (
        floor.begun(key="open-0001", project=Text("别的", "another")),
        verifying.draw_sample(VERA, batch.code, 2, key="draw-0001"),
        verifying.verify(VERA, batch.code, REPORT._replace(name="other"), [], key="verify-0001"),
        batches.issue(BEN, other.code, key="issue-0001"),
    ):
        await floor.refused(asked, IdempotencyConflictError)


async def test_what_was_not_issued_has_no_origin(floor: Floor) -> None:
    batch, _ = await floor.tonne()
    await floor.verified(batch.code)
    assert await floor.pooling.origins.trace_serial(credit_asset(batch.code), 1) is None


async def test_every_gram_leads_to_an_act_that_stands(floor: Floor) -> None:
    batch, acts = await floor.tonne()
    await floor.verified(batch.code, off(acts["bob"][0].id))
    await floor.issued(batch.code)
    credit, origins = credit_asset(batch.code), floor.pooling.origins
    [alice], [bob], _ = [await floor.contributions(name) for name in ("alice", "bob", "carol")]
    first = await origins.trace_serial(credit, 1)
    assert first is not None
    assert alice.pool is not None
    assert [(one.act.action, one.mg) for one in first.origins] == [(acts["alice"][0].id, 1_000)]
    assert (first.contribution, first.issued) == (alice, alice.pool.transaction)
    # Bob's first act was taken off: his grams come from the second.
    assert bob.pool is not None
    assert bob.own is not None
    for serial, share in ((bob.pool.run.first, bob.pool), (bob.own.run.last, bob.own)):
        found = await origins.trace_serial(credit, serial)
        assert found is not None
        assert [(one.act.action, one.act.earned, one.act.pooled) for one in found.origins] == [
            (acts["bob"][1].id, _earned(acts["bob"][1]), bob.transfers[0])
        ]
        assert found.issued == share.transaction
    assert await origins.trace_serial(credit, 1_000_001) is None
    assert await origins.trace_serial(credit, 0) is None
    assert await origins.trace(citizen("alice"), credit, 1) == first
    assert await origins.trace(citizen("bob"), credit, 1) is None
    assert await origins.trace(ANN, credit, 1) == first
    everything = await origins.summarise_acts(credit, (SerialRange(1, 1_000_000),))
    # 594,354 g of alice's lie in her first act alone.
    assert everything == ActsSummary(
        kinds=(KindSum("tram", 3, 1_000_000),), citizens=3, acts=3, first=floor.moment(), last=floor.moment(60)
    )
    two = await origins.summarise_acts(
        credit, (SerialRange(1, 1), SerialRange(bob.own.run.first, bob.own.run.first + 1))
    )
    assert two == ActsSummary((KindSum("tram", 2, 3),), 2, 2, floor.moment(), floor.moment(60))
    assert await origins.summarise_acts(credit, (SerialRange(1_000_001, 1_000_002),)) is None
    assert await origins.summarise_acts(credit_asset("no-such-batch"), (SerialRange(1, 2),)) is None


def _earned(action: Action) -> Any:
    assert action.settlement is not None
    return action.settlement.transaction


async def test_forgeries_are_found(floor: Floor) -> None:
    batch, _ = await floor.tonne()
    await floor.verified(batch.code, share_off(10))
    await floor.issued(batch.code)
    assert await floor.audit() == []
    raw = floor.services.database.raw
    for collection, query, change in (
        (POOLED_ACTS.name, {"citizen": "bob", "number": 2}, {"$inc": {"mg": 1}}),
        (POOLED_ACTS.name, {"citizen": "bob", "number": 2}, {"$set": {"earned": "tx_other"}}),
        (CONTRIBUTIONS.name, {"citizen": "bob"}, {"$inc": {"residual_mg": 1}}),
        (CONTRIBUTIONS.name, {"citizen": "bob"}, {"$inc": {"pool_mg": 1}}),
        (CONTRIBUTIONS.name, {"citizen": "bob"}, {"$inc": {"own.last": 1}}),
        (CONTRIBUTIONS.name, {"citizen": "bob"}, {"$set": {"stage": "WITHDRAWN"}}),
        (CONTRIBUTIONS.name, {"citizen": "bob"}, {"$set": {"transfers": []}}),
        (BATCHES.name, {"_id": batch.code}, {"$inc": {"totals.mg": 1}}),
        (BATCHES.name, {"_id": batch.code}, {"$inc": {"verdict.adjustments.0.mg": 1}}),
        ("actions", {"citizen": "bob"}, {"$set": {"citizen": "carol"}}),
    ):
        before = await raw[collection].find_one(query)
        assert before is not None
        await raw[collection].update_one({"_id": before["_id"]}, change)
        assert await floor.audit() != [], change
        await raw[collection].replace_one({"_id": before["_id"]}, before)
    await raw[CONTRIBUTIONS.name].delete_one({"citizen": "carol"})
    assert await floor.audit() != []
