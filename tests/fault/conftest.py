"""Deployments that are broken on purpose: real servers, API, worker and beat as child processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from backend.actions.model import Status
from backend.audit import audit_books
from backend.cli.city import seed_city
from backend.cli.client import Client, ClientError
from backend.identity.model import ExternalId
from backend.kernel.ids import CitizenId
from backend.runtime import Services, open_services
from backend.settings import Settings
from backend.stack import READY_MARK, Stack, running_stack
from tests.simulation.chance import chosen_seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from backend.ledger.audit.findings import Audit

RIDERS = 1_000
# 1 km of shared bicycle: 33.88 g, 33 points; at most ten trips and 30 km a day and citizen count (R-BIK1).
METRES, REDUCTION_MG, POINTS = 1_000, 33_880, 33
SETTLE_TIMEOUT_S = 100
RETRY_PAUSE_S = 0.05


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running deployment; starting one takes longer than a crash and its recovery, so a module's tests share it."""
    data_dir = tmp_path_factory.mktemp("stack")
    settings = Settings().model_copy(update={"data_dir": data_dir, "mongodb_url": None, "valkey_url": None})
    with running_stack(settings) as running:
        yield running


@pytest.fixture
def seed() -> int:
    """The seed of a test's chance, printed where it fails."""
    return chosen_seed()


@dataclass
class Recorder:
    """The bicycle operator's system: sends trips until it is told that they are stored, whatever happens meanwhile."""

    client: Client
    chance: Random
    started_at: datetime
    riders: Sequence[str]
    acknowledged: set[str] = field(default_factory=set)
    retries: int = 0
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def trip(self) -> dict[str, Any]:
        """The next trip: the riders in turn."""
        number = next(self.numbers)
        moment = self.started_at - timedelta(minutes=self.chance.randrange(60, 60 * 24 * 5))
        return {
            "kind": "bike_share",
            "quantity": METRES,
            "unit": "METRE",
            "occurredAt": moment.isoformat(),
            "source": "bike-share",
            "ref": f"trip-{self.riders[0]}-{number:05}",
            "externalId": self.riders[number % len(self.riders)],
        }

    async def record(self, count: int) -> None:
        """Record so many trips, in batches of up to 100 and now and then one by one, several calls at a time."""
        turn = asyncio.Semaphore(6)
        async with asyncio.TaskGroup() as calls:
            while count:
                size = min(count, 1 if self.chance.randrange(3) else self.chance.randint(20, 100))
                count -= size
                await turn.acquire()
                call = calls.create_task(self._insist([self.trip() for _ in range(size)]))
                call.add_done_callback(lambda _: turn.release())

    async def _insist(self, trips: list[dict[str, Any]]) -> None:
        key = f"key-{trips[0]['ref']}"
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while True:
            try:
                stored = await self._send(trips, key)
            except (ClientError, httpx.HTTPError, OSError, ValueError):
                # Not acknowledged: what became of it is unknown, so it is sent again under its key.
                self.retries += 1
                assert time.monotonic() < deadline, "the deployment did not come back"
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                self.acknowledged.update(stored)
                return

    async def _send(self, trips: list[dict[str, Any]], key: str) -> list[str]:
        if len(trips) == 1:
            data = await self.client.call("RecordAction", {"input": {**trips[0], "idempotencyKey": key}})
            results = [data["recordAction"]]
        else:
            data = await self.client.call("RecordActions", {"input": {"idempotencyKey": key, "actions": trips}})
            results = data["recordActions"]["results"]
        assert {result["__typename"] for result in results} == {"Action"}, results
        return [result["id"] for result in results]


@dataclass
class Scene:
    """A deployment under load, and what to ask when it is over."""

    stack: Stack
    services: Services
    recorder: Recorder
    before: Audit
    is_over: bool = False

    async def supervise(self) -> None:
        """What ``tanhui up`` does all the time: start again whatever ended."""
        while not self.is_over:
            await asyncio.to_thread(self.stack.supervise)
            await asyncio.sleep(0.1)

    async def recorded(self, count: int) -> None:
        """Wait until so many trips are acknowledged."""
        await self._until(lambda: len(self.recorder.acknowledged) >= count)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while not holds():  # noqa: ASYNC110 - other processes set no event here
                await asyncio.sleep(0.01)

    async def credited_beyond(self, count: int) -> int:
        """Wait until more than so many are credited; how many are."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while (credited := await self.credited()) <= count:  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.01)
        return credited

    async def ready_again(self, name: str, starts: int) -> None:
        """Wait until the worker's log says so many times that it is ready."""
        await self._until(lambda: self.stack.log_file(name).read_bytes().count(READY_MARK) >= starts)

    def kill(self, name: str) -> None:
        """End mongod, or a child and all it forked, as a crash would."""
        if name == "mongod":
            assert self.stack.servers.mongo is not None
            self.stack.servers.mongo.kill()
            return
        os.killpg(self.stack.children[name].pid, signal.SIGKILL)

    async def credited(self) -> int:
        """How many are credited by now."""
        totals = await self.services.actions.list_totals()
        return sum(total.count for total in totals if total.status is Status.CREDITED) - self.before.actions

    async def settled(self) -> Counter[Status]:
        """Wait until nothing is pending; how many actions ended in each status."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while True:
                statuses: Counter[Status] = Counter()
                with suppress(Exception):  # a server that is just starting again
                    for total in await self.services.actions.list_totals():
                        statuses[total.status] += total.count
                    if statuses and not statuses[Status.PENDING]:
                        return statuses
                await asyncio.sleep(0.1)

    async def killed(self, victims: Iterable[str], chance: Random, longest_peace_s: float) -> None:
        """Kill these one after another, each at a random instant, of its start perhaps, once something was recorded."""
        for name in victims:
            await self.recorded(len(self.recorder.acknowledged) + 1)
            await asyncio.sleep(chance.random() * longest_peace_s)
            while not self.is_alive(name):  # noqa: ASYNC110 - the supervisor, which starts it again, sets no event
                await asyncio.sleep(0.01)
            self.kill(name)

    def is_alive(self, name: str) -> bool:
        """Whether this server or child runs."""
        if name == "mongod":
            return self.stack.servers.mongo is not None and self.stack.servers.mongo.is_running()
        return self.stack.children[name].poll() is None

    async def check(self, count: int) -> None:
        """Every acknowledged trip exists and is credited once, to the gram and the point, and the books add up."""
        assert len(self.recorder.acknowledged) == count
        everything = self.before.actions + count
        assert await self.settled() == {Status.CREDITED: everything}
        totals = await self.services.actions.list_totals()
        assert sum(total.points for total in totals) == everything * POINTS
        assert sum(total.reduction_mg for total in totals) == everything * REDUCTION_MG
        audit = await audit_books(self.services)
        assert audit.findings == []
        assert (audit.actions, audit.transactions) == (everything, everything)
        assert audit.balances["citizen:*:points"] == everything * POINTS


@asynccontextmanager
async def scene(stack: Stack, seed: int) -> AsyncIterator[Scene]:
    """Bound riders, and an operator's system about to record; supervised."""
    async with open_services(stack.settings) as services, httpx.AsyncClient(timeout=10) as http:
        city = await seed_city(services, citizens=1)
        before = await audit_books(services)
        # Riders who never rode before, so that no cap is met.
        riders = [CitizenId(f"rider-{before.actions + number:06}") for number in range(RIDERS)]
        await services.identity.register_citizens(dict.fromkeys(riders, "骑行者"))
        await services.identity.bind({ExternalId("bike-share", rider): rider for rider in riders})
        operator = Client(http, stack.url, city.partner_tokens["bikes"])
        recorder = Recorder(operator, Random(seed), services.clock.now(), riders)
        playing = Scene(stack, services, recorder, before)
        supervisor = asyncio.create_task(playing.supervise())
        try:
            yield playing
        finally:
            playing.is_over = True
            await supervisor
