"""What administrators decide of the market: listing, halts, extra sessions, auctions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry

from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.market.exchange import errors
from backend.market.exchange.model import Instrument
from schemas.context import Info
from schemas.market_data import InstrumentType, instrument_id_of
from schemas.refusals import result_union
from schemas.scalars import BigInt


@strawberry.input
class ListInstrumentInput:
    """The credits of an issued batch (its code), to be traded around a reference price in fen a tonne."""

    idempotency_key: str
    credit: strawberry.ID
    reference_fen: BigInt


@strawberry.input
class HaltTradingInput:
    """An instrument in which trading is to stop, and why, in 1–200 characters."""

    idempotency_key: str
    instrument: strawberry.ID
    reason: str


@strawberry.input
class ResumeTradingInput:
    """An instrument in which trading is halted."""

    idempotency_key: str
    instrument: strawberry.ID


@strawberry.input
class OpenSessionInput:
    """An instrument to be traded from now until a moment within seven days, whatever the hours."""

    idempotency_key: str
    instrument: strawberry.ID
    until: datetime


@strawberry.input
class OpenAuctionInput:
    """Orders are collected from now until a moment within seven days, and executed at one price, none below the floor.

    ``irrevocable``: they can be neither changed nor taken back.
    """

    idempotency_key: str
    instrument: strawberry.ID
    until: datetime
    floor_fen: BigInt | None = None
    irrevocable: bool = False


ANY = (IdempotencyConflictError, InvalidInputError)
CHANGE = (errors.UnknownInstrumentError, *ANY)
OPENING = (errors.MarketHaltedError, errors.MarketClosedError, *CHANGE)
ListInstrumentResult: Any = result_union(
    "ListInstrumentResult",
    InstrumentType,
    errors.NotIssuedError,
    errors.AlreadyListedError,
    errors.OffTickError,
    *ANY,
)
HaltTradingResult: Any = result_union("HaltTradingResult", InstrumentType, errors.MarketHaltedError, *CHANGE)
ResumeTradingResult: Any = result_union("ResumeTradingResult", InstrumentType, errors.NotHaltedError, *CHANGE)
OpenSessionResult: Any = result_union("OpenSessionResult", InstrumentType, *OPENING)
OpenAuctionResult: Any = result_union(
    "OpenAuctionResult",
    InstrumentType,
    errors.OffTickError,
    errors.OutsideBandError,
    *OPENING,
)


@strawberry.type
class ExchangeMutation:
    """Mutations on instruments, for administrators."""

    @strawberry.mutation(graphql_type=ListInstrumentResult)
    async def list_instrument(self, info: Info, input: ListInstrumentInput) -> Instrument:  # noqa: A002
        """Let the credits of an issued batch be traded."""
        principal = info.context.require_principal()
        credit = instrument_id_of(input.credit)
        desk = info.context.services.market.exchange.desk
        return await desk.list_instrument(principal, credit, input.reference_fen, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=HaltTradingResult)
    async def halt_trading(self, info: Info, input: HaltTradingInput) -> Instrument:  # noqa: A002
        """Stop trading at once: nothing is placed, amended or matched; orders may be cancelled."""
        principal = info.context.require_principal()
        desk = info.context.services.market.exchange.desk
        asset = instrument_id_of(input.instrument)
        return await desk.halt(principal, asset, input.reason, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ResumeTradingResult)
    async def resume_trading(self, info: Info, input: ResumeTradingInput) -> Instrument:  # noqa: A002
        """Trade again by the hours."""
        principal = info.context.require_principal()
        desk = info.context.services.market.exchange.desk
        return await desk.resume(principal, instrument_id_of(input.instrument), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=OpenSessionResult)
    async def open_session(self, info: Info, input: OpenSessionInput) -> Instrument:  # noqa: A002
        """Match continuously from now until a moment, whatever the hours."""
        principal = info.context.require_principal()
        desk = info.context.services.market.exchange.desk
        asset = instrument_id_of(input.instrument)
        return await desk.open_session(principal, asset, input.until, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=OpenAuctionResult)
    async def open_auction(self, info: Info, input: OpenAuctionInput) -> Instrument:  # noqa: A002
        """Collect orders from now until a moment and execute them at one price."""
        principal = info.context.require_principal()
        desk = info.context.services.market.exchange.desk
        return await desk.open_auction(
            principal,
            instrument_id_of(input.instrument),
            input.until,
            floor_fen=input.floor_fen,
            irrevocable=input.irrevocable,
            key=input.idempotency_key,
        )
