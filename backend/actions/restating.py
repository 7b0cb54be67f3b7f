"""Restatement: a rule corrected for the past, applied to acts that an earlier version had settled.

Proposed by one person, estimated without changing anything, approved by another, then worked off in batches: the
differences, their entries on the acts and the place reached commit together, so that no act is restated twice or left
out, wherever a worker dies. No earning is ever edited.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import structlog

from backend.actions import rules
from backend.actions.backtesting.errors import UnknownVersionError
from backend.actions.corrected import NONE, Difference, applied_rule, difference_by, expected_restatement
from backend.actions.errors import NotProposedError, OwnRestatementError
from backend.actions.model import Restatement, RuleRef
from backend.actions.restate_store import RestateReads, RestateWrites
from backend.actions.restatements import MAX_NAMED, Count, Estimate, RestatedAct, RestatementJob, Stage, Unrestatable
from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind, StaffRole
from backend.identity.rules import require_note
from backend.kernel.clock import to_milliseconds
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import InvalidInputError, Refusal, Text, TransientError
from backend.kernel.ids import TransactionId, derived_id
from backend.ledger.model import POINTS, citizen_owner
from backend.mongo.idempotency import Use, claim, claimed_at
from backend.rules.formula import UnmeasurableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action
    from backend.actions.restate_store import Place
    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.kernel.ids import ActionId, CitizenId
    from backend.ledger.model import Asset, Page
    from backend.ledger.service import Ledger
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.model import RuleVersion
    from backend.rules.service import RuleBook, Rules
    from backend.valkey.leases import Leases

LOG = structlog.get_logger(__name__)
MAX_REASON = 500
BATCH = 200
# A run ends after so many batches; the next one goes on from there.
MAX_BATCHES = 50
# Why an act that is pooled is left as it is.
BOUND = "BOUND"
LEASE = "restate"
LEASE_MS = 600_000
MAX_OPEN = 20
APPROVERS = frozenset({StaffRole.ADMIN, StaffRole.REVIEWER})
ANY_STAFF = frozenset(StaffRole)


class Restating:
    """Restatements: proposed by administrators, approved by another administrator or a reviewer.

    ``find_bound`` tells which of some acts are pooled: nobody can restate those any more. It is asked in the
    transaction that restates. Pooling turns the same citizen's page, so that one of the two starts again.
    """

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        rule_service: Rules,
        ledger: Ledger,
        leases: Leases,
        clock: Clock,
        zone: ZoneInfo,
        find_bound: Callable[[Tx, Sequence[ActionId]], Awaitable[frozenset[ActionId]]],
        batch_size: int = BATCH,
    ) -> None:
        self._reads = RestateReads(database)
        self._transactions = transactions
        self._rules = rule_service
        self._ledger = ledger
        self._leases = leases
        self._clock = clock
        self._zone = zone
        self._find_bound = find_bound
        self._batch_size = batch_size

    async def propose(
        self,
        principal: Principal,
        rule: RuleRef,
        since: datetime,
        until: datetime,
        reason: str,
        *,
        dry_run: bool,
        key: str,
    ) -> RestatementJob:
        """Ask for the acts of [since, until) to be restated by that version where it is in force; estimated first.

        A dry run ends with its estimate.

        Raises:
            ForbiddenError: not an administrator.
            InvalidInputError: the key, the period, or the reason (1–500 characters).
            UnknownVersionError: it is not published.
            IdempotencyConflictError: the key was used for another restatement.
        """
        rules.check_idempotency_key(key)
        if not principal.is_admin:
            raise ForbiddenError(Text("提出重算", "proposing restatements"))
        require_note("reason", reason, limit=MAX_REASON)
        since, until = _moment("from", since), _moment("to", until)
        if since >= until:
            raise InvalidInputError("to", Text("须晚于 from", "must be after from"))
        now, actor = self._clock.now(), str(principal)
        payload = payload_hash(repr((rule, since, until, reason, dry_run)))
        use = Use(actor, "restateRule", key, payload)
        job_id = derived_id("restatement", actor, key)

        async def body(tx: Tx) -> RestatementJob:
            writes = RestateWrites(tx)
            if await claimed_at(tx, use) is not None:
                return await writes.get(job_id)
            found = (await self._rules.book_within(tx)).find_rule(rule.code)
            version = next((version for version in found if version.version == rule.version), None)
            if version is None:
                raise UnknownVersionError(rule.code, rule.version)
            job = RestatementJob(
                id=job_id,
                rule=rule,
                kind=version.kind,
                since=since,
                until=until,
                reason=reason,
                dry_run=dry_run,
                proposer=actor,
                at=now,
            )
            await writes.insert(job)
            await claim(tx, use, now)
            return job

        return await self._transactions.run(body)

    async def approve(self, principal: Principal, job_id: str, *, key: str) -> RestatementJob:
        """Agree to a restatement that somebody else proposed: it begins.

        Raises:
            ForbiddenError: neither administrator nor reviewer.
            UnknownRestatementError, NotProposedError, OwnRestatementError: in this order.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        rules.check_idempotency_key(key)
        _require_staff(principal, APPROVERS, Text("审批重算", "approving restatements"))
        now, actor = self._clock.now(), str(principal)
        use = Use(actor, "approveRestatement", key, payload_hash(job_id))

        async def body(tx: Tx) -> RestatementJob:
            writes = RestateWrites(tx)
            job = await writes.get(job_id)
            if await claimed_at(tx, use) is not None:
                return job
            if job.stage is not Stage.PROPOSED:
                raise NotProposedError(job.stage.value)
            if job.proposer == actor:
                raise OwnRestatementError
            approved = dataclasses.replace(job, stage=Stage.RUNNING, approver=actor)
            await writes.save(job, approved)
            await claim(tx, use, now)
            return approved

        return await self._transactions.run(body)

    async def find(self, principal: Principal, job: str) -> RestatementJob | None:
        """The restatement of that id, for any member of staff.

        Raises:
            ForbiddenError: anybody else.
        """
        _require_staff(principal, ANY_STAFF, Text("查看重算", "restatements"))
        return await self._reads.find(job)

    async def list_jobs(
        self, principal: Principal, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[RestatementJob]:
        """Restatements, newest first, for any member of staff.

        Raises:
            ForbiddenError: anybody else.
        """
        _require_staff(principal, ANY_STAFF, Text("查看重算", "restatements"))
        return await self._reads.list_jobs(limit=limit, older=older, newer=newer, newest=newest)

    async def count_affected(self, version: RuleVersion) -> int:
        """How many credited acts of the version's period other versions settled. Reads all actions."""
        assert version.valid_from is not None
        ref = RuleRef(version.rule, version.version)
        return await self._reads.count_other(ref, version.kind, version.valid_from, version.valid_to)

    async def work_off(self) -> int:
        """Estimate what was proposed and go on with what was approved; how many acts were looked at.

        Raises:
            UnavailableError, BusyError: the next run goes on where this one was.
        """
        async with self._leases.hold([LEASE], ttl_ms=LEASE_MS) as held:
            if not held:
                return 0
            looked_at = 0
            for job in await self._reads.list_open(MAX_OPEN):
                try:
                    looked_at += await (self._estimate(job) if job.stage is Stage.ESTIMATING else self._run(job))
                except TransientError:
                    raise
                except Exception:
                    # One job that cannot go on holds up no other.
                    LOG.exception("restatement cannot go on", restatement=job.id)
            return looked_at

    async def _estimate(self, job: RestatementJob) -> int:
        """Count what the restatement would do; nothing but the job is written."""
        now, book = self._clock.now(), await self._rules.book()
        estimating = _Estimating(job, book, self._zone)
        cursor, looked_at = "", 0
        while actions := await self._reads.list_acts(job, cursor, self._batch_size):
            pages = await self._ledger.find_pages([citizen_owner(citizen) for citizen in {a.citizen for a in actions}])
            bound = await self._transactions.run(partial(self._bound, [action.id for action in actions]))
            for action in actions:
                estimating.add(action, pages[citizen_owner(action.citizen)], now, is_bound=action.id in bound)
            cursor, looked_at = actions[-1].id, looked_at + len(actions)
        stage = Stage.ESTIMATED if job.dry_run else Stage.PROPOSED
        await self._advance(job, dataclasses.replace(job, stage=stage, estimate=estimating.result(now)))
        return looked_at

    async def _bound(self, actions: Sequence[ActionId], tx: Tx) -> frozenset[ActionId]:
        return await self._find_bound(tx, actions)

    async def _run(self, job: RestatementJob) -> int:
        looked_at = 0
        for _ in range(MAX_BATCHES):
            actions = await self._reads.list_acts(job, job.cursor, self._batch_size)
            if not actions:
                await self._advance(job, dataclasses.replace(job, stage=Stage.DONE))
                LOG.info("restated", restatement=job.id, acts=job.done.acts, refused=job.done.refused)
                break
            job = await self._restate(job, [action.id for action in actions])
            looked_at += len(actions)
        return looked_at

    async def _advance(self, job: RestatementJob, after: RestatementJob) -> None:
        """Bring the job to its next stage, unless another worker did."""

        async def body(tx: Tx) -> None:
            writes = RestateWrites(tx)
            if _is_as_seen(await writes.get(job.id), job):
                await writes.save(job, after)

        await self._transactions.run(body)

    async def _restate(self, job: RestatementJob, ids: Sequence[ActionId]) -> RestatementJob:
        """Restate these acts in one transaction; where the book refuses one of them, in halves."""
        try:
            return await self._post(job, ids, {})
        except Refusal as error:
            if len(ids) == 1:
                return await self._post(job, ids, {ids[0]: error.code})
        middle = len(ids) // 2
        return await self._restate(await self._restate(job, ids[:middle]), ids[middle:])

    async def _post(
        self, job: RestatementJob, ids: Sequence[ActionId], refused: Mapping[ActionId, str]
    ) -> RestatementJob:
        """Restate these acts but the refused ones; the job as it then stands."""
        now = self._clock.now()

        async def body(tx: Tx) -> RestatementJob:
            writes = RestateWrites(tx)
            standing = await writes.get(job.id)
            if not _is_as_seen(standing, job) or ids[0] <= job.cursor:
                return standing  # another worker was here first
            book = await self._rules.book_within(tx)
            bound = await self._find_bound(tx, ids)
            count, restated = job.done, []
            for action in await writes.credited(ids):
                why_not = BOUND if action.id in bound else refused.get(action.id)
                planned = _plan(action, job.rule, book, self._zone, why_not)
                count = _counted(count, action, planned)
                if isinstance(planned, Difference) and planned != NONE:
                    restated.append(_restated(action, job, planned, book.revision, now))
            postings = [expected_restatement(action, action.restatements[-1]) for action in restated]
            posted = await self._ledger.post_within(tx, postings, at=now)
            await writes.append([_at(action, posted) for action in restated])
            after = dataclasses.replace(job, cursor=ids[-1], done=count)
            await writes.save(job, after)
            return after

        return await self._transactions.run(body)


class _Estimating:
    """Adds up what a restatement would do."""

    def __init__(self, job: RestatementJob, book: RuleBook, zone: ZoneInfo) -> None:
        self._job = job
        self._book = book
        self._zone = zone
        self._count = Count()
        self._citizens: set[CitizenId] = set()
        self._debts = 0
        self._largest: list[tuple[int, ActionId, Difference]] = []
        self._changes: Counter[tuple[CitizenId, Asset]] = Counter()

    def add(self, action: Action, page: Page, now: datetime, *, is_bound: bool) -> None:
        """Add an act, whose citizen stands so before the restatement."""
        planned = _plan(action, self._job.rule, self._book, self._zone, BOUND if is_bound else None)
        self._count = _counted(self._count, action, planned)
        if planned is None or isinstance(planned, str) or planned == NONE:
            return
        self._citizens.add(action.citizen)
        heapq.heappush(self._largest, (abs(planned.reduction_mg), action.id, planned))
        if len(self._largest) > MAX_NAMED:
            heapq.heappop(self._largest)
        assert action.settlement is not None
        assert action.settlement.asset is not None
        lacks = False
        for asset, change in ((action.settlement.asset, planned.reduction_mg), (POINTS, planned.points)):
            self._changes[action.citizen, asset] += change
            lacks |= change < 0 and page.available(asset, now) + self._changes[action.citizen, asset] < 0
        self._debts += lacks

    def result(self, at: datetime) -> Estimate:
        """The estimate."""
        return Estimate(
            at=at,
            count=self._count,
            citizens=len(self._citizens),
            debts=self._debts,
            largest=tuple(RestatedAct(action, *change) for _, action, change in sorted(self._largest, reverse=True)),
        )


def _is_as_seen(standing: RestatementJob, job: RestatementJob) -> bool:
    """Whether no other worker went on with the job."""
    return (standing.stage, standing.cursor) == (job.stage, job.cursor)


def _plan(
    action: Action, rule: RuleRef, book: RuleBook, zone: ZoneInfo, refused: str | None = None
) -> Difference | str | None:
    """What the rule in force now gives more than the act has; why it cannot be restated; None where it is not meant."""
    version = book.version_for(action.kind, action.occurred_at)
    if version is None or RuleRef(version.rule, version.version) != rule or applied_rule(action) == rule:
        return None
    if refused is not None:
        return refused
    try:
        return difference_by(action, version, book, zone)
    except UnmeasurableError:
        return "UNMEASURABLE"
    except LookupError:
        return UnknownVersionError.code


def _counted(count: Count, action: Action, planned: Difference | str | None) -> Count:
    """The count with one act more."""
    if planned is None:
        return count
    if isinstance(planned, str):
        named = (*count.unrestatable, Unrestatable(action.id, planned))[:MAX_NAMED]
        return dataclasses.replace(count, refused=count.refused + 1, unrestatable=named)
    if planned == NONE:
        return dataclasses.replace(count, unchanged=count.unchanged + 1)
    return dataclasses.replace(
        count,
        acts=count.acts + 1,
        reduction_mg=count.reduction_mg + planned.reduction_mg,
        points=count.points + planned.points,
    )


def _restated(action: Action, job: RestatementJob, planned: Difference, revision: int, now: datetime) -> Action:
    """The act with one restatement more."""
    entry = Restatement(
        job=job.id,
        rule=job.rule,
        revision=revision,
        reduction_mg=planned.reduction_mg,
        points=planned.points,
        transaction=TransactionId(""),
        at=now,
    )
    entry = dataclasses.replace(entry, transaction=expected_restatement(action, entry).id)
    return dataclasses.replace(action, restatements=(*action.restatements, entry))


def _at(action: Action, posted: Mapping[TransactionId, datetime]) -> Action:
    """The act restated at the time that the book gave to the transaction."""
    *earlier, last = action.restatements
    return dataclasses.replace(action, restatements=(*earlier, dataclasses.replace(last, at=posted[last.transaction])))


def _moment(field: str, moment: datetime) -> datetime:
    try:
        return to_milliseconds(moment)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(field, Text("须为带时区偏移的时间", "a date and time with offset")) from error


def _require_staff(principal: Principal, roles: frozenset[StaffRole], what: Text) -> None:
    if principal.kind is not PrincipalKind.STAFF or not principal.staff_roles & roles:
        raise ForbiddenError(what)
