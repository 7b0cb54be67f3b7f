"""Merchants: what everybody sees of them, and what those see who own them or are staff."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import strawberry

from backend.identity.errors import ForbiddenError
from backend.kernel.errors import Text
from backend.rewards.merchants.model import (
    Contract,
    Hours,
    Member,
    Merchant,
    MerchantId,
    MerchantLogEntry,
    Shop,
    ShopId,
)
from backend.rewards.offers.model import Offer
from schemas.bilingual import BilingualType
from schemas.context import Info
from schemas.enums import Cycle, MemberRole, MerchantStage, MerchantStep
from schemas.relay import Connection, Node, connect_by_moment, local_id_of, page_span, to_global_id
from schemas.scalars import BigInt
from schemas.view import view


@view(of=Hours, name="OpeningHours")
class HoursType:
    """Open on an ISO weekday (1 is Monday) from one local minute of the day until before another (at most 1440)."""

    weekday: int
    from_minute: int
    to_minute: int


@view(of=Shop, name="Shop")
class ShopType:
    """Where a merchant hands things over; the place in microdegrees, WGS 84."""

    address: str
    district: str
    lat_e6: int
    lon_e6: int
    phone: str | None

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Shop]) -> strawberry.ID:
        """Global id of the shop."""
        return to_global_id("Shop", parent.id)

    @strawberry.field
    @staticmethod
    def name(parent: strawberry.Parent[Shop], info: Info) -> str:
        """Its name in the reader's language."""
        return parent.name.said(info.context.language)

    @strawberry.field(graphql_type=BilingualType)
    @staticmethod
    def names(parent: strawberry.Parent[Shop]) -> Text:
        """Its name in both languages."""
        return parent.name

    @strawberry.field(graphql_type=list[HoursType])
    @staticmethod
    def hours(parent: strawberry.Parent[Shop]) -> tuple[Hours, ...]:
        """When it is open, in the order of the week."""
        return parent.hours


@view(of=Merchant, name="MerchantProfile")
class MerchantProfileType(Node):
    """A merchant as everybody sees it."""

    @strawberry.field
    @staticmethod
    def name(parent: strawberry.Parent[Merchant], info: Info) -> str:
        """Its name in the reader's language."""
        return parent.name.said(info.context.language)

    @strawberry.field(graphql_type=list[ShopType])
    @staticmethod
    def shops(parent: strawberry.Parent[Merchant]) -> tuple[Shop, ...]:
        """Where it hands things over."""
        return parent.shops


@view(of=Contract, name="MerchantContract")
class ContractType:
    """What programme and merchant agreed from a moment on: fen a point, commission, cycle, budget of one period."""

    number: int
    commission_bps: int
    cycle: Cycle
    valid_from: datetime

    @strawberry.field
    @staticmethod
    def rate_numerator(parent: strawberry.Parent[Contract]) -> BigInt:
        """Fen of the rate ``fen / points``."""
        return BigInt(parent.rate.numerator)

    @strawberry.field
    @staticmethod
    def rate_denominator(parent: strawberry.Parent[Contract]) -> BigInt:
        """Points of the rate ``fen / points``."""
        return BigInt(parent.rate.denominator)

    @strawberry.field
    @staticmethod
    def budget_fen(parent: strawberry.Parent[Contract]) -> BigInt | None:
        """The most that vouchers redeemed in one period may be worth; null for no bound."""
        return None if parent.budget_fen is None else BigInt(parent.budget_fen)


@view(of=Member, name="MerchantMember")
class MemberType:
    """Somebody who works, or once worked, at a merchant."""

    name: str
    role: MemberRole
    is_active: bool

    @strawberry.field
    @staticmethod
    def login(parent: strawberry.Parent[Member]) -> str:
        """The subject of their tokens."""
        return parent.id

    @strawberry.field
    @staticmethod
    def shop(parent: strawberry.Parent[Member]) -> strawberry.ID | None:
        """Global id of a cashier's only counter, where it is bound to one."""
        return to_global_id("Shop", parent.shop) if parent.shop else None


@view(of=Merchant, name="MerchantAccount")
class MerchantAccountType:
    """A merchant as it and staff see it; ``reason`` says why it is rejected, suspended or closed."""

    legal_name: str
    credit_code: str
    contact_name: str
    contact_phone: str
    stage: MerchantStage
    reason: str | None
    registered_at: datetime

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Merchant]) -> strawberry.ID:
        """Global id of the merchant."""
        return to_global_id(Merchant.__name__, parent.id)

    @strawberry.field(graphql_type=BilingualType)
    @staticmethod
    def names(parent: strawberry.Parent[Merchant]) -> Text:
        """Its name in both languages."""
        return parent.name

    @strawberry.field(graphql_type=list[ShopType])
    @staticmethod
    def shops(parent: strawberry.Parent[Merchant]) -> tuple[Shop, ...]:
        """Where it hands things over."""
        return parent.shops

    @strawberry.field(graphql_type=list[ContractType])
    @staticmethod
    async def contracts(parent: strawberry.Parent[Merchant], info: Info) -> tuple[Contract, ...]:
        """All contracts, the first first; for owners and staff."""
        if not info.context.require_principal().staff_roles:
            desk = await info.context.desks.load(None)
            if desk is None or not desk.is_owner:
                raise ForbiddenError(Text("合同仅店主可见", "contracts are for owners"))
        return parent.contracts

    @strawberry.field(graphql_type=list[MemberType])
    @staticmethod
    async def members(parent: strawberry.Parent[Merchant], info: Info) -> list[Member]:
        """All who work or worked there, by login; for owners and staff."""
        principal = info.context.require_principal()
        return await info.context.services.rewards.merchants.list_members(principal, parent.id)


@view(of=MerchantLogEntry, name="MerchantLogEntry")
class MerchantLogEntryType:
    """One step: when, who, with what reason; ``before`` and ``after`` are SHA-256 of what it changed."""

    at: datetime
    actor: str
    step: MerchantStep
    reason: str | None
    before: str | None
    after: str

    @strawberry.field
    @staticmethod
    def merchant_id(parent: strawberry.Parent[MerchantLogEntry]) -> strawberry.ID:
        """Global id of the merchant."""
        return to_global_id(Merchant.__name__, parent.merchant)

    @strawberry.field
    @staticmethod
    def offer_id(parent: strawberry.Parent[MerchantLogEntry]) -> strawberry.ID | None:
        """Global id of the offer, where it was of one."""
        return to_global_id(Offer.__name__, parent.offer) if parent.offer else None


def merchant_id_of(given: str) -> MerchantId:
    """The merchant that an input names, by its global id or its own."""
    return MerchantId(local_id_of(Merchant.__name__, given))


def own_or_named(given: str | None) -> MerchantId | None:
    """The same; None for the caller's own."""
    return None if given is None else merchant_id_of(given)


def shop_id_of(given: str) -> ShopId:
    """The shop that an input names, by its global id or its own."""
    return ShopId(local_id_of("Shop", given))


async def find_public_merchant(info: Info, merchant: MerchantId) -> Merchant | None:
    """The merchant, where it sells."""
    found = await info.context.merchants.load(merchant)
    return found if found is not None and found.stage is MerchantStage.APPROVED else None


@strawberry.type
class MerchantsQuery:
    """Queries on merchants."""

    @strawberry.field(graphql_type=MerchantProfileType | None)
    async def merchant(self, info: Info, id: strawberry.ID) -> Merchant | None:  # noqa: A002 - the contract's name
        """A merchant that sells; for everybody."""
        return await find_public_merchant(info, merchant_id_of(id))


@strawberry.type
class MerchantAdminQueries:
    """What staff read of merchants."""

    @strawberry.field(graphql_type=MerchantAccountType | None)
    async def merchant(self, info: Info, id: strawberry.ID) -> Merchant | None:  # noqa: A002 - the contract's name
        """A merchant in any stage."""
        principal = info.context.require_principal()
        return await info.context.services.rewards.merchants.find_merchant(principal, merchant_id_of(id))

    @strawberry.field(graphql_type=Connection[MerchantAccountType])
    async def merchants(
        self,
        info: Info,
        stage: MerchantStage | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Merchant]:
        """Merchants in one stage or in any, by registration, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.rewards.merchants.list_merchants, principal, stage)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda merchant: (merchant.registered_at, merchant.id))

    @strawberry.field(graphql_type=Connection[MerchantLogEntryType])
    async def merchant_log(
        self,
        info: Info,
        merchant: strawberry.ID | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[MerchantLogEntry]:
        """What was done to one merchant and its offers, or to any, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        wanted = None if merchant is None else merchant_id_of(merchant)
        list_page = partial(info.context.services.rewards.merchants.list_log, principal, wanted)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda entry: (entry.at, entry.id))
