"""What identity's operations accept: idempotency keys, names, notes and amounts. Pure."""

from __future__ import annotations

import re

from backend.identity.model import NAME, NAME_RULE
from backend.kernel.errors import InvalidInputError, Text

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{8,64}")
# Without controls, line breaks and what turns the direction of writing or cannot be seen.
NOTE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+")
# More than any programme gives out: sums of such amounts stay far from 64 bits.
MAX_POINTS = 10**12


def require_idempotency_key(key: str) -> None:
    """Refuse a key that cannot be one.

    Raises:
        InvalidInputError: not 8–64 printable ASCII characters.
    """
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInputError("idempotencyKey", Text("8–64 个可打印 ASCII 字符", "8–64 printable ASCII characters"))


def require_name(field: str, value: str) -> None:
    """Refuse an id that can be nobody's.

    Raises:
        InvalidInputError: not of the form of names.
    """
    if not NAME.fullmatch(value):
        raise InvalidInputError(field, NAME_RULE)


def require_note(field: str, text: str, *, limit: int) -> None:
    """Refuse a text that a statement cannot show on one line.

    Raises:
        InvalidInputError: blank, longer than ``limit`` characters, or with characters nobody sees.
    """
    if not text.strip() or len(text) > limit or not NOTE.fullmatch(text):
        raise InvalidInputError(
            field, Text(f"1–{limit} 个字符，不含控制字符", f"1–{limit} characters, none of them control characters")
        )


def require_points(points: int, *, signed: bool = False) -> None:
    """Refuse a number of points that cannot move.

    Raises:
        InvalidInputError: zero, above a million million, or negative where that means nothing.
    """
    if not 0 < (abs(points) if signed else points) <= MAX_POINTS:
        sign = "±" if signed else ""
        raise InvalidInputError("points", Text(f"{sign}1–{MAX_POINTS}", f"{sign}1–{MAX_POINTS}"))
