"""Checks of statements beside the book, at one instant.

Each statement that is approved or paid stands in the book as it says, and nothing else there settles or pays out.
Whatever moved in merchants' accounts names the merchant, for statements see nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.tally import Tally
from backend.ledger.audit.findings import Audit
from backend.ledger.audit.store import find_homes, stream_of_merchants
from backend.ledger.model import RELEASING, SETTLING, TransactionKind, is_merchant, merchant_owner, split_account
from backend.rewards.settlement.rules import posted
from backend.rewards.settlement.store import stream_statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.ledger.audit.findings import Side
    from backend.mongo.client import Document, Snapshot
    from backend.rewards.settlement.model import Statement

BATCH = 500
UNMOVED = RELEASING | {TransactionKind.HOLD}


async def audit_settlement(snapshot: Snapshot, audit: Audit) -> None:
    """Check all statements of the snapshot; findings go to ``audit``."""
    tally = Tally()
    await _pass(snapshot, audit, tally)
    suspects = tally.suspects()
    if suspects:
        await _pass(snapshot, Audit(), suspects)
        for entry, lead in suspects.differences():
            side = "is told by a statement and not in the book" if lead > 0 else "is of no statement approved or paid"
            audit.report(f"transaction {entry.decode(errors='replace')}", side)


async def _pass(snapshot: Snapshot, audit: Audit, side: Side) -> None:
    batch: list[Statement] = []
    async for statement in stream_statements(snapshot):
        batch.append(statement)
        if len(batch) == BATCH:
            await _check(snapshot, audit, side, batch)
            batch = []
    await _check(snapshot, audit, side, batch)
    async for home in stream_of_merchants(snapshot):
        if home["kind"] in SETTLING:
            side.add(str(home["_id"]).encode(), -1)
        if home["kind"] not in UNMOVED:
            for owner in _unnamed(home):
                audit.report(f"transaction {home['_id']}", f"moves what is {owner}'s and does not name them")


async def _check(snapshot: Snapshot, audit: Audit, side: Side, statements: list[Statement]) -> None:
    told = [one for statement in statements for one in posted(statement)]
    side.add_all(transaction.id.encode() for transaction, _ in told)
    homes = await find_homes(snapshot, [transaction.id for transaction, _ in told])
    for transaction, at in told:
        home = homes.get(transaction.id)
        if home is not None and (home["payload"], home["at"]) != (transaction.payload, at):
            audit.report(f"transaction {transaction.id}", "is not what its statement says")


def _unnamed(home: Document) -> Iterator[str]:
    """Merchants in whose accounts it moves something without naming them."""
    owners = {split_account(posting[end]).owner for posting in home["postings"] for end in ("from", "to")}
    named = merchant_owner(str(home["cause"].get("merchant", "")))
    return (owner for owner in sorted(owners) if is_merchant(owner) and owner != named)
