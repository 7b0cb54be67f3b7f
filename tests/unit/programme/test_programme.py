"""Shipped programmes are sound; a preset is read strictly and refused with the reason."""

from __future__ import annotations

from importlib import resources

import pytest

from backend.kernel.units import Ratio
from backend.programme.model import PresetError, load_programme, shipped_presets, shipped_programme
from backend.rules.model import Category, Measure, Period, Scope
from backend.rules.profile import shipped_kinds

ZHENJIANG = resources.files("backend.programme").joinpath("presets", "zhenjiang.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("code", "name_en", "districts", "window_days", "months", "budget"),
    [
        ("zhenjiang", "Tanhuiyi (Zhenjiang)", 7, 30, 24, 20_000_000_000),
        ("wuxi-jiangyin", "Tanshishang (Wuxi and Jiangyin)", 7, 15, 24, 40_000_000_000),
        ("nanjing", "My Nanjing green travel", 11, 7, 12, 60_000_000_000),
    ],
)
def test_shipped_programme_says_what_it_says(
    code: str, name_en: str, districts: int, window_days: int, months: int, budget: int
) -> None:
    programme = shipped_programme(code)
    assert (programme.code, programme.name_en, programme.profile) == (code, name_en, "conservative")
    assert len(programme.districts) == len(set(programme.districts)) == districts
    assert (programme.intake_window.days, programme.points.lifetime_months) == (window_days, months)
    assert (programme.grid_factor.mg_per_wh, programme.grid_factor.year) == (Ratio(5_978, 10), 2022)
    shared = [limit.cap for limit in programme.limits if limit.cap.scope is Scope.EVERYBODY]
    assert [(cap.period, cap.measure, cap.limit) for cap in shared] == [(Period.YEAR, Measure.POINTS, budget)]


def test_there_are_three_shipped_programmes() -> None:
    assert shipped_presets() == ["nanjing", "wuxi-jiangyin", "zhenjiang"]


def test_limits_cover_everything_a_category_or_a_kind() -> None:
    everything, paperless, plates, budget = shipped_programme("zhenjiang").limits
    covered = [[kind.code for kind in shipped_kinds().values() if limit.covers(kind)] for limit in (paperless, plates)]
    assert covered == [
        [kind.code for kind in shipped_kinds().values() if kind.category is Category.PAPERLESS],
        ["clean_plate"],
    ]
    assert all(limit.covers(kind) for limit in (everything, budget) for kind in shipped_kinds().values())


def test_a_programme_may_have_no_limits() -> None:
    assert load_programme(ZHENJIANG[: ZHENJIANG.index("limits:")]).limits == ()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("profile: conservative", "profile: lavish",
         "lavish: not shipped; shipped are: conservative, shanghai-2026"),
        ("mg_per_wh: 5978/10", "mg_per_wh: 597.8",
         "grid_factor.mg_per_wh: must be a ratio of whole numbers such as 467/10, not 597.8"),
        ("year: 2022", "year: 1999", "greater than or equal to 2010"),
        ("code: CN-JIANGSU-2022", "code: jiangsu", "should match pattern"),
        ("limit: 20,", "limit: 0,", "limits[1].cap.limit: must be at least 1 and fit in 64 bits, not 0"),
        ("limit: 20,", "limit: 20, colour: red,", "limits[1].cap.colour: unknown field"),
        ("kinds: [clean_plate]", "kinds: [ferry]", "limits[2].kinds: there is no kind ferry"),
        ("group: programme_day", "group: metro",
         "limits[0].cap.group: metro is already a group of a rule's caps"),
        ("categories: [paperless]", "categories: [moon]",
         "limits[1].categories[0]: must be one of transit, cycling, walking, ev,"),
        ("intake_window_days: 30", "intake_window_days: 0", "greater than or equal to 1"),
        ("time_zone: Asia/Shanghai", "time_zone: Asia/Atlantis", "Asia/Atlantis"),
        ("name_zh: 碳惠宜", "colour: red", "Extra inputs are not permitted"),
        ("code: zhenjiang", "code: [", "while parsing a flow sequence"),
    ],
)  # fmt: skip
def test_a_broken_preset_is_refused(old: str, new: str, problem: str) -> None:
    assert old in ZHENJIANG
    with pytest.raises(PresetError) as caught:
        load_programme(ZHENJIANG.replace(old, new, 1))
    assert problem in str(caught.value)


def test_an_unknown_programme_is_refused() -> None:
    with pytest.raises(PresetError) as caught:
        shipped_programme("atlantis")
    assert str(caught.value) == "no preset 'atlantis'; shipped are nanjing, wuxi-jiangyin, zhenjiang"
