"""The life cycle of rules: from a draft to its publication by two persons' hands, every step told, no step lost."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.rules import refusals
from backend.rules.drafts import Change, Stage, Step, Subject
from backend.rules.lifecycle import Lifecycle, LifecyclePolicy
from backend.rules.periods import LEAD
from tests.conftest import dump
from tests.integration.drafting import (
    ANN,
    BEN,
    BUS,
    approved,
    begin,
    log,
    order,
    published,
    refusal,
    submitted,
)

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

DAY = timedelta(days=1)


async def test_a_rule_goes_from_a_draft_into_the_book_through_two_persons_hands(
    services: Services, clock: ManualClock
) -> None:
    before = await services.rules.book()
    draft = await begin(services, reason="new figures")
    assert (draft.stage, draft.revision, draft.name, draft.base, draft.author) == (Stage.DRAFT, 1, "R-BUS2", 1, ANN)
    assert draft.wording["version"] == 2
    assert draft.wording["note_en"] == before.versions["bus_ride"][0].note_en
    draft = await services.lifecycle.validate(order(draft))
    assert (draft.stage, draft.problems) == (Stage.VALIDATED, ())
    draft = await services.lifecycle.attach_backtest(
        ANN, draft.id, written=draft.written, job="job-0001", figures={"points": -12}
    )
    assert (draft.stage, draft.backtest and draft.backtest.figures) == (Stage.BACKTESTED, {"points": -12})
    draft = await services.lifecycle.submit(order(draft))
    draft = await services.lifecycle.approve(order(draft, BEN, reason="agreed"))
    assert (draft.stage, draft.approver) == (Stage.APPROVED, BEN)
    assert (await services.rules.book()).revision == before.revision
    clock.advance(DAY)
    draft = await services.lifecycle.publish(order(draft))
    book, moment = await services.rules.book(), clock.now() + LEAD
    assert (draft.stage, draft.published) == (Stage.PUBLISHED, book.revision)
    assert book.revision == before.revision + 1
    for occurred_at, version in ((moment - timedelta(milliseconds=1), 1), (moment, 2)):
        assert (found := book.version_for("bus_ride", occurred_at)) is not None
        assert found.version == version
    assert (found := book.version_for("bus_ride", moment)) is not None
    assert (found.factor.numerator, found.published_at, found.revision) == (70_000, clock.now(), book.revision)
    assert book.known_at(clock.now() - timedelta(milliseconds=1)) == before.revision
    assert book.version_for("bus_ride", moment, revision=before.revision) == before.versions["bus_ride"][0]
    assert await log(services) == [
        (ANN, Step.DRAFT, "new figures"),
        (ANN, Step.VALIDATE, ""),
        (ANN, Step.BACKTEST, ""),
        (ANN, Step.SUBMIT, ""),
        (BEN, Step.APPROVE, "agreed"),
        (ANN, Step.PUBLISH, ""),
    ]


async def test_the_log_tells_each_difference_and_is_only_added_to(services: Services) -> None:
    draft = await begin(services)
    [first] = await services.lifecycle.list_log("rule:R-BUS2", limit=9, older=None, newer=None, newest=True)
    assert first.difference == (
        Change("formula.rate", '"80000/1"', '"70000/1"'),
        Change("stage", None, '"DRAFT"'),
        Change("version", "1", "2"),
    )
    kept = (await dump(services))["rule_log"]
    await services.lifecycle.edit(order(draft), Subject.RULE, {**BUS, "condition": "weekday < 6", "minimum": 1})
    entries = await services.lifecycle.list_log("rule:R-BUS2", limit=9, older=None, newer=None, newest=True)
    assert [(entry.step, entry.draft) for entry in entries] == [(Step.EDIT, draft.id), (Step.DRAFT, draft.id)]
    assert entries[0].difference == (Change("condition", None, '"weekday < 6"'),)
    assert [entry for entry in (await dump(services))["rule_log"] if entry in kept] == kept
    place = (entries[0].at, entries[0].id)
    older = await services.lifecycle.list_log("rule:R-BUS2", limit=9, older=place, newer=None, newest=True)
    newer = await services.lifecycle.list_log(None, limit=1, older=None, newer=(first.at, first.id), newest=False)
    assert (older, newer) == ([first], [entries[0]])
    assert await services.lifecycle.list_log("rule:R-X", limit=9, older=None, newer=None, newest=True) == []


BROKEN: list[tuple[dict[str, Any], str, str, str]] = [
    ({"condition": "hour >"}, "condition", "", ""),
    ({"condition": "speed > 3"}, "condition", "", ""),
    ({"kind": "teleport"}, "kind", "没有行为种类 teleport", "there is no kind teleport"),
    ({"formula": {"family": "PER_QUANTITY", "rate": "1/0"}}, "formula.rate", "", ""),
    ({"formula": {"family": "PER_QUANTITY", "rate": "-1/2"}}, "formula.rate", "", ""),
    (
        {
            "formula": {
                "family": "BASELINE_MINUS_PROJECT",
                "baseline": [{"name_zh": "甲", "name_en": "a", "rate": "1/1"}],
                "project": [{"name_zh": "乙", "name_en": "b", "rate": "2/1"}],
            }
        },
        "formula.project",
        "",
        "",
    ),
    ({"bounds_basis": ""}, "boundsBasis", "", ""),
    ({"methodology": "NOBODYS"}, "methodology", "没有方法学 NOBODYS", "NOBODYS is not among the methodologies"),
    ({"rule": "R-NEW"}, "kind", "缺少此字段", "is missing"),
    ({"colour": "red"}, "colour", "未知字段", "unknown field"),
]


async def test_what_is_broken_is_told_by_its_field_and_not_saved(services: Services) -> None:
    for changes, path, zh, en in BROKEN:
        refused = await refusal(services, begin(services, {**BUS, **changes}))
        assert isinstance(refused, refusals.RuleProblemsError)
        assert refused.path == path
        assert refused.problem == refused.problems[0].problem
        assert refused.problem.zh.strip()
        assert refused.problem.en.isascii()
        if zh:
            assert refused.problem == Text(zh, en)
    refused = await refusal(services, begin(services, {**BUS, "condition": "quantity > 0 &&\n  speed > 3"}))
    assert isinstance(refused, refusals.RuleProblemsError)
    assert [(found.path, found.line, found.column) for found in refused.problems] == [("condition", 2, 3)]
    refused = await refusal(services, begin(services, {**BUS, "profile": "shanghai-2026"}))
    assert isinstance(refused, refusals.ForeignProfileError)
    assert refused.profile == "shanghai-2026"
    draft = await begin(services)
    refused = await refusal(services, services.lifecycle.edit(order(draft), Subject.RULE, {**BUS, "caps": [{}]}))
    assert isinstance(refused, refusals.RuleProblemsError)
    assert refused.path == "caps[0].group"
    for subject, changes in ((Subject.RULE, {"rule": "R-BUS1"}), (Subject.KIND, {"code": "R-BUS2"})):
        refused = await refusal(services, services.lifecycle.edit(order(draft), subject, changes))
        assert isinstance(refused, InvalidInputError)
        assert refused.problem == Text("草稿的对象不可更换", "a draft keeps to what it is of")


async def test_nobody_approves_what_they_wrote_edited_or_submitted(services: Services) -> None:
    draft = await begin(services)
    draft = await services.lifecycle.edit(order(draft, BEN), Subject.RULE, {**BUS, "minimum": 1})
    draft = await services.lifecycle.validate(order(draft))
    draft = await services.lifecycle.submit(order(draft, "staff:cai"), why_untested="a test")
    for actor in (ANN, BEN, "staff:cai"):
        refused = await refusal(services, services.lifecycle.approve(order(draft, actor)))
        assert isinstance(refused, refusals.SamePersonError)
    draft = await services.lifecycle.approve(order(draft, "staff:dai"))
    # Whoever writes it anew takes the approval away, and can no longer give it.
    draft = await services.lifecycle.edit(order(draft, "staff:dai"), Subject.RULE, {**BUS, "maximum": 1})
    assert (draft.stage, draft.approver, draft.why_untested) == (Stage.DRAFT, None, None)
    draft = await submitted(services, draft)
    assert isinstance(
        await refusal(services, services.lifecycle.approve(order(draft, "staff:dai"))), refusals.SamePersonError
    )


async def test_each_step_is_for_its_stage(services: Services) -> None:
    life = services.lifecycle
    draft = await begin(services)

    async def refuses(expected: str, *steps: str) -> None:
        for step in steps:
            refused = await refusal(services, getattr(life, step)(order(draft, BEN, key=f"key-{step}-of-ben")))
            assert isinstance(refused, refusals.WrongStageError)
            assert (refused.stage, refused.expected) == (draft.stage.value, expected)

    await refuses("SUBMITTED", "approve", "reject")
    await refuses("APPROVED", "publish")
    await refuses("VALIDATED / BACKTESTED", "submit")
    draft = await life.validate(order(draft))
    assert isinstance(await refusal(services, life.submit(order(draft))), refusals.NotBacktestedError)
    draft = await life.submit(order(draft), why_untested="too few acts")
    await refuses("DRAFT / VALIDATED / BACKTESTED", "validate")
    draft = await life.reject(order(draft, BEN, reason="no"))
    await refuses("SUBMITTED", "approve", "reject")
    draft = await published(services, await life.edit(order(draft), Subject.RULE, BUS))
    open_stages = "DRAFT / VALIDATED / BACKTESTED / SUBMITTED / APPROVED / REJECTED"
    await refuses(open_stages, "discard")
    draft = await life.discard(order(await begin(services, key="key-0002")))
    assert draft.stage is Stage.DISCARDED
    await refuses(open_stages, "discard")
    await refuses("APPROVED", "publish")


async def test_a_step_is_from_what_was_seen_and_once_for_its_key(services: Services) -> None:
    draft = await begin(services)
    assert await begin(services) == draft
    edited = await services.lifecycle.edit(order(draft), Subject.RULE, {**BUS, "minimum": 1})
    # Under the same key nothing happens twice; under another, the draft is no longer what was seen.
    assert await services.lifecycle.edit(order(draft), Subject.RULE, {**BUS, "minimum": 1}) == edited
    refused = await refusal(services, services.lifecycle.validate(order(draft)))
    assert isinstance(refused, refusals.StaleDraftError)
    assert refused.revision == 2
    for asked in (
        begin(services, {**BUS, "minimum": 1}),
        begin(services, reason="another"),
        services.lifecycle.edit(order(draft), Subject.RULE, {**BUS, "minimum": 2}),
    ):
        assert isinstance(await refusal(services, asked), IdempotencyConflictError)
    refused = await refusal(
        services, services.lifecycle.validate(dataclasses.replace(order(draft), draft="draft_none"))
    )
    assert isinstance(refused, refusals.UnknownDraftError)
    assert refused.draft == "draft_none"
    # A back-test of a text that was written anew since is not of this one.
    edited = await services.lifecycle.validate(order(edited))
    attach = services.lifecycle.attach_backtest
    refused = await refusal(services, attach(ANN, draft.id, written=draft.written, job="job-0001", figures={}))
    assert isinstance(refused, refusals.StaleDraftError)
    tested = await attach(ANN, draft.id, written=edited.written, job="job-0002", figures={"acts": 5})
    assert await attach(ANN, draft.id, written=edited.written, job="job-0002", figures={"acts": 5}) == tested
    # The back-test is of the text, which validating again does not change.
    assert (await services.lifecycle.validate(order(tested))).stage is Stage.BACKTESTED


async def test_of_racing_approvals_and_publications_one_wins(services: Services) -> None:
    draft = await submitted(services, await begin(services))
    people = [f"staff:p{number}" for number in range(6)]
    for step, expected in ((services.lifecycle.approve, Stage.APPROVED), (services.lifecycle.publish, Stage.PUBLISHED)):
        results = await asyncio.gather(*(step(order(draft, person)) for person in people), return_exceptions=True)
        won = [result for result in results if not isinstance(result, BaseException)]
        lost = [result for result in results if isinstance(result, refusals.StaleDraftError)]
        assert (len(won), len(lost)) == (1, 5)
        [draft] = won
        assert draft.stage is expected
        assert {refused.revision for refused in lost} == {draft.revision}
    book = await services.rules.book()
    assert [version.version for version in book.find_rule("R-BUS2")] == [2, 1]
    assert [step for _, step, _ in await log(services)] == [
        Step.DRAFT,
        Step.VALIDATE,
        Step.SUBMIT,
        Step.APPROVE,
        Step.PUBLISH,
    ]


async def test_a_draft_beside_a_newer_version_is_written_anew(services: Services) -> None:
    late = await begin(services, {**BUS, "minimum": 1, "maximum": 1}, key="key-late1")
    ready = await approved(services, await begin(services, {**BUS, "points": "2/1000"}, key="key-late2"))
    await published(services, await begin(services))
    refused = await refusal(services, services.lifecycle.publish(order(ready)))
    assert isinstance(refused, refusals.RuleProblemsError)
    assert refused.path == "version"
    late = await services.lifecycle.validate(order(late))
    assert late.stage is Stage.DRAFT
    [problem] = late.problems
    assert problem.problem.en == "a newer version was published meanwhile; edit the draft anew"
    late = await services.lifecycle.edit(order(late), Subject.RULE, BUS)
    assert (late.base, late.wording["version"]) == (2, 3)
    assert (await published(services, late)).published == (await services.rules.book()).revision
    # The version that has not begun is still planned; what begins later takes over from it.
    assert [version.version for version in (await services.rules.book()).find_rule("R-BUS2")] == [3, 2, 1]


async def test_a_limit_that_rules_share_is_judged_beside_them(services: Services) -> None:
    bus = (await services.rules.book()).versions["bus_ride"][0]
    caps = [
        {"group": cap.group, "period": cap.period.value, "measure": cap.measure.value, "limit": 3, "basis": "test"}
        for cap in bus.caps
    ]
    assert [cap["group"] for cap in caps] == ["bus", "bus_ride"]
    draft = await services.lifecycle.validate(order(await begin(services, {**BUS, "caps": caps})))
    assert draft.stage is Stage.DRAFT
    assert [problem.path for problem in draft.problems] == ["caps[0]"]
    draft = await services.lifecycle.edit(order(draft), Subject.RULE, {**BUS, "caps": caps[1:]})
    assert (draft.problems, draft.stage) == ((), Stage.DRAFT)
    assert (await services.lifecycle.validate(order(draft))).stage is Stage.VALIDATED


async def test_a_programme_may_do_without_back_tests_and_look_further_back(
    services: Services, clock: ManualClock
) -> None:
    lax = Lifecycle(
        reads=services.lifecycle._reads,
        transactions=services.settling._transactions,
        rules=services.rules,
        clock=clock,
        policy=LifecyclePolicy(past_window=timedelta(days=90), backtest_needed=False),
        methodologies={},
    )
    draft = await lax.validate(order(await begin(services)))
    draft = await lax.submit(order(draft))
    draft = await lax.approve(order(draft, BEN))
    assert (await lax.publish(order(draft), valid_from=clock.now() - 90 * DAY)).stage is Stage.PUBLISHED


async def test_drafts_are_listed_by_stage_newest_first(services: Services, clock: ManualClock) -> None:
    made = []
    for number in range(3):
        made.append(await begin(services, key=f"key-005{number}"))
        clock.advance(timedelta(seconds=1))
    discarded = await services.lifecycle.discard(order(made[1]))
    listed = services.lifecycle.list_drafts
    everything = await listed(None, limit=9, older=None, newer=None, newest=True)
    assert everything == [made[2], discarded, made[0]]
    assert await listed(Stage.DISCARDED, limit=9, older=None, newer=None, newest=True) == [discarded]
    place = (discarded.created_at, discarded.id)
    assert await listed(None, limit=1, older=place, newer=None, newest=True) == [made[0]]
    assert await listed(None, limit=1, older=None, newer=place, newest=False) == [made[2]]
    assert await services.lifecycle.find_draft(discarded.id) == discarded
    assert await services.lifecycle.find_draft("draft_none") is None
