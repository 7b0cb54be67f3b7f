"""Says in words since when a voucher stands as it does. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.errors import Text

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from backend.rewards.vouchers.model import Voucher


def since(voucher: Voucher, zone: ZoneInfo) -> Text:
    """When something was last captured or refunded, in local time; where nothing ever was, when it was redeemed."""
    moments = [capture.at for capture in voucher.captures] + [refund.at for refund in voucher.refunds]
    at = max(moments, default=voucher.created_at).astimezone(zone)
    if not moments:
        return Text(f"兑换于 {at:%Y-%m-%d %H:%M:%S}", f"redeemed {at:%Y-%m-%d %H:%M:%S}")
    return Text(f"{at:%Y-%m-%d %H:%M:%S}", f"since {at:%Y-%m-%d %H:%M:%S}")
