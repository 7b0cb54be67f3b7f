"""Codes that people read out and type: eight letters of Crockford's base 32, which carry 40 bits. Pure."""

from __future__ import annotations

# Crockford's base 32 (2002): no I, L, O or U.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_LENGTH = 8
_LETTER_BITS = 5
_HEX_DIGITS = CODE_LENGTH * _LETTER_BITS // 4
_MISREAD = str.maketrans("OIL", "011", "- ")


def code_of(digest: str) -> str:
    """The code that the first 40 bits of a hexadecimal digest give."""
    number = int(digest[:_HEX_DIGITS], 16)
    letters = range(CODE_LENGTH - 1, -1, -1)
    return "".join(ALPHABET[number >> position * _LETTER_BITS & len(ALPHABET) - 1] for position in letters)


def as_typed(text: str) -> str:
    """What a person meant who typed it in any case, with blanks or dashes, O for 0, I or L for 1."""
    return text.upper().translate(_MISREAD)


def read_code(text: str) -> str | None:
    """The code a person typed; None where it can be none."""
    code = as_typed(text)
    return code if len(code) == CODE_LENGTH and set(code) <= set(ALPHABET) else None
