"""Enterprises: what they see of themselves, what staff see, and the steps by which staff let them in."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from backend.identity.model import Principal
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.ledger.model import Page, enterprise_owner
from backend.market.funds import errors
from backend.market.funds.model import Enterprise, EnterpriseApplication, EnterpriseId, EnterpriseStep, StepTaken
from schemas.context import Info
from schemas.enums import EnterpriseStage
from schemas.enums import EnterpriseStep as EnterpriseStepEnum
from schemas.funds import MoneyType
from schemas.refusals import result_union
from schemas.relay import Connection, connect_by_moment, local_id_of, page_span, to_global_id
from schemas.view import view


@view(of=StepTaken, name="EnterpriseStepTaken")
class StepTakenType:
    """One step of staff: when, who, what and, where it needs one, why."""

    at: datetime
    actor: str
    step: EnterpriseStepEnum
    reason: str | None


@view(of=Enterprise, name="EnterpriseAccount")
class EnterpriseAccountType:
    """An enterprise as staff see it; ``reason`` says why it is rejected, suspended or resumed."""

    name: str
    credit_code: str
    contact: str
    purpose: str
    stage: EnterpriseStage
    reason: str | None
    proposed_at: datetime
    proposed_by: str
    steps: list[StepTakenType]

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Enterprise]) -> strawberry.ID:
        """Global id of the enterprise."""
        return to_global_id(Enterprise.__name__, parent.id)

    @strawberry.field
    @staticmethod
    def login(parent: strawberry.Parent[Enterprise]) -> str:
        """The subject of its tokens."""
        return parent.id

    @strawberry.field(graphql_type=MoneyType)
    @staticmethod
    async def money(parent: strawberry.Parent[Enterprise], info: Info) -> Page:
        """What it has in fen."""
        return await info.context.pages.load(parent.owner)


@strawberry.type
class EnterpriseFields:
    """What an enterprise sees of itself."""

    @strawberry.field
    @staticmethod
    async def name(parent: strawberry.Parent[Principal], info: Info) -> str | None:
        """Its name; null where it was never registered."""
        found = await info.context.services.market.enterprises.find_own(parent)
        return found.name if found else None

    @strawberry.field
    @staticmethod
    async def stage(parent: strawberry.Parent[Principal], info: Info) -> EnterpriseStage | None:
        """How it stands with the programme; null where it was never registered."""
        found = await info.context.services.market.enterprises.find_own(parent)
        return found.stage if found else None

    @strawberry.field(graphql_type=MoneyType)
    @staticmethod
    async def money(parent: strawberry.Parent[Principal], info: Info) -> Page:
        """What it has in fen."""
        return await info.context.pages.load(enterprise_owner(parent.id))


@strawberry.input
class RegisterEnterpriseInput:
    """A firm that is to buy credits: its name, unified social credit code, whom to call, and what it buys for."""

    idempotency_key: str
    name: str
    credit_code: str
    contact: str
    purpose: str


@strawberry.input
class ApproveEnterpriseInput:
    """A registered enterprise to be let in."""

    idempotency_key: str
    enterprise: strawberry.ID


@strawberry.input
class EnterpriseStepInput:
    """A step with an enterprise, and why, in 1–500 characters."""

    idempotency_key: str
    enterprise: strawberry.ID
    reason: str


ANY = (errors.UnknownEnterpriseError, errors.EnterpriseStageError, IdempotencyConflictError, InvalidInputError)


def _result(name: str, *refused: Any) -> Any:
    return result_union(f"{name}Result", EnterpriseAccountType, *refused)


RegisterEnterpriseResult: Any = _result(
    "RegisterEnterprise", errors.EnterpriseRegisteredError, IdempotencyConflictError, InvalidInputError
)
ApproveEnterpriseResult: Any = _result("ApproveEnterprise", errors.OwnProposalError, *ANY)
RejectEnterpriseResult: Any = _result("RejectEnterprise", errors.OwnProposalError, *ANY)
SuspendEnterpriseResult: Any = _result("SuspendEnterprise", *ANY)
ResumeEnterpriseResult: Any = _result("ResumeEnterprise", *ANY)


def enterprise_id_of(given: str) -> EnterpriseId:
    """The enterprise that an input names, by its global id or its own."""
    return EnterpriseId(local_id_of(Enterprise.__name__, given))


async def _step(info: Info, given: Any, step: EnterpriseStep, reason: str | None) -> Enterprise:
    principal = info.context.require_principal()
    enterprises = info.context.services.market.enterprises
    enterprise = enterprise_id_of(given.enterprise)
    return await enterprises.take(principal, enterprise, step, reason, key=given.idempotency_key)


@strawberry.type
class EnterprisesMutation:
    """Mutations on enterprises, each for administrators."""

    @strawberry.mutation(graphql_type=RegisterEnterpriseResult)
    async def register_enterprise(self, info: Info, input: RegisterEnterpriseInput) -> Enterprise:  # noqa: A002
        """Register an enterprise, which another administrator lets in."""
        application = EnterpriseApplication(
            name=input.name, credit_code=input.credit_code, contact=input.contact, purpose=input.purpose
        )
        principal = info.context.require_principal()
        enterprises = info.context.services.market.enterprises
        return await enterprises.register(principal, application, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ApproveEnterpriseResult)
    async def approve_enterprise(self, info: Info, input: ApproveEnterpriseInput) -> Enterprise:  # noqa: A002
        """Let an enterprise in; who registered it cannot."""
        return await _step(info, input, EnterpriseStep.APPROVE, None)

    @strawberry.mutation(graphql_type=RejectEnterpriseResult)
    async def reject_enterprise(self, info: Info, input: EnterpriseStepInput) -> Enterprise:  # noqa: A002
        """Turn a registered enterprise down; who registered it cannot."""
        return await _step(info, input, EnterpriseStep.REJECT, input.reason)

    @strawberry.mutation(graphql_type=SuspendEnterpriseResult)
    async def suspend_enterprise(self, info: Info, input: EnterpriseStepInput) -> Enterprise:  # noqa: A002
        """Let no money in or out for an enterprise from now on."""
        return await _step(info, input, EnterpriseStep.SUSPEND, input.reason)

    @strawberry.mutation(graphql_type=ResumeEnterpriseResult)
    async def resume_enterprise(self, info: Info, input: EnterpriseStepInput) -> Enterprise:  # noqa: A002
        """Let a suspended enterprise go on."""
        return await _step(info, input, EnterpriseStep.RESUME, input.reason)


@strawberry.type
class EnterpriseAdminQueries:
    """What staff read of enterprises."""

    @strawberry.field(graphql_type=EnterpriseAccountType | None)
    async def enterprise(self, info: Info, id: strawberry.ID) -> Enterprise | None:  # noqa: A002 - the contract's name
        """An enterprise in any stage."""
        principal = info.context.require_principal()
        return await info.context.services.market.enterprises.find_enterprise(principal, enterprise_id_of(id))

    @strawberry.field(graphql_type=Connection[EnterpriseAccountType])
    async def enterprises(
        self,
        info: Info,
        stage: EnterpriseStage | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Enterprise]:
        """Enterprises in one stage or in any, by registration, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.market.enterprises.list_enterprises, principal, stage)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda found: (found.proposed_at, found.id))
