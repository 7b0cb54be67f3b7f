"""A certificate as PDF, one page A4 across, and as the picture of that page: the same bytes for the same words.

Lengths are points, 1/72 of an inch, from the lower left corner.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Final

import pypdfium2
import segno
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4, landscape
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from backend.printing.drawing import ELLIPSIS, cut, fitted, lines_of, registered, shrunk
from backend.printing.font import Face, known_characters, truetype

if TYPE_CHECKING:
    from backend.market.retirement.wording import Fact, Shown

WIDTH, HEIGHT = (round(side) for side in landscape(A4))
MIDDLE = WIDTH // 2
INK, GREEN, PALE, GOLD, GREY, MIST = map(HexColor, ("#14261c", "#175c3c", "#dcebe1", "#b08d3c", "#5c6b62", "#f4f8f5"))
WHITE, BLACK = HexColor("#ffffff"), HexColor("#000000")
SANS, SERIF = "certificate-sans", "certificate-serif"
# What stands, in old Chinese printing, for a character that the printer does not have.
UNKNOWN = "〓"
FRAME, INNER = 20, 27
LEFT, RIGHT = 52, WIDTH - 52
TOP, BOTTOM = 276, 76
FACTS, ACTS_LEFT, CODE_LEFT = 66, 392, 662
NAME_WIDTH, LINE = 96, 13
QR = 112
# Of fine lines; and of the outline that makes letters bold, in their sizes.
HAIR: Final = 0.5
BOLD: Final = 0.02
PIXELS_A_POINT: Final = 3
# PDFium is not made for several threads.
_PDFIUM = threading.Lock()


def draw(shown: Shown) -> bytes:
    """The certificate as PDF."""
    characters = set(map(chr, range(0x20, 0x7F))) | {ELLIPSIS, UNKNOWN}
    characters.update(*shown.texts())
    fonts = [
        TTFont(name, truetype(characters & known_characters(face), face))
        for name, face in ((SANS, Face.SANS), (SERIF, Face.SERIF))
    ]
    file = io.BytesIO()
    with registered(*fonts):
        _Sheet(file, shown).draw()
    return file.getvalue()


def picture(pdf: bytes) -> bytes:
    """The page as PNG, 216 dots an inch."""
    file = io.BytesIO()
    with _PDFIUM, pypdfium2.PdfDocument(pdf) as document:
        page = document[0]
        bitmap = page.render(scale=PIXELS_A_POINT)
        bitmap.to_pil().save(file, "PNG", dpi=(72 * PIXELS_A_POINT, 72 * PIXELS_A_POINT))
        bitmap.close()
        page.close()
    return file.getvalue()


class _Sheet:
    """The one page."""

    def __init__(self, file: io.BytesIO, shown: Shown) -> None:
        self._shown = shown
        self._canvas = Canvas(file, pagesize=(WIDTH, HEIGHT), pageCompression=1, invariant=1, lang=shown.language)
        self._canvas.setTitle(f"{shown.title} {shown.number.said}")
        self._canvas.setAuthor(shown.programme)

    def draw(self) -> None:
        """Draw it all."""
        self._draw_frame()
        self._draw_heading()
        self._draw_dedication()
        self._draw_panel()
        self._draw_facts()
        self._draw_acts()
        self._draw_code()
        self._draw_proof()
        self._canvas.showPage()
        self._canvas.save()

    def _draw_frame(self) -> None:
        """Two lines all around with a rosette in each corner, and a large one behind the words."""
        canvas = self._canvas
        self._draw_rosette(MIDDLE, 392, 150, PALE, 6)
        for inset, width, colour in ((FRAME, 3, GREEN), (INNER, 1, GOLD)):
            canvas.setStrokeColor(colour)
            canvas.setLineWidth(width)
            canvas.rect(inset, inset, WIDTH - 2 * inset, HEIGHT - 2 * inset, fill=0)
        canvas.setFillColor(WHITE)
        for x in (INNER, WIDTH - INNER):
            for y in (INNER, HEIGHT - INNER):
                canvas.circle(x, y, 17, stroke=0, fill=1)
                self._draw_rosette(x, y, 17, GREEN, 15)
                canvas.setFillColor(GOLD)
                canvas.circle(x, y, 3, stroke=0, fill=1)
                canvas.setFillColor(WHITE)

    def _draw_rosette(self, x: int, y: int, radius: int, colour: Color, turn: int) -> None:
        """Ellipses turned about one point, each by so many degrees more than the one before."""
        canvas = self._canvas
        canvas.saveState()
        canvas.setStrokeColor(colour)
        canvas.setLineWidth(HAIR)
        canvas.translate(x, y)
        for _ in range(0, 180, turn):
            canvas.rotate(turn)
            canvas.ellipse(-radius, -radius * 2 // 5, radius, radius * 2 // 5, fill=0)
        canvas.restoreState()

    def _draw_heading(self) -> None:
        shown = self._shown
        self._centre(shown.programme, SANS, 11, 540, GREEN, spacing=2)
        self._centre(shown.title, SERIF, 31, 501, GREEN, spacing=3, bold=True)
        self._centre(shown.subtitle, SERIF, 10, 483, GOLD, spacing=3)
        canvas = self._canvas
        canvas.setStrokeColor(GOLD)
        canvas.setFillColor(GOLD)
        canvas.setLineWidth(1)
        canvas.line(MIDDLE - 120, 470, MIDDLE - 10, 470)
        canvas.line(MIDDLE + 10, 470, MIDDLE + 120, 470)
        path = canvas.beginPath()
        path.moveTo(MIDDLE - 5, 470)
        for x, y in ((MIDDLE, 475), (MIDDLE + 5, 470), (MIDDLE, 465)):
            path.lineTo(x, y)
        path.close()
        canvas.drawPath(path, stroke=0, fill=1)

    def _draw_dedication(self) -> None:
        """For whom, how much, what for."""
        shown = self._shown
        self._centre(shown.certifies, SERIF, 11, 447, GREY)
        size, lines = shrunk(self._known(shown.beneficiary, Face.SERIF), SERIF, range(25, 11, -1), 600, 2)
        y = 418 if len(lines) == 1 else 424
        for line in lines:
            self._centre(line, SERIF, size, y, INK, bold=True)
            y -= size + 3
        self._centre(shown.retired, SERIF, 11, 386, GREY)
        self._centre(shown.amount, SERIF, 27, 352, GREEN, bold=True)
        self._centre(fitted(self._known(shown.reason, Face.SANS), SANS, 9, 660), SANS, 9, 331, INK)
        size, lines = shrunk(self._known(shown.statement, Face.SERIF), SERIF, range(10, 6, -1), 640, 3)
        y = 315
        for line in lines:
            self._centre(line, SERIF, size, y, GREY)
            y -= size + 2

    def _draw_panel(self) -> None:
        canvas = self._canvas
        canvas.setFillColor(MIST)
        canvas.setStrokeColor(PALE)
        canvas.setLineWidth(1)
        canvas.roundRect(LEFT, BOTTOM, RIGHT - LEFT, TOP - BOTTOM, 8, fill=1)
        for x in (ACTS_LEFT - 16, CODE_LEFT - 16):
            canvas.line(x, BOTTOM + 14, x, TOP - 14)

    def _draw_facts(self) -> None:
        """What is known of the credit."""
        y, width = TOP - 26, ACTS_LEFT - 32 - FACTS - NAME_WIDTH
        for fact in self._shown.facts:
            self._text(FACTS, y, fact.name, SANS, 8, GREY)
            said = self._known(fact.said, Face.SANS)
            for line in _two_lines(said, 8, width):
                self._text(FACTS + NAME_WIDTH, y, line, SANS, 8, INK)
                y -= LINE - 2
            y -= 6

    def _draw_acts(self) -> None:
        """Which acts the grams come from, a bar for each kind."""
        shown, canvas, width = self._shown, self._canvas, CODE_LEFT - 32 - ACTS_LEFT
        if not shown.shares:
            return
        y = TOP - 26
        self._text(ACTS_LEFT, y, shown.origin, SANS, 8, GREY)
        y -= 18
        for share in shown.shares:
            name = fitted(self._known(share.name, Face.SANS), SANS, 8, width // 2)
            self._text(ACTS_LEFT, y, name, SANS, 8, INK)
            canvas.setFillColor(GREY)
            canvas.setFont(SANS, 7)
            canvas.drawRightString(ACTS_LEFT + width, y, share.said)
            canvas.setFillColor(PALE)
            canvas.roundRect(ACTS_LEFT, y - 7, width, 3, 1, stroke=0, fill=1)
            canvas.setFillColor(GREEN)
            canvas.roundRect(ACTS_LEFT, y - 7, max(2, width * share.permille // 1_000), 3, 1, stroke=0, fill=1)
            y -= 21
        y = BOTTOM + 26
        for line in shown.acts:
            self._text(ACTS_LEFT, y, fitted(line, SANS, 8, width), SANS, 8, INK)
            y -= LINE

    def _draw_code(self) -> None:
        """The way to the page that verifies it."""
        shown, canvas = self._shown, self._canvas
        left, bottom = CODE_LEFT, TOP - 24 - QR
        canvas.setFillColor(WHITE)
        canvas.roundRect(left - 6, bottom - 6, QR + 12, QR + 12, 4, stroke=0, fill=1)
        rows = [bytes(row) for row in segno.make_qr(shown.url, error="m").matrix]
        module = max(1, QR // len(rows))
        edge = (QR - module * len(rows)) // 2
        canvas.setFillColor(BLACK)
        for down, row in enumerate(rows):
            for across, is_dark in enumerate(row):
                if is_dark:
                    x, y = left + edge + across * module, bottom + QR - edge - (down + 1) * module
                    canvas.rect(x, y, module, module, stroke=0, fill=1)
        canvas.setFillColor(GREEN)
        canvas.setFont(SANS, 8)
        canvas.drawCentredString(left + QR // 2, bottom - 19, shown.scan)
        canvas.setFillColor(GREY)
        canvas.setFont(SANS, 6)
        y = bottom - 30
        for line in lines_of(shown.url, SANS, 6, QR + 8)[:4]:
            canvas.drawCentredString(left + QR // 2, y, line)
            y -= 8

    def _draw_proof(self) -> None:
        """Number and place in the book, along the lower edge."""
        number, *others = [self._shown.number, *self._shown.proof]
        self._text(LEFT + 2, 55, f"{number.name}  {number.said}", SANS, 9, GREEN, bold=True)
        canvas = self._canvas
        canvas.setFillColor(GREY)
        canvas.setFont(SANS, 7)
        y = 59
        for fact in others:
            canvas.drawRightString(RIGHT - 2, y, _line(fact))
            y -= 11

    def _known(self, text: str, face: Face) -> str:
        """The text in characters that the font has."""
        known = known_characters(face)
        return "".join(letter if letter in known else UNKNOWN for letter in text)

    def _text(self, x: int, y: int, text: str, font: str, size: int, colour: Color, *, bold: bool = False) -> None:
        self._write(x, y, text, font, size, colour, spacing=0, bold=bold)

    def _centre(
        self, text: str, font: str, size: int, y: int, colour: Color, *, spacing: int = 0, bold: bool = False
    ) -> None:
        text = self._known(text, Face.SERIF if font == SERIF else Face.SANS)
        width = pdfmetrics.stringWidth(text, font, size) + spacing * (len(text) - 1)
        self._write(MIDDLE - round(width) // 2, y, text, font, size, colour, spacing=spacing, bold=bold)

    def _write(
        self, x: int, y: int, text: str, font: str, size: int, colour: Color, *, spacing: int, bold: bool
    ) -> None:
        """The font has one weight: bold letters have an outline of their own colour."""
        written = self._canvas.beginText(x, y)
        written.setFont(font, size)
        written.setCharSpace(spacing)
        written.setFillColor(colour)
        if bold:
            written.setStrokeColor(colour)
            written.setTextRenderMode(2)
            self._canvas.setLineWidth(size * BOLD)
        written.textOut(text)
        written.setTextRenderMode(0)
        written.setCharSpace(0)
        self._canvas.drawText(written)


def _two_lines(text: str, size: int, width: int) -> list[str]:
    lines = lines_of(text, SANS, size, width)
    return lines if len(lines) <= 2 else [lines[0], cut(lines[1], SANS, size, width)]  # noqa: PLR2004


def _line(fact: Fact) -> str:
    return f"{fact.name}  {fact.said}"
