"""The conversion of one act under one rule version: pure, exact, the same for ever.

Integers only. Milligrams are rounded down once: a share is multiplied into the factor before the floor. They follow
from the methodology alone; multipliers, campaigns and budgets change points and never refuse an act. Touches no clock,
storage or global state; who has used how much of which counter comes in as an argument and the additions go out in the
result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from backend.kernel.errors import Language
from backend.rules.basis import day_totals_key, heeds_today, holds, list_holding, multiply, weigh
from backend.rules.campaigns import list_campaign_keys, make_offers, usage_of_campaign
from backend.rules.expressions import EvaluationError
from backend.rules.formula import UnmeasurableError
from backend.rules.model import UNUSED, WHOLE, CapKey, CapUsage, Measure, Period, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, datetime

    from backend.ledger.model import Asset
    from backend.rules.basis import Basis
    from backend.rules.campaigns import Offer
    from backend.rules.model import ActFacts, Campaign, Cap, RuleVersion

_PERIOD_WORDS: Mapping[Period | None, tuple[str, str]] = {
    Period.DAY: ("当日", "daily"),
    Period.WEEK: ("当周", "weekly"),
    Period.MONTH: ("当月", "monthly"),
    Period.YEAR: ("当年", "yearly"),
    Period.ALWAYS: ("总", "total"),
    None: ("本周期", "period's"),
}


class Outcome(StrEnum):
    """What becomes of an act; REVIEW where conversion cannot decide and a person must."""

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
    CONDITION_NOT_MET = "CONDITION_NOT_MET"
    CONDITION_FAILED = "CONDITION_FAILED"
    UNMEASURABLE = "UNMEASURABLE"

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
    Reason.CONDITION_NOT_MET: ("未满足核算规则的条件", "the rule's condition is not met"),
    Reason.CONDITION_FAILED: (
        "核算规则的条件无法判断，需要人工核实",
        "the rule's conditions cannot be decided for this act; a person will look at it",
    ),
    Reason.UNMEASURABLE: (
        "缺少核算所需的数据，需要人工核实",
        "what the formula needs to know is missing; a person will look at it",
    ),
}


class StepName(StrEnum):
    """One step of a conversion; those that would change nothing are left out."""

    # result: the recorded quantity
    CLAIMED = "CLAIMED"
    # result: quantity that the formula counts
    MEASURED = "MEASURED"
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
    # result: points times the percents of all multipliers that hold, rounded down; detail: the percents
    MULTIPLIED = "MULTIPLIED"
    # result: points added by a campaign, as its budget allows; detail: its code
    AWARDED = "AWARDED"
    # result: all points left by a POINTS cap; detail: group and period
    POINTS_CAPPED = "POINTS_CAPPED"


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of the conversion left over (base units, milligrams or points) and by which figure."""

    name: StepName
    result: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Award:
    """The points that a campaign gives for an act it counted; none where its budget or a limit left none."""

    campaign: str
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What beside its rule bears on an act: the programme's caps on its kind, and the campaigns in force for it."""

    caps: tuple[Cap, ...] = ()
    campaigns: tuple[Campaign, ...] = ()


NOTHING_MORE = Terms()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What one act earns: milligrams of CO2e in one asset, points, and what to add to which counter.

    ``reason`` is None exactly when the act is credited; ``period`` is set when a cap was used up, ``attribute`` when
    one that the formula needs is missing. A credited act may earn milligrams and yet no whole point. ``points`` include
    those of ``awards``, one for each campaign that counted the act.
    """

    outcome: Outcome
    reason: Reason | None = None
    period: Period | None = None
    attribute: str | None = None
    credited_quantity: int = 0
    asset: Asset | None = None
    reduction_mg: int = 0
    points: int = 0
    awards: tuple[Award, ...] = ()
    usage: Mapping[CapKey, CapUsage] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()


def list_cap_keys(version: RuleVersion, day: date, terms: Terms = NOTHING_MORE) -> tuple[CapKey, ...]:
    """The counters to read before, and add to after, converting an act of the local ``day``; each once."""
    keys = [cap.key(day) for cap in (*version.caps, *terms.caps)]
    if heeds_today(version):
        keys.append(day_totals_key(version.kind, day))
    for campaign in terms.campaigns:
        keys.extend(list_campaign_keys(campaign, day))
    return tuple(dict.fromkeys(keys))


def usage_of(
    version: RuleVersion,
    day: date,
    terms: Terms = NOTHING_MORE,
    *,
    quantity: int,
    reduction_mg: int,
    points: int,
    awards: Iterable[Award] = (),
) -> Mapping[CapKey, CapUsage]:
    """What an act of the local ``day``, credited with that much, adds to which counter.

    Nothing is added to a budget's counter, which all citizens share, where no points are spent.

    Raises:
        KeyError: an award is of none of the campaigns in the terms.
    """
    drawn = CapUsage(1, quantity, reduction_mg, points)
    usage = {
        cap.key(day): drawn
        for cap in (*version.caps, *terms.caps)
        if points or cap.measure is not Measure.POINTS or cap.scope is not Scope.EVERYBODY
    }
    if heeds_today(version):
        usage[day_totals_key(version.kind, day)] = drawn
    campaigns = {campaign.code: campaign for campaign in terms.campaigns}
    for award in awards:
        usage.update(usage_of_campaign(campaigns[award.campaign], day, award.points))
    return usage


def choose_version(
    versions: Iterable[RuleVersion], kind: str, occurred_at: datetime, *, revision: int | None = None
) -> RuleVersion | None:
    """Of one profile's ``versions``, the one that binds ``kind`` at the moment the act happened.

    Of several that cover it, the one published last (not later than ``revision``).
    """
    found = (
        version
        for version in versions
        if version.kind == kind
        and version.in_force_at(occurred_at)
        and (revision is None or version.revision <= revision)
    )
    # One publication has at most one; should two ever be stored, the choice must still not depend on their order.
    return max(found, key=lambda version: (version.revision, version.version, version.rule), default=None)


def choose_campaigns(
    campaigns: Iterable[Campaign], kind: str, occurred_at: datetime, *, revision: int | None = None
) -> tuple[Campaign, ...]:
    """Those for acts of ``kind`` at that moment, each as last published (not later than ``revision``), by code."""
    latest: dict[str, Campaign] = {}
    for campaign in campaigns:
        known = latest.get(campaign.code)
        if (revision is None or campaign.revision <= revision) and (
            known is None or known.revision < campaign.revision
        ):
            latest[campaign.code] = campaign
    return tuple(
        campaign
        for _, campaign in sorted(latest.items())
        if campaign.starts_at <= occurred_at < campaign.ends_at and (not campaign.kinds or kind in campaign.kinds)
    )


def convert(
    act: ActFacts, version: RuleVersion | None, used: Mapping[CapKey, CapUsage], *, terms: Terms = NOTHING_MORE
) -> Conversion:
    """What ``act`` earns under ``version`` and ``terms`` for a citizen when that much of the counters is ``used``.

    Raises:
        ValueError: the version converts another kind (a bug of the caller).
    """
    if version is None:
        return _uncredited(act, Reason.NO_RULE)
    if version.kind != act.kind:
        raise ValueError(f"{version.name} converts {version.kind}, not {act.kind}")
    today = used.get(day_totals_key(act.kind, act.occurred_on), UNUSED)
    try:
        reason = _refusal(act, version, today)
        if reason is not None:
            return _uncredited(act, reason)
        return _converted(act, version, used, today, terms)
    except EvaluationError:
        return _uncredited(act, Reason.CONDITION_FAILED, outcome=Outcome.REVIEW)
    except UnmeasurableError as error:
        return _uncredited(act, Reason.UNMEASURABLE, outcome=Outcome.REVIEW, attribute=error.attribute)


def _refusal(act: ActFacts, version: RuleVersion, today: CapUsage) -> Reason | None:
    if not version.enabled:
        return Reason.RULE_DISABLED
    if act.quantity < version.minimum:
        return Reason.BELOW_MINIMUM
    if version.condition is not None and not holds(version.condition, act, today):
        return Reason.CONDITION_NOT_MET
    is_worthless = act.tier < version.full_credit_tier and version.declared_share.numerator == 0
    return Reason.EVIDENCE_TOO_WEAK if is_worthless else None


def _uncredited(
    act: ActFacts,
    reason: Reason,
    *,
    outcome: Outcome = Outcome.REJECTED,
    period: Period | None = None,
    attribute: str | None = None,
) -> Conversion:
    steps = (Step(StepName.CLAIMED, act.quantity),)
    return Conversion(outcome=outcome, reason=reason, period=period, attribute=attribute, steps=steps)


def _converted(
    act: ActFacts, version: RuleVersion, used: Mapping[CapKey, CapUsage], today: CapUsage, terms: Terms
) -> Conversion:
    basis = weigh(act, version)
    rooms = _Rooms((*version.caps, *terms.caps), act.occurred_on, used)
    full = rooms.find_full()
    if full is not None:
        return _uncredited(act, Reason.CAP_REACHED, period=full.period)
    steps = [Step(StepName.CLAIMED, act.quantity)]
    quantity, reduction_mg = _reduction(act, basis, rooms, steps)
    if reduction_mg <= 0:
        return _uncredited(act, Reason.EARNS_NOTHING)

    points = version.points.floor_times(reduction_mg)
    steps.append(Step(StepName.POINTS, points, str(version.points)))
    holding = list_holding(act, version, today)
    if holding:
        points = multiply(points, holding)
        steps.append(Step(StepName.MULTIPLIED, points, " ".join(f"{each.percent}%" for each in holding)))
    offers = make_offers(act, terms.campaigns, points, used)
    steps.extend(Step(StepName.AWARDED, offer.points, offer.campaign.code) for offer in offers)
    asked = points + sum(offer.points for offer in offers)
    points = rooms.cut(Measure.POINTS, asked, steps)
    awards = _awards(offers, asked - points)
    return Conversion(
        outcome=Outcome.CREDITED,
        credited_quantity=quantity,
        asset=basis.asset,
        reduction_mg=reduction_mg,
        points=points,
        awards=awards,
        usage=usage_of(
            version,
            act.occurred_on,
            terms,
            quantity=quantity,
            reduction_mg=reduction_mg,
            points=points,
            awards=awards,
        ),
        steps=tuple(steps),
    )


def _reduction(act: ActFacts, basis: Basis, rooms: _Rooms, steps: list[Step]) -> tuple[int, int]:
    """The base units credited and their milligrams."""
    if basis.measured.quantity != act.quantity:
        steps.append(Step(StepName.MEASURED, basis.measured.quantity))
    if basis.quantity < basis.measured.quantity:
        steps.append(Step(StepName.CLIPPED, basis.quantity))
    quantity = rooms.cut(Measure.QUANTITY, basis.quantity, steps)
    # One ratio, one floor: flooring after the factor and again after the share could lose up to a milligram more.
    converted_mg = basis.rate.floor_times(quantity)
    factor = str(basis.measured.rate)
    steps.append(
        Step(StepName.CONVERTED, converted_mg, factor if basis.share == WHOLE else f"{factor} * {basis.share}")
    )
    reduction_mg = rooms.cut(Measure.MILLIGRAM, converted_mg, steps)
    if reduction_mg < converted_mg:
        # The least quantity that still earns what the cap left.
        quantity = -(-reduction_mg * basis.rate.denominator // basis.rate.numerator)
    return quantity, reduction_mg


def _awards(offers: Sequence[Offer], cut: int) -> tuple[Award, ...]:
    """What is left of the offers when a cap took ``cut`` points: of the last campaign first, of the act's own last."""
    awards = []
    for offer in reversed(offers):
        lost = min(cut, offer.points)
        cut -= lost
        awards.append(Award(offer.campaign.code, offer.points - lost))
    return tuple(reversed(awards))


class _Rooms:
    """What each cap leaves for an act of the local ``day``."""

    def __init__(self, caps: Iterable[Cap], day: date, used: Mapping[CapKey, CapUsage]) -> None:
        self._day = day
        self._rooms = [(cap, max(0, cap.limit - used.get(cap.key(day), UNUSED).measured(cap.measure))) for cap in caps]

    def find_full(self) -> Cap | None:
        """The first used-up cap that refuses an act; one on points never does."""
        return next((cap for cap, room in self._rooms if room == 0 and cap.measure is not Measure.POINTS), None)

    def cut(self, measure: Measure, amount: int, steps: list[Step]) -> int:
        """``amount`` cut to the room left by every cap of that measure, with a step for each that cut."""
        for cap, room in self._rooms:
            if cap.measure is measure and room < amount:
                amount = room
                steps.append(Step(_CUT_STEPS[measure], amount, f"{cap.group} {cap.period.key(self._day)}"))
        return amount


_CUT_STEPS = {
    Measure.QUANTITY: StepName.QUANTITY_CAPPED,
    Measure.MILLIGRAM: StepName.REDUCTION_CAPPED,
    Measure.POINTS: StepName.POINTS_CAPPED,
}
