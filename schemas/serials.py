"""Serials of credits as clients see them."""

from __future__ import annotations

from backend.market.serials.model import SerialRange
from schemas.scalars import BigInt
from schemas.view import view


@view(of=SerialRange, name="SerialRange")
class SerialRangeType:
    """Serials from first to last, both included, one gram each."""

    first: BigInt
    last: BigInt
