"""Importing a partner's file: the same door as GraphQL, in batches, repeatable, resumable, in constant memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from backend.actions.feeds.model import FeedAct, FeedReject
from backend.actions.model import ActionRequest, Checkpoint, ImportRow, Status
from backend.actions.rules import MAX_BATCH
from backend.actions.service import Recorded
from backend.identity.model import ExternalId
from backend.kernel.errors import Language
from backend.kernel.ids import CitizenId, derived_id, new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from backend.actions.feeds.model import Feed
    from backend.actions.model import Action
    from backend.actions.service import Actions, Outcome
    from backend.actions.store import ActionStore
    from backend.identity.model import Principal
    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.rules.model import EvidenceTier

SETTLE_POLL_S = 0.2
CHUNK = 1 << 20


class Rejects(Protocol):
    """Where rejected rows go."""

    def write(self, row: int, reason: str, detail: str) -> None:
        """Note one row (counted from 1), its reason's code and a sentence."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """How to read one file: whose rights, from which source, for whom.

    ``citizen`` receives acts without holder; ``test_citizens`` (development only) gives every unknown holder a test
    citizen and spreads acts without holder over that many by a stable hash; 0 means that both are refused.
    """

    principal: Principal
    source: str
    digest: str
    tier: EvidenceTier
    backfill: bool
    citizen: CitizenId | None = None
    test_citizens: int = 0

    @property
    def file_key(self) -> str:
        """Names the work, so that an unfinished run of the same work is found again."""
        whose = self.citizen or self.test_citizens
        return derived_id("imp", self.source, self.digest, self.tier.value, str(whose), str(self.backfill))


@dataclass(slots=True)
class ImportSummary:
    """What became of the rows; ``rejected`` by reason code, the rest in actions (``rows``: data rows of the file)."""

    run: str
    items: int = 0
    rows: int = 0
    recorded: int = 0
    duplicate: int = 0
    credited: int = 0
    review: int = 0
    reduction_mg: int = 0
    points: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def checkpoint(self) -> Checkpoint:
        """How far the run came."""
        return Checkpoint(self.run, self.items, self.rows, self.recorded, self.duplicate, dict(self.rejected))


class Importing:
    """Runs imports."""

    def __init__(self, *, store: ActionStore, actions: Actions, identity: Identity, clock: Clock) -> None:
        self._store = store
        self._actions = actions
        self._identity = identity
        self._clock = clock

    async def run(self, feed: Feed, plan: ImportPlan, rejects: Rejects) -> ImportSummary:
        """Record every act of the feed; a run that was cut off goes on where it stopped.

        Raises:
            DomainError: the file is not in the feed's format, or the principal may not record from the source.
        """
        summary = await self._resume(plan)
        items = iter(feed)
        for item in islice(items, summary.items):
            # The run that was cut off recorded it; its list of rejects is written anew.
            if isinstance(item, FeedReject):
                _reject(item, rejects)
        while batch := list(islice(items, MAX_BATCH)):
            await self._record(batch, plan, summary, rejects)
            summary.items += len(batch)
            await self._store.save_checkpoint(plan.file_key, summary.checkpoint())
        return summary

    async def _resume(self, plan: ImportPlan) -> ImportSummary:
        checkpoint = await self._store.load_checkpoint(plan.file_key)
        summary = ImportSummary(checkpoint.run if checkpoint else new_id("run", self._clock.now()))
        if checkpoint is not None:
            summary.items, summary.rows = checkpoint.items, checkpoint.rows
            summary.recorded, summary.duplicate = checkpoint.recorded, checkpoint.duplicate
            summary.rejected.update(checkpoint.rejected)
        return summary

    async def _record(
        self, batch: Sequence[FeedAct | FeedReject], plan: ImportPlan, summary: ImportSummary, rejects: Rejects
    ) -> None:
        acts = []
        for item in batch:
            summary.rows += item.rows
            if isinstance(item, FeedAct):
                acts.append(item)
            else:
                summary.rejected[item.reason.value] += item.rows
                _reject(item, rejects)
        if not acts:
            return
        if plan.test_citizens:
            await self._give_test_citizens(acts, plan)
        requests = [_request(act, plan, summary.run) for act in acts]
        key = derived_id("k", summary.run, str(summary.items))
        outcomes = await self._actions.record_many(plan.principal, requests, key=key, backfill=plan.backfill)
        for act, outcome in zip(acts, outcomes, strict=True):
            _count(act, outcome, summary, rejects)

    async def _give_test_citizens(self, acts: Sequence[FeedAct], plan: ImportPlan) -> None:
        holders = {ExternalId(plan.source, act.holder) for act in acts if act.holder is not None}
        bound = await self._identity.find_bound(holders)
        fresh = {holder: CitizenId(derived_id("test", plan.source, holder.value)) for holder in holders - bound.keys()}
        spread = {_spread(act, plan) for act in acts if act.holder is None}
        citizens = {*fresh.values(), *spread}
        await self._identity.register_citizens({citizen: f"测试市民 {citizen[-6:]}" for citizen in citizens})
        if fresh:
            await self._identity.bind(fresh)

    async def settle(
        self, plan: ImportPlan, summary: ImportSummary, rejects: Rejects, on_wait: Callable[[int], None]
    ) -> None:
        """Wait until every action of the run is settled, add up what they earned and note those that earned nothing.

        ``on_wait`` is told how many are left. The caller bounds the wait.
        """
        while pending := await self._store.count_pending(summary.run):
            on_wait(pending)
            await asyncio.sleep(SETTLE_POLL_S)
        for total in await self._store.totals(summary.run):
            if total.status is Status.CREDITED:
                summary.credited += total.count
                summary.reduction_mg += total.reduction_mg
                summary.points += total.points
            elif total.status is Status.REVIEW:
                summary.review += total.count
            elif total.reason is not None:
                summary.rejected[total.reason.value] += total.count
        async for action in self._rejected(summary.run):
            settlement = action.settlement
            if action.import_row is not None and settlement is not None and settlement.reason is not None:
                sentence = settlement.reason.sentence(Language.EN, settlement.period)
                rejects.write(action.import_row.row, settlement.reason.value, sentence)
        await self._store.drop_checkpoint(plan.file_key)

    async def _rejected(self, run: str) -> AsyncIterator[Action]:
        place = (0, "")
        while page := await self._store.list_rejected(run, after=place, limit=MAX_BATCH):
            for action in page:
                assert action.import_row is not None
                place = (action.import_row.row, action.id)
                yield action


def _reject(item: FeedReject, rejects: Rejects) -> None:
    rejects.write(item.row, item.reason.value, f"{item.reason.sentence()}: {item.detail}")


def _request(act: FeedAct, plan: ImportPlan, run: str) -> ActionRequest:
    citizen = plan.citizen
    if act.holder is None and plan.test_citizens:
        citizen = _spread(act, plan)
    return ActionRequest(
        kind=act.kind,
        quantity=act.quantity,
        unit=act.unit,
        occurred_at=act.occurred_at,
        ended_at=act.ended_at,
        source=plan.source,
        ref=act.ref,
        citizen=None if act.holder is not None else citizen,
        external_id=act.holder,
        attributes=act.attributes,
        tier=plan.tier,
        import_row=ImportRow(run, act.row),
    )


def _spread(act: FeedAct, plan: ImportPlan) -> CitizenId:
    number = int.from_bytes(hashlib.sha256(act.ref.encode()).digest()[:8], "big") % plan.test_citizens
    return CitizenId(f"test-{number:06}")


def _count(act: FeedAct, outcome: Outcome, summary: ImportSummary, rejects: Rejects) -> None:
    if not isinstance(outcome, Recorded):
        summary.rejected[outcome.code] += act.rows
        rejects.write(act.row, outcome.code, outcome.message())
    elif outcome.is_new or outcome.action.import_row == ImportRow(summary.run, act.row):
        # The second case: this run stored this row just before it was cut off; another row of it is a duplicate.
        summary.recorded += 1
    else:
        summary.duplicate += 1


def digest_of(*paths: Path) -> str:
    """SHA-256 over all that the acts are read from: files' bytes, and for a folder its files' names and bytes.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]:
            name = file.name if path.is_dir() else ""
            digest.update(f"{len(name)}:{name}:{file.stat().st_size}:".encode())
            with file.open("rb") as content:
                while chunk := content.read(CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()
