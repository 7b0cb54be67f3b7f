"""Redemptions on a real server: what each takes, each refusal in its order, and many at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.identity.errors import ForbiddenError
from backend.kernel.ids import TransactionId
from backend.kernel.units import Ratio
from backend.ledger.model import DONATIONS, POINTS, TransactionKind
from backend.rewards.merchants.model import MerchantStage
from backend.rewards.offers.errors import SoldOutError
from backend.rewards.offers.model import (
    Audience,
    Bearer,
    CitizenLimits,
    OfferId,
    OfferKind,
    OfferStage,
    Stock,
    StockKind,
)
from backend.rewards.stock.model import Pot, PotId, Want, budget_pot, stock_pot
from backend.rewards.vouchers.invariants import audit_vouchers
from backend.rewards.vouchers.making import seal_of
from backend.rewards.vouchers.model import Voucher, VoucherStatus
from tests import factories
from tests.conftest import dump
from tests.counters import Street, changed, contract, merchant, offer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
ONE_LEFT = Stock(StockKind.TOTAL, 1)


@pytest.fixture
async def street(services: Services) -> AsyncIterator[Street]:
    """A café that sells coffee, and alice with a hundred points."""
    found = Street(services)
    found.add(offer(services.clock.now()))
    await found.settle_in("alice")
    yield found
    await found.changing.flush()


async def findings(services: Services) -> list[str]:
    """What the auditors of book and vouchers find."""
    audit = await factories.replay(services)
    async with services.database.snapshot() as snapshot:
        await audit_vouchers(snapshot, audit)
    return audit.findings


async def test_a_redemption_holds_the_points_and_promises_what_the_offer_says(
    street: Street, services: Services
) -> None:
    voucher = await street.redeem("alice", units=2)
    page = await services.ledger.get_page(factories.owner())
    assert isinstance(voucher, Voucher)
    assert (voucher.status, voucher.points, voucher.items, voucher.units) == (VoucherStatus.HELD, 60, 2, 2)
    assert (voucher.promise.rate, voucher.promise.commission_bps) == (Ratio(7, 10), 200)
    assert (page.available(POINTS, services.clock.now()), page.held(POINTS)) == (40, 60)
    assert [(hold.id, hold.expires_at) for hold in page.holds] == [(voucher.hold, voucher.expires_at)]
    posted = await services.ledger.find_transaction(voucher.hold)
    assert posted is not None
    cause = {"voucher": voucher.id, "offer": "coffee", "promise": seal_of(voucher)}
    assert (posted.kind, posted.cause) == (TransactionKind.HOLD, cause)
    assert street.told == [("alice", voucher.id)]
    assert await findings(services) == []


async def test_the_same_key_gives_the_same_voucher_and_another_order_under_it_is_a_conflict(
    street: Street, services: Services
) -> None:
    first = await street.redeem("alice")
    before = await dump(services)
    again = await asyncio.gather(*(street.redeem("alice") for _ in range(5)))
    other = await street.redeem("alice", units=2)
    assert [one.id for one in again] == [first.id] * 5
    assert other.code == "IDEMPOTENCY_CONFLICT"
    assert await dump(services) == before


async def test_the_same_key_sent_many_times_at_once_makes_one_voucher(street: Street, services: Services) -> None:
    street.add(changed(street.offers[OfferId("coffee")], stock=Stock(StockKind.TOTAL, 5)))
    made = await asyncio.gather(*(street.redeem("alice") for _ in range(20)))
    assert {one.id for one in made} == {made[0].id}
    assert (await street.pots.find([stock_pot("coffee")]))[stock_pot("coffee")].free == 4
    assert await findings(services) == []


async def test_a_gift_to_a_cause_moves_the_points_at_once_and_owes_nobody_anything(
    street: Street, services: Services
) -> None:
    street.add(offer(services.clock.now(), "tree", kind=OfferKind.DONATION, price_points=50))
    voucher = await street.redeem("alice", "tree")
    posted = await services.ledger.find_transaction(TransactionId(voucher.hold))
    assert posted is not None
    assert (posted.kind, posted.postings[0].to_account) == (TransactionKind.TRANSFER, DONATIONS)
    assert posted.cause == {"voucher": voucher.id, "offer": "tree", "promise": seal_of(voucher)}
    assert (voucher.status, voucher.captures[0].points, voucher.captures[0].fen) == (VoucherStatus.CAPTURED, 50, 0)
    assert await findings(services) == []


async def test_a_partner_code_is_paid_at_once_and_told_to_the_settlement(street: Street, services: Services) -> None:
    street.add(offer(services.clock.now(), "film", kind=OfferKind.CODE, price_points=33, stock=ONE_LEFT))
    voucher = await street.redeem("alice", "film")
    posted = await services.ledger.find_transaction(TransactionId(voucher.hold))
    assert posted is not None
    assert posted.cause == {
        "voucher": voucher.id,
        "offer": "film",
        "promise": seal_of(voucher),
        "merchant": "cafe",
        "fen": "23",
        "commission_bps": "200",
    }
    assert await street.vouchers.partner_code(voucher) == "film-0"
    assert await findings(services) == []


REFUSALS = {
    "nobody such": ({"name": "nemo"}, {}, {}, "FORBIDDEN"),
    "no units": ({"units": 0}, {}, {}, "INVALID_INPUT"),
    "too many units": ({"units": 21}, {}, {}, "INVALID_INPUT"),
    "a short key": ({"key": "short"}, {}, {}, "INVALID_INPUT"),
    "no such offer": ({"offer": "tea"}, {}, {}, "UNKNOWN_OFFER"),
    "two codes at once": (
        {"units": 2},
        {"kind": OfferKind.CODE, "stock": Stock(StockKind.TOTAL, 9)},
        {},
        "INVALID_INPUT",
    ),
    "more than a hundred items": ({"units": 11}, {"items": 10}, {}, "INVALID_INPUT"),
    "paused": ({}, {"stage": OfferStage.PAUSED}, {}, "OFFER_CLOSED"),
    "suspended": ({}, {}, {"stage": MerchantStage.SUSPENDED}, "OFFER_CLOSED"),
    "no contract": ({}, {}, {"contracts": ()}, "OFFER_CLOSED"),
    "over at once": ({}, {"vouchers_until": LONG_AGO}, {}, "OFFER_CLOSED"),
    "elsewhere": ({}, {"audience": Audience(districts=frozenset({"句容市"}))}, {}, "NOT_IN_AUDIENCE"),
    "over the day's limit": ({"units": 2}, {"limits": CitizenLimits(per_day=1)}, {}, "LIMIT_REACHED"),
    "over the limit": ({"units": 2}, {"limits": CitizenLimits(in_all=1)}, {}, "LIMIT_REACHED"),
    "sold out": ({"units": 2}, {"stock": ONE_LEFT}, {}, "SOLD_OUT"),
    "over the budget": ({}, {}, {"budget_fen": 20}, "BUDGET_SPENT"),
    "too dear": ({"units": 4}, {}, {}, "INSUFFICIENT_POINTS"),
    # In the order of precedence: whatever would be refused later does not hide what is refused first.
    "paused before all": (
        {"units": 20},
        {"stage": OfferStage.PAUSED, "limits": CitizenLimits(in_all=1), "stock": ONE_LEFT},
        {},
        "OFFER_CLOSED",
    ),
    "limits before stock": ({"units": 20}, {"limits": CitizenLimits(in_all=1), "stock": ONE_LEFT}, {}, "LIMIT_REACHED"),
    "stock before points": ({"units": 20}, {"stock": ONE_LEFT}, {}, "SOLD_OUT"),
}


@pytest.mark.parametrize(("order", "of_offer", "of_merchant", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_says_why_and_changes_nothing(
    street: Street, services: Services, order: Any, of_offer: Any, of_merchant: Any, code: str
) -> None:
    now = services.clock.now()
    if "budget_fen" in of_merchant:
        of_merchant = {"contracts": (contract(now, **of_merchant),)}
    street.add(merchant(now, **of_merchant), changed(street.offers[OfferId("coffee")], **of_offer))
    before = await dump(services)
    refused = await street.redeem(**{"name": "alice", **order})
    assert refused.code == code
    after = await dump(services)
    # A pot is made when it is first asked, whole; that is nothing that anybody could see.
    assert {(pot.free == pot.total, pot.pending) for pot in (await _pots(street)).values()} <= {(True, ())}
    for seen in (before, after):
        seen.pop("stock_pots", None)
        seen.pop("stock_uses", None)
    assert after == before


async def _pots(street: Street) -> dict[PotId, Pot]:
    found = await street.services.database.find("stock_pots", {}, limit=10)
    return await street.pots.find([one["_id"] for one in found])


async def test_somebody_else_than_a_citizen_redeems_nothing(street: Street) -> None:
    with pytest.raises(ForbiddenError):
        await street.vouchers.redeem(factories.ADMIN, OfferId("coffee"), 1, key="redeem-0001")


async def test_limits_count_local_days_and_forget_what_ended_unused(
    street: Street, services: Services, clock: ManualClock
) -> None:
    await street.settle_in("alice", points=500)
    street.add(changed(street.offers[OfferId("coffee")], limits=CitizenLimits(per_day=1, in_all=2)))
    first = await street.redeem("alice", key="redeem-0001")
    second = await street.redeem("alice", key="redeem-0002")
    assert (second.code, second.limit) == ("LIMIT_REACHED", 1)
    await street.vouchers.cancel(factories.citizen(), first.id, key="cancel-0001")
    assert isinstance(await street.redeem("alice", key="redeem-0003"), Voucher)
    clock.advance(timedelta(days=1))
    assert isinstance(await street.redeem("alice", key="redeem-0004"), Voucher)
    clock.advance(timedelta(days=1))
    over = await street.redeem("alice", key="redeem-0005")
    assert (over.code, over.limit) == ("LIMIT_REACHED", 2)
    assert await findings(services) == []


async def test_a_citizen_who_asks_many_times_at_once_stays_within_the_limit(street: Street, services: Services) -> None:
    await street.settle_in("alice", points=1_000)
    street.add(changed(street.offers[OfferId("coffee")], limits=CitizenLimits(in_all=3)))
    made = await asyncio.gather(*(street.redeem("alice", key=f"redeem-{number:04}") for number in range(30)))
    assert Counter(getattr(one, "code", "MADE") for one in made) == {"MADE": 3, "LIMIT_REACHED": 27}
    assert await findings(services) == []


async def test_the_last_units_go_to_as_many_citizens_in_two_processes(street: Street, services: Services) -> None:
    other = Street(services)
    names = [f"c{number}" for number in range(60)]
    await street.settle_in(*names)
    coffee = changed(street.offers[OfferId("coffee")], stock=Stock(StockKind.TOTAL, 25))
    for process in (street, other):
        process.add(coffee)
    made = await asyncio.gather(
        *((street, other)[number % 2].redeem(name, key="redeem-0001") for number, name in enumerate(names))
    )
    assert Counter(getattr(one, "code", "MADE") for one in made) == {"MADE": 25, "SOLD_OUT": 35}
    pot = (await street.pots.find([stock_pot("coffee")]))[stock_pot("coffee")]
    assert (pot.free, pot.used, pot.pending) == (0, 25, ())
    assert await findings(services) == []


async def test_who_cannot_pay_keeps_no_unit_from_who_can(street: Street, services: Services) -> None:
    await street.settle_in("poor", "bob", points=0)
    await street.settle_in("bob", points=30)
    street.add(changed(street.offers[OfferId("coffee")], stock=ONE_LEFT))
    made = await asyncio.gather(*(street.redeem(name) for name in ("poor", "bob", "alice")))
    assert [getattr(one, "code", "MADE") for one in made] == ["INSUFFICIENT_POINTS", "MADE", "SOLD_OUT"]
    assert await findings(services) == []


async def test_units_in_somebodys_hand_are_neither_sold_nor_free(street: Street, services: Services) -> None:
    street.add(changed(street.offers[OfferId("coffee")], stock=ONE_LEFT))
    held = await street.pots.reserve("elsewhere", {stock_pot("coffee"): Want(1, 1)})
    busy = await street.redeem("alice")
    assert busy.code == "BUSY"
    await street.pots.finish(held, {})
    assert isinstance(await street.redeem("alice"), Voucher)
    assert await findings(services) == []


async def test_a_reservation_whose_process_died_returns_within_a_minute(
    street: Street, services: Services, clock: ManualClock
) -> None:
    street.add(changed(street.offers[OfferId("coffee")], stock=ONE_LEFT))
    await street.pots.reserve("dead", {stock_pot("coffee"): Want(1, 1)})
    clock.advance(timedelta(seconds=39))
    assert await street.pots.recover() == 0
    clock.advance(timedelta(seconds=2))
    assert await street.pots.recover() == 1
    assert await street.pots.recover() == 0
    made = await street.redeem("alice")
    assert isinstance(made, Voucher)
    sold = await street.redeem("alice", key="redeem-0002")
    assert isinstance(sold, SoldOutError)
    assert await findings(services) == []


async def test_the_days_units_are_new_the_next_day(street: Street, services: Services, clock: ManualClock) -> None:
    street.add(changed(street.offers[OfferId("coffee")], stock=Stock(StockKind.DAILY, 1)))
    made = [await street.redeem("alice", key=f"redeem-{number:04}") for number in range(2)]
    clock.advance(timedelta(days=1))
    made.append(await street.redeem("alice", key="redeem-0009"))
    assert [getattr(one, "code", "MADE") for one in made] == ["MADE", "SOLD_OUT", "MADE"]
    assert await findings(services) == []


async def test_the_merchants_budget_of_a_period_is_spent_to_the_fen(street: Street, services: Services) -> None:
    now = services.clock.now()
    street.add(merchant(now, contracts=(contract(now, budget_fen=43),)))
    made = [await street.redeem("alice", key=f"redeem-{number:04}") for number in range(3)]
    assert [getattr(one, "code", "MADE") for one in made] == ["MADE", "MADE", "BUDGET_SPENT"]
    [pot] = (await _pots(street)).values()
    assert (pot.used, pot.free) == (42, 1)
    await street.vouchers.cancel(factories.citizen(), made[0].id, key="cancel-0001")
    again = await street.redeem("alice", key="redeem-0009")
    assert isinstance(again, Voucher)
    assert again.pots[0].pot == budget_pot("cafe", again.day.replace(day=1))
    street.add(changed(street.offers[OfferId("coffee")], bearer=Bearer.MERCHANT))
    assert isinstance(await street.redeem("alice", key="redeem-0010"), Voucher)
    assert await findings(services) == []


async def test_a_budget_agreed_anew_counts_at_once_and_takes_nothing_back(street: Street, services: Services) -> None:
    now = services.clock.now()

    async def redeem_under(budget: int, key: str) -> tuple[str, int, int]:
        street.add(merchant(now, contracts=(contract(now, budget_fen=budget),)))
        made = await street.redeem("alice", key=key)
        [pot] = (await _pots(street)).values()
        return getattr(made, "code", "MADE"), pot.total, pot.used

    assert await redeem_under(21, "redeem-0001") == ("MADE", 21, 21)
    assert await redeem_under(21, "redeem-0002") == ("BUDGET_SPENT", 21, 21)
    assert await redeem_under(50, "redeem-0002") == ("MADE", 50, 42)
    assert await redeem_under(10, "redeem-0003") == ("BUDGET_SPENT", 42, 42)
    assert await findings(services) == []
