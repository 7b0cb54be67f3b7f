"""Merchants, their members and the log as documents of MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.errors import Text
from backend.kernel.units import Ratio
from backend.mongo.collections import (
    AMOUNT,
    BILINGUAL,
    COUNTER,
    FLAG,
    LONG,
    MOMENT,
    TEXT,
    Collection,
    Index,
    list_of,
    nullable,
    one_of,
    record,
)
from backend.rewards.merchants.model import (
    Contract,
    Cycle,
    Hours,
    Member,
    MemberRole,
    Merchant,
    MerchantId,
    MerchantLogEntry,
    MerchantStage,
    MerchantStep,
    Shop,
    ShopId,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document
    from backend.rewards.merchants.model import ContractTerms, Firm, ShopDetails

CONTRACT = record(
    {
        "number": AMOUNT,
        "numerator": AMOUNT,
        "denominator": AMOUNT,
        "commission_bps": COUNTER,
        "cycle": one_of(*Cycle),
        "budget_fen": nullable(AMOUNT),
        "valid_from": MOMENT,
    }
)
SHOP = record(
    {
        "id": TEXT,
        "name": BILINGUAL,
        "address": TEXT,
        "district": TEXT,
        "lat_e6": LONG,
        "lon_e6": LONG,
        "phone": nullable(TEXT),
        "hours": list_of(record({"weekday": AMOUNT, "from_minute": COUNTER, "to_minute": AMOUNT})),
    }
)
# ``held_code`` is the credit code unless the merchant was rejected: a rejected one may register again.
MERCHANTS = Collection(
    "merchants",
    record(
        {
            "_id": TEXT,
            "name": BILINGUAL,
            "legal_name": TEXT,
            "credit_code": TEXT,
            "held_code": nullable(TEXT),
            "contact_name": TEXT,
            "contact_phone": TEXT,
            "stage": one_of(*MerchantStage),
            "reason": nullable(TEXT),
            "contracts": list_of(CONTRACT),
            "shops": list_of(SHOP),
            "registered_at": MOMENT,
            "registered_by": TEXT,
            "version": AMOUNT,
        }
    ),
    (
        Index("held_code", [("held_code", 1)], unique=True, partial={"held_code": {"$type": "string"}}),
        Index("registered_at", [("registered_at", -1), ("_id", -1)]),
        Index("stage_registered_at", [("stage", 1), ("registered_at", -1), ("_id", -1)]),
        Index("stage_place", [("stage", 1), ("shops.lat_e6", 1), ("shops.lon_e6", 1)]),
        Index("stage_district", [("stage", 1), ("shops.district", 1)]),
    ),
)
# The _id is the login: of two merchants that would have one member, one insert wins.
MEMBERS = Collection(
    "merchant_members",
    record(
        {
            "_id": TEXT,
            "merchant": TEXT,
            "name": TEXT,
            "role": one_of(*MemberRole),
            "shop": nullable(TEXT),
            "is_active": FLAG,
        }
    ),
    (Index("merchant", [("merchant", 1)]),),
)
# Inserted into and nothing else.
LOG = Collection(
    "merchant_log",
    record(
        {
            "_id": TEXT,
            "at": MOMENT,
            "merchant": TEXT,
            "offer": nullable(TEXT),
            "actor": TEXT,
            "step": one_of(*MerchantStep),
            "reason": nullable(TEXT),
            "before": nullable(TEXT),
            "after": TEXT,
        }
    ),
    (Index("at", [("at", -1), ("_id", -1)]), Index("merchant_at", [("merchant", 1), ("at", -1), ("_id", -1)])),
)
COLLECTIONS = (MERCHANTS, MEMBERS, LOG)


def words_to_document(words: Text) -> Document:
    """A phrase as stored."""
    return {"zh": words.zh, "en": words.en}


def words_from_document(document: Mapping[str, Any]) -> Text:
    """The stored phrase."""
    return Text(document["zh"], document["en"])


def terms_to_document(terms: Contract | ContractTerms) -> Document:
    """What a contract, or the proposal of one, says but for its number."""
    return {
        "numerator": Int64(terms.rate.numerator),
        "denominator": Int64(terms.rate.denominator),
        "commission_bps": Int64(terms.commission_bps),
        "cycle": terms.cycle.value,
        "budget_fen": None if terms.budget_fen is None else Int64(terms.budget_fen),
        "valid_from": terms.valid_from,
    }


def _contract_from_document(document: Mapping[str, Any]) -> Contract:
    budget = document["budget_fen"]
    return Contract(
        number=int(document["number"]),
        rate=Ratio(int(document["numerator"]), int(document["denominator"])),
        commission_bps=int(document["commission_bps"]),
        cycle=Cycle(document["cycle"]),
        budget_fen=None if budget is None else int(budget),
        valid_from=document["valid_from"],
    )


def shop_to_document(shop: Shop | ShopDetails) -> Document:
    """What is written of a shop, as stored but for its id."""
    return {
        "name": words_to_document(shop.name),
        "address": shop.address,
        "district": shop.district,
        "lat_e6": Int64(shop.lat_e6),
        "lon_e6": Int64(shop.lon_e6),
        "phone": shop.phone,
        "hours": [
            {
                "weekday": Int64(hours.weekday),
                "from_minute": Int64(hours.from_minute),
                "to_minute": Int64(hours.to_minute),
            }
            for hours in shop.hours
        ],
    }


def shop_from_document(document: Mapping[str, Any]) -> Shop:
    """The stored shop."""
    return Shop(
        id=ShopId(document["id"]),
        name=words_from_document(document["name"]),
        address=document["address"],
        district=document["district"],
        lat_e6=int(document["lat_e6"]),
        lon_e6=int(document["lon_e6"]),
        phone=document["phone"],
        hours=tuple(
            Hours(int(hours["weekday"]), int(hours["from_minute"]), int(hours["to_minute"]))
            for hours in document["hours"]
        ),
    )


def merchant_to_document(merchant: Merchant) -> Document:
    """The merchant as stored."""
    return {
        "_id": merchant.id,
        "name": words_to_document(merchant.name),
        "legal_name": merchant.legal_name,
        "credit_code": merchant.credit_code,
        "held_code": None if merchant.stage is MerchantStage.REJECTED else merchant.credit_code,
        "contact_name": merchant.contact_name,
        "contact_phone": merchant.contact_phone,
        "stage": merchant.stage.value,
        "reason": merchant.reason,
        "contracts": [
            {"number": Int64(contract.number), **terms_to_document(contract)} for contract in merchant.contracts
        ],
        "shops": [{"id": shop.id, **shop_to_document(shop)} for shop in merchant.shops],
        "registered_at": merchant.registered_at,
        "registered_by": merchant.registered_by,
        "version": Int64(merchant.version),
    }


def merchant_from_document(document: Mapping[str, Any]) -> Merchant:
    """The stored merchant."""
    return Merchant(
        id=MerchantId(document["_id"]),
        name=words_from_document(document["name"]),
        legal_name=document["legal_name"],
        credit_code=document["credit_code"],
        contact_name=document["contact_name"],
        contact_phone=document["contact_phone"],
        stage=MerchantStage(document["stage"]),
        reason=document["reason"],
        contracts=tuple(_contract_from_document(contract) for contract in document["contracts"]),
        shops=tuple(shop_from_document(shop) for shop in document["shops"]),
        registered_at=document["registered_at"],
        registered_by=document["registered_by"],
        version=int(document["version"]),
    )


def member_to_document(member: Member) -> Document:
    """The member as stored."""
    return {
        "_id": member.id,
        "merchant": member.merchant,
        "name": member.name,
        "role": member.role.value,
        "shop": member.shop,
        "is_active": member.is_active,
    }


def member_from_document(document: Mapping[str, Any]) -> Member:
    """The stored member."""
    return Member(
        id=document["_id"],
        merchant=MerchantId(document["merchant"]),
        name=document["name"],
        role=MemberRole(document["role"]),
        shop=document["shop"] and ShopId(document["shop"]),
        is_active=document["is_active"],
    )


def firm_to_document(firm: Firm) -> Document:
    """All that one change of a merchant may touch, for the digest in the log."""
    return {
        "merchant": merchant_to_document(firm.merchant),
        "members": [member_to_document(member) for member in sorted(firm.members, key=lambda member: member.id)],
    }


def entry_to_document(entry: MerchantLogEntry) -> Document:
    """The step as stored."""
    return {
        "_id": entry.id,
        "at": entry.at,
        "merchant": entry.merchant,
        "offer": entry.offer,
        "actor": entry.actor,
        "step": entry.step.value,
        "reason": entry.reason,
        "before": entry.before,
        "after": entry.after,
    }


def entry_from_document(document: Mapping[str, Any]) -> MerchantLogEntry:
    """The stored step."""
    return MerchantLogEntry(
        id=document["_id"],
        at=document["at"],
        merchant=MerchantId(document["merchant"]),
        offer=document["offer"],
        actor=document["actor"],
        step=MerchantStep(document["step"]),
        reason=document["reason"],
        before=document["before"],
        after=document["after"],
    )
