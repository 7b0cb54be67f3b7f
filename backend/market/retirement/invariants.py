"""Checks of certificates beside the book, at one instant.

Each certificate is one RETIRE transaction of exactly its owner, grams, serials and words, and each RETIRE one
certificate; the register's grams of a credit are what the book has retired of it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from backend.kernel.tally import Tally
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.audit.findings import Audit
from backend.ledger.audit.store import find_homes, stream_of_credits
from backend.ledger.model import Purpose, TransactionKind, credit_account
from backend.market.retirement.booking import retirement
from backend.market.retirement.store import stream_certificates

if TYPE_CHECKING:
    from backend.ledger.audit.findings import Side
    from backend.market.retirement.model import Certificate
    from backend.mongo.client import Snapshot

BATCH = 500


async def audit_retirement(snapshot: Snapshot, audit: Audit) -> None:
    """Check all certificates of the snapshot; findings go to ``audit``, whose balances are those of the book."""
    tally = Tally()
    grams = await _pass(snapshot, audit, tally)
    suspects = tally.suspects()
    if suspects:
        await _pass(snapshot, Audit(), suspects)
        for entry, lead in suspects.differences():
            side = "is told by a certificate and not in the book" if lead > 0 else "is of no certificate"
            audit.report(f"transaction {entry.decode(errors='replace')}", side)
    end = f":{Purpose.RETIRED}:"
    booked = {name: amount for name, amount in audit.balances.items() if end in name}
    for account in sorted({*grams, *booked}):
        if grams[account] * MG_PER_GRAM != booked.get(account, 0):
            audit.report(account, f"is {booked.get(account, 0)} mg, certificates tell {grams[account]} grams")


async def _pass(snapshot: Snapshot, audit: Audit, side: Side) -> Counter[str]:
    """Go through certificates and retirements; grams that certificates tell, by account."""
    grams: Counter[str] = Counter()
    batch: list[Certificate] = []
    async for certificate, is_sound in stream_certificates(snapshot, audit):
        if not is_sound:
            audit.report(f"certificate {certificate.id}", "is looked for by other names than it bears")
        grams[credit_account(Purpose.RETIRED, certificate.credit)] += certificate.grams
        batch.append(certificate)
        if len(batch) == BATCH:
            await _check(snapshot, audit, side, batch)
            batch = []
    await _check(snapshot, audit, side, batch)
    async for home in stream_of_credits(snapshot):
        if home.get("kind") == TransactionKind.RETIRE:
            side.add(str(home["_id"]).encode(), -1)
    return grams


async def _check(snapshot: Snapshot, audit: Audit, side: Side, certificates: list[Certificate]) -> None:
    side.add_all(certificate.transaction.encode() for certificate in certificates)
    homes = await find_homes(snapshot, [certificate.transaction for certificate in certificates])
    for certificate in certificates:
        home, told = homes.get(certificate.transaction), retirement(certificate)
        if told.id != certificate.transaction:
            audit.report(f"certificate {certificate.id}", "names another's transaction")
        elif home is not None and (home.get("payload"), home.get("at")) != (told.payload, certificate.at):
            audit.report(f"certificate {certificate.id}", "does not say what the book does")
