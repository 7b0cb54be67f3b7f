"""Verification: a sample drawn by the batch itself, and the verdict with what it takes off, in one transaction."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, NamedTuple

from backend.identity.model import StaffRole
from backend.identity.rules import require_note
from backend.kernel.errors import BusyError, InvalidInputError, Text
from backend.kernel.ids import CitizenId
from backend.market.pooling.entries import deductions
from backend.market.pooling.errors import (
    BatchTooSmallError,
    EmptyBatchError,
    FourEyesError,
    NotInBatchError,
    SampleNeededError,
)
from backend.market.pooling.model import BPS, START, BatchStage, Ending, Sample, Verdict
from backend.market.pooling.rules import Drawing, issuable_g, verified_g, work_out
from backend.market.pooling.snapshots import stream_acts
from backend.market.pooling.staff import VERIFYING, get_batch, require_role, require_stage, use_of
from backend.market.pooling.store import PoolingReads, PoolingWrites
from backend.market.pooling.weighing import weigh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.ledger.model import Transaction
    from backend.ledger.service import Ledger
    from backend.market.pooling.contents import Contents
    from backend.market.pooling.model import Adjustment, Batch
    from backend.mongo.client import Database
    from backend.mongo.idempotency import Use
    from backend.mongo.transactions import Transactions, Tx

MAX_SAMPLE = 1_000
MAX_ADJUSTMENTS = 200
MAX_NOTE = 200
MAX_STATEMENT = 2_000
SHA_256 = re.compile(r"[0-9a-f]{64}")
TRIES = 5


class Report(NamedTuple):
    """The verifier's report: SHA-256 and name of the document, whose it is, and its conclusion."""

    hash: str
    name: str
    organisation: str
    statement: str


class Verifying:
    """What verifiers do."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        clock: Clock,
        contents: Contents,
    ) -> None:
        self._database = database
        self._reads = PoolingReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._clock = clock
        self._contents = contents

    async def draw_sample(self, principal: Principal, code: str, size: int, *, key: str) -> Batch:
        """Draw so many acts (1–1,000), kind by kind, by the hash of the batch's contents; the last drawn counts.

        Raises:
            ForbiddenError: not a verifier.
            InvalidInputError: the key or the size.
            UnknownBatchError, WrongBatchStageError, EmptyBatchError: in this order.
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``; also where contributors go on withdrawing.
        """
        require_role(principal, VERIFYING, StaffRole.VERIFIER)
        use = use_of(principal, "drawSample", key, code, size)
        if not 1 <= size <= MAX_SAMPLE:
            raise InvalidInputError("size", Text(f"1–{MAX_SAMPLE}", f"1–{MAX_SAMPLE}"))
        for _ in range(TRIES):
            batch, is_done = await self._look(code, use)
            if is_done:
                return batch
            seen = await self._contents.hashed(batch)
            assert seen.content is not None
            drawing = Drawing(seen.content, size)
            async with self._database.snapshot() as snapshot:
                async for act in stream_acts(snapshot, batch.code):
                    drawing.add(act.kind, act.action)
            sample = Sample(
                size=size,
                seed=seen.content,
                actions=drawing.result(),
                drawn_by=str(principal),
                drawn_at=self._clock.now(),
            )
            stands = await self._change(batch, dataclasses.replace(seen, sample=sample), use)
            if stands is not None:
                return stands
        raise BusyError

    async def verify(
        self, principal: Principal, code: str, report: Report, adjustments: Sequence[Adjustment], *, key: str
    ) -> Batch:
        """Confirm a batch, but for what the adjustments take off: from now on nothing of it is given back.

        Acts are taken off first, then each share of what is left, rounded up; the book has it at once.

        Raises:
            ForbiddenError: not a verifier.
            InvalidInputError: the key, the report, or an adjustment.
            UnknownBatchError, WrongBatchStageError, EmptyBatchError: in this order.
            FourEyesError: the caller opened the batch, or gave to it.
            SampleNeededError: no sample was drawn of what it holds now.
            NotInBatchError: an act to be taken off is not in it.
            BatchTooSmallError: less than a tonne would be left: such a batch is rejected.
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``; also where contributors go on withdrawing.
        """
        require_role(principal, VERIFYING, StaffRole.VERIFIER)
        told = [[one.action, one.bps, one.reason.value, one.note] for one in adjustments]
        use = use_of(principal, "verifyBatch", key, code, list(report), told)
        _check_report(report)
        _check_adjustments(adjustments)
        for _ in range(TRIES):
            batch, is_done = await self._look(code, use)
            if is_done:
                return batch
            gave = await self._reads.has_given(batch.code, CitizenId(principal.id))
            if batch.opener == str(principal) or gave:
                raise FourEyesError
            seen = await self._contents.hashed(batch)
            assert seen.content is not None
            if seen.sample is None or seen.sample.seed != seen.content:
                raise SampleNeededError
            verdict = Verdict(
                verifier=str(principal),
                organisation=report.organisation,
                report_hash=report.hash,
                report_name=report.name,
                statement=report.statement,
                adjustments=await self._work_out(batch, adjustments),
                content=seen.content,
                shares=await self._contents.shares(batch),
                at=self._clock.now(),
            )
            verified = dataclasses.replace(seen, stage=BatchStage.VERIFIED, verdict=verdict)
            weights, pro_rata_mg = await weigh(self._reads, verified)
            found = await self._reads.find_batch(code)
            if found is None or found.version != batch.version:
                continue  # what was weighed is not what was hashed
            if not issuable_g(weights, pro_rata_mg):
                raise BatchTooSmallError(verified_g(weights, pro_rata_mg))
            taken_off = list(deductions(verified, verdict, self._contents.staff(verdict.verifier)))
            stands = await self._change(batch, verified, use, taken_off)
            if stands is not None:
                return stands
        raise BusyError

    async def reject(self, principal: Principal, code: str, reason: str, *, key: str) -> Batch:
        """Refuse a batch: everything returns to its contributors.

        Raises:
            ForbiddenError: not a verifier.
            InvalidInputError: the key, or the reason (1–200 characters).
            UnknownBatchError, WrongBatchStageError, FourEyesError: in this order.
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        require_role(principal, VERIFYING, StaffRole.VERIFIER)
        use = use_of(principal, "rejectBatch", key, code, reason)
        require_note("reason", reason, limit=MAX_NOTE)
        now = self._clock.now()
        ending = Ending(str(principal), now, reason, is_verdict=True)

        async def body(tx: Tx) -> Batch:
            writes = PoolingWrites(tx)
            batch = await get_batch(writes, code)
            if await writes.claimed_at(use) is not None:
                return batch
            require_stage(batch, BatchStage.GATHERED)
            if batch.opener == str(principal):
                raise FourEyesError
            after = dataclasses.replace(batch, stage=BatchStage.CANCELLING, cursor=START, ending=ending)
            stands = await writes.change_batch(batch, after)
            await writes.claim(use, now)
            return stands

        return await self._transactions.run(body)

    async def _look(self, code: str, use: Use) -> tuple[Batch, bool]:
        """The batch to be verified, and whether the key has taken its effect."""

        async def body(tx: Tx) -> tuple[Batch, bool]:
            writes = PoolingWrites(tx)
            batch = await get_batch(writes, code)
            if await writes.claimed_at(use) is not None:
                return batch, True
            require_stage(batch, BatchStage.GATHERED)
            if not batch.totals.acts:
                raise EmptyBatchError
            return batch, False

        return await self._transactions.run(body)

    async def _work_out(self, batch: Batch, adjustments: Sequence[Adjustment]) -> tuple[Adjustment, ...]:
        named = [one.action for one in adjustments if one.action is not None]
        found = await self._reads.find_acts(batch.code, named)
        for place, action in enumerate(named):
            if action not in found or action in named[:place]:
                raise NotInBatchError(action)
        return work_out(adjustments, {action: act.mg for action, act in found.items()}, batch.totals.mg)

    async def _change(
        self, before: Batch, after: Batch, use: Use, deductions: Sequence[Transaction] = ()
    ) -> Batch | None:
        """Put the batch in the place of what was looked at; None where it has changed since."""
        now = self._clock.now()

        async def body(tx: Tx) -> Batch | None:
            writes = PoolingWrites(tx)
            standing = await get_batch(writes, before.code)
            if await writes.claimed_at(use) is not None:
                return standing
            if standing.version != before.version:
                return None
            if deductions:
                await self._ledger.post_within(tx, deductions, at=now)
            stands = await writes.change_batch(before, after)
            await writes.claim(use, now)
            return stands

        return await self._transactions.run(body)


def _check_report(report: Report) -> None:
    if not SHA_256.fullmatch(report.hash):
        problem = Text(
            "须为报告文件的 SHA-256（64 位小写十六进制）", "SHA-256 of the document, 64 lower-case hex digits"
        )
        raise InvalidInputError("reportHash", problem)
    require_note("reportName", report.name, limit=MAX_NOTE)
    require_note("verifierOrganisation", report.organisation, limit=MAX_NOTE)
    require_note("statement", report.statement, limit=MAX_STATEMENT)


def _check_adjustments(adjustments: Sequence[Adjustment]) -> None:
    if len(adjustments) > MAX_ADJUSTMENTS:
        raise InvalidInputError("adjustments", Text(f"最多 {MAX_ADJUSTMENTS} 项", f"at most {MAX_ADJUSTMENTS}"))
    for one in adjustments:
        if (one.action is None) is (one.bps is None):
            raise InvalidInputError("adjustments", Text("action 与 bps 须且只能给一个", "give either action or bps"))
        if one.bps is not None and not 1 <= one.bps <= BPS:
            raise InvalidInputError("bps", Text(f"1–{BPS}", f"1–{BPS}"))
        require_note("note", one.note, limit=MAX_NOTE)
