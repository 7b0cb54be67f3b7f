"""Corrections of earlier transactions: how much is left to correct, and which lots it concerns. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.ledger import lots as lots_of
from backend.ledger.errors import NotCorrectableError, OverCorrectedError
from backend.ledger.model import MINTS, POINTS, AccountId, TransactionKind, is_guarded, split_account

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.ledger.model import Asset, Lot, Lots, Posting, Transaction

Kind = TransactionKind
Way = tuple[AccountId, AccountId, "Asset"]
CORRECTABLE = frozenset({Kind.EARN, Kind.TRANSFER, Kind.POST, Kind.EXPIRE, Kind.ADJUST, Kind.POOL})


@dataclass(frozen=True, slots=True)
class Correction:
    """An earlier correction, and the lots that each of its postings took from its payer."""

    transaction: Transaction
    taken: Sequence[Lots]


@dataclass(slots=True)
class Standing:
    """A posted transaction as corrections see it: the signed lots of each guarded account, and what corrected it."""

    transaction: Transaction
    lots: Mapping[AccountId, Lots]
    corrections: list[Correction]


def prepare(correction: Transaction, standing: Standing | None) -> Transaction:
    """The correction with the lots it gives back, or takes back first.

    Raises:
        NotCorrectableError: no such transaction, a kind that is never corrected, or postings it does not have.
        OverCorrectedError: more than earlier corrections have left.
    """
    assert correction.corrects is not None
    if standing is None or not _is_correctable(standing.transaction, correction):
        raise NotCorrectableError(correction.corrects)
    left = _left(standing)
    for posting in correction.postings:
        back = (posting.to_account, posting.from_account, posting.asset)
        if not any(is_guarded(split_account(account).owner) for account in back[:2]):
            # Only a guarded owner's page keeps two corrections of a posting from overlooking each other.
            raise NotCorrectableError(correction.corrects)
        if back in left:
            if posting.amount > left[back]:
                raise OverCorrectedError(correction.corrects, posting.amount, left[back])
            left[back] -= posting.amount
        elif correction.kind is Kind.REVERSE or (
            _way(posting) not in left and not _is_earned(posting, correction, standing)
        ):
            raise NotCorrectableError(correction.corrects)
    return dataclasses.replace(correction, lots=_lots(correction, standing))


def _is_correctable(original: Transaction, correction: Transaction) -> bool:
    """A correction is never corrected itself: another one is made; nor is what pays and receives on one account."""
    payers = {posting.from_account for posting in original.postings}
    return (
        original.kind in CORRECTABLE
        and original.corrects is None
        and (correction.kind is not Kind.RESTATE or original.kind is Kind.EARN)
        and payers.isdisjoint(posting.to_account for posting in original.postings)
    )


def _is_earned(posting: Posting, correction: Transaction, standing: Standing) -> bool:
    """Whether a restatement gives what the earning had too little for: out of the mint, to whoever earned."""
    return (
        correction.kind is Kind.RESTATE
        and posting.from_account == MINTS.get(posting.asset)
        and split_account(posting.to_account).owner in standing.transaction.owners
    )


def _way(posting: Posting) -> Way:
    return posting.from_account, posting.to_account, posting.asset


def _left(standing: Standing) -> Counter[Way]:
    """What the transaction moved, by its ways, less what was taken back and more what was added."""
    left: Counter[Way] = Counter()
    for posting in standing.transaction.postings:
        left[_way(posting)] += posting.amount
    for correction in standing.corrections:
        for posting in correction.transaction.postings:
            back = (posting.to_account, posting.from_account, posting.asset)
            if back in left:
                left[back] -= posting.amount
            else:
                left[_way(posting)] += posting.amount
    return left


def _lots(correction: Transaction, standing: Standing) -> dict[AccountId, Lots]:
    """By account: points return to the lots they left, last ended first; points taken back leave those they entered.

    Points added to what was given join its last lot.
    """
    ways = {_way(posting) for posting in standing.transaction.postings}
    added: Counter[AccountId] = Counter()
    returned: Counter[AccountId] = Counter()
    named: dict[AccountId, Lots] = {}
    for posting in correction.postings:
        if posting.asset != POINTS:
            continue
        if _way(posting) in ways:
            added[posting.to_account] += posting.amount
        else:
            returned[posting.to_account] += posting.amount
            named[posting.from_account] = _entered(standing, posting.from_account)
    for account, amount in added.items():
        given = [lot for lot in standing.lots.get(account, ()) if lot.amount > 0]
        named[account] = lots_of.collect([(lot.expires_at, amount) for lot in given[-1:]])
    for account, amount in returned.items():
        named[account] = lots_of.take(reversed(_left_lots(standing, account)), amount)
    return {account: lots for account, lots in named.items() if lots}


def _left_lots(standing: Standing, account: AccountId) -> Lots:
    """The lots that the transaction took from the account, less those given back before."""
    taken = [(end, -change) for end, change in standing.lots.get(account, ()) if change < 0]
    taken += _taken(standing, account)
    before = [
        (end, -amount)
        for correction in standing.corrections
        for end, amount in correction.transaction.lots.get(account, ())
    ]
    return _positive(taken, before)


def _entered(standing: Standing, account: AccountId) -> Lots:
    """The lots that the transaction gave to the account, and corrections added to, less those taken back before."""
    given = [lot for lot in standing.lots.get(account, ()) if lot.amount > 0]
    for correction in standing.corrections:
        if any(posting.to_account == account for posting in correction.transaction.postings):
            given += correction.transaction.lots.get(account, ())
    return _positive(given, [(end, -amount) for end, amount in _taken(standing, account)])


def _taken(standing: Standing, account: AccountId) -> list[Lot]:
    """The lots that corrections took from the account."""
    return [
        lot
        for correction in standing.corrections
        for posting, lots in zip(correction.transaction.postings, correction.taken, strict=True)
        if posting.from_account == account
        for lot in lots
    ]


def _positive(had: Sequence[tuple[datetime, int]], less: Sequence[tuple[datetime, int]]) -> Lots:
    return tuple(lot for lot in lots_of.collect((*had, *less)) if lot.amount > 0)
