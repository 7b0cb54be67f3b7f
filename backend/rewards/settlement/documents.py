"""The settlement's collections and the codec of their documents; no queries.

``settlement_statements``: one a merchant and number, lines not among them, which are the book's.
``settlement_lines``: which transactions each statement lists, by thousands; ``late`` where it is a correction.
``settlement_accounts``: how far each merchant is settled; whatever is done with a merchant's statements writes it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.mongo.collections import (
    AMOUNT,
    COUNTER,
    FLAG,
    LONG,
    MOMENT,
    TEXT,
    Collection,
    Index,
    list_of,
    nullable,
    one_of,
    record,
)
from backend.rewards.merchants.model import MerchantId
from backend.rewards.settlement.model import (
    Account,
    Difference,
    Statement,
    StatementId,
    StatementKind,
    StatementStage,
    Sums,
    Totals,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backend.kernel.ids import TransactionId
    from backend.mongo.client import Document

SUMS = record({"count": LONG, "points": LONG, "fen": LONG})
DIFFERENCE = record({"points": LONG, "fen": LONG, "captures": SUMS, "refunds": SUMS})
STATEMENTS = Collection(
    "settlement_statements",
    record(
        {
            "_id": TEXT,
            "merchant": TEXT,
            "number": AMOUNT,
            "kind": one_of(*StatementKind),
            "since": MOMENT,
            "until": MOMENT,
            "corrects": nullable(TEXT),
            "totals": record({"captures": SUMS, "refunds": SUMS, "commission_fen": LONG}),
            "adjustment_fen": LONG,
            "reason": nullable(TEXT),
            "brought_forward_fen": LONG,
            "lines": COUNTER,
            "checksum": TEXT,
            "stage": one_of(*StatementStage),
            "difference": DIFFERENCE,
            "explained": DIFFERENCE,
            "made_at": MOMENT,
            "made_by": nullable(TEXT),
            "approved_at": nullable(MOMENT),
            "approved_by": nullable(TEXT),
            "paid_at": nullable(MOMENT),
            "paid_by": nullable(TEXT),
            "bank_reference": nullable(TEXT),
        }
    ),
    (
        Index("merchant_number", [("merchant", 1), ("number", 1)], unique=True),
        Index("made", [("made_at", -1), ("_id", -1)]),
        Index("stage_made", [("stage", 1), ("made_at", -1), ("_id", -1)]),
        Index("merchant_made", [("merchant", 1), ("made_at", -1), ("_id", -1)]),
    ),
)
ACCOUNTS = Collection(
    "settlement_accounts",
    record({"_id": TEXT, "settled_until": MOMENT, "number": COUNTER, "carried_fen": LONG, "version": COUNTER}),
)
LISTED = Collection(
    "settlement_lines",
    record({"_id": TEXT, "statement": TEXT, "merchant": TEXT, "until": MOMENT, "late": FLAG, "ids": list_of(TEXT)}),
    # Periods of a merchant do not overlap: their end tells which it is.
    (Index("merchant_until", [("merchant", 1), ("until", 1)]),),
)
COLLECTIONS = (STATEMENTS, ACCOUNTS, LISTED)
LISTED_AT_ONCE = 5_000


def statement_to_document(statement: Statement) -> Document:
    """The statement as stored."""
    totals = statement.totals
    return {
        "_id": statement.id,
        "merchant": statement.merchant,
        "number": Int64(statement.number),
        "kind": statement.kind.value,
        "since": statement.since,
        "until": statement.until,
        "corrects": statement.corrects,
        "totals": {
            "captures": _sums(totals.captures),
            "refunds": _sums(totals.refunds),
            "commission_fen": Int64(totals.commission_fen),
        },
        "adjustment_fen": Int64(statement.adjustment_fen),
        "reason": statement.reason,
        "brought_forward_fen": Int64(statement.brought_forward_fen),
        "lines": Int64(statement.lines),
        "checksum": statement.checksum,
        "made_at": statement.made_at,
        "made_by": statement.made_by,
        "explained": _difference(statement.explained),
        **standing(statement),
    }


def standing(statement: Statement) -> Document:
    """All that may change of a statement."""
    return {
        "stage": statement.stage.value,
        "difference": _difference(statement.difference),
        "approved_at": statement.approved_at,
        "approved_by": statement.approved_by,
        "paid_at": statement.paid_at,
        "paid_by": statement.paid_by,
        "bank_reference": statement.bank_reference,
    }


def listed_documents(statement: Statement, ids: Sequence[TransactionId]) -> list[Document]:
    """Which transactions the statement lists, as stored."""
    return [
        {
            "_id": f"{statement.id}:{start}",
            "statement": statement.id,
            "merchant": statement.merchant,
            "until": statement.until,
            "late": statement.corrects is not None,
            "ids": ids[start : start + LISTED_AT_ONCE],
        }
        for start in range(0, len(ids), LISTED_AT_ONCE)
    ]


def _difference(difference: Difference) -> Document:
    return {
        "points": Int64(difference.points),
        "fen": Int64(difference.fen),
        "captures": _sums(difference.captures),
        "refunds": _sums(difference.refunds),
    }


def _sums(sums: Sums) -> Document:
    return {name: Int64(amount) for name, amount in dataclasses.asdict(sums).items()}


def statement_from_document(document: Mapping[str, Any]) -> Statement:
    """The stored statement."""
    totals = document["totals"]
    return Statement(
        merchant=MerchantId(document["merchant"]),
        number=int(document["number"]),
        kind=StatementKind(document["kind"]),
        since=document["since"],
        until=document["until"],
        corrects=StatementId(document["corrects"]) if document["corrects"] else None,
        totals=Totals(
            captures=read_sums(totals["captures"]),
            refunds=read_sums(totals["refunds"]),
            commission_fen=int(totals["commission_fen"]),
        ),
        adjustment_fen=int(document["adjustment_fen"]),
        reason=document["reason"],
        brought_forward_fen=int(document["brought_forward_fen"]),
        lines=int(document["lines"]),
        checksum=document["checksum"],
        stage=StatementStage(document["stage"]),
        difference=_read_difference(document["difference"]),
        explained=_read_difference(document["explained"]),
        made_at=document["made_at"],
        made_by=document["made_by"],
        approved_at=document["approved_at"],
        approved_by=document["approved_by"],
        paid_at=document["paid_at"],
        paid_by=document["paid_by"],
        bank_reference=document["bank_reference"],
    )


def _read_difference(document: Mapping[str, Any]) -> Difference:
    return Difference(
        points=int(document["points"]),
        fen=int(document["fen"]),
        captures=read_sums(document["captures"]),
        refunds=read_sums(document["refunds"]),
    )


def read_sums(document: Mapping[str, Any]) -> Sums:
    """The stored sums; nothing where a sum is missing."""
    return Sums(*(int(document.get(name, 0)) for name in ("count", "points", "fen")))


def account_to_document(account: Account) -> Document:
    """The account as stored."""
    return {
        "_id": account.merchant,
        "settled_until": account.settled_until,
        "number": Int64(account.number),
        "carried_fen": Int64(account.carried_fen),
        "version": Int64(account.version),
    }


def account_from_document(document: Mapping[str, Any]) -> Account:
    """The stored account."""
    return Account(
        merchant=MerchantId(document["_id"]),
        settled_until=document["settled_until"],
        number=int(document["number"]),
        carried_fen=int(document["carried_fen"]),
        version=int(document["version"]),
    )
