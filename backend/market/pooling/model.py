"""Consent, batches, contributions and verdicts as immutable values; amounts in milligrams CO2e or whole grams."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, NewType

from backend.kernel.errors import Text
from backend.kernel.ids import derived_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from backend.actions.model import RuleRef
    from backend.kernel.ids import ActionId, CitizenId, TransactionId
    from backend.market.serials.model import SerialRange
    from backend.rules.model import Category

BatchCode = NewType("BatchCode", str)
ContributionId = NewType("ContributionId", str)
MG_PER_TONNE = 1_000_000_000
G_PER_TONNE = 1_000_000
BPS = 10_000
# What citizens agree to, by version; the last is the one in use.
WORDINGS: Mapping[int, Text] = {
    1: Text(
        "本人授权本项目归集本人在所选场景中产生的减排量，用于核证、签发与交易；本人可随时撤回授权，"
        "撤回前已归集且尚未核证的减排量可申请退回。"
        "（依据《广州市互联网租赁自行车骑行碳普惠方法学》，广州市生态环境局，2023）",
        "I authorise the programme to pool the reductions of my acts in the chosen scenarios, to have them verified, "
        "issued and traded. I may withdraw at any time; what was pooled before and is not verified yet is returned "
        "when I ask. (After the carbon-inclusion methodology for shared bicycles, Guangzhou Municipal Ecology and "
        "Environment Bureau, 2023)",
    )
}
WORDING = max(WORDINGS)


class Benefit(StrEnum):
    """As what a citizen takes their part of a pool's proceeds."""

    FEN = "FEN"
    POINTS = "POINTS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """One version of a citizen's authorisation: ``scenarios`` None means all; in force from ``since`` to ``until``."""

    citizen: CitizenId
    number: int
    scenarios: frozenset[Category] | None
    benefit: Benefit
    wording: int
    since: datetime
    until: datetime | None = None

    @property
    def id(self) -> str:
        """The id that this version of this citizen's always has."""
        return derived_id("consent", self.citizen, str(self.number))

    def covers(self, scenario: Category) -> bool:
        """Whether it is in force and for that scenario."""
        return self.until is None and (self.scenarios is None or scenario in self.scenarios)


class BatchStage(StrEnum):
    """How far a batch has come."""

    GATHERING = "GATHERING"
    GATHERED = "GATHERED"
    VERIFIED = "VERIFIED"
    ISSUING = "ISSUING"
    ISSUED = "ISSUED"
    # everything is on its way back to the contributors: called off, or rejected by the verifier
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


WORKED_ON = (BatchStage.GATHERING, BatchStage.ISSUING, BatchStage.CANCELLING)
OPEN_TO_WITHDRAWAL = frozenset({BatchStage.GATHERING, BatchStage.GATHERED})
# A verdict stands: what these hold, and how it is split, changes no more.
BOUND = frozenset({BatchStage.VERIFIED, BatchStage.ISSUING, BatchStage.ISSUED})
PUBLIC = frozenset({BatchStage.ISSUED})


class AdjustmentReason(StrEnum):
    """Why a verifier takes something off."""

    DUPLICATE_CLAIM = "DUPLICATE_CLAIM"
    EVIDENCE_LACKING = "EVIDENCE_LACKING"
    NOT_ELIGIBLE = "NOT_ELIGIBLE"
    MISCALCULATED = "MISCALCULATED"
    UNCERTAINTY = "UNCERTAINTY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """What a verifier takes off: the whole of one act, or ``bps`` hundredths of a per cent of all that is left then.

    ``mg`` is how much that was; 0 until it is worked out.
    """

    action: ActionId | None
    bps: int | None
    reason: AdjustmentReason
    note: str
    mg: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the verifier said: the report by its SHA-256 and name, whose it is, and what is taken off.

    ``content`` and ``shares`` are the SHA-256 of the acts and of the contributions it is about, as files.
    """

    verifier: str
    organisation: str
    report_hash: str
    report_name: str
    statement: str
    adjustments: tuple[Adjustment, ...]
    content: str
    shares: str
    at: datetime

    @property
    def deducted_mg(self) -> int:
        """Milligrams taken off altogether."""
        return sum(adjustment.mg for adjustment in self.adjustments)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a batch was called off or rejected, by whom and when."""

    by: str
    at: datetime
    reason: str
    is_verdict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Acts to look at, drawn stratum by stratum with the batch's content hash as the seed."""

    size: int
    seed: str
    actions: tuple[ActionId, ...]
    drawn_by: str
    drawn_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """The issuance of a batch: whole tonnes, as ``grams``; ``residual_mg`` is what is left of what was verified."""

    issuer: str
    begun_at: datetime
    grams: int
    residual_mg: int
    methodologies: tuple[str, ...] = ()
    issued_at: datetime | None = None


class Cursor(NamedTuple):
    """How far a job came: behind that citizen, or behind an act of theirs."""

    citizen: str
    at: datetime | None = None
    action: str = ""


START = Cursor("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a batch holds of contributors: how many, of how many acts, milligrams."""

    contributions: int = 0
    acts: int = 0
    mg: int = 0

    def plus(self, contributions: int, acts: int, mg: int) -> Totals:
        """The totals with so much more, or less."""
        return Totals(contributions=self.contributions + contributions, acts=self.acts + acts, mg=self.mg + mg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Grams of one scenario, profile and period [since, until), local days of the year ``vintage``.

    ``opening`` is the use of the idempotency key that opened it.
    ``version`` counts every change; ``contents`` those of what it holds, and ``content`` is the hash of the contents
    with the number ``hashed``. ``passed`` are places of citizens whose pages were too busy: the worker comes back.
    """

    code: BatchCode
    number: int
    scenario: Category
    profile: str
    vintage: int
    since: date
    until: date
    project: Text
    opener: str
    opened_at: datetime
    opening: str
    stage: BatchStage = BatchStage.GATHERING
    version: int = 0
    contents: int = 0
    content: str | None = None
    hashed: int = -1
    totals: Totals = Totals()
    cursor: Cursor = START
    passed: tuple[Cursor, ...] = ()
    gathered_at: datetime | None = None
    sample: Sample | None = None
    verdict: Verdict | None = None
    ending: Ending | None = None
    issue: Issue | None = None

    @property
    def id(self) -> BatchCode:
        """Its code."""
        return self.code

    @property
    def credit(self) -> str:
        """The asset its grams become."""
        return f"credit:{self.code}"

    @property
    def issued_at(self) -> datetime | None:
        """When the last credit of it was issued."""
        return self.issue.issued_at if self.issue else None

    @property
    def verified_mg(self) -> int:
        """What a verdict left of it; 0 before."""
        return self.totals.mg - self.verdict.deducted_mg if self.verdict else 0

    def holding(self, totals: Totals) -> Batch:
        """The batch with other contents: a sample of those before is none of these."""
        return replace(self, totals=totals, contents=self.contents + 1, sample=None)


class ContributionStage(StrEnum):
    """Whether a contribution stands."""

    GIVEN = "GIVEN"
    # by the citizen
    WITHDRAWN = "WITHDRAWN"
    # with the whole batch
    RETURNED = "RETURNED"
    # better evidence replaced every act of it before the verdict; the batch may take others of the citizen's
    SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOut:
    """An act that better evidence replaced before the verdict: what it was in its contribution."""

    action: ActionId
    number: int
    mg: int
    earned: TransactionId
    pooled: TransactionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What was issued for a contribution to one owner, the pool or the citizen: serials and the transaction."""

    run: SerialRange
    transaction: TransactionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one citizen gave to one batch: ``pool_mg`` below the yearly threshold, ``own_mg`` above it.

    ``transfers`` are its POOL transactions in order, ``taken_out`` what left it since. ``deducted_mg`` and
    ``residual_mg`` are worked out with the issuance, ``pool`` and ``own`` are what was issued.
    """

    batch: BatchCode
    citizen: CitizenId
    vintage: int
    benefit: Benefit
    given_at: datetime
    acts: int
    pool_mg: int
    own_mg: int
    transfers: tuple[TransactionId, ...]
    taken_out: tuple[TakenOut, ...] = ()
    stage: ContributionStage = ContributionStage.GIVEN
    deducted_mg: int | None = None
    residual_mg: int | None = None
    pool: Share | None = None
    own: Share | None = None

    @property
    def id(self) -> ContributionId:
        """The id that this batch and citizen always give."""
        return contribution_id(self.batch, self.citizen)

    @property
    def mg(self) -> int:
        """Milligrams given."""
        return self.pool_mg + self.own_mg

    @property
    def pool_g(self) -> int:
        """Grams issued to the pool."""
        return self.pool.run.grams if self.pool else 0

    @property
    def own_g(self) -> int:
        """Grams issued to the citizen."""
        return self.own.run.grams if self.own else 0


@dataclass(frozen=True, slots=True)
class Stake:
    """A contribution with the batch it is to."""

    contribution: Contribution
    batch: Batch


def contribution_id(batch: str, citizen: str) -> ContributionId:
    """The id of what that citizen gave to that batch."""
    return ContributionId(derived_id("contribution", batch, citizen))


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledAct:
    """An act in a batch: ``number`` in its contribution, from 1; ``earned`` and ``pooled`` are its transactions."""

    action: ActionId
    batch: BatchCode
    citizen: CitizenId
    number: int
    kind: str
    mg: int
    occurred_at: datetime
    rule: RuleRef
    tier: str
    evidence: str | None
    earned: TransactionId
    pooled: TransactionId


@dataclass(frozen=True)
class KindSum:
    """What acts of one kind gave, in grams."""

    kind: str
    acts: int
    grams: int


@dataclass(frozen=True)
class ActsSummary:
    """The acts behind serials of a credit: by kind, largest first, and when they happened."""

    kinds: tuple[KindSum, ...]
    citizens: int
    acts: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Origin:
    """A pooled act and how many milligrams of a gram are its."""

    act: PooledAct
    mg: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Where one gram came from: its contribution, the acts it is made of, and the transaction that issued it."""

    contribution: Contribution
    origins: tuple[Origin, ...]
    issued: TransactionId
