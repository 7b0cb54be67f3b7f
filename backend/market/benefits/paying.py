"""Pays approved rounds: a hundred contributors a MongoDB transaction, with the round's cursor.

Book, payments and cursor commit together, on the condition that the round stands as it was read: whoever dies leaves a
whole number of such steps behind, and whoever goes on begins where they end. Parts follow from the shares alone, which
are read anew each time and must come to the same.
"""

from __future__ import annotations

import dataclasses
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import structlog

from backend.kernel.errors import Refusal, TransientError
from backend.market.benefits.model import Part, Payment, Round, RoundStage
from backend.market.benefits.rules import Sharing, convert, cut, require_rate, returning, tallied, told
from backend.market.benefits.store import BenefitReads, BenefitWrites
from backend.market.pooling.model import Benefit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.ledger.service import Ledger
    from backend.market.benefits.model import Share
    from backend.market.benefits.service import StreamShares
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.valkey.leases import Leases

LOG = structlog.get_logger(__name__)
LEASE = "benefits"
# A step takes far less; of two workers at one round the one that comes second to a step ends.
LEASE_MS = 60_000
BATCH = 100
# A run ends after so many steps; the next one goes on from there.
MAX_STEPS = 1_000
MAX_ROUNDS = 20


class SharesChangedError(RuntimeError):
    """The shares of an issued batch are not what they were when its round began: nothing of it is paid any more."""


class Paying:
    """Pays rounds that were approved. ``stream_shares`` gives the shares of an issued batch's pool by citizen id."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        leases: Leases,
        clock: Clock,
        stream_shares: StreamShares,
        batch_size: int = BATCH,
    ) -> None:
        self._reads = BenefitReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._leases = leases
        self._clock = clock
        self._stream_shares = stream_shares
        self._batch_size = batch_size

    async def work_off(self) -> int:
        """Go on with all approved rounds; how many payments were made.

        Raises:
            UnavailableError, BusyError: the next run goes on where this one was.
        """
        made = 0
        async with self._leases.hold([LEASE], ttl_ms=LEASE_MS) as held:
            for one in await self._reads.list_running(limit=MAX_ROUNDS) if held else ():
                try:
                    standing = await self._reads.find_round(one)
                    # It may have been ended since it was listed.
                    if standing is not None and standing.stage is RoundStage.RUNNING:
                        made += await self._pay(standing)
                except TransientError:
                    raise
                except Refusal as error:
                    # The pool lacks fen, or a page is full: until that has changed, others go on.
                    LOG.warning("benefit round waits", round=one, error=str(error))
                except Exception:
                    LOG.exception("benefit round cannot go on", round=one)
        return made

    async def _pay(self, one: Round) -> int:
        """Pay what is left of a round, or a run's worth of it."""
        require_rate(one.points_per_yuan)
        made = cut(one.fen, [share.grams async for share in self._stream_shares(one.batch)])
        if one.grams not in {None, made.grams}:
            message = f"shares of {one.batch} come to {made.grams} grams, not {one.grams}"
            raise SharesChangedError(message)
        paid, standing = one.paid.citizens, dataclasses.replace(one, grams=made.grams)
        parts: list[Part] = []
        # Closed here where the run ends half-way.
        shared = cast("AsyncGenerator[Part, None]", self._parts(one, Sharing(made)))
        async with aclosing(shared) as stream:
            async for part in stream:
                parts.append(part)
                if len(parts) < self._batch_size:
                    continue
                after = await self._step(standing, parts)
                if after is None or after.paid.citizens - paid >= MAX_STEPS * self._batch_size:
                    return after.paid.citizens - paid if after else 0
                standing, parts = after, []
        last = await self._step(standing, parts, is_last=True)
        return last.paid.citizens - paid if last else 0

    async def _parts(self, one: Round, sharing: Sharing) -> AsyncIterator[Part]:
        """What those get whom the round has not reached yet; shares that come to nothing get nothing."""
        async for share in self._stream_shares(one.batch):
            fen = sharing.part_of(share.grams)
            if fen and share.citizen > one.cursor:
                yield Part(share, fen)

    async def _step(self, standing: Round, parts: Sequence[Part], *, is_last: bool = False) -> Round | None:
        """Pay these parts in one transaction; the round after it, None where another worker went on with it."""
        now = self._clock.now()
        takers = [share.citizen for share, _ in parts if share.choice is Benefit.POINTS]

        async def body(tx: Tx) -> Round | None:
            writes = BenefitWrites(tx)
            stored = await writes.find_round(standing.id)
            if stored is None or (stored.stage, stored.cursor) != (standing.stage, standing.cursor):
                return None
            carries = await writes.find_carries(standing.batch, takers) if takers else {}
            payments = [_payment(standing, share, fen, carries.get(share.citizen, 0), now) for share, fen in parts]
            posted = await self._ledger.post_within(tx, [told(standing, payment) for payment in payments], at=now)
            await writes.insert_payments(
                [dataclasses.replace(payment, at=posted[payment.transaction]) for payment in payments]
            )
            after = _after(standing, payments, now, is_last=is_last)
            await writes.save_round(stored, after)
            return after

        return await self._transactions.run(body)


def _payment(one: Round, share: Share, fen: int, carry: int, now: datetime) -> Payment:
    points = 0
    if share.choice is Benefit.POINTS:
        points, carry = convert(fen, one.points_per_yuan, carry)
    return Payment(
        round=one.id,
        batch=one.batch,
        number=one.number,
        citizen=share.citizen,
        grams=share.grams,
        fen=fen,
        choice=share.choice,
        points=points,
        carry=carry,
        at=now,
        transaction=returning(one, share.citizen, fen, share.choice, points).id,
    )


def _after(standing: Round, payments: Sequence[Payment], now: datetime, *, is_last: bool) -> Round:
    after = dataclasses.replace(
        standing,
        cursor=payments[-1].citizen if payments else standing.cursor,
        paid=tallied(standing.paid, payments),
    )
    if not is_last:
        return after
    assert after.paid.total_fen == after.fen, f"{after.id} shares {after.fen} fen and paid {after.paid.total_fen}"
    return dataclasses.replace(after, stage=RoundStage.DONE, done_at=now)
