"""Gathering: what was agreed to moves into the batch once, in order, as far as it is there."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.model import RuleRef, Status
from backend.actions.restatements import Count, Stage, Unrestatable
from backend.kernel.ids import CitizenId
from backend.kernel.units import Unit
from backend.ledger.model import QUANTIFIED, TransactionKind
from backend.market.pooling.collections import POOLED_ACTS
from backend.market.pooling.model import BatchStage, Benefit, ContributionStage
from backend.rules.model import Category, EvidenceTier
from backend.rules.refusals import ForeignProfileError
from tests.factories import ADMIN, adjustment, citizen
from tests.integration.batching import ANN, RATE_MG, Floor
from tests.integration.drafting import TRAM_RULE, begin, published

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.market.pooling.model import Batch
    from backend.runtime import Services

KILO = 1_000_000


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    return await Floor(services, clock).open("alice", "bob", "carol")


async def test_what_was_agreed_to_moves_into_the_batch_act_by_act(floor: Floor) -> None:
    first, second = await floor.rides("alice", 6, 20)
    other = await floor.ride("bob", 3)
    batch = await floor.gathered()
    assert batch.code == f"zhenjiang-conservative-transit-{batch.vintage}-001"
    assert (batch.stage, batch.gathered_at, batch.opener) == (BatchStage.GATHERED, floor.clock.now(), "staff:ann")
    assert (batch.totals.contributions, batch.totals.acts, batch.totals.mg) == (2, 3, 29 * KILO)
    assert await floor.quantified("alice", "bob") == [0, 0]
    assert await floor.pool(batch.code) == (29 * KILO, 0)
    [given] = await floor.contributions("alice")
    # The programme's threshold is ten kilograms.
    assert (given.acts, given.pool_mg, given.own_mg, given.benefit) == (2, 10 * KILO, 16 * KILO, Benefit.FEN)
    acts = await floor.acts(given)
    assert [(act.action, act.number, act.mg, act.kind) for act in acts] == [
        (first.id, 1, 6 * KILO, "tram"),
        (second.id, 2, 20 * KILO, "tram"),
    ]
    assert first.settlement is not None
    assert (acts[0].earned, acts[0].rule) == (first.settlement.transaction, RuleRef("R-TRAM", 1))
    posted = await floor.services.ledger.find_transaction(given.transfers[0])
    assert posted is not None
    assert (posted.kind, posted.key) == (TransactionKind.POOL, f"pool:{batch.code}:alice:1")
    assert [posting.amount for posting in posted.postings] == [6 * KILO, 20 * KILO]
    assert posted.cause == {
        "batch": batch.code,
        "contribution": given.id,
        "of_0": acts[0].earned,
        "of_1": acts[1].earned,
    }
    [bobs] = await floor.contributions("bob")
    assert [act.action for act in await floor.acts(bobs)] == [other.id]
    assert await floor.audit() == []


async def test_what_stays_outside(floor: Floor) -> None:
    """Other scenarios, days and evidence, acts that were taken back, people who never agreed or no longer do."""
    await floor.services.identity.register_citizens({CitizenId("dora"): "dora"})
    await floor.ride("dora")
    inside = await floor.ride("alice", 7)
    since, until = floor.days
    await floor.agree("bob", [Category.CYCLING])
    await floor.ride("bob")
    await floor.ride("carol")
    await floor.pooling.consents.withdraw(citizen("carol"), key=floor.key())
    early = floor.moment() - timedelta(days=(floor.today - since).days)
    await floor.ride("alice", 5, occurred_at=early)
    weak = await floor.ride("alice", 8, 60, tier=EvidenceTier.DECLARED)
    assert weak.settlement is not None
    assert weak.settlement.asset != QUANTIFIED
    walk = await floor.ride("alice", 9, 120, kind="walk", unit=Unit.STEP, quantity=5_000)
    assert walk.status is Status.CREDITED
    batch = await floor.gathered(since=since, until=until)
    [given] = await floor.contributions("alice")
    assert [act.action for act in await floor.acts(given)] == [inside.id]
    assert (batch.totals.contributions, batch.totals.acts) == (1, 1)
    assert await floor.contributions("bob") == await floor.contributions("carol") == []
    assert await floor.audit() == []


async def test_an_act_is_in_one_batch_only_and_later_ones_take_the_rest(floor: Floor) -> None:
    await floor.rides("alice", 6)
    first = await floor.gathered()
    later = await floor.ride("alice", 8, 300)
    floor.clock.advance(timedelta(seconds=1))
    second = await floor.gathered()
    assert (first.number, second.number, second.code[-4:]) == (1, 2, "-002")
    newest, oldest = await floor.contributions("alice")
    assert [act.action for act in await floor.acts(newest)] == [later.id]
    # Over all batches of the year the pool's share ends at the threshold.
    assert (oldest.pool_mg, oldest.own_mg) == (6 * KILO, 0)
    assert (newest.pool_mg, newest.own_mg) == (4 * KILO, 4 * KILO)
    assert (await floor.gathered()).totals.acts == 0
    assert await floor.audit() == []


async def test_two_batches_at_once_take_no_act_twice(floor: Floor) -> None:
    for name in ("alice", "bob", "carol"):
        await floor.rides(name, 3, 4)
    batches = [await floor.begun() for _ in range(2)]

    async def gather(batch: Batch) -> Batch:
        while batch.stage is BatchStage.GATHERING:
            batch = await floor.pooling.gathering.gather(batch)
        return batch

    ended = await asyncio.gather(*map(gather, batches))
    assert sum(batch.totals.acts for batch in ended) == 6
    assert await floor.services.database.count(POOLED_ACTS.name, {}) == 6
    assert await floor.audit() == []


async def test_many_acts_are_gathered_in_parts(floor: Floor) -> None:
    floor.pooling.gathering.acts_of_one = 2
    await floor.rides("alice", 1, 2, 3, 4, 5)
    await floor.rides("bob", 1, 2)
    batch = await floor.gathered()
    assert (batch.totals.contributions, batch.totals.acts, batch.totals.mg) == (2, 7, 18 * KILO)
    [given] = await floor.contributions("alice")
    assert (given.acts, len(given.transfers), given.pool_mg, given.own_mg) == (5, 3, 10 * KILO, 5 * KILO)
    assert [act.number for act in await floor.acts(given)] == [1, 2, 3, 4, 5]
    assert await floor.audit() == []


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_a_worker_that_dies_leaves_nothing_out_and_takes_nothing_twice(
    floor: Floor, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.pooling.gathering.acts_of_one = 2
    await floor.rides("alice", 1, 2, 3)
    await floor.rides("bob", 1, 2)
    batch = await floor.begun()
    real, calls = floor.services.ledger.open_within, itertools.count(1)

    async def dying(*args: Any, **given: Any) -> Any:
        sheet = await real(*args, **given)
        if next(calls) == steps:
            raise OSError
        return sheet

    monkeypatch.setattr(floor.services.ledger, "open_within", dying)
    await floor.pooling.batches.work_off()
    await floor.pooling.batches.work_off()
    ended = await floor.get(batch.code)
    assert (ended.stage, ended.totals.acts, ended.totals.mg) == (BatchStage.GATHERED, 5, 9 * KILO)
    assert await floor.quantified("alice", "bob") == [0, 0]
    assert await floor.audit() == []


async def test_debts_that_took_grams_away_leave_the_rest(floor: Floor) -> None:
    first, _ = await floor.rides("alice", 6, 20)
    await floor.services.ledger.post(adjustment(-5 * KILO, asset=QUANTIFIED))
    batch = await floor.gathered()
    [given] = await floor.contributions("alice")
    assert [act.action for act in await floor.acts(given)] == [first.id]
    assert await floor.quantified("alice") == [15 * KILO]
    assert batch.totals.mg == 6 * KILO


async def test_whoever_withdraws_while_a_batch_is_gathered_gives_nothing_from_then_on(floor: Floor) -> None:
    floor.pooling.gathering.acts_of_one = 1
    await floor.rides("alice", 1, 2, 3)
    batch = await floor.pooling.gathering.gather(await floor.begun())
    assert batch.totals.acts == 1
    await floor.pooling.consents.withdraw(citizen(), key=floor.key())
    await floor.pooling.batches.work_off()
    ended = await floor.get(batch.code)
    assert (ended.stage, ended.totals.acts) == (BatchStage.GATHERED, 1)
    [given] = await floor.contributions("alice")
    assert (given.stage, given.mg) == (ContributionStage.GIVEN, KILO)


async def test_an_act_in_a_batch_is_bound_and_the_others_are_restated(floor: Floor, clock: ManualClock) -> None:
    pooled = await floor.ride("alice", 6)
    await floor.gathered()
    free = await floor.ride("bob", 4)
    wording = {**TRAM_RULE, "formula": {"family": "PER_QUANTITY", "rate": f"{RATE_MG // 2}/1"}, "minimum": 1}
    draft = await begin(floor.services, {**wording, "maximum": 100_000}, key=floor.key())
    await published(floor.services, draft, valid_from=clock.now() - timedelta(days=9))
    restating = floor.services.restating
    rule, now = RuleRef("R-TRAM", 2), clock.now()
    job = await restating.propose(ADMIN, rule, now - timedelta(days=8), now, "系数有误", dry_run=False, key=floor.key())
    await restating.work_off()
    await restating.approve(ANN, job.id, key=floor.key())
    await restating.work_off()
    done = await restating.find(ANN, job.id)
    assert done is not None
    bound = (Unrestatable(pooled.id, "BOUND"),)
    expected = Count(acts=1, refused=1, reduction_mg=-2 * KILO, points=-2_000, unrestatable=bound)
    assert (done.stage, done.done) == (Stage.DONE, expected)
    assert done.estimate is not None
    assert done.estimate.count == expected
    assert await floor.act(pooled.id) == pooled
    assert (await floor.act(free.id)).reduction_mg == 2 * KILO
    assert await floor.audit() == []


async def test_a_batch_of_another_profile_is_refused(floor: Floor) -> None:
    error = await floor.refused(floor.begun(profile="shanghai-2026"), ForeignProfileError)
    assert error.code == "FOREIGN_PROFILE"
