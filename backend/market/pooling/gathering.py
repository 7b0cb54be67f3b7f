"""Gathering: grams move from citizens who authorised it into a batch, each act once, and back until it is verified.

A batch is gathered citizen by citizen. What moves, the acts' locks, the contributions and the place reached commit
together: wherever a worker dies, no act is left out or taken twice.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, NamedTuple

from backend.actions.corrected import applied_rule
from backend.actions.model import RuleRef
from backend.actions.store import list_credited
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
from backend.market.pooling.rules import count_covered, split_at_threshold
from backend.market.pooling.store import PoolingReads, PoolingWrites

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action
    from backend.kernel.clock import Clock
    from backend.kernel.ids import TransactionId
    from backend.ledger.service import Ledger
    from backend.market.pooling.model import Batch, Consent
    from backend.market.settings import MarketSettings
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.service import RuleBook, Rules

CITIZENS_AT_ONCE = 30
# Postings of one transaction of the book, and acts of one MongoDB transaction.
ACTS_OF_ONE = 200
ACTS_AT_ONCE = 500


class _Given(NamedTuple):
    """Acts of one citizen that can be given, and what the citizen gave before."""

    consent: Consent
    acts: Sequence[Action]
    before: Contribution | None
    pooled_elsewhere_mg: int


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
    ) -> None:
        self._threshold_g = settings.aggregation_threshold_g
        self._reads = PoolingReads(database)
        self._transactions = transactions
        self._rules = rules
        self._ledger = ledger
        self._clock = clock
        self._zone = zone
        self.acts_of_one = ACTS_OF_ONE

    async def gather(self, batch: Batch) -> Batch:
        """Gather from the next citizens, or end where there are none; the batch as it then stands.

        Raises:
            BusyError, UnavailableError: see ``Transactions.run``; the next run goes on from the same place.
        """
        cursor, now = batch.cursor, self._clock.now()
        unsealed = new_id("uns", now)
        citizens = await self._reads.list_consenting(batch.scenario, cursor.citizen, limit=CITIZENS_AT_ONCE)
        if cursor.at is not None:
            citizens.insert(0, CitizenId(cursor.citizen))

        async def body(tx: Tx) -> Batch:
            writes = PoolingWrites(tx)
            standing = await writes.find_batch(batch.code)
            assert standing is not None, "batches are never deleted"
            if (standing.stage, standing.cursor) != (BatchStage.GATHERING, cursor):
                return standing  # called off, or another worker was here first
            if not citizens:
                ended = dataclasses.replace(standing, stage=BatchStage.GATHERED, cursor=START, gathered_at=now)
                return await writes.change_batch(standing, ended)
            given, reached = await self._list_given(tx, standing, citizens)
            return await self._take(tx, standing, given, reached, unsealed, now)

        return await self._transactions.run(body)

    async def _list_given(self, tx: Tx, batch: Batch, citizens: Sequence[CitizenId]) -> tuple[list[_Given], Cursor]:
        """What the citizens give, as far as one transaction takes it, and the place that is reached with it."""
        writes = PoolingWrites(tx)
        book = await self._rules.book_within(tx)
        consents = await writes.find_consents(citizens)
        before: defaultdict[CitizenId, list[Contribution]] = defaultdict(list)
        for contribution in await writes.find_contributions(citizens, batch.vintage):
            before[contribution.citizen].append(contribution)
        read: dict[CitizenId, list[Action]] = {}
        reached, room = batch.cursor, ACTS_AT_ONCE
        for citizen in citizens:
            acts = []
            if citizen in consents and consents[citizen].covers(batch.scenario) and _may_give(batch, before[citizen]):
                acts = await self._read_acts(tx, batch, book, citizen)
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
            _Given(consents[citizen], eligible, *_before(batch, before[citizen]))
            for citizen, acts in read.items()
            if (eligible := [act for act in acts if act.id not in pooled and _is_eligible(act, refs)])
        ]
        return given, reached

    async def _read_acts(self, tx: Tx, batch: Batch, book: RuleBook, citizen: CitizenId) -> list[Action]:
        cursor = batch.cursor
        after = (cursor.at, cursor.action) if cursor.citizen == citizen and cursor.at is not None else None
        kinds = [code for code, kind in book.kinds.items() if kind.category is batch.scenario]
        since, until = (datetime.combine(day, time(), self._zone).astimezone(UTC) for day in (batch.since, batch.until))
        return await list_credited(tx, citizen, kinds, since, until, after=after, limit=self.acts_of_one)

    async def _take(
        self, tx: Tx, batch: Batch, given: Sequence[_Given], reached: Cursor, unsealed: str, now: datetime
    ) -> Batch:
        """Move what is covered of it; what debts have taken away of a citizen's is left, and all behind it."""
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
            added.update(contributions=one.before is None, acts=count, mg=sum(act.reduction_mg for act in acts))
        await sheet.write(unsealed, now)
        await writes.rely_on(relied)
        await writes.insert_acts(locked)
        await writes.put_contributions(contributions)
        totals = batch.totals.plus(added["contributions"], added["acts"], added["mg"])
        contents = batch.contents + bool(locked)
        return await writes.change_batch(
            batch, dataclasses.replace(batch, cursor=reached, totals=totals, contents=contents)
        )

    def _contribution(
        self, batch: Batch, given: _Given, acts: Sequence[Action], transfer: Transaction, now: datetime
    ) -> Contribution:
        """The contribution with these acts more."""
        before, citizen = given.before, given.consent.citizen
        mg = sum(act.reduction_mg for act in acts) + (before.mg if before else 0)
        pool_mg, own_mg = split_at_threshold(mg, given.pooled_elsewhere_mg, self._threshold_g)
        return Contribution(
            batch=batch.code,
            citizen=citizen,
            vintage=batch.vintage,
            benefit=given.consent.benefit,
            given_at=before.given_at if before else now,
            acts=len(acts) + (before.acts if before else 0),
            pool_mg=pool_mg,
            own_mg=own_mg,
            transfers=(*(before.transfers if before else ()), transfer.id),
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
        return await self._give_back(tx, batch, [contribution], ContributionStage.WITHDRAWN, now)

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
            return await self._give_back(tx, standing, contributions, ContributionStage.RETURNED, now)

        return await self._transactions.run(body)

    async def _give_back(
        self, tx: Tx, batch: Batch, contributions: Sequence[Contribution], stage: ContributionStage, now: datetime
    ) -> Batch:
        """Reverse all that these contributions moved, and free their acts."""
        writes = PoolingWrites(tx)
        totals, reversals = batch.totals, []
        for contribution in contributions:
            moved = Counter[str]()
            for act in await writes.list_acts(contribution):
                moved[act.pooled] += act.mg
            reversals += [_reversal(contribution, number, moved) for number in range(len(contribution.transfers))]
            totals = totals.plus(-1, -contribution.acts, -contribution.mg)
        await self._ledger.post_within(tx, reversals, at=now)
        for contribution in contributions:
            await writes.release_acts(contribution)
        await writes.put_contributions([dataclasses.replace(one, stage=stage) for one in contributions])
        cursor = Cursor(contributions[-1].citizen) if stage is ContributionStage.RETURNED else batch.cursor
        after = dataclasses.replace(batch, totals=totals, contents=batch.contents + 1, cursor=cursor)
        return await writes.change_batch(batch, after)


def _may_give(batch: Batch, contributions: Sequence[Contribution]) -> bool:
    """Whether the citizen did not take back what they gave to this batch: that is for good."""
    return all(one.stage is ContributionStage.GIVEN for one in contributions if one.batch == batch.code)


def _before(batch: Batch, contributions: Sequence[Contribution]) -> tuple[Contribution | None, int]:
    """What the citizen gave to this batch already, and the milligrams of the vintage pooled in others."""
    own = next((one for one in contributions if one.batch == batch.code), None)
    others = (one for one in contributions if one.batch != batch.code and one.stage is ContributionStage.GIVEN)
    return own, sum(one.pool_mg for one in others)


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
    first = given.before.acts + 1 if given.before else 1
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


def reversal_id(contribution: Contribution, number: int) -> TransactionId:
    """The id of what takes one of a contribution's transfers back."""
    return Transaction(key=_reversal_key(contribution, number), kind=TransactionKind.REVERSE).id


def _reversal_key(contribution: Contribution, number: int) -> str:
    return f"unpool:{contribution.batch}:{contribution.citizen}:{number + 1}"


def _reversal(contribution: Contribution, number: int, moved: Mapping[str, int]) -> Transaction:
    """What takes one of a contribution's transfers back as a whole."""
    transfer, citizen = contribution.transfers[number], contribution.citizen
    own = account_of(citizen_owner(citizen), QUANTIFIED)
    pool = account_of(pool_owner(contribution.batch), QUANTIFIED)
    returned = Posting(from_account=pool, to_account=own, asset=QUANTIFIED, amount=moved[transfer])
    return Transaction(
        key=_reversal_key(contribution, number),
        kind=TransactionKind.REVERSE,
        postings=(returned,),
        cause={"batch": contribution.batch, "contribution": contribution.id},
        corrects=transfer,
    )
