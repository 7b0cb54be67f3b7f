"""Endpoints and deliveries as their owners see and change them; what senders do to deliveries stands in ``queue``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo import DeleteOne, UpdateOne

from backend.mongo.idempotency import KeyedWrites
from backend.mongo.paging import page_by_moment
from backend.rewards.webhooks.documents import (
    DELIVERIES,
    ENDPOINTS,
    delivery_from_document,
    endpoint_from_document,
    endpoint_to_document,
    new_delivery_document,
)
from backend.rewards.webhooks.errors import UnknownDeliveryError, UnknownEndpointError
from backend.rewards.webhooks.model import DeliveryId, DeliveryStage
from backend.rewards.webhooks.rules import MAX_ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from backend.mongo.client import Database
    from backend.rewards.webhooks.model import Delivery, Endpoint, EndpointId

    Place = tuple[datetime, str]


class WebhookWrites(KeyedWrites):
    """Endpoints and deliveries inside one MongoDB transaction."""

    async def used_slots(self, merchant: str) -> set[int]:
        """The slots of the merchant's endpoints, of which there are few."""
        found = await self._tx.find(ENDPOINTS.name, {"merchant": merchant}, ["slot"])
        return {int(document["slot"]) for document in found}

    async def get_endpoint(self, merchant: str, endpoint: EndpointId) -> Endpoint:
        """The merchant's endpoint.

        Raises:
            UnknownEndpointError: it has no such.
        """
        found = await self._tx.find_one(ENDPOINTS.name, {"_id": endpoint, "merchant": merchant})
        if found is None:
            raise UnknownEndpointError(endpoint)
        return endpoint_from_document(found)

    async def insert_endpoint(self, endpoint: Endpoint) -> None:
        """Store a new endpoint in its slot."""
        await self._tx.insert_many(ENDPOINTS.name, [endpoint_to_document(endpoint)])

    async def save_endpoint(self, endpoint: Endpoint) -> None:
        """Put the endpoint in the place of what it was."""
        document = endpoint_to_document(endpoint)
        await self._tx.update_one(ENDPOINTS.name, {"_id": document.pop("_id")}, {"$set": document})

    async def delete_endpoint(self, endpoint: EndpointId) -> None:
        """Forget the endpoint; what was on its way to it dies when it is due."""
        await self._tx.bulk_write(ENDPOINTS.name, [DeleteOne({"_id": endpoint})])

    async def get_delivery(self, merchant: str, delivery: DeliveryId) -> Delivery:
        """The merchant's delivery.

        Raises:
            UnknownDeliveryError: it has no such.
        """
        found = await self._tx.find_one(DELIVERIES.name, {"_id": delivery, "merchant": merchant})
        if found is None:
            raise UnknownDeliveryError(delivery)
        return delivery_from_document(found)

    async def insert_delivery(self, delivery: Delivery) -> None:
        """Store a delivery to be sent."""
        await self._tx.insert_many(DELIVERIES.name, [new_delivery_document(delivery)])

    async def still_dead(self, deliveries: Sequence[DeliveryId]) -> list[DeliveryId]:
        """Those of the deliveries that are dead."""
        query = {"_id": {"$in": list(deliveries)}, "stage": DeliveryStage.DEAD.value}
        return [DeliveryId(document["_id"]) for document in await self._tx.find(DELIVERIES.name, query, ["_id"])]

    async def restart(self, deliveries: Iterable[DeliveryId], now: datetime) -> None:
        """Begin the tries of deliveries, none of which is being sent, from the first."""
        change = {
            "$set": {
                "stage": DeliveryStage.PENDING.value,
                "due_at": now,
                "attempts": Int64(0),
                "expires_at": None,
            }
        }
        sending = DeliveryStage.SENDING.value
        await self._tx.bulk_write(
            DELIVERIES.name,
            [UpdateOne({"_id": delivery, "stage": {"$ne": sending}}, change) for delivery in deliveries],
        )


class WebhookStore:
    """Endpoints and deliveries as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_endpoints(self, merchant: str) -> list[Endpoint]:
        """The merchant's endpoints, the oldest first."""
        found = await self._database.find(
            ENDPOINTS.name, {"merchant": merchant}, limit=MAX_ENDPOINTS, sort=[("made_at", 1), ("_id", 1)]
        )
        return [endpoint_from_document(document) for document in found]

    async def find_endpoint(self, endpoint: EndpointId) -> Endpoint | None:
        """The endpoint, whosesoever."""
        found = await self._database.find_one(ENDPOINTS.name, {"_id": endpoint})
        return endpoint_from_document(found) if found else None

    async def list_of(self, merchants: Sequence[str]) -> list[Endpoint]:
        """The endpoints of these merchants."""
        query = {"merchant": {"$in": list(merchants)}}
        found = await self._database.find(ENDPOINTS.name, query, limit=MAX_ENDPOINTS * len(merchants) or 1)
        return [endpoint_from_document(document) for document in found]

    async def insert_new(self, deliveries: Sequence[Delivery], *, dead_until: datetime) -> None:
        """Store those of the deliveries that are not there yet; those that are dead until that moment."""
        documents = [
            new_delivery_document(delivery, dead_until if delivery.stage is DeliveryStage.DEAD else None)
            for delivery in deliveries
        ]
        await self._database.insert_many(DELIVERIES.name, documents)

    async def find_delivery(self, merchant: str, delivery: DeliveryId) -> Delivery | None:
        """The merchant's delivery."""
        found = await self._database.find_one(DELIVERIES.name, {"_id": delivery, "merchant": merchant})
        return delivery_from_document(found) if found else None

    async def list_dead(self, endpoint: EndpointId, since: datetime, *, limit: int) -> list[DeliveryId]:
        """The endpoint's dead deliveries from that moment on, the oldest first."""
        found = await self._database.find(
            DELIVERIES.name,
            {"endpoint": endpoint, "stage": DeliveryStage.DEAD.value, "at": {"$gte": since}},
            limit=limit,
            sort=[("at", 1)],
            fields=["_id"],
        )
        return [DeliveryId(document["_id"]) for document in found]

    async def list_deliveries(
        self,
        merchant: str,
        *,
        endpoint: EndpointId | None,
        stage: DeliveryStage | None,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Delivery]:
        """At most ``limit`` of the merchant's deliveries between two (at, id) places, newest first, from either end."""
        query: dict[str, Any] = {"merchant": merchant}
        if endpoint is not None:
            query["endpoint"] = endpoint
        if stage is not None:
            query["stage"] = stage.value
        documents = await page_by_moment(
            self._database,
            DELIVERIES.name,
            query,
            moment="at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [delivery_from_document(document) for document in documents]
