"""Every query of neutralisations; each change is conditional on the version that was read."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bson import Int64

from backend.market.funds.store import stream_legible
from backend.market.neutrality.documents import (
    NEUTRALISATIONS,
    neutralisation_from_document,
    neutralisation_to_document,
    standing,
)
from backend.market.neutrality.model import GOING, NeutralisationId
from backend.mongo.paging import page_by_moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from backend.ledger.audit.findings import Audit
    from backend.ledger.model import OwnerId
    from backend.market.neutrality.model import Neutralisation
    from backend.mongo.client import Database, Document, Snapshot
    from backend.mongo.paging import Place


class NeutralityStore:
    """Neutralisations: one document each, changed atomically."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, neutralisation: NeutralisationId) -> Neutralisation | None:
        """The neutralisation of that id."""
        found = await self._database.find_one(NEUTRALISATIONS.name, {"_id": neutralisation})
        return neutralisation_from_document(found) if found else None

    async def insert(self, neutralisation: Neutralisation) -> bool:
        """Write a new one; whether there was none of its id."""
        return not await self._database.insert_many(NEUTRALISATIONS.name, [neutralisation_to_document(neutralisation)])

    async def change(self, before: Neutralisation, after: Neutralisation) -> Neutralisation | None:
        """Write what it has become, as its next version; None where somebody else changed it meanwhile."""
        after = dataclasses.replace(after, version=before.version + 1)
        query = {"_id": before.id, "version": Int64(before.version)}
        is_done = await self._database.update_one(NEUTRALISATIONS.name, query, {"$set": standing(after)})
        return after if is_done else None

    async def forget(self, neutralisation: Neutralisation) -> bool:
        """Remove one that was refused before it began; whether nobody had changed it."""
        query = {"_id": neutralisation.id, "version": Int64(neutralisation.version)}
        return await self._database.delete_one(NEUTRALISATIONS.name, query)

    async def list_free(self, now: datetime, *, limit: int) -> list[NeutralisationId]:
        """Ids of those under way that nobody works on, the longest left alone first."""
        query = {"stage": {"$in": [stage.value for stage in GOING]}, "claimed_until": {"$lte": now}}
        order = [("claimed_until", 1)]
        found = await self._database.find(NEUTRALISATIONS.name, query, limit=limit, sort=order, fields=["_id"])
        return [NeutralisationId(document["_id"]) for document in found]

    async def list_page(
        self, owner: OwnerId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Neutralisation]:
        """An owner's, newest first."""
        found = await page_by_moment(
            self._database,
            NEUTRALISATIONS.name,
            {"owner": owner},
            moment="made_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [neutralisation_from_document(document) for document in found]


def stream_neutralisations(snapshot: Snapshot, audit: Audit) -> AsyncIterator[tuple[Neutralisation, bool]]:
    """Every neutralisation that can be read, and whether its document is what it should be."""

    def decode(document: Document) -> tuple[Neutralisation, bool]:
        one = neutralisation_from_document(document)
        return one, neutralisation_to_document(one) == document

    return stream_legible(snapshot, audit, NEUTRALISATIONS, decode, sort=[("_id", 1)])
