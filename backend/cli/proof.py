"""The demo's second half: points are held and spent, traced to their acts, sealed, and the receipt verified offline."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from backend.cli.console import OUT
from backend.ledger.model import (
    POINTS,
    HoldRef,
    OwnerId,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
)
from backend.ledger.sealing import receipts

if TYPE_CHECKING:
    import httpx

    from backend.cli.client import Client
    from backend.kernel.ids import CitizenId, TransactionId
    from backend.runtime import Services

PRICE, TAKEN, REFUNDED = 30, 25, 5
SHOP = OwnerId("merchant:cafe")
HELD_FOR = timedelta(minutes=15)
VERIFIER = Path(__file__).parents[2] / "docs" / "verify_receipt.py"


async def spend(services: Services, citizen: CitizenId, phone: Client) -> TransactionId:
    """Hold points for a shop, let it take a part, give some back; the transaction that took them."""
    owner = citizen_owner(citizen)
    ways = account_of(owner, POINTS), account_of(SHOP, POINTS)
    table = Table("step", "balance", "available", "held", title=f"{PRICE} points at a café")

    async def post(step: str, kind: TransactionKind, amount: int, **particulars: Any) -> TransactionId:
        payer, payee = ways if kind is not TransactionKind.REVERSE else ways[::-1]
        posting = Posting(from_account=payer, to_account=payee, asset=POINTS, amount=amount)
        transaction = Transaction(
            key=f"demo:{step}:{owner}", kind=kind, postings=(posting,), cause={"shop": SHOP}, **particulars
        )
        await services.ledger.post(transaction)
        person = (await phone.call("Home", {"first": 1}))["viewer"]
        figures = (person[name] for name in ("pointsBalance", "pointsAvailable", "pointsHeld"))
        table.add_row(step, *(f"{figure:,}" for figure in figures))
        return transaction.id

    held = await post(f"hold {PRICE}", TransactionKind.HOLD, PRICE, expires_at=services.clock.now() + HELD_FOR)
    taken = await post(f"post {TAKEN} of them", TransactionKind.POST, TAKEN, hold=HoldRef(owner, held))
    await post(f"refund {REFUNDED}", TransactionKind.REVERSE, REFUNDED, corrects=taken)
    OUT.print(table)
    return taken


async def trace(phone: Client, transaction: TransactionId) -> int:
    """Show the acts that the points came from; how many acts."""
    found = (await phone.call("Provenance", {"transactionId": transaction}))["provenance"]
    table = Table("points", "act", title="where they came from")
    for origin in found["origins"]:
        table.add_row(f"{origin['amount']:,}", origin["actionId"] or origin["kind"])
    OUT.print(table)
    return len(found["origins"])


async def verify(
    services: Services, http: httpx.AsyncClient, url: str, phone: Client, transaction: TransactionId, folder: Path
) -> bool:
    """Seal the book, fetch the receipt and the published day, verify one against the other; whether it holds."""
    await services.sealing.seal_now()
    receipt = (await phone.call("Receipt", {"transactionId": transaction}))["receipt"]
    answer = await http.get(f"{url}/.well-known/tanhui/roots/{receipt['block']['day']}.json")
    answer.raise_for_status()
    kept, roots = folder / "receipt.json", folder / "roots.json"
    kept.write_text(receipt["document"], encoding="utf-8")
    roots.write_bytes(answer.content)
    verdict = receipts.verify(kept.read_bytes(), roots.read_bytes())
    block = receipt["block"]
    OUT.print(f"sealed in block {block['height']} among {block['size']:,} transactions, root {block['root'][:16]}…")
    for finding in verdict.findings:
        OUT.print(f"{'[bold green]✓[/]' if finding.holds else '[bold red]✗[/]'} {finding.check}")
    return verdict.holds and (not VERIFIER.exists() or _stranger_agrees(kept, roots))


def _stranger_agrees(receipt: Path, roots: Path) -> bool:
    """What the one-file verifier says, which knows nothing of this program."""
    said = subprocess.run(  # noqa: S603 - our own file, by a path of our own
        [sys.executable, "-I", VERIFIER, receipt, roots], capture_output=True, text=True, check=False, timeout=60
    )
    OUT.print(f"docs/verify_receipt.py: {(said.stdout or said.stderr).strip().splitlines()[-1]}", highlight=False)
    return said.returncode == 0
