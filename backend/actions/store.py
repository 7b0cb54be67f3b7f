"""Every query on actions, claims, cap counters, shard fences and imports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo import UpdateOne

from backend.actions.documents import (
    ACTIONS,
    CAP_TOTALS,
    CLAIMS,
    IMPORTS,
    SHARD_FENCES,
    action_from_document,
    action_to_document,
    settlement_to_document,
    usage_from_document,
)
from backend.actions.model import EVERYBODY, Action, Checkpoint, Reason, Settlement, Status, Total, Winner
from backend.kernel.ids import ActionId, CitizenId, shard_of
from backend.rules.model import CapUsage, EvidenceTier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from backend.kernel.ids import ShardNumber
    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Tx


class ActionStore:
    """Actions as committed, and the writes that need no transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, actions: Sequence[Action]) -> dict[int, Action]:
        """Insert those not recorded before, durably; returns the stored action at each position that was."""
        refused = await self._database.insert_many(ACTIONS.name, [action_to_document(action) for action in actions])
        if not refused:
            return {}
        stored = await self.find({actions[position].id for position in refused})
        return {position: stored[actions[position].id] for position in refused}

    async def find(self, ids: Iterable[ActionId]) -> dict[ActionId, Action]:
        """Those of the actions that are recorded."""
        wanted = list(ids)
        found = await self._database.find(ACTIONS.name, {"_id": {"$in": wanted}}, limit=len(wanted) or 1)
        return {action.id: action for action in map(action_from_document, found)}

    async def list_for(
        self,
        citizen: CitizenId,
        *,
        older_than: tuple[datetime, str] | None,
        newer_than: tuple[datetime, str] | None,
        limit: int,
        newest: bool,
    ) -> list[Action]:
        """At most ``limit`` actions of the citizen between two (occurred_at, id) places, from either end."""
        query: dict[str, Any] = {"citizen": citizen}
        bounds = [_beyond(place, operator) for place, operator in ((older_than, "$lt"), (newer_than, "$gt")) if place]
        if bounds:
            query["$and"] = bounds
        order = -1 if newest else 1
        found = await self._database.find(
            ACTIONS.name, query, limit=limit, sort=[("occurred_at", order), ("_id", order)]
        )
        return [action_from_document(document) for document in found]

    async def list_pending(self, shards: Sequence[ShardNumber], limit: int) -> list[ActionId]:
        """The shards' pending actions that waited longest."""
        found = await self._database.find(
            ACTIONS.name,
            {"shard": {"$in": [Int64(shard) for shard in shards]}, "status": Status.PENDING.value},
            limit=limit,
            sort=[("recorded_at", 1), ("_id", 1)],
            fields=["_id"],
        )
        return [ActionId(document["_id"]) for document in found]

    async def oldest_pending(self, shard: ShardNumber) -> datetime | None:
        """When the shard's longest waiting action was recorded."""
        found = await self._database.find(
            ACTIONS.name,
            {"shard": Int64(shard), "status": Status.PENDING.value},
            limit=1,
            sort=[("recorded_at", 1), ("_id", 1)],
            fields=["recorded_at"],
        )
        moment: datetime | None = found[0]["recorded_at"] if found else None
        return moment

    async def take_fences(self, shards: Sequence[ShardNumber], holder: str) -> None:
        """Make ``holder`` the last who took these shards; earlier holders can no longer settle them."""
        changes = [
            UpdateOne({"_id": Int64(shard)}, {"$set": {"holder": holder}}, upsert=True) for shard in sorted(shards)
        ]
        await self._database.bulk_write(SHARD_FENCES.name, changes)

    async def totals(self, run: str | None = None) -> list[Total]:
        """Count, milligrams and points by kind, status and reason: of one importer's run, or of everything."""
        found = await self._database.aggregate(
            ACTIONS.name,
            [
                {"$match": {"import_row.run": run} if run else {}},
                {
                    "$group": {
                        "_id": {"kind": "$kind", "status": "$status", "reason": "$settlement.reason"},
                        "count": {"$sum": Int64(1)},
                        "reduction_mg": {"$sum": "$settlement.reduction_mg"},
                        "points": {"$sum": "$settlement.points"},
                    }
                },
                {"$sort": {"_id": 1}},
            ],
        )
        return [
            Total(
                kind=group["_id"]["kind"],
                status=Status(group["_id"]["status"]),
                reason=Reason(group["_id"]["reason"]) if group["_id"].get("reason") else None,
                count=int(group["count"]),
                reduction_mg=int(group["reduction_mg"]),
                points=int(group["points"]),
            )
            for group in found
        ]

    async def count_pending(self, run: str) -> int:
        """How many actions of an importer's run are not settled yet."""
        query = {"import_row.run": run, "status": Status.PENDING.value}
        return await self._database.count(ACTIONS.name, query)

    async def list_rejected(self, run: str, *, after: tuple[int, str], limit: int) -> list[Action]:
        """Rejected and reviewed actions of an importer's run behind a (row, id) place, in that order."""
        row, action = Int64(after[0]), after[1]
        later = [{"import_row.row": {"$gt": row}}, {"import_row.row": row, "_id": {"$gt": action}}]
        statuses = [Status.REJECTED.value, Status.REVIEW.value]
        query = {"import_row.run": run, "status": {"$in": statuses}, "$or": later}
        found = await self._database.find(ACTIONS.name, query, limit=limit, sort=[("import_row.row", 1), ("_id", 1)])
        return [action_from_document(document) for document in found]

    async def load_checkpoint(self, file: str) -> Checkpoint | None:
        """How far the last run over this file came, where it did not finish."""
        found = await self._database.find_one(IMPORTS.name, {"_id": file})
        if found is None:
            return None
        return Checkpoint(
            run=found["run"],
            items=int(found["items"]),
            rows=int(found["rows"]),
            recorded=int(found["recorded"]),
            duplicate=int(found["duplicate"]),
            rejected={code: int(count) for code, count in found["rejected"].items()},
        )

    async def save_checkpoint(self, file: str, checkpoint: Checkpoint) -> None:
        """Remember how far a run came."""
        progress = {
            "run": checkpoint.run,
            "items": Int64(checkpoint.items),
            "rows": Int64(checkpoint.rows),
            "recorded": Int64(checkpoint.recorded),
            "duplicate": Int64(checkpoint.duplicate),
            "rejected": {code: Int64(count) for code, count in checkpoint.rejected.items()},
        }
        await self._database.update_one(IMPORTS.name, {"_id": file}, {"$set": progress}, upsert=True)

    async def drop_checkpoint(self, file: str) -> None:
        """Forget a run that finished: the next one reads the file from the start."""
        await self._database.delete_one(IMPORTS.name, {"_id": file})


def _beyond(place: tuple[datetime, str], operator: str) -> Document:
    moment, action = place
    return {
        "$or": [{"occurred_at": {operator: moment}}, {"occurred_at": moment, "_id": {operator: action}}],
    }


class SettlingWrites:
    """What settling reads and writes inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def holds_fences(self, shards: Sequence[ShardNumber], holder: str) -> bool:
        """Whether nobody took one of the shards later."""
        query = {"_id": {"$in": [Int64(shard) for shard in shards]}, "holder": holder}
        return len(await self._tx.find(SHARD_FENCES.name, query, ["_id"])) == len(shards)

    async def pending(self, ids: Sequence[ActionId]) -> list[Action]:
        """Those of the actions that still wait, oldest act first."""
        found = await self._tx.find(ACTIONS.name, {"_id": {"$in": list(ids)}, "status": Status.PENDING.value})
        return sorted(map(action_from_document, found), key=lambda action: (action.occurred_at, action.id))

    async def claimed(self, fingerprints: Iterable[str]) -> dict[str, Winner]:
        """Who owns each fingerprint that is claimed."""
        found = await self._tx.find(CLAIMS.name, {"_id": {"$in": list(fingerprints)}})
        return {
            document["_id"]: Winner(ActionId(document["action"]), EvidenceTier(document["tier"])) for document in found
        }

    async def cap_totals(self, ids: Iterable[str]) -> dict[str, CapUsage]:
        """What is used of each cap that was touched before."""
        found = await self._tx.find(CAP_TOTALS.name, {"_id": {"$in": list(ids)}})
        return {document["_id"]: usage_from_document(document) for document in found}

    async def credited_between(
        self, citizens: Iterable[CitizenId], kinds: Sequence[str], earliest: datetime, latest: datetime
    ) -> list[Action]:
        """The credited acts of these kinds that these citizens began in [earliest, latest]."""
        query = {
            "citizen": {"$in": sorted(citizens)},
            "occurred_at": {"$gte": earliest, "$lte": latest},
            "kind": {"$in": list(kinds)},
            "status": Status.CREDITED.value,
        }
        return [action_from_document(document) for document in await self._tx.find(ACTIONS.name, query)]

    async def uses(
        self, carriers: Iterable[str], since: datetime, until: datetime
    ) -> list[tuple[str, CitizenId, datetime]]:
        """Which citizens' credited acts named these cards and devices in [since, until], and when."""
        wanted = set(carriers)
        query = {
            "carriers": {"$in": sorted(wanted)},
            "occurred_at": {"$gte": since, "$lte": until},
            "status": Status.CREDITED.value,
        }
        found = await self._tx.find(ACTIONS.name, query, ["carriers", "citizen", "occurred_at"])
        return [
            (carrier, CitizenId(document["citizen"]), document["occurred_at"])
            for document in found
            for carrier in wanted.intersection(document["carriers"])
        ]

    async def write(
        self,
        settled: Sequence[Action],
        claims: Mapping[str, Action],
        cap_additions: Mapping[str, tuple[CitizenId, CapUsage]],
    ) -> None:
        """Claims, the actions' outcomes, then the counters, those that everybody draws on last: they are contended."""
        await self._tx.insert_many(
            CLAIMS.name,
            [
                {"_id": fingerprint, "action": action.id, "citizen": action.citizen, "tier": action.tier.value}
                for fingerprint, action in claims.items()
            ],
        )
        await self._tx.bulk_write(ACTIONS.name, [_settle(action) for action in settled])
        shared = {key for key, (citizen, _) in cap_additions.items() if citizen == EVERYBODY}
        own = cap_additions.keys() - shared
        for keys in (sorted(own), sorted(shared)):
            await self._tx.bulk_write(CAP_TOTALS.name, [add_to_counter(key, *cap_additions[key]) for key in keys])

    async def set_aside(self, action: ActionId, settlement: Settlement) -> bool:
        """Send the action to review without reading it, for that may be what fails; whether it still waited."""
        outcome = {"status": Status.REVIEW.value, "settlement": settlement_to_document(settlement)}
        query = {"_id": action, "status": Status.PENDING.value}
        return await self._tx.force_one(ACTIONS.name, query, {"$set": outcome})


async def list_credited(
    tx: Tx,
    citizen: CitizenId,
    kinds: Sequence[str],
    since: datetime,
    until: datetime,
    *,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Action]:
    """The citizen's next credited acts of these kinds with ``since <= occurred_at < until``, oldest first."""
    query: Document = {
        "citizen": citizen,
        "occurred_at": {"$gte": since, "$lt": until},
        "kind": {"$in": list(kinds)},
        "status": Status.CREDITED.value,
    }
    if after is not None:
        query["$and"] = [_beyond(after, "$gt")]
    found = await tx.find(ACTIONS.name, query, sort=[("occurred_at", 1), ("_id", 1)], limit=limit)
    return [action_from_document(document) for document in found]


def add_to_counter(key: str, citizen: CitizenId, usage: CapUsage) -> UpdateOne:
    """Add to a counter, or take away what is negative."""
    added = {
        "count": Int64(usage.count),
        "quantity": Int64(usage.quantity),
        "reduction_mg": Int64(usage.reduction_mg),
        "points": Int64(usage.points),
    }
    return UpdateOne({"_id": key}, {"$setOnInsert": {"citizen": citizen}, "$inc": added}, upsert=True)


def _settle(action: Action) -> UpdateOne:
    assert action.settlement is not None
    return UpdateOne(
        {"_id": action.id, "shard": Int64(shard_of(action.citizen)), "status": Status.PENDING.value},
        {"$set": {"status": action.status.value, "settlement": settlement_to_document(action.settlement)}},
    )
