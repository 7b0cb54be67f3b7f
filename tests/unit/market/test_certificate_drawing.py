"""A certificate on paper: every word and figure, in characters that its font has, and a code that a phone reads."""

from __future__ import annotations

import dataclasses
import io
from functools import cache
from typing import TYPE_CHECKING

import pypdfium2
import pytest
import zxingcpp
from fontTools.ttLib import TTFont
from PIL import Image
from reportlab.pdfbase import pdfmetrics

from backend.kernel.errors import Language, Text
from backend.market.pooling.model import ActsSummary, KindSum
from backend.market.retirement.drawing import HEIGHT, SANS, SERIF, UNKNOWN, WIDTH, draw, picture
from backend.market.retirement.model import Beneficiary, Origin, RetirementPurpose
from backend.market.retirement.wording import (
    PURPOSES,
    Seal,
    grouped,
    said_date,
    said_grams,
    said_serials,
    show,
)
from backend.market.serials.model import SerialRange
from backend.printing.font import Face, known_characters, truetype
from tests.unit.market.certified import SEAL, SETTING, ZONE, certificate

if TYPE_CHECKING:
    from backend.market.retirement.model import Certificate

LONG = "镇江" * 60


@cache
def drawn(of: Certificate | None = None, seal: Seal | None = SEAL, language: Language = Language.ZH_CN) -> bytes:
    """The certificate as PDF."""
    return draw(show(of or certificate(), SETTING, seal, language))


def text_of(pdf: bytes) -> str:
    """All that stands on its one page, without the breaks between lines."""
    with pypdfium2.PdfDocument(pdf) as document:
        [page] = document
        text: str = page.get_textpage().get_text_bounded()
        return text.replace("\r\n", "")


def hard() -> Certificate:
    """Whatever is long, is as long as it can be."""
    origin = certificate().origin
    assert origin is not None
    facts = dataclasses.replace(origin.facts, project=Text(LONG, "x" * 200), verifier=LONG, methodologies=(LONG, LONG))
    kinds = tuple(KindSum(f"a_kind_of_act_with_a_name_{number}", 10**9, 10**12 - number) for number in range(40))
    acts = ActsSummary(kinds, 10**9, 10**12, origin.acts.first, origin.acts.last)
    serials = tuple(SerialRange(10**15 + 9 * number, 10**15 + 9 * number + 3) for number in range(5_000))
    return certificate(
        beneficiary=Beneficiary("W" * 120, LONG, "91440300MA5F0L1C20"),
        statement="为抵消" * 166,
        owner_name=LONG,
        grams=10**15 - 1,
        serials=serials,
        origin=Origin(facts, acts),
    )


@pytest.mark.parametrize(
    ("grams", "zh", "en"),
    [
        (1, "1 克", "1 g"),
        (999, "999 克", "999 g"),
        (1_000, "1 千克", "1 kg"),
        (1_001, "1.001 千克", "1.001 kg"),
        (999_990, "999.99 千克", "999.99 kg"),
        (1_000_000, "1 吨", "1 t"),
        (1_000_001, "1.000001 吨", "1.000001 t"),
        (1_234_500_000, "1,234.5 吨", "1,234.5 t"),
        (10**15 - 1, "999,999,999.999999 吨", "999,999,999.999999 t"),
    ],
)
def test_grams_are_said_exactly(grams: int, zh: str, en: str) -> None:
    assert (said_grams(grams, Language.ZH_CN), said_grams(grams, Language.EN)) == (zh, en)


def test_dates_are_local_days() -> None:
    at = certificate().at
    assert at.day == 20
    assert said_date(at, ZONE, Language.ZH_CN) == "2026 年 11 月 21 日"
    assert said_date(at, ZONE, Language.EN) == "21 November 2026"


def test_of_many_ranges_the_first_are_told_and_how_many_there_are() -> None:
    runs = tuple(SerialRange(number * 10 + 1, number * 10 + 2) for number in range(1_004))
    assert said_serials(runs[:3], Language.EN) == "1–2, 11–12, 21–22"
    assert said_serials(runs, Language.EN) == "1,004 ranges: 1–2, 11–12, 21–22…"
    assert said_serials(runs[:4], Language.ZH_CN) == "共 4 段：1–2, 11–12, 21–22…"


SAID = {
    Language.ZH_CN: (
        "碳普惠减排量注销证书",
        "镇江春季马拉松",
        "1.25 吨",
        "2026 年 11 月 21 日",
        "活动碳中和",
        "往返交通排放",
        "镇江公共交通减排",
        "深圳市低碳公共出行碳普惠方法学",
        "江苏绿色认证有限公司",
        "地铁出行",
        "980 千克",
        "3,314 次",
        "312 位市民",
        "区块 1042",
    ),
    Language.EN: (
        "Certificate of Retirement",
        "Zhenjiang Spring Marathon",
        "1.25 t CO2e",
        "21 November 2026",
        "neutrality of an event",
        "Zhenjiang public transport",
        "T/ACEF 107-2023",
        "Metro ride",
        "980 kg",
        "3,314 acts",
        "312 citizens",
        "block 1042",
    ),
}


@pytest.mark.parametrize("language", Language)
def test_it_says_all_it_has_to(language: Language) -> None:
    pdf = drawn(language=language)
    text = text_of(pdf)
    everywhere = (
        "碳惠宜",
        "Tanhuiyi",
        "TH-ZHENJIANG-2026-7K3M9QX2",
        "zhenjiang-conservative-transit-2026-001",
        "2c26b46b68ffc68ff99b453c1d30413413422d706483bf",
        "1–1,000,000",
        "tx_0123456789abcdef0123456789abcdef",
        SEAL.root,
        "2026",
    )
    for said in (*everywhere, *SAID[language]):
        assert said in text
    assert UNKNOWN not in text
    # The fonts are in it.
    assert pdf.count(b"/FontFile2") == 2
    assert "alice" not in text


@pytest.mark.parametrize("purpose", RetirementPurpose)
def test_every_purpose_is_told(purpose: RetirementPurpose) -> None:
    shown = [show(certificate(purpose=purpose), SETTING, SEAL, language).reason for language in Language]
    assert shown == [f"用途：{PURPOSES[purpose].zh}", f"Purpose: {PURPOSES[purpose].en}"]


def test_what_is_not_sealed_says_so() -> None:
    assert "尚未封存" in text_of(drawn(seal=None))
    assert "not sealed yet" in text_of(drawn(seal=None, language=Language.EN))


def test_without_origin_there_are_no_acts() -> None:
    text = text_of(drawn(certificate(origin=None)))
    assert "减排来自" not in text
    assert "1–1,000,000" in text


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("make", [certificate, hard])
def test_the_code_leads_to_the_page_that_verifies_it(make: object, language: Language) -> None:
    assert callable(make)
    image = Image.open(io.BytesIO(picture(drawn(make(), language=language))))
    [code] = zxingcpp.read_barcodes(image)
    assert code.text == "https://tanhui.example/certificates/TH-ZHENJIANG-2026-7K3M9QX2"
    assert image.size == (2_526, 1_785)


@pytest.mark.parametrize("language", Language)
def test_nothing_leaves_its_place_however_long_it_is(language: Language) -> None:
    with pypdfium2.PdfDocument(drawn(hard(), None, language)) as document:
        [page] = document
        text = page.get_textpage()
        boxes = [text.get_charbox(number) for number in range(text.count_chars())]
        words = text.get_text_bounded()
    assert words.count("…") >= 5
    # Within the frame, but for the boxes of blanks and breaks.
    inside = [(left, bottom, right, top) for left, bottom, right, top in boxes if right > left and top > bottom]
    assert min(box[0] for box in inside) > 40
    assert min(box[1] for box in inside) > 30
    assert max(box[2] for box in inside) < WIDTH - 40
    assert max(box[3] for box in inside) < HEIGHT - 30
    assert "5,000" in words


def test_characters_that_no_font_has_are_marked() -> None:
    text = text_of(drawn(certificate(beneficiary=Beneficiary("A🚲B", "马🚲拉松"), statement="ሴ")))
    assert f"马{UNKNOWN}拉松" in text
    assert text.count(UNKNOWN) == 2


def test_every_glyph_that_is_drawn_is_in_its_font() -> None:
    for language in Language:
        for of in (certificate(), hard()):
            letters = set("".join(show(of, SETTING, SEAL, language).texts()))
            for face in Face:
                known = letters & known_characters(face)
                with TTFont(truetype(known, face)) as font:
                    glyphs = font.getBestCmap()
                assert {letter for letter in known if ord(letter) not in glyphs} == set()
            assert letters <= known_characters(Face.SANS)


def test_the_same_words_give_the_same_bytes() -> None:
    again = draw(show(certificate(), SETTING, SEAL, Language.ZH_CN))
    assert again == drawn()
    assert picture(again) == picture(drawn())
    assert drawn() != drawn(seal=None)


def test_a_font_is_known_for_one_sheet_only() -> None:
    drawn()
    assert not {SANS, SERIF} & set(pdfmetrics.getRegisteredFontNames())


def test_thousands_are_apart() -> None:
    assert grouped(1_234_567) == "1,234,567"
