"""Rules under load: a back-test over stored actions by two processes, and races that must come out exactly.

``--actions N`` replays fewer than a million, for a quick look.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.actions.backtesting.model import Days, State, Trial, midnight
from backend.actions.documents import ACTIONS, action_to_document, settlement_to_document
from backend.actions.model import Action, RuleRef, Settlement, Status
from backend.actions.verdicts import facts_of
from backend.audit import audit_books
from backend.cli.console import quiet_logs, with_services
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.clock import local_date
from backend.kernel.ids import CitizenId, TransactionId, shard_of
from backend.rules.conversion import convert
from backend.rules.drafts import Subject
from backend.rules.model import EvidenceTier
from backend.runtime import open_services
from backend.settings import Settings
from backend.stack import running_servers
from loadtests.report import Figure, report
from loadtests.rules_races import measure_budget, measure_claim_race, measure_publishing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from backend.mongo.client import Document
    from backend.runtime import Services

SEED = 20_261_121
MILLION = 1_000_000
ACTS_A_CITIZEN = 50
DAYS = 90
BATCH = 10_000
PROCESSES = 2
KINDS = ("bus_ride", "bus_ride", "metro_ride", "clean_plate")
ADMIN = Principal(PrincipalKind.STAFF, "bench", frozenset({StaffRole.ADMIN}))
DISTRICTS = ("京口区", "润州区", "丹徒区")
# Another factor, a condition that looks at the day so far, and one more cap.
DRAFT = {
    "rule": "R-BUS2",
    "formula": {"family": "PER_QUANTITY", "rate": "70001/3"},
    "condition": "hour < 21 && today_count < 3",
    "caps": [{"group": "bench_bus", "period": "DAY", "measure": "COUNT", "limit": 2, "basis": "bench"}],
}


async def measure_races(services: Services) -> dict[str, Figure]:
    """What must come out exactly under contention, and the books after it."""
    async with open_services(services.settings) as second:
        figures = await measure_claim_race(services, second)
    figures |= await measure_budget(services)
    figures |= await measure_publishing(services)
    findings = (await audit_books(services)).findings
    return {**figures, "books": Figure(findings[0] if findings else "clean", "", "clean")}


async def measure_backtest(services: Services, settings: Settings, count: int) -> dict[str, Figure]:
    """A draft replayed over ``count`` stored acts by two processes that do nothing else."""
    today = local_date(services.clock.now(), services.programme.zone)
    days = Days(today - timedelta(days=DAYS), today)
    await _store(services, count, midnight(days.begin, services.programme.zone))
    draft = await services.lifecycle.draft(str(ADMIN), Subject.RULE, DRAFT, key="key-0001")
    begun = time.monotonic()
    job = await services.backtesting.start(ADMIN, Trial(draft=draft.id), days, key="key-0001")
    context = get_context("spawn")
    peaks = context.Queue()
    processes = [context.Process(target=_replay, args=(settings, peaks)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    memory_kib = sum(peaks.get() for _ in processes)
    for process in processes:
        process.join()
    elapsed = round(time.monotonic() - begun, 1)
    done = await services.backtesting.get(job.id)
    assert done.state is State.DONE, done.failure
    assert done.result is not None
    assert done.result.total.acts == count
    is_whole = count == MILLION
    return {
        "backtest_1m_s" if is_whole else f"backtest_{count}_s": Figure(
            elapsed, "s", 60 if is_whole else None, is_less_better=True
        ),
        "backtest_memory_mib": Figure(memory_kib // 1024, "MiB", 500, is_less_better=True),
    }


def _replay(settings: Settings, peaks: Any) -> None:
    """One process: replay parts until none waits; its peak memory in KiB."""

    async def run(services: Services) -> None:
        while await services.backtesting.replay_next():
            pass

    quiet_logs()
    with_services(settings, run)
    peaks.put(_peak_kib())


def _peak_kib() -> int:
    """The most memory this process had, in KiB; on Linux without what it inherits of whoever started it."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 10)


async def _store(services: Services, count: int, began: datetime) -> None:
    citizens = [CitizenId(f"citizen-{number:08}") for number in range(count // ACTS_A_CITIZEN)]
    for place, district in enumerate(DISTRICTS):
        people = dict.fromkeys(citizens[place :: len(DISTRICTS)], "bench")
        await services.identity.register_citizens(people, district=district)
    for batch in _documents(await _patterns(services, began), citizens, count, began):
        await services.database.insert_many(ACTIONS.name, batch)


def _documents(
    patterns: list[Document], citizens: list[CitizenId], count: int, began: datetime
) -> Iterator[list[Document]]:
    """Credited acts of random citizens in the order of time."""
    chance = random.Random(SEED)
    shards = {citizen: Int64(shard_of(citizen)) for citizen in citizens}
    step = timedelta(days=DAYS) / count
    for start in range(0, count, BATCH):
        batch = []
        for number in range(start, min(count, start + BATCH)):
            pattern, citizen, at = chance.choice(patterns), chance.choice(citizens), began + number * step
            batch.append(
                {
                    **pattern,
                    "_id": f"act_{number:032}",
                    "shard": shards[citizen],
                    "citizen": citizen,
                    "ref": f"ride-{number}",
                    "occurred_at": at,
                    "recorded_at": at,
                    "settlement": {**pattern["settlement"], "at": at + timedelta(seconds=2)},
                }
            )
        yield batch


async def _patterns(services: Services, at: datetime) -> list[Document]:
    """One credited act of each kind, as stored."""
    book = await services.rules.book()
    found = []
    for code in KINDS:
        kind, version = book.kinds[code], book.version_for(code, at)
        action = Action(
            citizen=CitizenId("pattern"),
            source="bench",
            ref="pattern",
            kind=code,
            quantity=1,
            unit=kind.unit,
            occurred_at=at,
            ended_at=None,
            attributes={"line": "9", "entry_station": "大市口", "exit_station": "火车站"},
            tier=EvidenceTier.OPERATOR,
            evidence=None,
            recorded_at=at,
            recorded_by="partner:bench",
            backfill=False,
            status=Status.CREDITED,
        )
        earned = convert(facts_of(action, kind, services.programme.zone), version, {})
        assert version is not None
        assert earned.reason is None, (code, earned.reason)
        settlement = Settlement(
            at=at,
            reason=None,
            rule=RuleRef(version.rule, version.version),
            credited_quantity=earned.credited_quantity,
            asset=earned.asset,
            reduction_mg=earned.reduction_mg,
            points=earned.points,
            transaction=TransactionId("tx_" + "0" * 32),
            revision=book.revision,
        )
        found.append(action_to_document(action) | {"settlement": settlement_to_document(settlement)})
    return found


def main() -> None:
    """Run it; exit 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=MILLION, help="stored actions to replay")
    count = parser.parse_args().actions
    quiet_logs()
    with tempfile.TemporaryDirectory(prefix="tanhui-bench-") as folder:
        settings = Settings().model_copy(update={"data_dir": Path(folder)})
        with running_servers(settings) as servers:
            running = servers.settings

            raced = running.model_copy(update={"database": f"{running.database}_races"})
            figures = with_services(raced, measure_races)

            async def measure(services: Services) -> dict[str, Figure]:
                return await measure_backtest(services, running, count)

            figures |= with_services(running, measure)
    sys.exit(0 if report("rules", figures) else 1)


if __name__ == "__main__":
    main()
