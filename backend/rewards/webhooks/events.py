"""What happened at a merchant that its own systems want to know, and how it gets into the outbox.

A producer makes ``event_item`` before its transaction, writes it within (``write_item``), and sends it after the commit
(``Relay.send``); ``webhooks`` makes deliveries of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from backend.outbox.relay import new_item
from backend.rewards.webhooks.model import Event, EventType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backend.outbox.relay import Item

__all__ = ["WEBHOOK_TOPIC", "Event", "EventType", "event_item", "from_payload", "to_payload"]
WEBHOOK_TOPIC = "webhooks"


def event_item(events: Sequence[Event], now: datetime) -> Item:
    """The outbox item that tells of these events; made before the transaction that writes it."""
    return new_item(WEBHOOK_TOPIC, [to_payload(event) for event in events], now)


def to_payload(event: Event) -> dict[str, Any]:
    """The event as the outbox keeps it."""
    return {
        "id": event.id,
        "type": event.type.value,
        "merchant": event.merchant,
        "at": event.at.isoformat(),
        "data": dict(event.data),
    }


def from_payload(payload: Mapping[str, Any]) -> Event:
    """The event that ``to_payload`` was given."""
    at = datetime.fromisoformat(payload["at"])
    return Event(payload["id"], EventType(payload["type"]), payload["merchant"], at, dict(payload["data"]))
