"""Why the book refuses a transaction."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal, Text


@dataclass(eq=False)
class InsufficientFundsError(Refusal):
    """A guarded account would fall below zero."""

    account: str
    needed: int
    available: int

    code = "INSUFFICIENT_FUNDS"
    zh = "余额不足：需要 {needed}，可用 {available}"
    en = "insufficient balance: {needed} needed, {available} available"


@dataclass(eq=False)
class HoldNotActiveError(Refusal):
    """There is no such hold, or it has been posted, voided or lapsed already."""

    hold: str

    code = "HOLD_NOT_ACTIVE"
    zh = "冻结 {hold} 不存在或已结束"
    en = "hold {hold} does not exist or has ended"


@dataclass(eq=False)
class HoldExpiredError(Refusal):
    """The hold's time is over, whether or not anything has set it free yet."""

    hold: str

    code = "HOLD_EXPIRED"
    zh = "冻结 {hold} 已过期"
    en = "hold {hold} has expired"


@dataclass(eq=False)
class HoldExceededError(Refusal):
    """More is to be taken from a hold than is left of it."""

    hold: str
    needed: int
    held: int

    code = "HOLD_EXCEEDED"
    zh = "冻结 {hold} 仅余 {held}，不足 {needed}"
    en = "hold {hold} has {held} left, not {needed}"


@dataclass(eq=False)
class TooManyHoldsError(Refusal):
    """The owner has as many holds as one page may carry."""

    limit: int

    code = "TOO_MANY_HOLDS"
    zh = "未结束的冻结不能超过 {limit} 笔"
    en = "at most {limit} holds may be open at once"


@dataclass(eq=False)
class NotCorrectableError(Refusal):
    """There is no such transaction, or none of its kind or between those accounts is ever corrected."""

    transaction: str

    code = "NOT_CORRECTABLE"
    zh = "交易 {transaction} 不能这样更正"
    en = "transaction {transaction} cannot be corrected so"


@dataclass(eq=False)
class OverCorrectedError(Refusal):
    """More is to be taken back than earlier corrections have left of the transaction."""

    transaction: str
    needed: int
    remaining: int

    code = "OVER_CORRECTED"
    zh = "交易 {transaction} 仅余 {remaining} 可更正，不足 {needed}"
    en = "transaction {transaction} has {remaining} left to correct, not {needed}"


@dataclass(eq=False)
class StatementTooLongError(Refusal):
    """The period has more movements than one statement may list."""

    limit: int

    code = "STATEMENT_TOO_LONG"
    zh = "该期间的明细超过 {limit} 条，请缩短期间"
    en = "the period has more than {limit} movements; choose a shorter one"


@dataclass(eq=False)
class TraceTooLargeError(Refusal):
    """Following the amount takes more work than one request may."""

    limit: int
    unit: Text

    code = "TRACE_TOO_LARGE"
    zh = "溯源超过 {limit} {unit}"
    en = "the trace takes more than {limit} {unit}"


class MalformedTransactionError(ValueError):
    """A caller built a transaction that no book can hold: a bug of the caller, never of a user."""
