"""The glyphs of a PDF: those characters of Noto Sans SC or Noto Serif SC that it needs, as a TrueType font.

A PDF must be readable where no Chinese font is installed, so its font is in it. The fonts (SIL Open Font License 1.1,
notofonts/noto-cjk) come as a package with outlines in cubic curves; reportlab embeds quadratic ones only, into which
fontTools turns the few hundred glyphs that one sheet uses.
"""

from __future__ import annotations

import io
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from fontTools import subset
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont, newTable

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGE = "pylopdf_fonts_zh_cn"
# How far, in thousandths of the font's size, a curve may be from the original.
MAX_ERROR = 1
UNUSED = ("GSUB", "GPOS", "GDEF", "BASE", "VORG", "vhea", "vmtx")
NO_HINTS = (
    "maxTwilightPoints",
    "maxStorage",
    "maxFunctionDefs",
    "maxInstructionDefs",
    "maxStackElements",
    "maxSizeOfInstructions",
    "maxComponentElements",
    "maxPoints",
    "maxContours",
    "maxCompositePoints",
    "maxCompositeContours",
    "maxComponentDepth",
)


class Face(StrEnum):
    """A font, by the file it comes in."""

    SANS = "NotoSansSC-Regular.otf"
    SERIF = "NotoSerifSC-Regular.otf"


@cache
def known_characters(face: Face) -> frozenset[str]:
    """Every character that the font can show."""
    font: Any
    with resources.as_file(resources.files(PACKAGE) / face) as path, TTFont(path, lazy=True) as font:
        return frozenset(map(chr, font.getBestCmap()))


def truetype(characters: Iterable[str], face: Face = Face.SANS) -> io.BytesIO:
    """A TrueType font with these characters, as far as the font knows them; others show as a crossed box."""
    options = subset.Options(
        layout_features=[], notdef_outline=True, hinting=False, desubroutinize=True, recalc_timestamp=False
    )
    options.drop_tables += UNUSED
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes={ord(character) for character in characters})
    file = io.BytesIO()
    font: Any
    with resources.as_file(resources.files(PACKAGE) / face) as path, TTFont(path, recalcTimestamp=False) as font:
        subsetter.subset(font)
        _turn_quadratic(font)
        font.save(file)
    file.seek(0)
    return file


def _turn_quadratic(font: Any) -> None:
    """Put tables of quadratic outlines in the place of the cubic ones."""
    order, drawn = font.getGlyphOrder(), font.getGlyphSet()
    glyphs = {}
    for name in order:
        pen = TTGlyphPen(None)
        drawn[name].draw(Cu2QuPen(pen, MAX_ERROR, reverse_direction=True))
        glyphs[name] = pen.glyph()
    font["loca"], font["glyf"] = newTable("loca"), newTable("glyf")
    font["glyf"].glyphOrder, font["glyf"].glyphs = order, glyphs
    # Compiling measures the glyphs.
    font["glyf"].compile(font)
    del font["CFF "]
    font.sfntVersion = "\0\1\0\0"
    font["head"].glyphDataFormat = 0
    font["post"].formatType = 3
    font["maxp"].tableVersion = 0x00010000
    font["maxp"].maxZones = 1
    for name in NO_HINTS:
        setattr(font["maxp"], name, 0)
    for name, glyph in glyphs.items():
        advance, _ = font["hmtx"][name]
        font["hmtx"][name] = (advance, glyph.xMin if glyph.numberOfContours else 0)
