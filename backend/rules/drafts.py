"""Drafts of rules and what was done to them, as immutable values. Knows no storage and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from backend.kernel.crypto import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from backend.kernel.errors import Text

Plain = dict[str, Any]


class Subject(StrEnum):
    """What a draft is of."""

    RULE = "RULE"
    KIND = "KIND"
    CAMPAIGN = "CAMPAIGN"
    # all caps and budgets of the programme itself, as one text
    LIMITS = "LIMITS"


class Stage(StrEnum):
    """How far a draft has come; writing it anew brings it back to the first."""

    DRAFT = "DRAFT"
    # nothing stands against it in the rule book of that moment
    VALIDATED = "VALIDATED"
    # validated, and replayed over past acts
    BACKTESTED = "BACKTESTED"
    SUBMITTED = "SUBMITTED"
    # by somebody who neither wrote nor submitted any of it
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    PUBLISHED = "PUBLISHED"
    DISCARDED = "DISCARDED"


class Step(StrEnum):
    """What somebody did: to a draft, or publishing what comes with the software (SHIP)."""

    DRAFT = "DRAFT"
    EDIT = "EDIT"
    VALIDATE = "VALIDATE"
    BACKTEST = "BACKTEST"
    SUBMIT = "SUBMIT"
    APPROVE = "APPROVE"
    REJECT = "REJECT"
    PUBLISH = "PUBLISH"
    RETIRE = "RETIRE"
    DISCARD = "DISCARD"
    SHIP = "SHIP"


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a text from being used: the field, and for an expression line and column in it, from 1."""

    path: str
    problem: Text
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Backtest:
    """The job that replayed a draft, and its main figures by name."""

    job: str
    figures: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A text on its way to publication.

    ``revision`` counts the steps taken with it; who takes the next one names the revision they saw. ``written`` is the
    revision at which the text last changed, ``base`` the version of the rule that was the newest one then (0: none).
    ``hands`` are all who wrote or submitted any of it: none of them may approve it. A draft that ``retires`` switches
    its rule off from ``valid_from`` of its text on. ``published`` is the publication of the rule book that brought it.
    """

    id: str
    subject: Subject
    name: str
    stage: Stage
    revision: int
    written: int
    base: int
    author: str
    hands: frozenset[str]
    wording: Mapping[str, Any]
    created_at: datetime
    changed_at: datetime
    retires: bool = False
    approver: str | None = None
    problems: tuple[Problem, ...] = ()
    backtest: Backtest | None = None
    why_untested: str | None = None
    published: int | None = None

    @property
    def named(self) -> str:
        """What the log calls the subject: ``rule:R-MET1``."""
        return f"{self.subject.lower()}:{self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """One field before and after, as JSON; None where it was not there."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One step: when, who, of what, why, and what it changed; ``revision`` is the rule book's where it changed that."""

    id: str
    at: datetime
    actor: str
    step: Step
    subject: str
    draft: str | None
    reason: str
    difference: tuple[Change, ...]
    revision: int | None


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Every field in which two plain mappings differ, by path."""
    old, new = dict(_leaves("", before)), dict(_leaves("", after))
    return tuple(
        Change(path, old.get(path), new.get(path)) for path in sorted(old | new) if old.get(path) != new.get(path)
    )


def told(draft: Draft) -> Plain:
    """What the log tells of a draft: its stage, its text, what was found against it, its back-test."""
    return {
        "stage": draft.stage.value,
        "problems": [problem.path for problem in draft.problems],
        "backtest": draft.backtest.job if draft.backtest else None,
        "why_untested": draft.why_untested,
        **draft.wording,
    }


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """The fields of a nested value that hold something, each as JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{path}.{name}" if path else name, inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(f"{path}[{index}]", inner)
    elif value is not None:
        yield path, canonical_json(value).decode()
