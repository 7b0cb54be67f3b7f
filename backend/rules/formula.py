"""How a rule turns a quantity into grams: families of formulas as data. Pure, integers and exact ratios only.

Every family comes down to one ratio in milligrams CO2e per base unit and one quantity: a conversion rounds once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import gcd
from typing import TYPE_CHECKING

from backend.kernel.units import Ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

OCCUPANTS = "occupants"
HISTORY = "history_wh"
MAX_OCCUPANTS = 9
WEEK = 7
MAX_DIGITS = 10


class BaselineMethod(StrEnum):
    """What a household's consumption is compared with."""

    # the mean of the seven days before the first day of the interval
    MOVING_AVERAGE = "MOVING_AVERAGE"
    # the same month of the year before
    SAME_MONTH_LAST_YEAR = "SAME_MONTH_LAST_YEAR"


@dataclass(frozen=True, slots=True)
class Term:
    """A named part of a baseline or of a project's emissions, in milligrams CO2e per base unit."""

    name_zh: str
    name_en: str
    rate: Ratio


@dataclass(frozen=True, slots=True)
class PerQuantity:
    """A net factor, ready to multiply: milligrams CO2e per base unit (per item where the unit is COUNT)."""

    rate: Ratio


@dataclass(frozen=True, slots=True)
class BaselineMinusProject:
    """What would have been emitted less what was: ER = BE - PE, term by term (GB/T 33760-2017)."""

    baseline: tuple[Term, ...]
    project: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Carpool:
    """A shared car ride: ER = distance x rate x (1 - 1/n) x (1 - detour), n occupants (T/CCAA 38-2021)."""

    rate: Ratio
    detour: Ratio


@dataclass(frozen=True, slots=True)
class OwnBaseline:
    """Electricity saved against the household's own past; of the baseline at most ``most`` counts as saved."""

    rate: Ratio
    method: BaselineMethod
    most: Ratio


@dataclass(frozen=True, slots=True)
class FullPeriods:
    """So many milligrams for each full period of the act's duration; what is begun does not count."""

    rate: Ratio
    period_s: int


Formula = PerQuantity | BaselineMinusProject | Carpool | OwnBaseline | FullPeriods


@dataclass(frozen=True, slots=True)
class Measured:
    """What a formula makes of an act: milligrams CO2e per base unit, and the base units that count."""

    rate: Ratio
    quantity: int


class UnmeasurableError(ValueError):
    """The act lacks, or contradicts, what its formula needs; ``attribute`` names it."""

    def __init__(self, attribute: str) -> None:
        super().__init__(attribute)
        self.attribute = attribute


def usual_rate(formula: Formula) -> Ratio:
    """Milligrams CO2e per base unit, at most: the rate that bounds and comparisons go by."""
    if isinstance(formula, BaselineMinusProject):
        return less(total(formula.baseline), total(formula.project))
    return formula.rate


def measure(formula: Formula, quantity: int, attributes: Mapping[str, str], duration_s: int | None) -> Measured:
    """The rate and the quantity that count for one act.

    Raises:
        UnmeasurableError: an attribute or the duration that the formula needs is missing or makes no sense.
    """
    rate = usual_rate(formula)
    if isinstance(formula, Carpool):
        occupants = _whole(attributes, OCCUPANTS, least=2, most=MAX_OCCUPANTS)
        shared = Ratio(occupants - 1, occupants)
        return Measured(times(times(rate, shared), less(Ratio(1, 1), formula.detour)), quantity)
    if isinstance(formula, OwnBaseline):
        baseline = own_baseline(formula.method, attributes)
        saved = max(0, baseline - quantity)
        return Measured(rate, min(saved, formula.most.floor_times(baseline)))
    if isinstance(formula, FullPeriods):
        if duration_s is None or duration_s < 0:
            raise UnmeasurableError("endedAt")
        return Measured(rate, min(quantity, duration_s // formula.period_s))
    return Measured(rate, quantity)


def total(terms: tuple[Term, ...]) -> Ratio:
    """The terms together."""
    result = Ratio(0, 1)
    for term in terms:
        result = _lowest(
            result.numerator * term.rate.denominator + term.rate.numerator * result.denominator,
            result.denominator * term.rate.denominator,
        )
    return result


def times(first: Ratio, second: Ratio) -> Ratio:
    """The exact product, in lowest terms."""
    return _lowest(first.numerator * second.numerator, first.denominator * second.denominator)


def less(first: Ratio, second: Ratio) -> Ratio:
    """The exact difference.

    Raises:
        ValueError: it would be negative: a project that emits more than its baseline reduces nothing.
    """
    return _lowest(
        first.numerator * second.denominator - second.numerator * first.denominator,
        first.denominator * second.denominator,
    )


def _lowest(numerator: int, denominator: int) -> Ratio:
    shared = gcd(numerator, denominator)
    return Ratio(numerator // shared, denominator // shared)


def own_baseline(method: BaselineMethod, attributes: Mapping[str, str]) -> int:
    """Watt-hours the household would have used, rounded down, from the consumption that its meter's operator tells.

    Raises:
        UnmeasurableError: the history is missing or makes no sense.
    """
    texts = attributes.get(HISTORY, "").split(",")
    if len(texts) != (WEEK if method is BaselineMethod.MOVING_AVERAGE else 1):
        raise UnmeasurableError(HISTORY)
    values = [_whole({HISTORY: text.strip()}, HISTORY, least=0, most=10**9) for text in texts]
    return sum(values) // len(values)


def _whole(attributes: Mapping[str, str], name: str, *, least: int, most: int) -> int:
    text = attributes.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and least <= int(text) <= most):
        raise UnmeasurableError(name)
    return int(text)
