"""Families, their members, invitations and daily counts in MongoDB, and every query on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bson import Int64
from pymongo import DeleteOne

from backend.kernel.ids import CitizenId
from backend.mongo.collections import COUNTER, MOMENT, TEXT, Collection, Index, record
from backend.mongo.idempotency import KeyedWrites

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from backend.mongo.client import Database, Document

# ``size`` makes joining and leaving write the same document, so that they happen one after the other.
FAMILIES = Collection("families", record({"_id": TEXT, "size": COUNTER, "founded_at": MOMENT}))
# The _id is the citizen: of two families that would have one member, one insert wins.
MEMBERS = Collection(
    "family_members",
    record({"_id": TEXT, "family": TEXT, "joined_at": MOMENT}),
    (Index("family", [("family", 1)]),),
)
# The _id is the keyed hash of the code; using an invitation deletes it.
INVITATIONS = Collection(
    "family_invitations",
    record({"_id": TEXT, "family": TEXT, "inviter": TEXT, "expires_at": MOMENT}),
    (Index("expires_at", [("expires_at", 1)], expire_after_s=0),),
)
COUNTS = Collection(
    "family_counts",
    record({"_id": TEXT, "count": COUNTER, "expires_at": MOMENT}),
    (Index("expires_at", [("expires_at", 1)], expire_after_s=0),),
)
COLLECTIONS = (FAMILIES, MEMBERS, INVITATIONS, COUNTS)


class FamilyWrites(KeyedWrites):
    """Families inside one MongoDB transaction."""

    async def family_of(self, citizen: CitizenId) -> str | None:
        """The family the citizen belongs to."""
        found = await self._tx.find_one(MEMBERS.name, {"_id": citizen})
        return found["family"] if found else None

    async def size(self, family: str) -> int:
        """How many members the family has; 0 where there is no such family."""
        found = await self._tx.find_one(FAMILIES.name, {"_id": family})
        return int(found["size"]) if found else 0

    async def found(self, family: str, citizen: CitizenId, now: datetime) -> None:
        """Make a family of one."""
        await self._tx.insert_many(FAMILIES.name, [{"_id": family, "size": Int64(1), "founded_at": now}])
        await self._insert_member(family, citizen, now)

    async def add(self, family: str, citizen: CitizenId, *, below: int, now: datetime) -> None:
        """Add the citizen to a family that has fewer than ``below`` members."""
        await self._tx.update_one(
            FAMILIES.name, {"_id": family, "size": {"$lt": Int64(below)}}, {"$inc": {"size": Int64(1)}}
        )
        await self._insert_member(family, citizen, now)

    async def _insert_member(self, family: str, citizen: CitizenId, now: datetime) -> None:
        await self._tx.insert_many(MEMBERS.name, [{"_id": citizen, "family": family, "joined_at": now}])

    async def remove(self, family: str, citizen: CitizenId, *, size: int) -> None:
        """Take the citizen out of a family of ``size``; the last to leave ends it."""
        await self._tx.bulk_write(MEMBERS.name, [DeleteOne({"_id": citizen, "family": family})])
        if size == 1:
            await self._tx.bulk_write(FAMILIES.name, [DeleteOne({"_id": family, "size": Int64(1)})])
        else:
            await self._tx.update_one(FAMILIES.name, {"_id": family}, {"$inc": {"size": Int64(-1)}})

    async def insert_invitation(self, code_hash: str, family: str, inviter: CitizenId, expires_at: datetime) -> None:
        """Store an invitation under the keyed hash of its code."""
        document = {"_id": code_hash, "family": family, "inviter": inviter, "expires_at": expires_at}
        await self._tx.insert_many(INVITATIONS.name, [document])

    async def use_invitation(self, code_hash: str, *, now: datetime) -> str | None:
        """Use up the invitation; the family it leads to, where it is good and its maker still belongs there."""
        found = await self._tx.find_one(INVITATIONS.name, {"_id": code_hash})
        # The server deletes what has expired within a minute or so; until then the clock decides.
        if found is None or found["expires_at"] <= now:
            return None
        family: str = found["family"]
        if await self.family_of(CitizenId(found["inviter"])) != family:
            return None
        await self._tx.bulk_write(INVITATIONS.name, [DeleteOne({"_id": code_hash})])
        return family

    async def count(self, what: str, *, limit: int, expires_at: datetime) -> bool:
        """Count one more of ``what``; False, and nothing counted, where ``limit`` are counted already."""
        found = await self._tx.find_one(COUNTS.name, {"_id": what})
        if found is None:
            document: Document = {"_id": what, "count": Int64(1), "expires_at": expires_at}
            await self._tx.insert_many(COUNTS.name, [document])
            return True
        if found["count"] >= limit:
            return False
        await self._tx.update_one(COUNTS.name, {"_id": what}, {"$inc": {"count": Int64(1)}})
        return True


class FamilyReads:
    """Families as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def families_of(self, citizens: Iterable[CitizenId]) -> dict[CitizenId, str]:
        """The family of each citizen who has one."""
        wanted = list(citizens)
        found = await self._database.find(MEMBERS.name, {"_id": {"$in": wanted}}, limit=len(wanted) or 1)
        return {CitizenId(document["_id"]): document["family"] for document in found}

    async def members(self, family: str, *, limit: int) -> list[CitizenId]:
        """Members in the order in which they joined."""
        found = await self._database.find(
            MEMBERS.name, {"family": family}, limit=limit, sort=[("joined_at", 1), ("_id", 1)]
        )
        return [CitizenId(document["_id"]) for document in found]
