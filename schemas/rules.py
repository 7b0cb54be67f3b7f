"""Kinds and rule versions as clients see them: what counts, by which factor, from which document."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry

from backend.kernel.errors import Language, Text
from backend.kernel.units import Ratio
from backend.rules.formula import Formula, Term, usual_rate
from backend.rules.model import Campaign, Cap, Kind, Limit, Methodology, Multiplier, RuleVersion
from backend.rules.wording import family_of
from schemas.context import Info
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
from schemas.view import view


def _chinese(info: Info) -> bool:
    return info.context.language is Language.ZH_CN


def _text(name: str, description: str) -> Any:
    """A field that shows the parent's ``Text`` of that name in the reader's language."""

    def resolve(parent: strawberry.Parent[Any], info: Info) -> str:
        told: Text = getattr(parent, name)
        return told.said(info.context.language)

    return strawberry.field(resolver=resolve, description=description)


@view(of=Ratio, name="Ratio")
class RatioType:
    """An exact factor: numerator over denominator."""

    numerator: BigInt
    denominator: BigInt


@view(of=Methodology, name="Methodology")
class MethodologyType:
    """The published document a factor is taken from."""

    code: str
    publisher: str
    year: int
    number: str | None

    @strawberry.field
    @staticmethod
    def title(parent: strawberry.Parent[Methodology], info: Info) -> str:
        """Title in the reader's language."""
        return parent.title_zh if _chinese(info) else parent.title_en

    scope: str = _text("scope", "Which acts the method is for.")
    applicability: str = _text("applicability", "Under which conditions it applies.")
    additionality: str = _text("additionality", "Why the reduction would not have happened anyway.")
    duplicate_claims: str = _text("duplicate_claims", "What keeps one act from being claimed twice.")
    boundary: str = _text("boundary", "Which emissions are counted.")
    baseline: str = _text("baseline", "What would have happened without the act.")
    formula: str = _text("formula", "How the reduction is calculated.")
    monitoring: str = _text("monitoring", "Which data are needed, and how they are observed.")
    verification: str = _text("verification", "How the figures are checked.")


@view(of=Cap, name="Cap")
class CapType:
    """The most one citizen is credited in a period; rules with the same group draw on the same cap."""

    group: str
    period: Period
    measure: Measure
    limit: BigInt
    basis: str
    scope: Scope


@view(of=Term, name="FormulaTerm")
class FormulaTermType:
    """A named part of a baseline or of a project's emissions, in milligrams CO2e per base unit."""

    rate: RatioType

    @strawberry.field
    @staticmethod
    def name(parent: strawberry.Parent[Term], info: Info) -> str:
        """Name in the reader's language."""
        return parent.name_zh if _chinese(info) else parent.name_en


@strawberry.type(name="Formula", description="How a quantity becomes milligrams; fields of other families are null.")
class FormulaType:
    """A view of the families of formulas."""

    @strawberry.field
    @staticmethod
    def family(parent: strawberry.Parent[Formula]) -> Family:
        """The family."""
        return family_of(parent)

    @strawberry.field(graphql_type=RatioType)
    @staticmethod
    def rate(parent: strawberry.Parent[Formula]) -> Ratio:
        """Milligrams CO2e per base unit, at most."""
        return usual_rate(parent)

    @strawberry.field(graphql_type=list[FormulaTermType] | None)
    @staticmethod
    def baseline(parent: strawberry.Parent[Formula]) -> list[Term] | None:
        """What would have been emitted."""
        return getattr(parent, "baseline", None)

    @strawberry.field(graphql_type=list[FormulaTermType] | None)
    @staticmethod
    def project(parent: strawberry.Parent[Formula]) -> list[Term] | None:
        """What is emitted instead."""
        return getattr(parent, "project", None)

    @strawberry.field(graphql_type=RatioType | None)
    @staticmethod
    def detour(parent: strawberry.Parent[Formula]) -> Ratio | None:
        """The part of a shared car ride that is detour."""
        return getattr(parent, "detour", None)

    @strawberry.field
    @staticmethod
    def method(parent: strawberry.Parent[Formula]) -> BaselineMethod | None:
        """What a household is compared with."""
        return getattr(parent, "method", None)

    @strawberry.field(graphql_type=RatioType | None)
    @staticmethod
    def most(parent: strawberry.Parent[Formula]) -> Ratio | None:
        """The most of the baseline that counts as saved."""
        return getattr(parent, "most", None)

    @strawberry.field
    @staticmethod
    def period_s(parent: strawberry.Parent[Formula]) -> BigInt | None:
        """Seconds of a full period."""
        return getattr(parent, "period_s", None)


@view(of=Multiplier, name="Multiplier")
class MultiplierType:
    """Points times ``percent`` / 100 where the condition (CEL) holds."""

    condition: str
    percent: BigInt

    @strawberry.field
    @staticmethod
    def name(parent: strawberry.Parent[Multiplier], info: Info) -> str:
        """Name in the reader's language."""
        return parent.name_zh if _chinese(info) else parent.name_en


@view(of=Kind, name="Kind")
class KindType:
    """A sort of act and its base unit; ``maximum`` is the most one act can plausibly have."""

    code: str
    unit: Unit
    category: Category
    maximum: BigInt
    required_attributes: list[str]
    exclusion: str | None
    icon: str

    @strawberry.field
    @staticmethod
    def name(parent: strawberry.Parent[Kind], info: Info) -> str:
        """Name in the reader's language."""
        return parent.name_zh if _chinese(info) else parent.name_en

    @strawberry.field
    @staticmethod
    def evidence(parent: strawberry.Parent[Kind], info: Info) -> str:
        """What proves the act, in the reader's language."""
        return parent.evidence_zh if _chinese(info) else parent.evidence_en


@view(of=RuleVersion, name="RuleVersion")
class RuleVersionType:
    """One immutable wording of a rule: ``factor`` in milligrams CO2e per base unit, ``points`` per milligram."""

    version: int
    profile: str
    factor: RatioType
    formula: FormulaType
    points: RatioType
    condition: str | None
    multipliers: list[MultiplierType]
    quantified: bool
    confidence: Confidence
    full_credit_tier: EvidenceTier
    declared_share: RatioType
    minimum: BigInt
    maximum: BigInt
    bounds_basis: str
    caps: list[CapType]
    methodology: MethodologyType
    valid_from: datetime | None
    valid_to: datetime | None
    enabled: bool
    revision: BigInt
    published_at: datetime | None

    @strawberry.field
    @staticmethod
    def code(parent: strawberry.Parent[RuleVersion]) -> str:
        """The rule's code, like R-MET1."""
        return parent.rule

    @strawberry.field(graphql_type=KindType | None)
    @staticmethod
    async def kind(parent: strawberry.Parent[RuleVersion], info: Info) -> Kind | None:
        """The kind it converts."""
        return (await info.context.book()).kinds.get(parent.kind)

    @strawberry.field
    @staticmethod
    def note(parent: strawberry.Parent[RuleVersion], info: Info) -> str:
        """Where the factor comes from, in a sentence for citizens."""
        return parent.note_zh if _chinese(info) else parent.note_en

    @strawberry.field
    @staticmethod
    def why_disabled(parent: strawberry.Parent[RuleVersion], info: Info) -> str | None:
        """Why the rule is switched off."""
        return parent.why_disabled_zh if _chinese(info) else parent.why_disabled_en


@view(of=tuple, name="Rule")
class RuleType:
    """A rule with all its versions, newest first."""

    @strawberry.field
    @staticmethod
    def code(parent: strawberry.Parent[tuple[RuleVersion, ...]]) -> str:
        """The rule's code."""
        return parent[0].rule

    @strawberry.field(graphql_type=list[RuleVersionType])
    @staticmethod
    def versions(parent: strawberry.Parent[tuple[RuleVersion, ...]]) -> tuple[RuleVersion, ...]:
        """All versions, newest first."""
        return parent


@view(of=Campaign, name="Campaign")
class CampaignType:
    """More points for a while: ``percent`` of an act's own points on top, or ``bonus`` points an act."""

    starts_at: datetime
    ends_at: datetime
    condition: str | None
    audience: Audience
    streak_days: BigInt
    percent: BigInt
    bonus: BigInt
    stackable: bool
    priority: BigInt
    budget: BigInt
    revision: BigInt

    @strawberry.field
    @staticmethod
    def campaign_code(parent: strawberry.Parent[Campaign]) -> str:
        """The campaign's code."""
        return parent.code

    @strawberry.field
    @staticmethod
    def name(parent: strawberry.Parent[Campaign], info: Info) -> str:
        """Name in the reader's language."""
        return parent.name_zh if _chinese(info) else parent.name_en

    @strawberry.field
    @staticmethod
    def kinds(parent: strawberry.Parent[Campaign]) -> list[str]:
        """Codes of the kinds it is for; all where empty."""
        return sorted(parent.kinds)


@view(of=Limit, name="ProgrammeLimit")
class LimitType:
    """A programme's own cap over the kinds named, those of the categories, or all where neither is named."""

    cap: CapType

    @strawberry.field
    @staticmethod
    def kinds(parent: strawberry.Parent[Limit]) -> list[str]:
        """Codes of the kinds."""
        return sorted(parent.kinds)

    @strawberry.field
    @staticmethod
    def categories(parent: strawberry.Parent[Limit]) -> list[Category]:
        """The categories."""
        return sorted(parent.categories)


@strawberry.type
class RulesQuery:
    """Queries on rules."""

    @strawberry.field(graphql_type=list[RuleVersionType])
    async def rules(
        self, info: Info, kind: str | None = None, as_of: datetime | None = None, known_at: datetime | None = None
    ) -> list[RuleVersion]:
        """The versions in force now, or at ``asOf``, by what is published now, or was at ``knownAt``."""
        book = await info.context.book()
        moment = as_of or info.context.services.clock.now()
        revision = None if known_at is None else book.known_at(known_at)
        wanted = (code for code in sorted(book.kinds) if kind in (None, code))
        found = [book.version_for(code, moment, revision=revision) for code in wanted]
        return [version for version in found if version is not None]

    @strawberry.field(graphql_type=RuleType | None)
    async def rule(self, info: Info, code: str) -> tuple[RuleVersion, ...] | None:
        """All versions of one rule of this programme's profile."""
        return (await info.context.book()).find_rule(code) or None

    @strawberry.field(graphql_type=list[KindType])
    async def kinds(self, info: Info) -> list[Kind]:
        """Every kind of action."""
        book = await info.context.book()
        return [book.kinds[code] for code in sorted(book.kinds)]
