"""Hashes of what a batch holds: by them a sample is drawn, and a verdict says what it is about."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backend.kernel.crypto import keyed_hash
from backend.market.pooling.snapshots import stream_acts, stream_contributions
from backend.market.pooling.tables import (
    PSEUDONYM_DIGITS,
    Pseudonyms,
    act_lines,
    contribution_lines,
    hash_of,
    methodologies_of,
)

if TYPE_CHECKING:
    from backend.market.pooling.model import Batch
    from backend.mongo.client import Database, Snapshot
    from backend.rules.service import Rules


class Contents:
    """Hashes acts and contributions of batches, and knows under which pseudonyms their causes name staff."""

    def __init__(self, *, database: Database, rules: Rules, lookup_key: bytes) -> None:
        self._database = database
        self._rules = rules
        self._lookup_key = lookup_key

    async def hashed(self, batch: Batch) -> Batch:
        """The batch with the hash of its contents, which is worked out only where they have changed since."""
        if batch.hashed == batch.contents:
            return batch
        async with self._database.snapshot() as snapshot:
            content = await self.hash_acts(snapshot, batch)
        return dataclasses.replace(batch, content=content, hashed=batch.contents)

    async def hash_acts(self, snapshot: Snapshot, batch: Batch) -> str:
        """SHA-256 of the file of the acts, hex."""
        methodologies = methodologies_of(await self._rules.book())
        acts = stream_acts(snapshot, batch.code)
        return await hash_of(act_lines(acts, Pseudonyms(self._lookup_key, batch), methodologies))

    async def shares(self, batch: Batch) -> str:
        """The hash of the contributions as they are."""
        async with self._database.snapshot() as snapshot:
            return await self.hash_shares(snapshot, batch)

    async def hash_shares(self, snapshot: Snapshot, batch: Batch) -> str:
        """SHA-256 of the file of the contributions that stand, hex."""
        given = stream_contributions(snapshot, batch.code, given=True)
        return await hash_of(contribution_lines(given, Pseudonyms(self._lookup_key, batch)))

    def staff(self, principal: str) -> str:
        """What stands in causes for ``staff:<id>``: a keyed hash, the same in every batch."""
        return keyed_hash(self._lookup_key, "staff", principal.partition(":")[2])[:PSEUDONYM_DIGITS]
