"""The ``tanhui`` command: one module per group of commands, composition and presentation only."""

from __future__ import annotations

import sys

import typer

from backend.cli import demo, feeds, ledger, people, rules, schema, serve
from backend.cli.console import ERRORS, fail

app = typer.Typer(
    name="tanhui",
    help="碳惠 Tanhui: a carbon-inclusion points platform.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
serve.add_to(app)
demo.add_to(app)
feeds.add_to(app)
people.add_to(app)
app.add_typer(ledger.app, name="ledger")
app.add_typer(rules.app, name="rules")
app.add_typer(schema.app, name="schema")


def main() -> None:
    """Run the command line; expected errors end it with one sentence and exit code 1."""
    try:
        app()
    except ERRORS as error:
        fail(str(error))
        sys.exit(1)
