"""Back-tests on real servers: the same to the gram as if the trial had been in force; jobs that stop and go on."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.backtesting.errors import (
    BacktestEndedError,
    BacktestPeriodError,
    UnknownBacktestError,
    UnknownProfileError,
    UnknownVersionError,
)
from backend.actions.backtesting.model import Backtest, Days, State, Trial, midnight
from backend.actions.backtesting.replaying import Frame, Replay
from backend.actions.backtesting.service import LEASE, main_figures
from backend.actions.backtesting.tallying import COLUMNS
from backend.actions.backtesting.trying import count_from, trial_book
from backend.actions.documents import ACTIONS, action_from_document
from backend.actions.model import Action, Status
from backend.actions.store import ActionStore
from backend.identity.errors import ForbiddenError
from backend.kernel.clock import local_date
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.kernel.ids import SHARD_COUNT, CitizenId
from backend.ledger.model import QUANTIFIED
from backend.rules.drafts import Stage, Subject
from backend.rules.model import EvidenceTier, Limits
from backend.rules.refusals import UnknownDraftError
from backend.rules.store import Published, RuleWrites
from backend.rules.wording import read_limits, read_version
from backend.mongo.transactions import Transactions
from backend.runtime import open_services
from tests.conftest import dump
from tests.factories import ADMIN, bus_ride, citizen, partner
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import FLAT, begin, order

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.rules.drafts import Draft
    from backend.runtime import Services
    from backend.settings import Settings

CITIZENS, ACTS, BATCH = 400, 20_000, 2_000
DISTRICTS = ("京口区", "润州区", None)
# Another factor, a condition that looks at the day so far, and caps over a day and a month.
STRICT = {
    "rule": "R-BUS2",
    "formula": {"family": "PER_QUANTITY", "rate": "70001/3"},
    "condition": "hour < 21 && (today_count < 3 || weekday == 6)",
    "caps": [
        {"group": "strict_bus", "period": "DAY", "measure": "COUNT", "limit": 4, "basis": "test"},
        {"group": "strict_bus", "period": "MONTH", "measure": "MILLIGRAM", "limit": 300_000, "basis": "test"},
    ],
}


def acts(clock: ManualClock) -> list[Action]:
    """Rides of the last forty days, recorded in any order; none so near another that it would be doubted."""
    chance = random.Random(20_261_121)
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    places = [(number, day, slot) for number in range(CITIZENS) for day in range(1, 11) for slot in range(5)]
    chance.shuffle(places)
    return [
        Action(
            citizen=CitizenId(f"citizen-{number:03}"),
            source="app",
            ref=f"ride-{number}-{day}-{slot}",
            kind=chance.choice(["bus_ride", "bus_ride", "metro_ride"]),
            quantity=1,
            unit=bus_ride().unit,
            occurred_at=today - timedelta(days=4 * day) + timedelta(hours=4 * slot, minutes=chance.randrange(60)),
            ended_at=None,
            attributes={},
            tier=chance.choice([EvidenceTier.DECLARED, EvidenceTier.OPERATOR]),
            evidence=None,
            recorded_at=clock.now() + timedelta(seconds=place),
            recorded_by="partner:metro",
            backfill=True,
        )
        for place, (number, day, slot) in enumerate(places[:ACTS])
    ]


async def post(services: Services, clock: ManualClock, given: list[Action]) -> None:
    """Record and settle the acts, batch by batch, in time."""
    store = ActionStore(services.database)
    services.settling._batch_size = BATCH
    for number in range(len(DISTRICTS)):
        people = {CitizenId(f"citizen-{n:03}"): "某人" for n in range(number, CITIZENS, len(DISTRICTS))}
        await services.identity.register_citizens(people, district=DISTRICTS[number])
    for start in range(0, len(given), BATCH):
        await store.insert(given[start : start + BATCH])
        assert await services.settling.settle(ALL_SHARDS) == len(given[start : start + BATCH])
        clock.advance(timedelta(seconds=1))


async def validated(services: Services, changes: dict[str, Any], subject: Subject = Subject.RULE) -> Draft:
    """Ann's draft, in which nothing was found wrong."""
    draft = await services.lifecycle.validate(order(await begin(services, changes, subject)))
    assert draft.problems == ()
    return draft


async def finished(services: Services, job: Backtest) -> Backtest:
    """The job, all of its parts replayed here."""
    while await services.backtesting.replay_next():
        pass
    return await services.backtesting.get(job.id)


def days_before(services: Services, first: int, last: int = 0) -> Days:
    """The local days from ``first`` days ago until ``last`` days ago, the last one included."""
    today = local_date(services.clock.now(), services.programme.zone)
    return Days(today - timedelta(days=first), today - timedelta(days=last - 1))


async def posted(services: Services, days: Days) -> Counter[tuple[str, str, str]]:
    """What was posted, by citizen, kind and column."""
    zone, sums = services.programme.zone, Counter[tuple[str, str, str]]()
    query = {"occurred_at": {"$gte": midnight(days.begin, zone), "$lt": midnight(days.end, zone)}}
    async for document in services.database.raw[ACTIONS.name].find(query):
        action = action_from_document(document)
        if action.status is Status.CREDITED:
            assert action.settlement is not None
            asset = "quantified" if action.settlement.asset == QUANTIFIED else "recognised"
            for name, amount in (("credited", 1), (f"{asset}_mg", action.reduction_mg), ("points", action.points)):
                sums[action.citizen, action.kind, name] += amount
    return +sums


async def replayed(services: Services, job: Backtest, side: str) -> Counter[tuple[str, str, str]]:
    """What the back-test has for each citizen, kind and column; each citizen replayed alone."""
    book, zone = await services.rules.book(), services.programme.zone
    tried = trial_book(book, job.trial)
    frame = Frame(job.id, book, tried, midnight(job.days.begin, zone), job.at, zone, lambda name: name)
    since = midnight(count_from(book, tried, job.days, zone), zone)
    sums = Counter[tuple[str, str, str]]()
    for part in range(SHARD_COUNT):
        stream = services.backtesting._store.stream_citizens(part, since, midnight(job.days.end, zone))
        async for name, documents in stream:
            replay = Replay(frame, {})
            replay.replay(documents, None)
            for cell, columns in replay.finish().cells.items():
                for column, amount in zip(COLUMNS, columns, strict=True):
                    if column.endswith(side):
                        sums[name, cell.partition("|")[0], column.removesuffix(f"_{side}")] += amount
    return +sums


async def test_a_draft_gives_to_the_gram_what_it_would_have_given_in_force(
    services: Services, settings: Settings, clock: ManualClock
) -> None:
    given, began = acts(clock), clock.now()
    await post(services, clock, given)
    draft = await validated(services, STRICT)
    days = days_before(services, 25, 3)
    job = await services.backtesting.start(ADMIN, Trial(draft=draft.id), days, key="key-0001")
    done = await finished(services, job)
    assert (done.state, done.done, done.attached) == (State.DONE, SHARD_COUNT, True)
    before, after = await posted(services, days), await replayed(services, job, "after")
    assert await replayed(services, job, "before") == before

    clock.current = began
    other = settings.model_copy(update={"database": f"test_{uuid.uuid4().hex[:16]}"})
    async with open_services(other, clock) as twin:
        version = read_version(draft.wording)
        await Transactions(twin.database).run(
            lambda tx: RuleWrites(tx).publish(Published(versions=[version]), clock.now())
        )
        await post(twin, clock, given)
        live = await posted(twin, days)
        await twin.database.client.drop_database(other.database)
    assert after == live
    assert before != live

    result = done.result
    assert result is not None
    for name in ("credited", "quantified_mg", "recognised_mg", "points"):
        for side, sums in (("before", before), ("after", live)):
            total = sum(amount for (_, _, column), amount in sums.items() if column == name)
            assert getattr(result.total, f"{name}_{side}") == total
    assert {row.name for row in result.kinds} == {"bus_ride", "metro_ride"}
    assert len(result.sample) == 50
    assert all(difference.before != difference.after for difference in result.sample)
    draft = await services.lifecycle.find_draft(draft.id)  # type: ignore[assignment]
    assert draft.stage is Stage.BACKTESTED
    assert draft.backtest is not None
    assert (draft.backtest.job, dict(draft.backtest.figures)) == (job.id, main_figures(result))
