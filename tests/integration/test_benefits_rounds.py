"""Rounds of benefit return: who proposes, approves and ends them, when, and at what rate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.ledger.errors import InsufficientFundsError
from backend.ledger.model import (
    CNY,
    EXCHANGE,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
)
from backend.market.benefits.documents import ROUNDS
from backend.market.benefits.errors import NoSharesError, RateTooHighError, RoundOpenError, RoundStageError
from backend.market.benefits.model import RoundStage
from backend.market.benefits.service import Benefits
from backend.market.benefits.store import Shares
from backend.market.funds.errors import OwnInterestError
from backend.market.pooling.errors import UnknownBatchError, WrongBatchStageError
from backend.market.pooling.model import BatchStage, Benefit
from backend.mongo.transactions import Transactions
from tests.conftest import dump
from tests.integration.banking import DAY, FAY, FRED
from tests.integration.returning import CODE, OTHER, POOL, Dying, Pool, refused
from tests.unit.rewards.trading import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from backend.kernel.clock import ManualClock
    from backend.market.benefits.model import Share
    from backend.runtime import Services

pytestmark = pytest.mark.anyio


@pytest.fixture
def pool(services: Services) -> Pool:
    """A batch that is not issued yet."""
    return Pool(services)


async def test_one_round_of_a_batch_at_a_time(pool: Pool) -> None:
    await pool.issue({"alice": 1})
    await pool.sell(100)
    answers = await asyncio.gather(*(pool.proposed(10) for _ in range(4)), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Round", *["RoundOpenError"] * 3]
    [one] = [answer for answer in answers if not isinstance(answer, BaseException)]
    benefits = pool.services.market.benefits
    await benefits.reject(FAY, one.id, "太少", key=pool.key())
    second = await pool.approved(20)
    await refused(pool, pool.proposed(10), RoundOpenError)
    await pool.services.market.paying.work_off()
    await refused(pool, benefits.reject(FRED, second.id, "x", key=pool.key()), RoundStageError)
    assert (await pool.returned()).fen == 80
    assert [one.number for one in [await pool.round(second)]] == [2]
    assert await pool.findings() == []


async def test_decisions_that_come_together_are_one(pool: Pool) -> None:
    await pool.issue({"alice": 1})
    await pool.sell(100)
    one, benefits = await pool.proposed(), pool.services.market.benefits
    asked: list[Awaitable[Any]] = [benefits.approve(who, one.id, key=pool.key()) for who in (FRED, ROOT)]
    asked += [benefits.reject(who, one.id, "x", key=pool.key()) for who in (FRED, ROOT)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    stages = [answer.stage for answer in answers if not isinstance(answer, BaseException)]
    # What was approved may still be turned down, not the other way round.
    assert sorted(stages) in (["REJECTED"], ["REJECTED", "RUNNING"])
    assert [type(one) for one in answers if isinstance(one, BaseException)] == [RoundStageError] * (4 - len(stages))
    assert (await pool.round(one)).stage is RoundStage.REJECTED


async def test_a_round_that_runs_is_ended_until_it_has_paid_somebody(pool: Pool) -> None:
    await pool.issue({f"c{number}": 1 for number in range(6)})
    await pool.sell(60)
    benefits, first = pool.services.market.benefits, await pool.approved(30)
    ended = await benefits.reject(FRED, first.id, "池内资金不足", key=pool.key())
    assert (ended.stage, ended.reason) == (RoundStage.REJECTED, "池内资金不足")
    assert (await pool.services.market.paying.work_off(), await pool.left()) == (0, 60)
    second = await pool.approved(60)
    await pool.paying(transactions=Dying(pool.services, 1, after_commit=False), batch_size=2).work_off()
    assert (await pool.round(second)).paid.citizens == 2
    await refused(pool, benefits.reject(FRED, second.id, "x", key=pool.key()), RoundStageError)
    await pool.services.market.paying.work_off()
    assert await pool.money("c0", "c5") == [(10, 0), (10, 0)]
    assert await pool.findings() == []


@pytest.mark.parametrize("turn", range(4))
async def test_of_ending_a_round_and_paying_it_one_takes_effect(pool: Pool, turn: int) -> None:
    await pool.issue({f"c{number}": 1 for number in range(6)})
    await pool.sell(60)
    one = await pool.approved(60)

    async def late(batch: Any) -> AsyncIterator[Share]:
        # So many shares later than the other the worker comes to its first payment.
        async for share in Shares(pool.services.database).stream(batch):
            for _ in range(turn):
                await pool.round(one)
            yield share

    ended, _ = await asyncio.gather(
        pool.services.market.benefits.reject(FRED, one.id, "x", key=pool.key()),
        pool.paying(stream_shares=late, batch_size=2).work_off(),
        return_exceptions=True,
    )
    await pool.services.market.paying.work_off()
    stands = await pool.round(one)
    is_ended = not isinstance(ended, BaseException)
    assert is_ended or isinstance(ended, RoundStageError)
    assert (stands.stage, await pool.left()) == ((RoundStage.REJECTED, 60) if is_ended else (RoundStage.DONE, 0))
    assert await pool.findings() == []


async def test_a_round_that_is_ended_after_a_worker_listed_it_pays_nobody(services: Services) -> None:
    first = Pool(services)
    second = Pool(services, OTHER, 2, first.keys)
    await first.issue({"alice": 1})
    await second.issue({"bob": 1})
    await first.sell(10)
    await second.sell(20)
    await first.approved()
    listed = await second.approved()

    async def ending(batch: Any) -> AsyncIterator[Share]:
        if (await second.round(listed)).stage is RoundStage.RUNNING:
            await services.market.benefits.reject(FRED, listed.id, "x", key=second.key())
        async for share in Shares(services.database).stream(batch):
            yield share

    assert await first.paying(stream_shares=ending).work_off() == 1
    assert (await second.round(listed)).stage is RoundStage.REJECTED
    assert await first.money("alice", "bob") == [(10, 0), (0, 0)]
    assert await second.findings() == []


async def test_whoever_contributed_to_a_batch_neither_proposes_nor_approves_its_rounds(pool: Pool) -> None:
    await pool.issue({"alice": 1, "bob": 1}, own={"erik": 5})
    await pool.sell(100)
    benefits, finance = pool.services.market.benefits, frozenset({StaffRole.FINANCE})
    one = await pool.proposed(50)
    for name in ("alice", "erik"):
        staff = Principal(PrincipalKind.STAFF, name, finance)
        await refused(pool, benefits.approve(staff, one.id, key=pool.key()), OwnInterestError)
    await benefits.reject(FRED, one.id, "x", key=pool.key())
    alice = Principal(PrincipalKind.STAFF, "alice", finance)
    await refused(pool, benefits.propose(alice, CODE, 10, key=pool.key()), OwnInterestError)
    zoe = Principal(PrincipalKind.STAFF, "zoe", finance)
    assert (await benefits.propose(zoe, CODE, 10, key=pool.key())).stage is RoundStage.PROPOSED


async def test_a_rate_beyond_all_reason_mints_nothing(pool: Pool) -> None:
    await pool.issue({"alice": (1, Benefit.POINTS)})
    await pool.sell(100)
    services = pool.services
    generous = Benefits(
        database=services.database,
        transactions=Transactions(services.database),
        ledger=services.ledger,
        clock=services.clock,
        points_per_yuan=10_001,
        stream_shares=Shares(services.database).stream,
    )
    await refused(pool, generous.propose(FAY, CODE, None, key=pool.key()), RateTooHighError)
    one = await pool.proposed()
    forged = {"$set": {"points_per_yuan": Int64(999_999)}}
    assert await services.database.update_one(ROUNDS.name, {"_id": one.id}, forged)
    await refused(pool, services.market.benefits.approve(FRED, one.id, key=pool.key()), RateTooHighError)
    approval = {"stage": "RUNNING", "decided_by": "staff:fred", "decided_at": services.clock.now()}
    assert await services.database.update_one(ROUNDS.name, {"_id": one.id}, {"$set": approval})
    assert (await services.market.paying.work_off(), await pool.money("alice")) == (0, [(0, 0)])
    assert any("gives 999999 points for a yuan" in finding for finding in await pool.findings())


async def test_keys_are_remembered_for_what_they_began_after_they_are_forgotten(pool: Pool) -> None:
    await pool.issue({"alice": 1})
    await pool.sell(100)
    benefits = pool.services.market.benefits
    made = await benefits.propose(FAY, CODE, 40, key="key-0001")
    assert await benefits.propose(FAY, CODE, 40, key="key-0001") == made
    await pool.services.database.raw["idempotency_keys"].delete_many({})
    before = await dump(pool.services)
    assert await benefits.propose(FAY, CODE, 40, key="key-0001") == made
    assert await dump(pool.services) == before
    await refused(pool, benefits.propose(FAY, CODE, 41, key="key-0001"), IdempotencyConflictError)


async def test_what_cannot_be_shared_is_refused(pool: Pool) -> None:
    await refused(pool, pool.proposed(5), UnknownBatchError)
    await pool.issue({"alice": 1}, stage=BatchStage.ISSUING)
    await refused(pool, pool.proposed(5), WrongBatchStageError)
    await pool.services.database.update_one("market_batches", {}, {"$set": {"stage": "ISSUED"}})
    lacking = await refused(pool, pool.proposed(), InsufficientFundsError)
    assert (lacking.needed, lacking.available) == (1, 0)  # type: ignore[attr-defined]
    await pool.sell(100)
    lacking = await refused(pool, pool.proposed(101), InsufficientFundsError)
    assert (lacking.needed, lacking.available) == (101, 100)  # type: ignore[attr-defined]
    for fen in (0, -1, 10**13 + 1):
        await refused(pool, pool.proposed(fen), InvalidInputError)
    empty = Pool(pool.services, OTHER, 2, pool.keys)
    await empty.issue({}, own={"erik": 5})
    await empty.sell(10)
    await refused(empty, empty.proposed(), NoSharesError)


async def test_a_pool_that_spent_its_fen_before_the_approval_is_told_so(pool: Pool, clock: ManualClock) -> None:
    await pool.issue({"alice": 1})
    await pool.sell(100)
    one = await pool.proposed()
    reserved = Posting(from_account=account_of(POOL, CNY), to_account=EXCHANGE, asset=CNY, amount=1)
    await pool.services.ledger.post(
        Transaction(key="order-1", kind=TransactionKind.HOLD, postings=(reserved,), expires_at=clock.now() + DAY)
    )
    benefits = pool.services.market.benefits
    await refused(pool, benefits.approve(FRED, one.id, key=pool.key()), InsufficientFundsError)
