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
from backend.actions.store import SettlingWrites
from backend.kernel.clock import local_date
from backend.kernel.errors import BusyError, TransientError
from backend.kernel.ids import ShardNumber, new_id
from backend.ledger.model import MINTS, POINTS, Posting, Transaction, TransactionKind, account_of, citizen_owner
from backend.outbox.relay import new_item, write_item
from backend.rules.conversion import Outcome, convert, list_cap_keys
from backend.rules.model import ActFacts, CapUsage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.actions.store import ActionStore
    from backend.kernel.clock import Clock
    from backend.kernel.ids import ActionId, CitizenId, TransactionId
    from backend.ledger.service import Ledger
    from backend.mongo.transactions import Transactions, Tx
    from backend.outbox.relay import Item, Relay
    from backend.rules.conversion import Conversion
    from backend.rules.model import CapKey, RuleVersion
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
            item = dataclasses.replace(blank, payload=[_event(action) for action in batch.settled])
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
        prepared = [self._prepare(action, book) for action in actions]
        claimed = await writes.claimed({name for item in prepared for name in item.fingerprints})
        used = await writes.cap_totals({cap for item in prepared for cap in item.caps.values()})
        batch = _Batch()
        for item in prepared:
            winner = next((claimed[name] for name in item.fingerprints if name in claimed), None)
            if winner is not None and winner.action != item.action.id:
                batch.settled.append(_lost(item.action, winner, now))
                continue
            self._convert(item, used, batch, now)
            if batch.settled[-1].status is Status.CREDITED:
                claimed.update(dict.fromkeys(item.fingerprints, Winner(item.action.id, item.action.tier)))
                batch.claims.update(dict.fromkeys(item.fingerprints, item.action))
        return batch

    def _prepare(self, action: Action, book: RuleBook) -> _Prepared:
        day = local_date(action.occurred_at, self._zone)
        version = book.version_for(action.kind, action.occurred_at)
        caps = {key: rules.cap_total_id(action.citizen, key) for key in list_cap_keys(version, day)} if version else {}
        facts = ActFacts(
            kind=action.kind,
            quantity=action.quantity,
            occurred_at=action.occurred_at.astimezone(self._zone),
            tier=action.tier,
            attributes=action.attributes,
        )
        return _Prepared(action, facts, version, caps, rules.fingerprints(action, book.kinds[action.kind]))

    @staticmethod
    def _convert(item: _Prepared, used: dict[str, CapUsage], batch: _Batch, now: datetime) -> None:
        action = item.action
        usage = {key: used[total] for key, total in item.caps.items() if total in used}
        conversion = convert(item.facts, item.version, usage)
        transaction = _earning(action, conversion, item.version)
        if transaction is not None:
            batch.postings.append(transaction)
        for key, added in conversion.usage.items():
            total = item.caps[key]
            used[total] = used.get(total, CapUsage()) + added
            _, before = batch.cap_additions.get(total, (action.citizen, CapUsage()))
            batch.cap_additions[total] = (action.citizen, before + added)
        settlement = Settlement(
            at=now,
            reason=Reason(conversion.reason.value) if conversion.reason else None,
            period=conversion.period,
            rule=RuleRef(item.version.rule, item.version.version) if item.version else None,
            credited_quantity=conversion.credited_quantity,
            asset=conversion.asset,
            reduction_mg=conversion.reduction_mg,
            points=conversion.points,
            transaction=transaction.id if transaction else None,
        )
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


def _lease(shard: ShardNumber) -> str:
    return f"settle:{shard}"


@dataclass(frozen=True, slots=True)
class _Prepared:
    action: Action
    facts: ActFacts
    version: RuleVersion | None
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


def _lost(action: Action, winner: Winner, now: datetime) -> Action:
    """The loser of a claim: rejected, or, with better evidence than the winner, for a person to decide."""
    if action.tier > winner.tier:
        reason, status = Reason.CLAIMED_BY_WEAKER, Status.REVIEW
    else:
        reason, status = Reason.CLAIMED, Status.REJECTED
    return _settled(action, status, Settlement(at=now, reason=reason, claimed_by=winner.action))


def _earning(action: Action, conversion: Conversion, version: RuleVersion | None) -> Transaction | None:
    """The transaction that credits reduction and points; none where the conversion credits nothing."""
    if conversion.outcome is not Outcome.CREDITED or conversion.asset is None or version is None:
        return None
    owner = citizen_owner(action.citizen)
    amounts = ((conversion.asset, conversion.reduction_mg), (POINTS, conversion.points))
    return Transaction(
        key=f"action:{action.id}",
        kind=TransactionKind.EARN,
        postings=tuple(
            Posting(from_account=MINTS[asset], to_account=account_of(owner, asset), asset=asset, amount=amount)
            for asset, amount in amounts
            if amount
        ),
        # The payload's hash ties the book to what was recorded: time, quantity, attributes, evidence.
        cause={
            "action": action.id,
            "payload": action.payload,
            "rule": version.rule,
            "rule_version": str(version.version),
        },
    )


def _event(action: Action) -> Mapping[str, object]:
    """What a phone is told: ids only, it asks for the rest with its own rights."""
    return {"citizen": action.citizen, "action": action.id, "status": action.status.value}
