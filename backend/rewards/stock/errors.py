"""Why units cannot be taken out of a pot."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class StockTakenError(Refusal):
    """Units cannot be withdrawn that are redeemed already."""

    asked: int
    free: int

    code = "STOCK_TAKEN"
    zh = "只剩 {free} 份未兑换，不能减少 {asked} 份"
    en = "{free} units are left, so {asked} cannot be taken away"
