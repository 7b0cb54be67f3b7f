"""The review queue, what a decision writes, and the log of decisions in MongoDB. The log is only ever inserted into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from bson import Int64
from pymongo import DeleteOne

from backend.actions.documents import (
    ACTIONS,
    CAP_TOTALS,
    CLAIMS,
    REVIEW,
    SETTLEMENT,
    action_from_document,
    action_to_document,
    review_to_document,
    settlement_to_document,
)
from backend.actions.errors import UnknownActionError
from backend.actions.model import Status
from backend.actions.store import add_to_counter
from backend.kernel.ids import ActionId, shard_of
from backend.mongo.collections import TEXT, Collection, Index, list_of, nullable, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from backend.actions.model import Action, Reason
    from backend.kernel.ids import CitizenId
    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Tx
    from backend.rules.model import CapUsage

    Place = tuple[datetime, str]

LOG = structlog.get_logger(__name__)
# ``actor`` is who decided; citizens are only ever shown the pseudonym in ``review``. ``settlement`` and ``previous``
# are what the decision replaced on the action; ``reversed`` are actions whose earnings it took back.
REVIEW_LOG = Collection(
    "review_log",
    record(
        {
            "_id": TEXT,
            "action": TEXT,
            "actor": TEXT,
            "review": REVIEW,
            "settlement": nullable(SETTLEMENT),
            "previous": nullable(REVIEW),
            "reversed": list_of(TEXT),
        }
    ),
    (Index("action", [("action", 1), ("_id", 1)]),),
)


class ReviewQueue:
    """Actions that wait for a person, as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_waiting(
        self,
        *,
        reason: Reason | None,
        kind: str | None,
        limit: int,
        after: Place | None,
        before: Place | None,
        last: bool,
    ) -> list[Action]:
        """At most ``limit`` waiting actions between two (recorded_at, id) places, the longest waiting first.

        With ``last`` those next to the end. One that cannot be read is passed over: settling set it aside for that.
        """
        query: dict[str, Any] = {"status": Status.REVIEW.value}
        if reason is not None:
            query["settlement.reason"] = reason.value
        if kind is not None:
            query["kind"] = kind
        order, sign = (-1, "$lt") if last else (1, "$gt")
        found: list[Action] = []
        while len(found) < limit:
            bounds = [_beyond(place, way) for place, way in ((after, "$gt"), (before, "$lt")) if place]
            documents = await self._database.find(
                ACTIONS.name,
                {**query, "$and": bounds} if bounds else query,
                limit=limit - len(found),
                sort=[("recorded_at", order), ("_id", order)],
            )
            if not documents:
                break
            found += filter(None, map(_read, documents))
            edge = documents[-1]["recorded_at"], documents[-1]["_id"]
            after, before = (edge, before) if sign == "$gt" else (after, edge)
        return found[::-1] if last else found


def _beyond(place: Place, sign: str) -> Document:
    moment, action = place
    return {"$or": [{"recorded_at": {sign: moment}}, {"recorded_at": moment, "_id": {sign: action}}]}


def _read(document: Mapping[str, Any]) -> Action | None:
    try:
        return action_from_document(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        LOG.warning("an action in review cannot be read", action=document["_id"], error=repr(error))
        return None


class ReviewWrites:
    """What a decision reads and writes inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def get(self, action: ActionId) -> Action:
        """The action.

        Raises:
            UnknownActionError: there is none.
        """
        found = await self._tx.find_one(ACTIONS.name, {"_id": action})
        if found is None:
            raise UnknownActionError(action)
        return action_from_document(found)

    async def owners(self, fingerprints: Iterable[str]) -> list[Action]:
        """The actions that own any of these claims, by id."""
        claims = await self._tx.find(CLAIMS.name, {"_id": {"$in": list(fingerprints)}}, ["action"])
        ids = sorted({claim["action"] for claim in claims})
        return [await self.get(ActionId(action)) for action in ids]

    async def free(self, fingerprints: Iterable[str], used: Mapping[str, tuple[CitizenId, CapUsage]]) -> None:
        """Give up claims, and take from the counters what an act added to them."""
        await self._tx.bulk_write(CLAIMS.name, [DeleteOne({"_id": fingerprint}) for fingerprint in fingerprints])
        await self._tx.bulk_write(CAP_TOTALS.name, [add_to_counter(key, *used[key]) for key in sorted(used)])

    async def save(self, before: Action, after: Action) -> None:
        """Put the action as decided in the place of what it was; what was recorded never changes."""
        document = action_to_document(after)
        changed = {name: document[name] for name in ("status", "settlement", "review", "reversal") if name in document}
        query = {"_id": before.id, "shard": Int64(shard_of(before.citizen)), "status": before.status.value}
        await self._tx.update_one(ACTIONS.name, query, {"$set": changed})

    async def log(self, entry: str, actor: str, before: Action, after: Action, losers: Iterable[Action]) -> None:
        """Append the decision to the log."""
        assert after.review is not None
        document = {
            "_id": entry,
            "action": after.id,
            "actor": actor,
            "review": review_to_document(after.review),
            "settlement": settlement_to_document(before.settlement) if before.settlement else None,
            "previous": review_to_document(before.review) if before.review else None,
            "reversed": [loser.id for loser in losers],
        }
        await self._tx.insert_many(REVIEW_LOG.name, [document])
