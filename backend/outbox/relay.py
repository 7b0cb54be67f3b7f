"""The outbox collection and the relay that empties it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from bson import Int64

from backend.kernel.ids import new_id
from backend.mongo.collections import COUNTER, MOMENT, TEXT, Collection, Index, record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.mongo.client import Database
    from backend.mongo.transactions import Tx

LOG = structlog.get_logger(__name__)
OUTBOX = Collection(
    "outbox",
    record(
        {"_id": TEXT, "topic": TEXT, "payload": {"bsonType": "array"}, "due_at": MOMENT, "attempts": COUNTER},
    ),
    (Index("due_at", [("due_at", 1)]),),
)
GRACE = timedelta(seconds=5)
RETRY_AFTER = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of work: ``payload`` is a list of small JSON objects."""

    id: str
    topic: str
    payload: Sequence[Mapping[str, Any]]


def new_item(topic: str, payload: Sequence[Mapping[str, Any]], now: datetime) -> Item:
    """An item to be written with its cause; made before the transaction, so a rerun writes the same one."""
    return Item(new_id("out", now), topic, payload)


async def write_item(tx: Tx, item: Item, now: datetime) -> None:
    """Commit the item with its cause; the relay leaves it alone for a few seconds, for its writer sends it at once."""
    document = {"_id": item.id, "topic": item.topic, "payload": list(item.payload), "due_at": now + GRACE}
    await tx.insert_many(OUTBOX.name, [{**document, "attempts": Int64(0)}])


class Relay:
    """Delivers items to their topic's handler."""

    def __init__(
        self, database: Database, clock: Clock, handlers: Mapping[str, Callable[[Item], Awaitable[None]]]
    ) -> None:
        self._database = database
        self._clock = clock
        self._handlers = handlers

    async def send(self, item: Item) -> None:
        """Deliver one item and remove it; on an error it stays for the next drain."""
        try:
            await self._handlers[item.topic](item)
        except Exception:  # whatever a handler meets, the item must outlive it
            LOG.exception("outbox item not delivered", item=item.id, topic=item.topic)
            return
        await self._database.delete_one(OUTBOX.name, {"_id": item.id})

    async def drain(self, *, limit: int = 1_000) -> int:
        """Deliver what is due, at most ``limit`` items; returns how many were tried."""
        for tried in range(limit):
            now = self._clock.now()
            # Pushing due_at forward claims the item: a second relay does not see it meanwhile.
            document = await self._database.find_one_and_update(
                OUTBOX.name,
                {"due_at": {"$lte": now}},
                {"$set": {"due_at": now + RETRY_AFTER}, "$inc": {"attempts": Int64(1)}},
                sort=[("due_at", 1)],
            )
            if document is None:
                return tried
            await self.send(Item(document["_id"], document["topic"], document["payload"]))
        return limit
