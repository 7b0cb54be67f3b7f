"""Publication of rules: periods that can and cannot be, new kinds, campaigns and limits, and the end of a rule."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.kernel.errors import InvalidInputError, Text
from backend.rules import refusals
from backend.rules.drafts import Stage, Step, Subject
from backend.rules.periods import LEAD
from tests.factories import bus_ride, citizen
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import (
    ANN,
    BEN,
    BUS,
    FLAT,
    TRAM,
    TRAM_RULE,
    approved,
    begin,
    log,
    order,
    published,
    refusal,
)

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.rules.model import RuleVersion
    from backend.runtime import Services

DAY = timedelta(days=1)


async def test_a_period_is_refused_where_it_cannot_be(services: Services, clock: ManualClock) -> None:
    now, publish = clock.now(), services.lifecycle.publish
    planned = await published(services, await begin(services, key="key-0010"), valid_from=now + 10 * DAY)
    assert planned.wording["valid_from"] == now + 10 * DAY
    draft = await approved(services, await begin(services, {**BUS, "formula": FLAT, "minimum": 1}, key="key-0011"))
    refused = await refusal(services, publish(order(draft), valid_from=now - 31 * DAY - timedelta(milliseconds=1)))
    assert isinstance(refused, refusals.PeriodInPastError)
    assert refused.days == 31
    for period in ({}, {"valid_from": now - DAY}, {"valid_to": now + 10 * DAY + timedelta(milliseconds=1)}):
        refused = await refusal(services, publish(order(draft), **period))
        assert isinstance(refused, refusals.PeriodOverlapError)
        assert refused.version == "R-BUS2 v2"
    for end in (now, now - DAY):
        refused = await refusal(services, publish(order(draft), valid_from=now, valid_to=end))
        assert isinstance(refused, InvalidInputError)
    # Beginning with the planned version, a newer one takes its place; and what was planned is no longer in force.
    await publish(order(draft), valid_from=now + 10 * DAY)
    short = await approved(services, await begin(services, {**BUS, "minimum": 1, "points": "2/1000"}, key="key-0012"))
    short = await publish(order(short), valid_from=now - 31 * DAY, valid_to=now + 10 * DAY)
    book = await services.rules.book()
    found = [book.version_for("bus_ride", now + days * DAY) for days in (-32, -31, 0, 9, 10, 99)]
    assert [version.version for version in found if version] == [1, 4, 4, 4, 3, 3]
    counted: list[RuleVersion] = []

    async def count(version: RuleVersion) -> int:
        counted.append(version)
        return 7

    assert await services.lifecycle.count_affected(short) == 0
    services.lifecycle._count_affected = count
    assert [await services.lifecycle.count_affected(each) for each in (short, planned, draft)] == [7, None, None]
    assert [version.version for version in counted] == [4]


async def test_a_new_kind_and_its_rule_need_no_code_and_no_gap(services: Services, clock: ManualClock) -> None:
    now, publish = clock.now(), services.lifecycle.publish
    early = await refusal(services, begin(services, TRAM_RULE))
    assert isinstance(early, refusals.RuleProblemsError)
    assert (early.path, early.problem.en) == ("kind", "there is no kind tram")
    kind = await approved(services, await begin(services, TRAM, Subject.KIND, key="key-0020"))
    assert isinstance(await refusal(services, publish(order(kind), valid_from=now)), InvalidInputError)
    await publish(order(kind))
    assert (await services.rules.book()).kinds["tram"].name_zh == "有轨电车"
    again = await refusal(services, begin(services, {**TRAM, "maximum": 5}, Subject.KIND, key="key-0021"))
    assert isinstance(again, refusals.RuleProblemsError)
    assert again.path == "code"
    rule = await approved(services, await begin(services, TRAM_RULE, key="key-0022"))
    gap = await refusal(services, publish(order(rule), valid_from=now, valid_to=now + DAY))
    assert isinstance(gap, refusals.PeriodGapError)
    assert gap.kind == "tram"
    await publish(order(rule), valid_from=now)
    book = await services.rules.book()
    assert [v.name for v in book.find_rule("R-TRAM")] == ["R-TRAM v1"]
    assert book.version_for("tram", now - timedelta(milliseconds=1)) is None


async def test_a_rule_is_retired_by_two_persons_from_a_date_on(services: Services, clock: ManualClock) -> None:
    now, why = clock.now(), Text("线路停运", "the line is closed")
    retire = services.lifecycle.retire
    for rule, at, reason, expected in (
        ("R-NONE", None, why, refusals.UnknownRuleError),
        ("R-BUS2", now - 32 * DAY, why, refusals.PeriodInPastError),
        ("R-BUS2", None, Text("", "closed"), refusals.RuleProblemsError),
    ):
        refused = await refusal(services, retire(ANN, rule, at, reason, key="key-0030", reason=""))
        assert isinstance(refused, expected)
    draft = await retire(ANN, "R-BUS2", now + DAY, why, key="key-0030", reason="closing")
    assert (draft.stage, draft.retires, draft.wording["enabled"]) == (Stage.SUBMITTED, True, False)
    assert await retire(ANN, "R-BUS2", now + DAY, why, key="key-0030", reason="closing") == draft
    edit = services.lifecycle.edit(order(draft), Subject.RULE, {**BUS, "enabled": True})
    assert isinstance(await refusal(services, edit), InvalidInputError)
    own = await refusal(services, services.lifecycle.approve(order(draft)))
    assert isinstance(own, refusals.SamePersonError)
    draft = await services.lifecycle.approve(order(draft, BEN))
    dated = services.lifecycle.publish(order(draft), valid_from=now)
    assert isinstance(await refusal(services, dated), InvalidInputError)
    # Approved too late for the date it names, it ends as soon as it can; nothing settled is touched.
    clock.advance(2 * DAY)
    await services.lifecycle.publish(order(draft))
    book = await services.rules.book()
    end = clock.now() + LEAD
    found = [book.version_for("bus_ride", moment) for moment in (end - timedelta(milliseconds=1), end)]
    assert [version.enabled for version in found if version] == [True, False]
    assert found[1] is not None
    assert (found[1].version, found[1].why_disabled_en) == (2, "the line is closed")
    gone = await refusal(services, retire(ANN, "R-BUS2", end, why, key="key-0031", reason=""))
    assert isinstance(gone, refusals.UnknownRuleError)
    assert (await log(services))[0] == (ANN, Step.RETIRE, "closing")


async def test_campaigns_and_limits_take_the_same_way(services: Services, clock: ManualClock) -> None:
    now = clock.now()
    campaign = {
        "code": "green-week",
        "name_zh": "绿色周",
        "name_en": "Green week",
        "starts_at": now,
        "ends_at": now + 7 * DAY,
        "kinds": ["bus_ride"],
        "percent": 50,
        "budget": 10_000,
    }
    broken = await refusal(services, begin(services, {**campaign, "kinds": ["teleport"]}, Subject.CAMPAIGN))
    assert isinstance(broken, refusals.RuleProblemsError)
    assert broken.path == "kinds"
    await published(services, await begin(services, campaign, Subject.CAMPAIGN))
    # Another draft of it takes from the published one what it does not say itself.
    shorter = {"code": "green-week", "ends_at": now + DAY}
    await published(services, await begin(services, shorter, Subject.CAMPAIGN, key="key-0041"))
    book = await services.rules.book()
    last = book.revision
    assert [len(book.campaigns_for("bus_ride", now + days * DAY)) for days in (0, 1)] == [1, 0]
    assert [len(book.campaigns_for("bus_ride", now + DAY, revision)) for revision in (last - 2, last - 1)] == [0, 1]
    assert [found.percent for found in book.latest_campaigns()] == [50]
    past = {**campaign, "code": "past", "starts_at": now - 32 * DAY, "ends_at": now - DAY}
    draft = await approved(services, await begin(services, past, Subject.CAMPAIGN, key="key-0042"))
    refused = await refusal(services, services.lifecycle.publish(order(draft)))
    assert isinstance(refused, refusals.PeriodInPastError)
    cap = {"group": "city", "period": "YEAR", "measure": "POINTS", "limit": 5, "basis": "test", "scope": "EVERYBODY"}
    limits = {"limits": [{"cap": cap, "kinds": ["bus_ride"], "categories": []}]}
    draft = await published(services, await begin(services, limits, Subject.LIMITS, key="key-0043"))
    assert (draft.name, draft.named) == ("programme", "limits:programme")
    book = await services.rules.book()
    assert [found.group for found in book.caps_for("bus_ride")] == ["city"]
    assert [found.group for found in book.caps_for("metro")] == []
    mixed = await begin(services, {**BUS, "caps": [{**cap, "scope": "CITIZEN"}]}, key="key-0044")
    mixed = await services.lifecycle.validate(order(mixed))
    assert [(found.path, found.problem.en) for found in mixed.problems] == [
        ("caps[0].group", "city is a group of the programme's own limits")
    ]


async def test_each_batch_goes_by_one_book_while_rules_are_published(services: Services, clock: ManualClock) -> None:
    now, recorded = clock.now(), []

    async def settle(batch: int) -> None:
        for number in range(8):
            name = f"rider-{batch}-{number}"
            ride = bus_ride(name, occurred_at=now - timedelta(minutes=number))
            recorded.append(await services.actions.record(citizen(name), ride, key=f"key-{name}"))
        await services.settling.settle(ALL_SHARDS)

    async def publish_for_the_past() -> None:
        for number in range(4):
            changes = {**BUS, "formula": {"family": "PER_QUANTITY", "rate": f"{60_000 + number}/1"}}
            draft = await approved(services, await begin(services, changes, key=f"key-006{number}"))
            await services.lifecycle.publish(order(draft), valid_from=now - timedelta(minutes=4))

    await settle(0)
    publishing = asyncio.create_task(publish_for_the_past())
    for batch in range(1, 5):
        await settle(batch)
    await publishing
    await settle(5)
    book = await services.rules.book()
    found = await services.actions.find_actions([action.id for action in recorded])
    assert len(found) == 48
    for action in found.values():
        settled = action.settlement
        assert settled is not None
        assert settled.rule is not None
        version = book.version_for("bus_ride", action.occurred_at, revision=settled.revision)
        assert version is not None
        assert (settled.rule.version, settled.reduction_mg) == (version.version, version.factor.floor_times(1) // 2)
    versions = {action.settlement.rule.version for action in found.values() if action.settlement}  # type: ignore[union-attr]
    assert versions >= {1, 5}
