"""Voucher codes: read however they are given, good for their minute, and only made by whoever has the secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.kernel.base32 import ALPHABET
from backend.rewards.vouchers import codes
from backend.rewards.vouchers.codes import Fault, ReadCode, TokenProof, TypedProof, Verified

KEY = bytes(range(32))
SECRET = codes.secret_of(KEY, "vou_1")
NUMBER = "7K3M9QXT"
NOW = datetime(2026, 11, 21, 8, 0, 12, tzinfo=UTC)
PRESENT = 1795248012 // 30
DOC = Path(__file__).parents[3] / "docs" / "vouchers.md"
MILLISECOND = timedelta(milliseconds=1)


def read(text: str) -> ReadCode:
    """What the text says, which must be a code."""
    found = codes.read(text)
    assert found is not None
    return found


def token(now: datetime = NOW, secret: bytes = SECRET) -> str:
    """The token of a moment."""
    return codes.show(secret, NUMBER, now).token


def typed(now: datetime = NOW, secret: bytes = SECRET) -> str:
    """The typed code of a moment."""
    return codes.show(secret, NUMBER, now).typed


def decoded(png: bytes) -> list[str]:
    """What a stock reader sees in a picture."""
    with Image.open(io.BytesIO(png)) as picture:
        return [found.text for found in zxingcpp.read_barcodes(picture)]


def by_hand(secret: bytes, number: str, step: int) -> tuple[str, str]:
    """Mac and digits, written down a second time from the document."""
    mac = hmac.new(secret, b"tanhui voucher 1" + number.encode() + b"%d" % step, hashlib.sha256).digest()[:15]
    digest = hmac.new(secret, b"tanhui typed 1" + number.encode() + b"%d" % step, hashlib.sha256).digest()
    start = digest[31] & 15
    [*four] = digest[start : start + 4]
    value = (four[0] & 0x7F) << 24 | four[1] << 16 | four[2] << 8 | four[3]
    return base64.urlsafe_b64encode(mac).decode(), str(value % 10_000).rjust(4, "0")


def test_a_code_is_made_as_the_document_says() -> None:
    mac, digits = by_hand(SECRET, NUMBER, PRESENT)
    shown = codes.show(SECRET, NUMBER, NOW)
    assert (shown.token, shown.typed) == (f"TH1.{NUMBER}.{PRESENT}.{mac}", f"7K3M-9QXT {digits}")
    assert shown.valid_until == datetime(2026, 11, 21, 8, 0, 30, tzinfo=UTC)
    assert read(shown.token) == ReadCode(NUMBER, TokenProof(PRESENT, mac))
    assert read(shown.typed) == ReadCode(NUMBER, TypedProof(digits))


def test_the_documents_example_is_true() -> None:
    example = dict(re.findall(r"^\| ([a-z ]+) \| `(.+)` \|$", DOC.read_text("utf-8"), re.MULTILINE))
    secret = bytes.fromhex(example["secret"])
    key = bytes.fromhex(example["server key"])
    assert secret == hmac.digest(key, b"voucher secret" + example["voucher id"].encode(), "sha256")
    assert secret == codes.secret_of(key, example["voucher id"])
    assert example["number"] == codes.new_number(key, example["voucher id"], 0)
    now = datetime.fromisoformat(example["time"])
    shown = codes.show(secret, example["number"], now)
    assert (shown.token, shown.typed) == (example["token"], example["typed code"])
    assert str(codes.step_at(now)) == example["step"]
    assert by_hand(secret, example["number"], int(example["step"])) == (example["mac"], example["digits"])


def test_a_number_follows_from_key_voucher_and_attempt() -> None:
    numbers = [codes.new_number(*given) for given in ((KEY, "a", 0), (KEY, "a", 1), (KEY, "b", 0), (SECRET, "a", 0))]
    assert len(set(numbers)) == 4
    assert codes.new_number(KEY, "a", 0) == numbers[0]
    assert all(re.fullmatch(f"[{ALPHABET}]{{8}}", number) for number in numbers)


def test_a_secret_follows_from_key_and_voucher() -> None:
    secrets = [codes.secret_of(KEY, "a"), codes.secret_of(KEY, "b"), codes.secret_of(SECRET, "a")]
    assert len(set(secrets)) == 3
    assert {len(secret) for secret in secrets} == {32}


@pytest.mark.parametrize("code", [token, typed])
def test_a_code_is_good_in_its_own_step_and_those_beside_it(code: object) -> None:
    assert callable(code)
    begin = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    first, last = begin - timedelta(seconds=30), begin + timedelta(seconds=60) - MILLISECOND
    given = read(code(NOW))
    for moment in (first, begin, NOW, last):
        assert codes.verify(given, SECRET, moment) == Verified(PRESENT)
    refused = Fault.EXPIRED if code is token else Fault.WRONG
    for moment in (first - MILLISECOND, last + MILLISECOND):
        assert codes.verify(given, SECRET, moment) is refused


def test_a_token_is_forged_whichever_part_was_changed() -> None:
    head, number, step, mac = token().split(".")
    other = codes.secret_of(KEY, "vou_2")
    changed = [
        f"{head}.8K3M9QXT.{step}.{mac}",
        f"{head}.{number}.{int(step) + 1}.{mac}",
        f"{head}.{number}.0.{mac}",
        *(f"{head}.{number}.{step}.{mac[:i]}{'A' if mac[i] != 'A' else 'B'}{mac[i + 1 :]}" for i in range(20)),
        token(secret=other),
        # Long over and forged is told as forged: only its own secret can say that it was ever good.
        token(NOW - timedelta(days=1), other),
    ]
    assert len(set(changed)) == 25
    assert [codes.verify(read(text), SECRET, NOW) for text in changed] == [Fault.FORGED] * 25
    assert codes.verify(read(typed(secret=other)), SECRET, NOW) is Fault.WRONG


@pytest.mark.parametrize("offset", [-1_000_000, -2, 2, 1_000_000])
def test_a_genuine_token_of_another_time_is_expired(offset: int) -> None:
    assert codes.verify(read(token(NOW + offset * codes.STEP)), SECRET, NOW) is Fault.EXPIRED


def test_digits_that_two_steps_share_mean_the_earlier() -> None:
    moment = next(
        moment
        for moment in (NOW + step * codes.STEP for step in range(100_000))
        if typed(moment) == typed(moment + codes.STEP)
    )
    earlier = codes.step_at(moment)
    for present in (moment, moment + codes.STEP):
        assert codes.verify(read(typed(moment)), SECRET, present) == Verified(earlier)


@pytest.mark.parametrize(
    "text",
    [
        "0K1M-91XT 0417",
        "0k1m91xt0417",
        " 0K1M - 91XT - 0417 ",
        "OKIM-9LXT O4I7",
        "okim 9lxt o4l7",
        "0K1M–91XT\t0417\r\n",
        "０Ｋ１Ｍ－９１ＸＴ　０４１７",
        "0-K-1-M-9-1-X-T-0-4-1-7",
    ],
)
def test_a_typed_code_is_read_however_it_is_spelled(text: str) -> None:
    assert codes.read(text) == ReadCode("0K1M91XT", TypedProof("0417"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "7K3M-9QXT",
        "7K3M-9QXT 123",
        "7K3M-9QXT 12345",
        "7K3M-9QUT 1234",
        "7K3M-9QXT 12A4",
        "7K3M-9QXT ١٢٣٤",
        "ßK3M-9QXT 123",
        "7K3M.9QXT.1234",
        "\ud800K3M-9QXT 1234",
        f"TH1.{NUMBER}.59841600.{'A' * 19}",
        f"TH1.{NUMBER}.59841600.{'A' * 21}",
        f"TH1.{NUMBER}.59841600.{'A' * 19}=",
        f"TH1.{NUMBER}.059841600.{'A' * 20}",
        f"TH1.{NUMBER}.-5.{'A' * 20}",
        f"TH1.{NUMBER}.{'9' * 13}.{'A' * 20}",
        f"TH1.{NUMBER}.٥.{'A' * 20}",
        f"TH1.{NUMBER.lower()}.59841600.{'A' * 20}",
        f"th1.{NUMBER}.59841600.{'A' * 20}",
        f"TH2.{NUMBER}.59841600.{'A' * 20}",
        f"TH1.{NUMBER}.59841600.{'A' * 20}.",
        "https://tanhui.test/",
    ],
)
def test_what_is_no_code_is_none(text: str) -> None:
    assert codes.read(text) is None


def test_a_text_of_more_than_a_hundred_characters_is_no_code() -> None:
    assert codes.read(typed().ljust(100)) == read(typed())
    assert codes.read(typed().ljust(101)) is None
    assert codes.read(f" \n{token()}\t") == read(token())


@given(st.text(max_size=120))
def test_reading_bears_any_text(text: str) -> None:
    found = codes.read(text)
    assert found is None or re.fullmatch(f"[{ALPHABET}]{{8}}", found.number)


@given(
    st.binary(min_size=32, max_size=32),
    st.text(ALPHABET, min_size=8, max_size=8),
    st.datetimes(datetime(2020, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - Hypothesis' own way
    st.integers(-30_000, 30_000),
)
def test_what_is_shown_is_read_and_verified(secret: bytes, number: str, now: datetime, late_ms: int) -> None:
    shown = codes.show(secret, number, now)
    then = now + timedelta(milliseconds=late_ms)
    scanned, by_keys = read(shown.token), read(shown.typed)
    assert scanned.number == by_keys.number == number
    assert codes.verify(scanned, secret, then) == Verified(codes.step_at(now))
    # Another step of the window may share the digits.
    result = codes.verify(by_keys, secret, then)
    assert isinstance(result, Verified)
    assert by_hand(secret, number, result.step)[1] == shown.typed[-4:]


def test_digits_are_spread_over_all_they_can_be() -> None:
    digits = [typed(NOW + step * codes.STEP)[-4:] for step in range(10_000)]
    # 10,000 draws of 10,000 values leave 36.8 % of them out; each place holds each digit a thousand times.
    assert 6_100 < len(set(digits)) < 6_550
    for place in range(4):
        counts = Counter(code[place] for code in digits)
        assert len(counts) == 10
        assert all(850 < count < 1_150 for count in counts.values())


def test_a_stock_reader_reads_the_picture() -> None:
    for scale in (3, 8, 20):
        png = codes.qr_png(token(), scale=scale)
        assert decoded(png) == [token()]
        with Image.open(io.BytesIO(png)) as picture:
            # 29 squares and four of white on either side.
            assert (picture.format, picture.size) == ("PNG", (37 * scale, 37 * scale))


def test_a_damaged_picture_is_still_read() -> None:
    with Image.open(io.BytesIO(codes.qr_png(token()))) as picture:
        damaged = picture.convert("L")
    damaged.paste(255, (130, 130, 166, 166))
    again = io.BytesIO()
    damaged.save(again, "PNG")
    assert decoded(again.getvalue()) == [token()]


def test_the_drawing_is_the_same_code_in_black_on_white() -> None:
    svg = codes.qr_svg(token())
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert 'viewBox="0 0 37 37"' in svg
    assert "width=" not in svg.split(">")[0]
    rows = Image.new("1", (37, 37), 1)
    for start, runs in re.findall(r'd="M(\d+ [\d.]+)([^"]*)"', svg.split("stroke")[-1]):
        x, y = (int(float(part)) for part in start.split())
        for step, across, down in re.findall(r"([hm])(-?\d+)(?: (-?\d+))?", runs):
            if step == "h":
                rows.paste(0, (x, y, x + int(across), y + 1))
            x, y = x + int(across), y + int(down or 0)
    drawing = io.BytesIO()
    rows.resize((37 * 8, 37 * 8)).save(drawing, "PNG")
    assert decoded(drawing.getvalue()) == [token()]
