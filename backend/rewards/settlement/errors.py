"""Why a statement cannot be approved, paid, corrected or exported."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class UnknownStatementError(Refusal):
    """There is no such statement, or none that the caller may see."""

    code = "UNKNOWN_STATEMENT"
    zh = "没有这份结算单"
    en = "there is no such statement"


@dataclass(eq=False)
class WrongStatementStageError(Refusal):
    """The statement does not stand so that this could be done; ``standing`` is its stage."""

    standing: str

    code = "STATEMENT_STAGE"
    zh = "结算单当前状态为 {standing}，不能执行该操作"
    en = "the statement is {standing}, so this cannot be done"


@dataclass(eq=False)
class NotReconciledError(Refusal):
    """Book or vouchers know more or less than the statement; in points, fen and captures less refunds."""

    points: int
    fen: int
    voucher_points: int
    voucher_fen: int

    code = "NOT_RECONCILED"
    zh = (
        "结算单与账本相差 {points} 积分、{fen} 分，与券记录相差 {voucher_points} 积分、{voucher_fen} 分，"
        "核对一致后才能继续"
    )
    en = (
        "the book differs from the statement by {points} points and {fen} fen, the vouchers by {voucher_points} points "
        "and {voucher_fen} fen; they must agree first"
    )


@dataclass(eq=False)
class EarlierUnpaidError(Refusal):
    """An earlier statement of the merchant is not paid yet; they are paid in the order of their numbers."""

    number: int

    code = "EARLIER_UNPAID"
    zh = "第 {number} 号结算单尚未付款，须按编号顺序付款"
    en = "statement {number} is not paid yet; statements are paid in the order of their numbers"


@dataclass(eq=False)
class StatementChangedError(Refusal):
    """The book no longer gives the lines that the statement was made of: its checksum is another."""

    code = "STATEMENT_CHANGED"
    zh = "账本明细与结算单校验码不符，请联系管理员"
    en = "the book's lines no longer give the statement's checksum; tell the administrators"
