"""Restatements in MongoDB, and the acts they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo import UpdateOne

from backend.actions.documents import ACTIONS, action_from_document, restatement_to_document
from backend.actions.errors import UnknownRestatementError
from backend.actions.model import RuleRef, Status
from backend.actions.restatements import Count, Estimate, RestatedAct, RestatementJob, Stage, Unrestatable
from backend.kernel.ids import ActionId, shard_of
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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.actions.model import Action
    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Tx

    Place = tuple[datetime, str]

_COUNT = record(
    {
        "acts": COUNTER,
        "unchanged": COUNTER,
        "refused": COUNTER,
        "reduction_mg": LONG,
        "points": LONG,
        "unrestatable": list_of(record({"action": TEXT, "code": TEXT})),
    }
)
_ESTIMATE = record(
    {
        "at": MOMENT,
        "count": _COUNT,
        "citizens": COUNTER,
        "debts": COUNTER,
        "largest": list_of(record({"action": TEXT, "reduction_mg": LONG, "points": LONG})),
    }
)
RESTATEMENTS = Collection(
    "restatements",
    record(
        {
            "_id": TEXT,
            "rule": TEXT,
            "version": AMOUNT,
            "kind": TEXT,
            "since": MOMENT,
            "until": MOMENT,
            "reason": TEXT,
            "dry_run": FLAG,
            "proposer": TEXT,
            "at": MOMENT,
            "stage": one_of(*Stage),
            "approver": nullable(TEXT),
            "estimate": nullable(_ESTIMATE),
            "cursor": TEXT,
            "done": _COUNT,
        }
    ),
    (Index("at", [("at", -1), ("_id", -1)]), Index("stage_at", [("stage", 1), ("at", 1)])),
)


def _count_to_document(count: Count) -> Document:
    return {
        "acts": Int64(count.acts),
        "unchanged": Int64(count.unchanged),
        "refused": Int64(count.refused),
        "reduction_mg": Int64(count.reduction_mg),
        "points": Int64(count.points),
        "unrestatable": [{"action": found.action, "code": found.code} for found in count.unrestatable],
    }


def _count_from_document(document: Mapping[str, Any]) -> Count:
    return Count(
        acts=int(document["acts"]),
        unchanged=int(document["unchanged"]),
        refused=int(document["refused"]),
        reduction_mg=int(document["reduction_mg"]),
        points=int(document["points"]),
        unrestatable=tuple(Unrestatable(ActionId(act["action"]), act["code"]) for act in document["unrestatable"]),
    )


def _estimate_to_document(estimate: Estimate) -> Document:
    return {
        "at": estimate.at,
        "count": _count_to_document(estimate.count),
        "citizens": Int64(estimate.citizens),
        "debts": Int64(estimate.debts),
        "largest": [
            {"action": act.action, "reduction_mg": Int64(act.reduction_mg), "points": Int64(act.points)}
            for act in estimate.largest
        ],
    }


def _estimate_from_document(document: Mapping[str, Any]) -> Estimate:
    return Estimate(
        at=document["at"],
        count=_count_from_document(document["count"]),
        citizens=int(document["citizens"]),
        debts=int(document["debts"]),
        largest=tuple(
            RestatedAct(ActionId(act["action"]), int(act["reduction_mg"]), int(act["points"]))
            for act in document["largest"]
        ),
    )


def _job_to_document(job: RestatementJob) -> Document:
    return {
        "_id": job.id,
        "rule": job.rule.code,
        "version": Int64(job.rule.version),
        "kind": job.kind,
        "since": job.since,
        "until": job.until,
        "reason": job.reason,
        "dry_run": job.dry_run,
        "proposer": job.proposer,
        "at": job.at,
        "stage": job.stage.value,
        "approver": job.approver,
        "estimate": _estimate_to_document(job.estimate) if job.estimate else None,
        "cursor": job.cursor,
        "done": _count_to_document(job.done),
    }


def _job_from_document(document: Mapping[str, Any]) -> RestatementJob:
    return RestatementJob(
        id=document["_id"],
        rule=RuleRef(document["rule"], int(document["version"])),
        kind=document["kind"],
        since=document["since"],
        until=document["until"],
        reason=document["reason"],
        dry_run=document["dry_run"],
        proposer=document["proposer"],
        at=document["at"],
        stage=Stage(document["stage"]),
        approver=document["approver"],
        estimate=_estimate_from_document(document["estimate"]) if document["estimate"] else None,
        cursor=document["cursor"],
        done=_count_from_document(document["done"]),
    )


class RestateReads:
    """Restatements and the acts they concern, as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, job: str) -> RestatementJob | None:
        """The restatement of that id."""
        document = await self._database.find_one(RESTATEMENTS.name, {"_id": job})
        return _job_from_document(document) if document else None

    async def list_open(self, limit: int) -> list[RestatementJob]:
        """Restatements that wait for a worker, oldest first."""
        query = {"stage": {"$in": [Stage.ESTIMATING.value, Stage.RUNNING.value]}}
        found = await self._database.find(RESTATEMENTS.name, query, limit=limit, sort=[("at", 1), ("_id", 1)])
        return [_job_from_document(document) for document in found]

    async def list_jobs(
        self, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[RestatementJob]:
        """Restatements, newest first; from the newest end, or the last of those before ``newer``."""
        bounds = [
            {"$or": [{"at": {sign: place[0]}}, {"at": place[0], "_id": {sign: place[1]}}]}
            for sign, place in (("$lt", older), ("$gt", newer))
            if place is not None
        ]
        order = -1 if newest else 1
        found = await self._database.find(
            RESTATEMENTS.name,
            {"$and": bounds} if bounds else {},
            limit=limit,
            sort=[("at", order), ("_id", order)],
        )
        jobs = [_job_from_document(document) for document in found]
        return jobs if newest else jobs[::-1]

    async def list_acts(self, job: RestatementJob, after: str, limit: int) -> list[Action]:
        """The next credited acts of the kind and period behind that id, in the order of their ids."""
        query = {
            "_id": {"$gt": after},
            "kind": job.kind,
            "status": Status.CREDITED.value,
            "occurred_at": {"$gte": job.since, "$lt": job.until},
        }
        found = await self._database.find(ACTIONS.name, query, limit=limit, sort=[("_id", 1)])
        return [action_from_document(document) for document in found]

    async def count_other(self, rule: RuleRef, kind: str, since: datetime, until: datetime | None) -> int:
        """How many credited acts of the kind that happened in [since, until) other versions settled."""
        period: Document = {"$gte": since, **({"$lt": until} if until else {})}
        stored = {"code": rule.code, "version": Int64(rule.version)}
        query = {
            "kind": kind,
            "status": Status.CREDITED.value,
            "occurred_at": period,
            "settlement.rule": {"$ne": stored},
            "restatements.rule": {"$ne": stored},
        }
        return await self._database.count(ACTIONS.name, query)


class RestateWrites:
    """Restatements and acts inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def get(self, job: str) -> RestatementJob:
        """The restatement.

        Raises:
            UnknownRestatementError: there is none.
        """
        document = await self._tx.find_one(RESTATEMENTS.name, {"_id": job})
        if document is None:
            raise UnknownRestatementError(job)
        return _job_from_document(document)

    async def insert(self, job: RestatementJob) -> None:
        """Begin a restatement."""
        await self._tx.insert_many(RESTATEMENTS.name, [_job_to_document(job)])

    async def save(self, before: RestatementJob, after: RestatementJob) -> None:
        """Put the restatement in the place of what it was."""
        document = _job_to_document(after)
        query = {"_id": document.pop("_id"), "stage": before.stage.value, "cursor": before.cursor}
        await self._tx.update_one(RESTATEMENTS.name, query, {"$set": document})

    async def credited(self, ids: Sequence[ActionId]) -> list[Action]:
        """Those of the acts that are still credited, in the order of their ids."""
        found = await self._tx.find(ACTIONS.name, {"_id": {"$in": list(ids)}, "status": Status.CREDITED.value})
        return sorted(map(action_from_document, found), key=lambda action: action.id)

    async def append(self, restated: Sequence[Action]) -> None:
        """Keep the last restatement of each act with it."""
        await self._tx.bulk_write(ACTIONS.name, [_append(action) for action in restated])


def _append(action: Action) -> UpdateOne:
    entry = restatement_to_document(action.restatements[-1])
    query = {"_id": action.id, "shard": Int64(shard_of(action.citizen)), "status": Status.CREDITED.value}
    return UpdateOne(query, {"$push": {"restatements": entry}})
