"""A person's decision on actions that settling left to one: approve, settle once more, or reject.

Each decision is one MongoDB transaction: the action, its log entry, the key, and, where an approved act was counted
before on weaker evidence, the reversal of what that other record earned. Settling does the rest, like for any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING

from backend.actions import rules
from backend.actions.corrected import expected_reversal
from backend.actions.errors import AlreadyReviewedError, NotApprovableError, NotInReviewError
from backend.actions.model import Decision, Reason, Reversal, Review, Settlement, Status
from backend.actions.review_store import ReviewQueue, ReviewWrites
from backend.actions.settling import SETTLED_TOPIC, told
from backend.actions.verdicts import usage_by
from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind, StaffRole
from backend.identity.rules import require_note
from backend.kernel.crypto import keyed_hash, payload_hash
from backend.kernel.errors import Text
from backend.kernel.ids import new_id
from backend.mongo.idempotency import Use, claim, claimed_at
from backend.outbox.relay import new_item, write_item
from backend.rules.model import CapUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action
    from backend.actions.review_store import Place
    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.kernel.ids import ActionId, CitizenId
    from backend.ledger.service import Ledger
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.outbox.relay import Item, Relay
    from backend.rules.service import RuleBook, Rules

MAX_REASON = 200
REVIEWERS = frozenset({StaffRole.ADMIN, StaffRole.REVIEWER})
# What a person can vouch for; anything else in review comes back unchanged, however often it is approved.
APPROVABLE = frozenset({Reason.IMPLAUSIBLE, Reason.CLAIMED_BY_WEAKER})
TakeOut = Callable[["Tx", "ActionId", datetime], Awaitable[datetime]]
_STATUS = {Decision.APPROVE: Status.PENDING, Decision.RETRY: Status.PENDING, Decision.REJECT: Status.REJECTED}


class Reviewing:
    """The review queue, for administrators and reviewers.

    ``take_out`` takes an act that is about to be reversed out of the batch it is pooled in, where that is not verified;
    it is called in the transaction of the reversal, and tells when that counts.
    """

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        rule_service: Rules,
        ledger: Ledger,
        relay: Relay,
        clock: Clock,
        zone: ZoneInfo,
        lookup_key: bytes,
        wake: Callable[[Iterable[int]], None],
        take_out: TakeOut,
    ) -> None:
        self._queue = ReviewQueue(database)
        self._transactions = transactions
        self._rules = rule_service
        self._ledger = ledger
        self._relay = relay
        self._clock = clock
        self._zone = zone
        self._lookup_key = lookup_key
        self._wake = wake
        self._take_out = take_out

    async def list_waiting(
        self,
        principal: Principal,
        *,
        reason: Reason | None = None,
        kind: str | None = None,
        limit: int,
        after: Place | None = None,
        before: Place | None = None,
        last: bool = False,
    ) -> list[Action]:
        """Actions that wait for a decision, the longest waiting first; with ``last`` those at the end.

        Raises:
            ForbiddenError: neither administrator nor reviewer.
        """
        _require_reviewer(principal)
        return await self._queue.list_waiting(
            reason=reason, kind=kind, limit=limit, after=after, before=before, last=last
        )

    async def review(
        self, principal: Principal, action: ActionId, decision: Decision, reason: str, *, key: str
    ) -> Action:
        """Decide on an action in review; the action as it then stands, pending again unless rejected.

        Approving an act that was counted before on weaker evidence takes back what that other record earned, and frees
        its claims for this one.

        Raises:
            ForbiddenError: neither administrator nor reviewer, or the act is the reviewer's own.
            InvalidInputError: the key, or the reason (1–200 characters).
            UnknownActionError, AlreadyReviewedError, NotInReviewError, NotApprovableError: in this order.
            InsufficientFundsError, OverCorrectedError: what the other record earned is not there to be taken back.
            IdempotencyConflictError: the key was used for another decision.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        rules.check_idempotency_key(key)
        _require_reviewer(principal)
        require_note("reason", reason, limit=MAX_REASON)
        now = self._clock.now()
        use = Use(str(principal), "reviewAction", key, payload_hash([action, decision, reason]))
        entry, blank = new_id("rev", now), new_item(SETTLED_TOPIC, [], now)
        pseudonym = keyed_hash(self._lookup_key, "staff", principal.id)[:32]
        review = Review(by=pseudonym, at=now, decision=decision, reason=reason)

        async def body(tx: Tx) -> tuple[Item | None, Action]:
            writes = ReviewWrites(tx)
            before = await writes.get(action)
            if await claimed_at(tx, use) is not None:
                return None, before
            _require_open(before, principal, decision)
            losers = []
            if decision is Decision.APPROVE and before.reason is Reason.CLAIMED_BY_WEAKER:
                losers = await self._supersede(tx, writes, before, now)
            after = await self._decided(tx, before, review)
            await writes.save(before, after)
            await writes.log(entry, str(principal), before, after, losers)
            await claim(tx, use, now)
            ended = [changed for changed in (after, *losers) if changed.status is not Status.PENDING]
            item = dataclasses.replace(blank, payload=[told(changed) for changed in ended])
            await write_item(tx, item, now)
            return item, after

        item, after = await self._transactions.run(body)
        if item is not None:
            await self._relay.send(item)
            self._wake([after.shard])
        return after

    async def _decided(self, tx: Tx, action: Action, review: Review) -> Action:
        settlement = None
        if review.decision is Decision.REJECT:
            book = await self._rules.book_within(tx)
            settlement = Settlement(at=review.at, reason=Reason.REVIEW_REJECTED, revision=book.revision)
        return dataclasses.replace(action, status=_STATUS[review.decision], settlement=settlement, review=review)

    async def _supersede(self, tx: Tx, writes: ReviewWrites, action: Action, now: datetime) -> list[Action]:
        """Take back what was earned by the weaker records of the act; those records.

        Raises:
            NotApprovableError: the act is by now counted by a record that is as well proved.
        """
        book = await self._rules.book_within(tx)
        losers = await writes.owners(rules.fingerprints(action, book.kinds[action.kind]))
        if any(loser.tier >= action.tier for loser in losers):
            raise NotApprovableError(Reason.CLAIMED.value)
        return [await self._reverse(tx, loser, action.id, book, now) for loser in losers]

    async def _reverse(self, tx: Tx, loser: Action, superseded_by: ActionId, book: RuleBook, now: datetime) -> Action:
        """Take back what the act earned.

        Grams of it that are pooled leave their batch first. Once that is verified they stay in it, and the citizen owes
        them.
        """
        now = await self._take_out(tx, loser.id, now)
        transaction = expected_reversal(loser, superseded_by)
        posted = await self._ledger.post_within(tx, [transaction] if transaction else [], at=now)
        reversal = Reversal(
            at=posted[transaction.id] if transaction else now,
            superseded_by=superseded_by,
            transaction=transaction.id if transaction else None,
        )
        reversed_ = dataclasses.replace(loser, status=Status.REVERSED, reversal=reversal)
        writes = ReviewWrites(tx)
        await writes.save(loser, reversed_)
        await writes.free(rules.fingerprints(loser, book.kinds[loser.kind]), self._used(loser, book))
        return reversed_

    def _used(self, action: Action, book: RuleBook) -> Mapping[str, tuple[CitizenId, CapUsage]]:
        """What to add to each counter so that the credited act is no longer on it."""
        return {
            rules.cap_total_id(action.citizen, cap): (
                rules.counter_owner(action.citizen, cap),
                CapUsage(-used.count, -used.quantity, -used.reduction_mg, -used.points),
            )
            for cap, used in usage_by(action, book, self._zone).items()
        }


def _require_reviewer(principal: Principal) -> None:
    if principal.kind is not PrincipalKind.STAFF or not principal.staff_roles & REVIEWERS:
        raise ForbiddenError(Text("人工核实", "reviewing actions"))


def _require_open(action: Action, principal: Principal, decision: Decision) -> None:
    if principal.id == action.citizen or str(principal) == action.recorded_by:
        raise ForbiddenError(Text("核实自己的行为或自己录入的记录", "an act of one's own, or that one recorded"))
    if action.status is not Status.REVIEW:
        if action.review is not None:
            raise AlreadyReviewedError(action.review.decision.value)
        raise NotInReviewError(action.status.value)
    assert action.settlement is not None
    reason = action.settlement.reason
    assert reason is not None
    if decision is Decision.APPROVE and reason not in APPROVABLE:
        raise NotApprovableError(reason.value)
