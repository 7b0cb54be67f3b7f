"""Certificates and what is asked for, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from datetime import datetime

    from backend.kernel.errors import Text
    from backend.kernel.ids import TransactionId
    from backend.ledger.model import Asset, OwnerId
    from backend.market.pooling.model import ActsSummary
    from backend.market.serials.model import Ranges

CertificateId = NewType("CertificateId", str)
CITIZEN = "citizen:"


class RetirementPurpose(StrEnum):
    """What for the credits are used up."""

    EVENT = "EVENT"
    PRODUCT = "PRODUCT"
    FOOTPRINT = "FOOTPRINT"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Beneficiary:
    """Whose emissions the credits make up for, as the certificate names them; ``credit_code`` is of GB 32100-2015."""

    name: str
    name_zh: str | None = None
    credit_code: str | None = None

    def said(self, *, is_chinese: bool) -> str:
        """The name for readers of Chinese, or of English."""
        return self.name_zh if is_chinese and self.name_zh else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Retiring:
    """What is asked for: so many grams of a credit to be used up; ``is_named`` also shows who retired them."""

    credit: Asset
    grams: int
    beneficiary: Beneficiary
    purpose: RetirementPurpose
    statement: str
    is_named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditFacts:
    """What the registry says of a credit; ``report`` is the SHA-256 (hex) of the verifier's report document."""

    project: Text
    methodologies: tuple[str, ...]
    vintage: int
    verifier: str
    report: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a certificate's credits come from: the batch's facts and the acts behind the very serials."""

    facts: CreditFacts
    acts: ActsSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Says for ever that credits have left: which, how many grams, for whom and what for, in which transaction.

    ``owner`` retired them and is told to nobody but by ``owner_name``, where they wished to be named. ``payload`` is
    the hash of what was asked. ``origin`` is looked up after the retirement and then never changes.
    """

    id: CertificateId
    number: str
    owner: OwnerId
    owner_name: str | None
    beneficiary: Beneficiary
    purpose: RetirementPurpose
    statement: str
    credit: Asset
    grams: int
    serials: Ranges
    transaction: TransactionId
    at: datetime
    payload: str
    origin: Origin | None = None

    @property
    def has_public_receipt(self) -> bool:
        """Whether everybody may have the receipt, which names the owner: not that of citizens who are not named."""
        return self.owner_name is not None or not self.owner.startswith(CITIZEN)
