"""Money in fen: what owners have, deposits that finance staff record, payouts that owners ask for."""

from __future__ import annotations

from datetime import date, datetime
from functools import partial

import strawberry

from backend.identity.errors import ForbiddenError
from backend.identity.model import Citizen
from backend.ledger.model import CNY, OwnerId, Page, StatementLine, account_of, citizen_owner
from backend.market.funds.model import (
    Deposit,
    Enterprise,
    Payee,
    Payout,
    account_of_owner,
)
from schemas.context import Info
from schemas.enums import DepositStage, PayoutStage
from schemas.ledger import StatementLineType, connect_statement
from schemas.relay import Connection, connect_by_moment, page_span, to_global_id
from schemas.scalars import BigInt
from schemas.view import view


def _for_staff(name: str | None, info: Info) -> str | None:
    principal = info.context.principal
    return name if principal is not None and principal.staff_roles else None


def _citizen_id(owner: OwnerId) -> strawberry.ID | None:
    citizen = account_of_owner(owner).citizen
    return to_global_id(Citizen.__name__, citizen) if citizen is not None else None


def _enterprise_id(owner: OwnerId) -> strawberry.ID | None:
    enterprise = account_of_owner(owner).enterprise
    return to_global_id(Enterprise.__name__, enterprise) if enterprise is not None else None


@view(of=Deposit, name="Deposit")
class DepositType:
    """Money that came in by the bank, for a citizen or an enterprise; in the book once approved."""

    fen: BigInt
    note: str | None
    stage: DepositStage
    proposed_at: datetime
    proposed_by: str
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Deposit]) -> strawberry.ID:
        """Global id of the deposit."""
        return to_global_id(Deposit.__name__, parent.id)

    @strawberry.field
    @staticmethod
    def citizen(parent: strawberry.Parent[Deposit]) -> strawberry.ID | None:
        """Global id of the citizen, where it is for one."""
        return _citizen_id(parent.owner)

    @strawberry.field
    @staticmethod
    def enterprise(parent: strawberry.Parent[Deposit]) -> strawberry.ID | None:
        """Global id of the enterprise, where it is for one."""
        return _enterprise_id(parent.owner)

    @strawberry.field
    @staticmethod
    def reference(parent: strawberry.Parent[Deposit]) -> str:
        """Reference of the line of the bank's statement."""
        return parent.entry.reference

    @strawberry.field
    @staticmethod
    def value_date(parent: strawberry.Parent[Deposit]) -> date:
        """The day from which it counts at the bank."""
        return parent.entry.value_date


@view(of=Payee, name="Payee")
class PayeeType:
    """A bank account: in whose name, its number, at which bank."""

    name: str
    number: str
    bank: str


@view(of=Payout, name="Payout")
class PayoutType:
    """Money on its way out by the bank; its fen are held until it is paid, turned down, cancelled or over."""

    fen: BigInt
    requested_at: datetime
    expires_at: datetime
    settled_at: datetime | None
    decided_at: datetime | None
    reason: str | None

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Payout]) -> strawberry.ID:
        """Global id of the payout."""
        return to_global_id(Payout.__name__, parent.id)

    @strawberry.field
    @staticmethod
    def stage(parent: strawberry.Parent[Payout], info: Info) -> PayoutStage:
        """How far it has come."""
        return parent.stage_at(info.context.services.clock.now())

    @strawberry.field
    @staticmethod
    def citizen(parent: strawberry.Parent[Payout]) -> strawberry.ID | None:
        """Global id of the citizen, where it is one's."""
        return _citizen_id(parent.owner)

    @strawberry.field
    @staticmethod
    def enterprise(parent: strawberry.Parent[Payout]) -> strawberry.ID | None:
        """Global id of the enterprise, where it is one's."""
        return _enterprise_id(parent.owner)

    @strawberry.field(graphql_type=PayeeType)
    @staticmethod
    def payee(parent: strawberry.Parent[Payout]) -> Payee:
        """The bank account, masked."""
        return parent.masked

    @strawberry.field(graphql_type=PayeeType | None)
    @staticmethod
    def full_payee(parent: strawberry.Parent[Payout], info: Info) -> Payee | None:
        """The bank account in full, for finance staff; null for anybody else, and where it cannot be read any more."""
        try:
            return info.context.services.market.payouts.reveal_payee(info.context.require_principal(), parent)
        except ForbiddenError:
            return None

    @strawberry.field
    @staticmethod
    def reference(parent: strawberry.Parent[Payout]) -> str | None:
        """Reference of the line of the bank's statement, once a transfer is recorded."""
        return parent.entry.reference if parent.entry else None

    @strawberry.field
    @staticmethod
    def value_date(parent: strawberry.Parent[Payout]) -> date | None:
        """The day from which the transfer counts at the bank."""
        return parent.entry.value_date if parent.entry else None

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Payout]) -> str | None:
        """Id of the transaction by which the fen left, to ask for its receipt."""
        return parent.transaction

    @strawberry.field
    @staticmethod
    def settled_by(parent: strawberry.Parent[Payout], info: Info) -> str | None:
        """Who recorded the transfer; for staff."""
        return _for_staff(parent.settled_by, info)

    @strawberry.field
    @staticmethod
    def decided_by(parent: strawberry.Parent[Payout], info: Info) -> str | None:
        """Who approved it, turned it down or cancelled it; for staff."""
        return _for_staff(parent.decided_by, info)


@view(of=Page, name="Money")
class MoneyType:
    """What an owner has in fen."""

    @strawberry.field
    @staticmethod
    def balance_fen(parent: strawberry.Parent[Page]) -> BigInt:
        """All of it, held fen included."""
        return BigInt(parent.balance(CNY))

    @strawberry.field
    @staticmethod
    def available_fen(parent: strawberry.Parent[Page], info: Info) -> BigInt:
        """What can be spent or paid out."""
        return BigInt(parent.available(CNY, info.context.services.clock.now()))

    @strawberry.field
    @staticmethod
    def held_fen(parent: strawberry.Parent[Page]) -> BigInt:
        """What orders and payouts reserve."""
        return BigInt(parent.held(CNY))

    @strawberry.field(graphql_type=Connection[StatementLineType])
    @staticmethod
    async def statement(
        parent: strawberry.Parent[Page],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[StatementLine]:
        """Movements of the money, newest first; at most 100 a page."""
        return await connect_statement(info, account_of(parent.owner, CNY), first, after, last, before)

    @strawberry.field(graphql_type=Connection[PayoutType])
    @staticmethod
    async def payouts(
        parent: strawberry.Parent[Page],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Payout]:
        """The owner's payouts, newest first; at most 100 a page."""
        return await _connect_payouts(info, parent.owner, None, first, after, last, before)


async def _connect_payouts(
    info: Info,
    owner: OwnerId | None,
    stage: PayoutStage | None,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
) -> Connection[Payout]:
    principal = info.context.require_principal()
    list_page = partial(info.context.services.market.payouts.list_payouts, principal, owner, stage)
    span = page_span(first, after, last, before)
    return await connect_by_moment(span, list_page, lambda payout: (payout.requested_at, payout.id))


@strawberry.type
class CitizenFunds:
    """What a citizen's money shows."""

    @strawberry.field(graphql_type=MoneyType)
    @staticmethod
    async def money(parent: strawberry.Parent[Citizen], info: Info) -> Page:
        """What the citizen has in fen."""
        info.context.require_sight(parent.id)
        return await info.context.pages.load(citizen_owner(parent.id))


@strawberry.type
class FundAdminQueries:
    """What staff read of money."""

    @strawberry.field(graphql_type=Connection[DepositType])
    async def deposits(
        self,
        info: Info,
        stage: DepositStage | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Deposit]:
        """Deposits in one stage or in any, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.market.deposits.list_deposits, principal, stage)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda deposit: (deposit.proposed_at, deposit.id))

    @strawberry.field(graphql_type=Connection[PayoutType])
    async def payouts(
        self,
        info: Info,
        stage: PayoutStage | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Payout]:
        """Payouts in one stage or in any, newest first; at most 100 a page."""
        return await _connect_payouts(info, None, stage, first, after, last, before)
