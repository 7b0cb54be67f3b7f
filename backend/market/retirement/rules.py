"""What a certificate may say, and its number. Pure."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from backend.identity.rules import NOTE, require_note
from backend.kernel.base32 import ALPHABET, as_typed, code_of
from backend.kernel.credit_codes import is_credit_code
from backend.kernel.crypto import keyed_hash, payload_hash
from backend.kernel.errors import InvalidInputError, Text

if TYPE_CHECKING:
    from backend.ledger.model import OwnerId
    from backend.market.retirement.model import Beneficiary, CertificateId, Retiring

MAX_GRAMS = 10**15
MAX_NAME = 120
MAX_STATEMENT = 500
_LETTERS = 7
_NUMBER = re.compile(rf"TH-([A-Z][A-Z0-9-]{{1,31}})-([0-9]{{4}})-([{ALPHABET}]{{{_LETTERS}}})([{ALPHABET}])")
_TYPED = re.compile(r"(TH-[A-Z][A-Z0-9-]{1,31}-[0-9]{4}-)([0-9A-Z]{8})")


def checked(asked: Retiring) -> Retiring:
    """What is asked, in the spelling that is kept.

    Raises:
        InvalidInputError: which field no certificate can carry.
    """
    if not 1 <= asked.grams <= MAX_GRAMS:
        raise InvalidInputError("grams", Text(f"1–{MAX_GRAMS}", f"1–{MAX_GRAMS}"))
    statement = asked.statement.strip()
    if len(statement) > MAX_STATEMENT or (statement and not NOTE.fullmatch(statement)):
        said = (
            f"最多 {MAX_STATEMENT} 个字符，不含控制字符",
            f"at most {MAX_STATEMENT} characters, no control characters",
        )
        raise InvalidInputError("statement", Text(*said))
    return dataclasses.replace(asked, beneficiary=checked_beneficiary(asked.beneficiary), statement=statement)


def checked_beneficiary(given: Beneficiary) -> Beneficiary:
    """The beneficiary in the spelling that is kept.

    Raises:
        InvalidInputError: a name that is blank or longer than 120 characters, or a code with another check character.
    """
    require_note("beneficiary.name", given.name, limit=MAX_NAME)
    name_zh = (given.name_zh or "").strip()
    if name_zh:
        require_note("beneficiary.nameZh", name_zh, limit=MAX_NAME)
    code = (given.credit_code or "").strip().upper()
    if code and not is_credit_code(code):
        problem = Text("不是有效的统一社会信用代码", "not a unified social credit code (GB 32100-2015)")
        raise InvalidInputError("beneficiary.creditCode", problem)
    return dataclasses.replace(given, name=given.name.strip(), name_zh=name_zh or None, credit_code=code or None)


def require_beginning(name: str | None) -> None:
    """Refuse what no beneficiary's name begins with.

    Raises:
        InvalidInputError: blank, longer than a name, or with characters nobody sees.
    """
    if name is not None:
        require_note("beneficiary", name, limit=MAX_NAME)


def payload_of(owner: OwnerId, asked: Retiring) -> str:
    """Hash of all that a replay must repeat."""
    return payload_hash([owner, dataclasses.asdict(asked)])


def new_number(key: bytes, programme: str, year: int, certificate: CertificateId, attempt: int) -> str:
    """The certificate's number; where another certificate has it already, the next attempt gives another."""
    letters = code_of(keyed_hash(key, "certificate number", certificate, str(attempt)))[:_LETTERS]
    return f"TH-{programme.upper()}-{year:04}-{letters}{_check_letter(letters)}"


def read_number(text: str) -> str | None:
    """The number that a person typed, in any case, with O for 0, I or L for 1; None where it can be none."""
    typed = _TYPED.fullmatch(text.strip().upper()) if len(text) <= MAX_NAME and text.isascii() else None
    number = f"{typed[1]}{as_typed(typed[2])}" if typed else ""
    found = _NUMBER.fullmatch(number)
    return number if found and _check_letter(found[3]) == found[4] else None


def _check_letter(letters: str) -> str:
    """Luhn's check modulo 32: no single letter is misread and no two neighbours swapped (but 0 and Z) unnoticed."""
    total = 0
    for place, letter in enumerate(reversed(letters)):
        value = ALPHABET.index(letter) * (1 + (place + 1) % 2)
        total += value // len(ALPHABET) + value % len(ALPHABET)
    return ALPHABET[-total % len(ALPHABET)]
