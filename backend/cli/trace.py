"""``tanhui ledger trace``: where a transaction's amounts came from and where they went, for staff."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from backend.cli.console import ERR, OUT, CommandError, quiet_logs, running_settings, with_services
from backend.kernel.crypto import canonical_json
from backend.kernel.ids import TransactionId
from backend.ledger.attribution import UntraceableError
from backend.ledger.model import POINTS, QUANTIFIED, RECOGNISED, Asset
from backend.ledger.provenance import Origin, Provenance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend.ledger.model import Posting
    from backend.ledger.provenance import Fate, Trace, Use
    from backend.runtime import Services

# A command may take minutes where a request may take a second: about a gigabyte of memory.
MAX_STEPS = 5_000_000
TRACEABLE = (POINTS, QUANTIFIED, RECOGNISED)


def trace(
    transaction: Annotated[str, typer.Argument(help="Id of the transaction.")],
    asset: Annotated[str, typer.Option(help="points, co2e.quantified, co2e.recognised …")] = POINTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of tables.")] = False,
) -> None:
    """Trace a transaction's amounts back to the acts they came from and forward to where they went."""
    quiet_logs()
    if asset not in TRACEABLE:
        raise typer.BadParameter(f"{asset!r} is none of {', '.join(TRACEABLE)}", param_hint="--asset")

    async def run(services: Services) -> tuple[Trace, Fate] | None:
        provenance = Provenance(services.database, limit=MAX_STEPS)
        return await provenance.trace(TransactionId(transaction), asset=Asset(asset))

    try:
        with ERR.status("following the units"):
            found = with_services(running_settings(), run)
    except UntraceableError as error:
        raise CommandError(f"{escape(str(error))}: `tanhui ledger audit` names what is damaged") from error
    if found is None:
        raise CommandError(f"no transaction {escape(transaction)}")
    if as_json:
        back, forward = (dataclasses.asdict(part) for part in found)
        typer.echo(canonical_json({**back, "asset": asset, "credits": forward["credits"]}).decode())
    else:
        _show(*found)


def _show(back: Trace, forward: Fate) -> None:
    OUT.print(f"{back.kind} {back.transaction}", highlight=False)
    if not back.parts:
        OUT.print("moves nothing of this asset to or from a citizen or an enterprise")
    for part in back.parts:
        _print_rows(f"{_said(part.posting)}, which came from", part.origins)
    for credit in forward.credits:
        _print_rows(f"{_said(credit.posting)}, of which {credit.unspent:,} are there still", credit.uses)
        if credit.onward:
            _print_rows("and from there", credit.onward)


def _said(posting: Posting) -> str:
    return f"{posting.amount:,} {posting.asset} from {posting.from_account} to {posting.to_account}"


def _print_rows(title: str, rows: Iterable[Origin | Use]) -> None:
    table = Table(
        "amount", "kind", "transaction", "act or account", "through", title=escape(title), title_justify="left"
    )
    for row in rows:
        place = (row.action if isinstance(row, Origin) else row.to_account) or ""
        table.add_row(f"{row.amount:,}", row.kind, row.transaction, escape(place), "\n".join(row.through))
    OUT.print(table)
