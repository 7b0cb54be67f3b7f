"""What administrators write of rules: inputs, and the plain wording (``backend.rules.wording``) that they stand for.

Every field of a rule may be left out: a draft takes it from what is published, an edited draft from itself. What has no
value anywhere is a problem that the refusal names.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from enum import Enum
from typing import Any

import strawberry

from backend.kernel.clock import to_milliseconds
from schemas.enums import (
    Audience,
    BaselineMethod,
    Category,
    Confidence,
    EvidenceTier,
    Family,
    Measure,
    Period,
    Scope,
    Unit,
)
from schemas.scalars import BigInt

UNSET = strawberry.UNSET


@strawberry.input
class RatioInput:
    """An exact ratio."""

    numerator: BigInt
    denominator: BigInt


@strawberry.input
class BilingualInput:
    """A text in both languages."""

    zh: str
    en: str


@strawberry.input
class FormulaTermInput:
    """A named part of a baseline or of a project's emissions, in milligrams CO2e per base unit."""

    name_zh: str
    name_en: str
    rate: RatioInput


@strawberry.input
class PerQuantityInput:
    """A net factor in milligrams CO2e per base unit."""

    rate: RatioInput


@strawberry.input
class BaselineMinusProjectInput:
    """What would have been emitted less what is, term by term."""

    baseline: list[FormulaTermInput]
    project: list[FormulaTermInput]


@strawberry.input
class CarpoolInput:
    """A shared car ride: rate times the share of the others, less the detour."""

    rate: RatioInput
    detour: RatioInput


@strawberry.input
class OwnBaselineInput:
    """Electricity saved against the household's own past."""

    rate: RatioInput
    method: BaselineMethod
    most: RatioInput


@strawberry.input
class FullPeriodsInput:
    """So many milligrams for each full period of the act's duration."""

    rate: RatioInput
    period_s: BigInt


@strawberry.input(one_of=True)
class FormulaInput:
    """One family of formulas."""

    per_quantity: PerQuantityInput | None = UNSET
    baseline_minus_project: BaselineMinusProjectInput | None = UNSET
    carpool: CarpoolInput | None = UNSET
    own_baseline: OwnBaselineInput | None = UNSET
    full_periods: FullPeriodsInput | None = UNSET


@strawberry.input
class MethodologyInput:
    """A published document, and how its method is applied here."""

    code: str
    title_zh: str
    title_en: str
    publisher: str
    year: int
    scope: BilingualInput
    applicability: BilingualInput
    additionality: BilingualInput
    duplicate_claims: BilingualInput
    boundary: BilingualInput
    baseline: BilingualInput
    formula: BilingualInput
    monitoring: BilingualInput
    verification: BilingualInput
    number: str | None = None


@strawberry.input
class CapInput:
    """At most so many acts, base units, milligrams or points per period."""

    group: str
    period: Period
    measure: Measure
    limit: BigInt
    basis: str
    scope: Scope = Scope.CITIZEN


@strawberry.input
class MultiplierInput:
    """Points times ``percent`` / 100 where the condition (CEL) holds."""

    name_zh: str
    name_en: str
    condition: str
    percent: BigInt


@strawberry.input
class RuleInput:
    """A rule, or what of it is to change; ``methodology`` is a known code, ``newMethodology`` a document in full."""

    code: str
    profile: str | None = UNSET
    kind: str | None = UNSET
    methodology: str | None = UNSET
    new_methodology: MethodologyInput | None = UNSET
    formula: FormulaInput | None = UNSET
    quantified: bool | None = UNSET
    full_credit_tier: EvidenceTier | None = UNSET
    declared_share: RatioInput | None = UNSET
    points: RatioInput | None = UNSET
    minimum: BigInt | None = UNSET
    maximum: BigInt | None = UNSET
    bounds_basis: str | None = UNSET
    caps: list[CapInput] | None = UNSET
    confidence: Confidence | None = UNSET
    note_zh: str | None = UNSET
    note_en: str | None = UNSET
    condition: str | None = UNSET
    multipliers: list[MultiplierInput] | None = UNSET
    enabled: bool | None = UNSET
    why_disabled_zh: str | None = UNSET
    why_disabled_en: str | None = UNSET


@strawberry.input
class MotionInput:
    """Bounds of a plausible movement: metres per hour, and seconds it may last."""

    slowest_m_per_h: BigInt
    fastest_m_per_h: BigInt
    longest_s: BigInt


@strawberry.input
class KindInput:
    """A sort of act."""

    code: str
    unit: Unit | None = UNSET
    category: Category | None = UNSET
    name_zh: str | None = UNSET
    name_en: str | None = UNSET
    maximum: BigInt | None = UNSET
    claims: list[list[str]] | None = UNSET
    required_attributes: list[str] | None = UNSET
    has_duration: bool | None = UNSET
    exclusion: str | None = UNSET
    motion: MotionInput | None = UNSET
    evidence_zh: str | None = UNSET
    evidence_en: str | None = UNSET
    icon: str | None = UNSET


@strawberry.input
class CampaignInput:
    """A campaign, or what of it is to change."""

    code: str
    name_zh: str | None = UNSET
    name_en: str | None = UNSET
    starts_at: datetime | None = UNSET
    ends_at: datetime | None = UNSET
    kinds: list[str] | None = UNSET
    condition: str | None = UNSET
    audience: Audience | None = UNSET
    streak_days: BigInt | None = UNSET
    percent: BigInt | None = UNSET
    bonus: BigInt | None = UNSET
    stackable: bool | None = UNSET
    priority: BigInt | None = UNSET
    budget: BigInt | None = UNSET


@strawberry.input
class LimitInput:
    """A programme's own cap over the kinds named, those of the categories, or all where neither is named."""

    cap: CapInput
    kinds: list[str] = strawberry.field(default_factory=list)
    categories: list[Category] = strawberry.field(default_factory=list)


@strawberry.input
class LimitsInput:
    """All of a programme's own caps and budgets."""

    limits: list[LimitInput]


def to_wording(given: Any) -> Any:
    """The plain value that an input stands for; what was left out is not in it."""
    if isinstance(given, RatioInput):
        return f"{given.numerator}/{given.denominator}"
    if isinstance(given, FormulaInput):
        ((family, content),) = _given(given).items()
        return {"family": Family(family.upper()).value, **content}
    if isinstance(given, RuleInput):
        wording = _given(given)
        wording["rule"] = wording.pop("code")
        if "new_methodology" in wording:
            wording["methodology"] = wording.pop("new_methodology")
        return wording
    if isinstance(given, list):
        return [to_wording(item) for item in given]
    if isinstance(given, datetime):
        return to_milliseconds(given)
    return _given(given) if dataclasses.is_dataclass(given) else given.value if isinstance(given, Enum) else given


def _given(given: Any) -> dict[str, Any]:
    values = {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
    return {name: to_wording(value) for name, value in values.items() if value is not UNSET}
