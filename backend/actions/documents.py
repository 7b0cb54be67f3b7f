"""Collections of actions, claims, cap counters, fences and imports, and the codec of their documents; no queries.

Actions are sharded by (shard, citizen); claims by their ``_id``, which is the fingerprint, so a double claim is
impossible by index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.actions.model import (
    Action,
    Decision,
    Doubt,
    DoubtCode,
    ImportRow,
    Reason,
    Restatement,
    Reversal,
    Review,
    RuleRef,
    Settlement,
    Status,
)
from backend.actions.plausibility import carriers
from backend.kernel.ids import ActionId, CitizenId, TransactionId
from backend.kernel.units import Unit
from backend.ledger.model import Asset
from backend.mongo.collections import (
    AMOUNT,
    COUNTER,
    FLAG,
    LONG,
    MOMENT,
    TEXT,
    TEXT_MAP,
    Collection,
    Index,
    list_of,
    nullable,
    one_of,
    record,
)
from backend.rules.conversion import Award
from backend.rules.model import CapUsage, EvidenceTier, Period

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document

SETTLEMENT = record(
    {
        "at": MOMENT,
        "reason": nullable(one_of(*Reason)),
        "period": nullable(one_of(*Period)),
        "rule": nullable(record({"code": TEXT, "version": AMOUNT})),
        "credited_quantity": COUNTER,
        "asset": nullable(TEXT),
        "reduction_mg": COUNTER,
        "points": COUNTER,
        "transaction": nullable(TEXT),
        "claimed_by": nullable(TEXT),
        "revision": COUNTER,
        "awards": list_of(record({"campaign": TEXT, "points": COUNTER})),
        "doubts": list_of(record({"code": one_of(*DoubtCode), "score": COUNTER, "other": nullable(TEXT)})),
    }
)
REVIEW = record({"by": TEXT, "at": MOMENT, "decision": one_of(*Decision), "reason": TEXT})
_REVERSAL = record({"at": MOMENT, "superseded_by": TEXT, "transaction": nullable(TEXT)})
_RESTATEMENT = record(
    {
        "job": TEXT,
        "rule": record({"code": TEXT, "version": AMOUNT}),
        "revision": AMOUNT,
        "reduction_mg": LONG,
        "points": LONG,
        "transaction": TEXT,
        "at": MOMENT,
    }
)
ACTIONS = Collection(
    "actions",
    record(
        {
            "_id": TEXT,
            "shard": LONG,
            "citizen": TEXT,
            "source": TEXT,
            "ref": TEXT,
            "payload": TEXT,
            "kind": TEXT,
            "quantity": AMOUNT,
            "unit": one_of(*Unit),
            "occurred_at": MOMENT,
            "ended_at": nullable(MOMENT),
            "attributes": TEXT_MAP,
            "tier": one_of(*(tier.value for tier in EvidenceTier)),
            "evidence": nullable(TEXT),
            "recorded_at": MOMENT,
            "recorded_by": TEXT,
            "backfill": FLAG,
            "import_row": nullable(record({"run": TEXT, "row": AMOUNT})),
            "status": one_of(*Status),
            "settlement": nullable(SETTLEMENT),
        },
        optional={
            "carriers": list_of(TEXT),
            "review": REVIEW,
            "restatements": list_of(_RESTATEMENT),
            "reversal": _REVERSAL,
        },
    ),
    (
        Index("pending", [("shard", 1), ("recorded_at", 1), ("_id", 1)], partial={"status": Status.PENDING.value}),
        Index("import_status", [("import_row.run", 1), ("status", 1)], partial={"import_row.run": {"$type": "string"}}),
        Index("carrier_occurred", [("carriers", 1), ("occurred_at", 1)], partial={"carriers": {"$type": "string"}}),
        Index("review", [("status", 1), ("recorded_at", 1), ("_id", 1)], partial={"status": Status.REVIEW.value}),
        Index("citizen_occurred", [("citizen", 1), ("occurred_at", -1), ("_id", -1)]),
        # A back-test reads a shard's citizens one after the other.
        Index("shard_citizen", [("shard", 1), ("citizen", 1), ("occurred_at", 1)]),
    ),
)
CLAIMS = Collection(
    "claims",
    record({"_id": TEXT, "action": TEXT, "citizen": TEXT, "tier": one_of(*(tier.value for tier in EvidenceTier))}),
)
CAP_TOTALS = Collection(
    "cap_totals",
    record(
        {
            "_id": TEXT,
            "citizen": TEXT,
            "count": COUNTER,
            "quantity": COUNTER,
            "reduction_mg": COUNTER,
            "points": COUNTER,
        }
    ),
    (Index("citizen", [("citizen", 1)]),),
)
# Who took a shard last; only they may settle it.
SHARD_FENCES = Collection("shard_fences", record({"_id": LONG, "holder": TEXT}))
IMPORTS = Collection(
    "imports",
    record(
        {
            "_id": TEXT,
            "run": TEXT,
            "items": COUNTER,
            "rows": COUNTER,
            "recorded": COUNTER,
            "duplicate": COUNTER,
            "rejected": {"bsonType": "object", "additionalProperties": COUNTER},
        }
    ),
)
COLLECTIONS = (ACTIONS, CLAIMS, CAP_TOTALS, SHARD_FENCES, IMPORTS)


def action_to_document(action: Action) -> Document:
    """The action as stored."""
    imported = action.import_row
    document = {
        "_id": action.id,
        "shard": Int64(action.shard),
        "citizen": action.citizen,
        "source": action.source,
        "ref": action.ref,
        "payload": action.payload,
        "kind": action.kind,
        "quantity": Int64(action.quantity),
        "unit": action.unit.value,
        "occurred_at": action.occurred_at,
        "ended_at": action.ended_at,
        "attributes": dict(action.attributes),
        "tier": action.tier.value,
        "evidence": action.evidence,
        "recorded_at": action.recorded_at,
        "recorded_by": action.recorded_by,
        "backfill": action.backfill,
        "import_row": {"run": imported.run, "row": Int64(imported.row)} if imported else None,
        "status": action.status.value,
        "settlement": settlement_to_document(action.settlement) if action.settlement else None,
    }
    named = carriers(action)
    if named:
        document["carriers"] = list(named)
    if action.review is not None:
        document["review"] = review_to_document(action.review)
    if action.restatements:
        document["restatements"] = [restatement_to_document(restated) for restated in action.restatements]
    if action.reversal is not None:
        document["reversal"] = reversal_to_document(action.reversal)
    return document


def review_to_document(review: Review) -> Document:
    """The reviewer's decision as stored."""
    return {"by": review.by, "at": review.at, "decision": review.decision.value, "reason": review.reason}


def reversal_to_document(reversal: Reversal) -> Document:
    """The reversal as stored."""
    return {"at": reversal.at, "superseded_by": reversal.superseded_by, "transaction": reversal.transaction}


def restatement_to_document(restated: Restatement) -> Document:
    """The correction as stored."""
    return {
        "job": restated.job,
        "rule": {"code": restated.rule.code, "version": Int64(restated.rule.version)},
        "revision": Int64(restated.revision),
        "reduction_mg": Int64(restated.reduction_mg),
        "points": Int64(restated.points),
        "transaction": restated.transaction,
        "at": restated.at,
    }


def settlement_to_document(settlement: Settlement) -> Document:
    """The settlement as stored."""
    rule = settlement.rule
    return {
        "at": settlement.at,
        "reason": settlement.reason.value if settlement.reason else None,
        "period": settlement.period.value if settlement.period else None,
        "rule": {"code": rule.code, "version": Int64(rule.version)} if rule else None,
        "credited_quantity": Int64(settlement.credited_quantity),
        "asset": settlement.asset,
        "reduction_mg": Int64(settlement.reduction_mg),
        "points": Int64(settlement.points),
        "transaction": settlement.transaction,
        "claimed_by": settlement.claimed_by,
        "revision": Int64(settlement.revision),
        "awards": [{"campaign": award.campaign, "points": Int64(award.points)} for award in settlement.awards],
        "doubts": [
            {"code": doubt.code.value, "score": Int64(doubt.score), "other": doubt.other} for doubt in settlement.doubts
        ],
    }


def action_from_document(document: Mapping[str, Any]) -> Action:
    """The stored action."""
    settled, imported, review = document["settlement"], document["import_row"], document.get("review")
    reversal = document.get("reversal")
    return Action(
        citizen=CitizenId(document["citizen"]),
        source=document["source"],
        ref=document["ref"],
        kind=document["kind"],
        quantity=int(document["quantity"]),
        unit=Unit(document["unit"]),
        occurred_at=document["occurred_at"],
        ended_at=document["ended_at"],
        attributes=document["attributes"],
        tier=EvidenceTier(document["tier"]),
        evidence=document["evidence"],
        recorded_at=document["recorded_at"],
        recorded_by=document["recorded_by"],
        backfill=document["backfill"],
        import_row=ImportRow(imported["run"], int(imported["row"])) if imported else None,
        status=Status(document["status"]),
        settlement=_settlement_from_document(settled) if settled else None,
        review=review_from_document(review) if review else None,
        restatements=tuple(map(_restatement_from_document, document.get("restatements", ()))),
        reversal=Reversal(**reversal) if reversal else None,
    )


def review_from_document(document: Mapping[str, Any]) -> Review:
    """The stored decision of a reviewer."""
    return Review(**{**document, "decision": Decision(document["decision"])})


def _restatement_from_document(document: Mapping[str, Any]) -> Restatement:
    return Restatement(
        job=document["job"],
        rule=RuleRef(document["rule"]["code"], int(document["rule"]["version"])),
        revision=int(document["revision"]),
        reduction_mg=int(document["reduction_mg"]),
        points=int(document["points"]),
        transaction=TransactionId(document["transaction"]),
        at=document["at"],
    )


def _settlement_from_document(document: Mapping[str, Any]) -> Settlement:
    rule, asset = document["rule"], document["asset"]
    return Settlement(
        at=document["at"],
        reason=Reason(document["reason"]) if document["reason"] else None,
        period=Period(document["period"]) if document["period"] else None,
        rule=RuleRef(rule["code"], int(rule["version"])) if rule else None,
        credited_quantity=int(document["credited_quantity"]),
        asset=Asset(asset) if asset else None,
        reduction_mg=int(document["reduction_mg"]),
        points=int(document["points"]),
        transaction=TransactionId(document["transaction"]) if document["transaction"] else None,
        claimed_by=ActionId(document["claimed_by"]) if document["claimed_by"] else None,
        revision=int(document["revision"]),
        awards=tuple(Award(item["campaign"], int(item["points"])) for item in document["awards"]),
        doubts=tuple(
            Doubt(DoubtCode(item["code"]), int(item["score"]), ActionId(item["other"]) if item["other"] else None)
            for item in document["doubts"]
        ),
    )


def usage_from_document(document: Mapping[str, Any]) -> CapUsage:
    """What a stored counter says.

    Raises:
        KeyError, TypeError, ValueError: it says nothing that can be read.
    """
    names = ("count", "quantity", "reduction_mg", "points")
    return CapUsage(*(int(document[name]) for name in names))
