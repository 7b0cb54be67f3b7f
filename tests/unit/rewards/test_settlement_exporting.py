"""A statement's file: exact amounts, no formulas, the same bytes every time, Chinese that can be read anywhere."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pypdfium2
import pytest

from backend.kernel.errors import Language, Text
from backend.kernel.ids import TransactionId
from backend.rewards.settlement.exporting import WRITERS, Form
from backend.rewards.settlement.exporting_pdf import PdfFile
from backend.rewards.settlement.exporting_table import percent, show, yuan
from backend.rewards.settlement.exporting_xlsx import XlsxFile
from backend.rewards.settlement.model import DetailedLine, Line, LineKind, Statement
from tests.unit.rewards.settled import BEGIN, merchant, statement

ZONE = ZoneInfo("Asia/Shanghai")


def detailed(number: int = 1, *, title: str = "一杯乌龙茶", fen: int = 1_205, points: int = 1_700) -> DetailedLine:
    """A line as people read it."""
    line = Line(
        transaction=TransactionId(f"tx_{number:032x}"),
        at=BEGIN + timedelta(hours=number, milliseconds=7),
        kind=LineKind.CAPTURE if points > 0 else LineKind.REFUND,
        voucher=f"vch_{number}",
        offer="offer-1",
        points=points,
        fen=fen,
        commission_bps=250,
    )
    return DetailedLine(line, f"N{number:07}", Text(title, "A cup of oolong"), Text("人民路店", "People's Road"))


def written(
    form: Form, lines: list[DetailedLine], language: Language = Language.ZH_CN, whole: Statement | None = None
) -> bytes:
    """The file of a statement with these lines."""
    file = io.BytesIO()
    shown = show(replace(whole or statement(), lines=len(lines)), merchant(), language, ZONE)
    writer = WRITERS[form](file, shown)
    for start in range(0, len(lines), 2):
        writer.add([shown.row(line) for line in lines[start : start + 2]])
    writer.finish()
    return file.getvalue()


@pytest.mark.parametrize(
    ("fen", "said"),
    [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (100, "1.00"), (-1_205, "-12.05"), (10**15 + 1, "10000000000000.01")],
)
def test_yuan_are_exact(fen: int, said: str) -> None:
    assert yuan(fen) == said


@pytest.mark.parametrize(("bps", "said"), [(0, "0.00%"), (5, "0.05%"), (250, "2.50%"), (5_000, "50.00%")])
def test_rates_are_exact(bps: int, said: str) -> None:
    assert percent(bps) == said


def test_csv_in_chinese() -> None:
    raw = written(Form.CSV, [detailed(1), detailed(2, fen=-5, points=-10)])
    assert raw.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    gap = rows.index([])
    facts = dict(rows[1:gap])
    whole = statement()
    assert rows[0] == ["商户结算单"]
    assert facts == {
        "结算单号": f"3 ({whole.id})",
        "商户": "茶铺",
        "单位名称": "深圳茶铺有限公司",
        "统一社会信用代码": "91440300MA5F0L1C2X",
        "结算期间": "2026-11-02 00:00:00 – 2026-11-08 23:59:59",
        "类型": "定期结算",
        "状态": "待审批",
        "核销": "2 笔，1700 积分，12.10 元",
        "退款": "1 笔，10 积分，0.05 元",
        "核销净额（元）": "12.05",
        "佣金（元）": "0.30",
        "调整（元）": "0.00",
        "结算净额（元）": "11.75",
        "上期结转（元）": "-2.00",
        "应付金额（元）": "9.75",
        "校验码 SHA-256": whole.checksum,
    }
    assert rows[gap + 1 :] == [
        [
            "时间 (Asia/Shanghai)",
            "类型",
            "券号",
            "商品",
            "门店",
            "积分",
            "金额（分）",
            "金额（元）",
            "佣金率",
            "交易编号",
        ],
        [
            "2026-11-02 01:00:00",
            "核销",
            "N0000001",
            "一杯乌龙茶",
            "人民路店",
            "1700",
            "1205",
            "12.05",
            "2.50%",
            f"tx_{1:032x}",
        ],
        [
            "2026-11-02 02:00:00",
            "退款",
            "N0000002",
            "一杯乌龙茶",
            "人民路店",
            "-10",
            "-5",
            "-0.05",
            "2.50%",
            f"tx_{2:032x}",
        ],
    ]


def test_csv_in_english() -> None:
    text = written(Form.CSV, [detailed(1)], Language.EN).decode("utf-8-sig")
    assert "Merchant statement\r\n" in text
    assert "payable (yuan),9.75\r\n" in text
    assert "2026-11-02 01:00:00,captured,N0000001,A cup of oolong,People's Road,1700,1205,12.05,2.50%" in text
    assert text.count("\n") == text.count("\r\n")


@pytest.mark.parametrize("title", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "＝1"])
def test_no_text_becomes_a_formula(title: str) -> None:
    assert f",'{title}," in written(Form.CSV, [detailed(1, title=title)]).decode("utf-8-sig")
    lines = sheet(written(Form.XLSX, [detailed(1, title=title)]), 2)
    assert "<f>" not in lines
    assert f">{title}</t>" in lines


def test_a_reason_of_staff_becomes_no_formula_either() -> None:
    whole = replace(statement(), reason="=HYPERLINK(1)")
    assert "原因,'=HYPERLINK(1)\r\n" in written(Form.CSV, [], whole=whole).decode("utf-8-sig")


def sheet(raw: bytes, number: int) -> str:
    """The XML of a sheet."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return archive.read(f"xl/worksheets/sheet{number}.xml").decode()


def test_xlsx_has_numbers_in_number_cells() -> None:
    raw = written(Form.XLSX, [detailed(1), detailed(2, fen=-5, points=-10)])
    lines = sheet(raw, 2)
    for cell, value in (("F2", "1700"), ("G2", "1205"), ("H2", "12.05"), ("F3", "-10"), ("G3", "-5"), ("H3", "-0.05")):
        assert f'<c r="{cell}" s=' in lines
        assert f"<v>{value}</v>" in lines.partition(f'<c r="{cell}"')[2].partition("</c>")[0]
    facts = sheet(raw, 1)
    assert "商户结算单" in zipfile.ZipFile(io.BytesIO(raw)).read("xl/workbook.xml").decode()
    assert "<v>9.75</v>" in facts
    assert statement().checksum in facts


def test_xlsx_goes_on_on_another_sheet() -> None:
    file = io.BytesIO()
    shown = show(replace(statement(), lines=5), merchant(), Language.EN, ZONE)
    writer = XlsxFile(file, shown, rows_a_sheet=2)
    writer.add([shown.row(detailed(number)) for number in range(5)])
    writer.finish()
    assert [sheet(file.getvalue(), number).count("<row ") - 1 for number in (2, 3, 4)] == [2, 2, 1]


def pages(raw: bytes) -> list[str]:
    """The text of each page."""
    with pypdfium2.PdfDocument(raw) as document:
        return [page.get_textpage().get_text_bounded() for page in document]


@pytest.mark.parametrize("count", [0, 1, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 60, 200])
def test_pdf_tells_the_right_number_of_pages(count: int) -> None:
    found = pages(written(Form.PDF, [detailed(number) for number in range(count)]))
    for number, text in enumerate(found, 1):
        assert f"第 {number} 页，共 {len(found)} 页" in text
        assert statement().checksum in text
        assert "佣金率" in text
    assert sum(text.count("一杯乌龙茶") for text in found) == count
    assert "合计" in found[-1]
    assert all("合计" not in text for text in found[:-1])


def test_pdf_carries_its_font_and_says_it_all() -> None:
    raw = written(Form.PDF, [detailed(1), detailed(2, fen=-5, points=-10)])
    [text] = pages(raw)
    for said in ("商户结算单", "深圳茶铺有限公司", "应付金额（元）", "9.75", "12.05", "-0.05", "人民路店", "退款"):
        assert said in text
    assert b"/FontFile2" in raw
    assert b"STSong" not in raw
    [english] = pages(written(Form.PDF, [detailed(1)], Language.EN))
    assert "page 1 of 1" in english
    assert "A cup of oolong" in english


def test_pdf_shortens_what_has_no_room() -> None:
    [text] = pages(written(Form.PDF, [detailed(1, title="很长的名字" * 20)]))
    assert "很长的名字…" in text.replace("\r\n", "") or "…" in text
    assert text.count("很长的名字") < 20


def test_the_same_statement_gives_the_same_bytes() -> None:
    for form in Form:
        first, second = (written(form, [detailed(number) for number in range(30)]) for _ in range(2))
        assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def test_a_pdfs_lines_do_not_stay_in_memory() -> None:
    shown = show(replace(statement(), lines=4_000), merchant(), Language.EN, ZONE)
    writer = PdfFile(io.BytesIO(), shown)
    for number in range(4_000):
        writer.add([shown.row(detailed(number))])
    held: Any = vars(writer)
    assert sum(len(value) for value in held.values() if isinstance(value, list | set | dict | tuple)) < 500
    writer.abandon()


def test_dates_follow_the_programmes_zone() -> None:
    late = replace(detailed(1).line, at=datetime(2026, 11, 8, 15, 59, 59, 999_000, tzinfo=UTC))
    row = show(statement(), merchant(), Language.EN, ZONE).row(replace(detailed(1), line=late))
    assert row.time == datetime(2026, 11, 8, 23, 59, 59)  # noqa: DTZ001 - what a spreadsheet shows
