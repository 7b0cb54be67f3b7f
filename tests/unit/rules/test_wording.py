"""What is written is read again as the same value, whatever it holds; a broken mapping is refused with its field."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.units import INT64_MAX, Ratio
from backend.rules.errors import ProfileError
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
    Limit,
    Limits,
    Measure,
    Multiplier,
    Period,
    Scope,
)
from backend.rules.profile import list_shipped_profiles, shipped_kinds, shipped_methodologies, shipped_profile
from backend.rules.wording import (
    Family,
    family_of,
    read_campaign,
    read_kind,
    read_limits,
    read_methodology,
    read_version,
    write_campaign,
    write_kind,
    write_limits,
    write_methodology,
    write_version,
)

VERSIONS = [version for code in list_shipped_profiles() for version in shipped_profile(code).versions]
METRO = next(version for version in VERSIONS if version.kind == "metro")
START = datetime(2026, 12, 1, 0, 0, 0, 1_000, tzinfo=UTC)

words = st.text("碳惠abc XYZ.，", min_size=1, max_size=30).map(str.strip).filter(bool)
ratios = st.builds(Ratio, st.integers(0, 10**18 - 1), st.integers(1, 10**18 - 1))
codes = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)
amounts = st.integers(1, INT64_MAX)
moments = st.integers(0, 10**12).map(lambda ms: START + timedelta(milliseconds=ms))
terms = st.lists(st.builds(Term, words, words, ratios), max_size=3).map(tuple)
formulas = st.one_of(
    st.builds(PerQuantity, ratios),
    st.builds(BaselineMinusProject, terms, terms),
    st.builds(Carpool, ratios, ratios),
    st.builds(OwnBaseline, ratios, st.sampled_from(BaselineMethod), ratios),
    st.builds(FullPeriods, ratios, amounts),
)
caps = st.builds(
    Cap, group=codes, period=st.sampled_from(Period), measure=st.sampled_from(Measure), limit=amounts, basis=words,
    scope=st.sampled_from(Scope),
)  # fmt: skip
multipliers = st.builds(Multiplier, name_zh=words, name_en=words, condition=words, percent=st.integers(0, INT64_MAX))
changes = st.fixed_dictionaries(
    {
        "formula": formulas,
        "caps": st.lists(caps, max_size=3).map(tuple),
        "multipliers": st.lists(multipliers, max_size=3).map(tuple),
        "condition": st.none() | words,
        "points": ratios,
        "declared_share": ratios,
        "valid_from": st.none() | moments,
        "valid_to": st.none() | moments,
        "enabled": st.booleans(),
        "why_disabled_zh": st.none() | words,
        "minimum": amounts,
    }
)
campaigns = st.builds(
    Campaign, code=st.just("green-week"), name_zh=words, name_en=words, starts_at=moments, ends_at=moments,
    kinds=st.frozensets(codes, max_size=3), condition=st.none() | words, audience=st.sampled_from(Audience),
    streak_days=st.integers(0, 40), percent=st.integers(0, 2_000), bonus=st.integers(0, INT64_MAX),
    stackable=st.booleans(), priority=st.integers(0, 9), budget=amounts, revision=st.just(0),
)  # fmt: skip
limits = st.builds(
    Limits,
    revision=st.just(0),
    limits=st.lists(
        st.builds(
            Limit,
            cap=caps,
            kinds=st.frozensets(codes, max_size=3),
            categories=st.frozensets(st.sampled_from(Category), max_size=3),
        ),
        max_size=3,
    ).map(tuple),
)


def through_json(plain: dict[str, Any]) -> Any:
    """As a store or a web page would give it back: moments alone have no form of their own there."""
    return json.loads(json.dumps(plain, default=lambda value: value.isoformat()))


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: f"{version.profile} {version.name}")
def test_every_shipped_version_survives_writing_and_reading(version: Any) -> None:
    plain = write_version(version)
    assert read_version(plain) == version
    assert read_version(through_json(plain)) == version


def test_every_shipped_kind_and_methodology_survives_writing_and_reading() -> None:
    for kind in shipped_kinds().values():
        assert read_kind(through_json(write_kind(kind))) == kind
    for methodology in shipped_methodologies().values():
        assert read_methodology(through_json(write_methodology(methodology))) == methodology


@given(changes=changes, version=st.sampled_from(VERSIONS))
def test_any_version_survives_writing_and_reading(changes: dict[str, Any], version: Any) -> None:
    changed = dataclasses.replace(version, **changes)
    assert read_version(write_version(changed)) == changed
    assert read_version(through_json(write_version(changed))) == changed


@given(campaigns)
def test_any_campaign_survives_writing_and_reading(campaign: Campaign) -> None:
    assert read_campaign(through_json(write_campaign(campaign))) == campaign


@given(limits)
def test_any_limits_survive_writing_and_reading(written: Limits) -> None:
    assert read_limits(through_json(write_limits(written))) == written


def test_a_wording_does_not_say_when_it_was_published() -> None:
    published = dataclasses.replace(METRO, revision=7, published_at=START)
    assert write_version(published) == write_version(METRO)
    assert not write_version(published).keys() & {"revision", "published_at"}
    assert write_limits(Limits(revision=7, limits=())) == {"limits": []}


def test_the_wording_is_plain() -> None:
    plain = write_version(dataclasses.replace(METRO, valid_from=START))
    assert plain["formula"] == {"family": "PER_QUANTITY", "rate": "467/10"}
    assert plain["methodology"]["scope"] == {"zh": "深圳市公交、地铁等公共出行。",
                                             "en": "Public travel in Shenzhen by bus and metro."}  # fmt: skip
    assert plain["caps"] == [
        {
            "group": "metro",
            "period": "DAY",
            "measure": "COUNT",
            "limit": 6,
            "basis": "Tanhui design",
            "scope": "CITIZEN",
        }
    ]
    assert (plain["valid_from"], plain["valid_to"], plain["full_credit_tier"]) == (START, None, "OPERATOR")
    assert type(plain["full_credit_tier"]) is str


def test_each_family_has_its_name() -> None:
    found = {family_of(version.formula) for version in VERSIONS}
    assert found == set(Family)


def test_a_version_may_name_its_methodology_and_leave_its_profile_to_the_reader() -> None:
    plain = write_version(METRO)
    del plain["profile"]
    plain["methodology"] = "SZ-TRAVEL-2021"
    assert read_version(plain, profile="conservative", methodologies=shipped_methodologies()) == METRO


def test_moments_are_cut_to_milliseconds_in_utc() -> None:
    plain = write_version(METRO) | {"valid_from": "2026-12-01T08:00:00.123456+08:00"}
    assert read_version(plain).valid_from == datetime(2026, 12, 1, 0, 0, 0, 123_000, tzinfo=UTC)


CAMPAIGN = {"code": "green-week", "name_zh": "绿色周", "name_en": "Green week", "starts_at": START,
            "ends_at": START + timedelta(days=7), "budget": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("read", "plain", "path", "zh", "en"),
    [
        (read_version, write_version(METRO) | {"profile": None}, "profile", "须为文字，而不是 NoneType",
         "must be text, not NoneType"),
        (read_version, write_version(METRO) | {"valid_to": datetime(2026, 1, 1)}, "valid_to",  # noqa: DTZ001
         "须为带时区的时刻，而不是 datetime.datetime(2026, 1, 1, 0, 0)",
         "must be a moment with offset, not datetime.datetime(2026, 1, 1, 0, 0)"),
        (read_version, write_version(METRO) | {"condition": "x" * 1_001}, "condition", "须有 1 至 1000 个字符",
         "must have 1 to 1000 characters"),
        (read_kind, {"code": "x" * 41}, "code", f"'{'x' * 41}' 不符合格式 [a-z][a-z0-9_]{{0,39}}",
         f"'{'x' * 41}' does not look like [a-z][a-z0-9_]{{0,39}}"),
        (read_campaign, CAMPAIGN | {"starts_at": None}, "starts_at", "缺少此字段", "is missing"),
        (read_campaign, CAMPAIGN | {"budget": 0}, "budget", "须不小于 1 且不超出 64 位，而不是 0",
         "must be at least 1 and fit in 64 bits, not 0"),
        (read_campaign, CAMPAIGN | {"revision": 1}, "revision", "未知字段", "unknown field"),
        (read_campaign, CAMPAIGN | {"kinds": [7]}, "kinds[0]", "须为文字，而不是 int", "must be text, not int"),
        (read_limits, {"limits": [{}]}, "limits[0].cap", "缺少此字段", "is missing"),
        (read_limits, {"limits": [{"cap": {**write_version(METRO)["caps"][0], "period": "HOUR"}}]},
         "limits[0].cap.period", "须为 DAY, WEEK, MONTH, YEAR, ALWAYS 之一，而不是 'HOUR'",
         "must be one of DAY, WEEK, MONTH, YEAR, ALWAYS, not 'HOUR'"),
        (read_limits, {"limits": [{"cap": write_version(METRO)["caps"][0], "categories": "ev"}]},
         "limits[0].categories", "须为列表，而不是 str", "must be a list, not str"),
        (read_limits, [], "text", "须为以文字为键的映射，而不是 list", "must be a mapping with text keys, not list"),
    ],
)  # fmt: skip
def test_a_broken_mapping_is_refused_with_its_field(read: Any, plain: Any, path: str, zh: str, en: str) -> None:
    with pytest.raises(ProfileError) as caught:
        read(plain)
    assert (caught.value.path, *caught.value.problem) == (path, zh, en)
