"""Actions and what becomes of them, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from backend.kernel.crypto import payload_hash
from backend.kernel.errors import Language
from backend.kernel.ids import ActionId, CitizenId, derived_id, shard_of
from backend.rules.conversion import Reason as ConversionReason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backend.kernel.ids import ShardNumber, TransactionId
    from backend.kernel.units import Unit
    from backend.ledger.model import Asset
    from backend.rules.conversion import Award
    from backend.rules.model import EvidenceTier, Period


# Whose counter it is that all citizens draw on: no citizen's id.
EVERYBODY = CitizenId("*")


class Status(StrEnum):
    """Where an action stands."""

    PENDING = "PENDING"
    CREDITED = "CREDITED"
    REVIEW = "REVIEW"
    REJECTED = "REJECTED"
    REVERSED = "REVERSED"
    WITHDRAWN = "WITHDRAWN"


@dataclass(frozen=True, slots=True)
class ImportRow:
    """Where an imported action stood: the run of the importer and the first data row of it."""

    run: str
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """What somebody asks to record, before anything is checked.

    Whose act it is: ``citizen``, or ``external_id`` in the world of ``source``, or (both absent) the citizen who asks.
    """

    kind: str
    quantity: int
    unit: Unit
    occurred_at: datetime
    ended_at: datetime | None = None
    source: str
    ref: str
    citizen: CitizenId | None = None
    external_id: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    tier: EvidenceTier | None = None
    evidence: str | None = None
    import_row: ImportRow | None = None


class Reason(StrEnum):
    """Why an action earned nothing, or waits for a person; conversion's own reasons keep their codes."""

    NO_RULE = ConversionReason.NO_RULE.value
    RULE_DISABLED = ConversionReason.RULE_DISABLED.value
    BELOW_MINIMUM = ConversionReason.BELOW_MINIMUM.value
    EVIDENCE_TOO_WEAK = ConversionReason.EVIDENCE_TOO_WEAK.value
    CAP_REACHED = ConversionReason.CAP_REACHED.value
    EARNS_NOTHING = ConversionReason.EARNS_NOTHING.value
    CONDITION_NOT_MET = ConversionReason.CONDITION_NOT_MET.value
    CONDITION_FAILED = ConversionReason.CONDITION_FAILED.value
    UNMEASURABLE = ConversionReason.UNMEASURABLE.value
    CLAIMED = "CLAIMED"
    CLAIMED_BY_WEAKER = "CLAIMED_BY_WEAKER"
    IMPLAUSIBLE = "IMPLAUSIBLE"
    REVIEW_REJECTED = "REVIEW_REJECTED"
    SUPERSEDED = "SUPERSEDED"
    PROCESSING_FAILED = "PROCESSING_FAILED"

    def sentence(self, language: Language, period: Period | None = None) -> str:
        """The sentence shown to a citizen; ``period`` is that of the cap that was used up."""
        if self in _SENTENCES:
            return _SENTENCES[self][0 if language is Language.ZH_CN else 1]
        return ConversionReason(self.value).sentence(language, period)


_SENTENCES: Mapping[Reason, tuple[str, str]] = {
    Reason.CLAIMED: ("该行为已通过其他记录计入，不能重复计算", "this act was already counted through another record"),
    Reason.CLAIMED_BY_WEAKER: (
        "该行为此前已凭较弱的证据计入，需要人工核实",
        "this act was counted before on weaker evidence; a person will decide",
    ),
    Reason.IMPLAUSIBLE: ("记录内容不合常理", "what was recorded is not plausible"),
    Reason.REVIEW_REJECTED: ("人工核实后未予计入", "a person looked at it and did not accept it"),
    Reason.SUPERSEDED: (
        "该行为改由证据更充分的另一记录计入，原计入已撤销",
        "the act is counted through a better proved record instead; what this one earned was taken back",
    ),
    Reason.PROCESSING_FAILED: ("该行为需要人工核实", "this act needs to be looked at by a person"),
}


@dataclass(frozen=True, slots=True)
class RuleRef:
    """The rule version that converted an action."""

    code: str
    version: int


class DoubtCode(StrEnum):
    """What is not plausible about an act."""

    TOO_FAST = "TOO_FAST"
    TOO_SLOW = "TOO_SLOW"
    TOO_LONG = "TOO_LONG"
    OVERLAPS = "OVERLAPS"
    SAME_RIDE = "SAME_RIDE"
    IMPOSSIBLE_SEQUENCE = "IMPOSSIBLE_SEQUENCE"
    TOO_MANY = "TOO_MANY"
    SHARED_CARD = "SHARED_CARD"
    SAME_PLACE = "SAME_PLACE"


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason to doubt an act, how much it weighs, and the other act it has to do with."""

    code: DoubtCode
    score: int
    other: ActionId | None = None


class Decision(StrEnum):
    """What a reviewer decides."""

    # it is settled without asking again whether it is plausible
    APPROVE = "APPROVE"
    # it is settled once more like any other: a rule or a server was to blame
    RETRY = "RETRY"
    REJECT = "REJECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A reviewer's decision on an act; ``by`` is a pseudonym."""

    by: str
    at: datetime
    decision: Decision
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restatement:
    """A later correction of what an act earned, by a corrected rule: signed differences and their transaction.

    ``job`` is the restatement as a whole, ``revision`` that of the rule book it went by.
    """

    job: str
    rule: RuleRef
    revision: int
    reduction_mg: int
    points: int
    transaction: TransactionId
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """What an act earned was taken back, for another record of it is counted; no transaction where nothing was left."""

    at: datetime
    superseded_by: ActionId
    transaction: TransactionId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How an action was settled, by the rule book of ``revision``; ``reason`` tells why it earned nothing.

    ``points`` include those of ``awards``; ``doubts`` are what made it wait for a person or be rejected.
    """

    at: datetime
    reason: Reason | None
    period: Period | None = None
    rule: RuleRef | None = None
    credited_quantity: int = 0
    asset: Asset | None = None
    reduction_mg: int = 0
    points: int = 0
    transaction: TransactionId | None = None
    claimed_by: ActionId | None = None
    revision: int = 0
    awards: tuple[Award, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Action:
    """One low-carbon act of one citizen; its digests are made once, so it has no slots."""

    citizen: CitizenId
    source: str
    ref: str
    kind: str
    quantity: int
    unit: Unit
    occurred_at: datetime
    ended_at: datetime | None
    attributes: Mapping[str, str]
    tier: EvidenceTier
    evidence: str | None
    recorded_at: datetime
    recorded_by: str
    backfill: bool
    import_row: ImportRow | None = None
    status: Status = Status.PENDING
    settlement: Settlement | None = None
    review: Review | None = None
    restatements: tuple[Restatement, ...] = ()
    reversal: Reversal | None = None

    @cached_property
    def id(self) -> ActionId:
        """The id that this citizen, source and reference, and no others, always give."""
        return ActionId(derived_id("act", self.citizen, self.source, self.ref))

    @property
    def shard(self) -> ShardNumber:
        """The shard that settles this action."""
        return shard_of(self.citizen)

    @cached_property
    def payload(self) -> str:
        """Hash of all that the same record, sent again, must repeat."""
        return payload_hash(
            [
                self.kind,
                self.quantity,
                self.unit,
                self.occurred_at,
                self.ended_at,
                dict(self.attributes),
                self.tier.value,
                self.evidence,
            ]
        )

    @property
    def reason(self) -> Reason | None:
        """Why it earns nothing, or waits for a person."""
        if self.reversal is not None:
            return Reason.SUPERSEDED
        return self.settlement.reason if self.settlement else None

    @property
    def reduction_mg(self) -> int:
        """Milligrams CO2e credited, as restated since; 0 until settled and once reversed."""
        if self.reversal is not None:
            return 0
        settled = self.settlement.reduction_mg if self.settlement else 0
        return settled + sum(restated.reduction_mg for restated in self.restatements)

    @property
    def points(self) -> int:
        """Points credited, as restated since; 0 until settled and once reversed."""
        if self.reversal is not None:
            return 0
        settled = self.settlement.points if self.settlement else 0
        return settled + sum(restated.points for restated in self.restatements)


@dataclass(frozen=True, slots=True)
class Winner:
    """The action that owns a claim, and how good its evidence is."""

    action: ActionId
    tier: EvidenceTier


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What a group of actions earned together."""

    kind: str
    status: Status
    reason: Reason | None
    count: int
    reduction_mg: int
    points: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far an importer's run came over its file, should it be cut off."""

    run: str
    items: int
    rows: int
    recorded: int
    duplicate: int
    rejected: Mapping[str, int]
