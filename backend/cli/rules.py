"""The rules' commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from backend.cli.console import OUT, CommandError, quiet_logs, running_settings, with_services
from backend.rules.profile import list_shipped_profiles, load_profile, shipped_profile

if TYPE_CHECKING:
    from backend.rules.model import Profile
    from backend.runtime import Services

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
