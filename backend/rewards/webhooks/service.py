"""The only door to webhooks: endpoints, what was and is sent to them, and the making of deliveries out of events.

Callers have made sure that the actor may speak for the merchant. Every change has an idempotency key, which is taken in
the transaction of its effect.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from backend.identity.rules import require_idempotency_key
from backend.kernel.crypto import decrypt, encrypt, payload_hash
from backend.kernel.ids import derived_id
from backend.mongo.idempotency import Use
from backend.rewards.webhooks import rules
from backend.rewards.webhooks.calling import Caller
from backend.rewards.webhooks.errors import (
    EndpointDisabledError,
    OldSecretInForceError,
    TooManyEndpointsError,
    TooManyTestsError,
    UnknownDeliveryError,
    UnknownEndpointError,
)
from backend.rewards.webhooks.events import from_payload
from backend.rewards.webhooks.model import (
    Delivery,
    DeliveryId,
    DeliveryStage,
    DisabledReason,
    Endpoint,
    EndpointDraft,
    EndpointId,
    EndpointStage,
    Event,
    EventType,
    Fault,
    PreviousSecret,
    ShownEndpoint,
    Try,
)
from backend.rewards.webhooks.queue import DeliveryQueue
from backend.rewards.webhooks.sending import Sending
from backend.rewards.webhooks.store import WebhookStore, WebhookWrites

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.outbox.relay import Item

    Place = tuple[datetime, str]

Result = TypeVar("Result")
SECRET_BYTES = 32
REPLAYED_AT_ONCE = 1_000
DELIVERED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """When a key took its effect, and what that gave; None where it had taken it before."""

    at: datetime
    result: Result | None


class Webhooks:
    """Webhooks of all merchants. ``key`` (32 bytes) encrypts their secrets."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        clock: Clock,
        key: bytes,
        allow_local: bool,
        caller: Caller | None = None,
    ) -> None:
        self._store = WebhookStore(database)
        self._transactions = transactions
        self._clock = clock
        self._key = key
        self._allow_local = allow_local
        self._sending = Sending(
            queue=DeliveryQueue(database),
            caller=caller or Caller(allow_local=allow_local),
            clock=clock,
            key=key,
        )

    async def create_endpoint(self, merchant: str, draft: EndpointDraft, *, actor: str, key: str) -> ShownEndpoint:
        """Make an endpoint; its secret is told here, and again only to who repeats the request.

        Raises:
            InvalidInputError: the draft or the key.
            TooManyEndpointsError: the merchant has ten.
            UnknownEndpointError: a repeated request whose endpoint is deleted.
            IdempotencyConflictError: the key was used for another.
        """
        rules.require_draft(draft, allow_local=self._allow_local)
        use = _use(actor, "createWebhookEndpoint", key, merchant, *_payload(draft))
        now = self._clock.now()
        endpoint = _endpoint_id(use, now)
        sealed = encrypt(self._key, secrets.token_bytes(SECRET_BYTES), endpoint)

        async def effect(writes: WebhookWrites) -> None:
            free = set(range(rules.MAX_ENDPOINTS)) - await writes.used_slots(merchant)
            if not free:
                raise TooManyEndpointsError(rules.MAX_ENDPOINTS)
            await writes.insert_endpoint(_new_endpoint(endpoint, merchant, min(free), draft, sealed, now))

        done = await self._once(use, effect, now)
        return await self._shown(merchant, _endpoint_id(use, done.at))

    async def update_endpoint(
        self, merchant: str, endpoint: EndpointId, draft: EndpointDraft, *, actor: str, key: str
    ) -> Endpoint:
        """Put what the draft says in the place of what was said; enabling forgets why it was disabled.

        Raises:
            InvalidInputError: the draft or the key.
            UnknownEndpointError: the merchant has no such endpoint.
            IdempotencyConflictError: the key was used for another change.
        """
        rules.require_draft(draft, allow_local=self._allow_local)
        use = _use(actor, "updateWebhookEndpoint", key, merchant, endpoint, *_payload(draft))

        async def effect(writes: WebhookWrites) -> None:
            await writes.save_endpoint(_changed(await writes.get_endpoint(merchant, endpoint), draft))

        await self._once(use, effect, self._clock.now())
        return await self._endpoint(merchant, endpoint)

    async def rotate_secret(self, merchant: str, endpoint: EndpointId, *, actor: str, key: str) -> ShownEndpoint:
        """Give the endpoint a new secret; for 24 hours calls are signed with the present one, too.

        A repeated request is told the secret in force. If it leaked within those hours, delete the endpoint.

        Raises:
            UnknownEndpointError: the merchant has no such endpoint.
            OldSecretInForceError: the last rotation was within 24 hours.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        use = _use(actor, "rotateWebhookSecret", key, merchant, endpoint)
        now = self._clock.now()
        sealed = encrypt(self._key, secrets.token_bytes(SECRET_BYTES), endpoint)

        async def effect(writes: WebhookWrites) -> None:
            found = await writes.get_endpoint(merchant, endpoint)
            if found.previous and now < found.previous.ends_at:
                raise OldSecretInForceError(endpoint, found.previous.ends_at.isoformat())
            previous = PreviousSecret(found.sealed, now + rules.ROTATION_OVERLAP)
            await writes.save_endpoint(replace(found, sealed=sealed, previous=previous))

        await self._once(use, effect, now)
        return await self._shown(merchant, endpoint)

    async def delete_endpoint(self, merchant: str, endpoint: EndpointId, *, actor: str, key: str) -> None:
        """Forget the endpoint and its secret; what was on its way to it is not sent any more.

        Raises:
            UnknownEndpointError: the merchant has no such endpoint.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        use = _use(actor, "deleteWebhookEndpoint", key, merchant, endpoint)

        async def effect(writes: WebhookWrites) -> None:
            await writes.delete_endpoint((await writes.get_endpoint(merchant, endpoint)).id)

        await self._once(use, effect, self._clock.now())

    async def list_endpoints(self, merchant: str) -> list[Endpoint]:
        """The merchant's endpoints, the oldest first."""
        return await self._store.list_endpoints(merchant)

    async def list_deliveries(
        self,
        merchant: str,
        *,
        limit: int,
        endpoint: EndpointId | None = None,
        stage: DeliveryStage | None = None,
        older: Place | None = None,
        newer: Place | None = None,
        newest: bool = True,
    ) -> list[Delivery]:
        """The merchant's deliveries by (at, id), newest first; from that end, or from the other."""
        return await self._store.list_deliveries(
            merchant, endpoint=endpoint, stage=stage, limit=limit, older=older, newer=newer, newest=newest
        )

    async def replay(self, merchant: str, delivery: DeliveryId, *, actor: str, key: str) -> Delivery:
        """Send a delivery again, whatever became of it, and begin its tries from the first; one in hand is left alone.

        Raises:
            UnknownDeliveryError: the merchant has no such delivery.
            UnknownEndpointError, EndpointDisabledError: it cannot be sent there any more, or not now.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        use = _use(actor, "replayWebhookDelivery", key, merchant, delivery)
        now = self._clock.now()

        async def effect(writes: WebhookWrites) -> None:
            found = await writes.get_delivery(merchant, delivery)
            await _require_active(writes, merchant, found.endpoint)
            if found.stage is not DeliveryStage.SENDING:
                await writes.restart([delivery], now)

        await self._once(use, effect, now)
        return await self._delivery(merchant, delivery)

    async def replay_dead(self, merchant: str, endpoint: EndpointId, since: datetime, *, actor: str, key: str) -> int:
        """Send an endpoint's dead deliveries of events since that moment again, the oldest 1,000; returns how many.

        A repeated request sends nothing more, and returns 0.

        Raises:
            UnknownEndpointError, EndpointDisabledError: there is nowhere to send them to.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        use = _use(actor, "replayDeadWebhookDeliveries", key, merchant, endpoint, since.isoformat())
        dead = await self._store.list_dead(endpoint, since, limit=REPLAYED_AT_ONCE)
        now = self._clock.now()

        async def effect(writes: WebhookWrites) -> int:
            await _require_active(writes, merchant, endpoint)
            still_dead = await writes.still_dead(dead)
            await writes.restart(still_dead, now)
            return len(still_dead)

        return (await self._once(use, effect, now)).result or 0

    async def send_test(self, merchant: str, endpoint: EndpointId, *, actor: str, key: str) -> Delivery:
        """Send an event of type ``webhook.test`` to the endpoint, once a minute.

        Raises:
            UnknownEndpointError, EndpointDisabledError: there is nowhere to send it to.
            TooManyTestsError: the last one was within a minute.
            UnknownDeliveryError: a repeated request whose delivery is no longer kept.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        use = _use(actor, "sendWebhookTest", key, merchant, endpoint)
        now = self._clock.now()

        async def effect(writes: WebhookWrites) -> None:
            found = await _require_active(writes, merchant, endpoint)
            if found.tested_at and now < found.tested_at + rules.TESTED_AGAIN_AFTER:
                raise TooManyTestsError(endpoint, (found.tested_at + rules.TESTED_AGAIN_AFTER).isoformat())
            await writes.save_endpoint(replace(found, tested_at=now))
            tested = Event(_test_id(use, now), EventType.WEBHOOK_TEST, merchant, now, {"endpoint": endpoint})
            await writes.insert_delivery(_new_delivery(tested, found, now))

        done = await self._once(use, effect, now)
        return await self._delivery(merchant, _delivery_id(_test_id(use, done.at), endpoint))

    async def fan_out(self, item: Item) -> None:
        """Make a delivery of each event for each endpoint that wants it; the same item again makes none.

        What happens while an endpoint is disabled is dead at once, and kept for seven days to be replayed.

        Raises:
            UnavailableError: MongoDB does not answer; the outbox sends the item again.
        """
        events = [from_payload(payload) for payload in item.payload]
        endpoints = await self._store.list_of(sorted({event.merchant for event in events}))
        now = self._clock.now()
        await self._store.insert_new(
            [
                _new_delivery(event, endpoint, now)
                for event in events
                for endpoint in endpoints
                if endpoint.merchant == event.merchant and event.type in endpoint.types
            ],
            dead_until=now + rules.UNSENT_KEPT_FOR,
        )

    async def deliver_due(self, limit: int = DELIVERED_AT_ONCE) -> int:
        """Try the deliveries that are due, for some seconds, at most ``limit``; returns how many were tried.

        Raises:
            UnavailableError: MongoDB does not answer; the next run goes on.
        """
        return await self._sending.deliver_due(limit)

    async def _once(
        self, use: Use, effect: Callable[[WebhookWrites], Awaitable[Result]], now: datetime
    ) -> Done[Result]:
        """Let the key take its effect, once."""

        async def body(tx: Tx) -> Done[Result]:
            writes = WebhookWrites(tx)
            taken = await writes.claimed_at(use)
            if taken is not None:
                return Done(taken, None)
            result = await effect(writes)
            await writes.claim(use, now)
            return Done(now, result)

        return await self._transactions.run(body)

    async def _endpoint(self, merchant: str, endpoint: EndpointId) -> Endpoint:
        found = await self._store.find_endpoint(endpoint)
        if found is None or found.merchant != merchant:
            raise UnknownEndpointError(endpoint)
        return found

    async def _shown(self, merchant: str, endpoint: EndpointId) -> ShownEndpoint:
        found = await self._endpoint(merchant, endpoint)
        return ShownEndpoint(found, rules.show_secret(decrypt(self._key, found.sealed, found.id)))

    async def _delivery(self, merchant: str, delivery: DeliveryId) -> Delivery:
        found = await self._store.find_delivery(merchant, delivery)
        if found is None:
            raise UnknownDeliveryError(delivery)
        return found


async def _require_active(writes: WebhookWrites, merchant: str, endpoint: EndpointId) -> Endpoint:
    found = await writes.get_endpoint(merchant, endpoint)
    if found.stage is not EndpointStage.ACTIVE:
        raise EndpointDisabledError(endpoint)
    return found


def _use(actor: str, operation: str, key: str, *payload: str) -> Use:
    require_idempotency_key(key)
    return Use(actor, operation, key, payload_hash(payload))


def _payload(draft: EndpointDraft) -> tuple[str, ...]:
    return draft.url, ",".join(sorted(draft.types)), draft.description, draft.stage.value


def _new_endpoint(
    endpoint: EndpointId, merchant: str, slot: int, draft: EndpointDraft, sealed: str, now: datetime
) -> Endpoint:
    return Endpoint(
        id=endpoint,
        merchant=merchant,
        slot=slot,
        url=draft.url,
        types=draft.types,
        description=draft.description,
        stage=draft.stage,
        reason=DisabledReason.OWNER if draft.stage is EndpointStage.DISABLED else None,
        sealed=sealed,
        previous=None,
        failing_since=None,
        failed_at=None,
        tested_at=None,
        made_at=now,
    )


def _changed(endpoint: Endpoint, draft: EndpointDraft) -> Endpoint:
    """The endpoint as the draft says; its failures were those of what it was."""
    is_disabled = draft.stage is EndpointStage.DISABLED
    return replace(
        endpoint,
        url=draft.url,
        types=draft.types,
        description=draft.description,
        stage=draft.stage,
        reason=(endpoint.reason or DisabledReason.OWNER) if is_disabled else None,
        failing_since=None,
        failed_at=None,
    )


def _endpoint_id(use: Use, at: datetime) -> EndpointId:
    """The endpoint that a key made when it took effect; the key, once forgotten, may make another."""
    return EndpointId(derived_id("whe", use.id, at.isoformat()))


def _test_id(use: Use, at: datetime) -> str:
    return derived_id("evt", use.id, at.isoformat())


def _delivery_id(event: str, endpoint: EndpointId) -> DeliveryId:
    return DeliveryId(derived_id("whd", event, endpoint))


def _new_delivery(event: Event, endpoint: Endpoint, now: datetime) -> Delivery:
    is_active = endpoint.stage is EndpointStage.ACTIVE
    return Delivery(
        id=_delivery_id(event.id, endpoint.id),
        endpoint=endpoint.id,
        merchant=endpoint.merchant,
        event=event.id,
        type=event.type,
        body=rules.body_of(event),
        at=event.at,
        stage=DeliveryStage.PENDING if is_active else DeliveryStage.DEAD,
        due_at=now if is_active else None,
        attempts=0,
        tries=() if is_active else (Try(now, None, Fault.ENDPOINT_DISABLED, 0),),
    )
