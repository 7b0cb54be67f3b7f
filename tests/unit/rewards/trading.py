"""Functions that make merchants, contracts, shops and offers with sensible defaults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.credit_codes import CODE_ALPHABET, CODE_MODULUS, CODE_WEIGHTS
from backend.kernel.errors import Text
from backend.kernel.units import Ratio
from backend.rewards.merchants.model import (
    Contract,
    ContractTerms,
    Cycle,
    Firm,
    Hours,
    Member,
    MemberDetails,
    MemberRole,
    Merchant,
    MerchantApplication,
    MerchantId,
    MerchantStage,
    Shop,
    ShopDetails,
    ShopId,
)
from backend.rewards.offers.model import (
    Audience,
    Bearer,
    CitizenLimits,
    Offer,
    OfferCategory,
    OfferId,
    OfferKind,
    OfferStage,
    OfferTerms,
    Stock,
    StockKind,
)

ROOT = Principal(PrincipalKind.STAFF, "root", frozenset({StaffRole.ADMIN}))
RITA = Principal(PrincipalKind.STAFF, "rita", frozenset({StaffRole.ADMIN}))
DISTRICT = "京口区"
NOON = datetime(2026, 11, 2, 4, 0, tzinfo=UTC)
DAY = timedelta(days=1)
# 镇江 大市口.
LAT_E6, LON_E6 = 32_209_000, 119_455_000


def works(login: str) -> Principal:
    """Somebody with a merchant's token."""
    return Principal(PrincipalKind.MERCHANT, login)


def credit_code(number: int = 1) -> str:
    """A unified social credit code of that number."""
    body = f"91321100MA{number:07}"
    total = sum(CODE_ALPHABET.index(letter) * weight for letter, weight in zip(body, CODE_WEIGHTS, strict=True))
    return body + CODE_ALPHABET[-total % CODE_MODULUS]


def application(number: int = 1, **changes: Any) -> MerchantApplication:
    """What a tea house writes to register."""
    given: dict[str, Any] = {
        "name": Text("金山茶馆", "Jinshan tea house"),
        "legal_name": "镇江金山茶馆有限公司",
        "credit_code": credit_code(number),
        "contact_name": "陈静",
        "contact_phone": "0511-8500 0000",
    }
    return MerchantApplication(**{**given, **changes})


def contract_terms(**changes: Any) -> ContractTerms:
    """One fen a point, five per cent for the programme, settled every month."""
    given: dict[str, Any] = {"rate": Ratio(1, 1), "commission_bps": 500, "cycle": Cycle.MONTH}
    return ContractTerms(**{**given, **changes})


def shop_details(**changes: Any) -> ShopDetails:
    """A shop in the middle of the city, open on Mondays."""
    given: dict[str, Any] = {
        "name": Text("大市口店", "Dashikou shop"),
        "address": "中山东路 1 号",
        "district": DISTRICT,
        "lat_e6": LAT_E6,
        "lon_e6": LON_E6,
        "hours": (Hours(1, 540, 1_200),),
    }
    return ShopDetails(**{**given, **changes})


def member_details(**changes: Any) -> MemberDetails:
    """A cashier of every shop."""
    given: dict[str, Any] = {"name": "小李", "role": MemberRole.CASHIER}
    return MemberDetails(**{**given, **changes})


def shop(name: str = "shop_1", **changes: Any) -> Shop:
    """A shop as it stands."""
    given: dict[str, Any] = {
        "id": ShopId(name),
        "name": Text("大市口店", "Dashikou shop"),
        "address": "中山东路 1 号",
        "district": DISTRICT,
        "lat_e6": LAT_E6,
        "lon_e6": LON_E6,
        "phone": None,
        "hours": (),
    }
    return Shop(**{**given, **changes})


def merchant(**changes: Any) -> Merchant:
    """A merchant that sells, with a contract from the first."""
    begun = Contract(
        number=1, rate=Ratio(1, 1), commission_bps=500, cycle=Cycle.MONTH, budget_fen=None, valid_from=NOON - DAY
    )
    given: dict[str, Any] = {
        "id": MerchantId("mer_1"),
        "name": Text("金山茶馆", "Jinshan tea house"),
        "legal_name": "镇江金山茶馆有限公司",
        "credit_code": credit_code(),
        "contact_name": "陈静",
        "contact_phone": "0511-85000000",
        "stage": MerchantStage.APPROVED,
        "reason": None,
        "contracts": (begun,),
        "shops": (shop(),),
        "registered_at": NOON - 2 * DAY,
        "registered_by": "merchant:chen",
        "version": 1,
    }
    return Merchant(**{**given, **changes})


def member(login: str = "chen", role: MemberRole = MemberRole.OWNER, **changes: Any) -> Member:
    """Somebody who works at the merchant, an owner."""
    given: dict[str, Any] = {"name": "陈静", "merchant": MerchantId("mer_1"), "shop": None, "is_active": True}
    return Member(id=login, role=role, **{**given, **changes})


def firm(*members: Member, **changes: Any) -> Firm:
    """The merchant with these members, an owner where none are named."""
    return Firm(merchant(**changes), members or (member(),))


def offer_terms(now: datetime = NOON, **changes: Any) -> OfferTerms:
    """A pot of tea for 500 points, for a month from now on."""
    given: dict[str, Any] = {
        "kind": OfferKind.VOUCHER,
        "category": OfferCategory.FOOD,
        "title": Text("茶一壶", "A pot of tea"),
        "text": Text("任选一款茶。\n每壶两人。", "Any tea.\nFor two."),
        "handover": Text("请上茶", "Serve a pot"),
        "picture": None,
        "price_points": 500,
        "cash_fen": 0,
        "items": 1,
        "stock": Stock(StockKind.UNLIMITED),
        "limits": CitizenLimits(),
        "audience": Audience(),
        "windows": (),
        "valid_from": now,
        "valid_to": now + 30 * DAY,
        "voucher_days": 7,
        "vouchers_until": None,
        "refund_days": 7,
        "bearer": Bearer.PROGRAMME,
        "shops": (),
    }
    return OfferTerms(**{**given, **changes})


def donation_terms(now: datetime = NOON, **changes: Any) -> OfferTerms:
    """A tree for 1,000 points."""
    given: dict[str, Any] = {
        "kind": OfferKind.DONATION,
        "category": OfferCategory.CHARITY,
        "title": Text("种一棵树", "Plant a tree"),
        "price_points": 1_000,
        "refund_days": 0,
    }
    return offer_terms(now, **{**given, **changes})


def code_terms(now: datetime = NOON, **changes: Any) -> OfferTerms:
    """A partner's code for 300 points."""
    given: dict[str, Any] = {
        "kind": OfferKind.CODE,
        "title": Text("影视周卡", "A week of films"),
        "price_points": 300,
        "refund_days": 0,
        "stock": Stock(StockKind.TOTAL, 0),
    }
    return offer_terms(now, **{**given, **changes})


def offer(terms: OfferTerms | None = None, **changes: Any) -> Offer:
    """An offer on sale."""
    given: dict[str, Any] = {
        "id": OfferId("off_1"),
        "merchant": MerchantId("mer_1"),
        "terms": terms or offer_terms(),
        "stage": OfferStage.LIVE,
        "reason": None,
        "revision": 3,
        "version": 5,
        "created_at": NOON - DAY,
        "submitted_by": None,
    }
    return Offer(**{**given, **changes})
