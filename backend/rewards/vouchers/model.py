"""Vouchers, what happened to them, and what was promised when they were made, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from datetime import date, datetime

    from backend.kernel.errors import Text
    from backend.kernel.ids import CitizenId, TransactionId
    from backend.kernel.units import Ratio
    from backend.rewards.merchants.model import MerchantId, ShopId
    from backend.rewards.offers.model import Bearer, OfferId, OfferKind

VoucherId = NewType("VoucherId", str)


class VoucherStatus(StrEnum):
    """Where a voucher stands. HELD and PART have points reserved; all others have none."""

    HELD = "HELD"
    PART = "PART"
    CAPTURED = "CAPTURED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REFUNDED = "REFUNDED"


OPEN = frozenset({VoucherStatus.HELD, VoucherStatus.PART})


class DisputeStage(StrEnum):
    """What became of a citizen's complaint about a capture."""

    OPEN = "OPEN"
    UPHELD = "UPHELD"
    DISMISSED = "DISMISSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the citizen and the merchant may count on, as it stood when the voucher was made.

    ``rate`` is fen a point: what the programme pays goes by it and ``commission_bps``, whatever a later contract says.
    """

    kind: OfferKind
    title: Text
    handover: Text
    cash_fen: int
    refund_days: int
    bearer: Bearer
    rate: Ratio
    commission_bps: int
    shops: tuple[ShopId, ...]
    offer_revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """``items`` handed over at a shop by a member, for ``points`` worth ``fen`` to the merchant."""

    transaction: TransactionId
    at: datetime
    items: int
    points: int
    fen: int
    shop: ShopId | None
    member: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """``points`` of one capture (``of``) given back, ``fen`` less to the merchant; by whom and why."""

    transaction: TransactionId
    of: TransactionId
    at: datetime
    points: int
    fen: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A citizen's complaint about what was captured, and what staff decided on it."""

    stage: DisputeStage
    opened_at: datetime
    reason: str
    decided_at: datetime | None
    decided_by: str | None
    answer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PotUse:
    """Units that the voucher took from a pot, and returns if it ends without capture."""

    pot: str
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """One redemption of ``units`` of an offer: ``points`` for ``items`` parts. ``version`` counts its changes.

    ``day`` is the local day of redemption, by which limits count it. ``last_step`` is the step of the last code used.
    ``hold`` names the transaction that reserved the points, or moved them where the redemption itself captured.
    """

    id: VoucherId
    citizen: CitizenId
    offer: OfferId
    merchant: MerchantId
    promise: Promise
    number: str
    units: int
    items: int
    points: int
    hold: TransactionId
    status: VoucherStatus
    created_at: datetime
    day: date
    expires_at: datetime
    captures: tuple[Capture, ...]
    refunds: tuple[Refund, ...]
    dispute: Dispute | None
    pots: tuple[PotUse, ...]
    last_step: int
    payload: str
    version: int

    @property
    def items_captured(self) -> int:
        """How many items were handed over."""
        return sum(capture.items for capture in self.captures)

    @property
    def points_captured(self) -> int:
        """How many points were captured, refunded ones included."""
        return sum(capture.points for capture in self.captures)

    @property
    def points_refunded(self) -> int:
        """How many of the captured points were given back."""
        return sum(refund.points for refund in self.refunds)

    def has_lapsed(self, moment: datetime) -> bool:
        """Whether items were left when its time was over, whatever has noted so."""
        is_unfinished = self.items_captured < self.items and self.status is not VoucherStatus.CANCELLED
        return is_unfinished and self.expires_at <= moment

    def status_at(self, moment: datetime) -> VoucherStatus:
        """Its status, over from its end on even before anything has noted so."""
        is_over = self.status in OPEN and self.expires_at <= moment
        return self.ended(VoucherStatus.EXPIRED) if is_over else self.status

    def ended(self, unused: VoucherStatus) -> VoucherStatus:
        """Its status when nothing is held any more: ``unused``, or what became of the items handed over."""
        if self.status is VoucherStatus.HELD:
            return unused
        is_refunded = self.points_refunded == self.points_captured
        return VoucherStatus.REFUNDED if is_refunded else VoucherStatus.CAPTURED
