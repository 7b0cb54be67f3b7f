"""Following: each new block audited once, some seconds after it was made, against all that its transactions touched.

It looks at the block's chain, signature and leaves, at the documents it sealed, at the lines of the owners they touch
and at these owners' pages. It never stops at a difference: that becomes an alert, and it goes on with the next block.
What it cannot see, changes of what was sealed before, is for the whole audit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from backend.ledger.audit import follow_store
from backend.ledger.audit.block_check import BlockCheck
from backend.ledger.audit.follow_store import Followed, FollowStore

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from backend.kernel.clock import Clock
    from backend.ledger.audit.block_check import Problem
    from backend.mongo.client import Database, Snapshot

LOG = structlog.get_logger(__name__)


class Following:
    """Audits the book as it grows."""

    def __init__(self, database: Database, clock: Clock, zone: ZoneInfo) -> None:
        self._database = database
        self._store = FollowStore(database)
        self._clock = clock
        self._zone = zone

    async def follow(self) -> Followed:
        """Audit every block made since the last time; how far it came.

        May be cut off at any instant and may run twice at once: a block counts once, a difference is raised once.

        Raises:
            UnavailableError: MongoDB does not answer; the next run goes on where this one was.
        """
        followed = await self._store.load()
        async with self._database.snapshot() as snapshot:
            for problem in await _lost(snapshot, followed):
                await self._raise(problem)
            heights = await follow_store.list_heights(snapshot, followed.height)
        for height in heights:
            before = followed.height
            # Each block with a view of its own: the server keeps five minutes of history.
            async with self._database.snapshot() as snapshot:
                problems = await BlockCheck(snapshot, followed, self._zone).check(height)
            for problem in problems:
                await self._raise(problem)
            await self._conclude(followed)
            if not await self._store.save(followed, before=before):
                return await self._store.load()
        followed.at = self._clock.now()
        await self._conclude(followed)
        await self._store.save(followed, before=followed.height)
        return followed

    async def status(self) -> Followed:
        """How far it came the last time."""
        return await self._store.load()

    async def list_alerts(self, limit: int = 100) -> list[str]:
        """The latest differences, worded as findings."""
        return [f"{alert['place']}: {alert['problem']}" for alert in await self._store.list_alerts(limit)]

    async def _conclude(self, followed: Followed) -> None:
        followed.findings = await self._store.count_alerts()
        followed.waiting = await self._store.count_waiting()

    async def _raise(self, problem: Problem) -> None:
        place, what = problem
        if await self._store.raise_alert(place, what, self._clock.now()):
            LOG.error("the books do not add up", place=place, problem=what)


async def _lost(snapshot: Snapshot, followed: Followed) -> list[Problem]:
    """Whether the block that was followed last is not there any more, or another."""
    if not followed.height:
        return []
    last = await follow_store.find_block(snapshot, followed.height)
    place = f"block {followed.height}"
    if last is None:
        return [(place, "is missing, though it was there")]
    return [] if last.get("hash") == followed.hash else [(place, "is another than it was")]
