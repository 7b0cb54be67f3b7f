"""The only door to the book: post transactions, read balances and statements."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.kernel.errors import IdempotencyConflictError, Refusal
from backend.kernel.grouping import Groups
from backend.kernel.ids import TransactionId, new_id
from backend.ledger import corrections, rules, shape
from backend.ledger.corrections import Correction
from backend.ledger.documents import standing_of, transaction_documents
from backend.ledger.errors import MalformedTransactionError, StatementTooLongError
from backend.ledger.model import (
    OWING,
    UNMINTING,
    Page,
    PeriodStatement,
    StatementLine,
    Terms,
    is_guarded,
    split_account,
)
from backend.ledger.store import LedgerReads, LedgerWrites

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.ledger.corrections import Standing
    from backend.ledger.lots import PointsPolicy
    from backend.ledger.model import AccountId, Lots, OwnerId, Transaction
    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Transactions, Tx

MAX_STATEMENT_PAGE = 200
MAX_MOVEMENTS = 2_000
GROUP_LIMIT = 128
# So many documents make it worth while to let the server insert while the next are worked out.
PART = 64
# An amount beyond 64 bits is the caller's mistake as much as a malformed transaction.
REFUSALS = (Refusal, MalformedTransactionError, OverflowError)
INSTANT = timedelta(milliseconds=1)


class Ledger:
    """Double-entry book of every asset, on MongoDB."""

    def __init__(self, database: Database, transactions: Transactions, clock: Clock, policy: PointsPolicy) -> None:
        self._reads = LedgerReads(database)
        self._transactions = transactions
        self._clock = clock
        self._policy = policy
        self._groups = Groups(self._post_group, limit=GROUP_LIMIT, name="group commit of the book")

    async def post(self, transaction: Transaction) -> TransactionId:
        """Post one transaction; on return it is durable. A key already posted with the same payload changes nothing.

        Those that arrive while others are being written are written together by the next MongoDB transaction; each is
        posted or refused by itself.

        Raises:
            InsufficientFundsError: a guarded account would fall below zero.
            HoldNotActiveError, HoldExpiredError, HoldExceededError, TooManyHoldsError: the hold cannot be.
            NotCorrectableError, OverCorrectedError: the correction cannot be.
            IdempotencyConflictError: the key stands in the book with another payload.
            MalformedTransactionError: no book can hold it.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        _check(transaction)
        return await self._groups.submit(transaction)

    async def _post_group(self, group: Sequence[Transaction]) -> Sequence[TransactionId | Exception]:
        at = self._clock.now()
        unsealed = new_id("uns", at)

        async def body(tx: Tx) -> list[TransactionId | Exception]:
            sheet = await self._open(tx, group)
            outcomes: list[TransactionId | Exception] = []
            for transaction in group:
                try:
                    await sheet.post(transaction, at)
                except REFUSALS as error:
                    outcomes.append(error)
                else:
                    outcomes.append(transaction.id)
            await sheet.write(unsealed, at)
            return outcomes

        return await self._transactions.run(body)

    async def post_within(
        self, tx: Tx, transactions: Sequence[Transaction], *, at: datetime
    ) -> Mapping[TransactionId, datetime]:
        """Post all of them inside the caller's MongoDB transaction, in order; those already posted are passed over.

        Returns when each that was not passed over happened: ``at``, or the last time on a page it touches if later.

        Raises:
            Refusal: any of those of ``post``; the caller's transaction must end.
        """
        for transaction in transactions:
            _check(transaction)
        sheet = await self._open(tx, transactions)
        for transaction in transactions:
            await sheet.post(transaction, at)
        await sheet.write(new_id("uns", at), at)
        return sheet.posted

    async def _open(self, tx: Tx, transactions: Sequence[Transaction]) -> _Sheet:
        writes = LedgerWrites(tx)
        # Nearly always none of them is in the book yet; where one is, its insert fails and the body runs again.
        hopes = tx.is_first
        known = {} if hopes else await writes.payloads({transaction.id for transaction in transactions})
        owners = {
            owner: None for transaction in transactions if transaction.id not in known for owner in transaction.owners
        }
        return _Sheet(writes, self._policy, known, hopes, await writes.pages(owners) if owners else {})

    async def find_pages(self, owners: Sequence[OwnerId]) -> dict[OwnerId, Page]:
        """The positions of these guarded owners; empty pages for those who never had any."""
        found = await self._reads.find_pages(owners)
        return {owner: found.get(owner) or Page(owner) for owner in owners}

    async def get_page(self, owner: OwnerId) -> Page:
        """The position of a guarded owner; empty for one who never had any.

        Raises:
            ValueError: the owner is not guarded, so no page is kept.
        """
        if not is_guarded(owner):
            message = f"no page is kept for {owner}"
            raise ValueError(message)
        return (await self.find_pages([owner]))[owner]

    async def find_transaction(self, transaction: TransactionId) -> Transaction | None:
        """The transaction of that id."""
        return await self._reads.find_transaction(transaction)

    async def list_statement(
        self,
        account: AccountId,
        *,
        limit: int,
        older_than: int | None = None,
        newer_than: int | None = None,
        newest: bool = True,
    ) -> list[StatementLine]:
        """At most ``limit`` (≤ 200) lines of the account strictly between two sequence numbers, newest first.

        ``newest=False`` takes those next to ``newer_than`` instead of those next to ``older_than``.
        """
        owner, asset, _ = split_account(account)
        lines = await self._reads.list_statement(
            owner,
            asset,
            older_than=older_than,
            newer_than=newer_than,
            limit=min(limit, MAX_STATEMENT_PAGE),
            newest=newest,
        )
        return lines if newest else lines[::-1]

    async def balance_at(self, account: AccountId, at: datetime) -> int:
        """What a guarded owner's account held after all that happened before ``at``, held amounts included.

        A moment to come counts as the present.
        """
        owner, asset, _ = split_account(account)
        lines = await self._reads.list_period(owner, asset, since=None, until=self._past(at), limit=1, newest=True)
        return lines[0].line.balance if lines else 0

    async def period_statement(self, account: AccountId, since: datetime, until: datetime) -> PeriodStatement:
        """Opening balance, movements with ``since <= at < until``, oldest first, and closing balance.

        A period ends at the present at the latest. A transaction's time is taken before it commits: what ended some
        seconds ago is final.

        Raises:
            StatementTooLongError: more than 2,000 movements.
        """
        owner, asset, _ = split_account(account)
        since, until = self._past(since), self._past(until)
        lines = await self._reads.list_period(
            owner, asset, since=since, until=until, limit=MAX_MOVEMENTS + 1, newest=False
        )
        if len(lines) > MAX_MOVEMENTS:
            raise StatementTooLongError(MAX_MOVEMENTS)
        if lines:
            opening, closing = lines[0].line.balance - lines[0].line.change, lines[-1].line.balance
        else:
            opening = closing = await self.balance_at(account, since)
        return PeriodStatement(account, since, until, opening, closing, tuple(lines))

    def _past(self, moment: datetime) -> datetime:
        return min(moment, self._clock.now() + INSTANT)


def _check(transaction: Transaction) -> None:
    """Refuse what no caller may post.

    Raises:
        MalformedTransactionError: no book can hold it, or it lends or repays, which only the book itself does.
    """
    shape.check(transaction)
    if transaction.kind in OWING:
        message = f"{transaction.key}: {transaction.kind} is the book's own"
        raise MalformedTransactionError(message)


@dataclass
class _Sheet:
    """What one MongoDB transaction is going to write into the book."""

    writes: LedgerWrites
    policy: PointsPolicy
    payloads: dict[TransactionId, str]
    hopes: bool
    before: Mapping[OwnerId, Page]
    turned: dict[OwnerId, Page] = field(default_factory=dict)
    documents: list[Document] = field(default_factory=list)
    sent: int = 0
    posted: dict[TransactionId, datetime] = field(default_factory=dict)
    standings: dict[TransactionId, Standing | None] = field(default_factory=dict)

    async def post(self, transaction: Transaction, at: datetime) -> None:
        """Add the transaction unless it is in the book; a refusal leaves the sheet as it was."""
        if self._is_posted(transaction):
            return
        try:
            await self._add(transaction, at)
        except REFUSALS:
            # What was done already cannot be done again; that is no refusal.
            if not self.hopes:
                raise
            self.payloads |= await self.writes.payloads([transaction.id])
            if not self._is_posted(transaction):
                raise
        if len(self.documents) - self.sent >= PART:
            await self._send()

    async def _send(self) -> None:
        part, self.sent = self.documents[self.sent :], len(self.documents)
        await self.writes.insert(part)

    def _is_posted(self, transaction: Transaction) -> bool:
        known = self.payloads.get(transaction.id)
        if known not in (None, transaction.payload):
            raise IdempotencyConflictError(transaction.key)
        return known is not None

    async def _add(self, transaction: Transaction, at: datetime) -> None:
        """Add the transaction, and what is lent for it or repaid after it."""
        standing = await self._standing(transaction)
        if transaction.corrects is not None:
            transaction = corrections.prepare(transaction, standing)
        found = ((owner, self.turned.get(owner) or self.before.get(owner)) for owner in transaction.owners)
        pages = {owner: page for owner, page in found if page}
        # Along every owner's sequence time never decreases, whatever the clocks of several servers say.
        at = max([at, *(page.at for page in pages.values() if page.at)])
        steps = []
        if transaction.kind in UNMINTING and self.policy.debt_allowed:
            steps += [self._apply(lending, pages, at) for lending in rules.lendings(transaction, pages, at)]
        applied = self._apply(transaction, pages, at)
        steps.append(applied)
        if self.policy.repays_debt_first:
            steps += [self._apply(repayment, pages, at) for repayment in rules.repayments(transaction, pages, at)]
        self.turned.update(pages)
        self.documents += itertools.chain.from_iterable(documents for documents, _ in steps)
        self.payloads[transaction.id] = transaction.payload
        self.posted[transaction.id] = at
        if standing is not None:
            standing.corrections.append(Correction(transaction, applied[1]))

    async def _standing(self, transaction: Transaction) -> Standing | None:
        """The transaction it corrects, this sheet's own corrections included."""
        corrected = transaction.corrects
        if corrected is None:
            return None
        if self.standings.get(corrected) is None:
            own = [document for document in self.documents if corrected in (document["_id"], document["copy_of"])]
            self.standings[corrected] = standing_of(own, []) if own else await self.writes.standing(corrected)
        return self.standings[corrected]

    def _apply(
        self, transaction: Transaction, pages: dict[OwnerId, Page], at: datetime
    ) -> tuple[list[Document], Sequence[Lots]]:
        """Turn the pages; the documents to write, and the lots each posting took."""
        terms = Terms(at, self.policy.opens(transaction.kind, at))
        applied = rules.apply(transaction, pages, terms)
        pages.update(applied.pages)
        return transaction_documents(transaction, applied, terms), applied.taken

    async def write(self, unsealed: str, at: datetime) -> None:
        """Write it all; nothing where nothing was posted."""
        if not self.documents:
            return
        await self._send()
        homes = [document["_id"] for document in self.documents if document["copy_of"] is None]
        await self.writes.announce(unsealed, homes, at)
        await self.writes.turn(self.before, self.turned.values())
