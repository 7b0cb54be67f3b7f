"""The rules' commands."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from backend.actions.backtesting.exporting import to_csv, to_parquet
from backend.actions.backtesting.model import GOING, Days, Trial
from backend.cli.console import OUT, CommandError, quiet_logs, running_settings, with_services
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.ids import new_id
from backend.rules.profile import list_shipped_profiles, load_profile, shipped_profile

if TYPE_CHECKING:
    from backend.actions.backtesting.model import Backtest, Result
    from backend.rules.model import Profile
    from backend.runtime import Services

PAUSE_S = 0.2
ProfileArgument = Annotated[str, typer.Argument(help="Code of a shipped profile, or a YAML file.")]
app = typer.Typer(help="Conversion rules.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Conversion rules."""


@app.command()
def lint(profile: ProfileArgument = "conservative") -> None:
    """Check a profile and list its rules with their sources; exit 1 naming the place of the first mistake."""
    loaded = _load(profile)
    table = Table("rule", "kind", "mg/unit", "document", "publisher", "year", title=f"{loaded.code} {loaded.name_zh}")
    for version in loaded.versions:
        source = version.methodology
        factor = str(version.factor) if version.enabled else "off"
        table.add_row(version.rule, version.kind, factor, source.title_zh, source.publisher, str(source.year))
    OUT.print(table)


@app.command()
def publish(profile: ProfileArgument) -> None:
    """Publish what of a profile the running deployment does not have yet; exit 1 where published rules are changed."""
    quiet_logs()
    loaded = _load(profile)

    async def run(services: Services) -> int:
        return await services.rules.publish(loaded, actor="operator:cli")

    count = with_services(running_settings(), run)
    OUT.print(f"published {count} new rule versions of {loaded.code}", highlight=False)


@app.command()
def backtest(
    draft: Annotated[str, typer.Argument(help="Id of a rule draft.")],
    period: Annotated[str, typer.Option(help="First and last local day: 2026-10-01..2026-10-31.")],
    csv: Annotated[Path | None, typer.Option(help="Write all sums to this CSV file.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write all sums to this Parquet file.")] = None,
) -> None:
    """Replay a draft over past acts of the running deployment and compare with what was posted; exit 1 on failure."""
    quiet_logs()
    days = _days(period)
    operator = Principal(PrincipalKind.STAFF, "operator", frozenset({StaffRole.ADMIN}))

    async def run(services: Services) -> Backtest:
        key = new_id("cli", services.clock.now())
        job = await services.backtesting.start(operator, Trial(draft=draft), days, key=key)
        # Beside the workers, and without them where none runs.
        while (job := await services.backtesting.get(job.id)).state in GOING:
            if not await services.backtesting.replay_next():
                await asyncio.sleep(PAUSE_S)
        return job

    job = with_services(running_settings(), run)
    if job.result is None:
        raise CommandError(f"the back-test is {job.state}: {job.failure or 'by somebody else'}")
    for file, write in ((csv, to_csv), (parquet, to_parquet)):
        if file is not None:
            file.write_bytes(write(job.result))
    OUT.print(_compared(job, job.result))


def _days(period: str) -> Days:
    first, _, last = period.partition("..")
    try:
        return Days(date.fromisoformat(first), date.fromisoformat(last) + timedelta(days=1))
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{period} is no period: write 2026-10-01..2026-10-31") from error


def _compared(job: Backtest, result: Result) -> Table:
    """The sums of all acts and of each kind, before and after, and who gains and loses."""
    caption = (
        f"{result.gaining} citizens gain, {result.losing} lose, {result.unchanged} stay; "
        f"{result.to_review} acts would wait for a person; "
        f"{'attached to' if job.attached else 'not attached to'} {job.trial.draft}"
    )
    table = Table("", "acts", "credited", "→", "points", "→", title=job.id, caption=caption)
    for name, sums in (("all", result.total), *((row.name, row.sums) for row in result.kinds)):
        shown = (sums.acts, sums.credited_before, sums.credited_after, sums.points_before, sums.points_after)
        table.add_row(name, *(f"{amount:,}" for amount in shown))
    return table


@app.command("list")
def list_rules() -> None:
    """List the rules in force in the running deployment: version, factor, since when, and when published."""
    quiet_logs()

    async def run(services: Services) -> Table:
        book, now = await services.rules.book(), services.clock.now()
        zone = services.programme.zone
        table = Table(
            "rule", "kind", "mg/unit", "since", "published", title=f"{book.profile}, revision {book.revision}"
        )
        for kind in sorted(book.kinds):
            version = book.version_for(kind, now)
            if version is not None:
                factor = str(version.factor) if version.enabled else "off"
                moments = (
                    f"{moment.astimezone(zone):%Y-%m-%d %H:%M}" if moment else "ever"
                    for moment in (version.valid_from, version.published_at)
                )
                table.add_row(version.name, kind, factor, *moments)
        return table

    OUT.print(with_services(running_settings(), run))


def _load(profile: str) -> Profile:
    if profile in list_shipped_profiles():
        return shipped_profile(profile)
    try:
        return load_profile(Path(profile).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{profile} is neither a shipped profile nor a readable file: {error}") from error
