"""Pooling under contention: whoever comes first wins, and everything adds up after any race."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.model import RuleRef
from backend.kernel.errors import BusyError, Refusal
from backend.kernel.ids import CitizenId
from backend.ledger.model import QUANTIFIED, citizen_owner
from backend.market.pooling.collections import CONSENTS
from backend.market.pooling.model import BatchStage, Benefit
from backend.rules.model import Category
from tests.factories import ADMIN, citizen
from tests.integration.batching import ANN, REPORT, VERA, Floor, share_off
from tests.integration.drafting import TRAM_RULE, begin, published

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

KILO = 1_000_000
NAMES = ("alice", "bob", "carol", "dora")


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    return await Floor(services, clock).open(*NAMES)


async def outcomes(*asked: Any) -> list[str]:
    """What came of several things at once: nothing, or the code of a refusal."""
    found = await asyncio.gather(*asked, return_exceptions=True)
    told = []
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, Refusal | BusyError):
            raise one
        told.append(one.code if isinstance(one, Refusal | BusyError) else "")
    return told


async def test_of_many_authorisations_at_once_one_is_in_force_and_all_are_kept(floor: Floor) -> None:
    consents = floor.pooling.consents
    scenarios = [[category] for category in Category]
    await outcomes(*(consents.authorise(citizen(), one, Benefit.FEN, key=floor.key()) for one in scenarios))
    raw = floor.services.database.raw[CONSENTS.name]
    stored = await raw.find({"citizen": "alice"}).sort("number", 1).to_list(None)
    assert [one["number"] for one in stored] == list(range(1, len(scenarios) + 2))
    assert [one["current"] for one in stored] == [False] * len(scenarios) + [True]
    assert [one["until"] is None for one in stored] == [one["current"] for one in stored]


async def test_batches_opened_at_once_have_numbers_of_their_own(floor: Floor) -> None:
    batches = await asyncio.gather(*(floor.begun() for _ in range(5)))
    assert sorted(batch.number for batch in batches) == [1, 2, 3, 4, 5]


async def test_a_verdict_and_withdrawals_at_once(floor: Floor) -> None:
    """Who came before the verdict has everything back; who did not has nothing."""
    for name in NAMES:
        await floor.rides(name, 600, 600)
    batch = await floor.gathered()
    await floor.sampled(batch.code)
    told = await outcomes(
        *(floor.pooling.batches.withdraw(citizen(name), batch.code, key=floor.key()) for name in NAMES[:3]),
        floor.pooling.verifying.verify(VERA, batch.code, REPORT, [share_off(1)], key=floor.key()),
    )
    assert set(told[:3]) <= {"", "CONTRIBUTION_BOUND"}
    # What was sampled is not what is left of it.
    if told[3] in {"BUSY", "SAMPLE_NEEDED"}:
        await floor.verified(batch.code, share_off(1))
    held = await floor.quantified(*NAMES)
    assert held == [0 if code else 1_200 * KILO for code in told[:3]] + [0]
    left = await floor.get(batch.code)
    assert (left.stage, left.totals.contributions) == (BatchStage.VERIFIED, held.count(0))
    assert await floor.audit() == []


async def test_withdrawals_calling_off_and_gathering_at_once(floor: Floor) -> None:
    floor.pooling.gathering.acts_of_one = 1
    for name in NAMES:
        await floor.rides(name, 1, 2)
    batch = await floor.pooling.gathering.gather(await floor.begun())
    told = await outcomes(
        floor.pooling.batches.work_off(),
        *(floor.pooling.batches.withdraw(citizen(name), batch.code, key=floor.key()) for name in NAMES),
        floor.pooling.batches.cancel(ANN, batch.code, "x", key=floor.key()),
        floor.pooling.batches._go_on(batch),
    )
    assert set(told) <= {"", "NO_CONTRIBUTION", "BATCH_STAGE", "BUSY"}
    await floor.pooling.batches.work_off()
    ended = await floor.get(batch.code)
    if ended.stage is BatchStage.GATHERED:
        await floor.pooling.batches.cancel(ANN, batch.code, "x", key=floor.key())
        await floor.pooling.batches.work_off()
    assert (await floor.get(batch.code)).stage is BatchStage.CANCELLED
    assert await floor.quantified(*NAMES) == [3 * KILO] * 4
    assert await floor.pool(batch.code) == (0, 0)
    assert await floor.audit() == []


async def test_an_act_is_either_pooled_as_it_was_or_restated_before(floor: Floor, clock: ManualClock) -> None:
    acts = [await floor.ride(name, 8) for name in NAMES]
    wording = {**TRAM_RULE, "formula": {"family": "PER_QUANTITY", "rate": "5000/1"}, "minimum": 1, "maximum": 100_000}
    await published(
        floor.services,
        await begin(floor.services, wording, key=floor.key()),
        valid_from=clock.now() - timedelta(days=9),
    )
    restating, now = floor.services.restating, clock.now()
    restating._batch_size = 1
    job = await restating.propose(
        ADMIN, RuleRef("R-TRAM", 2), now - timedelta(days=8), now, "系数有误", dry_run=False, key=floor.key()
    )
    await restating.work_off()
    await restating.approve(ANN, job.id, key=floor.key())
    batch = await floor.begun()
    told = await outcomes(restating.work_off(), floor.pooling.batches.work_off())
    assert set(told) <= {"", "BUSY"}
    await floor.pooling.batches.work_off()
    await restating.work_off()
    done = await restating.find(ANN, job.id)
    assert done is not None
    assert done.done.acts + done.done.refused == len(acts)
    for name, act in zip(NAMES, acts, strict=True):
        [given] = await floor.contributions(name)
        [pooled] = await floor.acts(given)
        standing = await floor.act(act.id)
        assert pooled.mg == standing.reduction_mg == (4 * KILO if standing.restatements else 8 * KILO)
        page = await floor.services.ledger.get_page(citizen_owner(CitizenId(name)))
        assert (page.balance(QUANTIFIED), page.debt(QUANTIFIED)) == (0, 0)
    assert (await floor.get(batch.code)).totals.mg == sum([(await floor.act(act.id)).reduction_mg for act in acts])
    assert await floor.audit() == []


async def test_withdrawing_consent_and_gathering_at_once_leave_all_or_nothing(floor: Floor) -> None:
    for name in NAMES:
        await floor.rides(name, 3)
    batch = await floor.begun()
    await outcomes(
        floor.pooling.batches._go_on(batch),
        *(floor.pooling.consents.withdraw(citizen(name), key=floor.key()) for name in NAMES),
    )
    await floor.pooling.batches.work_off()
    ended = await floor.get(batch.code)
    held = await floor.quantified(*NAMES)
    assert set(held) <= {0, 3 * KILO}
    assert ended.totals.mg == held.count(0) * 3 * KILO
    assert await floor.audit() == []
