"""Points that people move by hand: gifts within a family, corrections by staff."""

from __future__ import annotations

from typing import Any

import strawberry

from backend.identity import errors as identity_errors
from backend.identity.model import Citizen
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.kernel.ids import CitizenId, TransactionId
from backend.ledger import errors as ledger_errors
from schemas.citizens import CitizenType
from schemas.context import Info
from schemas.refusals import result_union
from schemas.relay import local_id_of
from schemas.scalars import BigInt


@strawberry.input
class TransferPointsInput:
    """Points for a member of the caller's family, with a message of 1–60 characters if one likes."""

    idempotency_key: str
    to: strawberry.ID
    points: BigInt
    message: str | None = None


@strawberry.input
class AdjustPointsInput:
    """Points to give (above zero) or take back (below zero), and why, in 1–200 characters that the citizen reads.

    ``corrects`` is the id of the transaction that was wrong, where it was one.
    """

    idempotency_key: str
    citizen: strawberry.ID
    points: BigInt
    reason: str
    corrects: strawberry.ID | None = None


@strawberry.type
class PointsTransfer:
    """The points are given; ``citizen`` is the giver with the balances after it."""

    transaction_id: str
    citizen: Citizen | None = strawberry.field(graphql_type=CitizenType | None)


@strawberry.type
class PointsAdjustment:
    """The points are corrected; ``citizen`` shows the balances after it."""

    transaction_id: str
    citizen: Citizen | None = strawberry.field(graphql_type=CitizenType | None)


TransferPointsResult: Any = result_union(
    "TransferPointsResult",
    PointsTransfer,
    identity_errors.NotTransferableError,
    identity_errors.NotInFamilyError,
    ledger_errors.InsufficientFundsError,
    IdempotencyConflictError,
    InvalidInputError,
)
AdjustPointsResult: Any = result_union(
    "AdjustPointsResult",
    PointsAdjustment,
    ledger_errors.NotCorrectableError,
    ledger_errors.OverCorrectedError,
    ledger_errors.InsufficientFundsError,
    IdempotencyConflictError,
    InvalidInputError,
)


def _citizen_id(given: str) -> CitizenId:
    return CitizenId(local_id_of(Citizen.__name__, given))


@strawberry.type
class PointsMutation:
    """Mutations on points."""

    @strawberry.mutation(graphql_type=TransferPointsResult)
    async def transfer_points(self, info: Info, input: TransferPointsInput) -> PointsTransfer:  # noqa: A002
        """Give points to a member of the caller's family, where the programme lets points be given."""
        context = info.context
        principal = context.require_principal()
        transaction = await context.services.families.give_points(
            principal, _citizen_id(input.to), input.points, key=input.idempotency_key, message=input.message
        )
        giver = await context.citizens.load(CitizenId(principal.id))
        return PointsTransfer(transaction_id=transaction, citizen=giver)

    @strawberry.mutation(graphql_type=AdjustPointsResult)
    async def adjust_points(self, info: Info, input: AdjustPointsInput) -> PointsAdjustment:  # noqa: A002
        """Correct a citizen's points by hand; for administrators."""
        context = info.context
        principal = context.require_principal()
        citizen = _citizen_id(input.citizen)
        transaction = await context.services.adjusting.adjust_points(
            principal,
            citizen,
            input.points,
            input.reason,
            key=input.idempotency_key,
            corrects=TransactionId(input.corrects) if input.corrects is not None else None,
        )
        return PointsAdjustment(transaction_id=transaction, citizen=await context.citizens.load(citizen))
