"""Recording acts and seeing what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import strawberry

from backend.actions import errors
from backend.actions.explaining import explain_action
from backend.actions.model import Action, ActionRequest, Doubt, Restatement, Reversal, Review, RuleRef
from backend.actions.plausibility import SENTENCES
from backend.actions.service import Recorded
from backend.identity.errors import ForbiddenError
from backend.kernel.errors import DomainError, IdempotencyConflictError, InvalidInputError, Refusal, Text
from backend.kernel.ids import ActionId, CitizenId
from backend.kernel.units import INT64_MAX
from backend.rules.conversion import Award
from backend.runtime import citizen_channel
from schemas.context import Info
from schemas.enums import Decision, DoubtCode, EvidenceTier, Reason, Status, Unit
from schemas.refusals import RefusalInterface, result_union, show
from schemas.relay import Node, local_id_of
from schemas.scalars import BigInt, JsonMap
from schemas.view import view


@view(of=RuleRef, name="RuleRef")
class RuleRefType:
    """The rule version that converted an action."""

    code: str
    version: int


@view(of=Award, name="Award")
class AwardType:
    """The points that a campaign gave for an act it counted."""

    campaign: str
    points: BigInt


@view(of=Doubt, name="Doubt")
class DoubtType:
    """What is not plausible about an act."""

    code: DoubtCode

    @strawberry.field
    @staticmethod
    def message(parent: strawberry.Parent[Doubt], info: Info) -> str:
        """The doubt in the reader's language."""
        return SENTENCES[parent.code].said(info.context.language)


@view(of=Review, name="Review")
class ReviewType:
    """A reviewer's decision on an act; ``by`` is a pseudonym."""

    by: str
    at: datetime
    decision: Decision
    reason: str


@view(of=Restatement, name="ActionRestatement")
class RestatedType:
    """A later correction of what an act earned, by a corrected rule: signed differences."""

    rule: RuleRefType
    reduction_mg: BigInt
    points: BigInt
    at: datetime

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Restatement]) -> str:
        """The transaction that posted them."""
        return parent.transaction


@view(of=Reversal, name="ActionReversal")
class ReversalType:
    """What an act earned was taken back, for another record of it is counted."""

    at: datetime

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Reversal]) -> str | None:
        """The transaction that took it back; null where nothing was left of it."""
        return parent.transaction


@view(of=Action, name="Action")
class ActionType(Node):
    """One low-carbon act of one citizen, and what it earned."""

    kind: str
    status: Status
    quantity: BigInt
    unit: Unit
    occurred_at: datetime
    ended_at: datetime | None
    recorded_at: datetime
    source: str
    ref: str
    reduction_mg: BigInt
    points: BigInt
    evidence: str | None
    attributes: JsonMap
    review: ReviewType | None
    restatements: list[RestatedType]
    reversal: ReversalType | None

    @strawberry.field
    @staticmethod
    def evidence_tier(parent: strawberry.Parent[Action]) -> EvidenceTier:
        """Who recorded the act."""
        return parent.tier

    @strawberry.field
    @staticmethod
    def settled_at(parent: strawberry.Parent[Action]) -> datetime | None:
        """When it was converted."""
        return parent.settlement.at if parent.settlement else None

    @strawberry.field
    @staticmethod
    def credited_quantity(parent: strawberry.Parent[Action]) -> BigInt:
        """How much of the quantity counted."""
        return BigInt(parent.settlement.credited_quantity if parent.settlement else 0)

    @strawberry.field(graphql_type=RuleRefType | None)
    @staticmethod
    def rule(parent: strawberry.Parent[Action]) -> RuleRef | None:
        """The rule version that converted it."""
        return parent.settlement.rule if parent.settlement else None

    @strawberry.field
    @staticmethod
    def reason_code(parent: strawberry.Parent[Action]) -> Reason | None:
        """Why it earned nothing, waits for a person, or was taken back."""
        return parent.reason

    @strawberry.field
    @staticmethod
    def reason(parent: strawberry.Parent[Action], info: Info) -> str | None:
        """The same in words, in the language of the request."""
        period = parent.settlement.period if parent.settlement else None
        return parent.reason.sentence(info.context.language, period) if parent.reason else None

    @strawberry.field(graphql_type=list[AwardType])
    @staticmethod
    def awards(parent: strawberry.Parent[Action]) -> tuple[Award, ...]:
        """What campaigns gave for it; part of its points."""
        return parent.settlement.awards if parent.settlement else ()

    @strawberry.field(graphql_type=list[DoubtType])
    @staticmethod
    def doubts(parent: strawberry.Parent[Action]) -> tuple[Doubt, ...]:
        """Why it is not plausible."""
        return parent.settlement.doubts if parent.settlement else ()

    @strawberry.field
    @staticmethod
    async def explanation(parent: strawberry.Parent[Action], info: Info) -> list[str]:
        """How it came to what it earned, or why it did not, line by line in the reader's language."""
        context = info.context
        book, citizen = await asyncio.gather(context.book(), context.citizens.load(parent.citizen))
        zone = context.services.programme.zone
        lines = explain_action(parent, book, zone, citizen.district if citizen else None)
        return [line.said(context.language) for line in lines]

    @strawberry.field(graphql_type="ActionType | None")
    @staticmethod
    async def claimed_by(parent: strawberry.Parent[Action], info: Info) -> Action | None:
        """The record of the same act that is counted instead; null where it is another citizen's."""
        other = parent.reversal.superseded_by if parent.reversal else parent.settlement and parent.settlement.claimed_by
        action = await info.context.actions.load(other) if other else None
        return action if action is not None and info.context.may_see(action.citizen) else None

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Action]) -> str | None:
        """The transaction that credited it."""
        return parent.settlement.transaction if parent.settlement else None


@strawberry.input
class EvidenceInput:
    """What backs the act: who recorded it (at most what the caller's word is worth), and where to look it up."""

    tier: EvidenceTier | None = None
    reference: str | None = None


@strawberry.input
class ActionInput:
    """One act. Without ``citizen`` and ``externalId`` it is the caller's own.

    ``externalId`` is the card or user number in the world of ``source``; ``ref`` is the source's own reference, unique
    for ever; ``attributes`` are texts such as ``card``, ``entered_at`` or ``trip_id`` that identify the physical act.
    """

    kind: str
    quantity: BigInt
    unit: Unit
    occurred_at: datetime
    ended_at: datetime | None = None
    source: str
    ref: str
    citizen: strawberry.ID | None = None
    external_id: str | None = None
    attributes: JsonMap | None = None
    evidence: EvidenceInput | None = None


@strawberry.input
class RecordActionInput(ActionInput):
    """One act under an idempotency key of 8–64 characters."""

    idempotency_key: str


@strawberry.input
class RecordActionsInput:
    """1–500 acts under one idempotency key."""

    idempotency_key: str
    actions: list[ActionInput]


RECHECK_S = 20
INTAKE_REFUSALS: tuple[type[Refusal], ...] = (
    errors.UnknownKindError,
    errors.WrongUnitError,
    errors.QuantityOutOfRangeError,
    errors.InFutureError,
    errors.TooOldError,
    errors.EndBeforeStartError,
    errors.NotBoundError,
    errors.UnknownCitizenError,
    errors.ActionConflictError,
    IdempotencyConflictError,
    InvalidInputError,
)
RecordActionResult: Any = result_union("RecordActionResult", ActionType, *INTAKE_REFUSALS)


@strawberry.type
class RecordedActions:
    """What became of each act of the batch, in its order."""

    results: list[Action | RefusalInterface] = strawberry.field(graphql_type=list[RecordActionResult])


RecordActionsResult: Any = result_union(
    "RecordActionsResult",
    RecordedActions,
    errors.BatchTooLargeError,
    IdempotencyConflictError,
    InvalidInputError,
)


def _request(given: ActionInput) -> ActionRequest:
    attributes: dict[str, Any] = given.attributes or {}
    return ActionRequest(
        kind=given.kind,
        # Digits say more than 64 bits hold: what is beyond is out of every range, and refused as that.
        quantity=max(-INT64_MAX, min(given.quantity, INT64_MAX)),
        unit=given.unit,
        occurred_at=given.occurred_at,
        ended_at=given.ended_at,
        source=given.source,
        ref=given.ref,
        citizen=_citizen_id(given.citizen),
        external_id=given.external_id,
        attributes=attributes,
        tier=given.evidence.tier if given.evidence else None,
        evidence=given.evidence.reference if given.evidence else None,
    )


def _citizen_id(given: str | None) -> CitizenId | None:
    if given is None:
        return None
    return CitizenId(local_id_of("Citizen", given))


@strawberry.type
class ActionsQuery:
    """Queries on actions."""

    @strawberry.field(graphql_type=ActionType | None)
    async def action(self, info: Info, id: strawberry.ID) -> Action | None:  # noqa: A002 - the contract's name
        """One action; null where it does not exist or belongs to somebody else."""
        action = await info.context.actions.load(ActionId(local_id_of("Action", id)))
        return action if action is not None and info.context.may_see(action.citizen) else None


@strawberry.type
class ActionsMutation:
    """Mutations on actions."""

    @strawberry.mutation(graphql_type=RecordActionResult)
    async def record_action(self, info: Info, input: RecordActionInput) -> Action:  # noqa: A002
        """Record one act; the reply comes when it is durable, its points follow within a second or so.

        Citizens record for themselves, partners from their own sources for citizens bound to them.
        """
        principal = info.context.require_principal()
        return await info.context.services.actions.record(principal, _request(input), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=RecordActionsResult)
    async def record_actions(self, info: Info, input: RecordActionsInput) -> RecordedActions:  # noqa: A002
        """Record up to 500 acts; each is recorded or refused on its own."""
        principal = info.context.require_principal()
        requests = [_request(given) for given in input.actions]
        outcomes = await info.context.services.actions.record_many(principal, requests, key=input.idempotency_key)
        return RecordedActions(results=[_result(outcome, info) for outcome in outcomes])


def _result(outcome: Recorded | DomainError, info: Info) -> Action | RefusalInterface:
    if isinstance(outcome, Recorded):
        return outcome.action
    if isinstance(outcome, Refusal):
        return show(outcome, info.context.language)
    raise outcome


@strawberry.type
class ActionsSubscription:
    """Subscriptions on actions."""

    @strawberry.subscription(graphql_type=ActionType)
    async def action_settled(self, info: Info) -> AsyncGenerator[Action, None]:
        """The caller's own actions as they are settled."""
        principal = info.context.require_principal()
        if principal.citizen is None:
            raise ForbiddenError(Text("订阅低碳行为", "actionSettled"))
        async with info.context.services.channels.listen(citizen_channel(principal.citizen)) as events:
            while True:
                ids = [ActionId(event["action"]) for event in await next_events(events)]
                info.context.require_principal()  # a websocket can outlive its token
                settled = await info.context.services.actions.find_actions(ids) if ids else {}
                for action in map(settled.get, ids):
                    if action is not None and action.citizen == principal.citizen:
                        yield action


async def next_events(events: asyncio.Queue[dict[str, str]]) -> list[dict[str, str]]:
    """What has arrived by the time something has; nothing after a while, so that the caller can look up."""
    try:
        async with asyncio.timeout(RECHECK_S):
            first = await events.get()
    except TimeoutError:
        return []
    return [first, *(events.get_nowait() for _ in range(events.qsize()))]
