"""Small rule versions and acts for tests, with everything irrelevant to a test defaulted."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from backend.kernel.units import Ratio
from backend.rules.formula import PerQuantity
from backend.rules.model import (
    HALF,
    POINT_PER_GRAM,
    ActFacts,
    Cap,
    Confidence,
    EvidenceTier,
    Measure,
    Methodology,
    Period,
    RuleVersion,
)

DAY = date(2026, 11, 21)
SOURCE = Methodology(code="DOC-1", title_zh="方法学", title_en="Methodology", publisher="Publisher", year=2024)


def make_cap(limit: int, measure: Measure = Measure.QUANTITY, period: Period = Period.DAY, group: str = "group") -> Cap:
    return Cap(group=group, period=period, measure=measure, limit=limit, basis="test")


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
) -> RuleVersion:
    numerator, denominator = factor.split("/")
    return RuleVersion(
        rule=rule,
        version=version,
        kind=kind,
        profile="test",
        methodology=SOURCE,
        formula=PerQuantity(Ratio(int(numerator), int(denominator))),
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
    )


def make_act(
    quantity: int, *, kind: str = "metro", day: date = DAY, tier: EvidenceTier = EvidenceTier.OPERATOR
) -> ActFacts:
    return ActFacts(kind=kind, quantity=quantity, occurred_at=datetime.combine(day, time(8), UTC), tier=tier)
