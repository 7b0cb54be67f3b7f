"""Kinds, methodologies, rule versions, caps and profiles as immutable values. Knows no storage and converts nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import total_ordering
from typing import TYPE_CHECKING

from backend.kernel.errors import Text
from backend.kernel.units import MG_PER_GRAM, Ratio, Unit
from backend.rules.formula import usual_rate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from backend.rules.formula import Formula

POINT_PER_GRAM = Ratio(1, MG_PER_GRAM)
HALF = Ratio(1, 2)
WHOLE = Ratio(1, 1)
PERCENT = 100
UNTOLD = Text("", "")
# The key of the period that never ends.
ALWAYS = "always"


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
    # the whole life of what the cap belongs to: a campaign's budget
    ALWAYS = "ALWAYS"

    def key(self, day: date) -> str:
        """The span that holds the local ``day``: ``2026-11-21``, ``2026-W47``, ``2026-11``, ``2026`` or ``always``."""
        match self:
            case Period.DAY:
                return day.isoformat()
            case Period.WEEK:
                week = day.isocalendar()
                return f"{week.year:04}-W{week.week:02}"
            case Period.MONTH:
                return day.isoformat()[: len("2026-11")]
            case Period.YEAR:
                return day.isoformat()[: len("2026")]
            case Period.ALWAYS:
                return ALWAYS


class Measure(StrEnum):
    """What a cap counts: acts, base units of quantity, milligrams of CO2e, or points."""

    COUNT = "COUNT"
    QUANTITY = "QUANTITY"
    MILLIGRAM = "MILLIGRAM"
    POINTS = "POINTS"


class Scope(StrEnum):
    """Whose counter a cap draws on: each citizen's own, or one that all share (a budget)."""

    CITIZEN = "CITIZEN"
    EVERYBODY = "EVERYBODY"


class Confidence(StrEnum):
    """How well the factor is sourced for the place where it is used; a LOW one is never quantified."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Bounds of a plausible movement: metres per hour from start to end, and seconds it may last."""

    slowest_m_per_h: int
    fastest_m_per_h: int
    longest_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A sort of act: ``maximum`` is the most base units one act can plausibly have (more is refused at intake).

    Each entry of ``claims`` names attributes whose values together identify the physical act, whatever its kind: a
    metro ride with and without its distance, or a car's day driven and not driven, meet in the same claim.
    ``has_duration`` kinds are expected to say when they ended. Two acts of one citizen in the same ``exclusion`` class
    cannot happen at the same time (``travel``). ``evidence_zh`` and ``evidence_en`` say what proves the act; ``icon``
    is the name of a picture.
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
    exclusion: str | None = None
    motion: Motion | None = None
    evidence_zh: str = ""
    evidence_en: str = ""
    icon: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Methodology:
    """The published document a factor is taken from, and how its method is applied here.

    ``number`` is the publisher's. The rest follows the skeleton of Guangdong's carbon-inclusion methodologies: scope,
    applicability, additionality, measures against duplicate claims, boundary, baseline, formula, data and monitoring,
    verification, each in both languages.
    """

    code: str
    title_zh: str
    title_en: str
    publisher: str
    year: int
    number: str | None = None
    scope: Text = UNTOLD
    applicability: Text = UNTOLD
    additionality: Text = UNTOLD
    duplicate_claims: Text = UNTOLD
    boundary: Text = UNTOLD
    baseline: Text = UNTOLD
    formula: Text = UNTOLD
    monitoring: Text = UNTOLD
    verification: Text = UNTOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """At most ``limit`` acts, base units, milligrams or points per period; ``basis`` says who set the limit.

    A POINTS cap never touches the reduction: the grams are the citizen's, whatever is left to give for them.
    """

    group: str
    period: Period
    measure: Measure
    limit: int
    basis: str
    scope: Scope = Scope.CITIZEN

    def key(self, day: date) -> CapKey:
        """The counter on which an act of the local ``day`` draws."""
        return CapKey(self.group, self.period.key(day), self.scope)


@dataclass(frozen=True, slots=True)
class CapKey:
    """A counter: a cap group over one period (``2026-11-21``, ``2026-W47``, ``2026-11``, ``2026``, ``always``)."""

    group: str
    period_key: str
    scope: Scope = Scope.CITIZEN


@dataclass(frozen=True, slots=True)
class CapUsage:
    """What was credited under a counter: acts, base units, milligrams of CO2e, points."""

    count: int = 0
    quantity: int = 0
    reduction_mg: int = 0
    points: int = 0

    def __add__(self, other: CapUsage) -> CapUsage:
        return CapUsage(
            self.count + other.count,
            self.quantity + other.quantity,
            self.reduction_mg + other.reduction_mg,
            self.points + other.points,
        )

    def measured(self, measure: Measure) -> int:
        """The figure a cap of that measure compares with its limit."""
        match measure:
            case Measure.COUNT:
                return self.count
            case Measure.QUANTITY:
                return self.quantity
            case Measure.MILLIGRAM:
                return self.reduction_mg
            case Measure.POINTS:
                return self.points


UNUSED = CapUsage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiplier:
    """Points times ``percent`` / 100 where the condition (CEL) holds; the reduction is never multiplied."""

    name_zh: str
    name_en: str
    condition: str
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVersion:
    """One wording of a rule: ``formula`` gives milligrams CO2e, ``points`` are points per milligram.

    An act below ``minimum`` base units earns nothing; of a longer one at most ``maximum`` are credited. Evidence below
    ``full_credit_tier`` earns ``declared_share`` of the reduction, recognised only; a share of zero means that weaker
    evidence earns nothing. ``condition`` (CEL) must hold for the act to count. In force from ``valid_from`` until just
    before ``valid_to``; None is open. Of several published ones that cover a moment, the one published last
    (``revision``, ``published_at``) is in force; what was known on an earlier day leaves out what was published later.
    """

    rule: str
    version: int
    kind: str
    profile: str
    methodology: Methodology
    formula: Formula
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
    condition: str | None = None
    multipliers: tuple[Multiplier, ...] = ()
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    enabled: bool = True
    why_disabled_zh: str | None = None
    why_disabled_en: str | None = None
    revision: int = 0
    published_at: datetime | None = None

    @property
    def name(self) -> str:
        """How people cite it: ``R-MET1 v1``."""
        return f"{self.rule} v{self.version}"

    @property
    def factor(self) -> Ratio:
        """Milligrams CO2e per base unit, at most."""
        return usual_rate(self.formula)

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


class Audience(StrEnum):
    """Which acts of a citizen a campaign rewards."""

    # every act of its kinds
    EVERY_ACT = "EVERY_ACT"
    # the citizen's first act of its kinds in the campaign
    FIRST_ACT = "FIRST_ACT"
    # the first act of the day that completes ``streak_days`` local days in a row
    STREAK = "STREAK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """More points for a while: ``percent`` of an act's own points on top, or ``bonus`` points an act.

    For acts of ``kinds`` (all where empty) that happened in [starts_at, ends_at) and meet ``condition`` (CEL). All
    ``stackable`` campaigns apply, and of the others the one of the highest ``priority``. ``budget`` is the most points
    it gives in all, to the point.
    """

    code: str
    name_zh: str
    name_en: str
    starts_at: datetime
    ends_at: datetime
    kinds: frozenset[str]
    condition: str | None
    audience: Audience
    streak_days: int
    percent: int
    bonus: int
    stackable: bool
    priority: int
    budget: int
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A programme's own cap over several kinds: those named, those of the categories, or all where neither is named."""

    cap: Cap
    kinds: frozenset[str] = frozenset()
    categories: frozenset[Category] = frozenset()

    def covers(self, kind: Kind) -> bool:
        """Whether acts of that kind draw on it."""
        return not (self.kinds or self.categories) or kind.code in self.kinds or kind.category in self.categories


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All of a programme's own caps and budgets, from one publication to the next."""

    revision: int
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActFacts:
    """What conversion needs to know of an act: quantity in the kind's base unit, local time in the programme's zone."""

    kind: str
    quantity: int
    occurred_at: datetime
    tier: EvidenceTier
    source: str = ""
    district: str | None = None
    duration_s: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    category: Category | None = None

    @property
    def occurred_on(self) -> date:
        """The local day, on which caps count."""
        return self.occurred_at.date()

    @property
    def variables(self) -> dict[str, int | str | Mapping[str, str]]:
        """The act in the words of every condition; a duration of -1 and an empty district are not known."""
        moment = self.occurred_at
        return {
            "quantity": self.quantity,
            "hour": moment.hour,
            "minute": moment.minute,
            "weekday": moment.isoweekday(),
            "month": moment.month,
            "day": moment.day,
            "duration_s": -1 if self.duration_s is None else self.duration_s,
            "district": self.district or "",
            "tier": self.tier.value,
            "source": self.source,
            "attributes": self.attributes,
        }
