"""Merchants' statements: what is owed for a period, its lines out of the book, approval, payment, correction."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.kernel.ids import TransactionId
from backend.rewards.merchants.errors import OwnApprovalError
from backend.rewards.merchants.model import MerchantId
from backend.rewards.settlement import errors
from backend.rewards.settlement.model import DetailedLine, Difference, Statement, StatementId, Sums
from schemas.context import Info
from schemas.enums import LineKind, StatementKind, StatementStage
from schemas.refusals import result_union
from schemas.relay import (
    Connection,
    Node,
    connect,
    connect_by_moment,
    local_id_of,
    moment_place,
    page_span,
    read_moment_place,
    to_global_id,
)
from schemas.scalars import BigInt
from schemas.view import view


@view(of=Sums, name="SettlementSums")
class SumsType:
    """How many captures or refunds, of how many points, worth how many fen."""

    count: BigInt
    points: BigInt
    fen: BigInt


@view(of=Difference, name="SettlementDifference")
class DifferenceType:
    """What the book (points, fen) and the vouchers' records (captures, refunds) have beyond the statement."""

    points: BigInt
    fen: BigInt
    captures: SumsType
    refunds: SumsType


@view(of=DetailedLine, name="SettlementLine")
class LineType:
    """A capture or refund; points and fen before commission, below zero for a refund."""

    number: str

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[DetailedLine]) -> str:
        """Id of the transaction in the book, to ask for its receipt."""
        return parent.line.transaction

    @strawberry.field
    @staticmethod
    def at(parent: strawberry.Parent[DetailedLine]) -> datetime:
        """When it happened."""
        return parent.line.at

    @strawberry.field
    @staticmethod
    def kind(parent: strawberry.Parent[DetailedLine]) -> LineKind:
        """Whether something was handed over or given back."""
        return parent.line.kind

    @strawberry.field
    @staticmethod
    def title(parent: strawberry.Parent[DetailedLine], info: Info) -> str:
        """What was handed over, in the reader's language."""
        return parent.title.said(info.context.language)

    @strawberry.field
    @staticmethod
    def shop(parent: strawberry.Parent[DetailedLine], info: Info) -> str | None:
        """Name of the shop, where it is known and still there."""
        return parent.shop.said(info.context.language) if parent.shop else None

    @strawberry.field
    @staticmethod
    def points(parent: strawberry.Parent[DetailedLine]) -> BigInt:
        """Points that moved to the merchant."""
        return BigInt(parent.line.points)

    @strawberry.field
    @staticmethod
    def fen(parent: strawberry.Parent[DetailedLine]) -> BigInt:
        """What they are worth."""
        return BigInt(parent.line.fen)

    @strawberry.field
    @staticmethod
    def commission_bps(parent: strawberry.Parent[DetailedLine]) -> int:
        """The programme's commission on it, in hundredths of a per cent."""
        return parent.line.commission_bps


def _for_staff(name: str | None, info: Info) -> str | None:
    principal = info.context.principal
    return name if principal is not None and principal.kind is PrincipalKind.STAFF else None


@view(of=Statement, name="Statement")
class StatementType(Node):
    """What a merchant is owed for a period, in fen; ``checksum`` stands in every file of it, too."""

    number: BigInt
    kind: StatementKind
    stage: StatementStage
    adjustment_fen: BigInt
    reason: str | None
    net_fen: BigInt
    brought_forward_fen: BigInt
    payable_fen: BigInt
    checksum: str
    made_at: datetime
    approved_at: datetime | None
    paid_at: datetime | None
    bank_reference: str | None

    @strawberry.field
    @staticmethod
    def merchant_id(parent: strawberry.Parent[Statement]) -> strawberry.ID:
        """Global id of the merchant."""
        return to_global_id("Merchant", parent.merchant)

    @strawberry.field(name="from")
    @staticmethod
    def since(parent: strawberry.Parent[Statement]) -> datetime:
        """The first moment of the period."""
        return parent.since

    @strawberry.field(name="to")
    @staticmethod
    def until(parent: strawberry.Parent[Statement]) -> datetime:
        """The first moment behind the period."""
        return parent.until

    @strawberry.field
    @staticmethod
    def corrects(parent: strawberry.Parent[Statement]) -> strawberry.ID | None:
        """Global id of the statement that this one corrects."""
        return to_global_id(Statement.__name__, parent.corrects) if parent.corrects else None

    @strawberry.field(graphql_type=SumsType)
    @staticmethod
    def captures(parent: strawberry.Parent[Statement]) -> Sums:
        """What was handed over."""
        return parent.totals.captures

    @strawberry.field(graphql_type=SumsType)
    @staticmethod
    def refunds(parent: strawberry.Parent[Statement]) -> Sums:
        """What was given back."""
        return parent.totals.refunds

    @strawberry.field
    @staticmethod
    def gross_fen(parent: strawberry.Parent[Statement]) -> BigInt:
        """Captures less refunds, before commission."""
        return BigInt(parent.totals.gross_fen)

    @strawberry.field
    @staticmethod
    def commission_fen(parent: strawberry.Parent[Statement]) -> BigInt:
        """What the programme keeps."""
        return BigInt(parent.totals.commission_fen)

    @strawberry.field(graphql_type=DifferenceType | None)
    @staticmethod
    def difference(parent: strawberry.Parent[Statement]) -> Difference | None:
        """By how much it is not reconciled; null where it is."""
        return None if parent.difference.is_nothing else parent.difference

    @strawberry.field(graphql_type=DifferenceType | None)
    @staticmethod
    def explained(parent: strawberry.Parent[Statement]) -> Difference | None:
        """What the vouchers know beyond the book, for which the reason of this correction accounts."""
        return parent.explained if parent.explains else None

    @strawberry.field
    @staticmethod
    def made_by(parent: strawberry.Parent[Statement], info: Info) -> str | None:
        """Who made the correction; for staff."""
        return _for_staff(parent.made_by, info)

    @strawberry.field
    @staticmethod
    def approved_by(parent: strawberry.Parent[Statement], info: Info) -> str | None:
        """Who approved it; for staff."""
        return _for_staff(parent.approved_by, info)

    @strawberry.field
    @staticmethod
    def paid_by(parent: strawberry.Parent[Statement], info: Info) -> str | None:
        """Who noted its payment; for staff."""
        return _for_staff(parent.paid_by, info)

    @strawberry.field(graphql_type=Connection[LineType])
    @staticmethod
    async def lines(
        parent: strawberry.Parent[Statement],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[DetailedLine]:
        """Its captures and refunds out of the book, oldest first; at most 100 a page."""
        span = page_span(first, after, last, before)
        list_lines = partial(
            info.context.services.rewards.settlement.list_lines,
            parent,
            after=_line_place(span.after, "after"),
            before=_line_place(span.before, "before"),
            last=not span.newest,
        )

        async def fetch(limit: int) -> list[DetailedLine]:
            return list(await list_lines(limit=limit))

        return await connect(span, fetch, lambda one: moment_place(one.line.at, one.line.transaction))


def _line_place(text: str | None, field: str) -> tuple[datetime, TransactionId] | None:
    place = read_moment_place(text, field)
    return (place[0], TransactionId(place[1])) if place else None


@strawberry.input
class ApproveStatementInput:
    """A statement that is ready."""

    idempotency_key: str
    statement: strawberry.ID


@strawberry.input
class PayStatementInput:
    """An approved statement, and the bank's reference of the transfer, in 1–64 characters."""

    idempotency_key: str
    statement: strawberry.ID
    bank_reference: str


@strawberry.input
class CorrectStatementInput:
    """A statement, fen to add to what its merchant is owed (or to take off), and why, in 1–200 characters."""

    idempotency_key: str
    statement: strawberry.ID
    adjustment_fen: BigInt
    reason: str


ANY = (IdempotencyConflictError, InvalidInputError)
ApproveStatementResult: Any = result_union(
    "ApproveStatementResult",
    StatementType,
    errors.UnknownStatementError,
    errors.NotReconciledError,
    errors.WrongStatementStageError,
    OwnApprovalError,
    *ANY,
)
PayStatementResult: Any = result_union(
    "PayStatementResult",
    StatementType,
    errors.UnknownStatementError,
    errors.NotReconciledError,
    errors.WrongStatementStageError,
    OwnApprovalError,
    errors.EarlierUnpaidError,
    *ANY,
)
CorrectStatementResult: Any = result_union(
    "CorrectStatementResult", StatementType, errors.UnknownStatementError, errors.NotReconciledError, *ANY
)


def _statement_id(given: str) -> StatementId:
    return StatementId(local_id_of(Statement.__name__, given))


@strawberry.type
class SettlementsMutation:
    """Mutations on statements, each for administrators."""

    @strawberry.mutation(graphql_type=ApproveStatementResult)
    async def approve_statement(self, info: Info, input: ApproveStatementInput) -> Statement:  # noqa: A002
        """Approve a statement: what it is about is settled in the book; who made a correction cannot."""
        principal = info.context.require_principal()
        settlement = info.context.services.rewards.settlement
        return await settlement.approve(principal, _statement_id(input.statement), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=PayStatementResult)
    async def pay_statement(self, info: Info, input: PayStatementInput) -> Statement:  # noqa: A002
        """Note that an approved statement was paid, in the order of a merchant's numbers; who approved it cannot."""
        principal = info.context.require_principal()
        return await info.context.services.rewards.settlement.pay(
            principal, _statement_id(input.statement), input.bank_reference, key=input.idempotency_key
        )

    @strawberry.mutation(graphql_type=CorrectStatementResult)
    async def correct_statement(self, info: Info, input: CorrectStatementInput) -> Statement:  # noqa: A002
        """Make a statement that corrects another one, to be approved and paid like any."""
        principal = info.context.require_principal()
        return await info.context.services.rewards.settlement.correct(
            principal,
            _statement_id(input.statement),
            int(input.adjustment_fen),
            input.reason,
            key=input.idempotency_key,
        )


@strawberry.type
class StatementQueries:
    """What a merchant's owners read of its settlement."""

    @strawberry.field(graphql_type=Connection[StatementType])
    async def statements(
        self,
        info: Info,
        stage: StatementStage | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Statement]:
        """The merchant's statements, newest first; at most 100 a page; for owners."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.rewards.settlement.list_statements, principal, stage=stage)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda statement: (statement.made_at, statement.id))


@strawberry.type
class SettlementAdminQueries:
    """What staff read of settlement."""

    @strawberry.field(graphql_type=Connection[StatementType])
    async def statements(
        self,
        info: Info,
        stage: StatementStage | None = None,
        merchant: strawberry.ID | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Statement]:
        """Statements of all merchants or of one, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        wanted = MerchantId(local_id_of("Merchant", merchant)) if merchant is not None else None
        settlement = info.context.services.rewards.settlement
        list_page = partial(settlement.list_statements, principal, merchant=wanted, stage=stage)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda statement: (statement.made_at, statement.id))


async def find_statement(info: Info, local_id: str) -> Statement | None:
    """The statement of that id, for staff and its merchant's owners; None for anybody else."""
    principal = info.context.principal
    if principal is None:
        return None
    try:
        return await info.context.services.rewards.settlement.find(principal, StatementId(local_id))
    except ForbiddenError:
        return None
