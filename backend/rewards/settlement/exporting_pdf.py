"""A statement as PDF, A4 across: facts, lines with totals, on every page its number and the checksum.

Lines are kept in a temporary file until all are known, for the pages' count and the font's glyphs depend on all.
"""

from __future__ import annotations

import tempfile
from datetime import datetime
from typing import IO, TYPE_CHECKING

import orjson
from reportlab.lib.pagesizes import A4, landscape
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from backend.kernel.errors import Text
from backend.printing.drawing import ELLIPSIS, fitted, registered
from backend.printing.font import truetype
from backend.rewards.settlement.exporting_table import CHECKSUM, TOTAL, Fen, Row, yuan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backend.rewards.settlement.exporting_table import Shown

FONT = "statement"
WIDTH, HEIGHT = (round(side) for side in landscape(A4))
MARGIN, LEADING, SIZE, TITLE_SIZE = 36, 15, 8, 16
FACT_COLUMN = 110
BOTTOM = MARGIN + 2 * LEADING
# Columns with left edge and width, and those whose text ends at their right edge.
COLUMNS = ((0, 36, 98), (1, 138, 40), (2, 182, 66), (3, 252, 190), (4, 446, 150))
NUMBERS = ((5, 660), (7, 740), (8, WIDTH - MARGIN))
PAGE = Text("第 {page} 页，共 {pages} 页", "page {page} of {pages}")


class PdfFile:
    """Collects a statement's lines and draws them at the end."""

    def __init__(self, file: IO[bytes], shown: Shown) -> None:
        self._file = file
        self._shown = shown
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed by finish, or when nothing holds it any more
        self._characters = set(map(chr, range(0x20, 0x7F))) | {ELLIPSIS}
        said = (shown.title, *shown.columns, *PAGE, *CHECKSUM, *TOTAL)
        self._characters.update(*said, *(str(part) for fact in shown.facts for part in fact))

    def add(self, rows: Iterable[Row]) -> None:
        """Keep these lines."""
        for row in rows:
            self._characters |= {*row.kind, *row.number, *row.title, *row.shop}
            self._spool.write(orjson.dumps(tuple(row)) + b"\n")

    def finish(self) -> None:
        """Draw it all; the file stays open."""
        font = truetype(self._characters)
        with self._spool, registered(TTFont(FONT, font)):
            self._spool.seek(0)
            _Pages(self._file, self._shown).draw(map(_read, self._spool))

    def abandon(self) -> None:
        """Let go of the lines without drawing them."""
        self._spool.close()


def _read(line: bytes) -> Row:
    time, *others = orjson.loads(line)
    return Row(datetime.fromisoformat(time), *others)


class _Pages:
    """The pages of one statement."""

    def __init__(self, file: IO[bytes], shown: Shown) -> None:
        self._shown = shown
        self._canvas = Canvas(file, pagesize=(WIDTH, HEIGHT), pageCompression=1, invariant=1)
        self._canvas.setTitle(f"{shown.title} {shown.statement.id}")
        self._page = 1
        self._y = HEIGHT - MARGIN - TITLE_SIZE
        first = (self._y - self._facts_height() - BOTTOM) // LEADING - 1
        each = (HEIGHT - MARGIN - BOTTOM) // LEADING - 1
        # The line of totals is one more.
        rest = max(0, shown.lines + 1 - first)
        self._pages = 1 + -(-rest // each)

    def _facts_height(self) -> int:
        return (len(self._shown.facts) + 3) // 2 * LEADING + LEADING

    def draw(self, rows: Iterator[Row]) -> None:
        """Draw facts, lines and totals."""
        self._draw_facts()
        self._draw_heading()
        for row in rows:
            self._advance()
            self._draw_row(row)
        self._advance()
        self._draw_totals()
        self._end_page()
        self._canvas.save()

    def _draw_facts(self) -> None:
        self._canvas.setFont(FONT, TITLE_SIZE)
        self._canvas.drawString(MARGIN, self._y, self._shown.title)
        self._canvas.setFont(FONT, SIZE)
        *facts, checksum = self._shown.facts
        self._y -= TITLE_SIZE // 2
        half = WIDTH // 2
        for start in range(0, len(facts), 2):
            self._y -= LEADING
            for left, (name, value) in zip((MARGIN, half), facts[start : start + 2], strict=False):
                text = yuan(value.fen) if isinstance(value, Fen) else str(value)
                self._canvas.drawString(left, self._y, name)
                self._canvas.drawString(
                    left + FACT_COLUMN, self._y, fitted(text, FONT, SIZE, half - MARGIN - FACT_COLUMN)
                )
        self._y -= LEADING
        self._canvas.drawString(MARGIN, self._y, checksum[0])
        self._canvas.drawString(MARGIN + FACT_COLUMN, self._y, str(checksum[1]))
        self._y -= LEADING // 2

    def _draw_heading(self) -> None:
        self._canvas.setFont(FONT, SIZE)
        self._y -= LEADING
        self._draw_cells(self._shown.columns)
        self._canvas.line(MARGIN, self._y - 4, WIDTH - MARGIN, self._y - 4)

    def _advance(self) -> None:
        """Go to the next line, on the next page where this one is full."""
        if self._y - LEADING < BOTTOM:
            self._end_page()
            self._page += 1
            self._y = HEIGHT - MARGIN
            self._draw_heading()
        self._y -= LEADING

    def _draw_row(self, row: Row) -> None:
        self._draw_cells(
            (
                f"{row.time:%Y-%m-%d %H:%M:%S}",
                row.kind,
                row.number,
                row.title,
                row.shop,
                str(row.points),
                "",
                yuan(row.fen),
                row.commission,
            )
        )

    def _draw_totals(self) -> None:
        totals, language = self._shown.statement.totals, self._shown.language
        self._canvas.line(MARGIN, self._y + LEADING - 4, WIDTH - MARGIN, self._y + LEADING - 4)
        cells = [TOTAL.said(language), "", "", "", "", str(totals.points), "", yuan(totals.gross_fen), ""]
        self._draw_cells(cells)

    def _draw_cells(self, cells: Sequence[str]) -> None:
        for column, left, width in COLUMNS:
            self._canvas.drawString(left, self._y, fitted(cells[column], FONT, SIZE, width))
        for column, right in NUMBERS:
            self._canvas.drawRightString(right, self._y, cells[column])

    def _end_page(self) -> None:
        language = self._shown.language
        said = PAGE.said(language).format(page=self._page, pages=self._pages)
        self._canvas.setFont(FONT, SIZE)
        self._canvas.drawString(MARGIN, MARGIN, f"{CHECKSUM.said(language)}  {self._shown.statement.checksum}")
        self._canvas.drawRightString(WIDTH - MARGIN, MARGIN, said)
        self._canvas.showPage()
