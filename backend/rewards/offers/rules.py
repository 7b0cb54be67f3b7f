"""What an offer's terms may be, and whether it can be redeemed at a moment and by whom. Pure."""

from __future__ import annotations

import dataclasses
import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.identity.rules import require_note
from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import InvalidInputError, Text
from backend.rewards.merchants.model import MerchantStage
from backend.rewards.merchants.rules import DAY_MINUTES, WEEK, require_between, require_passage, require_words
from backend.rewards.offers.errors import NotInAudienceError, OfferClosedError
from backend.rewards.offers.model import OfferCategory, OfferKind, OfferStage, Stock, StockKind, Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.rewards.merchants.model import Merchant
    from backend.rewards.offers.model import Audience, CitizenLimits, Near, Offer, OfferTerms

MAX_TEXT = 2_000
MAX_PRICE = 10**9
MAX_CASH_FEN = 10**8
MAX_ITEMS = 100
MAX_DAYS = 366
MAX_VALIDITY = timedelta(days=3 * 366)
MAX_AHEAD = timedelta(days=3_660)
MAX_UNITS = 10**7
MAX_LIMIT = 10**6
MAX_NEWCOMER_DAYS = 3_660
MAX_WINDOWS = 28
MAX_CODES_A_CALL = 5_000
MAX_CODE = 64
MAX_RADIUS_M = 50_000
MAX_SOUGHT = 40
MAX_LAT_E6, MAX_LON_E6 = 90 * 10**6, 180 * 10**6
YEARS_3 = Text("晚于开始时间，且不超过三年", "after it begins, by three years at most")
NEVER = Text("赠与类与券码类不适用", "not for gifts and codes")


def require_terms(
    terms: OfferTerms, *, merchant: Merchant, districts: frozenset[str], codes: int, now: datetime
) -> OfferTerms:
    """The terms in their stored form; a code offer has as many units as it has ``codes``.

    Raises:
        InvalidInputError: a field of them cannot be.
    """
    _require_texts(terms)
    require_between("pricePoints", terms.price_points, 1, MAX_PRICE)
    require_between("cashFen", terms.cash_fen, 0, MAX_CASH_FEN)
    # Every item costs a point at least: nothing is handed over for none.
    require_between("items", terms.items, 1, min(MAX_ITEMS, terms.price_points))
    require_between("voucherDays", terms.voucher_days, 0, MAX_DAYS)
    require_between("refundDays", terms.refund_days, 0, MAX_DAYS)
    require_stock(terms.stock)
    _require_limits(terms.limits)
    _require_audience(terms.audience, districts)
    _require_period(terms, now)
    _require_kind(terms, codes)
    known = {shop.id for shop in merchant.shops}
    if len(set(terms.shops)) < len(terms.shops) or not set(terms.shops) <= known:
        raise InvalidInputError("shops", Text("须为本商户的门店，不得重复", "shops of the merchant, each once"))
    until = terms.vouchers_until
    return dataclasses.replace(
        terms,
        windows=require_windows(terms.windows),
        valid_from=to_milliseconds(terms.valid_from),
        valid_to=to_milliseconds(terms.valid_to),
        vouchers_until=None if until is None else to_milliseconds(until),
    )


def require_stock(stock: Stock) -> None:
    """Refuse a number of units that cannot be counted.

    Raises:
        InvalidInputError: below zero, above ten million, or given where units are unlimited.
    """
    require_between("stock.units", stock.units, 0, 0 if stock.kind is StockKind.UNLIMITED else MAX_UNITS)


def require_windows(windows: Sequence[Window]) -> tuple[Window, ...]:
    """The windows in order, each with its weekdays in order.

    Raises:
        InvalidInputError: they are too many, or no windows of a week.
    """
    if len(windows) > MAX_WINDOWS:
        raise InvalidInputError("windows", Text(f"最多 {MAX_WINDOWS} 段", f"at most {MAX_WINDOWS}"))
    for window in windows:
        days = set(window.weekdays)
        is_week = days and days <= set(WEEK) and len(days) == len(window.weekdays)
        if not is_week or not 0 <= window.from_minute < window.to_minute <= DAY_MINUTES:
            problem = Text(
                "星期 1–7 且不重复，分钟 0–1440，开始早于结束",
                "weekdays 1–7, each once, minutes 0–1440, from before to",
            )
            raise InvalidInputError("windows", problem)
    return tuple(
        sorted(Window(tuple(sorted(window.weekdays)), window.from_minute, window.to_minute) for window in windows)
    )


def require_future(terms: OfferTerms, now: datetime) -> None:
    """Refuse an offer that nobody could redeem any more.

    Raises:
        InvalidInputError: it is over.
    """
    if terms.valid_to <= now:
        raise InvalidInputError("validTo", Text("已过期", "it is over"))


def _require_texts(terms: OfferTerms) -> None:
    require_words("title", terms.title)
    require_passage("text", terms.text, most=MAX_TEXT)
    require_passage("handover", terms.handover, most=MAX_TEXT)


def _require_limits(limits: CitizenLimits) -> None:
    for name, limit in (("limits.perDay", limits.per_day), ("limits.inAll", limits.in_all)):
        if limit is not None:
            require_between(name, limit, 1, MAX_LIMIT)
    if limits.per_day is not None and limits.in_all is not None and limits.per_day > limits.in_all:
        raise InvalidInputError("limits.perDay", Text("不得超过总限量", "not above the limit in all"))


def _require_audience(audience: Audience, districts: frozenset[str]) -> None:
    if not audience.districts <= districts:
        raise InvalidInputError("audience.districts", Text("不是本项目的区县", "not districts of this programme"))
    if audience.newcomer_days is not None:
        require_between("audience.newcomerDays", audience.newcomer_days, 1, MAX_NEWCOMER_DAYS)


def _require_period(terms: OfferTerms, now: datetime) -> None:
    if terms.valid_to > now + MAX_AHEAD:
        raise InvalidInputError("validTo", Text("须在十年之内", "within ten years"))
    if not timedelta() < terms.valid_to - terms.valid_from <= MAX_VALIDITY:
        raise InvalidInputError("validTo", YEARS_3)
    until = terms.vouchers_until
    # Else somebody could redeem a voucher that is over when it is made.
    if until is not None and not terms.valid_to <= until <= terms.valid_to + timedelta(days=MAX_DAYS):
        problem = Text(
            f"不早于 validTo，且不晚于其后 {MAX_DAYS} 天", f"not before validTo, and within {MAX_DAYS} days of it"
        )
        raise InvalidInputError("vouchersUntil", problem)


def _require_kind(terms: OfferTerms, codes: int) -> None:
    """What gifts and codes cannot have: both are handed over at once, and no counter takes cash or gives back."""
    if terms.kind is OfferKind.VOUCHER:
        return
    if terms.items != 1:
        raise InvalidInputError("items", NEVER)
    if terms.cash_fen:
        raise InvalidInputError("cashFen", NEVER)
    if terms.refund_days:
        raise InvalidInputError("refundDays", NEVER)
    if terms.kind is OfferKind.DONATION:
        if terms.category is not OfferCategory.CHARITY:
            raise InvalidInputError("category", Text("赠与类须为公益", "a gift is CHARITY"))
        if terms.stock.kind is StockKind.DAILY:
            raise InvalidInputError("stock.kind", Text("赠与类不按日限量", "a gift has no daily stock"))
    elif terms.stock != Stock(StockKind.TOTAL, codes):
        problem = Text(f"券码类为 TOTAL，数量即券码数 {codes}", f"TOTAL, as many as it has codes, {codes}")
        raise InvalidInputError("stock", problem)


def require_code(code: str) -> str:
    """A third party's code without blanks around it.

    Raises:
        InvalidInputError: not 1–64 printable characters.
    """
    stripped = code.strip()
    require_note("codes", stripped, limit=MAX_CODE)
    return stripped


def require_near(near: Near) -> None:
    """Refuse a place that is none, or a radius too large.

    Raises:
        InvalidInputError: so it is.
    """
    require_between("near.latE6", near.lat_e6, -MAX_LAT_E6, MAX_LAT_E6)
    require_between("near.lonE6", near.lon_e6, -MAX_LON_E6, MAX_LON_E6)
    require_between("near.radiusM", near.radius_m, 1, MAX_RADIUS_M)


def folded(text: str) -> str:
    """The text as it is searched: one form for wide and narrow, capital and small letters."""
    return unicodedata.normalize("NFKC", text).casefold()


def folded_title(terms: OfferTerms) -> str:
    """Both titles as they are searched; no sought text reaches over the line between them."""
    return f"{folded(terms.title.zh)}\n{folded(terms.title.en)}"


def is_open(offer: Offer, merchant: Merchant, now: datetime, zone: ZoneInfo) -> OfferClosedError | None:
    """Why the offer cannot be redeemed now, None where it can."""
    terms = offer.terms
    if offer.stage is not OfferStage.LIVE:
        return OfferClosedError(Text("项目未上架", "it is not on sale"))
    if merchant.stage is not MerchantStage.APPROVED:
        return OfferClosedError(Text("商户暂停服务", "the merchant does not sell"))
    if now < terms.valid_from:
        return OfferClosedError(Text("活动尚未开始", "it has not begun"))
    if now >= terms.valid_to:
        return OfferClosedError(Text("活动已结束", "it is over"))
    if terms.windows and not any(_is_in(window, now, zone) for window in terms.windows):
        return OfferClosedError(Text("不在可兑换时段", "outside its hours"))
    return None


def _is_in(window: Window, now: datetime, zone: ZoneInfo) -> bool:
    local = now.astimezone(zone)
    minute = local.hour * 60 + local.minute
    return local.isoweekday() in window.weekdays and window.from_minute <= minute < window.to_minute


def audience_problem(
    audience: Audience, district: str | None, registered_at: datetime, now: datetime
) -> NotInAudienceError | None:
    """Why a citizen of that district, registered then, may not redeem it; None where they may."""
    if audience.districts and district not in audience.districts:
        names = sorted(audience.districts)
        return NotInAudienceError(Text(f"{'、'.join(names)}市民", f"citizens of {', '.join(names)}"))
    days = audience.newcomer_days
    if days is not None and now - registered_at > timedelta(days=days):
        return NotInAudienceError(Text(f"注册未满 {days} 天的市民", f"citizens registered at most {days} days ago"))
    return None
