"""Checks across actions, claims and the book at one instant.

What was credited is what was recorded, converted by the rule version it names, posted once and claimed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backend.actions.model import RuleRef
from backend.actions.rules import fingerprints
from backend.actions.store import action_from_document, stream_claims, stream_credited
from backend.kernel.tally import Suspects, Tally
from backend.kernel.units import Ratio
from backend.ledger.model import POINTS, QUANTIFIED, RECOGNISED, TransactionKind, account_of, citizen_owner
from backend.ledger.store import stream_transactions
from backend.rules.model import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backend.actions.model import Action, Settlement
    from backend.ledger.invariants import Audit
    from backend.mongo.client import Document, Snapshot
    from backend.rules.model import RuleVersion
    from backend.rules.service import RuleBook


class _Sides(Protocol):
    def add(self, entry: str, times: int = 1) -> None: ...


async def audit_actions(snapshot: Snapshot, book: RuleBook, audit: Audit) -> int:
    """Compare every credited action with its record, its rule, its transaction and its claims; returns how many."""
    tally = Tally()
    count = await _compare(snapshot, book, tally, audit.report)
    unequal = tally.unequal()
    if unequal:
        suspects = Suspects(unequal)
        await _compare(snapshot, book, suspects, lambda _place, _problem: None)
        for entry, lead in suspects.differences():
            side = "credited action without it" if lead > 0 else "no credited action explains it"
            audit.report(entry, f"{side} ({abs(lead)}×)")
    return count


async def _compare(snapshot: Snapshot, book: RuleBook, sides: _Sides, report: Callable[[str, str], None]) -> int:
    count = 0
    async for document in stream_credited(snapshot):
        count += 1
        try:
            action = action_from_document(document)
            problems = list(_problems(document, action, book))
            claims = fingerprints(action, book.kinds[action.kind])
            sides.add(_expected_posting(action))
        except (ValueError, KeyError, AssertionError) as error:
            report(f"action {document['_id']}", f"cannot be read: {error!r}")
            continue
        for problem in problems:
            report(f"action {document['_id']}", problem)
        for fingerprint in claims:
            sides.add(_claim_entry(fingerprint, action.id, action.citizen))
    async for document in stream_transactions(snapshot):
        if document["kind"] == TransactionKind.EARN.value:
            sides.add(_actual_posting(document), -1)
    async for document in stream_claims(snapshot):
        sides.add(_claim_entry(document["_id"], document["action"], document["citizen"]), -1)
    return count


def _problems(document: Document, action: Action, book: RuleBook) -> Iterator[str]:
    """What in the action itself does not follow from what was recorded and from the rule version it names."""
    settlement = action.settlement
    assert settlement is not None
    if document["_id"] != action.id:
        yield f"citizen, source and reference are those of {action.id}"
    if document["payload"] != action.payload:
        yield "its content is not what was recorded"
    versions = [v for v in book.versions.get(action.kind, ()) if settlement.rule == RuleRef(v.rule, v.version)]
    if not versions:
        yield f"no rule version {settlement.rule} converts {action.kind}"
    elif not _follows(action, settlement, versions[0]):
        yield (
            f"{settlement.reduction_mg} mg {settlement.asset} and {settlement.points} points do not follow from "
            f"{settlement.credited_quantity} by {versions[0].name}"
        )


def _follows(action: Action, settlement: Settlement, version: RuleVersion) -> bool:
    is_full = action.tier >= version.full_credit_tier
    share = WHOLE if is_full else version.declared_share
    rate = Ratio(version.factor.numerator * share.numerator, version.factor.denominator * share.denominator)
    quantity, reduction_mg = settlement.credited_quantity, settlement.reduction_mg
    converted_mg = rate.floor_times(quantity)
    # Where a cap in milligrams cut it, the quantity is the least that earns what was left.
    is_cut = rate.floor_times(quantity - 1) < reduction_mg < converted_mg
    return (
        1 <= quantity <= min(action.quantity, version.maximum)
        and (reduction_mg == converted_mg or is_cut)
        and settlement.points == version.points.floor_times(reduction_mg)
        and settlement.asset == (QUANTIFIED if is_full and version.quantified else RECOGNISED)
    )


def _claim_entry(fingerprint: str, action: str, citizen: str) -> str:
    return f"claim {fingerprint} of action {action} of {citizen}"


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
