"""What a statement says to people, whatever the form of the file: its words, facts and columns. Pure, integers only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from backend.kernel.errors import Language, Text
from backend.rewards.merchants.model import BASIS_POINTS
from backend.rewards.settlement.model import LineKind, StatementKind, StatementStage

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.rewards.merchants.model import Merchant
    from backend.rewards.settlement.model import DetailedLine, Statement, Sums

FEN_PER_YUAN = 100
TITLE = Text("商户结算单", "Merchant statement")
LINES = Text("明细", "lines")
TOTAL = Text("合计", "total")
KINDS = {
    StatementKind.REGULAR: Text("定期结算", "regular"),
    StatementKind.CORRECTION: Text("更正", "correction"),
}
STAGES = {
    StatementStage.UNRECONCILED: Text("未核对一致", "not reconciled"),
    StatementStage.READY: Text("待审批", "ready"),
    StatementStage.APPROVED: Text("已审批", "approved"),
    StatementStage.PAID: Text("已付款", "paid"),
}
LINE_KINDS = {LineKind.CAPTURE: Text("核销", "captured"), LineKind.REFUND: Text("退款", "refunded")}
COLUMNS = (
    Text("时间", "time"),
    Text("类型", "kind"),
    Text("券号", "voucher"),
    Text("商品", "offer"),
    Text("门店", "shop"),
    Text("积分", "points"),
    Text("金额（分）", "amount (fen)"),
    Text("金额（元）", "amount (yuan)"),
    Text("佣金率", "commission"),
    Text("交易编号", "transaction"),
)
NUMBER = Text("结算单号", "statement")
MERCHANT = Text("商户", "merchant")
LEGAL_NAME = Text("单位名称", "legal name")
CREDIT_CODE = Text("统一社会信用代码", "credit code")
PERIOD = Text("结算期间", "period")
KIND = Text("类型", "kind")
STAGE = Text("状态", "stage")
CORRECTS = Text("更正的结算单", "corrects")
REASON = Text("原因", "reason")
CAPTURED = Text("核销", "captured")
REFUNDED = Text("退款", "refunded")
GROSS = Text("核销净额（元）", "gross (yuan)")
COMMISSION = Text("佣金（元）", "commission (yuan)")
ADJUSTMENT = Text("调整（元）", "adjustment (yuan)")
NET = Text("结算净额（元）", "net (yuan)")
BROUGHT = Text("上期结转（元）", "brought forward (yuan)")
PAYABLE = Text("应付金额（元）", "payable (yuan)")
REFERENCE = Text("付款凭证号", "bank reference")
CHECKSUM = Text("校验码 SHA-256", "checksum SHA-256")


class Fen(NamedTuple):
    """An amount of money, shown in yuan."""

    fen: int


Value = str | int | Fen


class Row(NamedTuple):
    """One line as it is shown; times are local and without offset."""

    time: datetime
    kind: str
    number: str
    title: str
    shop: str
    points: int
    fen: int
    commission: str
    transaction: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A statement in one language: its facts in their order, and names of columns; ``lines`` says how many follow."""

    language: Language
    zone: ZoneInfo
    statement: Statement
    title: str
    facts: tuple[tuple[str, Value], ...]
    columns: tuple[str, ...]
    lines: int

    def row(self, detailed: DetailedLine) -> Row:
        """The line as it is shown."""
        line, language = detailed.line, self.language
        return Row(
            time=line.at.astimezone(self.zone).replace(tzinfo=None, microsecond=0),
            kind=LINE_KINDS[line.kind].said(language),
            number=detailed.number,
            title=detailed.title.said(language),
            shop=detailed.shop.said(language) if detailed.shop else "",
            points=line.points,
            fen=line.fen,
            commission=percent(line.commission_bps),
            transaction=line.transaction,
        )


def show(statement: Statement, merchant: Merchant, language: Language, zone: ZoneInfo) -> Shown:
    """The statement in that language, times in that zone."""
    first, *others = (column.said(language) for column in COLUMNS)
    return Shown(
        language=language,
        zone=zone,
        statement=statement,
        title=TITLE.said(language),
        facts=tuple((name.said(language), value) for name, value in _facts(statement, merchant, language, zone)),
        columns=(f"{first} ({zone.key})", *others),
        lines=statement.lines,
    )


def _facts(statement: Statement, merchant: Merchant, language: Language, zone: ZoneInfo) -> list[tuple[Text, Value]]:
    totals = statement.totals
    facts: list[tuple[Text, Value]] = [
        (NUMBER, f"{statement.number} ({statement.id})"),
        (MERCHANT, merchant.name.said(language)),
        (LEGAL_NAME, merchant.legal_name),
        (CREDIT_CODE, merchant.credit_code),
        (PERIOD, _period(statement, zone)),
        (KIND, KINDS[statement.kind].said(language)),
        (STAGE, STAGES[statement.stage].said(language)),
        (CAPTURED, _sums(totals.captures, language)),
        (REFUNDED, _sums(totals.refunds, language)),
        (GROSS, Fen(totals.gross_fen)),
        (COMMISSION, Fen(totals.commission_fen)),
        (ADJUSTMENT, Fen(statement.adjustment_fen)),
        (NET, Fen(statement.net_fen)),
        (BROUGHT, Fen(statement.brought_forward_fen)),
        (PAYABLE, Fen(statement.payable_fen)),
        (CORRECTS, statement.corrects or ""),
        (REASON, statement.reason or ""),
        (REFERENCE, statement.bank_reference or ""),
        (CHECKSUM, statement.checksum),
    ]
    return [(name, value) for name, value in facts if value != ""]


def _period(statement: Statement, zone: ZoneInfo) -> str:
    """From the first moment to the last second, local time."""
    since, last = statement.since.astimezone(zone), (statement.until - timedelta(seconds=1)).astimezone(zone)
    return f"{since:%Y-%m-%d %H:%M:%S} – {last:%Y-%m-%d %H:%M:%S}"


def _sums(sums: Sums, language: Language) -> str:
    said = Text("{count} 笔，{points} 积分，{amount} 元", "{count} times, {points} points, {amount} yuan")
    return said.said(language).format(count=sums.count, points=sums.points, amount=yuan(sums.fen))


def yuan(fen: int) -> str:
    """The amount in yuan, exactly: ``-12.05``."""
    whole, rest = divmod(abs(fen), FEN_PER_YUAN)
    return f"{'-' if fen < 0 else ''}{whole}.{rest:02}"


def percent(bps: int) -> str:
    """The rate in per cent, exactly: ``2.50%``."""
    whole, rest = divmod(bps, BASIS_POINTS // 100)
    return f"{whole}.{rest:02}%"
