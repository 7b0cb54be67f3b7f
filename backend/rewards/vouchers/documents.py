"""The vouchers' collections and the codec of their documents; no queries.

``vouchers``: sharded by citizen; the ``_id`` is derived from citizen and idempotency key, so a key takes effect once.
``voucher_numbers``: which voucher a number on a code stands for; its ``_id`` makes numbers unique.
``voucher_tries``: wrong codes of a member in ten minutes, wrong typed codes of a voucher as long as it may count, and
how many typed ones are being looked at now.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.errors import Text
from backend.kernel.ids import CitizenId, TransactionId
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
from backend.rewards.merchants.model import MerchantId, ShopId
from backend.rewards.offers.model import Bearer, OfferId, OfferKind
from backend.rewards.vouchers.model import (
    OPEN,
    Capture,
    Dispute,
    DisputeStage,
    PotUse,
    Promise,
    Refund,
    Voucher,
    VoucherId,
    VoucherStatus,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document

PROMISE = record(
    {
        "kind": one_of(*OfferKind),
        "title": BILINGUAL,
        "handover": BILINGUAL,
        "cash_fen": COUNTER,
        "refund_days": COUNTER,
        "bearer": one_of(*Bearer),
        "rate": record({"numerator": AMOUNT, "denominator": AMOUNT}),
        "commission_bps": COUNTER,
        "shops": list_of(TEXT),
        "offer_revision": AMOUNT,
    }
)
CAPTURE = record(
    {
        "transaction": TEXT,
        "at": MOMENT,
        "items": AMOUNT,
        "points": AMOUNT,
        "fen": COUNTER,
        "shop": nullable(TEXT),
        "member": nullable(TEXT),
    }
)
REFUND = record(
    {"transaction": TEXT, "of": TEXT, "at": MOMENT, "points": AMOUNT, "fen": COUNTER, "by": TEXT, "reason": TEXT}
)
DISPUTE = record(
    {
        "stage": one_of(*DisputeStage),
        "opened_at": MOMENT,
        "reason": TEXT,
        "decided_at": nullable(MOMENT),
        "decided_by": nullable(TEXT),
        "answer": nullable(TEXT),
    }
)
VOUCHERS = Collection(
    "vouchers",
    record(
        {
            "_id": TEXT,
            "citizen": TEXT,
            "offer": TEXT,
            "merchant": TEXT,
            "promise": PROMISE,
            "number": TEXT,
            "units": AMOUNT,
            "items": AMOUNT,
            "points": AMOUNT,
            "hold": TEXT,
            "status": one_of(*VoucherStatus),
            "open": FLAG,
            "counts": FLAG,
            "created_at": MOMENT,
            "day": TEXT,
            "expires_at": MOMENT,
            "captures": list_of(CAPTURE),
            "refunds": list_of(REFUND),
            "dispute": nullable(DISPUTE),
            "pots": list_of(record({"pot": TEXT, "units": AMOUNT})),
            "last_step": LONG,
            "payload": TEXT,
            "version": AMOUNT,
        }
    ),
    (
        Index("citizen_created", [("citizen", 1), ("created_at", -1), ("_id", -1)]),
        Index("citizen_offer", [("citizen", 1), ("offer", 1), ("day", 1)], partial={"counts": True}),
        Index("open_until", [("expires_at", 1)], partial={"open": True}),
        Index("merchant_captured", [("merchant", 1), ("captures.at", -1)]),
        Index("merchant_refunded", [("merchant", 1), ("refunds.at", -1)], partial={"refunds.at": {"$type": "date"}}),
        Index("dispute_opened", [("dispute.stage", 1), ("dispute.opened_at", 1)], partial={"dispute.stage": "OPEN"}),
    ),
)
NUMBERS = Collection("voucher_numbers", record({"_id": TEXT, "voucher": TEXT, "citizen": TEXT, "merchant": TEXT}))
TRIES = Collection(
    "voucher_tries",
    record({"_id": TEXT, "wrong": COUNTER, "trying": COUNTER, "expires_at": MOMENT}),
    (Index("expires_at", [("expires_at", 1)], expire_after_s=0),),
)
COLLECTIONS = (VOUCHERS, NUMBERS, TRIES)
# Ended without anything handed over: limits and stock forget these.
FORGOTTEN = frozenset({VoucherStatus.CANCELLED, VoucherStatus.EXPIRED})


def voucher_to_document(voucher: Voucher) -> Document:
    """The voucher as stored."""
    return {
        "_id": voucher.id,
        "citizen": voucher.citizen,
        "offer": voucher.offer,
        "merchant": voucher.merchant,
        "promise": _promise(voucher.promise),
        "number": voucher.number,
        "units": Int64(voucher.units),
        "items": Int64(voucher.items),
        "points": Int64(voucher.points),
        "hold": voucher.hold,
        "created_at": voucher.created_at,
        "day": voucher.day.isoformat(),
        "expires_at": voucher.expires_at,
        "payload": voucher.payload,
        **standing(voucher),
    }


def standing(voucher: Voucher) -> Document:
    """All that may change of a voucher."""
    dispute = voucher.dispute
    return {
        "status": voucher.status.value,
        "open": voucher.status in OPEN,
        "counts": voucher.status not in FORGOTTEN,
        "captures": [
            {
                "transaction": capture.transaction,
                "at": capture.at,
                "items": Int64(capture.items),
                "points": Int64(capture.points),
                "fen": Int64(capture.fen),
                "shop": capture.shop,
                "member": capture.member,
            }
            for capture in voucher.captures
        ],
        "refunds": [
            {
                "transaction": refund.transaction,
                "of": refund.of,
                "at": refund.at,
                "points": Int64(refund.points),
                "fen": Int64(refund.fen),
                "by": refund.by,
                "reason": refund.reason,
            }
            for refund in voucher.refunds
        ],
        "dispute": None
        if dispute is None
        else {
            "stage": dispute.stage.value,
            "opened_at": dispute.opened_at,
            "reason": dispute.reason,
            "decided_at": dispute.decided_at,
            "decided_by": dispute.decided_by,
            "answer": dispute.answer,
        },
        "pots": [{"pot": use.pot, "units": Int64(use.units)} for use in voucher.pots],
        "last_step": Int64(voucher.last_step),
        "version": Int64(voucher.version),
    }


def _promise(promise: Promise) -> Document:
    return {
        "kind": promise.kind.value,
        "title": promise.title._asdict(),
        "handover": promise.handover._asdict(),
        "cash_fen": Int64(promise.cash_fen),
        "refund_days": Int64(promise.refund_days),
        "bearer": promise.bearer.value,
        "rate": {"numerator": Int64(promise.rate.numerator), "denominator": Int64(promise.rate.denominator)},
        "commission_bps": Int64(promise.commission_bps),
        "shops": list(promise.shops),
        "offer_revision": Int64(promise.offer_revision),
    }


def voucher_from_document(document: Mapping[str, Any]) -> Voucher:
    """The stored voucher."""
    return Voucher(
        id=VoucherId(document["_id"]),
        citizen=CitizenId(document["citizen"]),
        offer=OfferId(document["offer"]),
        merchant=MerchantId(document["merchant"]),
        promise=_read_promise(document["promise"]),
        number=document["number"],
        units=int(document["units"]),
        items=int(document["items"]),
        points=int(document["points"]),
        hold=TransactionId(document["hold"]),
        status=VoucherStatus(document["status"]),
        created_at=document["created_at"],
        day=date.fromisoformat(document["day"]),
        expires_at=document["expires_at"],
        captures=tuple(map(_read_capture, document["captures"])),
        refunds=tuple(map(_read_refund, document["refunds"])),
        dispute=_read_dispute(document["dispute"]),
        pots=tuple(PotUse(pot=item["pot"], units=int(item["units"])) for item in document["pots"]),
        last_step=int(document["last_step"]),
        payload=document["payload"],
        version=int(document["version"]),
    )


def _read_promise(document: Mapping[str, Any]) -> Promise:
    rate = document["rate"]
    return Promise(
        kind=OfferKind(document["kind"]),
        title=Text(**document["title"]),
        handover=Text(**document["handover"]),
        cash_fen=int(document["cash_fen"]),
        refund_days=int(document["refund_days"]),
        bearer=Bearer(document["bearer"]),
        rate=Ratio(int(rate["numerator"]), int(rate["denominator"])),
        commission_bps=int(document["commission_bps"]),
        shops=tuple(ShopId(shop) for shop in document["shops"]),
        offer_revision=int(document["offer_revision"]),
    )


def _read_capture(document: Mapping[str, Any]) -> Capture:
    return Capture(
        transaction=TransactionId(document["transaction"]),
        at=document["at"],
        items=int(document["items"]),
        points=int(document["points"]),
        fen=int(document["fen"]),
        shop=document["shop"],
        member=document["member"],
    )


def _read_refund(document: Mapping[str, Any]) -> Refund:
    return Refund(
        transaction=TransactionId(document["transaction"]),
        of=TransactionId(document["of"]),
        at=document["at"],
        points=int(document["points"]),
        fen=int(document["fen"]),
        by=document["by"],
        reason=document["reason"],
    )


def _read_dispute(document: Mapping[str, Any] | None) -> Dispute | None:
    return None if document is None else Dispute(**{**document, "stage": DisputeStage(document["stage"])})
