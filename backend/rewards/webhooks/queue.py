"""Deliveries as their senders see them: what is due, who has it in hand, what came of it. Single-document updates."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bson import Int64
from pymongo import UpdateOne

from backend.mongo.client import DuplicateError
from backend.rewards.webhooks.documents import (
    DELIVERIES,
    ENDPOINTS,
    delivery_from_document,
    endpoint_from_document,
    try_to_document,
)
from backend.rewards.webhooks.model import DeliveryStage, EndpointId, EndpointStage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from backend.mongo.client import Database
    from backend.rewards.webhooks.model import Delivery, DisabledReason, Endpoint, Try

LANES = 2
"""How many deliveries of one endpoint are under way at once, at most."""
# Much longer than a try lasts: whoever still has it in hand then is gone.
CLAIMED_FOR = timedelta(seconds=60)
KEPT_TRIES = 10
LOST_AT_ONCE = 1_000
IN_HAND = 10_000


class DeliveryQueue:
    """The deliveries that are due."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def free_lost(self, now: datetime) -> None:
        """Make due again what a sender took in hand and never finished."""
        query = {"stage": DeliveryStage.SENDING.value, "due_at": {"$lte": now}}
        lost = await self._database.find(DELIVERIES.name, query, limit=LOST_AT_ONCE, fields=["_id", "due_at"])
        change = {"$set": {"stage": DeliveryStage.PENDING.value, "lane": None}}
        if lost:
            await self._database.bulk_write(
                DELIVERIES.name, [UpdateOne({**query, "_id": document["_id"]}, change) for document in lost]
            )

    async def list_in_hand(self) -> list[tuple[EndpointId, str]]:
        """Endpoint and merchant of each delivery that a sender has in hand, in whatever process."""
        query = {"stage": DeliveryStage.SENDING.value}
        found = await self._database.find(DELIVERIES.name, query, limit=IN_HAND, fields=["endpoint", "merchant"])
        return [(EndpointId(document["endpoint"]), document["merchant"]) for document in found]

    async def list_due(
        self, now: datetime, *, limit: int, not_to: Iterable[EndpointId] = (), not_of: Iterable[str] = ()
    ) -> list[Delivery]:
        """At most ``limit`` due deliveries, the longest due first, to other endpoints and merchants than these."""
        found = await self._database.find(
            DELIVERIES.name,
            {
                "stage": DeliveryStage.PENDING.value,
                "due_at": {"$lte": now},
                "endpoint": {"$nin": list(not_to)},
                "merchant": {"$nin": list(not_of)},
            },
            limit=limit,
            sort=[("due_at", 1)],
        )
        return [delivery_from_document(document) for document in found]

    async def claim(self, delivery: Delivery, now: datetime) -> Delivery | None:
        """Take a due delivery in hand; None where both lanes of its endpoint are taken, or somebody else has it."""
        for lane in range(LANES):
            try:
                found = await self._database.find_one_and_update(
                    DELIVERIES.name,
                    {"_id": delivery.id, "stage": DeliveryStage.PENDING.value, "due_at": delivery.due_at},
                    {
                        "$set": {
                            "stage": DeliveryStage.SENDING.value,
                            "due_at": now + CLAIMED_FOR,
                            "lane": Int64(lane),
                        },
                        "$inc": {"attempts": Int64(1)},
                    },
                )
            except DuplicateError:
                continue
            return delivery_from_document(found) if found else None
        return None

    async def finish(
        self,
        claimed: Delivery,
        tried: Try,
        *,
        stage: DeliveryStage,
        due_at: datetime | None,
        expires_at: datetime | None,
    ) -> None:
        """Note a try and what follows from it; nothing where the claim was lost meanwhile."""
        await self._database.update_one(
            DELIVERIES.name,
            {"_id": claimed.id, "stage": DeliveryStage.SENDING.value, "due_at": claimed.due_at},
            {
                "$set": {"stage": stage.value, "due_at": due_at, "lane": None, "expires_at": expires_at},
                "$push": {"tries": {"$each": [try_to_document(tried)], "$slice": -KEPT_TRIES}},
            },
        )

    async def find_endpoint(self, endpoint: EndpointId) -> Endpoint | None:
        """The endpoint as it stands."""
        found = await self._database.find_one(ENDPOINTS.name, {"_id": endpoint})
        return endpoint_from_document(found) if found else None

    async def note_success(self, endpoint: Endpoint) -> None:
        """End the endpoint's row of failures."""
        if endpoint.failing_since is not None:
            change = {"$set": {"failing_since": None, "failed_at": None}}
            await self._database.update_one(ENDPOINTS.name, {"_id": endpoint.id}, change)

    async def note_failure(self, endpoint: Endpoint, since: datetime, now: datetime) -> None:
        """Note a failure in the row that began at ``since``, unless a try beside it succeeded or noted more."""
        query = {"_id": endpoint.id, "failing_since": endpoint.failing_since, "failed_at": endpoint.failed_at}
        await self._database.update_one(ENDPOINTS.name, query, {"$set": {"failing_since": since, "failed_at": now}})

    async def disable(self, endpoint: Endpoint, reason: DisabledReason) -> bool:
        """Disable the endpoint, where it is still the same active one at the same address; whether it was."""
        return await self._database.update_one(
            ENDPOINTS.name,
            {"_id": endpoint.id, "url": endpoint.url, "stage": EndpointStage.ACTIVE.value},
            {"$set": {"stage": EndpointStage.DISABLED.value, "reason": reason.value}},
        )
