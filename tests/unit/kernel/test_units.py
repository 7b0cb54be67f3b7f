"""Integer amounts: ratios floor, int64 is the limit, nothing that is not a whole number passes."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.units import INT64_MAX, Ratio, as_int64

if TYPE_CHECKING:
    from collections.abc import Callable


@given(numerator=st.integers(0, 10**12), denominator=st.integers(1, 10**9), quantity=st.integers(0, 10**12))
def test_a_ratio_gives_the_floor_of_the_exact_product(numerator: int, denominator: int, quantity: int) -> None:
    exact = Fraction(numerator, denominator) * quantity
    assert Ratio(numerator, denominator).floor_times(quantity) == floor(exact)


@pytest.mark.parametrize(("numerator", "denominator"), [(-1, 1), (1, 0), (1, -2)])
def test_a_ratio_that_would_take_away_or_divide_by_zero_is_refused(numerator: int, denominator: int) -> None:
    with pytest.raises(ValueError, match="a ratio needs numerator >= 0 and denominator > 0"):
        Ratio(numerator, denominator)


def test_a_ratio_shows_as_written() -> None:
    assert str(Ratio(3388, 100)) == "3388/100"


@pytest.mark.parametrize("value", [0, 1, -1, INT64_MAX, -INT64_MAX - 1])
def test_whole_numbers_of_64_bits_pass(value: int) -> None:
    assert as_int64(value, what="amount") == value


@pytest.mark.parametrize("value", [INT64_MAX + 1, -INT64_MAX - 2, 10**30])
def test_larger_numbers_do_not(value: int) -> None:
    with pytest.raises(OverflowError, match="amount does not fit in 64 bits"):
        as_int64(value, what="amount")


@pytest.mark.parametrize("make", [lambda: 1.0, lambda: True, lambda: "1", lambda: None, lambda: Fraction(2)])
def test_what_is_not_an_integer_does_not(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="amount must be an integer, not"):
        as_int64(make(), what="amount")
