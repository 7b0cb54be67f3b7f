"""Loans and repayments: each belongs to the transaction next to it in its owner's sequence, with just its amount."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.ledger import rules
from backend.ledger.documents import transaction_from_document
from backend.ledger.model import UNMINTING, TransactionKind, split_account
from backend.mongo.batches import decode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from backend.ledger.audit.tab import Tab
    from backend.ledger.model import Page, Transaction

Kind = TransactionKind


def owing_problems(tab: Tab, before: Page, transaction: Transaction, at: datetime) -> Iterator[tuple[Transaction, str]]:
    """What is wrong with the loans before the transaction or with the repayment that it is: by transaction.

    ``before`` is the page without the transaction, ``tab`` remembers from one call to the next.
    """
    if transaction.kind is Kind.LEND:
        tab.lent.append((before, transaction))
        return
    yield from _unlike_lent(tab, transaction, at)
    if transaction.kind is not Kind.REPAY:
        tab.owed = None
        return
    if tab.owed is None:
        tab.owed = list(_repayments(tab, before))
    if not tab.owed or (tab.owed[0].key, tab.owed[0].payload) != (transaction.key, transaction.payload):
        yield transaction, "repays what the transaction before it does not make due"
    tab.owed = tab.owed[1:]


def unfollowed(tab: Tab) -> Iterator[tuple[Transaction, str]]:
    """Loans at the end of a sequence, with no correction behind them."""
    for _, lent in tab.lent:
        yield lent, "lends for a correction that is not there"
    tab.lent = []


def _unlike_lent(tab: Tab, transaction: Transaction, at: datetime) -> Iterator[tuple[Transaction, str]]:
    """Loans that the transaction did not need, or not so much of."""
    if not tab.lent:
        return
    [(page, _), *_] = tab.lent
    due = {}
    if transaction.kind in UNMINTING:
        due = {lending.key: lending for lending in rules.lendings(transaction, {tab.owner: page}, at)}
    for _, lent in tab.lent:
        needed = due.get(lent.key)
        if needed is None or needed.payload != lent.payload:
            yield lent, f"lends what {transaction.id} after it does not need"
    tab.lent = []


def _repayments(tab: Tab, page: Page) -> Iterator[Transaction]:
    """What the owner may repay of what the last transaction granted, ``page`` being what it left."""
    if tab.last is None or page.at is None:
        return
    batch, start, size = tab.last
    parent = transaction_from_document(decode(batch[start : start + size]))
    for repayment in rules.repayments(parent, {page.owner: page}, page.at):
        if split_account(repayment.postings[0].from_account).owner == page.owner:
            yield repayment
