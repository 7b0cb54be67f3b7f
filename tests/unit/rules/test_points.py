"""Points: multipliers, limits on points and the programme's own, and what each adds to the counters."""

from __future__ import annotations

import pytest

from backend.rules.conversion import (
    Award,
    Outcome,
    Reason,
    Step,
    StepName,
    Terms,
    convert,
    list_cap_keys,
    usage_of,
)
from backend.rules.model import CapKey, CapUsage, EvidenceTier, Measure, Period, Scope
from tests.unit.rules.factories import DAY, credit, make_act, make_campaign, make_cap, make_multiplier, make_version

TODAY = CapKey("group", "2026-11-21")
MULTIPLIED = make_version("1000/1", multipliers=(make_multiplier(150, "hour == 8"), make_multiplier(130)))


def test_multipliers_that_hold_are_multiplied_and_rounded_down_once() -> None:
    # 11 points times 1.5 times 1.3 are 21.45; two floors would give 16, then 20.
    for quantity, points in ((11, 21), (7, 13), (1, 1)):
        result = convert(make_act(quantity), MULTIPLIED, {})
        assert (result.reduction_mg, result.points) == (quantity * 1_000, points)
        assert result.steps[-1] == Step(StepName.MULTIPLIED, points, "150% 130%")


def test_multiplier_that_does_not_hold_changes_nothing() -> None:
    version = make_version("1000/1", multipliers=(make_multiplier(150, "hour == 9"),))
    assert convert(make_act(7), version, {}) == convert(make_act(7), make_version("1000/1"), {})


def test_multiplier_that_cannot_be_decided_sends_the_act_to_a_person() -> None:
    version = make_version(multipliers=(make_multiplier(150, "int(attributes['line']) == 2"),))
    result = convert(make_act(100), version, {})
    assert (result.outcome, result.reason, result.usage) == (Outcome.REVIEW, Reason.CONDITION_FAILED, {})


def test_day_totals_are_kept_for_a_version_that_heeds_them() -> None:
    version = make_version("1000/1", multipliers=(make_multiplier(200, "today_count == 0"),))
    used: dict[CapKey, CapUsage] = {}
    assert [credit(make_act(5), version, used).points for _ in range(3)] == [10, 5, 5]
    assert used == {CapKey("kind:metro", "2026-11-21"): CapUsage(3, 15, 15_000, 20)}
    assert list_cap_keys(version, DAY) == tuple(used)


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize(("spent", "points"), [(0, 10), (92, 8), (100, 0), (101, 0)])
def test_points_cap_limits_points_and_never_the_reduction(scope: Scope, spent: int, points: int) -> None:
    cap = make_cap(100, Measure.POINTS, scope=scope)
    key = CapKey("group", "2026-11-21", scope)
    used = {key: CapUsage(points=spent)}
    for version, terms in (
        (make_version("1000/1", caps=(cap,)), Terms()),
        (make_version("1000/1"), Terms(caps=(cap,))),
    ):
        result = convert(make_act(10), version, used, terms=terms)
        assert (result.outcome, result.reduction_mg, result.points) == (Outcome.CREDITED, 10_000, points)
        # A spent budget is not written to any more, for all citizens would meet there.
        drawn = {} if scope is Scope.EVERYBODY and not points else {key: CapUsage(1, 10, 10_000, points)}
        assert result.usage == drawn
        assert (result.steps[-1] == Step(StepName.POINTS_CAPPED, points, "group 2026-11-21")) is (points < 10)


def test_the_programmes_caps_bind_like_the_rules_own() -> None:
    version = make_version("20/1", caps=(make_cap(10_000),))
    terms = Terms(caps=(make_cap(50_000, Measure.MILLIGRAM, Period.WEEK, group="all"),))
    result = convert(make_act(6_000), version, {}, terms=terms)
    assert (result.credited_quantity, result.reduction_mg) == (2_500, 50_000)
    assert result.usage == dict.fromkeys([TODAY, CapKey("all", "2026-W47")], CapUsage(1, 2_500, 50_000, 50))
    again = convert(make_act(6_000), version, result.usage, terms=terms)
    assert (again.reason, again.period) == (Reason.CAP_REACHED, Period.WEEK)


def test_a_points_cap_takes_from_the_last_campaign_first() -> None:
    version = make_version("1000/1", caps=(make_cap(17, Measure.POINTS),))
    terms = Terms(campaigns=(make_campaign("a", bonus=5, priority=1), make_campaign("b", bonus=4)))
    result = convert(make_act(10), version, {}, terms=terms)
    assert (result.points, result.awards) == (17, (Award("a", 5), Award("b", 2)))
    result = convert(make_act(14), version, {}, terms=terms)
    assert (result.points, result.awards) == (17, (Award("a", 3), Award("b", 0)))
    result = convert(make_act(20), version, {}, terms=terms)
    assert (result.points, result.awards) == (17, (Award("a", 0), Award("b", 0)))


def test_a_budget_is_asked_before_the_points_cap() -> None:
    version = make_version("1000/1", caps=(make_cap(14, Measure.POINTS),))
    terms = Terms(campaigns=(make_campaign("a", bonus=4, budget=0), make_campaign("b", bonus=4)))
    result = convert(make_act(10), version, {}, terms=terms)
    assert (result.points, result.awards) == (14, (Award("a", 0), Award("b", 4)))


def test_steps_tell_the_whole_way() -> None:
    version = make_version("1000/1", maximum=20, multipliers=(make_multiplier(150),))
    terms = Terms(campaigns=(make_campaign(percent=20),))
    result = convert(make_act(50, tier=EvidenceTier.DEVICE), version, {}, terms=terms)
    assert result.steps == (
        Step(StepName.CLAIMED, 50),
        Step(StepName.CLIPPED, 20),
        Step(StepName.CONVERTED, 10_000, "1000/1 * 1/2"),
        Step(StepName.POINTS, 10, "1/1000"),
        Step(StepName.MULTIPLIED, 15, "150%"),
        Step(StepName.AWARDED, 3, "spring"),
    )
    assert (result.points, result.awards) == (18, (Award("spring", 3),))


def test_usage_of_an_award_without_its_campaign_is_refused() -> None:
    with pytest.raises(KeyError, match="gone"):
        usage_of(make_version(), DAY, quantity=1, reduction_mg=1, points=1, awards=(Award("gone", 1),))
