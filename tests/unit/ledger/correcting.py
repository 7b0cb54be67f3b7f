"""What tests of corrections share: a book with two lots, and ways to correct it and be refused."""

from __future__ import annotations

import pytest

from backend.kernel.errors import Refusal
from backend.ledger.model import (
    MINTS,
    POINTS,
    AccountId,
    Lots,
    Posting,
    Transaction,
    TransactionKind,
)
from tests.factories import (
    earning,
    holding,
    spending,
)
from tests.unit.ledger.book import DAY, NOON, Book, midnight

Kind = TransactionKind
MINT = MINTS[POINTS]
DECEMBER = midnight(2026, 12, 5)
# The ends of what is earned in November and in December.
FIRST, SECOND = midnight(2028, 12, 1), midnight(2029, 1, 1)
SPEND = spending(amount=12)
NOVEMBER = earning("november", amount=5)
HOLD = holding(amount=10, until=DECEMBER + 10 * DAY)


def book_of(*transactions: Transaction) -> Book:
    """Alice earned 5 points in November and 7 in December; then these."""
    book = Book()
    book.post(NOVEMBER, NOON)
    book.post(earning("december", amount=7), DECEMBER)
    for transaction in transactions:
        book.post(transaction, DECEMBER)
    return book


def correcting(original: Transaction, *postings: Posting, kind: Kind = Kind.REVERSE, key: str = "c") -> Transaction:
    """A correction of the original by these postings."""
    return Transaction(key=key, kind=kind, postings=postings, corrects=original.id)


def refused(book: Book, correction: Transaction) -> Refusal:
    """The refusal, which changed nothing."""
    pages, journal = dict(book.pages), list(book.journal)
    with pytest.raises(Refusal) as caught:
        book.post(correction, DECEMBER)
    assert (book.pages, book.journal) == (pages, journal)
    return caught.value


def named(book: Book, correction: Transaction) -> dict[AccountId, Lots]:
    """Post the correction: the lots it names."""
    book.post(correction, DECEMBER)
    [posted] = [item for item in book.journal if item.transaction.key == correction.key]
    return dict(posted.transaction.lots)
