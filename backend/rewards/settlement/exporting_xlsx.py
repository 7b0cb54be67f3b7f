"""A statement as XLSX: one sheet of facts, and sheets of lines, written row by row in constant memory."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from typing import IO, TYPE_CHECKING

import xlsxwriter

from backend.rewards.settlement.exporting_table import LINES, Fen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xlsxwriter.worksheet import Worksheet

    from backend.rewards.settlement.exporting_table import Row, Shown

# A sheet ends after 1,048,576 rows.
ROWS_A_SHEET = 1_000_000
WIDTHS = (20, 8, 12, 28, 18, 10, 14, 14, 8, 38)
FACT_WIDTHS = (24, 72)


class XlsxFile:
    """Writes a statement line by line. Amounts are numbers; texts are written as texts, whatever they look like."""

    def __init__(self, file: IO[bytes], shown: Shown, *, rows_a_sheet: int = ROWS_A_SHEET) -> None:
        self._shown = shown
        self._rows_a_sheet = rows_a_sheet
        self._folder = tempfile.TemporaryDirectory()
        self._book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": self._folder.name})
        # Made when the statement was, so that the same statement gives the same bytes.
        self._book.set_properties({"title": shown.title, "created": shown.statement.made_at.replace(tzinfo=None)})
        self._bold = self._book.add_format({"bold": True})
        self._yuan = self._book.add_format({"num_format": "#,##0.00"})
        self._whole = self._book.add_format({"num_format": "0"})
        self._time = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._write_facts()
        self._lines: Worksheet | None = None
        self._sheets = 0
        self._row = 0

    def _write_facts(self) -> None:
        sheet = self._book.add_worksheet(self._shown.title)
        for column, width in enumerate(FACT_WIDTHS):
            sheet.set_column(column, column, width)
        for row, (name, value) in enumerate(self._shown.facts):
            sheet.write_string(row, 0, name, self._bold)
            if isinstance(value, Fen):
                sheet.write_number(row, 1, _yuan(value.fen), self._yuan)
            else:
                sheet.write_string(row, 1, str(value))

    def _open_lines(self) -> Worksheet:
        self._sheets += 1
        name = LINES.said(self._shown.language)
        sheet = self._book.add_worksheet(name if self._sheets == 1 else f"{name} {self._sheets}")
        sheet.freeze_panes(1, 0)
        for column, width in enumerate(WIDTHS):
            sheet.set_column(column, column, width)
        for column, heading in enumerate(self._shown.columns):
            sheet.write_string(0, column, heading, self._bold)
        self._row = 0
        return sheet

    def add(self, rows: Iterable[Row]) -> None:
        """Write these lines."""
        for row in rows:
            if self._lines is None or self._row == self._rows_a_sheet:
                self._lines = self._open_lines()
            self._row += 1
            self._write(self._lines, row)

    def _write(self, sheet: Worksheet, row: Row) -> None:
        sheet.write_datetime(self._row, 0, row.time, self._time)
        for column, text in enumerate((row.kind, row.number, row.title, row.shop), 1):
            sheet.write_string(self._row, column, text)
        sheet.write_number(self._row, 5, row.points, self._whole)
        sheet.write_number(self._row, 6, row.fen, self._whole)
        sheet.write_number(self._row, 7, _yuan(row.fen), self._yuan)
        sheet.write_string(self._row, 8, row.commission)
        sheet.write_string(self._row, 9, row.transaction)

    def finish(self) -> None:
        """Write what is left; the file stays open."""
        if self._lines is None:
            self._open_lines()
        self._book.close()
        self._folder.cleanup()

    def abandon(self) -> None:
        """Remove what is written already."""
        # Closing is the only way to have the book close its temporary files.
        self._book.close()
        self._folder.cleanup()


def _yuan(fen: int) -> Decimal:
    """The amount in yuan, exactly."""
    return Decimal(fen).scaleb(-2)
