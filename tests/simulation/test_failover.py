"""The storms again, on three members, while the primary is told to step down or is killed in the middle."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pymongo.errors import PyMongoError

from backend.ledger.model import POINTS
from backend.mongo.embedded import ReplicaSet, start_replica_set
from tests.factories import capture, earning, holding, owner, replay, spending
from tests.simulation.chance import IS_NIGHTLY, seeded
from tests.simulation.storm import answer_to, balance, check_histories

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any

    from backend.runtime import Services
    from backend.settings import Settings

SPENDERS = 64
TOO_MANY = 16
AMOUNT = 7
HANDS = 200
HISTORIES = 400 if IS_NIGHTLY else 40
STEP_DOWN_S = 2  # how long the old primary may not stand for election again


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """Three members on this machine."""
    with start_replica_set(tmp_path_factory.mktemp("members")) as started:
        yield started


@pytest.fixture
def settings(settings: Settings, replica_set: ReplicaSet) -> Settings:
    """The usual settings, on that replica set."""
    return settings.model_copy(update={"mongodb_url": replica_set.url})


async def step_down(services: Services) -> None:
    """Tell whoever is primary to give way to another member."""
    with suppress(PyMongoError):  # the connection that asks may be among those cut
        await services.database.client.admin.command("replSetStepDown", STEP_DOWN_S, secondaryCatchUpPeriodSecs=1)


async def elections(services: Services) -> int:
    """How many primaries there have been."""
    return int((await services.database.client.admin.command("replSetGetStatus"))["term"])


async def with_step_downs(services: Services, storm: Coroutine[Any, Any, Any], times: int = 1) -> Any:
    """What the storm comes to while the primary steps down."""
    before = await elections(services)
    running = asyncio.create_task(storm)
    for number in range(times):
        await asyncio.sleep(STEP_DOWN_S if number else 0.1)
        await step_down(services)
    answers = await running
    assert await elections(services) >= before + times
    return answers


async def eager(services: Services, number: int, key: str) -> str:
    """A spending that starts somewhere in the first three seconds."""
    await asyncio.sleep(number * 3 / (SPENDERS + TOO_MANY))
    return await answer_to(services, spending(key, amount=AMOUNT))


async def test_spenders_empty_an_account_to_exactly_zero_though_the_primary_steps_down(services: Services) -> None:
    await services.ledger.post(earning(amount=SPENDERS * AMOUNT))
    storm = asyncio.gather(*(eager(services, number, f"pay-{number}") for number in range(SPENDERS + TOO_MANY)))

    async def answers() -> Counter[str]:
        return Counter(await storm)

    assert await with_step_downs(services, answers(), 2) == {"POSTED": SPENDERS, "INSUFFICIENT_FUNDS": TOO_MANY}
    assert await balance(services, "alice") == 0
    audit = await replay(services)
    assert (audit.transactions, audit.findings) == (SPENDERS + 1, [])


async def test_one_key_has_one_effect_though_the_primary_steps_down(services: Services) -> None:
    await services.ledger.post(earning())

    async def answers() -> set[str]:
        return set(await asyncio.gather(*(eager(services, number % 80, "pay") for number in range(HANDS))))

    assert await with_step_downs(services, answers()) == {"POSTED"}
    assert await balance(services, "alice") == 100 - AMOUNT
    audit = await replay(services)
    assert (audit.transactions, audit.findings) == (2, [])


async def test_every_answer_has_an_order_that_explains_it_though_the_primary_steps_down(services: Services) -> None:
    refusals = await with_step_downs(services, check_histories([services], seeded(), HISTORIES))
    assert refusals > HISTORIES // 2
    assert (await replay(services)).findings == []


async def test_a_killed_primary_takes_no_acknowledged_posting_with_it(
    services: Services, replica_set: ReplicaSet
) -> None:
    """Holds and their captures, while the member that takes writes dies and comes back as a follower."""
    await services.ledger.post(earning(amount=SPENDERS * AMOUNT))
    until = services.clock.now() + timedelta(hours=1)

    async def reserve_and_capture(number: int) -> list[str]:
        await asyncio.sleep(number * 3 / SPENDERS)
        hold = holding(f"hold-{number}", amount=AMOUNT, until=until)
        return [await answer_to(services, hold), await answer_to(services, capture(hold, f"post-{number}"))]

    storm = asyncio.gather(*map(reserve_and_capture, range(SPENDERS)))
    await asyncio.sleep(0.5)
    killed = await asyncio.to_thread(replica_set.primary)
    killed.kill()
    await asyncio.to_thread(replica_set.primary)
    await asyncio.to_thread(replica_set.restart, killed)
    assert await storm == [["POSTED", "POSTED"]] * SPENDERS
    page = await services.ledger.get_page(owner())
    assert (page.balance(POINTS), page.holds, page.version) == (0, (), 2 * SPENDERS + 1)
    assert (await replay(services)).findings == []
