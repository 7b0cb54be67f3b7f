"""Replaying one part: its citizens' acts converted anew, in the order in which they were settled. Pure.

It calls the conversion that settling calls, and nothing else decides. What the counters were before is rebuilt from
what was posted.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.actions.backtesting.model import Difference, Side
from backend.actions.backtesting.tallying import SAMPLE, Tally, add, no_sums
from backend.actions.backtesting.trying import Binding
from backend.actions.documents import action_from_document
from backend.actions.explaining import explain_action
from backend.actions.model import Action, Reason, RuleRef, Status
from backend.actions.rules import fingerprints
from backend.actions.verdicts import LOST, facts_of
from backend.kernel.errors import Language, Text
from backend.kernel.ids import derived_id
from backend.ledger.model import QUANTIFIED
from backend.rules.basis import weigh
from backend.rules.campaigns import points_of
from backend.rules.conversion import Outcome, StepName, convert, usage_of
from backend.rules.conversion import Reason as ConversionReason
from backend.rules.explain import explain
from backend.rules.formula import UnmeasurableError
from backend.rules.model import UNUSED, Audience, CapKey, CapUsage, Measure, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.actions.backtesting.parts import Shared
    from backend.rules.conversion import Conversion, Terms
    from backend.rules.model import ActFacts, RuleVersion
    from backend.rules.service import RuleBook

    Used = dict[CapKey, CapUsage]

# Why an act earned nothing that no rule decides: it keeps that fate.
KEPT_REASONS = frozenset({*LOST, Reason.IMPLAUSIBLE, Reason.REVIEW_REJECTED, Reason.PROCESSING_FAILED})
KEPT_STATUSES = frozenset({Status.REVERSED, Status.WITHDRAWN})
CUTTING = frozenset({StepName.QUANTITY_CAPPED, StepName.REDUCTION_CAPPED, StepName.POINTS_CAPPED})
_NARROWING = frozenset({Measure.QUANTITY, Measure.MILLIGRAM})
_COUNTED = {
    Measure.COUNT: "count",
    Measure.QUANTITY: "quantity",
    Measure.MILLIGRAM: "reduction_mg",
    Measure.POINTS: "points",
}
NOWHERE = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What all parts of a job share: the books, the acts that count, and how a citizen is named in the result."""

    job: str
    book: RuleBook
    tried: RuleBook
    begin: datetime
    known_before: datetime
    zone: ZoneInfo
    pseudonym: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Act:
    """An act as posted and as the trial converts it."""

    action: Action
    facts: ActFacts
    version: RuleVersion | None
    terms: Terms
    conversion: Conversion


class Replay:
    """One part's citizens, one after the other; ``start`` is what earlier parts drew of what everybody draws on."""

    def __init__(self, frame: Frame, start: Mapping[Shared, int]) -> None:
        self.tally = Tally()
        self.drawn: dict[Shared, int] = {}
        self.limits: dict[Shared, int] = {}
        self._frame = frame
        self._before = Binding(frame.book)
        self._after = Binding(frame.tried)
        self._start = start
        self._shared: Used = _opening(start)
        self._sample: list[tuple[str, _Act]] = []

    def replay(self, documents: Sequence[Mapping[str, Any]], district: str | None) -> None:
        """All the acts of one citizen."""
        sums, acts = no_sums(), []
        used = dict(self._shared)
        claimed: set[str] = set()
        counted = False
        for document in sorted(documents, key=_settled_at):
            act = self._convert(document, district, used, claimed)
            if act is None:
                continue
            acts.append(act)
            if act.action.occurred_at >= self._frame.begin:
                counted = True
                add(sums, self._count(act))
        self._shared.update((key, usage) for key, usage in used.items() if key.scope is Scope.EVERYBODY)
        self._count_cuts_before(acts)
        if counted:
            citizen = documents[0]["citizen"]
            self.tally.add_citizen(district or NOWHERE, self._frame.pseudonym(citizen), sums)

    def finish(self) -> Tally:
        """The part's tally, its sample explained."""
        self._trim_sample()
        self.tally.sample = [(rank, self._explained(act)) for rank, act in self._sample]
        for shared in self.limits:
            key = CapKey(shared[0], shared[1], Scope.EVERYBODY)
            total = self._shared.get(key, UNUSED).measured(Measure(shared[2]))
            self.drawn[shared] = total - self._start.get(shared, 0)
        return self.tally

    def _convert(self, document: Mapping[str, Any], district: str | None, used: Used, claimed: set[str]) -> _Act | None:
        """The act decided anew; None where no rule decides about it."""
        frame, settled = self._frame, document["settlement"]
        counted = document["occurred_at"] >= frame.begin
        if settled is None or document["status"] == Status.PENDING or settled["at"] >= frame.known_before:
            self.tally.waiting += counted
            return None
        if document["status"] in KEPT_STATUSES or settled["reason"] in KEPT_REASONS:
            self.tally.kept += counted
            return None
        try:
            action = action_from_document(document)
            facts = facts_of(action, frame.tried.kinds[action.kind], frame.zone, district)
        except (KeyError, TypeError, ValueError):
            self.tally.unreadable += counted
            return None
        names = fingerprints(action, frame.tried.kinds[action.kind])
        if not claimed.isdisjoint(names):
            # Another record of the same act, which what was in force then had refused.
            self.tally.kept += counted
            return None
        version, terms = self._after.find(action.kind, action.occurred_at)
        conversion = convert(facts, version, used, terms=terms)
        if conversion.outcome is Outcome.CREDITED:
            claimed.update(names)
        if version is not None:
            if counted:
                self._cut(1, list_cuts(conversion, facts, version, terms, used))
            for key, added in conversion.usage.items():
                if key.scope is Scope.EVERYBODY:
                    self._bound(key, version, terms)
                known = used.get(key)
                used[key] = added if known is None else known + added
        return _Act(action, facts, version, terms, conversion)

    def _count(self, act: _Act) -> Sequence[int]:
        """The act's columns, counted by kind and day; perhaps a difference to show."""
        action, after = act.action, act.conversion
        is_before, is_after = action.status is Status.CREDITED, after.outcome is Outcome.CREDITED
        mg_before, points_before = (action.reduction_mg, action.points) if is_before else (0, 0)
        settlement = action.settlement
        full_before = settlement is not None and settlement.asset == QUANTIFIED
        full_after = after.asset == QUANTIFIED
        columns = (
            1,
            int(is_before),
            int(is_after),
            mg_before if full_before else 0,
            after.reduction_mg if full_after else 0,
            0 if full_before else mg_before,
            0 if full_after else after.reduction_mg,
            points_before,
            after.points,
        )
        cell = f"{action.kind}|{act.facts.occurred_on.isoformat()}"
        add(self.tally.cells.setdefault(cell, no_sums()), columns)
        waits = after.outcome is Outcome.REVIEW
        self.tally.to_review += waits and action.status is not Status.REVIEW
        if is_before is not is_after or columns[3:8:2] != columns[4:9:2]:
            self._sample.append((derived_id("sample", self._frame.job, action.id), act))
            if len(self._sample) >= 4 * SAMPLE:
                self._trim_sample()
        return columns

    def _trim_sample(self) -> None:
        self._sample = sorted(self._sample, key=lambda ranked: ranked[0])[:SAMPLE]

    def _bound(self, key: CapKey, version: RuleVersion, terms: Terms) -> None:
        """Note the limits of a counter that everybody draws on."""
        for cap in (*version.caps, *terms.caps):
            if cap.scope is Scope.EVERYBODY and cap.group == key.group:
                self._limit(key, cap.measure, cap.limit)
        for campaign in terms.campaigns:
            if f"campaign:{campaign.code}" == key.group:
                self._limit(key, Measure.POINTS, campaign.budget)

    def _limit(self, key: CapKey, measure: Measure, limit: int) -> None:
        shared = (key.group, key.period_key, measure.value)
        self.limits[shared] = min(limit, self.limits.get(shared, limit))

    def _cut(self, column: int, names: Iterator[str]) -> None:
        for name in names:
            self.tally.cuts.setdefault(name, [0, 0])[column] += 1

    def _count_cuts_before(self, acts: Sequence[_Act]) -> None:
        """Which caps cut what was posted; the counters of then are made anew for those citizens alone who met one."""
        if not any(_was_cut(act, *self._before_of(act)) for act in acts):
            return
        used: Used = {}
        for act in acts:
            version, terms = self._before_of(act)
            action, settlement = act.action, act.action.settlement
            if version is None or settlement is None:
                continue
            if action.occurred_at >= self._frame.begin and _was_cut(act, version, terms):
                again = convert(act.facts, version, used, terms=terms)
                self._cut(0, list_cuts(again, act.facts, version, terms, used))
                if settlement.reason is None and again.points > settlement.points:
                    self._cut(0, _list_budgets(version, terms))
            if settlement.reason is None:
                self._add_posted(used, act, version, terms)

    @staticmethod
    def _add_posted(used: Used, act: _Act, version: RuleVersion, terms: Terms) -> None:
        settlement = act.action.settlement
        assert settlement is not None
        posted = usage_of(
            version,
            act.facts.occurred_on,
            terms,
            quantity=settlement.credited_quantity,
            reduction_mg=settlement.reduction_mg,
            points=settlement.points,
            awards=settlement.awards,
        )
        for key, added in posted.items():
            if key.scope is Scope.CITIZEN:
                used[key] = used.get(key, UNUSED) + added

    def _before_of(self, act: _Act) -> tuple[RuleVersion | None, Terms]:
        """The version and terms that the act was settled by, if they are those it names."""
        settlement = act.action.settlement
        assert settlement is not None
        version, terms = self._before.find(act.action.kind, act.action.occurred_at, settlement.revision)
        is_named = version is not None and settlement.rule == RuleRef(version.rule, version.version)
        return (version, terms) if is_named else (None, terms)

    def _explained(self, act: _Act) -> Difference:
        action, after, frame = act.action, act.conversion, self._frame
        lines: tuple[Text, ...] = ()
        # What is stored and does not follow from what it names is for the auditor to tell.
        with suppress(KeyError, ValueError):
            lines = explain_action(action, frame.book, frame.zone, act.facts.district)
        before = Side(action.status.value, action.reduction_mg, action.points, lines)
        return Difference(
            action.id,
            action.kind,
            before,
            Side(after.outcome.value, after.reduction_mg, after.points, self._lines(act)),
        )

    def _lines(self, act: _Act) -> tuple[Text, ...]:
        """How the trial came to what it gives for the act."""
        after = act.conversion
        if after.reason is None:
            assert act.version is not None
            return explain(act.facts, self._frame.tried.kinds[act.facts.kind], act.version, after, act.terms)
        return (Text(*(after.reason.sentence(language, after.period) for language in (Language.ZH_CN, Language.EN))),)


def list_cuts(
    conversion: Conversion, act: ActFacts, version: RuleVersion, terms: Terms, used: Mapping[CapKey, CapUsage]
) -> Iterator[str]:
    """The groups of the caps and campaigns' budgets that cut, or refused, an act converted with so much ``used``."""
    day = act.occurred_on
    if conversion.reason is ConversionReason.CAP_REACHED:
        for cap in (*version.caps, *terms.caps):
            reached = used.get(cap.key(day), UNUSED).measured(cap.measure) >= cap.limit
            if reached and cap.measure is not Measure.POINTS:
                yield cap.group
                return
    own = 0
    for step in conversion.steps:
        if step.name in CUTTING:
            yield step.detail.rpartition(" ")[0]
        elif step.name is StepName.POINTS or step.name is StepName.MULTIPLIED:
            own = step.result
        elif step.name is StepName.AWARDED:
            campaign = next(each for each in terms.campaigns if each.code == step.detail)
            pays = step.result > 0 or campaign.audience is Audience.EVERY_ACT
            if pays and step.result < points_of(campaign, own):
                yield f"campaign:{campaign.code}"


def _was_cut(act: _Act, version: RuleVersion | None, terms: Terms) -> bool:
    """Whether some cap may have cut what was posted for the act."""
    settlement = act.action.settlement
    if version is None or settlement is None:
        return False
    if settlement.reason is not None:
        return settlement.reason is Reason.CAP_REACHED
    may_be = version.multipliers or terms.campaigns
    if may_be or settlement.points < version.points.floor_times(settlement.reduction_mg):
        return True
    if all(cap.measure not in _NARROWING for cap in (*version.caps, *terms.caps)):
        return False
    try:
        basis = weigh(act.facts, version)
    except UnmeasurableError:
        return False
    full_mg = basis.rate.floor_times(basis.quantity)
    return settlement.credited_quantity < basis.quantity or settlement.reduction_mg < full_mg


def _list_budgets(version: RuleVersion, terms: Terms) -> Iterator[str]:
    """The groups of the budgets that everybody draws on."""
    for cap in (*version.caps, *terms.caps):
        if cap.scope is Scope.EVERYBODY:
            yield cap.group


def _opening(start: Mapping[Shared, int]) -> Used:
    """The counters that everybody draws on, as the parts before left them."""
    used: Used = {}
    for (group, period_key, measure), amount in start.items():
        key = CapKey(group, period_key, Scope.EVERYBODY)
        used[key] = used.get(key, UNUSED) + CapUsage(**{_COUNTED[Measure(measure)]: amount})
    return used


def _settled_at(document: Mapping[str, Any]) -> tuple[bool, Any, datetime, str]:
    """Its place in the order in which a citizen's acts were settled: by batch, inside a batch by the act's time."""
    settled = document["settlement"]
    return settled is None, settled and settled["at"], document["occurred_at"], document["_id"]
