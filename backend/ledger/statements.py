"""A period's statement as a file a person opens: CSV for spreadsheets, JSON for programs. Pure; reads nothing.

CSV follows RFC 4180 (IETF, 2005): CRLF, fields quoted where needed. It starts with a byte order mark, without which
spreadsheets in China read UTF-8 as GBK, and times are those of the programme, in a form spreadsheets take for times.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC
from typing import TYPE_CHECKING, Any

from backend.kernel.crypto import canonical_json
from backend.kernel.errors import Language, Text
from backend.ledger.model import CNY, CREDIT, POINTS, QUANTIFIED, RECOGNISED, TransactionKind, is_credit, split_account

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.ledger.model import PeriodStatement, StatementLine

VERSION = 1
BYTE_ORDER_MARK = "\ufeff"
# What makes a spreadsheet compute a cell instead of showing it, in half and full width (OWASP, CSV Injection).
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")
Kind = TransactionKind
KINDS = {
    Kind.EARN: Text("获得", "earned"),
    Kind.TRANSFER: Text("转账", "transfer"),
    Kind.HOLD: Text("冻结", "held"),
    Kind.POST: Text("兑付", "held amount paid"),
    Kind.VOID: Text("解冻", "set free"),
    Kind.LAPSE: Text("冻结到期", "hold lapsed"),
    Kind.EXPIRE: Text("过期", "expired"),
    Kind.REVERSE: Text("冲正", "reversed"),
    Kind.ADJUST: Text("人工调整", "adjusted by staff"),
    Kind.RESTATE: Text("重算", "restated"),
    Kind.LEND: Text("垫付", "lent"),
    Kind.REPAY: Text("偿还", "repaid"),
    Kind.SETTLE: Text("结算", "settlement"),
    Kind.PAYOUT: Text("付款", "payout"),
    Kind.DEPOSIT: Text("入金", "deposit"),
    Kind.POOL: Text("归集", "pooled"),
    Kind.DEDUCT: Text("核减", "deducted by the verifier"),
    Kind.ISSUE: Text("签发", "issued as credits"),
    Kind.TRADE: Text("成交", "traded"),
    Kind.BENEFIT: Text("收益返还", "benefit returned"),
    Kind.RETIRE: Text("注销", "retired"),
}
ASSETS = {
    POINTS: Text("积分", "points"),
    QUANTIFIED: Text("已核算减排量，毫克 CO2e", "quantified reduction, mg CO2e"),
    RECOGNISED: Text("已认定减排量，毫克 CO2e", "recognised reduction, mg CO2e"),
    CNY: Text("人民币，分", "renminbi, fen"),
}
CREDITS = Text("减排信用 {}，毫克 CO2e", "credits {}, mg CO2e")
TIME = Text("时间", "time")
CHANGE = Text("变动", "change")
COLUMNS = (
    Text("序号", "sequence"),
    TIME,
    Text("类型", "kind"),
    CHANGE,
    Text("余额", "balance"),
    Text("其中冻结", "held thereof"),
    Text("欠额", "owed"),
    Text("备注", "note"),
    Text("交易编号", "transaction"),
    Text("更正的交易", "corrects"),
)
OPENING = Text("期初余额", "opening balance")
CLOSING = Text("期末余额", "closing balance")
# What a transaction's cause says to people.
NOTES = ("message", "reason")


def to_csv(statement: PeriodStatement, language: Language, *, zone: ZoneInfo) -> str:
    """The statement as CSV text, byte order mark first: opening balance, movements (oldest first), closing balance."""
    asset = split_account(statement.account).asset
    words = CREDITS if is_credit(asset) else ASSETS.get(asset, Text("{}", "{}"))
    unit = words.said(language).format(asset.removeprefix(CREDIT))
    explained = {TIME: zone.key, CHANGE: unit}
    header = [
        f"{column.said(language)} ({explained[column]})" if column in explained else column.said(language)
        for column in COLUMNS
    ]
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerow(_edge(OPENING.said(language), _local(statement.since, zone), statement.opening))
    writer.writerows(_row(line, language, zone) for line in statement.lines)
    writer.writerow(_edge(CLOSING.said(language), _local(statement.until, zone), statement.closing))
    return BYTE_ORDER_MARK + file.getvalue()


def _edge(name: str, time: str, balance: int) -> list[str | int]:
    """The row before the first movement or after the last."""
    return ["", time, name, "", balance, "", "", "", "", ""]


def _row(line: StatementLine, language: Language, zone: ZoneInfo) -> list[str | int]:
    return [
        line.sequence,
        _local(line.at, zone),
        KINDS[line.kind].said(language),
        line.line.change,
        line.line.balance,
        line.line.held,
        line.line.debt,
        harmless(note_of(line) or ""),
        line.transaction,
        line.corrects or "",
    ]


def note_of(line: StatementLine) -> str | None:
    """What somebody wrote to the movement: a giver's message or the reason of a correction."""
    return next((line.cause[name] for name in NOTES if name in line.cause), None)


def harmless(text: str) -> str:
    """The text so that no spreadsheet takes it for a formula: an apostrophe before what could begin one."""
    return f"'{text}" if any(start.startswith(FORMULA_STARTS) for start in (text, text.lstrip())) else text


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def to_json(statement: PeriodStatement) -> str:
    """The statement as one line of canonical JSON: sorted names, whole numbers, times in UTC with ``Z``."""
    owner, asset, _ = split_account(statement.account)
    whole: dict[str, Any] = {
        "version": VERSION,
        "owner": owner,
        "asset": asset,
        "since": statement.since.astimezone(UTC),
        "until": statement.until.astimezone(UTC),
        "opening": statement.opening,
        "closing": statement.closing,
        "movements": [_movement(line) for line in statement.lines],
    }
    return canonical_json(whole).decode()


def _movement(line: StatementLine) -> dict[str, Any]:
    movement: dict[str, Any] = {
        "sequence": line.sequence,
        "at": line.at,
        "kind": line.kind,
        "change": line.line.change,
        "balance": line.line.balance,
        "held": line.line.held,
        "debt": line.line.debt,
        "transaction": line.transaction,
        "cause": dict(line.cause),
    }
    if line.line.lots:
        movement["lots"] = [{"expires_at": end, "amount": amount} for end, amount in line.line.lots]
    if line.corrects is not None:
        movement["corrects"] = line.corrects
    return movement
