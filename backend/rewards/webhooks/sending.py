"""Works off the deliveries that are due: many at once, at most two of one endpoint, so that a slow one delays no other.

At least once: a sender that dies leaves its deliveries in hand, and a minute later they are due again.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from backend.kernel.crypto import decrypt
from backend.rewards.webhooks import rules
from backend.rewards.webhooks.model import DeliveryStage, DisabledReason, EndpointStage, Fault, Try
from backend.rewards.webhooks.queue import LANES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.rewards.webhooks.calling import Caller
    from backend.rewards.webhooks.model import Delivery, Endpoint, EndpointId
    from backend.rewards.webhooks.queue import DeliveryQueue
    from backend.rewards.webhooks.rules import Answer

LOG = structlog.get_logger(__name__)
AT_ONCE = 64
# A run begins nothing new after this long; the next one goes on.
RUN_S = 5
LOOK_AGAIN_AFTER_S = 0.5


class Sending:
    """The senders of one process. ``key`` is what endpoints' secrets are encrypted with."""

    def __init__(self, *, queue: DeliveryQueue, caller: Caller, clock: Clock, key: bytes) -> None:
        self._queue = queue
        self._caller = caller
        self._clock = clock
        self._key = key

    async def deliver_due(self, limit: int) -> int:
        """Try what is due and what falls due meanwhile, for some seconds, at most ``limit``; returns how many.

        Raises:
            UnavailableError: MongoDB does not answer; what is in hand is due again a minute later.
        """
        await self._queue.free_lost(self._clock.now())
        running: dict[asyncio.Task[None], EndpointId] = {}
        started, ends = 0, time.monotonic() + RUN_S
        try:
            while True:
                room = min(limit - started, AT_ONCE - len(running)) if time.monotonic() < ends else 0
                for delivery in await self._claim(room, running.values()):
                    running[asyncio.create_task(self._send(delivery))] = delivery.endpoint
                    started += 1
                if not running:
                    return started
                done, _ = await asyncio.wait(running, timeout=LOOK_AGAIN_AFTER_S, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
        finally:
            for task in running:
                task.cancel()

    async def _claim(self, room: int, busy: Iterable[EndpointId]) -> list[Delivery]:
        """Take at most ``room`` due deliveries in hand, the longest due first, passing over busy endpoints."""
        claimed: list[Delivery] = []
        counts = Counter(busy)
        full = {endpoint for endpoint, count in counts.items() if count >= LANES}
        while len(claimed) < room:
            now = self._clock.now()
            due = await self._queue.list_due(now, limit=room - len(claimed), without=full)
            if not due:
                break
            for delivery in due:
                if delivery.endpoint in full:
                    continue
                taken = await self._queue.claim(delivery, now)
                if taken is None:
                    full.add(delivery.endpoint)
                else:
                    claimed.append(taken)
        return claimed

    async def _send(self, delivery: Delivery) -> None:
        """Try one delivery and note what came of it; whatever happens, the others go on."""
        try:
            await self._try(delivery)
        except Exception:  # it is due again a minute later
            LOG.exception("webhook not delivered", delivery=delivery.id, endpoint=delivery.endpoint)

    async def _try(self, delivery: Delivery) -> None:
        endpoint = await self._queue.find_endpoint(delivery.endpoint)
        now = self._clock.now()
        if endpoint is None or endpoint.stage is EndpointStage.DISABLED:
            fault = Fault.ENDPOINT_DELETED if endpoint is None else Fault.ENDPOINT_DISABLED
            await self._finish(delivery, Try(now, None, fault, 0), DeliveryStage.DEAD, None)
            return
        began = time.monotonic_ns()
        headers = rules.headers_of(delivery.event, now, delivery.body, self._secrets(endpoint, now))
        answer = await self._caller.call(endpoint.url, headers, delivery.body.encode(), now)
        tried = Try(now, answer.status, answer.fault, (time.monotonic_ns() - began) // 1_000_000)
        if answer.is_accepted:
            await self._finish(delivery, tried, DeliveryStage.DELIVERED, None)
            await self._queue.note_success(endpoint)
        else:
            await self._fail(delivery, endpoint, tried, answer)

    async def _fail(self, delivery: Delivery, endpoint: Endpoint, tried: Try, answer: Answer) -> None:
        now = self._clock.now()
        jitter = secrets.randbelow(rules.MAX_JITTER_PERMILLE + 1)
        due_at = rules.next_due(delivery.attempts, answer, now, jitter)
        await self._finish(delivery, tried, DeliveryStage.PENDING if due_at else DeliveryStage.DEAD, due_at)
        since = rules.row_of_failures(endpoint, now)
        await self._queue.note_failure(endpoint, since, now)
        reason = None
        if answer.status == rules.GONE:
            reason = DisabledReason.GONE
        elif now - since >= rules.GIVEN_UP_AFTER:
            reason = DisabledReason.FAILING
        if reason and await self._queue.disable(endpoint, reason):
            LOG.warning("webhook endpoint disabled", endpoint=endpoint.id, merchant=endpoint.merchant, reason=reason)

    async def _finish(self, delivery: Delivery, tried: Try, stage: DeliveryStage, due_at: datetime | None) -> None:
        kept = {DeliveryStage.DELIVERED: rules.DELIVERED_KEPT_FOR, DeliveryStage.DEAD: rules.DEAD_KEPT_FOR}.get(stage)
        expires_at = self._clock.now() + kept if kept else None
        await self._queue.finish(delivery, tried, stage=stage, due_at=due_at, expires_at=expires_at)

    def _secrets(self, endpoint: Endpoint, now: datetime) -> list[bytes]:
        """The secrets to sign with, the current one first."""
        sealed = [endpoint.sealed]
        if endpoint.previous and now < endpoint.previous.ends_at:
            sealed.append(endpoint.previous.sealed)
        return [decrypt(self._key, secret, endpoint.id) for secret in sealed]
