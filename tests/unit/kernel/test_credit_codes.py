"""Unified social credit codes: which are ones, and that a slip of the pen makes none of them another."""

from __future__ import annotations

import pytest

from backend.kernel.credit_codes import CODE_ALPHABET, is_credit_code
from tests.unit.rewards.trading import credit_code


@pytest.mark.parametrize("code", ["91350100M000100Y43", "91110000600037341L", credit_code(7)])
def test_a_credit_code_with_its_check_character_is_one(code: str) -> None:
    assert is_credit_code(code)


@pytest.mark.parametrize(
    "code",
    [
        "91350100M000100Y44",
        "91110000600037342L",
        "91350100M000100Y4",
        "91350100M000100Y430",
        "9135010OM000100Y43",
        "91350I00M000100Y43",
        "91350100m000100y43",
        "９1350100M000100Y43",
        "",
    ],
)
def test_whatever_else_is_none(code: str) -> None:
    assert not is_credit_code(code)


def test_every_single_slip_in_a_credit_code_is_noticed() -> None:
    code = credit_code()
    slips = [
        code[:place] + letter + code[place + 1 :]
        for place in range(18)
        for letter in CODE_ALPHABET
        if letter != code[place]
    ]
    assert [slip for slip in slips if is_credit_code(slip)] == []
