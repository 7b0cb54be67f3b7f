"""The only door to the book: post transactions, read balances and statements."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from backend.kernel.grouping import Groups
from backend.kernel.ids import TransactionId, new_id
from backend.ledger.errors import StatementTooLongError
from backend.ledger.model import Page, PeriodStatement, is_guarded, split_account
from backend.ledger.sheet import REFUSALS, Sheet, check
from backend.ledger.store import LedgerReads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.ledger.lots import PointsPolicy
    from backend.ledger.model import AccountId, Asset, OwnerId, Posted, StatementLine, Transaction
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx

MAX_STATEMENT_PAGE = 200
MAX_MOVEMENTS = 2_000
GROUP_LIMIT = 128
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
        check(transaction)
        return await self._groups.submit(transaction)

    async def _post_group(self, group: Sequence[Transaction]) -> Sequence[TransactionId | Exception]:
        at = self._clock.now()
        unsealed = new_id("uns", at)

        async def body(tx: Tx) -> list[TransactionId | Exception]:
            # Each was checked before it joined the group.
            sheet = await Sheet.open(tx, self._policy, group)
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
        sheet = await self.open_within(tx, transactions)
        for transaction in transactions:
            await sheet.post(transaction, at)
        await sheet.write(new_id("uns", at), at)
        return sheet.posted

    async def open_within(self, tx: Tx, transactions: Sequence[Transaction]) -> Sheet:
        """A sheet inside the caller's MongoDB transaction, for callers who decide one transaction after the other.

        The pages of all owners of ``transactions`` are read at once; nothing is posted yet. One sheet at a time: it is
        written before the next is opened.

        Raises:
            MalformedTransactionError: no book can hold one of them.
        """
        for transaction in transactions:
            check(transaction)
        return await Sheet.open(tx, self._policy, transactions)

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

    def stream_merchant(
        self, merchant: str, *, since: datetime | None, until: datetime
    ) -> AsyncGenerator[Posted, None]:
        """What happened with ``since <= at < until`` of which the cause names the merchant (id), by time; all kinds.

        Everything is told as it stood at one instant. A transaction's time is taken before it commits: what ended some
        seconds ago is final. Whoever stops half-way closes the stream (``contextlib.aclosing``).
        """
        return self._reads.stream_merchant(merchant, since=since, until=until)

    async def merchant_balance(self, merchant: str, asset: Asset, *, until: datetime | None) -> int:
        """What customers' transactions before ``until`` left in the merchant's account, less all settlements of it.

        SETTLE and PAYOUT count whenever they were posted, for they come after the period they are about: points are
        zero once everything before ``until``, and nothing after it, is settled. ``until=None`` counts everything.
        The server sums what names the merchant in its cause; no code is shared with ``stream_merchant``.
        """
        return await self._reads.sum_merchant(merchant, asset, until=until)

    def _past(self, moment: datetime) -> datetime:
        return min(moment, self._clock.now() + INSTANT)
