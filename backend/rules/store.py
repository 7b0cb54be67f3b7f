"""Kinds and rule versions in MongoDB. A published version is inserted once and never changed."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.units import Ratio, Unit
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
from backend.rules.formula import PerQuantity
from backend.rules.model import (
    Cap,
    Category,
    Confidence,
    EvidenceTier,
    Kind,
    Measure,
    Methodology,
    Period,
    RuleVersion,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Tx

_RATIO = record({"numerator": COUNTER, "denominator": AMOUNT})
KINDS = Collection(
    "rule_kinds",
    record(
        {
            "_id": TEXT,
            "unit": one_of(*Unit),
            "category": one_of(*Category),
            "name_zh": TEXT,
            "name_en": TEXT,
            "maximum": AMOUNT,
            "claims": list_of(list_of(TEXT)),
            "required_attributes": list_of(TEXT),
            "has_duration": FLAG,
        }
    ),
)
VERSIONS = Collection(
    "rule_versions",
    record(
        {
            "_id": TEXT,
            "rule": TEXT,
            "version": AMOUNT,
            "kind": TEXT,
            "profile": TEXT,
            "methodology": record(
                {
                    "code": TEXT,
                    "title_zh": TEXT,
                    "title_en": TEXT,
                    "publisher": TEXT,
                    "year": LONG,
                    "number": nullable(TEXT),
                }
            ),
            "factor": _RATIO,
            "quantified": FLAG,
            "full_credit_tier": one_of(*(tier.value for tier in EvidenceTier)),
            "minimum": AMOUNT,
            "maximum": AMOUNT,
            "bounds_basis": TEXT,
            "caps": list_of(
                record(
                    {
                        "group": TEXT,
                        "period": one_of(*Period),
                        "measure": one_of(*Measure),
                        "limit": AMOUNT,
                        "basis": TEXT,
                    }
                )
            ),
            "confidence": one_of(*Confidence),
            "note_zh": TEXT,
            "note_en": TEXT,
            "points": _RATIO,
            "declared_share": _RATIO,
            "valid_from": nullable(MOMENT),
            "valid_to": nullable(MOMENT),
            "enabled": FLAG,
            "why_disabled_zh": nullable(TEXT),
            "why_disabled_en": nullable(TEXT),
            "revision": COUNTER,
            "published_at": nullable(MOMENT),
        }
    ),
    (Index("kind_valid_from", [("kind", 1), ("valid_from", 1)]),),
)
# One document that every publication changes: who read it inside a transaction converts by what is published now.
REVISION = Collection("rule_revision", record({"_id": TEXT, "revision": AMOUNT}))
REVISION_ID = "rules"
COLLECTIONS = (KINDS, VERSIONS, REVISION)
MAX_VERSIONS = 10_000


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return Int64(value)
    assert value is None or isinstance(value, str | bool | datetime)
    return value


def kind_to_document(kind: Kind) -> Document:
    """The kind as stored."""
    document: Document = _encode(kind)
    for name in ("exclusion", "motion", "evidence_zh", "evidence_en", "icon"):
        del document[name]
    return {"_id": document.pop("code"), **document}


def version_to_document(version: RuleVersion) -> Document:
    """The rule version as stored."""
    document: Document = _encode(version)
    document["factor"] = document.pop("formula")["rate"]
    for name in ("condition", "multipliers"):
        del document[name]
    document["methodology"] = {
        name: value for name, value in document["methodology"].items() if not isinstance(value, list)
    }
    document["caps"] = [{name: value for name, value in cap.items() if name != "scope"} for cap in document["caps"]]
    return {"_id": f"{version.profile}/{version.rule}/{version.version}", **document}


def _ratio(document: Mapping[str, Any]) -> Ratio:
    return Ratio(int(document["numerator"]), int(document["denominator"]))


def kind_from_document(document: Mapping[str, Any]) -> Kind:
    """The stored kind."""
    return Kind(
        code=document["_id"],
        unit=Unit(document["unit"]),
        category=Category(document["category"]),
        name_zh=document["name_zh"],
        name_en=document["name_en"],
        maximum=int(document["maximum"]),
        claims=tuple(tuple(names) for names in document["claims"]),
        required_attributes=tuple(document["required_attributes"]),
        has_duration=document["has_duration"],
    )


def version_from_document(document: Mapping[str, Any]) -> RuleVersion:
    """The stored rule version."""
    methodology = document["methodology"]
    return RuleVersion(
        rule=document["rule"],
        version=int(document["version"]),
        kind=document["kind"],
        profile=document["profile"],
        methodology=Methodology(**{**methodology, "year": int(methodology["year"])}),
        formula=PerQuantity(_ratio(document["factor"])),
        quantified=document["quantified"],
        full_credit_tier=EvidenceTier(document["full_credit_tier"]),
        minimum=int(document["minimum"]),
        maximum=int(document["maximum"]),
        bounds_basis=document["bounds_basis"],
        caps=tuple(
            Cap(
                group=cap["group"],
                period=Period(cap["period"]),
                measure=Measure(cap["measure"]),
                limit=int(cap["limit"]),
                basis=cap["basis"],
            )
            for cap in document["caps"]
        ),
        confidence=Confidence(document["confidence"]),
        note_zh=document["note_zh"],
        note_en=document["note_en"],
        points=_ratio(document["points"]),
        declared_share=_ratio(document["declared_share"]),
        valid_from=document["valid_from"],
        valid_to=document["valid_to"],
        enabled=document["enabled"],
        why_disabled_zh=document["why_disabled_zh"],
        why_disabled_en=document["why_disabled_en"],
        revision=int(document["revision"]),
        published_at=document["published_at"],
    )


class RuleStore:
    """Kinds and versions as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revision(self) -> int:
        """How many times anything was published."""
        document = await self._database.find_one(REVISION.name, {"_id": REVISION_ID})
        return int(document["revision"]) if document else 0

    async def load(self) -> tuple[list[Kind], list[RuleVersion]]:
        """All kinds and all versions."""
        kinds = await self._database.find(KINDS.name, {}, limit=MAX_VERSIONS, sort=[("_id", 1)])
        versions = await self._database.find(VERSIONS.name, {}, limit=MAX_VERSIONS, sort=[("_id", 1)])
        return [kind_from_document(kind) for kind in kinds], [version_from_document(version) for version in versions]


class RuleWrites:
    """Publishing, inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def revision(self) -> int:
        """The revision as this transaction sees it."""
        document = await self._tx.find_one(REVISION.name, {"_id": REVISION_ID})
        return int(document["revision"]) if document else 0

    async def known(self) -> dict[str, Document]:
        """All stored kinds and versions by id."""
        kinds, versions = await self._tx.find(KINDS.name, {}), await self._tx.find(VERSIONS.name, {})
        return {document["_id"]: document for document in (*kinds, *versions)}

    async def publish(self, kinds: Sequence[Document], versions: Sequence[Document], revision: int) -> None:
        """Insert what is new and count the revision up to ``revision``."""
        await self._tx.insert_many(KINDS.name, kinds)
        await self._tx.insert_many(VERSIONS.name, versions)
        if revision == 1:
            await self._tx.insert_many(REVISION.name, [{"_id": REVISION_ID, "revision": Int64(1)}])
        else:
            change = {"$set": {"revision": Int64(revision)}}
            await self._tx.update_one(REVISION.name, {"_id": REVISION_ID, "revision": Int64(revision - 1)}, change)
