"""Rounds and payments as documents of MongoDB.

``benefit_rounds``: ``open_batch`` is the batch while the round is not over; of two rounds of one batch that would be
open at once, one insert wins. ``benefit_payments``: one a round and citizen, inserted and never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.ids import CitizenId, TransactionId
from backend.market.benefits.model import OPEN_ROUND, Paid, Payment, Round, RoundId, RoundStage
from backend.market.pooling.model import BatchCode, Benefit
from backend.mongo.collections import AMOUNT, COUNTER, MOMENT, TEXT, Collection, Index, nullable, one_of, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document

ROUNDS = Collection(
    "benefit_rounds",
    record(
        {
            "_id": TEXT,
            "batch": TEXT,
            "open_batch": nullable(TEXT),
            "number": AMOUNT,
            "fen": AMOUNT,
            "points_per_yuan": AMOUNT,
            "salt": TEXT,
            "stage": one_of(*RoundStage),
            "proposed_at": MOMENT,
            "proposed_by": TEXT,
            "decided_at": nullable(MOMENT),
            "decided_by": nullable(TEXT),
            "reason": nullable(TEXT),
            "done_at": nullable(MOMENT),
            "grams": nullable(AMOUNT),
            "cursor": TEXT,
            "paid": record({"citizens": COUNTER, "fen": COUNTER, "converted_fen": COUNTER, "points": COUNTER}),
        }
    ),
    (
        Index("open_batch", [("open_batch", 1)], unique=True, partial={"open_batch": {"$type": "string"}}),
        Index("batch_number", [("batch", 1), ("number", 1)], unique=True),
        Index("proposed", [("proposed_at", -1), ("_id", -1)]),
        Index("stage_proposed", [("stage", 1), ("proposed_at", -1), ("_id", -1)]),
        Index("batch_proposed", [("batch", 1), ("proposed_at", -1), ("_id", -1)]),
    ),
)
PAYMENTS = Collection(
    "benefit_payments",
    record(
        {
            "_id": TEXT,
            "round": TEXT,
            "batch": TEXT,
            "number": AMOUNT,
            "citizen": TEXT,
            "grams": AMOUNT,
            "fen": AMOUNT,
            "choice": one_of(*Benefit),
            "points": COUNTER,
            "carry": COUNTER,
            "at": MOMENT,
            "transaction": TEXT,
        }
    ),
    (
        Index("round_citizen", [("round", 1), ("citizen", 1)], unique=True),
        Index("batch_citizen_number", [("batch", 1), ("citizen", 1), ("number", 1)]),
        Index("citizen_at", [("citizen", 1), ("at", -1), ("_id", -1)]),
    ),
)
COLLECTIONS = (ROUNDS, PAYMENTS)


def round_to_document(one: Round) -> Document:
    """The round as stored."""
    return {
        "_id": one.id,
        "batch": one.batch,
        "open_batch": one.batch if one.stage in OPEN_ROUND else None,
        "number": Int64(one.number),
        "fen": Int64(one.fen),
        "points_per_yuan": Int64(one.points_per_yuan),
        "salt": one.salt,
        "stage": one.stage.value,
        "proposed_at": one.proposed_at,
        "proposed_by": one.proposed_by,
        "decided_at": one.decided_at,
        "decided_by": one.decided_by,
        "reason": one.reason,
        "done_at": one.done_at,
        "grams": None if one.grams is None else Int64(one.grams),
        "cursor": one.cursor,
        "paid": {name: Int64(amount) for name, amount in one.paid._asdict().items()},
    }


def round_from_document(document: Mapping[str, Any]) -> Round:
    """The stored round."""
    grams = document["grams"]
    return Round(
        id=RoundId(document["_id"]),
        batch=BatchCode(document["batch"]),
        number=int(document["number"]),
        fen=int(document["fen"]),
        points_per_yuan=int(document["points_per_yuan"]),
        salt=document["salt"],
        stage=RoundStage(document["stage"]),
        proposed_at=document["proposed_at"],
        proposed_by=document["proposed_by"],
        decided_at=document["decided_at"],
        decided_by=document["decided_by"],
        reason=document["reason"],
        done_at=document["done_at"],
        grams=None if grams is None else int(grams),
        cursor=document["cursor"],
        paid=Paid(**{name: int(amount) for name, amount in document["paid"].items()}),
    )


def payment_to_document(payment: Payment) -> Document:
    """The payment as stored."""
    return {
        "_id": payment.id,
        "round": payment.round,
        "batch": payment.batch,
        "number": Int64(payment.number),
        "citizen": payment.citizen,
        "grams": Int64(payment.grams),
        "fen": Int64(payment.fen),
        "choice": payment.choice.value,
        "points": Int64(payment.points),
        "carry": Int64(payment.carry),
        "at": payment.at,
        "transaction": payment.transaction,
    }


def payment_from_document(document: Mapping[str, Any]) -> Payment:
    """The stored payment."""
    return Payment(
        round=RoundId(document["round"]),
        batch=BatchCode(document["batch"]),
        number=int(document["number"]),
        citizen=CitizenId(document["citizen"]),
        grams=int(document["grams"]),
        fen=int(document["fen"]),
        choice=Benefit(document["choice"]),
        points=int(document["points"]),
        carry=int(document["carry"]),
        at=document["at"],
        transaction=TransactionId(document["transaction"]),
    )
