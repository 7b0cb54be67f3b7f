"""Drawing with reportlab: fonts known for one sheet only; texts shortened, broken or set smaller until they fit.

Widths and sizes are in points, 1/72 of an inch.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reportlab.pdfbase import pdfmetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reportlab.pdfbase.ttfonts import TTFont

ELLIPSIS = "…"
# reportlab knows fonts by name, one table for the whole process.
_FONT_TABLE = threading.Lock()
# Chinese is broken anywhere but before these, which would begin a line.
_NEVER_FIRST = frozenset("，。、；：？！）》」』】…,.;:?!)]}%")


@contextmanager
def registered(*fonts: TTFont) -> Iterator[None]:
    """Let reportlab know the fonts, for this sheet only: its tables would keep the first of each name for ever."""
    with _FONT_TABLE:
        for font in fonts:
            pdfmetrics.registerFont(font)
        try:
            yield
        finally:
            for font in fonts:
                pdfmetrics._fonts.pop(font.fontName, None)  # noqa: SLF001 - there is no other way to take one back
                pdfmetrics._dynFaceNames.pop(font.face.name, None)  # noqa: SLF001 - likewise


def fitted(text: str, font: str, size: int, width: int) -> str:
    """The text, or as much of its beginning as has room."""
    if pdfmetrics.stringWidth(text, font, size) <= width:
        return text
    return cut(text, font, size, width)


def cut(text: str, font: str, size: int, width: int) -> str:
    """As much of the text's beginning as has room beside the mark that something is left out."""
    while text and pdfmetrics.stringWidth(text + ELLIPSIS, font, size) > width:
        text = text[:-1]
    return text + ELLIPSIS


def lines_of(text: str, font: str, size: int, width: int) -> list[str]:
    """The text broken into lines: at blanks, within Chinese anywhere, and within a word that is longer than a line."""
    lines = [""]
    for piece in _pieces(text):
        # A piece is one blank, one word or one Chinese character with what may not begin a line.
        if pdfmetrics.stringWidth((lines[-1] + piece).rstrip(), font, size) <= width:
            lines[-1] += piece
            continue
        if lines[-1].strip():
            lines.append("")
        for letter in piece.lstrip():
            if lines[-1] and pdfmetrics.stringWidth(lines[-1] + letter, font, size) > width:
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines if line.strip()]


def _pieces(text: str) -> Iterator[str]:
    piece = ""
    for letter in text:
        is_wide = letter >= "\u2e80"
        starts = letter == " " or is_wide or piece[-1:] == " " or piece[-1:] >= "\u2e80"
        if piece and starts and letter not in _NEVER_FIRST:
            yield piece
            piece = ""
        piece += letter
    if piece:
        yield piece


def shrunk(text: str, font: str, sizes: range, width: int, most: int) -> tuple[int, list[str]]:
    """The largest of the sizes (falling) at which the text has at most so many lines, and these; else its beginning."""
    for size in sizes:
        lines = lines_of(text, font, size, width)
        if len(lines) <= most:
            return size, lines
    size = sizes[-1]
    lines = lines_of(text, font, size, width)
    return size, [*lines[: most - 1], cut(lines[most - 1], font, size, width)]
