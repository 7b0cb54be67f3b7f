"""Which campaigns count an act and what they pay, and that no budget is ever overdrawn."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.units import Ratio
from backend.rules.campaigns import Offer, list_campaign_keys, list_counting, make_offers, points_of
from backend.rules.conversion import Award, Conversion, Outcome, Terms, convert, list_cap_keys, usage_of
from backend.rules.model import (
    ActFacts,
    Audience,
    Campaign,
    Cap,
    CapKey,
    CapUsage,
    EvidenceTier,
    Measure,
    Period,
    RuleVersion,
    Scope,
)
from tests.unit.rules.factories import (
    DAY,
    make_act,
    make_budget,
    make_campaign,
    make_cap,
    make_multiplier,
    make_version,
)

# A point an item.
POINT = make_version("1000/1")
BUDGET = CapKey("campaign:spring", "always", Scope.EVERYBODY)

Counters = dict[tuple[str, CapKey], CapUsage]


def settle(act: ActFacts, version: RuleVersion, terms: Terms, counters: Counters, citizen: str = "alice") -> Conversion:
    """Convert and book the usage, as a worker does, each citizen on their own counters or on those of all."""

    def owned(key: CapKey) -> tuple[str, CapKey]:
        return ("everybody" if key.scope is Scope.EVERYBODY else citizen, key)

    keys = list_cap_keys(version, act.occurred_on, terms)
    used = {key: counters[owned(key)] for key in keys if owned(key) in counters}
    result = convert(act, version, used, terms=terms)
    assert set(result.usage) <= set(keys)
    for key, added in result.usage.items():
        counters[owned(key)] = counters.get(owned(key), CapUsage()) + added
    return result


def codes(campaigns: tuple[Campaign, ...]) -> list[str]:
    return [campaign.code for campaign in campaigns]


def test_all_stackable_campaigns_count_and_the_first_exclusive_one() -> None:
    campaigns = [
        make_campaign("d", stackable=False, priority=5),
        make_campaign("b", stackable=False, priority=7),
        make_campaign("a", stackable=False, priority=7, condition="hour == 9"),
        make_campaign("c", stackable=False, priority=7),
        make_campaign("f", priority=6),
        make_campaign("e"),
    ]
    assert codes(list_counting(make_act(1), campaigns)) == ["b", "f", "e"]
    assert codes(list_counting(make_act(1), campaigns[::-1])) == ["b", "f", "e"]


@pytest.mark.parametrize(
    ("condition", "counts"),
    [
        ("kind == 'metro' && category == 'transit' && weekday == 6 && quantity == 9", True),
        ("kind == 'bus'", False),
        # Cannot be decided: nothing more, and nothing less.
        ("attributes['line'] == '2'", False),
        ("1 / quantity == 0 && 1 / (quantity - 9) == 0", False),
    ],
)
def test_a_campaign_counts_acts_that_meet_its_condition(condition: str, *, counts: bool) -> None:
    terms = Terms(campaigns=(make_campaign(bonus=3, condition=condition),))
    result = convert(make_act(9), POINT, {}, terms=terms)
    assert (result.outcome, result.reduction_mg) == (Outcome.CREDITED, 9_000)
    assert (result.points, result.awards) == ((12, (Award("spring", 3),)) if counts else (9, ()))


@pytest.mark.parametrize(("percent", "bonus", "more"), [(50, 0, 5), (0, 7, 7), (50, 7, 12), (9, 0, 0), (300, 0, 33)])
def test_percent_of_the_acts_own_points_and_bonus_are_added(percent: int, bonus: int, more: int) -> None:
    campaign = make_campaign(percent=percent, bonus=bonus)
    assert points_of(campaign, 11) == more
    result = convert(make_act(11), POINT, {}, terms=Terms(campaigns=(campaign,)))
    assert (result.points, result.awards) == (11 + more, (Award("spring", more),))
    assert result.usage == ({BUDGET: CapUsage(points=more)} if more else {})


def test_percents_are_of_multiplied_points_and_not_of_each_others_awards() -> None:
    version = make_version("1000/1", multipliers=(make_multiplier(200),))
    terms = Terms(campaigns=(make_campaign("a", percent=50), make_campaign("b", percent=50)))
    result = convert(make_act(10), version, {}, terms=terms)
    assert (result.points, result.awards) == (40, (Award("a", 10), Award("b", 10)))


@pytest.mark.parametrize(("spent", "given_points"), [(0, 5), (95, 5), (97, 3), (100, 0), (120, 0)])
def test_a_budget_gives_what_is_left_of_it(spent: int, given_points: int) -> None:
    campaign = make_campaign(bonus=5, budget=100)
    used = {BUDGET: CapUsage(points=spent)}
    assert make_offers(make_act(1), [campaign], 1, used) == (Offer(campaign, 5, given_points),)


def test_only_the_first_act_of_each_citizen_is_paid() -> None:
    terms = Terms(campaigns=(make_campaign(bonus=10, audience=Audience.FIRST_ACT),))
    counters: Counters = {}
    days = [DAY, DAY, DAY + timedelta(days=1)]
    paid = {
        name: [settle(make_act(1, day=day), POINT, terms, counters, name).awards for day in days]
        for name in ("alice", "bob")
    }
    once = [(Award("spring", 10),), (Award("spring", 0),), (Award("spring", 0),)]
    assert paid == {"alice": once, "bob": once}
    assert counters == {
        ("alice", CapKey("campaign:spring", "always")): CapUsage(count=3, points=10),
        ("bob", CapKey("campaign:spring", "always")): CapUsage(count=3, points=10),
        ("everybody", BUDGET): CapUsage(points=20),
    }


def test_an_act_that_earns_nothing_is_not_the_first() -> None:
    terms = Terms(campaigns=(make_campaign(bonus=10, audience=Audience.FIRST_ACT),))
    counters: Counters = {}
    assert settle(make_act(0), POINT, terms, counters).awards == ()
    assert counters == {}
    assert settle(make_act(1), POINT, terms, counters).awards == (Award("spring", 10),)


@pytest.mark.parametrize(
    ("days", "paid"),
    [
        pytest.param([1, 2, 3, 4, 5, 6, 7], [3, 6], id="every-third-day"),
        pytest.param([1, 2, 4, 5, 6], [6], id="a-gap-starts-anew"),
        pytest.param([1, 1, 2, 2, 3, 3, 3], [3], id="first-act-of-the-day-only"),
        pytest.param([3, 2, 1], [], id="completed-backwards-only"),
        pytest.param([1, 2, 4, 5, 3, 6], [3, 6], id="a-late-arrival-fills-the-gap"),
    ],
)
def test_a_streak_is_paid_on_the_day_that_completes_it(days: list[int], paid: list[int]) -> None:
    terms = Terms(campaigns=(make_campaign(bonus=9, audience=Audience.STREAK, streak_days=3),))
    counters: Counters = {}
    awards = [(day, settle(make_act(1, day=DAY + timedelta(days=day)), POINT, terms, counters).awards) for day in days]
    assert [day for day, award in awards if award == (Award("spring", 9),)] == paid
    assert {award for _, award in awards} <= {(Award("spring", 9),), (Award("spring", 0),)}


def test_a_streak_that_no_budget_paid_for_is_still_open() -> None:
    campaign = make_campaign(bonus=9, audience=Audience.STREAK, streak_days=2)
    counters: Counters = {("everybody", BUDGET): CapUsage(points=campaign.budget)}
    for day in (0, 1):
        settle(make_act(1, day=DAY + timedelta(days=day)), POINT, Terms(campaigns=(campaign,)), counters)
    del counters["everybody", BUDGET]
    result = settle(make_act(1, day=DAY + timedelta(days=2)), POINT, Terms(campaigns=(campaign,)), counters)
    assert result.awards == (Award("spring", 9),)


def test_counters_of_a_campaign() -> None:
    assert list_campaign_keys(make_campaign(), DAY) == (BUDGET,)
    first = make_campaign(audience=Audience.FIRST_ACT)
    assert list_campaign_keys(first, DAY) == (BUDGET, CapKey("campaign:spring", "always"))
    streak = make_campaign(audience=Audience.STREAK, streak_days=2)
    assert list_campaign_keys(streak, DAY) == (
        BUDGET,
        CapKey("campaign:spring", "2026-11-21"),
        CapKey("campaign:spring", "2026-11-20"),
        CapKey("campaign:spring:paid", "2026-11-21"),
        CapKey("campaign:spring:paid", "2026-11-20"),
    )


# Properties.

campaigns = st.lists(
    st.builds(
        make_campaign,
        st.sampled_from("abcdef"),
        percent=st.integers(0, 300),
        bonus=st.integers(0, 50),
        budget=st.integers(0, 500),
        audience=st.sampled_from(Audience),
        streak_days=st.integers(2, 4),
        condition=st.sampled_from([None, "quantity > 20", "attributes['x'] == ''"]),
        stackable=st.booleans(),
        priority=st.integers(0, 3),
    ),
    max_size=4,
    unique_by=lambda campaign: campaign.code,
).map(tuple)
programme_caps = st.lists(
    st.builds(
        make_cap,
        st.integers(0, 500),
        st.just(Measure.POINTS),
        st.sampled_from(Period),
        st.just("points"),
        st.sampled_from(Scope),
    ),
    max_size=3,
    unique_by=lambda cap: (cap.period, cap.scope),
).map(tuple)
acts = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob", "carol"]),
        st.integers(1, 100),
        st.sampled_from(EvidenceTier),
        st.integers(0, 5),
    ),
    max_size=15,
)


@given(campaigns, programme_caps, acts)
def test_no_order_of_arrival_overdraws_a_budget_and_usage_follows_from_what_is_stored(
    running: tuple[Campaign, ...], caps: tuple[Cap, ...], arriving: list[tuple[str, int, EvidenceTier, int]]
) -> None:
    terms = Terms(caps=caps, campaigns=running)
    counters: Counters = {}
    awarded = dict.fromkeys((campaign.code for campaign in running), 0)
    for citizen, quantity, tier, days in arriving:
        act = make_act(quantity, tier=tier, day=DAY + timedelta(days=days))
        result = settle(act, POINT, terms, counters, citizen)
        plain = convert(act, POINT, {})
        assert (result.outcome, result.reduction_mg, result.asset) == (plain.outcome, plain.reduction_mg, plain.asset)
        assert 0 <= sum(award.points for award in result.awards) <= result.points
        assert result.usage == usage_of(
            POINT,
            act.occurred_on,
            terms,
            quantity=result.credited_quantity,
            reduction_mg=result.reduction_mg,
            points=result.points,
            awards=result.awards,
        )
        for award in result.awards:
            awarded[award.campaign] += award.points
    for campaign in running:
        key = ("everybody", CapKey(f"campaign:{campaign.code}", "always", Scope.EVERYBODY))
        assert awarded[campaign.code] == counters.get(key, CapUsage()).points <= campaign.budget
    calendar = [DAY + timedelta(days=number) for number in range(6)]
    for cap in caps:
        keys = {cap.key(day) for day in calendar}
        assert all(usage.points <= cap.limit for (_, key), usage in counters.items() if key in keys)


@given(st.integers(0, 300), st.integers(0, 300), st.lists(st.integers(1, 40), max_size=20))
def test_budgets_are_spent_to_the_point(campaign_budget: int, budget: int, quantities: list[int]) -> None:
    terms = Terms(caps=(make_budget(budget),), campaigns=(make_campaign(percent=100, budget=campaign_budget),))
    counters: Counters = {}
    earned = [settle(make_act(quantity), POINT, terms, counters, f"c{quantity}") for quantity in quantities]
    assert all(result.outcome is Outcome.CREDITED for result in earned)
    demand = sum(quantities)
    awarded = sum(award.points for result in earned for award in result.awards)
    assert sum(result.points for result in earned) == min(budget, demand + min(demand, campaign_budget))
    assert awarded <= min(demand, campaign_budget)


@given(st.integers(1, 10**6), st.integers(1, 10**6), campaigns, st.lists(st.integers(0, 400), max_size=3))
def test_more_never_earns_less_and_grams_follow_the_methodology_alone(
    first: int, second: int, running: tuple[Campaign, ...], percents: list[int]
) -> None:
    every_act = tuple(campaign for campaign in running if campaign.condition is None)
    version = make_version("467/10", points=Ratio(3, 1_000), multipliers=tuple(map(make_multiplier, percents)))
    less, more = (
        convert(make_act(quantity), version, {}, terms=Terms(campaigns=every_act))
        for quantity in sorted((first, second))
    )
    assert (less.reduction_mg, more.reduction_mg) == tuple(q * 467 // 10 for q in sorted((first, second)))
    assert 0 <= less.points <= more.points


@given(st.lists(st.integers(0, 20), max_size=40), st.integers(2, 5))
def test_no_day_is_paid_for_in_two_streaks(days: list[int], streak_days: int) -> None:
    terms = Terms(campaigns=(make_campaign(bonus=1, audience=Audience.STREAK, streak_days=streak_days),))
    counters: Counters = {}
    paid_days: list[int] = []
    for position, day in enumerate(days):
        if settle(make_act(1, day=DAY + timedelta(days=day)), POINT, terms, counters).awards[0].points:
            paid_days.extend(range(day - streak_days + 1, day + 1))
            assert set(paid_days[-streak_days:]) <= set(days[: position + 1])
    assert len(paid_days) == len(set(paid_days))
