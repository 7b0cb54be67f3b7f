"""Each refusal of validation names the field and says what is wrong in both languages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import Text
from backend.kernel.units import INT64_MAX, Ratio, Unit
from backend.rules.formula import (
    BaselineMethod,
    BaselineMinusProject,
    Carpool,
    FullPeriods,
    OwnBaseline,
    PerQuantity,
    Term,
)
from backend.rules.model import (
    Audience,
    Campaign,
    Cap,
    Category,
    Confidence,
    Kind,
    Limit,
    Limits,
    Measure,
    Motion,
    Multiplier,
    Period,
    Profile,
    RuleVersion,
    Scope,
)
from backend.rules.profile import shipped_kinds, shipped_profile
from backend.rules.validation import (
    list_campaign_problems,
    list_kind_problems,
    list_limits_problems,
    list_problems,
    list_version_problems,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend.rules.errors import ProfileError

KINDS = shipped_kinds()
RULES = {version.kind: version for version in shipped_profile("conservative").versions}
METRO = RULES["metro"]
CAP = METRO.caps[0]
START = datetime(2026, 12, 1, tzinfo=UTC)
CAMPAIGN = Campaign(
    code="green-december",
    name_zh="绿色十二月",
    name_en="Green December",
    starts_at=START,
    ends_at=START + timedelta(days=31),
    kinds=frozenset({"metro", "bus"}),
    condition="weekday <= 5",
    audience=Audience.STREAK,
    streak_days=5,
    percent=0,
    bonus=50,
    stackable=False,
    priority=1,
    budget=1_000_000,
)
LIMIT = Limit(cap=Cap(group="all", period=Period.DAY, measure=Measure.POINTS, limit=500, basis="test"))
TERM = Term("汽油车", "petrol car", Ratio(1, 1))


def told(problems: Iterable[ProfileError]) -> list[tuple[str, str, str]]:
    return [(problem.path, *problem.problem) for problem in problems]


def multiplier(**changes: Any) -> Multiplier:
    return replace(Multiplier(name_zh="夜间", name_en="night", condition="hour >= 22", percent=150), **changes)


@pytest.mark.parametrize(
    ("changes", "path", "zh", "en"),
    [
        ({"profile": "other"}, "profile", "属于口径 other，而不是 conservative",
         "belongs to other, not to conservative"),
        ({"kind": "ferry"}, "kind", "没有行为种类 ferry", "there is no kind ferry"),
        ({"methodology": replace(METRO.methodology, publisher=" ")}, "methodology", "须有来源的名称、发布者和年份",
         "needs title, publisher and year of the source"),
        ({"methodology": replace(METRO.methodology, additionality=Text("有", " "))}, "methodology.additionality",
         "须有中英文说明", "needs its text in both languages"),
        ({"note_en": " "}, "note_zh", "须有中英文说明", "needs a note in both languages"),
        ({"enabled": False}, "why_disabled_zh", "停用的规则（且仅停用的规则）须以中英文说明原因",
         "a disabled rule, and no other, says why in both languages"),
        ({"why_disabled_en": "x"}, "why_disabled_zh", "停用的规则（且仅停用的规则）须以中英文说明原因",
         "a disabled rule, and no other, says why in both languages"),
        ({"confidence": Confidence.LOW}, "quantified", "可信度低的因子只能认可，不能量化",
         "a factor of low confidence is recognised only"),
        ({"declared_share": Ratio(3, 2)}, "declared_share", "不得大于 1", "must not exceed 1"),
        ({"valid_from": START, "valid_to": START}, "valid_to", "须晚于 valid_from", "must be later than valid_from"),
        ({"minimum": 0}, "minimum", "须在 1 与 maximum 之间", "must be from 1 to maximum"),
        ({"minimum": METRO.maximum + 1}, "minimum", "须在 1 与 maximum 之间", "must be from 1 to maximum"),
        ({"maximum": 150_001}, "maximum", "不得超过 150000，即一次 metro 的最大可能值",
         "must not exceed 150000, the most one metro can have"),
        ({"formula": PerQuantity(Ratio(0, 1))}, "formula", "启用的规则须有大于零的因子",
         "an enabled rule needs a factor above zero"),
        ({"formula": PerQuantity(Ratio(INT64_MAX, 1))}, "formula", "最大的行为会超过 1,000 吨或 10 亿分",
         "the largest act would be more than 1,000 t or a billion points"),
        ({"points": Ratio(10**13, 1), "multipliers": (multiplier(percent=1_000),)}, "formula",
         "最大的行为会超过 1,000 吨或 10 亿分",
         "the largest act would be more than 1,000 t or a billion points"),
        ({"formula": BaselineMinusProject((), ())}, "formula.baseline", "至少须有一项", "needs at least one term"),
        ({"formula": BaselineMinusProject((TERM,), (replace(TERM, rate=Ratio(2, 1)),))}, "formula.project",
         "项目排放高于基准排放", "the project emits more than the baseline"),
        ({"formula": BaselineMinusProject((TERM, TERM), ())}, "formula.baseline[1]", "名称重复",
         "the name is given twice"),
        ({"formula": BaselineMinusProject((replace(TERM, name_zh=" "),), ())}, "formula.baseline[0].name_zh",
         "须有中英文名称", "needs a name in both languages"),
        ({"formula": Carpool(Ratio(1, 1), Ratio(1, 1))}, "formula.detour", "须小于 1", "must be below 1"),
        ({"formula": Carpool(Ratio(1, 1), Ratio(0, 1))}, "formula.family", "metro 未要求属性 occupants",
         "metro does not require the attribute occupants"),
        ({"formula": FullPeriods(Ratio(1, 1), 86_400)}, "formula.family",
         "只适用于以 COUNT 计量的行为，而 metro 以 METRE 计量",
         "is for acts measured in COUNT, but metro is measured in METRE"),
        ({"caps": (CAP, replace(CAP, limit=7))}, "caps[1]", "metro DAY 对 COUNT 限制了两次",
         "limits COUNT of metro DAY twice"),
        ({"caps": (replace(CAP, limit=0),)}, "caps[0].limit", "须不小于 1 且不超出 64 位",
         "must be at least 1 and fit in 64 bits"),
        ({"caps": (replace(CAP, basis=" "),)}, "caps[0].basis", "须说明由谁设定", "says who chose the limit"),
        ({"caps": (replace(CAP, scope=Scope.EVERYBODY),)}, "caps[0].measure", "所有人共用的预算只限积分",
         "a budget that all share limits points only"),
        ({"multipliers": (multiplier(percent=1_001),)}, "multipliers[0].percent", "须在 0 与 1000 之间",
         "must be from 0 to 1000"),
        ({"multipliers": (multiplier(percent=-1),)}, "multipliers[0].percent", "须在 0 与 1000 之间",
         "must be from 0 to 1000"),
        ({"multipliers": (multiplier(name_en=""),)}, "multipliers[0].name_zh", "须有中英文名称",
         "needs a name in both languages"),
        ({"multipliers": (multiplier(), multiplier(name_zh="清晨"))}, "multipliers[1]", "名称重复",
         "the name is given twice"),
    ],
)  # fmt: skip
def test_version_is_refused_with_its_field(changes: dict[str, Any], path: str, zh: str, en: str) -> None:
    assert told(list_version_problems(METRO, "conservative", KINDS)) == []
    assert told(list_version_problems(replace(METRO, **changes), "conservative", KINDS)) == [(path, zh, en)]


@pytest.mark.parametrize(
    ("kind", "formula", "path", "zh", "en"),
    [
        ("household_power", OwnBaseline(Ratio(1, 1), BaselineMethod.MOVING_AVERAGE, Ratio(6, 5)), "formula.most",
         "不得大于 1", "must not exceed 1"),
        ("car_free_day", FullPeriods(Ratio(1, 1), 3_599), "formula.period_s", "不得短于 3600 秒",
         "must be at least 3600 seconds"),
        ("clean_plate", FullPeriods(Ratio(1, 1), 3_600), "formula.family", "clean_plate 没有时长",
         "clean_plate has no duration to measure"),
        ("carpool_driver", FullPeriods(Ratio(1, 1), 3_600), "formula.family",
         "只适用于以 COUNT 计量的行为，而 carpool_driver 以 METRE 计量",
         "is for acts measured in COUNT, but carpool_driver is measured in METRE"),
        ("pv_generation", OwnBaseline(Ratio(1, 1), BaselineMethod.SAME_MONTH_LAST_YEAR, Ratio(1, 5)), "formula.family",
         "pv_generation 未要求属性 history_wh", "pv_generation does not require the attribute history_wh"),
    ],
)  # fmt: skip
def test_formula_is_refused_with_its_field(kind: str, formula: Any, path: str, zh: str, en: str) -> None:
    version = replace(RULES[kind], formula=formula)
    assert told(list_version_problems(version, "conservative", KINDS)) == [(path, zh, en)]


def test_a_formula_of_another_unit_and_other_attributes_is_refused_for_both() -> None:
    version = replace(RULES["walk"], formula=Carpool(Ratio(1, 1), Ratio(0, 1)))
    assert told(list_version_problems(version, "conservative", KINDS)) == [
        (
            "formula.family",
            "只适用于以 METRE 计量的行为，而 walk 以 STEP 计量",
            "is for acts measured in METRE, but walk is measured in STEP",
        ),
        ("formula.family", "walk 未要求属性 occupants", "walk does not require the attribute occupants"),
    ]


@pytest.mark.parametrize("percent", [0, 1_000])
def test_multipliers_reach_from_nothing_to_tenfold(percent: int) -> None:
    version = replace(METRO, multipliers=(multiplier(percent=percent),))
    assert told(list_version_problems(version, "conservative", KINDS)) == []


def test_conditions_are_checked_with_line_and_column() -> None:
    version = replace(
        METRO, condition="quantity > 500 &&\n  colour == 'red'", multipliers=(multiplier(condition="kind == 'bus'"),)
    )
    first, second = list_version_problems(version, "conservative", KINDS, "rules[3]")
    assert (first.path, first.line, first.column) == ("rules[3].condition", 2, 3)
    assert str(first) == f"rules[3].condition (line 2, column 3): {first.problem.en}"
    assert "colour" in first.problem.zh
    assert "colour" in first.problem.en
    assert (second.path, second.line, second.column) == ("rules[3].multipliers[0].condition", 1, 1)


@pytest.mark.parametrize(
    ("changes", "path", "zh", "en"),
    [
        ({"maximum": 0}, "maximum", "须不小于 1 且不超出 64 位", "must be at least 1 and fit in 64 bits"),
        ({"name_en": ""}, "name_zh", "须有中英文名称", "needs a name in both languages"),
        ({"claims": (("card",), ("card",))}, "claims", "须为互不相同且不为空的属性名列表",
         "must be different lists of attribute names, none empty"),
        ({"claims": ((),)}, "claims", "须为互不相同且不为空的属性名列表",
         "must be different lists of attribute names, none empty"),
        ({"required_attributes": ("card", "card")}, "required_attributes", "属性名重复", "names an attribute twice"),
        ({"evidence_en": " "}, "evidence_zh", "证据说明须同时有中英文",
         "says what proves the act in both languages, or in none"),
        ({"has_duration": False}, "motion", "只用于有时长的距离类行为",
         "is for acts of a distance that have a duration"),
        ({"unit": Unit.COUNT}, "motion", "只用于有时长的距离类行为",
         "is for acts of a distance that have a duration"),
        ({"motion": Motion(slowest_m_per_h=5, fastest_m_per_h=5, longest_s=1)}, "motion.fastest_m_per_h",
         "须大于 slowest_m_per_h", "must be more than slowest_m_per_h"),
        ({"motion": Motion(slowest_m_per_h=0, fastest_m_per_h=5, longest_s=86_401)}, "motion.longest_s",
         "须在 1 与 86400 之间", "must be from 1 to 86400"),
    ],
)  # fmt: skip
def test_kind_is_refused_with_its_field(changes: dict[str, Any], path: str, zh: str, en: str) -> None:
    assert told(list_kind_problems(KINDS["metro"])) == []
    assert told(list_kind_problems(replace(KINDS["metro"], **changes))) == [(path, zh, en)]


@pytest.mark.parametrize(
    ("changes", "path", "zh", "en"),
    [
        ({"name_zh": ""}, "name_zh", "须有中英文名称", "needs a name in both languages"),
        ({"ends_at": START}, "ends_at", "须晚于 starts_at", "must be later than starts_at"),
        ({"ends_at": START + timedelta(days=367)}, "ends_at", "活动最长 366 天", "a campaign lasts at most 366 days"),
        ({"kinds": frozenset({"ferry"})}, "kinds", "没有行为种类 ferry", "there is no kind ferry"),
        ({"streak_days": 1}, "streak_days", "须在 2 与 31 之间", "must be from 2 to 31"),
        ({"streak_days": 32}, "streak_days", "须在 2 与 31 之间", "must be from 2 to 31"),
        ({"audience": Audience.FIRST_ACT}, "streak_days", "须在 0 与 0 之间", "must be from 0 to 0"),
        ({"percent": 1_001}, "percent", "须在 0 与 1000 之间", "must be from 0 to 1000"),
        ({"bonus": 1_000_001}, "bonus", "须在 0 与 1000000 之间", "must be from 0 to 1000000"),
        ({"bonus": 0}, "bonus", "percent 与 bonus 至少一项大于零", "percent or bonus must be above zero"),
        ({"priority": 1_001}, "priority", "须在 0 与 1000 之间", "must be from 0 to 1000"),
        ({"budget": 0}, "budget", f"须在 1 与 {10**15} 之间", f"must be from 1 to {10**15}"),
    ],
)
def test_campaign_is_refused_with_its_field(changes: dict[str, Any], path: str, zh: str, en: str) -> None:
    assert told(list_campaign_problems(CAMPAIGN, KINDS)) == []
    assert told(list_campaign_problems(replace(CAMPAIGN, **changes), KINDS)) == [(path, zh, en)]


def test_a_campaigns_condition_knows_no_totals_of_the_day() -> None:
    (problem,) = list_campaign_problems(replace(CAMPAIGN, condition="today_count < 3"), KINDS, "campaign")
    assert (problem.path, problem.line, problem.column) == ("campaign.condition", 1, 1)


def limited(**changes: Any) -> Limit:
    return replace(LIMIT, cap=replace(LIMIT.cap, **changes))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((limited(limit=0),), [("limits[0].cap.limit", "须不小于 1 且不超出 64 位",
                                "must be at least 1 and fit in 64 bits")]),
        ((LIMIT, limited(limit=7)), [("limits[1].cap", "all DAY 对 POINTS 限制了两次",
                                      "limits POINTS of all DAY twice")]),
        ((LIMIT, replace(limited(period=Period.WEEK), kinds=frozenset({"bus"}))),
         [("limits[1].cap.group", "all 已用于其他行为", "all already stands for other acts")]),
        ((replace(LIMIT, kinds=frozenset({"ferry"})),),
         [("limits[0].kinds", "没有行为种类 ferry", "there is no kind ferry")]),
        ((limited(group="metro"),),
         [("limits[0].cap.group", "metro 已是规则的上限组", "metro is already a group of a rule's caps")]),
        ((limited(measure=Measure.QUANTITY),),
         [("limits[0].cap.measure", "所含行为的计量单位不同", "the acts it covers are measured in different units")]),
        ((limited(scope=Scope.EVERYBODY, measure=Measure.MILLIGRAM),),
         [("limits[0].cap.measure", "所有人共用的预算只限积分", "a budget that all share limits points only")]),
        ((replace(limited(measure=Measure.QUANTITY), categories=frozenset({Category.CYCLING})),), []),
        ((LIMIT, limited(scope=Scope.EVERYBODY)), []),
    ],
)  # fmt: skip
def test_limits_are_refused_with_their_fields(limits: tuple[Limit, ...], expected: list[tuple[str, str, str]]) -> None:
    assert told(list_limits_problems(Limits(revision=0, limits=limits), KINDS, [METRO])) == expected


def profile_of(*versions: RuleVersion, kinds: Iterable[Kind] = KINDS.values()) -> Profile:
    return Profile(code="conservative", name_zh="保守", name_en="Conservative", kinds=tuple(kinds), versions=versions)


SECOND = replace(METRO, version=2, valid_from=START)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (profile_of(METRO, SECOND), [("rules[R-MET1 v2]", "与 R-MET1 v1 同时对 metro 生效",
                                      "is in force for metro at the same time as R-MET1 v1")]),
        (profile_of(replace(METRO, valid_to=START), SECOND), []),
        (profile_of(replace(METRO, revision=1), SECOND), []),
        (profile_of(METRO, METRO), [("rules[R-MET1 v1]", "出现两次", "is given twice"),
                                    ("rules[R-MET1 v1]", "与 R-MET1 v1 同时对 metro 生效",
                                     "is in force for metro at the same time as R-MET1 v1")]),
        (profile_of(METRO, replace(RULES["bus"], rule="R-MET1", version=2)),
         [("rules[R-MET1 v2].kind", "此规则的其他版本换算 metro", "another version of this rule converts metro")]),
        (profile_of(METRO, replace(RULES["bus"], methodology=replace(METRO.methodology, year=2020))),
         [("rules[R-BUS1 v1].methodology", "其他规则对此方法学的说明不同",
           "another rule tells this methodology differently")]),
        (profile_of(METRO, replace(RULES["metro_ride"], caps=(replace(CAP, limit=5),))),
         [("rules[R-MET2 v1].caps[0]", "与 R-MET1 v1 共用上限组 metro，但上限不同",
           "R-MET1 v1 shares the group metro but has another limit")]),
        (profile_of(replace(METRO, caps=(replace(CAP, measure=Measure.QUANTITY),)), RULES["metro_ride"]),
         [("rules[R-MET1 v1].caps[0]", "与计量单位不同的 R-MET2 v1 共用上限组 metro 计数量",
           "counts quantity of metro with R-MET2 v1, which is measured in another unit")]),
        (profile_of(kinds=(KINDS["metro"], replace(KINDS["bus"], name_en="Metro, distance known"))),
         [("kinds.name_en", "名称“Metro, distance known”重复", "the name 'Metro, distance known' is given twice")]),
        (profile_of(kinds=(KINDS["metro"], replace(KINDS["metro"], name_zh="二", name_en="Two"))),
         [("kinds[metro]", "出现两次", "is given twice")]),
        (profile_of(kinds=(replace(KINDS["metro"], maximum=0),)),
         [("kinds[metro].maximum", "须不小于 1 且不超出 64 位", "must be at least 1 and fit in 64 bits")]),
    ],
)  # fmt: skip
def test_profile_is_consistent_with_itself(profile: Profile, expected: list[tuple[str, str, str]]) -> None:
    assert told(list_problems(profile)) == expected


def test_everything_wrong_with_a_draft_is_told_at_once() -> None:
    draft = replace(METRO, profile="other", kind="tram", note_en=" ", formula=Carpool(Ratio(1, 1), Ratio(2, 1)))
    assert [problem.path for problem in list_version_problems(draft, "conservative", KINDS)] == [
        "profile",
        "note_zh",
        "formula.detour",
        "kind",
    ]
