"""How one programme pools, trades and returns: the part of its preset that is the market's."""

from __future__ import annotations

import itertools
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

HOUR = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


class Hours(BaseModel):
    """A span of a local day, ``HH:MM`` each."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    opens: str = Field(pattern=HOUR)
    closes: str = Field(pattern=HOUR)

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.opens >= self.closes:
            message = f"{self.opens} is not before {self.closes}"
            raise ValueError(message)
        return self


class MarketSettings(BaseModel):
    """How reductions are pooled and credits traded (Tanhui design, where nothing else is said).

    The tick of 0.01 yuan a tonne is that of allowances in the national market (Shanghai Environment and Energy
    Exchange); that a platform pools what lies below a yearly volume and citizens hold what lies above it follows
    武环规〔2023〕3号 (Wuhan Municipal Bureau of Ecology and Environment, 2023).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    aggregation_threshold_g: int = Field(default=500_000, ge=0)
    """Grams of one citizen and vintage that the programme pools; what lies above is issued to the citizen."""
    lot_g: int = Field(default=1_000, ge=1)
    """Orders are of a multiple of this; also the least a citizen may order."""
    enterprise_minimum_g: int = Field(default=1_000, ge=1)
    """The least an enterprise may order."""
    tick_fen: int = Field(default=1, ge=1)
    """Prices, in fen a tonne, are a multiple of this."""
    band_bps: int = Field(default=1_000, ge=1, le=10_000)
    """How far from the reference price an order's price may lie, in hundredths of a per cent."""
    maker_fee_bps: int = Field(default=0, ge=0, le=1_000)
    """Fee of the order that was there first, on its value; also of both sides of an auction."""
    taker_fee_bps: int = Field(default=50, ge=0, le=1_000)
    open_orders: int = Field(default=50, ge=1, le=150)
    """How many orders of one owner may be open at once."""
    order_days: int = Field(default=90, ge=1, le=366)
    """Local days after which an order ends that names no end of its own."""
    call: Hours | None = Hours(opens="09:15", closes="09:25")
    """When orders of the opening auction are collected on days of trade."""
    sessions: list[Hours] = [Hours(opens="09:30", closes="11:30"), Hours(opens="13:00", closes="15:00")]
    """When orders are matched continuously, in order."""
    weekdays: list[int] = [1, 2, 3, 4, 5]
    """Days of trade, Monday is 1."""
    points_per_yuan: int = Field(default=1_250, ge=1, le=10_000)
    """Points for a yuan of proceeds, for contributors who chose points (数字人民币碳普惠, Shanghai, 2026: 1,250)."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        spans = [*([self.call] if self.call else []), *self.sessions]
        if any(before.closes > after.opens for before, after in itertools.pairwise(spans)):
            message = "the hours of the market overlap"
            raise ValueError(message)
        if not set(self.weekdays) <= set(range(1, 8)):
            message = "weekdays are numbered from 1 to 7"
            raise ValueError(message)
        return self
