"""Issuing: verified grams become credits with serials, contributor by contributor.

Who gets which serials follows from the batch alone, so a worker that begins again lays out the same. What is issued,
its serials, the contributions and the place reached commit together.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from backend.kernel.ids import CitizenId, new_id
from backend.ledger.model import citizen_owner, credit_asset, pool_owner
from backend.market.pooling.entries import OWN, issuance
from backend.market.pooling.model import START, BatchStage, Cursor, Share
from backend.market.pooling.rules import lay_out
from backend.market.pooling.store import PoolingReads, PoolingWrites
from backend.market.pooling.weighing import weigh
from backend.market.serials.store import SerialSheet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.ledger.service import Ledger
    from backend.market.pooling.contents import Contents
    from backend.market.pooling.model import Batch, Contribution
    from backend.market.pooling.rules import Part
    from backend.market.serials.model import SerialRange
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx

SHARES_AT_ONCE = 30
# Serials are issued in their order: those of the pool's shares, then those of the citizens' own.


class _Step(NamedTuple):
    """What is issued next: a contribution's pool share, perhaps of nothing, or its own share."""

    part: Part
    is_own: bool

    @property
    def run(self) -> SerialRange | None:
        """Its serials."""
        return self.part.own if self.is_own else self.part.pool

    @property
    def place(self) -> tuple[bool, str]:
        """Its place among all steps."""
        return self.is_own, self.part.citizen


class Issuing:
    """Issues verified batches."""

    def __init__(
        self, *, database: Database, transactions: Transactions, ledger: Ledger, clock: Clock, contents: Contents
    ) -> None:
        self._reads = PoolingReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._clock = clock
        self._contents = contents
        self._laid_out: tuple[str, list[_Step]] = ("", [])
        self.shares_at_once = SHARES_AT_ONCE

    async def issue(self, batch: Batch) -> Batch:
        """Issue the next shares, or end where there are none; the batch as it then stands.

        Raises:
            BusyError, UnavailableError: see ``Transactions.run``; the next run goes on from the same place.
        """
        now = self._clock.now()
        unsealed = new_id("uns", now)
        steps = await self._steps_behind(batch)

        async def body(tx: Tx) -> Batch:
            writes = PoolingWrites(tx)
            standing = await writes.find_batch(batch.code)
            assert standing is not None, "batches are never deleted"
            if standing.version != batch.version:
                return standing  # another worker was here first
            assert standing.issue is not None
            if not steps:
                issue = dataclasses.replace(standing.issue, issued_at=now)
                ended = dataclasses.replace(standing, stage=BatchStage.ISSUED, cursor=START, issue=issue)
                return await writes.change_batch(standing, ended)
            contributions = await self._issue(tx, batch, steps, unsealed, now)
            await writes.put_contributions(contributions)
            last = steps[-1]
            reached = Cursor(last.part.citizen, action=OWN if last.is_own else "")
            return await writes.change_batch(standing, dataclasses.replace(standing, cursor=reached))

        return await self._transactions.run(body)

    async def _issue(
        self, tx: Tx, batch: Batch, steps: Sequence[_Step], unsealed: str, now: datetime
    ) -> list[Contribution]:
        """Issue these shares in the book and with their serials; the contributions with them."""
        citizens = list({step.part.citizen: None for step in steps})
        found = {one.citizen: one for one in await PoolingWrites(tx).list_contributions(batch.code, citizens)}
        assert batch.issue is not None
        credit, serials = credit_asset(batch.code), SerialSheet(tx)
        issuer = self._contents.staff(batch.issue.issuer)
        transactions = []
        for step in steps:
            contribution = found[CitizenId(step.part.citizen)]
            share = None
            if step.run is not None:
                owner = citizen_owner(contribution.citizen) if step.is_own else pool_owner(batch.code)
                transaction = issuance(batch, contribution, step.run, owner, issuer)
                transactions.append(transaction)
                serials.issue(credit, step.run, owner)
                share = Share(run=step.run, transaction=transaction.id)
            found[contribution.citizen] = _with_share(contribution, step, share)
        sheet = await self._ledger.open_within(tx, transactions)
        for transaction in transactions:
            await sheet.post(transaction, now)
        await sheet.write(unsealed, now)
        await serials.write()
        return list(found.values())

    async def _steps_behind(self, batch: Batch) -> list[_Step]:
        """What is next to be issued."""
        assert batch.issue is not None
        assert batch.verdict is not None
        if self._laid_out[0] != batch.verdict.content:
            weights, pro_rata_mg = await weigh(self._reads, batch)
            parts = lay_out(weights, pro_rata_mg, batch.issue.grams)
            steps = [_Step(part, is_own=False) for part in parts]
            steps += [_Step(part, is_own=True) for part in parts if part.own is not None]
            self._laid_out = (batch.verdict.content, steps)
        steps, cursor = self._laid_out[1], batch.cursor
        begin = bisect_right(steps, (cursor.action == OWN, cursor.citizen), key=lambda step: step.place)
        behind = steps[begin : begin + self.shares_at_once]
        if not behind:
            self._laid_out = ("", [])
        return behind


def _with_share(contribution: Contribution, step: _Step, share: Share | None) -> Contribution:
    if step.is_own:
        return dataclasses.replace(contribution, own=share)
    part = step.part
    return dataclasses.replace(contribution, deducted_mg=part.deducted_mg, residual_mg=part.residual_mg, pool=share)
