"""Brings a database to the declared collections: creates, sets validators, builds indexes; many may run at once.

A change of meaning (renaming, backfilling) is a numbered ``Step``, applied once, in order, before the declarations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure

from backend.kernel.crypto import payload_hash
from backend.mongo.client import translated
from backend.mongo.collections import TEXT, Collection, Index, record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from backend.mongo.client import Database

LOG = structlog.get_logger(__name__)
NAMESPACE_EXISTS = 48
INDEX_CONFLICTS = frozenset({85, 86})
MIGRATIONS = Collection("migrations", record({"_id": TEXT, "fingerprint": TEXT}))
DECLARATIONS = "declarations"


@dataclass(frozen=True, slots=True)
class Step:
    """A numbered change of stored data; ``apply`` must be repeatable, for a crash may repeat it."""

    number: int
    name: str
    apply: Callable[[Database], Awaitable[None]]


async def migrate(database: Database, collections: Sequence[Collection], steps: Sequence[Step] = ()) -> bool:
    """Bring ``database`` to the declared state; whether anything had to change.

    Raises:
        UnavailableError: the server did not answer.
        ValueError: an index of a declared name exists with another definition (drop it in a step first).
    """
    fingerprint = payload_hash([_plain(collection) for collection in collections])
    known = await database.find_one(MIGRATIONS.name, {"_id": DECLARATIONS})
    changed = False
    for step in sorted(steps, key=lambda step: step.number):
        changed |= await _apply_once(database, step)
    if known and known["fingerprint"] == fingerprint:
        return changed
    for collection in (MIGRATIONS, *collections):
        await _declare(database, collection)
    await database.update_one(
        MIGRATIONS.name, {"_id": DECLARATIONS}, {"$set": {"fingerprint": fingerprint}}, upsert=True
    )
    LOG.info("database migrated", collections=len(collections), fingerprint=fingerprint[:12])
    return True


def _plain(collection: Collection) -> dict[str, Any]:
    return {
        "name": collection.name,
        "schema": collection.schema,
        "indexes": [
            [index.name, list(index.keys), index.unique, index.partial, index.expire_after_s]
            for index in collection.indexes
        ],
    }


async def _apply_once(database: Database, step: Step) -> bool:
    key = f"step {step.number}"
    if await database.find_one(MIGRATIONS.name, {"_id": key}):
        return False
    await step.apply(database)
    await database.insert_many(MIGRATIONS.name, [{"_id": key, "fingerprint": step.name}])
    return True


async def _declare(database: Database, collection: Collection) -> None:
    validator = {"$jsonSchema": collection.schema}
    try:
        with translated():
            await database.raw.create_collection(collection.name, validator=validator)
    except (CollectionInvalid, OperationFailure) as error:
        if isinstance(error, OperationFailure) and error.code != NAMESPACE_EXISTS:
            raise
        with translated():
            await database.raw.command("collMod", collection.name, validator=validator, validationLevel="strict")
    if not collection.indexes:
        return
    try:
        with translated():
            await database.raw[collection.name].create_indexes([_model(index) for index in collection.indexes])
    except OperationFailure as error:
        if error.code in INDEX_CONFLICTS:
            message = f"{collection.name}: {error.details and error.details.get('errmsg')}"
            raise ValueError(message) from error
        raise


def _model(index: Index) -> IndexModel:
    options: dict[str, Any] = {"name": index.name, "unique": index.unique}
    if index.partial is not None:
        options["partialFilterExpression"] = index.partial
    if index.expire_after_s is not None:
        options["expireAfterSeconds"] = index.expire_after_s
    return IndexModel(list(index.keys), **options)
