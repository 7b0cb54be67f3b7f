"""The hash of what a batch holds: by it a sample is drawn, and a verdict says what it is about."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backend.market.pooling.store import stream_acts
from backend.market.pooling.tables import Pseudonyms, act_lines, content_hash, methodologies_of

if TYPE_CHECKING:
    from backend.market.pooling.model import Batch
    from backend.mongo.client import Database
    from backend.rules.service import Rules


class Contents:
    """Hashes the acts of batches."""

    def __init__(self, *, database: Database, rules: Rules, lookup_key: bytes) -> None:
        self._database = database
        self._rules = rules
        self._lookup_key = lookup_key

    async def hashed(self, batch: Batch) -> Batch:
        """The batch with the hash of its contents, which is worked out only where they have changed since."""
        if batch.hashed == batch.contents:
            return batch
        methodologies = methodologies_of(await self._rules.book())
        async with self._database.snapshot() as snapshot:
            acts = stream_acts(snapshot, batch.code)
            content = await content_hash(act_lines(acts, Pseudonyms(self._lookup_key, batch), methodologies))
        return dataclasses.replace(batch, content=content, hashed=batch.contents)
