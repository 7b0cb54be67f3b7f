"""Records over HTTP to points on the phone: latency at a steady rate, then sustained rates recorded *and* settled.

Side by side in one run: raw ``insert_many`` of the same action documents on the same mongod.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import orjson
from bson import Int64

from backend.actions.model import Status
from backend.audit import audit_books
from backend.cli.city import City, seed_city
from backend.cli.client import Client
from backend.cli.console import quiet_logs, with_services
from backend.cli.day import steps
from backend.identity.model import Principal, PrincipalKind
from backend.settings import Settings
from backend.stack import running_stack
from loadtests.report import Figure, report
from schemas.operations import read_operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backend.runtime import Services

CITIZENS = 500
WATCHERS = 25
PACE_PER_S = 100
PACED = 3_000
SINGLES = 6_000
CONCURRENT = 64
BATCHES = 40
BATCH = 500
TIMEOUT_S = 120
LIFETIME = timedelta(hours=1)


class Bench:
    """One run against one stack."""

    def __init__(self, url: str, services: Services, city: City, session: aiohttp.ClientSession) -> None:
        self.services = services
        self.url = url
        self.session = session
        self.tokens = [
            services.tokens.issue(Principal(PrincipalKind.CITIZEN, citizen), LIFETIME) for citizen in city.citizens
        ]

    async def call(self, number: int, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """One mutation of citizen ``number``; the load client must cost less than what it loads, hence not httpx."""
        body = orjson.dumps({"query": read_operation(operation), "variables": {"input": given}})
        headers = {"Authorization": f"Bearer {self.tokens[number]}", "Content-Type": "application/json"}
        async with self.session.post(f"{self.url}/graphql", data=body, headers=headers) as response:
            answer = orjson.loads(await response.read())
        data: dict[str, Any] = answer["data"]
        return data

    def _input(self, ref: str) -> dict[str, Any]:
        return steps(self.services.clock.now(), ref)

    async def record(self, number: int, ref: str) -> str:
        """Record one act for citizen ``number``; its id."""
        given = {**self._input(ref), "idempotencyKey": f"key-{ref}"}
        data = await self.call(number % CITIZENS, "RecordAction", given)
        result: str = data["recordAction"]["id"]
        return result

    async def latency_ms(self) -> list[int]:
        """Milliseconds from sending a record to its event on a subscribed phone, at a steady pace."""
        sent: dict[str, float] = {}
        latencies: list[int] = []
        ready = [asyncio.Event() for _ in range(WATCHERS)]

        async def watch(number: int) -> None:
            left = len(range(number, PACED, CITIZENS))
            phone = Client(httpx.AsyncClient(), self.url, self.tokens[number])
            async with phone.http, phone.watch("ActionSettled") as events:
                await asyncio.sleep(0.3)
                ready[number].set()
                async for payload in events:
                    seen = time.monotonic()
                    action = payload["data"]["actionSettled"]["id"]
                    while action not in sent:  # noqa: ASYNC110 - the event can overtake the reply
                        await asyncio.sleep(0.001)
                    latencies.append(int((seen - sent[action]) * 1000))
                    left -= 1
                    if not left:
                        return

        async def send(number: int) -> None:
            asked = time.monotonic()
            sent.setdefault(await self.record(number, f"paced-{number:06}"), asked)

        async with asyncio.timeout(PACED / PACE_PER_S + TIMEOUT_S), asyncio.TaskGroup() as tasks:
            for number in range(WATCHERS):
                tasks.create_task(watch(number))
            await asyncio.gather(*(event.wait() for event in ready))
            begun = time.monotonic()
            for number in range(PACED):
                await asyncio.sleep(max(0.0, begun + number / PACE_PER_S - time.monotonic()))
                tasks.create_task(send(number))
        return sorted(latencies)

    async def sustained(
        self, count: int, send: Callable[[int], Awaitable[None]], *, at_once: int, per_call: int = 1
    ) -> tuple[int, int]:
        """Actions accepted per second, and actions settled per second counted to the end of the last settlement."""
        gate = asyncio.Semaphore(at_once)

        async def one(number: int) -> None:
            async with gate:
                await send(number)

        begun = time.monotonic()
        await asyncio.gather(*(one(number) for number in range(count)))
        accepted = time.monotonic() - begun
        await self.settled()
        return round(count * per_call / accepted), round(count * per_call / (time.monotonic() - begun))

    async def settled(self) -> None:
        """Return once nothing is pending."""
        async with asyncio.timeout(TIMEOUT_S):
            while any(t.status is Status.PENDING for t in await self.services.actions.list_totals()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def single(self, number: int) -> None:
        """One act by one request."""
        await self.record(number, f"single-{number:06}")

    async def batch(self, number: int) -> None:
        """Five hundred acts by one request."""
        acts = [self._input(f"batch-{number:04}-{place:03}") for place in range(BATCH)]
        key = {"idempotencyKey": f"key-{number:08}"}
        await self.call(number, "RecordActions", {**key, "actions": acts})

    async def raw_inserts_per_s(self) -> int:
        """The same action documents by plain ``insert_many`` of the same size, equally durable."""
        database = self.services.database
        documents = await database.find("actions", {}, limit=BATCH)
        begun = time.monotonic()
        for number in range(BATCHES):
            copies = [{**document, "_id": f"{document['_id']}-{number}", "shard": Int64(0)} for document in documents]
            await database.insert_many("raw_actions", copies)
        rate = int(BATCHES * len(documents) / (time.monotonic() - begun))
        await database.raw.drop_collection("raw_actions")
        return rate


async def measure(services: Services, url: str) -> dict[str, Figure]:
    """All figures of this benchmark."""
    city = await seed_city(services, CITIZENS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENT)) as session:
        bench = Bench(url, services, city, session)
        latencies = await bench.latency_ms()
        single, single_credited = await bench.sustained(SINGLES, bench.single, at_once=CONCURRENT)
        batch, batch_credited = await bench.sustained(BATCHES, bench.batch, at_once=4, per_call=BATCH)
        raw = await bench.raw_inserts_per_s()
    audit = await audit_books(services)
    return {
        "record_to_points_p50": Figure(int(statistics.median(latencies)), "ms", 1_000, is_less_better=True),
        "record_to_points_p95": Figure(latencies[len(latencies) * 95 // 100], "ms"),
        "single_accepted": Figure(single, "actions/s"),
        "single_recorded_and_settled": Figure(single_credited, "actions/s"),
        "batch_accepted": Figure(batch, "actions/s"),
        "batch_recorded_and_settled": Figure(batch_credited, "actions/s"),
        "raw_insert_many": Figure(raw, "actions/s"),
        "batch_accepted_of_raw": Figure(round(batch * 100 / raw), "%"),
        "audit": Figure("clean" if audit.clean else audit.findings[0], "", "clean"),
    }


def main() -> None:
    """Run it; exit 1 where a goal is missed."""
    quiet_logs()
    with tempfile.TemporaryDirectory(prefix="tanhui-bench-") as folder:
        settings = Settings().model_copy(update={"data_dir": Path(folder)})
        with running_stack(settings, workers=2) as stack:
            figures = with_services(stack.settings, lambda services: measure(services, stack.url))
    sys.exit(0 if report("pipeline", figures) else 1)


if __name__ == "__main__":
    main()
