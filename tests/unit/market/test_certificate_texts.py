"""Texts that have to fit: broken into lines, set smaller, shortened, and never wider than their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from backend.printing.drawing import ELLIPSIS, cut, fitted, lines_of, registered, shrunk
from backend.printing.font import Face, known_characters, truetype

if TYPE_CHECKING:
    from collections.abc import Iterator

FONT = "texts"
LETTERS = "abcWi .,-:()中文标点，。、（）「」"


@pytest.fixture(autouse=True, scope="module")
def _font() -> Iterator[None]:
    """A font of these letters."""
    with registered(TTFont(FONT, truetype(set(LETTERS) | {ELLIPSIS}))):
        yield


def width_of(text: str, size: int = 10) -> int:
    """Its width in points, rounded up."""
    return -int(-pdfmetrics.stringWidth(text, FONT, size) // 1)


@given(st.text(LETTERS, max_size=120), st.integers(20, 300))
def test_no_line_is_too_wide_and_no_letter_is_lost(text: str, width: int) -> None:
    lines = lines_of(text, FONT, 10, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(pdfmetrics.stringWidth(line, FONT, 10) <= width or len(line) == 1 for line in lines)
    assert all(line == line.strip() != "" for line in lines)


def test_lines_break_at_blanks_and_within_chinese() -> None:
    assert lines_of("abc abc abc", FONT, 10, width_of("abc abc")) == ["abc abc", "abc"]
    assert lines_of("中文中文", FONT, 10, width_of("中文")) == ["中文", "中文"]
    assert lines_of("中文，中文", FONT, 10, width_of("中文")) == ["中", "文，", "中文"]
    assert lines_of("WWWWWW", FONT, 10, width_of("WWWW")) == ["WWWW", "WW"]
    assert lines_of("", FONT, 10, 50) == []


@given(st.text(LETTERS, min_size=1, max_size=200), st.integers(60, 300), st.integers(1, 3))
def test_what_is_shrunk_fits(text: str, width: int, most: int) -> None:
    size, lines = shrunk(text, FONT, range(20, 7, -1), width, most)
    assert 8 <= size <= 20
    assert len(lines) <= most
    assert all(pdfmetrics.stringWidth(line, FONT, size) <= width for line in lines)


def test_only_what_does_not_fit_is_set_smaller_or_cut() -> None:
    assert shrunk("abc", FONT, range(20, 7, -1), 300, 1) == (20, ["abc"])
    size, lines = shrunk("WWWW", FONT, range(20, 7, -1), width_of("WWWW", 15), 1)
    assert (size, lines) == (15, ["WWWW"])
    assert shrunk("W" * 99, FONT, range(20, 7, -1), 100, 2)[1][1].endswith(ELLIPSIS)
    assert fitted("abc", FONT, 10, width_of("abc")) == "abc"
    assert fitted("WWWW", FONT, 10, width_of("WWW")) == f"W{ELLIPSIS}"
    assert cut("abc", FONT, 10, 300) == f"abc{ELLIPSIS}"


def test_a_font_knows_its_own_characters_only() -> None:
    assert {"中", "A", "，"} <= known_characters(Face.SANS) & known_characters(Face.SERIF)
    assert "🚲" not in known_characters(Face.SANS)
