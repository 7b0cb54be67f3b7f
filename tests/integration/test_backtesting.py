"""Back-tests on real servers: the same to the gram as if the trial had been in force; jobs that stop and go on."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import subprocess
import sys
import uuid
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.actions.backtesting.errors import (
    BacktestEndedError,
    BacktestPeriodError,
    UnknownBacktestError,
    UnknownProfileError,
    UnknownVersionError,
)
from backend.actions.backtesting.exporting import to_csv
from backend.actions.backtesting.model import Backtest, Days, State, Trial, midnight
from backend.actions.backtesting.replaying import Frame, Replay
from backend.actions.backtesting.service import LEASE, main_figures
from backend.actions.backtesting.tallying import COLUMNS
from backend.actions.backtesting.trying import count_from, trial_book
from backend.actions.documents import ACTIONS, action_from_document
from backend.actions.model import Action, Status
from backend.actions.store import ActionStore
from backend.identity.errors import ForbiddenError
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.clock import local_date
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.kernel.ids import SHARD_COUNT, CitizenId
from backend.ledger.model import QUANTIFIED
from backend.mongo.transactions import Transactions
from backend.rules.drafts import Stage, Subject
from backend.rules.model import EvidenceTier
from backend.rules.refusals import UnknownDraftError
from backend.rules.store import Published, RuleWrites
from backend.rules.wording import read_version
from backend.runtime import open_services
from backend.stack import environment
from tests.conftest import dump
from tests.factories import ADMIN, bus_ride, citizen, partner
from tests.integration.backtesting import WIDE, days_before, finished, ride, validated
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import TRAM, begin, order

if TYPE_CHECKING:
    from pathlib import Path

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from backend.settings import Settings

# Citizen, kind, and what was summed up.
Place = tuple[str, str, str]
CITIZENS, ACTS, BATCH = 400, 20_000, 2_000
REVIEWER = Principal(PrincipalKind.STAFF, "ben", frozenset({StaffRole.REVIEWER}))
DISTRICTS = ("京口区", "润州区", None)
# Another factor, a condition that looks at the day so far, and caps over a day and a month.
STRICT: dict[str, Any] = {
    "rule": "R-BUS2",
    "formula": {"family": "PER_QUANTITY", "rate": "70001/3"},
    "condition": "hour < 21 && (today_count < 3 || weekday == 6)",
    "caps": [
        {"group": "strict_bus", "period": "DAY", "measure": "COUNT", "limit": 4, "basis": "test"},
        {"group": "strict_bus", "period": "MONTH", "measure": "MILLIGRAM", "limit": 300_000, "basis": "test"},
    ],
}


def acts(clock: ManualClock) -> list[Action]:
    """Rides of the last forty days, none so near another that it would be doubted; the days come in any order."""
    chance = random.Random(20_261_121)
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    days = chance.sample(range(1, 11), 10)
    places = [(number, day, slot) for day in days for number in range(CITIZENS) for slot in range(5)]
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


async def posted(services: Services, days: Days) -> Counter[Place]:
    """What was posted, by citizen, kind and column."""
    zone, sums = services.programme.zone, Counter[Place]()
    query = {"occurred_at": {"$gte": midnight(days.begin, zone), "$lt": midnight(days.end, zone)}}
    async for document in services.database.raw[ACTIONS.name].find(query):
        action = action_from_document(document)
        if action.status is Status.CREDITED:
            assert action.settlement is not None
            asset = "quantified" if action.settlement.asset == QUANTIFIED else "recognised"
            for name, amount in (("credited", 1), (f"{asset}_mg", action.reduction_mg), ("points", action.points)):
                sums[action.citizen, action.kind, name] += amount
    return +sums


async def replayed(services: Services, job: Backtest) -> tuple[Counter[Place], Counter[Place]]:
    """What the back-test has before and after, by citizen, kind and column; each citizen replayed alone."""
    book, zone = await services.rules.book(), services.programme.zone
    tried = trial_book(book, job.trial)
    frame = Frame(job.id, book, tried, midnight(job.days.begin, zone), job.at, zone, lambda name: name)
    since = midnight(count_from(book, tried, job.days, zone), zone)
    before, after = Counter[Place](), Counter[Place]()
    for part in range(SHARD_COUNT):
        stream = services.backtesting._store.stream_citizens(part, since, midnight(job.days.end, zone))
        async for name, documents in stream:
            replay = Replay(frame, {})
            replay.replay(documents, None)
            for cell, columns in replay.finish().cells.items():
                for column, amount in zip(COLUMNS, columns, strict=True):
                    what, _, side = column.rpartition("_")
                    sums = {"before": before, "after": after}.get(side, Counter())
                    sums[name, cell.partition("|")[0], what] += amount
    return +before, +after


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
    before, after = await replayed(services, job)
    assert await posted(services, days) == before

    clock.current = began
    other = settings.model_copy(update={"database": f"test_{uuid.uuid4().hex[:16]}"})
    async with open_services(other, clock) as twin:
        version = read_version(draft.wording)
        await Transactions(twin.database).run(
            lambda tx: RuleWrites(tx).publish(Published(versions=[version]), clock.now())
        )
        await post(twin, clock, given)
        live = await posted(twin, days)
        undone = await twin.backtesting.start(ADMIN, Trial(profile="conservative"), days, key="key-0001")
        mirror = (await finished(twin, undone)).result
        await twin.database.client.drop_database(other.database)
    assert after == live
    assert before != live

    result = done.result
    assert result is not None
    for name in ("credited", "quantified_mg", "recognised_mg", "points"):
        for side, sums in (("before", before), ("after", live)):
            total = sum(amount for (_, _, column), amount in sums.items() if column == name)
            assert getattr(result.total, f"{name}_{side}") == total
    # The way back is the same way: what was after is before, to the number of acts that each cap cut.
    assert mirror is not None
    assert [(found.name, found.after, found.before) for found in mirror.cuts] == [
        (found.name, found.before, found.after) for found in result.cuts
    ]
    assert {found.name for found in result.cuts} >= {"strict_bus"}
    for name in COLUMNS[1:]:
        what, _, side = name.rpartition("_")
        other_side = {"before": "after", "after": "before"}[side]
        assert getattr(mirror.total, f"{what}_{other_side}") == getattr(result.total, name)
    assert (mirror.gaining, mirror.losing, mirror.unchanged) == (result.losing, result.gaining, result.unchanged)
    assert {row.name for row in result.kinds} == {"bus_ride", "metro_ride"}
    assert len(result.sample) == 50
    assert all(difference.before != difference.after for difference in result.sample)
    draft = await services.lifecycle.find_draft(draft.id)  # type: ignore[assignment]
    assert draft.stage is Stage.BACKTESTED
    assert draft.backtest is not None
    assert (draft.backtest.job, dict(draft.backtest.figures)) == (job.id, main_figures(result))


async def test_a_part_is_read_in_the_order_of_an_index_and_nothing_is_sorted(services: Services) -> None:
    query = {"shard": Int64(7), "occurred_at": {"$gte": services.clock.now() - timedelta(days=9)}}
    cursor = services.database.raw[ACTIONS.name].find(query).sort([("shard", 1), ("citizen", 1), ("occurred_at", 1)])
    plan = str((await cursor.explain())["queryPlanner"]["winningPlan"])
    assert "'indexName': 'shard_citizen'" in plan
    assert "SORT" not in plan


async def test_a_budget_is_replayed_part_after_part_to_the_point(services: Services, clock: ManualClock) -> None:
    names = [f"citizen-{number}" for number in range(30)]
    await ride(services, clock, names)
    before = await posted(services, days_before(services, 2))
    points = sum(amount for (_, _, column), amount in before.items() if column == "points")
    budget = points // 3 + 1
    cap = {"group": "city", "period": "YEAR", "measure": "POINTS", "limit": budget, "basis": "test"}
    draft = await validated(services, {"limits": [{"cap": {**cap, "scope": "EVERYBODY"}}]}, Subject.LIMITS)
    trial = Trial(draft=draft.id)
    job = await services.backtesting.start(ADMIN, trial, days_before(services, 2), key="key-0001")
    result = (await finished(services, job)).result
    assert result is not None
    assert (result.total.points_before, result.total.points_after) == (points, budget)
    assert result.points_liability == budget - points
    assert result.total.credited_after == result.total.credited_before == 2 * len(names)
    (cuts,) = result.cuts
    assert (cuts.name, cuts.before) == ("city", 0)
    # Those in later parts get nothing, but for the one who got the rest.
    assert cuts.after == 2 * len(names) - budget // (points // (2 * len(names)))


async def test_a_part_whose_worker_died_is_replayed_by_another_and_gives_the_same(
    services: Services, clock: ManualClock
) -> None:
    await ride(services, clock, ["alice", "bob"])
    draft = await validated(services, WIDE)
    trial, days = Trial(draft=draft.id), days_before(services, 2)
    first = await services.backtesting.start(ADMIN, trial, days, key="key-0001")
    expected = (await finished(services, first)).result
    second = await services.backtesting.start(ADMIN, trial, days, key="key-0002")
    store, now = services.backtesting._store, clock.now()
    lost = [await store.take_part(range(SHARD_COUNT), "dead", now, stale=now - LEASE) for _ in range(3)]
    assert None not in lost
    assert (await finished(services, second)).state is State.RUNNING
    assert (await finished(services, second)).done == SHARD_COUNT - 3
    clock.advance(LEASE + timedelta(seconds=1))
    done = await finished(services, second)
    assert done.state is State.DONE
    assert done.result is not None
    assert expected is not None
    # The same but for the seed of the sample, which is the job's.
    assert dataclasses.replace(done.result, sample=()) == dataclasses.replace(expected, sample=())
    assert {found.action for found in done.result.sample} == {found.action for found in expected.sample}
    assert (await dump(services))["backtest_parts"] == []
    # A dead worker that comes back finds nothing of its own.
    assert lost[0] is not None
    assert await store.keep_part(lost[0], now) is False


async def test_what_was_replayed_and_left_is_added_up_by_the_sweep(services: Services, clock: ManualClock) -> None:
    await ride(services, clock, ["alice"])
    backtesting, now = services.backtesting, clock.now()
    job = await backtesting.start(ADMIN, Trial(profile="conservative"), days_before(services, 2), key="key-0001")
    while part := await backtesting._store.take_part(range(SHARD_COUNT), "cut off", now, stale=now - LEASE):
        replay = await backtesting._replay(job, part)
        assert await backtesting._store.finish_part(part, replay.tally, replay.drawn, replay.limits)
    assert (await backtesting.get(job.id)).state is State.QUEUED
    await backtesting.sweep()
    done = await backtesting.get(job.id)
    assert (done.state, done.done) == (State.DONE, SHARD_COUNT)
    assert done.result is not None
    assert done.result.total.points_before == done.result.total.points_after > 0


async def test_a_back_test_that_breaks_says_so_and_ends(services: Services, clock: ManualClock) -> None:
    await ride(services, clock, ["alice"])
    job = await services.backtesting.start(
        ADMIN, Trial(profile="conservative"), days_before(services, 2), key="key-0001"
    )
    broken = {"$set": {"trial.profile": "utopia"}}
    await services.database.raw["backtests"].update_one({"_id": job.id}, broken)
    failed = await finished(services, job)
    assert (failed.state, failed.failure, failed.result) == (
        State.FAILED,
        "UnknownProfileError(profile='utopia')",
        None,
    )
    assert (await dump(services))["backtest_parts"] == []


async def test_a_cancelled_back_test_is_replayed_no_more(services: Services, clock: ManualClock) -> None:
    await ride(services, clock, ["alice"])
    backtesting = services.backtesting
    trial, days = Trial(profile="shanghai-2026"), days_before(services, 2)
    job = await backtesting.start(ADMIN, trial, days, key="key-0001")
    assert await backtesting.start(ADMIN, trial, days, key="key-0001") == job
    assert await backtesting.replay_next() is True
    with pytest.raises(ForbiddenError):
        await backtesting.cancel(citizen(), job.id, key="key-0002")
    ended = await backtesting.cancel(ADMIN, job.id, key="key-0002")
    assert (ended.state, ended.ended_at) == (State.CANCELLED, clock.now())
    assert await backtesting.replay_next() is False
    after = await dump(services)
    assert after["backtest_parts"] == []
    assert (await backtesting.cancel(ADMIN, job.id, key="key-0003")).state is State.CANCELLED
    await backtesting.sweep()
    assert await dump(services) == after
    with pytest.raises(UnknownBacktestError):
        await backtesting.cancel(ADMIN, "backtest_none", key="key-0004")
    other = await backtesting.start(ADMIN, trial, days, key="key-0005")
    assert (await finished(services, other)).state is State.DONE
    with pytest.raises(BacktestEndedError) as refused:
        await backtesting.cancel(ADMIN, other.id, key="key-0006")
    assert refused.value.message() == "the back-test is over (DONE)"


async def test_a_draft_that_was_written_anew_keeps_no_figures(services: Services, clock: ManualClock) -> None:
    await ride(services, clock, ["alice"])
    draft = await validated(services, WIDE)
    job = await services.backtesting.start(ADMIN, Trial(draft=draft.id), days_before(services, 2), key="key-0001")
    again = await services.lifecycle.edit(order(draft), Subject.RULE, {"minimum": 1})
    done = await finished(services, job)
    assert (done.state, done.attached) == (State.DONE, False)
    assert done.result is not None
    assert done.result.total.points_after < done.result.total.points_before
    assert await services.lifecycle.find_draft(draft.id) == again


async def test_acts_that_no_rule_decides_keep_their_fate(services: Services, clock: ManualClock) -> None:
    await ride(services, clock, ["alice"], rides=4)
    raw = services.database.raw[ACTIONS.name]
    ids = [found["_id"] async for found in raw.find().sort("ref", 1)]
    lost = {"status": "REJECTED", "settlement.reason": "CLAIMED"}
    await raw.update_one({"_id": ids[0]}, {"$set": lost})
    await raw.update_one({"_id": ids[1]}, {"$set": {"status": "PENDING"}})
    await raw.update_one({"_id": ids[2]}, {"$set": {"tier": "RUMOUR"}}, bypass_document_validation=True)
    trial = Trial(rule="R-BUS2", version=1)
    job = await services.backtesting.start(ADMIN, trial, days_before(services, 2), key="key-0001")
    result = (await finished(services, job)).result
    assert result is not None
    assert (result.kept, result.waiting, result.unreadable, result.total.acts) == (1, 1, 1, 1)
    assert result.total.points_after == result.total.points_before > 0
    assert (result.unchanged, result.gaining, result.losing, result.sample) == (1, 0, 0, ())


async def test_a_back_test_that_cannot_be_is_refused_and_nothing_changes(
    services: Services, clock: ManualClock
) -> None:
    draft = await validated(services, WIDE)
    kind = await begin(
        services,
        {**TRAM, "code": "funicular"},
        Subject.KIND,
        key="key-0009",
    )
    trial, days = Trial(draft=draft.id), days_before(services, 2)
    await services.backtesting.start(ADMIN, trial, days, key="key-0001")
    before = await dump(services)
    today = local_date(clock.now(), services.programme.zone)
    day = timedelta(days=1)
    cases: list[tuple[Any, Trial, Days, str, type[Exception], str]] = [
        (citizen(), trial, days, "key-0002", ForbiddenError, "not permitted: back-testing rules"),
        (partner(), trial, days, "key-0002", ForbiddenError, "not permitted: back-testing rules"),
        (REVIEWER, trial, days, "key-0002", ForbiddenError, "not permitted: back-testing rules"),
        (ADMIN, trial, days, "short", InvalidInputError, "idempotencyKey"),
        (ADMIN, trial, days_before(services, 3), "key-0001", IdempotencyConflictError, "key-0001"),
        (ADMIN, trial, Days(today, today), "key-0002", BacktestPeriodError, "it must end after it begins"),
        (ADMIN, trial, Days(today, today - day), "key-0002", BacktestPeriodError, "it must end after it begins"),
        (ADMIN, trial, Days(today, today + 2 * day), "key-0002", BacktestPeriodError, "into the future"),
        (ADMIN, trial, Days(today - 367 * day, today), "key-0002", BacktestPeriodError, "at most 366 days"),
        (ADMIN, Trial(draft="draft_none"), days, "key-0002", UnknownDraftError, "draft_none"),
        (ADMIN, Trial(draft=kind.id), days, "key-0002", InvalidInputError, "no acts to replay"),
        (ADMIN, Trial(profile="utopia"), days, "key-0002", UnknownProfileError, "utopia"),
        (ADMIN, Trial(rule="R-BUS2", version=9), days, "key-0002", UnknownVersionError, "version 9"),
        (ADMIN, Trial(rule="R-BUS2"), days, "key-0002", InvalidInputError, "exactly one"),
        (ADMIN, Trial(), days, "key-0002", InvalidInputError, "exactly one"),
        (ADMIN, dataclasses.replace(trial, profile="conservative"), days, "key-0002", InvalidInputError, "exactly one"),
    ]
    for principal, tried, over, key, error, told in cases:
        with pytest.raises(error) as refused:
            await services.backtesting.start(principal, tried, over, key=key)
        assert told in str(refused.value), refused.value
        assert await dump(services) == before


async def test_the_command_replays_a_draft_and_writes_its_sums(
    services: Services, settings: Settings, clock: ManualClock, tmp_path: Path
) -> None:
    await ride(services, clock, ["alice", "bob"])
    draft = await validated(services, WIDE)
    days = days_before(services, 2)
    period = f"{days.begin}..{days.end - timedelta(days=1)}"
    files = tmp_path / "sums.csv", tmp_path / "sums.parquet"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "backend.cli", "rules", "backtest", *arguments]
        shown = {**environment(settings), "COLUMNS": "200"}
        return subprocess.run(command, env=shown, capture_output=True, text=True, check=False)

    options = ("--csv", str(files[0]), "--parquet", str(files[1]))
    done = await asyncio.to_thread(run, draft.id, "--period", period, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 citizens gain, 2 lose, 0 stay; 0 acts would wait for a person" in " ".join(done.stdout.split())
    (job,) = await services.backtesting.list_backtests(ADMIN, limit=9, older=None, newer=None, newest=True)
    assert (job.actor, job.days, job.attached) == ("staff:operator", days, True)
    assert job.result is not None
    assert (files[0].read_bytes(), files[1].read_bytes()[:4]) == (to_csv(job.result), b"PAR1")
    for arguments, told in (
        ((draft.id, "--period", "yesterday"), "yesterday is no period: write 2026-10-01..2026-10-31"),
        (("draft_none", "--period", period), "UNKNOWN_DRAFT: there is no rule draft draft_none"),
    ):
        refused = await asyncio.to_thread(run, *arguments)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert told in refused.stderr
