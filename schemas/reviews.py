"""The review queue: actions that wait for a person, and the decision on one."""

from __future__ import annotations

from typing import Any

import strawberry

from backend.actions import errors
from backend.actions.model import Action
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.kernel.ids import ActionId
from backend.ledger import errors as ledger_errors
from schemas.actions import ActionType
from schemas.context import Info
from schemas.enums import Decision, Reason
from schemas.refusals import result_union
from schemas.relay import Connection, connect, local_id_of, moment_place, page_span, read_moment_place


@strawberry.input
class ReviewActionInput:
    """A decision on an action in review, and why, in 1–200 characters that the citizen reads."""

    idempotency_key: str
    action: strawberry.ID
    decision: Decision
    reason: str


ReviewActionResult: Any = result_union(
    "ReviewActionResult",
    ActionType,
    errors.UnknownActionError,
    errors.AlreadyReviewedError,
    errors.NotInReviewError,
    errors.NotApprovableError,
    ledger_errors.InsufficientFundsError,
    ledger_errors.OverCorrectedError,
    IdempotencyConflictError,
    InvalidInputError,
)


@strawberry.type
class ReviewsMutation:
    """Mutations on what waits for a person."""

    @strawberry.mutation(graphql_type=ReviewActionResult)
    async def review_action(self, info: Info, input: ReviewActionInput) -> Action:  # noqa: A002 - the contract's name
        """Decide on an action in review; for reviewers and administrators, not on acts of their own."""
        principal = info.context.require_principal()
        action = ActionId(local_id_of(Action.__name__, input.action))
        reviewing = info.context.services.reviewing
        return await reviewing.review(principal, action, input.decision, input.reason, key=input.idempotency_key)


@strawberry.type
class ReviewQueries:
    """What reviewers read."""

    @strawberry.field(graphql_type=Connection[ActionType])
    async def review_queue(
        self,
        info: Info,
        reason: Reason | None = None,
        kind: str | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Action]:
        """Actions that wait for a person, the longest waiting first; at most 100 a page."""
        principal = info.context.require_principal()
        span = page_span(first, after, last, before)
        behind, ahead = read_moment_place(span.after, "after"), read_moment_place(span.before, "before")

        async def fetch(limit: int) -> list[Action]:
            return await info.context.services.reviewing.list_waiting(
                principal, reason=reason, kind=kind, limit=limit, after=behind, before=ahead, last=not span.newest
            )

        return await connect(span, fetch, lambda action: moment_place(action.recorded_at, action.id))
