"""Integer units of the core: what an amount counts, and the rounding every amount obeys.

All amounts are int64. Nothing here may touch a float: a float that reaches the core is a bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

INT64_MAX = 2**63 - 1
MG_PER_GRAM = 1_000


class Unit(StrEnum):
    """Base unit of an action's quantity; quantities are whole numbers of it."""

    METRE = "METRE"
    GRAM = "GRAM"
    WATT_HOUR = "WATT_HOUR"
    STEP = "STEP"
    COUNT = "COUNT"


@dataclass(frozen=True, slots=True)
class Ratio:
    """An exact non-negative factor ``numerator / denominator``; 33.88 mg/m is ``Ratio(3388, 100)``."""

    numerator: int
    denominator: int

    def __post_init__(self) -> None:
        """Refuse what would divide by zero or take away instead of give.

        Raises:
            ValueError: numerator negative or denominator not positive.
        """
        if self.numerator < 0 or self.denominator <= 0:
            message = f"a ratio needs numerator >= 0 and denominator > 0, not {self}"
            raise ValueError(message)

    def floor_times(self, quantity: int) -> int:
        """``floor(quantity × ratio)``: rounding never inflates what the issuer grants."""
        return quantity * self.numerator // self.denominator

    def __str__(self) -> str:
        """Show the ratio as written in the rule."""
        return f"{self.numerator}/{self.denominator}"


def as_int64(value: object, *, what: str) -> int:
    """Take ``value`` as an int64 amount or say which amount is not one.

    Raises:
        TypeError: not an integer (booleans and floats included).
        OverflowError: outside int64.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"{what} must be an integer, not {type(value).__name__}"
        raise TypeError(message)
    if not -INT64_MAX - 1 <= value <= INT64_MAX:
        message = f"{what} does not fit in 64 bits: {value}"
        raise OverflowError(message)
    return value
