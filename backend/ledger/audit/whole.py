"""The auditor's door: replays the whole book at one instant and names the first places where it does not add up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from backend.kernel.tally import Suspects, Tally
from backend.ledger.audit.findings import Audit, Nobody
from backend.ledger.audit.replay import Replay, Sides
from backend.ledger.audit.seals import Seals
from backend.ledger.audit.store import find_heights, find_homes
from backend.ledger.model import DEBT, PROGRAMME_ACCOUNTS, AccountId

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.ledger.audit.findings import Side
    from backend.ledger.lots import PointsPolicy
    from backend.mongo.client import Snapshot

LEAF_BYTES = 32


class Explains(Protocol):
    """What earnings are credited for, outside the book."""

    async def testify(self, audit: Audit, earnings: Side) -> None:
        """Add an entry (``earning_entry``) for each earning there must be; called again where they do not agree."""


async def audit_ledger(
    snapshot: Snapshot,
    on_progress: Callable[[int], None] | None = None,
    *,
    policy: PointsPolicy | None = None,
    explains: Explains | None = None,
) -> Audit:
    """Replay every transaction of the snapshot against every page and every block, in constant memory.

    Checks: each document is what its key, its postings and the owner's earlier transactions demand; sequences have no
    gap; pages are what their transactions leave, lots, holds and debts included; copies agree with their homes;
    corrections stay within what they correct; the chain of blocks is whole and signed; every transaction stands in one
    block as it was sealed, or waits once; per asset, all accounts sum to zero. With ``policy``, the terms of what waits
    and the dates of blocks; with ``explains``, that each earning is explained and each explanation has its earning.
    """
    audit = Audit()
    tallies = (Tally(), Tally(), Tally() if explains else None)
    await _pass(snapshot, audit, Sides(*(tally or Nobody() for tally in tallies)), policy, explains, on_progress)
    suspects = [tally.suspects() if tally else None for tally in tallies]
    if any(suspects):
        # The same entries again; what else there is to say has been said.
        await _pass(
            snapshot, Audit(), Sides(*(suspect or Nobody() for suspect in suspects)), policy, explains, on_progress
        )
    copies, seals, earnings = suspects
    for entry, lead in copies.differences() if copies else ():
        audit.report(
            f"transaction {entry.decode().split()[0]}", "is missing" if lead > 0 else "copies a transaction unlike it"
        )
    if seals:
        await _name_unsealed(audit, snapshot, seals)
    for entry, lead in earnings.differences() if earnings else ():
        side = "credited action without it" if lead > 0 else "no credited action explains it"
        audit.report(f"transaction {entry.decode(errors='replace')}", f"{side} ({abs(lead)}×)")
    _check_conservation(audit)
    return audit


async def _pass(
    snapshot: Snapshot,
    audit: Audit,
    sides: Sides,
    policy: PointsPolicy | None,
    explains: Explains | None,
    on_progress: Callable[[int], None] | None,
) -> None:
    await Replay(snapshot, audit, sides).run(on_progress)
    await Seals(snapshot, audit, sides.seals, policy).run()
    if explains:
        await explains.testify(audit, sides.earnings)


async def _name_unsealed(audit: Audit, snapshot: Snapshot, suspects: Suspects) -> None:
    """Say what is odd between the book on one side, blocks and announcements on the other."""
    leads: dict[bytes, list[int]] = {}
    for entry, lead in suspects.differences():
        leads.setdefault(entry[LEAF_BYTES:], []).append(lead)
    for id_bytes, found in leads.items():
        transaction = f"tx_{id_bytes.hex()}"
        heights = await find_heights(snapshot, id_bytes)
        where = f"block {', '.join(heights)}" if heights else "no block"
        if max(found) > 0 > min(found):
            problem = f"is not what {where} sealed"
        elif max(found) > 0:
            problem = f"stands in {where} and does not wait for one"
        elif await find_homes(snapshot, [transaction]):
            problem = f"stands in {where} and waits {-sum(found)} times too often"
        else:
            problem = f"is not in the book and stands in {where}"
        audit.report(f"transaction {transaction}", problem)


def _check_conservation(audit: Audit) -> None:
    totals: Counter[str] = Counter()
    for counter, balance in audit.balances.items():
        totals[PROGRAMME_ACCOUNTS.get(AccountId(counter)) or counter.split(":", 2)[2].removeprefix(DEBT)] += balance
    for asset, total in totals.items():
        if total:
            audit.report(f"asset {asset}", f"all accounts together hold {total} instead of 0")
