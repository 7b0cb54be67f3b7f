"""Which transactions can stand in a book at all: refused here before anything is read. Pure."""

from __future__ import annotations

import itertools
import re
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from backend.kernel.crypto import canonical_json
from backend.kernel.units import MG_PER_GRAM, as_int64
from backend.ledger.errors import MalformedTransactionError
from backend.ledger.model import (
    BANK,
    BENEFITS,
    BREAKAGE,
    CNY,
    COMMISSION,
    CONVERTED,
    DEDUCTED,
    DONATIONS,
    EXCHANGE,
    FEES,
    MINTS,
    POINTS,
    POOL,
    PROGRAMME,
    PROGRAMME_ACCOUNTS,
    QUANTIFIED,
    REDEEMED,
    RELEASING,
    REWARDS,
    SETTLING,
    Purpose,
    TransactionKind,
    credit_account,
    is_credit,
    is_guarded,
    is_merchant,
    merchant_owner,
    split_account,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backend.ledger.model import Account, AccountId, Posting, Transaction

MAX_POSTINGS = 1_000
MAX_OWNERS = 32
MAX_KEY_LENGTH = 512
CAUSE_NAME = re.compile(r"[a-z][a-z0-9_]*")
Kind = TransactionKind
SINGLE = frozenset(
    {Kind.HOLD, Kind.POST, Kind.EXPIRE, Kind.LEND, Kind.REPAY, Kind.PAYOUT, Kind.DEPOSIT, Kind.DEDUCT, Kind.RETIRE}
)
ENDING = RELEASING | {Kind.POST}
CORRECTING = frozenset({Kind.REVERSE, Kind.RESTATE})


class Place(StrEnum):
    """What sort of account an amount stands in: by this it is decided which kinds may move it, and where to."""

    MINT = "MINT"
    PEOPLE = "PEOPLE"  # citizens and enterprises
    DEBT = "DEBT"
    SHOP = "SHOP"  # a merchant's, but for money
    CAUSE = "CAUSE"
    BREAKAGE = "BREAKAGE"
    REDEEMED = "REDEEMED"
    PURSE = "PURSE"  # a merchant's money
    TILL = "TILL"
    BANK = "BANK"
    WALLET = "WALLET"  # money of citizens, enterprises and pools
    FEES = "FEES"
    POOL = "POOL"  # grams in a batch
    CONVERTED = "CONVERTED"
    DEDUCTED = "DEDUCTED"
    ISSUER = "ISSUER"
    CREDITS = "CREDITS"  # of citizens, enterprises and pools
    RETIRED = "RETIRED"
    EXCHANGE = "EXCHANGE"


PLACES: Mapping[AccountId, Place] = {
    **dict.fromkeys(MINTS.values(), Place.MINT),
    BREAKAGE: Place.BREAKAGE,
    DONATIONS: Place.CAUSE,
    REDEEMED: Place.REDEEMED,
    REWARDS: Place.TILL,
    COMMISSION: Place.TILL,
    BANK: Place.BANK,
    FEES: Place.FEES,
    BENEFITS: Place.FEES,
    CONVERTED: Place.CONVERTED,
    DEDUCTED: Place.DEDUCTED,
    EXCHANGE: Place.EXCHANGE,
}
PURPOSES: Mapping[Purpose, Place] = {
    Purpose.ISSUING: Place.ISSUER,
    Purpose.RETIRED: Place.RETIRED,
    Purpose.EXCHANGE: Place.EXCHANGE,
}
Ways = frozenset[tuple[Place, Place]]
GRANTED: Ways = frozenset({(Place.MINT, Place.PEOPLE)})
WITHDRAWN: Ways = frozenset({(Place.PEOPLE, Place.MINT)})
SHARED: Ways = frozenset({(Place.PEOPLE, Place.PEOPLE)})
# Only people pay: points that came from anybody else would begin a new life.
SPENT: Ways = SHARED | {(Place.PEOPLE, Place.SHOP), (Place.PEOPLE, Place.CAUSE)}
RETURNED: Ways = SHARED | {(Place.SHOP, Place.PEOPLE), (Place.CAUSE, Place.PEOPLE)}
# What orders and payouts of money reserve.
RESERVED: Ways = frozenset(
    {(Place.WALLET, Place.EXCHANGE), (Place.CREDITS, Place.EXCHANGE), (Place.WALLET, Place.BANK)}
)
# What staff may move to correct a transaction that they name.
CORRECTED: Ways = GRANTED | WITHDRAWN | SPENT | RETURNED
WAYS: Mapping[TransactionKind, Ways] = {
    Kind.EARN: GRANTED | SHARED,
    Kind.TRANSFER: SPENT,
    Kind.HOLD: SPENT | RESERVED,
    Kind.POST: SPENT | {(Place.WALLET, Place.BANK)},
    Kind.EXPIRE: frozenset({(Place.PEOPLE, Place.BREAKAGE)}),
    Kind.REVERSE: GRANTED | WITHDRAWN | RETURNED | {(Place.BREAKAGE, Place.PEOPLE), (Place.POOL, Place.PEOPLE)},
    Kind.ADJUST: GRANTED | WITHDRAWN,
    Kind.RESTATE: GRANTED | WITHDRAWN | SHARED,
    Kind.LEND: frozenset({(Place.DEBT, Place.PEOPLE)}),
    Kind.REPAY: frozenset({(Place.PEOPLE, Place.DEBT)}),
    # A period with more refunds than captures runs the other way.
    Kind.SETTLE: frozenset(
        {
            (Place.SHOP, Place.REDEEMED),
            (Place.REDEEMED, Place.SHOP),
            (Place.TILL, Place.PURSE),
            (Place.PURSE, Place.TILL),
        }
    ),
    Kind.PAYOUT: frozenset({(Place.PURSE, Place.BANK)}),
    Kind.DEPOSIT: frozenset({(Place.BANK, Place.WALLET)}),
    Kind.POOL: frozenset({(Place.PEOPLE, Place.POOL)}),
    Kind.DEDUCT: frozenset({(Place.POOL, Place.DEDUCTED)}),
    Kind.ISSUE: frozenset({(Place.POOL, Place.CONVERTED), (Place.ISSUER, Place.CREDITS)}),
    Kind.TRADE: frozenset({(Place.CREDITS, Place.CREDITS), (Place.WALLET, Place.WALLET), (Place.WALLET, Place.FEES)}),
    # Proceeds of a pool go to its contributors: as fen, or as points made for the fen that the programme keeps.
    Kind.BENEFIT: frozenset({(Place.WALLET, Place.WALLET), (Place.WALLET, Place.FEES)}) | GRANTED,
    Kind.RETIRE: frozenset({(Place.CREDITS, Place.RETIRED)}),
}


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
        drawn = [part for draw in transaction.draws for part in draw.hold]
        canonical_json([*texts, *accounts, *(transaction.hold or ()), *drawn, transaction.corrects])
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
        problem = _broken(posting) or _misplaced(posting, transaction)
        if problem:
            yield problem
    # Whose accounts these are can be asked only now that each is one.
    if any(draw.hold.owner not in transaction.owners for draw in transaction.draws):
        yield "it draws on a hold of somebody who does not trade"
    yield from _undivided(transaction)
    yield from _unequal(transaction)


def _unfit(transaction: Transaction) -> Iterator[str]:
    """What a transaction carries that its kind does not, or lacks that its kind needs."""
    kind = transaction.kind
    if (transaction.hold is not None) is not (kind in ENDING):
        yield f"a {kind} and a hold to end do not go together"
    if not transaction.final and kind is not Kind.POST:
        yield f"a {kind} leaves no hold open"
    if bool(transaction.draws) is not (kind is Kind.TRADE):
        yield f"a {kind} and holds to draw on do not go together"
    if len({draw.hold.id for draw in transaction.draws}) < len(transaction.draws):
        yield "it draws on a hold twice"
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
    if is_credit(posting.asset) and posting.amount % MG_PER_GRAM:
        return f"{posting.amount} mg of {posting.asset} are no whole grams"
    if posting.from_account == posting.to_account:
        return f"{posting.from_account} cannot pay itself"
    return None


def _misplaced(posting: Posting, transaction: Transaction) -> str | None:
    """Each kind moves amounts only between the places made for it, and a hold's only from whom they are held for."""
    kind = transaction.kind
    # What staff give or take of their own accord comes from a mint or returns to one.
    ways = WAYS[kind] if kind is not Kind.ADJUST or transaction.corrects is None else CORRECTED
    if (_place_of(posting.from_account), _place_of(posting.to_account)) not in ways:
        return f"a {kind} cannot move from {posting.from_account} to {posting.to_account}"
    payer, payee = split_account(posting.from_account), split_account(posting.to_account)
    if (payer.is_debt or payee.is_debt) and payer.owner != payee.owner:
        return "a debt is nobody else's"
    if kind is Kind.BENEFIT and not (payer.owner.startswith(POOL) or posting.from_account == MINTS[POINTS]):
        return f"a {kind} is paid by a pool, or in points"
    if transaction.hold is not None and transaction.hold.owner != payer.owner:
        return f"{payer.owner} did not reserve that"
    return None


# Every posting asks twice.
@lru_cache(maxsize=65_536)
def _place_of(account: AccountId) -> Place | None:
    """What sort of account it is; None for what its owner can have none of."""
    if account in PLACES:
        return PLACES[account]
    parts = split_account(account)
    if parts.owner == PROGRAMME:
        return next(place for purpose, place in PURPOSES.items() if account == credit_account(purpose, parts.asset))
    if parts.is_debt:
        return None if parts.asset == CNY or is_credit(parts.asset) else Place.DEBT
    return _guarded_place(parts) if is_guarded(parts.owner) else _merchant_place(parts)


def _guarded_place(account: Account) -> Place | None:
    if account.asset == CNY:
        return Place.WALLET
    if is_credit(account.asset):
        return Place.CREDITS
    if account.owner.startswith(POOL):
        return Place.POOL if account.asset == QUANTIFIED else None
    return Place.PEOPLE


def _merchant_place(account: Account) -> Place | None:
    if account.asset == CNY:
        return Place.PURSE
    return None if is_credit(account.asset) else Place.SHOP


def _undivided(transaction: Transaction) -> Iterator[str]:
    """What is settled or paid out is one merchant's, whom the cause names: by that it is found."""
    if transaction.kind not in SETTLING:
        return
    accounts = {account for posting in transaction.postings for account in (posting.from_account, posting.to_account)}
    merchants = {owner for owner in (split_account(account).owner for account in accounts) if is_merchant(owner)}
    if merchants != {merchant_owner(transaction.cause.get("merchant", ""))}:
        yield f"a {transaction.kind} is of the one merchant whom its cause names"


def _unequal(transaction: Transaction) -> Iterator[str]:
    """What is issued was converted by the same transaction, gram for gram."""
    if transaction.kind is not Kind.ISSUE:
        return
    issued = sum(posting.amount for posting in transaction.postings if is_credit(posting.asset))
    converted = sum(posting.amount for posting in transaction.postings if posting.asset == QUANTIFIED)
    if issued != converted:
        yield f"it converts {converted} mg and issues {issued}"
