"""Pages of a collection in the order of a moment and an id: stable whatever is written meanwhile, read by index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backend.mongo.client import Database, Document

    Place = tuple[datetime, str]


async def page_by_moment(
    database: Database,
    collection: str,
    query: Mapping[str, Any],
    *,
    moment: str,
    limit: int,
    older: Place | None,
    newer: Place | None,
    newest: bool,
) -> list[Document]:
    """At most ``limit`` documents, newest first: from the newest end, or the last of those before ``newer``."""
    bounds = [
        {"$or": [{moment: {sign: place[0]}}, {moment: place[0], "_id": {sign: place[1]}}]}
        for sign, place in (("$lt", older), ("$gt", newer))
        if place is not None
    ]
    direction = -1 if newest else 1
    found = await database.find(
        collection,
        {**query, "$and": bounds} if bounds else query,
        limit=limit,
        sort=[(moment, direction), ("_id", direction)],
    )
    return found if newest else found[::-1]
