"""Endpoints and deliveries as MongoDB keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.mongo.collections import COUNTER, MOMENT, TEXT, Collection, Index, list_of, nullable, one_of, record
from backend.rewards.webhooks.model import (
    Delivery,
    DeliveryId,
    DeliveryStage,
    DisabledReason,
    Endpoint,
    EndpointId,
    EndpointStage,
    EventType,
    Fault,
    PreviousSecret,
    Try,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backend.mongo.client import Document

# Two that would take the same slot at once: one insert wins, so a merchant never has more than there are slots.
ENDPOINTS = Collection(
    "webhook_endpoints",
    record(
        {
            "_id": TEXT,
            "merchant": TEXT,
            "slot": COUNTER,
            "url": TEXT,
            "types": list_of(one_of(*EventType)),
            "description": TEXT,
            "stage": one_of(*EndpointStage),
            "reason": nullable(one_of(*DisabledReason)),
            "sealed": TEXT,
            "previous": nullable(record({"sealed": TEXT, "ends_at": MOMENT})),
            "failing_since": nullable(MOMENT),
            "failed_at": nullable(MOMENT),
            "tested_at": nullable(MOMENT),
            "made_at": MOMENT,
        }
    ),
    (Index("merchant_slot", [("merchant", 1), ("slot", 1)], unique=True),),
)
# The _id derives from event and endpoint, so a repeated event makes no second delivery. ``lane`` is one of two while
# sending: its unique index lets no third delivery of an endpoint be under way, in whatever process.
DELIVERIES = Collection(
    "webhook_deliveries",
    record(
        {
            "_id": TEXT,
            "endpoint": TEXT,
            "merchant": TEXT,
            "event": TEXT,
            "type": one_of(*EventType),
            "body": TEXT,
            "at": MOMENT,
            "stage": one_of(*DeliveryStage),
            "due_at": nullable(MOMENT),
            "lane": nullable(COUNTER),
            "attempts": COUNTER,
            "tries": list_of(
                record(
                    {"at": MOMENT, "status": nullable(COUNTER), "fault": nullable(one_of(*Fault)), "took_ms": COUNTER}
                )
            ),
            "expires_at": nullable(MOMENT),
        }
    ),
    (
        Index("stage_due", [("stage", 1), ("due_at", 1), ("endpoint", 1), ("merchant", 1)]),
        Index("lane", [("endpoint", 1), ("lane", 1)], unique=True, partial={"stage": DeliveryStage.SENDING.value}),
        Index("merchant_at", [("merchant", 1), ("at", 1), ("_id", 1)]),
        Index("merchant_stage_at", [("merchant", 1), ("stage", 1), ("at", 1), ("_id", 1)]),
        Index("endpoint_stage_at", [("endpoint", 1), ("stage", 1), ("at", 1)]),
        Index("expires_at", [("expires_at", 1)], expire_after_s=0),
    ),
)
COLLECTIONS = (ENDPOINTS, DELIVERIES)


def endpoint_to_document(endpoint: Endpoint) -> Document:
    """The endpoint as stored."""
    previous = endpoint.previous
    return {
        "_id": endpoint.id,
        "merchant": endpoint.merchant,
        "slot": Int64(endpoint.slot),
        "url": endpoint.url,
        "types": sorted(kind.value for kind in endpoint.types),
        "description": endpoint.description,
        "stage": endpoint.stage.value,
        "reason": endpoint.reason.value if endpoint.reason else None,
        "sealed": endpoint.sealed,
        "previous": {"sealed": previous.sealed, "ends_at": previous.ends_at} if previous else None,
        "failing_since": endpoint.failing_since,
        "failed_at": endpoint.failed_at,
        "tested_at": endpoint.tested_at,
        "made_at": endpoint.made_at,
    }


def endpoint_from_document(document: Mapping[str, Any]) -> Endpoint:
    """The endpoint that was stored."""
    previous = document["previous"]
    return Endpoint(
        id=EndpointId(document["_id"]),
        merchant=document["merchant"],
        slot=int(document["slot"]),
        url=document["url"],
        types=frozenset(map(EventType, document["types"])),
        description=document["description"],
        stage=EndpointStage(document["stage"]),
        reason=DisabledReason(document["reason"]) if document["reason"] else None,
        sealed=document["sealed"],
        previous=PreviousSecret(previous["sealed"], previous["ends_at"]) if previous else None,
        failing_since=document["failing_since"],
        failed_at=document["failed_at"],
        tested_at=document["tested_at"],
        made_at=document["made_at"],
    )


def new_delivery_document(delivery: Delivery, expires_at: datetime | None = None) -> Document:
    """A delivery not sent yet, as stored."""
    return {
        "_id": delivery.id,
        "endpoint": delivery.endpoint,
        "merchant": delivery.merchant,
        "event": delivery.event,
        "type": delivery.type.value,
        "body": delivery.body,
        "at": delivery.at,
        "stage": delivery.stage.value,
        "due_at": delivery.due_at,
        "lane": None,
        "attempts": Int64(0),
        "tries": [try_to_document(entry) for entry in delivery.tries],
        "expires_at": expires_at,
    }


def delivery_from_document(document: Mapping[str, Any]) -> Delivery:
    """The delivery that was stored."""
    return Delivery(
        id=DeliveryId(document["_id"]),
        endpoint=EndpointId(document["endpoint"]),
        merchant=document["merchant"],
        event=document["event"],
        type=EventType(document["type"]),
        body=document["body"],
        at=document["at"],
        stage=DeliveryStage(document["stage"]),
        due_at=document["due_at"],
        attempts=int(document["attempts"]),
        tries=tuple(_try_from_document(entry) for entry in document["tries"]),
    )


def try_to_document(entry: Try) -> Document:
    """The try as stored."""
    return {
        "at": entry.at,
        "status": None if entry.status is None else Int64(entry.status),
        "fault": entry.fault.value if entry.fault else None,
        "took_ms": Int64(entry.took_ms),
    }


def _try_from_document(entry: Mapping[str, Any]) -> Try:
    status, fault = entry["status"], entry["fault"]
    return Try(entry["at"], None if status is None else int(status), Fault(fault) if fault else None, entry["took_ms"])
