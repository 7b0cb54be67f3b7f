"""The GraphQL schema's commands: export the text, check it against the committed snapshot."""

from __future__ import annotations

import difflib

import typer

from backend.cli.console import CommandError
from schemas.schema import SNAPSHOT, export_sdl

app = typer.Typer(help="The GraphQL schema.", no_args_is_help=True)


@app.command()
def export() -> None:
    """Write the schema to its snapshot file."""
    SNAPSHOT.write_text(export_sdl(), "utf-8")


@app.command()
def check() -> None:
    """Fail, showing the difference, where the schema is not its snapshot."""
    stored = SNAPSHOT.read_text("utf-8")
    difference = "".join(
        difflib.unified_diff(
            stored.splitlines(keepends=True), export_sdl().splitlines(keepends=True), "schema.graphql", "the code"
        )
    )
    if difference:
        raise CommandError(f"the schema differs from its snapshot; `tanhui schema export` accepts it:\n{difference}")
