"""Balances and statements as clients see them."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

import strawberry

from backend.ledger.model import POINTS, QUANTIFIED, RECOGNISED, Asset, StatementLine
from schemas.enums import TransactionKind
from schemas.scalars import BigInt
from schemas.view import view


@strawberry.enum(name="Asset", description="What an account holds.")
class AssetEnum(Enum):
    """Assets a citizen's statement can show."""

    POINTS = POINTS
    CO2E_QUANTIFIED = QUANTIFIED
    CO2E_RECOGNISED = RECOGNISED


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
        """Signed amount: points, or milligrams CO2e."""
        return BigInt(parent.line.change)

    @strawberry.field
    @staticmethod
    def balance(parent: strawberry.Parent[StatementLine]) -> BigInt:
        """Balance after this movement."""
        return BigInt(parent.line.balance)

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
