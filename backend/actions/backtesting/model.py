"""Back-tests and their results, as immutable values. Knows no storage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from backend.kernel.errors import Text
from backend.kernel.ids import SHARD_COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from backend.rules.drafts import Subject

ORDER_OF_BUDGETS = Text(
    "全体共用的预算按 64 个分片的先后重放，与实际发生的先后不同；因重复或不合常理而未计入的行为保持原结论，"
    "不同市民之间的重复与新的不合常理之处不再判断。",
    "Budgets that everybody draws on are replayed shard by shard, not in the order of time; acts that lost a claim or "
    "were found implausible keep that fate. Records of one act by two citizens, and doubts between acts that only the "
    "trial credits, are not judged.",
)


class State(StrEnum):
    """How far a back-test is."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


GOING = (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Days:
    """The local days from ``begin`` until before ``end``."""

    begin: date
    end: date


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The moment at which the local ``day`` begins, in UTC."""
    return datetime.combine(day, time.min, zone).astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried in place of what is published: a draft's text, all of a profile, or one published version.

    ``written`` is the draft's revision that ``wording`` was written at.
    """

    draft: str | None = None
    written: int | None = None
    subject: Subject | None = None
    wording: Mapping[str, Any] | None = None
    profile: str | None = None
    rule: str | None = None
    version: int | None = None


@dataclass(slots=True)
class Comparison:
    """Sums before and after: acts credited, milligrams CO2e quantified and recognised, points."""

    acts: int = 0
    credited_before: int = 0
    credited_after: int = 0
    quantified_mg_before: int = 0
    quantified_mg_after: int = 0
    recognised_mg_before: int = 0
    recognised_mg_after: int = 0
    points_before: int = 0
    points_after: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of one kind, district, local day, or tenth of the citizens (``1`` had the fewest points before)."""

    name: str
    citizens: int | None
    sums: Comparison


@dataclass(frozen=True, slots=True)
class Mover:
    """A citizen, by a pseudonym, and how many points more (or fewer) the trial gives."""

    pseudonym: str
    points: int


@dataclass(frozen=True, slots=True)
class Cuts:
    """How many acts a cap or a campaign's budget cut or refused; ``name`` is its group."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Side:
    """What one act came to: its status, milligrams CO2e, points, and how, line by line."""

    status: str
    reduction_mg: int
    points: int
    lines: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One act on which the trial differs from what was posted."""

    action: str
    kind: str
    before: Side
    after: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All that a back-test found.

    ``kept`` acts lost a claim, were not plausible or decided by a person, and keep that fate; ``waiting`` ones were not
    settled when it began; ``unreadable`` ones are not of the form of any intake. ``to_review`` would wait for a person.
    Citizens gain, lose or stay by points.
    """

    total: Comparison
    kinds: tuple[Row, ...]
    districts: tuple[Row, ...]
    days: tuple[Row, ...]
    deciles: tuple[Row, ...]
    gaining: int
    losing: int
    unchanged: int
    most_gaining: tuple[Mover, ...]
    most_losing: tuple[Mover, ...]
    cuts: tuple[Cuts, ...]
    to_review: int
    kept: int
    waiting: int
    unreadable: int
    sample: tuple[Difference, ...]

    @property
    def points_liability(self) -> int:
        """Points that the programme would owe more (or fewer)."""
        return self.total.points_after - self.total.points_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """One job: what is tried over which days, beside the rule book of ``revision``, on acts settled before ``at``.

    ``done`` of its 64 parts are replayed. ``attached`` tells whether its figures stand with the draft.
    """

    id: str
    actor: str
    trial: Trial
    days: Days
    revision: int
    at: datetime
    state: State = State.QUEUED
    done: int = 0
    ended_at: datetime | None = None
    attached: bool = False
    failure: str | None = None
    result: Result | None = None

    @property
    def parts(self) -> int:
        """How many parts there are: one a shard of citizens."""
        return SHARD_COUNT
