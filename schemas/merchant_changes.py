"""Changes of merchants: registration, approval, contracts, shops and the people who work there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry

from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.units import Ratio
from backend.rewards.merchants import errors
from backend.rewards.merchants.model import (
    ContractTerms,
    Hours,
    MemberDetails,
    Merchant,
    MerchantApplication,
    ShopDetails,
)
from schemas.bilingual import to_text
from schemas.context import Info
from schemas.enums import Cycle, MemberRole
from schemas.merchants import MerchantAccountType, merchant_id_of, own_or_named, shop_id_of
from schemas.refusals import result_union
from schemas.rule_inputs import BilingualInput, RatioInput
from schemas.scalars import BigInt


@strawberry.input
class RegisterMerchantInput:
    """A firm that applies; staff name the login of its ``owner``, somebody who registers becomes it."""

    idempotency_key: str
    name: BilingualInput
    legal_name: str
    credit_code: str
    contact_name: str
    contact_phone: str
    owner: str | None = None


@strawberry.input
class ContractInput:
    """Fen a point (above zero), commission (0–5000 hundredths of a per cent), cycle, budget of one period."""

    rate: RatioInput
    commission_bps: int
    cycle: Cycle
    budget_fen: BigInt | None = None
    valid_from: datetime | None = None


@strawberry.input
class MerchantContractInput:
    """A contract with a merchant."""

    idempotency_key: str
    merchant: strawberry.ID
    contract: ContractInput


@strawberry.input
class MerchantStepInput:
    """A step with a merchant, and why, in 1–500 characters that its owners read."""

    idempotency_key: str
    merchant: strawberry.ID
    reason: str


@strawberry.input
class ResumeMerchantInput:
    """A suspended merchant that may sell again."""

    idempotency_key: str
    merchant: strawberry.ID


@strawberry.input
class HoursInput:
    """Open on an ISO weekday from one local minute until before another; past midnight is written as two."""

    weekday: int
    from_minute: int
    to_minute: int


@strawberry.input
class SaveShopInput:
    """A shop, new where no ``shop`` is named. An owner may leave ``merchant`` out: their own is meant."""

    idempotency_key: str
    name: BilingualInput
    address: str
    district: str
    lat_e6: int
    lon_e6: int
    merchant: strawberry.ID | None = None
    shop: strawberry.ID | None = None
    phone: str | None = None
    hours: list[HoursInput] = strawberry.field(default_factory=list)


@strawberry.input
class RemoveShopInput:
    """A shop to be closed. An owner may leave ``merchant`` out: their own is meant."""

    idempotency_key: str
    shop: strawberry.ID
    merchant: strawberry.ID | None = None


@strawberry.input
class MemberInput:
    """Somebody who works at a merchant; only a cashier is bound to a ``shop``."""

    idempotency_key: str
    login: str
    name: str
    role: MemberRole
    merchant: strawberry.ID | None = None
    shop: strawberry.ID | None = None


@strawberry.input
class RemoveMemberInput:
    """Somebody who is to work there no more."""

    idempotency_key: str
    login: str
    merchant: strawberry.ID | None = None


IN_ANY_STAGE = (errors.UnknownMerchantError, IdempotencyConflictError, InvalidInputError)
ANY = (errors.MerchantStageError, *IN_ANY_STAGE)


def _result(name: str, *refused: Any) -> Any:
    return result_union(f"{name}Result", MerchantAccountType, *refused)


RegisterMerchantResult: Any = _result(
    "RegisterMerchant",
    errors.CreditCodeTakenError,
    errors.MemberTakenError,
    IdempotencyConflictError,
    InvalidInputError,
)
ApproveMerchantResult: Any = _result("ApproveMerchant", errors.OwnApprovalError, *ANY)
RejectMerchantResult: Any = _result("RejectMerchant", *ANY)
SuspendMerchantResult: Any = _result("SuspendMerchant", *ANY)
ResumeMerchantResult: Any = _result("ResumeMerchant", *ANY)
CloseMerchantResult: Any = _result("CloseMerchant", *ANY)
AgreeContractResult: Any = _result("AgreeContract", *ANY)
SaveShopResult: Any = _result("SaveShop", errors.UnknownShopError, *ANY)
RemoveShopResult: Any = _result("RemoveShop", errors.UnknownShopError, errors.ShopInUseError, *ANY)
AddMemberResult: Any = _result("AddMember", errors.MemberTakenError, errors.UnknownShopError, *ANY)
ChangeMemberResult: Any = _result(
    "ChangeMember", errors.UnknownMemberError, errors.UnknownShopError, errors.LastOwnerError, *ANY
)
RemoveMemberResult: Any = _result("RemoveMember", errors.UnknownMemberError, errors.LastOwnerError, *IN_ANY_STAGE)


def _contract(given: ContractInput) -> ContractTerms:
    if given.rate.numerator < 0 or given.rate.denominator <= 0:
        raise InvalidInputError("rate", Text("须大于零", "above zero"))
    return ContractTerms(
        rate=Ratio(given.rate.numerator, given.rate.denominator),
        commission_bps=given.commission_bps,
        cycle=given.cycle,
        budget_fen=given.budget_fen,
        valid_from=given.valid_from,
    )


def _member(given: MemberInput) -> MemberDetails:
    return MemberDetails(name=given.name, role=given.role, shop=None if given.shop is None else shop_id_of(given.shop))


def _shop(given: SaveShopInput) -> ShopDetails:
    return ShopDetails(
        name=to_text(given.name),
        address=given.address,
        district=given.district,
        lat_e6=given.lat_e6,
        lon_e6=given.lon_e6,
        phone=given.phone,
        hours=tuple(Hours(hours.weekday, hours.from_minute, hours.to_minute) for hours in given.hours),
    )


@strawberry.type
class MerchantsMutation:
    """Mutations on merchants."""

    @strawberry.mutation(graphql_type=RegisterMerchantResult)
    async def register_merchant(self, info: Info, input: RegisterMerchantInput) -> Merchant:  # noqa: A002
        """Register a firm, which waits for approval; for whoever has a merchant's login, and administrators."""
        application = MerchantApplication(
            name=to_text(input.name),
            legal_name=input.legal_name,
            credit_code=input.credit_code,
            contact_name=input.contact_name,
            contact_phone=input.contact_phone,
            owner=input.owner,
        )
        principal = info.context.require_principal()
        merchants = info.context.services.rewards.merchants
        return await merchants.register(principal, application, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ApproveMerchantResult)
    async def approve_merchant(self, info: Info, input: MerchantContractInput) -> Merchant:  # noqa: A002
        """Let a merchant sell under its first contract; for administrators other than who registered it."""
        principal, merchant = info.context.require_principal(), merchant_id_of(input.merchant)
        merchants = info.context.services.rewards.merchants
        return await merchants.approve(principal, merchant, _contract(input.contract), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=RejectMerchantResult)
    async def reject_merchant(self, info: Info, input: MerchantStepInput) -> Merchant:  # noqa: A002
        """Turn an application down; for administrators."""
        principal, merchant = info.context.require_principal(), merchant_id_of(input.merchant)
        merchants = info.context.services.rewards.merchants
        return await merchants.reject(principal, merchant, input.reason, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=SuspendMerchantResult)
    async def suspend_merchant(self, info: Info, input: MerchantStepInput) -> Merchant:  # noqa: A002
        """Stop a merchant's selling at once; for administrators."""
        principal, merchant = info.context.require_principal(), merchant_id_of(input.merchant)
        merchants = info.context.services.rewards.merchants
        return await merchants.suspend(principal, merchant, input.reason, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ResumeMerchantResult)
    async def resume_merchant(self, info: Info, input: ResumeMerchantInput) -> Merchant:  # noqa: A002
        """Let a suspended merchant sell again; for administrators."""
        principal, merchant = info.context.require_principal(), merchant_id_of(input.merchant)
        return await info.context.services.rewards.merchants.resume(principal, merchant, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=CloseMerchantResult)
    async def close_merchant(self, info: Info, input: MerchantStepInput) -> Merchant:  # noqa: A002
        """End a merchant for good; for administrators."""
        principal, merchant = info.context.require_principal(), merchant_id_of(input.merchant)
        merchants = info.context.services.rewards.merchants
        return await merchants.close(principal, merchant, input.reason, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=AgreeContractResult)
    async def agree_contract(self, info: Info, input: MerchantContractInput) -> Merchant:  # noqa: A002
        """Agree a further contract, from now or a later moment on; for administrators.

        With another cycle it begins where a period of the cycle before ends: by itself, where no beginning is given.
        """
        principal, merchant = info.context.require_principal(), merchant_id_of(input.merchant)
        merchants = info.context.services.rewards.merchants
        return await merchants.agree(principal, merchant, _contract(input.contract), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=SaveShopResult)
    async def save_shop(self, info: Info, input: SaveShopInput) -> Merchant:  # noqa: A002
        """Open a shop, or write one anew; for owners and administrators."""
        principal, merchant = info.context.require_principal(), own_or_named(input.merchant)
        shop = None if input.shop is None else shop_id_of(input.shop)
        merchants = info.context.services.rewards.merchants
        return await merchants.save_shop(principal, merchant, shop, _shop(input), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=RemoveShopResult)
    async def remove_shop(self, info: Info, input: RemoveShopInput) -> Merchant:  # noqa: A002
        """Close a shop to which no cashier is bound and that no offer names; for owners and administrators."""
        principal, merchant = info.context.require_principal(), own_or_named(input.merchant)
        merchants = info.context.services.rewards.merchants
        return await merchants.remove_shop(principal, merchant, shop_id_of(input.shop), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=AddMemberResult)
    async def add_member(self, info: Info, input: MemberInput) -> Merchant:  # noqa: A002
        """Let somebody work at a merchant; for owners and administrators."""
        principal, merchant = info.context.require_principal(), own_or_named(input.merchant)
        merchants = info.context.services.rewards.merchants
        return await merchants.add_member(principal, merchant, input.login, _member(input), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ChangeMemberResult)
    async def change_member(self, info: Info, input: MemberInput) -> Merchant:  # noqa: A002
        """Give somebody another name, role or shop; for owners and administrators."""
        principal, merchant = info.context.require_principal(), own_or_named(input.merchant)
        merchants = info.context.services.rewards.merchants
        details = _member(input)
        return await merchants.change_member(principal, merchant, input.login, details, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=RemoveMemberResult)
    async def remove_member(self, info: Info, input: RemoveMemberInput) -> Merchant:  # noqa: A002
        """Let somebody work there no more, at once; for owners, administrators and whoever leaves."""
        principal, merchant = info.context.require_principal(), own_or_named(input.merchant)
        merchants = info.context.services.rewards.merchants
        return await merchants.remove_member(principal, merchant, input.login, key=input.idempotency_key)
