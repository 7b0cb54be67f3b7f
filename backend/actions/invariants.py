"""Checks across actions, claims and the book at one instant: what was credited was posted once, and claimed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backend.actions.rules import fingerprints
from backend.actions.store import stream_claims, stream_credited
from backend.kernel.tally import Suspects, Tally
from backend.ledger.model import POINTS, TransactionKind, account_of, citizen_owner
from backend.ledger.store import stream_transactions

if TYPE_CHECKING:
    from backend.actions.model import Action
    from backend.ledger.invariants import Audit
    from backend.mongo.client import Document, Snapshot
    from backend.rules.service import RuleBook


class _Sides(Protocol):
    def add(self, entry: str, times: int = 1) -> None: ...


async def audit_actions(snapshot: Snapshot, book: RuleBook, audit: Audit) -> int:
    """Compare every credited action with its transaction and its claims; returns how many were compared."""
    tally = Tally()
    count = await _compare(snapshot, book, tally)
    unequal = tally.unequal()
    if unequal:
        suspects = Suspects(unequal)
        await _compare(snapshot, book, suspects)
        for entry, lead in suspects.differences():
            side = "credited action without it" if lead > 0 else "no credited action explains it"
            audit.report(entry, f"{side} ({abs(lead)}×)")
    return count


async def _compare(snapshot: Snapshot, book: RuleBook, sides: _Sides) -> int:
    count = 0
    async for action in stream_credited(snapshot):
        count += 1
        sides.add(_expected_posting(action))
        for fingerprint in fingerprints(action, book.kinds[action.kind]):
            sides.add(f"claim {fingerprint} of action {action.id}")
    async for document in stream_transactions(snapshot):
        if document["kind"] == TransactionKind.EARN.value:
            sides.add(_actual_posting(document), -1)
    async for document in stream_claims(snapshot):
        sides.add(f"claim {document['_id']} of action {document['action']}", -1)
    return count


def _expected_posting(action: Action) -> str:
    settlement = action.settlement
    assert settlement is not None
    assert settlement.asset is not None
    owner = citizen_owner(action.citizen)
    credited = {
        account_of(owner, settlement.asset): settlement.reduction_mg,
        account_of(owner, POINTS): settlement.points,
    }
    rule = settlement.rule
    cause = f"{action.id} by {rule.code if rule else None} v{rule.version if rule else None}"
    return _posting_entry(
        str(settlement.transaction), cause, {str(account): amount for account, amount in credited.items() if amount}
    )


def _actual_posting(document: Document) -> str:
    cause = document["cause"]
    return _posting_entry(
        document["_id"],
        f"{cause.get('action')} by {cause.get('rule')} v{cause.get('rule_version')}",
        {posting["to"]: int(posting["amount"]) for posting in document["postings"]},
    )


def _posting_entry(transaction: str, cause: str, credited: dict[str, int]) -> str:
    amounts = ", ".join(f"{account} +{amount}" for account, amount in sorted(credited.items()))
    return f"transaction {transaction} for action {cause}: {amounts}"
