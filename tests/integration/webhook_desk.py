"""The door to webhooks with the relay before it, and short ways to what its tests do often."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.ids import derived_id
from backend.mongo.idempotency import IDEMPOTENCY_KEYS
from backend.mongo.migrations import migrate
from backend.outbox.relay import OUTBOX, Relay, write_item
from backend.rewards.webhooks.calling import Caller
from backend.rewards.webhooks.documents import COLLECTIONS
from backend.rewards.webhooks.events import WEBHOOK_TOPIC, Event, EventType, event_item
from backend.rewards.webhooks.model import (
    Delivery,
    DeliveryStage,
    EndpointDraft,
    ShownEndpoint,
)
from backend.rewards.webhooks.service import Webhooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backend.kernel.clock import ManualClock
    from backend.kernel.errors import DomainError
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.outbox.relay import Item

KEY = bytes(range(32))
CAPTURED, REFUNDED, READY = EventType.VOUCHER_CAPTURED, EventType.VOUCHER_REFUNDED, EventType.SETTLEMENT_READY
ALL = frozenset({CAPTURED, REFUNDED, READY})
OWNER = "merchant:olive"
FAILED = "500 Oops"
DAY = timedelta(days=1)


class Desk:
    """The door, the relay before it, and short ways to what tests do often."""

    def __init__(self, database: Database, transactions: Transactions, clock: ManualClock, caller: Caller) -> None:
        self.database = database
        self.transactions = transactions
        self.clock = clock
        self.door = Webhooks(
            database=database, transactions=transactions, clock=clock, key=KEY, allow_local=True, caller=caller
        )
        self.relay = Relay(database, clock, {WEBHOOK_TOPIC: self.door.fan_out})

    async def create(self, url: str, key: str = "create-1", merchant: str = "m1", **changes: Any) -> ShownEndpoint:
        """An endpoint that wants everything."""
        draft = EndpointDraft(**{"url": url, "types": ALL, **changes})
        return await self.door.create_endpoint(merchant, draft, actor=OWNER, key=key)

    def event(self, ref: str = "1", merchant: str = "m1", kind: EventType = CAPTURED) -> Event:
        """Something that happened now."""
        return Event(derived_id("evt", ref), kind, merchant, self.clock.now(), {"voucher": f"vou_{ref}", "points": 3})

    async def tell(self, *events: Event) -> Item:
        """Write events with their cause, and send them."""
        now = self.clock.now()
        item = event_item(events, now)

        async def body(tx: Tx) -> None:
            await write_item(tx, item, now)

        await self.transactions.run(body)
        await self.relay.send(item)
        return item

    async def deliveries(self, merchant: str = "m1") -> list[Delivery]:
        """The merchant's deliveries, the oldest first."""
        return (await self.door.list_deliveries(merchant, limit=1_000))[::-1]

    async def stages(self) -> list[DeliveryStage]:
        """What became of the merchant's deliveries, the oldest first."""
        return [delivery.stage for delivery in await self.deliveries()]

    async def dump(self) -> dict[str, list[Any]]:
        """Every document."""
        names = sorted(await self.database.raw.list_collection_names())
        return {name: await self.database.raw[name].find().sort("_id", 1).to_list(None) for name in names}

    async def refused(self, error: type[DomainError], call: Callable[[], Awaitable[object]]) -> str:
        """The message of a refusal that changed nothing."""
        before = await self.dump()
        with pytest.raises(error) as refused:
            await call()
        assert await self.dump() == before
        return refused.value.message()


async def open_desk(database: Database, transactions: Transactions, clock: ManualClock) -> Desk:
    """The door where this machine may be called, and calls are given up after a second."""
    await migrate(database, [OUTBOX, IDEMPOTENCY_KEYS, *COLLECTIONS])
    return Desk(database, transactions, clock, Caller(allow_local=True, timeout_s=1))
