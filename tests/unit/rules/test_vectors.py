"""Published and computed examples, to the milligram, by the shipped profile or, elsewhere, by a rule of the test.

V and T numbers are those of the project's list of sourced test vectors.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backend.kernel.units import Ratio
from backend.ledger.model import QUANTIFIED, RECOGNISED
from backend.rules.conversion import Conversion, Outcome, choose_version, convert
from backend.rules.model import ActFacts, EvidenceTier, RuleVersion
from backend.rules.profile import shipped_profile
from tests.unit.rules.factories import make_act, make_version

MOMENT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def shipped(kind: str, profile: str = "conservative") -> RuleVersion:
    return next(version for version in shipped_profile(profile).versions if version.kind == kind)


def convert_by_operator(
    kind: str, quantity: int, *, attributes: dict[str, str] | None = None, duration_s: int | None = None
) -> Conversion:
    act = ActFacts(
        kind=kind, quantity=quantity, occurred_at=MOMENT, tier=EvidenceTier.OPERATOR, attributes=attributes or {},
        duration_s=duration_s,
    )  # fmt: skip
    return convert(act, shipped(kind), {})


@pytest.mark.parametrize(
    ("kind", "quantity", "reduction_mg", "asset"),
    [
        pytest.param("metro", 10_000, 467_000, QUANTIFIED, id="V1"),
        pytest.param("bus", 8_000, 215_200, QUANTIFIED, id="V2"),
        pytest.param("bike_share", 3_200, 108_416, QUANTIFIED, id="V3"),
        pytest.param("ebike_share", 3_200, 112_032, QUANTIFIED, id="V4"),
        pytest.param("walk", 25_000, 295_200, RECOGNISED, id="V5"),
        pytest.param("pv_generation", 100_000, 55_000_000, QUANTIFIED, id="V7"),
        pytest.param("ev_drive", 1_000, 63_086, RECOGNISED, id="V8"),
        pytest.param("no_cutlery", 3, 48_000, RECOGNISED, id="V9"),
        pytest.param("recycle_pet", 750, 855_000, QUANTIFIED, id="V10"),
        pytest.param("recycle_aluminium", 200, 1_624_000, QUANTIFIED, id="V11"),
        pytest.param("bus_ride", 1, 80_000, RECOGNISED, id="bus-ride"),
        pytest.param("metro_ride", 1, 46_000, RECOGNISED, id="metro-ride"),
        pytest.param("bike_own", 3_200, 54_208, RECOGNISED, id="half-of-V3"),
        pytest.param("walk_trace", 4_000, 82_000, RECOGNISED, id="5000-steps-of-0.8-m"),
        pytest.param("ev_charge", 10_000, 3_785_200, RECOGNISED, id="60-km-of-charge"),
        pytest.param("battery_swap", 30_000, 11_355_600, RECOGNISED, id="180-km-of-a-swap"),
        pytest.param("nev_ride", 24_000, 168_000, RECOGNISED, id="T2"),
        pytest.param("recycle_textile", 1_000, 1_280_000, QUANTIFIED, id="T11-grams"),
        pytest.param("recycle_copper", 500, 2_470_000, QUANTIFIED, id="copper"),
        pytest.param("recycle_aluminium_scrap", 1_000, 7_930_000, QUANTIFIED, id="aluminium-scrap"),
        pytest.param("recycle_pp", 1_000, 870_000, QUANTIFIED, id="polypropylene"),
        pytest.param("courier_box", 1, 37_000, RECOGNISED, id="T7-each"),
        pytest.param("e_statement", 1, 24_000, RECOGNISED, id="statement"),
        pytest.param("online_payment", 1, 89_000, RECOGNISED, id="payment"),
        pytest.param("e_ticket", 2, 10_000, RECOGNISED, id="tickets"),
        pytest.param("clothing_reuse", 1, 790_000, RECOGNISED, id="donation"),
    ],
)
def test_shipped_factor_gives_the_expected_milligrams(kind: str, quantity: int, reduction_mg: int, asset: str) -> None:
    result = convert_by_operator(kind, quantity)
    assert (result.outcome, result.reduction_mg, result.asset) == (Outcome.CREDITED, reduction_mg, asset)
    assert result.points == reduction_mg // 1_000


def test_v6_jiangsu_grid_factor_of_2022() -> None:
    assert convert(make_act(100_000), make_version("5978/10"), {}).reduction_mg == 59_780_000


def test_v8_electric_car_formula_term_by_term() -> None:
    # 162.72 g/km - 150 Wh/km / 0.9 * 0.5978 g/Wh, all in mg per 9 km to stay whole.
    per_9_km = 9 * 162_720 - 150 * 10 * 5_978 // 10
    assert per_9_km == 567_780
    assert convert_by_operator("ev_drive", 9_000).reduction_mg == per_9_km


def test_charging_is_the_distance_it_lasts_for() -> None:
    # 150 Wh at the wheels are 500/3 Wh at the meter: 3 km take 500 Wh.
    assert 500 * shipped("ev_charge").factor.numerator * shipped("ev_drive").factor.denominator == (
        3_000 * shipped("ev_drive").factor.numerator * shipped("ev_charge").factor.denominator
    )


def test_v12_self_declared_bus_ride_earns_half_and_is_recognised() -> None:
    result = convert(make_act(1, kind="bus_ride", tier=EvidenceTier.DECLARED), shipped("bus_ride"), {})
    assert (result.reduction_mg, result.points, result.asset) == (40_000, 40, RECOGNISED)


@pytest.mark.parametrize(("hours_times_10", "days"), [(719, 2), (720, 2), (480, 2), (479, 1), (240, 1)])
def test_v14_only_whole_days_not_driven_count(hours_times_10: int, days: int) -> None:
    result = convert_by_operator("car_free_day", 7, duration_s=hours_times_10 * 360)
    assert (result.credited_quantity, result.reduction_mg) == (days, days * 2_580_000)


def test_a_car_that_stood_for_less_than_a_day_earns_nothing() -> None:
    assert convert_by_operator("car_free_day", 1, duration_s=86_399).outcome is Outcome.REJECTED


@pytest.mark.parametrize("kind", ["carpool_passenger", "carpool_driver"])
@pytest.mark.parametrize(("occupants", "reduction_mg"), [("2", 732_240), ("3", 976_320), ("4", 1_098_360)])
def test_carpool_gives_each_their_share(kind: str, occupants: str, reduction_mg: int) -> None:
    # 10 km x 162.72 g x (1 - 1/n) x 0.9
    result = convert_by_operator(kind, 10_000, attributes={"occupants": occupants})
    assert (result.reduction_mg, result.asset) == (reduction_mg, RECOGNISED)


@pytest.mark.parametrize(
    ("used_wh", "saved_wh"), [(7_000, 1_000), (6_400, 1_600), (1, 1_600), (7_999, 1), (8_000, 0), (9_000, 0)]
)
def test_household_saves_against_its_own_week_by_a_fifth_at_most(used_wh: int, saved_wh: int) -> None:
    week = "8000,7000,9000,8000,8500,7500,8000"
    result = convert_by_operator("household_power", used_wh, attributes={"history_wh": week})
    assert (result.credited_quantity, result.reduction_mg) == (saved_wh, saved_wh * 550)


def test_t5_shanghais_solar_factor() -> None:
    # 1 MW for 1,100 h are 462 t; one reading is at most 1 MWh.
    version = shipped("pv_generation", "shanghai-2026")
    assert convert(make_act(1_000_000, kind="pv_generation"), version, {}).reduction_mg == 420_000_000
    assert version.factor.floor_times(1_100_000_000) == 462_000_000_000


@pytest.mark.parametrize(
    ("factor", "quantity", "reduction_mg"),
    [
        pytest.param("7/1", 24_000, 168_000, id="T2"),
        pytest.param("20/1", 7_250, 145_000, id="T3"),
        pytest.param("40/1", 1_000, 40_000, id="T4-bicycle"),
        pytest.param("170000/1", 1, 170_000, id="T4-metro"),
        pytest.param("420/1", 1_100_000_000, 462_000_000_000, id="T5"),
        pytest.param("16900000000000/1060000000", 1_060_000_000, 16_900_000_000_000, id="T6"),
        pytest.param("85000000000/2300000", 2_300_000, 85_000_000_000, id="T7"),
    ],
)
def test_published_example_holds_under_its_own_factor(factor: str, quantity: int, reduction_mg: int) -> None:
    assert convert(make_act(quantity), make_version(factor), {}).reduction_mg == reduction_mg


def test_t6_factor_is_15_94_grams_an_order() -> None:
    assert Ratio(16_900_000_000_000, 1_060_000_000).floor_times(1) == 15_943


def test_t11_points_need_not_follow_grams() -> None:
    clothes = convert(make_act(1_000), make_version("1280/1", points=Ratio(30, 1_280_000)), {})
    bus = convert(make_act(1), make_version("80000/1", points=Ratio(10, 80_000)), {})
    assert (clothes.reduction_mg, clothes.points) == (1_280_000, 30)
    assert (bus.reduction_mg, bus.points) == (80_000, 10)


@pytest.mark.parametrize(("grams", "yuan"), [(1_249, 0), (1_250, 1), (2_499, 1), (2_500, 2)])
def test_t12_reward_of_one_yuan_per_1250_grams_rounds_down(grams: int, yuan: int) -> None:
    assert convert(make_act(grams), make_version("1000/1", points=Ratio(1, 1_250_000)), {}).points == yuan


def test_v13_combined_trip_rounds_each_leg_down_then_adds() -> None:
    metro = convert(make_act(12_400), shipped("metro", "shanghai-2026"), {}).reduction_mg
    bicycle = convert(make_act(2_600, kind="bike_share"), shipped("bike_share", "shanghai-2026"), {}).reduction_mg
    assert (metro, bicycle, metro + bicycle) == (1_202_800, 254_800, 1_457_600)


def test_shanghais_hailed_new_energy_cars() -> None:
    version = shipped("nev_ride", "shanghai-2026")
    assert convert(make_act(10_000, kind="nev_ride"), version, {}).reduction_mg == 880_000


def test_shipped_versions_are_open_to_the_past() -> None:
    versions = shipped_profile("conservative").versions
    assert choose_version(versions, "metro", datetime(2018, 9, 1, tzinfo=UTC)) == shipped("metro")
