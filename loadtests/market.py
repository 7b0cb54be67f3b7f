"""The exchange under load: the matcher alone, then orders through placing, workers and settlement, then the audits.

Orders are placed by this process, which is what an API process does after parsing; they are matched by Celery workers.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backend.cli.console import quiet_logs, with_services
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.ids import CitizenId
from backend.ledger.audit.whole import audit_ledger
from backend.ledger.model import citizen_owner
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.invariants import audit_exchange
from backend.market.exchange.model import OrderKind, PhaseKind, Placing, trade_channel
from backend.market.serials.invariants import audit_serials
from backend.settings import Settings
from backend.stack import running_stack
from loadtests import market_matcher
from loadtests.report import Figure, report
from tests.floor import CREDIT, give_credits, give_fen

if TYPE_CHECKING:
    from backend.market.exchange.model import Instrument, Order
    from backend.runtime import Services

SEED = 20_261_121
TRADERS = 1_000
GRAMS_EACH = 1_000_000
FEN_EACH = 10_000_000
REFERENCE_FEN = 6_000
SPREAD_FEN = 60
ORDERS = 12_000
AT_ONCE = 512
PACE_PER_S = 300
PACED = 6_000
TIMEOUT_S = 120
GOAL_PER_S, GOAL_MS = 1_000, 500
MAKER = Principal(PrincipalKind.STAFF, "bench", frozenset({StaffRole.ADMIN}))


class Bench:
    """One instrument, a crowd of traders, and what they order."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.chance = random.Random(SEED)
        self.names = [f"trader-{number:04}" for number in range(TRADERS)]
        self.numbers = itertools.count()

    async def open(self) -> None:
        """Give everybody money and credits, list the instrument and open the market."""
        owners = [citizen_owner(CitizenId(name)) for name in self.names]
        await asyncio.gather(*(give_fen(self.services, owner, FEN_EACH) for owner in owners))
        for number, owner in enumerate(owners):
            await give_credits(self.services, owner, GRAMS_EACH, first=1 + number * GRAMS_EACH)
        desk, clock = self.services.market.exchange.desk, self.services.clock
        instrument = await desk.list_instrument(MAKER, CREDIT, REFERENCE_FEN, key="bench-list")
        while self.services.market.exchange.data.phase_of(instrument).kind is PhaseKind.CALL:  # noqa: ASYNC110
            await asyncio.sleep(1)
        until = clock.now() + timedelta(hours=2)
        await desk.open_session(MAKER, CREDIT, until, key="bench-open")

    def placing(self) -> tuple[Principal, Placing]:
        """A trader and an order near the last prices; one in ten takes what it finds."""
        is_market = self.chance.random() < 0.1
        placing = Placing(
            instrument=CREDIT,
            side=self.chance.choice(list(Side)),
            kind=OrderKind.MARKET if is_market else OrderKind.LIMIT,
            price_fen=None if is_market else REFERENCE_FEN + round(self.chance.gauss(0, SPREAD_FEN)),
            quantity_g=1_000 * self.chance.randint(1, 5),
            time_in_force=TimeInForce.IOC if is_market else TimeInForce.GTC,
        )
        return Principal(PrincipalKind.CITIZEN, self.chance.choice(self.names)), placing

    async def place(self) -> Order:
        """Place one order."""
        principal, placing = self.placing()
        return await self.services.market.orders.place(principal, placing, key=f"bench-{next(self.numbers):08}")

    async def instrument(self) -> Instrument:
        """The instrument as it stands."""
        found = await self.services.market.exchange.data.find_instrument(CREDIT)
        assert found is not None
        return found

    async def settled(self) -> None:
        """Return once nothing is queued."""
        query = {"instrument": CREDIT, "queued_at": {"$type": "date"}}
        async with asyncio.timeout(TIMEOUT_S):
            while await self.services.database.find("market_orders", query, limit=1):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def throughput(self) -> tuple[int, int]:
        """Orders accepted a second, and orders a second accepted, matched and settled."""
        left = iter(range(ORDERS))

        async def trader() -> None:
            for _ in left:
                await self.place()

        begun = time.perf_counter()
        await asyncio.gather(*(trader() for _ in range(AT_ONCE)))
        accepted_s = time.perf_counter() - begun
        await self.settled()
        return round(ORDERS / accepted_s), round(ORDERS / (time.perf_counter() - begun))

    async def latencies_ms(self) -> list[int]:
        """Milliseconds from asking for an order to the news of its first fill, at a steady pace; of those that took."""
        asked: dict[str, float] = {}
        heard: list[tuple[str, float]] = []

        async def listen() -> None:
            async with self.services.channels.listen(trade_channel(CREDIT)) as events:
                while True:
                    heard.append(((await events.get())["trade"], time.perf_counter()))

        async def send() -> None:
            begun = time.perf_counter()
            asked[(await self.place()).id] = begun

        listener = asyncio.create_task(listen())
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(PACED):
                await asyncio.sleep(max(0.0, begun + number / PACE_PER_S - time.perf_counter()))
                tasks.create_task(send())
        await self.settled()
        await asyncio.sleep(0.2)
        listener.cancel()
        return await self._latencies_of(asked, heard)

    async def _latencies_of(self, asked: dict[str, float], heard: list[tuple[str, float]]) -> list[int]:
        data = self.services.market.exchange.data
        first: dict[str, float] = {}
        for start in range(0, len(heard), 500):
            part = heard[start : start + 500]
            trades = await data.find_trades([trade for trade, _ in part])
            for name, at in part:
                trade = trades[name]
                taker = trade.buy_order if trade.taker_side is Side.BUY else trade.sell_order
                first.setdefault(taker, at)
        return sorted(round((at - asked[order]) * 1000) for order, at in first.items() if order in asked)


async def audit(services: Services) -> str:
    """Whether book, serials and exchange add up."""
    async with services.database.snapshot() as snapshot:
        found = await audit_ledger(snapshot, policy=services.programme.points_policy)
        await audit_serials(snapshot, found)
        await audit_exchange(snapshot, found)
    return "clean" if found.clean else found.findings[0]


async def measure(services: Services) -> dict[str, Figure]:
    """All figures of the exchange as a whole."""
    bench = Bench(services)
    await bench.open()
    accepted, settled = await bench.throughput()
    before = (await bench.instrument()).trades
    latencies = await bench.latencies_ms()
    trades = (await bench.instrument()).trades
    return {
        "orders_accepted": Figure(accepted, "orders/s"),
        "orders_end_to_end": Figure(settled, "orders/s", GOAL_PER_S),
        "trades_of_them": Figure(before, "trades"),
        "order_to_fill_p50": Figure(latencies[len(latencies) // 2], "ms"),
        "order_to_fill_p99": Figure(latencies[len(latencies) * 99 // 100], "ms", GOAL_MS, is_less_better=True),
        "fills_timed": Figure(len(latencies), "orders"),
        "trades_in_all": Figure(trades, "trades"),
        "audit": Figure(await audit(services), "", "clean"),
    }


def main() -> None:
    """Run it; exit 1 where a goal is missed."""
    quiet_logs()
    figures = market_matcher.measure()
    with tempfile.TemporaryDirectory(prefix="tanhui-bench-") as folder:
        settings = Settings().model_copy(update={"data_dir": Path(folder)})
        with running_stack(settings, workers=2, roles=("worker", "beat")) as stack:
            figures |= with_services(stack.settings, measure)
    sys.exit(0 if report("market", figures) else 1)


if __name__ == "__main__":
    main()
