"""The life of an offer: steps and stages, what changes at once on sale and what others approve first."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from backend.kernel.errors import InvalidInputError, Text
from backend.rewards.merchants.errors import MerchantStageError, OwnApprovalError
from backend.rewards.merchants.model import MerchantStage, MerchantStep, ShopId
from backend.rewards.offers import life
from backend.rewards.offers.errors import OfferStageError, StaffPausedError, StaleOfferError
from backend.rewards.offers.model import CitizenLimits, OfferKind, OfferStage, Stock, StockKind
from tests.unit.rewards.trading import NOON, code_terms, donation_terms, merchant, offer, offer_terms

LATER = NOON + timedelta(hours=1)
CHEN, RITA = "merchant:chen", "staff:rita"
TOTAL = StockKind.TOTAL

POSSIBLE = {
    OfferStage.DRAFT: {"UPDATE_OFFER", "SUBMIT_OFFER", "END_OFFER", "SET_STOCK", "ADD_CODES"},
    OfferStage.SUBMITTED: {"UPDATE_OFFER", "APPROVE_OFFER", "RETURN_OFFER", "END_OFFER", "SET_STOCK", "ADD_CODES"},
    OfferStage.LIVE: {"UPDATE_OFFER", "PAUSE_OFFER", "END_OFFER", "SET_STOCK", "ADD_CODES"},
    OfferStage.PAUSED: {"UPDATE_OFFER", "RESUME_OFFER", "END_OFFER", "SET_STOCK", "ADD_CODES"},
    OfferStage.ENDED: set[str](),
}


def possible(**changes: Any) -> set[str]:
    """Steps that follow on where the offer stands."""
    passed = set()
    for step in life.FROM_STAGES:
        try:
            life.require_stage(offer(**changes), merchant(), step)
        except OfferStageError:
            continue
        passed.add(step.value)
    return passed


@pytest.mark.parametrize("stage", OfferStage)
def test_a_step_follows_on_its_stages_alone(stage: OfferStage) -> None:
    assert possible(stage=stage) == POSSIBLE[stage]


@pytest.mark.parametrize("stage", [OfferStage.LIVE, OfferStage.PAUSED])
def test_on_sale_what_is_approved_or_returned_is_proposed(stage: OfferStage) -> None:
    decisions = {"APPROVE_OFFER", "RETURN_OFFER"}
    assert possible(stage=stage, proposed=offer_terms(price_points=1)) == POSSIBLE[stage] | decisions


@pytest.mark.parametrize("stage", MerchantStage)
def test_a_merchants_stage_allows_or_forbids(stage: MerchantStage) -> None:
    working = stage in {MerchantStage.APPLIED, MerchantStage.APPROVED, MerchantStage.SUSPENDED}
    allowed = {
        MerchantStep.CREATE_OFFER: working,
        MerchantStep.SUBMIT_OFFER: working,
        MerchantStep.APPROVE_OFFER: stage is MerchantStage.APPROVED,
        MerchantStep.END_OFFER: True,
    }
    for step, expected in allowed.items():
        if expected:
            life.require_merchant(merchant(stage=stage), step)
        else:
            with pytest.raises(MerchantStageError):
                life.require_merchant(merchant(stage=stage), step)


def test_a_submitted_offer_that_is_written_anew_is_a_draft_again() -> None:
    waiting = life.submitted(offer(stage=OfferStage.DRAFT, reason="typo"), CHEN, NOON)
    assert (waiting.stage, waiting.submitted_by, waiting.submitted_at, waiting.reason) == (
        OfferStage.SUBMITTED,
        CHEN,
        NOON,
        None,
    )
    again = life.edited(waiting, offer_terms(price_points=1), CHEN, LATER)
    assert again == dataclasses.replace(
        offer(stage=OfferStage.DRAFT), terms=offer_terms(price_points=1), revision=4, reason=None
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"title": Text("好茶", "Good tea")},
        {"text": Text("x", "x")},
        {"handover": Text("x", "x")},
        {"picture": "0" * 64},
        {"shops": (ShopId("shop_1"),)},
    ],
)
def test_texts_picture_and_shops_change_at_once_on_sale(changes: dict[str, Any]) -> None:
    after = life.edited(offer(), offer_terms(**changes), CHEN, LATER)
    assert after == offer(offer_terms(**changes), revision=4)


@pytest.mark.parametrize(
    "changes",
    [
        {"price_points": 1},
        {"cash_fen": 1},
        {"items": 2},
        {"limits": CitizenLimits(1, None)},
        {"valid_to": NOON + timedelta(days=60)},
        {"voucher_days": 1},
        {"refund_days": 0},
        {"category": donation_terms().category},
    ],
)
def test_whatever_touches_the_bargain_is_proposed_first(changes: dict[str, Any]) -> None:
    written = offer_terms(title=Text("好茶", "Good tea"), **changes)
    after = life.edited(offer(), written, CHEN, LATER)
    assert after == offer(
        offer_terms(title=written.title), revision=4, proposed=written, submitted_by=CHEN, submitted_at=LATER
    )
    # Restocked meanwhile, then approved as seen.
    restocked = life.with_stock(after, Stock(TOTAL, 7))
    approved = life.approved(restocked, restocked.version, RITA)
    assert approved == offer(dataclasses.replace(written, stock=Stock(TOTAL, 7)), revision=6)
    returned = life.returned(after, "too dear")
    assert returned == offer(offer_terms(title=written.title), revision=4, reason="too dear")
    # Writing what is on sale withdraws the proposal; another proposal takes its place.
    assert life.edited(after, after.terms, CHEN, LATER).proposed is None
    second = dataclasses.replace(written, price_points=2)
    assert life.edited(after, second, "merchant:wu", LATER).proposed == second


def test_kind_and_stock_of_what_is_on_sale_are_not_written_anew() -> None:
    for field, written in (("kind", donation_terms()), ("stock", offer_terms(stock=Stock(TOTAL, 1)))):
        with pytest.raises(InvalidInputError) as refused:
            life.edited(offer(), written, CHEN, LATER)
        assert refused.value.field == field
        assert life.edited(offer(stage=OfferStage.DRAFT), written, CHEN, LATER).terms == written
    held = offer(code_terms(stock=Stock(TOTAL, 2)), stage=OfferStage.DRAFT)
    with pytest.raises(InvalidInputError):
        life.edited(held, offer_terms(), CHEN, LATER)
    assert life.edited(offer(code_terms(), stage=OfferStage.DRAFT), offer_terms(), CHEN, LATER).terms == offer_terms()


def test_another_than_who_submitted_it_approves_what_was_seen() -> None:
    waiting = offer(stage=OfferStage.SUBMITTED, submitted_by=CHEN, submitted_at=NOON)
    with pytest.raises(OwnApprovalError):
        life.approved(waiting, waiting.version, CHEN)
    with pytest.raises(StaleOfferError) as refused:
        life.approved(waiting, waiting.version - 1, RITA)
    assert refused.value.version == waiting.version
    assert life.approved(waiting, waiting.version, RITA) == offer()
    assert life.returned(waiting, "typo") == offer(stage=OfferStage.DRAFT, reason="typo")


def test_a_paused_offer_stays_so_when_its_proposal_is_approved() -> None:
    paused = offer(stage=OfferStage.PAUSED, proposed=offer_terms(price_points=1), submitted_by=CHEN, submitted_at=NOON)
    approved = life.approved(paused, paused.version, RITA)
    assert (approved.stage, approved.terms.price_points, approved.proposed) == (OfferStage.PAUSED, 1, None)
    ended = life.ended(paused)
    assert (ended.stage, ended.proposed, ended.submitted_at) == (OfferStage.ENDED, None, None)


def test_what_staff_paused_only_staff_resume() -> None:
    for by_staff in (False, True):
        paused = life.paused(offer(), by_staff=by_staff)
        assert paused == offer(stage=OfferStage.PAUSED, paused_by_staff=by_staff)
        assert life.resumed(paused, by_staff=True) == offer()
        assert life.ended(paused) == offer(stage=OfferStage.ENDED)
    assert life.resumed(life.paused(offer(), by_staff=False), by_staff=False) == offer()
    with pytest.raises(StaffPausedError):
        life.resumed(life.paused(offer(), by_staff=True), by_staff=False)


def test_stock_is_set_without_approval_but_its_kind_is_fixed_on_sale() -> None:
    draft = offer(stage=OfferStage.DRAFT)
    assert life.stocked(draft, Stock(TOTAL, 5)).terms == offer_terms(stock=Stock(TOTAL, 5))
    live = offer(offer_terms(stock=Stock(TOTAL, 5)))
    assert life.stocked(live, Stock(TOTAL, 9)) == offer(offer_terms(stock=Stock(TOTAL, 9)), revision=4)
    assert life.stocked(live, Stock(TOTAL, 5)) == live
    for stage in (OfferStage.LIVE, OfferStage.PAUSED):
        with pytest.raises(InvalidInputError):
            life.stocked(dataclasses.replace(live, stage=stage), Stock(StockKind.DAILY, 5))
    with pytest.raises(InvalidInputError):
        life.stocked(offer(code_terms(), stage=OfferStage.DRAFT), Stock(TOTAL, 5))
    assert code_terms().kind is OfferKind.CODE
