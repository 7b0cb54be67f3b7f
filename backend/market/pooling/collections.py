"""Collections of consents, batches, contributions and pooled acts.

A pooled act's ``_id`` is that of the action: by index an act is in one batch at most.
"""

from __future__ import annotations

from backend.market.pooling.model import AdjustmentReason, BatchStage, Benefit, ContributionStage
from backend.mongo.collections import (
    AMOUNT,
    BILINGUAL,
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
from backend.rules.model import Category, EvidenceTier

CONSENTS = Collection(
    "market_consents",
    record(
        {
            "_id": TEXT,
            "citizen": TEXT,
            "number": AMOUNT,
            "scenarios": nullable(list_of(one_of(*Category))),
            "benefit": one_of(*Benefit),
            "wording": AMOUNT,
            "since": MOMENT,
            "until": nullable(MOMENT),
            "current": FLAG,
            "used": COUNTER,
        }
    ),
    (
        Index("current", [("citizen", 1)], unique=True, partial={"current": True}),
        Index("citizen_since", [("citizen", 1), ("since", -1), ("_id", -1)]),
    ),
)
_ADJUSTMENT = record(
    {
        "action": nullable(TEXT),
        "bps": nullable(AMOUNT),
        "reason": one_of(*AdjustmentReason),
        "note": TEXT,
        "mg": COUNTER,
    }
)
_VERDICT = record(
    {
        "verifier": TEXT,
        "organisation": TEXT,
        "report_hash": TEXT,
        "report_name": TEXT,
        "statement": TEXT,
        "adjustments": list_of(_ADJUSTMENT),
        "content": TEXT,
        "shares": TEXT,
        "at": MOMENT,
    }
)
_SAMPLE = record({"size": AMOUNT, "seed": TEXT, "actions": list_of(TEXT), "drawn_by": TEXT, "drawn_at": MOMENT})
_ISSUE = record(
    {
        "issuer": TEXT,
        "begun_at": MOMENT,
        "grams": AMOUNT,
        "residual_mg": COUNTER,
        "methodologies": list_of(TEXT),
        "issued_at": nullable(MOMENT),
    }
)
_PLACE = record({"citizen": TEXT, "at": nullable(MOMENT), "action": TEXT})
BATCHES = Collection(
    "market_batches",
    record(
        {
            "_id": TEXT,
            "number": AMOUNT,
            "scenario": one_of(*Category),
            "profile": TEXT,
            "vintage": AMOUNT,
            "since": TEXT,
            "until": TEXT,
            "project": BILINGUAL,
            "opener": TEXT,
            "opened_at": MOMENT,
            "opening": TEXT,
            "stage": one_of(*BatchStage),
            "version": COUNTER,
            "contents": COUNTER,
            "content": nullable(TEXT),
            "hashed": LONG,
            "totals": record({"contributions": COUNTER, "acts": COUNTER, "mg": COUNTER}),
            "cursor": _PLACE,
            "gathered_at": nullable(MOMENT),
            "sample": nullable(_SAMPLE),
            "verdict": nullable(_VERDICT),
            "ending": nullable(record({"by": TEXT, "at": MOMENT, "reason": TEXT, "is_verdict": FLAG})),
            "issue": nullable(_ISSUE),
        },
        optional={"passed": list_of(_PLACE)},
    ),
    (
        Index("scenario_vintage_number", [("scenario", 1), ("vintage", 1), ("number", 1)], unique=True),
        Index("opening", [("opening", 1)], unique=True),
        Index("opened", [("opened_at", -1), ("_id", -1)]),
        Index("stage_opened", [("stage", 1), ("opened_at", -1), ("_id", -1)]),
        Index(
            "issued",
            [("issue.issued_at", -1), ("_id", -1)],
            partial={"stage": BatchStage.ISSUED.value},
        ),
    ),
)
_TAKEN_OUT = record({"action": TEXT, "number": AMOUNT, "mg": AMOUNT, "earned": TEXT, "pooled": TEXT})
_SHARE = record({"first": AMOUNT, "last": AMOUNT, "transaction": TEXT})
CONTRIBUTIONS = Collection(
    "market_contributions",
    record(
        {
            "_id": TEXT,
            "batch": TEXT,
            "citizen": TEXT,
            "vintage": AMOUNT,
            "benefit": one_of(*Benefit),
            "given_at": MOMENT,
            "acts": COUNTER,
            "pool_mg": COUNTER,
            "own_mg": COUNTER,
            "transfers": list_of(TEXT),
            "stage": one_of(*ContributionStage),
            "deducted_mg": nullable(COUNTER),
            "residual_mg": nullable(COUNTER),
        },
        optional={"taken_out": list_of(_TAKEN_OUT), "pool": _SHARE, "own": _SHARE},
    ),
    (
        Index("batch_citizen", [("batch", 1), ("citizen", 1)], unique=True),
        Index("citizen_vintage", [("citizen", 1), ("vintage", 1)]),
        Index("citizen_given", [("citizen", 1), ("given_at", -1), ("_id", -1)]),
        Index("batch_pool", [("batch", 1), ("pool.first", 1)], partial={"pool.first": {"$type": "long"}}),
        Index("batch_own", [("batch", 1), ("own.first", 1)], partial={"own.first": {"$type": "long"}}),
    ),
)
POOLED_ACTS = Collection(
    "market_pooled_acts",
    record(
        {
            "_id": TEXT,
            "batch": TEXT,
            "citizen": TEXT,
            "number": AMOUNT,
            "kind": TEXT,
            "mg": AMOUNT,
            "occurred_at": MOMENT,
            "rule": record({"code": TEXT, "version": AMOUNT}),
            "tier": one_of(*(tier.value for tier in EvidenceTier)),
            "evidence": nullable(TEXT),
            "earned": TEXT,
            "pooled": TEXT,
        }
    ),
    (Index("batch_citizen_number", [("batch", 1), ("citizen", 1), ("number", 1)], unique=True),),
)
COLLECTIONS = (CONSENTS, BATCHES, CONTRIBUTIONS, POOLED_ACTS)
