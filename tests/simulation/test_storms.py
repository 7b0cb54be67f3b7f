"""Many at once on one account, one key, one shard: exact counts, truthful refusals, books that add up."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.audit import audit_books
from backend.kernel.ids import SHARD_COUNT, ShardNumber, shard_of
from backend.ledger.model import POINTS
from backend.runtime import open_services
from tests.factories import (
    bus_ride,
    capture,
    citizen,
    earning,
    holding,
    owner,
    release,
    replay,
    spending,
    transfer,
)
from tests.simulation.chance import IS_NIGHTLY, seeded
from tests.simulation.storm import answer_to, balance, check_histories

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.kernel.clock import ManualClock
    from backend.ledger.model import Transaction
    from backend.runtime import Services
    from backend.settings import Settings

ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]
SPENDERS = 64
TOO_MANY = 16
AMOUNT = 7
HANDS = 200
HISTORIES = 400 if IS_NIGHTLY else 30


@pytest.fixture
async def second(settings: Settings, clock: ManualClock, services: Services) -> AsyncIterator[Services]:
    """Another process's door to the same book."""
    async with open_services(settings, clock) as opened:
        yield opened


def grant(name: str = "alice", amount: int = 100) -> Transaction:
    """New points."""
    return earning(f"grant-{name}", name, amount)


async def test_spenders_empty_an_account_to_exactly_zero(services: Services) -> None:
    await services.ledger.post(grant(amount=SPENDERS * AMOUNT))
    spendings = [transfer(key=f"pay-{number}", payee=f"shop-{number % 5}", amount=AMOUNT) for number in range(SPENDERS)]
    answers = Counter(await asyncio.gather(*(answer_to(services, spending) for spending in spendings)))
    # All of it was there, so nobody may hear that it was not.
    assert answers == {"POSTED": SPENDERS}
    assert await balance(services, "alice") == 0
    assert sum([await balance(services, f"shop-{number}") for number in range(5)]) == SPENDERS * AMOUNT
    assert (await replay(services)).findings == []


async def test_of_too_many_spenders_exactly_those_who_must_are_refused(services: Services) -> None:
    await services.ledger.post(grant(amount=SPENDERS * AMOUNT + AMOUNT - 1))
    spendings = [transfer(key=f"pay-{number}", amount=AMOUNT) for number in range(SPENDERS + TOO_MANY)]
    answers = Counter(await asyncio.gather(*(answer_to(services, spending) for spending in spendings)))
    assert answers == {"POSTED": SPENDERS, "INSUFFICIENT_FUNDS": TOO_MANY}
    assert (await balance(services, "alice"), await balance(services, "bob")) == (AMOUNT - 1, SPENDERS * AMOUNT)
    assert (await replay(services)).findings == []


async def test_one_key_in_two_hundred_hands_has_one_effect(services: Services, second: Services) -> None:
    await services.ledger.post(grant())
    doors = [(services, second)[number % 2] for number in range(HANDS)]
    answers = Counter(await asyncio.gather(*(answer_to(door, transfer(amount=5)) for door in doors)))
    assert answers == {"POSTED": HANDS}
    assert (await balance(services, "alice"), await balance(services, "bob")) == (95, 5)
    audit = await replay(services)
    assert (audit.transactions, audit.findings) == (2, [])


async def test_one_key_with_two_payloads_has_one_effect_and_one_answer(services: Services) -> None:
    await services.ledger.post(grant())
    hands = [(amount, transfer(amount=amount)) for _ in range(50) for amount in (5, 6)]
    answers = await asyncio.gather(*(answer_to(services, transaction) for _, transaction in hands))
    won = {amount for (amount, _), answer in zip(hands, answers, strict=True) if answer == "POSTED"}
    assert Counter(answers) == {"POSTED": 50, "IDEMPOTENCY_CONFLICT": 50}
    assert await balance(services, "bob") == won.pop()
    assert won == set()


async def test_a_market_of_random_transfers_neither_makes_nor_loses_a_point(services: Services) -> None:
    chance = seeded()
    people = [f"p{number}" for number in range(6)]
    await asyncio.gather(*(services.ledger.post(grant(name, 60)) for name in people))
    pairs = [chance.sample(people, 2) for _ in range(150)]
    transfers = [
        transfer(f"pay-{number}", payer, payee, chance.randint(1, 40)) for number, (payer, payee) in enumerate(pairs)
    ]
    answers = await asyncio.gather(*(answer_to(services, item) for item in transfers))
    assert set(answers) <= {"POSTED", "INSUFFICIENT_FUNDS"}
    balances = [await balance(services, name) for name in people]
    assert sum(balances) == 6 * 60
    assert min(balances) >= 0
    audit = await replay(services)
    assert (audit.transactions, audit.findings) == (6 + answers.count("POSTED"), [])
    # Again, all together: every answer that was yes stays yes and moves nothing.
    posted = [item for item, answer in zip(transfers, answers, strict=True) if answer == "POSTED"]
    assert set(await asyncio.gather(*(answer_to(services, item) for item in posted))) == {"POSTED"}
    assert [await balance(services, name) for name in people] == balances


async def test_two_processes_empty_an_account_to_exactly_zero(services: Services, second: Services) -> None:
    await services.ledger.post(grant(amount=SPENDERS * AMOUNT))
    spendings = [spending(f"pay-{number}", amount=AMOUNT) for number in range(SPENDERS + TOO_MANY)]
    doors = [(services, second)[number % 2] for number in range(len(spendings))]
    answers = Counter(await asyncio.gather(*map(answer_to, doors, spendings)))
    assert answers == {"POSTED": SPENDERS, "INSUFFICIENT_FUNDS": TOO_MANY}
    page = await second.ledger.get_page(owner())
    assert (page.balance(POINTS), page.lots, page.version) == (0, (), SPENDERS + 1)
    assert (await replay(services)).findings == []


async def test_every_answer_has_an_order_that_explains_it(services: Services) -> None:
    assert await check_histories([services], seeded(), HISTORIES) > HISTORIES
    assert (await replay(services)).findings == []


async def test_answers_of_two_processes_have_one_order_that_explains_them(services: Services, second: Services) -> None:
    assert await check_histories([services, second], seeded(), HISTORIES) > HISTORIES
    assert (await replay(services)).findings == []


async def test_earnings_and_spendings_that_race_all_count_once(services: Services, second: Services) -> None:
    amounts = range(1, SPENDERS + 1)
    earnings = [earning(f"earn-{amount}", amount=amount) for amount in amounts]
    spendings = [spending(f"pay-{amount}", amount=amount) for amount in amounts]
    answers = await asyncio.gather(
        *(answer_to(services, one) for one in earnings), *(answer_to(second, one) for one in spendings)
    )
    assert answers[:SPENDERS] == ["POSTED"] * SPENDERS
    spent = [amount for amount, answer in zip(amounts, answers[SPENDERS:], strict=True) if answer == "POSTED"]
    assert set(answers) <= {"POSTED", "INSUFFICIENT_FUNDS"}
    assert await balance(services, "alice") == sum(amounts) - sum(spent)
    # Those who were refused come again: now all of it is there.
    assert {await answer_to(services, one) for one in spendings} == {"POSTED"}
    assert await balance(services, "alice") == 0
    audit = await replay(services)
    assert (audit.transactions, audit.findings) == (2 * SPENDERS, [])


async def test_a_hold_is_posted_or_voided_or_lapses_but_never_two_of_them(
    services: Services, second: Services, clock: ManualClock
) -> None:
    chance = seeded()
    await services.ledger.post(grant(amount=SPENDERS * AMOUNT))
    until = clock.now() + timedelta(seconds=SPENDERS)
    holds = [holding(f"hold-{number}", amount=AMOUNT, until=until) for number in range(SPENDERS)]
    assert await asyncio.gather(*(answer_to(services, hold) for hold in holds)) == ["POSTED"] * SPENDERS

    async def finish(number: int, hold: Transaction) -> str:
        """Early ones in time, late ones when the hold is over, those between in the middle of the clock's jump."""
        await asyncio.sleep(number * 0.004)
        ends = capture(hold, f"end-{number}") if number % 4 else release(hold, f"end-{number}")
        return await answer_to(chance.choice([services, second]), ends)

    async def lapse() -> None:
        await asyncio.sleep(SPENDERS * 0.002)
        clock.advance(timedelta(seconds=SPENDERS))
        for door in (services, second) * 10:
            await door.expiry.expire_due([shard_of(owner())])
            await asyncio.sleep(0.01)

    *answers, _ = await asyncio.gather(*(finish(number, hold) for number, hold in enumerate(holds)), lapse())
    transactions = await services.database.raw["ledger_transactions"].find({"hold": {"$exists": True}}).to_list(None)
    ended = Counter(document["hold"]["id"] for document in transactions)
    assert ended == {hold.id: 1 for hold in holds}
    kinds = Counter(document["kind"] for document in transactions)
    accepted = [number for number, answer in enumerate(answers) if answer == "POSTED"]
    assert {"POSTED"} < set(answers) <= {"POSTED", "HOLD_EXPIRED", "HOLD_NOT_ACTIVE"}
    posted = sum(bool(number % 4) for number in accepted)
    assert (kinds["POST"], kinds["VOID"]) == (posted, len(accepted) - posted)
    assert kinds["LAPSE"] == SPENDERS - len(accepted) > 0
    page = await services.ledger.get_page(owner())
    assert (page.holds, page.balance(POINTS)) == ((), (SPENDERS - posted) * AMOUNT)
    assert page.available(POINTS, clock.now()) == page.balance(POINTS)
    assert (await replay(services)).findings == []


async def test_holds_and_spendings_together_reserve_no_point_twice(services: Services, second: Services) -> None:
    await services.ledger.post(grant(amount=SPENDERS * AMOUNT))
    until = services.clock.now() + timedelta(hours=1)
    asked = [
        holding(f"hold-{number}", amount=AMOUNT, until=until)
        if number % 2
        else spending(f"pay-{number}", amount=AMOUNT)
        for number in range(2 * SPENDERS)
    ]
    doors = [(services, second)[number % 3 // 2] for number in range(len(asked))]
    answers = Counter(await asyncio.gather(*map(answer_to, doors, asked)))
    assert answers == {"POSTED": SPENDERS, "INSUFFICIENT_FUNDS": SPENDERS}
    page = await services.ledger.get_page(owner())
    assert (page.available(POINTS, services.clock.now()), page.balance(POINTS)) == (0, page.held(POINTS))
    assert page.held(POINTS) == AMOUNT * len(page.holds)
    audit = await replay(services)
    assert (audit.findings, audit.balances["merchant:*:points"]) == ([], SPENDERS * AMOUNT - page.held(POINTS))


async def test_recording_and_settling_at_once_credits_each_act_once(services: Services) -> None:
    names = [f"rider-{number:03}" for number in range(100)]
    done = asyncio.Event()

    async def record(name: str) -> None:
        for number in range(3):
            await services.actions.record(citizen(name), bus_ride(f"{name}-{number}"), key=f"key-{number:04}")

    async def work() -> int:
        settled = 0
        while not done.is_set():
            settled += await services.settling.settle(ALL_SHARDS)
            await asyncio.sleep(0)
        return settled

    workers = [asyncio.create_task(work()) for _ in range(3)]
    await asyncio.gather(*(record(name) for name in names))
    done.set()
    settled = sum(await asyncio.gather(*workers)) + await services.settling.settle(ALL_SHARDS)
    assert settled == 300
    audit = await audit_books(services)
    assert (audit.actions, audit.transactions, audit.findings) == (300, 300, [])
    assert {await balance(services, name) for name in names} == {3 * 40}
