"""Each family of formulas to the milligram, by the worked examples it covers, and what it cannot measure.

V and T numbers are those of the project's list of sourced test vectors.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.units import Ratio
from backend.ledger.model import RECOGNISED
from backend.rules.conversion import Conversion, Outcome, Reason, convert
from backend.rules.formula import (
    BaselineMethod,
    BaselineMinusProject,
    Carpool,
    FullPeriods,
    Measured,
    OwnBaseline,
    PerQuantity,
    Term,
    UnmeasurableError,
    less,
    measure,
    times,
    total,
    usual_rate,
)
from backend.rules.model import EvidenceTier
from tests.unit.rules.factories import make_act, make_version

PETROL_CAR = Ratio(16_272, 100)
DAY_S = 86_400
HOUR_S = 3_600


def term(rate: Ratio) -> Term:
    return Term("项", "term", rate)


# 15 kWh per 100 km through a charger that loses a tenth, by Jiangsu's grid factor of 2022: mg per Wh times Wh per m.
EV = BaselineMinusProject(
    baseline=(term(PETROL_CAR),), project=(term(times(Ratio(15 * 10, 9 * 100), Ratio(5_978, 10))),)
)
POOL = Carpool(PETROL_CAR, Ratio(1, 10))
SAVING = OwnBaseline(Ratio(550, 1), BaselineMethod.MOVING_AVERAGE, Ratio(1, 5))
NOT_DRIVEN = FullPeriods(Ratio(2_580_000, 1), DAY_S)


@pytest.mark.parametrize(
    ("factor", "quantity", "reduction_mg"),
    [
        pytest.param("467/10", 10_000, 467_000, id="V1"),
        pytest.param("269/10", 8_000, 215_200, id="V2"),
        pytest.param("3388/100", 3_200, 108_416, id="V3"),
        pytest.param("3501/100", 3_200, 112_032, id="V4"),
        pytest.param("164/10", 18_000, 295_200, id="V5"),
        pytest.param("5978/10", 100_000, 59_780_000, id="V6"),
        pytest.param("550/1", 100_000, 55_000_000, id="V7"),
        pytest.param("16000/1", 3, 48_000, id="V9"),
        pytest.param("1140/1", 750, 855_000, id="V10"),
        pytest.param("8120/1", 200, 1_624_000, id="V11"),
        pytest.param("97/1", 12_400, 1_202_800, id="V13-metro"),
        pytest.param("98/1", 2_600, 254_800, id="V13-bike"),
        pytest.param("7212/100", 34_900, 2_516_988, id="T1-of-2517-grams"),
        pytest.param("7/1", 24_000, 168_000, id="T2"),
        pytest.param("20/1", 7_250, 145_000, id="T3"),
        pytest.param("40/1", 1_000, 40_000, id="T4-bike"),
        pytest.param("170000/1", 1, 170_000, id="T4-metro"),
        pytest.param("420/1", 1_100_000_000, 462_000_000_000, id="T5"),
        pytest.param("15940/1", 1_060_000_000, 16_896_400_000_000, id="T6-of-16900-tonnes"),
        pytest.param("36960/1", 2_300_000, 85_008_000_000, id="T7-of-85-tonnes"),
        pytest.param("5337/100", 9_683_000_000_000, 516_781_710_000_000, id="T9-of-516800-tonnes"),
        pytest.param("1280/1", 1_000, 1_280_000, id="T11"),
        pytest.param("43/1", 104_163_000_000, 4_479_009_000_000, id="T15-of-4479-tonnes"),
    ],
)
def test_a_net_factor_gives_the_published_milligrams(factor: str, quantity: int, reduction_mg: int) -> None:
    assert convert(make_act(quantity), make_version(factor, maximum=10**15), {}).reduction_mg == reduction_mg


def test_t12_a_yuan_of_points_is_1250_grams() -> None:
    version = make_version("97/1", points=Ratio(1, 1_250_000))
    assert convert(make_act(12_886), version, {}).points == 0
    assert convert(make_act(12_887), version, {}).points == 1


def test_v8_an_electric_car_saves_what_petrol_emits_less_its_charging() -> None:
    result = convert(make_act(1_000), make_version(formula=EV), {})
    assert usual_rate(EV) == Ratio(9_463, 150)
    assert (result.credited_quantity, result.reduction_mg, result.points) == (1_000, 63_086, 63)
    assert convert(make_act(3_000), make_version(formula=EV), {}).reduction_mg == 189_260


def test_v12_a_self_declared_bus_ride_earns_half_and_is_recognised() -> None:
    result = convert(make_act(1, tier=EvidenceTier.DECLARED), make_version("80000/1"), {})
    assert (result.reduction_mg, result.points, result.asset) == (40_000, 40, RECOGNISED)


@pytest.mark.parametrize(
    ("claimed", "duration_s", "days"),
    [
        pytest.param(3, 719 * HOUR_S // 10, 2, id="V14"),
        pytest.param(3, 3 * DAY_S, 3, id="three-full-days"),
        pytest.param(3, 3 * DAY_S - 1, 2, id="a-second-short"),
        pytest.param(1, 3 * DAY_S, 1, id="no-more-than-claimed"),
    ],
)
def test_only_full_days_not_driven_count(claimed: int, duration_s: int, days: int) -> None:
    result = convert(make_act(claimed, duration_s=duration_s), make_version(formula=NOT_DRIVEN), {})
    assert (result.credited_quantity, result.reduction_mg) == (days, days * 2_580_000)


def test_less_than_one_full_day_not_driven_earns_nothing() -> None:
    result = convert(make_act(1, duration_s=DAY_S - 1), make_version(formula=NOT_DRIVEN), {})
    assert (result.outcome, result.reason) == (Outcome.REJECTED, Reason.EARNS_NOTHING)


@pytest.mark.parametrize(
    ("occupants", "reduction_mg"),
    # 10 km at 162.72 g/km, a tenth off for the detour: 1,464.48 g shared
    [("2", 732_240), ("3", 976_320), ("4", 1_098_360), ("9", 1_301_760)],
)
def test_carpool_credits_the_seats_that_replaced_a_car(occupants: str, reduction_mg: int) -> None:
    act = make_act(10_000, attributes={"occupants": occupants})
    assert convert(act, make_version(formula=POOL), {}).reduction_mg == reduction_mg


@pytest.mark.parametrize(
    ("history", "used_wh", "saved_wh"),
    [
        pytest.param("10000,10000,10000,10000,10000,10000,10000", 9_000, 1_000, id="saved"),
        pytest.param("7000,8000,9000,10000,11000,12000,13001", 9_000, 1_000, id="mean-rounded-down"),
        pytest.param("10000,10000,10000,10000,10000,10000,10000", 1_000, 2_000, id="at-most-a-fifth"),
        pytest.param(" 10000, 10000,10000,10000,10000,10000,10000 ", 9_999, 1, id="spaces"),
    ],
)
def test_a_household_is_compared_with_its_own_week_before(history: str, used_wh: int, saved_wh: int) -> None:
    result = convert(make_act(used_wh, attributes={"history_wh": history}), make_version(formula=SAVING), {})
    assert (result.credited_quantity, result.reduction_mg) == (saved_wh, saved_wh * 550)


@pytest.mark.parametrize("used_wh", [10_000, 10_001, 50_000])
def test_a_household_that_saved_nothing_earns_nothing(used_wh: int) -> None:
    act = make_act(used_wh, attributes={"history_wh": ",".join(["10000"] * 7)})
    result = convert(act, make_version(formula=SAVING), {})
    assert (result.outcome, result.reason, result.usage) == (Outcome.REJECTED, Reason.EARNS_NOTHING, {})


def test_a_household_is_compared_with_the_same_month_last_year() -> None:
    formula = OwnBaseline(Ratio(550, 1), BaselineMethod.SAME_MONTH_LAST_YEAR, Ratio(1, 5))
    act = make_act(280_000, attributes={"history_wh": "300000"})
    assert convert(act, make_version(formula=formula), {}).reduction_mg == 20_000 * 550


def test_the_creditable_maximum_clips_the_saving_and_not_the_use() -> None:
    act = make_act(9_000, attributes={"history_wh": ",".join(["10000"] * 7)})
    result = convert(act, make_version(formula=SAVING, maximum=600), {})
    assert (result.credited_quantity, result.reduction_mg) == (600, 330_000)


UNMEASURABLE = [
    *((POOL, {"occupants": text}, None, "occupants") for text in ("", "1", "10", "2.0", "-2", "two", "²")),
    (POOL, {}, 60, "occupants"),
    *(
        (SAVING, {"history_wh": text}, None, "history_wh")
        for text in (
            "",
            "1",
            "1,2,3,4,5,6",
            "1,2,3,4,5,6,7,8",
            "1,2,3,4,5,6,x",
            "1,2,3,4,5,6,-7",
            "1,2,3,4,5,6,10000000000",
        )
    ),
    (SAVING, {}, None, "history_wh"),
    (NOT_DRIVEN, {}, None, "endedAt"),
    (NOT_DRIVEN, {}, -1, "endedAt"),
]


@pytest.mark.parametrize(("formula", "attributes", "duration_s", "missing"), UNMEASURABLE)
def test_what_cannot_be_measured_goes_to_a_person_and_names_what_is_missing(
    formula: Carpool | OwnBaseline | FullPeriods, attributes: dict[str, str], duration_s: int | None, missing: str
) -> None:
    with pytest.raises(UnmeasurableError) as caught:
        measure(formula, 1_000, attributes, duration_s)
    assert caught.value.attribute == missing
    result = convert(make_act(1_000, attributes=attributes, duration_s=duration_s), make_version(formula=formula), {})
    expected = Conversion(outcome=Outcome.REVIEW, reason=Reason.UNMEASURABLE, attribute=missing, steps=result.steps)
    assert result == expected


def test_a_project_above_its_baseline_is_no_rate() -> None:
    formula = BaselineMinusProject(baseline=(term(Ratio(1, 1)),), project=(term(Ratio(1, 1)), term(Ratio(1, 9))))
    with pytest.raises(ValueError, match="a ratio needs numerator >= 0"):
        usual_rate(formula)


ratios = st.builds(Ratio, st.integers(0, 10**6), st.integers(1, 10**4))


def exact(ratio: Ratio) -> Fraction:
    return Fraction(ratio.numerator, ratio.denominator)


@given(st.lists(ratios, max_size=5), ratios)
def test_arithmetic_of_ratios_is_exact(rates: list[Ratio], other: Ratio) -> None:
    added = total(tuple(term(rate) for rate in rates))
    assert exact(added) == sum(map(exact, rates))
    assert exact(times(added, other)) == exact(added) * exact(other)
    larger, smaller = sorted((added, other), key=exact, reverse=True)
    assert exact(less(larger, smaller)) == exact(larger) - exact(smaller)


@given(st.integers(1, 10**7), st.integers(2, 9), ratios, st.integers(0, 100))
def test_carpool_never_exceeds_the_floor_of_its_formula(
    distance_m: int, occupants: int, rate: Ratio, detour: int
) -> None:
    formula = Carpool(rate, Ratio(detour, 100))
    measured = measure(formula, distance_m, {"occupants": str(occupants)}, None)
    formula_mg = distance_m * exact(rate) * (1 - Fraction(1, occupants)) * (1 - Fraction(detour, 100))
    assert measured.rate.floor_times(measured.quantity) == formula_mg.__floor__()


@given(st.lists(st.integers(0, 10**6), min_size=7, max_size=7), st.integers(0, 10**7), st.integers(0, 10**7))
def test_using_more_never_saves_more(history: list[int], first: int, second: int) -> None:
    attributes = {"history_wh": ",".join(map(str, history))}
    saved = [measure(SAVING, used, attributes, None).quantity for used in sorted((first, second))]
    assert saved[0] >= saved[1] >= 0
    assert saved[0] * 5 * 7 <= sum(history)


def test_a_net_factor_measures_the_quantity_itself() -> None:
    assert measure(PerQuantity(Ratio(467, 10)), 10, {}, None) == Measured(Ratio(467, 10), 10)
