"""Vouchers at the counter: codes and guesses at them, capture by one of many, parts, who may and where."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.identity.errors import ForbiddenError
from backend.kernel.errors import Text
from backend.rewards.merchants.model import Desk, MerchantStage, ShopId
from backend.rewards.offers.model import OfferId
from backend.rewards.vouchers.codes import show
from backend.rewards.vouchers.model import Voucher, VoucherStatus
from tests import factories
from tests.conftest import dump
from tests.counters import Street, answer, capture, cashier, changed, points, shop_at
from tests.integration.test_redeeming import findings

if TYPE_CHECKING:
    from backend.identity.model import Principal
    from backend.kernel.clock import ManualClock
    from backend.kernel.errors import DomainError
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

ALICE = factories.citizen()


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
    assert [(int(one["wrong"]), int(one["trying"])) for one in tries] == ([(2, 0)] if refusal == "CODE_INVALID" else [])


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


async def test_ten_wrong_codes_typed_for_a_voucher_leave_it_to_its_qr_code(
    street: Street, services: Services, clock: ManualClock
) -> None:
    """By whomever, whenever: who has seen its number has ten guesses at its four digits."""
    voucher = await street.redeem("alice")
    secret = street.vouchers.secret_of(voucher)
    guesses = []
    for number in range(12):
        clock.advance(timedelta(minutes=11))
        now = services.clock.now()
        good = {show(secret, voucher.number, now + timedelta(seconds=30 * late)).typed[-4:] for late in (-1, 0, 1)}
        wrong = next(f"{guess:04}" for guess in range(9) if f"{guess:04}" not in good)
        guesses.append(await capture(street, voucher, code=f"{voucher.number}{wrong}", key=f"capture-{number:04}"))
    assert Counter(one.code for one in guesses) == {"CODE_INVALID": 10, "TYPED_CODE_LOCKED": 2}
    code = show(secret, voucher.number, services.clock.now())
    typed = await capture(street, voucher, code=code.typed, by=cashier("dora"), key="capture-9998")
    scanned = await capture(street, voucher, by=cashier("dora"), key="capture-9999")
    assert (typed.code, typed.limit, scanned.status) == ("TYPED_CODE_LOCKED", 10, VoucherStatus.CAPTURED)


async def test_another_merchant_cannot_lock_a_vouchers_typed_code(street: Street) -> None:
    voucher = await street.redeem("alice")
    for number in range(30):
        rival = cashier(f"r{number}", merchant="bakery")
        await capture(street, voucher, code=f"{voucher.number}0000", by=rival, shop=None, key="capture-0001")
    code = street.vouchers.shown_code(voucher)
    assert code is not None
    assert isinstance(await capture(street, voucher, code=code.typed), Voucher)


async def test_right_codes_typed_at_once_are_never_told_to_be_wrong(street: Street) -> None:
    await street.settle_in("alice", points=900)
    vouchers = [await street.redeem("alice", "card", key=f"redeem-{number:04}") for number in range(12)]
    codes = [code.typed for code in map(street.vouchers.shown_code, vouchers) if code]
    answers = await asyncio.gather(
        *(capture(street, vouchers[n], code=code, key=f"capture-{n:04}") for n, code in enumerate(codes))
    )
    assert {getattr(one, "code", "CAPTURED") for one in answers} <= {"CAPTURED", "BUSY"}
    again = [await capture(street, vouchers[n], code=code, key=f"capture-{n:04}") for n, code in enumerate(codes)]
    assert all(isinstance(one, Voucher) for one in again)


class LettingGo:
    """A merchant that lets its people go, or is suspended, between the look at the desk and the capture."""

    def __init__(self, street: Street, error: DomainError | None) -> None:
        self._street = street
        self._error = error

    async def desk(self, principal: Principal) -> Desk:
        """Who was at work a moment ago."""
        return await self._street.desk(principal)

    async def desk_within(self, tx: Tx, principal: Principal) -> Desk:
        """Nobody, or somebody of a merchant that sells nothing."""
        if self._error is not None:
            raise self._error
        desk = await self._street.desk(principal)
        return Desk(changed(desk.merchant, stage=MerchantStage.SUSPENDED), desk.member)


@pytest.mark.parametrize(
    ("error", "code"),
    [(ForbiddenError(Text("已离职", "let go")), "FORBIDDEN"), (None, "MERCHANT_STAGE")],
    ids=["let go", "suspended"],
)
async def test_who_is_let_go_meanwhile_captures_nothing(
    street: Street, services: Services, error: DomainError | None, code: str
) -> None:
    voucher = await street.redeem("alice")
    shown = await street.shown(voucher.id)
    street.counter._desks = LettingGo(street, error)
    before = await dump(services)
    refused = await capture(street, voucher, code=shown)
    assert (refused.code, await dump(services)) == (code, before)


async def test_a_capture_is_answered_again_whatever_has_become_of_the_merchant(street: Street) -> None:
    voucher = await street.redeem("alice")
    code = await street.shown(voucher.id)
    first = await capture(street, voucher, code=code)
    for number in range(11):
        await capture(street, voucher, code="0000-0000 1234", key=f"wrong-{number:04}")
    cafe = next(iter(street.merchants.values()))
    street.add(changed(cafe, stage=MerchantStage.SUSPENDED))
    assert await capture(street, voucher, code=code) == first


async def test_a_voucher_for_shops_that_are_gone_counts_at_those_that_are_left(street: Street) -> None:
    street.add(changed(street.offers[OfferId("coffee")], shops=(ShopId("east"),)))
    voucher = await street.redeem("alice")
    cafe = next(iter(street.merchants.values()))
    street.add(changed(cafe, shops=(shop_at("west"), shop_at("north"))))
    assert isinstance(await capture(street, voucher, shop=ShopId("west")), Voucher)


async def test_a_counter_that_stands_nowhere_is_asked_where_only_if_it_matters(street: Street) -> None:
    await street.settle_in("alice", points=900)
    coffee = street.offers[OfferId("coffee")]
    street.add(changed(coffee, shops=(ShopId("east"), ShopId("west"))))
    everywhere = await street.redeem("alice", key="redeem-0001")
    street.add(changed(coffee, shops=(ShopId("east"),)))
    somewhere = await street.redeem("alice", key="redeem-0002")
    assert isinstance(await capture(street, everywhere, shop=None), Voucher)
    asked = await capture(street, somewhere, shop=None, key="capture-0002")
    assert (asked.code, asked.field) == ("INVALID_INPUT", "shop")


@pytest.mark.parametrize("items", [0, 4], ids=["unused", "in part"])
async def test_what_is_over_is_told_so_before_and_after_it_is_noted(
    street: Street, clock: ManualClock, items: int
) -> None:
    voucher = await street.redeem("alice", "card")
    if items:
        await capture(street, voucher, items=items)
    clock.current = voucher.expires_at
    code = show(street.vouchers.secret_of(voucher), voucher.number, clock.now()).token
    told = []
    for number in range(2):
        late = await capture(street, voucher, code=code, key=f"late-{number:04}")
        cancelled = await answer(street.vouchers.cancel(ALICE, voucher.id, key=f"cancel-{number:04}"))
        told += [late.code, cancelled.code]
        assert await street.ending.end_due() == 1 - number
    assert told == ["VOUCHER_EXPIRED"] * 4


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
