"""What a transaction does to guarded pages: pure, integers only, all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.units import as_int64
from backend.ledger.errors import InsufficientFundsError, MalformedTransactionError
from backend.ledger.model import (
    PROGRAMME_ACCOUNTS,
    Entry,
    Line,
    OwnerId,
    Page,
    TransactionKind,
    account_of,
    is_guarded,
    split_account,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.ledger.model import Asset, Posting, Transaction

MAX_POSTINGS = 1_000


def check(transaction: Transaction) -> None:
    """Refuse what breaks double entry before anything is read.

    Raises:
        MalformedTransactionError: no posting or too many, a non-positive amount, an unknown account, an asset of
            another account, or a posting from an account to itself.
    """
    if not 1 <= len(transaction.postings) <= MAX_POSTINGS:
        message = f"{transaction.key}: {len(transaction.postings)} postings"
        raise MalformedTransactionError(message)
    for posting in transaction.postings:
        problem = _problem(posting) or _forged(posting, transaction.kind)
        if problem:
            message = f"{transaction.key}: {problem}"
            raise MalformedTransactionError(message)


def _forged(posting: Posting, kind: TransactionKind) -> str | None:
    """New amounts come out of a mint only as earnings."""
    if posting.from_account in PROGRAMME_ACCOUNTS and kind is not TransactionKind.EARN:
        return f"a {kind.value} cannot take from {posting.from_account}"
    return None


def _problem(posting: Posting) -> str | None:
    try:
        if as_int64(posting.amount, what="amount") <= 0:
            return f"amount {posting.amount} is not positive"
        _, from_asset = split_account(posting.from_account)
        _, to_asset = split_account(posting.to_account)
    except (TypeError, ValueError, OverflowError) as error:
        return str(error)
    if from_asset != posting.asset or to_asset != posting.asset:
        return f"{posting.asset} cannot move from {posting.from_account} to {posting.to_account}"
    if posting.from_account == posting.to_account:
        return f"{posting.from_account} cannot pay itself"
    return None


def guarded_changes(transaction: Transaction) -> dict[OwnerId, dict[Asset, int]]:
    """Net signed change per guarded owner and asset, in the order the postings name them."""
    changes: dict[OwnerId, dict[Asset, int]] = {}
    for posting in transaction.postings:
        for account, sign in ((posting.from_account, -1), (posting.to_account, 1)):
            owner, asset = split_account(account)
            if is_guarded(owner):
                owned = changes.setdefault(owner, {})
                owned[asset] = owned.get(asset, 0) + sign * posting.amount
    return changes


def apply(transaction: Transaction, pages: Mapping[OwnerId, Page]) -> tuple[dict[OwnerId, Page], tuple[Entry, ...]]:
    """The touched pages after the transaction, and its entry on each.

    Raises:
        InsufficientFundsError: a guarded account would fall below zero.
    """
    turned: dict[OwnerId, Page] = {}
    entries = []
    for owner, changes in guarded_changes(transaction).items():
        page = pages.get(owner) or Page(owner, 0, {})
        balances = dict(page.balances)
        for asset, change in changes.items():
            available = balances.get(asset, 0)
            if available + change < 0:
                # Positional: an exception is pickled by its positional arguments alone.
                raise InsufficientFundsError(str(account_of(owner, asset)), -change, available)
            balances[asset] = as_int64(available + change, what="balance")
        turned[owner] = Page(owner, page.version + 1, balances)
        lines = tuple(Line(asset, change, balances[asset]) for asset, change in changes.items())
        entries.append(Entry(owner, page.version + 1, lines))
    return turned, tuple(entries)
