"""Checks across actions, claims and the book at one instant.

What was credited is what was recorded, converted by the rule version it names, posted once and claimed once; what was
not credited says why and earned nothing. When, by whom and from which file an action was recorded stands nowhere else,
so nothing here can vouch for it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from backend.actions import corrected, verdicts
from backend.actions.documents import (
    ACTIONS,
    CAP_TOTALS,
    CLAIMS,
    action_from_document,
    action_to_document,
    review_from_document,
    settlement_to_document,
    usage_from_document,
)
from backend.actions.model import Reason, Settlement, Status
from backend.actions.review_store import REVIEW_LOG
from backend.actions.rules import cap_total_id, counter_owner, fingerprints
from backend.kernel.tally import Tally
from backend.ledger.audit.findings import Audit, Nobody, unlike
from backend.ledger.audit.replay import earning_entry
from backend.mongo.batches import decode, long, stream_raw
from backend.rules.model import Measure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action, Review
    from backend.ledger.audit.findings import Side
    from backend.mongo.client import Document, Snapshot
    from backend.rules.model import CapUsage
    from backend.rules.service import RuleBook

READ_SIZE = 1_000


class ActionsAudit:
    """What the earnings of the book are for: the credited actions, with their claims and caps."""

    def __init__(self, snapshot: Snapshot, read_book: Callable[[], Awaitable[RuleBook]], zone: ZoneInfo) -> None:
        self._snapshot = snapshot
        self._read_book = read_book
        self._zone = zone
        self._is_told = False

    async def testify(self, audit: Audit, earnings: Side) -> None:
        """Check every action, claim and counter, and add what each credited action must have in the book.

        Called again, where the book says otherwise, it only adds the same once more.
        """
        # Read after the snapshot began: whatever converted its actions is in it, and versions never change.
        book = await self._read_book()
        if self._is_told:
            await self._compare(Audit(), book, earnings, Nobody())
            return
        self._is_told = True
        tally = Tally()
        await self._compare(audit, book, earnings, tally)
        suspects = tally.suspects()
        if suspects:
            await self._compare(Audit(), book, Nobody(), suspects)
            for entry, lead in suspects.differences():
                side = "credited action without it" if lead > 0 else "no credited action explains it"
                audit.report(entry.decode(errors="replace"), f"{side} ({abs(lead)}×)")

    async def _compare(self, audit: Audit, book: RuleBook, earnings: Side, sides: Side) -> None:
        lost: list[tuple[Action, str]] = []
        given: Counter[str] = Counter()
        async for raw in self._each(ACTIONS.name):
            document = _read(raw)
            place = f"action {document.get('_id')}"
            try:
                _add_review(document, sides)
                if not _is_set_aside(document):
                    action = action_from_document(document)
                    for problem in _problems(document, raw, action, book, self._zone):
                        audit.report(place, problem)
                    self._credit(audit, action, book, earnings, sides)
                    given.update(_awarded(action))
                    if action.settlement and action.settlement.claimed_by:
                        lost.append((action, action.settlement.claimed_by))
            except Exception as error:  # noqa: BLE001 - whatever a forged action breaks is a finding, never a traceback
                audit.report(place, f"cannot be read: {error!r}")
            if len(lost) >= READ_SIZE:
                await self._check_lost(audit, book, lost)
                lost = []
        await self._check_lost(audit, book, lost)
        _check_budgets(audit, book, given)
        async for raw in self._each(CLAIMS.name):
            _add_claim(audit, raw, sides)
        async for raw in self._each(CAP_TOTALS.name):
            _add_counter(audit, raw, sides)
        async for raw in self._each(REVIEW_LOG.name):
            _add_decision(audit, raw, sides)

    def _credit(self, audit: Audit, action: Action, book: RuleBook, earnings: Side, sides: Side) -> None:
        """Add what a credited action has in the book and, unless reversed, among the claims and on the counters."""
        if action.status not in (Status.CREDITED, Status.REVERSED) or action.settlement is None:
            return
        for transaction, at in corrected.list_transactions(action):
            earnings.add(earning_entry(transaction.id, transaction.key, at, transaction.payload))
        if action.reversal is not None:
            sides.add(_reversal_entry(action.id, action.reversal.superseded_by))
            return
        audit.actions += 1
        for fingerprint in fingerprints(action, book.kinds[action.kind]):
            sides.add(_claim_entry(fingerprint, action.id, action.citizen, action.tier.value))
        for key, added in verdicts.usage_by(action, book, self._zone).items():
            _add_usage(sides, cap_total_id(action.citizen, key), counter_owner(action.citizen, key), added, 1)

    async def _check_lost(self, audit: Audit, book: RuleBook, lost: list[tuple[Action, str]]) -> None:
        """Whoever lost a claim lost it to the owner of one that both have, or to one that was reversed since."""
        wanted = {
            action.id: fingerprints(action, book.kinds[action.kind]) for action, _ in lost if action.kind in book.kinds
        }
        names = [name for claims in wanted.values() for name in claims]
        owners: dict[str, object] = {}
        async for raw in self._each(CLAIMS.name, {"_id": {"$in": names}}):
            claim = _read(raw)
            owners[claim["_id"]] = claim.get("action")
        reversed_: dict[str, tuple[str, ...]] = {}
        gone = {winner for _, winner in lost} - set(owners.values())
        async for raw in self._each(ACTIONS.name, {"_id": {"$in": sorted(gone)}, "status": Status.REVERSED.value}):
            former = action_from_document(_read(raw))
            reversed_[former.id] = fingerprints(former, book.kinds[former.kind])
        for action, winner in lost:
            own = wanted.get(action.id, ())
            if winner not in {owners.get(name) for name in own} and not {*own} & {*reversed_.get(winner, ())}:
                audit.report(f"action {action.id}", f"lost no claim to {winner}")

    async def _each(self, collection: str, query: Document | None = None) -> AsyncIterator[bytes]:
        async for batch, spans in stream_raw(self._snapshot, collection, query or {}):
            for start, size in spans:
                yield bytes(batch[start : start + size])


def _awarded(action: Action) -> dict[str, int]:
    """The points that each campaign gave for the act, as it stands."""
    awards = action.settlement.awards if action.settlement and action.reversal is None else ()
    return {award.campaign: award.points for award in awards}


def _check_budgets(audit: Audit, book: RuleBook, given: Counter[str]) -> None:
    """No campaign gave more than the most it ever had."""
    for code, points in given.items():
        budget = max((campaign.budget for campaign in book.campaigns if campaign.code == code), default=0)
        if points > budget:
            audit.report(f"campaign {code}", f"gave {points} points of a budget of {budget}")


def _read(raw: bytes) -> Document:
    """The document; one that cannot be decoded is as good as empty."""
    try:
        return decode(raw)
    except ValueError:
        return {}


def _is_set_aside(document: Document) -> bool:
    """Whether settling could not deal with it and left it, whatever it is, to a person; it earned nothing."""
    settlement = document.get("settlement")
    if document.get("status") != Status.REVIEW or not isinstance(settlement, dict) or "at" not in settlement:
        return False
    return settlement == settlement_to_document(Settlement(at=settlement["at"], reason=Reason.PROCESSING_FAILED))


def _problems(document: Document, raw: bytes, action: Action, book: RuleBook, zone: ZoneInfo) -> list[str]:
    return [
        *unlike(document, raw, action_to_document(action)),
        *verdicts.problems(action, book, zone),
        *corrected.problems(action, book, zone),
    ]


def _add_claim(audit: Audit, raw: bytes, sides: Side) -> None:
    document = _read(raw)
    name, action, citizen, tier = (document.get(field) for field in ("_id", "action", "citizen", "tier"))
    if document.keys() != {"_id", "action", "citizen", "tier"} or not isinstance(name, str):
        audit.report(f"claim {name}", "is malformed")
    sides.add(_claim_entry(name, action, citizen, tier), -1)


def _add_review(document: Document, sides: Side) -> None:
    """The decision that stands on the action."""
    if "review" in document:
        sides.add(_review_entry(document["_id"], review_from_document(document["review"])))


def _add_decision(audit: Audit, raw: bytes, sides: Side) -> None:
    """A decision stands on its action until the next one, which says what it replaced."""
    document = _read(raw)
    try:
        action = document["action"]
        sides.add(_review_entry(action, review_from_document(document["review"])), -1)
        if document["previous"] is not None:
            sides.add(_review_entry(action, review_from_document(document["previous"])))
        for loser in document["reversed"]:
            sides.add(_reversal_entry(loser, action), -1)
    except (ValueError, KeyError, TypeError) as error:
        audit.report(f"review {document.get('_id')}", f"cannot be read: {error!r}")


def _review_entry(action: str, review: Review) -> bytes:
    decided = f"{review.decision} by {review.by} at {review.at}: {review.reason}"
    return f"review of action {action}: {decided}".encode()


def _reversal_entry(action: str, superseded_by: str) -> bytes:
    return f"reversal of action {action} for action {superseded_by}".encode()


def _add_counter(audit: Audit, raw: bytes, sides: Side) -> None:
    document = _read(raw)
    name = document.get("_id")
    try:
        usage = usage_from_document(document)
        amounts = {name: long(getattr(usage, name)) for name in ("count", "quantity", "reduction_mg", "points")}
        for problem in unlike(document, raw, {"_id": str(name), "citizen": document["citizen"], **amounts}):
            audit.report(f"counter {name}", problem)
        _add_usage(sides, str(name), document["citizen"], usage, -1)
    except (ValueError, KeyError, TypeError) as error:
        audit.report(f"counter {name}", f"cannot be read: {error!r}")


def _claim_entry(fingerprint: object, action: object, citizen: object, tier: object) -> bytes:
    return f"claim {fingerprint} of action {action} of {citizen} ({tier})".encode()


def _add_usage(sides: Side, total: str, citizen: str, usage: CapUsage, sign: int) -> None:
    for measure in Measure:
        sides.add(f"counter {total} of {citizen} {measure.value}".encode(), sign * usage.measured(measure))
