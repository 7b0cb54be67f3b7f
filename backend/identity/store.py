"""Citizens, partners' sources and bindings in MongoDB, and every query on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bson import Int64

from backend.identity.family_store import COLLECTIONS as FAMILY_COLLECTIONS
from backend.identity.model import Binding, Citizen, Partner
from backend.kernel.ids import CitizenId
from backend.mongo.collections import LONG, MOMENT, TEXT, Collection, Index, nullable, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from backend.mongo.client import Database, Document

CITIZENS = Collection(
    "citizens",
    record({"_id": TEXT, "shard": LONG, "display_name": TEXT, "district": nullable(TEXT), "created_at": MOMENT}),
)
PARTNERS = Collection("partners", record({"_id": TEXT, "name": TEXT}))
SOURCES = Collection("sources", record({"_id": TEXT, "partner": TEXT}), (Index("partner", [("partner", 1)]),))
# The _id is the keyed hash of (source, external id): one citizen per external id, found without storing it.
BINDINGS = Collection(
    "bindings",
    record({"_id": TEXT, "source": TEXT, "citizen": TEXT, "bound_at": MOMENT}),
    (Index("citizen_source", [("citizen", 1), ("source", 1)]),),
)
# External ids of one source that stand for one citizen: more than anybody has cards.
MAX_BINDINGS = 100
COLLECTIONS = (CITIZENS, PARTNERS, SOURCES, BINDINGS, *FAMILY_COLLECTIONS)


def _citizen(document: Document) -> Citizen:
    return Citizen(CitizenId(document["_id"]), document["display_name"], document["district"], document["created_at"])


class IdentityStore:
    """Reads and single-document writes of identity."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_citizens(self, citizens: Sequence[Citizen]) -> int:
        """Insert those who are new; returns how many were."""
        documents: list[Document] = [
            {
                "_id": citizen.id,
                "shard": Int64(citizen.shard),
                "display_name": citizen.display_name,
                "district": citizen.district,
                "created_at": citizen.created_at,
            }
            for citizen in citizens
        ]
        return len(documents) - len(await self._database.insert_many(CITIZENS.name, documents))

    async def find_citizens(self, ids: Iterable[CitizenId]) -> dict[CitizenId, Citizen]:
        """Those of the citizens who exist."""
        wanted = list(ids)
        if not wanted:
            return {}
        found = await self._database.find(CITIZENS.name, {"_id": {"$in": wanted}}, limit=len(wanted))
        return {citizen.id: citizen for citizen in map(_citizen, found)}

    async def insert_partner(self, partner: Partner) -> None:
        """Insert the partner where new, and claim its sources where free."""
        await self._database.insert_many(PARTNERS.name, [{"_id": partner.id, "name": partner.name}])
        await self._database.insert_many(
            SOURCES.name, [{"_id": source, "partner": partner.id} for source in partner.sources]
        )

    async def source_owners(self, sources: Iterable[str]) -> Mapping[str, str]:
        """Partner of each source that belongs to one."""
        wanted = list(sources)
        found = await self._database.find(SOURCES.name, {"_id": {"$in": wanted}}, limit=len(wanted) or 1)
        return {document["_id"]: document["partner"] for document in found}

    async def insert_bindings(self, bindings: Sequence[Binding], now: datetime) -> None:
        """Bind each keyed hash where it is free."""
        documents: list[Document] = [
            {"_id": binding.hash, "source": binding.source, "citizen": binding.citizen, "bound_at": now}
            for binding in bindings
        ]
        await self._database.insert_many(BINDINGS.name, documents)

    async def bound_citizens(self, hashes: Iterable[str]) -> Mapping[str, CitizenId]:
        """Citizen of each keyed hash that is bound."""
        wanted = list(hashes)
        if not wanted:
            return {}
        found = await self._database.find(BINDINGS.name, {"_id": {"$in": wanted}}, limit=len(wanted))
        return {document["_id"]: CitizenId(document["citizen"]) for document in found}

    async def bound_pairs(self, pairs: AbstractSet[tuple[CitizenId, str]]) -> frozenset[tuple[CitizenId, str]]:
        """Those (citizen, source) that some binding joins."""
        found = await self._database.find(
            BINDINGS.name,
            {"$or": [{"citizen": citizen, "source": source} for citizen, source in pairs]},
            limit=MAX_BINDINGS * len(pairs),
            fields=["citizen", "source"],
        )
        return frozenset((CitizenId(document["citizen"]), document["source"]) for document in found)
