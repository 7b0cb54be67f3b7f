"""What one MongoDB transaction writes into the book: transactions added or refused one by one, written together."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.kernel.errors import IdempotencyConflictError, Refusal
from backend.ledger import corrections, rules, shape
from backend.ledger.corrections import Correction
from backend.ledger.documents import standing_of, transaction_documents
from backend.ledger.errors import MalformedTransactionError
from backend.ledger.model import OWING, UNMINTING, Terms
from backend.ledger.store import LedgerWrites

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backend.kernel.ids import TransactionId
    from backend.ledger.corrections import Standing
    from backend.ledger.lots import PointsPolicy
    from backend.ledger.model import Lots, OwnerId, Page, Transaction
    from backend.mongo.client import Document
    from backend.mongo.transactions import Tx

# So many documents make it worth while to let the server insert while the next are worked out.
PART = 64
# An amount beyond 64 bits is the caller's mistake as much as a malformed transaction.
REFUSALS = (Refusal, MalformedTransactionError, OverflowError)


def check(transaction: Transaction) -> None:
    """Refuse what no caller may post.

    Raises:
        MalformedTransactionError: no book can hold it, or it lends or repays, which only the book itself does.
    """
    shape.check(transaction)
    if transaction.kind in OWING:
        message = f"{transaction.key}: {transaction.kind} is the book's own"
        raise MalformedTransactionError(message)


@dataclass
class Sheet:
    """What one MongoDB transaction is going to write into the book; opened by ``Ledger.open_within``.

    ``posted`` tells when each transaction happened that was not passed over. The pages and payloads it knows are those
    of what was announced; ``before`` are the pages as they were read.
    """

    writes: LedgerWrites
    policy: PointsPolicy
    hopes: bool
    posted: dict[TransactionId, datetime] = field(default_factory=dict)
    announced: dict[TransactionId, Transaction] = field(default_factory=dict)
    payloads: dict[TransactionId, str] = field(default_factory=dict)
    read: set[OwnerId] = field(default_factory=set)
    before: dict[OwnerId, Page] = field(default_factory=dict)
    turned: dict[OwnerId, Page] = field(default_factory=dict)
    documents: list[Document] = field(default_factory=list)
    sent: int = 0
    standings: dict[TransactionId, Standing | None] = field(default_factory=dict)

    @classmethod
    async def open(cls, tx: Tx, policy: PointsPolicy, transactions: Sequence[Transaction]) -> Sheet:
        """A sheet that has read what these transactions need, each of which the caller has checked."""
        # Nearly always none of them is in the book yet; where one is, its insert fails and the body runs again.
        sheet = cls(LedgerWrites(tx), policy, hopes=tx.is_first)
        await sheet._announce(transactions)
        return sheet

    async def _announce(self, transactions: Sequence[Transaction]) -> None:
        """Read which of them are in the book, and the pages of the others."""
        self.announced |= {transaction.id: transaction for transaction in transactions}
        unknown = {transaction.id for transaction in transactions} - self.payloads.keys()
        if unknown and not self.hopes:
            self.payloads |= await self.writes.payloads(unknown)
        owners = {
            owner: None
            for transaction in transactions
            if transaction.id not in self.payloads
            for owner in transaction.owners
            if owner not in self.read
        }
        if owners:
            self.read |= owners.keys()
            self.before |= await self.writes.pages(owners)

    async def post(self, transaction: Transaction, at: datetime) -> None:
        """Add the transaction unless it is in the book; a refusal leaves the sheet as it was.

        Raises:
            Refusal, MalformedTransactionError: see ``Ledger.post``.
        """
        if self.announced.get(transaction.id) is not transaction:
            check(transaction)
            await self._announce([transaction])
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
        """Write it all, once, at the end; nothing where nothing was posted. ``unsealed`` is made before the body."""
        if not self.documents:
            return
        await self._send()
        homes = [document["_id"] for document in self.documents if document["copy_of"] is None]
        await self.writes.announce(unsealed, homes, at)
        await self.writes.turn(self.before, self.turned.values())
