"""Each way an act can be credited in part or not at all, and the properties every conversion has."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.errors import Language
from backend.kernel.units import Ratio
from backend.ledger.model import QUANTIFIED, RECOGNISED
from backend.rules.conversion import (
    Conversion,
    Outcome,
    Reason,
    Step,
    StepName,
    Terms,
    convert,
    list_cap_keys,
)
from backend.rules.formula import Carpool
from backend.rules.model import (
    Cap,
    CapKey,
    CapUsage,
    EvidenceTier,
    Measure,
    Period,
    RuleVersion,
)
from tests.unit.rules.factories import (
    DAY,
    credit,
    make_act,
    make_campaign,
    make_cap,
    make_multiplier,
    make_version,
)

TODAY = CapKey("group", "2026-11-21")


def rejected(quantity: int, reason: Reason, period: Period | None = None) -> Conversion:
    steps = (Step(StepName.CLAIMED, quantity),)
    return Conversion(outcome=Outcome.REJECTED, reason=reason, period=period, steps=steps)


def test_no_version_in_force_earns_nothing() -> None:
    assert convert(make_act(5), None, {}) == rejected(5, Reason.NO_RULE)


def test_disabled_rule_earns_nothing() -> None:
    assert convert(make_act(5), make_version(enabled=False), {}) == rejected(5, Reason.RULE_DISABLED)


@pytest.mark.parametrize("quantity", [-1, 0, 499])
def test_quantity_below_the_minimum_earns_nothing(quantity: int) -> None:
    assert convert(make_act(quantity), make_version(minimum=500), {}) == rejected(quantity, Reason.BELOW_MINIMUM)


# What refuses an act, first things first: each row takes away the obstacle above it.
FAILS, UNMET = "1 / today_count > 0", "hour == 9"
POOL = Carpool(Ratio(1, 1), Ratio(0, 1))
FULL = make_cap(1, Measure.COUNT)
USED = {TODAY: CapUsage(count=1)}
REJECTED, REVIEW = Outcome.REJECTED, Outcome.REVIEW


@pytest.mark.parametrize(
    ("enabled", "minimum", "condition", "tier", "occupants", "used", "outcome", "reason"),
    [
        (False, 9, FAILS, EvidenceTier.DEVICE, "1", USED, REJECTED, Reason.RULE_DISABLED),
        (True, 9, FAILS, EvidenceTier.DEVICE, "1", USED, REJECTED, Reason.BELOW_MINIMUM),
        (True, 1, FAILS, EvidenceTier.DEVICE, "1", USED, REVIEW, Reason.CONDITION_FAILED),
        (True, 1, UNMET, EvidenceTier.DEVICE, "1", USED, REJECTED, Reason.CONDITION_NOT_MET),
        (True, 1, None, EvidenceTier.DEVICE, "1", USED, REJECTED, Reason.EVIDENCE_TOO_WEAK),
        (True, 1, None, EvidenceTier.OPERATOR, "1", USED, REVIEW, Reason.UNMEASURABLE),
        (True, 1, None, EvidenceTier.OPERATOR, "2", USED, REJECTED, Reason.CAP_REACHED),
        (True, 1, None, EvidenceTier.OPERATOR, "2", {}, REJECTED, Reason.EARNS_NOTHING),
    ],
)
def test_precedence_of_refusals(
    *,
    enabled: bool,
    minimum: int,
    condition: str | None,
    tier: EvidenceTier,
    occupants: str,
    used: dict[CapKey, CapUsage],
    outcome: Outcome,
    reason: Reason,
) -> None:
    version = make_version(
        enabled=enabled,
        minimum=minimum,
        condition=condition,
        share=Ratio(0, 1),
        formula=POOL,
        caps=(FULL,),
        multipliers=(make_multiplier(150, FAILS),),
    )
    terms = Terms(campaigns=(make_campaign(bonus=5),))
    result = convert(make_act(1, tier=tier, attributes={"occupants": occupants}), version, used, terms=terms)
    period = Period.DAY if reason is Reason.CAP_REACHED else None
    attribute = "occupants" if reason is Reason.UNMEASURABLE else None
    steps = (Step(StepName.CLAIMED, 1),)
    assert result == Conversion(outcome=outcome, reason=reason, period=period, attribute=attribute, steps=steps)


@pytest.mark.parametrize("hour_is", ["hour == 8", "today_count == 2 && today_quantity == 30 && today_mg == 400"])
def test_condition_that_holds_lets_the_act_count(hour_is: str) -> None:
    totals = {CapKey("kind:metro", "2026-11-21"): CapUsage(2, 30, 400, 5)}
    assert convert(make_act(100), make_version(condition=hour_is), totals).reduction_mg == 4_670


def test_condition_sees_the_whole_act() -> None:
    condition = (
        "quantity == 700 && hour == 8 && minute == 0 && weekday == 6 && month == 11 && day == 21 && duration_s == -1"
        " && district == '' && tier == 'OPERATOR' && source == '' && attributes['line'] == '2' && today_count == 0"
    )
    version = make_version(condition=condition)
    assert convert(make_act(700, attributes={"line": "2"}), version, {}).outcome is Outcome.CREDITED
    assert convert(make_act(700, attributes={"line": "3"}), version, {}).reason is Reason.CONDITION_NOT_MET
    assert convert(make_act(700), version, {}).reason is Reason.CONDITION_FAILED


def test_less_than_a_milligram_earns_nothing() -> None:
    assert convert(make_act(9), make_version("1/10"), {}) == rejected(9, Reason.EARNS_NOTHING)


def test_a_reduction_too_small_for_a_point_is_still_credited() -> None:
    result = convert(make_act(10), make_version("164/10"), {})
    assert (result.outcome, result.reason, result.reduction_mg, result.points) == (Outcome.CREDITED, None, 164, 0)


def test_version_of_another_kind_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"^R-TEST v1 converts bus, not metro$"):
        convert(make_act(5), make_version(kind="bus"), {})


@pytest.mark.parametrize(
    ("tier", "reduction_mg", "asset"),
    [
        (EvidenceTier.DECLARED, 2_335, RECOGNISED),
        (EvidenceTier.DEVICE, 4_670, QUANTIFIED),
        (EvidenceTier.OPERATOR, 4_670, QUANTIFIED),
    ],
)
def test_weaker_evidence_earns_the_share_and_is_recognised(tier: EvidenceTier, reduction_mg: int, asset: str) -> None:
    result = convert(make_act(100, tier=tier), make_version(tier=EvidenceTier.DEVICE), {})
    assert (result.reduction_mg, result.asset) == (reduction_mg, asset)


def test_share_of_zero_refuses_weaker_evidence() -> None:
    act = make_act(100, tier=EvidenceTier.DEVICE)
    assert convert(act, make_version(share=Ratio(0, 1)), {}) == rejected(100, Reason.EVIDENCE_TOO_WEAK)


def test_share_and_factor_are_rounded_down_once() -> None:
    # 7 * 3/2 * 2/3 is exactly 7; two floors would give floor(10.5) = 10, then floor(6.67) = 6.
    act = make_act(7, tier=EvidenceTier.DECLARED)
    version = make_version("3/2", share=Ratio(2, 3))
    assert convert(act, version, {}).reduction_mg == 7
    assert version.declared_share.floor_times(version.factor.floor_times(7)) == 6


def test_long_act_is_clipped_and_explained() -> None:
    result = convert(make_act(25_000), make_version("164/10", maximum=18_000), {})
    assert result.credited_quantity == 18_000
    assert result.steps == (
        Step(StepName.CLAIMED, 25_000),
        Step(StepName.CLIPPED, 18_000),
        Step(StepName.CONVERTED, 295_200, "164/10"),
        Step(StepName.POINTS, 295, "1/1000"),
    )


def test_quantity_cap_credits_what_is_left() -> None:
    version = make_version("20/1", caps=(make_cap(10_000),))
    result = convert(make_act(6_000), version, {TODAY: CapUsage(count=1, quantity=7_000)})
    assert (result.outcome, result.credited_quantity, result.reduction_mg) == (Outcome.CREDITED, 3_000, 60_000)
    assert result.usage == {TODAY: CapUsage(1, 3_000, 60_000, 60)}
    assert Step(StepName.QUANTITY_CAPPED, 3_000, "group 2026-11-21") in result.steps


def test_milligram_cap_credits_what_is_left_and_the_quantity_behind_it() -> None:
    version = make_version("164/10", caps=(make_cap(295_200, Measure.MILLIGRAM),))
    result = convert(make_act(10_000), version, {TODAY: CapUsage(reduction_mg=295_100)})
    assert (result.credited_quantity, result.reduction_mg, result.points) == (7, 100, 0)
    assert Step(StepName.REDUCTION_CAPPED, 100, "group 2026-11-21") in result.steps


@pytest.mark.parametrize(
    ("measure", "usage"),
    [
        (Measure.COUNT, CapUsage(count=6)),
        (Measure.QUANTITY, CapUsage(quantity=6)),
        (Measure.MILLIGRAM, CapUsage(reduction_mg=7)),
    ],
)
@pytest.mark.parametrize("period", list(Period))
def test_used_up_cap_rejects_and_names_its_period(measure: Measure, usage: CapUsage, period: Period) -> None:
    version = make_version(caps=(make_cap(6, measure, period),))
    used = dict.fromkeys(list_cap_keys(version, DAY), usage)
    assert convert(make_act(100), version, used) == rejected(100, Reason.CAP_REACHED, period)


def test_usage_of_another_day_or_group_does_not_count() -> None:
    used = {CapKey("group", "2026-11-20"): CapUsage(9, 9, 9), CapKey("other", "2026-11-21"): CapUsage(9, 9, 9)}
    version = make_version(caps=(make_cap(1, Measure.COUNT),))
    assert convert(make_act(100), version, used).outcome is Outcome.CREDITED


def test_every_counter_is_drawn_on_once() -> None:
    caps = (
        make_cap(6, Measure.COUNT),
        make_cap(9_000, Measure.QUANTITY),
        make_cap(50_000, Measure.QUANTITY, Period.WEEK),
        make_cap(9, Measure.COUNT, Period.YEAR, group="other"),
    )
    result = convert(make_act(100), make_version(caps=caps), {})
    drawn = CapUsage(1, 100, 4_670, 4)
    assert result.usage == {TODAY: drawn, CapKey("group", "2026-W47"): drawn, CapKey("other", "2026"): drawn}


def test_kinds_with_one_group_share_its_cap() -> None:
    cap = (make_cap(6, Measure.COUNT, group="metro"),)
    known, unknown = make_version(kind="metro", caps=cap), make_version("46000/1", kind="metro_ride", caps=cap)
    used: dict[CapKey, CapUsage] = {}
    outcomes = []
    for number in range(8):
        act, version = (make_act(900), known) if number % 2 else (make_act(1, kind="metro_ride"), unknown)
        outcomes.append(credit(act, version, used).outcome)
    assert outcomes == [Outcome.CREDITED] * 6 + [Outcome.REJECTED] * 2


@pytest.mark.parametrize(
    ("day", "keys"),
    [
        (date(2026, 11, 21), ["2026-11-21", "2026-W47", "2026-11", "2026"]),
        (date(2027, 1, 1), ["2027-01-01", "2026-W53", "2027-01", "2027"]),
        (date(2024, 12, 30), ["2024-12-30", "2025-W01", "2024-12", "2024"]),
    ],
)
def test_period_keys_follow_the_calendar_and_iso_weeks(day: date, keys: list[str]) -> None:
    assert [period.key(day) for period in Period] == [*keys, "always"]


def test_every_reason_has_a_sentence_in_both_languages() -> None:
    for reason in Reason:
        assert reason.sentence(Language.EN) != reason.sentence(Language.ZH_CN)
    assert Reason.CAP_REACHED.sentence(Language.EN, Period.DAY) == "the daily limit is used up"
    assert Reason.CAP_REACHED.sentence(Language.ZH_CN, Period.WEEK) == "当周可计入的额度已用完"
    assert Reason.CAP_REACHED.sentence(Language.ZH_CN) == "本周期可计入的额度已用完"


def test_evidence_tiers_are_ordered_by_strength() -> None:
    assert EvidenceTier.DECLARED < EvidenceTier.DEVICE < EvidenceTier.OPERATOR
    assert max(EvidenceTier) is EvidenceTier.OPERATOR


# Properties.

ratios = st.builds(Ratio, st.integers(1, 10**6), st.integers(1, 10**4))
quantities = st.integers(1, 10**7)
tiers = st.sampled_from(EvidenceTier)
caps = st.lists(
    st.builds(make_cap, st.integers(1, 10**6), st.sampled_from(Measure), st.sampled_from(Period)),
    max_size=4,
    unique_by=lambda cap: (cap.period, cap.measure),
).map(tuple)
usages = st.builds(CapUsage, st.integers(0, 10), st.integers(0, 10**6), st.integers(0, 10**6))


@st.composite
def rule_versions(draw: st.DrawFn) -> RuleVersion:
    factor = draw(ratios)
    return make_version(
        str(factor),
        points=draw(ratios),
        share=draw(st.sampled_from([Ratio(0, 1), Ratio(1, 3), Ratio(1, 2), Ratio(1, 1)])),
        tier=draw(tiers),
        quantified=draw(st.booleans()),
        minimum=draw(st.integers(1, 1_000)),
        maximum=draw(st.integers(1_000, 10**6)),
        caps=draw(caps),
    )


@given(rule_versions(), quantities, quantities, tiers, usages)
def test_more_never_earns_less(
    version: RuleVersion, first: int, second: int, tier: EvidenceTier, usage: CapUsage
) -> None:
    used = dict.fromkeys(list_cap_keys(version, DAY), usage)
    less, more = (convert(make_act(q, tier=tier), version, used) for q in sorted((first, second)))
    assert less.reduction_mg <= more.reduction_mg
    assert less.points <= more.points


@given(rule_versions(), quantities, tiers, usages)
def test_result_is_whole_and_never_exceeds_the_exact_amount(
    version: RuleVersion, quantity: int, tier: EvidenceTier, usage: CapUsage
) -> None:
    used = dict.fromkeys(list_cap_keys(version, DAY), usage)
    act = make_act(quantity, tier=tier)
    result = convert(act, version, used)
    assert result == convert(act, version, used)
    assert 0 <= result.credited_quantity <= min(quantity, version.maximum)
    assert result.reduction_mg * version.factor.denominator <= quantity * version.factor.numerator
    assert 0 <= result.points * version.points.denominator <= result.reduction_mg * version.points.numerator
    if result.outcome is Outcome.CREDITED:
        assert result.reduction_mg > 0
        assert result.reason is None
        assert (result.asset == QUANTIFIED) == (version.quantified and tier >= version.full_credit_tier)
    else:
        assert result.reason is not None
        assert (result.reduction_mg, result.points, result.asset, result.usage) == (0, 0, None, {})


@given(rule_versions(), quantities)
def test_uncapped_reduction_is_the_floor_of_the_exact_amount(version: RuleVersion, quantity: int) -> None:
    version = make_version(str(version.factor), points=version.points)
    exact = quantity * version.factor.numerator // version.factor.denominator
    assert convert(make_act(quantity), version, {}).reduction_mg == exact


@given(rule_versions(), st.lists(st.tuples(quantities, tiers, st.integers(0, 40)), max_size=12))
def test_no_order_of_arrival_exceeds_a_cap(version: RuleVersion, acts: list[tuple[int, EvidenceTier, int]]) -> None:
    used: dict[CapKey, CapUsage] = {}
    for quantity, tier, days in acts:
        credit(make_act(quantity, tier=tier, day=DAY + timedelta(days=days)), version, used)
    limits: dict[tuple[str, Measure], int] = {}
    for cap in version.caps:
        for _, _, days in acts:
            limits[cap.period.key(DAY + timedelta(days=days)), cap.measure] = cap.limit
    for (key, measure), limit in limits.items():
        assert used.get(CapKey("group", key), CapUsage()).measured(measure) <= limit


@given(ratios, st.integers(1, 10**6), st.lists(st.integers(1, 10**5), min_size=1, max_size=8))
def test_parts_never_earn_more_than_the_whole(factor: Ratio, limit: int, parts: list[int]) -> None:
    cap: tuple[Cap, ...] = (make_cap(limit, Measure.MILLIGRAM),)
    version = make_version(str(factor), caps=cap)
    used: dict[CapKey, CapUsage] = {}
    earned = sum(credit(make_act(part), version, used).reduction_mg for part in parts)
    assert earned <= convert(make_act(sum(parts)), version, {}).reduction_mg <= limit
