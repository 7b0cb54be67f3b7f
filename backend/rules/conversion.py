"""The conversion of one act under one rule version: pure, exact, the same for ever.

Integers only, rounded down once: a share is multiplied into the factor before the floor. Touches no clock, storage or
global state; who has used how much of which cap comes in as an argument and the additions go out in the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from backend.kernel.errors import Language
from backend.kernel.units import Ratio
from backend.ledger.model import QUANTIFIED, RECOGNISED, Asset
from backend.rules.model import WHOLE, ActFacts, Cap, CapKey, CapUsage, Measure, Period, RuleVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime

_NOTHING_USED = CapUsage()
_PERIOD_WORDS: Mapping[Period | None, tuple[str, str]] = {
    Period.DAY: ("当日", "daily"),
    Period.WEEK: ("当周", "weekly"),
    Period.MONTH: ("当月", "monthly"),
    Period.YEAR: ("当年", "yearly"),
    Period.ALWAYS: ("总", "total"),
    None: ("本周期", "period's"),
}


class Outcome(StrEnum):
    """What becomes of an act; conversion itself credits or rejects, REVIEW is for whoever weighs the evidence."""

    CREDITED = "CREDITED"
    REVIEW = "REVIEW"
    REJECTED = "REJECTED"


class Reason(StrEnum):
    """Why conversion credits nothing."""

    NO_RULE = "NO_RULE"
    RULE_DISABLED = "RULE_DISABLED"
    BELOW_MINIMUM = "BELOW_MINIMUM"
    EVIDENCE_TOO_WEAK = "EVIDENCE_TOO_WEAK"
    CAP_REACHED = "CAP_REACHED"
    EARNS_NOTHING = "EARNS_NOTHING"

    def sentence(self, language: Language = Language.EN, period: Period | None = None) -> str:
        """The sentence shown to a citizen; ``period`` is the period of the cap that was used up."""
        index = 0 if language is Language.ZH_CN else 1
        return _SENTENCES[self][index].format(period=_PERIOD_WORDS[period][index])


_SENTENCES: Mapping[Reason, tuple[str, str]] = {
    Reason.NO_RULE: ("该行为发生时没有生效的核算规则", "no conversion rule was in force when this happened"),
    Reason.RULE_DISABLED: ("该行为的核算规则尚未启用", "the conversion rule for this act is switched off"),
    Reason.BELOW_MINIMUM: ("数量低于单次可计入的最低值", "the quantity is below the least that counts"),
    Reason.EVIDENCE_TOO_WEAK: (
        "该行为须有设备或运营方的记录才能计入",
        "this act counts only with a record from a device or an operator",
    ),
    Reason.CAP_REACHED: ("{period}可计入的额度已用完", "the {period} limit is used up"),
    Reason.EARNS_NOTHING: ("数量过小，折算后不足 1 毫克", "too little: it converts to less than one milligram"),
}


class StepName(StrEnum):
    """One line of an explanation; lines that would change nothing are left out."""

    # result: the recorded quantity
    CLAIMED = "CLAIMED"
    # result: quantity left by the creditable maximum of one act
    CLIPPED = "CLIPPED"
    # result: quantity left by a QUANTITY cap; detail: group and period
    QUANTITY_CAPPED = "QUANTITY_CAPPED"
    # result: milligrams, rounded down; detail: the factor, and the share if not whole
    CONVERTED = "CONVERTED"
    # result: milligrams left by a MILLIGRAM cap; detail: group and period
    REDUCTION_CAPPED = "REDUCTION_CAPPED"
    # result: points, rounded down; detail: points per milligram
    POINTS = "POINTS"


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of the conversion left over (base units, milligrams or points) and by which figure."""

    name: StepName
    result: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What one act earns: milligrams of CO2e in one asset, points, and what to add to the citizen's cap usage.

    ``reason`` is None exactly when the act is credited; ``period`` is set when a cap was used up. A credited act may
    earn milligrams and yet no whole point.
    """

    outcome: Outcome
    reason: Reason | None = None
    period: Period | None = None
    credited_quantity: int = 0
    asset: Asset | None = None
    reduction_mg: int = 0
    points: int = 0
    usage: Mapping[CapKey, CapUsage] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()


def period_key(period: Period, day: date) -> str:
    """The period that holds the local ``day``: ``2026-11-21``, ``2026-W47``, ``2026-11`` or ``2026``."""
    if period is Period.DAY:
        return day.isoformat()
    if period is Period.ALWAYS:
        return "always"
    if period is Period.WEEK:
        week = day.isocalendar()
        return f"{week.year:04}-W{week.week:02}"
    return day.isoformat()[: len("2026-11") if period is Period.MONTH else len("2026")]


def cap_key(cap: Cap, day: date) -> CapKey:
    """The counter on which an act of the local ``day`` draws under ``cap``."""
    return CapKey(cap.group, period_key(cap.period, day), cap.scope)


def list_cap_keys(version: RuleVersion, day: date) -> tuple[CapKey, ...]:
    """The counters to read before, and add to after, converting an act of the local ``day``; each once."""
    return tuple(dict.fromkeys(cap_key(cap, day) for cap in version.caps))


def choose_version(versions: Iterable[RuleVersion], kind: str, occurred_at: datetime) -> RuleVersion | None:
    """Of one profile's ``versions``, the one that binds ``kind`` at the moment the act happened."""
    found = [v for v in versions if v.kind == kind and v.in_force_at(occurred_at)]
    # A valid profile has at most one; should two ever be stored, the choice must still not depend on their order.
    return max(found, key=lambda v: (v.revision, v.version, v.rule), default=None)


def convert(act: ActFacts, version: RuleVersion | None, used: Mapping[CapKey, CapUsage]) -> Conversion:
    """What ``act`` earns under ``version`` for a citizen who has already ``used`` that much of the caps.

    Raises:
        ValueError: the version converts another kind (a bug of the caller).
    """
    if version is None:
        return _rejected(act, Reason.NO_RULE)
    if version.kind != act.kind:
        raise ValueError(f"{version.name} converts {version.kind}, not {act.kind}")
    full = act.tier >= version.full_credit_tier
    share = WHOLE if full else version.declared_share
    reason = _refusal(act, version, share)
    if reason is not None:
        return _rejected(act, reason)
    rooms = [
        (cap, cap.limit - used.get(cap_key(cap, act.occurred_on), _NOTHING_USED).measured(cap.measure))
        for cap in version.caps
    ]
    for cap, room in rooms:
        if room <= 0:
            return _rejected(act, Reason.CAP_REACHED, cap.period)
    return _credited(act, version, share, rooms, asset=QUANTIFIED if full and version.quantified else RECOGNISED)


def _refusal(act: ActFacts, version: RuleVersion, share: Ratio) -> Reason | None:
    if not version.enabled:
        return Reason.RULE_DISABLED
    if act.quantity < version.minimum:
        return Reason.BELOW_MINIMUM
    return Reason.EVIDENCE_TOO_WEAK if share.numerator == 0 else None


def _rejected(act: ActFacts, reason: Reason, period: Period | None = None) -> Conversion:
    steps = (Step(StepName.CLAIMED, act.quantity),)
    return Conversion(outcome=Outcome.REJECTED, reason=reason, period=period, steps=steps)


def _credited(
    act: ActFacts, version: RuleVersion, share: Ratio, rooms: list[tuple[Cap, int]], *, asset: Asset
) -> Conversion:
    steps = [Step(StepName.CLAIMED, act.quantity)]
    quantity = min(act.quantity, version.maximum)
    if quantity < act.quantity:
        steps.append(Step(StepName.CLIPPED, quantity))
    quantity = _within(rooms, Measure.QUANTITY, quantity, act.occurred_on, steps)

    # One ratio, one floor: flooring after the factor and again after the share could lose up to a milligram more.
    rate = Ratio(version.factor.numerator * share.numerator, version.factor.denominator * share.denominator)
    converted_mg = rate.floor_times(quantity)
    steps.append(
        Step(StepName.CONVERTED, converted_mg, str(version.factor) if share == WHOLE else f"{version.factor} * {share}")
    )
    reduction_mg = _within(rooms, Measure.MILLIGRAM, converted_mg, act.occurred_on, steps)
    if reduction_mg == 0:
        return _rejected(act, Reason.EARNS_NOTHING)
    if reduction_mg < converted_mg:
        # The least quantity that still earns what the cap left.
        quantity = -(-reduction_mg * rate.denominator // rate.numerator)

    points = version.points.floor_times(reduction_mg)
    steps.append(Step(StepName.POINTS, points, str(version.points)))
    drawn = CapUsage(1, quantity, reduction_mg)
    return Conversion(
        outcome=Outcome.CREDITED,
        credited_quantity=quantity,
        asset=asset,
        reduction_mg=reduction_mg,
        points=points,
        usage=dict.fromkeys(list_cap_keys(version, act.occurred_on), drawn),
        steps=tuple(steps),
    )


def _within(rooms: list[tuple[Cap, int]], measure: Measure, amount: int, day: date, steps: list[Step]) -> int:
    """``amount`` cut to the room left by every cap of that measure, with a step for each that cut."""
    name = StepName.QUANTITY_CAPPED if measure is Measure.QUANTITY else StepName.REDUCTION_CAPPED
    for cap, room in rooms:
        if cap.measure is measure and room < amount:
            amount = room
            steps.append(Step(name, amount, f"{cap.group} {period_key(cap.period, day)}"))
    return amount
