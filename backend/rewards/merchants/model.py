"""Merchants, contracts, shops and members as immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from datetime import datetime

    from backend.kernel.errors import Text
    from backend.kernel.units import Ratio

MerchantId = NewType("MerchantId", str)
ShopId = NewType("ShopId", str)
BASIS_POINTS = 10_000


class MerchantStage(StrEnum):
    """How a merchant stands with the programme. Only an approved one sells; a suspended one may come back."""

    APPLIED = "APPLIED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    SUSPENDED = "SUSPENDED"
    CLOSED = "CLOSED"


class MemberRole(StrEnum):
    """What a member may do: owners all, cashiers what happens at the counter."""

    OWNER = "OWNER"
    CASHIER = "CASHIER"


class Cycle(StrEnum):
    """How often a merchant is settled: by ISO week or calendar month, local time."""

    WEEK = "WEEK"
    MONTH = "MONTH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What programme and merchant agreed from ``valid_from`` on; ``number`` counts a merchant's contracts from 1.

    ``rate`` is fen a point; ``commission_bps`` hundredths of a per cent that the programme keeps; ``budget_fen`` the
    most that vouchers redeemed in one period of the cycle may be worth, None for no bound.
    """

    number: int
    rate: Ratio
    commission_bps: int
    cycle: Cycle
    budget_fen: int | None
    valid_from: datetime


@dataclass(frozen=True, slots=True, order=True)
class Hours:
    """Open on that ISO weekday (1 is Monday) from a local minute of the day (0–1439) until before another (≤ 1440)."""

    weekday: int
    from_minute: int
    to_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Where a merchant hands things over; place in microdegrees (WGS 84, north and east positive)."""

    id: ShopId
    name: Text
    address: str
    district: str
    lat_e6: int
    lon_e6: int
    phone: str | None
    hours: tuple[Hours, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Somebody who works at a merchant; ``id`` is the subject of their tokens, ``shop`` a cashier's only counter."""

    id: str
    merchant: MerchantId
    name: str
    role: MemberRole
    shop: ShopId | None
    is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """A firm with shops; ``reason`` says why it is rejected, suspended or closed. ``version`` counts its changes."""

    id: MerchantId
    name: Text
    legal_name: str
    credit_code: str
    """Unified social credit code, 18 characters (GB 32100-2015)."""
    contact_name: str
    contact_phone: str
    stage: MerchantStage
    reason: str | None
    contracts: tuple[Contract, ...]
    shops: tuple[Shop, ...]
    registered_at: datetime
    registered_by: str
    version: int

    def contract_at(self, moment: datetime) -> Contract | None:
        """The contract in force then: of those that had begun, the last."""
        begun = [contract for contract in self.contracts if contract.valid_from <= moment]
        return begun[-1] if begun else None


@dataclass(frozen=True, slots=True)
class Desk:
    """A member at work: who, and for which merchant."""

    merchant: Merchant
    member: Member

    @property
    def is_owner(self) -> bool:
        """Whether the member may do all that the merchant may."""
        return self.member.role is MemberRole.OWNER


class MerchantStep(StrEnum):
    """What somebody did to a merchant or to one of its offers."""

    REGISTER = "REGISTER"
    APPROVE = "APPROVE"
    REJECT = "REJECT"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    CLOSE = "CLOSE"
    AGREE = "AGREE"
    SAVE_SHOP = "SAVE_SHOP"
    REMOVE_SHOP = "REMOVE_SHOP"
    ADD_MEMBER = "ADD_MEMBER"
    CHANGE_MEMBER = "CHANGE_MEMBER"
    REMOVE_MEMBER = "REMOVE_MEMBER"
    CREATE_OFFER = "CREATE_OFFER"
    UPDATE_OFFER = "UPDATE_OFFER"
    SUBMIT_OFFER = "SUBMIT_OFFER"
    APPROVE_OFFER = "APPROVE_OFFER"
    RETURN_OFFER = "RETURN_OFFER"
    PAUSE_OFFER = "PAUSE_OFFER"
    RESUME_OFFER = "RESUME_OFFER"
    END_OFFER = "END_OFFER"
    SET_STOCK = "SET_STOCK"
    ADD_CODES = "ADD_CODES"


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantApplication:
    """What a merchant writes to register; ``owner`` is the login that becomes its owner, None for the caller's own."""

    name: Text
    legal_name: str
    credit_code: str
    contact_name: str
    contact_phone: str
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractTerms:
    """A contract as it is proposed; without ``valid_from`` it begins when it is agreed."""

    rate: Ratio
    commission_bps: int
    cycle: Cycle
    budget_fen: int | None = None
    valid_from: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopDetails:
    """All that is written of a shop."""

    name: Text
    address: str
    district: str
    lat_e6: int
    lon_e6: int
    phone: str | None = None
    hours: tuple[Hours, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDetails:
    """What is written of somebody who works at a merchant; only a cashier is bound to a ``shop``."""

    name: str
    role: MemberRole
    shop: ShopId | None = None


@dataclass(frozen=True, slots=True)
class Firm:
    """A merchant with all who work or worked there: what one change reads and writes."""

    merchant: Merchant
    members: tuple[Member, ...]

    def member(self, login: str) -> Member | None:
        """Whoever works there under that login."""
        return next((member for member in self.members if member.id == login and member.is_active), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantLogEntry:
    """One step: when, who, with what reason, to a merchant or to its ``offer``.

    ``before`` and ``after`` are SHA-256 of what was changed; whoever has an old copy can tell where it stands.
    """

    id: str
    at: datetime
    merchant: MerchantId
    offer: str | None
    actor: str
    step: MerchantStep
    reason: str | None
    before: str | None
    after: str
