"""Acts that better evidence replaces while they are pooled, and the split at the threshold when something leaves."""

from __future__ import annotations

import asyncio
import csv
import io
import zipfile
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.actions.model import ActionRequest, Decision, Reason, Status
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import BusyError
from backend.kernel.ids import ActionId, CitizenId
from backend.kernel.units import Unit
from backend.ledger.model import POINTS, QUANTIFIED, TransactionKind, citizen_owner
from backend.market.pooling.collections import POOLED_ACTS
from backend.market.pooling.model import BatchStage, ContributionStage
from backend.rules.model import EvidenceTier
from tests.factories import ADMIN, citizen
from tests.integration.batching import ANN, KG, RATE_MG, REPORT, VERA, Floor
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import TRAM_RULE, begin, published

if TYPE_CHECKING:
    from backend.actions.model import Action
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

KILO = 1_000_000
RITA = Principal(PrincipalKind.STAFF, "rita", frozenset({StaffRole.REVIEWER}))
TRIP = {"attributes": {"trip_id": "T-1"}}


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    """People whose devices are believed in full, until an operator knows better."""
    floor = await Floor(services, clock).open("alice", "bob", "carol")
    formula = {"family": "PER_QUANTITY", "rate": f"{RATE_MG}/1"}
    wording = {**TRAM_RULE, "formula": formula, "minimum": 1, "maximum": 100_000, "full_credit_tier": "DEVICE"}
    rule = await begin(services, wording, key=floor.key())
    await published(services, rule, valid_from=clock.now() - timedelta(days=9))
    return floor


async def better(floor: Floor, name: str, kg: int) -> ActionId:
    """The operator's record of the same trip, which waits for a person."""
    request = ActionRequest(
        kind="tram",
        quantity=kg * KG,
        unit=Unit.METRE,
        occurred_at=floor.moment(),
        source="tram",
        ref=f"better-{floor.key()}",
        citizen=CitizenId(name),
        tier=EvidenceTier.OPERATOR,
        **TRIP,
    )
    action = await floor.services.actions.record(ADMIN, request, key=floor.key())
    await floor.services.settling.settle(ALL_SHARDS)
    waiting = await floor.act(action.id)
    assert (waiting.status, waiting.reason) == (Status.REVIEW, Reason.CLAIMED_BY_WEAKER)
    return action.id


async def approve(floor: Floor, action: ActionId) -> Action:
    await floor.services.reviewing.review(RITA, action, Decision.APPROVE, "运营商记录为准", key=floor.key())
    await floor.services.settling.settle(ALL_SHARDS)
    return await floor.act(action)


async def debt(floor: Floor, name: str) -> int:
    page = await floor.services.ledger.get_page(citizen_owner(CitizenId(name)))
    assert page.debt(POINTS) == 0
    return page.debt(QUANTIFIED)


async def test_a_superseded_act_leaves_its_batch_and_the_better_record_is_pooled_once(floor: Floor) -> None:
    weak = await floor.ride("alice", 1_000, tier=EvidenceTier.DEVICE, **TRIP)
    kept = await floor.ride("alice", 700, 60)
    batch = await floor.gathered()
    sampled = await floor.sampled(batch.code)
    assert sampled.sample is not None
    strong = await approve(floor, await better(floor, "bob", 1_000))
    assert (strong.status, (await floor.act(weak.id)).status) == (Status.CREDITED, Status.REVERSED)
    # Out of the batch, with nothing owed: what the pool gave back is what the reversal took.
    assert (await floor.quantified("alice", "bob"), await debt(floor, "alice")) == ([0, 1_000 * KILO], 0)
    assert await floor.pool(batch.code) == (700 * KILO, 0)
    left = await floor.get(batch.code)
    assert (left.totals.contributions, left.totals.acts, left.totals.mg) == (1, 1, 700 * KILO)
    assert (left.contents, left.sample) == (batch.contents + 1, None)
    [given] = await floor.contributions("alice")
    assert (given.stage, given.acts, given.mg, given.pool_mg) == (ContributionStage.GIVEN, 1, 700 * KILO, 10 * KILO)
    assert [(gone.action, gone.number, gone.mg) for gone in given.taken_out] == [(weak.id, 1, 1_000 * KILO)]
    assert [(act.action, act.number) for act in await floor.acts(given)] == [(kept.id, 2)]
    lines = await floor.services.ledger.list_statement(_own("alice"), limit=2)
    earned, returned = [await floor.services.ledger.find_transaction(line.transaction) for line in lines]
    assert earned is not None
    assert returned is not None
    assert (earned.kind, returned.kind, returned.corrects) == (
        TransactionKind.REVERSE,
        TransactionKind.REVERSE,
        given.transfers[0],
    )
    assert returned.cause == {"batch": batch.code, "contribution": given.id, "superseded": weak.id}
    assert await _packed(floor, batch.code) == [kept.id]
    assert await floor.audit() == []
    # The better record is in one batch, the weaker in none.
    other = await floor.gathered()
    assert (other.totals.acts, other.totals.mg) == (1, 1_000 * KILO)
    assert await floor.services.database.count(POOLED_ACTS.name, {}) == 2
    await floor.verified(other.code)
    await floor.issued(other.code)
    assert await floor.audit() == []


def _own(name: str) -> object:
    return f"citizen:{name}:co2e.quantified"


async def _packed(floor: Floor, code: str) -> list[str]:
    packed = await floor.pooling.files.pack(VERA, code)
    with zipfile.ZipFile(io.BytesIO(b"".join(packed.chunks()))) as archive:
        return [row["action"] for row in csv.DictReader(io.StringIO(archive.read("acts.csv").decode()))]


async def test_a_contribution_of_superseded_acts_alone_is_none_and_may_begin_again(floor: Floor) -> None:
    floor.pooling.gathering.acts_of_one = 1
    await floor.ride("alice", 100, tier=EvidenceTier.DEVICE, **TRIP)
    later = await floor.ride("alice", 30, 60)
    batch = await floor.pooling.gathering.gather(await floor.begun())
    assert batch.totals.acts == 1
    await approve(floor, await better(floor, "bob", 100))
    [given] = await floor.contributions("alice")
    assert (given.stage, given.acts, given.mg) == (ContributionStage.SUPERSEDED, 0, 0)
    emptied = await floor.get(batch.code)
    assert (emptied.totals.contributions, emptied.totals.acts, emptied.totals.mg) == (0, 0, 0)
    assert await floor.audit() == []
    await floor.pooling.batches.work_off()
    [given] = await floor.contributions("alice")
    assert (given.stage, given.acts, given.mg, len(given.transfers)) == (ContributionStage.GIVEN, 1, 30 * KILO, 2)
    assert [(act.action, act.number) for act in await floor.acts(given)] == [(later.id, 2)]
    ended = await floor.get(batch.code)
    assert (ended.totals.contributions, ended.totals.acts, ended.totals.mg) == (2, 2, 130 * KILO)
    assert await floor.audit() == []
    # And all of it comes back.
    await floor.pooling.batches.withdraw(citizen("alice"), batch.code, key=floor.key())
    assert (await floor.quantified("alice"), await debt(floor, "alice")) == ([30 * KILO], 0)
    assert await floor.audit() == []


async def test_what_is_left_of_a_contribution_is_given_back_with_its_batch(floor: Floor) -> None:
    await floor.ride("alice", 100, tier=EvidenceTier.DEVICE, **TRIP)
    await floor.ride("alice", 30, 60)
    batch = await floor.gathered()
    strong = await better(floor, "bob", 100)
    await floor.pooling.batches.cancel(ANN, batch.code, "时段有误", key=floor.key())
    # Not even a batch on its way back keeps the act.
    await approve(floor, strong)
    await floor.pooling.batches.work_off()
    assert (await floor.get(batch.code)).stage is BatchStage.CANCELLED
    assert (await floor.quantified("alice", "bob"), await debt(floor, "alice")) == ([30 * KILO, 100 * KILO], 0)
    assert await floor.audit() == []


async def test_behind_a_verdict_a_superseded_act_stays_and_its_citizen_owes_the_grams(floor: Floor) -> None:
    """The reversal is the citizen's debt; what is earned next pays it back."""
    weak = await floor.ride("alice", 1_000, tier=EvidenceTier.DEVICE, **TRIP)
    batch = await floor.gathered()
    floor.clock.advance(timedelta(minutes=10))
    verified = await floor.verified(batch.code)
    strong = await better(floor, "bob", 1_000)
    # A clock that goes behind that of the verdict makes the reversal no earlier.
    floor.clock.advance(timedelta(minutes=-5))
    await approve(floor, strong)
    reversed_ = await floor.act(weak.id)
    assert reversed_.reversal is not None
    assert verified.verdict is not None
    assert reversed_.reversal.at >= verified.verdict.at
    assert (await floor.quantified("alice"), await debt(floor, "alice")) == ([0], 1_000 * KILO)
    assert await floor.pool(batch.code) == (1_000 * KILO, 0)
    issued = await floor.issued(batch.code)
    assert issued.issue is not None
    assert issued.issue.grams == 1_000_000
    assert await floor.audit() == []


async def test_an_act_that_was_reversed_before_the_verdict_and_is_in_the_batch_is_found(floor: Floor) -> None:
    weak = await floor.ride("alice", 1_000, tier=EvidenceTier.DEVICE, **TRIP)
    batch = await floor.gathered()
    await floor.verified(batch.code)
    floor.clock.advance(timedelta(minutes=5))
    await approve(floor, await better(floor, "bob", 1_000))
    assert await floor.audit() == []
    late = floor.clock.now() + timedelta(minutes=1)
    raw = floor.services.database.raw["market_batches"]
    await raw.update_one({"_id": batch.code}, {"$set": {"verdict.at": late}})
    expected = "better evidence replaced it before any verdict, and it is still in its batch"
    assert await floor.audit() == [f"pooled act {weak.id}: {expected}"]


async def test_a_verdict_and_better_evidence_at_once_come_one_after_the_other(floor: Floor) -> None:
    """The act is out of the batch with nothing owed, or in it and owed: never in it and earned twice."""
    await floor.ride("alice", 1_000, tier=EvidenceTier.DEVICE, **TRIP)
    await floor.ride("carol", 1_000, 60)
    batch = await floor.gathered()
    await floor.sampled(batch.code)
    strong = await better(floor, "bob", 1_000)
    told = await asyncio.gather(
        floor.pooling.verifying.verify(VERA, batch.code, REPORT, [], key=floor.key()),
        approve(floor, strong),
        return_exceptions=True,
    )
    assert not isinstance(told[1], BaseException), told
    standing, owed = await floor.get(batch.code), await debt(floor, "alice")
    is_bound = standing.verdict is not None and standing.totals.acts == 2
    assert owed == (1_000 * KILO if is_bound else 0)
    assert isinstance(told[0], BusyError) or standing.totals.acts == (2 if is_bound else 1)
    assert await floor.audit() == []


async def test_what_leaves_a_batch_makes_room_below_the_threshold_in_the_others(floor: Floor) -> None:
    """Ten kilograms a year are the pool's, whatever is taken back and in which order."""
    await floor.rides("alice", 6)
    first = await floor.gathered()
    await floor.rides("alice", 8, first=2)
    floor.clock.advance(timedelta(seconds=1))
    second = await floor.gathered()
    await floor.rides("alice", 9, first=4)
    floor.clock.advance(timedelta(seconds=1))
    third = await floor.gathered()

    async def split() -> list[tuple[str, int, int]]:
        given = sorted(await floor.contributions("alice"), key=lambda one: one.batch)
        return [(one.batch, one.pool_mg, one.own_mg) for one in given if one.stage is ContributionStage.GIVEN]

    codes = (first.code, second.code, third.code)
    assert await split() == [(codes[0], 6 * KILO, 0), (codes[1], 4 * KILO, 4 * KILO), (codes[2], 0, 9 * KILO)]
    await floor.pooling.batches.withdraw(citizen("alice"), first.code, key=floor.key())
    assert await split() == [(codes[1], 8 * KILO, 0), (codes[2], 2 * KILO, 7 * KILO)]
    # What a verdict may be about counts the change.
    assert (await floor.get(third.code)).version == third.version + 1
    await floor.pooling.batches.cancel(ANN, second.code, "x", key=floor.key())
    await floor.pooling.batches.work_off()
    assert await split() == [(codes[2], 9 * KILO, 0)]
    assert await floor.audit() == []


async def test_what_a_verdict_bound_is_not_split_again(floor: Floor) -> None:
    await floor.rides("alice", 10)
    first = await floor.gathered()
    await floor.rides("alice", 1_000, 5, first=2)
    floor.clock.advance(timedelta(seconds=1))
    second = await floor.gathered()
    await floor.rides("alice", 7, first=5)
    floor.clock.advance(timedelta(seconds=1))
    third = await floor.gathered()
    await floor.verified(second.code)
    await floor.pooling.batches.withdraw(citizen("alice"), first.code, key=floor.key())
    found = {one.batch: (one.pool_mg, one.own_mg) for one in await floor.contributions("alice")}
    assert found[second.code] == (0, 1_005 * KILO)
    assert found[third.code] == (7 * KILO, 0)
    assert await floor.audit() == []
