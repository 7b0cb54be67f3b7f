"""A ledger one can read in a minute: what the real one must agree with after every step. Must not import its rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.ledger.model import Transaction


class Answer(StrEnum):
    """What posting a transaction comes to."""

    POSTED = "POSTED"
    REPLAYED = "REPLAYED"
    CONFLICT = "IDEMPOTENCY_CONFLICT"
    INSUFFICIENT = "INSUFFICIENT_FUNDS"


@dataclass
class Reference:
    """Balances by account, guarded at zero for citizens; transactions by key."""

    balances: dict[str, int] = field(default_factory=dict)
    transactions: dict[str, Transaction] = field(default_factory=dict)

    def post(self, transaction: Transaction) -> Answer:
        """Post, or say why not; what is refused changes nothing."""
        known = self.transactions.get(transaction.key)
        if known is not None:
            return Answer.REPLAYED if known == transaction else Answer.CONFLICT
        after = dict(self.balances)
        for posting in transaction.postings:
            after[posting.from_account] = after.get(posting.from_account, 0) - posting.amount
            after[posting.to_account] = after.get(posting.to_account, 0) + posting.amount
        if any(balance < 0 for account, balance in after.items() if account.startswith("citizen:")):
            return Answer.INSUFFICIENT
        self.balances = after
        self.transactions[transaction.key] = transaction
        return Answer.POSTED

    def touching(self, owner: str) -> int:
        """How many transactions stand on the owner's page."""
        return sum(
            any(
                account.startswith(f"{owner}:")
                for posting in transaction.postings
                for account in (posting.from_account, posting.to_account)
            )
            for transaction in self.transactions.values()
        )
