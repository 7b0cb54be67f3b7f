"""Settling: some shards' pending actions, converted by the rules of their day and posted, one transaction a batch.

A batch is all or nothing and repeats without effect: actions leave ``PENDING`` in the transaction that posts them, the
ledger key is the action's id, and claims are unique documents. The lease avoids waste; the fence, the conflicts MongoDB
detects and these keys make it right.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from backend.actions import rules
from backend.actions.model import Action, Reason, RuleRef, Settlement, Status, Winner
from backend.actions.plausibility import USES_FOR, Fate, Surroundings, carriers, judge, span
from backend.actions.store import SettlingWrites
from backend.actions.verdicts import expected_earning, facts_of
from backend.kernel.errors import BusyError, TransientError
from backend.kernel.ids import ShardNumber, new_id
from backend.outbox.relay import new_item, write_item
from backend.rules.conversion import Outcome, convert, list_cap_keys
from backend.rules.model import CapUsage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.actions.plausibility import Verdict
    from backend.actions.store import ActionStore
    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.kernel.ids import ActionId, CitizenId, TransactionId
    from backend.ledger.model import Transaction
    from backend.ledger.service import Ledger
    from backend.mongo.transactions import Transactions, Tx
    from backend.outbox.relay import Item, Relay
    from backend.rules.conversion import Conversion, Terms
    from backend.rules.model import ActFacts, CapKey, Kind, RuleVersion
    from backend.rules.service import RuleBook, Rules
    from backend.valkey.leases import Leases
    from backend.valkey.nudges import Nudges

LOG = structlog.get_logger(__name__)
SETTLED_TOPIC = "actions.settled"
LEASE_MS = 15_000
MAX_BATCHES = 40


class FenceLostError(Exception):
    """A later worker took the shard; this one stops and has changed nothing since."""


@dataclass
class _Batch:
    """What one batch decided, before it is written."""

    settled: list[Action] = field(default_factory=list)
    postings: list[Transaction] = field(default_factory=list)
    claims: dict[str, Action] = field(default_factory=dict)
    cap_additions: dict[str, tuple[CitizenId, CapUsage]] = field(default_factory=dict)


class Settling:
    """Converts and posts pending actions."""

    def __init__(
        self,
        *,
        store: ActionStore,
        identity: Identity,
        rule_service: Rules,
        ledger: Ledger,
        transactions: Transactions,
        relay: Relay,
        leases: Leases,
        nudges: Nudges,
        clock: Clock,
        zone: ZoneInfo,
        batch_size: int,
    ) -> None:
        self._store = store
        self._identity = identity
        self._rules = rule_service
        self._ledger = ledger
        self._transactions = transactions
        self._relay = relay
        self._leases = leases
        self._nudges = nudges
        self._clock = clock
        self._zone = zone
        self._batch_size = batch_size

    async def settle(self, shards: Sequence[ShardNumber]) -> int:
        """Settle what waits in those of the shards that no other worker settles; returns how many actions it settled.

        Raises:
            UnavailableError: MongoDB does not answer; what waits stays pending.
        """
        count = 0
        while shards:
            async with self._leases.hold([_lease(shard) for shard in shards], ttl_ms=LEASE_MS) as held:
                mine = [shard for shard in shards if _lease(shard) in held]
                if not mine:
                    return count
                # Before reading: an action recorded from now on sends its own nudge.
                await self._nudges.begin(mine)
                count += await self._settle_held(mine)
            # Whoever was nudged for these shards meanwhile found them held and left them to this worker.
            shards = [ShardNumber(shard) for shard in await self._nudges.asked(mine)]
        return count

    async def _settle_held(self, shards: Sequence[ShardNumber]) -> int:
        ids = await self._store.list_pending(shards, self._batch_size)
        if not ids:
            return 0
        holding = _Holding(tuple(shards), new_id("fence", self._clock.now()))
        await self._store.take_fences(shards, holding.holder)
        count = 0
        for _ in range(MAX_BATCHES):
            try:
                count += await self._settle_batch(holding, ids)
            except FenceLostError:
                return count
            except BusyError:
                break
            if len(ids) < self._batch_size:
                return count
            ids = await self._store.list_pending(shards, self._batch_size)
            if not ids:
                return count
        # More is waiting: another task takes over, so that no shard keeps a worker for itself.
        self._nudges.nudge(shards)
        return count

    async def _settle_batch(self, holding: _Holding, ids: Sequence[ActionId]) -> int:
        """Settle these actions in one transaction; where that cannot be, in halves: one action never holds up the rest.

        Raises:
            FenceLostError: another worker took one of the shards.
            TransientError: MongoDB does not answer, or one action alone meets conflicts for too long.
        """
        now = self._clock.now()
        try:
            return await self._post(holding, ids, now)
        except FenceLostError:
            raise
        except TransientError as error:
            if len(ids) == 1 or not isinstance(error, BusyError):
                raise
        except Exception as error:
            if len(ids) == 1:
                LOG.exception("action not settled; setting it aside", action=ids[0])
                return await self._set_aside(holding, ids[0], now)
            # Without traceback: the action that is to blame gets one, when it stands alone.
            LOG.warning("batch not settled; splitting it", size=len(ids), error=repr(error))
        middle = len(ids) // 2
        first = await self._settle_batch(holding, ids[:middle])
        return first + await self._settle_batch(holding, ids[middle:])

    async def _post(self, holding: _Holding, ids: Sequence[ActionId], now: datetime) -> int:
        blank = new_item(SETTLED_TOPIC, [], now)

        async def body(tx: Tx) -> tuple[Item, int]:
            writes = SettlingWrites(tx)
            if not await writes.holds_fences(holding.shards, holding.holder):
                raise FenceLostError
            actions = await writes.pending(ids)
            if not actions:
                return blank, 0
            batch = await self._decide(tx, writes, actions, now)
            item = dataclasses.replace(blank, payload=[told(action) for action in batch.settled])
            await write_item(tx, item, now)
            posted = await self._ledger.post_within(tx, batch.postings, at=now)
            await writes.write([_at(action, posted) for action in batch.settled], batch.claims, batch.cap_additions)
            return item, len(actions)

        item, count = await self._transactions.run(body)
        if count:
            await self._relay.send(item)
        return count

    async def _decide(self, tx: Tx, writes: SettlingWrites, actions: Sequence[Action], now: datetime) -> _Batch:
        book = await self._rules.book_within(tx)
        districts = await self._find_districts(book, actions)
        prepared = [self._prepare(action, book, districts.get(action.citizen)) for action in actions]
        claimed = await writes.claimed({name for item in prepared for name in item.fingerprints})
        used = await writes.cap_totals({cap for item in prepared for cap in item.caps.values()})
        surroundings = await _look_around(writes, prepared, book)
        batch = _Batch()
        for item in prepared:
            winner = next((claimed[name] for name in item.fingerprints if name in claimed), None)
            if winner is not None and winner.action != item.action.id:
                batch.settled.append(_lost(item.action, winner, book.revision, now))
                continue
            verdict = judge(item.action, item.kind, surroundings)
            if verdict.decision is not Fate.CREDIT:
                batch.settled.append(_doubted(item.action, verdict, book.revision, now))
                continue
            self._convert(item, used, batch, book.revision, now)
            if batch.settled[-1].status is Status.CREDITED:
                claimed.update(dict.fromkeys(item.fingerprints, Winner(item.action.id, item.action.tier)))
                batch.claims.update(dict.fromkeys(item.fingerprints, item.action))
                surroundings.add(item.action)
        return batch

    async def _find_districts(self, book: RuleBook, actions: Sequence[Action]) -> Mapping[CitizenId, str | None]:
        """Where the citizens live, if any condition asks."""
        if not book.asks_district:
            return {}
        found = await self._identity.find_citizens({action.citizen for action in actions})
        return {citizen.id: citizen.district for citizen in found.values()}

    def _prepare(self, action: Action, book: RuleBook, district: str | None) -> _Prepared:
        kind = book.kinds[action.kind]
        facts = facts_of(action, kind, self._zone, district)
        version = book.version_for(action.kind, action.occurred_at)
        terms = book.terms_for(action.kind, action.occurred_at)
        keys = list_cap_keys(version, facts.occurred_on, terms) if version else ()
        caps = {key: rules.cap_total_id(action.citizen, key) for key in keys}
        return _Prepared(action, kind, facts, version, terms, caps, rules.fingerprints(action, kind))

    @staticmethod
    def _convert(item: _Prepared, used: dict[str, CapUsage], batch: _Batch, revision: int, now: datetime) -> None:
        action = item.action
        usage = {key: used[total] for key, total in item.caps.items() if total in used}
        conversion = convert(item.facts, item.version, usage, terms=item.terms)
        settlement = _settlement(item, conversion, revision, now)
        if conversion.outcome is Outcome.CREDITED:
            transaction = expected_earning(action, settlement)
            batch.postings.append(transaction)
            settlement = dataclasses.replace(settlement, transaction=transaction.id)
        for key, added in conversion.usage.items():
            total = item.caps[key]
            used[total] = used.get(total, CapUsage()) + added
            owner = rules.counter_owner(action.citizen, key)
            _, before = batch.cap_additions.get(total, (owner, CapUsage()))
            batch.cap_additions[total] = (owner, before + added)
        batch.settled.append(_settled(action, _STATUS[conversion.outcome], settlement))

    async def _set_aside(self, holding: _Holding, action_id: ActionId, now: datetime) -> int:
        """Send to review an action that no transaction can settle, so that it is seen by a person and not retried."""

        async def body(tx: Tx) -> int:
            writes = SettlingWrites(tx)
            if not await writes.holds_fences(holding.shards, holding.holder):
                raise FenceLostError
            return int(await writes.set_aside(action_id, Settlement(at=now, reason=Reason.PROCESSING_FAILED)))

        return await self._transactions.run(body)

    async def list_waiting(self, shards: Sequence[ShardNumber], *, before: datetime) -> list[ShardNumber]:
        """Those of the shards with an action that waits since before that moment: work whose nudge was lost."""
        waiting = []
        for shard in shards:
            oldest = await self._store.oldest_pending(shard)
            if oldest is not None and oldest < before:
                waiting.append(shard)
        return waiting


@dataclass(frozen=True, slots=True)
class _Holding:
    """This worker's hold on shards, as the fence knows it."""

    shards: tuple[ShardNumber, ...]
    holder: str


async def _look_around(writes: SettlingWrites, prepared: Sequence[_Prepared], book: RuleBook) -> Surroundings:
    """What was credited to the same citizens near these acts, and who else used what they carry."""
    surroundings = Surroundings(book.kinds)
    moving = [item.action for item in prepared if item.kind.exclusion]
    if moving:
        spans = [span(action) for action in moving]
        kinds = [kind.code for kind in book.kinds.values() if kind.exclusion]
        citizens = {action.citizen for action in moving}
        earliest, latest = min(start for start, _ in spans), max(end for _, end in spans)
        for action in await writes.credited_between(citizens, kinds, earliest, latest):
            surroundings.add(action)
    carried = {carrier for item in prepared for carrier in carriers(item.action)}
    if carried:
        moments = [item.action.occurred_at for item in prepared]
        for carrier, citizen, at in await writes.uses(carried, min(moments) - USES_FOR, max(moments) + USES_FOR):
            surroundings.add_use(carrier, citizen, at)
    return surroundings


def _lease(shard: ShardNumber) -> str:
    return f"settle:{shard}"


@dataclass(frozen=True, slots=True)
class _Prepared:
    action: Action
    kind: Kind
    facts: ActFacts
    version: RuleVersion | None
    terms: Terms
    caps: Mapping[CapKey, str]
    fingerprints: tuple[str, ...]


_STATUS = {
    Outcome.CREDITED: Status.CREDITED,
    Outcome.REVIEW: Status.REVIEW,
    Outcome.REJECTED: Status.REJECTED,
}


def _settled(action: Action, status: Status, settlement: Settlement) -> Action:
    return dataclasses.replace(action, status=status, settlement=settlement)


def _at(action: Action, posted: Mapping[TransactionId, datetime]) -> Action:
    """The action settled at the time that the book gave to its transaction."""
    settlement = action.settlement
    at = posted.get(settlement.transaction) if settlement and settlement.transaction else None
    if settlement is None or at is None or at == settlement.at:
        return action
    return dataclasses.replace(action, settlement=dataclasses.replace(settlement, at=at))


def _lost(action: Action, winner: Winner, revision: int, now: datetime) -> Action:
    """The loser of a claim: rejected, or, with better evidence than the winner, for a person to decide."""
    if action.tier > winner.tier:
        reason, status = Reason.CLAIMED_BY_WEAKER, Status.REVIEW
    else:
        reason, status = Reason.CLAIMED, Status.REJECTED
    return _settled(action, status, Settlement(at=now, reason=reason, claimed_by=winner.action, revision=revision))


def _doubted(action: Action, verdict: Verdict, revision: int, now: datetime) -> Action:
    """An act that is not plausible: for a person to look at, or rejected."""
    status = Status.REJECTED if verdict.decision is Fate.REJECT else Status.REVIEW
    settlement = Settlement(at=now, reason=Reason.IMPLAUSIBLE, revision=revision, doubts=verdict.doubts)
    return _settled(action, status, settlement)


def _settlement(item: _Prepared, conversion: Conversion, revision: int, now: datetime) -> Settlement:
    return Settlement(
        at=now,
        reason=Reason(conversion.reason.value) if conversion.reason else None,
        period=conversion.period,
        rule=RuleRef(item.version.rule, item.version.version) if item.version else None,
        credited_quantity=conversion.credited_quantity,
        asset=conversion.asset,
        reduction_mg=conversion.reduction_mg,
        points=conversion.points,
        revision=revision,
        awards=conversion.awards,
    )


def told(action: Action) -> Mapping[str, object]:
    """What a phone is told: ids only, it asks for the rest with its own rights."""
    return {"citizen": action.citizen, "action": action.id, "status": action.status.value}
