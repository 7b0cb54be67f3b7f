"""``tanhui import``: a partner's file into the books, with progress, rejects and a summary."""

from __future__ import annotations

import asyncio
import csv
import tempfile
from contextlib import ExitStack, closing
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from backend.actions.feeds.afc import AfcFeed, read_afc
from backend.actions.feeds.bikeshare import read_bikeshare
from backend.actions.feeds.network import load_network
from backend.actions.feeds.track import read_tracks
from backend.actions.importing import ImportPlan, ImportSummary, digest_of
from backend.audit import audit_books
from backend.cli.console import ERR, OUT, CommandError, grams, quiet_logs, running_settings, with_services
from backend.cli.ledger import show_audit
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.ids import CitizenId
from backend.rules.model import EvidenceTier
from backend.settings import Environment, Settings
from backend.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from backend.actions.feeds.model import Feed
    from backend.ledger.audit.findings import Audit
    from backend.runtime import Services

OPERATOR = Principal(PrincipalKind.STAFF, "import", frozenset({StaffRole.ADMIN}))
SETTLE_TIMEOUT_S = 600
TEST_CITIZENS = 2_000


class FeedName(StrEnum):
    """The formats that can be read."""

    SHENZHEN_AFC = "shenzhen-afc"
    BIKESHARE = "bikeshare"
    TRACK = "track"


SOURCES = {FeedName.SHENZHEN_AFC: "metro-afc", FeedName.BIKESHARE: "bike-share", FeedName.TRACK: "track"}
TIERS = {
    FeedName.SHENZHEN_AFC: EvidenceTier.OPERATOR,
    FeedName.BIKESHARE: EvidenceTier.OPERATOR,
    FeedName.TRACK: EvidenceTier.DEVICE,
}


class RejectsFile:
    """A CSV of rejected rows: row number, reason code, sentence. Made only when there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._resources = ExitStack()
        self._writer: Any = None

    def write(self, row: int, reason: str, detail: str) -> None:
        """Append one row."""
        if self._writer is None:
            file = self._resources.enter_context(self.path.open("w", encoding="utf-8", newline=""))
            self._writer = csv.writer(file)
            self._writer.writerow(["row", "reason", "detail"])
        self._writer.writerow([row, reason, detail])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()


def import_feed(
    feed: Annotated[FeedName, typer.Argument(help="Format of the file.")],
    file: Annotated[Path, typer.Argument(exists=True, help="The file; for tracks also a folder.")],
    network: Annotated[
        Path | None, typer.Option(exists=True, help="Station network of shenzhen-afc (CSV or JSON).")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
    rejects: Annotated[Path | None, typer.Option(help="Rejected rows; default beside the file's name here.")] = None,
    standalone: Annotated[
        bool, typer.Option(help="On a temporary stack of its own; implies --backfill and test citizens.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Keep the standalone stack's data in this folder.")] = None,
    backfill: Annotated[bool, typer.Option(help="Accept acts older than the intake window (leaves a trace).")] = False,
    assign: Annotated[int, typer.Option(min=0, help="Spread acts without user over so many test citizens.")] = 0,
    citizen: Annotated[str | None, typer.Option(help="The citizen who uploads the tracks.")] = None,
    source: Annotated[str | None, typer.Option(help="The source the acts are recorded from.")] = None,
) -> None:
    """Import a partner's file: idempotent, resumable, through the same service as GraphQL."""
    quiet_logs()
    if feed is FeedName.SHENZHEN_AFC and network is None:
        raise CommandError("shenzhen-afc measures rides over the station network: give --network FILE")
    if standalone and citizen is None:
        assign = assign or TEST_CITIZENS
    if assign and Settings().env is not Environment.DEV:
        raise CommandError("test citizens exist only where TANHUI_ENV=dev")
    plan = ImportPlan(
        principal=OPERATOR,
        source=source or SOURCES[feed],
        digest=digest_of(file, *((network,) if network else ())),
        tier=TIERS[feed],
        backfill=backfill or standalone,
        citizen=CitizenId(citizen) if citizen else None,
        test_citizens=assign,
    )
    with ExitStack() as resources:
        settings = _settings(resources, data) if standalone else running_settings()
        rejects_file = resources.enter_context(RejectsFile(rejects or Path(f"{file.name}.rejects.csv")))
        work = _Import(feed, file, network, plan, rejects_file, audited=standalone)
        figures, audit = with_services(settings, work.run)
    _show(figures, rejects_file)
    if json is not None:
        json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    if audit is not None:
        show_audit(audit)
        raise typer.Exit(0 if audit.clean else 1)


def _settings(resources: ExitStack, data: Path | None) -> Settings:
    folder = data or Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="tanhui-import-")))
    settings = Settings().model_copy(update={"data_dir": folder})
    return resources.enter_context(running_stack(settings, workers=2, roles=("worker", "beat"))).settings


class _Import:
    """One import with its progress bars."""

    def __init__(
        self, feed: FeedName, file: Path, network: Path | None, plan: ImportPlan, rejects: RejectsFile, *, audited: bool
    ) -> None:
        self._feed = feed
        self._file = file
        self._network = network
        self._plan = plan
        self._rejects = rejects
        self._audited = audited

    async def run(self, services: Services) -> tuple[dict[str, Any], Audit | None]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with ExitStack() as resources:
            progress = resources.enter_context(Progress(*columns, console=ERR, transient=True))
            reading = progress.add_task("reading")
            feed = resources.enter_context(
                closing(self._open(services, lambda position: progress.update(reading, completed=position)))
            )
            progress.update(reading, total=feed.total_bytes)
            summary = await services.importing.run(feed, self._plan, self._rejects)
            settling = progress.add_task("settling", total=summary.recorded)
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                await services.importing.settle(
                    self._plan,
                    summary,
                    self._rejects,
                    lambda pending: progress.update(settling, completed=summary.recorded - pending),
                )
            audit = await audit_books(services) if self._audited else None
        return _figures(summary, feed), audit

    def _open(self, services: Services, on_progress: Callable[[int], None]) -> Feed:
        if self._feed is FeedName.TRACK:
            return read_tracks(self._file, now=services.clock.now(), on_progress=on_progress)
        if self._feed is FeedName.BIKESHARE:
            return read_bikeshare(self._file, on_progress=on_progress)
        assert self._network is not None
        return read_afc(self._file, load_network(self._network), on_progress=on_progress)


def _figures(summary: ImportSummary, feed: Feed) -> dict[str, Any]:
    figures = {
        "rows": summary.rows,
        "recorded": summary.recorded,
        "duplicate": summary.duplicate,
        "credited": summary.credited,
        "review": summary.review,
        "rejected": dict(summary.rejected),
        "reduction_mg": summary.reduction_mg,
        "points": summary.points,
    }
    return {**figures, **asdict(feed.statistics)} if isinstance(feed, AfcFeed) else figures


def _show(figures: dict[str, Any], rejects: RejectsFile) -> None:
    table = Table("what", "figure", title="import")
    for name, value in figures.items():
        if name == "rejected":
            for reason, count in sorted(value.items()):
                table.add_row(f"rejected: {reason}", f"{count:,}")
        else:
            table.add_row(name, grams(value) if name == "reduction_mg" else f"{value:,}")
    OUT.print(table)
    if rejects.path.exists():
        OUT.print(f"rejected rows: {rejects.path}")


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command("import")(import_feed)
