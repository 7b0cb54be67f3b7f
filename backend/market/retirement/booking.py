"""How a certificate stands in the book: the transaction that it names, and the words that are sealed with it."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from typing import TYPE_CHECKING

from backend.kernel.crypto import canonical_json
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import Posting, Purpose, Transaction, TransactionKind, account_of, credit_account
from backend.market.serials.store import cause_of

if TYPE_CHECKING:
    from backend.market.retirement.model import Certificate


def words_of(certificate: Certificate) -> bytes:
    """All that people wrote on the certificate, in one spelling: its hash is sealed with the receipt."""
    return canonical_json(
        {
            "beneficiary": dataclasses.asdict(certificate.beneficiary),
            "number": certificate.number,
            "owner_name": certificate.owner_name,
            "purpose": certificate.purpose,
            "statement": certificate.statement,
        }
    )


def retirement(certificate: Certificate) -> Transaction:
    """The transaction by which the certificate's credits leave for ever."""
    credit = certificate.credit
    return Transaction(
        key=f"retire:{certificate.id}",
        kind=TransactionKind.RETIRE,
        postings=(
            Posting(
                from_account=account_of(certificate.owner, credit),
                to_account=credit_account(Purpose.RETIRED, credit),
                asset=credit,
                amount=certificate.grams * MG_PER_GRAM,
            ),
        ),
        cause={
            "certificate": certificate.id,
            "purpose": certificate.purpose.value,
            "words": sha256(words_of(certificate)).hexdigest(),
            **cause_of(credit, certificate.serials),
        },
    )
