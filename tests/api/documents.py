"""Documents that the API's tests send, and inputs with sensible defaults for them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from backend.kernel.clock import SystemClock
from backend.kernel.ids import derived_id
from schemas.limits import MAX_DEPTH
from schemas.operations import read_operation

CHINA = timezone(timedelta(hours=8))
RECORD = read_operation("RecordAction")
RECORD_MANY = read_operation("RecordActions")
HOME = read_operation("Home")
# How much deeper the programme's code may stand: document, operation, programme and code are levels too.
ROOM = MAX_DEPTH - 3
RECORD_DETAILS = """
mutation ($input: RecordActionInput!) {
  recordAction(input: $input) {
    ... on Action {
      id kind status quantity unit occurredAt endedAt recordedAt source ref reductionMg points evidenceTier settledAt
      creditedQuantity rule { code version } reasonCode reason transactionId
    }
    ... on Refusal { code message }
  }
}
"""


def written(moment: datetime) -> str:
    """The moment as a phone in China writes it, to the millisecond."""
    return moment.astimezone(CHINA).isoformat(timespec="milliseconds")


def shown(moment: datetime) -> str:
    """The moment as the API shows it: UTC, milliseconds, Z."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def item(ref: str = "ride-1", **changes: Any) -> dict[str, Any]:
    """A bus ride an hour ago from the citizen's own app, as one of several."""
    given: dict[str, Any] = {
        "kind": "bus_ride",
        "quantity": 1,
        "unit": "COUNT",
        "occurredAt": written(SystemClock().now() - timedelta(hours=1)),
        "source": "app",
        "ref": ref,
    }
    return {**given, **changes}


def ride(ref: str = "ride-1", **changes: Any) -> dict[str, Any]:
    """The variables that record one such ride, under a key of its own."""
    return {"input": {"idempotencyKey": f"key-{derived_id('of', str(ref))}", **item(ref, **changes)}}


def batch(*items: dict[str, Any], key: str = "batch-0001") -> dict[str, Any]:
    """The variables that record these together."""
    return {"input": {"idempotencyKey": key, "actions": list(items)}}


def nested(levels: int) -> str:
    """The programme's code within so many fragments."""
    return f"{{ {'... { ' * levels} programme {{ code }} {'} ' * levels} }}"


def wide(lists: int) -> str:
    """So many lists of a hundred actions."""
    asked = " ".join(f"a{number}: actions(first: 100) {{ nodes {{ ref }} }}" for number in range(lists))
    return f"{{ viewer {{ ... on Citizen {{ {asked} }} }} }}"
