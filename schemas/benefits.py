"""Benefit return: rounds that finance staff propose and approve, and what citizens got of them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from backend.identity.model import Citizen
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.ledger.errors import InsufficientFundsError
from backend.market.benefits import errors
from backend.market.benefits.model import Payment, Round
from backend.market.funds.errors import OwnInterestError, OwnProposalError
from backend.market.pooling.errors import UnknownBatchError, WrongBatchStageError
from backend.market.pooling.model import Batch, BatchCode
from schemas.context import Info
from schemas.enums import Benefit, BenefitRoundStage
from schemas.refusals import result_union
from schemas.relay import Connection, connect_by_moment, local_id_of, page_span, to_global_id
from schemas.scalars import BigInt
from schemas.view import view

ROUND = "BenefitRound"


@view(of=Round, name=ROUND)
class RoundType:
    """So many fen of a pool, shared among its contributors by their grams; ``number`` counts a batch's rounds."""

    number: BigInt
    fen: BigInt
    stage: BenefitRoundStage
    points_per_yuan: BigInt
    proposed_at: datetime
    proposed_by: str
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None
    done_at: datetime | None

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Round]) -> strawberry.ID:
        """Global id of the round."""
        return to_global_id(ROUND, parent.id)

    @strawberry.field
    @staticmethod
    def batch(parent: strawberry.Parent[Round]) -> str:
        """Code of the batch."""
        return parent.batch

    @strawberry.field
    @staticmethod
    def shares_g(parent: strawberry.Parent[Round]) -> BigInt | None:
        """Grams of all shares together, known once it runs."""
        return None if parent.grams is None else BigInt(parent.grams)

    @strawberry.field
    @staticmethod
    def citizens(parent: strawberry.Parent[Round]) -> BigInt:
        """How many were paid so far."""
        return BigInt(parent.paid.citizens)

    @strawberry.field
    @staticmethod
    def paid_fen(parent: strawberry.Parent[Round]) -> BigInt:
        """What was paid so far in fen."""
        return BigInt(parent.paid.fen)

    @strawberry.field
    @staticmethod
    def converted_fen(parent: strawberry.Parent[Round]) -> BigInt:
        """What was paid so far in points, in fen."""
        return BigInt(parent.paid.converted_fen)

    @strawberry.field
    @staticmethod
    def points(parent: strawberry.Parent[Round]) -> BigInt:
        """The points given for it."""
        return BigInt(parent.paid.points)


@view(of=Payment, name="BenefitPayment")
class PaymentType:
    """What a citizen got of a round, by their grams in the pool: fen, or points for them."""

    fen: BigInt
    choice: Benefit
    points: BigInt
    at: datetime

    @strawberry.field
    @staticmethod
    def round(parent: strawberry.Parent[Payment]) -> strawberry.ID:
        """Global id of the round."""
        return to_global_id(ROUND, parent.round)

    @strawberry.field
    @staticmethod
    def batch(parent: strawberry.Parent[Payment]) -> str:
        """Code of the batch."""
        return parent.batch

    @strawberry.field
    @staticmethod
    def shares_g(parent: strawberry.Parent[Payment]) -> BigInt:
        """The citizen's grams in the pool."""
        return BigInt(parent.grams)

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Payment]) -> str:
        """Id of the transaction in the book, to ask for its receipt."""
        return parent.transaction


@strawberry.type
class CitizenBenefits:
    """What a citizen got of what pools were sold for."""

    @strawberry.field(graphql_type=Connection[PaymentType])
    @staticmethod
    async def benefits(
        parent: strawberry.Parent[Citizen],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Payment]:
        """What the citizen got of pools' proceeds, newest first; at most 100 a page."""
        info.context.require_sight(parent.id)
        list_page = partial(info.context.services.market.benefits.list_payments, parent.id)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda payment: (payment.at, payment.id))


@strawberry.input
class ReturnBenefitsInput:
    """Fen of a batch's pool to be shared among its contributors; null for all that is available."""

    idempotency_key: str
    batch: strawberry.ID
    fen: BigInt | None = None


@strawberry.input
class ApproveBenefitsInput:
    """A proposed round."""

    idempotency_key: str
    round: strawberry.ID


@strawberry.input
class RejectBenefitsInput:
    """A round that has paid nobody yet, and why it is none, in 1–500 characters."""

    idempotency_key: str
    round: strawberry.ID
    reason: str


ANY = (IdempotencyConflictError, InvalidInputError)
OF_ROUND = (errors.UnknownRoundError, errors.RoundStageError, *ANY)
ReturnBenefitsResult: Any = result_union(
    "ReturnBenefitsResult",
    RoundType,
    UnknownBatchError,
    WrongBatchStageError,
    errors.NoSharesError,
    errors.RoundOpenError,
    OwnInterestError,
    errors.RateTooHighError,
    InsufficientFundsError,
    *ANY,
)
ApproveBenefitsResult: Any = result_union(
    "ApproveBenefitsResult",
    RoundType,
    OwnInterestError,
    OwnProposalError,
    errors.RateTooHighError,
    InsufficientFundsError,
    *OF_ROUND,
)
RejectBenefitsResult: Any = result_union("RejectBenefitsResult", RoundType, *OF_ROUND)


def _batch_code(given: str) -> BatchCode:
    return BatchCode(local_id_of(Batch.__name__, given))


@strawberry.type
class BenefitsMutation:
    """Mutations on benefit return, each for finance staff and administrators."""

    @strawberry.mutation(graphql_type=ReturnBenefitsResult)
    async def return_benefits(self, info: Info, input: ReturnBenefitsInput) -> Round:  # noqa: A002
        """Propose to share what a batch's pool has among its contributors; another approves it."""
        principal, batch = info.context.require_principal(), _batch_code(input.batch)
        benefits = info.context.services.market.benefits
        return await benefits.propose(principal, batch, input.fen, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ApproveBenefitsResult)
    async def approve_benefits(self, info: Info, input: ApproveBenefitsInput) -> Round:  # noqa: A002
        """Let a round run that another proposed: a worker pays it."""
        principal, round_id = info.context.require_principal(), local_id_of(ROUND, input.round)
        return await info.context.services.market.benefits.approve(principal, round_id, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=RejectBenefitsResult)
    async def reject_benefits(self, info: Info, input: RejectBenefitsInput) -> Round:  # noqa: A002
        """Turn a proposed round down, or end one that runs and has paid nobody."""
        principal, round_id = info.context.require_principal(), local_id_of(ROUND, input.round)
        benefits = info.context.services.market.benefits
        return await benefits.reject(principal, round_id, input.reason, key=input.idempotency_key)


@strawberry.type
class BenefitAdminQueries:
    """What staff read of benefit return."""

    @strawberry.field(graphql_type=Connection[RoundType])
    async def benefit_rounds(
        self,
        info: Info,
        batch: strawberry.ID | None = None,
        stage: BenefitRoundStage | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Round]:
        """Rounds of one batch or of all, in one stage or in any, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        wanted = None if batch is None else _batch_code(batch)
        list_page = partial(info.context.services.market.benefits.list_rounds, principal, wanted, stage)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda one: (one.proposed_at, one.id))
