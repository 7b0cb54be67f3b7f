"""Neutrality: what travel to an event emits, by sourced factors, and buying and retiring as much in one flow."""

from __future__ import annotations

from datetime import date, datetime
from functools import partial
from typing import Any

import strawberry

from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.market.exchange import errors as exchange_errors
from backend.market.neutrality.errors import UnsourcedModeError
from backend.market.neutrality.model import (
    Estimate,
    Event,
    Factor,
    Leg,
    Line,
    Neutralisation,
    NeutralisationId,
    Neutralising,
)
from backend.market.retirement.model import Beneficiary, Certificate
from schemas.context import Info
from schemas.enums import FactorPer, NeutralStage, TravelMode
from schemas.refusals import result_union
from schemas.relay import Connection, Node, connect_by_moment, page_span, to_global_id
from schemas.retirement import BeneficiaryInput, BeneficiaryType, CertificateType, to_beneficiary, to_credit
from schemas.scalars import BigInt
from schemas.view import view


@view(of=Factor, name="TravelFactor")
class TravelFactorType:
    """What a kilometre emits, in milligrams CO2e, and the published document that says so."""

    mode: TravelMode
    per: FactorPer
    mg_per_km: int
    year: int

    @strawberry.field
    @staticmethod
    def document(parent: strawberry.Parent[Factor], info: Info) -> str:
        """Title of the document, in the reader's language."""
        return parent.document.said(info.context.language)

    @strawberry.field
    @staticmethod
    def publisher(parent: strawberry.Parent[Factor], info: Info) -> str:
        """Who published it."""
        return parent.publisher.said(info.context.language)

    @strawberry.field
    @staticmethod
    def note(parent: strawberry.Parent[Factor], info: Info) -> str:
        """Of what the figure is, and how it was put together."""
        return parent.note.said(info.context.language)


@view(of=Line, name="NeutralityLine")
class LineType:
    """What one entry of the attendance emits, rounded up to grams, and by which factor."""

    @strawberry.field
    @staticmethod
    def origin(parent: strawberry.Parent[Line]) -> str:
        """Where these people come from, as it was given."""
        return parent.leg.origin

    @strawberry.field
    @staticmethod
    def people(parent: strawberry.Parent[Line]) -> int:
        """How many they are."""
        return parent.leg.people

    @strawberry.field
    @staticmethod
    def total_km(parent: strawberry.Parent[Line]) -> BigInt:
        """Kilometres of all passengers, or of all vehicles, there and back, on all days."""
        return BigInt(parent.total_km)

    @strawberry.field
    @staticmethod
    def quantity_g(parent: strawberry.Parent[Line]) -> BigInt:
        """Grams CO2e."""
        return BigInt(parent.grams)

    @strawberry.field(graphql_type=TravelFactorType)
    @staticmethod
    def factor(parent: strawberry.Parent[Line]) -> Factor:
        """The factor that was used."""
        return parent.factor


@view(of=Estimate, name="NeutralityEstimate")
class EstimateType:
    """What all travel to an event emits."""

    @strawberry.field
    @staticmethod
    def factors_version(parent: strawberry.Parent[Estimate]) -> str:
        """Version of the factors that were used."""
        return parent.version

    @strawberry.field(graphql_type=list[LineType])
    @staticmethod
    def lines(parent: strawberry.Parent[Estimate]) -> list[Line]:
        """One line an entry of the attendance, in its order."""
        return list(parent.lines)

    @strawberry.field
    @staticmethod
    def quantity_g(parent: strawberry.Parent[Estimate]) -> BigInt:
        """Grams CO2e of all lines."""
        return BigInt(parent.grams)

    @strawberry.field
    @staticmethod
    def total_g(parent: strawberry.Parent[Estimate]) -> BigInt:
        """The same rounded up to the lot in which credits are traded: what neutrality takes."""
        return BigInt(parent.total_g)


@view(of=Event, name="NeutralEvent")
class EventType:
    """What is to be neutral."""

    name_zh: str
    name_en: str | None
    place: str

    @strawberry.field
    @staticmethod
    def date(parent: strawberry.Parent[Event]) -> date:
        """Its day, or the first of several."""
        return parent.day


@view(of=Neutralisation, name="Neutralisation")
class NeutralisationType(Node):
    """An event on its way to neutrality: credits are bought all at once or not at all, then retired in one certificate.

    Where it has failed, `failure` is the code of what went wrong, and what was bought is still its owner's.
    """

    stage: NeutralStage
    total_g: BigInt
    to_buy_g: BigInt
    bought_g: BigInt
    failure: str | None
    made_at: datetime
    ended_at: datetime | None

    @strawberry.field(graphql_type=EventType)
    @staticmethod
    def event(parent: strawberry.Parent[Neutralisation]) -> Event:
        """The event."""
        return parent.asked.event

    @strawberry.field(graphql_type=BeneficiaryType)
    @staticmethod
    def beneficiary(parent: strawberry.Parent[Neutralisation]) -> Beneficiary:
        """For whom the credits are retired."""
        return parent.beneficiary

    @strawberry.field
    @staticmethod
    def credit(parent: strawberry.Parent[Neutralisation]) -> str:
        """Which credits."""
        return parent.asked.credit

    @strawberry.field
    @staticmethod
    def max_price_fen(parent: strawberry.Parent[Neutralisation]) -> BigInt:
        """What is paid at most, in fen a tonne."""
        return BigInt(parent.asked.max_price_fen)

    @strawberry.field(graphql_type=EstimateType | None)
    @staticmethod
    def estimate(parent: strawberry.Parent[Neutralisation], info: Info) -> Estimate | None:
        """How the total came about; null where other factors are in use by now."""
        return info.context.services.market.neutrality.estimated(parent)

    @strawberry.field
    @staticmethod
    def order_id(parent: strawberry.Parent[Neutralisation]) -> strawberry.ID | None:
        """Global id of the order that buys; null before, and where what was held is enough."""
        return to_global_id("Order", parent.order) if parent.order else None

    @strawberry.field(graphql_type=CertificateType | None)
    @staticmethod
    async def certificate(parent: strawberry.Parent[Neutralisation], info: Info) -> Certificate | None:
        """The certificate, once it is retired."""
        return await info.context.services.market.retirement.find(parent.certificate) if parent.certificate else None


@strawberry.input
class AttendanceInput:
    """People who come the same way: whole kilometres one way; `daily` where they come anew every day of the event.

    Cars are counted by the car: where `vehicles` does not say how many there are, each person is taken to come alone.
    """

    mode: TravelMode
    people: int
    km_one_way: int
    round_trip: bool = True
    daily: bool = False
    vehicles: int | None = None
    origin: str = ""


@strawberry.input
class NeutralityEstimateInput:
    """Who comes to an event (at most 100 entries), which lasts so many days (1–366)."""

    attendance: list[AttendanceInput]
    days: int = 1


@strawberry.input
class NeutralEventInput:
    """What is to be neutral."""

    name_zh: str
    name_en: str | None = None
    date: date
    place: str


@strawberry.input
class NeutraliseEventInput:
    """An event, its attendance, and what credits may cost: an instrument and the most that is paid, in fen a tonne.

    Whoever is not named is the event itself: as beneficiary, and on the certificate. With `useHoldings`, credits of
    that instrument that are there already are used first, in whole lots.
    """

    idempotency_key: str
    event: NeutralEventInput
    attendance: list[AttendanceInput]
    days: int = 1
    instrument: strawberry.ID
    max_price_fen: BigInt
    beneficiary: BeneficiaryInput | None = None
    statement: str = ""
    named: bool = False
    use_holdings: bool = False


NeutraliseEventResult: Any = result_union(
    "NeutraliseEventResult",
    NeutralisationType,
    UnsourcedModeError,
    exchange_errors.UnknownInstrumentError,
    exchange_errors.MarketHaltedError,
    exchange_errors.MarketClosedError,
    exchange_errors.LimitOnlyError,
    exchange_errors.OffLotError,
    exchange_errors.BelowMinimumError,
    exchange_errors.OffTickError,
    exchange_errors.OutsideBandError,
    exchange_errors.TooManyOrdersError,
    exchange_errors.InsufficientMoneyError,
    IdempotencyConflictError,
    InvalidInputError,
)


def _legs(given: list[AttendanceInput]) -> tuple[Leg, ...]:
    return tuple(
        Leg(
            mode=one.mode,
            people=one.people,
            km=one.km_one_way,
            origin=one.origin,
            is_return=one.round_trip,
            is_daily=one.daily,
            vehicles=one.vehicles,
        )
        for one in given
    )


@strawberry.type
class NeutralityMutation:
    """Mutations that make events neutral."""

    @strawberry.mutation(graphql_type=NeutraliseEventResult)
    async def neutralise_event(self, info: Info, input: NeutraliseEventInput) -> Neutralisation:  # noqa: A002
        """Buy credits for all travel to an event, all or none, and retire them; for citizens and enterprises.

        The same key again tells how far it has come.
        """
        principal = info.context.require_principal()
        event = input.event
        asked = Neutralising(
            event=Event(event.name_zh, event.name_en, event.date, event.place),
            legs=_legs(input.attendance),
            days=input.days,
            credit=to_credit(input.instrument),
            max_price_fen=int(input.max_price_fen),
            beneficiary=to_beneficiary(input.beneficiary) if input.beneficiary else None,
            statement=input.statement,
            is_named=input.named,
            uses_holdings=input.use_holdings,
        )
        return await info.context.services.market.neutrality.neutralise(principal, asked, key=input.idempotency_key)


@strawberry.type
class NeutralityQuery:
    """What anybody may reckon, and one's own neutralisations."""

    @strawberry.field(graphql_type=EstimateType)
    def neutrality_estimate(self, info: Info, input: NeutralityEstimateInput) -> Estimate:  # noqa: A002
        """What travel to an event emits, by sourced factors; for anybody."""
        return info.context.services.market.neutrality.estimate(_legs(input.attendance), input.days)

    @strawberry.field(graphql_type=list[TravelFactorType])
    def travel_factors(self, info: Info) -> list[Factor]:
        """The factors in use; a mode that is not among them cannot be estimated."""
        return list(info.context.services.market.neutrality.factors.by_mode.values())

    @strawberry.field(graphql_type=Connection[NeutralisationType])
    async def neutralisations(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Neutralisation]:
        """One's own, newest first; for citizens and enterprises."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.market.neutrality.list_own, principal)
        return await connect_by_moment(
            page_span(first, after, last, before), list_page, lambda one: (one.made_at, one.id)
        )


async def find_neutralisation(info: Info, local_id: str) -> Neutralisation | None:
    """The neutralisation of that id, for its owner and for staff."""
    principal = info.context.principal
    if principal is None:
        return None
    return await info.context.services.market.neutrality.find(principal, NeutralisationId(local_id))
