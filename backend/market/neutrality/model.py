"""Travel, factors, estimates and neutralisations as immutable values; emissions in milligrams or grams CO2e."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from backend.kernel.errors import Text
    from backend.ledger.model import Asset, OwnerId
    from backend.market.retirement.model import Beneficiary, CertificateId

NeutralisationId = NewType("NeutralisationId", str)


class TravelMode(StrEnum):
    """How people travel; not every mode has a factor that somebody published."""

    METRO = "METRO"
    LIGHT_RAIL = "LIGHT_RAIL"
    RAIL = "RAIL"
    BUS = "BUS"
    COACH = "COACH"
    CAR = "CAR"
    CAR_PETROL = "CAR_PETROL"
    CAR_DIESEL = "CAR_DIESEL"
    CAR_HYBRID = "CAR_HYBRID"
    CAR_ELECTRIC = "CAR_ELECTRIC"
    TAXI = "TAXI"
    FLIGHT = "FLIGHT"
    FERRY = "FERRY"
    BICYCLE = "BICYCLE"
    WALK = "WALK"


class Per(StrEnum):
    """What a factor counts: a passenger's kilometre, or a vehicle's whoever is in it."""

    PASSENGER = "PASSENGER"
    VEHICLE = "VEHICLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """What a kilometre emits, and the published document that says so."""

    mode: TravelMode
    per: Per
    mg_per_km: int
    document: Text
    publisher: Text
    year: int
    note: Text


@dataclass(frozen=True, slots=True)
class Factors:
    """A version of the factors, by mode."""

    version: str
    by_mode: Mapping[TravelMode, Factor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """Some people's way to the event: ``km`` one way, whole; ``vehicles`` they come in, where a factor counts those.

    Where nobody says how many vehicles, each person is taken to come alone. ``is_daily`` ways are gone every day of the
    event, others once.
    """

    mode: TravelMode
    people: int
    km: int
    origin: str = ""
    is_return: bool = True
    is_daily: bool = False
    vehicles: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What one leg emits, rounded up to grams, and by which factor."""

    leg: Leg
    factor: Factor
    total_km: int
    grams: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What all travel emits: grams as they sum, and ``total_g`` rounded up to the lot in which credits are traded."""

    version: str
    lines: tuple[Line, ...]
    grams: int
    total_g: int


@dataclass(frozen=True, slots=True)
class Event:
    """What is to be neutral."""

    name_zh: str
    name_en: str | None
    day: date
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Neutralising:
    """What is asked for: credits for all travel to an event, bought for at most ``max_price_fen`` a tonne, retired."""

    event: Event
    legs: tuple[Leg, ...]
    days: int
    credit: Asset
    max_price_fen: int
    beneficiary: Beneficiary | None = None
    statement: str = ""
    is_named: bool = False
    uses_holdings: bool = False


class NeutralStage(StrEnum):
    """How far a neutralisation has come."""

    BUYING = "BUYING"
    BOUGHT = "BOUGHT"
    RETIRED = "RETIRED"
    FAILED = "FAILED"


GOING = (NeutralStage.BUYING, NeutralStage.BOUGHT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neutralisation:
    """An event on its way to neutrality: ``total_g`` is retired in one certificate once ``to_buy_g`` of it is bought.

    ``order`` is what it was bought with, ``bought_g`` how much that gave. Whoever works on it holds it until
    ``claimed_until``; ``version`` counts changes. What was bought by one that FAILED stays its owner's.
    """

    id: NeutralisationId
    owner: OwnerId
    payload: str
    asked: Neutralising
    beneficiary: Beneficiary
    factors: str
    total_g: int
    to_buy_g: int
    made_at: datetime
    claimed_until: datetime
    stage: NeutralStage = NeutralStage.BUYING
    order: str | None = None
    bought_g: int = 0
    certificate: CertificateId | None = None
    failure: str | None = None
    ended_at: datetime | None = None
    version: int = 1
