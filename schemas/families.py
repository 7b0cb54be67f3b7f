"""Families: who belongs to one, and how citizens found, join and leave them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry

from backend.identity import errors
from backend.identity.model import Citizen, Family, Invitation
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from schemas.context import Info
from schemas.refusals import result_union
from schemas.relay import to_global_id
from schemas.view import view


@view(of=Citizen, name="FamilyMember")
class FamilyMemberType:
    """A member as the rest of the family sees them."""

    display_name: str

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Citizen]) -> strawberry.ID:
        """Global id of the citizen, to give points to."""
        return to_global_id(Citizen.__name__, parent.id)


@view(of=Family, name="Family")
class FamilyType:
    """At most eight citizens who may give points to one another, where the programme lets them."""

    @strawberry.field(graphql_type=list[FamilyMemberType])
    @staticmethod
    def members(parent: strawberry.Parent[Family]) -> tuple[Citizen, ...]:
        """In the order in which they joined."""
        return parent.members


@view(of=Invitation, name="FamilyInvitation")
class FamilyInvitationType:
    """A code that lets one citizen join the family, once. Only whoever repeats the request is told it again."""

    expires_at: datetime

    @strawberry.field
    @staticmethod
    def invitation_code(parent: strawberry.Parent[Invitation]) -> str:
        """Eight letters and digits, none of which looks like another."""
        return parent.code


@strawberry.type
class FamilyLeft:
    """The caller has left the family."""

    left_at: datetime


@strawberry.input
class FoundFamilyInput:
    """A new family, under an idempotency key of 8–64 characters."""

    idempotency_key: str


@strawberry.input
class InviteToFamilyInput:
    """One invitation, under an idempotency key of 8–64 characters."""

    idempotency_key: str


@strawberry.input
class JoinFamilyInput:
    """An invitation's code: case, blanks and dashes do not matter."""

    idempotency_key: str
    invitation_code: str


@strawberry.input
class LeaveFamilyInput:
    """Leaving, under an idempotency key of 8–64 characters."""

    idempotency_key: str


ANY = (IdempotencyConflictError, InvalidInputError)
FoundFamilyResult: Any = result_union(
    "FoundFamilyResult", FamilyType, errors.AlreadyInFamilyError, errors.NoFamilyError, *ANY
)
InviteToFamilyResult: Any = result_union(
    "InviteToFamilyResult",
    FamilyInvitationType,
    errors.NoFamilyError,
    errors.FamilyFullError,
    errors.TooManyInvitationsError,
    *ANY,
)
JoinFamilyResult: Any = result_union(
    "JoinFamilyResult",
    FamilyType,
    errors.AlreadyInFamilyError,
    errors.TooManyTriesError,
    errors.InvitationInvalidError,
    errors.FamilyFullError,
    errors.NoFamilyError,
    *ANY,
)
LeaveFamilyResult: Any = result_union("LeaveFamilyResult", FamilyLeft, errors.NoFamilyError, *ANY)


@strawberry.type
class FamiliesMutation:
    """Mutations on families."""

    @strawberry.mutation(graphql_type=FoundFamilyResult)
    async def found_family(self, info: Info, input: FoundFamilyInput) -> Family:  # noqa: A002 - the contract's name
        """Make a family whose only member is the caller."""
        principal = info.context.require_principal()
        return await info.context.services.families.found_family(principal, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=InviteToFamilyResult)
    async def invite_to_family(self, info: Info, input: InviteToFamilyInput) -> Invitation:  # noqa: A002
        """Make a code with which one citizen may join the caller's family within 24 hours."""
        principal = info.context.require_principal()
        return await info.context.services.families.invite(principal, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=JoinFamilyResult)
    async def join_family(self, info: Info, input: JoinFamilyInput) -> Family:  # noqa: A002
        """Join the family that the code invites to; the code is used up."""
        principal = info.context.require_principal()
        return await info.context.services.families.join(principal, input.invitation_code, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=LeaveFamilyResult)
    async def leave_family(self, info: Info, input: LeaveFamilyInput) -> FamilyLeft:  # noqa: A002
        """Leave the family; the last to leave ends it."""
        principal = info.context.require_principal()
        left_at = await info.context.services.families.leave(principal, key=input.idempotency_key)
        return FamilyLeft(left_at=left_at)
