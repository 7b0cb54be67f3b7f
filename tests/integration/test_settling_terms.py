"""Settling by conditions, budgets, campaigns and plausibility: what decides, and that budgets are spent exactly."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.model import DoubtCode, Reason, Status
from backend.audit import audit_books
from backend.kernel.ids import SHARD_COUNT, CitizenId, ShardNumber, shard_of
from backend.kernel.units import Ratio, Unit
from backend.ledger.model import POINTS, QUANTIFIED, RECOGNISED, citizen_owner
from backend.mongo.transactions import Transactions
from backend.rules.formula import PerQuantity
from backend.rules.model import Audience, Campaign, Cap, EvidenceTier, Limit, Limits, Measure, Multiplier, Period, Scope
from backend.rules.store import Published, RuleWrites
from tests.factories import bus_ride, citizen
from tests.integration.conftest import ALL_SHARDS

if TYPE_CHECKING:
    from backend.actions.model import Action, ActionRequest, Settlement
    from backend.kernel.clock import ManualClock
    from backend.rules.conversion import Award
    from backend.rules.model import RuleVersion
    from backend.runtime import Services

NOON = datetime(2026, 11, 4, 4, tzinfo=UTC)  # a Wednesday, 12:00 in Zhenjiang
RIDE_POINTS = 40  # a bus ride on its citizen's word: half of 80 g


async def publish(services: Services, **content: Any) -> None:
    """Publish past the life cycle, which has tests of its own."""

    async def body(tx: Any) -> None:
        await RuleWrites(tx).publish(Published(**content), services.clock.now())

    await Transactions(services.database).run(body)


def campaign(**changes: Any) -> Campaign:
    given: dict[str, Any] = {
        "code": "autumn",
        "name_zh": "秋季活动",
        "name_en": "Autumn",
        "starts_at": NOON - timedelta(days=10),
        "ends_at": NOON + timedelta(days=10),
        "kinds": frozenset({"bus_ride"}),
        "condition": None,
        "audience": Audience.EVERY_ACT,
        "streak_days": 0,
        "percent": 0,
        "bonus": 100,
        "stackable": True,
        "priority": 0,
        "budget": 10_000,
    }
    return Campaign(**{**given, **changes})


async def bus_rule(services: Services, **changes: Any) -> RuleVersion:
    """The next version of the bus ride's rule."""
    version = (await services.rules.book()).version_for("bus_ride", NOON)
    assert version is not None
    return dataclasses.replace(version, version=version.version + 1, published_at=None, **changes)


async def record(services: Services, name: str, *requests: ActionRequest) -> list[Action]:
    return [
        await services.actions.record(citizen(name), request, key=f"{name}-{request.ref}-key") for request in requests
    ]


async def settled(services: Services, actions: list[Action]) -> dict[str, tuple[Status, Settlement]]:
    await services.settling.settle(ALL_SHARDS)
    found = await services.actions.find_actions([action.id for action in actions])
    return {action.ref: (action.status, action.settlement) for action in found.values() if action.settlement}


async def points_of(services: Services, name: str) -> int:
    return (await services.ledger.get_page(citizen_owner(CitizenId(name)))).balance(POINTS)


def one_citizen_of_each_shard() -> list[str]:
    found: dict[ShardNumber, str] = {}
    for number in range(2_000):
        found.setdefault(shard_of(f"rider-{number}"), f"rider-{number}")
    assert len(found) == SHARD_COUNT
    return list(found.values())


async def test_a_campaigns_budget_is_spent_exactly_by_64_shards_at_once(services: Services, clock: ManualClock) -> None:
    clock.current = NOON
    await publish(services, campaigns=[campaign(budget=10_000, bonus=70)])
    riders = one_citizen_of_each_shard()
    moments = [NOON - timedelta(days=number, hours=1) for number in range(3)]
    actions = [
        action
        for name in riders
        for number, moment in enumerate(moments)
        for action in await record(services, name, bus_ride(f"{name}-{number}", occurred_at=moment))
    ]
    await asyncio.gather(*(services.settling.settle([ShardNumber(shard)]) for shard in range(SHARD_COUNT)))
    await services.settling.settle(ALL_SHARDS)
    found = (await services.actions.find_actions([action.id for action in actions])).values()
    assert {action.status for action in found} == {Status.CREDITED}
    awards = [award.points for action in found if action.settlement for award in action.settlement.awards]
    # 192 rides ask for 13,440.
    assert (len(awards), sum(awards), set(awards)) == (192, 10_000, {70, 60, 0})
    assert sum([await points_of(services, name) for name in riders]) == 192 * RIDE_POINTS + 10_000
    assert (await audit_books(services)).findings == []


async def test_a_budget_of_the_programme_limits_points_and_never_grams(services: Services, clock: ManualClock) -> None:
    clock.current = NOON
    budget = Cap(
        group="whole_year", period=Period.YEAR, measure=Measure.POINTS, limit=100, basis="test", scope=Scope.EVERYBODY
    )
    await publish(services, limits=[Limits(revision=0, limits=(Limit(cap=budget),))])
    for name in ("alice", "bob", "carol", "dan"):
        await record(services, name, bus_ride(f"of-{name}", occurred_at=NOON - timedelta(hours=1)))
        await services.settling.settle(ALL_SHARDS)
    names = ("alice", "bob", "carol", "dan")
    pages = [await services.ledger.get_page(citizen_owner(CitizenId(name))) for name in names]
    assert [page.balance(POINTS) for page in pages] == [40, 40, 20, 0]
    assert [page.balance(RECOGNISED) for page in pages] == [40_000] * 4
    assert (await audit_books(services)).findings == []


async def test_a_condition_decides_and_one_that_fails_asks_a_person(services: Services, clock: ManualClock) -> None:
    clock.current = NOON
    condition = 'attributes["line"] == "18" && hour >= 7 && today_count < 2'
    doubled = Multiplier(name_zh="工作日", name_en="weekday", condition="weekday <= 5", percent=200)
    await publish(services, versions=[await bus_rule(services, condition=condition, multipliers=(doubled,))])
    base = NOON - timedelta(hours=3)
    rides = [
        bus_ride("early", occurred_at=NOON - timedelta(hours=6), attributes={"line": "18"}),
        bus_ride("first", occurred_at=base, attributes={"line": "18"}),
        bus_ride("other", occurred_at=base + timedelta(minutes=1), attributes={"line": "19"}),
        bus_ride("nameless", occurred_at=base + timedelta(minutes=2)),
        bus_ride("second", occurred_at=base + timedelta(minutes=3), attributes={"line": "18"}),
        bus_ride("third", occurred_at=base + timedelta(minutes=4), attributes={"line": "18"}),
    ]
    outcome = await settled(services, await record(services, "alice", *rides))
    assert {ref: (status, item.reason) for ref, (status, item) in outcome.items()} == {
        "early": (Status.REJECTED, Reason.CONDITION_NOT_MET),
        "first": (Status.CREDITED, None),
        "other": (Status.REJECTED, Reason.CONDITION_NOT_MET),
        "nameless": (Status.REVIEW, Reason.CONDITION_FAILED),
        "second": (Status.CREDITED, None),
        "third": (Status.REJECTED, Reason.CONDITION_NOT_MET),
    }
    page = await services.ledger.get_page(citizen_owner(CitizenId("alice")))
    # Twice the points, the same grams.
    assert (page.balance(POINTS), page.balance(RECOGNISED)) == (2 * 80, 2 * 40_000)
    assert (await audit_books(services)).findings == []


async def test_a_condition_knows_where_the_citizen_lives(services: Services, clock: ManualClock) -> None:
    clock.current = NOON
    await publish(services, versions=[await bus_rule(services, condition='district == "京口区"')])
    for name, district in (("alice", "京口区"), ("bob", "润州区")):
        await services.identity.register_citizens({CitizenId(name): name}, district=district)
    actions = [
        action
        for name in ("alice", "bob")
        for action in await record(services, name, bus_ride(f"of-{name}", occurred_at=NOON - timedelta(hours=1)))
    ]
    outcome = await settled(services, actions)
    assert {ref: status for ref, (status, _) in outcome.items()} == {
        "of-alice": Status.CREDITED,
        "of-bob": Status.REJECTED,
    }


async def test_first_acts_and_streaks_are_paid_once(services: Services, clock: ManualClock) -> None:
    clock.current = NOON
    await publish(
        services,
        campaigns=[
            campaign(code="welcome", audience=Audience.FIRST_ACT, bonus=500),
            campaign(code="streak", audience=Audience.STREAK, streak_days=3, bonus=30),
        ],
    )
    awards: dict[str, list[tuple[Award, ...]]] = {}
    for days_ago in (5, 4, 3, 3, 2, 1, 0):
        moment = NOON - timedelta(days=days_ago, hours=1)
        ref = f"ride-{days_ago}-{len(awards.get(str(days_ago), ()))}"
        outcome = await settled(services, await record(services, "alice", bus_ride(ref, occurred_at=moment)))
        status, settlement = outcome[ref]
        assert status is Status.CREDITED
        awards.setdefault(str(days_ago), []).append(settlement.awards)
    paid = {day: [{a.campaign: a.points for a in given if a.points} for given in each] for day, each in awards.items()}
    assert paid == {
        "5": [{"welcome": 500}],
        "4": [{}],
        "3": [{"streak": 30}, {}],
        "2": [{}],
        "1": [{}],
        "0": [{"streak": 30}],
    }
    assert await points_of(services, "alice") == 6 * RIDE_POINTS + RIDE_POINTS + 500 + 60
    assert (await audit_books(services)).findings == []


def bike_ride(ref: str, begun: datetime, minutes: int, metres: int, **changes: Any) -> Any:
    return bus_ride(
        ref,
        kind="bike_own",
        quantity=metres,
        unit=Unit.METRE,
        occurred_at=begun,
        ended_at=begun + timedelta(minutes=minutes),
        **changes,
    )


async def test_what_cannot_have_happened_earns_nothing_and_says_why(services: Services, clock: ManualClock) -> None:
    clock.current = NOON
    begun = NOON - timedelta(hours=5)
    rides = [
        bike_ride("honest", begun, 30, 6_000),
        bike_ride("overlapping", begun + timedelta(minutes=10), 30, 7_500, source="watch"),
        bike_ride("same", begun + timedelta(minutes=1), 29, 6_100, source="watch"),
        bike_ride("rocket", begun + timedelta(hours=2), 3, 9_000),
    ]
    outcome = await settled(services, await record(services, "alice", *rides))
    told = {ref: (status, [doubt.code for doubt in item.doubts]) for ref, (status, item) in outcome.items()}
    assert told == {
        "honest": (Status.CREDITED, []),
        "overlapping": (Status.REVIEW, [DoubtCode.OVERLAPS]),
        "same": (Status.REJECTED, [DoubtCode.SAME_RIDE]),
        "rocket": (Status.REJECTED, [DoubtCode.TOO_FAST]),
    }
    assert {item.reason for ref, (_, item) in outcome.items() if ref != "honest"} == {Reason.IMPLAUSIBLE}
    assert (await audit_books(services)).transactions == 1


async def test_a_card_of_many_citizens_is_looked_at(services: Services, clock: ManualClock) -> None:
    clock.current = NOON
    actions = []
    for number in range(4):
        ride = bus_ride(
            f"ride-{number}",
            occurred_at=NOON - timedelta(hours=10 - number),
            attributes={"card": "8901"},
            tier=EvidenceTier.DEVICE,
            evidence="photo-1",
        )
        actions += await record(services, f"rider-{number}", ride)
        outcome = await settled(services, actions)
    assert [outcome[f"ride-{number}"][0] for number in range(4)] == [Status.CREDITED] * 3 + [Status.REVIEW]
    assert [doubt.code for doubt in outcome["ride-3"][1].doubts] == [DoubtCode.SHARED_CARD]
    assert (await audit_books(services)).findings == []


@pytest.mark.parametrize("settles_between", [False, True])
async def test_acts_go_by_the_version_of_their_moment_while_a_version_is_published(
    services: Services, clock: ManualClock, *, settles_between: bool
) -> None:
    clock.current = NOON
    change = NOON + timedelta(minutes=6)
    early = await record(services, "alice", bus_ride("early", occurred_at=NOON - timedelta(minutes=1)))
    if settles_between:
        await services.settling.settle(ALL_SHARDS)
    await publish(
        services,
        versions=[await bus_rule(services, formula=PerQuantity(Ratio(160_000, 1)), valid_from=change)],
    )
    clock.current = NOON + timedelta(minutes=10)
    late = await record(
        services,
        "alice",
        bus_ride("just-before", occurred_at=change - timedelta(milliseconds=1)),
        bus_ride("just-after", occurred_at=change),
    )
    outcome = await settled(services, [*early, *late])
    assert {ref: (item.rule.version, item.reduction_mg) for ref, (_, item) in outcome.items() if item.rule} == {
        "early": (1, 40_000),
        "just-before": (1, 40_000),
        "just-after": (2, 80_000),
    }
    revisions = {ref: item.revision for ref, (_, item) in outcome.items()}
    assert (revisions["early"] < revisions["just-after"]) is settles_between
    assert (await audit_books(services)).findings == []


async def test_an_earning_tells_the_book_of_rules_and_the_campaigns_it_comes_from(
    services: Services, clock: ManualClock
) -> None:
    clock.current = NOON
    await publish(services, campaigns=[campaign(), campaign(code="spring", bonus=5), campaign(code="idle", bonus=0)])
    [action] = await record(services, "alice", bus_ride(occurred_at=NOON - timedelta(hours=1)))
    outcome = await settled(services, [action])
    settlement = outcome["ride-1"][1]
    assert settlement.transaction is not None
    posted = await services.ledger.find_transaction(settlement.transaction)
    assert posted is not None
    assert posted.cause["revision"] == str((await services.rules.book()).revision)
    assert posted.cause["campaigns"] == "autumn=100 spring=5"
    assert {p.asset: p.amount for p in posted.postings} == {RECOGNISED: 40_000, POINTS: 145}
    assert QUANTIFIED not in {p.asset for p in posted.postings}
