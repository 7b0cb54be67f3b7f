"""What a stored action must be, from what was recorded and from the rule version it names. Pure; for the auditor."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backend.actions.model import Decision, Reason, RuleRef, Settlement, Status
from backend.actions.plausibility import Fate, fate_of
from backend.kernel.clock import local_date
from backend.ledger.model import (
    MINTS,
    POINTS,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
)
from backend.rules.basis import heeds_today, holds, multiply, weigh
from backend.rules.campaigns import points_of
from backend.rules.conversion import convert, usage_of
from backend.rules.expressions import EvaluationError
from backend.rules.formula import UnmeasurableError
from backend.rules.model import PERCENT, UNUSED, ActFacts, Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action
    from backend.rules.conversion import Terms
    from backend.rules.model import CapKey, CapUsage, Kind, RuleVersion
    from backend.rules.service import RuleBook

SECOND = timedelta(seconds=1)
CONDITIONAL = frozenset({Reason.CONDITION_NOT_MET, Reason.CONDITION_FAILED})
FATES = {Status.REVIEW: Fate.REVIEW, Status.REJECTED: Fate.REJECT}
LOST = frozenset({Reason.CLAIMED, Reason.CLAIMED_BY_WEAKER})
FOR_A_PERSON = frozenset(
    {Reason.CLAIMED_BY_WEAKER, Reason.PROCESSING_FAILED, Reason.CONDITION_FAILED, Reason.UNMEASURABLE}
)
# Reasons that name no rule: the act did not come to be converted.
UNRULED = frozenset({*LOST, Reason.PROCESSING_FAILED, Reason.NO_RULE, Reason.IMPLAUSIBLE, Reason.REVIEW_REJECTED})
# Reasons that follow from act and version alone, whatever is left of the caps.
PLAIN = frozenset({Reason.RULE_DISABLED, Reason.BELOW_MINIMUM, Reason.EVIDENCE_TOO_WEAK, Reason.UNMEASURABLE})


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
        # The payload's hash ties the book to what was recorded: time, quantity, attributes, evidence.
        cause={
            "action": action.id,
            "payload": action.payload,
            "rule": settlement.rule.code,
            "rule_version": str(settlement.rule.version),
            "revision": str(settlement.revision),
            **_campaigns(settlement),
        },
    )


def _campaigns(settlement: Settlement) -> dict[str, str]:
    """What part of the points came from campaigns."""
    given = [f"{award.campaign}={award.points}" for award in settlement.awards if award.points]
    return {"campaigns": " ".join(given)} if given else {}


def problems(action: Action, book: RuleBook, zone: ZoneInfo) -> Iterator[str]:
    """In what the action's status and settlement do not follow from what was recorded."""
    settlement, status = action.settlement, action.status
    moments = (action.occurred_at, action.recorded_at, settlement.at if settlement else action.recorded_at)
    if not all(isinstance(moment, datetime) for moment in moments):
        yield "has times that are none"
    elif not _review_fits(action):
        yield f"is {status} because of {action.reason}, and was reviewed: {action.review}"
    elif settlement is None:
        if status is not Status.PENDING:
            yield f"is {status} without settlement"
    elif status in (Status.CREDITED, Status.REVERSED):
        yield from _credit_problems(action, settlement, book, zone)
    elif status in (Status.REJECTED, Status.REVIEW):
        yield from _refusal_problems(action, settlement, book, zone)
    else:
        yield f"is {status} with a settlement"


def _review_fits(action: Action) -> bool:
    """Whether what became of the act is what a reviewer who saw it decided."""
    decision = action.review.decision if action.review else None
    if decision is Decision.APPROVE and action.reason is Reason.IMPLAUSIBLE:
        return False
    return (decision is Decision.REJECT) is (action.reason is Reason.REVIEW_REJECTED)


def facts_of(action: Action, kind: Kind, zone: ZoneInfo, district: str | None = None) -> ActFacts:
    """What conversion needs to know of the act."""
    lasted = action.ended_at - action.occurred_at if action.ended_at else None
    return ActFacts(
        kind=action.kind,
        quantity=action.quantity,
        occurred_at=action.occurred_at.astimezone(zone),
        tier=action.tier,
        source=action.source,
        district=district,
        duration_s=lasted // SECOND if lasted is not None else None,
        attributes=action.attributes,
        category=kind.category,
    )


def version_of(action: Action, book: RuleBook) -> RuleVersion | None:
    """The rule version that was in force for the act by the book that settled it, if that is the one it names."""
    settlement = action.settlement
    if settlement is None:
        return None
    version = book.version_for(action.kind, action.occurred_at, revision=settlement.revision)
    is_named = version is not None and settlement.rule == RuleRef(version.rule, version.version)
    return version if is_named else None


def usage_by(action: Action, book: RuleBook, zone: ZoneInfo) -> Mapping[CapKey, CapUsage]:
    """What the credited act added to which counter; a restatement changes no counter."""
    version, settlement = version_of(action, book), action.settlement
    if version is None or settlement is None:
        return {}
    return usage_of(
        version,
        local_date(action.occurred_at, zone),
        book.terms_for(action.kind, action.occurred_at, revision=settlement.revision),
        quantity=settlement.credited_quantity,
        reduction_mg=settlement.reduction_mg,
        points=settlement.points,
        awards=settlement.awards,
    )


def _credit_problems(action: Action, settlement: Settlement, book: RuleBook, zone: ZoneInfo) -> Iterator[str]:
    if (settlement.reason, settlement.period, settlement.claimed_by, settlement.doubts) != (None, None, None, ()):
        yield "is credited, and yet its settlement says why not"
    version = version_of(action, book)
    if version is None:
        yield f"{settlement.rule} was not in force for {action.kind} when it happened"
        return
    terms = book.terms_for(action.kind, action.occurred_at, revision=settlement.revision)
    try:
        follows = _follows(facts_of(action, book.kinds[action.kind], zone), settlement, version, terms)
    except UnmeasurableError:
        follows = False
    if not follows:
        yield (
            f"{settlement.reduction_mg} mg {settlement.asset} and {settlement.points} points do not follow from "
            f"{settlement.credited_quantity} by {version.name}"
        )
    elif settlement.transaction != expected_earning(action, settlement).id:
        yield f"transaction {settlement.transaction} is not that of its earning"


def _follows(act: ActFacts, settlement: Settlement, version: RuleVersion, terms: Terms) -> bool:
    basis = weigh(act, version)
    quantity, reduction_mg = settlement.credited_quantity, settlement.reduction_mg
    converted_mg = basis.rate.floor_times(quantity)
    # Where a cap in milligrams cut it, the quantity is the least that earns what was left.
    is_cut = basis.rate.floor_times(quantity - 1) < reduction_mg < converted_mg
    return (
        version.enabled
        and act.quantity >= version.minimum
        and reduction_mg >= 1
        and 1 <= quantity <= basis.quantity
        and _may_count(act, version)
        and (reduction_mg == converted_mg or is_cut)
        and settlement.asset == basis.asset
        and _points_follow(settlement, version, terms)
    )


def _may_count(act: ActFacts, version: RuleVersion) -> bool:
    """Whether the version's condition lets the act count, as far as the act alone tells."""
    condition = version.condition
    if condition is None or heeds_today(version) or "district" in condition:
        return True
    try:
        return holds(condition, act, UNUSED)
    except EvaluationError:
        return False


def _points_follow(settlement: Settlement, version: RuleVersion, terms: Terms) -> bool:
    """Whether the points can be what the reduction earns; exactly that, where no condition and no counter decides."""
    own = settlement.points - sum(award.points for award in settlement.awards)
    plain = version.points.floor_times(settlement.reduction_mg)
    codes = [award.campaign for award in settlement.awards]
    if len(set(codes)) < len(codes) or not {*codes} <= {campaign.code for campaign in terms.campaigns}:
        return False
    raising = [each for each in version.multipliers if each.percent > PERCENT]
    most = multiply(plain, raising)
    asked = {campaign.code: points_of(campaign, most) for campaign in terms.campaigns}
    if any(not 0 <= award.points <= asked[award.campaign] for award in settlement.awards):
        return False
    is_capped = any(cap.measure is Measure.POINTS for cap in (*version.caps, *terms.caps))
    if version.multipliers or is_capped:
        return 0 <= own <= most
    return own == plain


def _refusal_problems(action: Action, settlement: Settlement, book: RuleBook, zone: ZoneInfo) -> Iterator[str]:
    reason = settlement.reason
    if settlement != Settlement(
        at=settlement.at,
        reason=reason,
        period=settlement.period,
        rule=settlement.rule,
        claimed_by=settlement.claimed_by,
        revision=settlement.revision,
        doubts=settlement.doubts,
    ):
        yield f"is {action.status}, and yet it earned"
    if settlement.revision > book.revision:
        yield f"was settled by revision {settlement.revision} of the rules, which there is not"
    if reason is Reason.NO_RULE and book.version_for(action.kind, action.occurred_at, revision=settlement.revision):
        yield "is refused for want of a rule, and there was one"
    if reason is Reason.IMPLAUSIBLE and fate_of(settlement.doubts) is not FATES.get(action.status):
        yield f"is {action.status}, which its doubts {settlement.doubts} do not give"
    if bool(settlement.doubts) is not (reason is Reason.IMPLAUSIBLE):
        yield f"{reason} and doubts {settlement.doubts} do not go together"
    is_open = reason in FOR_A_PERSON or (reason is Reason.IMPLAUSIBLE and action.status is Status.REVIEW)
    if reason is None or is_open is not (action.status is Status.REVIEW):
        yield f"is {action.status} because of {reason}"
        return
    if (reason in LOST) is not (settlement.claimed_by is not None):
        yield f"{reason} and claimed by {settlement.claimed_by} do not go together"
    has_rule = reason not in UNRULED
    if (reason is Reason.CAP_REACHED) is not (settlement.period is not None) or has_rule is not bool(settlement.rule):
        yield f"{reason}, rule {settlement.rule} and period {settlement.period} do not go together"
    elif has_rule:
        yield from _unconverted(action, settlement, book, zone)


def _unconverted(action: Action, settlement: Settlement, book: RuleBook, zone: ZoneInfo) -> Iterator[str]:
    """Whether the version refuses the act for the reason given."""
    version = version_of(action, book)
    if version is None:
        yield f"no rule version {settlement.rule} converts {action.kind} of that time"
        return
    if settlement.reason in CONDITIONAL and not (version.condition or version.multipliers):
        yield f"{version.name} has no condition that could have refused it"
    if version.condition or version.multipliers:
        return  # what a condition said may have hung on the citizen's day
    facts = facts_of(action, book.kinds[action.kind], zone)
    terms = book.terms_for(action.kind, action.occurred_at, revision=settlement.revision)
    reason = convert(facts, version, {}, terms=terms).reason
    refused = Reason(reason.value) if reason else None
    if (refused in PLAIN or settlement.reason in PLAIN) and refused != settlement.reason:
        yield f"{version.name} does not refuse it because of {settlement.reason}"
        return
    periods = {cap.period for cap in (*version.caps, *terms.caps)}
    if settlement.period is not None and settlement.period not in periods:
        yield f"{version.name} has no cap of a {settlement.period}"
