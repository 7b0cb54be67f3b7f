"""Estimates what travel to an event emits, and says what a neutralisation retires. Pure, integers only, rounded up."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backend.identity.rules import require_note
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import InvalidInputError, Text
from backend.kernel.ids import derived_id
from backend.kernel.units import MG_PER_GRAM
from backend.market.neutrality.errors import UnsourcedModeError
from backend.market.neutrality.model import Estimate, Line, Per
from backend.market.retirement.model import Beneficiary, CertificateId, RetirementPurpose, Retiring
from backend.market.retirement.rules import MAX_GRAMS, MAX_NAME, checked, checked_beneficiary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.ledger.model import OwnerId
    from backend.market.neutrality.model import Event, Factors, Leg, Neutralisation, NeutralisationId, Neutralising

MAX_LEGS = 100
MAX_PEOPLE = 10_000_000
MAX_KM = 40_000
MAX_DAYS = 366
MAX_PRICE_FEN = 10**9


def estimate(legs: Sequence[Leg], days: int, factors: Factors, lot_g: int) -> Estimate:
    """What these legs emit in an event of so many days.

    Raises:
        InvalidInputError: no legs, too many, a number out of range, or vehicles where passengers count.
        UnsourcedModeError: a mode without a published factor.
    """
    if not 1 <= len(legs) <= MAX_LEGS:
        raise InvalidInputError("attendance", Text(f"1–{MAX_LEGS} 项", f"1–{MAX_LEGS} entries"))
    _require_within("days", days, MAX_DAYS)
    lines = tuple(_line(f"attendance[{number}]", leg, days, factors) for number, leg in enumerate(legs))
    grams = sum(line.grams for line in lines)
    total_g = -(-grams // lot_g) * lot_g
    if total_g > MAX_GRAMS:
        raise InvalidInputError("attendance", Text("总量过大", "more than can be retired at once"))
    return Estimate(factors.version, lines, grams, total_g)


def _line(place: str, leg: Leg, days: int, factors: Factors) -> Line:
    factor = factors.by_mode.get(leg.mode)
    if factor is None:
        raise UnsourcedModeError(leg.mode)
    _require_within(f"{place}.people", leg.people, MAX_PEOPLE)
    _require_within(f"{place}.kmOneWay", leg.km, MAX_KM)
    if leg.origin:
        require_note(f"{place}.origin", leg.origin, limit=MAX_NAME)
    travellers = leg.people
    if leg.vehicles is not None:
        if factor.per is not Per.VEHICLE:
            problem = Text("该出行方式按人计算", "this mode is counted by passengers")
            raise InvalidInputError(f"{place}.vehicles", problem)
        _require_within(f"{place}.vehicles", leg.vehicles, leg.people)
        travellers = leg.vehicles
    total_km = travellers * leg.km * (2 if leg.is_return else 1) * (days if leg.is_daily else 1)
    return Line(leg, factor, total_km, -(-total_km * factor.mg_per_km // MG_PER_GRAM))


def _require_within(field: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise InvalidInputError(field, Text(f"1–{most}", f"1–{most}"))


def checked_asking(asked: Neutralising) -> Neutralising:
    """What is asked, in the spelling that is kept.

    Raises:
        InvalidInputError: which field cannot be.
    """
    _require_within("maxPriceFen", asked.max_price_fen, MAX_PRICE_FEN)
    event = asked.event
    require_note("event.nameZh", event.name_zh, limit=MAX_NAME)
    if event.name_en is not None:
        require_note("event.nameEn", event.name_en, limit=MAX_NAME)
    require_note("event.place", event.place, limit=MAX_NAME)
    given = asked.beneficiary
    return dataclasses.replace(asked, beneficiary=checked_beneficiary(given) if given else None)


def beneficiary_of(asked: Neutralising) -> Beneficiary:
    """For whom the credits are retired: the event itself where nobody else is named."""
    event = asked.event
    return asked.beneficiary or checked_beneficiary(Beneficiary(event.name_en or event.name_zh, event.name_zh))


def retiring(neutralisation: Neutralisation) -> Retiring:
    """What is retired in the end.

    Raises:
        InvalidInputError: the statement cannot stand on a certificate.
    """
    asked = neutralisation.asked
    return checked(
        Retiring(
            credit=asked.credit,
            grams=neutralisation.total_g,
            beneficiary=neutralisation.beneficiary,
            purpose=RetirementPurpose.EVENT,
            statement=asked.statement or _statement(asked.event),
            is_named=asked.is_named,
        )
    )


def _statement(event: Event) -> str:
    names = f"{event.name_zh} / {event.name_en}" if event.name_en else event.name_zh
    return f"{names} · {event.day.isoformat()} · {event.place}"


def payload_of(owner: OwnerId, asked: Neutralising) -> str:
    """Hash of all that a replay must repeat."""
    return payload_hash([owner, dataclasses.asdict(asked)])


def certificate_of(neutralisation: NeutralisationId) -> CertificateId:
    """The id of the one certificate that the neutralisation can have."""
    return CertificateId(derived_id("crt", neutralisation))
