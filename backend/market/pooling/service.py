"""The door to batches: opened, gathered by workers, withdrawn from, called off, issued, read and listed.

Three different persons open, verify and issue a batch. Every change takes its idempotency key with its effect.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from backend.identity.model import PrincipalKind, StaffRole
from backend.identity.rules import require_note
from backend.kernel.clock import local_date
from backend.kernel.errors import BusyError, InvalidInputError, Text, TransientError
from backend.kernel.ids import CitizenId
from backend.kernel.units import MG_PER_GRAM
from backend.market.pooling.consenting import citizen_of
from backend.market.pooling.errors import BatchTooSmallError, FourEyesError
from backend.market.pooling.model import PUBLIC, START, Batch, BatchStage, Ending, Issue, Stake
from backend.market.pooling.rules import batch_code, issuable_g, verified_g
from backend.market.pooling.staff import MANAGING, READING, get_batch, require_role, require_stage, use_of
from backend.market.pooling.store import PoolingReads, PoolingWrites
from backend.market.pooling.tables import methodologies_of
from backend.market.pooling.weighing import weigh
from backend.rules.refusals import ForeignProfileError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.market.pooling.contents import Contents
    from backend.market.pooling.gathering import Gathering
    from backend.market.pooling.issuing import Issuing
    from backend.market.pooling.model import BatchCode, Benefit
    from backend.mongo.client import Database
    from backend.mongo.idempotency import Use
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.model import Category
    from backend.rules.service import Rules
    from backend.valkey.leases import Leases

LOG = structlog.get_logger(__name__)
MAX_TITLE = 200
LEASE = "market.batches"
LEASE_MS = 600_000
AT_ONCE = 20
# A run leaves a batch after so many transactions; the next one goes on from there.
MAX_STEPS = 500
FIRST_YEAR = 2000
DAY = timedelta(days=1)
WITHDRAWING = Text("退回减排量", "taking reductions back")


class Batches:
    """Batches of one programme."""

    def __init__(
        self,
        *,
        programme: str,
        zone: ZoneInfo,
        database: Database,
        transactions: Transactions,
        rules: Rules,
        leases: Leases,
        clock: Clock,
        gathering: Gathering,
        issuing: Issuing,
        contents: Contents,
    ) -> None:
        self._programme = programme
        self._zone = zone
        self._reads = PoolingReads(database)
        self._transactions = transactions
        self._rules = rules
        self._leases = leases
        self._clock = clock
        self._gathering = gathering
        self._issuing = issuing
        self._contents = contents

    async def open(
        self,
        principal: Principal,
        scenario: Category,
        profile: str,
        since: date,
        until: date,
        project: Text,
        *,
        key: str,
    ) -> Batch:
        """Open a batch of the acts of local days [since, until) of one past year; workers gather it.

        Raises:
            ForbiddenError: not an administrator.
            InvalidInputError: the key, the period, or a title (1–200 characters).
            ForeignProfileError: the programme goes by another profile.
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        require_role(principal, MANAGING, StaffRole.ADMIN)
        told = [scenario.value, profile, since.isoformat(), until.isoformat(), list(project)]
        use = use_of(principal, "openBatch", key, *told)
        now = self._clock.now()
        _check_period(since, until, local_date(now, self._zone))
        require_note("projectZh", project.zh, limit=MAX_TITLE)
        require_note("projectEn", project.en, limit=MAX_TITLE)
        if profile != self._rules.profile:
            raise ForeignProfileError(profile)

        async def body(tx: Tx) -> Batch:
            writes = PoolingWrites(tx)
            if await writes.claimed_at(use) is not None:
                return await self._opened(writes, use)
            number = await writes.last_number(scenario, since.year) + 1
            batch = Batch(
                code=batch_code(self._programme, profile, scenario, since.year, number),
                number=number,
                scenario=scenario,
                profile=profile,
                vintage=since.year,
                since=since,
                until=until,
                project=project,
                opener=str(principal),
                opened_at=now,
                opening=use.id,
            )
            await writes.insert_batch(batch)
            await writes.claim(use, now)
            return batch

        return await self._transactions.run(body)

    async def _opened(self, writes: PoolingWrites, use: Use) -> Batch:
        found = await writes.find_opened(use.id)
        assert found is not None, "a key takes its effect with the batch"
        return found

    async def cancel(self, principal: Principal, code: str, reason: str, *, key: str) -> Batch:
        """Call a batch off that is not verified: everything returns to its contributors.

        Raises:
            ForbiddenError: not an administrator.
            InvalidInputError: the key, or the reason (1–200 characters).
            UnknownBatchError, WrongBatchStageError: in this order.
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        require_role(principal, MANAGING, StaffRole.ADMIN)
        use = use_of(principal, "cancelBatch", key, code, reason)
        require_note("reason", reason, limit=MAX_TITLE)

        async def effect(writes: PoolingWrites, batch: Batch, now: datetime) -> Batch:
            require_stage(batch, BatchStage.GATHERING, BatchStage.GATHERED)
            ending = Ending(str(principal), now, reason, is_verdict=False)
            cancelled = dataclasses.replace(batch, stage=BatchStage.CANCELLING, cursor=START, ending=ending)
            return await writes.change_batch(batch, cancelled)

        return await self._once(code, use, effect)

    async def withdraw(self, principal: Principal, code: str, *, key: str) -> Stake:
        """Give the citizen back all they gave to a batch that is not verified; it gathers nothing of theirs any more.

        Raises:
            ForbiddenError: not a citizen.
            InvalidInputError: the key.
            UnknownBatchError, NoContributionError, WrongBatchStageError, ContributionBoundError: in this order.
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        citizen = citizen_of(principal, WITHDRAWING)
        use = use_of(principal, "withdrawContribution", key, code)
        now = self._clock.now()

        async def body(tx: Tx) -> Stake:
            writes = PoolingWrites(tx)
            batch = await get_batch(writes, code)
            if await writes.claimed_at(use) is None:
                batch = await self._gathering.withdraw(tx, batch, citizen, now)
                await writes.claim(use, now)
            found = await writes.find_contribution(batch.code, citizen)
            assert found is not None, "what was withdrawn is kept"
            return Stake(found, batch)

        return await self._transactions.run(body)

    async def issue(self, principal: Principal, code: str, *, key: str) -> Batch:
        """Begin to issue a verified batch: its whole tonnes, counted in whole grams of each contributor.

        Raises:
            ForbiddenError: not an administrator.
            InvalidInputError: the key.
            UnknownBatchError, WrongBatchStageError: in this order.
            FourEyesError: the caller opened or verified it, or gave to it.
            BatchTooSmallError: there is no whole tonne.
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        require_role(principal, MANAGING, StaffRole.ADMIN)
        use = use_of(principal, "issueBatch", key, code)
        # Of what is verified nothing changes any more: it is read before the transaction, which must not last.
        seen = await self._reads.find_batch(code)
        weighed = await weigh(self._reads, seen) if seen and seen.stage is BatchStage.VERIFIED else None

        async def effect(writes: PoolingWrites, batch: Batch, now: datetime) -> Batch:
            require_stage(batch, BatchStage.VERIFIED)
            assert batch.verdict is not None
            gave = await writes.has_given(batch.code, CitizenId(principal.id))
            if gave or str(principal) in (batch.opener, batch.verdict.verifier):
                raise FourEyesError
            weights, pro_rata_mg = weighed or await weigh(self._reads, batch)
            grams = issuable_g(weights, pro_rata_mg)
            if not grams:
                raise BatchTooSmallError(verified_g(weights, pro_rata_mg))
            issue = Issue(
                issuer=str(principal),
                begun_at=now,
                grams=grams,
                residual_mg=batch.verified_mg - grams * MG_PER_GRAM,
                methodologies=await self._methodologies(batch),
            )
            begun = dataclasses.replace(batch, stage=BatchStage.ISSUING, cursor=START, issue=issue)
            return await writes.change_batch(batch, begun)

        return await self._once(code, use, effect)

    async def _methodologies(self, batch: Batch) -> tuple[str, ...]:
        """Codes of the methodologies by which its acts were credited."""
        known = methodologies_of(await self._rules.book())
        used = await self._reads.list_rules(batch.code)
        return tuple(sorted({known[rule] for rule in used if rule in known}))

    async def _once(
        self, code: str, use: Use, effect: Callable[[PoolingWrites, Batch, datetime], Awaitable[Batch]]
    ) -> Batch:
        """Let the key take its effect on the batch, once; the batch as it then stands."""
        now = self._clock.now()

        async def body(tx: Tx) -> Batch:
            writes = PoolingWrites(tx)
            batch = await get_batch(writes, code)
            if await writes.claimed_at(use) is not None:
                return batch
            after = await effect(writes, batch, now)
            await writes.claim(use, now)
            return after

        return await self._transactions.run(body)

    async def work_off(self) -> int:
        """Go on gathering, giving back and issuing; how many transactions that took.

        Raises:
            UnavailableError: the next run goes on where this one was.
        """
        async with self._leases.hold([LEASE], ttl_ms=LEASE_MS) as held:
            if not held:
                return 0
            steps = 0
            after: BatchCode | None = None
            while waiting := await self._reads.list_waiting(after, limit=AT_ONCE):
                for code in waiting:
                    steps += await self._try(code)
                after = waiting[-1]
            return steps

    async def _try(self, code: BatchCode) -> int:
        """Go on with one batch, as far as it goes: whatever is wrong with it holds up no other."""
        try:
            batch = await self._reads.find_batch(code)
            return await self._go_on(batch) if batch else 0
        except BusyError:
            LOG.warning("batch is too busy, the next run goes on", batch=code)
        except TransientError:
            raise
        except Exception:
            LOG.exception("batch cannot go on", batch=code)
        return 0

    async def _go_on(self, batch: Batch) -> int:
        works = {
            BatchStage.GATHERING: self._gathering.gather,
            BatchStage.CANCELLING: self._gathering.give_back,
            BatchStage.ISSUING: self._issuing.issue,
        }
        steps = 0
        while steps < MAX_STEPS and batch.stage in works:
            batch = await works[batch.stage](batch)
            steps += 1
        if batch.stage is BatchStage.GATHERED:
            await self._hash(batch)
        LOG.info("batch went on", batch=batch.code, stage=batch.stage.value, steps=steps)
        return steps

    async def _hash(self, batch: Batch) -> None:
        """Hash what was gathered before anybody waits for it; where it has changed meanwhile, whoever asks does."""
        seen = await self._contents.hashed(batch)

        async def body(tx: Tx) -> None:
            writes = PoolingWrites(tx)
            if (await get_batch(writes, batch.code)).version == batch.version:
                await writes.change_batch(batch, seen)

        await self._transactions.run(body)

    async def find(self, principal: Principal | None, code: str) -> Batch | None:
        """The batch: for staff; once it is issued, for everybody."""
        found = await self._reads.find_batch(code)
        is_staff = principal is not None and principal.kind is PrincipalKind.STAFF
        return found if found and (is_staff or found.stage in PUBLIC) else None

    async def is_under_way(self, code: str) -> bool:
        """Whether there is such a batch whose credits are not all issued."""
        found = await self._reads.find_batch(code)
        return found is not None and found.stage not in PUBLIC

    async def list_batches(
        self,
        principal: Principal,
        stage: BatchStage | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Batch]:
        """Batches in that stage or in any, the one opened last first; for staff.

        Raises:
            ForbiddenError: anybody else.
        """
        require_role(principal, READING)
        return await self._reads.list_batches(stage, limit=limit, older=older, newer=newer, newest=newest)

    async def list_issued(self, *, limit: int, older: Place | None, newer: Place | None, newest: bool) -> list[Batch]:
        """Issued batches, the last first; for everybody."""
        return await self._reads.list_issued(limit=limit, older=older, newer=newer, newest=newest)

    async def list_contributions(
        self, citizen: CitizenId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Stake]:
        """What the citizen gave to batches, newest first. Whether the caller may see it the face has asked."""
        found = await self._reads.list_contributions(citizen, limit=limit, older=older, newer=newer, newest=newest)
        batches = await self._reads.find_batches([one.batch for one in found])
        return [Stake(one, batches[one.batch]) for one in found]

    async def stream_shares(
        self, code: BatchCode, after: CitizenId | None = None
    ) -> AsyncIterator[tuple[CitizenId, int, Benefit]]:
        """Who has a part in the pool of an issued batch: citizens behind that one by id, with grams and choice.

        The grams are those issued to the pool for the citizen. Nothing of it changes any more.
        """
        async for contribution in self._reads.stream_given(code, after or ""):
            if contribution.pool_g:
                yield contribution.citizen, contribution.pool_g, contribution.benefit


def _check_period(since: date, until: date, today: date) -> None:
    if since.year < FIRST_YEAR:
        raise InvalidInputError("since", Text(f"不早于 {FIRST_YEAR} 年", f"not before {FIRST_YEAR}"))
    if since >= until:
        raise InvalidInputError("until", Text("须晚于 since", "must be after since"))
    if until > today:
        raise InvalidInputError("until", Text("该时段尚未结束", "the period is not over"))
    if since.year != (until - DAY).year:
        raise InvalidInputError("until", Text("须与 since 在同一年", "must lie in the same year as since"))
