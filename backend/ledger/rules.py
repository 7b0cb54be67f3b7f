"""What a transaction does to guarded pages: pure, integers only, all or nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backend.kernel.units import as_int64
from backend.ledger import lots as lots_of
from backend.ledger.errors import (
    HoldExceededError,
    HoldExpiredError,
    HoldNotActiveError,
    InsufficientFundsError,
    MalformedTransactionError,
    TooManyHoldsError,
)
from backend.ledger.model import (
    POINTS,
    POOL,
    Applied,
    Entry,
    Hold,
    Line,
    Lot,
    Page,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    debt_of,
    exchange_of,
    is_guarded,
    split_account,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from backend.kernel.ids import TransactionId
    from backend.ledger.model import Account, AccountId, Asset, Lots, OwnerId, Terms

MAX_HOLDS = 200
Kind = TransactionKind


def apply(transaction: Transaction, pages: Mapping[OwnerId, Page], terms: Terms) -> Applied:
    """What the transaction does to all its owners.

    Raises:
        InsufficientFundsError: a guarded account would fall below zero.
        HoldNotActiveError, HoldExpiredError, HoldExceededError, TooManyHoldsError: see there.
    """
    desk = {owner: _Draft(pages.get(owner) or Page(owner), transaction) for owner in transaction.owners}
    return _work(transaction, desk, terms, [()] * len(transaction.postings))


def apply_to(page: Page, transaction: Transaction, terms: Terms, taken: Sequence[Lots]) -> Applied:
    """What the transaction does to this owner, given the lots its postings took from all others: for the auditor.

    Raises:
        Refusal: as ``apply``.
    """
    return _work(transaction, {page.owner: _Draft(page, transaction)}, terms, list(taken))


def _work(transaction: Transaction, desk: dict[OwnerId, _Draft], terms: Terms, taken: list[Lots]) -> Applied:
    if transaction.kind is Kind.HOLD:
        taken[0] = _reserve(desk, transaction, terms)
    elif transaction.hold is not None:
        _end_hold(desk, transaction, terms, taken)
    elif transaction.draws:
        _trade(desk, transaction, terms)
    else:
        for number, posting in enumerate(transaction.postings):
            taken[number] = _move(desk, transaction, posting, terms, taken[number])
    return Applied(
        pages={owner: draft.page(terms.at) for owner, draft in desk.items()},
        entries=tuple(draft.entry() for draft in desk.values()),
        taken=tuple(taken),
    )


class _Draft:
    """A page being changed by one transaction."""

    __slots__ = ("_before", "balances", "debts", "holds", "lot_changes", "lots", "named", "owner", "touched")

    def __init__(self, page: Page, transaction: Transaction) -> None:
        self._before = page
        self.owner = page.owner
        self.named = transaction.lots.get(account_of(page.owner, POINTS), ())
        self.balances = dict(page.balances)
        self.debts = dict(page.debts)
        self.lots: dict[datetime, int] = dict(page.lots)
        self.holds = {hold.id: hold for hold in page.holds}
        self.touched: dict[Asset, None] = {}
        self.lot_changes: list[tuple[datetime, int]] = []

    def held(self, asset: Asset) -> int:
        return sum(hold.amount for hold in self.holds.values() if hold.asset == asset) if self.holds else 0

    def available(self, asset: Asset, at: datetime) -> int:
        if asset == POINTS:
            return sum(amount for expires_at, amount in self.lots.items() if expires_at > at)
        return self.balances.get(asset, 0) - self.held(asset)

    def change_balance(self, asset: Asset, change: int) -> None:
        self.touched[asset] = None
        self.balances[asset] = as_int64(self.balances.get(asset, 0) + change, what="balance")

    def change_debt(self, asset: Asset, change: int) -> None:
        self.touched[asset] = None
        self.debts[asset] = as_int64(self.debts.get(asset, 0) + change, what="debt")

    def change_lots(self, changed: Lots, sign: int) -> None:
        """Free lots get these or lose them."""
        for expires_at, amount in changed:
            self.lots[expires_at] = self.lots.get(expires_at, 0) + sign * amount

    def use_named(self, used: Lots) -> None:
        """What one posting took of the lots that a correction names, the next cannot."""
        if self.named:
            left = lots_of.collect((*self.named, *((end, -amount) for end, amount in used)))
            self.named = tuple(lot for lot in left if lot.amount > 0)

    def note_lots(self, changed: Lots, sign: int) -> None:
        """The owner gets these or loses them, free or held: what the line tells."""
        self.lot_changes.extend((expires_at, sign * amount) for expires_at, amount in changed)

    def page(self, at: datetime) -> Page:
        return Page(
            owner=self.owner,
            version=self._before.version + 1,
            at=at,
            balances=self.balances,
            debts={asset: owed for asset, owed in self.debts.items() if owed} if self.debts else {},
            lots=lots_of.in_order(self.lots),
            holds=tuple(self.holds.values()),
        )

    def entry(self) -> Entry:
        before, lots = self._before.balances, lots_of.collect(self.lot_changes)
        lines = []
        for asset in self.touched:
            balance = self.balances.get(asset, 0)
            lines.append(
                Line(
                    asset,
                    balance - before.get(asset, 0),
                    balance,
                    self.held(asset),
                    self.debts.get(asset, 0),
                    lots if asset == POINTS else (),
                )
            )
        return Entry(self.owner, self._before.version + 1, tuple(lines))


def _reserve(desk: Mapping[OwnerId, _Draft], transaction: Transaction, terms: Terms) -> Lots:
    [posting] = transaction.postings
    expires_at = transaction.expires_at
    if expires_at is None or expires_at <= terms.at:
        raise HoldExpiredError(transaction.id)
    draft = desk[split_account(posting.from_account).owner]
    if len(draft.holds) >= MAX_HOLDS:
        raise TooManyHoldsError(MAX_HOLDS)
    _need(draft, posting, terms.at)
    taken: Lots = ()
    if posting.asset == POINTS:
        taken = lots_of.take_preferring(draft.lots, posting.amount, (), terms.at)
        draft.change_lots(taken, -1)
    draft.touched[posting.asset] = None
    draft.holds[transaction.id] = Hold(
        id=transaction.id,
        asset=posting.asset,
        to_account=posting.to_account,
        amount=posting.amount,
        expires_at=expires_at,
        lots=taken,
    )
    return taken


def _end_hold(desk: Mapping[OwnerId, _Draft], transaction: Transaction, terms: Terms, taken: list[Lots]) -> None:
    """Post a hold, in part or in full, or set it free."""
    assert transaction.hold is not None
    draft = desk.get(transaction.hold.owner)
    if draft is not None:
        hold = _active(draft, transaction, terms.at)
        draft.touched[hold.asset] = None
        left = hold
        if transaction.postings:
            left, taken[0] = _capture(draft, hold, transaction.postings[0])
        if transaction.final or not left.amount:
            del draft.holds[hold.id]
            _free(draft, left, terms)
        else:
            draft.holds[hold.id] = left
    for posting in transaction.postings:
        payee = split_account(posting.to_account)
        if payee.owner in desk:
            _receive(desk[payee.owner], payee.asset, posting.amount, taken[0], terms)


def _active(draft: _Draft, transaction: Transaction, at: datetime) -> Hold:
    """The hold that the transaction ends, in time or, where it lapses, after its time."""
    assert transaction.hold is not None
    return _in_time(draft, transaction.hold.id, transaction, at)


def _in_time(draft: _Draft, named: TransactionId, transaction: Transaction, at: datetime) -> Hold:
    hold = draft.holds.get(named)
    if hold is None:
        raise HoldNotActiveError(named)
    if transaction.kind is Kind.LAPSE and hold.expires_at > at:
        raise HoldNotActiveError(hold.id)
    if transaction.kind is not Kind.LAPSE and hold.expires_at <= at:
        raise HoldExpiredError(hold.id)
    return hold


def _capture(draft: _Draft, hold: Hold, posting: Posting) -> tuple[Hold, Lots]:
    """Take the posting out of the hold: what is left of it, and the lots taken."""
    payer = account_of(draft.owner, hold.asset)
    if (posting.from_account, posting.to_account, posting.asset) != (payer, hold.to_account, hold.asset):
        raise HoldNotActiveError(hold.id)
    if posting.amount > hold.amount:
        raise HoldExceededError(hold.id, posting.amount, hold.amount)
    taken = lots_of.take(hold.lots, posting.amount)
    draft.change_balance(hold.asset, -posting.amount)
    draft.note_lots(taken, -1)
    rest = lots_of.collect((*hold.lots, *((end, -amount) for end, amount in taken)))
    return dataclasses.replace(hold, amount=hold.amount - posting.amount, lots=rest), taken


def _trade(desk: Mapping[OwnerId, _Draft], transaction: Transaction, terms: Terms) -> None:
    """Move every posting, its payer paying from the hold drawn on for that asset, or where there is none from the rest.

    Nothing traded has lots.
    """
    holds: dict[tuple[OwnerId, Asset], TransactionId] = {}
    for draw in transaction.draws:
        if draw.hold.owner in desk:
            hold = _ordered(desk[draw.hold.owner], draw.hold.id, transaction, terms.at)
            if holds.setdefault((draw.hold.owner, hold.asset), hold.id) != hold.id:
                message = f"{transaction.key}: draws on two holds of {hold.asset} of {draw.hold.owner}"
                raise MalformedTransactionError(message)
    for posting in transaction.postings:
        payer, payee = split_account(posting.from_account), split_account(posting.to_account)
        draft = desk.get(payer.owner)
        if draft is not None:
            _pay_trade(draft, posting, holds.get((payer.owner, posting.asset)), terms.at)
        if payee.owner in desk:
            desk[payee.owner].change_balance(payee.asset, posting.amount)
    for draw in transaction.draws:
        draft = desk.get(draw.hold.owner)
        if draft is not None and (draw.final or not draft.holds[draw.hold.id].amount):
            draft.touched[draft.holds[draw.hold.id].asset] = None
            del draft.holds[draw.hold.id]


def _ordered(draft: _Draft, named: TransactionId, transaction: Transaction, at: datetime) -> Hold:
    """The hold, which must have been made for an order."""
    hold = _in_time(draft, named, transaction, at)
    if hold.to_account != exchange_of(hold.asset):
        raise HoldNotActiveError(named)
    return hold


def _pay_trade(draft: _Draft, posting: Posting, drawn: TransactionId | None, at: datetime) -> None:
    if drawn is None:
        _need(draft, posting, at)
    else:
        hold = draft.holds[drawn]
        if posting.amount > hold.amount:
            raise HoldExceededError(hold.id, posting.amount, hold.amount)
        draft.holds[drawn] = dataclasses.replace(hold, amount=hold.amount - posting.amount)
    draft.change_balance(posting.asset, -posting.amount)


def _free(draft: _Draft, hold: Hold, terms: Terms) -> None:
    """What is left of a hold returns to its lots; those that ended meanwhile become a lot of grace, once."""
    ended = tuple(lot for lot in hold.lots if lots_of.has_grace(lot, terms.at))
    draft.change_lots(tuple(lot for lot in hold.lots if lot not in ended), 1)
    if ended:
        draft.note_lots(ended, -1)
        grace = lots_of.collect([(terms.opens, lots_of.total(ended))])
        draft.change_lots(grace, 1)
        draft.note_lots(grace, 1)


def _move(
    desk: Mapping[OwnerId, _Draft], transaction: Transaction, posting: Posting, terms: Terms, taken: Lots
) -> Lots:
    """Do one posting to those of its owners that are on the desk; the lots it took from the payer."""
    payer, payee = split_account(posting.from_account), split_account(posting.to_account)
    if payer.owner in desk:
        taken = _pay(desk[payer.owner], payer, transaction, posting, terms)
    draft = desk.get(payee.owner)
    if draft is None:
        return taken
    if not payee.is_debt:
        _receive(draft, payee.asset, posting.amount, draft.named or taken, terms)
    elif posting.amount > draft.debts.get(payee.asset, 0):
        message = f"{transaction.key}: repays more than {payee.owner} owes"
        raise MalformedTransactionError(message)
    else:
        draft.change_debt(payee.asset, -posting.amount)
    return taken


def _pay(draft: _Draft, payer: Account, transaction: Transaction, posting: Posting, terms: Terms) -> Lots:
    """Take the amount from a guarded account; the lots it came from."""
    if payer.is_debt:
        draft.change_debt(payer.asset, posting.amount)
        return ()
    taken: Lots = ()
    named = draft.named
    if transaction.kind is Kind.EXPIRE:
        over = all(end <= terms.at and draft.lots.get(end, 0) >= amount for end, amount in named)
        if not over or lots_of.total(named) != posting.amount:
            message = f"{transaction.key}: those lots have not ended"
            raise MalformedTransactionError(message)
        taken = named
    else:
        _need(draft, posting, terms.at)
        if posting.asset == POINTS:
            taken = lots_of.take_preferring(draft.lots, posting.amount, named, terms.at)
    draft.use_named(taken)
    draft.change_lots(taken, -1)
    draft.note_lots(taken, -1)
    draft.change_balance(posting.asset, -posting.amount)
    return taken


def _receive(draft: _Draft, asset: Asset, amount: int, into: Lots, terms: Terms) -> None:
    """Give the amount: into the lots named; what has ended becomes a lot of grace, once; the rest opens a lot."""
    draft.change_balance(asset, amount)
    if asset != POINTS:
        return
    given: Lots = (Lot(terms.opens, amount),)
    if into:
        into = lots_of.take(into, amount)
        draft.use_named(into)
        kept = [lot for lot in into if not lots_of.has_grace(lot, terms.at)]
        given = lots_of.collect((*kept, (terms.opens, amount - lots_of.total(kept))))
    draft.change_lots(given, 1)
    draft.note_lots(given, 1)


def _need(draft: _Draft, posting: Posting, at: datetime) -> None:
    available = draft.available(posting.asset, at)
    if posting.amount > available:
        # Positional: an exception is pickled by its positional arguments alone.
        raise InsufficientFundsError(str(posting.from_account), posting.amount, available)


def lendings(transaction: Transaction, pages: Mapping[OwnerId, Page], at: datetime) -> Iterator[Transaction]:
    """What people must be lent, so that a correction can take back what they have spent."""
    needed: dict[tuple[OwnerId, Asset], int] = {}
    for posting in transaction.postings:
        payer = split_account(posting.from_account)
        # A pool owes nothing: what has left it for good cannot be withdrawn.
        if is_guarded(payer.owner) and not payer.owner.startswith(POOL):
            needed[payer.owner, payer.asset] = needed.get((payer.owner, payer.asset), 0) + posting.amount
    for (owner, asset), amount in needed.items():
        short = amount - (pages.get(owner) or Page(owner)).available(asset, at)
        if short > 0:
            yield _owing(Kind.LEND, transaction, debt_of(owner, asset), account_of(owner, asset), asset, short)


def repayments(transaction: Transaction, pages: Mapping[OwnerId, Page], at: datetime) -> Iterator[Transaction]:
    """What owners pay back at once of what the transaction has left free on their pages."""
    for owner in sorted(transaction.owners):
        page = pages.get(owner)
        for asset, owed in sorted(page.debts.items()) if page else ():
            amount = min(owed, page.available(asset, at)) if page else 0
            if amount:
                yield _owing(Kind.REPAY, transaction, account_of(owner, asset), debt_of(owner, asset), asset, amount)


def _owing(
    kind: TransactionKind, parent: Transaction, payer: AccountId, payee: AccountId, asset: Asset, amount: int
) -> Transaction:
    owner = split_account(payer).owner
    return Transaction(
        key=f"{kind.lower()}:{parent.id}:{owner}:{asset}",
        kind=kind,
        postings=(Posting(from_account=payer, to_account=payee, asset=asset, amount=amount),),
        cause={"transaction": parent.id},
    )
