"""Webhooks' door: endpoints, secrets, what is listed and replayed; a refusal changes nothing."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.kernel.crypto import decrypt
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.kernel.ids import derived_id
from backend.rewards.webhooks.errors import (
    EndpointDisabledError,
    OldSecretInForceError,
    TooManyEndpointsError,
    TooManyTestsError,
    UnknownDeliveryError,
    UnknownEndpointError,
)
from backend.rewards.webhooks.model import (
    Delivery,
    DeliveryId,
    DeliveryStage,
    DisabledReason,
    EndpointDraft,
    EndpointId,
    EndpointStage,
    Fault,
    ShownEndpoint,
)
from backend.rewards.webhooks.queue import DeliveryQueue
from backend.rewards.webhooks.store import WebhookStore
from tests.integration.receiving import Receiver, receiving, signed_by
from tests.integration.webhook_desk import ALL, DAY, KEY, OWNER, READY, Desk, open_desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from backend.kernel.clock import ManualClock
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions

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


async def test_the_dead_are_listed_and_sent_again_one_by_one_or_all(desk: Desk, shop: Receiver) -> None:
    endpoint = (await desk.create(shop.url("/till"))).endpoint.id
    other = (await desk.create(shop.url("/other"), "create-2")).endpoint.id
    shop.answers = {"/till": ["410 Gone"], "/other": ["410 Gone"]}
    began = desk.clock.now()
    for ref in "123":
        await desk.tell(desk.event(ref))
        desk.clock.advance(timedelta(seconds=1))
    assert await desk.door.deliver_due() == 6
    assert await desk.stages() == [DeliveryStage.DEAD] * 6
    dead = await desk.door.list_deliveries("m1", limit=9, stage=DeliveryStage.DEAD, endpoint=endpoint)
    assert [delivery.event for delivery in dead] == [derived_id("evt", ref) for ref in "321"]
    replay = {"actor": OWNER, "key": "replay-1"}
    # Gone: it must be enabled first.
    assert (
        await desk.refused(EndpointDisabledError, lambda: desk.door.replay("m1", dead[0].id, **replay))
        == f"the webhook endpoint {endpoint} is disabled; enable it first"
    )
    await desk.refused(EndpointDisabledError, lambda: desk.door.replay_dead("m1", endpoint, began, **replay))
    await desk.refused(EndpointDisabledError, lambda: desk.door.send_test("m1", endpoint, **replay))
    draft = EndpointDraft(shop.url("/till"), ALL)
    enabled = await desk.door.update_endpoint("m1", endpoint, draft, actor=OWNER, key="enable-1")
    assert (enabled.stage, enabled.reason) == (EndpointStage.ACTIVE, None)
    shop.answers = {}
    shop.calls.clear()
    again = await desk.door.replay("m1", dead[0].id, **replay)
    assert (again.stage, again.due_at, again.attempts, len(again.tries)) == (
        DeliveryStage.PENDING,
        desk.clock.now(),
        0,
        1,
    )
    assert await desk.door.deliver_due() == 1
    since = began + timedelta(seconds=1)
    assert await desk.door.replay_dead("m1", endpoint, since, actor=OWNER, key="replay-2") == 1
    assert await desk.door.replay_dead("m1", endpoint, since, actor=OWNER, key="replay-2") == 0
    assert await desk.door.deliver_due() == 1
    assert await desk.door.replay_dead("m1", endpoint, began, actor=OWNER, key="replay-3") == 1
    assert await desk.door.deliver_due() == 1
    assert [call.headers["webhook-id"] for call in shop.calls] == [derived_id("evt", ref) for ref in "321"]
    assert {d.endpoint for d in await desk.door.list_deliveries("m1", limit=9, stage=DeliveryStage.DEAD)} == {other}
    # What arrived may be sent again as well; the key of the first replay sends nothing more.
    await desk.door.replay("m1", dead[0].id, **replay)
    assert await desk.door.deliver_due() == 0
    await desk.door.replay("m1", dead[0].id, actor=OWNER, key="replay-4")
    assert await desk.door.deliver_due() == 1
    document = await desk.database.find_one("webhook_deliveries", {"_id": dead[0].id})
    assert document is not None
    assert document["expires_at"] == desk.clock.now() + 30 * DAY


async def test_one_in_hand_is_not_replayed_beside_itself(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    await desk.tell(desk.event())
    queue = DeliveryQueue(desk.database)
    [due] = await queue.list_due(desk.clock.now(), limit=9)
    await queue.claim(due, desk.clock.now())
    [in_hand] = await desk.deliveries()
    assert await desk.door.replay("m1", due.id, actor=OWNER, key="replay-1") == in_hand
    assert await desk.deliveries() == [in_hand]


async def test_for_a_day_after_a_rotation_both_secrets_sign(desk: Desk, shop: Receiver) -> None:
    old = await desk.create(shop.url("/till"))
    endpoint = old.endpoint.id
    new = await desk.door.rotate_secret("m1", endpoint, actor=OWNER, key="rotate-1")
    assert await desk.door.rotate_secret("m1", endpoint, actor=OWNER, key="rotate-1") == new
    assert old.secret != new.secret
    for ref, wait in (("1", DAY - timedelta(milliseconds=1)), ("2", timedelta(milliseconds=1)), ("3", DAY)):
        await desk.tell(desk.event(ref))
        await desk.door.deliver_due()
        desk.clock.advance(wait)
    assert [(signed_by(call, old.secret), signed_by(call, new.secret)) for call in shop.calls] == [
        (True, True),
        (True, True),
        (False, True),
    ]
    newest = await desk.door.rotate_secret("m1", endpoint, actor=OWNER, key="rotate-2")
    until = (desk.clock.now() + DAY).isoformat()
    desk.clock.advance(DAY - timedelta(milliseconds=1))
    ask = {"actor": OWNER, "key": "rotate-3"}
    message = await desk.refused(OldSecretInForceError, lambda: desk.door.rotate_secret("m1", endpoint, **ask))
    assert message == (
        f"the secret of the webhook endpoint {endpoint} before this one is in force until {until}; rotate again then"
    )
    await desk.door.send_test("m1", endpoint, actor=OWNER, key="test-0001")
    await desk.door.deliver_due()
    secrets = (old.secret, new.secret, newest.secret)
    assert [signed_by(shop.calls[-1], secret) for secret in secrets] == [False, True, True]
    desk.clock.advance(timedelta(milliseconds=1))
    assert (await desk.door.rotate_secret("m1", endpoint, **ask)).secret not in secrets


async def test_a_secret_is_stored_encrypted_only(desk: Desk, shop: Receiver) -> None:
    shown = await desk.create(shop.url("/till"))
    await desk.door.rotate_secret("m1", shown.endpoint.id, actor=OWNER, key="rotate-1")
    [document] = (await desk.dump())["webhook_endpoints"]
    assert shown.secret.removeprefix("whsec_") not in str(await desk.dump())
    opened = decrypt(KEY, document["previous"]["sealed"], shown.endpoint.id)
    assert len(opened) == 32
    with pytest.raises(ValueError, match="not encrypted under this key in this context"):
        decrypt(KEY, document["previous"]["sealed"], "whe_other")


async def test_a_repeated_creation_is_told_the_same_and_another_under_its_key_refused(
    desk: Desk, shop: Receiver
) -> None:
    shown = await desk.create(shop.url("/till"))
    before = await desk.dump()
    desk.clock.advance(timedelta(hours=1))
    assert await desk.create(shop.url("/till")) == shown
    assert await desk.dump() == before
    await desk.refused(IdempotencyConflictError, lambda: desk.create(shop.url("/other")))
    await desk.refused(IdempotencyConflictError, lambda: desk.create(shop.url("/till"), merchant="m2"))
    await desk.refused(InvalidInputError, lambda: desk.create(shop.url("/till"), "short"))
    await desk.refused(InvalidInputError, lambda: desk.create("https://10.0.0.1/", "create-2"))
    await desk.door.delete_endpoint("m1", shown.endpoint.id, actor=OWNER, key="delete-1")
    await desk.refused(UnknownEndpointError, lambda: desk.create(shop.url("/till")))


async def test_a_merchant_has_ten_endpoints_at_most_however_many_ask_at_once(desk: Desk, shop: Receiver) -> None:
    results = await asyncio.gather(
        *(desk.create(shop.url(f"/{n}"), f"create-{n}") for n in range(13)), return_exceptions=True
    )
    refusals = [result for result in results if isinstance(result, TooManyEndpointsError)]
    made = [result.endpoint for result in results if isinstance(result, ShownEndpoint)]
    assert (len(refusals), len(made)) == (3, 10)
    assert refusals[0].message() == "a merchant has at most 10 webhook endpoints"
    assert sorted(endpoint.slot for endpoint in made) == list(range(10))
    await desk.create(shop.url("/"), "create-m2", merchant="m2")
    await desk.door.delete_endpoint("m1", made[3].id, actor=OWNER, key="delete-1")
    again = await desk.create(shop.url("/"), "create-again")
    assert again.endpoint.slot == made[3].slot
    await desk.refused(TooManyEndpointsError, lambda: desk.create(shop.url("/"), "create-more"))


async def test_what_is_anothers_is_unknown(desk: Desk, shop: Receiver) -> None:
    endpoint = (await desk.create(shop.url("/till"))).endpoint.id
    tested = await desk.door.send_test("m1", endpoint, actor=OWNER, key="test-0001")
    draft, ask = EndpointDraft(shop.url("/till"), ALL), {"actor": "merchant:mallory", "key": "key-00001"}
    door, since = desk.door, desk.clock.now()
    for merchant, where in (("m2", endpoint), ("m1", EndpointId("whe_none"))):
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda m=merchant, e=where: door.update_endpoint(m, e, draft, **ask),
            lambda m=merchant, e=where: door.rotate_secret(m, e, **ask),
            lambda m=merchant, e=where: door.delete_endpoint(m, e, **ask),
            lambda m=merchant, e=where: door.replay_dead(m, e, since, **ask),
            lambda m=merchant, e=where: door.send_test(m, e, **ask),
        ]
        for call in calls:
            message = await desk.refused(UnknownEndpointError, call)
            assert message == f"the merchant has no webhook endpoint {where}"
    for merchant, what in (("m2", tested.id), ("m1", DeliveryId("whd_none"))):
        message = await desk.refused(UnknownDeliveryError, lambda m=merchant, d=what: door.replay(m, d, **ask))
        assert message == f"the merchant has no webhook delivery {what}, or it is no longer kept"
    assert await door.list_endpoints("m2") == []
    assert await door.list_deliveries("m2", limit=9) == []


async def test_a_test_is_sent_once_a_key_whatever_the_endpoint_wants(desk: Desk, shop: Receiver) -> None:
    endpoint = (await desk.create(shop.url("/till"), types=frozenset({READY}))).endpoint.id
    tested = await desk.door.send_test("m1", endpoint, actor=OWNER, key="test-0001")
    assert await desk.door.send_test("m1", endpoint, actor=OWNER, key="test-0001") == tested
    assert await desk.door.deliver_due() == 1
    [body] = shop.bodies("/till")
    assert json.loads(body)["type"] == "webhook.test"
    assert json.loads(body)["data"] == {"endpoint": endpoint}


async def test_an_endpoint_is_tested_once_a_minute(desk: Desk, shop: Receiver) -> None:
    first, other = [(await desk.create(shop.url("/till"), f"create-{n}")).endpoint.id for n in range(2)]
    until = (desk.clock.now() + timedelta(minutes=1)).isoformat()
    tests = (desk.door.send_test("m1", first, actor=OWNER, key=f"test-000{n}") for n in range(3))
    results = await asyncio.gather(*tests, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Delivery", "TooManyTestsError", "TooManyTestsError"]
    await desk.door.send_test("m1", other, actor=OWNER, key="test-0003")
    desk.clock.advance(timedelta(milliseconds=59_999))
    ask = {"actor": OWNER, "key": "test-0004"}
    assert await desk.refused(TooManyTestsError, lambda: desk.door.send_test("m1", first, **ask)) == (
        f"the webhook endpoint {first} is tested once a minute; try again after {until}"
    )
    desk.clock.advance(timedelta(milliseconds=1))
    await desk.door.send_test("m1", first, **ask)
    assert await desk.door.deliver_due() == 3


async def test_an_endpoint_is_changed_and_disabled_by_its_owner(desk: Desk, shop: Receiver) -> None:
    endpoint = (await desk.create(shop.url("/till"))).endpoint
    draft = EndpointDraft(shop.url("/new"), frozenset({READY}), "账本", EndpointStage.DISABLED)
    changed = await desk.door.update_endpoint("m1", endpoint.id, draft, actor=OWNER, key="update-1")
    assert (changed.url, changed.types, changed.description) == (draft.url, draft.types, "账本")
    assert (changed.stage, changed.reason, changed.sealed) == (
        EndpointStage.DISABLED,
        DisabledReason.OWNER,
        endpoint.sealed,
    )
    assert await desk.door.list_endpoints("m1") == [changed]
    await desk.tell(desk.event(kind=READY), desk.event("2"))
    assert await desk.stages() == [DeliveryStage.DEAD]
    assert await desk.door.deliver_due() == 0


async def test_what_was_on_its_way_to_a_deleted_endpoint_dies(desk: Desk, shop: Receiver) -> None:
    endpoint = (await desk.create(shop.url("/till"))).endpoint.id
    await desk.tell(desk.event())
    await desk.door.delete_endpoint("m1", endpoint, actor=OWNER, key="delete-1")
    await desk.door.delete_endpoint("m1", endpoint, actor=OWNER, key="delete-1")
    assert await desk.door.deliver_due() == 1
    [delivery] = await desk.deliveries()
    assert (delivery.stage, delivery.tries[0].fault) == (DeliveryStage.DEAD, Fault.ENDPOINT_DELETED)
    await desk.refused(UnknownEndpointError, lambda: desk.door.replay("m1", delivery.id, actor=OWNER, key="replay-1"))
    assert shop.calls == []


async def test_deliveries_are_paged_from_either_end(desk: Desk, shop: Receiver) -> None:
    await desk.create(shop.url("/till"))
    # Five at one moment and two later.
    await desk.tell(*(desk.event(ref) for ref in "12345"))
    desk.clock.advance(timedelta(seconds=1))
    await desk.tell(desk.event("6"), desk.event("7"))
    everything = await desk.door.list_deliveries("m1", limit=100)
    places = [(delivery.at, delivery.id) for delivery in everything]
    assert places == sorted(places, reverse=True)
    assert len(places) == 7
    down: list[Delivery] = []
    while page := await desk.door.list_deliveries("m1", limit=3, older=(down[-1].at, down[-1].id) if down else None):
        down += page
    assert down == everything
    assert await desk.door.list_deliveries("m1", limit=3, newest=False) == everything[-3:]
    assert await desk.door.list_deliveries("m1", limit=3, newest=False, newer=places[4]) == everything[1:4]
    assert await desk.door.list_deliveries("m1", limit=9, older=places[1], newer=places[4]) == everything[2:4]


async def test_endpoints_and_deliveries_are_read_as_they_were_written(desk: Desk, shop: Receiver) -> None:
    shown = await desk.create(shop.url("/till"), description="收银系统")
    await desk.door.rotate_secret("m1", shown.endpoint.id, actor=OWNER, key="rotate-1")
    store = WebhookStore(desk.database)
    [listed] = await store.list_endpoints("m1")
    assert await store.find_endpoint(listed.id) == listed
    assert (listed.merchant, listed.description, listed.made_at) == ("m1", "收银系统", desk.clock.now())
    assert listed.previous is not None
    assert listed.previous.ends_at == desk.clock.now() + DAY
