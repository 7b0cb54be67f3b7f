"""The ledger's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from backend.audit import audit_books
from backend.cli.console import ERR, OUT, fail, quiet_logs, running_settings, with_services

if TYPE_CHECKING:
    from backend.ledger.invariants import Audit
    from backend.runtime import Services

app = typer.Typer(help="The book.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The book."""


@app.command()
def audit() -> None:
    """Replay the whole book against balances, actions and claims; exit 1 and say where on any difference."""
    quiet_logs()

    async def run(services: Services) -> Audit:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=ERR, transient=True) as progress:
            task = progress.add_task("replaying the book")
            return await audit_books(
                services, lambda count: progress.update(task, description=f"replayed {count:,} transactions")
            )

    result = with_services(running_settings(), run)
    show_audit(result)
    raise typer.Exit(0 if result.clean else 1)


def show_audit(audit: Audit) -> None:
    """Print what was audited and every finding."""
    OUT.print(
        f"audited {audit.transactions:,} transactions, {audit.postings:,} postings, {audit.pages:,} owners' pages, "
        f"{audit.actions:,} credited actions"
    )
    for finding in audit.findings:
        fail(finding)
    if audit.clean:
        OUT.print("[bold green]✓[/] everything adds up")
