"""The citizen as the citizen's phone sees them."""

from __future__ import annotations

import re
from datetime import datetime

import strawberry

from backend.actions.model import Action
from backend.identity.model import Citizen, Principal
from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import InvalidInputError
from backend.ledger.model import POINTS, QUANTIFIED, RECOGNISED, Asset, Page, StatementLine, account_of, citizen_owner
from schemas.actions import ActionType
from schemas.context import Info
from schemas.enums import PrincipalKind
from schemas.ledger import AssetEnum, Reduction, StatementLineType
from schemas.relay import NOT_A_CURSOR, Connection, Node, connect, page_span
from schemas.scalars import BigInt
from schemas.view import view


def action_place(action: Action) -> str:
    """An action's place in its citizen's list."""
    return f"{action.occurred_at.isoformat()}|{action.id}"


def _read_action_place(text: str | None, field: str) -> tuple[datetime, str] | None:
    if text is None:
        return None
    moment, _, action = text.partition("|")
    try:
        return to_milliseconds(datetime.fromisoformat(moment)), action
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(field, NOT_A_CURSOR) from error


def _read_sequence(text: str | None, field: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidInputError(field, NOT_A_CURSOR)
    return int(text)


async def _page(parent: Citizen, info: Info) -> Page:
    info.context.require_sight(parent.id)
    return await info.context.pages.load(citizen_owner(parent.id))


@strawberry.interface(description="Who asks.")
class Viewer:
    """What every principal shows of itself."""

    @strawberry.field
    @staticmethod
    def kind(parent: strawberry.Parent[Principal | Citizen]) -> PrincipalKind:
        """The sort of principal."""
        return parent.kind if isinstance(parent, Principal) else PrincipalKind.CITIZEN


@view(of=Citizen, name="Citizen")
class CitizenType(Node, Viewer):
    """A person with a carbon account. Only the citizen and staff see the balances and lists."""

    display_name: str
    district: str | None

    @strawberry.field
    @staticmethod
    async def points_balance(parent: strawberry.Parent[Citizen], info: Info) -> BigInt:
        """Points owned, held ones included."""
        return BigInt((await _page(parent, info)).balance(POINTS))

    @strawberry.field
    @staticmethod
    async def reduction(parent: strawberry.Parent[Citizen], info: Info) -> Reduction:
        """Milligrams CO2e avoided so far."""
        page = await _page(parent, info)
        return Reduction(quantified_mg=BigInt(page.balance(QUANTIFIED)), recognised_mg=BigInt(page.balance(RECOGNISED)))

    @strawberry.field(graphql_type=Connection[ActionType])
    @staticmethod
    async def actions(
        parent: strawberry.Parent[Citizen],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Action]:
        """The citizen's actions, newest act first; at most 100 a page."""
        info.context.require_sight(parent.id)
        span = page_span(first, after, last, before)
        older, newer = _read_action_place(span.after, "after"), _read_action_place(span.before, "before")

        async def fetch(limit: int) -> list[Action]:
            return await info.context.services.actions.list_actions(
                parent.id, limit=limit, older_than=older, newer_than=newer, newest=span.newest
            )

        return await connect(span, fetch, action_place)

    @strawberry.field(graphql_type=Connection[StatementLineType])
    @staticmethod
    async def statement(
        parent: strawberry.Parent[Citizen],
        info: Info,
        asset: AssetEnum = AssetEnum.POINTS,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[StatementLine]:
        """Movements of one account, newest first; at most 100 a page."""
        info.context.require_sight(parent.id)
        span = page_span(first, after, last, before)
        older, newer = _read_sequence(span.after, "after"), _read_sequence(span.before, "before")
        account = account_of(citizen_owner(parent.id), Asset(asset.value))

        async def fetch(limit: int) -> list[StatementLine]:
            return await info.context.services.ledger.list_statement(
                account, limit=limit, older_than=older, newer_than=newer, newest=span.newest
            )

        return await connect(span, fetch, lambda line: str(line.sequence))


@view(of=Principal, name="Partner", when=lambda principal: principal.kind is PrincipalKind.PARTNER)
class PartnerType(Viewer):
    """A provider of data."""


@view(of=Principal, name="Merchant", when=lambda principal: principal.kind is PrincipalKind.MERCHANT)
class MerchantType(Viewer):
    """A shop."""


@view(of=Principal, name="Enterprise", when=lambda principal: principal.kind is PrincipalKind.ENTERPRISE)
class EnterpriseType(Viewer):
    """A buyer of credits."""


@view(of=Principal, name="Staff", when=lambda principal: principal.kind is PrincipalKind.STAFF)
class StaffType(Viewer):
    """A member of the programme's staff."""

    @strawberry.field
    @staticmethod
    def roles(parent: strawberry.Parent[Principal]) -> list[str]:
        """admin, reviewer, verifier."""
        return sorted(parent.staff_roles)


@strawberry.type
class CitizensQuery:
    """Queries on who asks."""

    @strawberry.field(graphql_type=Viewer | None)
    async def viewer(self, info: Info) -> Principal | Citizen | None:
        """Who asks, as Citizen, Partner, Merchant, Enterprise or Staff; UNAUTHENTICATED where nobody is signed in."""
        principal = info.context.require_principal()
        return await info.context.citizens.load(principal.citizen) if principal.citizen else principal
