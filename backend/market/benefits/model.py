"""Rounds of benefit return and what they pay, as immutable values; amounts in fen, whole grams and points."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, NewType

if TYPE_CHECKING:
    from datetime import datetime

    from backend.kernel.ids import CitizenId, TransactionId
    from backend.market.pooling.model import BatchCode, Benefit

RoundId = NewType("RoundId", str)


class RoundStage(StrEnum):
    """How far a round has come."""

    PROPOSED = "PROPOSED"
    REJECTED = "REJECTED"
    RUNNING = "RUNNING"
    DONE = "DONE"


OPEN_ROUND = frozenset({RoundStage.PROPOSED, RoundStage.RUNNING})


class Share(NamedTuple):
    """What a citizen has in a pool: the grams issued to it for their contribution; and as what they take their part."""

    citizen: CitizenId
    grams: int
    choice: Benefit


class Part(NamedTuple):
    """What of a round one share gives."""

    share: Share
    fen: int


class Paid(NamedTuple):
    """What a round has paid: to how many, how many fen as fen and as points, and how many points for the latter."""

    citizens: int = 0
    fen: int = 0
    converted_fen: int = 0
    points: int = 0

    @property
    def total_fen(self) -> int:
        """All that has left the pool."""
        return self.fen + self.converted_fen


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """So many ``fen`` of a pool, shared among its contributions; ``number`` counts a batch's rounds from 1.

    ``grams`` is what all shares come to, known once it runs. ``cursor`` is the last citizen who was looked at.
    ``salt`` opens the pseudonyms under which the book seals who proposed and who approved it.
    """

    id: RoundId
    batch: BatchCode
    number: int
    fen: int
    points_per_yuan: int
    salt: str
    stage: RoundStage
    proposed_at: datetime
    proposed_by: str
    decided_at: datetime | None = None
    decided_by: str | None = None
    reason: str | None = None
    done_at: datetime | None = None
    grams: int | None = None
    cursor: str = ""
    paid: Paid = field(default_factory=Paid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What a round paid to one citizen: ``fen``, or for them ``points``, with ``carry`` hundredths of a point left."""

    round: RoundId
    batch: BatchCode
    number: int
    citizen: CitizenId
    grams: int
    fen: int
    choice: Benefit
    points: int
    carry: int
    at: datetime
    transaction: TransactionId

    @property
    def id(self) -> str:
        """One a round and citizen."""
        return f"{self.round}:{self.citizen}"
