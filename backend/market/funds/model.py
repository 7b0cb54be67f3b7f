"""Enterprises, deposits and payouts as immutable values; amounts in fen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, NewType

from backend.kernel.ids import CitizenId
from backend.ledger.model import OwnerId, citizen_owner, enterprise_owner

if TYPE_CHECKING:
    from datetime import date, datetime

    from backend.kernel.ids import TransactionId

EnterpriseId = NewType("EnterpriseId", str)
DepositId = NewType("DepositId", str)
PayoutId = NewType("PayoutId", str)


class EnterpriseStage(StrEnum):
    """How an enterprise stands with the programme. Only an approved one is paid in or out."""

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    SUSPENDED = "SUSPENDED"


class EnterpriseStep(StrEnum):
    """What staff did with an enterprise."""

    REGISTER = "REGISTER"
    APPROVE = "APPROVE"
    REJECT = "REJECT"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"


class DepositStage(StrEnum):
    """How far a deposit has come; only an approved one is in the book."""

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"


class PayoutStage(StrEnum):
    """How far a payout has come; while it is requested or being settled, its fen are held."""

    REQUESTED = "REQUESTED"
    SETTLING = "SETTLING"
    PAID = "PAID"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    LAPSED = "LAPSED"


OPEN_PAYOUT = frozenset({PayoutStage.REQUESTED, PayoutStage.SETTLING})


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterpriseApplication:
    """What an administrator writes to register an enterprise."""

    name: str
    credit_code: str
    contact: str
    purpose: str


class StepTaken(NamedTuple):
    """One step of staff: when, who, what and, where it needs one, why."""

    at: datetime
    actor: str
    step: EnterpriseStep
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enterprise:
    """A firm that buys credits; its id is the subject of its tokens. ``steps`` are all that staff did, in order."""

    id: EnterpriseId
    name: str
    credit_code: str
    """Unified social credit code, 18 characters (GB 32100-2015)."""
    contact: str
    purpose: str
    stage: EnterpriseStage
    steps: tuple[StepTaken, ...]

    @property
    def proposed_at(self) -> datetime:
        """When it was registered."""
        return self.steps[0].at

    @property
    def proposed_by(self) -> str:
        """Who registered it."""
        return self.steps[0].actor

    @property
    def reason(self) -> str | None:
        """Why it stands as it does, where the last step had a reason."""
        return self.steps[-1].reason

    @property
    def owner(self) -> OwnerId:
        """The enterprise as owner of accounts."""
        return enterprise_owner(self.id)


@dataclass(frozen=True, slots=True)
class FundAccount:
    """Whose money: exactly one of citizen and enterprise."""

    citizen: CitizenId | None = None
    enterprise: EnterpriseId | None = None

    @property
    def owner(self) -> OwnerId:
        """The same as owner of accounts."""
        if self.citizen is not None:
            return citizen_owner(self.citizen)
        assert self.enterprise is not None
        return enterprise_owner(self.enterprise)


def account_of_owner(owner: OwnerId) -> FundAccount:
    """Whose money the owner's is: a citizen's or an enterprise's."""
    kind, _, name = owner.partition(":")
    return FundAccount(citizen=CitizenId(name)) if kind == "citizen" else FundAccount(enterprise=EnterpriseId(name))


class BankEntry(NamedTuple):
    """The line of the bank's statement that shows a transfer: its reference, and the day it counts from."""

    reference: str
    value_date: date


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositOrder:
    """What finance staff write of money that came in: so many ``fen`` for that account."""

    account: FundAccount
    fen: int
    entry: BankEntry
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Money that came in by the bank; in the book once somebody other than who proposed it has approved it.

    ``salt`` opens the pseudonyms under which the book seals who did so.
    """

    id: DepositId
    owner: OwnerId
    fen: int
    entry: BankEntry
    note: str | None
    salt: str
    stage: DepositStage
    proposed_at: datetime
    proposed_by: str
    decided_at: datetime | None = None
    decided_by: str | None = None
    reason: str | None = None


class Payee(NamedTuple):
    """A bank account: in whose name, its number, at which bank."""

    name: str
    number: str
    bank: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """Money on its way out by the bank; ``sealed`` is the payee encrypted, ``masked`` what others may see of it.

    From the request on the fen are held; who records the bank's transfer moves them into a hold of its own, which
    outlasts the request's, so that what was paid cannot be spent meanwhile. ``expires_at`` is the hold's end.
    ``salt`` opens the pseudonyms under which the book seals who recorded the transfer and who approved it.
    """

    id: PayoutId
    owner: OwnerId
    fen: int
    masked: Payee
    sealed: str
    salt: str
    stage: PayoutStage
    requested_at: datetime
    expires_at: datetime
    entry: BankEntry | None = None
    settled_at: datetime | None = None
    settled_by: str | None = None
    decided_at: datetime | None = None
    decided_by: str | None = None
    reason: str | None = None
    transaction: TransactionId | None = None
    """The transaction by which the fen left, once paid."""

    def stage_at(self, now: datetime) -> PayoutStage:
        """Where it stands: the book frees an overdue hold by itself, whether or not the payout is marked yet."""
        return PayoutStage.LAPSED if self.stage in OPEN_PAYOUT and self.expires_at <= now else self.stage
