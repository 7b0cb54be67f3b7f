"""Gathering: grams move from citizens who authorised it into a batch, each act once, and back until it is verified.

A batch is gathered citizen by citizen. What moves, the acts' locks, the contributions and the place reached commit
together: wherever a worker dies, no act is left out or taken twice.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, NamedTuple

import structlog

from backend.actions.corrected import applied_rule
from backend.actions.model import RuleRef
from backend.actions.store import list_credited
from backend.kernel.errors import BusyError
from backend.kernel.ids import CitizenId, new_id
from backend.ledger.model import (
    QUANTIFIED,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    pool_owner,
)
from backend.market.pooling.errors import ContributionBoundError, NoContributionError, WrongBatchStageError
from backend.market.pooling.model import (
    OPEN_TO_WITHDRAWAL,
    START,
    BatchStage,
    Contribution,
    ContributionStage,
    Cursor,
    PooledAct,
    contribution_id,
)
from backend.market.pooling.returning import put_split
from backend.market.pooling.rules import count_covered
from backend.market.pooling.store import PoolingReads, PoolingWrites
from backend.mongo.transactions import RETRY_BUDGET_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action
    from backend.kernel.clock import Clock
    from backend.kernel.ids import TransactionId
    from backend.ledger.service import Ledger
    from backend.market.pooling.model import Batch, Consent
    from backend.market.pooling.returning import Returning
    from backend.market.settings import MarketSettings
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.service import RuleBook, Rules

LOG = structlog.get_logger(__name__)
CITIZENS_AT_ONCE = 30
# Where they are too busy, this part of them is tried, and in the end each alone; many for a shorter time.
FEWER = 6
BUDGET_S = 1
MAX_PASSED = 100
# Postings of one transaction of the book, and acts of one MongoDB transaction.
ACTS_OF_ONE = 200
ACTS_AT_ONCE = 500


class _Given(NamedTuple):
    """Acts of one citizen that can be given, and what the citizen gave to the batch before."""

    consent: Consent
    acts: Sequence[Action]
    before: Contribution | None

    @property
    def has_before(self) -> bool:
        """Whether the batch has something of the citizen's."""
        return self.before is not None and self.before.stage is ContributionStage.GIVEN


class Gathering:
    """Moves grams into batches and back."""

    def __init__(
        self,
        *,
        settings: MarketSettings,
        database: Database,
        transactions: Transactions,
        rules: Rules,
        ledger: Ledger,
        clock: Clock,
        zone: ZoneInfo,
        returning: Returning,
    ) -> None:
        self._threshold_g = settings.aggregation_threshold_g
        self._reads = PoolingReads(database)
        self._transactions = transactions
        self._rules = rules
        self._ledger = ledger
        self._clock = clock
        self._zone = zone
        self._returning = returning
        self.acts_of_one = ACTS_OF_ONE

    async def gather(self, batch: Batch) -> Batch:
        """Gather from the next citizens, or end where there are none; the batch as it then stands.

        Where citizens' pages or authorisations change without pause, fewer are taken at once. One who alone is still
        too busy is passed over, and comes again when all others are done.

        Raises:
            BusyError, UnavailableError: see ``Transactions.run``; the next run goes on from the same place.
        """
        place, comes_back = batch.cursor, False
        citizens = await self._reads.list_consenting(batch.scenario, place.citizen, limit=CITIZENS_AT_ONCE)
        if place.at is not None:
            citizens.insert(0, CitizenId(place.citizen))
        if not citizens and batch.passed:
            place, comes_back = batch.passed[0], True
            citizens = [CitizenId(place.citizen)]
        while True:
            try:
                return await self._gather(batch, place, citizens, comes_back=comes_back)
            except BusyError:
                if len(citizens) <= 1:
                    return await self._pass_over(batch, place, citizens, comes_back=comes_back)
                citizens = citizens[: max(len(citizens) // FEWER, 1)]

    async def _gather(self, batch: Batch, place: Cursor, citizens: Sequence[CitizenId], *, comes_back: bool) -> Batch:
        now = self._clock.now()
        unsealed = new_id("uns", now)

        async def body(tx: Tx) -> Batch:
            writes = PoolingWrites(tx)
            standing = await writes.find_batch(batch.code)
            assert standing is not None, "batches are never deleted"
            if not _stands(standing, batch):
                return standing  # called off, or another worker was here first
            if not citizens:
                ended = dataclasses.replace(standing, stage=BatchStage.GATHERED, cursor=START, gathered_at=now)
                return await writes.change_batch(standing, ended)
            given, reached = await self._list_given(tx, standing, place, citizens)
            taken, reached = await self._take(tx, standing, given, reached, unsealed, now)
            return await writes.change_batch(standing, _reach(taken, reached, comes_back=comes_back))

        return await self._transactions.run(body, budget_s=BUDGET_S if len(citizens) > 1 else RETRY_BUDGET_S)

    async def _pass_over(
        self, batch: Batch, place: Cursor, citizens: Sequence[CitizenId], *, comes_back: bool
    ) -> Batch:
        """Go on behind the citizen whose page is too busy, and remember to come back.

        Raises:
            BusyError: it is not the citizens, or all that are left are too busy: the next run tries again.
        """
        if not citizens or (not comes_back and len(batch.passed) == MAX_PASSED):
            raise BusyError
        [citizen] = citizens

        async def body(tx: Tx) -> Batch:
            writes = PoolingWrites(tx)
            standing = await writes.find_batch(batch.code)
            assert standing is not None, "batches are never deleted"
            if not _stands(standing, batch):
                return standing
            if comes_back:
                after = dataclasses.replace(standing, passed=(*standing.passed[1:], place))
            else:
                again = place if place.citizen == citizen else Cursor(citizen)
                after = dataclasses.replace(standing, cursor=Cursor(citizen), passed=(*standing.passed, again))
            return await writes.change_batch(standing, after)

        passed = await self._transactions.run(body)
        LOG.warning("citizen too busy, passed over", batch=batch.code, again=len(passed.passed))
        if comes_back:
            raise BusyError
        return passed

    async def _list_given(
        self, tx: Tx, batch: Batch, place: Cursor, citizens: Sequence[CitizenId]
    ) -> tuple[list[_Given], Cursor]:
        """What the citizens give, as far as one transaction takes it, and the place that is reached with it."""
        writes = PoolingWrites(tx)
        book = await self._rules.book_within(tx)
        consents = await writes.find_consents(citizens)
        before = {one.citizen: one for one in await writes.list_contributions(batch.code, citizens)}
        read: dict[CitizenId, list[Action]] = {}
        reached, room = place, ACTS_AT_ONCE
        for citizen in citizens:
            acts = []
            if citizen in consents and consents[citizen].covers(batch.scenario) and _may_give(before.get(citizen)):
                acts = await self._read_acts(tx, batch, book, place, citizen)
            read[citizen] = acts
            room -= len(acts)
            if len(acts) == self.acts_of_one:
                reached = Cursor(citizen, acts[-1].occurred_at, acts[-1].id)
                break
            reached = Cursor(citizen)
            if room < self.acts_of_one:
                break
        refs = {RuleRef(v.rule, v.version) for vs in book.versions.values() for v in vs if v.profile == batch.profile}
        pooled = await writes.find_pooled([action.id for acts in read.values() for action in acts])
        given = [
            _Given(consents[citizen], eligible, before.get(citizen))
            for citizen, acts in read.items()
            if (eligible := [act for act in acts if act.id not in pooled and _is_eligible(act, refs)])
        ]
        return given, reached

    async def _read_acts(self, tx: Tx, batch: Batch, book: RuleBook, place: Cursor, citizen: CitizenId) -> list[Action]:
        after = (place.at, place.action) if place.citizen == citizen and place.at is not None else None
        kinds = [code for code, kind in book.kinds.items() if kind.category is batch.scenario]
        since, until = (datetime.combine(day, time(), self._zone).astimezone(UTC) for day in (batch.since, batch.until))
        return await list_credited(tx, citizen, kinds, since, until, after=after, limit=self.acts_of_one)

    async def _take(
        self, tx: Tx, batch: Batch, given: Sequence[_Given], reached: Cursor, unsealed: str, now: datetime
    ) -> tuple[Batch, Cursor]:
        """Move what is covered of it; what debts have taken away of a citizen's is left, and all behind it.

        The batch with it, which is not written yet, and the place that is reached.
        """
        writes = PoolingWrites(tx)
        transfers = [_transfer(batch, one, one.acts) for one in given]
        sheet = await self._ledger.open_within(tx, transfers)
        contributions, relied = [], []
        locked: list[PooledAct] = []
        added = Counter[str]()
        for one, whole in zip(given, transfers, strict=True):
            citizen = one.consent.citizen
            page = sheet.before.get(citizen_owner(citizen))
            available = page.available(QUANTIFIED, now) if page else 0
            count = count_covered((act.reduction_mg for act in one.acts), available)
            if count < len(one.acts) and reached.citizen == citizen:
                reached = Cursor(citizen)
            if not count:
                continue
            acts = one.acts[:count]
            transfer = whole if count == len(one.acts) else _transfer(batch, one, acts)
            await sheet.post(transfer, now)
            contribution = self._contribution(batch, one, acts, transfer, now)
            contributions.append(contribution)
            locked += _pooled(contribution, one, acts, transfer)
            relied.append(one.consent)
            added.update(contributions=not one.has_before, acts=count, mg=sum(act.reduction_mg for act in acts))
        await sheet.write(unsealed, now)
        await writes.rely_on(relied)
        await writes.insert_acts(locked)
        await put_split(writes, contributions, batch.code, self._threshold_g)
        if not locked:
            return batch, reached
        totals = batch.totals.plus(added["contributions"], added["acts"], added["mg"])
        return batch.holding(totals), reached

    @staticmethod
    def _contribution(
        batch: Batch, given: _Given, acts: Sequence[Action], transfer: Transaction, now: datetime
    ) -> Contribution:
        """The contribution with these acts more; how it is split is worked out when it is written."""
        before, citizen = given.before, given.consent.citizen
        return Contribution(
            batch=batch.code,
            citizen=citizen,
            vintage=batch.vintage,
            benefit=given.consent.benefit,
            given_at=before.given_at if before and given.has_before else now,
            acts=len(acts) + (before.acts if before else 0),
            pool_mg=sum(act.reduction_mg for act in acts) + (before.mg if before else 0),
            own_mg=0,
            transfers=(*(before.transfers if before else ()), transfer.id),
            taken_out=before.taken_out if before else (),
        )

    async def withdraw(self, tx: Tx, batch: Batch, citizen: CitizenId, now: datetime) -> Batch:
        """Give a citizen back what they gave to a batch that is not verified; the batch as it then stands.

        Raises:
            NoContributionError: there is nothing of theirs.
            ContributionBoundError: the batch is verified.
            WrongBatchStageError: the batch was called off, and everything is on its way back.
        """
        contribution = await PoolingWrites(tx).find_contribution(batch.code, citizen)
        if contribution is None or contribution.stage is not ContributionStage.GIVEN:
            raise NoContributionError
        if batch.stage is BatchStage.CANCELLING:
            raise WrongBatchStageError(batch.stage.value)
        if batch.stage not in OPEN_TO_WITHDRAWAL:
            raise ContributionBoundError
        return await self._returning.give_back(tx, batch, [contribution], ContributionStage.WITHDRAWN, now)

    async def give_back(self, batch: Batch) -> Batch:
        """Give the next contributor of a cancelled batch back what they gave; the batch as it then stands.

        Raises:
            BusyError, UnavailableError: see ``Transactions.run``; the next run goes on from the same place.
        """
        now = self._clock.now()
        contributions = await self._reads.list_given(batch.code, batch.cursor.citizen, limit=1)

        async def body(tx: Tx) -> Batch:
            writes = PoolingWrites(tx)
            standing = await writes.find_batch(batch.code)
            assert standing is not None, "batches are never deleted"
            if standing.version != batch.version:
                return standing
            if not contributions:
                ended = dataclasses.replace(standing, stage=BatchStage.CANCELLED, cursor=START)
                return await writes.change_batch(standing, ended)
            return await self._returning.give_back(tx, standing, contributions, ContributionStage.RETURNED, now)

        return await self._transactions.run(body)


def _stands(standing: Batch, seen: Batch) -> bool:
    """Whether the batch is still gathered, from the same place."""
    return (standing.stage, standing.cursor, standing.passed) == (BatchStage.GATHERING, seen.cursor, seen.passed)


def _reach(batch: Batch, reached: Cursor, *, comes_back: bool) -> Batch:
    """The batch at that place: on its way, or with the first of those whom it passed over."""
    if not comes_back:
        return dataclasses.replace(batch, cursor=reached)
    again = (reached,) if reached.at is not None else ()
    return dataclasses.replace(batch, passed=(*again, *batch.passed[1:]))


def _may_give(before: Contribution | None) -> bool:
    """Whether the citizen did not take back what they gave to this batch: that is for good."""
    return before is None or before.stage in (ContributionStage.GIVEN, ContributionStage.SUPERSEDED)


def _is_eligible(action: Action, refs: AbstractSet[RuleRef]) -> bool:
    """Whether the act has quantified grams, by a rule of the batch's profile."""
    settled = action.settlement
    assert settled is not None, "a credited act is settled"
    return settled.asset == QUANTIFIED and action.reduction_mg > 0 and applied_rule(action) in refs


def _transfer(batch: Batch, given: _Given, acts: Sequence[Action]) -> Transaction:
    """The transaction that moves these acts' grams: each posting takes the units of its act's earning."""
    citizen = given.consent.citizen
    number = len(given.before.transfers) + 1 if given.before else 1
    own, pool = account_of(citizen_owner(citizen), QUANTIFIED), account_of(pool_owner(batch.code), QUANTIFIED)
    cause = {f"of_{place}": _earned(act) for place, act in enumerate(acts)}
    return Transaction(
        key=f"pool:{batch.code}:{citizen}:{number}",
        kind=TransactionKind.POOL,
        postings=tuple(
            Posting(from_account=own, to_account=pool, asset=QUANTIFIED, amount=act.reduction_mg) for act in acts
        ),
        cause={"batch": batch.code, "contribution": contribution_id(batch.code, citizen), **cause},
    )


def _earned(action: Action) -> TransactionId:
    assert action.settlement is not None
    assert action.settlement.transaction is not None, "what has grams has earned them"
    return action.settlement.transaction


def _pooled(
    contribution: Contribution, given: _Given, acts: Sequence[Action], transfer: Transaction
) -> Iterator[PooledAct]:
    """The acts as they are locked into the batch, numbered on from those given before."""
    first = given.before.acts + len(given.before.taken_out) + 1 if given.before else 1
    for number, action in enumerate(acts, first):
        rule = applied_rule(action)
        assert rule is not None
        yield PooledAct(
            action=action.id,
            batch=contribution.batch,
            citizen=action.citizen,
            number=number,
            kind=action.kind,
            mg=action.reduction_mg,
            occurred_at=action.occurred_at,
            rule=rule,
            tier=action.tier.value,
            evidence=action.evidence,
            earned=_earned(action),
            pooled=transfer.id,
        )
