"""Restatement: estimated first, approved by another, each act once, whatever dies on the way; nothing else changes."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.documents import ACTIONS
from backend.actions.model import Decision, RuleRef, Status
from backend.actions.restatements import Count, RestatedAct, Stage, Unrestatable
from backend.audit import audit_books
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import DomainError
from backend.kernel.ids import CitizenId
from backend.kernel.units import Unit
from backend.ledger.model import POINTS, RECOGNISED, TransactionKind, citizen_owner
from backend.rules.model import EvidenceTier
from tests.conftest import dump
from tests.factories import ADMIN, bus_ride, citizen, partner, spending
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import BUS, begin, published

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from datetime import datetime

    from backend.actions.model import Action
    from backend.actions.restatements import RestatementJob
    from backend.kernel.clock import ManualClock
    from backend.kernel.ids import ActionId
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

ROOT_2 = Principal(PrincipalKind.STAFF, "ruth", frozenset({StaffRole.ADMIN}))
REVIEWER = Principal(PrincipalKind.STAFF, "rita", frozenset({StaffRole.REVIEWER}))
VERIFIER = Principal(PrincipalKind.STAFF, "vera", frozenset({StaffRole.VERIFIER}))
V2, V3 = RuleRef("R-BUS2", 2), RuleRef("R-BUS2", 3)
RIDERS = [f"rider-{number}" for number in range(5)]


@pytest.fixture(autouse=True)
async def people(services: Services) -> None:
    await services.identity.register_citizens(
        {CitizenId("alice"): "王芳", CitizenId("carol"): "赵敏"}, district="京口区"
    )


async def ride(services: Services, name: str = "alice", ref: str = "", **changes: Any) -> Action:
    """A settled bus ride: by one's own word 40,000 mg and 40 points under the first version."""
    action = await services.actions.record(
        citizen(name), bus_ride(ref or f"ride-{name}", **changes), key=f"key-{name}-{ref:>04}"
    )
    await services.settling.settle(ALL_SHARDS)
    return await found(services, action.id)


async def found(services: Services, action: ActionId) -> Action:
    return (await services.actions.find_actions([action]))[action]


async def correct(services: Services, rate: int, *, number: int = 2, since: datetime, **changes: Any) -> None:
    """Publish another version of the bus ride's rule, in force from a moment of the past on."""
    wording = {**BUS, "formula": {"family": "PER_QUANTITY", "rate": f"{rate}/1"}, **changes}
    draft = await begin(services, wording, key=f"correction-{number}")
    await published(services, draft, valid_from=since)


async def propose(services: Services, rule: RuleRef = V2, who: Principal = ADMIN, **given: Any) -> RestatementJob:
    now = services.clock.now()
    return await services.restating.propose(
        who,
        rule,
        given.get("since", now - timedelta(days=2)),
        given.get("until", now),
        given.get("reason", "系数有误"),
        dry_run=given.get("dry_run", False),
        key=given.get("key", "restate-0001"),
    )


async def looked_up(services: Services, job: RestatementJob) -> RestatementJob:
    again = await services.restating.find(ADMIN, job.id)
    assert again is not None
    return again


async def restate(services: Services, rule: RuleRef = V2, **given: Any) -> RestatementJob:
    """Propose, estimate, approve, work off."""
    job = await propose(services, rule, **given)
    await services.restating.work_off()
    await services.restating.approve(REVIEWER, job.id, key=f"approve-{given.get('key', '0001')}")
    await services.restating.work_off()
    return await looked_up(services, job)


async def balances(services: Services, name: str = "alice") -> tuple[int, int, int]:
    """Points, recognised milligrams, points owed."""
    page = await services.ledger.get_page(citizen_owner(CitizenId(name)))
    return page.balance(POINTS), page.balance(RECOGNISED), page.debt(POINTS)


async def refusal(services: Services, asked: Awaitable[Any]) -> DomainError:
    """Why it was refused; nothing changed."""
    before = await dump(services)
    with pytest.raises(DomainError) as caught:
        await asked
    assert await dump(services) == before
    return caught.value


async def test_a_dry_run_tells_what_would_change_and_changes_nothing(services: Services, clock: ManualClock) -> None:
    acts = [await ride(services, name) for name in RIDERS]
    outside = await ride(services, "early", occurred_at=clock.now() - timedelta(days=5))
    await services.ledger.post(spending(payer=RIDERS[2], amount=30))
    await correct(services, 40_000, since=clock.now() - timedelta(days=10))
    await services.settling.settle(ALL_SHARDS)
    before = await dump(services)
    job = await propose(services, dry_run=True)
    assert job.stage is Stage.ESTIMATING
    assert await services.restating.work_off() == 5
    after = await dump(services)
    assert {name for name in after if after[name] != before.get(name)} == {"restatements", "idempotency_keys"}
    estimated = await looked_up(services, job)
    assert estimated.stage is Stage.ESTIMATED
    assert estimated.estimate is not None
    assert estimated.estimate.count == Count(acts=5, reduction_mg=-100_000, points=-100)
    assert (estimated.estimate.citizens, estimated.estimate.debts) == (5, 1)
    assert {act.action for act in estimated.estimate.largest} == {act.id for act in acts}
    assert estimated.estimate.largest[0] == RestatedAct(max(act.id for act in acts), -20_000, -20)
    assert outside.id not in {act.action for act in estimated.estimate.largest}
    assert (await refusal(services, services.restating.approve(REVIEWER, job.id, key="approve-0001"))).code == (
        "NOT_PROPOSED"
    )
    assert await services.restating.work_off() == 0


async def test_each_act_gets_the_difference_and_the_earning_stands(services: Services, clock: ManualClock) -> None:
    first = await ride(services)
    proved = bus_ride("strong", citizen=CitizenId("carol"), source="bus", tier=EvidenceTier.OPERATOR)
    strong = await services.actions.record(ADMIN, proved, key="key-0009")
    clock.advance(timedelta(minutes=1))
    await services.settling.settle(ALL_SHARDS)
    await correct(services, 100_500, since=clock.now() - timedelta(days=3))
    later = await ride(services, "bob")
    assert later.settlement is not None
    assert later.settlement.rule == V2
    clock.advance(timedelta(minutes=1))
    job = await restate(services)
    assert (job.stage, job.approver) == (Stage.DONE, "staff:rita")
    assert job.done == Count(acts=2, reduction_mg=10_250 + 20_500, points=10 + 20)
    again = await found(services, first.id)
    assert (again.reduction_mg, again.points, again.settlement) == (50_250, 50, first.settlement)
    [entry] = again.restatements
    assert (entry.job, entry.rule, entry.reduction_mg, entry.points, entry.at) == (job.id, V2, 10_250, 10, clock.now())
    assert (await found(services, strong.id)).points == 100
    assert (await found(services, later.id)) == later
    assert (await balances(services), await balances(services, "carol")) == ((50, 50_250, 0), (100, 100_500, 0))
    posted = await services.ledger.find_transaction(entry.transaction)
    assert posted is not None
    assert first.settlement is not None
    assert (posted.kind, posted.corrects, posted.key) == (
        TransactionKind.RESTATE,
        first.settlement.transaction,
        f"restate:{job.id}:{first.id}",
    )
    assert (await audit_books(services)).findings == []


async def test_a_second_restatement_goes_on_from_the_first(services: Services, clock: ManualClock) -> None:
    action = await ride(services)
    since = clock.now() - timedelta(days=3)
    await correct(services, 100_000, since=since)
    await restate(services)
    await correct(services, 60_000, number=3, since=since)
    job = await restate(services, V3, key="restate-0002")
    assert job.done == Count(acts=1, reduction_mg=-20_000, points=-20)
    again = await found(services, action.id)
    assert [(entry.reduction_mg, entry.points) for entry in again.restatements] == [(10_000, 10), (-20_000, -20)]
    assert await balances(services) == (30, 30_000, 0)
    # The version before is in force no more.
    assert (await restate(services, V2, key="restate-0003")).done == Count()
    assert (await audit_books(services)).findings == []


async def test_what_is_no_longer_there_is_owed(services: Services, clock: ManualClock) -> None:
    await ride(services)
    await services.ledger.post(spending(amount=35))
    await correct(services, 40_000, since=clock.now() - timedelta(days=3))
    assert (await restate(services)).done == Count(acts=1, reduction_mg=-20_000, points=-20)
    assert await balances(services) == (0, 20_000, 15)
    assert (await audit_books(services)).findings == []


async def test_where_nobody_owes_such_an_act_is_told_and_the_others_restated(
    services: Services, clock: ManualClock
) -> None:
    acts = [await ride(services, name) for name in RIDERS]
    await services.ledger.post(spending(payer=RIDERS[3], amount=35))
    services.ledger._policy = dataclasses.replace(services.ledger._policy, debt_allowed=False)
    await correct(services, 40_000, since=clock.now() - timedelta(days=3))
    job = await restate(services)
    assert job.done == Count(
        acts=4,
        refused=1,
        reduction_mg=-80_000,
        points=-80,
        unrestatable=(Unrestatable(acts[3].id, "INSUFFICIENT_FUNDS"),),
    )
    assert (await balances(services, RIDERS[3]), await balances(services, RIDERS[0])) == (
        (5, 40_000, 0),
        (20, 20_000, 0),
    )
    assert (await audit_books(services)).findings == []


async def test_a_rule_switched_off_for_the_past_gives_nothing_and_no_difference_posts_nothing(
    services: Services, clock: ManualClock
) -> None:
    action = await ride(services)
    since = clock.now() - timedelta(days=3)
    await correct(services, 80_000, since=since, note_en="the same again")
    assert (await restate(services)).done == Count(unchanged=1)
    assert (await found(services, action.id)) == action
    off = {"enabled": False, "why_disabled_zh": "停运", "why_disabled_en": "closed"}
    await correct(services, 80_000, number=3, since=since, **off)
    assert (await restate(services, V3, key="restate-0002")).done == Count(acts=1, reduction_mg=-40_000, points=-40)
    assert await balances(services) == (0, 0, 0)
    assert (await audit_books(services)).findings == []


async def test_an_act_too_small_for_a_point_gains_one(services: Services, clock: ManualClock) -> None:
    small = await ride(services, "alice", "steps", kind="walk", unit=Unit.STEP, quantity=110)
    assert (small.status, small.points) == (Status.CREDITED, 0)
    wording = {"rule": "R-WALK1", "formula": {"family": "PER_QUANTITY", "rate": "90/1"}}
    since = clock.now() - timedelta(days=3)
    await published(services, await begin(services, wording, key="correction-2"), valid_from=since)
    job = await restate(services, RuleRef("R-WALK1", 2))
    assert job.done == Count(acts=1, reduction_mg=9_900 // 2 - small.reduction_mg, points=4)
    assert await balances(services) == (4, 9_900 // 2, 0)
    assert (await audit_books(services)).findings == []


async def test_an_act_that_lacks_what_the_formula_needs_is_told(services: Services, clock: ManualClock) -> None:
    action = await ride(services, "alice", "metro", kind="metro_ride")
    assert action.status is Status.CREDITED
    wording = {"rule": "R-MET2", "formula": {"family": "FULL_PERIODS", "rate": "90000/1", "period_s": 3_600}}
    since = clock.now() - timedelta(days=3)
    await published(services, await begin(services, wording, key="correction-2"), valid_from=since)
    job = await restate(services, RuleRef("R-MET2", 2))
    unmeasurable = Count(refused=1, unrestatable=(Unrestatable(action.id, "UNMEASURABLE"),))
    assert job.estimate is not None
    assert (job.estimate.count, job.done) == (unmeasurable, unmeasurable)
    assert await found(services, action.id) == action


async def test_acts_that_are_bound_are_told_and_left(services: Services, clock: ManualClock) -> None:
    free, pooled = await ride(services), await ride(services, "bob")

    async def find_bound(_: Tx, actions: Sequence[ActionId]) -> frozenset[ActionId]:
        return frozenset({pooled.id}).intersection(actions)

    services.restating._find_bound = find_bound
    await correct(services, 40_000, since=clock.now() - timedelta(days=3))
    job = await restate(services)
    assert job.done == Count(
        acts=1, refused=1, reduction_mg=-20_000, points=-20, unrestatable=(Unrestatable(pooled.id, "BOUND"),)
    )
    assert (await found(services, pooled.id), (await found(services, free.id)).points) == (pooled, 20)


@pytest.mark.parametrize("batches", [0, 1, 2])
async def test_a_worker_that_dies_between_batches_restates_no_act_twice_and_leaves_none_out(
    services: Services, clock: ManualClock, batches: int
) -> None:
    acts = [await ride(services, name) for name in RIDERS]
    await correct(services, 40_000, since=clock.now() - timedelta(days=3))
    work_off = services.restating.work_off
    services.restating._batch_size = 2
    job = await propose(services)
    await work_off()
    await services.restating.approve(ROOT_2, job.id, key="approve-0001")
    real, calls = services.ledger.post_within, 0

    async def dying(*args: Any, **given: Any) -> Any:
        nonlocal calls
        calls += 1
        posted = await real(*args, **given)
        if calls > batches:
            raise asyncio.CancelledError
        return posted

    services.ledger.post_within = dying  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await work_off()
    assert (await looked_up(services, job)).done.acts == 2 * batches
    assert (await audit_books(services)).findings == []
    services.ledger.post_within = real  # type: ignore[method-assign]
    await asyncio.gather(work_off(), work_off())
    done = await looked_up(services, job)
    assert (done.stage, done.done) == (Stage.DONE, Count(acts=5, reduction_mg=-100_000, points=-100))
    assert [len((await found(services, act.id)).restatements) for act in acts] == [1] * 5
    assert await services.restating.work_off() == 0
    assert (await audit_books(services)).findings == []


async def test_two_workers_at_once_restate_each_act_once(services: Services, clock: ManualClock) -> None:
    acts = [await ride(services, name) for name in RIDERS]
    await correct(services, 40_000, since=clock.now() - timedelta(days=3))
    services.restating._batch_size = 2
    job = await propose(services)
    await services.restating.work_off()
    running = await services.restating.approve(ROOT_2, job.id, key="approve-0001")
    # As if the lease were lost: nothing but the database keeps them apart.
    await asyncio.gather(*(services.restating._run(running) for _ in range(3)))
    await services.restating.work_off()
    assert (await looked_up(services, job)).done == Count(acts=5, reduction_mg=-100_000, points=-100)
    assert {(await found(services, act.id)).points for act in acts} == {20}
    assert (await audit_books(services)).findings == []


async def test_a_restated_act_that_is_superseded_loses_all_of_it(services: Services, clock: ManualClock) -> None:
    trip = {"trip_id": "T-1"}
    weak = await ride(services, attributes=trip)
    await correct(services, 60_000, since=clock.now() - timedelta(days=3))
    await restate(services)
    strong = bus_ride("strong", citizen=CitizenId("alice"), source="bus", tier=EvidenceTier.OPERATOR, attributes=trip)
    better = await services.actions.record(ADMIN, strong, key="key-0002")
    await services.settling.settle(ALL_SHARDS)
    await services.reviewing.review(REVIEWER, better.id, Decision.APPROVE, "核对过行程", key="review-0001")
    assert await balances(services) == (0, 0, 0)
    assert (await audit_books(services)).findings == []
    await services.settling.settle(ALL_SHARDS)
    assert await balances(services) == (60, 60_000, 0)
    assert [entry.points for entry in (await found(services, weak.id)).restatements] == [-10]
    assert (await audit_books(services)).findings == []


async def test_who_may_not_and_what_cannot_be(services: Services, clock: ManualClock) -> None:
    await ride(services)
    await correct(services, 40_000, since=clock.now() - timedelta(days=3))
    for who in (citizen(), partner(), REVIEWER, VERIFIER):
        assert (await refusal(services, propose(services, who=who))).code == "FORBIDDEN"
    error = await refusal(services, propose(services, RuleRef("R-BUS2", 9)))
    assert (error.code, error.message()) == ("UNKNOWN_VERSION", "no version 9 of the rule R-BUS2 was published")
    now = clock.now()
    for given, problem in (
        ({"reason": ""}, "field reason is invalid: 1–500 characters, none of them control characters"),
        ({"key": "short"}, "field idempotencyKey is invalid: 8–64 printable ASCII characters"),
        ({"since": now, "until": now}, "field to is invalid: must be after from"),
        ({"since": now, "until": now - timedelta(days=1)}, "field to is invalid: must be after from"),
    ):
        error = await refusal(services, propose(services, **given))
        assert (error.code, error.message()) == ("INVALID_INPUT", problem)
    job = await propose(services)
    approve = services.restating.approve
    error = await refusal(services, approve(REVIEWER, job.id, key="approve-0001"))
    assert (error.code, error.message()) == (
        "NOT_PROPOSED",
        "the restatement is ESTIMATING; it does not wait for approval",
    )
    await services.restating.work_off()
    assert (await refusal(services, approve(ADMIN, job.id, key="approve-0001"))).code == "OWN_RESTATEMENT"
    assert (await refusal(services, approve(REVIEWER, "none", key="approve-0001"))).code == "UNKNOWN_RESTATEMENT"
    for who in (citizen(), partner(), VERIFIER):
        assert (await refusal(services, approve(who, job.id, key="approve-0001"))).code == "FORBIDDEN"
    with pytest.raises(DomainError, match="FORBIDDEN"):
        await services.restating.find(citizen(), job.id)
    # Asked again under its key it is the same job; with other words the key is taken.
    assert await propose(services) == await looked_up(services, job)
    error = await refusal(services, propose(services, reason="别的"))
    assert error.code == "IDEMPOTENCY_CONFLICT"
    approved = await approve(REVIEWER, job.id, key="approve-0001")
    assert await approve(REVIEWER, job.id, key="approve-0001") == approved
    assert (await refusal(services, approve(ROOT_2, job.id, key="approve-0002"))).code == "NOT_PROPOSED"


async def test_a_draft_published_for_the_past_tells_how_many_acts_it_concerns(
    services: Services, clock: ManualClock
) -> None:
    for name in RIDERS[:3]:
        await ride(services, name)
    wording = {**BUS, "formula": {"family": "PER_QUANTITY", "rate": "40000/1"}}
    draft = await published(
        services, await begin(services, wording, key="correction-2"), valid_from=clock.now() - timedelta(days=1)
    )
    assert await services.lifecycle.count_affected(draft) == 3
    await restate(services)
    assert await services.lifecycle.count_affected(draft) == 0


async def test_the_auditor_names_restatements_that_were_changed(services: Services, clock: ManualClock) -> None:
    action, other = await ride(services), await ride(services, "bob")
    await correct(services, 40_000, since=clock.now() - timedelta(days=3))
    await restate(services)
    raw = services.database.raw[ACTIONS.name]
    stored = await raw.find_one({"_id": action.id})
    assert stored is not None
    [entry] = stored["restatements"]
    for changed in (
        [],
        [entry, entry],
        [{**entry, "points": entry["points"] - 1}],
        [{**entry, "reduction_mg": entry["reduction_mg"] + 1}],
        [{**entry, "at": entry["at"] + timedelta(seconds=1)}],
        [{**entry, "job": "another"}],
        [{**entry, "revision": type(entry["revision"])(1)}],
        [{**entry, "revision": type(entry["revision"])(99)}],
        [{**entry, "rule": {**entry["rule"], "version": type(entry["revision"])(1)}}],
        [{**entry, "transaction": "tx_other"}],
    ):
        await raw.replace_one({"_id": action.id}, {**stored, "restatements": changed}, bypass_document_validation=True)
        findings = (await audit_books(services)).findings
        assert any(action.id in finding for finding in findings), (changed, findings)
    await raw.replace_one({"_id": action.id}, stored)
    assert (await audit_books(services)).findings == []
    # Nor is one made up: of an act that nobody restated.
    await raw.update_one({"_id": other.id}, {"$push": {"restatements": entry}})
    assert any(other.id in finding for finding in (await audit_books(services)).findings)
