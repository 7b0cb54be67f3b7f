"""Balances and statements as clients see them."""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum

import strawberry

from backend.kernel.errors import InvalidInputError
from backend.ledger.model import (
    CNY,
    POINTS,
    QUANTIFIED,
    RECOGNISED,
    AccountId,
    Asset,
    Lot,
    PeriodStatement,
    StatementLine,
)
from backend.ledger.statements import note_of, to_csv, to_json
from schemas.context import Info
from schemas.enums import TransactionKind
from schemas.relay import NOT_A_CURSOR, Connection, connect, page_span
from schemas.scalars import BigInt
from schemas.view import view


@strawberry.enum(name="Asset", description="What an account holds.")
class AssetEnum(Enum):
    """Assets a citizen's statement can show."""

    POINTS = POINTS
    CO2E_QUANTIFIED = QUANTIFIED
    CO2E_RECOGNISED = RECOGNISED
    CNY = CNY


def shown_asset(asset: Asset) -> AssetEnum:
    """The asset as the enum shows it."""
    return AssetEnum(asset)


@view(of=StatementLine, name="StatementLine")
class StatementLineType:
    """One movement of an account; ``sequence`` counts the owner's transactions without a gap."""

    sequence: BigInt
    at: datetime
    kind: TransactionKind

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[StatementLine]) -> str:
        """Id of the transaction."""
        return parent.transaction

    @strawberry.field
    @staticmethod
    def asset(parent: strawberry.Parent[StatementLine]) -> AssetEnum:
        """What moved."""
        return shown_asset(parent.line.asset)

    @strawberry.field
    @staticmethod
    def change(parent: strawberry.Parent[StatementLine]) -> BigInt:
        """Signed amount: points, milligrams CO2e, or fen."""
        return BigInt(parent.line.change)

    @strawberry.field
    @staticmethod
    def balance(parent: strawberry.Parent[StatementLine]) -> BigInt:
        """Balance after this movement."""
        return BigInt(parent.line.balance)

    @strawberry.field
    @staticmethod
    def held(parent: strawberry.Parent[StatementLine]) -> BigInt:
        """How much of the balance was reserved after this movement."""
        return BigInt(parent.line.held)

    @strawberry.field
    @staticmethod
    def owed(parent: strawberry.Parent[StatementLine]) -> BigInt:
        """What was owed after this movement."""
        return BigInt(parent.line.debt)

    @strawberry.field
    @staticmethod
    def corrects(parent: strawberry.Parent[StatementLine]) -> str | None:
        """Id of the transaction that this one corrects."""
        return parent.corrects

    @strawberry.field
    @staticmethod
    def note(parent: strawberry.Parent[StatementLine]) -> str | None:
        """What somebody wrote to it: a giver's message, or the reason of a correction by staff."""
        return note_of(parent)

    @strawberry.field
    @staticmethod
    def action_id(parent: strawberry.Parent[StatementLine]) -> str | None:
        """The action that caused it, where one did."""
        return parent.cause.get("action")


@strawberry.type
class Reduction:
    """Milligrams CO2e avoided: quantified ones may become credits, recognised ones count for points only."""

    quantified_mg: BigInt
    recognised_mg: BigInt


@view(of=Lot, name="PointLot")
class PointLotType:
    """Points that stop counting at the same moment."""

    expires_at: datetime

    @strawberry.field
    @staticmethod
    def points(parent: strawberry.Parent[Lot]) -> BigInt:
        """How many."""
        return BigInt(parent.amount)


@view(of=PeriodStatement, name="PeriodStatement")
class PeriodStatementType:
    """An account's movements with since <= at < until, oldest first, between its balances then."""

    since: datetime
    until: datetime
    opening: BigInt
    closing: BigInt

    @strawberry.field(graphql_type=list[StatementLineType])
    @staticmethod
    def movements(parent: strawberry.Parent[PeriodStatement]) -> tuple[StatementLine, ...]:
        """At most 2,000."""
        return parent.lines

    @strawberry.field
    @staticmethod
    def csv(parent: strawberry.Parent[PeriodStatement], info: Info) -> str:
        """The same for a spreadsheet, in the language of the request, beginning with a byte order mark."""
        return to_csv(parent, info.context.language, zone=info.context.services.programme.zone)

    @strawberry.field
    @staticmethod
    def json(parent: strawberry.Parent[PeriodStatement]) -> str:
        """The same for a program: one JSON object, times in UTC."""
        return to_json(parent)


def _read_sequence(text: str | None, field: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidInputError(field, NOT_A_CURSOR)
    return int(text)


async def connect_statement(
    info: Info, account: AccountId, first: int | None, after: str | None, last: int | None, before: str | None
) -> Connection[StatementLine]:
    """A page of an account's movements, newest first; whoever calls has looked who asks."""
    span = page_span(first, after, last, before)
    older, newer = _read_sequence(span.after, "after"), _read_sequence(span.before, "before")

    async def fetch(limit: int) -> list[StatementLine]:
        return await info.context.services.ledger.list_statement(
            account, limit=limit, older_than=older, newer_than=newer, newest=span.newest
        )

    return await connect(span, fetch, lambda line: str(line.sequence))
