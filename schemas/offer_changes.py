"""Changes of offers: drafting, approval, sale, stock and partners' codes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry

from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.rewards.merchants import errors as merchant_errors
from backend.rewards.offers import errors
from backend.rewards.offers.model import (
    Audience,
    CitizenLimits,
    Offer,
    OfferTerms,
    Stock,
    Window,
)
from backend.rewards.stock.errors import StockTakenError
from schemas.bilingual import to_text
from schemas.context import Info
from schemas.enums import Bearer, OfferCategory, OfferKind, StockKind
from schemas.merchants import own_or_named, shop_id_of
from schemas.offers import ManagedOfferType, offer_id_of
from schemas.refusals import result_union
from schemas.rule_inputs import BilingualInput
from schemas.scalars import BigInt


@strawberry.input
class OfferStockInput:
    """How many units there are, altogether or a day; 0 where unlimited. Of a code offer the codes are the stock."""

    kind: StockKind
    units: int = 0


@strawberry.input
class OfferLimitsInput:
    """How many units one citizen may redeem; nothing for no bound."""

    per_day: int | None = None
    in_all: int | None = None


@strawberry.input
class OfferAudienceInput:
    """Citizens of these districts (none named: of all), registered at most so many days ago."""

    districts: list[str] = strawberry.field(default_factory=list)
    newcomer_days: int | None = None


@strawberry.input
class OfferWindowInput:
    """ISO weekdays, and local minutes of the day from and until before which it can be redeemed."""

    weekdays: list[int]
    from_minute: int
    to_minute: int


@strawberry.input
class OfferTermsInput:
    """All that is written of an offer; ``picture`` is the id that ``POST /pictures`` answered."""

    kind: OfferKind
    category: OfferCategory
    title: BilingualInput
    text: BilingualInput
    handover: BilingualInput
    price_points: BigInt
    stock: OfferStockInput
    valid_from: datetime
    valid_to: datetime
    voucher_days: int
    borne_by: Bearer
    picture: str | None = None
    cash_fen: BigInt = BigInt(0)
    items: int = 1
    limits: OfferLimitsInput = strawberry.field(default_factory=OfferLimitsInput)
    audience: OfferAudienceInput = strawberry.field(default_factory=OfferAudienceInput)
    windows: list[OfferWindowInput] = strawberry.field(default_factory=list)
    vouchers_until: datetime | None = None
    refund_days: int = 0
    shops: list[strawberry.ID] = strawberry.field(default_factory=list)


@strawberry.input
class CreateOfferInput:
    """A draft. An owner may leave ``merchant`` out: their own is meant."""

    idempotency_key: str
    terms: OfferTermsInput
    merchant: strawberry.ID | None = None


@strawberry.input
class UpdateOfferInput:
    """An offer written anew, all of it."""

    idempotency_key: str
    offer: strawberry.ID
    terms: OfferTermsInput


@strawberry.input
class OfferStepInput:
    """A step with an offer."""

    idempotency_key: str
    offer: strawberry.ID


@strawberry.input
class ApproveOfferInput:
    """An offer as it was seen at ``version``."""

    idempotency_key: str
    offer: strawberry.ID
    version: int


@strawberry.input
class ReturnOfferInput:
    """An offer, or the change proposed of one, that is sent back, and why, in 1–500 characters."""

    idempotency_key: str
    offer: strawberry.ID
    reason: str


@strawberry.input
class SetOfferStockInput:
    """How many units an offer has from now on."""

    idempotency_key: str
    offer: strawberry.ID
    stock: OfferStockInput


@strawberry.input
class AddOfferCodesInput:
    """1–5,000 codes of a third party, each of 1–64 characters and never added before."""

    idempotency_key: str
    offer: strawberry.ID
    codes: list[str]


ANY = (merchant_errors.MerchantStageError, IdempotencyConflictError, InvalidInputError)
STEP = (errors.UnknownOfferError, errors.OfferStageError, *ANY)
ENDING = (errors.UnknownOfferError, errors.OfferStageError, IdempotencyConflictError, InvalidInputError)


def _result(name: str, *refused: Any) -> Any:
    return result_union(f"{name}Result", ManagedOfferType, *refused)


CreateOfferResult: Any = _result("CreateOffer", merchant_errors.UnknownMerchantError, *ANY)
UpdateOfferResult: Any = _result("UpdateOffer", *STEP)
SubmitOfferResult: Any = _result("SubmitOffer", *STEP)
ApproveOfferResult: Any = _result("ApproveOffer", merchant_errors.OwnApprovalError, errors.StaleOfferError, *STEP)
ReturnOfferResult: Any = _result("ReturnOffer", *STEP)
PauseOfferResult: Any = _result("PauseOffer", *STEP)
ResumeOfferResult: Any = _result("ResumeOffer", errors.StaffPausedError, *STEP)
EndOfferResult: Any = _result("EndOffer", *ENDING)
SetOfferStockResult: Any = _result("SetOfferStock", StockTakenError, *STEP)
AddOfferCodesResult: Any = _result("AddOfferCodes", *STEP)


def _stock(given: OfferStockInput) -> Stock:
    return Stock(given.kind, given.units)


def _terms(given: OfferTermsInput) -> OfferTerms:
    return OfferTerms(
        kind=given.kind,
        category=given.category,
        title=to_text(given.title),
        text=to_text(given.text),
        handover=to_text(given.handover),
        picture=given.picture,
        price_points=given.price_points,
        cash_fen=given.cash_fen,
        items=given.items,
        stock=_stock(given.stock),
        limits=CitizenLimits(given.limits.per_day, given.limits.in_all),
        audience=Audience(frozenset(given.audience.districts), given.audience.newcomer_days),
        windows=tuple(Window(tuple(window.weekdays), window.from_minute, window.to_minute) for window in given.windows),
        valid_from=given.valid_from,
        valid_to=given.valid_to,
        voucher_days=given.voucher_days,
        vouchers_until=given.vouchers_until,
        refund_days=given.refund_days,
        bearer=given.borne_by,
        shops=tuple(shop_id_of(shop) for shop in given.shops),
    )


@strawberry.type
class OffersMutation:
    """Mutations on offers."""

    @strawberry.mutation(graphql_type=CreateOfferResult)
    async def create_offer(self, info: Info, input: CreateOfferInput) -> Offer:  # noqa: A002 - the contract's name
        """Begin a draft; for owners and administrators."""
        principal, merchant = info.context.require_principal(), own_or_named(input.merchant)
        offers = info.context.services.rewards.offers
        return await offers.create(principal, merchant, _terms(input.terms), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=UpdateOfferResult)
    async def update_offer(self, info: Info, input: UpdateOfferInput) -> Offer:  # noqa: A002
        """Write an offer anew: on sale, what touches the bargain waits for approval; for owners and administrators."""
        principal, offer = info.context.require_principal(), offer_id_of(input.offer)
        offers = info.context.services.rewards.offers
        return await offers.update(principal, offer, _terms(input.terms), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=SubmitOfferResult)
    async def submit_offer(self, info: Info, input: OfferStepInput) -> Offer:  # noqa: A002
        """Ask for approval of a draft; for owners and administrators."""
        principal, offer = info.context.require_principal(), offer_id_of(input.offer)
        return await info.context.services.rewards.offers.submit(principal, offer, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ApproveOfferResult)
    async def approve_offer(self, info: Info, input: ApproveOfferInput) -> Offer:  # noqa: A002
        """Put an offer, or the change proposed of one, on sale; for administrators other than who submitted it."""
        principal, offer = info.context.require_principal(), offer_id_of(input.offer)
        offers = info.context.services.rewards.offers
        return await offers.approve(principal, offer, seen=input.version, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ReturnOfferResult)
    async def return_offer(self, info: Info, input: ReturnOfferInput) -> Offer:  # noqa: A002
        """Send an offer, or the change proposed of one, back; for administrators."""
        principal, offer = info.context.require_principal(), offer_id_of(input.offer)
        offers = info.context.services.rewards.offers
        return await offers.return_(principal, offer, input.reason, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=PauseOfferResult)
    async def pause_offer(self, info: Info, input: OfferStepInput) -> Offer:  # noqa: A002
        """Take an offer off sale for a while; for owners and administrators."""
        principal, offer = info.context.require_principal(), offer_id_of(input.offer)
        return await info.context.services.rewards.offers.pause(principal, offer, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ResumeOfferResult)
    async def resume_offer(self, info: Info, input: OfferStepInput) -> Offer:  # noqa: A002
        """Put a paused offer on sale again; for owners and administrators."""
        principal, offer = info.context.require_principal(), offer_id_of(input.offer)
        return await info.context.services.rewards.offers.resume(principal, offer, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=EndOfferResult)
    async def end_offer(self, info: Info, input: OfferStepInput) -> Offer:  # noqa: A002
        """Take an offer off sale for good; its vouchers stay; for owners and administrators."""
        principal, offer = info.context.require_principal(), offer_id_of(input.offer)
        return await info.context.services.rewards.offers.end(principal, offer, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=SetOfferStockResult)
    async def set_offer_stock(self, info: Info, input: SetOfferStockInput) -> Offer:  # noqa: A002
        """Set how many units there are, redeemed ones included; for owners and administrators."""
        principal, offer = info.context.require_principal(), offer_id_of(input.offer)
        offers = info.context.services.rewards.offers
        return await offers.set_stock(principal, offer, _stock(input.stock), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=AddOfferCodesResult)
    async def add_offer_codes(self, info: Info, input: AddOfferCodesInput) -> Offer:  # noqa: A002
        """Add a third party's codes, each of which one voucher gets; for owners and administrators."""
        principal, offer = info.context.require_principal(), offer_id_of(input.offer)
        offers = info.context.services.rewards.offers
        return await offers.add_codes(principal, offer, input.codes, key=input.idempotency_key)
