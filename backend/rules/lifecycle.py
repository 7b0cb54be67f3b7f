"""The way of a rule from a draft to its publication, and of a published one to its end.

draft → validated → back-tested → submitted → approved by another person → published. Writing a draft anew brings it
back to the beginning. Every step names the revision of the draft its author saw, takes its idempotency key, and appends
to the log who did it, why and what it changed: all in one transaction. Who may take which step by office is
``backend.identity.rule_desk``'s to say; that nobody approves their own work is said here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import InvalidInputError, Text
from backend.rules import drafting
from backend.rules.drafts import Backtest, Draft, Stage, Step, Subject
from backend.rules.model import Campaign, Kind, RuleVersion
from backend.rules.periods import LEAD, require_begin, require_period
from backend.rules.refusals import (
    NotBacktestedError,
    SamePersonError,
    StaleDraftError,
    UnknownRuleError,
    WrongStageError,
)
from backend.rules.steps import Order, Steps
from backend.rules.store import Published, RuleWrites
from backend.rules.wording import write_version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime, timedelta

    from backend.kernel.clock import Clock
    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.drafts import LogEntry
    from backend.rules.drafts_store import DraftReads, Place
    from backend.rules.model import Methodology
    from backend.rules.service import RuleBook, Rules


_OPEN = tuple(stage for stage in Stage if stage not in {Stage.PUBLISHED, Stage.DISCARDED})


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """What a programme asks of its rules: how far back one may begin, and whether it is back-tested first."""

    past_window: timedelta
    backtest_needed: bool


class Lifecycle:
    """Drafts of one programme's rules."""

    def __init__(
        self,
        *,
        reads: DraftReads,
        transactions: Transactions,
        rules: Rules,
        clock: Clock,
        policy: LifecyclePolicy,
        methodologies: Mapping[str, Methodology],
        count_affected: Callable[[RuleVersion], Awaitable[int]] | None = None,
    ) -> None:
        self._reads = reads
        self._steps = Steps(transactions, clock)
        self._rules = rules
        self._clock = clock
        self._policy = policy
        self._shipped = methodologies
        self._count_affected = count_affected

    async def find_draft(self, draft: str) -> Draft | None:
        """The draft of that id."""
        return await self._reads.find_draft(draft)

    async def list_drafts(
        self, stage: Stage | None, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Draft]:
        """Drafts in that stage or in any, newest first."""
        return await self._reads.list_drafts(stage, limit=limit, older=older, newer=newer, newest=newest)

    async def list_log(
        self, subject: str | None, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[LogEntry]:
        """Steps taken with that subject (``rule:R-MET1``) or with any, newest first."""
        return await self._reads.list_log(subject, limit=limit, older=older, newer=newer, newest=newest)

    async def count_affected(self, draft: Draft) -> int | None:
        """How many acts a restatement would concern, settled before a version published for the past; else None."""
        if draft.published is None or draft.subject is not Subject.RULE or self._count_affected is None:
            return None
        version = drafting.read_rule(draft)
        is_backdated = version.valid_from is not None and version.valid_from < draft.changed_at
        return await self._count_affected(version) if is_backdated else None

    async def draft(
        self, actor: str, subject: Subject, changes: Mapping[str, Any], *, key: str, reason: str = ""
    ) -> Draft:
        """Begin a draft: what is published of the subject with these changes, or all of it where nothing is.

        Raises:
            ForeignProfileError, RuleProblemsError: the text is broken; nothing is saved.
            IdempotencyConflictError: the key was used for another draft.
        """
        now = self._clock.now()

        async def begin(tx: Tx, draft_id: str) -> tuple[Draft, Mapping[str, Any]]:
            book = await self._rules.book_within(tx)
            name = drafting.name_of(subject, changes)
            before = drafting.published_wording(subject, name, book, now)
            wording = self._write(subject, {**before, **changes}, book)
            return _new(draft_id, actor, subject, wording, book, now), before

        return await self._steps.begin(actor, Step.DRAFT, begin, subject, changes, key=key, reason=reason)

    async def retire(self, actor: str, rule: str, at: datetime | None, why: Text, *, key: str, reason: str) -> Draft:
        """Propose to switch a rule off from ``at`` on (once published, where None), and tell citizens why.

        There is nothing to write or to replay: the draft stands submitted.

        Raises:
            UnknownRuleError: no version of it is in force then.
            PeriodInPastError, PeriodOverlapError: it cannot end then.
            RuleProblemsError: ``why`` is missing in a language.
            IdempotencyConflictError: the key was used for something else.
        """
        now = self._clock.now()
        at = at and to_milliseconds(at)
        begin = at or now + LEAD

        async def propose(tx: Tx, draft_id: str) -> tuple[Draft, Mapping[str, Any]]:
            require_begin(begin, now=now, window=self._policy.past_window)
            book = await self._rules.book_within(tx)
            found = next((v for v in book.find_rule(rule) if book.version_for(v.kind, begin) is v), None)
            if found is None or not found.enabled:
                raise UnknownRuleError(rule)
            before = write_version(dataclasses.replace(found, valid_from=None, valid_to=None))
            ended = {"enabled": False, "why_disabled_zh": why.zh, "why_disabled_en": why.en, "valid_from": at}
            wording = self._write(Subject.RULE, {**before, **ended}, book)
            draft = _new(draft_id, actor, Subject.RULE, wording, book, now)
            version = dataclasses.replace(drafting.read_rule(draft), valid_from=begin)
            require_period(version, book.versions[found.kind], now=now, retires=True)
            return dataclasses.replace(draft, stage=Stage.SUBMITTED, retires=True), before

        return await self._steps.begin(actor, Step.RETIRE, propose, rule, at, why, key=key, reason=reason)

    async def edit(self, order: Order, subject: Subject, changes: Mapping[str, Any]) -> Draft:
        """Write the draft anew with these changes; it has to be validated, back-tested and approved again.

        Raises:
            WrongStageError, InvalidInputError: it is closed, retires a rule, or is of another subject or name.
            ForeignProfileError, RuleProblemsError: the text is broken; nothing is saved.
            UnknownDraftError, StaleDraftError, IdempotencyConflictError: as everywhere.
        """

        async def change(tx: Tx, draft: Draft) -> Draft:
            _require_stage(draft, *_OPEN)
            if draft.retires:
                raise InvalidInputError("draft", Text("停用草稿不可修改", "a draft that retires is not edited"))
            if draft.subject is not subject or drafting.name_of(subject, {**draft.wording, **changes}) != draft.name:
                raise InvalidInputError("draft", Text("草稿的对象不可更换", "a draft keeps to what it is of"))
            book = await self._rules.book_within(tx)
            return dataclasses.replace(
                draft,
                stage=Stage.DRAFT,
                written=draft.revision + 1,
                base=drafting.newest(book, subject, draft.name),
                hands=draft.hands | {order.actor},
                wording=self._write(subject, {**draft.wording, **changes}, book),
                approver=None,
                problems=(),
                backtest=None,
                why_untested=None,
            )

        return await self._steps.take(order, Step.EDIT, change, subject, changes)

    async def validate(self, order: Order) -> Draft:
        """Hold the draft against the rule book as it stands: it is VALIDATED, or a DRAFT that lists its problems.

        Raises:
            WrongStageError: it is submitted or closed.
            UnknownDraftError, StaleDraftError, IdempotencyConflictError: as everywhere.
        """

        async def change(tx: Tx, draft: Draft) -> Draft:
            _require_stage(draft, Stage.DRAFT, Stage.VALIDATED, Stage.BACKTESTED)
            problems = drafting.problems_beside(draft, await self._rules.book_within(tx), self._clock.now())
            passed = Stage.BACKTESTED if draft.backtest else Stage.VALIDATED
            return dataclasses.replace(draft, problems=problems, stage=Stage.DRAFT if problems else passed)

        return await self._steps.take(order, Step.VALIDATE, change)

    async def attach_backtest(
        self, actor: str, draft: str, *, written: int, job: str, figures: Mapping[str, int]
    ) -> Draft:
        """Keep a back-test with the text it replayed, that of the revision ``written``; once a job.

        Raises:
            StaleDraftError: the draft was written anew since.
            WrongStageError: it is not validated, or already submitted.
            UnknownDraftError: there is no such draft.
        """

        async def change(_: Tx, before: Draft) -> Draft:
            if before.written != written:
                raise StaleDraftError(before.revision)
            _require_stage(before, Stage.VALIDATED, Stage.BACKTESTED)
            return dataclasses.replace(before, stage=Stage.BACKTESTED, backtest=Backtest(job, dict(figures)))

        order = Order(actor=actor, key=job, draft=draft, seen=None)
        return await self._steps.take(order, Step.BACKTEST, change, written)

    async def submit(self, order: Order, *, why_untested: str | None = None) -> Draft:
        """Ask others to approve a validated draft; a rule is back-tested, or ``why_untested`` says why not.

        Raises:
            WrongStageError: it is not validated.
            NotBacktestedError: a rule without a back-test, and no word why.
            UnknownDraftError, StaleDraftError, IdempotencyConflictError: as everywhere.
        """

        async def change(_: Tx, draft: Draft) -> Draft:
            _require_stage(draft, Stage.VALIDATED, Stage.BACKTESTED)
            untested = draft.subject is Subject.RULE and draft.backtest is None
            if untested and self._policy.backtest_needed and why_untested is None:
                raise NotBacktestedError
            return dataclasses.replace(
                draft, stage=Stage.SUBMITTED, hands=draft.hands | {order.actor}, why_untested=why_untested
            )

        return await self._steps.take(order, Step.SUBMIT, change, why_untested)

    async def approve(self, order: Order) -> Draft:
        """Agree to a submitted draft that somebody else wrote and submitted.

        Raises:
            WrongStageError: it is not submitted.
            SamePersonError: the actor wrote or submitted some of it.
            UnknownDraftError, StaleDraftError, IdempotencyConflictError: as everywhere.
        """

        async def change(_: Tx, draft: Draft) -> Draft:
            _require_stage(draft, Stage.SUBMITTED)
            if order.actor in draft.hands:
                raise SamePersonError
            return dataclasses.replace(draft, stage=Stage.APPROVED, approver=order.actor)

        return await self._steps.take(order, Step.APPROVE, change)

    async def reject(self, order: Order) -> Draft:
        """Turn a submitted draft down, for a reason; it can be edited and submitted again.

        Raises:
            WrongStageError: it is not submitted.
            UnknownDraftError, StaleDraftError, IdempotencyConflictError: as everywhere.
        """

        async def change(_: Tx, draft: Draft) -> Draft:
            _require_stage(draft, Stage.SUBMITTED)
            return dataclasses.replace(draft, stage=Stage.REJECTED)

        return await self._steps.take(order, Step.REJECT, change)

    async def discard(self, order: Order) -> Draft:
        """Give a draft up for good.

        Raises:
            WrongStageError: it is published or discarded already.
            UnknownDraftError, StaleDraftError, IdempotencyConflictError: as everywhere.
        """

        async def change(_: Tx, draft: Draft) -> Draft:
            _require_stage(draft, *_OPEN)
            return dataclasses.replace(draft, stage=Stage.DISCARDED)

        return await self._steps.take(order, Step.DISCARD, change)

    async def publish(
        self, order: Order, *, valid_from: datetime | None = None, valid_to: datetime | None = None
    ) -> Draft:
        """Put an approved draft into the rule book; a rule is in force from ``valid_from`` until before ``valid_to``.

        A rule without ``valid_from`` begins minutes from now, so that no act settled before is touched. The number of
        the publication changes in this transaction, which settling reads: a batch sees all of it or nothing.

        Raises:
            WrongStageError: it is not approved.
            RuleProblemsError: what was published meanwhile stands against it.
            PeriodInPastError, PeriodOverlapError, PeriodGapError, InvalidInputError: the period cannot be.
            UnknownDraftError, StaleDraftError, IdempotencyConflictError: as everywhere.
        """
        now = self._clock.now()
        begin, end = (moment and to_milliseconds(moment) for moment in (valid_from, valid_to))

        async def change(tx: Tx, draft: Draft) -> Draft:
            _require_stage(draft, Stage.APPROVED)
            book = await self._rules.book_within(tx)
            problems = drafting.problems_beside(draft, book, now)
            if problems:
                raise drafting.refuse(problems)
            if draft.subject is not Subject.RULE and (begin or end):
                raise InvalidInputError("validFrom", Text("只有规则有生效期", "only a rule has a period"))
            content, wording = drafting.read(draft), draft.wording
            if isinstance(content, RuleVersion):
                content = self._in_force(draft, content, book, begin, end, now)
                wording = write_version(content)
            elif isinstance(content, Campaign) and not _has_begun_so(content, book):
                require_begin(content.starts_at, now=now, window=self._policy.past_window)
            publication = await RuleWrites(tx).publish(_published(content), now, draft=draft.id)
            return dataclasses.replace(draft, stage=Stage.PUBLISHED, wording=wording, published=publication.revision)

        return await self._steps.take(order, Step.PUBLISH, change, begin, end)

    def _in_force(
        self,
        draft: Draft,
        version: RuleVersion,
        book: RuleBook,
        begin: datetime | None,
        end: datetime | None,
        now: datetime,
    ) -> RuleVersion:
        """The version with the period in which it will be in force, found possible."""
        if draft.retires:
            if begin or end:
                raise InvalidInputError("validFrom", Text("停用日期已在草稿中", "the draft says from when it retires"))
            begin = version.valid_from
            # What was to end later, and was approved too late for that, ends as soon as it can.
            if begin is not None and begin > draft.created_at:
                begin = max(begin, now + LEAD)
        version = dataclasses.replace(version, valid_from=begin or now + LEAD, valid_to=end, revision=book.revision + 1)
        assert version.valid_from is not None
        require_begin(version.valid_from, now=now, window=self._policy.past_window)
        require_period(version, book.versions.get(version.kind, ()), now=now, retires=draft.retires)
        return version

    def _write(self, subject: Subject, wording: Mapping[str, Any], book: RuleBook) -> dict[str, Any]:
        return drafting.write(subject, wording, book, {**self._shipped, **book.methodologies()})


def _new(
    draft_id: str, actor: str, subject: Subject, wording: Mapping[str, Any], book: RuleBook, now: datetime
) -> Draft:
    name = drafting.name_of(subject, wording)
    return Draft(
        id=draft_id,
        subject=subject,
        name=name,
        stage=Stage.DRAFT,
        revision=1,
        written=1,
        base=drafting.newest(book, subject, name),
        author=actor,
        hands=frozenset({actor}),
        wording=wording,
        created_at=now,
        changed_at=now,
    )


def _has_begun_so(campaign: Campaign, book: RuleBook) -> bool:
    """Whether it is published already with that beginning, so that only what is to come changes."""
    return any(
        known.code == campaign.code and known.starts_at == campaign.starts_at for known in book.latest_campaigns()
    )


def _published(content: drafting.Content) -> Published:
    if isinstance(content, RuleVersion):
        return Published(versions=[content])
    if isinstance(content, Kind):
        return Published(kinds=[content])
    return Published(campaigns=[content]) if isinstance(content, Campaign) else Published(limits=[content])


def _require_stage(draft: Draft, *expected: Stage) -> None:
    if draft.stage not in expected:
        raise WrongStageError(draft.stage.value, " / ".join(expected))
