"""Unified social credit codes (统一社会信用代码): the number a firm is registered under, and how it checks itself."""

from __future__ import annotations

import re

# GB 32100-2015: digits and letters without I, O, S, V and Z; weights are powers of 3 modulo 31.
CODE_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
CODE = re.compile(f"[{CODE_ALPHABET}]{{2}}[0-9]{{6}}[{CODE_ALPHABET}]{{10}}")
CODE_MODULUS = 31
CODE_WEIGHTS = tuple(pow(3, place, CODE_MODULUS) for place in range(17))


def is_credit_code(code: str) -> bool:
    """Whether this is a unified social credit code with the check character of GB 32100-2015."""
    if not CODE.fullmatch(code):
        return False
    total = sum(CODE_ALPHABET.index(letter) * weight for letter, weight in zip(code, CODE_WEIGHTS, strict=False))
    return CODE_ALPHABET[-total % CODE_MODULUS] == code[-1]
