"""Campaigns: which of them count an act, and how many points each adds. Pure; what was used comes in as an argument.

A campaign that counts an act need not pay for it: a first act was paid before, a streak is not complete, or the budget
is spent. One whose condition cannot be decided does not count the act: more points are a favour, the act's own are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.rules.expressions import Environment, EvaluationError, evaluate
from backend.rules.model import ALWAYS, PERCENT, UNUSED, Audience, CapKey, CapUsage, Period, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from backend.rules.model import ActFacts, Campaign


@dataclass(frozen=True, slots=True)
class Offer:
    """A campaign that counts an act: the points it has for it, and those of them that its budget still holds."""

    campaign: Campaign
    asked: int
    points: int


def list_counting(act: ActFacts, campaigns: Iterable[Campaign]) -> tuple[Campaign, ...]:
    """Those of the ``campaigns`` in force that count the act, the highest priority first, then by code.

    All stackable ones whose condition holds, and of the others the first.
    """
    ranked = sorted(campaigns, key=lambda campaign: (-campaign.priority, campaign.code))
    holding = [campaign for campaign in ranked if _holds(campaign, act)]
    exclusive = next((campaign for campaign in holding if not campaign.stackable), None)
    return tuple(campaign for campaign in holding if campaign.stackable or campaign is exclusive)


def make_offers(
    act: ActFacts, campaigns: Sequence[Campaign], own_points: int, used: Mapping[CapKey, CapUsage]
) -> tuple[Offer, ...]:
    """What each campaign that counts the act adds to its ``own_points``."""
    offers = []
    for campaign in list_counting(act, campaigns):
        pays = _pays(campaign, act.occurred_on, used)
        asked = points_of(campaign, own_points) if pays else 0
        left = campaign.budget - used.get(_budget_key(campaign), UNUSED).points
        offers.append(Offer(campaign, asked, max(0, min(asked, left))))
    return tuple(offers)


def points_of(campaign: Campaign, own_points: int) -> int:
    """The points a campaign has for an act that earns ``own_points`` by its rule, rounded down."""
    return own_points * campaign.percent // PERCENT + campaign.bonus


def list_campaign_keys(campaign: Campaign, day: date) -> tuple[CapKey, ...]:
    """The counters that decide what the campaign pays for an act of the local ``day``."""
    match campaign.audience:
        case Audience.EVERY_ACT:
            own: tuple[CapKey, ...] = ()
        case Audience.FIRST_ACT:
            own = (_first_key(campaign),)
        case Audience.STREAK:
            days = [day, *_days_before(campaign, day)]
            own = (*(_day_key(campaign, each) for each in days), *(_paid_key(campaign, each) for each in days))
    return (_budget_key(campaign), *own)


def usage_of_campaign(campaign: Campaign, day: date, points: int) -> Mapping[CapKey, CapUsage]:
    """What an act of the local ``day`` that the campaign counted, and gave ``points``, adds to its counters.

    Nothing is added to the budget's counter, which all citizens share, where nothing is spent.
    """
    usage = {_budget_key(campaign): CapUsage(points=points)} if points else {}
    counted = CapUsage(count=1, points=points)
    match campaign.audience:
        case Audience.EVERY_ACT:
            pass
        case Audience.FIRST_ACT:
            usage[_first_key(campaign)] = counted
        case Audience.STREAK:
            usage[_day_key(campaign, day)] = counted
            if points:
                usage[_paid_key(campaign, day)] = counted
    return usage


def _holds(campaign: Campaign, act: ActFacts) -> bool:
    if campaign.condition is None:
        return True
    variables = {**act.variables, "kind": act.kind, "category": act.category.value if act.category else ""}
    try:
        return evaluate(campaign.condition, Environment.CAMPAIGN, variables)
    except EvaluationError:
        return False


def _pays(campaign: Campaign, day: date, used: Mapping[CapKey, CapUsage]) -> bool:
    def counted(key: CapKey) -> bool:
        return used.get(key, UNUSED).count > 0

    match campaign.audience:
        case Audience.EVERY_ACT:
            return True
        case Audience.FIRST_ACT:
            return not counted(_first_key(campaign))
        case Audience.STREAK:
            return not counted(_day_key(campaign, day)) and all(
                counted(_day_key(campaign, before)) and not counted(_paid_key(campaign, before))
                for before in _days_before(campaign, day)
            )


def _days_before(campaign: Campaign, day: date) -> list[date]:
    return [day - timedelta(days=back) for back in range(1, campaign.streak_days)]


def _budget_key(campaign: Campaign) -> CapKey:
    return CapKey(f"campaign:{campaign.code}", ALWAYS, Scope.EVERYBODY)


def _first_key(campaign: Campaign) -> CapKey:
    return CapKey(f"campaign:{campaign.code}", ALWAYS)


def _day_key(campaign: Campaign, day: date) -> CapKey:
    return CapKey(f"campaign:{campaign.code}", Period.DAY.key(day))


def _paid_key(campaign: Campaign, day: date) -> CapKey:
    return CapKey(f"campaign:{campaign.code}:paid", Period.DAY.key(day))
