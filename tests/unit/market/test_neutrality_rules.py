"""What travel emits, by published factors only, in whole grams, never rounded down."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.errors import InvalidInputError
from backend.kernel.ids import CitizenId
from backend.ledger.model import citizen_owner, credit_asset
from backend.market.neutrality.documents import neutralisation_from_document, neutralisation_to_document
from backend.market.neutrality.errors import UnsourcedModeError
from backend.market.neutrality.factors import FactorsError, read_factors, shipped_factors
from backend.market.neutrality.model import (
    Event,
    Leg,
    Neutralisation,
    NeutralisationId,
    Neutralising,
    NeutralStage,
    Per,
    TravelMode,
)
from backend.market.neutrality.rules import beneficiary_of, checked_asking, estimate, payload_of, retiring
from backend.market.retirement.model import Beneficiary, CertificateId, RetirementPurpose

FACTORS = shipped_factors()
LOT = 1_000
# Grams a kilometre, as the methodology notes of the project give them: vehicle and fuel, and well to tank where known.
PUBLISHED = {
    TravelMode.METRO: 130_340,
    TravelMode.LIGHT_RAIL: 130_340,
    TravelMode.RAIL: 130_340,
    TravelMode.BUS: 103_850 + 26_490,
    TravelMode.COACH: 27_760,
    TravelMode.CAR: 167_250,
    TravelMode.CAR_PETROL: 162_720,
    TravelMode.CAR_DIESEL: 173_040,
    TravelMode.CAR_HYBRID: 128_250,
}
MARATHON = Event("春季马拉松", "Spring Marathon", date(2026, 4, 12), "镇江")
FILE = """
version: "2025-1"
document: {zh: 甲, en: A}
publisher: {zh: 乙, en: B}
year: 2025
factors:
  - {mode: BUS, per: PASSENGER, mg_per_km: 1, note: {zh: 丙, en: C}}
"""


def asking(**changes: Any) -> Neutralising:
    """Ten people by metro."""
    given: dict[str, Any] = {
        "event": MARATHON,
        "legs": (Leg(mode=TravelMode.METRO, people=10, km=5, origin="京口"),),
        "days": 1,
        "credit": credit_asset("b"),
        "max_price_fen": 6_000,
    }
    return Neutralising(**{**given, **changes})


def neutralisation(**changes: Any) -> Neutralisation:
    """Its flow at the beginning."""
    asked = changes.pop("asked", asking())
    now = datetime(2026, 4, 1, tzinfo=UTC)
    given: dict[str, Any] = {
        "id": NeutralisationId("neu_1"),
        "owner": citizen_owner(CitizenId("alice")),
        "payload": "p",
        "asked": asked,
        "beneficiary": beneficiary_of(asked),
        "factors": "2025-1",
        "total_g": 4_000,
        "to_buy_g": 4_000,
        "made_at": now,
        "claimed_until": now,
    }
    return Neutralisation(**{**given, **changes})


def test_the_factors_are_the_published_ones() -> None:
    assert {mode: factor.mg_per_km for mode, factor in FACTORS.by_mode.items()} == PUBLISHED
    for mode, factor in FACTORS.by_mode.items():
        assert factor.per is (Per.VEHICLE if mode.startswith("CAR") else Per.PASSENGER)
        assert (factor.year, factor.publisher.en) == (2025, "Department for Energy Security and Net Zero")
        assert all((*factor.document, *factor.publisher, *factor.note))


def test_the_factors_keep_to_what_beijing_found() -> None:
    car = PUBLISHED[TravelMode.CAR]
    assert PUBLISHED[TravelMode.BUS] * 4 >= car
    assert all(PUBLISHED[mode] * 7 >= car for mode in (TravelMode.METRO, TravelMode.RAIL, TravelMode.LIGHT_RAIL))


@pytest.mark.parametrize(
    ("leg", "days", "total_km", "grams"),
    [
        (Leg(mode=TravelMode.METRO, people=1, km=1, is_return=False), 1, 1, 131),
        (Leg(mode=TravelMode.METRO, people=10, km=5), 1, 100, 13_034),
        (Leg(mode=TravelMode.METRO, people=10, km=5), 3, 100, 13_034),
        (Leg(mode=TravelMode.METRO, people=10, km=5, is_daily=True), 3, 300, 39_102),
        (Leg(mode=TravelMode.CAR, people=4, km=100), 1, 800, 133_800),
        (Leg(mode=TravelMode.CAR, people=4, km=100, vehicles=1), 1, 200, 33_450),
        (Leg(mode=TravelMode.BUS, people=3, km=7, is_return=False), 1, 21, 2_738),
    ],
)
def test_a_leg_emits_its_kilometres_times_the_factor(leg: Leg, days: int, total_km: int, grams: int) -> None:
    told = estimate([leg], days, FACTORS, LOT)
    [line] = told.lines
    assert (line.total_km, line.grams, told.grams) == (total_km, grams, grams)
    assert told.total_g == -(-grams // 1_000) * 1_000


LEGS = st.builds(
    Leg,
    mode=st.sampled_from(sorted(FACTORS.by_mode)),
    people=st.integers(1, 10_000),
    km=st.integers(1, 40_000),
    is_return=st.booleans(),
    is_daily=st.booleans(),
)


@given(st.lists(LEGS, min_size=1, max_size=20), st.integers(1, 30), st.sampled_from([1, 10, 1_000]))
def test_sums_are_exact_and_never_less_than_what_is_emitted(legs: list[Leg], days: int, lot_g: int) -> None:
    told = estimate(legs, days, FACTORS, lot_g)
    mg = sum(line.total_km * line.factor.mg_per_km for line in told.lines)
    assert told.grams == sum(line.grams for line in told.lines)
    assert mg <= told.grams * 1_000 < mg + 1_000 * len(legs)
    assert told.grams <= told.total_g < told.grams + lot_g
    assert told.total_g % lot_g == 0


@pytest.mark.parametrize("mode", sorted(set(TravelMode) - set(PUBLISHED)))
def test_no_factor_is_invented(mode: TravelMode) -> None:
    with pytest.raises(UnsourcedModeError) as refused:
        estimate([Leg(mode=mode, people=1, km=1)], 1, FACTORS, LOT)
    assert refused.value.mode == mode


@pytest.mark.parametrize(
    ("field", "changes", "days"),
    [
        ("attendance[0].people", {"people": 0}, 1),
        ("attendance[0].people", {"people": 10_000_001}, 1),
        ("attendance[0].kmOneWay", {"km": 0}, 1),
        ("attendance[0].kmOneWay", {"km": 40_001}, 1),
        ("attendance[0].vehicles", {"vehicles": 1}, 1),
        ("attendance[0].vehicles", {"mode": TravelMode.CAR, "vehicles": 0}, 1),
        ("attendance[0].vehicles", {"mode": TravelMode.CAR, "people": 2, "vehicles": 3}, 1),
        ("attendance[0].origin", {"origin": "x" * 121}, 1),
        ("attendance[0].origin", {"origin": "a\nb"}, 1),
        ("days", {}, 0),
        ("days", {}, 367),
        ("attendance", {"people": 10**7, "km": 40_000, "mode": TravelMode.CAR, "is_daily": True}, 366),
    ],
)
def test_what_cannot_be_is_refused(field: str, changes: dict[str, Any], days: int) -> None:
    leg = Leg(**{"mode": TravelMode.METRO, "people": 10, "km": 5, **changes})
    with pytest.raises(InvalidInputError) as refused:
        estimate([leg], days, FACTORS, LOT)
    assert refused.value.field == field


@pytest.mark.parametrize("count", [0, 101])
def test_there_are_some_legs_and_not_too_many(count: int) -> None:
    with pytest.raises(InvalidInputError):
        estimate([Leg(mode=TravelMode.METRO, people=1, km=1)] * count, 1, FACTORS, LOT)


def test_a_file_of_factors_is_read() -> None:
    found = read_factors(FILE)
    assert (found.version, [factor.mg_per_km for factor in found.by_mode.values()]) == ("2025-1", [1])


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("mode: BUS", "mode: ROCKET"),
        ("per: PASSENGER", "per: SEAT"),
        ("mg_per_km: 1", "mg_per_km: 0"),
        ("mg_per_km: 1", "mg_per_km: 1.5"),
        ("mg_per_km: 1", 'mg_per_km: "1"'),
        ("year: 2025", "year: 1066"),
        ("year: 2025", ""),
        ("year: 2025", "year: 2025\nmore: 1"),
        ('version: "2025-1"', "version: 2025"),
        ("zh: 丙, ", ""),
        ("zh: 丙", 'zh: ""'),
        ("factors:", "factors: {"),
        (
            "factors:\n",
            "factors:\n  - {mode: BUS, per: VEHICLE, mg_per_km: 2, note: {zh: 丁, en: D}}\n",
        ),
    ],
)
def test_a_wrong_file_of_factors_is_refused(part: str, other: str) -> None:
    assert part in FILE
    with pytest.raises(FactorsError):
        read_factors(FILE.replace(part, other))


def test_without_beneficiary_it_is_the_event() -> None:
    assert beneficiary_of(asking()) == Beneficiary("Spring Marathon", "春季马拉松")
    assert beneficiary_of(asking(event=Event("春季马拉松", None, date(2026, 4, 12), "镇江"))) == Beneficiary(
        "春季马拉松", "春季马拉松"
    )
    assert beneficiary_of(checked_asking(asking(beneficiary=Beneficiary(" Harbour ")))) == Beneficiary("Harbour")


def test_the_certificate_tells_of_the_event() -> None:
    told = retiring(neutralisation())
    assert (told.grams, told.purpose, told.is_named) == (4_000, RetirementPurpose.EVENT, False)
    assert told.statement == "春季马拉松 / Spring Marathon · 2026-04-12 · 镇江"
    assert retiring(neutralisation(asked=asking(statement="All of it."))).statement == "All of it."


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("event.nameZh", {"event": Event(" ", None, date(2026, 4, 12), "镇江")}),
        ("event.nameEn", {"event": Event("春", "", date(2026, 4, 12), "镇江")}),
        ("event.place", {"event": Event("春", None, date(2026, 4, 12), "\x00")}),
        ("maxPriceFen", {"max_price_fen": 0}),
        ("maxPriceFen", {"max_price_fen": 10**9 + 1}),
        ("beneficiary.name", {"beneficiary": Beneficiary("")}),
    ],
)
def test_what_cannot_be_asked_is_refused(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        checked_asking(asking(**changes))
    assert refused.value.field == field


def test_another_request_has_another_payload() -> None:
    owner = citizen_owner(CitizenId("alice"))
    others = [
        asking(),
        asking(days=2),
        asking(max_price_fen=1),
        asking(uses_holdings=True),
        asking(legs=(Leg(mode=TravelMode.METRO, people=10, km=6),)),
    ]
    assert len({payload_of(owner, one) for one in others}) == len(others)
    assert payload_of(owner, asking()) == payload_of(owner, asking())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"asked": asking(legs=(Leg(mode=TravelMode.CAR, people=2, km=3, vehicles=1, is_daily=True),) * 2)},
        {"asked": asking(beneficiary=Beneficiary("x"), statement="y", is_named=True, uses_holdings=True)},
        {"stage": NeutralStage.FAILED, "failure": "FOK_UNFILLABLE", "order": "ord_1", "version": 9},
        {"stage": NeutralStage.RETIRED, "certificate": CertificateId("crt_1"), "bought_g": 4_000, "to_buy_g": 0},
    ],
)
def test_a_neutralisation_is_stored_and_read_again(changes: dict[str, Any]) -> None:
    one = neutralisation(**changes)
    assert neutralisation_from_document(neutralisation_to_document(one)) == one
