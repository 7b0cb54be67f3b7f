"""The expiry run: shards, batches, races, crashes, and pages that nothing can be done about."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import UnavailableError
from backend.kernel.ids import shard_of
from backend.ledger.errors import InsufficientFundsError
from backend.ledger.model import POINTS, Lot
from backend.mongo.transactions import Transactions
from backend.valkey.leases import Leases
from tests.conftest import dump
from tests.factories import account, earning, holding, owner, replay, spending
from tests.integration.conftest import ALL_SHARDS
from tests.integration.expiring import (
    DAY,
    END,
    HOUR,
    INSTANT,
    NEIGHBOURS,
    NOVEMBER,
    SHARD,
    Kind,
    assert_nothing_due,
    earn,
    ended,
    expiry,
    page,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from backend.kernel.clock import Clock, ManualClock
    from backend.kernel.ids import TransactionId
    from backend.ledger.model import Transaction
    from backend.mongo.transactions import Tx
    from backend.runtime import Services


class PostsWithin:
    """As much of the ledger as the expiry run calls; ``before`` is called with the number of each call."""

    def __init__(self, services: Services) -> None:
        self._ledger = services.ledger
        self.calls = 0

    def before(self) -> None:
        """Nothing, here."""

    async def post_within(
        self, tx: Tx, transactions: Sequence[Transaction], *, at: datetime
    ) -> Mapping[TransactionId, datetime]:
        self.calls += 1
        self.before()
        return await self._ledger.post_within(tx, transactions, at=at)


async def test_shards_are_worked_off_one_by_one_and_only_those_asked_for(
    services: Services, clock: ManualClock
) -> None:
    clock.current = NOVEMBER
    names = [f"rider-{number}" for number in range(12)]
    await earn(services, names)
    clock.current = END
    mine = shard_of(owner(names[0]))
    expected = sum(shard_of(owner(name)) == mine for name in names)
    assert await services.expiry.expire_due([mine]) == expected
    assert await ended(services) == {Kind.EXPIRE: expected}
    assert await services.expiry.expire_due([mine]) == 0
    assert await services.expiry.expire_due(ALL_SHARDS) == len(names) - expected
    assert await ended(services) == {Kind.EXPIRE: len(names)}
    await assert_nothing_due(services)


async def test_a_batch_is_one_transaction_and_all_batches_are_worked_off(
    services: Services, clock: ManualClock
) -> None:
    clock.current = NOVEMBER
    await earn(services, NEIGHBOURS)
    await services.ledger.post(earning("carol", "carol"))
    clock.current = END
    before = {item["_id"] for item in (await dump(services))["ledger_unsealed"]}
    assert await expiry(services, batch=4).expire_due([SHARD]) == 10
    committed = [item for item in (await dump(services))["ledger_unsealed"] if item["_id"] not in before]
    assert sorted(len(item["transactions"]) for item in committed) == [2, 4, 4]
    await expiry(services).expire_due(ALL_SHARDS)
    await assert_nothing_due(services)


async def test_run_again_nothing_happens(services: Services, clock: ManualClock) -> None:
    clock.current = NOVEMBER
    await earn(services, NEIGHBOURS)
    clock.current = END
    await services.expiry.expire_due(ALL_SHARDS)
    before = await dump(services)
    assert await services.expiry.expire_due(ALL_SHARDS) == 0
    assert await dump(services) == before


async def test_runs_that_race_end_everything_once(services: Services, clock: ManualClock, lost_redis: Redis) -> None:
    clock.current = NOVEMBER
    await earn(services, NEIGHBOURS)
    for name in NEIGHBOURS:
        await services.ledger.post(holding(f"hold-{name}", account(name), amount=4, until=NOVEMBER + HOUR))
    clock.current = END
    # Without Valkey every worker believes that the shard is its own.
    runs = [expiry(services, batch=size, redis=lost_redis) for size in (1, 3, 250, 4)]
    await asyncio.gather(*(run.expire_due([SHARD]) for run in runs))
    assert await ended(services) == {Kind.EXPIRE: 10, Kind.LAPSE: 10}
    assert {(await page(services, name)).lots for name in NEIGHBOURS} == {(Lot(END + 31 * DAY - INSTANT, 4),)}
    await assert_nothing_due(services)


async def test_a_run_and_spends_that_race_are_explained_by_some_order(services: Services, clock: ManualClock) -> None:
    await earn(services, NEIGHBOURS)
    holds = [holding(f"hold-{name}", account(name), amount=10, until=clock.now() + HOUR) for name in NEIGHBOURS]
    await asyncio.gather(*(services.ledger.post(hold) for hold in holds))
    clock.advance(HOUR)
    spends = [spending(f"spend-{name}", name, amount=10) for name in NEIGHBOURS]
    outcomes = await asyncio.gather(
        *(services.ledger.post(spend) for spend in spends), services.expiry.expire_due([SHARD]), return_exceptions=True
    )
    assert outcomes.pop() == 10
    spent = sum(isinstance(outcome, str) for outcome in outcomes)
    refused = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert all(isinstance(outcome, InsufficientFundsError) and outcome.available == 0 for outcome in refused)
    assert sum([(await page(services, name)).balance(POINTS) for name in NEIGHBOURS]) == 100 - 10 * spent
    await assert_nothing_due(services)


class CrashError(BaseException):
    """The worker dies."""


class DyingLedger(PostsWithin):
    """Dies at its third call."""

    def before(self) -> None:
        if self.calls == 3:
            raise CrashError


async def test_after_a_crash_between_batches_the_next_run_ends_the_rest(services: Services, clock: ManualClock) -> None:
    clock.current = NOVEMBER
    await earn(services, NEIGHBOURS)
    clock.current = END
    with pytest.raises(CrashError):
        await expiry(services, batch=3, ledger=DyingLedger(services)).expire_due([SHARD])
    # Two batches stand; of the third nothing does.
    assert await ended(services) == {Kind.EXPIRE: 6}
    assert (await replay(services)).findings == []
    assert await expiry(services, batch=3).expire_due([SHARD]) == 4
    assert await ended(services) == {Kind.EXPIRE: 10}
    await assert_nothing_due(services)


class DeafTransactions(Transactions):
    """A server that no longer answers."""

    async def run(self, body: Any, *, budget_s: float = 3) -> Any:
        raise UnavailableError


async def test_a_server_that_does_not_answer_ends_the_run(services: Services, clock: ManualClock) -> None:
    clock.current = NOVEMBER
    await earn(services, NEIGHBOURS[:2])
    clock.current = END
    deaf = expiry(services)
    deaf._transactions = DeafTransactions(services.database)
    before = await dump(services)
    with pytest.raises(UnavailableError):
        await deaf.expire_due([SHARD])
    assert await dump(services) == before


BROKEN: Mapping[str, dict[str, Any]] = {
    "a lot of more than the balance": {"$set": {"lots.0.amount": 11}},
    "no lots": {"$unset": {"lots": ""}},
    "lots that are none": {"$set": {"lots": "many"}},
}


async def break_page(services: Services, name: str, change: dict[str, Any]) -> None:
    """Make of the page what no code of ours makes."""

    async def body(tx: Tx) -> None:
        assert await tx.force_one("ledger_pages", {"_id": owner(name)}, change)

    await Transactions(services.database).run(body)


@pytest.mark.parametrize(("batch", "damage"), list(zip((1, 2, 250), BROKEN, strict=True)))
async def test_pages_that_cannot_be_dealt_with_hold_up_no_other(
    services: Services, clock: ManualClock, batch: int, damage: str
) -> None:
    clock.current = NOVEMBER
    await earn(services, NEIGHBOURS)
    bad = {NEIGHBOURS[0], NEIGHBOURS[4], NEIGHBOURS[9]}
    for name in bad:
        await break_page(services, name, BROKEN[damage])
    clock.current = END
    assert await expiry(services, batch=batch).expire_due([SHARD]) == 10
    assert await ended(services) == {Kind.EXPIRE: 7}
    due = {item["_id"] for item in (await dump(services))["ledger_pages"] if item["due_at"] is not None}
    assert due == {owner(name) for name in bad}
    findings = (await replay(services)).findings
    assert {finding.split(":")[1] for finding in findings} <= bad
    assert await expiry(services, batch=batch).expire_due([SHARD]) == 3
    for name in bad:
        await break_page(services, name, {"$set": {"lots": [{"expires_at": END, "amount": 10}]}})
    assert await expiry(services, batch=batch).expire_due([SHARD]) == 3
    assert await ended(services) == {Kind.EXPIRE: 10}
    await assert_nothing_due(services)


class SlowClock:
    """The clock of a server that is five minutes behind."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now() - timedelta(minutes=5)


async def test_a_worker_whose_clock_is_behind_never_turns_time_back(services: Services, clock: ManualClock) -> None:
    await earn(services, ["alice"])
    hold = holding(amount=4, until=clock.now() + HOUR)
    await services.ledger.post(hold)
    clock.advance(HOUR + timedelta(minutes=6))
    await services.ledger.post(earning("later", amount=1))
    slow = SlowClock(clock)
    assert await expiry(services, clock=slow).expire_due([SHARD]) == 1
    after = await page(services)
    assert (after.holds, after.at) == ((), clock.now())
    await assert_nothing_due(services)


async def test_a_shard_that_another_worker_holds_is_left_to_it(services: Services, clock: ManualClock) -> None:
    clock.current = NOVEMBER
    await earn(services, [*NEIGHBOURS, "carol"])
    clock.current = END
    other = shard_of(owner("carol"))
    assert other != SHARD
    async with Leases(services.valkey).hold([f"expire:{SHARD}"], ttl_ms=60_000):
        assert await services.expiry.expire_due(ALL_SHARDS) == 1
        assert (await page(services, "carol")).balance(POINTS) == 0
    assert await services.expiry.expire_due([SHARD]) == 10
    await assert_nothing_due(services)
