"""The only door to benefit return: finance staff propose a round, another approves it, citizens see what they got."""

from __future__ import annotations

import dataclasses
import secrets
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from backend.identity.rule_desk import require_staff
from backend.kernel.errors import IdempotencyConflictError, Text
from backend.kernel.ids import CitizenId, derived_id
from backend.ledger.errors import InsufficientFundsError
from backend.ledger.model import CNY, account_of, pool_owner
from backend.market.benefits.errors import NoSharesError, RoundOpenError, RoundStageError, UnknownRoundError
from backend.market.benefits.model import OPEN_ROUND, Round, RoundId, RoundStage
from backend.market.benefits.rules import require_rate
from backend.market.benefits.store import BenefitReads, BenefitWrites
from backend.market.funds.acting import ANY_STAFF, require_finance, require_other, use_of
from backend.market.funds.errors import OwnInterestError
from backend.market.funds.rules import SALT_BYTES, require_fen
from backend.market.pooling.errors import UnknownBatchError, WrongBatchStageError
from backend.market.pooling.model import BatchStage, ContributionStage
from backend.market.pooling.store import PoolingWrites

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.ledger.service import Ledger
    from backend.market.benefits.model import Payment, Share
    from backend.market.pooling.model import BatchCode
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx

    StreamShares = Callable[[BatchCode], AsyncIterator[Share]]

RETURNING = Text("收益返还", "returning benefits")


class Benefits:
    """Rounds of benefit return. ``stream_shares`` gives the shares of an issued batch's pool by citizen id.

    Every method that changes something is for finance staff and administrators and raises, beside what it names:
        ForbiddenError: the principal is neither.
        InvalidInputError, IdempotencyConflictError: a field, or the key.
        BusyError, UnavailableError: see ``Transactions.run``.
    """

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        clock: Clock,
        points_per_yuan: int,
        stream_shares: StreamShares,
    ) -> None:
        self._reads = BenefitReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._clock = clock
        self._points_per_yuan = points_per_yuan
        self._stream_shares = stream_shares

    async def propose(self, principal: Principal, batch: BatchCode, fen: int | None, *, key: str) -> Round:
        """Propose to share so many fen of a batch's pool, or all that is available (None), among its contributors.

        Raises:
            UnknownBatchError, WrongBatchStageError: there is none, or it is not issued.
            NoSharesError: nothing of it was issued to its pool.
            RoundOpenError: a round of it is not over.
            OwnInterestError: the caller contributed to it.
            RateTooHighError: the programme's rate is beyond what any round gives.
            InsufficientFundsError: the pool has not so much available.
        """
        require_finance(principal, key)
        if fen is not None:
            require_fen(fen)
        now, actor = self._clock.now(), str(principal)
        use = use_of(principal, "returnBenefits", key, batch, fen)
        round_id = RoundId(derived_id("round", actor, key))
        has_shares = await self._has_shares(batch)
        available = await self._available(batch)

        async def body(tx: Tx) -> Round:
            writes = BenefitWrites(tx)
            taken = await writes.claimed_at(use)
            known = await writes.find_round(round_id)
            if known is not None:
                if taken is None and (known.batch != batch or fen not in {None, known.fen}):
                    raise IdempotencyConflictError(key)
                return known
            found = await PoolingWrites(tx).find_batch(batch)
            if found is None:
                raise UnknownBatchError
            if found.stage is not BatchStage.ISSUED:
                raise WrongBatchStageError(found.stage)
            if not has_shares:
                raise NoSharesError(batch)
            last = await writes.last_round(batch)
            if last is not None and last.stage in OPEN_ROUND:
                raise RoundOpenError(last.id)
            await _require_disinterested(tx, principal, batch)
            require_rate(self._points_per_yuan)
            _require_available(batch, max(available, 1) if fen is None else fen, available)
            made = Round(
                id=round_id,
                batch=batch,
                number=last.number + 1 if last else 1,
                fen=available if fen is None else fen,
                points_per_yuan=self._points_per_yuan,
                salt=secrets.token_hex(SALT_BYTES),
                stage=RoundStage.PROPOSED,
                proposed_at=now,
                proposed_by=actor,
            )
            await writes.insert_round(made)
            await writes.claim(use, now)
            return made

        return await self._transactions.run(body)

    async def approve(self, principal: Principal, round_id: str, *, key: str) -> Round:
        """Let a round run: a worker pays it.

        Raises:
            UnknownRoundError, RoundStageError: in this order.
            OwnInterestError, OwnProposalError: the caller contributed to the batch; the caller proposed it.
            RateTooHighError: it would give more points than any round does.
            InsufficientFundsError: the pool has not so much available any more.
        """
        return await self._decide(principal, round_id, RoundStage.RUNNING, None, key=key)

    async def reject(self, principal: Principal, round_id: str, reason: str, *, key: str) -> Round:
        """Turn a round down, and say why (1–500 characters); whoever proposed it may do so too.

        One that runs is ended so as long as it has paid nobody: what holds it up would hold up all that follow.

        Raises:
            UnknownRoundError, RoundStageError: in this order.
        """
        return await self._decide(principal, round_id, RoundStage.REJECTED, reason, key=key)

    async def _decide(
        self, principal: Principal, round_id: str, stage: RoundStage, reason: str | None, *, key: str
    ) -> Round:
        require_finance(principal, key, reason=reason)
        now = self._clock.now()
        use = use_of(principal, f"benefits.{stage.value}", key, round_id, reason)

        async def body(tx: Tx) -> Round:
            writes = BenefitWrites(tx)
            before = await writes.find_round(round_id)
            if before is None:
                raise UnknownRoundError(round_id)
            if await writes.claimed_at(use) is not None:
                return before
            # A worker that goes on meanwhile writes the round too: one of the two starts again and sees the other.
            is_unpaid = before.stage is RoundStage.RUNNING and not before.cursor
            if before.stage is not RoundStage.PROPOSED and not (stage is RoundStage.REJECTED and is_unpaid):
                raise RoundStageError(before.id, before.stage)
            if stage is RoundStage.RUNNING:
                await _require_disinterested(tx, principal, before.batch)
                require_other(principal, before.proposed_by)
                require_rate(before.points_per_yuan)
                _require_available(before.batch, before.fen, await self._available(before.batch))
            after = dataclasses.replace(before, stage=stage, decided_at=now, decided_by=str(principal), reason=reason)
            await writes.save_round(before, after)
            await writes.claim(use, now)
            return after

        return await self._transactions.run(body)

    async def _has_shares(self, batch: BatchCode) -> bool:
        # Closed here, where it is read no further than its first.
        async with aclosing(cast("AsyncGenerator[Share, None]", self._stream_shares(batch))) as shares:
            return await anext(shares, None) is not None

    async def _available(self, batch: BatchCode) -> int:
        """Fen that the pool could pay now; nothing but rounds spends them, for pools do not buy."""
        return (await self._ledger.get_page(pool_owner(batch))).available(CNY, self._clock.now())

    async def list_rounds(
        self,
        principal: Principal,
        batch: BatchCode | None,
        stage: RoundStage | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Round]:
        """Rounds of that batch or of all, in that stage or in any, newest first; for staff.

        Raises:
            ForbiddenError: the principal is not staff.
        """
        require_staff(principal, ANY_STAFF, RETURNING)
        return await self._reads.list_rounds(batch, stage, limit=limit, older=older, newer=newer, newest=newest)

    async def list_payments(
        self, citizen: CitizenId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Payment]:
        """What the citizen was paid, newest first, for whoever may see the citizen's data."""
        return await self._reads.list_payments(citizen, limit=limit, older=older, newer=newer, newest=newest)


async def _require_disinterested(tx: Tx, principal: Principal, batch: BatchCode) -> None:
    mine = await PoolingWrites(tx).find_contribution(batch, CitizenId(principal.id))
    if mine is not None and mine.stage is ContributionStage.GIVEN:
        raise OwnInterestError


def _require_available(batch: BatchCode, fen: int, available: int) -> None:
    if fen > available:
        raise InsufficientFundsError(account_of(pool_owner(batch), CNY), fen, available)
