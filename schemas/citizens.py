"""The citizen as the citizen's phone sees them."""

from __future__ import annotations

from datetime import datetime, timedelta

import strawberry

from backend.actions.model import Action
from backend.identity.model import Citizen, Family, Principal
from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import InvalidInputError, Text
from backend.ledger.model import (
    POINTS,
    QUANTIFIED,
    RECOGNISED,
    AccountId,
    Asset,
    Lot,
    Page,
    PeriodStatement,
    StatementLine,
    account_of,
    citizen_owner,
)
from backend.rewards.vouchers.model import Voucher
from schemas.actions import ActionType
from schemas.benefits import CitizenBenefits
from schemas.context import Info
from schemas.enterprises import EnterpriseFields
from schemas.enums import PrincipalKind
from schemas.families import FamilyType
from schemas.funds import CitizenFunds
from schemas.ledger import (
    AssetEnum,
    PeriodStatementType,
    PointLotType,
    Reduction,
    StatementLineType,
    connect_statement,
)
from schemas.orders import CitizenTrading, EnterpriseTrading
from schemas.pooling import CitizenPooling
from schemas.relay import Connection, Node, connect, moment_place, page_span, read_moment_place
from schemas.scalars import BigInt
from schemas.view import view
from schemas.vouchers import VoucherType, connect_vouchers

MAX_DAYS_AHEAD = 3_660
MAX_PERIOD = timedelta(days=366)
FIRST_YEAR = 2000


def action_place(action: Action) -> str:
    """An action's place in its citizen's list."""
    return moment_place(action.occurred_at, action.id)


async def _page(parent: Citizen, info: Info) -> Page:
    info.context.require_sight(parent.id)
    return await info.context.pages.load(citizen_owner(parent.id))


def _account(citizen: Citizen, asset: AssetEnum) -> AccountId:
    return account_of(citizen_owner(citizen.id), Asset(asset.value))


@strawberry.interface(description="Who asks.")
class Viewer:
    """What every principal shows of itself."""

    @strawberry.field
    @staticmethod
    def kind(parent: strawberry.Parent[Principal | Citizen]) -> PrincipalKind:
        """The sort of principal."""
        return parent.kind if isinstance(parent, Principal) else PrincipalKind.CITIZEN


@view(of=Citizen, name="Citizen")
class CitizenType(Node, Viewer, CitizenBenefits, CitizenFunds, CitizenPooling, CitizenTrading):
    """A person with a carbon account. Only the citizen and staff see the balances and lists."""

    display_name: str
    district: str | None

    @strawberry.field
    @staticmethod
    async def points_balance(parent: strawberry.Parent[Citizen], info: Info) -> BigInt:
        """Points that count: available ones and held ones."""
        page = await _page(parent, info)
        return BigInt(page.available(POINTS, info.context.services.clock.now()) + page.held(POINTS))

    @strawberry.field
    @staticmethod
    async def points_available(parent: strawberry.Parent[Citizen], info: Info) -> BigInt:
        """Points that can be spent now: neither held nor expired."""
        return BigInt((await _page(parent, info)).available(POINTS, info.context.services.clock.now()))

    @strawberry.field
    @staticmethod
    async def points_held(parent: strawberry.Parent[Citizen], info: Info) -> BigInt:
        """Points reserved by holds."""
        return BigInt((await _page(parent, info)).held(POINTS))

    @strawberry.field
    @staticmethod
    async def points_owed(parent: strawberry.Parent[Citizen], info: Info) -> BigInt:
        """Points that a correction took back when they were no longer there."""
        return BigInt((await _page(parent, info)).debt(POINTS))

    @strawberry.field
    @staticmethod
    async def expiring_points(parent: strawberry.Parent[Citizen], info: Info, within: int) -> BigInt:
        """Available points that will have expired in so many days (1–3660), unless they are spent."""
        if not 1 <= within <= MAX_DAYS_AHEAD:
            raise InvalidInputError("within", Text(f"1–{MAX_DAYS_AHEAD}", f"1–{MAX_DAYS_AHEAD}"))
        now = info.context.services.clock.now()
        return BigInt((await _page(parent, info)).expiring(now + timedelta(days=within), now))

    @strawberry.field(graphql_type=list[PointLotType])
    @staticmethod
    async def point_lots(parent: strawberry.Parent[Citizen], info: Info) -> list[Lot]:
        """Available points by the moment at which they stop counting, soonest first."""
        now = info.context.services.clock.now()
        return [lot for lot in (await _page(parent, info)).lots if lot.expires_at > now]

    @strawberry.field
    @staticmethod
    async def balance_at(
        parent: strawberry.Parent[Citizen], info: Info, at: datetime, asset: AssetEnum = AssetEnum.POINTS
    ) -> BigInt:
        """What one account held after all that happened before that moment (at the latest now), held ones included."""
        info.context.require_sight(parent.id)
        balance = await info.context.services.ledger.balance_at(_account(parent, asset), to_milliseconds(at))
        return BigInt(balance)

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
        older, newer = read_moment_place(span.after, "after"), read_moment_place(span.before, "before")

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
        return await connect_statement(info, _account(parent, asset), first, after, last, before)

    @strawberry.field(graphql_type=PeriodStatementType)
    @staticmethod
    async def period_statement(
        parent: strawberry.Parent[Citizen],
        info: Info,
        since: datetime,
        until: datetime,
        asset: AssetEnum = AssetEnum.POINTS,
    ) -> PeriodStatement:
        """Movements of one account in at most 366 days, until now at the latest, with the balances before and after."""
        info.context.require_sight(parent.id)
        since, until = to_milliseconds(since), to_milliseconds(until)
        if since.year < FIRST_YEAR:
            raise InvalidInputError("since", Text(f"不早于 {FIRST_YEAR} 年", f"not before {FIRST_YEAR}"))
        if not timedelta() < until - since <= MAX_PERIOD:
            problem = Text(
                f"应晚于 since，且不超过 {MAX_PERIOD.days} 天", f"after since, by {MAX_PERIOD.days} days at most"
            )
            raise InvalidInputError("until", problem)
        return await info.context.services.ledger.period_statement(_account(parent, asset), since, until)

    @strawberry.field(graphql_type=Connection[VoucherType])
    @staticmethod
    async def vouchers(
        parent: strawberry.Parent[Citizen],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Voucher]:
        """What the citizen has redeemed, newest first; at most 100 a page."""
        info.context.require_sight(parent.id)
        return await connect_vouchers(info, parent.id, first, after, last, before)

    @strawberry.field(graphql_type=FamilyType | None)
    @staticmethod
    async def family(parent: strawberry.Parent[Citizen], info: Info) -> Family | None:
        """The citizen's family, where there is one."""
        info.context.require_sight(parent.id)
        return await info.context.services.families.find_family(parent.id)


@view(of=Principal, name="Partner", when=lambda principal: principal.kind is PrincipalKind.PARTNER)
class PartnerType(Viewer):
    """A provider of data."""


@view(of=Principal, name="Merchant", when=lambda principal: principal.kind is PrincipalKind.MERCHANT)
class MerchantType(Viewer):
    """A shop."""


@view(of=Principal, name="Enterprise", when=lambda principal: principal.kind is PrincipalKind.ENTERPRISE)
class EnterpriseType(Viewer, EnterpriseFields, EnterpriseTrading):
    """A buyer of credits."""


@view(of=Principal, name="Staff", when=lambda principal: principal.kind is PrincipalKind.STAFF)
class StaffType(Viewer):
    """A member of the programme's staff."""

    @strawberry.field
    @staticmethod
    def roles(parent: strawberry.Parent[Principal]) -> list[str]:
        """admin, reviewer, verifier, finance."""
        return sorted(parent.staff_roles)


@strawberry.type
class CitizensQuery:
    """Queries on who asks."""

    @strawberry.field(graphql_type=Viewer | None)
    async def viewer(self, info: Info) -> Principal | Citizen | None:
        """Who asks, as Citizen, Partner, Merchant, Enterprise or Staff; UNAUTHENTICATED where nobody is signed in."""
        principal = info.context.require_principal()
        return await info.context.citizens.load(principal.citizen) if principal.citizen else principal
