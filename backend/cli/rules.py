"""The rules' commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from backend.cli.console import OUT
from backend.rules.profile import list_shipped_profiles, load_profile, shipped_profile

app = typer.Typer(help="Conversion rules.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Conversion rules."""


@app.command()
def lint(
    profile: Annotated[str, typer.Argument(help="Code of a shipped profile, or a YAML file.")] = "conservative",
) -> None:
    """Check a profile and list its rules with their sources; exit 1 naming the place of the first mistake."""
    loaded = (
        shipped_profile(profile)
        if profile in list_shipped_profiles()
        else load_profile(Path(profile).read_text("utf-8"))
    )
    table = Table("rule", "kind", "mg/unit", "document", "publisher", "year", title=f"{loaded.code} {loaded.name_zh}")
    for version in loaded.versions:
        source = version.methodology
        factor = str(version.factor) if version.enabled else "off"
        table.add_row(version.rule, version.kind, factor, source.title_zh, source.publisher, str(source.year))
    OUT.print(table)
