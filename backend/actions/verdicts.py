"""What a stored action must be, from what was recorded and from the rule version it names. Pure; for the auditor."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from backend.actions.model import Reason, RuleRef, Settlement, Status
from backend.kernel.units import Ratio
from backend.ledger.model import (
    MINTS,
    POINTS,
    QUANTIFIED,
    RECOGNISED,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
)
from backend.rules.conversion import convert
from backend.rules.model import WHOLE, ActFacts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action
    from backend.rules.model import RuleVersion
    from backend.rules.service import RuleBook

LOST = frozenset({Reason.CLAIMED, Reason.CLAIMED_BY_WEAKER})
FOR_A_PERSON = frozenset({Reason.CLAIMED_BY_WEAKER, Reason.PROCESSING_FAILED})
# Reasons that follow from act and version alone, whatever is left of the caps.
PLAIN = frozenset({Reason.RULE_DISABLED, Reason.BELOW_MINIMUM, Reason.EVIDENCE_TOO_WEAK})


def expected_earning(action: Action, settlement: Settlement) -> Transaction:
    """The transaction that a credited action must have in the book."""
    assert settlement.asset is not None
    assert settlement.rule is not None
    owner = citizen_owner(action.citizen)
    amounts = ((settlement.asset, settlement.reduction_mg), (POINTS, settlement.points))
    return Transaction(
        key=f"action:{action.id}",
        kind=TransactionKind.EARN,
        postings=tuple(
            Posting(from_account=MINTS[asset], to_account=account_of(owner, asset), asset=asset, amount=amount)
            for asset, amount in amounts
            if amount
        ),
        cause={
            "action": action.id,
            "payload": action.payload,
            "rule": settlement.rule.code,
            "rule_version": str(settlement.rule.version),
        },
    )


def problems(action: Action, book: RuleBook, zone: ZoneInfo) -> Iterator[str]:
    """In what the action's status and settlement do not follow from what was recorded."""
    settlement, status = action.settlement, action.status
    moments = (action.occurred_at, action.recorded_at, settlement.at if settlement else action.recorded_at)
    if not all(isinstance(moment, datetime) for moment in moments):
        yield "has times that are none"
    elif settlement is None:
        if status is not Status.PENDING:
            yield f"is {status} without settlement"
    elif status is Status.CREDITED:
        yield from _credit_problems(action, settlement, book)
    elif status in (Status.REJECTED, Status.REVIEW):
        yield from _refusal_problems(action, settlement, book, zone)
    else:
        yield f"is {status} with a settlement"


def named_version(action: Action, book: RuleBook) -> RuleVersion | None:
    """The rule version that the settlement names."""
    named = action.settlement.rule if action.settlement else None
    return next((v for v in book.versions.get(action.kind, ()) if named == RuleRef(v.rule, v.version)), None)


def _credit_problems(action: Action, settlement: Settlement, book: RuleBook) -> Iterator[str]:
    if (settlement.reason, settlement.period, settlement.claimed_by) != (None, None, None):
        yield "is credited, and yet its settlement says why not"
    version = named_version(action, book)
    if version is None:
        yield f"no rule version {settlement.rule} converts {action.kind}"
    elif not version.in_force_at(action.occurred_at):
        yield f"{version.name} was not in force when it happened"
    elif not _follows(action, settlement, version):
        yield (
            f"{settlement.reduction_mg} mg {settlement.asset} and {settlement.points} points do not follow from "
            f"{settlement.credited_quantity} by {version.name}"
        )
    elif settlement.transaction != expected_earning(action, settlement).id:
        yield f"transaction {settlement.transaction} is not that of its earning"


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


def _refusal_problems(action: Action, settlement: Settlement, book: RuleBook, zone: ZoneInfo) -> Iterator[str]:
    reason = settlement.reason
    if settlement != Settlement(
        at=settlement.at,
        reason=reason,
        period=settlement.period,
        rule=settlement.rule,
        claimed_by=settlement.claimed_by,
    ):
        yield f"is {action.status}, and yet it earned"
    if reason is None or (reason in FOR_A_PERSON) is not (action.status is Status.REVIEW):
        yield f"is {action.status} because of {reason}"
        return
    if (reason in LOST) is not (settlement.claimed_by is not None):
        yield f"{reason} and claimed by {settlement.claimed_by} do not go together"
    has_rule = reason not in {*LOST, Reason.PROCESSING_FAILED, Reason.NO_RULE}
    if (reason is Reason.CAP_REACHED) is not (settlement.period is not None) or has_rule is not bool(settlement.rule):
        yield f"{reason}, rule {settlement.rule} and period {settlement.period} do not go together"
    elif has_rule:
        yield from _unconverted(action, settlement, book, zone)


def _unconverted(action: Action, settlement: Settlement, book: RuleBook, zone: ZoneInfo) -> Iterator[str]:
    """Whether the version refuses the act for the reason given."""
    version = named_version(action, book)
    if version is None or not version.in_force_at(action.occurred_at):
        yield f"no rule version {settlement.rule} converts {action.kind} of that time"
        return
    facts = ActFacts(
        kind=action.kind,
        quantity=action.quantity,
        occurred_at=action.occurred_at.astimezone(zone),
        tier=action.tier,
        attributes=action.attributes,
    )
    reason = convert(facts, version, {}).reason
    refused = Reason(reason.value) if reason else None
    if (refused in PLAIN or settlement.reason in PLAIN) and refused != settlement.reason:
        yield f"{version.name} does not refuse it because of {settlement.reason}"
    elif settlement.period is not None and settlement.period not in {cap.period for cap in version.caps}:
        yield f"{version.name} has no cap of a {settlement.period}"
