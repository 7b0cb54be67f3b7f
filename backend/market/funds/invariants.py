"""Checks of enterprises, deposits and payouts beside the book, at one instant.

An enterprise stands where its steps lead. Each record has what its stage asks for; two who are not the same proposed
and approved it, as the book has sealed. Every approved deposit and every payout stands in the book as it says, and
nothing else there came from the bank or went to it for citizens, enterprises or pools; payouts under way are held; a
line of the bank's statement is of one deposit or payout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.credit_codes import is_credit_code
from backend.kernel.tally import Tally
from backend.ledger.audit.findings import Audit
from backend.ledger.audit.store import find_homes, find_pages
from backend.ledger.expiry import lapse
from backend.ledger.model import RELEASING
from backend.market.funds import rules
from backend.market.funds.documents import enterprise_to_document
from backend.market.funds.model import (
    OPEN_PAYOUT,
    Deposit,
    DepositStage,
    EnterpriseStage,
    EnterpriseStep,
    Payout,
    PayoutStage,
    account_of_owner,
)
from backend.market.funds.store import (
    stream_deposits,
    stream_enterprises,
    stream_of_bank,
    stream_payouts,
    stream_references,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from backend.ledger.audit.findings import Side
    from backend.ledger.model import OwnerId, Page, Transaction
    from backend.market.funds.model import Enterprise
    from backend.mongo.client import Document, Snapshot

BATCH = 500
Fund = Deposit | Payout
# Of these, who decides must not be who registered the enterprise.
DECIDING = frozenset({EnterpriseStep.APPROVE, EnterpriseStep.REJECT})


async def audit_funds(snapshot: Snapshot, audit: Audit) -> None:
    """Check all enterprises, deposits and payouts of the snapshot; findings go to ``audit``."""
    firms = set()
    async for enterprise, document in stream_enterprises(snapshot, audit):
        firms.add(enterprise.id)
        for problem in _enterprise_problems(enterprise, document):
            audit.report(f"enterprise {enterprise.id}", problem)
    async for funds in _batches(snapshot, audit):
        for fund in funds:
            firm = account_of_owner(fund.owner).enterprise
            problems = list(_deposit_problems(fund) if isinstance(fund, Deposit) else _payout_problems(fund))
            for problem in problems if firm is None or firm in firms else [*problems, f"is of no enterprise: {firm}"]:
                audit.report(_named(fund), problem)
    tally = Tally()
    await _pass(snapshot, audit, tally)
    suspects = tally.suspects()
    if suspects:
        await _pass(snapshot, Audit(), suspects)
        for entry, lead in suspects.differences():
            side = "is told by a deposit or payout alone" if lead > 0 else "is of no deposit or payout"
            audit.report(entry.decode(errors="replace"), side)


def _named(fund: Fund) -> str:
    return f"{'deposit' if isinstance(fund, Deposit) else 'payout'} {fund.id}"


def _enterprise_problems(enterprise: Enterprise, document: Document) -> Iterator[str]:
    """In what an enterprise is not what staff did with it."""
    if not is_credit_code(enterprise.credit_code):
        yield f"has the credit code {enterprise.credit_code}, which is none"
    if not enterprise.steps or enterprise.steps[0].step is not EnterpriseStep.REGISTER:
        yield "was never registered"
        return
    stage = EnterpriseStage.PROPOSED
    for taken in enterprise.steps[1:]:
        if stage not in rules.FROM_STAGES.get(taken.step, ()):
            yield f"was {stage} when {taken.actor} took the step {taken.step}"
            return
        stage = rules.TO_STAGE[taken.step]
        if taken.step in DECIDING and taken.actor == enterprise.proposed_by:
            yield f"was registered and decided on by {taken.actor}"
    if stage is not enterprise.stage:
        yield f"is {enterprise.stage}, its steps leave it {stage}"
    if enterprise_to_document(enterprise) != document:
        yield "is not stored as its steps and its code say"


def _deposit_problems(deposit: Deposit) -> Iterator[str]:
    """In what a deposit has not what its stage asks for."""
    if deposit.stage is DepositStage.PROPOSED:
        if deposit.decided_by is not None or deposit.decided_at is not None:
            yield "waits and was decided on"
        return
    if deposit.decided_by is None or deposit.decided_at is None:
        yield f"is {deposit.stage} and nobody decided on it"
    elif deposit.decided_by == deposit.proposed_by:
        yield f"was proposed and decided on by {deposit.decided_by}"


def _payout_problems(payout: Payout) -> Iterator[str]:
    """In what a payout has not what its stage asks for."""
    recorded = (payout.settled_at is not None, payout.settled_by is not None)
    has_record = {
        PayoutStage.REQUESTED: {False},
        PayoutStage.CANCELLED: {False},
        PayoutStage.SETTLING: {True},
        PayoutStage.PAID: {True},
    }.get(payout.stage, {False, True})
    if len(set(recorded)) > 1 or recorded[0] not in has_record:
        yield f"is {payout.stage} and its transfer was recorded at {payout.settled_at} by {payout.settled_by}"
    if (payout.entry is not None) is not (payout.stage in {PayoutStage.SETTLING, PayoutStage.PAID}):
        yield f"is {payout.stage} with {payout.entry} of the bank's statement"
    decided = (payout.decided_at is not None, payout.decided_by is not None)
    # What nobody worked off ends by nobody.
    if decided != (payout.stage not in OPEN_PAYOUT, payout.stage not in OPEN_PAYOUT | {PayoutStage.LAPSED}):
        yield f"is {payout.stage} and was decided on at {payout.decided_at} by {payout.decided_by}"
    if payout.decided_by is not None and payout.decided_by == payout.settled_by:
        yield f"was recorded and decided on by {payout.decided_by}"
    if payout.stage is PayoutStage.CANCELLED and payout.decided_by != payout.owner:
        yield f"was cancelled by {payout.decided_by}, not by its owner"


async def _pass(snapshot: Snapshot, audit: Audit, side: Side) -> None:
    # What cannot be read has been told before.
    async for funds in _batches(snapshot, Audit()):
        await _check(snapshot, audit, side, funds)
    async for home in stream_of_bank(snapshot):
        side.add(f"transaction {home}".encode(), -1)
    async for reference, of in stream_references(snapshot, audit):
        side.add(f"bank reference {reference} of {of}".encode(), -1)


async def _batches(snapshot: Snapshot, audit: Audit) -> AsyncIterator[list[Fund]]:
    batch: list[Fund] = []
    for stream in (stream_deposits(snapshot, audit), stream_payouts(snapshot, audit)):
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
        elif home is not None and home.get("payload") != one.payload:
            audit.report(f"transaction {one.id}", "is not what its deposit or payout says")
    payouts = [fund for fund in funds if isinstance(fund, Payout)]
    pages = await find_pages(snapshot, list({payout.owner: None for payout in payouts}))
    for payout in payouts:
        for problem in _holding_problems(payout, pages):
            audit.report(_named(payout), problem)
        paid = rules.paying(payout).id if _is_paid(payout) else None
        if payout.transaction != paid:
            audit.report(_named(payout), f"names {payout.transaction} as what paid it, not {paid}")


def _is_paid(payout: Payout) -> bool:
    """Whether it is paid and has all that its transaction tells."""
    is_told = None not in {payout.entry, payout.settled_by, payout.decided_by}
    return payout.stage is PayoutStage.PAID and is_told


def _transactions(fund: Fund) -> Iterator[Transaction]:
    """All that the book must have of it."""
    if isinstance(fund, Deposit):
        if fund.stage is DepositStage.APPROVED and fund.decided_by is not None:
            yield rules.depositing(fund)
        return
    yield rules.requesting(fund, fund.expires_at)
    if fund.settled_at is not None:
        yield from rules.settling(fund, fund.expires_at)
    if fund.stage is PayoutStage.PAID:
        if _is_paid(fund):
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
