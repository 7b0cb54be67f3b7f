"""The shipped profiles are complete and sourced; a broken file is refused with its place, in both languages."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
import yaml

from backend.kernel.units import Ratio, Unit
from backend.rules.errors import ProfileError
from backend.rules.model import Confidence, Kind, Measure, Motion, Period
from backend.rules.profile import (
    list_shipped_profiles,
    load_profile,
    shipped_kinds,
    shipped_methodologies,
    shipped_profile,
)
from backend.rules.validation import list_problems
from backend.rules.wording import SKELETON

CONSERVATIVE = shipped_profile("conservative")
SHANGHAI = shipped_profile("shanghai-2026")
UNSOURCED = {
    *("own_cup", "etc_pass", "demand_response", "green_appliance", "heat_pump", "water_saving", "recycle_ewaste"),
    *("waste_sorting", "refill", "second_hand_goods", "tree_planting", "volunteering", "online_meeting"),
    "online_service",
}
TRAVEL = {
    *("metro", "metro_ride", "bus", "bus_ride", "bike_share", "ebike_share", "bike_own", "walk_trace", "nev_ride"),
    *("carpool_passenger", "carpool_driver"),
}


def test_profiles_share_58_kinds_and_name_their_own_rules() -> None:
    assert list_shipped_profiles() == ("conservative", "shanghai-2026")
    assert len(shipped_kinds()) == 58
    assert CONSERVATIVE.kinds == SHANGHAI.kinds == tuple(shipped_kinds().values())
    assert sorted(version.kind for version in CONSERVATIVE.versions) == sorted(shipped_kinds())
    assert {version.kind: version.factor for version in SHANGHAI.versions} == {
        "metro": Ratio(97, 1),
        "bike_share": Ratio(98, 1),
        "nev_ride": Ratio(88, 1),
        "pv_generation": Ratio(420, 1),
    }


def test_every_shipped_methodology_is_told_in_both_languages_and_used() -> None:
    used = {version.methodology.code for version in (*CONSERVATIVE.versions, *SHANGHAI.versions)}
    assert used == shipped_methodologies().keys()
    for methodology in shipped_methodologies().values():
        for name in SKELETON:
            text = getattr(methodology, name)
            assert re.search(r"[\u4e00-\u9fff]", text.zh), (methodology.code, name)
            assert text.en.endswith("."), (methodology.code, name)


@pytest.mark.parametrize("profile", [CONSERVATIVE, SHANGHAI], ids=lambda profile: profile.code)
def test_every_shipped_rule_is_sourced_named_and_capped_by_the_day(profile: Any) -> None:
    assert list_problems(profile) == ()
    for version in profile.versions:
        source = version.methodology
        assert all((source.title_zh, source.title_en, source.publisher, version.note_zh, version.note_en))
        assert 2017 <= source.year <= 2026
        assert any(cap.period is Period.DAY for cap in version.caps)
        assert (version.version, version.valid_from, version.valid_to) == (1, None, None)
        assert version.points == Ratio(1, 1_000)


def test_every_shipped_kind_has_names_claims_evidence_and_icon() -> None:
    for kind in shipped_kinds().values():
        assert re.search(r"[\u4e00-\u9fff]", kind.name_zh)
        assert kind.name_en.isascii()
        assert kind.claims
        assert re.search(r"[\u4e00-\u9fff]", kind.evidence_zh)
        assert kind.evidence_en.isascii()
        assert kind.evidence_en
        assert kind.icon


def test_movements_exclude_each_other_and_have_plausible_speeds() -> None:
    assert {kind.code for kind in shipped_kinds().values() if kind.exclusion == "travel"} == TRAVEL
    assert {kind.exclusion for kind in shipped_kinds().values()} == {"travel", None}
    bounded = {kind.code for kind in shipped_kinds().values() if kind.motion}
    assert bounded == {code for code in TRAVEL if shipped_kinds()[code].unit is Unit.METRE}
    assert shipped_kinds()["metro"].motion == Motion(
        slowest_m_per_h=3_000, fastest_m_per_h=120_000, longest_s=4 * 3_600
    )


def test_weak_factors_are_recognised_only_and_unsourced_ones_are_off() -> None:
    recognised = {version.kind for version in CONSERVATIVE.versions if not version.quantified}
    assert recognised >= {"ev_drive", "ev_charge", "walk", "walk_trace", "bike_own", "metro_ride", "bus_ride"}
    assert all(not version.quantified for version in CONSERVATIVE.versions if version.confidence is Confidence.LOW)
    off = {version.kind: version for version in CONSERVATIVE.versions if not version.enabled}
    assert off.keys() == UNSOURCED
    assert all(version.methodology.code == "TANHUI-NONE" and version.factor == Ratio(0, 1) for version in off.values())
    assert all(version.enabled for version in SHANGHAI.versions)


def test_walking_by_steps_and_by_track_share_one_daily_cap() -> None:
    shared = {
        version.kind: cap.limit
        for version in CONSERVATIVE.versions
        for cap in version.caps
        if (cap.group, cap.measure, cap.period) == ("walking", Measure.MILLIGRAM, Period.DAY)
    }
    assert shared == {"walk": 295_200, "walk_trace": 295_200}


def test_find_kind_by_code() -> None:
    metro = CONSERVATIVE.find_kind("metro")
    assert metro is not None
    assert (metro.unit, metro.maximum, metro.has_duration) == (Unit.METRE, 150_000, True)
    assert CONSERVATIVE.find_kind("teleport") is None


def test_no_float_anywhere_in_the_shipped_texts() -> None:
    def values(node: Any) -> list[Any]:
        if isinstance(node, dict):
            return [leaf for child in node.values() for leaf in values(child)]
        return [leaf for child in node for leaf in values(child)] if isinstance(node, list) else [node]

    texts = [entry.read_text("utf-8") for entry in resources.files("backend.rules").joinpath("profiles").iterdir()]
    assert len(texts) == 4
    assert {type(value) for text in texts for value in values(yaml.safe_load(text))} == {str, int, bool}


def test_unknown_shipped_profile_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"^kinds: not shipped; shipped are: conservative, shanghai-2026$") as caught:
        shipped_profile("kinds")
    assert caught.value.problem.zh == "没有随附此口径；随附的有：conservative, shanghai-2026"


TOLD = ", ".join(f"{name}: {{zh: 文, en: text}}" for name in SKELETON)
MINIMAL = f"""
profile: small
name_zh: 小
name_en: Small
methodologies:
  - {{code: DOC-1, title_zh: 文件, title_en: Document, publisher: Publisher, year: 2024, {TOLD}}}
kinds:
  - {{code: tram, unit: METRE, category: transit, maximum: 1000, name_zh: 电车, name_en: Tram, claims: [[card, day]]}}
rules:
  - {{rule: R-TRAM, version: 1, kind: tram, methodology: DOC-1, factor: 269/10, quantified: true, confidence: MEDIUM,
     full_credit_tier: OPERATOR, minimum: 1, maximum: 900, bounds_basis: test, note_zh: 说明, note_en: note,
     caps: [{{group: tram, period: DAY, measure: COUNT, limit: 6, basis: test}}]}}
"""


def test_a_file_adds_kinds_and_methodologies_to_the_shipped_ones() -> None:
    profile = load_profile(MINIMAL)
    (version,) = profile.versions
    assert [kind.code for kind in profile.kinds] == [*shipped_kinds(), "tram"]
    assert (version.profile, version.methodology.title_zh, version.factor) == ("small", "文件", Ratio(269, 10))


def test_a_file_may_use_the_shipped_ones_alone() -> None:
    text = MINIMAL.replace("kind: tram", "kind: bus").replace("methodology: DOC-1", "methodology: SZ-TRAVEL-2021")
    (version,) = load_profile(text).versions
    assert (version.kind, version.methodology) == ("bus", shipped_methodologies()["SZ-TRAVEL-2021"])


def test_a_kind_of_the_file_stands_in_for_a_shipped_one() -> None:
    profile = load_profile(MINIMAL.replace("tram", "bus").replace("name_zh: 电车", "name_zh: 公交"))
    bus = profile.find_kind("bus")
    assert isinstance(bus, Kind)
    assert (len(profile.kinds), bus.maximum, shipped_kinds()["bus"].maximum) == (58, 1_000, 100_000)


LIST = "must be a list, not str"


@pytest.mark.parametrize(
    ("old", "new", "path", "zh", "en"),
    [
        ("factor: 269/10", "factor: 26.9", "rules[0].factor", "须为整数之比，例如 467/10，而不是 26.9",
         "must be a ratio of whole numbers such as 467/10, not 26.9"),
        ("factor: 269/10", "factor: -1/2", "rules[0].factor", "须为整数之比，例如 467/10，而不是 '-1/2'",
         "must be a ratio of whole numbers such as 467/10, not '-1/2'"),
        ("factor: 269/10", "factor: 1/0", "rules[0].factor", "分母为零", "has a zero denominator"),
        ("factor: 269/10, ", "", "rules[0].factor", "缺少此字段", "is missing"),
        ("factor: 269/10", "formula: {family: MAGIC}", "rules[0].formula.family",
         "须为 PER_QUANTITY, BASELINE_MINUS_PROJECT, CARPOOL, OWN_BASELINE, FULL_PERIODS 之一，而不是 'MAGIC'",
         "must be one of PER_QUANTITY, BASELINE_MINUS_PROJECT, CARPOOL, OWN_BASELINE, FULL_PERIODS, not 'MAGIC'"),
        ("factor: 269/10", "formula: {family: CARPOOL, rate: 1/1}", "rules[0].formula.detour", "缺少此字段",
         "is missing"),
        ("factor: 269/10", "formula: {family: PER_QUANTITY, rate: 1/1, x: 1}", "rules[0].formula.x", "未知字段",
         "unknown field"),
        ("factor: 269/10",
         "formula: {family: BASELINE_MINUS_PROJECT, baseline: [{name_zh: 车, name_en: c, rate: 1}], project: []}",
         "rules[0].formula.baseline[0].rate", "须为整数之比，例如 467/10，而不是 1",
         "must be a ratio of whole numbers such as 467/10, not 1"),
        ("factor: 269/10", "factor: 1/1, formula: {family: PER_QUANTITY, rate: 1/1}", "rules[0].factor", "未知字段",
         "unknown field"),
        ("version: 1", "version: 0", "rules[0].version", "须不小于 1 且不超出 64 位，而不是 0",
         "must be at least 1 and fit in 64 bits, not 0"),
        ("version: 1", "version: 9223372036854775808", "rules[0].version",
         "须不小于 1 且不超出 64 位，而不是 9223372036854775808",
         "must be at least 1 and fit in 64 bits, not 9223372036854775808"),
        ("version: 1", "version: true", "rules[0].version", "须为整数，而不是 bool", "must be an integer, not bool"),
        ("quantified: true", "quantified: 1", "rules[0].quantified", "须为是或否，而不是 int",
         "must be true or false, not int"),
        ("confidence: MEDIUM", "confidence: SURE", "rules[0].confidence", "须为 HIGH, MEDIUM, LOW 之一，而不是 'SURE'",
         "must be one of HIGH, MEDIUM, LOW, not 'SURE'"),
        ("measure: COUNT", "measure: COUNT, scope: ALL", "rules[0].caps[0].scope",
         "须为 CITIZEN, EVERYBODY 之一，而不是 'ALL'", "must be one of CITIZEN, EVERYBODY, not 'ALL'"),
        ("bounds_basis: test", "bounds_basis: test, colour: red", "rules[0].colour", "未知字段", "unknown field"),
        ("basis: test}", "basis: test, colour: red}", "rules[0].caps[0].colour", "未知字段", "unknown field"),
        ("methodology: DOC-1", "methodology: DOC-9", "rules[0].methodology", "没有方法学 DOC-9",
         "DOC-9 is not among the methodologies"),
        ("methodology: DOC-1, ", "", "rules[0].methodology", "缺少此字段", "is missing"),
        ("minimum: 1", "multipliers: [{name_zh: 倍, name_en: x, condition: 'true', percent: -1}], minimum: 1",
         "rules[0].multipliers[0].percent", "须不小于 0 且不超出 64 位，而不是 -1",
         "must be at least 0 and fit in 64 bits, not -1"),
        ("minimum: 1", "condition: 7, minimum: 1", "rules[0].condition", "须为文字，而不是 int",
         "must be text, not int"),
        ("minimum: 1", "valid_from: 2026-07-01, minimum: 1", "rules[0].valid_from",
         "须为带时区的时刻，而不是 '2026-07-01'", "must be a moment with offset, not '2026-07-01'"),
        ("publisher: Publisher", "publisher: ''", "methodologies[0].publisher", "须有 1 至 600 个字符",
         "must have 1 to 600 characters"),
        (", year: 2024", "", "methodologies[0].year", "缺少此字段", "is missing"),
        (", boundary: {zh: 文, en: text}", "", "methodologies[0].boundary", "缺少此字段", "is missing"),
        ("boundary: {zh: 文, en: text}", "boundary: text", "methodologies[0].boundary",
         "须为以文字为键的映射，而不是 str", "must be a mapping with text keys, not str"),
        ("boundary: {zh: 文, en: text}", "boundary: {zh: 文, en: ''}", "rules[R-TRAM v1].methodology.boundary",
         "须有中英文说明", "needs its text in both languages"),
        ("name_en: Tram", "name_en: 7", "kinds[0].name_en", "须为文字，而不是 int", "must be text, not int"),
        ("code: tram,", "code: Tram,", "kinds[0].code", "'Tram' 不符合格式 [a-z][a-z0-9_]{0,39}",
         "'Tram' does not look like [a-z][a-z0-9_]{0,39}"),
        ("[[card, day]]", "[card]", "kinds[0].claims[0]", "须为列表，而不是 str", LIST),
        ("[[card, day]]", "card", "kinds[0].claims", "须为列表，而不是 str", LIST),
        ("[[card, day]]", "[[card, 7]]", "kinds[0].claims[0][1]", "须为文字，而不是 int", "must be text, not int"),
        ("[[card, day]]", "[[card]], motion: {slowest_m_per_h: 1, fastest_m_per_h: 2}", "kinds[0].motion.longest_s",
         "缺少此字段", "is missing"),
        ("kinds:", f"  - {{code: DOC-1, title_zh: 文, title_en: D, publisher: P, year: 2024, {TOLD}}}\nkinds:",
         "methodologies[1].code", "DOC-1 出现两次", "DOC-1 is given twice"),
        ("rules:", "  - {code: tram, unit: METRE, category: transit, maximum: 9, name_zh: 二, name_en: B}\nrules:",
         "kinds[1].code", "tram 出现两次", "tram is given twice"),
        ("kind: tram", "kind: ferry", "rules[R-TRAM v1].kind", "没有行为种类 ferry", "there is no kind ferry"),
        ("kind: tram", "profile: big, kind: tram", "rules[R-TRAM v1].profile", "属于口径 big，而不是 small",
         "belongs to big, not to small"),
        ("name_zh: 小", "name_zh: 小\nname_zh: 大", "line 4", "YAML 有误：'name_zh' is given twice",
         "'name_zh' is given twice"),
        ("name_zh: 小", "name_zh: &a 小\nx: *a", "line 4", "YAML 有误：aliases are not allowed",
         "aliases are not allowed"),
        ("name_zh: 小", "1: 小", "line 3", "YAML 有误：a key must be text", "a key must be text"),
        ("name_zh: 小", "name_zh: !!python/name:os.system x", "line 3",
         "YAML 有误：could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'",
         "could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'"),
        ("name_zh: 小", "name_zh: [", "line 5", "YAML 有误：expected ',' or ']', but got ':'",
         "expected ',' or ']', but got ':'"),
    ],
)  # fmt: skip
def test_broken_file_is_refused_with_its_place(old: str, new: str, path: str, zh: str, en: str) -> None:
    assert old in MINIMAL
    with pytest.raises(ProfileError) as caught:
        load_profile(MINIMAL.replace(old, new, 1))
    assert (caught.value.path, *caught.value.problem) == (path, zh, en)
    assert str(caught.value) == f"{path}: {en}"


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("", "text", "must be a mapping with text keys, not NoneType"),
        ("- 1", "text", "must be a mapping with text keys, not list"),
        ("[" * 5_000, "text", "not YAML"),
        ("a: \x00", "text", "not YAML"),
        ("a: 2026-13-45", "profile", "is missing"),
    ],
)
def test_text_that_is_no_profile_is_refused(text: str, path: str, problem: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile(text)
    assert (caught.value.path, caught.value.problem.en) == (path, problem)


def test_a_version_published_later_may_take_the_place_of_an_earlier_one() -> None:
    profile = load_profile(MINIMAL)
    (version,) = profile.versions
    draft = replace(version, version=2, caps=(replace(version.caps[0], limit=9),))
    assert list_problems(replace(profile, versions=(replace(version, revision=1), draft))) == ()
