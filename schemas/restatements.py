"""Restatements: a rule corrected for the past, applied to acts that were settled before."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from backend.actions import errors
from backend.actions.backtesting.errors import UnknownVersionError
from backend.actions.model import RuleRef
from backend.actions.restatements import Count, Estimate, RestatedAct, RestatementJob, Unrestatable
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from schemas.actions import RuleRefType
from schemas.context import Info
from schemas.enums import RestatementStage
from schemas.refusals import result_union
from schemas.relay import Connection, connect_by_moment, page_span
from schemas.scalars import BigInt
from schemas.view import view


@view(of=Unrestatable, name="UnrestatableAct")
class UnrestatableType:
    """An act that keeps what it has, and what stands against its restatement."""

    action: strawberry.ID
    code: str


@view(of=RestatedAct, name="RestatedAct")
class RestatedActType:
    """The signed difference of one act."""

    action: strawberry.ID
    reduction_mg: BigInt
    points: BigInt


@view(of=Count, name="RestatementCount")
class CountType:
    """What a restatement changes: acts, those left as they are, those that cannot be restated, signed differences."""

    acts: BigInt
    unchanged: BigInt
    refused: BigInt
    reduction_mg: BigInt
    points: BigInt
    unrestatable: list[UnrestatableType]


@view(of=Estimate, name="RestatementEstimate")
class EstimateType:
    """What a restatement would do; ``debts`` are acts whose amounts are no longer there to be taken back."""

    at: datetime
    count: CountType
    citizens: BigInt
    debts: BigInt
    largest: list[RestatedActType]


@view(of=RestatementJob, name="Restatement")
class RestatementType:
    """The restatement of the acts of one kind in a period by the rule version that is in force for them now."""

    id: strawberry.ID
    rule: RuleRefType
    kind: str
    reason: str
    dry_run: bool
    proposer: str
    approver: str | None
    at: datetime
    stage: RestatementStage
    estimate: EstimateType | None
    done: CountType

    @strawberry.field(name="from")
    @staticmethod
    def since(parent: strawberry.Parent[RestatementJob]) -> datetime:
        """The first moment of the period."""
        return parent.since

    @strawberry.field(name="to")
    @staticmethod
    def until(parent: strawberry.Parent[RestatementJob]) -> datetime:
        """The first moment behind the period."""
        return parent.until


@strawberry.input
class RestateRuleInput:
    """A published rule version, the period [from, to) in which acts happened, and why, in 1–500 characters.

    A dry run ends with its estimate; otherwise another person approves it with the estimate before them.
    """

    idempotency_key: str
    rule: str
    version: int
    since: datetime = strawberry.field(name="from")
    until: datetime = strawberry.field(name="to")
    reason: str
    dry_run: bool


@strawberry.input
class ApproveRestatementInput:
    """A restatement that somebody else proposed."""

    idempotency_key: str
    restatement: strawberry.ID


RestateRuleResult: Any = result_union(
    "RestateRuleResult",
    RestatementType,
    UnknownVersionError,
    IdempotencyConflictError,
    InvalidInputError,
)
ApproveRestatementResult: Any = result_union(
    "ApproveRestatementResult",
    RestatementType,
    errors.UnknownRestatementError,
    errors.NotProposedError,
    errors.OwnRestatementError,
    IdempotencyConflictError,
    InvalidInputError,
)


@strawberry.type
class RestatementsMutation:
    """Mutations on restatements."""

    @strawberry.mutation(graphql_type=RestateRuleResult)
    async def restate_rule(self, info: Info, input: RestateRuleInput) -> RestatementJob:  # noqa: A002 - the contract's name
        """Propose to restate acts by a version published for their past, or estimate that; for administrators."""
        principal = info.context.require_principal()
        return await info.context.services.restating.propose(
            principal,
            RuleRef(input.rule, input.version),
            input.since,
            input.until,
            input.reason,
            dry_run=input.dry_run,
            key=input.idempotency_key,
        )

    @strawberry.mutation(graphql_type=ApproveRestatementResult)
    async def approve_restatement(self, info: Info, input: ApproveRestatementInput) -> RestatementJob:  # noqa: A002
        """Agree to a restatement that somebody else proposed; for administrators and reviewers."""
        principal = info.context.require_principal()
        return await info.context.services.restating.approve(principal, input.restatement, key=input.idempotency_key)


@strawberry.type
class RestatementQueries:
    """What staff read of restatements."""

    @strawberry.field(graphql_type=RestatementType | None)
    async def restatement(self, info: Info, id: strawberry.ID) -> RestatementJob | None:  # noqa: A002
        """One restatement."""
        return await info.context.services.restating.find(info.context.require_principal(), id)

    @strawberry.field(graphql_type=Connection[RestatementType])
    async def restatements(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[RestatementJob]:
        """Restatements, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.restating.list_jobs, principal)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda job: (job.at, job.id))
