"""Ends what is due on owners' pages: holds whose time is over, lots that nobody spent.

Repeatable and resumable at any instant: a page dealt with is no longer due, and the keys name hold and lot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from backend.kernel.errors import UnavailableError
from backend.ledger.model import (
    BREAKAGE,
    POINTS,
    HoldRef,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
)
from backend.ledger.store import LedgerReads, LedgerWrites

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.kernel.ids import ShardNumber, TransactionId
    from backend.ledger.model import OwnerId, Page
    from backend.ledger.service import Ledger
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.valkey.leases import Leases

LOG = structlog.get_logger(__name__)
BATCH = 250
MAX_BATCHES = 1_000
LEASE_MS = 15_000


def lapse(owner: OwnerId, hold: TransactionId) -> Transaction:
    """Sets an overdue hold free; the same for whoever does it, so it happens once."""
    return Transaction(key=f"lapse:{hold}", kind=TransactionKind.LAPSE, hold=HoldRef(owner, hold))


def endings(page: Page, at: datetime) -> Iterator[Transaction]:
    """What ends on the page by that moment: overdue holds lapse, then free lots that have ended expire."""
    for hold in page.holds:
        if hold.expires_at <= at:
            yield lapse(page.owner, hold.id)
    account = account_of(page.owner, POINTS)
    for lot in page.lots:
        if lot.expires_at <= at:
            yield Transaction(
                # A lot can come back after its end; the version tells one end from the next.
                key=f"expire:{page.owner}:{int(lot.expires_at.timestamp() * 1000)}:{page.version}",
                kind=TransactionKind.EXPIRE,
                postings=(Posting(from_account=account, to_account=BREAKAGE, asset=POINTS, amount=lot.amount),),
                lots={account: (lot,)},
            )


class Expiry:
    """Works off the pages that are due, shard by shard."""

    def __init__(
        self,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        leases: Leases,
        clock: Clock,
        *,
        batch: int = BATCH,
    ) -> None:
        self._reads = LedgerReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._leases = leases
        self._clock = clock
        self._batch = batch

    async def expire_due(self, shards: Sequence[ShardNumber]) -> int:
        """End all that is due in those of the shards that no other worker deals with; how many pages were due.

        Raises:
            UnavailableError: MongoDB does not answer; what was done stays done.
        """
        count = 0
        for shard in shards:
            lease = f"expire:{shard}"
            stuck: set[OwnerId] = set()
            # One lease a batch: a worker that dies keeps a shard for seconds only.
            for _ in range(MAX_BATCHES):
                async with self._leases.hold([lease], ttl_ms=LEASE_MS) as held:
                    done = await self._expire_batch(shard, stuck) if lease in held else 0
                count += done
                if done < self._batch:
                    break
        return count

    async def _expire_batch(self, shard: ShardNumber, stuck: set[OwnerId]) -> int:
        """End what is due on the next pages; those of this run that cannot be dealt with are ``stuck``."""
        now = self._clock.now()
        # They stay due, and must not fill the batches of those behind them.
        due = await self._reads.list_due(shard, now, limit=self._batch + len(stuck))
        owners = [owner for owner in due if owner not in stuck][: self._batch]
        if owners:
            stuck |= await self._end(owners, now)
        return len(owners)

    async def _end(self, owners: Sequence[OwnerId], now: datetime) -> set[OwnerId]:
        """End what is due on these pages in one transaction, or in halves; the owners for whom that cannot be."""

        async def body(tx: Tx) -> None:
            pages = await LedgerWrites(tx).pages(owners)
            await self._ledger.post_within(tx, [t for page in pages.values() for t in endings(page, now)], at=now)

        try:
            await self._transactions.run(body)
        except UnavailableError:
            raise
        except Exception as error:
            if len(owners) == 1:
                LOG.exception("what is due on a page cannot be ended", owner=owners[0])
                return set(owners)
            # Without traceback: the page that is to blame gets one, when it stands alone.
            LOG.warning("pages not dealt with together; halving them", size=len(owners), error=repr(error))
        else:
            return set()
        middle = len(owners) // 2
        return await self._end(owners[:middle], now) | await self._end(owners[middle:], now)
