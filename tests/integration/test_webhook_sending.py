"""From event to system: once if all goes well, again if not, dead at last; nobody waits for another."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.kernel.ids import derived_id
from backend.outbox.relay import write_item
from backend.rewards.webhooks.calling import Caller
from backend.rewards.webhooks.events import event_item
from backend.rewards.webhooks.model import (
    DeliveryStage,
    DisabledReason,
    EndpointDraft,
    EndpointStage,
    Fault,
    Try,
)
from backend.rewards.webhooks.queue import CLAIMED_FOR, DeliveryQueue
from tests.integration.receiving import HANG, OK, Receiver, receiving, signed_by
from tests.integration.webhook_desk import ALL, CAPTURED, DAY, FAILED, OWNER, READY, REFUNDED, Desk, open_desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.kernel.clock import ManualClock
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx

pytestmark = pytest.mark.anyio


@pytest.fixture
async def desk(database: Database, transactions: Transactions, clock: ManualClock) -> Desk:
    """The door to webhooks."""
    return await open_desk(database, transactions, clock)


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    """The merchant's system."""
    async with receiving() as receiver:
        yield receiver


async def test_an_event_arrives_signed_at_every_endpoint_that_wants_it(desk: Desk, shop: Receiver) -> None:
    first = await desk.create(shop.url("/till"), "create-1")
    second = await desk.create(shop.url("/books?year=1"), "create-2", types=frozenset({REFUNDED, CAPTURED}))
    await desk.create(shop.url("/no"), "create-3", types=frozenset({READY}))
    await desk.create(shop.url("/no"), "create-4", stage=EndpointStage.DISABLED)
    await desk.create(shop.url("/no"), "create-5", merchant="m2")
    event = desk.event()
    await desk.tell(event)
    assert await desk.door.deliver_due() == 2
    assert await desk.door.deliver_due() == 0
    assert sorted(call.path for call in shop.calls) == ["/books?year=1", "/till"]
    for call in shop.calls:
        shown, other = (first, second) if call.path == "/till" else (second, first)
        assert signed_by(call, shown.secret)
        assert not signed_by(call, other.secret)
        assert call.headers["webhook-id"] == event.id
        assert call.headers["webhook-timestamp"] == str(int(desk.clock.now().timestamp()))
        assert call.headers["content-type"] == "application/json"
        assert call.headers["host"] == f"127.0.0.1:{shop.port}"
        body = json.loads(call.body)
        assert (body["type"], body["data"]) == ("voucher.captured", {"voucher": "vou_1", "points": 3})
    for delivery in await desk.door.list_deliveries("m1", limit=9, stage=DeliveryStage.DELIVERED):
        [tried] = delivery.tries
        assert (delivery.stage, delivery.due_at, delivery.attempts) == (DeliveryStage.DELIVERED, None, 1)
        assert (tried.at, tried.status, tried.fault) == (desk.clock.now(), 200, None)


async def test_the_same_item_again_makes_no_second_delivery(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    item = await desk.tell(desk.event("1"), desk.event("2", kind=REFUNDED))
    assert await desk.door.deliver_due() == 2
    before = await desk.dump()
    await desk.relay.send(item)
    await asyncio.gather(desk.door.fan_out(item), desk.door.fan_out(item))
    assert await desk.dump() == before
    assert await desk.door.deliver_due() == 0
    assert len(shop.calls) == 2


async def test_a_process_that_dies_before_the_fan_out_or_after_it_loses_nothing(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    now = desk.clock.now()
    item = event_item([desk.event()], now)

    async def body(tx: Tx) -> None:
        await write_item(tx, item, now)

    await desk.transactions.run(body)
    # Died before sending: the relay finds it.
    assert await desk.deliveries() == []
    desk.clock.advance(timedelta(seconds=5))
    assert await desk.relay.drain() == 1
    # Died with the delivery in hand: a minute later it is due again.
    queue = DeliveryQueue(desk.database)
    [due] = await queue.list_due(desk.clock.now(), limit=9)
    claimed = await queue.claim(due, desk.clock.now())
    assert claimed is not None
    assert await queue.claim(due, desk.clock.now()) is None
    desk.clock.advance(CLAIMED_FOR - timedelta(milliseconds=1))
    assert await desk.door.deliver_due() == 0
    desk.clock.advance(timedelta(milliseconds=1))
    assert await desk.door.deliver_due() == 1
    assert [call.headers["webhook-id"] for call in shop.calls] == [due.event]
    [delivered] = await desk.deliveries()
    assert (delivered.stage, delivered.attempts) == (DeliveryStage.DELIVERED, 2)
    # The dead comes back: what it has to say is of no interest any more.
    late = Try(desk.clock.now(), 500, None, 1)
    await queue.finish(claimed, late, stage=DeliveryStage.PENDING, due_at=desk.clock.now(), expires_at=None)
    assert await desk.deliveries() == [delivered]


async def test_who_lost_a_delivery_to_another_sender_changes_nothing_of_it(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    await desk.tell(desk.event())
    queue = DeliveryQueue(desk.database)
    [due] = await queue.list_due(desk.clock.now(), limit=9)
    lost = await queue.claim(due, desk.clock.now())
    desk.clock.advance(CLAIMED_FOR)
    await queue.free_lost(desk.clock.now())
    [due] = await queue.list_due(desk.clock.now(), limit=9)
    held = await queue.claim(due, desk.clock.now())
    assert lost is not None
    late = Try(desk.clock.now(), 200, None, 61_000)
    await queue.finish(lost, late, stage=DeliveryStage.DELIVERED, due_at=None, expires_at=None)
    assert await desk.deliveries() == [held]


async def test_a_failing_delivery_is_tried_ten_times_over_three_days_and_is_dead(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    shop.answers["/till"] = [FAILED]
    await desk.tell(desk.event())
    waits: list[timedelta] = []
    for number in range(1, 11):
        assert await desk.door.deliver_due() == 1
        [delivery] = await desk.deliveries()
        assert (delivery.attempts, len(delivery.tries), delivery.tries[-1].status) == (number, number, 500)
        if delivery.due_at is not None:
            waits.append(delivery.due_at - desk.clock.now())
            desk.clock.current = delivery.due_at - timedelta(milliseconds=1)
            assert await desk.door.deliver_due() == 0
            desk.clock.current = delivery.due_at
    assert delivery.stage is DeliveryStage.DEAD
    least = [timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)]
    assert all(wait <= waited <= wait * 6 // 5 for wait, waited in zip(least, waits, strict=True))
    assert len(set(shop.bodies("/till"))) == 1
    assert len({call.headers["webhook-id"] for call in shop.calls}) == 1
    assert len({call.headers["webhook-timestamp"] for call in shop.calls}) == 10
    desk.clock.advance(30 * DAY)
    assert await desk.door.deliver_due() == 0
    [document] = await desk.database.find("webhook_deliveries", {}, limit=2)
    assert document["expires_at"] == delivery.tries[-1].at + 90 * DAY


async def test_gone_disables_the_endpoint_and_ends_what_was_on_its_way(desk: Desk, shop: Receiver) -> None:
    endpoint = (await desk.create(shop.url("/till"))).endpoint.id
    shop.answers["/till"] = [FAILED, "410 Gone"]
    await desk.tell(desk.event("1"))
    assert await desk.door.deliver_due() == 1
    desk.clock.advance(timedelta(seconds=1))
    await desk.tell(desk.event("2"))
    assert await desk.door.deliver_due() == 1
    [found] = await desk.door.list_endpoints("m1")
    assert (found.id, found.stage, found.reason) == (endpoint, EndpointStage.DISABLED, DisabledReason.GONE)
    assert await desk.stages() == [DeliveryStage.PENDING, DeliveryStage.DEAD]
    desk.clock.advance(timedelta(seconds=1))
    await desk.tell(desk.event("3"))
    told_at = desk.clock.now()
    desk.clock.advance(timedelta(minutes=1))
    assert await desk.door.deliver_due() == 1
    first, second, third = await desk.deliveries()
    assert (first.stage, first.tries[-1].fault) == (DeliveryStage.DEAD, Fault.ENDPOINT_DISABLED)
    assert second.tries[-1].status == 410
    assert len(shop.calls) == 2
    # What happened meanwhile is kept for a week, and comes when the endpoint is back.
    assert (third.event, third.stage, third.due_at) == (derived_id("evt", "3"), DeliveryStage.DEAD, None)
    assert third.tries == (Try(told_at, None, Fault.ENDPOINT_DISABLED, 0),)
    document = await desk.database.find_one("webhook_deliveries", {"_id": third.id})
    assert document is not None
    assert document["expires_at"] == told_at + 7 * DAY
    shop.answers["/till"] = [OK]
    draft = EndpointDraft(found.url, ALL)
    await desk.door.update_endpoint("m1", endpoint, draft, actor=OWNER, key="enable-1")
    assert await desk.door.replay_dead("m1", endpoint, second.at, actor=OWNER, key="replay-1") == 2
    assert await desk.door.deliver_due() == 2
    assert {call.headers["webhook-id"] for call in shop.calls[2:]} == {second.event, third.event}


async def test_a_wish_to_be_left_alone_is_honoured(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    shop.answers["/till"] = ["429 Slow\r\nRetry-After: 3600", "503 Closed\r\nRetry-After: 999999", OK]
    await desk.tell(desk.event())
    for wait in (timedelta(hours=1), timedelta(hours=24)):
        assert await desk.door.deliver_due() == 1
        [delivery] = await desk.deliveries()
        assert delivery.due_at == desk.clock.now() + wait
        desk.clock.advance(wait)
    assert await desk.door.deliver_due() == 1
    assert await desk.stages() == [DeliveryStage.DELIVERED]


@pytest.mark.parametrize(("status", "stage"), [("200 OK", DeliveryStage.DELIVERED), ("503 No", DeliveryStage.PENDING)])
async def test_a_wish_that_nobody_understands_is_none(
    desk: Desk, shop: Receiver, status: str, stage: DeliveryStage
) -> None:
    await desk.create(shop.url("/till"))
    shop.answers["/till"] = [f"{status}\r\nRetry-After: 01 Jan 99999999999 00:00:00 GMT"]
    await desk.tell(desk.event())
    assert await desk.door.deliver_due() == 1
    assert await desk.stages() == [stage]


async def test_what_this_side_cannot_send_is_a_failed_try(desk: Desk, shop: Receiver) -> None:
    shown = await desk.create(shop.url("/till"))
    await desk.create(shop.url("/books"), "create-2")
    await desk.database.raw["webhook_endpoints"].update_one(
        {"_id": shown.endpoint.id}, {"$set": {"sealed": "sealed with another key"}}
    )
    await desk.tell(desk.event())
    assert await desk.door.deliver_due() == 2
    [delivery] = await desk.door.list_deliveries("m1", limit=9, endpoint=shown.endpoint.id)
    assert (delivery.stage, delivery.attempts) == (DeliveryStage.PENDING, 1)
    assert delivery.tries == (Try(desk.clock.now(), None, Fault.INTERNAL, 0),)
    assert delivery.due_at is not None
    assert timedelta(seconds=5) <= delivery.due_at - desk.clock.now() <= timedelta(seconds=6)
    # It is no failure of the endpoint.
    assert {endpoint.failing_since for endpoint in await desk.door.list_endpoints("m1")} == {None}
    assert [call.path for call in shop.calls] == ["/books"]


async def test_slow_merchants_delay_no_other_and_get_four_calls_at_once(
    desk: Desk, shop: Receiver, database: Database, transactions: Transactions, clock: ManualClock
) -> None:
    shop.answers["/hang"] = [HANG]
    for merchant in range(4):
        for number in range(10):
            await desk.create(shop.url("/hang"), f"create-{merchant}-{number}", merchant=f"slow{merchant}")
    await desk.create(shop.url("/good"), "create-good", merchant="good")
    await desk.tell(*(desk.event(f"{merchant}-{n}", f"slow{merchant}") for merchant in range(4) for n in range(2)))
    desk.clock.advance(timedelta(seconds=1))
    await desk.tell(desk.event("good", "good"))
    patient = Desk(database, transactions, clock, Caller(allow_local=True))
    run = asyncio.create_task(patient.door.deliver_due())
    while not (shop.bodies("/good") and len(shop.bodies("/hang")) == 16):
        assert not run.done()
        await asyncio.sleep(0.01)
    # Another process finds that they have enough in hand, and is not held.
    assert await desk.door.deliver_due() == 0
    assert (shop.most_at_once["/hang"], len(shop.bodies("/good"))) == (16, 1)
    shop.release.set()
    await run
    assert shop.most_at_once["/hang"] == 16


async def test_an_endpoint_that_failed_for_five_days_is_disabled(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    shop.answers["/till"] = [FAILED]
    for day in range(6):
        [found] = await desk.door.list_endpoints("m1")
        assert (found.stage, day) == (EndpointStage.ACTIVE, day)
        await desk.tell(desk.event(str(day)))
        assert await desk.door.deliver_due() >= 1
        if day == 2:
            # One that arrives begins the count anew.
            shop.answers["/till"] = [OK]
            await desk.tell(desk.event("good"))
            await desk.door.deliver_due()
            [found] = await desk.door.list_endpoints("m1")
            assert (found.failing_since, found.failed_at) == (None, None)
            shop.answers["/till"] = [FAILED]
        desk.clock.advance(DAY)
    for day in range(6, 9):
        await desk.tell(desk.event(str(day)))
        await desk.door.deliver_due()
        desk.clock.advance(DAY)
    [found] = await desk.door.list_endpoints("m1")
    assert (found.stage, found.reason) == (EndpointStage.DISABLED, DisabledReason.FAILING)
    assert found.failed_at is not None
    assert found.failing_since is not None
    assert found.failed_at - found.failing_since == 5 * DAY


async def test_the_last_ten_tries_are_kept(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    await desk.tell(desk.event())
    [delivery] = await desk.deliveries()
    for number in range(12):
        await desk.door.deliver_due()
        desk.clock.advance(timedelta(seconds=1))
        await desk.door.replay("m1", delivery.id, actor=OWNER, key=f"replay-{number}")
    [delivery] = await desk.deliveries()
    moments = [tried.at for tried in delivery.tries]
    assert moments == [desk.clock.now() - timedelta(seconds=second) for second in range(10, 0, -1)]


async def test_a_slow_endpoint_delays_no_other_and_gets_two_calls_at_once(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/slow"), "create-1")
    await desk.create(shop.url("/quick"), "create-2", types=frozenset({REFUNDED}))
    shop.answers["/slow"] = [HANG]
    await desk.tell(*(desk.event(f"s{n}") for n in range(100)))
    desk.clock.advance(timedelta(seconds=1))
    await desk.tell(*(desk.event(f"q{n}", kind=REFUNDED) for n in range(20)))
    run = asyncio.create_task(desk.door.deliver_due())
    # Other processes look at the same time.
    others = [asyncio.create_task(desk.door.deliver_due()) for _ in range(3)]
    while len(shop.bodies("/quick")) < 20:
        assert not run.done()
        await asyncio.sleep(0.01)
    assert shop.most_at_once["/slow"] == 2
    shop.release.set()
    assert sum(await asyncio.gather(run, *others)) == 140
    assert shop.most_at_once["/slow"] == 2
    assert shop.most_at_once["/quick"] <= 2
    slow = Counter(shop.bodies("/slow"))
    assert (len(slow), len(shop.bodies("/quick"))) == (120, 20)


async def test_no_third_delivery_of_an_endpoint_is_taken_in_hand(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    await desk.tell(*(desk.event(ref) for ref in "123"))
    queue, now = DeliveryQueue(desk.database), desk.clock.now()
    due = await queue.list_due(now, limit=9)
    first, second, third = [await queue.claim(delivery, now) for delivery in due]
    assert first is not None
    assert second is not None
    assert third is None
    await queue.finish(first, Try(now, 200, None, 1), stage=DeliveryStage.DELIVERED, due_at=None, expires_at=None)
    again = await queue.claim(due[2], now)
    assert again is not None
    assert again.id == due[2].id


async def test_a_run_has_an_end(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    await desk.tell(*(desk.event(str(n)) for n in range(5)))
    assert await desk.door.deliver_due(limit=3) == 3
    assert len(shop.calls) == 3
    assert await desk.door.deliver_due(limit=3) == 2


async def test_many_events_for_many_merchants_travel_in_one_item(desk: Desk, shop: Receiver) -> None:
    for number in range(30):
        await desk.create(shop.url(f"/{number}"), f"create-{number}", merchant=f"m{number}")
    await desk.tell(*(desk.event(f"r{number}", merchant=f"m{number}", kind=READY) for number in range(40)))
    assert await desk.door.deliver_due() == 30
    assert sorted(call.path for call in shop.calls) == sorted(f"/{number}" for number in range(30))
    assert [delivery.event for delivery in await desk.deliveries("m7")] == [derived_id("evt", "r7")]
