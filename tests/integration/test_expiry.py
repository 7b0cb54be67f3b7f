"""What ends by itself: holds that lapse and lots that expire, in time and in local time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from backend.ledger.errors import HoldExpiredError, HoldNotActiveError, InsufficientFundsError
from backend.ledger.model import BREAKAGE, POINTS, QUANTIFIED, Lot
from tests.conftest import dump
from tests.factories import account, capture, earning, holding, release, reversal, spending
from tests.integration.conftest import ALL_SHARDS
from tests.integration.expiring import (
    ALICE,
    DAY,
    END,
    HOUR,
    INSTANT,
    NOVEMBER,
    Kind,
    assert_nothing_due,
    earn,
    ended,
    page,
)

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services


async def test_a_hold_lapses_when_its_time_is_over(services: Services, clock: ManualClock) -> None:
    await earn(services, ["alice"])
    until = clock.now() + HOUR
    hold = holding(amount=4, until=until)
    await services.ledger.post(hold)
    assert (await page(services)).due_at == until
    clock.advance(HOUR - INSTANT)
    assert await services.expiry.expire_due(ALL_SHARDS) == 0
    assert (await page(services)).available(POINTS, clock.now()) == 6
    clock.advance(INSTANT)
    assert await services.expiry.expire_due(ALL_SHARDS) == 1
    after = await page(services)
    assert (after.holds, after.available(POINTS, clock.now()), after.balance(POINTS)) == ((), 10, 10)
    lapsed = await services.ledger.find_transaction(release(hold, f"lapse:{hold.id}").id)
    assert lapsed == release(hold, f"lapse:{hold.id}", kind=Kind.LAPSE)
    await assert_nothing_due(services)


async def test_a_hold_is_refused_in_time_though_the_worker_is_late(services: Services, clock: ManualClock) -> None:
    await earn(services, ["alice"])
    hold = holding(amount=4, until=clock.now() + HOUR)
    await services.ledger.post(hold)
    clock.advance(HOUR)
    before = await dump(services)
    ends = (capture(hold), capture(hold, amount=1, final=False), release(hold))
    for end in ends:
        with pytest.raises(HoldExpiredError):
            await services.ledger.post(end)
    # Nor are its points free before it has lapsed.
    with pytest.raises(InsufficientFundsError) as caught:
        await services.ledger.post(spending(amount=7))
    assert caught.value.available == 6
    assert await dump(services) == before
    clock.advance(3 * DAY)
    assert await services.expiry.expire_due(ALL_SHARDS) == 1
    for end in ends:
        with pytest.raises(HoldNotActiveError):
            await services.ledger.post(end)
    await services.ledger.post(spending(amount=7))
    await assert_nothing_due(services)


async def test_points_end_with_their_month_in_local_time(services: Services, clock: ManualClock) -> None:
    clock.current = NOVEMBER
    await earn(services, ["alice"])
    assert (await page(services)).due_at == END
    clock.current = END - INSTANT
    assert await services.expiry.expire_due(ALL_SHARDS) == 0
    await services.ledger.post(spending(amount=3))
    clock.current = END
    before = await dump(services)
    with pytest.raises(InsufficientFundsError) as caught:
        await services.ledger.post(spending("late", amount=1))
    assert (caught.value.needed, caught.value.available) == (1, 0)
    with pytest.raises(InsufficientFundsError):
        await services.ledger.post(holding(amount=1, until=END + HOUR))
    assert await dump(services) == before
    assert await services.expiry.expire_due(ALL_SHARDS) == 1
    after = await page(services)
    assert (after.balance(POINTS), after.lots, after.due_at, after.at) == (0, (), None, END)
    milliseconds = int(END.timestamp() * 1000)
    [expired] = [
        item
        for item in (await dump(services))["ledger_transactions"]
        if item["key"] == f"expire:{ALICE}:{milliseconds}:{after.version - 1}"
    ]
    lots = [{"expires_at": END, "amount": 7}]
    assert expired["postings"] == [{"from": account(), "to": BREAKAGE, "asset": "points", "amount": 7, "lots": lots}]
    assert (await dump(services))["ledger_pages"][0]["due_at"] is None
    await assert_nothing_due(services)


async def test_only_what_has_ended_ends(services: Services, clock: ManualClock) -> None:
    clock.current = NOVEMBER
    await earn(services, ["alice"])
    clock.advance(20 * DAY)
    await services.ledger.post(earning("december", amount=5))
    hold = holding(amount=2, until=END + HOUR)
    await services.ledger.post(hold)
    clock.current = END
    await services.expiry.expire_due(ALL_SHARDS)
    after = await page(services)
    next_end = datetime(2028, 12, 31, 16, tzinfo=UTC)
    assert (after.lots, after.holds[0].lots, after.due_at) == ((Lot(next_end, 5),), (Lot(END, 2),), END + HOUR)
    # The two that were held when their month ended have thirty days of grace, to a local midnight.
    clock.advance(HOUR)
    await services.expiry.expire_due(ALL_SHARDS)
    grace = END + 31 * DAY - INSTANT
    assert grace == next_end - INSTANT
    assert (await page(services)).lots == (Lot(grace, 2), Lot(next_end, 5))
    clock.current = grace
    await services.expiry.expire_due(ALL_SHARDS)
    assert (await page(services)).lots == (Lot(next_end, 5),)
    clock.current = next_end
    await services.expiry.expire_due(ALL_SHARDS)
    assert (await page(services)).balance(POINTS) == 0
    assert await ended(services) == {Kind.EXPIRE: 3, Kind.LAPSE: 1}
    await assert_nothing_due(services)


async def test_holds_and_lots_of_one_page_end_in_one_run(services: Services, clock: ManualClock) -> None:
    clock.current = NOVEMBER
    await earn(services, ["alice"], 30)
    for number in range(3):
        await services.ledger.post(holding(f"hold-{number}", amount=5, until=NOVEMBER + (number + 1) * HOUR))
    clock.current = END
    assert await services.expiry.expire_due(ALL_SHARDS) == 1
    assert await ended(services) == {Kind.EXPIRE: 1, Kind.LAPSE: 3}
    assert (await page(services)).lots == (Lot(END + 31 * DAY - INSTANT, 15),)
    await assert_nothing_due(services)


async def test_expired_points_given_back_have_grace_and_end_again(services: Services, clock: ManualClock) -> None:
    clock.current = NOVEMBER
    await earn(services, ["alice"])
    clock.current = END
    await services.expiry.expire_due(ALL_SHARDS)
    milliseconds = int(END.timestamp() * 1000)
    found = [
        item["_id"]
        for item in (await dump(services))["ledger_transactions"]
        if item["key"].startswith(f"expire:{ALICE}:{milliseconds}:")
    ]
    expired = await services.ledger.find_transaction(found[0])
    assert expired is not None
    await services.ledger.post(reversal(expired, amounts=(4,)))
    assert (await page(services)).lots == (Lot(END + 31 * DAY - INSTANT, 4),)
    assert await services.expiry.expire_due(ALL_SHARDS) == 0
    clock.advance(31 * DAY)
    assert await services.expiry.expire_due(ALL_SHARDS) == 1
    assert (await page(services)).balance(POINTS) == 0
    await assert_nothing_due(services)
    # Grace is given once: what comes back of it has ended, and ends again.
    marked = f"expire:{ALICE}:{milliseconds + 31 * 24 * 3_600_000 - 1}:"
    [last] = [item["_id"] for item in (await dump(services))["ledger_transactions"] if item["key"].startswith(marked)]
    again = await services.ledger.find_transaction(last)
    assert again is not None
    await services.ledger.post(reversal(again, "once more", (3,)))
    assert (await page(services)).lots == (Lot(END + 31 * DAY - INSTANT, 3),)
    assert await services.expiry.expire_due(ALL_SHARDS) == 1
    assert (await page(services)).balance(POINTS) == 0
    assert await ended(services) == {Kind.EXPIRE: 3}
    await assert_nothing_due(services)


async def test_what_never_expires_is_never_due(services: Services, clock: ManualClock) -> None:
    await services.ledger.post(earning(asset=QUANTIFIED))
    assert (await page(services)).due_at is None
    clock.advance(4_000 * DAY)
    assert await services.expiry.expire_due(ALL_SHARDS) == 0
