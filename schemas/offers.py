"""Offers: what citizens find and see, what merchants and staff see beside it."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from backend.kernel.clock import local_date
from backend.kernel.errors import InvalidInputError, Text
from backend.rewards.merchants.model import Merchant, Shop
from backend.rewards.offers import rules
from backend.rewards.offers.model import (
    Audience,
    CitizenLimits,
    FoundOffer,
    Near,
    Offer,
    OfferFilter,
    OfferId,
    OfferTerms,
    Stock,
    StockKind,
    Window,
)
from backend.rewards.stock.model import stock_pot
from schemas.bilingual import BilingualType
from schemas.context import Info
from schemas.enums import Bearer, OfferCategory, OfferKind, OfferStage
from schemas.enums import StockKind as StockKindEnum
from schemas.merchants import MerchantProfileType, ShopType, find_public_merchant
from schemas.refusals import show
from schemas.relay import (
    NOT_A_CURSOR,
    Connection,
    Node,
    Span,
    connect,
    connect_by_moment,
    local_id_of,
    page_span,
    to_global_id,
)
from schemas.scalars import BigInt
from schemas.view import view


@view(of=Window, name="OfferWindow")
class WindowType:
    """Redeemable from one local minute of the day until before another (at most 1440), on some weekdays."""

    from_minute: int
    to_minute: int

    @strawberry.field
    @staticmethod
    def weekdays(parent: strawberry.Parent[Window]) -> list[int]:
        """ISO weekdays, 1 is Monday."""
        return list(parent.weekdays)


@view(of=Stock, name="OfferStock")
class StockType:
    """How many units there are, altogether or a day; 0 where unlimited."""

    kind: StockKindEnum
    units: int


@view(of=CitizenLimits, name="OfferLimits")
class LimitsType:
    """How many units one citizen may redeem, a local day and altogether; null for no bound."""

    per_day: int | None
    in_all: int | None


@view(of=Audience, name="OfferAudience")
class AudienceType:
    """To whom it is offered: citizens of these districts (none named: of all), registered at most so many days ago."""

    newcomer_days: int | None

    @strawberry.field
    @staticmethod
    def districts(parent: strawberry.Parent[Audience]) -> list[str]:
        """Districts of the programme."""
        return sorted(parent.districts)


@view(of=OfferTerms, name="OfferTerms")
class OfferTermsType:
    """All that a merchant wrote of an offer."""

    kind: OfferKind
    category: OfferCategory
    items: int
    valid_from: datetime
    valid_to: datetime
    voucher_days: int
    vouchers_until: datetime | None
    refund_days: int
    stock: StockType
    limits: LimitsType
    audience: AudienceType

    @strawberry.field
    @staticmethod
    def title(parent: strawberry.Parent[OfferTerms], info: Info) -> str:
        """What it is, in the reader's language."""
        return parent.title.said(info.context.language)

    @strawberry.field
    @staticmethod
    def text(parent: strawberry.Parent[OfferTerms], info: Info) -> str:
        """More about it, in the reader's language."""
        return parent.text.said(info.context.language)

    @strawberry.field(graphql_type=BilingualType)
    @staticmethod
    def titles(parent: strawberry.Parent[OfferTerms]) -> Text:
        """The title in both languages."""
        return parent.title

    @strawberry.field(graphql_type=BilingualType)
    @staticmethod
    def texts(parent: strawberry.Parent[OfferTerms]) -> Text:
        """The text in both languages."""
        return parent.text

    @strawberry.field(graphql_type=BilingualType)
    @staticmethod
    def handover(parent: strawberry.Parent[OfferTerms]) -> Text:
        """What the cashier is to do."""
        return parent.handover

    @strawberry.field
    @staticmethod
    def picture_url(parent: strawberry.Parent[OfferTerms]) -> str | None:
        """Where its picture is shown, on this server."""
        return f"/pictures/{parent.picture}.webp" if parent.picture else None

    @strawberry.field
    @staticmethod
    def price_points(parent: strawberry.Parent[OfferTerms]) -> BigInt:
        """Points of one unit."""
        return BigInt(parent.price_points)

    @strawberry.field
    @staticmethod
    def cash_fen(parent: strawberry.Parent[OfferTerms]) -> BigInt:
        """Fen to be paid at the counter for one unit."""
        return BigInt(parent.cash_fen)

    @strawberry.field
    @staticmethod
    def borne_by(parent: strawberry.Parent[OfferTerms]) -> Bearer:
        """Who bears the cost."""
        return parent.bearer

    @strawberry.field(graphql_type=list[WindowType])
    @staticmethod
    def windows(parent: strawberry.Parent[OfferTerms]) -> tuple[Window, ...]:
        """When it can be redeemed; none named: always."""
        return parent.windows

    @strawberry.field
    @staticmethod
    def shops(parent: strawberry.Parent[OfferTerms]) -> list[strawberry.ID]:
        """Global ids of the shops that hand it over; none named: all of the merchant's."""
        return [to_global_id("Shop", shop) for shop in parent.shops]


async def _units_left(offer: Offer, info: Info) -> int | None:
    stock, context = offer.terms.stock, info.context
    if stock.kind is StockKind.UNLIMITED:
        return None
    today = local_date(context.services.clock.now(), context.services.programme.zone)
    pot = await context.pots.load(stock_pot(offer.id, today if stock.kind is StockKind.DAILY else None))
    return stock.units if pot is None else pot.free


@view(of=Offer, name="Offer")
class OfferType(Node):
    """An offer as everybody sees it."""

    terms: OfferTermsType

    @strawberry.field(graphql_type=MerchantProfileType | None)
    @staticmethod
    async def merchant(parent: strawberry.Parent[Offer], info: Info) -> Merchant | None:
        """Whose it is."""
        return await info.context.merchants.load(parent.merchant)

    @strawberry.field(graphql_type=list[ShopType])
    @staticmethod
    async def shops(parent: strawberry.Parent[Offer], info: Info) -> list[Shop]:
        """Where it is handed over."""
        merchant = await info.context.merchants.load(parent.merchant)
        named = parent.terms.shops
        return [shop for shop in merchant.shops if not named or shop.id in named] if merchant else []

    @strawberry.field
    @staticmethod
    async def units_left(parent: strawberry.Parent[Offer], info: Info) -> int | None:
        """Units that can be redeemed, today where the stock is daily; null where unlimited."""
        return await _units_left(parent, info)

    @strawberry.field
    @staticmethod
    async def closed_because(parent: strawberry.Parent[Offer], info: Info) -> str | None:
        """Why it cannot be redeemed at this moment, in the reader's language; null where it can."""
        context = info.context
        merchant = await context.merchants.load(parent.merchant)
        if merchant is None:
            return None
        problem = rules.is_open(parent, merchant, context.services.clock.now(), context.services.programme.zone)
        return None if problem is None else show(problem, context.language).message


@view(of=FoundOffer, name="FoundOffer")
class FoundOfferType:
    """An offer that was found, and metres to the nearest of its shops where a place was named."""

    distance_m: int | None
    offer: OfferType


@view(of=Offer, name="ManagedOffer")
class ManagedOfferType:
    """An offer as its merchant and staff see it; ``proposed`` takes the place of ``terms`` when it is approved.

    Only staff resume an offer that is ``paused_by_staff``.
    """

    stage: OfferStage
    reason: str | None
    revision: int
    version: int
    created_at: datetime
    submitted_at: datetime | None
    paused_by_staff: bool
    terms: OfferTermsType
    proposed: OfferTermsType | None

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Offer]) -> strawberry.ID:
        """Global id of the offer."""
        return to_global_id(Offer.__name__, parent.id)

    @strawberry.field
    @staticmethod
    def merchant_id(parent: strawberry.Parent[Offer]) -> strawberry.ID:
        """Global id of the merchant."""
        return to_global_id(Merchant.__name__, parent.merchant)

    @strawberry.field
    @staticmethod
    async def units_left(parent: strawberry.Parent[Offer], info: Info) -> int | None:
        """Units that can be redeemed, today where the stock is daily; null where unlimited."""
        return await _units_left(parent, info)


@strawberry.input
class OfferFilterInput:
    """What a citizen looks for: text in a title, the district where it is handed over, points it may cost at most."""

    category: OfferCategory | None = None
    kind: OfferKind | None = None
    text: str | None = None
    district: str | None = None
    affordable: BigInt | None = None


@strawberry.input
class NearInput:
    """Within so many metres (1–50,000) of a place in microdegrees; the nearest comes first."""

    lat_e6: int
    lon_e6: int
    radius_m: int


def offer_id_of(given: str) -> OfferId:
    """The offer that an input names, by its global id or its own."""
    return OfferId(local_id_of(Offer.__name__, given))


async def find_public_offer(info: Info, offer: OfferId) -> Offer | None:
    """The offer, where it is on sale and its merchant sells."""
    found = await info.context.offers.load(offer)
    if found is None or found.stage is not OfferStage.LIVE:
        return None
    return found if await find_public_merchant(info, found.merchant) else None


def _read_distance(text: str | None, field: str) -> tuple[int, OfferId] | None:
    if text is None:
        return None
    metres, _, offer = text.partition("|")
    if not metres.isascii() or not metres.isdigit() or len(metres) > len(str(rules.MAX_RADIUS_M)):
        raise InvalidInputError(field, NOT_A_CURSOR)
    return int(metres), OfferId(offer)


async def _connect_nearest(info: Info, span: Span, wanted: OfferFilter, near: Near) -> Connection[FoundOffer]:
    after, before = _read_distance(span.after, "after"), _read_distance(span.before, "before")
    search = info.context.services.rewards.offers.search

    async def fetch(limit: int) -> list[FoundOffer]:
        return await search.list_nearest(wanted, near, limit=limit, after=after, before=before, last=not span.newest)

    return await connect(span, fetch, lambda found: f"{found.distance_m}|{found.offer.id}")


@strawberry.type
class OffersQuery:
    """Queries on offers."""

    @strawberry.field(graphql_type=OfferType | None)
    async def offer(self, info: Info, id: strawberry.ID) -> Offer | None:  # noqa: A002 - the contract's name
        """An offer on sale, of a merchant that sells; for everybody."""
        return await find_public_offer(info, offer_id_of(id))

    @strawberry.field(graphql_type=Connection[FoundOfferType])
    async def offers(
        self,
        info: Info,
        filter: OfferFilterInput | None = None,  # noqa: A002 - the contract's name
        near: NearInput | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[FoundOffer]:
        """Offers on sale, newest first, or nearest first where a place is named; at most 100 a page; for everybody."""
        span = page_span(first, after, last, before)
        wanted = OfferFilter() if filter is None else OfferFilter(**vars(filter))
        if near is not None:
            return await _connect_nearest(info, span, wanted, Near(near.lat_e6, near.lon_e6, near.radius_m))
        list_page: Any = partial(info.context.services.rewards.offers.search.list_newest, wanted)
        return await connect_by_moment(span, list_page, lambda found: (found.offer.created_at, found.offer.id))


@strawberry.type
class OfferAdminQueries:
    """What staff read of offers."""

    @strawberry.field(graphql_type=Connection[ManagedOfferType])
    async def offers_to_approve(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Offer]:
        """Offers, and changes of offers on sale, that wait for approval, last submitted first; at most 100 a page."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.rewards.offers.list_waiting, principal)

        def place_of(offer: Offer) -> tuple[datetime, str]:
            assert offer.submitted_at is not None
            return offer.submitted_at, offer.id

        return await connect_by_moment(page_span(first, after, last, before), list_page, place_of)
