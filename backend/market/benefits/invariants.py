"""Checks of benefit rounds beside the book and the contributions, at one instant.

Every round has what its stage asks for; two who are not the same proposed and approved it, at the rate that the book
has sealed with each payment. It has paid what the shares give, to whom its cursor has passed and nobody else; every
payment stands in the book as it says, and no other benefit does; points over all rounds are what the fen are worth but
for the carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.tally import Tally
from backend.ledger.audit.findings import Audit
from backend.ledger.audit.store import find_homes
from backend.market.benefits.documents import round_to_document
from backend.market.benefits.model import Paid, RoundStage
from backend.market.benefits.rules import MAX_POINTS_PER_YUAN, Sharing, convert, cut, tallied, told
from backend.market.benefits.store import stream_payments, stream_posted, stream_round, stream_rounds, stream_shares
from backend.market.funds.store import UNREADABLE
from backend.market.pooling.model import Benefit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from backend.ledger.audit.findings import Side
    from backend.ledger.model import Transaction
    from backend.market.benefits.model import Payment, Round, RoundId
    from backend.mongo.client import Document, Snapshot

    Rounds = dict[RoundId, Round]
    Told = tuple[Payment, Transaction]

BATCH = 500


async def audit_benefits(snapshot: Snapshot, audit: Audit) -> None:
    """Check all rounds and payments of the snapshot; findings go to ``audit``."""
    rounds: Rounds = {}
    async for one, document in stream_rounds(snapshot, audit):
        rounds[one.id] = one
        for problem in _form_problems(one, document):
            audit.report(f"benefit round {one.id}", problem)
    for one in rounds.values():
        try:
            async for problem in _round_problems(snapshot, one):
                audit.report(f"benefit round {one.id}", problem)
        except (ArithmeticError, *UNREADABLE) as error:
            audit.report(f"benefit round {one.id}", f"has shares that cannot be read: {error}")
    await _check_carries(snapshot, audit, rounds)
    tally = Tally()
    await _pass(snapshot, audit, tally, rounds)
    suspects = tally.suspects()
    if suspects:
        await _pass(snapshot, Audit(), suspects, rounds)
        for entry, lead in suspects.differences():
            side = "is told by a benefit payment alone" if lead > 0 else "is of no benefit payment"
            audit.report(f"transaction {entry.decode(errors='replace')}", side)


def _form_problems(one: Round, document: Document) -> Iterator[str]:
    """In what a round has not what its stage asks for."""
    if one.points_per_yuan > MAX_POINTS_PER_YUAN:
        yield f"gives {one.points_per_yuan} points for a yuan"
    is_decided = one.stage is not RoundStage.PROPOSED
    if (one.decided_by is not None, one.decided_at is not None) != (is_decided, is_decided):
        yield f"is {one.stage} and was decided on at {one.decided_at} by {one.decided_by}"
    # Whoever proposed a round may take it back.
    elif one.stage in {RoundStage.RUNNING, RoundStage.DONE} and one.decided_by == one.proposed_by:
        yield f"was proposed and approved by {one.proposed_by}"
    if (one.done_at is not None) is not (one.stage is RoundStage.DONE):
        yield f"is {one.stage} and was done at {one.done_at}"
    if round_to_document(one) != document:
        yield "is open where its stage says that it is over, or over where it is open"


async def _round_problems(snapshot: Snapshot, one: Round) -> AsyncIterator[str]:
    """In what the round's payments are not what the shares give."""
    paid, due = Paid(), _due(snapshot, one)
    # What cannot be read is told where all payments are read.
    async for payment in stream_round(snapshot, Audit(), one):
        paid = tallied(paid, [payment])
        expected = await anext(due, None)
        found = (payment.citizen, payment.grams, payment.choice, payment.fen)
        if (payment.batch, payment.number) != (one.batch, one.number):
            yield f"paid {payment.citizen} for {payment.batch} number {payment.number}"
        if found != expected:
            yield f"paid {_worded(found)}, the shares give {_worded(expected)}"
            return
    expected = await anext(due, None)
    if expected is not None:
        yield f"did not pay {_worded(expected)}"
    if paid != one.paid:
        yield f"says that it paid {one.paid.total_fen} fen and {one.paid.points} points, paid {paid}"
    if one.stage is RoundStage.DONE and paid.total_fen != one.fen:
        yield f"is done and paid {paid.total_fen} of {one.fen} fen"


def _worded(due: tuple[str, int, Benefit, int] | None) -> str:
    return f"{due[0]} {due[3]} fen for {due[1]} grams ({due[2]})" if due else "nothing more"


async def _due(snapshot: Snapshot, one: Round) -> AsyncIterator[tuple[str, int, Benefit, int]]:
    """Whom the round must have paid so far: citizen, grams, as what, fen."""
    if one.stage in {RoundStage.PROPOSED, RoundStage.REJECTED}:
        return
    weights = [share.grams async for share in stream_shares(snapshot, one.batch)]
    if not weights:
        return
    sharing = Sharing(cut(one.fen, weights))
    async for share in stream_shares(snapshot, one.batch):
        fen = sharing.part_of(share.grams)
        if fen and (one.stage is RoundStage.DONE or share.citizen <= one.cursor):
            yield share.citizen, share.grams, share.choice, fen


async def _check_carries(snapshot: Snapshot, audit: Audit, rounds: Rounds) -> None:
    """Points of one citizen and batch over all rounds."""
    before: tuple[str, str] = ("", "")
    carry = 0
    async for payment in stream_payments(snapshot, audit):
        whose = (payment.batch, payment.citizen)
        carry, before = (carry if whose == before else 0), whose
        one = rounds.get(payment.round)
        if one is None:
            audit.report(f"benefit payment {payment.id}", "is of no round")
            continue
        for problem in _point_problems(payment, one, carry):
            audit.report(f"benefit payment {payment.id}", problem)
        carry = payment.carry


def _point_problems(payment: Payment, one: Round, carry: int) -> Iterator[str]:
    due = (0, 0) if payment.choice is Benefit.FEN else convert(payment.fen, one.points_per_yuan, carry)
    if (payment.points, payment.carry) != due:
        yield f"gave {payment.points} points and carries {payment.carry}, not {due[0]} and {due[1]}"


async def _pass(snapshot: Snapshot, audit: Audit, side: Side, rounds: Rounds) -> None:
    batch: list[Told] = []
    async for payment in stream_payments(snapshot, Audit()):
        one = rounds.get(payment.round)
        # Of a round that nobody approved the book can have nothing.
        if one is None or one.decided_by is None:
            continue
        batch.append((payment, told(one, payment)))
        if len(batch) == BATCH:
            await _check_book(snapshot, audit, side, batch)
            batch = []
    await _check_book(snapshot, audit, side, batch)
    async for home in stream_posted(snapshot):
        side.add(home.encode(), -1)


async def _check_book(snapshot: Snapshot, audit: Audit, side: Side, payments: Sequence[Told]) -> None:
    side.add_all(transaction.id.encode() for _, transaction in payments)
    homes = await find_homes(snapshot, [transaction.id for _, transaction in payments])
    for payment, transaction in payments:
        home = homes.get(transaction.id)
        if payment.transaction != transaction.id:
            audit.report(f"benefit payment {payment.id}", f"names {payment.transaction}, which is another transaction")
        if home is not None and (home.get("payload"), home.get("at")) != (transaction.payload, payment.at):
            audit.report(f"transaction {transaction.id}", "is not what its benefit payment says")
