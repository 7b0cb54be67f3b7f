"""Small rule versions, acts and campaigns for tests, with everything irrelevant to a test defaulted."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from backend.kernel.units import Ratio
from backend.rules.conversion import Conversion, convert
from backend.rules.formula import PerQuantity
from backend.rules.model import (
    HALF,
    POINT_PER_GRAM,
    ActFacts,
    Audience,
    Campaign,
    Cap,
    CapKey,
    CapUsage,
    Category,
    Confidence,
    EvidenceTier,
    Measure,
    Methodology,
    Multiplier,
    Period,
    RuleVersion,
    Scope,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.rules.formula import Formula

DAY = date(2026, 11, 21)
SOURCE = Methodology(code="DOC-1", title_zh="方法学", title_en="Methodology", publisher="Publisher", year=2024)


def make_cap(
    limit: int,
    measure: Measure = Measure.QUANTITY,
    period: Period = Period.DAY,
    group: str = "group",
    scope: Scope = Scope.CITIZEN,
) -> Cap:
    return Cap(group=group, period=period, measure=measure, limit=limit, basis="test", scope=scope)


def make_budget(limit: int, group: str = "budget") -> Cap:
    return make_cap(limit, Measure.POINTS, Period.YEAR, group, Scope.EVERYBODY)


def make_multiplier(percent: int, condition: str = "true") -> Multiplier:
    return Multiplier(name_zh="倍数", name_en="Multiplier", condition=condition, percent=percent)


def make_version(
    factor: str = "467/10",
    *,
    rule: str = "R-TEST",
    version: int = 1,
    kind: str = "metro",
    points: Ratio = POINT_PER_GRAM,
    quantified: bool = True,
    tier: EvidenceTier = EvidenceTier.OPERATOR,
    share: Ratio = HALF,
    minimum: int = 1,
    maximum: int = 10**12,
    caps: tuple[Cap, ...] = (),
    enabled: bool = True,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    revision: int = 0,
    formula: Formula | None = None,
    condition: str | None = None,
    multipliers: tuple[Multiplier, ...] = (),
) -> RuleVersion:
    numerator, denominator = factor.split("/")
    return RuleVersion(
        rule=rule,
        version=version,
        kind=kind,
        profile="test",
        methodology=SOURCE,
        formula=formula or PerQuantity(Ratio(int(numerator), int(denominator))),
        points=points,
        quantified=quantified,
        full_credit_tier=tier,
        declared_share=share,
        minimum=minimum,
        maximum=maximum,
        bounds_basis="test",
        caps=caps,
        confidence=Confidence.MEDIUM,
        note_zh="说明",
        note_en="note",
        enabled=enabled,
        why_disabled_zh=None if enabled else "原因",
        why_disabled_en=None if enabled else "reason",
        valid_from=valid_from,
        valid_to=valid_to,
        revision=revision,
        condition=condition,
        multipliers=multipliers,
    )


def make_act(
    quantity: int,
    *,
    kind: str = "metro",
    day: date = DAY,
    tier: EvidenceTier = EvidenceTier.OPERATOR,
    duration_s: int | None = None,
    attributes: Mapping[str, str] | None = None,
) -> ActFacts:
    return ActFacts(
        kind=kind,
        quantity=quantity,
        occurred_at=datetime.combine(day, time(8), UTC),
        tier=tier,
        duration_s=duration_s,
        attributes=attributes or {},
        category=Category.TRANSIT,
    )


def make_campaign(
    code: str = "spring",
    *,
    percent: int = 0,
    bonus: int = 0,
    budget: int = 10**9,
    audience: Audience = Audience.EVERY_ACT,
    streak_days: int = 0,
    condition: str | None = None,
    kinds: frozenset[str] = frozenset(),
    stackable: bool = True,
    priority: int = 0,
    starts_at: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    days: int = 365,
    revision: int = 1,
) -> Campaign:
    return Campaign(
        code=code,
        name_zh="活动",
        name_en="Spring",
        starts_at=starts_at,
        ends_at=starts_at + timedelta(days=days),
        kinds=kinds,
        condition=condition,
        audience=audience,
        streak_days=streak_days,
        percent=percent,
        bonus=bonus,
        stackable=stackable,
        priority=priority,
        budget=budget,
        revision=revision,
    )


def credit(act: ActFacts, version: RuleVersion, used: dict[CapKey, CapUsage]) -> Conversion:
    """Convert and book the usage, as a worker does."""
    result = convert(act, version, used)
    for key, drawn in result.usage.items():
        used[key] = used.get(key, CapUsage()) + drawn
    return result
