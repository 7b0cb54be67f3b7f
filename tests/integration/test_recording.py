"""Recording, settling and auditing on real servers: the main road without HTTP."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.actions.errors import ActionConflictError
from backend.actions.model import Reason, Status
from backend.audit import audit_books
from backend.kernel.errors import IdempotencyConflictError
from backend.kernel.ids import SHARD_COUNT, CitizenId, ShardNumber
from backend.ledger.model import POINTS, RECOGNISED, citizen_owner
from tests.conftest import dump
from tests.factories import bus_ride, citizen

if TYPE_CHECKING:
    from backend.runtime import Services

ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]


async def test_a_recorded_ride_becomes_grams_and_points_exactly_once(services: Services) -> None:
    action = await services.actions.record(citizen(), bus_ride(), key="key-0001")
    assert action.status is Status.PENDING

    assert await services.settling.settle(ALL_SHARDS) == 1
    assert await services.settling.settle(ALL_SHARDS) == 0

    settled = (await services.actions.find_actions([action.id]))[action.id]
    assert settled.status is Status.CREDITED
    # Self-declared: half of 80 g, recognised only.
    assert (settled.reduction_mg, settled.points) == (40_000, 40)
    page = await services.ledger.get_page(citizen_owner(CitizenId("alice")))
    assert dict(page.balances) == {RECOGNISED: 40_000, POINTS: 40}
    audit = await audit_books(services)
    assert audit.findings == []
    assert (audit.transactions, audit.actions, audit.pages) == (1, 1, 1)


async def test_the_same_record_again_returns_the_first_action(services: Services) -> None:
    request = bus_ride()
    first = await services.actions.record(citizen(), request, key="key-0001")
    same_key = await services.actions.record(citizen(), request, key="key-0001")
    other_key = await services.actions.record(citizen(), request, key="key-0002")
    assert first.id == same_key.id == other_key.id
    assert len((await dump(services))["actions"]) == 1


async def test_the_same_reference_with_other_content_is_a_conflict(services: Services) -> None:
    request = bus_ride()
    await services.actions.record(citizen(), request, key="key-0001")
    before = await dump(services)
    later = bus_ride(occurred_at=request.occurred_at + timedelta(minutes=1))
    with pytest.raises(ActionConflictError):
        await services.actions.record(citizen(), later, key="key-0002")
    after = await dump(services)
    assert after["actions"] == before["actions"]


async def test_a_key_used_for_other_content_is_refused_and_writes_nothing(services: Services) -> None:
    await services.actions.record(citizen(), bus_ride("one"), key="key-0001")
    before = await dump(services)
    with pytest.raises(IdempotencyConflictError):
        await services.actions.record(citizen(), bus_ride("two"), key="key-0001")
    assert await dump(services) == before


async def test_one_source_reference_counts_for_one_citizen_only(services: Services) -> None:
    request = bus_ride("shared")
    first = await services.actions.record(citizen("alice"), request, key="key-0001")
    second = await services.actions.record(citizen("bob"), request, key="key-0001")
    await services.settling.settle(ALL_SHARDS)
    found = await services.actions.find_actions([first.id, second.id])
    by_status = {action.status: action for action in found.values()}
    assert set(by_status) == {Status.CREDITED, Status.REJECTED}
    loser = by_status[Status.REJECTED].settlement
    assert loser is not None
    assert (loser.reason, loser.claimed_by) == (Reason.CLAIMED, by_status[Status.CREDITED].id)
    assert (await audit_books(services)).findings == []


async def test_simultaneous_records_share_groups_and_none_is_lost(services: Services) -> None:
    requests = [bus_ride(f"ride-{number}") for number in range(300)]
    recorded = await asyncio.gather(
        *(
            services.actions.record(citizen(f"c{number % 7}"), request, key=f"key-{number:05}")
            for number, request in enumerate(requests)
        )
    )
    assert len({action.id for action in recorded}) == 300
    await services.settling.settle(ALL_SHARDS)
    totals = await services.actions.list_totals()
    # Four rides a day and citizen count.
    assert {(total.status, total.reason): total.count for total in totals} == {
        (Status.CREDITED, None): 28,
        (Status.REJECTED, Reason.CAP_REACHED): 272,
    }
    assert (await audit_books(services)).findings == []


async def test_two_workers_on_one_shard_credit_once(services: Services) -> None:
    for number in range(4):
        await services.actions.record(citizen(), bus_ride(f"ride-{number}"), key=f"key-{number:05}")
    settled = await asyncio.gather(*(services.settling.settle(ALL_SHARDS) for _ in range(5)))
    assert sum(settled) == 4
    assert (await audit_books(services)).findings == []
