"""A restatement as a whole: who asked for which corrected rule and period, and what came of it. Immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from backend.actions.model import RuleRef
    from backend.kernel.ids import ActionId

# So many acts are named: the largest changes, and the first that cannot be restated.
MAX_NAMED = 20


class Stage(StrEnum):
    """How far a restatement has come."""

    # what it would change is being counted
    ESTIMATING = "ESTIMATING"
    # a dry run, at its end
    ESTIMATED = "ESTIMATED"
    # waits for another person
    PROPOSED = "PROPOSED"
    RUNNING = "RUNNING"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Unrestatable:
    """An act that keeps what it has, and the code of what stands against its restatement."""

    action: ActionId
    code: str


@dataclass(frozen=True, slots=True)
class RestatedAct:
    """The signed difference of one act."""

    action: ActionId
    reduction_mg: int
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What a restatement changed, or would: acts, those left as they are, signed differences in milligrams and points.

    ``refused`` acts cannot be restated; the first are named in ``unrestatable``.
    """

    acts: int = 0
    unchanged: int = 0
    refused: int = 0
    reduction_mg: int = 0
    points: int = 0
    unrestatable: tuple[Unrestatable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a restatement would do: ``debts`` are acts whose amounts are no longer there to be taken back."""

    at: datetime
    count: Count
    citizens: int
    debts: int
    largest: tuple[RestatedAct, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestatementJob:
    """The acts of one kind that happened in [since, until), restated by the rule version that is in force for them now.

    ``cursor`` is the id of the last act dealt with, ``done`` what was done so far.
    """

    id: str
    rule: RuleRef
    kind: str
    since: datetime
    until: datetime
    reason: str
    dry_run: bool
    proposer: str
    at: datetime
    stage: Stage = Stage.ESTIMATING
    approver: str | None = None
    estimate: Estimate | None = None
    cursor: str = ""
    done: Count = field(default_factory=Count)
