"""Works off what is due: many at once, few of one endpoint and of one merchant, so that a slow one delays no other.

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
from backend.kernel.errors import TransientError
from backend.rewards.webhooks import rules
from backend.rewards.webhooks.model import DeliveryStage, DisabledReason, EndpointStage, Fault, Try
from backend.rewards.webhooks.queue import LANES
from backend.rewards.webhooks.rules import Answer

if TYPE_CHECKING:
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.rewards.webhooks.calling import Caller
    from backend.rewards.webhooks.model import Delivery, Endpoint
    from backend.rewards.webhooks.queue import DeliveryQueue

LOG = structlog.get_logger(__name__)
AT_ONCE = 64
# Two processes that look at the same moment may make it a few more; an endpoint's lanes are exact.
OF_ONE_MERCHANT = 4
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
        running: set[asyncio.Task[None]] = set()
        started, ends = 0, time.monotonic() + RUN_S
        try:
            while True:
                room = min(limit - started, AT_ONCE - len(running)) if time.monotonic() < ends else 0
                claimed = await self._claim(room) if room else []
                running.update(asyncio.create_task(self._send(delivery)) for delivery in claimed)
                started += len(claimed)
                if not running:
                    return started
                _, running = await asyncio.wait(
                    running, timeout=LOOK_AGAIN_AFTER_S, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            for task in running:
                task.cancel()

    async def _claim(self, room: int) -> list[Delivery]:
        """Take at most ``room`` due deliveries in hand, the longest due first, passing over who has enough in hand."""
        claimed: list[Delivery] = []
        in_hand = await self._queue.list_in_hand()
        full = {endpoint for endpoint, count in Counter(endpoint for endpoint, _ in in_hand).items() if count >= LANES}
        of_merchants = Counter(merchant for _, merchant in in_hand)
        while len(claimed) < room:
            now = self._clock.now()
            sated = [merchant for merchant, count in of_merchants.items() if count >= OF_ONE_MERCHANT]
            due = await self._queue.list_due(now, limit=room - len(claimed), not_to=full, not_of=sated)
            if not due:
                break
            for delivery in due:
                if delivery.endpoint in full or of_merchants[delivery.merchant] >= OF_ONE_MERCHANT:
                    continue
                taken = await self._queue.claim(delivery, now)
                if taken is None:
                    full.add(delivery.endpoint)
                else:
                    claimed.append(taken)
                    of_merchants[delivery.merchant] += 1
        return claimed

    async def _send(self, delivery: Delivery) -> None:
        """Try one delivery and note what came of it; whatever happens, the others go on."""
        try:
            try:
                await self._try(delivery)
            except TransientError:
                raise
            except Exception:
                LOG.exception("webhook not delivered", delivery=delivery.id, endpoint=delivery.endpoint)
                answer = Answer(fault=Fault.INTERNAL)
                await self._note(delivery, Try(self._clock.now(), None, answer.fault, 0), answer)
        except Exception:  # it is due again a minute later
            LOG.exception("webhook still in hand", delivery=delivery.id, endpoint=delivery.endpoint)

    async def _try(self, delivery: Delivery) -> None:
        endpoint = await self._queue.find_endpoint(delivery.endpoint)
        now = self._clock.now()
        if endpoint is None or endpoint.stage is EndpointStage.DISABLED:
            fault = Fault.ENDPOINT_DELETED if endpoint is None else Fault.ENDPOINT_DISABLED
            await self._finish(delivery, Try(now, None, fault, 0), DeliveryStage.DEAD, None)
            return
        began = time.monotonic_ns()
        headers = rules.headers_of(delivery.event, now, delivery.body, self._secrets(endpoint, now))
        answer = await self._caller.call(endpoint.url, headers, delivery.body.encode())
        tried = Try(now, answer.status, answer.fault, (time.monotonic_ns() - began) // 1_000_000)
        if answer.is_accepted:
            await self._finish(delivery, tried, DeliveryStage.DELIVERED, None)
            await self._queue.note_success(endpoint)
        else:
            await self._fail(delivery, endpoint, tried, answer)

    async def _note(self, delivery: Delivery, tried: Try, answer: Answer) -> None:
        """Note a failed try, and when the next one is due."""
        jitter = secrets.randbelow(rules.MAX_JITTER_PERMILLE + 1)
        due_at = rules.next_due(delivery.attempts, answer, self._clock.now(), jitter)
        await self._finish(delivery, tried, DeliveryStage.PENDING if due_at else DeliveryStage.DEAD, due_at)

    async def _fail(self, delivery: Delivery, endpoint: Endpoint, tried: Try, answer: Answer) -> None:
        await self._note(delivery, tried, answer)
        now = self._clock.now()
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
