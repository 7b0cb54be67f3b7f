"""What attacks on the rules found: campaigns changed late or twice, records of one act, corrections, the audit."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backend.actions import settling
from backend.actions.backtesting.model import Trial
from backend.actions.explaining import explain_action
from backend.actions.model import RuleRef, Status
from backend.audit import audit_books
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.ids import CitizenId
from backend.ledger.model import POINTS, citizen_owner
from backend.rules.conversion import Award, convert
from backend.rules.drafts import Stage, Subject
from backend.rules.refusals import RuleProblemsError, WrongStageError
from tests.factories import ADMIN, bus_ride, citizen
from tests.integration.backtesting import days_before, finished
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import BUS, approved, begin, order, published, refusal, submitted

if TYPE_CHECKING:
    import pytest

    from backend.actions.model import Action
    from backend.actions.restatements import RestatementJob
    from backend.kernel.clock import ManualClock
    from backend.rules.conversion import Conversion
    from backend.rules.drafts import Draft
    from backend.runtime import Services

REVIEWER = Principal(PrincipalKind.STAFF, "rita", frozenset({StaffRole.REVIEWER}))
DAY = timedelta(days=1)
TRIP = {"trip_id": "T-1"}


async def act(services: Services, name: str, ref: str, **changes: Any) -> Action:
    action = await services.actions.record(citizen(name), bus_ride(ref, **changes), key=f"key-{name}-{ref:>04}")
    await services.settling.settle(ALL_SHARDS)
    return (await services.actions.find_actions([action.id]))[action.id]


async def spring(services: Services, clock: ManualClock, key: str, **changes: Any) -> Draft:
    given = {
        "code": "c-spring",
        "name_zh": "春季",
        "name_en": "Spring",
        "starts_at": clock.now() - DAY,
        "ends_at": clock.now() + 90 * DAY,
        "kinds": ["bus_ride"],
        "audience": "EVERY_ACT",
        "bonus": 5,
        "stackable": True,
        "budget": 1_000,
    }
    return await begin(services, {**given, **changes} if key == "key-camp-1" else changes, Subject.CAMPAIGN, key=key)


async def restate(services: Services, rule: RuleRef, key: str) -> RestatementJob | None:
    now = services.clock.now()
    job = await services.restating.propose(ADMIN, rule, now - 2 * DAY, now, "test", dry_run=False, key=key)
    await services.restating.work_off()
    await services.restating.approve(REVIEWER, job.id, key=f"ap-{key}")
    await services.restating.work_off()
    return await services.restating.find(ADMIN, job.id)


async def test_a_campaign_that_runs_for_months_can_be_ended(services: Services, clock: ManualClock) -> None:
    await published(services, await spring(services, clock, "key-camp-1"))
    clock.advance(40 * DAY)
    draft = await spring(services, clock, "key-camp-2", code="c-spring", ends_at=clock.now())
    assert (await published(services, draft)).stage is Stage.PUBLISHED
    [campaign] = (await services.rules.book()).latest_campaigns()
    assert campaign.ends_at == clock.now()


async def test_a_draft_of_a_campaign_does_not_undo_what_was_published_meanwhile(
    services: Services, clock: ManualClock
) -> None:
    await published(services, await spring(services, clock, "key-camp-1"))
    first = await spring(services, clock, "key-camp-2", code="c-spring", budget=7)
    second = await approved(services, await spring(services, clock, "key-camp-3", code="c-spring", name_en="Spring!"))
    await published(services, first)
    assert isinstance(await refusal(services, services.lifecycle.publish(order(second))), RuleProblemsError)
    [campaign] = (await services.rules.book()).latest_campaigns()
    assert (campaign.budget, campaign.name_en) == (7, "Spring")


async def test_a_campaign_at_the_end_of_the_calendar_is_refused(services: Services, clock: ManualClock) -> None:
    far = clock.now().replace(year=3000)
    asked = spring(services, clock, "key-camp-1", starts_at=far, ends_at=far + DAY)
    assert isinstance(await refusal(services, asked), RuleProblemsError)


async def test_a_back_test_credits_one_act_once(services: Services, clock: ManualClock) -> None:
    shut = await begin(services, {**BUS, "condition": "hour >= 24"}, key="key-shut-1")
    await published(services, shut, valid_from=clock.now() - 5 * DAY)
    for ref, source in (("one", "app"), ("two", "card")):
        refused = await act(services, "alice", ref, source=source, attributes=TRIP, occurred_at=clock.now() - DAY)
        assert refused.status is Status.REJECTED
    clock.advance(timedelta(seconds=1))
    draft = await services.lifecycle.validate(
        order(await begin(services, {**BUS, "condition": None}, key="key-open-2"))
    )
    job = await services.backtesting.start(ADMIN, Trial(draft=draft.id), days_before(services, 3), key="bt-000001")
    done = await finished(services, job)
    assert done.result is not None
    assert (done.result.total.credited_after, done.result.total.points_after, done.result.kept) == (1, 40, 1)


async def test_points_that_a_cap_cut_do_not_come_back_by_corrections(services: Services, clock: ManualClock) -> None:
    capped = [{"group": "bus_ride", "period": "DAY", "measure": "POINTS", "limit": 10, "basis": "test"}]
    since = clock.now() - 6 * DAY
    await published(services, await begin(services, {**BUS, "caps": capped}, key="key-cap-01"), valid_from=since)
    await act(services, "alice", "one")
    points = []
    for number, rate in ((3, "0/1"), (4, "80000/1"), (5, "160000/1")):
        changes = {**BUS, "formula": {"family": "PER_QUANTITY", "rate": rate}}
        if rate == "0/1":
            changes |= {"enabled": False, "why_disabled_zh": "停", "why_disabled_en": "off"}
        else:
            changes |= {"enabled": True, "why_disabled_zh": None, "why_disabled_en": None}
        await published(services, await begin(services, changes, key=f"key-fix-{number}"), valid_from=since)
        await restate(services, RuleRef("R-BUS2", number), f"restate-{number:04}")
        page = await services.ledger.get_page(citizen_owner(CitizenId("alice")))
        points.append(page.balance(POINTS))
    assert points == [0, 10, 10]
    assert (await audit_books(services)).findings == []


async def test_an_explanation_tells_what_was_corrected_since(services: Services, clock: ManualClock) -> None:
    action = await act(services, "alice", "one")
    doubled = {**BUS, "formula": {"family": "PER_QUANTITY", "rate": "160000/1"}}
    await published(services, await begin(services, doubled, key="key-dbl-1"), valid_from=clock.now() - 3 * DAY)
    await restate(services, RuleRef("R-BUS2", 2), "restate-0002")
    action = (await services.actions.find_actions([action.id]))[action.id]
    lines = explain_action(action, await services.rules.book(), services.programme.zone, None)
    assert [line.en for line in lines[-3:]] == [
        "Together: 40 g and 40 points",
        "Corrected by R-BUS2 v2: +40,000 mg and +40 points",
        "Now: 80,000 mg and 80 points",
    ]


async def test_the_audit_names_what_a_campaign_does_not_give(
    services: Services, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await published(services, await spring(services, clock, "key-camp-1"))

    def generous(*given: Any, **named: Any) -> Conversion:
        right = convert(*given, **named)
        return dataclasses.replace(right, points=right.points + 9_995, awards=(Award("c-spring", 10_000),))

    monkeypatch.setattr(settling, "convert", generous)
    action = await act(services, "alice", "one")
    assert action.points == 10_040
    findings = (await audit_books(services)).findings
    assert "campaign c-spring: gave 10000 points of a budget of 1000" in findings
    assert any(finding.startswith(f"action {action.id}: 40000 mg") for finding in findings)


async def test_the_audit_names_a_refusal_that_no_rule_gives(services: Services, clock: ManualClock) -> None:
    early = clock.now() - 40 * DAY
    await services.database.raw["rule_versions"].update_many({}, {"$set": {"wording.valid_from": clock.now()}})
    await services.database.raw["rule_revision"].update_one({}, [{"$set": {"revision": {"$add": ["$revision", 1]}}}])
    action = await act(services, "alice", "one", occurred_at=clock.now() - timedelta(hours=1))
    assert action.settlement is not None
    assert action.settlement.rule is None
    assert (await audit_books(services)).findings == []
    await services.database.raw["rule_versions"].update_many({}, {"$set": {"wording.valid_from": early}})
    await services.database.raw["rule_revision"].update_one({}, [{"$set": {"revision": {"$add": ["$revision", 1]}}}])
    findings = (await audit_books(services)).findings
    assert findings == [f"action {action.id}: is refused for want of a rule, and there was one"]


async def test_an_approved_draft_is_needed_even_to_end_a_campaign(services: Services, clock: ManualClock) -> None:
    await published(services, await spring(services, clock, "key-camp-1"))
    draft = await submitted(services, await spring(services, clock, "key-camp-2", code="c-spring", budget=1))
    refused = await refusal(services, services.lifecycle.publish(order(draft)))
    assert isinstance(refused, WrongStageError)


async def test_no_citizen_is_the_counter_that_everybody_draws_on(services: Services, clock: ManualClock) -> None:
    first = await spring(services, clock, "key-camp-1", audience="FIRST_ACT", bonus=500, budget=1_000)
    await published(services, first)
    names = ("everybody", "bob", "carol")
    awarded = [(await act(services, name, f"of-{name}")).settlement for name in names]
    assert [item.awards[0].points for item in awarded if item] == [500, 500, 0]
    assert (await audit_books(services)).findings == []


async def test_a_restatement_that_cannot_go_on_holds_up_no_other(
    services: Services, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    jobs = [
        await services.restating.propose(
            ADMIN, RuleRef("R-BUS2", 1), now - DAY, now, "test", dry_run=True, key=f"restate-{number:04}"
        )
        for number in range(2)
    ]
    honest = services.restating._estimate

    async def estimate(job: RestatementJob) -> int:
        if job.id == jobs[0].id:
            raise OverflowError("a number that fits nowhere")
        return await honest(job)

    monkeypatch.setattr(services.restating, "_estimate", estimate)
    await services.restating.work_off()
    found = [await services.restating.find(ADMIN, job.id) for job in jobs]
    assert [job.stage.value for job in found if job] == ["ESTIMATING", "ESTIMATED"]
