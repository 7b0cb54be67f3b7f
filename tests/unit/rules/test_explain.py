"""What a citizen reads about an act: every line in both languages, and never another figure than the stored one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.units import Ratio, Unit
from backend.rules.conversion import Award, Conversion, Outcome, Terms, convert, list_cap_keys
from backend.rules.explain import explain
from backend.rules.formula import (
    BaselineMethod,
    BaselineMinusProject,
    Carpool,
    FullPeriods,
    OwnBaseline,
    Term,
)
from backend.rules.model import (
    ActFacts,
    Audience,
    CapUsage,
    Category,
    EvidenceTier,
    Kind,
    Measure,
    Period,
    RuleVersion,
    Scope,
)
from tests.unit.rules.factories import (
    DAY,
    make_act,
    make_campaign,
    make_cap,
    make_multiplier,
    make_version,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.rules.model import CapKey

WEEK = {"history_wh": ",".join(["10000"] * 7)}


def make_kind(unit: Unit = Unit.METRE) -> Kind:
    return Kind(
        code="metro",
        unit=unit,
        category=Category.TRANSIT,
        name_zh="地铁",
        name_en="Metro",
        maximum=10**9,
    )


def told(
    act: ActFacts,
    version: RuleVersion,
    unit: Unit = Unit.METRE,
    used: Mapping[CapKey, CapUsage] | None = None,
    **terms: Any,
) -> list[str]:
    """The English lines of an act as it is converted."""
    result = convert(act, version, used or {}, terms=Terms(**terms))
    assert result.outcome is Outcome.CREDITED
    return [line.en for line in explain(act, make_kind(unit), version, result, Terms(**terms))]


def test_a_plain_act_in_both_languages() -> None:
    act, version = make_act(10_000), make_version()
    lines = explain(act, make_kind(), version, convert(act, version, {}))
    assert [tuple(line) for line in lines] == [
        ("记录：地铁，10 公里", "Recorded: Metro, 10 km"),
        (
            "减排因子：46.7 克/公里（《方法学》，Publisher，2024 年）",
            "Factor: 46.7 g/km (Methodology, Publisher, 2024)",
        ),
        ("10 公里 × 46.7 克/公里 = 467 克", "10 km × 46.7 g/km = 467 g"),
        ("467 克，每 1 克计 1 分：467 分", "467 g, each 1 g worth 1 point: 467 points"),
        ("合计：减排 467 克，积分 467 分", "Together: 467 g and 467 points"),
    ]


def test_self_declared_counts_half_and_for_points_only() -> None:
    act, version = make_act(1, tier=EvidenceTier.DECLARED), make_version("80001/1")
    lines = explain(act, make_kind(Unit.COUNT), version, convert(act, version, {}))
    assert [tuple(line) for line in lines][2:5] == [
        ("自行申报：计一半，仅用于积分", "Self-declared: counts half, for points only"),
        (
            "1 次 × 80.001 克/次 × 1/2 = 40 克，不足 1 毫克的舍去",
            "1 time × 80.001 g/time × 1/2 = 40 g, rounded down to the milligram",
        ),
        ("40 克，每 1 克计 1 分：40 分", "40 g, each 1 g worth 1 point: 40 points"),
    ]


@pytest.mark.parametrize(
    ("tier", "share", "quantified", "line"),
    [
        (EvidenceTier.DEVICE, Ratio(1, 4), True, "Recorded by your own device: counts 25%, for points only"),
        (EvidenceTier.DECLARED, Ratio(1, 1), True, "Self-declared: counts in full, for points only"),
        (EvidenceTier.OPERATOR, Ratio(1, 2), False, "For points only"),
    ],
)
def test_evidence_is_told_where_it_matters(tier: EvidenceTier, share: Ratio, line: str, *, quantified: bool) -> None:
    version = make_version(share=share, quantified=quantified)
    assert told(make_act(10_000, tier=tier), version)[2] == line


def test_clip_and_caps_tell_by_how_much() -> None:
    version = make_version("164/10", maximum=18_000, caps=(make_cap(17_500),))
    assert told(make_act(25_000), version, Unit.STEP) == [
        "Recorded: Metro, 25,000 steps",
        "Of one act at most 18,000 steps count",
        "Limits take 500 steps off and leave 17,500 steps",
        "Factor: 0.0164 g/step (Methodology, Publisher, 2024)",
        "17,500 steps × 0.0164 g/step = 287 g",
        "287 g, each 1 g worth 1 point: 287 points",
        "Together: 287 g and 287 points",
    ]


def test_a_cap_in_grams_tells_by_how_much() -> None:
    version = make_version("164/10", caps=(make_cap(100, Measure.MILLIGRAM),))
    assert told(make_act(10_000), version, Unit.STEP)[1:] == [
        "Limits take 9,993 steps off and leave 7 steps",
        "Factor: 0.0164 g/step (Methodology, Publisher, 2024)",
        "7 steps × 0.0164 g/step = 0.114 g, rounded down to the milligram",
        "Limits take 0.014 g off and leave 0.1 g",
        "0.1 g, each 1 g worth 1 point: 0 points, rounded down",
        "Together: 0.1 g and 0 points",
    ]


def test_multipliers_campaigns_and_what_limits_took_of_each() -> None:
    version = make_version(
        "1000/1",
        multipliers=(make_multiplier(150), make_multiplier(130), make_multiplier(900, "hour == 9")),
        caps=(make_cap(27, Measure.POINTS),),
    )
    campaigns = (
        make_campaign("a", percent=50, budget=4, priority=2),
        make_campaign("b", bonus=3, priority=1, audience=Audience.FIRST_ACT),
    )
    assert told(make_act(11), version, Unit.COUNT, campaigns=campaigns)[3:] == [
        "11 g, each 1 g worth 1 point: 11 points",
        "Multiplier: points × 150%",
        "Multiplier: points × 130%",
        "Multiplied: 21 points",
        "Campaign “Spring”: 4 points more",
        "Its budget or limits take 6 points off",
        "Campaign “Spring”: 2 points more",
        "Its budget or limits take 1 point off",
        "Together: 11 g and 27 points",
    ]


def test_points_that_limits_took_of_the_acts_own() -> None:
    version = make_version("1000/1", caps=(make_cap(8, Measure.POINTS),))
    campaign = make_campaign(bonus=3, audience=Audience.STREAK, streak_days=2)
    assert told(make_act(11), version, Unit.COUNT, campaigns=(campaign,))[4:] == [
        "Limits take 3 points off and leave 8 points",
        "Campaign “Spring”: 0 points more",
        "Together: 11 g and 8 points",
    ]


def test_what_the_days_totals_did_is_told_without_guessing() -> None:
    version = make_version("1000/1", multipliers=(make_multiplier(200, "today_count == 0"),))
    line = "By what you did before on that day, and by limits: 11 points become 22 points"
    assert told(make_act(11), version, Unit.COUNT)[4:] == [line, "Together: 11 g and 22 points"]
    used = dict.fromkeys(list_cap_keys(version, DAY), CapUsage(count=1))
    assert told(make_act(11), version, Unit.COUNT, used)[4:] == ["Together: 11 g and 11 points"]


def test_baseline_and_project_are_told_term_by_term() -> None:
    formula = BaselineMinusProject(
        baseline=(Term("汽油车", "petrol car", Ratio(16_272, 100)),),
        project=(Term("充电", "charging", Ratio(8_967, 90)),),
    )
    assert told(make_act(1_000), make_version(formula=formula))[1:5] == [
        "Without it: petrol car 162.72 g/km",
        "With it: charging ≈99.633333 g/km",
        "Factor: ≈63.086666 g/km (Methodology, Publisher, 2024)",
        "1 km × ≈63.086666 g/km = 63.086 g, rounded down to the milligram",
    ]


def test_carpool_is_told_with_occupants_and_detour() -> None:
    act = make_act(10_000, attributes={"occupants": "3"})
    version = make_version(formula=Carpool(Ratio(16_272, 100), Ratio(1, 10)))
    assert told(act, version)[1:5] == [
        "A car driven alone: 162.72 g/km",
        "3 people in the car: 2/3 of it counts, less 10% for the detour",
        "Factor: 97.632 g/km (Methodology, Publisher, 2024)",
        "10 km × 97.632 g/km = 976.32 g",
    ]


@pytest.mark.parametrize(
    ("method", "attributes", "words"),
    [
        (BaselineMethod.MOVING_AVERAGE, WEEK, "the average of the seven days before"),
        (BaselineMethod.SAME_MONTH_LAST_YEAR, {"history_wh": "10000"}, "the same month last year"),
    ],
)
def test_saving_is_told_against_the_usual_use(
    method: BaselineMethod, attributes: Mapping[str, str], words: str
) -> None:
    version = make_version(formula=OwnBaseline(Ratio(550, 1), method, Ratio(1, 5)))
    assert told(make_act(9_000, attributes=attributes), version, Unit.WATT_HOUR)[:5] == [
        "Recorded: Metro, 9 kWh",
        f"Usual use: 10 kWh ({words})",
        "Saved: 1 kWh (at most 20% of the usual)",
        "Factor: 550 g/kWh (Methodology, Publisher, 2024)",
        "1 kWh × 550 g/kWh = 550 g",
    ]


def test_full_periods_are_told() -> None:
    version = make_version(formula=FullPeriods(Ratio(2_580_000, 1), 86_400))
    assert told(make_act(3, duration_s=258_840), version, Unit.COUNT)[:4] == [
        "Recorded: Metro, 3 times",
        "Each full 24 hours count once: 2 times",
        "Factor: 2,580 g/time (Methodology, Publisher, 2024)",
        "2 times × 2,580 g/time = 5,160 g",
    ]


def test_a_documents_number_is_cited() -> None:
    version = make_version()
    version = dataclasses.replace(version, methodology=dataclasses.replace(version.methodology, number="T/X 1-2024"))
    assert told(make_act(1_000), version)[1] == "Factor: 46.7 g/km (Methodology T/X 1-2024, Publisher, 2024)"


@pytest.mark.parametrize(
    "forged",
    [
        {"credited_quantity": 10_001},
        {"reduction_mg": 467_001},
        {"points": 468},
        {"points": -1},
        {"points": 5, "awards": (Award("spring", 6),)},
        {"points": 477, "awards": (Award("spring", 11),)},
    ],
)
def test_figures_that_cannot_follow_are_not_explained(forged: dict[str, Any]) -> None:
    act, version, terms = make_act(10_000), make_version(), Terms(campaigns=(make_campaign(bonus=10),))
    stored = dataclasses.replace(convert(act, version, {}), **forged)
    with pytest.raises(ValueError, match="cannot be what is left of"):
        explain(act, make_kind(), version, stored, terms)


caps = st.lists(
    st.builds(
        make_cap,
        st.integers(1, 10**5),
        st.sampled_from(Measure),
        st.sampled_from(Period),
        st.just("group"),
        st.sampled_from(Scope),
    ),
    max_size=4,
).map(tuple)
campaigns = st.lists(
    st.builds(
        make_campaign,
        st.sampled_from("abc"),
        percent=st.integers(0, 200),
        bonus=st.integers(0, 20),
        budget=st.integers(0, 100),
        audience=st.sampled_from(Audience),
        streak_days=st.just(2),
    ),
    max_size=3,
    unique_by=lambda campaign: campaign.code,
).map(tuple)
multipliers = st.lists(
    st.builds(make_multiplier, st.integers(0, 300), st.sampled_from(["true", "hour == 9", "today_count > 1"])),
    max_size=3,
).map(tuple)
usages = st.builds(CapUsage, st.integers(0, 3), st.integers(0, 10**4), st.integers(0, 10**4), st.integers(0, 100))


@given(
    version=st.builds(
        make_version,
        st.builds(Ratio, st.integers(1, 10**6), st.integers(1, 1_000)).map(str),
        maximum=st.integers(1, 10**5),
        share=st.sampled_from([Ratio(1, 3), Ratio(1, 2), Ratio(1, 1)]),
        caps=caps,
        multipliers=multipliers,
    ),
    terms=st.builds(Terms, caps=caps, campaigns=campaigns),
    quantity=st.integers(1, 10**6),
    tier=st.sampled_from(EvidenceTier),
    usage=usages,
)
def test_whatever_was_converted_is_explained_with_the_same_totals(
    version: RuleVersion, terms: Terms, quantity: int, tier: EvidenceTier, usage: CapUsage
) -> None:
    act = make_act(quantity, tier=tier)
    result: Conversion = convert(act, version, dict.fromkeys(list_cap_keys(version, DAY, terms), usage), terms=terms)
    if result.outcome is not Outcome.CREDITED:
        return
    lines = explain(act, make_kind(), version, result, terms)
    whole, milligrams = divmod(result.reduction_mg, 1_000)
    grams = f"{whole:,}.{milligrams:03}".rstrip("0").removesuffix(".")
    points = f"{result.points:,} point{'' if result.points == 1 else 's'}"
    assert lines[-1].en == f"Together: {grams} g and {points}"
    assert lines[-1].zh == f"合计：减排 {grams} 克，积分 {result.points:,} 分"
    named = [line.en for line in lines if line.en.startswith("Campaign")]
    assert len(named) == len(result.awards)
