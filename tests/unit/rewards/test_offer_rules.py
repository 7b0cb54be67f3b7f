"""What an offer's terms may be, when it is open and to whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from backend.kernel.errors import InvalidInputError, Text
from backend.rewards.merchants.model import MerchantStage, ShopId
from backend.rewards.offers import rules
from backend.rewards.offers.model import (
    Audience,
    CitizenLimits,
    Near,
    OfferCategory,
    OfferKind,
    OfferStage,
    OfferTerms,
    Stock,
    StockKind,
    Window,
)
from tests.unit.rewards.trading import (
    DAY,
    DISTRICT,
    NOON,
    code_terms,
    donation_terms,
    merchant,
    offer,
    offer_terms,
    shop,
)

DISTRICTS = frozenset({DISTRICT, "润州区"})
ZONE = ZoneInfo("Asia/Shanghai")
MILLISECOND = timedelta(milliseconds=1)
LAST = datetime(9999, 12, 31, tzinfo=UTC)
TOTAL, DAILY, UNLIMITED = StockKind.TOTAL, StockKind.DAILY, StockKind.UNLIMITED


def checked(terms: OfferTerms, codes: int = 0) -> OfferTerms:
    """The terms as this merchant's are stored."""
    return rules.require_terms(terms, merchant=merchant(), districts=DISTRICTS, codes=codes, now=NOON)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"title": Text("茶" * 40, "t" * 80), "text": Text("", ""), "handover": Text("", "")},
        {"text": Text("茶" * 2_000, "a\n\nb")},
        {"price_points": 100, "cash_fen": 10**8, "items": 100},
        {"price_points": 1},
        {"price_points": 10**9, "voucher_days": 0, "refund_days": 0},
        {"voucher_days": 366, "refund_days": 366},
        {"stock": Stock(TOTAL, 10**7)},
        {"stock": Stock(DAILY, 0)},
        {"limits": CitizenLimits(2, 2)},
        {"limits": CitizenLimits(None, 1)},
        {"audience": Audience(DISTRICTS, 3_660)},
        {"valid_to": NOON + MILLISECOND},
        {"valid_to": NOON + 3 * 366 * DAY},
        {"valid_from": NOON + 3_659 * DAY, "valid_to": NOON + 3_660 * DAY},
        {"vouchers_until": NOON + 30 * DAY},
        {"vouchers_until": NOON + 396 * DAY},
        {"shops": (ShopId("shop_1"),)},
        {"windows": (Window((1, 7), 0, 1_440),)},
    ],
)
def test_terms_within_the_bounds_stay_as_they_are(changes: dict[str, Any]) -> None:
    terms = offer_terms(**changes)
    assert checked(terms) == terms


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("title.zh", {"title": Text("", "Tea")}),
        ("title.zh", {"title": Text("茶" * 41, "Tea")}),
        ("title.en", {"title": Text("茶", " ")}),
        ("title.en", {"title": Text("茶", "t" * 81)}),
        ("title.en", {"title": Text("茶", "two\nlines")}),
        ("text.zh", {"text": Text("茶" * 2_001, "")}),
        ("text.en", {"text": Text("", "\x00")}),
        ("handover.en", {"handover": Text("", "\u202e")}),
        ("pricePoints", {"price_points": 0}),
        ("pricePoints", {"price_points": -1}),
        ("pricePoints", {"price_points": 10**9 + 1}),
        ("cashFen", {"cash_fen": -1}),
        ("cashFen", {"cash_fen": 10**8 + 1}),
        ("items", {"items": 0}),
        ("items", {"items": 101}),
        # An item is worth a point at least.
        ("items", {"items": 3, "price_points": 2}),
        ("voucherDays", {"voucher_days": -1}),
        ("voucherDays", {"voucher_days": 367}),
        ("refundDays", {"refund_days": 367}),
        ("stock.units", {"stock": Stock(UNLIMITED, 1)}),
        ("stock.units", {"stock": Stock(TOTAL, -1)}),
        ("stock.units", {"stock": Stock(DAILY, 10**7 + 1)}),
        ("limits.perDay", {"limits": CitizenLimits(0, None)}),
        ("limits.inAll", {"limits": CitizenLimits(None, 0)}),
        ("limits.perDay", {"limits": CitizenLimits(3, 2)}),
        ("audience.districts", {"audience": Audience(frozenset({"玄武区"}))}),
        ("audience.newcomerDays", {"audience": Audience(frozenset(), 0)}),
        ("validTo", {"valid_to": NOON}),
        ("validTo", {"valid_to": NOON + 3 * 366 * DAY + MILLISECOND}),
        ("validTo", {"valid_from": NOON + 3_659 * DAY, "valid_to": NOON + 3_660 * DAY + MILLISECOND}),
        # No moment is looked for beyond the end of the calendar.
        ("validTo", {"valid_from": LAST - 3 * DAY, "valid_to": LAST - 2 * DAY, "vouchers_until": LAST}),
        ("vouchersUntil", {"vouchers_until": LAST}),
        ("vouchersUntil", {"vouchers_until": NOON + 30 * DAY - MILLISECOND}),
        ("vouchersUntil", {"vouchers_until": NOON + 396 * DAY + MILLISECOND}),
        ("shops", {"shops": (ShopId("shop_2"),)}),
        ("shops", {"shops": (ShopId("shop_1"), ShopId("shop_1"))}),
        ("windows", {"windows": (Window((), 0, 1),)}),
        ("windows", {"windows": (Window((1, 1), 0, 1),)}),
        ("windows", {"windows": (Window((8,), 0, 1),)}),
        ("windows", {"windows": (Window((1,), 1, 1),)}),
        ("windows", {"windows": (Window((1,), 0, 1_441),)}),
        ("windows", {"windows": (Window((1,), -1, 1),)}),
        ("windows", {"windows": (Window((1,), 0, 1),) * 29}),
    ],
)
def test_terms_name_the_field_that_cannot_be(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        checked(offer_terms(**changes))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        (None, {}),
        (None, {"stock": Stock(TOTAL, 5)}),
        ("category", {"category": OfferCategory.FOOD}),
        ("cashFen", {"cash_fen": 1}),
        ("items", {"items": 2}),
        ("refundDays", {"refund_days": 1}),
        ("stock.kind", {"stock": Stock(DAILY, 5)}),
        ("pricePoints", {"price_points": 0}),
    ],
)
def test_a_gift_is_for_a_cause_and_final(field: str | None, changes: dict[str, Any]) -> None:
    terms = donation_terms(**changes)
    if field is None:
        assert checked(terms) == terms
    else:
        with pytest.raises(InvalidInputError) as refused:
            checked(terms)
        assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        (None, {}),
        ("stock", {"stock": Stock(TOTAL, 2)}),
        ("stock", {"stock": Stock(TOTAL, 4)}),
        ("stock", {"stock": Stock(DAILY, 3)}),
        ("stock", {"stock": Stock(UNLIMITED)}),
        ("cashFen", {"cash_fen": 1}),
        ("items", {"items": 2}),
        ("refundDays", {"refund_days": 1}),
    ],
)
def test_an_offer_of_codes_has_as_many_units_as_codes(field: str | None, changes: dict[str, Any]) -> None:
    terms = code_terms(**{"stock": Stock(TOTAL, 3), **changes})
    if field is None:
        assert checked(terms, codes=3) == terms
    else:
        with pytest.raises(InvalidInputError) as refused:
            checked(terms, codes=3)
        assert refused.value.field == field


def test_windows_and_moments_are_stored_in_one_form() -> None:
    late, early = Window((7, 6), 600, 700), Window((5, 1), 0, 60)
    odd = datetime(2026, 11, 2, 12, 0, 0, 1_999, ZONE)
    stored = checked(offer_terms(windows=(late, early), valid_from=odd, vouchers_until=odd + 40 * DAY))
    assert stored.windows == (Window((1, 5), 0, 60), Window((6, 7), 600, 700))
    assert stored.valid_from == NOON + MILLISECOND
    assert (stored.valid_from.tzinfo, stored.valid_to.tzinfo) == (UTC, UTC)
    assert stored.vouchers_until == NOON + MILLISECOND + 40 * DAY


@pytest.mark.parametrize(
    ("now", "changes", "of_merchant", "why"),
    [
        (NOON, {}, {}, None),
        (NOON + 30 * DAY - MILLISECOND, {}, {}, None),
        (NOON + 30 * DAY, {}, {}, "it is over"),
        (NOON - MILLISECOND, {}, {}, "it has not begun"),
        (NOON, {"stage": OfferStage.PAUSED}, {}, "it is not on sale"),
        (NOON, {"stage": OfferStage.DRAFT}, {}, "it is not on sale"),
        (NOON, {"stage": OfferStage.SUBMITTED}, {}, "it is not on sale"),
        (NOON, {"stage": OfferStage.ENDED}, {}, "it is not on sale"),
        (NOON, {}, {"stage": MerchantStage.SUSPENDED}, "the merchant does not sell"),
        (NOON, {}, {"stage": MerchantStage.CLOSED}, "the merchant does not sell"),
        (NOON, {}, {"stage": MerchantStage.APPLIED}, "the merchant does not sell"),
        # The offer's own stage comes first.
        (NOON, {"stage": OfferStage.PAUSED}, {"stage": MerchantStage.CLOSED}, "it is not on sale"),
    ],
)
def test_an_offer_is_open_on_sale_within_its_validity(
    now: datetime, changes: dict[str, Any], of_merchant: dict[str, Any], why: str | None
) -> None:
    problem = rules.is_open(offer(**changes), merchant(**of_merchant), now, ZONE)
    assert (problem.why.en if problem else None) == why


# Monday 12:00 to 13:00 and Sunday before 1:00, local time; NOON is Monday 12:00 there.
LUNCH = (Window((1,), 720, 780), Window((7,), 0, 60))


@pytest.mark.parametrize(
    ("now", "is_in"),
    [
        (NOON, True),
        (NOON - MILLISECOND, False),
        (NOON + timedelta(hours=1) - MILLISECOND, True),
        (NOON + timedelta(hours=1), False),
        (NOON + DAY, False),
        (NOON + 7 * DAY, True),
        (NOON - timedelta(hours=36), True),
        (NOON - timedelta(hours=36) - MILLISECOND, False),
        (NOON - timedelta(hours=35), False),
    ],
)
def test_an_offer_with_windows_is_open_within_them_in_local_time(now: datetime, *, is_in: bool) -> None:
    terms = offer_terms(NOON - 5 * DAY, windows=LUNCH)
    problem = rules.is_open(offer(terms), merchant(), now, ZONE)
    assert (problem.why.en if problem else None) == (None if is_in else "outside its hours")


@pytest.mark.parametrize(
    ("audience", "district", "age", "who"),
    [
        (Audience(), None, 4_000 * DAY, None),
        (Audience(frozenset({DISTRICT})), DISTRICT, DAY, None),
        (Audience(frozenset({DISTRICT, "润州区"})), "丹徒区", DAY, "citizens of 京口区, 润州区"),
        (Audience(frozenset({DISTRICT})), None, DAY, "citizens of 京口区"),
        (Audience(newcomer_days=7), None, 7 * DAY, None),
        (Audience(newcomer_days=7), None, 7 * DAY + MILLISECOND, "citizens registered at most 7 days ago"),
        (Audience(frozenset({DISTRICT}), 7), DISTRICT, 8 * DAY, "citizens registered at most 7 days ago"),
    ],
)
def test_an_offer_is_for_its_districts_and_newcomers(
    audience: Audience, district: str | None, age: timedelta, who: str | None
) -> None:
    problem = rules.audience_problem(audience, district, NOON - age, NOON)
    assert (problem.who.en if problem else None) == who


@pytest.mark.parametrize("code", ["", "   ", "x" * 65, "a\nb", "a\u200bb"])
def test_a_code_is_printable(code: str) -> None:
    with pytest.raises(InvalidInputError):
        rules.require_code(code)
    assert rules.require_code(f"  {'x' * 64} ") == "x" * 64


@pytest.mark.parametrize(
    ("field", "near"),
    [
        ("near.latE6", Near(90_000_001, 0, 1)),
        ("near.lonE6", Near(0, -180_000_001, 1)),
        ("near.radiusM", Near(0, 0, 0)),
        ("near.radiusM", Near(0, 0, 50_001)),
    ],
)
def test_a_place_lies_on_earth_and_a_radius_within_50_km(field: str, near: Near) -> None:
    rules.require_near(Near(-90_000_000, 180_000_000, 50_000))
    with pytest.raises(InvalidInputError) as refused:
        rules.require_near(near)
    assert refused.value.field == field


def test_titles_are_searched_whatever_their_width_and_case() -> None:
    terms = offer_terms(title=Text("ＡＢＣ茶", "Straße TEA"))
    assert rules.folded_title(terms) == "abc茶\nstrasse tea"
    assert rules.folded("ａｂｃ") in rules.folded_title(terms)


def test_what_is_over_is_not_put_on_sale() -> None:
    rules.require_future(offer_terms(), NOON + 30 * DAY - MILLISECOND)
    with pytest.raises(InvalidInputError):
        rules.require_future(offer_terms(), NOON + 30 * DAY)


def test_shops_are_the_merchants_own() -> None:
    two = merchant(shops=(shop(), shop("shop_2")))
    terms = offer_terms(shops=(ShopId("shop_2"),))
    assert rules.require_terms(terms, merchant=two, districts=DISTRICTS, codes=0, now=NOON) == terms
    assert terms.kind is OfferKind.VOUCHER
