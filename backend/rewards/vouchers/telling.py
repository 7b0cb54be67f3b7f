"""Says in words since when a voucher stands as it does. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.errors import Text

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from backend.rewards.vouchers.model import Voucher


def since(voucher: Voucher, zone: ZoneInfo) -> Text:
    """When something last happened to the voucher, in local time; of what is over unused, when it ended."""
    moments = [capture.at for capture in voucher.captures] + [refund.at for refund in voucher.refunds]
    at = max(moments, default=voucher.expires_at).astimezone(zone)
    return Text(f"{at:%Y-%m-%d %H:%M:%S}", f"since {at:%Y-%m-%d %H:%M:%S}")
