"""Checks across actions, claims and the book at one instant.

What was credited is what was recorded, converted by the rule version it names, posted once and claimed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backend.actions.model import RuleRef
from backend.actions.rules import cap_total_id, fingerprints
from backend.actions.store import action_from_document, stream_cap_totals, stream_claims, stream_credited
from backend.kernel.clock import local_date
from backend.kernel.tally import Suspects, Tally
from backend.kernel.units import Ratio
from backend.ledger.model import POINTS, QUANTIFIED, RECOGNISED, TransactionKind, account_of, citizen_owner
from backend.ledger.store import stream_transactions
from backend.rules.conversion import list_cap_keys
from backend.rules.model import WHOLE, CapUsage, Measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action, Settlement
    from backend.ledger.invariants import Audit
    from backend.mongo.client import Document, Snapshot
    from backend.rules.model import RuleVersion
    from backend.rules.service import RuleBook


class _Sides(Protocol):
    def add(self, entry: str, times: int = 1) -> None: ...


async def audit_actions(snapshot: Snapshot, book: RuleBook, zone: ZoneInfo, audit: Audit) -> int:
    """Compare each credited action with its record, rule, transaction, claims and caps; returns how many there are."""
    tally = Tally()
    count = await _compare(snapshot, book, zone, tally, audit.report)
    unequal = tally.unequal()
    if unequal:
        suspects = Suspects(unequal)
        await _compare(snapshot, book, zone, suspects, lambda _place, _problem: None)
        for entry, lead in suspects.differences():
            side = "credited action without it" if lead > 0 else "no credited action explains it"
            audit.report(entry, f"{side} ({abs(lead)}×)")
    return count


async def _compare(
    snapshot: Snapshot, book: RuleBook, zone: ZoneInfo, sides: _Sides, report: Callable[[str, str], None]
) -> int:
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
        for total, usage in _cap_usage(action, book, zone):
            _add_usage(sides, total, usage, 1)
    async for document in stream_transactions(snapshot):
        if document["kind"] == TransactionKind.EARN.value:
            sides.add(_actual_posting(document), -1)
    async for document in stream_claims(snapshot):
        sides.add(_claim_entry(document["_id"], document["action"], document["citizen"]), -1)
    async for total, usage in stream_cap_totals(snapshot):
        _add_usage(sides, total, usage, -1)
    return count


def _cap_usage(action: Action, book: RuleBook, zone: ZoneInfo) -> Iterator[tuple[str, CapUsage]]:
    """What the action drew on its citizen's counters."""
    version, settlement = _version(action, book), action.settlement
    if version is not None and settlement is not None:
        usage = CapUsage(1, settlement.credited_quantity, settlement.reduction_mg)
        for key in list_cap_keys(version, local_date(action.occurred_at, zone)):
            yield cap_total_id(action.citizen, key), usage


def _add_usage(sides: _Sides, total: str, usage: CapUsage, sign: int) -> None:
    for measure in Measure:
        sides.add(f"counter {total} {measure.value}", sign * usage.measured(measure))


def _version(action: Action, book: RuleBook) -> RuleVersion | None:
    """The rule version that the settlement names."""
    named = action.settlement.rule if action.settlement else None
    return next((v for v in book.versions.get(action.kind, ()) if named == RuleRef(v.rule, v.version)), None)


def _problems(document: Document, action: Action, book: RuleBook) -> Iterator[str]:
    """What in the action itself does not follow from what was recorded and from the rule version it names."""
    settlement = action.settlement
    assert settlement is not None
    if document["_id"] != action.id:
        yield f"citizen, source and reference are those of {action.id}"
    if document["payload"] != action.payload:
        yield "its content is not what was recorded"
    version = _version(action, book)
    if version is None:
        yield f"no rule version {settlement.rule} converts {action.kind}"
    elif not version.in_force_at(action.occurred_at):
        yield f"{version.name} was not in force when it happened"
    elif not _follows(action, settlement, version):
        yield (
            f"{settlement.reduction_mg} mg {settlement.asset} and {settlement.points} points do not follow from "
            f"{settlement.credited_quantity} by {version.name}"
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
    cause = (
        f"{action.id} ({action.payload}) by {rule.code if rule else None} v{rule.version if rule else None} "
        f"at {settlement.at.isoformat()}"
    )
    return _posting_entry(
        str(settlement.transaction), cause, {str(account): amount for account, amount in credited.items() if amount}
    )


def _actual_posting(document: Document) -> str:
    cause = document["cause"]
    return _posting_entry(
        document["_id"],
        f"{cause.get('action')} ({cause.get('payload')}) by {cause.get('rule')} v{cause.get('rule_version')} "
        f"at {document['at'].isoformat()}",
        {posting["to"]: int(posting["amount"]) for posting in document["postings"]},
    )


def _posting_entry(transaction: str, cause: str, credited: dict[str, int]) -> str:
    amounts = ", ".join(f"{account} +{amount}" for account, amount in sorted(credited.items()))
    return f"transaction {transaction} for action {cause}: {amounts}"
