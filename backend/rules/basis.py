"""What an act is worth by its rule before any cap: for its conversion, its explanation and its audit. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from backend.ledger.model import QUANTIFIED, RECOGNISED
from backend.rules.expressions import Environment, evaluate, uses_today
from backend.rules.formula import measure, times
from backend.rules.model import PERCENT, WHOLE, CapKey, Period

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from backend.kernel.units import Ratio
    from backend.ledger.model import Asset
    from backend.rules.formula import Measured
    from backend.rules.model import ActFacts, CapUsage, Multiplier, RuleVersion


@dataclass(frozen=True, slots=True)
class Basis:
    """What conversion goes by before any cap: the evidence's ``share`` and what it makes of the formula.

    ``rate`` is in milligrams CO2e per base unit, the share included; ``quantity`` the base units one act can be
    credited.
    """

    measured: Measured
    share: Ratio
    rate: Ratio
    quantity: int
    asset: Asset


def weigh(act: ActFacts, version: RuleVersion) -> Basis:
    """What the act would be credited by, had nobody used anything of any cap.

    Raises:
        UnmeasurableError: an attribute or the duration that the formula needs is missing or makes no sense.
    """
    is_full = act.tier >= version.full_credit_tier
    share = share_of(act, version)
    measured = measure(version.formula, act.quantity, act.attributes, act.duration_s)
    return Basis(
        measured,
        share,
        rate=times(measured.rate, share),
        # Only what was measured is clipped: a household that used more has not saved more.
        quantity=min(measured.quantity, version.maximum),
        asset=QUANTIFIED if is_full and version.quantified else RECOGNISED,
    )


def share_of(act: ActFacts, version: RuleVersion) -> Ratio:
    """The part of the reduction that the act's evidence earns."""
    return WHOLE if act.tier >= version.full_credit_tier else version.declared_share


def list_holding(act: ActFacts, version: RuleVersion, today: CapUsage) -> tuple[Multiplier, ...]:
    """The multipliers that hold for an act of a citizen who was credited that much of its kind on its day.

    Raises:
        EvaluationError: the condition of one cannot be decided.
    """
    return tuple(each for each in version.multipliers if holds(each.condition, act, today))


def multiply(points: int, multipliers: Sequence[Multiplier]) -> int:
    """The points times the percents of all multipliers, rounded down once."""
    return points * prod(each.percent for each in multipliers) // prod(PERCENT for _ in multipliers)


def day_totals_key(kind: str, day: date) -> CapKey:
    """The counter of a citizen's credited acts of that kind on the local ``day``."""
    return CapKey(f"kind:{kind}", Period.DAY.key(day))


def heeds_today(version: RuleVersion) -> bool:
    """Whether a condition of the version asks for the citizen's totals of the day, so that they must be kept."""
    conditions = (version.condition, *(each.condition for each in version.multipliers))
    return any(condition is not None and uses_today(condition) for condition in conditions)


def holds(condition: str, act: ActFacts, today: CapUsage) -> bool:
    """Whether a rule's condition holds for an act of a citizen who was credited that much of its kind on its day.

    Raises:
        EvaluationError: it cannot be decided.
    """
    totals = {"today_count": today.count, "today_quantity": today.quantity, "today_mg": today.reduction_mg}
    return evaluate(condition, Environment.RULE, {**act.variables, **totals})
