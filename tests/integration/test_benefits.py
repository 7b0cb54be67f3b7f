"""Benefit return on a real book: exact parts, points over many rounds, deaths between any two steps, the audit."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.kernel.ids import CitizenId
from backend.ledger.model import (
    BENEFITS,
    CNY,
    EXCHANGE,
    HoldRef,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
)
from backend.market.benefits.documents import PAYMENTS, ROUNDS
from backend.market.benefits.model import RoundStage
from backend.market.benefits.rules import Sharing, cut
from backend.market.benefits.store import Shares
from backend.market.pooling.collections import CONTRIBUTIONS
from backend.market.pooling.model import Benefit
from tests.integration.banking import DAY, FRED
from tests.integration.returning import OTHER, POOL, Dying, LostError, Pool, corrupt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.kernel.clock import ManualClock
    from backend.market.benefits.model import Share
    from backend.runtime import Services

pytestmark = pytest.mark.anyio


@pytest.fixture
def pool(services: Services) -> Pool:
    """A batch that is not issued yet."""
    return Pool(services)


async def test_a_round_is_shared_by_grams_as_fen_or_as_points(pool: Pool) -> None:
    await pool.issue({"alice": 300, "bob": (200, Benefit.POINTS), "carol": 100, "dora": 1}, own={"erik": 50})
    await pool.sell(1_000)
    waiting = await pool.proposed(601)
    assert (waiting.number, waiting.stage, waiting.grams) == (1, RoundStage.PROPOSED, None)
    assert await pool.services.market.paying.work_off() == 0
    running = await pool.services.market.benefits.approve(FRED, waiting.id, key=pool.key())
    assert (running.stage, await pool.left()) == (RoundStage.RUNNING, 1_000)
    assert await pool.findings() == []
    assert await pool.services.market.paying.work_off() == 4
    done = await pool.round(waiting)
    assert (done.stage, done.done_at, done.grams) == (RoundStage.DONE, pool.services.clock.now(), 601)
    assert done.paid._asdict() == {"citizens": 4, "fen": 401, "converted_fen": 200, "points": 2_500}
    money = await pool.money("alice", "bob", "carol", "dora", "erik")
    assert money == [(300, 0), (0, 2_500), (100, 0), (1, 0), (0, 0)]
    assert await pool.left() == 399
    assert await pool.services.market.paying.work_off() == 0
    [payment] = await pool.services.market.benefits.list_payments(
        CitizenId("bob"), limit=9, older=None, newer=None, newest=True
    )
    assert (payment.round, payment.grams, payment.fen, payment.points) == (done.id, 200, 200, 2_500)
    posted = await pool.services.ledger.find_transaction(payment.transaction)
    assert posted is not None
    assert [(moved.to_account, moved.amount) for moved in posted.postings] == [
        (BENEFITS, 200),
        ("citizen:bob:points", 2_500),
    ]
    assert await pool.findings() == []


async def test_whoever_gets_no_fen_gets_nothing_and_the_rest_follows(pool: Pool) -> None:
    await pool.issue({"alice": 1, "bob": 1_000, "carol": 1, "dora": 1_000})
    await pool.sell(3)
    done = await pool.returned()
    assert (done.fen, done.paid.citizens, await pool.left()) == (3, 2, 0)
    assert await pool.money("alice", "bob", "carol", "dora") == [(0, 0), (2, 0), (0, 0), (1, 0)]
    assert await pool.findings() == []


async def test_over_many_rounds_nobody_loses_more_than_a_point(pool: Pool) -> None:
    chance = random.Random(7)
    names = [f"c{number:02}" for number in range(5)]
    await pool.issue({name: (chance.randrange(1, 50), Benefit.POINTS) for name in names})
    spent = dict.fromkeys(names, 0)
    for number in range(1, 13):
        await pool.sell(fen := chance.randrange(1, 40))
        done = await pool.returned()
        assert (done.number, done.paid.converted_fen) == (number, fen)
    for name in names:
        listed = await pool.services.market.benefits.list_payments(
            CitizenId(name), limit=99, older=None, newer=None, newest=True
        )
        spent[name] = sum(payment.fen for payment in listed)
    assert await pool.money(*names) == [(0, spent[name] * 1_250 // 100) for name in names]
    assert await pool.findings() == []


async def test_shares_of_a_batch_are_no_shares_of_another(services: Services) -> None:
    first = Pool(services)
    second = Pool(services, OTHER, 2, first.keys)
    await first.issue({"alice": 1})
    await second.issue({"bob": (1, Benefit.POINTS)})
    await first.sell(10)
    await second.sell(20)
    await asyncio.gather(first.approved(), second.approved())
    assert await services.market.paying.work_off() == 2
    assert await first.money("alice", "bob") == [(10, 0), (0, 250)]
    assert await first.findings() == []


def some_shares(count: int) -> dict[str, int | tuple[int, Benefit]]:
    """So many shares of all sizes, a third of them to be taken as points."""
    chance = random.Random(count)
    return {
        f"c{number:04}": (chance.choice([1, 200, 200, 400, 5_000]), Benefit.POINTS if number % 3 == 0 else Benefit.FEN)
        for number in range(count)
    }


def expected(shares: dict[str, Any], fen: int) -> list[tuple[int, int]]:
    """Fen and points of each of them after one round."""
    sharing = Sharing(cut(fen, [grams for grams, _ in shares.values()]))
    parts = [(sharing.part_of(grams), choice) for grams, choice in shares.values()]
    return [(part, 0) if choice is Benefit.FEN else (0, part * 1_250 // 100) for part, choice in parts]


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("step", range(6))
async def test_a_death_at_any_step_pays_nobody_twice_and_leaves_nobody_out(
    pool: Pool, step: int, *, after_commit: bool
) -> None:
    shares = some_shares(27)
    await pool.issue(shares)
    await pool.sell(997)
    one = await pool.approved()
    # Of 27 shares 21 come to something: five steps of four, and the end with the one who is left.
    transactions = Dying(pool.services, step, after_commit=after_commit)
    # What is no refusal and no server's fault is logged; the round stands as the last commit left it.
    await pool.paying(transactions=transactions, batch_size=4).work_off()
    assert transactions.left == -1
    assert await pool.findings() == []
    paid = (await pool.round(one)).paid
    assert paid.citizens == min(4 * (step + after_commit), 21)
    assert paid.total_fen == 997 - await pool.left()
    assert await pool.services.database.count(PAYMENTS.name, {}) == paid.citizens
    await pool.paying(batch_size=5).work_off()
    done = await pool.round(one)
    assert (done.stage, done.paid.total_fen, await pool.left()) == (RoundStage.DONE, 997, 0)
    assert await pool.money(*shares) == expected(shares, 997)
    assert await pool.findings() == []


@pytest.mark.parametrize("at", [0, 1, 5, 26, 27, 30, 53])
async def test_a_death_while_shares_are_read_leaves_a_whole_number_of_steps(pool: Pool, at: int) -> None:
    shares = some_shares(27)
    await pool.issue(shares)
    await pool.sell(600)
    one = await pool.approved()
    read = 0

    async def dying(batch: Any) -> AsyncIterator[Share]:
        nonlocal read
        async for share in Shares(pool.services.database).stream(batch):
            if read == at:
                raise LostError
            read += 1
            yield share

    await pool.paying(stream_shares=dying, batch_size=4).work_off()
    assert await pool.findings() == []
    assert (await pool.round(one)).stage is RoundStage.RUNNING
    await pool.services.market.paying.work_off()
    assert (await pool.round(one)).stage is RoundStage.DONE
    assert await pool.money(*shares) == expected(shares, 600)
    assert await pool.findings() == []


async def test_a_task_that_is_cancelled_is_gone_on_with(pool: Pool) -> None:
    shares = some_shares(40)
    await pool.issue(shares)
    await pool.sell(5_000)
    one = await pool.approved()
    reached = asyncio.Event()

    async def slow(batch: Any) -> AsyncIterator[Share]:
        async for share in Shares(pool.services.database).stream(batch):
            if share.citizen == "c0030" and (await pool.round(one)).paid.citizens:
                reached.set()
                await asyncio.Event().wait()
            yield share

    task = asyncio.create_task(pool.paying(stream_shares=slow, batch_size=7).work_off())
    await reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert 0 < (await pool.round(one)).paid.citizens < 40
    assert await pool.findings() == []
    await pool.services.market.paying.work_off()
    assert await pool.money(*shares) == expected(shares, 5_000)
    assert await pool.findings() == []


async def test_workers_that_do_not_know_of_one_another_pay_once(pool: Pool) -> None:
    shares = some_shares(60)
    await pool.issue(shares)
    await pool.sell(12_345)

    class Everybodys:
        """Leases that all hold: Valkey is gone."""

        def hold(self, names: Any, *, ttl_ms: int) -> Any:
            @asynccontextmanager
            async def held() -> AsyncIterator[frozenset[str]]:
                yield frozenset(names)

            return held()

    one = await pool.approved()
    workers = [pool.paying(leases=Everybodys(), batch_size=size) for size in (3, 5, 7, 11)]
    await asyncio.gather(*(worker.work_off() for worker in workers))
    await pool.services.market.paying.work_off()
    done = await pool.round(one)
    assert (done.stage, done.paid.total_fen) == (RoundStage.DONE, 12_345)
    assert await pool.money(*shares) == expected(shares, 12_345)
    assert await pool.findings() == []


async def test_a_pool_that_spent_its_fen_meanwhile_pays_when_it_has_them_again(pool: Pool, clock: ManualClock) -> None:
    await pool.issue({"alice": 1, "bob": 1})
    await pool.sell(100)
    one = await pool.approved()
    reserved = Posting(from_account=account_of(POOL, CNY), to_account=EXCHANGE, asset=CNY, amount=60)
    hold = Transaction(key="order-1", kind=TransactionKind.HOLD, postings=(reserved,), expires_at=clock.now() + DAY)
    await pool.services.ledger.post(hold)
    assert await pool.services.market.paying.work_off() == 0
    assert (await pool.round(one)).stage is RoundStage.RUNNING
    assert await pool.money("alice", "bob") == [(0, 0), (0, 0)]
    await pool.services.ledger.post(
        Transaction(key="order-1-void", kind=TransactionKind.VOID, hold=HoldRef(POOL, hold.id))
    )
    assert await pool.services.market.paying.work_off() == 2
    assert await pool.money("alice", "bob") == [(50, 0), (50, 0)]
    assert await pool.findings() == []


async def test_shares_that_changed_stop_the_round_and_hold_up_no_other(services: Services) -> None:
    first = Pool(services)
    second = Pool(services, OTHER, 2, first.keys)
    await first.issue({f"c{number}": 1 for number in range(6)})
    await second.issue({"zoe": 1})
    await first.sell(60)
    await second.sell(5)
    one = await first.approved()
    await first.paying(transactions=Dying(services, 1, after_commit=False), batch_size=2).work_off()
    assert (await first.round(one)).paid.citizens == 2
    await services.database.update_one(CONTRIBUTIONS.name, {"citizen": "c5"}, {"$set": {"pool.last": Int64(10**14)}})
    await second.approved()
    assert await services.market.paying.work_off() == 1
    assert (await first.round(one)).paid.citizens == 2
    assert await first.money("zoe") == [(5, 0)]
    assert any("the shares give" in one for one in await first.findings())


async def test_a_round_that_cannot_be_read_holds_up_no_other(services: Services) -> None:
    first = Pool(services)
    second = Pool(services, OTHER, 2, first.keys)
    await first.issue({"alice": 1})
    await second.issue({"bob": 1})
    await first.sell(10)
    await second.sell(20)
    one = await first.approved()
    await second.approved()
    await corrupt(services, ROUNDS.name, {"_id": one.id}, {"number": "first"})
    assert await services.market.paying.work_off() == 1
    assert await second.money("alice", "bob") == [(0, 0), (20, 0)]
    assert f"benefit_rounds {one.id}: is not of the form of its collection" in await second.findings()
