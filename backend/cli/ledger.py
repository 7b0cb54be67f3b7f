"""The ledger's commands."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn
from urllib.parse import urljoin

import httpx
import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from backend.audit import audit_books, follow_books, list_alerts
from backend.cli.console import ERR, OUT, CommandError, fail, quiet_logs, running_settings, with_services
from backend.cli.trace import trace
from backend.ledger.sealing import receipts
from backend.ledger.sealing.forms import MAX_BYTES, MalformedError
from backend.mongo.batches import OutlastedError

if TYPE_CHECKING:
    from backend.ledger.audit.findings import Audit
    from backend.ledger.audit.follow_store import Followed
    from backend.runtime import Services

app = typer.Typer(help="The book.", no_args_is_help=True)
app.command()(trace)


@app.callback()
def _group() -> None:
    """The book."""


@app.command()
def audit(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    since_last: Annotated[
        bool, typer.Option("--since-last", help="Only the blocks since the last time, as the worker does each minute.")
    ] = False,
) -> None:
    """Replay the whole book against balances, blocks, actions and claims; exit 1 and say where on any difference."""
    quiet_logs()
    if since_last:
        _audit_new_blocks(as_json=as_json)
    begun = time.monotonic()

    async def run(services: Services) -> Audit:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=ERR, transient=True) as progress:
            task = progress.add_task("replaying the book")

            def show(count: int) -> None:
                rate = round(count / (time.monotonic() - begun))
                progress.update(task, description=f"replayed {count:,} transactions, {rate:,} a second")

            try:
                return await audit_books(services, show)
            except OutlastedError as error:
                raise CommandError(str(error)) from error

    result = with_services(running_settings(), run)
    if as_json:
        OUT.print_json(data={**vars(result), "clean": result.clean})
    else:
        show_audit(result)
    raise typer.Exit(0 if result.clean else 1)


def _audit_new_blocks(*, as_json: bool) -> NoReturn:
    """Follow the book to its last block, and show everything that following ever found."""

    async def run(services: Services) -> tuple[Followed, list[str]]:
        return await follow_books(services), await list_alerts(services)

    followed, alerts = with_services(running_settings(), run)
    if as_json:
        figures = {**vars(followed), "at": followed.at.isoformat() if followed.at else None}
        OUT.print_json(data={**figures, "findings": alerts, "clean": not alerts})
    else:
        OUT.print(f"followed to block {followed.height:,}: {followed.transactions:,} transactions")
        for alert in alerts:
            fail(escape(alert))
        if not alerts:
            OUT.print("[bold green]✓[/] everything adds up")
    raise typer.Exit(1 if alerts else 0)


@app.command()
def seal() -> None:
    """Seal all that waits now, instead of within a minute."""
    quiet_logs()
    made = with_services(running_settings(), lambda services: services.sealing.seal_now())
    OUT.print(f"made {made:,} blocks" if made else "nothing waits")


@app.command()
def verify(
    receipt: Annotated[str, typer.Argument(help="The receipt's file; - reads standard input.")],
    roots: Annotated[
        str | None, typer.Option(help="The published day: a URL or a file. A URL that ends in / is the list of days.")
    ] = None,
    without_roots: Annotated[
        bool, typer.Option(help="Check only what the receipt says of itself: it could still be of anybody's making.")
    ] = False,
) -> None:
    """Check a receipt offline; exit 1 and say what fails where on any difference."""
    if (roots is None) is not without_roots:
        raise typer.BadParameter("give --roots URL|FILE, or --without-roots to trust the receipt's own key")
    text = _read(receipt)
    verdict = receipts.verify(text, None if roots is None else _published_day(roots, receipts.verify(text).height))
    for finding in verdict.findings:
        if finding.holds:
            OUT.print(f"[bold green]✓[/] {finding.check}")
        else:
            fail(f"not so: {finding.check} ({escape(finding.place)})")
    if verdict.holds and verdict.is_final is False:
        OUT.print("the day was not over when these roots were published")
    raise typer.Exit(0 if verdict.holds else 1)


def _published_day(roots: str, height: int | None) -> bytes:
    """The day's document; from a list of days the one with the block of that height."""
    if not roots.startswith(("https://", "http://")):
        return _read(roots)
    document = _fetch(roots)
    if not roots.endswith("/") or height is None:
        return document
    try:
        date = receipts.find_date(document, height)
    except MalformedError as error:
        raise CommandError(f"{roots}: {escape(str(error))}") from error
    if date is None:
        raise CommandError(f"{roots} lists no day with block {height}")
    return _fetch(urljoin(roots, f"{date}.json"))


def _fetch(url: str) -> bytes:
    body = bytearray()
    try:
        with httpx.stream("GET", url, timeout=20, follow_redirects=True) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise CommandError(f"{url} sends more than {MAX_BYTES:,} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CommandError(f"{escape(url)}: {escape(str(error).splitlines()[0])}") from error
    return bytes(body)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{escape(file)}: {error.strerror}") from error


def show_audit(audit: Audit) -> None:
    """Print what was audited and every finding."""
    OUT.print(
        f"audited {audit.transactions:,} transactions, {audit.postings:,} postings, {audit.pages:,} owners' pages, "
        f"{audit.actions:,} credited actions, {audit.blocks:,} blocks"
    )
    for finding in audit.findings:
        fail(escape(finding))
    if audit.differences > len(audit.findings):
        fail(f"and {audit.differences - len(audit.findings):,} more")
    if audit.clean:
        OUT.print("[bold green]✓[/] everything adds up")
