"""What an act earned, line by line in words a citizen understands. Pure; shows stored figures and how they came about.

The lines come from the steps of the conversion, run again. What was left of limits, budgets and the day's totals is not
known any more: where the stored figures are below what the steps give, a line says by how much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backend.kernel.errors import Text
from backend.kernel.units import MG_PER_GRAM, Unit
from backend.ledger.model import RECOGNISED
from backend.rules.basis import holds, multiply, weigh
from backend.rules.campaigns import points_of
from backend.rules.conversion import NOTHING_MORE
from backend.rules.expressions import uses_today
from backend.rules.formula import (
    OCCUPANTS,
    BaselineMethod,
    BaselineMinusProject,
    Carpool,
    FullPeriods,
    OwnBaseline,
    own_baseline,
)
from backend.rules.model import HALF, PERCENT, UNTOLD, UNUSED, WHOLE, Audience, EvidenceTier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.kernel.units import Ratio
    from backend.rules.basis import Basis
    from backend.rules.conversion import Award, Terms
    from backend.rules.formula import Formula
    from backend.rules.model import ActFacts, Kind, Methodology, RuleVersion

HOUR_S = 3_600
MOST_DECIMALS = 6

# The unit in which people count, how many base units it has, and its names.
_SHOWN: dict[Unit, tuple[int, Text]] = {
    Unit.METRE: (1_000, Text("公里", "km")),
    Unit.GRAM: (1_000, Text("公斤", "kg")),
    Unit.WATT_HOUR: (1_000, Text("度", "kWh")),
    Unit.STEP: (1, Text("步", "steps")),
    Unit.COUNT: (1, Text("次", "times")),
}
_EACH = {Unit.STEP: Text("步", "step"), Unit.COUNT: Text("次", "time")}
_METHODS = {
    BaselineMethod.MOVING_AVERAGE: Text("前七天的日均值", "the average of the seven days before"),
    BaselineMethod.SAME_MONTH_LAST_YEAR: Text("去年同月", "the same month last year"),
}
_TIERS = {
    EvidenceTier.DECLARED: Text("自行申报", "Self-declared"),
    EvidenceTier.DEVICE: Text("由本人设备记录", "Recorded by your own device"),
    EvidenceTier.OPERATOR: Text("由运营方记录", "Recorded by the operator"),
}
_LIMITED = Text("因限额少计 {}，计入 {}", "Limits take {} off and leave {}")


class Earned(Protocol):
    """What an act was credited with, as converted or as stored."""

    @property
    def credited_quantity(self) -> int:
        """Base units."""

    @property
    def reduction_mg(self) -> int:
        """Milligrams CO2e."""

    @property
    def points(self) -> int:
        """All points, those of the awards included."""

    @property
    def awards(self) -> tuple[Award, ...]:
        """What each campaign that counted the act gave."""


def explain(
    act: ActFacts, kind: Kind, version: RuleVersion, earned: Earned, terms: Terms = NOTHING_MORE
) -> tuple[Text, ...]:
    """How a credited act came to what it ``earned`` by the version and terms that settled it.

    Raises:
        ValueError: it cannot have earned that much by them.
    """
    basis = weigh(act, version)
    return (
        *_quantity_lines(act, kind, version, basis, earned),
        *_factor_lines(act, kind, version, basis),
        *_reduction_lines(kind, basis, earned),
        *_point_lines(act, version, earned, terms),
        _both("合计：减排 {}，积分 {}", "Together: {} and {}", _grams(earned.reduction_mg), _points(earned.points)),
    )


def _quantity_lines(act: ActFacts, kind: Kind, version: RuleVersion, basis: Basis, earned: Earned) -> Iterator[Text]:
    name = Text(kind.name_zh, kind.name_en)
    yield _both("记录：{}，{}", "Recorded: {}, {}", name, _amount(act.quantity, kind.unit))
    yield from _measured_lines(act, kind, version.formula, basis)
    if basis.quantity < basis.measured.quantity:
        yield _both("单次最多计入 {}", "Of one act at most {} count", _amount(version.maximum, kind.unit))
    if cut := _lost(basis.quantity, earned.credited_quantity):
        yield _both(*_LIMITED, _amount(cut, kind.unit), _amount(earned.credited_quantity, kind.unit))


def _measured_lines(act: ActFacts, kind: Kind, formula: Formula, basis: Basis) -> Iterator[Text]:
    """What the formula makes of the quantity, where it is not the quantity itself."""
    counted = _amount(basis.measured.quantity, kind.unit)
    if isinstance(formula, OwnBaseline):
        baseline = own_baseline(formula.method, act.attributes)
        yield _both("平时用量：{}（{}）", "Usual use: {} ({})", _amount(baseline, kind.unit), _METHODS[formula.method])
        yield _both(
            "节省：{}（不超过平时用量的 {}）", "Saved: {} (at most {} of the usual)", counted, _share(formula.most)
        )
    elif isinstance(formula, FullPeriods):
        yield _both(
            "满 {} 小时计一次：{}",
            "Each full {} hours count once: {}",
            _decimal(formula.period_s, HOUR_S),
            counted,
        )


def _factor_lines(act: ActFacts, kind: Kind, version: RuleVersion, basis: Basis) -> Iterator[Text]:
    formula = version.formula
    if isinstance(formula, BaselineMinusProject):
        for term in formula.baseline:
            name = Text(term.name_zh, term.name_en)
            yield _both("若不这样做：{} {}", "Without it: {} {}", name, _rate(term.rate, kind.unit))
        for term in formula.project:
            name = Text(term.name_zh, term.name_en)
            yield _both("实际排放：{} {}", "With it: {} {}", name, _rate(term.rate, kind.unit))
    elif isinstance(formula, Carpool):
        occupants = int(act.attributes[OCCUPANTS])
        yield _both("一辆车独行：{}", "A car driven alone: {}", _rate(formula.rate, kind.unit))
        yield _both(
            "车上 {} 人，计其中 {}，扣除绕行 {}",
            "{} people in the car: {} of it counts, less {} for the detour",
            str(occupants),
            f"{occupants - 1}/{occupants}",
            _share(formula.detour),
        )
    yield _both(
        "减排因子：{}（{}）",
        "Factor: {} ({})",
        _rate(basis.measured.rate, kind.unit),
        _source(version.methodology),
    )
    if act.tier < version.full_credit_tier:
        share = Text("全部", "in full") if basis.share == WHOLE else _share(basis.share)
        yield _both("{}：计{}，仅用于积分", "{}: counts {}, for points only", _TIERS[act.tier], share)
    elif basis.asset == RECOGNISED:
        yield Text("仅用于积分", "For points only")


def _reduction_lines(kind: Kind, basis: Basis, earned: Earned) -> Iterator[Text]:
    quantity, rate = earned.credited_quantity, basis.rate
    converted_mg = rate.floor_times(quantity)
    is_exact = quantity * rate.numerator % rate.denominator == 0
    yield _both(
        "{} × {}{} = {}{}",
        "{} × {}{} = {}{}",
        _amount(quantity, kind.unit),
        _rate(basis.measured.rate, kind.unit),
        "" if basis.share == WHOLE else f" × {basis.share}",
        _grams(converted_mg),
        UNTOLD if is_exact else Text("，不足 1 毫克的舍去", ", rounded down to the milligram"),
    )
    if cut_mg := _lost(converted_mg, earned.reduction_mg):
        yield _both(*_LIMITED, _grams(cut_mg), _grams(earned.reduction_mg))


def _point_lines(act: ActFacts, version: RuleVersion, earned: Earned, terms: Terms) -> Iterator[Text]:
    rate = version.points
    points = rate.floor_times(earned.reduction_mg)
    is_exact = earned.reduction_mg * rate.numerator % rate.denominator == 0
    yield _both(
        "{}，每 {}计 {}：{}{}",
        "{}, each {} worth {}: {}{}",
        _grams(earned.reduction_mg),
        _grams(rate.denominator),
        _points(rate.numerator),
        _points(points),
        UNTOLD if is_exact else Text("，不足 1 分的舍去", ", rounded down"),
    )
    # Those that ask for the day's totals are not known to have held.
    certain = [each for each in version.multipliers if not uses_today(each.condition)]
    holding = [each for each in certain if holds(each.condition, act, UNUSED)]
    for each in holding:
        yield _both("{}：积分 × {}%", "{}: points × {}%", Text(each.name_zh, each.name_en), str(each.percent))
    if holding:
        points = multiply(points, holding)
        yield _both("相乘后为 {}", "Multiplied: {}", _points(points))
    own = earned.points - sum(award.points for award in earned.awards)
    is_known = len(certain) == len(version.multipliers)
    if is_known:
        if cut := _lost(points, own):
            yield _both(*_LIMITED, _points(cut), _points(own))
    elif own != points:
        yield _both(
            "按当日此前的行为及限额：{}变为 {}",
            "By what you did before on that day, and by limits: {} become {}",
            _points(points),
            _points(own),
        )
    yield from _award_lines(points if is_known else None, earned.awards, terms)


def _award_lines(own: int | None, awards: tuple[Award, ...], terms: Terms) -> Iterator[Text]:
    """What campaigns added to an act; ``own`` are the points it had before limits, where known."""
    campaigns = {campaign.code: campaign for campaign in terms.campaigns}
    for award in awards:
        campaign = campaigns[award.campaign]
        name = Text(campaign.name_zh, campaign.name_en)
        yield _both("活动“{}”：加 {}", "Campaign “{}”: {} more", name, _points(award.points))
        pays = award.points > 0 or campaign.audience is Audience.EVERY_ACT
        if own is not None and pays and (cut := _lost(points_of(campaign, own), award.points)):
            yield _both("因预算或限额少计 {}", "Its budget or limits take {} off", _points(cut))


def _lost(full: int, left: int) -> int:
    if not 0 <= left <= full:
        raise ValueError(f"{left} cannot be what is left of {full}")
    return full - left


def _both(zh: str, en: str, *parts: Text | str) -> Text:
    pairs = [part if isinstance(part, Text) else Text(part, part) for part in parts]
    return Text(zh.format(*(pair.zh for pair in pairs)), en.format(*(pair.en for pair in pairs)))


def _decimal(numerator: int, denominator: int) -> str:
    """The quotient, exact or marked as cut after six decimals."""
    whole, rest = divmod(numerator, denominator)
    digits = ""
    while rest and len(digits) < MOST_DECIMALS:
        digit, rest = divmod(rest * 10, denominator)
        digits += str(digit)
    return f"{'≈' if rest else ''}{whole:,}{'.' if digits else ''}{digits}"


def _amount(quantity: int, unit: Unit) -> Text:
    size, name = _SHOWN[unit]
    figure = _decimal(quantity, size)
    return Text(f"{figure} {name.zh}", f"{figure} {_EACH.get(unit, name).en if quantity == 1 else name.en}")


def _rate(rate: Ratio, unit: Unit) -> Text:
    size, name = _SHOWN[unit]
    figure = _decimal(rate.numerator * size, rate.denominator * MG_PER_GRAM)
    return Text(f"{figure} 克/{name.zh}", f"{figure} g/{_EACH.get(unit, name).en}")


def _grams(milligrams: int) -> Text:
    figure = _decimal(milligrams, MG_PER_GRAM)
    return Text(f"{figure} 克", f"{figure} g")


def _points(points: int) -> Text:
    return Text(f"{points:,} 分", f"{points:,} point{'' if points == 1 else 's'}")


def _share(ratio: Ratio) -> Text:
    if ratio == HALF:
        return Text("一半", "half")
    percent = f"{_decimal(ratio.numerator * PERCENT, ratio.denominator)}%"
    return Text(percent, percent)


def _source(document: Methodology) -> Text:
    number = f" {document.number}" if document.number else ""
    return Text(
        f"《{document.title_zh}》{number}，{document.publisher}，{document.year} 年",
        f"{document.title_en}{number}, {document.publisher}, {document.year}",
    )
