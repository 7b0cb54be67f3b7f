"""The door to back-tests: administrators begin, watch and cancel them; workers replay their parts.

A job is 64 parts, one a shard of citizens. Workers take them in any order and any number at a time; whoever finishes
the last one adds them up. A part that is not heard of is taken again, and comes to the same.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import structlog

from backend.actions.backtesting.errors import BacktestEndedError, BacktestPeriodError, UnknownBacktestError
from backend.actions.backtesting.model import GOING, Backtest, Days, State, Trial, midnight
from backend.actions.backtesting.parts import find_untrue
from backend.actions.backtesting.replaying import Frame, Replay
from backend.actions.backtesting.store import BacktestWrites
from backend.actions.backtesting.tallying import Tally
from backend.actions.backtesting.trying import book_at, count_from, trial_book
from backend.actions.rules import check_idempotency_key
from backend.identity.errors import ForbiddenError
from backend.kernel.clock import local_date
from backend.kernel.crypto import keyed_hash, payload_hash
from backend.kernel.errors import InvalidInputError, Refusal, Text, TransientError
from backend.kernel.ids import SHARD_COUNT, CitizenId, derived_id, new_id
from backend.mongo.idempotency import Use, claim, claimed_at
from backend.rules.drafts import Stage, Subject
from backend.rules.refusals import UnknownDraftError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.actions.backtesting.model import Result
    from backend.actions.backtesting.parts import Part
    from backend.actions.backtesting.store import BacktestStore, Place
    from backend.identity.model import Principal
    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.mongo.client import Document
    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.lifecycle import Lifecycle
    from backend.rules.service import Rules

LOG = structlog.get_logger(__name__)
ALL_PARTS = range(SHARD_COUNT)
MAX_DAYS = 366
EARLIEST = date(2000, 1, 1)
# Acts in memory at once, of whole citizens.
CHUNK = 4_000
BEAT = timedelta(seconds=5)
LEASE = timedelta(seconds=30)


class PartLostError(Exception):
    """The job is over, or another worker took the part; this one stops and has changed nothing."""


@dataclass(frozen=True, slots=True)
class Calls:
    """How workers are told of parts that wait, and those who watch that a job went on; either may be lost."""

    wake: Callable[[Sequence[int]], Awaitable[None]]
    tell: Callable[[str], Awaitable[None]]


class Backtesting:
    """Back-tests of one programme."""

    def __init__(
        self,
        *,
        store: BacktestStore,
        transactions: Transactions,
        rule_service: Rules,
        lifecycle: Lifecycle,
        identity: Identity,
        clock: Clock,
        zone: ZoneInfo,
        lookup_key: bytes,
        calls: Calls,
    ) -> None:
        self._store = store
        self._transactions = transactions
        self._rules = rule_service
        self._lifecycle = lifecycle
        self._identity = identity
        self._clock = clock
        self._zone = zone
        self._lookup_key = lookup_key
        self._wake = calls.wake
        self._tell = calls.tell

    async def start(self, principal: Principal, trial: Trial, days: Days, *, key: str) -> Backtest:
        """Begin to replay the trial (a draft, a profile, or a rule and version) over past local days.

        Raises:
            InvalidInputError: the key, or not exactly one thing to try, or a draft of a kind.
            ForbiddenError: not an administrator.
            BacktestPeriodError: the days are none, in the future, or more than a year.
            UnknownDraftError, UnknownProfileError, UnknownVersionError: there is nothing of that name.
            IdempotencyConflictError: the key was used for another back-test.
        """
        check_idempotency_key(key)
        _require_admin(principal)
        _require_one(trial)
        now = self._clock.now()
        actor = str(principal)
        facts = [trial.draft, trial.profile, trial.rule, trial.version, days.begin, days.end]
        use = Use(actor, "backtests.start", key, payload_hash(repr(facts)))
        _require_days(days, today=local_date(now, self._zone))
        job_id = derived_id("backtest", actor, key)

        async def begin(tx: Tx) -> Backtest:
            writes = BacktestWrites(tx)
            if await claimed_at(tx, use) is not None:
                return await writes.get(job_id)
            book = await self._rules.book_within(tx)
            full = await self._read_trial(trial)
            trial_book(book, full)
            job = Backtest(id=job_id, actor=actor, trial=full, days=days, revision=book.revision, at=now)
            await writes.insert(job)
            await claim(tx, use, now)
            return job

        job = await self._transactions.run(begin)
        await self._wake(ALL_PARTS)
        return job

    async def _read_trial(self, trial: Trial) -> Trial:
        """The trial with the text of its draft as it is now."""
        if trial.draft is None:
            return trial
        draft = await self._lifecycle.find_draft(trial.draft)
        if draft is None or draft.stage is Stage.DISCARDED:
            raise UnknownDraftError(trial.draft)
        if draft.subject is Subject.KIND:
            raise InvalidInputError("draft", Text("新种类尚无行为可回测", "a new kind has no acts to replay"))
        return dataclasses.replace(trial, written=draft.written, subject=draft.subject, wording=draft.wording)

    async def cancel(self, principal: Principal, backtest: str, *, key: str) -> Backtest:
        """End a back-test that is not over; one that was cancelled already stays so.

        Raises:
            InvalidInputError: the key.
            ForbiddenError: not an administrator.
            UnknownBacktestError: there is no such back-test.
            BacktestEndedError: it is over.
            IdempotencyConflictError: the key was used for another back-test.
        """
        check_idempotency_key(key)
        _require_admin(principal)
        now = self._clock.now()
        use = Use(str(principal), "backtests.cancel", key, payload_hash([backtest]))

        async def end(tx: Tx) -> Backtest:
            writes = BacktestWrites(tx)
            job = await writes.get(backtest)
            if await claimed_at(tx, use) is not None or job.state is State.CANCELLED:
                return job
            if job.state not in GOING:
                raise BacktestEndedError(job.state.value)
            await writes.cancel(job, now)
            await claim(tx, use, now)
            return dataclasses.replace(job, state=State.CANCELLED, ended_at=now)

        job = await self._transactions.run(end)
        await self._tell(backtest)
        return job

    async def find(self, principal: Principal, backtest: str) -> Backtest | None:
        """The back-test of that id, for administrators.

        Raises:
            ForbiddenError: not an administrator.
        """
        _require_admin(principal)
        return await self._store.find(backtest)

    async def list_backtests(
        self, principal: Principal, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Backtest]:
        """Back-tests, newest first, for administrators.

        Raises:
            ForbiddenError: not an administrator.
        """
        _require_admin(principal)
        return await self._store.list_backtests(limit=limit, older=older, newer=newer, newest=newest)

    async def get(self, backtest: str) -> Backtest:
        """The back-test of that id.

        Raises:
            UnknownBacktestError: there is none.
        """
        found = await self._store.find(backtest)
        if found is None:
            raise UnknownBacktestError(backtest)
        return found

    async def replay_next(self, parts: Sequence[int] = ALL_PARTS) -> bool:
        """Replay one of these parts of whatever back-test waits longest; whether there was one.

        Raises:
            TransientError: MongoDB does not answer; the part waits again.
        """
        now = self._clock.now()
        part = await self._store.take_part(parts, new_id("part", now), now, stale=now - LEASE)
        if part is None:
            return False
        job = await self._store.find(part.job)
        if job is None or job.state not in GOING:
            await self._store.drop_part(part)
            return True
        try:
            replay = await self._replay(job, part)
            if await self._store.finish_part(part, replay.tally, replay.drawn, replay.limits):
                await self._advance(job.id)
        except PartLostError:
            return True
        except TransientError:
            await self._store.free_part(part)
            raise
        except Exception as error:  # noqa: BLE001 - told to whoever asked for it, with its traceback in the log
            await self._fail(job, error)
        return True

    async def _fail(self, job: Backtest, error: Exception) -> None:
        LOG.error("back-test failed", backtest=job.id, exc_info=error)
        await self._store.end(job, State.FAILED, self._clock.now(), failure=repr(error)[:500])
        await self._tell(job.id)

    async def sweep(self) -> None:
        """Add up what is replayed and was left so, then replay one part that waits, if any."""
        for backtest in await self._store.list_going():
            try:
                await self._advance(backtest)
            except TransientError:
                raise
            except Exception as error:  # noqa: BLE001 - one job that cannot be added up holds up no other
                await self._fail(await self.get(backtest), error)
        await self.replay_next()

    async def _advance(self, backtest: str) -> None:
        """Note how far the job is; where every part is replayed, add them up and end it."""
        job = await self._store.find(backtest)
        if job is None or job.state not in GOING:
            return
        parts = await self._store.list_parts(backtest)
        waiting = sum(part.is_open for part in parts)
        if waiting == SHARD_COUNT:
            return
        if waiting or len(parts) < SHARD_COUNT:
            await self._store.report(backtest, len(parts) - waiting)
        else:
            untrue = find_untrue(parts)
            if untrue is None:
                await self._end(job, parts)
            else:
                part, before = untrue
                await self._store.reopen_part(part, before)
                await self._wake([part.number])
        await self._tell(backtest)

    async def _replay(self, job: Backtest, part: Part) -> Replay:
        book = book_at(await self._rules.book(), job.revision)
        tried = trial_book(book, job.trial)
        since = midnight(count_from(book, tried, job.days, self._zone), self._zone)
        frame = Frame(
            job=job.id,
            book=book,
            tried=tried,
            begin=midnight(job.days.begin, self._zone),
            known_before=job.at,
            zone=self._zone,
            pseudonym=self._pseudonym,
        )
        replay = Replay(frame, part.start)
        heard_at = self._clock.now()
        chunk: list[tuple[str, list[Document]]] = []
        size = 0
        async for citizen, acts in self._store.stream_citizens(part.number, since, midnight(job.days.end, self._zone)):
            chunk.append((citizen, acts))
            size += len(acts)
            if size >= CHUNK:
                await self._replay_chunk(replay, chunk)
                chunk, size = [], 0
                heard_at = await self._keep(job, part, heard_at)
        await self._replay_chunk(replay, chunk)
        replay.finish()
        return replay

    async def _replay_chunk(self, replay: Replay, chunk: Sequence[tuple[str, list[Document]]]) -> None:
        citizens = await self._identity.find_citizens([CitizenId(citizen) for citizen, _ in chunk])
        for citizen, acts in chunk:
            known = citizens.get(CitizenId(citizen))
            replay.replay(acts, known.district if known else None)

    async def _keep(self, job: Backtest, part: Part, heard_at: datetime) -> datetime:
        """Keep the part from others, now and then; when that was last.

        Raises:
            PartLostError: another worker has it, or the job is over.
        """
        now = self._clock.now()
        if now - heard_at < BEAT:
            return heard_at
        if not await self._store.keep_part(part, now):
            raise PartLostError(job.id)
        return now

    async def _end(self, job: Backtest, parts: Sequence[Part]) -> None:
        total = Tally()
        for part in parts:
            tally = await self._store.find_tally(part)
            if tally is None:  # somebody else added them up meanwhile
                return
            total.merge(tally)
        result = total.result()
        # With the draft first: who is cut off here does both again, and each has its effect once.
        attached = await self._attach(job, result)
        await self._store.finish(job, result, self._clock.now(), attached=attached)

    async def _attach(self, job: Backtest, result: Result) -> bool:
        """Put the figures beside the draft; not where it was written anew or submitted meanwhile."""
        trial = job.trial
        if trial.draft is None or trial.written is None:
            return False
        try:
            await self._lifecycle.attach_backtest(
                job.actor, trial.draft, written=trial.written, job=job.id, figures=main_figures(result)
            )
        except Refusal as refusal:
            LOG.info("back-test not attached", backtest=job.id, draft=trial.draft, why=refusal.code)
            return False
        return True

    def _pseudonym(self, citizen: str) -> str:
        return keyed_hash(self._lookup_key, "backtest", citizen)[:32]


def main_figures(result: Result) -> dict[str, int]:
    """What stands with the draft that was tried."""
    return {
        **dataclasses.asdict(result.total),
        "gaining": result.gaining,
        "losing": result.losing,
        "unchanged": result.unchanged,
        "to_review": result.to_review,
        "points_liability": result.points_liability,
    }


def _require_admin(principal: Principal) -> None:
    if not principal.is_admin:
        raise ForbiddenError(Text("回测规则", "back-testing rules"))


def _require_one(trial: Trial) -> None:
    given = [trial.draft is not None, trial.profile is not None, trial.rule is not None]
    if sum(given) != 1 or (trial.rule is None) is not (trial.version is None):
        names = "draft / profile / rule + version"
        raise InvalidInputError("draft", Text(f"须且只须给出 {names} 之一", f"give exactly one of {names}"))


def _require_days(days: Days, *, today: date) -> None:
    length = (days.end - days.begin).days
    if days.begin < EARLIEST:
        raise BacktestPeriodError(Text(f"不早于 {EARLIEST}", f"from {EARLIEST} at the earliest"))
    if length <= 0:
        raise BacktestPeriodError(Text("结束须晚于开始", "it must end after it begins"))
    if length > MAX_DAYS:
        raise BacktestPeriodError(Text(f"最多 {MAX_DAYS} 天", f"at most {MAX_DAYS} days"))
    if days.end > today + timedelta(days=1):
        raise BacktestPeriodError(Text("不能包含将来的日期", "it must not reach into the future"))
