"""Settling: batches that one bad action cannot stop, fences, local days, and the rule of the day of the act."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.actions.documents import ACTIONS, action_to_document
from backend.actions.model import Reason, Status
from backend.actions.settling import SETTLED_TOPIC, FenceLostError, _Holding
from backend.actions.store import ActionStore
from backend.audit import audit_books
from backend.kernel.ids import CitizenId, ShardNumber, shard_of
from backend.kernel.units import INT64_MAX, Ratio
from backend.ledger.model import POINTS, citizen_owner
from backend.outbox.relay import GRACE, OUTBOX
from backend.rules.formula import PerQuantity
from backend.rules.model import EvidenceTier
from backend.rules.store import VERSIONS, version_to_document
from backend.runtime import citizen_channel
from tests.conftest import dump
from tests.factories import bus_ride, citizen, earning, partner
from tests.integration.conftest import ALL_SHARDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.actions.model import Action
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

# Different shards and different citizens, so that no cap is met.
RIDERS = [f"rider-{number:02}" for number in range(40)]


async def record_rides(services: Services) -> list[Action]:
    """One ride of each rider, in time."""
    return [
        await services.actions.record(citizen(name), bus_ride(f"ride-{name}"), key=f"key-{name}") for name in RIDERS
    ]


async def statuses(services: Services, actions: Sequence[Action]) -> dict[str, Status]:
    found = await services.actions.find_actions([action.id for action in actions])
    return {action.ref: action.status for action in found.values()}


async def poison(services: Services, action: Action, **changes: Any) -> None:
    """Store the action otherwise than any intake would, past the collection's validator."""
    await services.database.raw[ACTIONS.name].delete_one({"_id": action.id})
    document = {**action_to_document(action), **changes}
    await services.database.raw[ACTIONS.name].insert_one(document, bypass_document_validation=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "teleport"},
        {"tier": "RUMOUR"},
        {"quantity": "many"},
        {"attributes": None},
        {"occurred_at": None},
        {"unknown": "field"},
    ],
)
async def test_one_action_that_cannot_be_settled_waits_for_a_person_and_holds_up_nobody(
    services: Services, changes: dict[str, Any]
) -> None:
    actions = await record_rides(services)
    await poison(services, actions[17], **changes)
    assert await services.settling.settle(ALL_SHARDS) == len(RIDERS)
    documents = {document["_id"]: document for document in (await dump(services))["actions"]}
    stuck = documents.pop(actions[17].id)
    assert {document["status"] for document in documents.values()} == {"CREDITED"}
    assert (stuck["status"], stuck["settlement"]["reason"]) == ("REVIEW", Reason.PROCESSING_FAILED.value)
    assert await services.settling.settle(ALL_SHARDS) == 0
    assert (await audit_books(services)).findings == []


async def test_an_action_the_book_cannot_hold_waits_for_a_person(services: Services) -> None:
    actions = await record_rides(services)
    await services.ledger.post(earning(name=RIDERS[3], amount=INT64_MAX))
    before = await services.ledger.get_page(citizen_owner(CitizenId(RIDERS[3])))
    assert await services.settling.settle(ALL_SHARDS) == len(RIDERS)
    settled = await statuses(services, actions)
    assert {ref for ref, status in settled.items() if status is not Status.CREDITED} == {f"ride-{RIDERS[3]}"}
    assert settled[f"ride-{RIDERS[3]}"] is Status.REVIEW
    assert await services.ledger.get_page(citizen_owner(CitizenId(RIDERS[3]))) == before


async def test_several_bad_actions_are_all_set_aside(services: Services) -> None:
    actions = await record_rides(services)
    for number in (0, 39):
        await poison(services, actions[number], kind="teleport")
    await services.settling.settle(ALL_SHARDS)
    settled = await statuses(services, actions)
    bad = {f"ride-{RIDERS[number]}" for number in (0, 39)}
    assert {ref for ref, status in settled.items() if status is Status.REVIEW} == bad
    assert {status for ref, status in settled.items() if ref not in bad} == {Status.CREDITED}


async def test_who_lost_the_fence_writes_nothing(services: Services) -> None:
    action = await services.actions.record(citizen(), bus_ride(), key="key-0001")
    store = ActionStore(services.database)
    await store.take_fences([action.shard], "old")
    await store.take_fences([action.shard], "new")
    before = await dump(services)
    with pytest.raises(FenceLostError):
        await services.settling._settle_batch(_Holding((action.shard,), "old"), [action.id])
    assert await dump(services) == before
    assert await services.settling._settle_batch(_Holding((action.shard,), "new"), [action.id]) == 1


class OvertakenStore(ActionStore):
    """A store in which another worker takes every shard a moment later."""

    async def take_fences(self, shards: Sequence[ShardNumber], holder: str) -> None:
        await super().take_fences(shards, holder)
        await super().take_fences(shards, "a later worker")


async def test_a_worker_that_is_overtaken_stops_and_its_successor_settles(services: Services) -> None:
    await record_rides(services)
    honest = services.settling._store
    services.settling._store = OvertakenStore(services.database)
    assert await services.settling.settle(ALL_SHARDS) == 0
    assert (await dump(services))["ledger_transactions"] == []
    services.settling._store = honest
    assert await services.settling.settle(ALL_SHARDS) == len(RIDERS)
    assert (await audit_books(services)).findings == []


async def test_a_batch_of_two_settles_everything_in_turn(services: Services) -> None:
    services.settling._batch_size = 2
    await record_rides(services)
    assert await services.settling.settle(ALL_SHARDS) == len(RIDERS)
    assert (await audit_books(services)).transactions == len(RIDERS)


async def test_only_the_shards_asked_for_are_settled(services: Services) -> None:
    actions = await record_rides(services)
    mine = shard_of(CitizenId(RIDERS[0]))
    expected = sum(action.shard == mine for action in actions)
    assert await services.settling.settle([mine]) == expected
    later = services.clock.now() + timedelta(milliseconds=1)
    others = sorted({action.shard for action in actions} - {mine})
    assert await services.settling.list_waiting(ALL_SHARDS, before=later) == others
    assert await services.settling.list_waiting(ALL_SHARDS, before=services.clock.now() - timedelta(days=1)) == []


async def test_caps_turn_at_midnight_in_the_programmes_zone(services: Services, clock: ManualClock) -> None:
    # 16:00 UTC is midnight in Asia/Shanghai; four rides a day count.
    clock.current = datetime(2026, 11, 5, 12, tzinfo=UTC)
    midnight = datetime(2026, 11, 3, 16, tzinfo=UTC)
    moments = {
        **{f"before-{n}": midnight - timedelta(milliseconds=1, minutes=20 * n) for n in range(5)},
        **{f"after-{n}": midnight + timedelta(minutes=20 * n) for n in range(5)},
    }
    actions = [
        await services.actions.record(citizen(), bus_ride(ref, occurred_at=moment), key=f"key-{ref}")
        for ref, moment in moments.items()
    ]
    await services.settling.settle(ALL_SHARDS)
    settled = await statuses(services, actions)
    # Within a day the earliest acts count.
    assert {ref for ref, status in settled.items() if status is Status.REJECTED} == {"before-0", "after-4"}
    found = await services.actions.find_actions([action.id for action in actions])
    refused = [action.settlement for action in found.values() if action.status is Status.REJECTED]
    assert {(item.reason, item.period) for item in refused if item} == {(Reason.CAP_REACHED, "DAY")}
    page = await services.ledger.get_page(citizen_owner(CitizenId("alice")))
    assert page.balance(POINTS) == 8 * 40
    assert (await audit_books(services)).findings == []


async def test_caps_hold_over_batches_and_days_of_recording(services: Services, clock: ManualClock) -> None:
    moment = clock.now() - timedelta(days=2)
    for number in range(6):
        ride = bus_ride(f"ride-{number}", occurred_at=moment)
        await services.actions.record(citizen(), ride, key=f"key-000{number}")
        await services.settling.settle(ALL_SHARDS)
        clock.advance(timedelta(hours=7))
    assert (await services.ledger.get_page(citizen_owner(CitizenId("alice")))).balance(POINTS) == 4 * 40


async def test_an_act_is_converted_by_the_rule_of_its_moment(services: Services, clock: ManualClock) -> None:
    change = clock.now() - timedelta(days=3)
    book = await services.rules.book()
    [first] = book.versions["bus_ride"]
    closed = dataclasses.replace(first, valid_to=change)
    second = dataclasses.replace(first, version=2, valid_from=change, formula=PerQuantity(Ratio(160_000, 1)))
    collection = services.database.raw[VERSIONS.name]
    await collection.replace_one({"_id": version_to_document(first)["_id"]}, version_to_document(closed))
    await collection.insert_one(version_to_document(second))
    await services.database.raw["rule_revision"].update_one({}, {"$inc": {"revision": Int64(1)}})
    moments = {"old": change - timedelta(milliseconds=1), "new": change}
    actions = [
        await services.actions.record(citizen(name), bus_ride(name, occurred_at=moment), key=f"key-{name}-01")
        for name, moment in moments.items()
    ]
    await services.settling.settle(ALL_SHARDS)
    found = await services.actions.find_actions([action.id for action in actions])
    versions = {action.ref: action.settlement for action in found.values()}
    assert {ref: (item.rule.version, item.reduction_mg) for ref, item in versions.items() if item and item.rule} == {
        "old": (1, 40_000),
        "new": (2, 80_000),
    }
    assert (await audit_books(services)).findings == []


async def test_an_act_before_any_rule_earns_nothing(services: Services, clock: ManualClock) -> None:
    await services.database.raw[VERSIONS.name].update_many({}, {"$set": {"wording.valid_from": clock.now()}})
    await services.database.raw["rule_revision"].update_one({}, {"$inc": {"revision": Int64(1)}})
    action = await services.actions.record(citizen(), bus_ride(), key="key-0001")
    await services.settling.settle(ALL_SHARDS)
    settled = (await services.actions.find_actions([action.id]))[action.id].settlement
    assert settled is not None
    assert (settled.reason, settled.rule, settled.transaction) == (Reason.NO_RULE, None, None)


async def test_phones_are_told_after_the_commit_or_by_the_next_drain(services: Services, clock: ManualClock) -> None:
    action = await services.actions.record(citizen(), bus_ride(), key="key-0001")
    async with services.channels.listen(citizen_channel("alice")) as phone:
        handlers = dict(services.relay._handlers)
        services.relay._handlers = {}
        await services.settling.settle(ALL_SHARDS)
        assert len(await services.database.find(OUTBOX.name, {"topic": SETTLED_TOPIC}, limit=5)) == 1
        assert phone.empty()
        services.relay._handlers = handlers
        clock.advance(GRACE)
        assert await services.relay.drain() == 1
        assert await phone.get() == {"citizen": "alice", "action": action.id, "status": "CREDITED"}


async def test_evidence_decides_the_asset_and_the_share(services: Services) -> None:
    await services.actions.record(citizen("weak"), bus_ride("weak"), key="key-weak")
    own = bus_ride("device", tier=EvidenceTier.OPERATOR)
    await services.actions.record(citizen("device"), own, key="key-device")
    with pytest.raises(Exception, match="FORBIDDEN"):
        await services.actions.record(partner(), bus_ride("x"), key="key-partner")
    await services.settling.settle(ALL_SHARDS)
    points = [
        (await services.ledger.get_page(citizen_owner(CitizenId(name)))).balance(POINTS) for name in ("weak", "device")
    ]
    assert points == [40, 40]


async def test_an_action_is_settled_at_its_transactions_time_which_never_goes_back(
    services: Services, clock: ManualClock
) -> None:
    clock.advance(timedelta(minutes=5))
    ahead = clock.now()
    first = await services.actions.record(citizen(), bus_ride("first"), key="key-0001")
    await services.settling.settle(ALL_SHARDS)
    # The next worker's clock is five minutes behind the one before.
    clock.advance(-timedelta(minutes=5))
    second = await services.actions.record(citizen(), bus_ride("second"), key="key-0002")
    other = await services.actions.record(citizen("bob"), bus_ride("other"), key="key-0003")
    await services.settling.settle(ALL_SHARDS)
    found = await services.actions.find_actions([first.id, second.id, other.id])
    settled = {action.ref: action.settlement.at for action in found.values() if action.settlement}
    assert settled == {"first": ahead, "second": ahead, "other": clock.now()}
    for action in found.values():
        assert action.settlement is not None
        posted = await services.database.find_one("ledger_transactions", {"_id": action.settlement.transaction})
        assert posted is not None
        assert posted["at"] == action.settlement.at
    assert (await services.ledger.get_page(citizen_owner(CitizenId("alice")))).at == ahead
    assert (await audit_books(services)).findings == []
