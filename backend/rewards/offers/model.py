"""Offers and their conditions as immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from datetime import datetime

    from backend.kernel.errors import Text
    from backend.rewards.merchants.model import MerchantId, ShopId

OfferId = NewType("OfferId", str)


class OfferKind(StrEnum):
    """What a redemption gives: a voucher for the counter, or at once a third party's code or a gift to a cause."""

    VOUCHER = "VOUCHER"
    CODE = "CODE"
    DONATION = "DONATION"


class OfferStage(StrEnum):
    """How far an offer has come; only a live one can be redeemed, and an ended one never again."""

    DRAFT = "DRAFT"
    SUBMITTED = "SUBMITTED"
    LIVE = "LIVE"
    PAUSED = "PAUSED"
    ENDED = "ENDED"


class OfferCategory(StrEnum):
    """Where an app shows an offer."""

    FOOD = "FOOD"
    SHOPPING = "SHOPPING"
    TRANSPORT = "TRANSPORT"
    CULTURE = "CULTURE"
    SPORT = "SPORT"
    SERVICE = "SERVICE"
    CHARITY = "CHARITY"


class Bearer(StrEnum):
    """Who bears the cost: the programme pays the merchant for the points, or the merchant gives the thing away."""

    PROGRAMME = "PROGRAMME"
    MERCHANT = "MERCHANT"


class StockKind(StrEnum):
    """Whether units are bounded: not at all, altogether, or anew every local day."""

    UNLIMITED = "UNLIMITED"
    TOTAL = "TOTAL"
    DAILY = "DAILY"


@dataclass(frozen=True, slots=True)
class Stock:
    """How many units there are; ``units`` is 0 where unlimited. Of a code offer the codes are the stock."""

    kind: StockKind
    units: int = 0


@dataclass(frozen=True, slots=True)
class CitizenLimits:
    """How many units one citizen may redeem, a local day and altogether; None for no bound."""

    per_day: int | None = None
    in_all: int | None = None


@dataclass(frozen=True, slots=True)
class Audience:
    """To whom it is offered: citizens of these districts (none named: of all), registered at most so many days ago."""

    districts: frozenset[str] = frozenset()
    newcomer_days: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Redeemable on these ISO weekdays from one local minute of the day until before another (≤ 1440)."""

    weekdays: tuple[int, ...]
    from_minute: int
    to_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferTerms:
    """All that a merchant writes of an offer.

    One unit costs ``price_points`` (> 0) and, at the counter, ``cash_fen``; it is handed over in ``items`` parts (1, or
    say 10 for a card of ten washes). ``voucher_days`` is how many local days after the day of redemption a voucher
    counts, at the latest until ``vouchers_until``. ``refund_days``: how long after its last capture the merchant may
    refund, 0 for never. ``shops`` are where it is handed over, none named: all of the merchant's. ``handover`` tells
    the cashier what to do.
    """

    kind: OfferKind
    category: OfferCategory
    title: Text
    text: Text
    handover: Text
    picture: str | None
    price_points: int
    cash_fen: int
    items: int
    stock: Stock
    limits: CitizenLimits
    audience: Audience
    windows: tuple[Window, ...]
    valid_from: datetime
    valid_to: datetime
    voucher_days: int
    vouchers_until: datetime | None
    refund_days: int
    bearer: Bearer
    shops: tuple[ShopId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An offer with its life. ``revision`` counts changes of its terms, ``version`` all changes; ``reason`` is staff's.

    ``proposed`` are terms that replace those of an offer on sale once somebody other than ``submitted_by`` approves;
    ``submitted_at`` says since when the offer waits for approval, of its first terms or of these. What staff paused
    (``paused_by_staff``) only staff resume.
    """

    id: OfferId
    merchant: MerchantId
    terms: OfferTerms
    stage: OfferStage
    reason: str | None
    revision: int
    version: int
    created_at: datetime
    submitted_by: str | None
    submitted_at: datetime | None = None
    proposed: OfferTerms | None = None
    paused_by_staff: bool = False


@dataclass(frozen=True, slots=True)
class OfferFilter:
    """What a citizen looks for; nothing named lets everything pass. ``affordable`` is the most points it may cost."""

    category: OfferCategory | None = None
    kind: OfferKind | None = None
    text: str | None = None
    district: str | None = None
    affordable: int | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """Within ``radius_m`` (1–50,000) of a place in microdegrees."""

    lat_e6: int
    lon_e6: int
    radius_m: int


@dataclass(frozen=True, slots=True)
class FoundOffer:
    """An offer that a search found, and how far the nearest of its shops is where a place was named."""

    offer: Offer
    distance_m: int | None
