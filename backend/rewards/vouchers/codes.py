"""What a citizen shows at the counter: a QR code and a typed code, both new every 30 seconds. Pure, no I/O.

A voucher has a *number* (eight letters of ``kernel.base32``) and a *secret*, 32 bytes that follow from the server's key
and the voucher's id and are stored nowhere. Time is counted in *steps*: ``floor(unix seconds / 30)``, written in
decimal. With ``‖`` for joining bytes and all texts in ASCII:

* secret = HMAC-SHA256(server key, ``voucher secret`` ‖ voucher id)
* mac = the first 15 bytes of HMAC-SHA256(secret, ``tanhui voucher 1`` ‖ number ‖ step)
* token (in the QR code) = ``TH1.`` ‖ number ‖ ``.`` ‖ step ‖ ``.`` ‖ base64url(mac), which needs no padding
* digits = the truncation of RFC 4226, section 5.3, of HMAC-SHA256(secret, ``tanhui typed 1`` ‖ number ‖ step), modulo
  10,000, four digits (of the 32 bytes, the low half of the last one is the offset)
* typed code (under the QR code) = the number as ``XXXX-XXXX``, a blank, the digits

A phone that has the secret computes both without a network. A code is good in its own step, the one before and the one
after; so what somebody photographs is worthless a minute later. Within that minute the caller refuses it a second
time: no step at or below the last one used on that voucher. Four digits can be guessed, so the caller counts wrong
ones.
"""

from __future__ import annotations

import base64
import hmac
import io
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import segno

from backend.kernel.base32 import ALPHABET, CODE_LENGTH, as_typed, code_of
from backend.kernel.crypto import keyed_hash

STEP = timedelta(seconds=30)
MAX_READ = 100
"""Characters of what a scanner or a person gives; anything longer is no code."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAC_BYTES = 15
_DIGITS = 4
_SKEW = 1
_QUIET_ZONE = 4
_TOKEN = re.compile(rf"TH1\.([{ALPHABET}]{{{CODE_LENGTH}}})\.(0|[1-9][0-9]{{0,11}})\.([A-Za-z0-9_-]{{20}})")
_TYPED = re.compile(rf"([{ALPHABET}]{{{CODE_LENGTH}}})([0-9]{{{_DIGITS}}})")
# Dashes that keyboards and programs put in the place of ``-``: hyphen, figure, en and em dash, bar, minus.
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2012\u2013\u2014\u2015\u2212", "-"))


@dataclass(frozen=True, slots=True)
class ShownCode:
    """What is shown now: the QR code's text, the typed code, and when the next ones take their place."""

    token: str
    typed: str
    valid_until: datetime


@dataclass(frozen=True, slots=True)
class TokenProof:
    """What a QR code proves itself by."""

    step: int
    mac: str


@dataclass(frozen=True, slots=True)
class TypedProof:
    """What a typed code proves itself by."""

    digits: str


@dataclass(frozen=True, slots=True)
class ReadCode:
    """A code as read: which voucher it claims to be, and its proof, not yet checked."""

    number: str
    proof: TokenProof | TypedProof


@dataclass(frozen=True, slots=True)
class Verified:
    """The code is the voucher's own, of this step."""

    step: int


class Fault(StrEnum):
    """Why a code is not good."""

    EXPIRED = "EXPIRED"
    """Once the voucher's own, but of another minute."""
    FORGED = "FORGED"
    """Not made with the voucher's secret."""
    WRONG = "WRONG"
    """These four digits are not of this minute; whether they ever were, nobody can tell."""


def new_number(server_key: bytes, voucher: str, attempt: int) -> str:
    """The voucher's number; where another voucher has it already, the next attempt gives another."""
    return code_of(keyed_hash(server_key, "voucher number", voucher, str(attempt)))


def secret_of(server_key: bytes, voucher: str) -> bytes:
    """The voucher's secret, 32 bytes."""
    return _hmac(server_key, f"voucher secret{voucher}")


def step_at(now: datetime) -> int:
    """The step of this moment."""
    return (now - _EPOCH) // STEP


def show(secret: bytes, number: str, now: datetime) -> ShownCode:
    """What the voucher's phone shows at this moment."""
    step = step_at(now)
    half = CODE_LENGTH // 2
    return ShownCode(
        token=f"TH1.{number}.{step}.{_mac(secret, number, step)}",
        typed=f"{number[:half]}-{number[half:]} {_digits(secret, number, step)}",
        valid_until=_EPOCH + (step + 1) * STEP,
    )


def read(text: str) -> ReadCode | None:
    """The code that a scanner or a cashier gave; None where it can be none.

    A QR code must be exact but for blanks around it. A typed code may have blanks and dashes anywhere, any case and
    width, O for 0, I or L for 1.
    """
    if len(text) > MAX_READ:
        return None
    scanned = _TOKEN.fullmatch(text.strip())
    if scanned:
        number, step, mac = scanned.groups()
        return ReadCode(number, TokenProof(int(step), mac))
    plain = "".join(unicodedata.normalize("NFKC", text).translate(_DASHES).split())
    typed = _TYPED.fullmatch(as_typed(plain)) if plain.isascii() else None
    return ReadCode(typed[1], TypedProof(typed[2])) if typed else None


def verify(code: ReadCode, secret: bytes, now: datetime) -> Verified | Fault:
    """Whether the code is of the voucher with this secret and of this minute.

    Compares in constant time. Of two steps that share their four digits the earlier is meant, so that a repetition is
    never taken for something new.
    """
    present = step_at(now)
    steps = range(present - _SKEW, present + _SKEW + 1)
    if isinstance(code.proof, TokenProof):
        if not hmac.compare_digest(code.proof.mac, _mac(secret, code.number, code.proof.step)):
            return Fault.FORGED
        return Verified(code.proof.step) if code.proof.step in steps else Fault.EXPIRED
    digits = code.proof.digits
    matching = [step for step in steps if hmac.compare_digest(digits, _digits(secret, code.number, step))]
    return Verified(matching[0]) if matching else Fault.WRONG


def qr_svg(token: str) -> str:
    """The QR code as a picture that scales: black on white whatever the page's colours are."""
    return _drawn(token, "svg", scale=1, xmldecl=False, omitsize=True).decode()


def qr_png(token: str, *, scale: int = 8) -> bytes:
    """The QR code as a picture, ``scale`` pixels to each of its squares."""
    return _drawn(token, "png", scale=scale)


def _drawn(token: str, kind: str, **options: object) -> bytes:
    drawing = io.BytesIO()
    code = segno.make_qr(token, error="m", boost_error=False)
    code.save(drawing, kind=kind, border=_QUIET_ZONE, dark="black", light="white", **options)
    return drawing.getvalue()


def _hmac(key: bytes, message: str) -> bytes:
    return hmac.digest(key, message.encode(), "sha256")


def _mac(secret: bytes, number: str, step: int) -> str:
    mac = _hmac(secret, f"tanhui voucher 1{number}{step}")[:_MAC_BYTES]
    return base64.urlsafe_b64encode(mac).decode()


def _digits(secret: bytes, number: str, step: int) -> str:
    digest = _hmac(secret, f"tanhui typed 1{number}{step}")
    offset = digest[-1] & 0x0F
    truncated = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{truncated % 10**_DIGITS:0{_DIGITS}}"
