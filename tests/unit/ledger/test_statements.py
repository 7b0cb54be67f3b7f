"""Statements as files: every kind and asset has its words, no cell computes anything, numbers stay whole."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import orjson
import pytest

from backend.kernel.errors import Language
from backend.kernel.ids import TransactionId
from backend.ledger.model import (
    CNY,
    MINTS,
    AccountId,
    Asset,
    Line,
    Lot,
    PeriodStatement,
    StatementLine,
    TransactionKind,
)
from backend.ledger.statements import ASSETS, CREDITS, KINDS, harmless, to_csv, to_json

SHANGHAI = ZoneInfo("Asia/Shanghai")
SINCE = datetime(2026, 11, 1, tzinfo=timezone(timedelta(hours=8)))


def line(
    cause: dict[str, str] | None = None, amount: int = 5, kind: TransactionKind = TransactionKind.EARN
) -> StatementLine:
    """One movement as a statement has it."""
    lots = (Lot(SINCE.astimezone(UTC), amount),)
    row = Line(Asset("points"), amount, amount, lots=lots)
    return StatementLine(7, TransactionId("tx_1"), kind, SINCE.astimezone(UTC), row, cause or {}, TransactionId("tx_0"))


def statement(*lines: StatementLine, asset: str = "points") -> PeriodStatement:
    """A month of alice's."""
    account = AccountId(f"citizen:alice:{asset}")
    return PeriodStatement(account, SINCE, SINCE + timedelta(days=30), 0, 5, lines)


def test_every_kind_and_every_asset_is_told_in_both_languages() -> None:
    assert set(KINDS) == set(TransactionKind)
    assert set(ASSETS) == {*MINTS, CNY}
    for text in (*KINDS.values(), *ASSETS.values(), CREDITS):
        assert any("一" <= letter <= "鿿" for letter in text.zh)
        assert text.en.isascii()
    assert len({text.zh for text in KINDS.values()}) == len({text.en for text in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠A1", "  =1", "\u3000=1"]
)
def test_no_text_computes(text: str) -> None:
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "生日快乐", "a=b", "5 - 3", "'=1", "“=1”"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


def test_what_people_wrote_survives_quoting() -> None:
    written = '他说 "谢谢", 再见; \u2028'
    told = to_csv(statement(line({"reason": written})), Language.ZH_CN, zone=SHANGHAI)
    rows = list(csv.reader(io.StringIO(told.removeprefix("\ufeff"), newline="")))
    assert [len(row) for row in rows] == [10] * 4
    assert rows[2][7] == written
    assert rows[2][8:] == ["tx_1", "tx_0"]
    assert [row[1] for row in rows[1:]] == ["2026-11-01 00:00:00"] * 2 + ["2026-12-01 00:00:00"]


@pytest.mark.parametrize(
    ("asset", "zh", "en"),
    [
        ("credit:b1", "变动 (减排信用 b1，毫克 CO2e)", "change (credits b1, mg CO2e)"),
        ("cny", "变动 (人民币，分)", "change (renminbi, fen)"),
        ("gold", "变动 (gold)", "change (gold)"),
    ],
)
def test_every_asset_is_told_with_its_unit_and_one_without_words_by_its_name(asset: str, zh: str, en: str) -> None:
    for language, told in ((Language.ZH_CN, zh), (Language.EN, en)):
        header = to_csv(statement(asset=asset), language, zone=SHANGHAI).split("\r\n", 1)[0]
        [names] = csv.reader([header])
        assert names[3] == told


def test_json_is_whole_numbers_and_utc() -> None:
    told = to_json(statement(line({"reason": "谢谢"}, amount=2**62)))
    assert orjson.loads(told) == {
        "version": 1,
        "owner": "citizen:alice",
        "asset": "points",
        "since": "2026-10-31T16:00:00Z",
        "until": "2026-11-30T16:00:00Z",
        "opening": 0,
        "closing": 5,
        "movements": [
            {
                "sequence": 7,
                "at": "2026-10-31T16:00:00Z",
                "kind": "EARN",
                "change": 2**62,
                "balance": 2**62,
                "held": 0,
                "debt": 0,
                "transaction": "tx_1",
                "cause": {"reason": "谢谢"},
                "lots": [{"expires_at": "2026-10-31T16:00:00Z", "amount": 2**62}],
                "corrects": "tx_0",
            }
        ],
    }
