"""What a certificate may say, its number with the check letter, and the words that are sealed with it."""

from __future__ import annotations

import dataclasses
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.base32 import ALPHABET
from backend.kernel.errors import InvalidInputError
from backend.ledger.model import Purpose, TransactionKind, credit_account
from backend.ledger.shape import check
from backend.market.retirement.booking import retirement, words_of
from backend.market.retirement.documents import certificate_from_document, certificate_to_document
from backend.market.retirement.model import Beneficiary, CertificateId, RetirementPurpose
from backend.market.retirement.rules import checked_beneficiary, new_number, read_number
from tests.unit.market.certified import certificate
from tests.unit.rewards.trading import credit_code

KEY = b"key"


def number(name: str = "crt_1", attempt: int = 0) -> str:
    """The number of a certificate of 2026."""
    return new_number(KEY, "zhenjiang", 2026, CertificateId(name), attempt)


@given(st.text(min_size=1), st.integers(0, 99))
def test_a_number_is_read_again_however_it_is_typed(name: str, attempt: int) -> None:
    made = number(name, attempt)
    head, _, code = made.rpartition("-")
    for typed in (made, made.lower(), f" {made} ", f"{head}-{code.replace('0', 'o').replace('1', 'l')}"):
        assert read_number(typed) == made


@given(st.text(min_size=1), st.data())
def test_one_misread_letter_is_noticed(name: str, data: st.DataObject) -> None:
    made = number(name)
    place = data.draw(st.integers(len(made) - 8, len(made) - 1))
    letter = data.draw(st.sampled_from([letter for letter in ALPHABET if letter != made[place]]))
    assert read_number(made[:place] + letter + made[place + 1 :]) is None


@given(st.text(min_size=1), st.integers(0, 6))
def test_two_swapped_letters_are_noticed_but_for_0_and_z(name: str, place: int) -> None:
    head, _, code = number(name).rpartition("-")
    pair = code[place : place + 2]
    swapped = f"{head}-{code[:place]}{pair[::-1]}{code[place + 2 :]}"
    if pair[0] != pair[1] and set(pair) != {"0", "Z"}:
        assert read_number(swapped) is None


@pytest.mark.parametrize(
    "text",
    ["", "TH", "TH-X-2026-", "TH--2026-00000000", "XX-A1-2026-00000000", "TH-A1-26-00000000", "é", "\x00", "0" * 999],
)
def test_what_is_no_number_is_read_as_none(text: str) -> None:
    assert read_number(text) is None


def test_another_attempt_gives_another_number() -> None:
    assert len({number(attempt=attempt) for attempt in range(50)}) == 50


def test_a_beneficiary_is_kept_in_one_spelling() -> None:
    code = credit_code(7)
    given_so = Beneficiary("  Harbour Co. ", " 港口 ", f" {code.lower()} ")
    assert checked_beneficiary(given_so) == Beneficiary("Harbour Co.", "港口", code)
    assert checked_beneficiary(Beneficiary("Harbour", " ", "")) == Beneficiary("Harbour")


@pytest.mark.parametrize(
    ("field", "beneficiary"),
    [
        ("beneficiary.name", Beneficiary("")),
        ("beneficiary.name", Beneficiary("x" * 121)),
        ("beneficiary.name", Beneficiary("a\u200bb")),
        ("beneficiary.nameZh", Beneficiary("x", "港" * 121)),
        ("beneficiary.creditCode", Beneficiary("x", None, credit_code()[:-1])),
        ("beneficiary.creditCode", Beneficiary("x", None, "0" * 17 + "1")),
    ],
)
def test_what_no_certificate_can_carry_is_refused(field: str, beneficiary: Beneficiary) -> None:
    with pytest.raises(InvalidInputError) as refused:
        checked_beneficiary(beneficiary)
    assert refused.value.field == field


def test_the_words_are_told_in_one_spelling() -> None:
    made = certificate(statement="春", owner_name="王芳")
    assert words_of(made).decode() == (
        '{"beneficiary":{"credit_code":null,"name":"Zhenjiang Spring Marathon","name_zh":"镇江春季马拉松"},'
        '"number":"TH-ZHENJIANG-2026-7K3M9QX2","owner_name":"王芳","purpose":"EVENT","statement":"春"}'
    )


def test_a_certificate_stands_for_one_transaction() -> None:
    made = certificate()
    told = retirement(made)
    check(told)
    assert (told.kind, told.key) == (TransactionKind.RETIRE, "retire:crt_1")
    [moved] = told.postings
    assert (moved.to_account, moved.amount) == (credit_account(Purpose.RETIRED, made.credit), 1_250_000_000)
    assert dict(told.cause) == {
        "certificate": "crt_1",
        "purpose": "EVENT",
        "words": sha256(words_of(made)).hexdigest(),
        "credit": made.credit,
        "serials": "1-1000000,2000001-2250000",
    }
    others = (
        {"statement": "x"},
        {"beneficiary": Beneficiary("x")},
        {"purpose": RetirementPurpose.OTHER},
        {"owner_name": "x"},
        {"number": "x"},
        {"grams": 1},
    )
    payloads = {retirement(dataclasses.replace(made, **other)).payload for other in others}
    assert len(payloads | {told.payload}) == len(others) + 1


@pytest.mark.parametrize("changes", [{}, {"origin": None}, {"owner_name": "王芳", "beneficiary": Beneficiary("x")}])
def test_a_certificate_is_stored_and_read_again(changes: dict[str, object]) -> None:
    made = certificate(**changes)
    assert certificate_from_document(certificate_to_document(made)) == made
