"""The shipped profile is complete and sourced; a broken one is refused with the place named."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
import yaml

from backend.kernel.units import Ratio, Unit
from backend.rules.errors import ProfileError
from backend.rules.model import Confidence, EvidenceTier, Measure, Period
from backend.rules.profile import list_shipped_profiles, load_profile, shipped_profile
from backend.rules.validation import list_problems

KINDS = {
    *("metro", "metro_ride", "bus", "bus_ride", "bike_share", "ebike_share", "bike_own", "walk", "walk_trace"),
    *("ev_drive", "ev_charge", "car_free_day", "ev_free_day", "pv_generation", "power_saving", "courier_box"),
    *("recycle_aluminium", "recycle_steel", "recycle_scrap_metal", "recycle_pet", "recycle_plastic", "recycle_glass"),
    *("recycle_paper", "recycle_cardboard", "recycle_textile", "recycle_appliance", "recycle_mixed"),
    *("no_cutlery", "own_bag", "own_cup", "paperless", "clean_plate", "second_hand_phone"),
}
CONSERVATIVE = shipped_profile("conservative")
TEXT = resources.files("backend.rules").joinpath("profiles", "conservative.yaml").read_text(encoding="utf-8")


def test_conservative_profile_holds_every_kind_once() -> None:
    assert sorted(kind.code for kind in CONSERVATIVE.kinds) == sorted(KINDS)
    assert sorted(version.kind for version in CONSERVATIVE.versions) == sorted(KINDS)
    assert list_shipped_profiles() == ("conservative",)


def test_every_shipped_rule_is_sourced_named_and_capped_by_the_day() -> None:
    for version in CONSERVATIVE.versions:
        source = version.methodology
        assert all((source.title_zh, source.title_en, source.publisher, version.note_zh, version.note_en))
        assert 2017 <= source.year <= 2026
        assert any(cap.period is Period.DAY for cap in version.caps)
        assert version.version == 1
        assert (version.valid_from, version.valid_to) == (None, None)
        assert version.points == Ratio(1, 1_000)
    for kind in CONSERVATIVE.kinds:
        assert re.search(r"[\u4e00-\u9fff]", kind.name_zh)
        assert kind.name_en.isascii()
        assert kind.claims


def test_weak_factors_are_recognised_only_and_the_unsourced_one_is_off() -> None:
    recognised = {version.kind for version in CONSERVATIVE.versions if not version.quantified}
    assert recognised >= {"ev_drive", "ev_charge", "walk", "walk_trace", "bike_own", "metro_ride", "bus_ride"}
    assert all(not version.quantified for version in CONSERVATIVE.versions if version.confidence is Confidence.LOW)
    assert [version.kind for version in CONSERVATIVE.versions if not version.enabled] == ["own_cup"]


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


def test_no_float_anywhere_in_the_shipped_text() -> None:
    def values(node: Any) -> list[Any]:
        if isinstance(node, dict):
            return [leaf for child in node.values() for leaf in values(child)]
        return [leaf for child in node for leaf in values(child)] if isinstance(node, list) else [node]

    assert {type(value) for value in values(yaml.safe_load(TEXT))} == {str, int, bool}


def test_unknown_shipped_profile_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"^\.\./x: not shipped; shipped are: conservative$"):
        shipped_profile("../x")


MINIMAL = """
profile: small
name_zh: 小
name_en: Small
methodologies:
  - {code: DOC-1, title_zh: 文件, title_en: Document, publisher: Publisher, year: 2024}
kinds:
  - {code: bus, unit: METRE, category: transit, maximum: 1000, name_zh: 公交, name_en: Bus, claims: [[card, tapped_at]]}
rules:
  - {code: R-BUS, version: 1, kind: bus, methodology: DOC-1, factor: 269/10, quantified: true, confidence: MEDIUM,
     full_credit_tier: OPERATOR, minimum: 1, maximum: 900, bounds_basis: test, note_zh: 说明, note_en: note,
     caps: [{group: bus, period: DAY, measure: COUNT, limit: 6, basis: test}]}
"""
SECOND = """
  - {code: R-BUS, version: 2, kind: bus, methodology: DOC-1, factor: 300/10, quantified: true, confidence: MEDIUM,
     full_credit_tier: OPERATOR, minimum: 1, maximum: 900, bounds_basis: test, note_zh: 说明, note_en: note,
     caps: [], valid_from: MOMENT}
"""
TRAM = """
  - {code: tram, unit: COUNT, category: transit, maximum: 9, name_zh: 电车, name_en: Tram}
rules:
  - {code: R-TRAM, version: 1, kind: tram, methodology: DOC-1, factor: 1/1, quantified: true, confidence: MEDIUM,
     full_credit_tier: OPERATOR, minimum: 1, maximum: 9, bounds_basis: test, note_zh: 说明, note_en: note,
     caps: [{group: bus, period: DAY, measure: COUNT, limit: 6, basis: test}]}
"""


def test_minimal_profile_is_read_with_its_defaults() -> None:
    (version,) = load_profile(MINIMAL).versions
    assert (version.factor, version.points, version.declared_share) == (Ratio(269, 10), Ratio(1, 1000), Ratio(1, 2))
    assert version.full_credit_tier is EvidenceTier.OPERATOR
    assert version.caps[0].limit == 6


def test_versions_that_follow_each_other_are_accepted() -> None:
    first = MINIMAL.replace("note_en: note,", 'note_en: note, valid_to: "2026-07-01T00:00:00+08:00",')
    profile = load_profile(first + SECOND.replace("MOMENT", "2026-07-01T00:00:00+08:00"))
    assert [version.name for version in profile.versions] == ["R-BUS v1", "R-BUS v2"]
    assert profile.versions[0].valid_to == profile.versions[1].valid_from


@pytest.mark.parametrize(
    ("old", "new", "path", "problem"),
    [
        ("limit: 6", "limt: 6", "profile.rules[0].caps[0].limit", "is missing"),
        ("limit: 6", "limit: 6, x: 1", "profile.rules[0].caps[0].x", "unknown field"),
        ("profile: small", "profile: small\nextra: 1", "profile.extra", "unknown field"),
        ("limit: 6", "limit: 6.0", "profile.rules[0].caps[0].limit", "must be an integer, not float"),
        ("limit: 6", "limit: true", "profile.rules[0].caps[0].limit", "must be an integer, not bool"),
        ("limit: 6", "limit: 0", "profile.rules[0].caps[0].limit", "must be at least 1 and fit in 64 bits, not 0"),
        ("limit: 6", "limit: -6", "profile.rules[0].caps[0].limit", "must be at least 1 and fit in 64 bits, not -6"),
        ("269/10", "26.9", "profile.rules[0].factor", "must be a ratio of whole numbers such as 467/10, not 26.9"),
        ("269/10", "-1/2", "profile.rules[0].factor", "must be a ratio of whole numbers such as 467/10, not '-1/2'"),
        ("269/10", "269/0", "profile.rules[0].factor", "has a zero denominator"),
        ("269/10", "0/10", "rules[R-BUS v1].factor", "an enabled rule needs a factor above zero"),
        ("269/10", f"{10**17}/1", "rules[R-BUS v1].factor", "the largest act would not fit in 64 bits"),
        ("period: DAY", "period: HOUR", "profile.rules[0].caps[0].period",
         "must be one of DAY, WEEK, MONTH, YEAR, not 'HOUR'"),
        ("quantified: true", "quantified: 1", "profile.rules[0].quantified", "must be true or false, not int"),
        ("methodology: DOC-1", "methodology: DOC-2", "profile.rules[0].methodology",
         "DOC-2 is not among the methodologies"),
        ("methodology: DOC-1, ", "", "profile.rules[0].methodology", "is missing"),
        ("publisher: Publisher", "publisher: ''", "profile.methodologies[0].publisher",
         "must have 1 to 600 characters"),
        (", year: 2024", "", "profile.methodologies[0].year", "is missing"),
        ("name_en: Bus", "name_en: 7", "profile.kinds[0].name_en", "must be text, not int"),
        ("code: bus,", "code: Bus,", "profile.kinds[0].code", "'Bus' does not look like [a-z][a-z0-9_]{0,39}"),
        ("[[card, tapped_at]]", "[card]", "profile.kinds[0].claims[0]", "must be a non-empty list of attribute names"),
        ("[[card, tapped_at]]", "card", "profile.kinds[0].claims", "must be a list, not str"),
        ("[[card, tapped_at]]", "[[card], [card]]", "kinds[bus].claims",
         "must be different lists of attribute names, none empty"),
        ("kind: bus", "kind: tram", "kinds[bus]", "no rule converts it"),
        ("maximum: 900", "maximum: 1001", "rules[R-BUS v1]",
         "needs 1 <= minimum <= maximum <= 1000, the most one bus can have"),
        ("minimum: 1", "minimum: 901", "rules[R-BUS v1]",
         "needs 1 <= minimum <= maximum <= 1000, the most one bus can have"),
        ("minimum: 1", "declared_share: 3/2, minimum: 1", "rules[R-BUS v1].declared_share", "must not exceed 1"),
        ("minimum: 1", "enabled: false, minimum: 1", "rules[R-BUS v1].why_disabled_zh",
         "a disabled rule, and no other, says why in both languages"),
        ("minimum: 1", "why_disabled_en: x, minimum: 1", "rules[R-BUS v1].why_disabled_zh",
         "a disabled rule, and no other, says why in both languages"),
        ("confidence: MEDIUM", "confidence: LOW", "rules[R-BUS v1].quantified",
         "a factor of low confidence is recognised only"),
        ("minimum: 1", "valid_from: 2026-07-01, minimum: 1", "profile.rules[0].valid_from",
         "must be a moment with offset, not '2026-07-01'"),
        ("minimum: 1", "valid_from: 2026-07-01T00:00:00Z, valid_to: 2026-07-01T00:00:00Z, minimum: 1",
         "rules[R-BUS v1].valid_to", "must be later than valid_from"),
        ("basis: test}]", "basis: test}, {group: bus, period: DAY, measure: COUNT, limit: 7, basis: test}]",
         "rules[R-BUS v1].caps[bus DAY]", "limits COUNT twice"),
        ("kinds:", "  - {code: DOC-1, title_zh: 文, title_en: D, publisher: P, year: 2024}\nkinds:",
         "profile.methodologies[1].code", "DOC-1 is given twice"),
        ("kinds:", "  - {code: DOC-2, title_zh: 文, title_en: D, publisher: P, year: 2024}\nkinds:",
         "methodologies[DOC-2]", "no rule takes its factor from it"),
        ("rules:", "  - {code: bus, unit: METRE, category: transit, maximum: 9, name_zh: 二, name_en: B}\nrules:",
         "kinds[bus]", "is given twice"),
        ("rules:", "rules:" + SECOND.replace("MOMENT", "null"), "rules[R-BUS v1]",
         "is in force for bus at the same time as R-BUS v2"),
        ("rules:", TRAM.replace("limit: 6", "limit: 5").lstrip("\n"), "rules[R-BUS v1].caps[bus DAY]",
         "R-TRAM v1 shares this cap but has another limit"),
        ("rules:", TRAM.replace("COUNT, limit", "QUANTITY, limit").lstrip("\n"), "rules[R-TRAM v1].caps[bus DAY]",
         "counts quantity together with R-BUS v1, which is measured in another unit"),
        ("name_zh: 小", "name_zh: 小\nname_zh: 大", "line 4", "'name_zh' is given twice"),
        ("name_zh: 小", "name_zh: &a 小\nx: *a", "line 4", "aliases are not allowed"),
        ("name_zh: 小", "1: 小", "line 3", "a key must be text"),
        ("name_zh: 小", "name_zh: !!python/name:os.system x", "line 3",
         "could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'"),
        ("name_zh: 小", "name_zh: [", "line 5", "expected ',' or ']', but got ':'"),
    ],
)  # fmt: skip
def test_broken_profile_is_refused_with_its_place(old: str, new: str, path: str, problem: str) -> None:
    assert old in MINIMAL
    with pytest.raises(ProfileError) as caught:
        load_profile(MINIMAL.replace(old, new, 1))
    assert (caught.value.path, caught.value.problem) == (path, problem)
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("", "profile", "must be a mapping with text keys, not NoneType"),
        ("- 1", "profile", "must be a mapping with text keys, not list"),
        ("[" * 5_000, "text", "not YAML"),
        ("a: \x00", "text", "not YAML"),
        ("a: 2026-13-45", "profile.profile", "is missing"),
    ],
)
def test_text_that_is_no_profile_is_refused(text: str, path: str, problem: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile(text)
    assert (caught.value.path, caught.value.problem) == (path, problem)


def test_problems_of_a_draft_are_all_listed() -> None:
    profile = load_profile(MINIMAL)
    (version,) = profile.versions
    draft = replace(
        version, version=2, profile="other", kind="tram", note_en=" ",
        methodology=replace(version.methodology, year=2020),
    )  # fmt: skip
    problems = list_problems(replace(profile, versions=(version, draft, draft)))
    assert [str(problem) for problem in problems[:5]] == [
        "rules[R-BUS v2].profile: belongs to other, not to small",
        "rules[R-BUS v2].kind: another version of this rule converts bus",
        "rules[R-BUS v2].methodology: another rule tells this methodology differently",
        "rules[R-BUS v2].kind: there is no kind tram",
        "rules[R-BUS v2]: needs a note in both languages",
    ]
    assert str(problems[5]) == "rules[R-BUS v2]: is given twice"


def test_a_draft_may_overlap_what_it_will_replace() -> None:
    profile = load_profile(MINIMAL)
    (version,) = profile.versions
    draft = replace(version, version=2)
    assert list_problems(replace(profile, versions=(version, draft))) == ()
