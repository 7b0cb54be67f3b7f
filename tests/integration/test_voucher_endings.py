"""How vouchers end: cancellation, expiry, refund and dispute; and what the auditor notices of their documents."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from bson import Int64

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from backend.rewards.offers.model import OfferKind
from backend.rewards.stock.model import stock_pot
from backend.rewards.vouchers.model import DisputeStage, VoucherId, VoucherStatus
from tests import factories
from tests.conftest import dump
from tests.counters import Street, answer, capture, cashier, offer, points
from tests.integration.test_redeeming import findings

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

ALICE = factories.citizen()
LATER = datetime(2030, 1, 1, tzinfo=UTC)


FORGED = {
    "the rate": {"promise.rate.numerator": Int64(100)},
    "the commission": {"promise.commission_bps": Int64(0)},
    "days of refund": {"promise.refund_days": Int64(900)},
    "units": {"units": Int64(2)},
    "items": {"items": Int64(2)},
    "the offer": {"offer": "card"},
    "the merchant": {"merchant": "bakery"},
    "the end": {"expires_at": LATER},
    "the day": {"day": "2020-01-01"},
    "a flag": {"counts": False},
    "another flag": {"open": False},
    "the number": {"number": "00000000"},
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
async def test_the_auditor_notices_what_somebody_changed_of_a_voucher(
    street: Street, services: Services, change: dict[str, object]
) -> None:
    voucher = await street.redeem("alice")
    assert await findings(services) == []
    assert await services.database.update_one("vouchers", {"_id": voucher.id}, {"$set": change})
    assert await findings(services) != []


@pytest.mark.parametrize("field", ["merchant", "voucher", "citizen"])
async def test_the_auditor_notices_a_number_that_stands_for_something_else(
    street: Street, services: Services, field: str
) -> None:
    voucher = await street.redeem("alice")
    await services.database.update_one("voucher_numbers", {"_id": voucher.number}, {"$set": {field: "bakery"}})
    assert await findings(services) == [f"voucher {voucher.id}: its number {voucher.number} stands for something else"]


async def test_a_cancelled_voucher_gives_points_and_stock_back_once(street: Street, services: Services) -> None:
    voucher = await street.redeem("alice")
    ended = await street.vouchers.cancel(ALICE, voucher.id, key="cancel-0001")
    again = await street.vouchers.cancel(ALICE, voucher.id, key="cancel-0001")
    before = await dump(services)
    other = await answer(street.vouchers.cancel(ALICE, voucher.id, key="cancel-0002"))
    foreign = await answer(street.vouchers.cancel(factories.citizen("bob"), voucher.id, key="cancel-0001"))
    unknown = await answer(street.vouchers.cancel(ALICE, VoucherId("vou_none"), key="cancel-0003"))
    captured = await capture(street, voucher, code="TH1.00000000.1.AAAAAAAAAAAAAAAAAAAA")
    after = await dump(services)
    after.pop("voucher_tries", None)
    before.pop("voucher_tries", None)
    assert (ended.status, again) == (VoucherStatus.CANCELLED, ended)
    assert [one.code for one in (other, foreign, unknown)] == ["VOUCHER_STATUS", "UNKNOWN_VOUCHER", "UNKNOWN_VOUCHER"]
    assert captured.code == "CODE_INVALID"
    assert after == before
    assert await points(services) == (100, 0)
    assert (await street.pots.find([stock_pot("coffee")]))[stock_pot("coffee")].free == 5
    assert await findings(services) == []


async def test_cancel_and_capture_at_once_come_to_one_of_both(street: Street, services: Services) -> None:
    await street.settle_in("alice", points=900)
    for number in range(8):
        voucher = await street.redeem("alice", "card", key=f"redeem-{number:04}")
        code = await street.shown(voucher.id)
        both = await asyncio.gather(
            answer(street.vouchers.cancel(ALICE, voucher.id, key=f"cancel-{number:04}")),
            capture(street, voucher, code=code, key=f"capture-{number:04}"),
        )
        assert sorted(getattr(one, "code", "DONE") for one in both) == ["DONE", "VOUCHER_STATUS"]
    assert await findings(services) == []


@pytest.mark.parametrize("book_first", [True, False], ids=["the book first", "the voucher first"])
async def test_a_voucher_that_is_over_gives_points_and_stock_back(
    street: Street, services: Services, clock: ManualClock, *, book_first: bool
) -> None:
    voucher = await street.redeem("alice")
    clock.current = voucher.expires_at - timedelta(milliseconds=1)
    assert await street.ending.end_due() == 0
    code = await street.shown(voucher.id)
    clock.advance(timedelta(milliseconds=1))
    late = await capture(street, voucher, code=code)
    cancelled = await answer(street.vouchers.cancel(ALICE, voucher.id, key="cancel-0001"))
    assert (late.code, cancelled.code) == ("VOUCHER_EXPIRED", "VOUCHER_EXPIRED")
    assert street.vouchers.shown_code(voucher) is None
    if book_first:
        await services.expiry.expire_due([ShardNumber(number) for number in range(SHARD_COUNT)])
    assert await street.ending.end_due() == 1
    assert await street.ending.end_due() == 0
    found = (await street.vouchers.find([voucher.id]))[voucher.id]
    assert (found.status, await points(services)) == (VoucherStatus.EXPIRED, (100, 0))
    assert (await street.pots.find([stock_pot("coffee")]))[stock_pot("coffee")].free == 5
    assert await findings(services) == []


async def test_what_is_over_of_a_card_returns_and_what_was_handed_over_stays(
    street: Street, services: Services, clock: ManualClock
) -> None:
    voucher = await street.redeem("alice", "card")
    await capture(street, voucher, items=4)
    clock.current = voucher.expires_at
    assert await street.ending.end_due() == 1
    found = (await street.vouchers.find([voucher.id]))[voucher.id]
    assert (found.status, await points(services)) == (VoucherStatus.CAPTURED, (70, 0))
    assert await findings(services) == []


async def test_a_refund_gives_points_back_to_their_lots_the_last_captured_first(
    street: Street, services: Services, clock: ManualClock
) -> None:
    lots = (await services.ledger.get_page(factories.owner())).lots
    voucher = await street.redeem("alice", "card")
    for number, items in enumerate((4, 6)):
        clock.advance(timedelta(seconds=31))
        voucher = await capture(street, voucher, items=items, key=f"capture-{number:04}")
    first, second = (one.transaction for one in voucher.captures)
    part = await street.refunding.refund(cashier(), voucher.id, 50, "洒了", key="refund-0001")
    assert [(one.of, one.points) for one in part.refunds] == [(second, 47), (first, 3)]
    assert part.status is VoucherStatus.CAPTURED
    too_much = await answer(street.refunding.refund(cashier(), voucher.id, 28, "洒了", key="refund-0002"))
    assert (too_much.code, too_much.asked, too_much.left) == ("REFUND_EXCEEDED", 28, 27)
    whole = await street.refunding.refund(cashier(), voucher.id, None, "洒了", key="refund-0003")
    assert (whole.status, whole.points_refunded) == (VoucherStatus.REFUNDED, 77)
    assert sum(one.fen for one in whole.refunds) == sum(one.fen for one in whole.captures) == 53
    assert (await services.ledger.get_page(factories.owner())).lots == lots
    assert await findings(services) == []


async def test_refunds_of_the_same_points_at_once_give_them_back_once(street: Street, services: Services) -> None:
    voucher = await capture(street, await street.redeem("alice"))
    answers = await asyncio.gather(
        *(
            answer(street.refunding.refund(cashier(), voucher.id, 20, "洒了", key=f"refund-{number:04}"))
            for number in range(6)
        )
    )
    assert Counter(getattr(one, "code", "DONE") for one in answers) == {"DONE": 1, "REFUND_EXCEEDED": 5}
    assert await points(services) == (90, 0)
    assert await findings(services) == []


async def test_who_may_refund_and_until_when(street: Street, services: Services, clock: ManualClock) -> None:
    held = await street.redeem("alice")
    early = await answer(street.refunding.refund(cashier(), held.id, None, "洒了", key="refund-0000"))
    voucher = await capture(street, held)
    before = await dump(services)
    refused = [
        await answer(street.refunding.refund(who, voucher.id, amount, reason, key=key))
        for who, amount, reason, key in (
            (ALICE, None, "洒了", "refund-0001"),
            (cashier(merchant="bakery"), None, "洒了", "refund-0001"),
            (cashier(), 31, "洒了", "refund-0001"),
            (cashier(), 0, "洒了", "refund-0001"),
            (cashier(), None, " ", "refund-0001"),
            (cashier(), None, "洒了", "short"),
        )
    ]
    clock.advance(timedelta(days=7))
    refused.append(await answer(street.refunding.refund(cashier(), voucher.id, None, "洒了", key="refund-0001")))
    assert await dump(services) == before
    assert early.code == "VOUCHER_STATUS"
    assert [one.code for one in refused] == [
        "FORBIDDEN",
        "UNKNOWN_VOUCHER",
        "REFUND_EXCEEDED",
        "INVALID_INPUT",
        "INVALID_INPUT",
        "INVALID_INPUT",
        "REFUND_CLOSED",
    ]
    goodwill = await street.refunding.refund(factories.ADMIN, voucher.id, 10, "客诉", key="refund-0001")
    assert goodwill.refunds[0].by == "staff:root"


async def test_a_complaint_is_decided_once_and_upheld_by_a_refund(
    street: Street, services: Services, clock: ManualClock
) -> None:
    voucher = await street.redeem("alice")
    early = await answer(street.refunding.dispute(ALICE, voucher.id, "没拿到", key="dispute-0001"))
    voucher = await capture(street, voucher)
    foreign = await answer(street.refunding.dispute(factories.citizen("bob"), voucher.id, "没拿到", key="dispute-001"))
    opened = await street.refunding.dispute(ALICE, voucher.id, "没拿到", key="dispute-0001")
    twice = await answer(street.refunding.dispute(ALICE, voucher.id, "还是没有", key="dispute-0002"))
    assert [one.id for one in await street.vouchers.list_disputed(limit=5, behind=None)] == [voucher.id]
    decide = street.refunding.decide_dispute
    refused = [
        await answer(decide(who, voucher.id, amount, "退", key="decide-0001"))
        for who, amount in ((ALICE, 30), (cashier(), 30), (factories.ADMIN, 31))
    ]
    clock.advance(timedelta(days=40))
    decided = await decide(factories.ADMIN, voucher.id, 30, "全额退还", key="decide-0001")
    again = await answer(decide(factories.ADMIN, voucher.id, 0, "不退", key="decide-0002"))
    assert [early.code, foreign.code, twice.code, again.code] == [
        "VOUCHER_STATUS",
        "UNKNOWN_VOUCHER",
        "DISPUTE_EXISTS",
        "NO_DISPUTE",
    ]
    assert [one.code for one in refused] == ["FORBIDDEN", "FORBIDDEN", "REFUND_EXCEEDED"]
    assert opened.dispute is not None
    assert decided.dispute is not None
    assert (opened.dispute.stage, decided.dispute.stage) == (DisputeStage.OPEN, DisputeStage.UPHELD)
    assert (decided.status, decided.dispute.answer) == (VoucherStatus.REFUNDED, "全额退还")
    assert await street.vouchers.list_disputed(limit=5, behind=None) == []
    assert await findings(services) == []


async def test_a_capture_of_long_ago_cannot_be_disputed(street: Street, clock: ManualClock) -> None:
    voucher = await capture(street, await street.redeem("alice"))
    clock.advance(timedelta(days=30))
    late = await answer(street.refunding.dispute(ALICE, voucher.id, "没拿到", key="dispute-0001"))
    assert (late.code, late.days) == ("DISPUTE_CLOSED", 30)


async def test_a_gift_to_a_cause_comes_back_by_staff_alone(street: Street, services: Services) -> None:
    street.add(offer(services.clock.now(), "tree", kind=OfferKind.DONATION, price_points=50, refund_days=0))
    voucher = await street.redeem("alice", "tree")
    mine = await answer(street.refunding.refund(cashier(), voucher.id, None, "误点", key="refund-0001"))
    back = await street.refunding.refund(factories.ADMIN, voucher.id, None, "误点", key="refund-0001")
    assert (mine.code, back.status) == ("REFUND_CLOSED", VoucherStatus.REFUNDED)
    assert await points(services) == (100, 0)
    assert await findings(services) == []


async def test_the_merchants_systems_are_told_once(street: Street) -> None:
    voucher = await capture(street, await street.redeem("alice"))
    for _ in range(2):
        await street.refunding.refund(cashier(), voucher.id, 10, "洒了", key="refund-0001")
    await street.changing.flush()
    assert [(event["type"], event["merchant"], event["data"]["points"]) for event in street.heard] == [
        ("voucher.captured", "cafe", 30),
        ("voucher.refunded", "cafe", 10),
    ]
