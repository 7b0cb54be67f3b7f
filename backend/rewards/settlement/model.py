"""Statements, their lines and what reconciliation finds, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

from backend.kernel.ids import derived_id

if TYPE_CHECKING:
    from datetime import datetime

    from backend.kernel.errors import Text
    from backend.kernel.ids import TransactionId
    from backend.rewards.merchants.model import MerchantId, ShopId

StatementId = NewType("StatementId", str)


class StatementKind(StrEnum):
    """Whether a statement is the period's own, or corrects an earlier one of the same period."""

    REGULAR = "REGULAR"
    CORRECTION = "CORRECTION"


class StatementStage(StrEnum):
    """How far a statement has come. An unreconciled one goes no further until book and vouchers agree."""

    UNRECONCILED = "UNRECONCILED"
    READY = "READY"
    APPROVED = "APPROVED"
    PAID = "PAID"


# Stages in which the statement's amounts stand in the book.
POSTED = frozenset({StatementStage.APPROVED, StatementStage.PAID})


class LineKind(StrEnum):
    """What happened at the counter: something handed over for points, or points given back."""

    CAPTURE = "CAPTURE"
    REFUND = "REFUND"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One transaction of a merchant: points and fen (before commission) it adds, less than zero for a refund."""

    transaction: TransactionId
    at: datetime
    kind: LineKind
    voucher: str
    offer: str
    points: int
    fen: int
    commission_bps: int


@dataclass(frozen=True, slots=True)
class Handover:
    """What a line was about, as its voucher tells: its number, what was handed over, and at which shop."""

    number: str
    title: Text
    shop: ShopId | None


@dataclass(frozen=True, slots=True)
class DetailedLine:
    """A line as people read it: with the voucher's number, what was handed over, and the shop where it is known."""

    line: Line
    number: str
    title: Text
    shop: Text | None


@dataclass(frozen=True, slots=True)
class Sums:
    """How many lines, for how many points, worth how many fen."""

    count: int = 0
    points: int = 0
    fen: int = 0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(self.count + other.count, self.points + other.points, self.fen + other.fen)

    def less(self, other: Sums) -> Sums:
        """This without the other; less than zero where the other is more."""
        return Sums(self.count - other.count, self.points - other.points, self.fen - other.fen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums of a period's lines, all above zero but in a correction, and the commission on them in fen."""

    captures: Sums
    refunds: Sums
    commission_fen: int

    @property
    def points(self) -> int:
        """Points captured less points refunded."""
        return self.captures.points - self.refunds.points

    @property
    def gross_fen(self) -> int:
        """Fen captured less fen refunded, before commission."""
        return self.captures.fen - self.refunds.fen

    @property
    def is_nothing(self) -> bool:
        """Whether nothing happened, or nothing else than was known."""
        return (self.captures, self.refunds, self.commission_fen) == (Sums(), Sums(), 0)

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(
            captures=self.captures.plus(other.captures),
            refunds=self.refunds.plus(other.refunds),
            commission_fen=self.commission_fen + other.commission_fen,
        )

    def less(self, other: Totals) -> Totals:
        """What this has beyond the other."""
        return Totals(
            captures=self.captures.less(other.captures),
            refunds=self.refunds.less(other.refunds),
            commission_fen=self.commission_fen - other.commission_fen,
        )


NOTHING = Totals(captures=Sums(), refunds=Sums(), commission_fen=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What others know beyond a statement: zero everywhere where it is reconciled.

    ``points`` and ``fen``: the merchant's balances in the book less what statements account for. ``captures`` and
    ``refunds``: the vouchers' own records of the period less its statements.
    """

    points: int
    fen: int
    captures: Sums
    refunds: Sums

    @property
    def is_nothing(self) -> bool:
        """Whether all agree."""
        return (self.points, self.fen, self.captures, self.refunds) == (0, 0, Sums(), Sums())


NO_DIFFERENCE = Difference(points=0, fen=0, captures=Sums(), refunds=Sums())


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a merchant is owed for ``since <= time < until``; ``number`` counts a merchant's statements from 1.

    ``brought_forward_fen`` (never above zero) is what statements before this one left the merchant owing.
    ``lines`` says how many lines are listed: of a correction those that no statement of its period listed before.
    ``checksum`` is the SHA-256 of lines and amounts (see ``rules.Tally``). ``corrects`` names a correction's statement,
    ``reason`` says why; ``made_by`` is None where the clock made it. ``explained`` is what the vouchers know beyond the
    book in that period, which a correction's reason accounts for.
    """

    merchant: MerchantId
    number: int
    kind: StatementKind
    since: datetime
    until: datetime
    corrects: StatementId | None
    totals: Totals
    adjustment_fen: int
    reason: str | None
    brought_forward_fen: int
    lines: int
    checksum: str
    stage: StatementStage
    difference: Difference
    made_at: datetime
    made_by: str | None
    explained: Difference = NO_DIFFERENCE
    approved_at: datetime | None = None
    approved_by: str | None = None
    paid_at: datetime | None = None
    paid_by: str | None = None
    bank_reference: str | None = None

    @property
    def id(self) -> StatementId:
        """The id that merchant and number always give."""
        return statement_id(self.merchant, self.number)

    @property
    def asked(self) -> Adjustment | None:
        """What was asked for where it is a correction."""
        if self.reason is None or self.made_by is None:
            return None
        return Adjustment(self.adjustment_fen, self.reason, self.made_by)

    @property
    def explains(self) -> bool:
        """Whether it accounts for what the vouchers know beyond the book."""
        return not self.explained.is_nothing

    @property
    def net_fen(self) -> int:
        """What the period is worth to the merchant: gross less commission, and adjusted."""
        return self.totals.gross_fen - self.totals.commission_fen + self.adjustment_fen

    @property
    def payable_fen(self) -> int:
        """What is paid to the merchant; nothing where the merchant owes more than the period is worth."""
        return max(0, self.brought_forward_fen + self.net_fen)

    @property
    def carried_forward_fen(self) -> int:
        """What the next statement brings forward: nothing, or less."""
        return min(0, self.brought_forward_fen + self.net_fen)


@dataclass(frozen=True, slots=True)
class Adjustment:
    """So many fen more (or less) for a merchant, by hand of staff, and why."""

    fen: int
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Account:
    """How far a merchant is settled: until when, by how many statements, with what carried forward.

    ``version`` counts all that was done with the merchant's statements; whoever does more writes it, so that one comes
    after the other.
    """

    merchant: MerchantId
    settled_until: datetime
    number: int = 0
    carried_fen: int = 0
    version: int = 0


def statement_id(merchant: MerchantId, number: int) -> StatementId:
    """The id of the merchant's statement of that number."""
    return StatementId(derived_id("stm", merchant, str(number)))
