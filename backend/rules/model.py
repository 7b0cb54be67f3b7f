"""Kinds, methodologies, rule versions, caps and profiles as immutable values. Knows no storage and converts nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import total_ordering
from typing import TYPE_CHECKING

from backend.kernel.units import MG_PER_GRAM, Ratio, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

POINT_PER_GRAM = Ratio(1, MG_PER_GRAM)
HALF = Ratio(1, 2)
WHOLE = Ratio(1, 1)


@total_ordering
class EvidenceTier(Enum):
    """Who recorded the act; a later tier is stronger evidence."""

    # typed by hand
    DECLARED = "DECLARED"
    # measured by the citizen's own device, or shown by a photo
    DEVICE = "DEVICE"
    # recorded by the operator, a weighing scale or a meter
    OPERATOR = "OPERATOR"

    def __lt__(self, other: EvidenceTier) -> bool:
        return _TIER_RANK[self] < _TIER_RANK[other]


_TIER_RANK = {tier: rank for rank, tier in enumerate(EvidenceTier)}


class Category(StrEnum):
    """Where an app shows a kind."""

    TRANSIT = "transit"
    CYCLING = "cycling"
    WALKING = "walking"
    EV = "ev"
    DRIVING_LESS = "driving_less"
    ENERGY = "energy"
    RECYCLING = "recycling"
    PAPERLESS = "paperless"
    CONSUMPTION = "consumption"


class Period(StrEnum):
    """Span of the programme's local calendar over which a cap counts; weeks are ISO weeks."""

    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"


class Measure(StrEnum):
    """What a cap counts: acts, base units of quantity, or milligrams of CO2e."""

    COUNT = "COUNT"
    QUANTITY = "QUANTITY"
    MILLIGRAM = "MILLIGRAM"


class Confidence(StrEnum):
    """How well the factor is sourced for the place where it is used; a LOW one is never quantified."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class VersionStatus(StrEnum):
    """Where a rule version stands between draft and history."""

    DRAFT = "DRAFT"
    SUBMITTED = "SUBMITTED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    PUBLISHED = "PUBLISHED"
    RETIRED = "RETIRED"

    @property
    def binding(self) -> bool:
        """Whether acts are converted by it: published, or retired and still right for acts of its time."""
        return self in {VersionStatus.PUBLISHED, VersionStatus.RETIRED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A sort of act: ``maximum`` is the most base units one act can plausibly have (more is refused at intake).

    Each entry of ``claims`` names attributes whose values together identify the physical act, whatever its kind: a
    metro ride with and without its distance, or a car's day driven and not driven, meet in the same claim.
    ``has_duration`` kinds are expected to say when they ended.
    """

    code: str
    unit: Unit
    category: Category
    name_zh: str
    name_en: str
    maximum: int
    claims: tuple[tuple[str, ...], ...] = ()
    required_attributes: tuple[str, ...] = ()
    has_duration: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Methodology:
    """The published document a factor is taken from; ``number`` where the publisher gave one."""

    code: str
    title_zh: str
    title_en: str
    publisher: str
    year: int
    number: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """At most ``limit`` acts, base units or milligrams per citizen and period; ``basis`` says who set the limit."""

    group: str
    period: Period
    measure: Measure
    limit: int
    basis: str


@dataclass(frozen=True, slots=True)
class CapKey:
    """One citizen's counter: a cap group over one period (``2026-11-21``, ``2026-W47``, ``2026-11``, ``2026``)."""

    group: str
    period_key: str


@dataclass(frozen=True, slots=True)
class CapUsage:
    """What was credited under a counter: acts, base units, milligrams of CO2e."""

    count: int = 0
    quantity: int = 0
    reduction_mg: int = 0

    def __add__(self, other: CapUsage) -> CapUsage:
        return CapUsage(
            self.count + other.count, self.quantity + other.quantity, self.reduction_mg + other.reduction_mg
        )

    def measured(self, measure: Measure) -> int:
        """The figure a cap of that measure compares with its limit."""
        if measure is Measure.COUNT:
            return self.count
        return self.quantity if measure is Measure.QUANTITY else self.reduction_mg


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVersion:
    """One wording of a rule: ``factor`` in milligrams CO2e per base unit, ``points`` in points per milligram.

    An act below ``minimum`` base units earns nothing; of a longer one at most ``maximum`` are credited. Evidence below
    ``full_credit_tier`` earns ``declared_share`` of the reduction, recognised only; a share of zero means that weaker
    evidence earns nothing. In force from ``valid_from`` until just before ``valid_to``; None is open.
    """

    rule: str
    version: int
    kind: str
    profile: str
    methodology: Methodology
    factor: Ratio
    quantified: bool
    full_credit_tier: EvidenceTier
    minimum: int
    maximum: int
    bounds_basis: str
    caps: tuple[Cap, ...]
    confidence: Confidence
    note_zh: str
    note_en: str
    points: Ratio = POINT_PER_GRAM
    declared_share: Ratio = HALF
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    enabled: bool = True
    why_disabled_zh: str | None = None
    why_disabled_en: str | None = None
    status: VersionStatus = VersionStatus.PUBLISHED

    @property
    def name(self) -> str:
        """How people cite it: ``R-MET1 v1``."""
        return f"{self.rule} v{self.version}"

    def in_force_at(self, moment: datetime) -> bool:
        """Whether ``moment`` lies in [valid_from, valid_to)."""
        started = self.valid_from is None or self.valid_from <= moment
        return started and (self.valid_to is None or moment < self.valid_to)

    def overlaps(self, other: RuleVersion) -> bool:
        """Whether some moment lies in both validities."""
        before = self.valid_to is not None and other.valid_from is not None and self.valid_to <= other.valid_from
        after = other.valid_to is not None and self.valid_from is not None and other.valid_to <= self.valid_from
        return not (before or after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A consistent set of kinds and the rule versions that convert them."""

    code: str
    name_zh: str
    name_en: str
    kinds: tuple[Kind, ...]
    versions: tuple[RuleVersion, ...]

    def find_kind(self, code: str) -> Kind | None:
        """The kind of that code."""
        return next((kind for kind in self.kinds if kind.code == code), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActFacts:
    """What conversion needs to know of an act: quantity in the kind's base unit, day in the programme's time zone."""

    kind: str
    quantity: int
    occurred_on: date
    tier: EvidenceTier
    attributes: Mapping[str, str] = field(default_factory=dict)
