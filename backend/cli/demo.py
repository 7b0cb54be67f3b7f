"""``tanhui demo``: a day of a city on a temporary stack, from records over HTTP to an audited book."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import orjson
import typer
from rich.table import Table

from backend.actions.model import Status
from backend.audit import audit_books
from backend.cli import proof
from backend.cli.cafe import Coffee, seed_cafe
from backend.cli.city import City, seed_city
from backend.cli.client import Client
from backend.cli.commutes import plan_commutes
from backend.cli.console import OUT, grams, quiet_logs, with_services
from backend.cli.day import Day, chunks, plan_day, steps
from backend.cli.ledger import show_audit
from backend.cli.market import Trading
from backend.identity.model import ExternalId, Principal, PrincipalKind
from backend.kernel.clock import local_date
from backend.settings import Settings
from backend.stack import running_stack
from schemas.relay import to_global_id

if TYPE_CHECKING:
    from datetime import date as date_type

    from backend.actions.model import Total
    from backend.ledger.audit.findings import Audit
    from backend.runtime import Services

CITIZENS = 200
WATCHERS = 20
PACE_PER_S = 100
PACED_S = 6
BATCH = 100
SETTLE_TIMEOUT_S = 120
TOP = 5
LIFETIME = timedelta(hours=1)


@dataclass
class Played:
    """What the clients saw."""

    recorded: set[str] = field(default_factory=set)
    duplicate: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[int] = field(default_factory=list)
    keys: itertools.count[int] = field(default_factory=itertools.count)

    def key(self) -> str:
        """A fresh idempotency key."""
        return f"demo-{next(self.keys):08}"

    def note(self, result: dict[str, Any]) -> None:
        """Count one result of recordAction or recordActions."""
        if result["__typename"] != "Action":
            self.refused[result["code"]] += 1
        elif result["id"] in self.recorded:
            self.duplicate += 1
        else:
            self.recorded.add(result["id"])


def demo(
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    keep: Annotated[Path, typer.Option(help="Folder for the certificate and its receipt.")] = Path(".tanhui/demo"),
) -> None:
    """Play a day of a city and show what became of it."""
    quiet_logs()
    keep.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="tanhui-demo-"))
    try:
        settings = Settings().model_copy(update={"data_dir": folder})
        OUT.print("[bold]碳惠 Tanhui[/]: starting MongoDB, Valkey, API and workers …")
        with running_stack(settings, workers=workers) as stack:
            show = _Show(stack.url, folder, keep)
            figures, audit = with_services(stack.settings, show.run)
        if json is not None:
            json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
        is_proven = figures["receipt"] == figures["market"]["certificate"] == "verified"
        raise typer.Exit(0 if audit.clean and is_proven else 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Show:
    """The demo's acts in order."""

    def __init__(self, url: str, folder: Path, kept: Path) -> None:
        self._url = url
        self._folder = folder
        self._kept = kept
        self._played = Played()

    async def run(self, services: Services) -> tuple[dict[str, Any], Audit]:
        now = services.clock.now()
        date = local_date(now, services.programme.zone) - timedelta(days=2)
        day = plan_day(self._folder / "samples", day=date, zone=services.programme.zone, now=now, citizens=CITIZENS)
        city = await seed_city(services, CITIZENS)
        await seed_cafe(services)
        await services.identity.bind(
            {ExternalId("metro-afc", card): city.citizens[number] for card, number in day.cards.items()}
        )
        OUT.print(f"{CITIZENS} citizens, {len(city.partner_tokens)} partners, a café; playing {date} from {day.origin}")
        async with httpx.AsyncClient(timeout=30) as http:
            await self._play(http, services, city, day)
            await self._commute(http, services, city, date)
            totals = await _settled_totals(services)
            best = await self._show_people(http, services, city)
            is_proven = await self._drink_and_prove(http, services, self._phone(http, services, city, best))
            market = await Trading(http, self._url, services, city, self._kept).tell(date)
        _show_totals(totals)
        audit = await audit_books(services)
        receipt = "verified" if is_proven else "does not verify"
        figures = {**self._figures(totals, audit), "receipt": receipt, "market": market}
        _show_figures(figures, self._played)
        show_audit(audit)
        return figures, audit

    async def _commute(self, http: httpx.AsyncClient, services: Services, city: City, date: date_type) -> None:
        """The rides to work of the days before, of which a tonne comes together."""
        metro = Client(http, self._url, city.partner_tokens["metro"])
        for batch in chunks(plan_commutes(before=date, zone=services.programme.zone, citizens=CITIZENS), BATCH):
            await self._send(metro, batch)

    async def _play(self, http: httpx.AsyncClient, services: Services, city: City, day: Day) -> None:
        clients = {name: Client(http, self._url, token) for name, token in city.partner_tokens.items()}
        for name, acts in day.partners.items():
            for batch in chunks(acts, BATCH):
                await self._send(clients[name], batch)
            # What a partner sends twice must change nothing.
            await self._send(clients[name], acts[:BATCH])
        for number, acts in day.citizens.items():
            await self._send(self._phone(http, services, city, number), acts)
        await self._mistakes(http, services, city)
        await _settled_totals(services)
        await self._paced(http, services, city)

    def _phone(self, http: httpx.AsyncClient, services: Services, city: City, number: int) -> Client:
        principal = Principal(PrincipalKind.CITIZEN, city.citizens[number])
        return Client(http, self._url, services.tokens.issue(principal, LIFETIME))

    async def _send(self, client: Client, acts: list[dict[str, Any]]) -> None:
        data = await client.call("RecordActions", {"input": {"idempotencyKey": self._played.key(), "actions": acts}})
        for result in data["recordActions"]["results"]:
            self._played.note(result)

    async def _mistakes(self, http: httpx.AsyncClient, services: Services, city: City) -> None:
        """What clients get wrong is refused with a code, and writes nothing."""
        now = services.clock.now()
        good = steps(now, "mistake")
        phone = self._phone(http, services, city, 0)
        metro = Client(http, self._url, city.partner_tokens["metro"])
        ride = {**good, "source": "metro-afc", "externalId": "nobody's card"}
        for client, act in (
            (phone, {**good, "kind": "teleport"}),
            (phone, {**good, "unit": "GRAM"}),
            (phone, {**good, "quantity": 0}),
            (phone, {**good, "occurredAt": (now + timedelta(days=1)).isoformat()}),
            (phone, {**good, "occurredAt": (now - timedelta(days=400)).isoformat()}),
            (metro, ride),
        ):
            await self._send(client, [act])

    async def _paced(self, http: httpx.AsyncClient, services: Services, city: City) -> None:
        """One hundred single records a second; phones that watch see their points arrive."""
        phones = [self._phone(http, services, city, number) for number in range(CITIZENS)]
        sent: dict[str, float] = {}
        async with asyncio.TaskGroup() as watchers:
            ready = [asyncio.Event() for _ in range(WATCHERS)]
            expected = PACE_PER_S * PACED_S // CITIZENS
            for number in range(WATCHERS):
                watchers.create_task(self._watch(phones[number], sent, expected, ready[number]))
            await asyncio.gather(*(event.wait() for event in ready))
            begun = time.monotonic()
            async with asyncio.TaskGroup() as senders:
                for number in range(PACE_PER_S * PACED_S):
                    await asyncio.sleep(max(0.0, begun + number / PACE_PER_S - time.monotonic()))
                    act = steps(services.clock.now(), f"steps-{number}")
                    senders.create_task(self._record(phones[number % CITIZENS], act, sent))

    async def _record(self, phone: Client, act: dict[str, Any], sent: dict[str, float]) -> None:
        asked = time.monotonic()
        data = await phone.call("RecordAction", {"input": {**act, "idempotencyKey": self._played.key()}})
        sent.setdefault(data["recordAction"]["id"], asked)
        self._played.note(data["recordAction"])

    async def _watch(self, phone: Client, sent: dict[str, float], expected: int, ready: asyncio.Event) -> None:
        async with phone.watch("ActionSettled") as events:
            # The server subscribes right after it has read the message; the records start a moment later.
            await asyncio.sleep(0.3)
            ready.set()
            left = expected
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                async for payload in events:
                    seen = time.monotonic()
                    action = payload["data"]["actionSettled"]
                    if action["kind"] != "walk":
                        continue
                    while action["id"] not in sent:  # noqa: ASYNC110 - the points can be quicker than the reply
                        await asyncio.sleep(0.001)
                    self._played.latencies_ms.append(int((seen - sent[action["id"]]) * 1000))
                    left -= 1
                    if not left:
                        return

    async def _drink_and_prove(self, http: httpx.AsyncClient, services: Services, phone: Client) -> bool:
        """A coffee for points, and the proof of where they came from and that they were spent."""
        taken = await Coffee(http, self._url, services, phone).drink()
        await proof.trace(phone, taken)
        return await proof.verify(services, http, self._url, phone, taken, self._folder)

    async def _show_people(self, http: httpx.AsyncClient, services: Services, city: City) -> int:
        """The best citizens, and the statement of the first; the number of that one."""
        staff = Client(http, self._url, city.tokens["administrator"])
        people = []
        for start in range(0, CITIZENS, BATCH):
            ids = [to_global_id("Citizen", citizen) for citizen in city.citizens[start : start + BATCH]]
            people += (await staff.call("Balances", {"ids": ids}))["nodes"]
        table = Table("citizen", "points", "quantified", "recognised", title="top citizens")
        best = sorted(range(len(people)), key=lambda number: -people[number]["pointsBalance"])
        for number in best[:TOP]:
            person = people[number]
            reduction = person["reduction"]
            table.add_row(
                person["displayName"],
                f"{person['pointsBalance']:,}",
                grams(reduction["quantifiedMg"]),
                grams(reduction["recognisedMg"]),
            )
        OUT.print(table)
        phone = self._phone(http, services, city, best[0])
        lines = (await phone.call("Statement", {"first": 8}))["viewer"]["statement"]["edges"]
        table = Table("#", "at", "change", "balance", "transaction", title=f"{people[best[0]]['displayName']}: points")
        for edge in lines:
            line = edge["node"]
            table.add_row(
                str(line["sequence"]), line["at"], f"{line['change']:+,}", f"{line['balance']:,}", line["transactionId"]
            )
        OUT.print(table)
        return best[0]

    def _figures(self, totals: list[Total], audit: Audit) -> dict[str, Any]:
        by_status: Counter[Status] = Counter()
        for total in totals:
            by_status[total.status] += total.count
        latencies = sorted(self._played.latencies_ms)
        return {
            "recorded": len(self._played.recorded),
            "credited": by_status[Status.CREDITED],
            "review": by_status[Status.REVIEW],
            "rejected": by_status[Status.REJECTED],
            "duplicate": self._played.duplicate,
            "reduction_mg": sum(total.reduction_mg for total in totals),
            "points": sum(total.points for total in totals),
            "record_to_points_ms": {
                "p50": int(statistics.median(latencies)),
                "p95": latencies[len(latencies) * 95 // 100],
            },
            "audit": "clean" if audit.clean else audit.findings,
        }


async def _settled_totals(services: Services) -> list[Total]:
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while True:
            totals = await services.actions.list_totals()
            if not any(total.status is Status.PENDING for total in totals):
                return totals
            await asyncio.sleep(0.1)


def _show_totals(totals: list[Total]) -> None:
    table = Table("kind", "status", "reason", "actions", "reduction", "points", title="what the day became")
    for total in totals:
        table.add_row(
            total.kind,
            total.status.value,
            total.reason.value if total.reason else "",
            f"{total.count:,}",
            grams(total.reduction_mg),
            f"{total.points:,}",
        )
    OUT.print(table)


def _show_figures(figures: dict[str, Any], played: Played) -> None:
    latency = figures["record_to_points_ms"]
    OUT.print(
        f"recorded {figures['recorded']:,}, sent twice {figures['duplicate']:,} (counted once), "
        f"credited {figures['credited']:,}, rejected {figures['rejected']:,}; "
        f"[bold]{grams(figures['reduction_mg'])} CO2e[/] and [bold]{figures['points']:,} points[/]"
    )
    refused = ", ".join(f"{code} {count}" for code, count in sorted(played.refused.items()))
    OUT.print(f"refused at the door: {refused}")
    OUT.print(
        f"from record to points on the phone, at {PACE_PER_S} records/s: "
        f"p50 {latency['p50']} ms, p95 {latency['p95']} ms"
    )


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command()(demo)
