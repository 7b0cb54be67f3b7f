"""How a step with a draft is taken: once for its key, from the revision its author saw, and told in the log."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.kernel.crypto import payload_hash
from backend.kernel.ids import derived_id
from backend.mongo.idempotency import Use, claim, claimed_at
from backend.rules.drafts import LogEntry, Step, difference, told
from backend.rules.drafts_store import DraftWrites
from backend.rules.refusals import StaleDraftError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.drafts import Draft

    Beginning = Callable[[Tx, str], Awaitable[tuple[Draft, Mapping[str, Any]]]]
    Change = Callable[[Tx, Draft], Awaitable[Draft]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One step as asked for: under which idempotency key, with which draft as who asks saw it, why, and by whom.

    ``seen`` is None where the step looks after itself whether the draft is still what it was.
    """

    key: str
    draft: str
    seen: int | None
    reason: str = ""
    # Told by the door that knows who asks.
    actor: str = ""


class Steps:
    """Steps with drafts, each in a transaction of its own."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def begin(self, actor: str, step: Step, begin: Beginning, *payload: object, key: str, reason: str) -> Draft:
        """Let the key begin its draft, once; the draft as it stands.

        ``begin`` is told the draft's id and gives the draft, and what is published of its subject.
        """
        now = self._clock.now()
        use = _use(actor, step, key, reason, *payload)
        draft_id = derived_id("draft", actor, step, key)

        async def body(tx: Tx) -> Draft:
            writes = DraftWrites(tx)
            if await claimed_at(tx, use) is not None:
                return await writes.get_draft(draft_id)
            draft, before = await begin(tx, draft_id)
            await writes.insert(draft)
            await writes.log(_entry(draft, before, actor, step, reason, now))
            await claim(tx, use, now)
            return draft

        return await self._transactions.run(body)

    async def take(self, order: Order, step: Step, change: Change, *payload: object) -> Draft:
        """Take a step with a draft, once for the key; the draft as it stands.

        Raises:
            UnknownDraftError: there is no such draft.
            StaleDraftError: a step was taken with it since it was seen.
            IdempotencyConflictError: the key was used for another step of the sort.
        """
        now = self._clock.now()
        use = _use(order.actor, step, order.key, order.draft, order.seen, order.reason, *payload)

        async def body(tx: Tx) -> Draft:
            writes = DraftWrites(tx)
            before = await writes.get_draft(order.draft)
            if await claimed_at(tx, use) is not None:
                return before
            if order.seen is not None and before.revision != order.seen:
                raise StaleDraftError(before.revision)
            after = dataclasses.replace(await change(tx, before), revision=before.revision + 1, changed_at=now)
            await writes.save(before, after)
            await writes.log(_entry(after, told(before), order.actor, step, order.reason, now))
            await claim(tx, use, now)
            return after

        return await self._transactions.run(body)


def _use(actor: str, step: Step, key: str, *facts: object) -> Use:
    # As Python writes them: what is refused later, like a number beyond 64 bits, has a hash too.
    return Use(actor, f"rules.{step.lower()}", key, payload_hash(repr(facts)))


def _entry(draft: Draft, before: Mapping[str, Any], actor: str, step: Step, reason: str, now: datetime) -> LogEntry:
    return LogEntry(
        # One step a revision: the log is as long as the draft's history, and no longer.
        id=f"{draft.id}/{draft.revision:06}",
        at=now,
        actor=actor,
        step=step,
        subject=draft.named,
        draft=draft.id,
        reason=reason,
        difference=difference(before, told(draft)),
        revision=draft.published,
    )
