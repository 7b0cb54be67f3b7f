"""What later corrections of a credited act must be: restatements by a corrected rule, and its reversal. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from backend.actions.model import RuleRef, Status
from backend.actions.verdicts import expected_earning, facts_of, version_of
from backend.ledger.model import (
    MINTS,
    POINTS,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
)
from backend.rules.basis import share_of
from backend.rules.formula import UnmeasurableError, measure, times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action, Restatement
    from backend.kernel.ids import ActionId
    from backend.ledger.model import Asset
    from backend.rules.model import ActFacts, RuleVersion
    from backend.rules.service import RuleBook


class Difference(NamedTuple):
    """What a corrected rule gives more than an act has, in milligrams CO2e and points; below zero where less."""

    reduction_mg: int
    points: int


NONE = Difference(0, 0)


def applied_rule(action: Action) -> RuleRef | None:
    """The rule version that the act's amounts are from: of the last restatement, or of its settlement."""
    if action.restatements:
        return action.restatements[-1].rule
    return action.settlement.rule if action.settlement else None


def difference_by(action: Action, version: RuleVersion, book: RuleBook, zone: ZoneInfo) -> Difference:
    """What the version would give the credited act more, or less, than it has.

    For the quantity credited, by the share of its evidence then. No cap is asked again: points that one had cut do not
    rise above what it left, and what multipliers and campaigns brought stays.

    Raises:
        UnmeasurableError: the version's formula needs what the act does not tell.
        LookupError: the act was not settled by a version that is in the book.
    """
    settled = version_of(action, book)
    if settled is None or action.settlement is None:
        raise LookupError(action.id)
    facts = facts_of(action, book.kinds[action.kind], zone)
    reduction_mg = _reduction_mg(facts, action.settlement.credited_quantity, settled, version)
    awarded = sum(award.points for award in action.settlement.awards)
    own, settled_mg = action.settlement.points - awarded, action.settlement.reduction_mg
    points = _own_points(own, settled_mg, settled, version, reduction_mg)
    return Difference(reduction_mg - action.reduction_mg, points - (action.points - awarded))


def _own_points(own: int, settled_mg: int, settled: RuleVersion, version: RuleVersion, reduction_mg: int) -> int:
    """The points, without awards, of an act that settling gave ``own`` for ``settled_mg``.

    From these alone, whatever was restated since: a correction that is taken back leaves what was there.
    """
    more = own - settled.points.floor_times(settled_mg)
    points = version.points.floor_times(reduction_mg)
    return points + more if more >= 0 else min(points, own)


def _reduction_mg(facts: ActFacts, quantity: int, settled: RuleVersion, version: RuleVersion) -> int:
    if not version.enabled:
        return 0
    measured = measure(version.formula, facts.quantity, facts.attributes, facts.duration_s)
    return times(measured.rate, share_of(facts, settled)).floor_times(quantity)


def expected_restatement(action: Action, restated: Restatement) -> Transaction:
    """The transaction that a restatement must have in the book; signed differences go one way or the other."""
    assert action.settlement is not None
    assert action.settlement.asset is not None
    assert action.settlement.transaction is not None
    asset = action.settlement.asset
    differences = ((asset, restated.reduction_mg), (POINTS, restated.points))
    return Transaction(
        key=f"restate:{restated.job}:{action.id}",
        kind=TransactionKind.RESTATE,
        postings=tuple(_posting(action, asset, amount) for asset, amount in differences if amount),
        cause={
            "action": action.id,
            "restatement": restated.job,
            "rule": restated.rule.code,
            "rule_version": str(restated.rule.version),
            "revision": str(restated.revision),
        },
        corrects=action.settlement.transaction,
    )


def expected_reversal(action: Action, superseded_by: ActionId) -> Transaction | None:
    """The transaction that takes back all that the act earned, as restated since; None where nothing is left of it."""
    assert action.settlement is not None
    assert action.settlement.asset is not None
    standing = dataclasses.replace(action, reversal=None)
    amounts = ((action.settlement.asset, standing.reduction_mg), (POINTS, standing.points))
    postings = tuple(_posting(action, asset, -amount) for asset, amount in amounts if amount)
    if not postings:
        return None
    return Transaction(
        key=f"unclaim:{action.id}",
        kind=TransactionKind.REVERSE,
        postings=postings,
        cause={"action": action.id, "superseded_by": superseded_by},
        corrects=action.settlement.transaction,
    )


def _posting(action: Action, asset: Asset, amount: int) -> Posting:
    """So much more (from the mint), or less (back to it), of the asset for the act's citizen."""
    own = account_of(citizen_owner(action.citizen), asset)
    payer, payee = (MINTS[asset], own) if amount > 0 else (own, MINTS[asset])
    return Posting(from_account=payer, to_account=payee, asset=asset, amount=abs(amount))


def list_transactions(action: Action) -> Iterator[tuple[Transaction, datetime]]:
    """All that a credited act must have in the book, and when: its earning, its restatements, its reversal."""
    assert action.settlement is not None
    yield expected_earning(action, action.settlement), action.settlement.at
    for restated in action.restatements:
        yield expected_restatement(action, restated), restated.at
    reversal = action.reversal
    if reversal is not None and reversal.transaction is not None:
        transaction = expected_reversal(action, reversal.superseded_by)
        if transaction is not None:
            yield transaction, reversal.at


def problems(action: Action, book: RuleBook, zone: ZoneInfo) -> Iterator[str]:
    """In what the act's corrections do not follow from its settlement and the versions they name."""
    if (action.status is Status.REVERSED) is not (action.reversal is not None):
        yield f"is {action.status}, and its reversal is {action.reversal}"
    if action.status not in (Status.CREDITED, Status.REVERSED):
        if action.restatements:
            yield f"is {action.status}, and yet restated"
        return
    standing = dataclasses.replace(action, restatements=(), reversal=None)
    for restated in action.restatements:
        yield from _restatement_problems(standing, restated, book, zone)
        standing = dataclasses.replace(standing, restatements=(*standing.restatements, restated))
    if action.reversal is not None:
        transaction = expected_reversal(action, action.reversal.superseded_by)
        if action.reversal.transaction != (transaction.id if transaction else None):
            yield f"transaction {action.reversal.transaction} is not that of its reversal"


def _restatement_problems(standing: Action, restated: Restatement, book: RuleBook, zone: ZoneInfo) -> Iterator[str]:
    version = book.version_for(standing.kind, standing.occurred_at, revision=restated.revision)
    if version is None or restated.rule != RuleRef(version.rule, version.version) or restated.revision > book.revision:
        yield f"{restated.rule} was not in force for it at revision {restated.revision}"
        return
    try:
        expected = difference_by(standing, version, book, zone)
    except (UnmeasurableError, LookupError) as error:
        yield f"cannot be restated by {version.name}: {error!r}"
        return
    given = Difference(restated.reduction_mg, restated.points)
    if given != expected or given == NONE:
        yield f"restated by {given}, {version.name} gives {expected}"
    elif restated.transaction != expected_restatement(standing, restated).id:
        yield f"transaction {restated.transaction} is not that of its restatement"
