"""Offers, partners' codes and pictures as documents of MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.mongo.collections import (
    AMOUNT,
    BILINGUAL,
    COUNTER,
    FLAG,
    MOMENT,
    TEXT,
    Collection,
    Index,
    list_of,
    nullable,
    one_of,
    record,
)
from backend.rewards.merchants.documents import words_from_document, words_to_document
from backend.rewards.merchants.model import MerchantId, ShopId
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
    Window,
)
from backend.rewards.offers.rules import folded_title

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document

TERMS = record(
    {
        "kind": one_of(*OfferKind),
        "category": one_of(*OfferCategory),
        "title": BILINGUAL,
        "text": BILINGUAL,
        "handover": BILINGUAL,
        "picture": nullable(TEXT),
        "price_points": AMOUNT,
        "cash_fen": COUNTER,
        "items": AMOUNT,
        "stock": record({"kind": one_of(*StockKind), "units": COUNTER}),
        "limits": record({"per_day": nullable(AMOUNT), "in_all": nullable(AMOUNT)}),
        "audience": record({"districts": list_of(TEXT), "newcomer_days": nullable(AMOUNT)}),
        "windows": list_of(record({"weekdays": list_of(AMOUNT), "from_minute": COUNTER, "to_minute": AMOUNT})),
        "valid_from": MOMENT,
        "valid_to": MOMENT,
        "voucher_days": COUNTER,
        "vouchers_until": nullable(MOMENT),
        "refund_days": COUNTER,
        "bearer": one_of(*Bearer),
        "shops": list_of(TEXT),
    }
)
# All that a search looks at stands in the index ``shelf``, in the order of its answer: a page is found by reading keys
# from where the last one ended, and only what is on the page is fetched. Ten thousand offers are a few megabytes
# of keys; grams of each title would be a hundred times as many.
OFFERS = Collection(
    "offers",
    record(
        {
            "_id": TEXT,
            "merchant": TEXT,
            "terms": TERMS,
            "proposed": nullable(TERMS),
            "stage": one_of(*OfferStage),
            "reason": nullable(TEXT),
            "revision": AMOUNT,
            "version": AMOUNT,
            "created_at": MOMENT,
            "submitted_by": nullable(TEXT),
            "submitted_at": nullable(MOMENT),
            "paused_by_staff": FLAG,
            "folded": TEXT,
        }
    ),
    (
        Index(
            "shelf",
            [
                ("stage", 1),
                ("created_at", -1),
                ("_id", -1),
                ("merchant", 1),
                ("terms.category", 1),
                ("terms.kind", 1),
                ("terms.price_points", 1),
                ("terms.valid_from", 1),
                ("terms.valid_to", 1),
                ("folded", 1),
            ],
        ),
        Index("merchant_created_at", [("merchant", 1), ("created_at", -1), ("_id", -1)]),
        Index("submitted_at", [("submitted_at", -1), ("_id", -1)], partial={"submitted_at": {"$type": "date"}}),
    ),
)
# The _id follows from merchant and code: a merchant's code is added once. Of two requests that would give one voucher
# two codes, the unique index lets one succeed.
CODES = Collection(
    "offer_codes",
    record({"_id": TEXT, "offer": TEXT, "sealed": TEXT, "voucher": nullable(TEXT), "given_at": nullable(MOMENT)}),
    (
        Index("voucher", [("voucher", 1)], unique=True, partial={"voucher": {"$type": "string"}}),
        Index("offer_free", [("offer", 1), ("_id", 1)], partial={"voucher": {"$type": "null"}}),
    ),
)
# The _id is the SHA-256 of the bytes: the same picture is stored once.
PICTURES = Collection("offer_pictures", record({"_id": TEXT, "webp": {"bsonType": "binData"}, "at": MOMENT}))
COLLECTIONS = (OFFERS, CODES, PICTURES)


def _optional(number: int | None) -> Int64 | None:
    return None if number is None else Int64(number)


def _number(stored: int | None) -> int | None:
    return None if stored is None else int(stored)


def terms_to_document(terms: OfferTerms) -> Document:
    """The terms as stored."""
    return {
        "kind": terms.kind.value,
        "category": terms.category.value,
        "title": words_to_document(terms.title),
        "text": words_to_document(terms.text),
        "handover": words_to_document(terms.handover),
        "picture": terms.picture,
        "price_points": Int64(terms.price_points),
        "cash_fen": Int64(terms.cash_fen),
        "items": Int64(terms.items),
        "stock": stock_to_document(terms.stock),
        "limits": {"per_day": _optional(terms.limits.per_day), "in_all": _optional(terms.limits.in_all)},
        "audience": {
            "districts": sorted(terms.audience.districts),
            "newcomer_days": _optional(terms.audience.newcomer_days),
        },
        "windows": [
            {
                "weekdays": [Int64(day) for day in window.weekdays],
                "from_minute": Int64(window.from_minute),
                "to_minute": Int64(window.to_minute),
            }
            for window in terms.windows
        ],
        "valid_from": terms.valid_from,
        "valid_to": terms.valid_to,
        "voucher_days": Int64(terms.voucher_days),
        "vouchers_until": terms.vouchers_until,
        "refund_days": Int64(terms.refund_days),
        "bearer": terms.bearer.value,
        "shops": list(terms.shops),
    }


def stock_to_document(stock: Stock) -> Document:
    """The stock as stored."""
    return {"kind": stock.kind.value, "units": Int64(stock.units)}


def terms_from_document(document: Mapping[str, Any]) -> OfferTerms:
    """The stored terms."""
    limits, audience = document["limits"], document["audience"]
    return OfferTerms(
        kind=OfferKind(document["kind"]),
        category=OfferCategory(document["category"]),
        title=words_from_document(document["title"]),
        text=words_from_document(document["text"]),
        handover=words_from_document(document["handover"]),
        picture=document["picture"],
        price_points=int(document["price_points"]),
        cash_fen=int(document["cash_fen"]),
        items=int(document["items"]),
        stock=Stock(StockKind(document["stock"]["kind"]), int(document["stock"]["units"])),
        limits=CitizenLimits(_number(limits["per_day"]), _number(limits["in_all"])),
        audience=Audience(frozenset(audience["districts"]), _number(audience["newcomer_days"])),
        windows=tuple(
            Window(tuple(int(day) for day in window["weekdays"]), int(window["from_minute"]), int(window["to_minute"]))
            for window in document["windows"]
        ),
        valid_from=document["valid_from"],
        valid_to=document["valid_to"],
        voucher_days=int(document["voucher_days"]),
        vouchers_until=document["vouchers_until"],
        refund_days=int(document["refund_days"]),
        bearer=Bearer(document["bearer"]),
        shops=tuple(ShopId(shop) for shop in document["shops"]),
    )


def offer_to_document(offer: Offer) -> Document:
    """The offer as stored."""
    return {
        "_id": offer.id,
        "merchant": offer.merchant,
        "terms": terms_to_document(offer.terms),
        "proposed": offer.proposed and terms_to_document(offer.proposed),
        "stage": offer.stage.value,
        "reason": offer.reason,
        "revision": Int64(offer.revision),
        "version": Int64(offer.version),
        "created_at": offer.created_at,
        "submitted_by": offer.submitted_by,
        "submitted_at": offer.submitted_at,
        "paused_by_staff": offer.paused_by_staff,
        "folded": folded_title(offer.terms),
    }


def offer_from_document(document: Mapping[str, Any]) -> Offer:
    """The stored offer."""
    return Offer(
        id=OfferId(document["_id"]),
        merchant=MerchantId(document["merchant"]),
        terms=terms_from_document(document["terms"]),
        proposed=document["proposed"] and terms_from_document(document["proposed"]),
        stage=OfferStage(document["stage"]),
        reason=document["reason"],
        revision=int(document["revision"]),
        version=int(document["version"]),
        created_at=document["created_at"],
        submitted_by=document["submitted_by"],
        submitted_at=document["submitted_at"],
        paused_by_staff=document["paused_by_staff"],
    )
