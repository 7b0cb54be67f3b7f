"""rules, rule and kinds: what counts, by which factor, since when, from which document, for anybody to read."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from backend.kernel.units import Ratio
from backend.rules.formula import PerQuantity
from backend.rules.profile import shipped_profile
from backend.rules.wording import Family
from schemas.operations import read_operation

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

RULES = read_operation("Rules")
VERSIONS = (
    "query ($code: String!) { rule(code: $code) { code versions { version validFrom validTo factor { numerator } } } }"
)
TURN = datetime(2031, 1, 1, tzinfo=UTC)
KIND = next(kind for kind in shipped_profile("conservative").kinds if kind.code == "bus_ride")
SKELETON = "scope applicability additionality duplicateClaims boundary baseline formula monitoring verification"
BUS_RIDE = {
    "code": "R-BUS2",
    "version": 1,
    "kind": {
        "code": KIND.code,
        "name": "Bus ride, distance unknown",
        "unit": "COUNT",
        "category": "TRANSIT",
        "icon": KIND.icon,
        "evidence": KIND.evidence_en,
    },
    "factor": {"numerator": 80_000, "denominator": 1},
    "formula": {"family": "PER_QUANTITY", "rate": {"numerator": 80_000, "denominator": 1}},
    "condition": None,
    "multipliers": [],
    "quantified": False,
    "enabled": True,
    "whyDisabled": None,
    "note": "80 g per ride where the distance is unknown; Luzhou, Beijing and Ant Forest agree on it.",
    "caps": [
        {"group": "bus", "period": "DAY", "measure": "COUNT", "limit": 6},
        {"group": "bus_ride", "period": "DAY", "measure": "COUNT", "limit": 4},
    ],
    "methodology": {
        "title": "Luzhou Green Sprout points, on ACEF algorithms (Guangming Daily and People's Daily, 2024)",
        "publisher": "Luzhou Green Sprout programme",
        "year": 2024,
        "number": None,
    },
}


async def test_a_rule_shows_its_factor_caps_and_source(api: Api, clock: ManualClock) -> None:
    (shown,) = (await api.post(RULES, {"kind": "bus_ride"})).result
    assert datetime.fromisoformat(shown.pop("publishedAt")) <= clock.now()
    assert shown == BUS_RIDE


async def test_a_rule_is_explained_in_chinese(api: Api) -> None:
    (shown,) = (await api.post(RULES, {"kind": "bus_ride"}, language="zh")).result
    assert shown["kind"]["name"] == "公交（里程未知）"
    assert shown["note"] == "里程未知时按每次 80 克计，泸州、北京和蚂蚁森林的取值一致。"
    assert shown["methodology"]["title"] == "泸州绿芽积分（中华环保联合会绿普惠云算法）"


async def test_a_methodology_tells_its_nine_parts_in_the_readers_language(api: Api) -> None:
    told = next(v for v in shipped_profile("conservative").versions if v.kind == "bus_ride").methodology
    document = f'{{ rules(kind: "bus_ride") {{ methodology {{ {SKELETON} }} }} }}'
    for language, index in (("zh", 0), ("en", 1)):
        (shown,) = (await api.post(document, language=language)).result
        texts = shown["methodology"]
        assert len(texts) == 9
        assert texts["scope"] == told.scope[index]
        assert texts["duplicateClaims"] == told.duplicate_claims[index]
        assert texts["verification"] == told.verification[index]


async def test_every_family_of_formulas_is_shown(api: Api) -> None:
    terms = "{ name rate { numerator denominator } }"
    fields = f"family baseline {terms} project {terms} detour {{ numerator }} method most {{ numerator }} periodS"
    shown = (await api.post(f"{{ rules {{ kind {{ code }} formula {{ {fields} }} }} }}")).result
    formulas = {rule["kind"]["code"]: rule["formula"] for rule in shown}
    assert {formula["family"] for formula in formulas.values()} == {family.value for family in Family}
    given = {
        formula["family"]: {name for name, value in formula.items() if value is not None}
        for formula in formulas.values()
    }
    assert given == {
        "PER_QUANTITY": {"family"},
        "BASELINE_MINUS_PROJECT": {"family", "baseline", "project"},
        "CARPOOL": {"family", "detour"},
        "OWN_BASELINE": {"family", "method", "most"},
        "FULL_PERIODS": {"family", "periodS"},
    }


async def test_a_rule_that_is_switched_off_says_why(api: Api) -> None:
    (shown,) = (await api.post(RULES, {"kind": "own_cup"})).result
    assert (shown["enabled"], shown["whyDisabled"]) == (False, "Switched off until a sourced figure is found.")
    (shown,) = (await api.post(RULES, {"kind": "own_cup"}, language="zh")).result
    assert shown["whyDisabled"] == "尚无有来源的减排值，暂不计入。"


async def test_every_kind_has_the_rule_of_the_profile(api: Api) -> None:
    profile = shipped_profile("conservative")
    shown = (await api.post(RULES)).result
    assert {(rule["kind"]["code"], rule["code"], rule["version"]) for rule in shown} == {
        (version.kind, version.rule, version.version) for version in profile.versions
    }
    kinds = (await api.post("{ kinds { code unit maximum requiredAttributes } }")).result
    assert kinds == [
        {
            "code": kind.code,
            "unit": kind.unit.value,
            "maximum": kind.maximum,
            "requiredAttributes": list(kind.required_attributes),
        }
        for kind in sorted(profile.kinds, key=lambda kind: kind.code)
    ]


async def test_an_unknown_kind_or_rule_is_nothing(api: Api) -> None:
    for text in ("teleport", "", "BUS_RIDE", "\x00"):
        assert (await api.post(RULES, {"kind": text})).result == []
        assert (await api.post(VERSIONS, {"code": text})).result is None


async def test_the_version_in_force_at_a_moment_is_shown(api: Api, services: Services) -> None:
    profile = shipped_profile("conservative")
    tram = dataclasses.replace(profile.kinds[0], code="tram", claims=())
    first = dataclasses.replace(profile.versions[0], rule="R-TRAM", kind="tram", valid_from=None, valid_to=TURN)
    formula = PerQuantity(Ratio(7, 1))
    second = dataclasses.replace(first, version=2, formula=formula, valid_from=TURN, valid_to=None)
    await services.rules.publish(dataclasses.replace(profile, kinds=(tram,), versions=(first, second)))

    for moment, versions in (
        (None, [1]),
        ("2030-12-31T23:59:59.999Z", [1]),
        ("2031-01-01T07:59:59+08:00", [1]),
        ("2031-01-01T00:00:00Z", [2]),
        ("2031-01-01T08:00:00+08:00", [2]),
        ("9999-12-31T23:59:59Z", [2]),
    ):
        shown = (await api.post(RULES, {"kind": "tram", "asOf": moment})).result
        assert (moment, [rule["version"] for rule in shown]) == (moment, versions)
    assert (await api.post(VERSIONS, {"code": "R-TRAM"})).result == {
        "code": "R-TRAM",
        "versions": [
            {"version": 2, "validFrom": "2031-01-01T00:00:00.000Z", "validTo": None, "factor": {"numerator": 7}},
            {"version": 1, "validFrom": None, "validTo": "2031-01-01T00:00:00.000Z", "factor": {"numerator": 467}},
        ],
    }
    for wrong in ("2031-01-01T00:00:00", "2031-01-01", "now"):
        assert (await api.post(RULES, {"asOf": wrong})).code == "BAD_USER_INPUT"
