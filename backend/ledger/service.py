"""The only door to the book: post transactions, read balances and statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.errors import IdempotencyConflictError
from backend.ledger import rules
from backend.ledger.model import Page, StatementLine, is_guarded, split_account
from backend.ledger.store import LedgerReads, LedgerWrites, transaction_documents

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.kernel.ids import TransactionId
    from backend.ledger.model import AccountId, OwnerId, Transaction
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx

MAX_STATEMENT_PAGE = 200


class Ledger:
    """Double-entry book of every asset, on MongoDB."""

    def __init__(self, database: Database, transactions: Transactions, clock: Clock) -> None:
        self._reads = LedgerReads(database)
        self._transactions = transactions
        self._clock = clock

    async def post(self, transaction: Transaction) -> TransactionId:
        """Post one transaction atomically; a key already posted with the same payload changes nothing.

        Raises:
            InsufficientFundsError: a guarded account would fall below zero.
            IdempotencyConflictError: the key stands in the book with another payload.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        at = self._clock.now()

        async def body(tx: Tx) -> None:
            await self.post_within(tx, [transaction], at=at)

        await self._transactions.run(body)
        return transaction.id

    async def post_within(self, tx: Tx, transactions: Sequence[Transaction], *, at: datetime) -> None:
        """Post all of them inside the caller's MongoDB transaction, in order; those already posted are passed over.

        Raises:
            InsufficientFundsError: a guarded account would fall below zero; the caller's transaction must end.
            IdempotencyConflictError: a key stands in the book with another payload.
        """
        writes = LedgerWrites(tx)
        for transaction in transactions:
            rules.check(transaction)
        fresh = await self._unposted(writes, transactions)
        if not fresh:
            return
        owners = {owner: None for transaction in fresh for owner in rules.guarded_changes(transaction)}
        before = await writes.pages(owners)
        current = dict(before)
        documents = []
        for transaction in fresh:
            turned, entries = rules.apply(transaction, current)
            current.update(turned)
            documents.extend(transaction_documents(transaction, entries, at))
        await writes.write(documents, before, {owner: current[owner] for owner in owners})

    @staticmethod
    async def _unposted(writes: LedgerWrites, transactions: Sequence[Transaction]) -> list[Transaction]:
        known = await writes.payloads(transaction.id for transaction in transactions)
        fresh: list[Transaction] = []
        for transaction in transactions:
            payload = known.get(transaction.id)
            if payload is None:
                known[transaction.id] = transaction.payload
                fresh.append(transaction)
            elif payload != transaction.payload:
                raise IdempotencyConflictError(transaction.key)
        return fresh

    async def find_pages(self, owners: Sequence[OwnerId]) -> dict[OwnerId, Page]:
        """All balances of these guarded owners; empty pages for those who never had any."""
        found = await self._reads.find_pages(owners)
        return {owner: found.get(owner) or Page(owner, 0, {}) for owner in owners}

    async def get_page(self, owner: OwnerId) -> Page:
        """All balances of a guarded owner; empty for one who never had any.

        Raises:
            ValueError: the owner is not guarded, so no page is kept.
        """
        if not is_guarded(owner):
            message = f"no page is kept for {owner}"
            raise ValueError(message)
        return (await self.find_pages([owner]))[owner]

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
        owner, asset = split_account(account)
        lines = await self._reads.list_statement(
            owner,
            asset,
            older_than=older_than,
            newer_than=newer_than,
            limit=min(limit, MAX_STATEMENT_PAGE),
            newest=newest,
        )
        return lines if newest else lines[::-1]
