"""Events, endpoints, deliveries and tries as immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

EndpointId = NewType("EndpointId", str)
DeliveryId = NewType("DeliveryId", str)


class EventType(StrEnum):
    """What can happen; names as merchants' systems see them."""

    VOUCHER_CAPTURED = "voucher.captured"
    VOUCHER_REFUNDED = "voucher.refunded"
    SETTLEMENT_READY = "settlement.ready"
    WEBHOOK_TEST = "webhook.test"
    """Nothing happened: the merchant tries whether its system hears."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened at a merchant. ``id`` derives from its cause, so that a repetition is the same event."""

    id: str
    type: EventType
    merchant: str
    at: datetime
    data: Mapping[str, str | int]

    def __post_init__(self) -> None:
        if "." in self.id:
            raise ValueError("a dot would make what is signed ambiguous")


class EndpointStage(StrEnum):
    """Whether an endpoint is called."""

    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


class DisabledReason(StrEnum):
    """Who or what disabled an endpoint: its owner, its own answer 410 Gone, or five days of failures."""

    OWNER = "OWNER"
    GONE = "GONE"
    FAILING = "FAILING"


@dataclass(frozen=True, slots=True)
class EndpointDraft:
    """What an owner says of an endpoint."""

    url: str
    types: frozenset[EventType]
    description: str = ""
    stage: EndpointStage = EndpointStage.ACTIVE


@dataclass(frozen=True, slots=True)
class PreviousSecret:
    """A secret (encrypted) that calls are still signed with until that moment."""

    sealed: str
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a merchant is called; ``slot`` is its place among the merchant's, ``sealed`` its secret, encrypted.

    ``failing_since`` is when the present row of failures began, ``failed_at`` the last of them; None after a success.
    ``tested_at`` is when the last test event was made.
    """

    id: EndpointId
    merchant: str
    slot: int
    url: str
    types: frozenset[EventType]
    description: str
    stage: EndpointStage
    reason: DisabledReason | None
    sealed: str
    previous: PreviousSecret | None
    failing_since: datetime | None
    failed_at: datetime | None
    tested_at: datetime | None
    made_at: datetime


@dataclass(frozen=True, slots=True)
class ShownEndpoint:
    """An endpoint with its secret in clear (``whsec_…``), told when it is made."""

    endpoint: Endpoint
    secret: str


class DeliveryStage(StrEnum):
    """``SENDING``: a worker has it in hand."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"


class Fault(StrEnum):
    """Why a try brought no answer."""

    TIMEOUT = "TIMEOUT"
    CONNECTION_FAILED = "CONNECTION_FAILED"
    NAME_NOT_FOUND = "NAME_NOT_FOUND"
    ADDRESS_NOT_PUBLIC = "ADDRESS_NOT_PUBLIC"
    URL_REFUSED = "URL_REFUSED"
    ENDPOINT_DELETED = "ENDPOINT_DELETED"
    ENDPOINT_DISABLED = "ENDPOINT_DISABLED"
    INTERNAL = "INTERNAL"
    """The fault is this side's."""


@dataclass(frozen=True, slots=True)
class Try:
    """One try to deliver: the HTTP status answered, or why there was none; how long it took in milliseconds."""

    at: datetime
    status: int | None
    fault: Fault | None
    took_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one endpoint; ``attempts`` since it was made or replayed, ``tries`` the last ten ever."""

    id: DeliveryId
    endpoint: EndpointId
    merchant: str
    event: str
    type: EventType
    body: str
    at: datetime
    stage: DeliveryStage
    due_at: datetime | None
    attempts: int
    tries: tuple[Try, ...]
