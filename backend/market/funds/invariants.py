"""Checks of deposits and payouts beside the book, at one instant.

Every approved deposit and every payout stands in the book as it says, and nothing else there came from the bank or
went to it for citizens, enterprises or pools; payouts under way are held; a line of the bank's statement is of one
deposit or payout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.tally import Tally
from backend.ledger.audit.findings import Audit
from backend.ledger.audit.store import find_homes, find_pages
from backend.ledger.expiry import lapse
from backend.ledger.model import RELEASING
from backend.market.funds import rules
from backend.market.funds.model import OPEN_PAYOUT, Deposit, DepositStage, Payout, PayoutStage
from backend.market.funds.store import stream_deposits, stream_of_bank, stream_payouts, stream_references

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from backend.ledger.audit.findings import Side
    from backend.ledger.model import OwnerId, Page, Transaction
    from backend.mongo.client import Snapshot

BATCH = 500
Fund = Deposit | Payout


async def audit_funds(snapshot: Snapshot, audit: Audit) -> None:
    """Check all deposits and payouts of the snapshot; findings go to ``audit``."""
    tally = Tally()
    await _pass(snapshot, audit, tally)
    suspects = tally.suspects()
    if suspects:
        await _pass(snapshot, Audit(), suspects)
        for entry, lead in suspects.differences():
            side = "is told by a deposit or payout alone" if lead > 0 else "is of no deposit or payout"
            audit.report(entry.decode(errors="replace"), side)


async def _pass(snapshot: Snapshot, audit: Audit, side: Side) -> None:
    async for funds in _batches(snapshot):
        await _check(snapshot, audit, side, funds)
    async for home in stream_of_bank(snapshot):
        side.add(f"transaction {home}".encode(), -1)
    async for reference, of in stream_references(snapshot):
        side.add(f"bank reference {reference} of {of}".encode(), -1)


async def _batches(snapshot: Snapshot) -> AsyncIterator[list[Fund]]:
    batch: list[Fund] = []
    for stream in (stream_deposits(snapshot), stream_payouts(snapshot)):
        async for fund in stream:
            batch.append(fund)
            if len(batch) == BATCH:
                yield batch
                batch = []
    yield batch


async def _check(snapshot: Snapshot, audit: Audit, side: Side, funds: Sequence[Fund]) -> None:
    told = [one for fund in funds for one in _transactions(fund)]
    side.add_all(f"transaction {one.id}".encode() for one in told if one.kind not in RELEASING)
    side.add_all(entry.encode() for fund in funds for entry in _references(fund))
    homes = await find_homes(snapshot, [one.id for one in told])
    for one in told:
        home = homes.get(one.id)
        if home is None and one.kind in RELEASING:
            audit.report(f"transaction {one.id}", "is not in the book, though its payout has ended")
        elif home is not None and home["payload"] != one.payload:
            audit.report(f"transaction {one.id}", "is not what its deposit or payout says")
    payouts = [fund for fund in funds if isinstance(fund, Payout)]
    pages = await find_pages(snapshot, list({payout.owner: None for payout in payouts}))
    for payout in payouts:
        for problem in _holding_problems(payout, pages):
            audit.report(f"payout {payout.id}", problem)


def _transactions(fund: Fund) -> Iterator[Transaction]:
    """All that the book must have of it."""
    if isinstance(fund, Deposit):
        if fund.stage is DepositStage.APPROVED:
            yield rules.depositing(fund)
        return
    yield rules.requesting(fund, fund.expires_at)
    if fund.settled_at is not None:
        yield from rules.settling(fund, fund.expires_at)
    if fund.stage is PayoutStage.PAID:
        yield rules.paying(fund)
    elif fund.stage is PayoutStage.LAPSED:
        yield lapse(*rules.current_hold(fund))
    elif fund.stage not in OPEN_PAYOUT:
        yield rules.freeing(fund)


def _references(fund: Fund) -> Iterator[str]:
    """The line of the bank's statement that is taken by it."""
    is_rejected = isinstance(fund, Deposit) and fund.stage is DepositStage.REJECTED
    if fund.entry is not None and not is_rejected:
        yield f"bank reference {fund.entry.reference} of {fund.id}"


def _holding_problems(payout: Payout, pages: Mapping[OwnerId, Page]) -> Iterator[str]:
    page = pages.get(payout.owner)
    held = {hold.id: (hold.amount, hold.expires_at) for hold in page.holds} if page else {}
    hold = rules.current_hold(payout).id
    if payout.stage not in OPEN_PAYOUT:
        if hold in held:
            yield f"is {payout.stage} and still holds {held[hold][0]} fen"
    elif hold in held:
        if held[hold] != (payout.fen, payout.expires_at):
            yield f"holds {held[hold][0]} fen until {held[hold][1]}, not {payout.fen} until {payout.expires_at}"
    # From its end on the book frees a hold by itself, perhaps before the payout is marked.
    elif page is None or page.at is None or page.at < payout.expires_at:
        yield "is under way and holds nothing"
