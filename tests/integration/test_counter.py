"""Vouchers at the counter: codes, capture by one of many, parts, cancellation, expiry, refund and dispute."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from backend.ledger.model import POINTS
from backend.rewards.merchants.model import MerchantStage, ShopId
from backend.rewards.offers.model import OfferId, OfferKind, Stock, StockKind
from backend.rewards.stock.model import stock_pot
from backend.rewards.vouchers.codes import show
from backend.rewards.vouchers.model import DisputeStage, Voucher, VoucherId, VoucherStatus
from tests import factories
from tests.conftest import dump
from tests.counters import Street, answer, cashier, changed, merchant, offer, shop_at
from tests.integration.test_redeeming import findings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

ALICE = factories.citizen()


@pytest.fixture
async def street(services: Services) -> AsyncIterator[Street]:
    """A café that sells coffee and cards of ten; alice has a hundred points."""
    now = services.clock.now()
    found = Street(services)
    found.add(
        merchant(now, shops=(shop_at(), shop_at("west"))),
        merchant(now, "bakery"),
        offer(now, stock=Stock(StockKind.TOTAL, 5)),
        offer(now, "card", price_points=77, items=10),
    )
    await found.settle_in("alice")
    yield found
    await found.changing.flush()


async def capture(street: Street, voucher: Voucher, **changes: Any) -> Any:
    """The voucher after its code was captured, or why it was not."""
    given = {"items": None, "shop": ShopId("east"), "key": "capture-0001", **changes}
    code = given.pop("code", None) or await street.shown(voucher.id)
    return await answer(street.counter.capture(given.pop("by", cashier()), code, **given))


async def points(services: Services) -> tuple[int, int]:
    """What alice can spend and what is held."""
    page = await services.ledger.get_page(factories.owner())
    return page.available(POINTS, services.clock.now()), page.held(POINTS)


async def test_a_capture_moves_the_points_and_tells_the_merchants_systems(street: Street, services: Services) -> None:
    voucher = await street.redeem("alice")
    shown = await street.counter.look_up(cashier(), await street.shown(voucher.id))
    assert (shown.id, shown.promise.handover.zh, shown.status) == (voucher.id, "中杯任选", VoucherStatus.HELD)
    captured = await capture(street, voucher)
    [one] = captured.captures
    assert (captured.status, one.points, one.fen, one.shop, one.member) == (
        VoucherStatus.CAPTURED,
        30,
        21,
        "east",
        "cafe.cai",
    )
    posted = await services.ledger.find_transaction(one.transaction)
    assert posted is not None
    assert posted.cause == {
        "voucher": voucher.id,
        "offer": "coffee",
        "merchant": "cafe",
        "fen": "21",
        "commission_bps": "200",
    }
    assert await points(services) == (70, 0)
    assert street.told == [("alice", voucher.id)] * 2
    assert await findings(services) == []


async def test_of_ten_cashiers_who_try_one_succeeds(street: Street, services: Services) -> None:
    voucher = await street.redeem("alice")
    code = await street.shown(voucher.id)
    answers = await asyncio.gather(
        *(
            capture(street, voucher, code=code, by=cashier(f"c{number}"), key=f"capture-{number:04}")
            for number in range(10)
        )
    )
    assert Counter(getattr(one, "code", "CAPTURED") for one in answers) == {"CAPTURED": 1, "VOUCHER_STATUS": 9}
    assert await points(services) == (70, 0)
    assert await findings(services) == []


async def test_the_same_capture_again_answers_the_same_even_when_the_code_is_over(
    street: Street, clock: ManualClock, services: Services
) -> None:
    voucher = await street.redeem("alice")
    code = await street.shown(voucher.id)
    first = await capture(street, voucher, code=code)
    clock.advance(timedelta(minutes=20))
    before = await dump(services)
    again = await capture(street, voucher, code=code)
    other = await capture(street, voucher, code=code, items=1)
    assert again == first
    assert other.code == "IDEMPOTENCY_CONFLICT"
    assert await dump(services) == before


async def test_a_card_is_handed_over_item_by_item_and_the_parts_sum_to_the_whole(
    street: Street, services: Services, clock: ManualClock
) -> None:
    voucher = await street.redeem("alice", "card")
    for number, items in enumerate((1, 4, 3, 2)):
        clock.advance(timedelta(seconds=31))
        voucher = await capture(street, voucher, items=items, key=f"capture-{number:04}")
    assert [(one.items, one.points) for one in voucher.captures] == [(1, 7), (4, 31), (3, 23), (2, 16)]
    assert sum(one.fen for one in voucher.captures) == 77 * 7 // 10
    assert (voucher.status, await points(services)) == (VoucherStatus.CAPTURED, (23, 0))
    assert await findings(services) == []


CODES = {
    "nothing": ("", 0, "CODE_INVALID"),
    "no code": ("hello", 0, "CODE_INVALID"),
    "a long text": ("9" * 5_000, 0, "CODE_INVALID"),
    "another's number": ("TH1.00000000.1.AAAAAAAAAAAAAAAAAAAA", 0, "CODE_INVALID"),
    "a forged end": (None, 0, "CODE_INVALID"),
    "a photograph": (None, 120, "CODE_EXPIRED"),
}


@pytest.mark.parametrize(("code", "later_s", "refusal"), CODES.values(), ids=CODES)
async def test_a_code_that_is_not_the_vouchers_own_of_now_captures_nothing(
    street: Street, services: Services, clock: ManualClock, code: str | None, later_s: int, refusal: str
) -> None:
    voucher = await street.redeem("alice")
    if code is None:
        code = await street.shown(voucher.id)
        if refusal == "CODE_INVALID":
            code = code[:-1] + ("A" if code[-1] != "A" else "B")
    clock.advance(timedelta(seconds=later_s))
    before = await dump(services)
    refused = await capture(street, voucher, code=code or " ")
    looked = await answer(street.counter.look_up(cashier(), code))
    after = await dump(services)
    tries = after.pop("voucher_tries", [])
    before.pop("voucher_tries", None)
    assert (refused.code, looked.code, after) == (refusal, refusal, before)
    assert [int(one["count"]) for one in tries] == ([2] if refusal == "CODE_INVALID" else [])


async def test_a_code_counts_once_even_where_items_are_left(street: Street, clock: ManualClock) -> None:
    voucher = await street.redeem("alice", "card")
    code = await street.shown(voucher.id)
    assert isinstance(await capture(street, voucher, code=code, items=1), Voucher)
    replayed = await capture(street, voucher, code=code, items=1, key="capture-0002")
    assert replayed.code == "CODE_REPLAYED"
    clock.advance(timedelta(seconds=31))
    assert isinstance(await capture(street, voucher, items=1, key="capture-0003"), Voucher)


async def test_another_merchants_voucher_is_none_here(street: Street) -> None:
    voucher = await street.redeem("alice")
    refused = await capture(street, voucher, by=cashier(merchant="bakery"), shop=None)
    assert refused.code == "CODE_INVALID"


async def test_who_gives_many_wrong_codes_waits(street: Street, clock: ManualClock) -> None:
    voucher = await street.redeem("alice")
    for number in range(10):
        wrong = await capture(street, voucher, code="0000-0000 1234", key=f"capture-{number:04}")
        assert wrong.code == "CODE_INVALID"
    right = await capture(street, voucher, key="capture-9999")
    assert (right.code, right.limit, right.minutes) == ("TOO_MANY_CODES", 10, 10)
    assert isinstance(await capture(street, voucher, by=cashier("dora"), key="capture-9999"), Voucher)
    other = await street.redeem("alice", key="redeem-0002")
    clock.advance(timedelta(minutes=10))
    assert isinstance(await capture(street, other, key="capture-9998"), Voucher)


async def test_many_cashiers_have_no_more_guesses_at_a_voucher_than_one(street: Street, services: Services) -> None:
    voucher = await street.redeem("alice")
    secret, now = street.vouchers.secret_of(voucher), services.clock.now()
    good = {show(secret, voucher.number, now + timedelta(seconds=30 * late)).typed[-4:] for late in (-1, 0, 1)}
    code = show(secret, voucher.number, now)
    digits = [f"{number:04}" for number in range(20) if f"{number:04}" not in good]
    wrong = [f"{code.typed[:-4]}{guess}" for guess in digits[:12]]
    guesses = [
        await capture(street, voucher, code=guess, by=cashier(f"c{number % 4}"), key=f"capture-{number:04}")
        for number, guess in enumerate(wrong)
    ]
    assert Counter(one.code for one in guesses) == {"CODE_INVALID": 10, "TOO_MANY_CODES": 2}
    typed = await capture(street, voucher, code=code.typed, by=cashier("dora"), key="capture-9998")
    scanned = await capture(street, voucher, by=cashier("dora"), key="capture-9999")
    assert (typed.code, scanned.status) == ("TOO_MANY_CODES", VoucherStatus.CAPTURED)


COUNTERS = {
    "a citizen": ({"by": ALICE}, {}, "FORBIDDEN"),
    "staff": ({"by": factories.ADMIN}, {}, "FORBIDDEN"),
    "no items": ({"items": 0}, {}, "INVALID_INPUT"),
    "too many items": ({"items": 2}, {}, "ITEMS_EXCEEDED"),
    "a short key": ({"key": "k"}, {}, "INVALID_INPUT"),
    "no such shop": ({"shop": ShopId("north")}, {}, "UNKNOWN_SHOP"),
    "the other shop": ({"shop": ShopId("west")}, {}, "WRONG_SHOP"),
    "a suspended merchant": ({}, {"stage": MerchantStage.SUSPENDED}, "MERCHANT_STAGE"),
}


@pytest.mark.parametrize(("given", "of_merchant", "code"), COUNTERS.values(), ids=COUNTERS)
async def test_a_refusal_at_the_counter_changes_nothing(
    street: Street, services: Services, given: Any, of_merchant: Any, code: str
) -> None:
    street.add(changed(street.offers[OfferId("coffee")], shops=(ShopId("east"),)))
    voucher = await street.redeem("alice")
    street.add(changed(next(iter(street.merchants.values())), **of_merchant))
    before = await dump(services)
    refused = await capture(street, voucher, **given)
    assert (refused.code, await dump(services)) == (code, before)


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
