"""What a voucher costs, is worth and returns, and until when: pure, integers only.

Rounding telescopes: shares and values are floors of what has been captured so far, and each capture or refund gets the
difference, so that parts always sum to the whole and a refund undoes exactly what its captures did.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from backend.kernel.clock import local_date
from backend.rewards.offers.model import Bearer, OfferKind

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from backend.kernel.ids import TransactionId
    from backend.rewards.offers.model import OfferTerms
    from backend.rewards.vouchers.model import Promise, Voucher


def share(voucher: Voucher, items: int) -> int:
    """The points of the next ``items`` items to be captured; the last item gets what rounding left."""
    before = voucher.items_captured
    return voucher.points * (before + items) // voucher.items - voucher.points * before // voucher.items


def value_fen(promise: Promise, points: int) -> int:
    """What the programme pays a merchant, before commission, for ``points`` captured and not refunded."""
    is_free = promise.bearer is Bearer.MERCHANT or promise.kind is OfferKind.DONATION
    return 0 if is_free else promise.rate.floor_times(points)


def fen_of_capture(voucher: Voucher, points: int) -> int:
    """Fen that capturing ``points`` more adds to what the merchant is owed."""
    net = voucher.points_captured - voucher.points_refunded
    return value_fen(voucher.promise, net + points) - value_fen(voucher.promise, net)


def fen_of_refund(voucher: Voucher, points: int, *, before: int = 0) -> int:
    """Fen that refunding ``points`` takes from it, ``before`` points having been refunded by the same request."""
    net = voucher.points_captured - voucher.points_refunded - before
    return value_fen(voucher.promise, net) - value_fen(voucher.promise, net - points)


def refundable(voucher: Voucher) -> list[tuple[TransactionId, int]]:
    """Captures with points left to refund, the last first: transaction and points."""
    left = {capture.transaction: capture.points for capture in voucher.captures}
    for refund in voucher.refunds:
        left[refund.of] -= refund.points
    return [(transaction, points) for transaction, points in reversed(left.items()) if points]


def ends_at(terms: OfferTerms, now: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which a voucher made now no longer counts: the end of a local day, or a fixed end."""
    end = local_date(now, zone) + timedelta(days=terms.voucher_days + 1)
    midnight = datetime.combine(end, time(), zone).astimezone(UTC)
    return midnight if terms.vouchers_until is None else min(midnight, terms.vouchers_until)
