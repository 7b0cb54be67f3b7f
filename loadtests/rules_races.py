"""The rules under contention: one act claimed by two, one budget drawn on by 64 shards, a version published meanwhile.

What is counted must come out exactly; the rates are printed beside it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backend.actions.model import ActionRequest, Status
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.ids import SHARD_COUNT, CitizenId, ShardNumber
from backend.kernel.units import Ratio, Unit
from backend.mongo.transactions import Transactions
from backend.rules.formula import PerQuantity
from backend.rules.model import Audience, Campaign, EvidenceTier
from backend.rules.store import Published, RuleWrites
from loadtests.report import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backend.actions.model import Action
    from backend.runtime import Services

ADMIN = Principal(PrincipalKind.STAFF, "bench", frozenset({StaffRole.ADMIN}))
ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]
BATCH = 500
RACES = 1_000
BUDGET = 10_000
BONUS = 7
DRAWING_CITIZENS = 640
ACTS_EACH = 3
RECORDS_PER_S = 500
RECORDING_S = 12
TICK_S = 0.1
LEAD = timedelta(seconds=4)


async def measure_claim_race(services: Services, second: Services) -> dict[str, Figure]:
    """The same ride recorded by two partners at once, settled by two workers at once: one of them is credited."""
    citizens = [CitizenId(f"raced-{number}") for number in range(RACES)]
    await services.identity.register_citizens({citizen: citizen for citizen in citizens})
    entered = services.clock.now() - timedelta(hours=2)

    def ride(source: str, number: int) -> ActionRequest:
        return ActionRequest(
            kind="metro",
            quantity=8_000,
            unit=Unit.METRE,
            occurred_at=entered,
            ended_at=entered + timedelta(minutes=20),
            source=source,
            ref=f"{source}-{number}",
            citizen=citizens[number],
            attributes={"card": str(10**9 + number), "entered_at": entered.isoformat()},
            tier=EvidenceTier.OPERATOR,
        )

    begun = time.perf_counter()
    records = [
        _record(services if source == "card" else second, [ride(source, number) for number in range(RACES)], source)
        for source in ("card", "app")
    ]
    rides = [ride for recorded in await asyncio.gather(*records) for ride in recorded]
    await asyncio.gather(*(desk.settling.settle(ALL_SHARDS) for desk in (services, second)))
    await _settle_all(services)
    took_s = time.perf_counter() - begun
    credited = Counter(ride.citizen for ride in await _found(services, rides) if ride.status is Status.CREDITED)
    return {
        "claims_raced_credited_once": Figure(sum(count == 1 for count in credited.values()), f"of {RACES:,}", RACES),
        "claims_raced": Figure(round(RACES / took_s), "races/s"),
    }


async def measure_budget(services: Services) -> dict[str, Figure]:
    """A campaign's budget that 64 shards draw on at once is spent to the point."""
    citizens = [CitizenId(f"drawing-{number}") for number in range(DRAWING_CITIZENS)]
    await services.identity.register_citizens({citizen: citizen for citizen in citizens})
    now = services.clock.now()
    await _publish(services, campaigns=[_campaign(now)])
    rides = [
        _bus_ride(f"{citizen}-{number}", citizen, now - timedelta(days=number, hours=1))
        for number in range(ACTS_EACH)
        for citizen in citizens
    ]
    actions = await _record(services, rides, "budget")
    begun = time.perf_counter()
    await asyncio.gather(*(services.settling.settle([shard]) for shard in ALL_SHARDS))
    await _settle_all(services)
    took_s = time.perf_counter() - begun
    found = await _found(services, actions)
    spent = sum(award.points for action in found if action.settlement for award in action.settlement.awards)
    return {
        "campaign_budget_spent": Figure(spent, f"points of {len(actions) * BONUS:,} asked for", BUDGET),
        "campaign_budget_settled": Figure(round(len(actions) / took_s), "acts/s, 64 shards at once"),
    }


async def measure_publishing(services: Services) -> dict[str, Figure]:
    """A version published while records arrive: every act goes by the version in force when it happened."""
    book = await services.rules.book()
    begun = services.clock.now()
    version = book.version_for("bus_ride", begun)
    if version is None:
        raise AssertionError("no rule converts bus rides")
    change = begun + timedelta(seconds=RECORDING_S / 2)
    each = round(RECORDS_PER_S * TICK_S)
    citizens = [CitizenId(f"riding-{number}") for number in range(each * round(RECORDING_S / TICK_S))]
    await services.identity.register_citizens({citizen: citizen for citizen in citizens})
    actions: list[Action] = []

    async def record() -> None:
        for tick in range(round(RECORDING_S / TICK_S)):
            now = services.clock.now()
            riders = citizens[tick * each : (tick + 1) * each]
            rides = [_bus_ride(f"ride-{rider}", rider, now) for rider in riders]
            actions.extend(await _record(services, rides, f"tick-{tick:04}"))
            until = begun + timedelta(seconds=TICK_S) * (tick + 1)
            await asyncio.sleep(max(0.0, (until - services.clock.now()).total_seconds()))

    async def settle(recording: asyncio.Task[None]) -> None:
        while not recording.done():
            await services.settling.settle(ALL_SHARDS)
            await asyncio.sleep(TICK_S)

    async def publish() -> None:
        await asyncio.sleep((change - LEAD - services.clock.now()).total_seconds())
        doubled = PerQuantity(Ratio(version.factor.numerator * 2, version.factor.denominator))
        later = dataclasses.replace(version, version=version.version + 1, formula=doubled, valid_from=change)
        await _publish(services, versions=[later])

    recording = asyncio.create_task(record())
    await asyncio.gather(recording, settle(recording), publish())
    took_s = (services.clock.now() - begun).total_seconds()
    await _settle_all(services)
    found = await _found(services, actions)
    right = sum(_version_of(action) == version.version + (action.occurred_at >= change) for action in found)
    both = {_version_of(action) for action in found}
    return {
        "published_while_recording": Figure(round(len(actions) / took_s), "records/s"),
        "published_converted_right": Figure(right, f"of {len(actions):,}, by {len(both)} versions", len(actions)),
    }


def _version_of(action: Action) -> int:
    settlement = action.settlement
    return settlement.rule.version if settlement is not None and settlement.rule is not None else 0


def _bus_ride(ref: str, citizen: CitizenId, at: datetime) -> ActionRequest:
    return ActionRequest(
        kind="bus_ride", quantity=1, unit=Unit.COUNT, occurred_at=at, source="bench", ref=ref, citizen=citizen
    )


def _campaign(now: datetime) -> Campaign:
    return Campaign(
        code="bench",
        name_zh="基准",
        name_en="Benchmark",
        starts_at=now - timedelta(days=30),
        ends_at=now + timedelta(days=30),
        kinds=frozenset({"bus_ride"}),
        condition=None,
        audience=Audience.EVERY_ACT,
        streak_days=0,
        percent=0,
        bonus=BONUS,
        stackable=True,
        priority=0,
        budget=BUDGET,
    )


async def _publish(services: Services, **content: Any) -> None:
    """Publish past the life cycle, whose lead time a benchmark cannot wait for."""
    await Transactions(services.database).run(
        lambda tx: RuleWrites(tx).publish(Published(**content), services.clock.now())
    )


async def _record(services: Services, rides: Sequence[ActionRequest], name: str) -> list[Action]:
    recorded = []
    for start in range(0, len(rides), BATCH):
        batch = rides[start : start + BATCH]
        for outcome in await services.actions.record_many(ADMIN, batch, key=f"bench-{name}-{start:06}"):
            if isinstance(outcome, Exception):
                raise outcome
            recorded.append(outcome.action)
    return recorded


async def _settle_all(services: Services) -> None:
    while await services.settling.settle(ALL_SHARDS):
        pass


async def _found(services: Services, actions: Sequence[Action]) -> list[Action]:
    ids = [action.id for action in actions]
    found = []
    for start in range(0, len(ids), BATCH):
        found += (await services.actions.find_actions(ids[start : start + BATCH])).values()
    return found
