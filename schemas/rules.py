"""Kinds and rule versions as clients see them: what counts, by which factor, from which document."""

from __future__ import annotations

from datetime import datetime

import strawberry

from backend.kernel.errors import Language
from backend.kernel.units import Ratio
from backend.rules.model import Cap, Kind, Methodology, RuleVersion
from schemas.context import Info
from schemas.enums import Category, EvidenceTier, Measure, Period, Unit
from schemas.scalars import BigInt
from schemas.view import view


def _chinese(info: Info) -> bool:
    return info.context.language is Language.ZH_CN


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


@view(of=Cap, name="Cap")
class CapType:
    """The most one citizen is credited in a period; rules with the same group draw on the same cap."""

    group: str
    period: Period
    measure: Measure
    limit: BigInt
    basis: str


@view(of=Kind, name="Kind")
class KindType:
    """A sort of act and its base unit; ``maximum`` is the most one act can plausibly have."""

    code: str
    unit: Unit
    category: Category
    maximum: BigInt
    required_attributes: list[str]

    @strawberry.field
    @staticmethod
    def name(parent: strawberry.Parent[Kind], info: Info) -> str:
        """Name in the reader's language."""
        return parent.name_zh if _chinese(info) else parent.name_en


@view(of=RuleVersion, name="RuleVersion")
class RuleVersionType:
    """One immutable wording of a rule: ``factor`` in milligrams CO2e per base unit, ``points`` per milligram."""

    version: int
    profile: str
    factor: RatioType
    points: RatioType
    quantified: bool
    full_credit_tier: EvidenceTier
    declared_share: RatioType
    minimum: BigInt
    maximum: BigInt
    caps: list[CapType]
    methodology: MethodologyType
    valid_from: datetime | None
    valid_to: datetime | None
    enabled: bool

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


@strawberry.type
class RulesQuery:
    """Queries on rules."""

    @strawberry.field(graphql_type=list[RuleVersionType])
    async def rules(self, info: Info, kind: str | None = None, as_of: datetime | None = None) -> list[RuleVersion]:
        """The versions in force now, or at ``asOf``; of one kind or of all."""
        book = await info.context.book()
        moment = as_of or info.context.services.clock.now()
        found = [book.version_for(code, moment) for code in sorted(book.kinds) if kind in (None, code)]
        return [version for version in found if version is not None]

    @strawberry.field(graphql_type=RuleType | None)
    async def rule(self, info: Info, code: str) -> tuple[RuleVersion, ...] | None:
        """All versions of one rule of this programme's profile."""
        book = await info.context.book()
        found = [version for versions in book.versions.values() for version in versions if version.rule == code]
        return tuple(sorted(found, key=lambda version: -version.version)) or None

    @strawberry.field(graphql_type=list[KindType])
    async def kinds(self, info: Info) -> list[Kind]:
        """Every kind of action."""
        book = await info.context.book()
        return [book.kinds[code] for code in sorted(book.kinds)]
