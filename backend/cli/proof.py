"""What the demo proves: points that were spent are traced to their acts, and sealed receipts verify offline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from rich.table import Table

from backend.cli.console import OUT
from backend.kernel.clock import local_date
from backend.ledger.sealing import receipts
from backend.ledger.sealing.canonical import moment_of

if TYPE_CHECKING:
    import httpx

    from backend.cli.client import Client
    from backend.kernel.ids import TransactionId
    from backend.runtime import Services

VERIFIER = Path(__file__).parents[2] / "docs" / "verify_receipt.py"


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
    return await check(services, http, url, receipt["document"].encode(), folder)


async def check(services: Services, http: httpx.AsyncClient, url: str, document: bytes, folder: Path) -> bool:
    """Verify a receipt against the published day of its block; whether it holds."""
    block = orjson.loads(document)["block"]
    day = local_date(moment_of(block["sealed_at"]), services.programme.zone)
    answer = await http.get(f"{url}/.well-known/tanhui/roots/{day}.json")
    answer.raise_for_status()
    kept, roots = folder / "receipt.json", folder / "roots.json"
    kept.write_bytes(document)
    roots.write_bytes(answer.content)
    verdict = receipts.verify(document, answer.content)
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
