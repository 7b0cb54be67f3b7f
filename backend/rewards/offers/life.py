"""The life of an offer: which step follows on which stage, and what it makes of the offer. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backend.kernel.errors import InvalidInputError, Text
from backend.rewards.merchants.errors import MerchantStageError, OwnApprovalError
from backend.rewards.merchants.model import MerchantStage, MerchantStep
from backend.rewards.merchants.rules import WORKING
from backend.rewards.offers.errors import OfferStageError, StaffPausedError, StaleOfferError
from backend.rewards.offers.model import Offer, OfferKind, OfferStage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backend.rewards.merchants.model import Merchant
    from backend.rewards.offers.model import OfferTerms, Stock

ON_SALE = frozenset({OfferStage.LIVE, OfferStage.PAUSED})
UNENDED = ON_SALE | {OfferStage.DRAFT, OfferStage.SUBMITTED}
FROM_STAGES: Mapping[MerchantStep, frozenset[OfferStage]] = {
    MerchantStep.UPDATE_OFFER: UNENDED,
    MerchantStep.SUBMIT_OFFER: frozenset({OfferStage.DRAFT}),
    # On sale, what is approved or returned are the terms proposed.
    MerchantStep.APPROVE_OFFER: ON_SALE | {OfferStage.SUBMITTED},
    MerchantStep.RETURN_OFFER: ON_SALE | {OfferStage.SUBMITTED},
    MerchantStep.PAUSE_OFFER: frozenset({OfferStage.LIVE}),
    MerchantStep.RESUME_OFFER: frozenset({OfferStage.PAUSED}),
    MerchantStep.END_OFFER: UNENDED,
    MerchantStep.SET_STOCK: UNENDED,
    MerchantStep.ADD_CODES: UNENDED,
}
DECISIONS = frozenset({MerchantStep.APPROVE_OFFER, MerchantStep.RETURN_OFFER})
# What a merchant may change of an offer on sale without asking again.
AT_ONCE = ("title", "text", "handover", "picture", "shops")


def require_stage(offer: Offer, merchant: Merchant, step: MerchantStep) -> None:
    """Refuse a step that does not follow on where offer and merchant stand.

    Raises:
        OfferStageError, MerchantStageError: it does not.
    """
    waits = step not in DECISIONS or offer.stage is OfferStage.SUBMITTED or offer.proposed is not None
    if offer.stage not in FROM_STAGES[step] or not waits:
        raise OfferStageError(offer.id, offer.stage)
    require_merchant(merchant, step)


def require_merchant(merchant: Merchant, step: MerchantStep) -> None:
    """Refuse a step that the merchant's stage does not allow.

    Raises:
        MerchantStageError: it does not.
    """
    # Whatever became of the merchant, its offers can be ended.
    allowed = frozenset(MerchantStage) if step is MerchantStep.END_OFFER else WORKING
    if merchant.stage not in (allowed if step is not MerchantStep.APPROVE_OFFER else {MerchantStage.APPROVED}):
        raise MerchantStageError(merchant.id, merchant.stage)


def edited(offer: Offer, terms: OfferTerms, by: str, now: datetime) -> Offer:
    """The offer after it was written anew: a draft again, or on sale with what needs approval proposed.

    Of two proposals the last counts; writing what is on sale withdraws what was proposed.

    Raises:
        InvalidInputError: kind or stock of an offer on sale, or the stock of one with codes, would change.
    """
    is_draft = offer.stage not in ON_SALE
    has_codes = offer.terms.kind is OfferKind.CODE and offer.terms.stock.units > 0
    if (not is_draft or has_codes) and terms.kind is not offer.terms.kind:
        raise InvalidInputError("kind", Text("上架后或已有券码时不可更改", "fixed once it is on sale or has codes"))
    if not is_draft and terms.stock != offer.terms.stock:
        raise InvalidInputError("stock", Text("请用 setOfferStock 调整", "setOfferStock changes it"))
    if is_draft:
        revision = offer.revision + (terms != offer.terms)
        return _waiting_no_more(dataclasses.replace(offer, terms=terms, stage=OfferStage.DRAFT, revision=revision))
    live = dataclasses.replace(offer.terms, **{name: getattr(terms, name) for name in AT_ONCE})
    after = dataclasses.replace(offer, terms=live, revision=offer.revision + (live != offer.terms))
    if terms == live:
        return _waiting_no_more(after)
    return dataclasses.replace(after, proposed=terms, submitted_by=by, submitted_at=now)


def submitted(offer: Offer, by: str, now: datetime) -> Offer:
    """The offer when it waits for approval."""
    return dataclasses.replace(offer, stage=OfferStage.SUBMITTED, submitted_by=by, submitted_at=now, reason=None)


def approved(offer: Offer, seen: int, by: str) -> Offer:
    """The offer on sale, or on sale with the terms proposed, as the approver saw it at version ``seen``.

    Raises:
        OwnApprovalError: the same person submitted it.
        StaleOfferError: it was changed since.
    """
    if offer.submitted_by == by:
        raise OwnApprovalError
    if offer.version != seen:
        raise StaleOfferError(offer.id, offer.version)
    if offer.proposed is None:
        return dataclasses.replace(_waiting_no_more(offer), stage=OfferStage.LIVE, reason=None)
    # The stock may have been set meanwhile.
    terms = dataclasses.replace(offer.proposed, stock=offer.terms.stock)
    after = dataclasses.replace(offer, terms=terms, revision=offer.revision + 1, reason=None)
    return _waiting_no_more(after)


def returned(offer: Offer, reason: str) -> Offer:
    """The offer a draft again, or on sale without the terms proposed, and why."""
    stage = OfferStage.DRAFT if offer.stage is OfferStage.SUBMITTED else offer.stage
    return dataclasses.replace(_waiting_no_more(offer), stage=stage, reason=reason)


def paused(offer: Offer, *, by_staff: bool) -> Offer:
    """The offer off sale for a while."""
    return dataclasses.replace(offer, stage=OfferStage.PAUSED, paused_by_staff=by_staff)


def resumed(offer: Offer, *, by_staff: bool) -> Offer:
    """The offer on sale again.

    Raises:
        StaffPausedError: staff paused it, and somebody else resumes it.
    """
    if offer.paused_by_staff and not by_staff:
        raise StaffPausedError(offer.id)
    return dataclasses.replace(offer, stage=OfferStage.LIVE, paused_by_staff=False)


def ended(offer: Offer) -> Offer:
    """The offer off sale for good; its vouchers stay."""
    return dataclasses.replace(_waiting_no_more(offer), stage=OfferStage.ENDED, paused_by_staff=False)


def stocked(offer: Offer, stock: Stock) -> Offer:
    """The offer with that stock.

    Raises:
        InvalidInputError: the codes are the stock, or the kind of stock of an offer on sale would change.
    """
    if offer.terms.kind is OfferKind.CODE:
        raise InvalidInputError("stock", Text("券码即库存，请用 addOfferCodes", "the codes are the stock; add codes"))
    if offer.stage in ON_SALE and stock.kind is not offer.terms.stock.kind:
        raise InvalidInputError("stock.kind", Text("上架后不可更改", "fixed once it is on sale"))
    return with_stock(offer, stock)


def with_stock(offer: Offer, stock: Stock) -> Offer:
    """The offer with that stock, whoever counts it."""
    terms = dataclasses.replace(offer.terms, stock=stock)
    return dataclasses.replace(offer, terms=terms, revision=offer.revision + (terms != offer.terms))


def _waiting_no_more(offer: Offer) -> Offer:
    return dataclasses.replace(offer, proposed=None, submitted_by=None, submitted_at=None)
