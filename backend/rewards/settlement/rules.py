"""Lines, commission, reconciliation and what settling moves: pure, integers only.

A refund is a line of its own, in the period in which it happened. Commission is floored once for all lines of a
statement at the same rate, towards zero, so that a period of refunds gives back no more than the same captures took.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.kernel.crypto import canonical_json
from backend.kernel.ids import derived_id
from backend.ledger.model import (
    BANK,
    CNY,
    COMMISSION,
    POINTS,
    REDEEMED,
    REWARDS,
    SETTLING,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    merchant_owner,
)
from backend.rewards.merchants.model import BASIS_POINTS
from backend.rewards.settlement.model import (
    NOTHING,
    POSTED,
    Difference,
    Line,
    LineKind,
    StatementStage,
    Sums,
    Totals,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from backend.ledger.model import AccountId, Asset, Posted
    from backend.rewards.merchants.model import MerchantId
    from backend.rewards.settlement.model import Statement

# A transaction takes its time before it commits, which it does within seconds, on clocks that are seconds apart at
# most: so long after its end nothing can be added to a period any more.
REST = timedelta(minutes=15)


def line_of(posted: Posted, merchant: MerchantId) -> Line | None:
    """The statement's line of a transaction; None where it moves none of the merchant's points, or settles them.

    A cause that says no fen counts as none: the vouchers' own records then tell the difference.
    """
    transaction = posted.transaction
    points = _moved(transaction.postings, account_of(merchant_owner(merchant), POINTS))
    if transaction.kind in SETTLING or not points:
        return None
    cause = transaction.cause
    return Line(
        transaction=transaction.id,
        at=posted.at,
        kind=LineKind.CAPTURE if points > 0 else LineKind.REFUND,
        voucher=cause.get("voucher", ""),
        offer=cause.get("offer", ""),
        points=points,
        fen=_number(cause.get("fen", "")),
        commission_bps=_number(cause.get("commission_bps", "")),
    )


def _moved(postings: Sequence[Posting], account: AccountId) -> int:
    """What the postings brought into the account, less what they took out."""
    return sum(
        posting.amount * ((posting.to_account == account) - (posting.from_account == account)) for posting in postings
    )


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() else 0


def commission_fen(gross_fen: int, bps: int) -> int:
    """What the programme keeps of so many fen, or gives back where they are less than zero; floored towards zero."""
    kept = abs(gross_fen) * bps // BASIS_POINTS
    return kept if gross_fen >= 0 else -kept


class Tally:
    """Lines added up one after the other, in constant memory, and their digest."""

    def __init__(self) -> None:
        self.count = 0
        self._sums = {LineKind.CAPTURE: [0, 0, 0], LineKind.REFUND: [0, 0, 0]}
        self._gross: defaultdict[int, int] = defaultdict(int)
        self._digest = hashlib.sha256()

    def add(self, line: Line) -> None:
        """Count one line more, which comes after all those before by time and id."""
        sign = 1 if line.kind is LineKind.CAPTURE else -1
        sums = self._sums[line.kind]
        for position, amount in enumerate((1, sign * line.points, sign * line.fen)):
            sums[position] += amount
        self._gross[line.commission_bps] += line.fen
        self.count += 1
        self._digest.update(canonical_json(_listed(line)) + b"\n")

    def totals(self) -> Totals:
        """The sums of what was added."""
        return Totals(
            captures=Sums(*self._sums[LineKind.CAPTURE]),
            refunds=Sums(*self._sums[LineKind.REFUND]),
            commission_fen=sum(commission_fen(gross, bps) for bps, gross in self._gross.items()),
        )

    def checksum(self, statement: Statement) -> str:
        """SHA-256, hex, of each line's canonical JSON and a line break, and of the statement's own at the end.

        What changes later (stage, who approved and paid) is no part of it.
        """
        digest = self._digest.copy()
        digest.update(canonical_json(_told(statement)))
        return digest.hexdigest()


def _listed(line: Line) -> list[str | int | datetime]:
    return [
        line.transaction,
        line.at,
        line.kind,
        line.voucher,
        line.offer,
        line.points,
        line.fen,
        line.commission_bps,
    ]


def _told(statement: Statement) -> dict[str, object]:
    totals = statement.totals
    return {
        "merchant": statement.merchant,
        "number": statement.number,
        "kind": statement.kind,
        "since": statement.since,
        "until": statement.until,
        "corrects": statement.corrects,
        "captures": _counted(totals.captures),
        "refunds": _counted(totals.refunds),
        "gross_fen": totals.gross_fen,
        "commission_fen": totals.commission_fen,
        "adjustment_fen": statement.adjustment_fen,
        "reason": statement.reason,
        "net_fen": statement.net_fen,
        "brought_forward_fen": statement.brought_forward_fen,
        "payable_fen": statement.payable_fen,
        "explained": [_counted(statement.explained.captures), _counted(statement.explained.refunds)],
    }


def _counted(sums: Sums) -> list[int]:
    return [sums.count, sums.points, sums.fen]


def same_period(others: Iterable[Statement], statement: Statement) -> list[Statement]:
    """Those of the statements that are of the statement's very period."""
    return [other for other in others if (other.since, other.until) == (statement.since, statement.until)]


def known_of_period(others: Iterable[Statement], statement: Statement) -> Totals:
    """What statements of the statement's very period contain already."""
    known = NOTHING
    for other in same_period(others, statement):
        known = known.plus(other.totals)
    return known


def reconcile(
    statement: Statement,
    others: Sequence[Statement],
    *,
    balance_points: int,
    balance_fen: int,
    recorded: tuple[Sums, Sums],
) -> Difference:
    """What book and vouchers know beyond the statement, beside the merchant's ``others``.

    ``balance_points`` is what the merchant's transactions before the statement's end left, less all settlements posted,
    ``balance_fen`` the money account; ``recorded`` are captures and refunds of the period by the vouchers' own records.
    """
    settled = [other for other in others if other.stage in POSTED]
    earlier = [other for other in others if other.until <= statement.until]
    moved_points = balance_points + sum(other.totals.points for other in settled)
    settled_points = statement.totals.points + sum(other.totals.points for other in earlier)
    owed_fen = sum(other.net_fen for other in settled)
    paid_fen = sum(other.payable_fen for other in settled if other.paid_at is not None)
    captures, refunds = recorded
    for known in same_period((*others, statement), statement):
        captures = captures.less(known.totals.captures).less(known.explained.captures)
        refunds = refunds.less(known.totals.refunds).less(known.explained.refunds)
    return Difference(
        points=moved_points - settled_points,
        fen=balance_fen - (owed_fen - paid_fen),
        captures=captures,
        refunds=refunds,
    )


def settling_postings(statement: Statement) -> tuple[Posting, ...]:
    """What approving moves: points handed back, money owed for them, commission kept; each the other way below zero."""
    owner = merchant_owner(statement.merchant)
    purse = account_of(owner, CNY)
    amounts = (
        (account_of(owner, POINTS), REDEEMED, POINTS, statement.totals.points),
        (REWARDS, purse, CNY, statement.totals.gross_fen + statement.adjustment_fen),
        (purse, COMMISSION, CNY, statement.totals.commission_fen),
    )
    return tuple(_posting(payer, payee, asset, amount) for payer, payee, asset, amount in amounts if amount)


def _posting(payer: AccountId, payee: AccountId, asset: Asset, amount: int) -> Posting:
    if amount < 0:
        payer, payee = payee, payer
    return Posting(from_account=payer, to_account=payee, asset=asset, amount=abs(amount))


def settling(statement: Statement) -> Transaction:
    """What approving the statement posts, where it moves anything."""
    return _transaction(statement, TransactionKind.SETTLE, settling_postings(statement))


def payout(statement: Statement) -> Transaction:
    """What paying the statement posts, where anything is payable."""
    purse = account_of(merchant_owner(statement.merchant), CNY)
    postings = (_posting(purse, BANK, CNY, statement.payable_fen),) if statement.payable_fen else ()
    return _transaction(statement, TransactionKind.PAYOUT, postings)


def _transaction(statement: Statement, kind: TransactionKind, postings: tuple[Posting, ...]) -> Transaction:
    return Transaction(
        key=derived_id(kind.lower(), statement.id),
        kind=kind,
        postings=postings,
        cause={"merchant": statement.merchant, "statement": statement.id},
    )


def posted(statement: Statement) -> list[tuple[Transaction, datetime | None]]:
    """What the book must have of the statement as it stands, and since when."""
    steps = [(settling(statement), statement.approved_at)] if statement.stage in POSTED else []
    if statement.stage is StatementStage.PAID:
        steps.append((payout(statement), statement.paid_at))
    return [(transaction, at) for transaction, at in steps if transaction.postings]
