"""Importing: the same file twice counts once, a run cut off goes on, every row is accounted for."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.feeds.afc import read_afc
from backend.actions.feeds.bikeshare import read_bikeshare
from backend.actions.feeds.model import FeedAct
from backend.actions.feeds.network import load_network
from backend.actions.feeds.samples import SampleSizes, write_samples
from backend.actions.importing import ImportPlan, ImportSummary, digest_of
from backend.actions.store import ActionStore
from backend.audit import audit_books
from backend.cli.feeds import OPERATOR
from backend.identity.model import ExternalId
from backend.kernel.clock import SystemClock, local_date
from backend.kernel.ids import CitizenId
from backend.rules.model import EvidenceTier
from backend.runtime import open_services
from tests.conftest import dump
from tests.integration.conftest import ALL_SHARDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backend.actions.feeds.model import Feed
    from backend.actions.feeds.samples import SampleFiles
    from backend.actions.model import Checkpoint
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from backend.settings import Settings


class Rejects:
    """Remembers rejected rows; fails at the row number ``fails_at`` of its notes, as a full disk would."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.rows: list[tuple[int, str]] = []
        self._fails_at = fails_at

    def write(self, row: int, reason: str, detail: str) -> None:
        if len(self.rows) == self._fails_at:
            raise OSError("no space left on device")
        assert detail
        self.rows.append((row, reason))


class CutOffStore(ActionStore):
    """Loses its server when the second checkpoint is saved: its acts are stored, the checkpoint is not."""

    saves = 0

    async def save_checkpoint(self, file: str, checkpoint: Checkpoint) -> None:
        self.saves += 1
        if self.saves == 2:
            raise ConnectionError("cut off")
        await super().save_checkpoint(file, checkpoint)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> SampleFiles:
    """Samples of the day before yesterday, trips for four batches."""
    folder = tmp_path_factory.mktemp("samples")
    sample_zone = write_samples(folder, seed=1, day=SystemClock().now().date(), citizens=1).zone
    day = local_date(SystemClock().now(), sample_zone) - timedelta(days=2)
    return write_samples(folder, seed=20261121, day=day, citizens=150, sizes=SampleSizes(trips=1_700))


def plan_for(path: Path, **changes: Any) -> ImportPlan:
    plan = ImportPlan(
        principal=OPERATOR,
        source="bike-share",
        digest=digest_of(path),
        tier=EvidenceTier.OPERATOR,
        backfill=False,
        test_citizens=300,
    )
    return replace(plan, **changes)


async def settle_all(services: Services) -> None:
    while await services.settling.settle(ALL_SHARDS):
        pass


async def import_file(
    services: Services, feed: Feed, plan: ImportPlan, rejects: Rejects | None = None
) -> tuple[ImportSummary, Rejects]:
    """Import, settle and add up, as the command does; workers' part is done here."""
    rejects = rejects or Rejects()
    with closing(feed):
        summary = await services.importing.run(feed, plan, rejects)
    await settle_all(services)
    await services.importing.settle(plan, summary, rejects, lambda _: None)
    return summary, rejects


def trips(samples: SampleFiles) -> Feed:
    return read_bikeshare(samples.trips, zone=samples.zone)


def accounted(summary: ImportSummary) -> int:
    return summary.credited + summary.review + summary.duplicate + summary.rejected.total()


def figures(summary: ImportSummary) -> dict[str, Any]:
    return {
        name: getattr(summary, name)
        for name in ("rows", "recorded", "duplicate", "credited", "review", "reduction_mg", "points", "rejected")
    }


async def test_every_row_is_accounted_for_and_the_second_run_changes_nothing(
    services: Services, samples: SampleFiles
) -> None:
    plan = plan_for(samples.trips)
    first, rejects = await import_file(services, trips(samples), plan)
    assert first.rows == accounted(first) > 1_600
    assert first.credited > 1_000
    assert first.recorded > 3 * 500
    # Rows that wait for a person are told beside those rejected.
    waiting = Counter(IMPLAUSIBLE=first.review)
    assert Counter(reason for _, reason in rejects.rows) == first.rejected + waiting
    assert len({row for row, _ in rejects.rows}) == len(rejects.rows)
    before = await dump(services)
    second, again = await import_file(services, trips(samples), plan)
    assert (second.recorded, second.credited, second.points) == (0, 0, 0)
    assert second.duplicate == first.recorded
    assert second.rows == accounted(second) == first.rows
    # What the feed itself rejects is rejected again; what settling rejected is a duplicate now.
    assert set(again.rows) <= set(rejects.rows)
    after = await dump(services)
    for collection in ("actions", "ledger_pages", "ledger_transactions", "claims", "cap_totals", "imports"):
        assert after[collection] == before[collection]
    assert (await audit_books(services)).findings == []


async def test_a_run_that_was_cut_off_ends_in_the_figures_of_one_run(
    services: Services, settings: Settings, clock: ManualClock, samples: SampleFiles
) -> None:
    # So many citizens that no two trips are of one: which of too many, or of two at once, count depends on the order
    # they are settled in.
    plan = plan_for(samples.trips, test_citizens=10_000_000)
    async with open_services(settings.model_copy(update={"database": f"{settings.database}_b"}), clock) as other:
        whole, whole_rejects = await import_file(other, trips(samples), plan)
        await other.database.client.drop_database(other.settings.database)

    with pytest.raises(OSError, match="no space left"), closing(trips(samples)) as feed:
        await services.importing.run(feed, plan, Rejects(fails_at=5))
    services.importing._store = CutOffStore(services.database)
    with pytest.raises(ConnectionError, match="cut off"), closing(trips(samples)) as feed:
        await services.importing.run(feed, plan, Rejects())
    services.importing._store = ActionStore(services.database)
    await settle_all(services)
    checkpoint = await services.importing._store.load_checkpoint(plan.file_key)
    assert checkpoint is not None
    assert checkpoint.items == 500

    summary, rejects = await import_file(services, trips(samples), plan)
    assert figures(summary) == figures(whole)
    assert set(rejects.rows) <= set(whole_rejects.rows)
    assert await services.importing._store.load_checkpoint(plan.file_key) is None
    assert (await audit_books(services)).findings == []


async def test_a_cancelled_run_goes_on_where_it_stopped(services: Services, samples: SampleFiles) -> None:
    plan = plan_for(samples.trips)
    calls, stored = 0, asyncio.Event()
    honest = services.importing._actions.record_many

    async def record_many(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        outcomes = await honest(*arguments, **named)
        if calls == 2:
            stored.set()
            await asyncio.Event().wait()
        return outcomes

    services.importing._actions.record_many = record_many  # type: ignore[method-assign]
    with closing(trips(samples)) as feed:
        task = asyncio.create_task(services.importing.run(feed, plan, Rejects()))
        await stored.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    services.importing._actions.record_many = honest  # type: ignore[method-assign]
    summary, _ = await import_file(services, trips(samples), plan)
    assert summary.rows == accounted(summary)
    assert summary.duplicate == 0
    assert summary.recorded == len((await dump(services))["actions"])


async def test_a_row_twice_in_one_file_is_a_duplicate(services: Services, samples: SampleFiles, tmp_path: Path) -> None:
    doubled = tmp_path / "doubled.csv"
    header, *rows = samples.trips.read_text("utf-8").splitlines()
    doubled.write_text("\n".join([header, *rows[:100], *rows[:100]]) + "\n", "utf-8")
    summary, _ = await import_file(services, read_bikeshare(doubled, zone=samples.zone), plan_for(doubled))
    assert summary.rows == accounted(summary) == 200
    assert summary.duplicate == summary.recorded == len((await dump(services))["actions"])


async def test_whom_nobody_knows_is_not_bound(services: Services, samples: SampleFiles) -> None:
    network = load_network(samples.network_json)
    with closing(read_afc(samples.taps, network)) as feed:
        acts = [item for item in feed if isinstance(item, FeedAct)]
    known = str(acts[0].holder)
    await services.identity.bind({ExternalId("metro-afc", known): CitizenId("alice")})
    plan = plan_for(samples.taps, source="metro-afc", test_citizens=0)
    summary, rejects = await import_file(services, read_afc(samples.taps, network), plan)
    of_alice = [act for act in acts if act.holder == known]
    assert summary.recorded == len(of_alice) > 0
    assert summary.rejected["NOT_BOUND"] == sum(act.rows for act in acts if act.holder != known)
    assert {row for row, reason in rejects.rows if reason == "NOT_BOUND"} == {
        act.row for act in acts if act.holder != known
    }
    assert {document["citizen"] for document in (await dump(services))["actions"]} == {"alice"}
    # Acts without a holder, and nobody named to receive them.
    nobody, _ = await import_file(services, trips(samples), plan_for(samples.trips, test_citizens=0))
    assert (nobody.recorded, nobody.rows) == (0, accounted(nobody))


async def test_old_acts_need_a_backfill(services: Services, samples: SampleFiles, clock: ManualClock) -> None:
    clock.advance(timedelta(days=31))
    refused, _ = await import_file(services, trips(samples), plan_for(samples.trips))
    assert (refused.recorded, refused.credited) == (0, 0)
    assert refused.rejected["TOO_OLD"] > 1_000
    assert (await dump(services))["actions"] == []
    taken, _ = await import_file(services, trips(samples), plan_for(samples.trips, backfill=True))
    assert taken.recorded == refused.rejected["TOO_OLD"]
    assert taken.rows == accounted(taken)
    assert {document["backfill"] for document in (await dump(services))["actions"]} == {True}


async def test_several_importers_of_one_file_count_it_once(services: Services, samples: SampleFiles) -> None:
    plan = plan_for(samples.trips)

    async def run() -> ImportSummary:
        with closing(trips(samples)) as feed:
            return await services.importing.run(feed, plan, Rejects())

    summaries = await asyncio.gather(*(run() for _ in range(3)))
    await settle_all(services)
    stored = len((await dump(services))["actions"])
    assert sum(summary.recorded for summary in summaries) >= stored
    assert (await audit_books(services)).findings == []
    again, _ = await import_file(services, trips(samples), replace(plan, digest="another"))
    assert (again.recorded, again.duplicate) == (0, stored)


def test_a_file_is_known_by_its_bytes_and_a_folder_by_its_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "a.gpx").write_bytes(b"abc")
    assert digest_of(one) == digest_of(two)
    assert digest_of(one / "a.gpx") == digest_of(two / "a.gpx") != digest_of(one)
    (two / "a.gpx").rename(two / "b.gpx")
    assert digest_of(one) != digest_of(two)
    with pytest.raises(FileNotFoundError):
        digest_of(tmp_path / "none")


@pytest.mark.parametrize(
    "make",
    [
        lambda plan: replace(plan, source="other"),
        lambda plan: replace(plan, digest="other"),
        lambda plan: replace(plan, backfill=True),
        lambda plan: replace(plan, test_citizens=7),
        lambda plan: replace(plan, citizen=CitizenId("alice")),
    ],
)
def test_other_work_has_another_checkpoint(tmp_path: Path, make: Callable[[ImportPlan], ImportPlan]) -> None:
    (tmp_path / "file").write_bytes(b"")
    plan = plan_for(tmp_path / "file")
    assert make(plan).file_key != plan.file_key
