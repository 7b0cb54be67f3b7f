"""What is published, in MongoDB: kinds, rule versions, campaigns, limits. Inserted once, never changed or deleted.

Each document holds the wording (``backend.rules.wording``) and beside it the number and the moment of the publication
that brought it, and the draft it comes from; what comes with the software has none.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.mongo.collections import AMOUNT, MOMENT, TEXT, Collection, Index, nullable, record
from backend.rules.wording import (
    read_campaign,
    read_kind,
    read_limits,
    read_version,
    write_campaign,
    write_kind,
    write_limits,
    write_version,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Tx
    from backend.rules.model import Campaign, Kind, Limits, RuleVersion

WORDING: Mapping[str, Any] = {"bsonType": "object"}
_PUBLISHED = {"revision": AMOUNT, "published_at": MOMENT, "draft": nullable(TEXT), "wording": WORDING}
KINDS = Collection("rule_kinds", record({"_id": TEXT, **_PUBLISHED}))
VERSIONS = Collection(
    "rule_versions",
    record({"_id": TEXT, "profile": TEXT, "rule": TEXT, "version": AMOUNT, "kind": TEXT, **_PUBLISHED}),
    (Index("kind_revision", [("kind", 1), ("revision", 1)]), Index("rule_version", [("rule", 1), ("version", 1)])),
)
CAMPAIGNS = Collection(
    "rule_campaigns",
    record({"_id": TEXT, "code": TEXT, **_PUBLISHED}),
    (Index("code_revision", [("code", 1), ("revision", 1)]),),
)
LIMITS = Collection("rule_limits", record({"_id": TEXT, **_PUBLISHED}))
# One document that every publication changes: who read it inside a transaction converts by what is published now.
REVISION = Collection("rule_revision", record({"_id": TEXT, "revision": AMOUNT, "published_at": MOMENT}))
REVISION_ID = "rules"
COLLECTIONS = (KINDS, VERSIONS, CAMPAIGNS, LIMITS, REVISION)
MAX_VERSIONS = 10_000
_TICK = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Publication:
    """One publication of the rule book: its number, and when. Later ones have later moments."""

    revision: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is in the rule book, or what one publication brings to it."""

    kinds: Sequence[Kind] = ()
    versions: Sequence[RuleVersion] = ()
    campaigns: Sequence[Campaign] = ()
    limits: Sequence[Limits] = ()
    publications: Sequence[Publication] = ()
    # Ids of documents that come from drafts of this programme's staff.
    drafted: frozenset[str] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        return bool(self.kinds or self.versions or self.campaigns or self.limits)


def to_stored(value: Any) -> Any:
    """A plain value as BSON keeps it: whole numbers of 64 bits."""
    if isinstance(value, dict):
        return {name: to_stored(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [to_stored(inner) for inner in value]
    return Int64(value) if isinstance(value, int) and not isinstance(value, bool) else value


def from_stored(value: Any) -> Any:
    """The plain value that was stored."""
    if isinstance(value, dict):
        return {name: from_stored(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [from_stored(inner) for inner in value]
    return int(value) if isinstance(value, Int64) else value


def version_id(version: RuleVersion) -> str:
    """The name under which a version can be published once."""
    return f"{version.profile}/{version.rule}/{version.version}"


def version_to_document(version: RuleVersion, draft: str | None = None) -> Document:
    """The published rule version as stored."""
    return {
        "_id": version_id(version),
        "profile": version.profile,
        "rule": version.rule,
        "version": Int64(version.version),
        "kind": version.kind,
        "revision": Int64(version.revision),
        "published_at": version.published_at,
        "draft": draft,
        "wording": to_stored(write_version(version)),
    }


def version_from_document(document: Mapping[str, Any]) -> RuleVersion:
    """The stored rule version."""
    version = read_version(from_stored(document["wording"]))
    return dataclasses.replace(version, revision=int(document["revision"]), published_at=document["published_at"])


def _published(documents: Mapping[str, Sequence[Document]]) -> Published:
    everything = [document for found in documents.values() for document in found]
    publications = {int(document["revision"]): document["published_at"] for document in everything}
    return Published(
        kinds=tuple(read_kind(from_stored(document["wording"])) for document in documents[KINDS.name]),
        versions=tuple(version_from_document(document) for document in documents[VERSIONS.name]),
        campaigns=tuple(
            dataclasses.replace(read_campaign(from_stored(document["wording"])), revision=int(document["revision"]))
            for document in documents[CAMPAIGNS.name]
        ),
        limits=tuple(
            dataclasses.replace(read_limits(from_stored(document["wording"])), revision=int(document["revision"]))
            for document in documents[LIMITS.name]
        ),
        publications=tuple(Publication(revision, publications[revision]) for revision in sorted(publications)),
        drafted=frozenset(document["_id"] for document in everything if document["draft"] is not None),
    )


_CONTENT = (KINDS.name, VERSIONS.name, CAMPAIGNS.name, LIMITS.name)


class RuleStore:
    """What is published, as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revision(self) -> int:
        """How many times anything was published."""
        document = await self._database.find_one(REVISION.name, {"_id": REVISION_ID})
        return int(document["revision"]) if document else 0

    async def load(self, revision: int) -> Published:
        """All that was published up to ``revision``."""
        query = {"revision": {"$lte": Int64(revision)}}
        return _published(
            {
                name: await self._database.find(name, query, limit=MAX_VERSIONS, sort=[("revision", 1), ("_id", 1)])
                for name in _CONTENT
            }
        )


class RuleWrites:
    """Publishing, inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def revision(self) -> int:
        """The revision as this transaction sees it."""
        document = await self._tx.find_one(REVISION.name, {"_id": REVISION_ID})
        return int(document["revision"]) if document else 0

    async def published(self) -> Published:
        """All that is published, as this transaction sees it."""
        return _published({name: await self._tx.find(name, {}) for name in _CONTENT})

    async def publish(self, content: Published, now: datetime, *, draft: str | None = None) -> Publication:
        """Insert the content as the next publication; nobody else can publish at the same time."""
        found = await self._tx.find_one(REVISION.name, {"_id": REVISION_ID})
        last = int(found["revision"]) if found else 0
        # So that what was known at a moment never depends on whose clock is ahead.
        publication = Publication(last + 1, max(now, found["published_at"] + _TICK) if found else now)
        state = {"revision": Int64(publication.revision), "published_at": publication.at}
        if found is None:
            await self._tx.insert_many(REVISION.name, [{"_id": REVISION_ID, **state}])
        else:
            await self._tx.update_one(REVISION.name, {"_id": REVISION_ID, "revision": Int64(last)}, {"$set": state})
        for name, documents in _documents(content, publication, draft):
            await self._tx.insert_many(name, documents)
        return publication


def _documents(
    content: Published, publication: Publication, draft: str | None
) -> Iterable[tuple[str, Sequence[Document]]]:
    def published(document_id: str, wording: Mapping[str, Any], **more: Any) -> Document:
        return {
            "_id": document_id,
            **more,
            "revision": Int64(publication.revision),
            "published_at": publication.at,
            "draft": draft,
            "wording": to_stored(wording),
        }

    yield KINDS.name, [published(kind.code, write_kind(kind)) for kind in content.kinds]
    yield (
        VERSIONS.name,
        [
            version_to_document(
                dataclasses.replace(version, revision=publication.revision, published_at=publication.at), draft
            )
            for version in content.versions
        ],
    )
    yield (
        CAMPAIGNS.name,
        [
            published(f"{campaign.code}/{publication.revision}", write_campaign(campaign), code=campaign.code)
            for campaign in content.campaigns
        ],
    )
    yield LIMITS.name, [published(str(publication.revision), write_limits(limits)) for limits in content.limits]
