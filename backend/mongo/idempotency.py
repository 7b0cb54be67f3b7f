"""Remembers which request used an idempotency key: one key, one payload, for at least thirty days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.kernel.errors import IdempotencyConflictError
from backend.kernel.ids import derived_id
from backend.mongo.collections import MOMENT, TEXT, Collection, Index, record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backend.mongo.client import Database
    from backend.mongo.transactions import Tx

KEPT_FOR = timedelta(days=35)
IDEMPOTENCY_KEYS = Collection(
    "idempotency_keys",
    record({"_id": TEXT, "payload": TEXT, "expires_at": MOMENT}),
    (Index("expires_at", [("expires_at", 1)], expire_after_s=0),),
)


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a key: whose, for which operation, with which payload (its hash)."""

    principal: str
    operation: str
    key: str
    payload: str

    @property
    def id(self) -> str:
        """The document that stands for the key."""
        return derived_id("key", self.principal, self.operation, self.key)


async def claimed_at(tx: Tx, use: Use) -> datetime | None:
    """When the key took effect, where it did with the same payload.

    Raises:
        IdempotencyConflictError: it was used with another payload.
    """
    found = await tx.find_one(IDEMPOTENCY_KEYS.name, {"_id": use.id})
    if found is None:
        return None
    if found["payload"] != use.payload:
        raise IdempotencyConflictError(use.key)
    taken: datetime = found["expires_at"] - KEPT_FOR
    return taken


async def claim(tx: Tx, use: Use, now: datetime) -> None:
    """Take the key together with its effect: neither stands without the other."""
    document = {"_id": use.id, "payload": use.payload, "expires_at": now + KEPT_FOR}
    await tx.insert_many(IDEMPOTENCY_KEYS.name, [document])


class KeyedWrites:
    """What a store writes inside one MongoDB transaction, its effect taken together with a key."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def claimed_at(self, use: Use) -> datetime | None:
        """When the key took effect, where it did with the same payload.

        Raises:
            IdempotencyConflictError: it was used with another payload.
        """
        return await claimed_at(self._tx, use)

    async def claim(self, use: Use, now: datetime) -> None:
        """Take the key together with its effect: neither stands without the other."""
        await claim(self._tx, use, now)


class IdempotencyKeys:
    """The register of used keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def is_used(self, use: Use) -> bool:
        """Whether the key took its effect with the same payload.

        Raises:
            IdempotencyConflictError: it did with another payload.
        """
        found = await self._database.find_one(IDEMPOTENCY_KEYS.name, {"_id": use.id})
        if found is not None and found["payload"] != use.payload:
            raise IdempotencyConflictError(use.key)
        return found is not None

    async def release(self, uses: Sequence[Use]) -> None:
        """Forget keys whose request was refused after all, so that a corrected request may use them."""
        for use in uses:
            await self._database.delete_one(IDEMPOTENCY_KEYS.name, {"_id": use.id, "payload": use.payload})

    async def claim_many(self, uses: Sequence[Use], *, now: datetime) -> list[bool]:
        """For each use, whether the key is free or was used with the same payload; a new key is durable on return.

        The ``_id`` is the lock: of two simultaneous uses one insert wins and the other compares payloads.
        """
        ids = [use.id for use in uses]
        expires_at = now + KEPT_FOR
        payloads: dict[str, str] = {}
        for key_id, use in zip(ids, uses, strict=True):
            payloads.setdefault(key_id, use.payload)
        documents = [{"_id": key, "payload": payload, "expires_at": expires_at} for key, payload in payloads.items()]
        refused = await self._database.insert_many(IDEMPOTENCY_KEYS.name, documents)
        if refused:
            taken = [documents[position]["_id"] for position in refused]
            for found in await self._database.find(IDEMPOTENCY_KEYS.name, {"_id": {"$in": taken}}, limit=len(taken)):
                payloads[found["_id"]] = found["payload"]
        return [payloads[key_id] == use.payload for key_id, use in zip(ids, uses, strict=True)]
