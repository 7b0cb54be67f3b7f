"""Enterprises, deposits, payouts and bank references as documents of MongoDB.

``market_bank_references``: one a line of the bank's statement, whatever it is about; its ``_id`` is the reference in
its stored form, so that two records of one line cannot be written down. That of a rejected deposit is free again: the
line was not it.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.ids import TransactionId
from backend.ledger.model import OwnerId
from backend.market.funds.model import (
    BankEntry,
    Deposit,
    DepositId,
    DepositStage,
    Enterprise,
    EnterpriseId,
    EnterpriseStage,
    EnterpriseStep,
    Payee,
    Payout,
    PayoutId,
    PayoutStage,
    StepTaken,
)
from backend.mongo.collections import AMOUNT, MOMENT, TEXT, Collection, Index, list_of, nullable, one_of, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document

STEP = record({"at": MOMENT, "actor": TEXT, "step": one_of(*EnterpriseStep), "reason": nullable(TEXT)})
# ``held_code`` is the credit code unless the enterprise was rejected: a rejected one may be registered again.
ENTERPRISES = Collection(
    "market_enterprises",
    record(
        {
            "_id": TEXT,
            "name": TEXT,
            "credit_code": TEXT,
            "held_code": nullable(TEXT),
            "contact": TEXT,
            "purpose": TEXT,
            "stage": one_of(*EnterpriseStage),
            "proposed_at": MOMENT,
            "steps": list_of(STEP),
        }
    ),
    (
        Index("held_code", [("held_code", 1)], unique=True, partial={"held_code": {"$type": "string"}}),
        Index("proposed", [("proposed_at", -1), ("_id", -1)]),
        Index("stage_proposed", [("stage", 1), ("proposed_at", -1), ("_id", -1)]),
    ),
)
# ``value_date`` is a calendar day, ``2026-11-21``.
ENTRY = record({"reference": TEXT, "value_date": TEXT})
DEPOSITS = Collection(
    "market_deposits",
    record(
        {
            "_id": TEXT,
            "owner": TEXT,
            "fen": AMOUNT,
            "entry": ENTRY,
            "note": nullable(TEXT),
            "salt": TEXT,
            "stage": one_of(*DepositStage),
            "proposed_at": MOMENT,
            "proposed_by": TEXT,
            "decided_at": nullable(MOMENT),
            "decided_by": nullable(TEXT),
            "reason": nullable(TEXT),
        }
    ),
    (
        Index("proposed", [("proposed_at", -1), ("_id", -1)]),
        Index("stage_proposed", [("stage", 1), ("proposed_at", -1), ("_id", -1)]),
    ),
)
PAYOUTS = Collection(
    "market_payouts",
    record(
        {
            "_id": TEXT,
            "owner": TEXT,
            "fen": AMOUNT,
            "masked": record({"name": TEXT, "number": TEXT, "bank": TEXT}),
            "sealed": TEXT,
            "salt": TEXT,
            "stage": one_of(*PayoutStage),
            "requested_at": MOMENT,
            "expires_at": MOMENT,
            "entry": nullable(ENTRY),
            "settled_at": nullable(MOMENT),
            "settled_by": nullable(TEXT),
            "decided_at": nullable(MOMENT),
            "decided_by": nullable(TEXT),
            "reason": nullable(TEXT),
            "transaction": nullable(TEXT),
        }
    ),
    (
        Index("requested", [("requested_at", -1), ("_id", -1)]),
        Index("stage_requested", [("stage", 1), ("requested_at", -1), ("_id", -1)]),
        Index("owner_requested", [("owner", 1), ("requested_at", -1), ("_id", -1)]),
        Index("owner_stage", [("owner", 1), ("stage", 1)]),
        Index("stage_expires", [("stage", 1), ("expires_at", 1)]),
    ),
)
REFERENCES = Collection("market_bank_references", record({"_id": TEXT, "of": TEXT}))
COLLECTIONS = (ENTERPRISES, DEPOSITS, PAYOUTS, REFERENCES)


def enterprise_to_document(enterprise: Enterprise) -> Document:
    """The enterprise as stored."""
    return {
        "_id": enterprise.id,
        "name": enterprise.name,
        "credit_code": enterprise.credit_code,
        "held_code": None if enterprise.stage is EnterpriseStage.REJECTED else enterprise.credit_code,
        "contact": enterprise.contact,
        "purpose": enterprise.purpose,
        "stage": enterprise.stage.value,
        "proposed_at": enterprise.proposed_at,
        "steps": [{**taken._asdict(), "step": taken.step.value} for taken in enterprise.steps],
    }


def enterprise_from_document(document: Mapping[str, Any]) -> Enterprise:
    """The stored enterprise."""
    return Enterprise(
        id=EnterpriseId(document["_id"]),
        name=document["name"],
        credit_code=document["credit_code"],
        contact=document["contact"],
        purpose=document["purpose"],
        stage=EnterpriseStage(document["stage"]),
        steps=tuple(
            StepTaken(taken["at"], taken["actor"], EnterpriseStep(taken["step"]), taken["reason"])
            for taken in document["steps"]
        ),
    )


def _entry_to_document(entry: BankEntry) -> Document:
    return {"reference": entry.reference, "value_date": entry.value_date.isoformat()}


def _entry_from_document(document: Mapping[str, Any]) -> BankEntry:
    return BankEntry(document["reference"], date.fromisoformat(document["value_date"]))


def deposit_to_document(deposit: Deposit) -> Document:
    """The deposit as stored."""
    return {
        "_id": deposit.id,
        "owner": deposit.owner,
        "fen": Int64(deposit.fen),
        "entry": _entry_to_document(deposit.entry),
        "note": deposit.note,
        "salt": deposit.salt,
        "stage": deposit.stage.value,
        "proposed_at": deposit.proposed_at,
        "proposed_by": deposit.proposed_by,
        "decided_at": deposit.decided_at,
        "decided_by": deposit.decided_by,
        "reason": deposit.reason,
    }


def deposit_from_document(document: Mapping[str, Any]) -> Deposit:
    """The stored deposit."""
    return Deposit(
        id=DepositId(document["_id"]),
        owner=OwnerId(document["owner"]),
        fen=int(document["fen"]),
        entry=_entry_from_document(document["entry"]),
        note=document["note"],
        salt=document["salt"],
        stage=DepositStage(document["stage"]),
        proposed_at=document["proposed_at"],
        proposed_by=document["proposed_by"],
        decided_at=document["decided_at"],
        decided_by=document["decided_by"],
        reason=document["reason"],
    )


def payout_to_document(payout: Payout) -> Document:
    """The payout as stored."""
    return {
        "_id": payout.id,
        "owner": payout.owner,
        "fen": Int64(payout.fen),
        "masked": payout.masked._asdict(),
        "sealed": payout.sealed,
        "salt": payout.salt,
        "stage": payout.stage.value,
        "requested_at": payout.requested_at,
        "expires_at": payout.expires_at,
        "entry": _entry_to_document(payout.entry) if payout.entry else None,
        "settled_at": payout.settled_at,
        "settled_by": payout.settled_by,
        "decided_at": payout.decided_at,
        "decided_by": payout.decided_by,
        "reason": payout.reason,
        "transaction": payout.transaction,
    }


def payout_from_document(document: Mapping[str, Any]) -> Payout:
    """The stored payout."""
    entry, transaction = document["entry"], document["transaction"]
    return Payout(
        id=PayoutId(document["_id"]),
        owner=OwnerId(document["owner"]),
        fen=int(document["fen"]),
        masked=Payee(**document["masked"]),
        sealed=document["sealed"],
        salt=document["salt"],
        stage=PayoutStage(document["stage"]),
        requested_at=document["requested_at"],
        expires_at=document["expires_at"],
        entry=_entry_from_document(entry) if entry else None,
        settled_at=document["settled_at"],
        settled_by=document["settled_by"],
        decided_at=document["decided_at"],
        decided_by=document["decided_by"],
        reason=document["reason"],
        transaction=TransactionId(transaction) if transaction else None,
    )
