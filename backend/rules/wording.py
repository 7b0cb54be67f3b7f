"""The one wording of kinds, methodologies, rule versions, campaigns and limits as plain mappings, read and written.

Ratios are text (``467/10``), enums their values, moments datetimes (in YAML also text), the rest text, whole numbers,
true or false, lists and mappings: what YAML, JSON and BSON hold alike. Reading checks the form of each field; whether
the values make sense together is validation's to say. When and in which publication something was published is no part
of its wording: who stores it keeps that beside and puts it back.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final

from backend.kernel.errors import Text
from backend.kernel.units import Ratio, Unit
from backend.rules.expressions import MAX_LENGTH
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
    HALF,
    POINT_PER_GRAM,
    Audience,
    Campaign,
    Cap,
    Category,
    Confidence,
    EvidenceTier,
    Kind,
    Limit,
    Limits,
    Measure,
    Methodology,
    Motion,
    Multiplier,
    Period,
    RuleVersion,
    Scope,
)
from backend.rules.reading import Fields, fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.rules.formula import Formula

    Plain = dict[str, Any]
    Source = Fields | Mapping[str, object]

SNAKE = r"[a-z][a-z0-9_]{0,39}"
KEBAB = r"[a-z][a-z0-9-]{0,39}"
CAPITALS = r"[A-Z][A-Z0-9-]{1,39}"
EARLIEST_YEAR = 1990
SKELETON = (
    "scope",
    "applicability",
    "additionality",
    "duplicate_claims",
    "boundary",
    "baseline",
    "formula",
    "monitoring",
    "verification",
)


class Family(StrEnum):
    """Families of formulas, as written."""

    PER_QUANTITY = "PER_QUANTITY"
    BASELINE_MINUS_PROJECT = "BASELINE_MINUS_PROJECT"
    CARPOOL = "CARPOOL"
    OWN_BASELINE = "OWN_BASELINE"
    FULL_PERIODS = "FULL_PERIODS"


_FAMILY: Final[Mapping[type, Family]] = {
    PerQuantity: Family.PER_QUANTITY,
    BaselineMinusProject: Family.BASELINE_MINUS_PROJECT,
    Carpool: Family.CARPOOL,
    OwnBaseline: Family.OWN_BASELINE,
    FullPeriods: Family.FULL_PERIODS,
}


def family_of(formula: Formula) -> Family:
    """The family a formula belongs to."""
    return _FAMILY[type(formula)]


def write_kind(kind: Kind) -> Plain:
    """The kind as a plain mapping."""
    return _plain_fields(kind)


def read_kind(source: Source) -> Kind:
    """The kind of a mapping.

    Raises:
        ProfileError: a field is missing, unknown or malformed; the path names it.
    """
    fields = fields_of(source)
    kind = Kind(
        code=fields.text("code", SNAKE),
        unit=fields.choice("unit", Unit),
        category=fields.choice("category", Category),
        name_zh=fields.text("name_zh"),
        name_en=fields.text("name_en"),
        maximum=fields.integer("maximum"),
        claims=fields.lists("claims", SNAKE),
        required_attributes=fields.names("required_attributes", SNAKE, optional=True),
        has_duration=fields.flag("has_duration", default=False),
        exclusion=fields.optional_text("exclusion", SNAKE),
        motion=_read_motion(fields.optional_mapping("motion")),
        evidence_zh=fields.text("evidence_zh", default=""),
        evidence_en=fields.text("evidence_en", default=""),
        icon=fields.text("icon", KEBAB, default=""),
    )
    fields.close()
    return kind


def _read_motion(fields: Fields | None) -> Motion | None:
    if fields is None:
        return None
    motion = Motion(
        slowest_m_per_h=fields.integer("slowest_m_per_h", at_least=0),
        fastest_m_per_h=fields.integer("fastest_m_per_h"),
        longest_s=fields.integer("longest_s"),
    )
    fields.close()
    return motion


def write_methodology(methodology: Methodology) -> Plain:
    """The methodology as a plain mapping."""
    return _plain_fields(methodology)


def read_methodology(source: Source) -> Methodology:
    """The methodology of a mapping; each of its nine texts is there as ``{zh, en}``.

    Raises:
        ProfileError: a field is missing, unknown or malformed; the path names it.
    """
    fields = fields_of(source)
    methodology = Methodology(
        code=fields.text("code", CAPITALS),
        title_zh=fields.text("title_zh"),
        title_en=fields.text("title_en"),
        publisher=fields.text("publisher"),
        year=fields.integer("year", at_least=EARLIEST_YEAR),
        number=fields.optional_text("number"),
        **{name: fields.both(name) for name in SKELETON},
    )
    fields.close()
    return methodology


def write_version(version: RuleVersion) -> Plain:
    """The rule version as a plain mapping with its methodology in full; without its publication."""
    return _plain_fields(version, but=("revision", "published_at"))


def read_version(
    source: Source, *, profile: str | None = None, methodologies: Mapping[str, Methodology] | None = None
) -> RuleVersion:
    """The rule version of a mapping.

    ``profile`` stands where the mapping names none. ``methodology`` is one in full or the code of one of
    ``methodologies``; ``factor: 467/10`` stands for the formula that multiplies by it.

    Raises:
        ProfileError: a field is missing, unknown or malformed; the path names it.
    """
    fields = fields_of(source)
    version = RuleVersion(
        rule=fields.text("rule", CAPITALS),
        version=fields.integer("version"),
        kind=fields.text("kind", SNAKE),
        profile=fields.text("profile", KEBAB, default=profile),
        methodology=_read_source(fields, methodologies or {}),
        formula=_read_formula(fields),
        quantified=fields.flag("quantified"),
        full_credit_tier=fields.choice("full_credit_tier", EvidenceTier),
        minimum=fields.integer("minimum"),
        maximum=fields.integer("maximum"),
        bounds_basis=fields.text("bounds_basis"),
        caps=tuple(_read_cap(cap) for cap in fields.mappings("caps")),
        confidence=fields.choice("confidence", Confidence),
        note_zh=fields.text("note_zh"),
        note_en=fields.text("note_en"),
        points=fields.ratio("points", default=POINT_PER_GRAM),
        declared_share=fields.ratio("declared_share", default=HALF),
        condition=fields.optional_text("condition", longest=MAX_LENGTH),
        multipliers=tuple(_read_multiplier(entry) for entry in fields.mappings("multipliers", optional=True)),
        valid_from=fields.moment("valid_from"),
        valid_to=fields.moment("valid_to"),
        enabled=fields.flag("enabled", default=True),
        why_disabled_zh=fields.optional_text("why_disabled_zh"),
        why_disabled_en=fields.optional_text("why_disabled_en"),
    )
    fields.close()
    return version


def _read_source(fields: Fields, methodologies: Mapping[str, Methodology]) -> Methodology:
    if not fields.holds_text("methodology"):
        return read_methodology(fields.mapping("methodology"))
    code = fields.text("methodology")
    if code not in methodologies:
        raise fields.problem("methodology", f"没有方法学 {code}", f"{code} is not among the methodologies")
    return methodologies[code]


def _read_formula(fields: Fields) -> Formula:
    if "formula" not in fields:
        return PerQuantity(fields.ratio("factor"))
    inner = fields.mapping("formula")
    formula: Formula
    match inner.choice("family", Family):
        case Family.PER_QUANTITY:
            formula = PerQuantity(inner.ratio("rate"))
        case Family.BASELINE_MINUS_PROJECT:
            formula = BaselineMinusProject(_read_terms(inner, "baseline"), _read_terms(inner, "project"))
        case Family.CARPOOL:
            formula = Carpool(inner.ratio("rate"), inner.ratio("detour"))
        case Family.OWN_BASELINE:
            formula = OwnBaseline(inner.ratio("rate"), inner.choice("method", BaselineMethod), inner.ratio("most"))
        case Family.FULL_PERIODS:
            formula = FullPeriods(inner.ratio("rate"), inner.integer("period_s"))
    inner.close()
    return formula


def _read_terms(fields: Fields, name: str) -> tuple[Term, ...]:
    terms = []
    for entry in fields.mappings(name):
        terms.append(Term(entry.text("name_zh"), entry.text("name_en"), entry.ratio("rate")))
        entry.close()
    return tuple(terms)


def _read_cap(fields: Fields) -> Cap:
    cap = Cap(
        group=fields.text("group", SNAKE),
        period=fields.choice("period", Period),
        measure=fields.choice("measure", Measure),
        limit=fields.integer("limit"),
        basis=fields.text("basis"),
        scope=fields.choice("scope", Scope, default=Scope.CITIZEN),
    )
    fields.close()
    return cap


def _read_multiplier(fields: Fields) -> Multiplier:
    multiplier = Multiplier(
        name_zh=fields.text("name_zh"),
        name_en=fields.text("name_en"),
        condition=fields.text("condition", longest=MAX_LENGTH),
        percent=fields.integer("percent", at_least=0),
    )
    fields.close()
    return multiplier


def write_campaign(campaign: Campaign) -> Plain:
    """The campaign as a plain mapping, without its publication."""
    return _plain_fields(campaign, but=("revision",))


def read_campaign(source: Source) -> Campaign:
    """The campaign of a mapping.

    Raises:
        ProfileError: a field is missing, unknown or malformed; the path names it.
    """
    fields = fields_of(source)
    campaign = Campaign(
        code=fields.text("code", KEBAB),
        name_zh=fields.text("name_zh"),
        name_en=fields.text("name_en"),
        starts_at=fields.needed_moment("starts_at"),
        ends_at=fields.needed_moment("ends_at"),
        kinds=frozenset(fields.names("kinds", SNAKE, optional=True)),
        condition=fields.optional_text("condition", longest=MAX_LENGTH),
        audience=fields.choice("audience", Audience, default=Audience.EVERY_ACT),
        streak_days=fields.integer("streak_days", at_least=0, default=0),
        percent=fields.integer("percent", at_least=0, default=0),
        bonus=fields.integer("bonus", at_least=0, default=0),
        stackable=fields.flag("stackable", default=False),
        priority=fields.integer("priority", at_least=0, default=0),
        budget=fields.integer("budget"),
    )
    fields.close()
    return campaign


def write_limits(limits: Limits) -> Plain:
    """The limits as a plain mapping, without their publication."""
    return _plain_fields(limits, but=("revision",))


def read_limits(source: Source) -> Limits:
    """The limits of a mapping ``{limits: [{cap, kinds, categories}]}``, unpublished.

    Raises:
        ProfileError: a field is missing, unknown or malformed; the path names it.
    """
    fields = fields_of(source)
    limits = Limits(revision=0, limits=tuple(_read_limit(entry) for entry in fields.mappings("limits")))
    fields.close()
    return limits


def _read_limit(fields: Fields) -> Limit:
    limit = Limit(
        cap=_read_cap(fields.mapping("cap")),
        kinds=frozenset(fields.names("kinds", SNAKE, optional=True)),
        categories=frozenset(fields.choices("categories", Category, optional=True)),
    )
    fields.close()
    return limit


def _plain_fields(value: Any, *, but: tuple[str, ...] = ()) -> Plain:
    names = (field.name for field in dataclasses.fields(value))
    return {name: _plain(getattr(value, name)) for name in names if name not in but}


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line per sort of value
    if isinstance(value, Ratio):
        return str(value)
    if isinstance(value, Text):
        return {"zh": value.zh, "en": value.en}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(_plain(item) for item in value)
    if type(value) in _FAMILY:
        return {"family": _FAMILY[type(value)].value, **_plain_fields(value)}
    if dataclasses.is_dataclass(value):
        return _plain_fields(value)
    assert value is None or isinstance(value, str | bool | int | datetime)
    return value
