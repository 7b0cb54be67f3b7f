"""What a merchant's statement is built from: the stream of what names them, and the balance the server sums."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.ledger.model import CNY, POINTS, QUANTIFIED, Posted
from backend.ledger.store import BATCH
from backend.mongo.transactions import Transactions
from tests.conftest import dump
from tests.factories import (
    account,
    capture,
    donation,
    earning,
    holding,
    payout,
    posting,
    release,
    replay,
    reversal,
    settlement,
    spending,
    transfer,
)

if TYPE_CHECKING:
    from datetime import datetime

    from backend.kernel.clock import ManualClock
    from backend.ledger.model import Transaction
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

HOUR = timedelta(hours=1)


def of(merchant: str, transaction: Transaction) -> Transaction:
    """The transaction with the merchant in its cause."""
    return replace(transaction, cause={**transaction.cause, "merchant": merchant})


def unnamed(transaction: Transaction) -> Transaction:
    """The transaction without the merchant in its cause."""
    return replace(transaction, cause={})


async def stream(
    services: Services, merchant: str, since: datetime | None, until: datetime
) -> list[tuple[str, datetime]]:
    """Keys and times of what is told of the merchant."""
    found = services.ledger.stream_merchant(merchant, since=since, until=until)
    return [(posted.transaction.key, posted.at) async for posted in found]


@pytest.fixture
async def month(services: Services, clock: ManualClock) -> list[tuple[Transaction, datetime]]:
    """A month of a shop with a neighbour: what was posted, with its time, an hour after one another."""
    far = clock.now() + timedelta(days=90)
    hold, lost, other = (
        holding("h-1", amount=30, until=far),
        holding("h-2", amount=8, until=far),
        holding("h-3", until=far),
    )
    elsewhere = replace(other, postings=spending(payee="other").postings)
    first = of("shop", capture(hold, "c-1", 10, final=False))
    steps = [
        earning(amount=200),
        *(of("shop", one) for one in (hold, lost)),
        of("other", elsewhere),
        first,
        of("shop", capture(hold, "c-2", 20)),
        of("shop", release(lost)),
        of("other", capture(elsewhere, "c-3")),
        of("shop", reversal(first, "r-1", (4,))),
        unnamed(spending("unnamed", amount=5)),
        spending("named", amount=6),
        # A transfer on two pages that names the merchant is told once.
        of("shop", transfer("treat", amount=2)),
        donation(amount=3),
    ]
    posted = []
    for transaction in steps:
        clock.advance(HOUR)
        await services.ledger.post(transaction)
        posted.append((transaction, clock.now()))
    return posted


async def test_a_period_of_one_merchant_is_told_in_its_order(
    services: Services, clock: ManualClock, month: list[tuple[Transaction, datetime]]
) -> None:
    end = clock.now() + HOUR
    own = [(one.key, at) for one, at in month if one.cause.get("merchant") == "shop"]
    assert [key for key, _ in own] == ["h-1", "h-2", "c-1", "c-2", "void-1", "r-1", "named", "treat"]
    assert await stream(services, "shop", None, end) == own
    assert await stream(services, "other", None, end) == [
        (one.key, at) for one, at in month if one.key in {"h-3", "c-3"}
    ]
    assert await stream(services, "nobody", None, end) == []
    assert await stream(services, "merchant:shop", None, end) == []
    # From its first instant on, up to its last instant without it.
    (_, since), (_, until) = own[2], own[5]
    assert await stream(services, "shop", since, until) == own[2:5]
    assert (
        await stream(services, "shop", since + timedelta(milliseconds=1), until + timedelta(milliseconds=1)) == own[3:6]
    )


async def test_what_is_told_is_what_was_posted(
    services: Services, clock: ManualClock, month: list[tuple[Transaction, datetime]]
) -> None:
    found = services.ledger.stream_merchant("shop", since=None, until=clock.now() + HOUR)
    told = {posted.transaction.key: posted async for posted in found}
    by_key = {one.key: (one, at) for one, at in month}
    for key, posted in told.items():
        original, at = by_key[key]
        assert posted == Posted(await services.ledger.find_transaction(original.id) or original, at)
        assert (posted.transaction.id, posted.transaction.payload) == (original.id, original.payload)


async def test_a_balance_is_what_moved_to_the_merchant_less_what_moved_back(
    services: Services, clock: ManualClock, month: list[tuple[Transaction, datetime]]
) -> None:
    times = {one.key: at for one, at in month}
    # Neither what is only held, nor what does not name the merchant, nor what names them and is another's.
    expected = {"h-1": 0, "c-1": 0, "c-2": 10, "r-1": 30, "named": 26, "treat": 32}
    told = {key: await services.ledger.merchant_balance("shop", POINTS, until=times[key]) for key in expected}
    assert told == expected
    assert await services.ledger.merchant_balance("shop", POINTS, until=None) == 32
    assert await services.ledger.merchant_balance("other", POINTS, until=None) == 10
    assert await services.ledger.merchant_balance("shop", QUANTIFIED, until=None) == 0
    assert await services.ledger.merchant_balance("shop", CNY, until=None) == 0
    assert await services.ledger.merchant_balance("nobody", POINTS, until=None) == 0


async def test_a_settled_period_comes_to_zero_however_late_it_is_settled(
    services: Services, clock: ManualClock, month: list[tuple[Transaction, datetime]]
) -> None:
    ledger, until = services.ledger, next(at for one, at in month if one.key == "r-1")
    assert await ledger.merchant_balance("shop", POINTS, until=until) == 30
    clock.advance(timedelta(days=5))
    await ledger.post(settlement("s-1", "shop", 30, 270, 9))
    assert await ledger.merchant_balance("shop", POINTS, until=until) == 0
    # What was refunded and captured since is the next period's.
    assert await ledger.merchant_balance("shop", POINTS, until=None) == 2
    for moment in (until, None):
        assert await ledger.merchant_balance("shop", CNY, until=moment) == 261
    clock.advance(HOUR)
    await ledger.post(payout("p-1", "shop", 261))
    for moment in (until, clock.now(), None):
        assert await ledger.merchant_balance("shop", CNY, until=moment) == 0
    # A correcting statement: a period in which more was refunded than captured.
    await ledger.post(settlement("s-2", "shop", -1, -9, 0))
    assert await ledger.merchant_balance("shop", POINTS, until=until) == 1
    assert await ledger.merchant_balance("shop", CNY, until=None) == -9
    assert [key for key, _ in await stream(services, "shop", until, clock.now() + HOUR)] == [
        "r-1", "named", "treat", "s-1", "p-1", "s-2",
    ]  # fmt: skip
    assert (await replay(services)).findings == []


async def test_a_long_period_is_told_whole_and_in_order_where_times_are_equal(
    services: Services, clock: ManualClock
) -> None:
    count = 2 * BATCH + 7
    spent = [of("shop", spending(f"s-{number}", amount=1)) for number in range(count)]

    async def body(tx: Tx) -> None:
        await services.ledger.post_within(tx, [earning(amount=count), *spent], at=clock.now())

    await Transactions(services.database).run(body)
    found = services.ledger.stream_merchant("shop", since=clock.now(), until=clock.now() + HOUR)
    told = [posted.transaction.id async for posted in found]
    assert told == sorted(one.id for one in spent)
    assert await services.ledger.merchant_balance("shop", POINTS, until=None) == count


async def test_both_readers_go_along_the_index_of_merchants(services: Services, clock: ManualClock) -> None:
    """Without it the server would read the whole book for each statement."""
    await services.ledger.post(earning())
    await services.ledger.post(of("shop", spending()))
    admin = services.database.client.get_database(services.settings.database)
    await admin.command({"profile": 2})
    await stream(services, "shop", None, clock.now() + HOUR)
    await stream(services, "shop", clock.now(), clock.now() + HOUR)
    await services.ledger.merchant_balance("shop", POINTS, until=None)
    await services.ledger.merchant_balance("shop", POINTS, until=clock.now())
    await admin.command({"profile": 0})
    query = {"ns": f"{services.settings.database}.ledger_transactions", "op": {"$in": ["query", "command"]}}
    profiled = await admin["system.profile"].find(query).to_list(None)
    assert [(one["planSummary"], one.get("hasSortStage", False)) for one in profiled] == [
        ("IXSCAN { cause.merchant: 1, at: 1, _id: 1 }", False)
    ] * 4


async def test_reading_changes_nothing(services: Services, clock: ManualClock, month: list[object]) -> None:
    assert month
    before = await dump(services)
    await stream(services, "shop", None, clock.now() + HOUR)
    await services.ledger.merchant_balance("shop", POINTS, until=None)
    assert await dump(services) == before


def test_a_name_in_a_cause_moves_nothing() -> None:
    assert of("shop", transfer()).postings == (posting(account(), account("bob"), 10),)
