"""Says in words how a voucher stands, and since when. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.errors import Text
from backend.rewards.vouchers.errors import WrongVoucherStatusError
from backend.rewards.vouchers.model import VoucherStatus

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.rewards.vouchers.model import Voucher

STANDINGS = {
    VoucherStatus.HELD: Text("尚未核销", "not handed over yet"),
    VoucherStatus.PART: Text("已部分核销", "handed over in part"),
    VoucherStatus.CAPTURED: Text("已核销", "handed over"),
    VoucherStatus.CANCELLED: Text("已取消", "cancelled"),
    VoucherStatus.EXPIRED: Text("已过期", "over"),
    VoucherStatus.REFUNDED: Text("已退款", "refunded"),
}


def wrong_status(voucher: Voucher, now: datetime, zone: ZoneInfo) -> WrongVoucherStatusError:
    """Why something cannot be done with a voucher that stands as it does now."""
    status = voucher.status_at(now)
    return WrongVoucherStatusError(status, STANDINGS[status], since(voucher, zone))


def since(voucher: Voucher, zone: ZoneInfo) -> Text:
    """When something was last captured or refunded, in local time; where nothing ever was, when it was redeemed."""
    moments = [capture.at for capture in voucher.captures] + [refund.at for refund in voucher.refunds]
    at = max(moments, default=voucher.created_at).astimezone(zone)
    if not moments:
        return Text(f"兑换于 {at:%Y-%m-%d %H:%M:%S}", f"redeemed {at:%Y-%m-%d %H:%M:%S}")
    return Text(f"{at:%Y-%m-%d %H:%M:%S}", f"since {at:%Y-%m-%d %H:%M:%S}")
