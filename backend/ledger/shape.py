"""Which transactions can stand in a book at all: refused here before anything is read. Pure."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from backend.kernel.crypto import canonical_json
from backend.kernel.units import as_int64
from backend.ledger.errors import MalformedTransactionError
from backend.ledger.model import (
    BREAKAGE,
    MINTING,
    MINTS,
    POINTS,
    PROGRAMME_ACCOUNTS,
    RELEASING,
    UNMINTING,
    TransactionKind,
    is_guarded,
    split_account,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.ledger.model import Posting, Transaction

MAX_POSTINGS = 1_000
MAX_OWNERS = 32
MAX_KEY_LENGTH = 512
CAUSE_NAME = re.compile(r"[a-z][a-z0-9_]*")
Kind = TransactionKind
SINGLE = frozenset({Kind.HOLD, Kind.POST, Kind.EXPIRE, Kind.LEND, Kind.REPAY})
ENDING = RELEASING | {Kind.POST}
CORRECTING = frozenset({Kind.REVERSE, Kind.RESTATE})
MINT_ACCOUNTS = frozenset(MINTS.values())


def check(transaction: Transaction) -> None:
    """Refuse what breaks double entry or the form of its kind.

    Raises:
        MalformedTransactionError: what is wrong, by the transaction's key.
    """
    for problem in itertools.chain(_unwritable(transaction), _problems(transaction), _crowded(transaction)):
        message = f"{transaction.key}: {problem}"
        raise MalformedTransactionError(message)


def _unwritable(transaction: Transaction) -> Iterator[str]:
    """Texts that no document can hold, and what is no text."""
    texts = [transaction.key, *transaction.cause, *transaction.cause.values()]
    if not all(isinstance(text, str) for text in texts):
        yield "its key or cause is no text"
    accounts = [account for posting in transaction.postings for account in (posting.from_account, posting.to_account)]
    try:
        canonical_json([*texts, *accounts, *(transaction.hold or ()), transaction.corrects])
    except (TypeError, ValueError) as error:
        yield f"it cannot be written: {error}"


def _crowded(transaction: Transaction) -> Iterator[str]:
    """More pages than one MongoDB transaction should turn."""
    if len(transaction.owners) > MAX_OWNERS:
        yield f"it touches {len(transaction.owners)} owners, {MAX_OWNERS} at most may be"


def _problems(transaction: Transaction) -> Iterator[str]:
    kind, postings = transaction.kind, transaction.postings
    if not 1 <= len(transaction.key) <= MAX_KEY_LENGTH:
        yield "its key is empty or too long"
    most = 0 if kind in RELEASING else 1 if kind in SINGLE else MAX_POSTINGS
    if not min(1, most) <= len(postings) <= most:
        yield f"{len(postings)} postings"
    if not all(CAUSE_NAME.fullmatch(name) for name in transaction.cause):
        yield "its cause has a name that is none"
    yield from _unfit(transaction)
    for posting in postings:
        problem = _broken(posting) or _forged(posting, kind) or _misplaced(posting, transaction)
        if problem:
            yield problem


def _unfit(transaction: Transaction) -> Iterator[str]:
    """What a transaction carries that its kind does not, or lacks that its kind needs."""
    kind = transaction.kind
    if (transaction.hold is not None) is not (kind in ENDING):
        yield f"a {kind} and a hold to end do not go together"
    if not transaction.final and kind is not Kind.POST:
        yield f"a {kind} leaves no hold open"
    if (transaction.expires_at is not None) is not (kind is Kind.HOLD):
        yield f"a {kind} and an end do not go together"
    if (transaction.corrects is not None) is not (kind in CORRECTING) and kind is not Kind.ADJUST:
        yield f"a {kind} and a transaction to correct do not go together"
    if transaction.lots:
        yield from _mislaid(transaction)


def _mislaid(transaction: Transaction) -> Iterator[str]:
    """Only what returns or expires names lots, of accounts whose points it moves; each end once, soonest first."""
    kind = transaction.kind
    if kind is not Kind.EXPIRE and transaction.corrects is None:
        yield f"a {kind} and lots do not go together"
    ways = [(posting.from_account, posting.to_account) for posting in transaction.postings if posting.asset == POINTS]
    for account, lots in transaction.lots.items():
        ends = [expires_at for expires_at, _ in lots]
        if account in PROGRAMME_ACCOUNTS or not any(account in way for way in ways):
            yield f"it moves no lots of {account}"
        elif ends != sorted(set(ends)) or any(amount <= 0 for _, amount in lots):
            yield f"the lots of {account} are not in order"


def _broken(posting: Posting) -> str | None:
    try:
        if as_int64(posting.amount, what="amount") <= 0:
            return f"amount {posting.amount} is not positive"
        from_asset = split_account(posting.from_account).asset
        to_asset = split_account(posting.to_account).asset
    except (TypeError, ValueError, OverflowError) as error:
        return str(error)
    if posting.asset not in (from_asset, to_asset) or from_asset != to_asset:
        return f"{posting.asset} cannot move from {posting.from_account} to {posting.to_account}"
    if posting.from_account == posting.to_account:
        return f"{posting.from_account} cannot pay itself"
    return None


def _forged(posting: Posting, kind: TransactionKind) -> str | None:
    """New amounts come out of a mint, return to one, or turn to breakage, only in the kinds made for it."""
    payer, payee = posting.from_account, posting.to_account
    # A reversal takes only what went there before.
    if (payer in MINT_ACCOUNTS and kind not in MINTING and kind is not Kind.REVERSE) or (
        payer == BREAKAGE and kind is not Kind.REVERSE
    ):
        return f"a {kind} cannot take from {payer}"
    if (payee in MINT_ACCOUNTS and kind not in UNMINTING) or (payee == BREAKAGE and kind is not Kind.EXPIRE):
        return f"a {kind} cannot pay to {payee}"
    return None


def _misplaced(posting: Posting, transaction: Transaction) -> str | None:
    """Debts, holds and expiries each stand between the accounts of their own."""
    kind = transaction.kind
    payer, payee = split_account(posting.from_account), split_account(posting.to_account)
    # What staff give or take of their own accord comes from a mint or returns to one.
    adrift = kind is Kind.ADJUST and transaction.corrects is None and not _is_minted(posting)
    if (payer.is_debt, payee.is_debt) != (kind is Kind.LEND, kind is Kind.REPAY) or adrift:
        return f"a {kind} cannot move from {posting.from_account} to {posting.to_account}"
    if payer.is_debt or payee.is_debt:
        return None if payer.owner == payee.owner else "a debt is nobody else's"
    if kind is Kind.HOLD and not is_guarded(payer.owner):
        return f"{payer.owner} needs no hold"
    if transaction.hold is not None and transaction.hold.owner != payer.owner:
        return f"{payer.owner} did not reserve that"
    if kind is Kind.EXPIRE and (posting.to_account != BREAKAGE or not is_guarded(payer.owner)):
        return "only a citizen's points expire"
    return None


def _is_minted(posting: Posting) -> bool:
    return posting.from_account in MINT_ACCOUNTS or posting.to_account in MINT_ACCOUNTS
