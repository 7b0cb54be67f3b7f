"""What stands between a gathered batch and its issuance: withdrawal, calling off, samples, verdicts, four eyes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from backend.identity.errors import ForbiddenError
from backend.kernel.ids import ActionId, CitizenId
from backend.ledger.model import DEDUCTED, TransactionKind, pool_owner
from backend.market.pooling import errors
from backend.market.pooling.collections import POOLED_ACTS
from backend.market.pooling.model import (
    AdjustmentReason,
    BatchStage,
    ContributionStage,
)
from tests.factories import citizen
from tests.integration.batching import ANN, BEN, BOTH, REPORT, VERA, VICTOR, Floor, off, share_off

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.market.pooling.model import Batch
    from backend.runtime import Services

KILO = 1_000_000


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    return await Floor(services, clock).open("alice", "bob", "carol")


async def test_withdrawn_before_verification_everything_returns_for_good(floor: Floor) -> None:
    await floor.rides("alice", 6, 20)
    await floor.rides("bob", 3)
    batch = await floor.gathered()
    key = floor.key()
    stake = await floor.pooling.batches.withdraw(citizen(), batch.code, key=key)
    withdrawn = stake.contribution
    assert (withdrawn.stage, withdrawn.acts, withdrawn.mg) == (ContributionStage.WITHDRAWN, 2, 26 * KILO)
    assert await floor.quantified("alice", "bob") == [26 * KILO, 0]
    assert await floor.pool(batch.code) == (3 * KILO, 0)
    left = await floor.get(batch.code)
    assert (left.totals.contributions, left.totals.acts, left.totals.mg) == (1, 1, 3 * KILO)
    assert await floor.services.database.count(POOLED_ACTS.name, {"citizen": "alice"}) == 0
    # The same again changes nothing; once more there is nothing to be given back.
    assert await floor.pooling.batches.withdraw(citizen(), batch.code, key=key) == stake
    again = floor.pooling.batches.withdraw(citizen(), batch.code, key=floor.key())
    await floor.refused(again, errors.NoContributionError)
    # Another batch may take the acts.
    other = await floor.gathered()
    assert (other.totals.acts, other.totals.mg) == (2, 26 * KILO)
    assert await floor.audit() == []


async def test_a_batch_called_off_returns_everything(floor: Floor) -> None:
    await floor.tonne()
    batch = await floor.get((await floor.contributions("alice"))[0].batch)
    cancelled = await floor.pooling.batches.cancel(ANN, batch.code, "时段有误", key=floor.key())
    assert cancelled.stage is BatchStage.CANCELLING
    refused = floor.pooling.batches.withdraw(citizen(), batch.code, key=floor.key())
    error = await floor.refused(refused, errors.WrongBatchStageError)
    assert error.message() == "the batch is CANCELLING, so this cannot be done"
    await floor.pooling.batches.work_off()
    ended = await floor.get(batch.code)
    assert (ended.stage, ended.totals.acts, ended.totals.mg) == (BatchStage.CANCELLED, 0, 0)
    assert ended.ending is not None
    assert (ended.ending.by, ended.ending.reason, ended.ending.is_verdict) == ("staff:ann", "时段有误", False)
    assert await floor.quantified("alice", "bob", "carol") == [800 * KILO, 300 * KILO, 250 * KILO]
    assert [one.stage for one in await floor.contributions("bob")] == [ContributionStage.RETURNED]
    assert await floor.audit() == []


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_a_worker_that_dies_while_it_gives_back_gives_nothing_back_twice(
    floor: Floor, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, _ = await floor.tonne()
    await floor.pooling.batches.cancel(ANN, batch.code, "x", key=floor.key())
    real, calls = floor.services.ledger.post_within, itertools.count(1)

    async def dying(*args: Any, **given: Any) -> Any:
        posted = await real(*args, **given)
        if next(calls) == steps:
            raise OSError
        return posted

    monkeypatch.setattr(floor.services.ledger, "post_within", dying)
    await floor.pooling.batches.work_off()
    assert (await floor.get(batch.code)).stage is BatchStage.CANCELLING
    assert await floor.audit() == []
    await floor.pooling.batches.work_off()
    assert (await floor.get(batch.code)).stage is BatchStage.CANCELLED
    assert await floor.quantified("alice", "bob", "carol") == [800 * KILO, 300 * KILO, 250 * KILO]
    assert await floor.audit() == []


async def test_a_batch_called_off_while_it_is_gathered_returns_what_it_has(floor: Floor) -> None:
    floor.pooling.gathering.acts_of_one = 1
    await floor.rides("alice", 1, 2, 3)
    batch = await floor.pooling.gathering.gather(await floor.begun())
    await floor.pooling.batches.cancel(BEN, batch.code, "重新开立", key=floor.key())
    # A worker that still gathers finds that it is over.
    assert (await floor.pooling.gathering.gather(batch)).stage is BatchStage.CANCELLING
    await floor.pooling.batches.work_off()
    assert (await floor.get(batch.code)).stage is BatchStage.CANCELLED
    assert await floor.quantified("alice") == [6 * KILO]
    assert await floor.audit() == []


async def test_a_rejected_batch_returns_everything(floor: Floor) -> None:
    batch, _ = await floor.tonne()
    rejected = await floor.pooling.verifying.reject(VERA, batch.code, "证据不足", key=floor.key())
    assert rejected.ending is not None
    assert (rejected.stage, rejected.ending.is_verdict) == (BatchStage.CANCELLING, True)
    await floor.pooling.batches.work_off()
    assert await floor.quantified("alice", "bob", "carol") == [800 * KILO, 300 * KILO, 250 * KILO]
    assert await floor.audit() == []


async def test_a_sample_is_drawn_by_the_contents_and_anew_when_they_change(floor: Floor) -> None:
    batch, acts = await floor.tonne()
    drawn = await floor.pooling.verifying.draw_sample(VERA, batch.code, 3, key=floor.key())
    assert drawn.sample is not None
    every = {action.id for found in acts.values() for action in found}
    assert (len(drawn.sample.actions), set(drawn.sample.actions) < every) == (3, True)
    assert (drawn.sample.seed, drawn.content) == (drawn.content, drawn.sample.seed)
    again = await floor.pooling.verifying.draw_sample(VICTOR, batch.code, 3, key=floor.key())
    assert again.sample is not None
    assert again.sample.actions == drawn.sample.actions
    await floor.pooling.batches.withdraw(citizen("carol"), batch.code, key=floor.key())
    other = await floor.pooling.verifying.draw_sample(VERA, batch.code, 30, key=floor.key())
    assert other.sample is not None
    assert other.sample.seed != drawn.sample.seed
    assert set(other.sample.actions) == every - {acts["carol"][0].id}


async def test_a_verdict_takes_off_acts_and_shares_and_binds_the_rest(floor: Floor) -> None:
    batch, acts = await floor.tonne()
    verified = await floor.verified(batch.code, share_off(100), off(acts["bob"][0].id))
    verdict = verified.verdict
    assert verdict is not None
    # 4 kg of bob's, then a hundredth of the 1,346 that are left.
    assert [(one.action, one.bps, one.mg) for one in verdict.adjustments] == [
        (acts["bob"][0].id, None, 4 * KILO),
        (None, 100, 13_460_000),
    ]
    assert (verified.stage, verified.verified_mg) == (BatchStage.VERIFIED, 1_332_540_000)
    assert (verdict.verifier, verdict.organisation, verdict.report_hash) == (
        "staff:vera",
        REPORT.organisation,
        REPORT.hash,
    )
    assert await floor.pool(batch.code) == (1_332_540_000, 0)
    assert verified.sample is not None
    assert verdict.content == verified.sample.seed
    ledger = floor.services.ledger
    lines = await ledger.list_statement(_pool_account(batch), limit=2)
    taken = [await ledger.find_transaction(line.transaction) for line in reversed(lines)]
    assert [(one.kind, one.cause, one.postings[0].to_account) for one in taken if one] == [
        (
            TransactionKind.DEDUCT,
            {
                "batch": batch.code,
                "adjustment": str(number),
                "reason": reason.value,
                "verifier": taken[0].cause["verifier"] if taken[0] else "",
                "report": REPORT.hash,
                "content": verdict.content,
                "shares": verdict.shares,
            },
            DEDUCTED,
        )
        for number, reason in ((1, AdjustmentReason.DUPLICATE_CLAIM), (2, AdjustmentReason.UNCERTAINTY))
    ]
    withdrawing = floor.pooling.batches.withdraw(citizen(), batch.code, key=floor.key())
    await floor.refused(withdrawing, errors.ContributionBoundError)
    assert await floor.audit() == []


def _pool_account(batch: Batch) -> Any:
    return f"{pool_owner(batch.code)}:co2e.quantified"


async def test_opening_verifying_and_issuing_take_three(floor: Floor) -> None:
    await floor.rides("alice", 999, 2)
    batch = await floor.gathered(BOTH)
    verifying, batches = floor.pooling.verifying, floor.pooling.batches
    for asked in (
        verifying.verify(BOTH, batch.code, REPORT, [], key=floor.key()),
        verifying.reject(BOTH, batch.code, "证据不足", key=floor.key()),
    ):
        await floor.refused(asked, errors.FourEyesError)
    await floor.verified(batch.code)
    await floor.refused(batches.issue(BOTH, batch.code, key=floor.key()), errors.FourEyesError)
    second = await floor.gathered(ANN)
    await floor.rides("bob", 999, 2)
    second = await floor.gathered(ANN)
    await floor.sampled(second.code)
    await verifying.verify(BOTH, second.code, REPORT, [], key=floor.key())
    await floor.refused(batches.issue(BOTH, second.code, key=floor.key()), errors.FourEyesError)
    await floor.refused(batches.issue(ANN, second.code, key=floor.key()), errors.FourEyesError)
    assert (await batches.issue(BEN, second.code, key=floor.key())).stage is BatchStage.ISSUING


async def test_nobody_verifies_or_issues_what_they_gave_to(floor: Floor) -> None:
    """Staff are citizens too: who has a part in a batch has an interest in what is said of it."""
    for name in ("vera", "ben", "ann"):
        await floor.services.identity.register_citizens({CitizenId(name): name})
        await floor.agree(name)
        await floor.rides(name, 600)
    batch = await floor.gathered(ANN)
    await floor.sampled(batch.code)
    verifying = floor.pooling.verifying
    asked = verifying.verify(VERA, batch.code, REPORT, [], key=floor.key())
    await floor.refused(asked, errors.FourEyesError)
    await verifying.verify(VICTOR, batch.code, REPORT, [], key=floor.key())
    await floor.refused(floor.pooling.batches.issue(BEN, batch.code, key=floor.key()), errors.FourEyesError)
    assert (await floor.pooling.batches.issue(BOTH, batch.code, key=floor.key())).stage is BatchStage.ISSUING


async def test_a_verdict_needs_a_sample_of_what_the_batch_holds_now(floor: Floor) -> None:
    await floor.rides("alice", 600, 600)
    await floor.rides("bob", 300)
    batch = await floor.gathered()
    verifying = floor.pooling.verifying

    async def refused() -> None:
        asked = verifying.verify(VERA, batch.code, REPORT, [], key=floor.key())
        error = await floor.refused(asked, errors.SampleNeededError)
        assert error.message() == "no sample was drawn of what the batch holds now; draw one first"

    await refused()
    assert (await floor.sampled(batch.code)).sample is not None
    await floor.pooling.batches.withdraw(citizen("bob"), batch.code, key=floor.key())
    assert (await floor.get(batch.code)).sample is None
    await refused()
    drawn = (await floor.sampled(batch.code)).sample
    verified = await verifying.verify(VERA, batch.code, REPORT, [], key=floor.key())
    assert verified.verdict is not None
    assert drawn is not None
    assert (verified.sample, verified.verdict.content) == (drawn, drawn.seed)


STAGES: list[tuple[str, BatchStage]] = [
    ("verify", BatchStage.GATHERING),
    ("draw", BatchStage.GATHERING),
    ("reject", BatchStage.GATHERING),
    ("issue", BatchStage.GATHERED),
    ("verify", BatchStage.VERIFIED),
    ("draw", BatchStage.VERIFIED),
    ("reject", BatchStage.VERIFIED),
    ("cancel", BatchStage.VERIFIED),
    ("issue", BatchStage.ISSUED),
    ("cancel", BatchStage.ISSUED),
    ("cancel", BatchStage.CANCELLED),
]


@pytest.mark.parametrize(("step", "stage"), STAGES)
async def test_what_a_batchs_stage_does_not_allow(floor: Floor, step: str, stage: BatchStage) -> None:
    await floor.rides("alice", 999, 2)
    batch = await floor.begun()
    if stage is not BatchStage.GATHERING:
        await floor.pooling.batches.work_off()
    if stage in (BatchStage.VERIFIED, BatchStage.ISSUED):
        await floor.verified(batch.code)
    if stage is BatchStage.ISSUED:
        await floor.issued(batch.code)
    if stage is BatchStage.CANCELLED:
        await floor.pooling.batches.cancel(ANN, batch.code, "x", key=floor.key())
        await floor.pooling.batches.work_off()
    error = await floor.refused(_asked(floor, step, batch.code), errors.WrongBatchStageError)
    assert error.message() == f"the batch is {stage}, so this cannot be done"


def _asked(floor: Floor, step: str, code: Any) -> Any:
    verifying, batches, key = floor.pooling.verifying, floor.pooling.batches, floor.key()
    if step == "verify":
        return verifying.verify(VICTOR, code, REPORT, [], key=key)
    if step == "draw":
        return verifying.draw_sample(VICTOR, code, 1, key=key)
    if step == "reject":
        return verifying.reject(VICTOR, code, "x", key=key)
    return batches.issue(BEN, code, key=key) if step == "issue" else batches.cancel(BEN, code, "x", key=key)


async def test_an_empty_batch_is_neither_sampled_nor_verified(floor: Floor) -> None:
    batch = await floor.gathered()
    for step in ("draw", "verify"):
        await floor.refused(_asked(floor, step, batch.code), errors.EmptyBatchError)


async def test_acts_that_are_not_in_the_batch_cannot_be_taken_off(floor: Floor) -> None:
    batch, acts = await floor.tonne()
    mine = acts["bob"][0].id
    await floor.sampled(batch.code)
    for adjustments in ([off(ActionId("act_none"))], [off(mine), off(mine)]):
        asked = floor.pooling.verifying.verify(VERA, batch.code, REPORT, adjustments, key=floor.key())
        await floor.refused(asked, errors.NotInBatchError)


async def test_who_may_not(floor: Floor) -> None:
    batch, _ = await floor.tonne()
    batches, verifying = floor.pooling.batches, floor.pooling.verifying
    for asked in (
        floor.begun(VERA),
        batches.cancel(VERA, batch.code, "x", key=floor.key()),
        batches.issue(VERA, batch.code, key=floor.key()),
        batches.withdraw(ANN, batch.code, key=floor.key()),
        verifying.draw_sample(ANN, batch.code, 1, key=floor.key()),
        verifying.verify(ANN, batch.code, REPORT, [], key=floor.key()),
        verifying.reject(ANN, batch.code, "x", key=floor.key()),
        floor.pooling.files.pack(citizen(), batch.code),
        floor.pooling.consents.withdraw(ANN, key=floor.key()),
    ):
        await floor.refused(asked, ForbiddenError)
