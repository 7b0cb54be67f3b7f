"""Redemption over HTTP: a flash sale of the last items, a steady rate, captures; then settlement of a month.

Every other request goes to a second API process: what one has in hand the other must not sell.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import orjson

from backend.audit import audit_books
from backend.cli.console import quiet_logs, with_services
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import Text
from backend.kernel.ids import CitizenId
from backend.kernel.units import Ratio
from backend.ledger.model import (
    MINTS,
    POINTS,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
)
from backend.process.server import LOOPBACK, free_ports
from backend.rewards.merchants.model import ContractTerms, Cycle, MerchantApplication
from backend.rewards.offers.model import (
    Audience,
    Bearer,
    CitizenLimits,
    OfferCategory,
    OfferKind,
    OfferTerms,
    Stock,
    StockKind,
)
from backend.rewards.stock.model import stock_pot
from backend.rewards.vouchers.model import VoucherId
from backend.settings import Settings
from backend.stack import command, running_servers, running_stack
from loadtests.report import Figure, report
from loadtests.rewards_settlement import measure_settlement
from schemas.operations import read_operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backend.rewards.offers.model import OfferId
    from backend.runtime import Services

LIFETIME = timedelta(hours=1)
FLASH_CITIZENS = 2_000
FLASH_ITEMS = 100
PACE_PER_S = 200
PACED = 4_000
CAPTURES = 1_000
CASHIERS = 16
PRICE = 30
POINTS_EACH = 100
P95_GOAL_MS = 250
START_S = 30
MAKER = Principal(PrincipalKind.STAFF, "bench", frozenset({StaffRole.ADMIN}))
CHECKER = Principal(PrincipalKind.STAFF, "checker", frozenset({StaffRole.ADMIN}))
OWNER = Principal(PrincipalKind.MERCHANT, "bench-owner")


class Bench:
    """One run against one stack with several API processes."""

    def __init__(self, urls: Sequence[str], services: Services, session: aiohttp.ClientSession) -> None:
        self.urls = itertools.cycle(urls)
        self.services = services
        self.session = session
        self.latencies_ms: list[int] = []

    def token(self, principal: Principal) -> str:
        """A token for the whole run."""
        return self.services.tokens.issue(principal, LIFETIME)

    async def call(self, token: str, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The only field of the answer to one mutation; how long it took is noted."""
        body = orjson.dumps({"query": read_operation(operation), "variables": {"input": given}})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        asked = time.monotonic()
        async with self.session.post(f"{next(self.urls)}/graphql", data=body, headers=headers) as response:
            answer = orjson.loads(await response.read())
        self.latencies_ms.append(round((time.monotonic() - asked) * 1000))
        if "errors" in answer:
            return {"code": answer["errors"][0]["extensions"]["code"]}
        [shown] = answer["data"].values()
        return dict(shown)

    async def redeem(self, citizen: str, offer: OfferId) -> dict[str, Any]:
        """One unit for the citizen."""
        token = self.token(Principal(PrincipalKind.CITIZEN, citizen))
        return await self.call(token, "RedeemOffer", {"idempotencyKey": f"redeem-{offer[-8:]}", "offer": offer})

    def percentile_ms(self, percent: int) -> int:
        """Of the calls noted so far."""
        return sorted(self.latencies_ms)[len(self.latencies_ms) * percent // 100]


async def open_shop(services: Services) -> None:
    """A merchant that may sell."""
    application = MerchantApplication(
        name=Text("基准咖啡", "Bench coffee"),
        legal_name="基准咖啡有限公司",
        credit_code="91350100M000100Y43",
        contact_name="店主",
        contact_phone="051100000000",
    )
    merchant = await services.rewards.merchants.register(OWNER, application, key="register-1")
    contract = ContractTerms(rate=Ratio(7, 10), commission_bps=200, cycle=Cycle.MONTH)
    await services.rewards.merchants.approve(CHECKER, merchant.id, contract, key="approve-1")


async def open_offer(services: Services, name: str, units: int) -> OfferId:
    """A coffee of which there are so many."""
    now = services.clock.now()
    terms = OfferTerms(
        kind=OfferKind.VOUCHER,
        category=OfferCategory.FOOD,
        title=Text(f"咖啡 {name}", f"Coffee {name}"),
        text=Text("一杯", "One"),
        handover=Text("一杯", "One"),
        picture=None,
        price_points=PRICE,
        cash_fen=0,
        items=1,
        stock=Stock(StockKind.TOTAL, units),
        limits=CitizenLimits(per_day=1),
        audience=Audience(),
        windows=(),
        valid_from=now - timedelta(minutes=1),
        valid_to=now + timedelta(days=30),
        voucher_days=7,
        vouchers_until=None,
        refund_days=7,
        bearer=Bearer.PROGRAMME,
        shops=(),
    )
    offers = services.rewards.offers
    made = await offers.create(OWNER, None, terms, key=f"create-{name}")
    made = await offers.submit(OWNER, made.id, key=f"submit-{name}")
    await offers.approve(CHECKER, made.id, seen=made.version, key=f"approve-{name}")
    return made.id


async def settle_in(services: Services, citizens: Sequence[str]) -> None:
    """Register the citizens and give each points enough."""
    await services.identity.register_citizens({CitizenId(name): name for name in citizens})
    mint = MINTS[POINTS]
    await asyncio.gather(
        *(
            services.ledger.post(
                Transaction(
                    key=f"bench:gift:{name}",
                    kind=TransactionKind.ADJUST,
                    postings=(
                        Posting(
                            from_account=mint,
                            to_account=account_of(citizen_owner(CitizenId(name)), POINTS),
                            asset=POINTS,
                            amount=POINTS_EACH,
                        ),
                    ),
                    cause={"staff": "bench", "reason": "benchmark"},
                )
            )
            for name in citizens
        )
    )


async def measure_flash_sale(bench: Bench) -> dict[str, Figure]:
    """Two thousand citizens ask for the last hundred items in the same instant."""
    services = bench.services
    offer = await open_offer(services, "flash", FLASH_ITEMS)
    citizens = [f"flash-{number:04}" for number in range(FLASH_CITIZENS)]
    await settle_in(services, citizens)
    bench.latencies_ms.clear()
    begun = time.monotonic()
    answers = await asyncio.gather(*(bench.redeem(citizen, offer) for citizen in citizens))
    took_s = time.monotonic() - begun
    outcomes = Counter("VOUCHER" if "id" in answer else answer["code"] for answer in answers)
    pages = await services.ledger.find_pages([citizen_owner(CitizenId(name)) for name in citizens])
    now = services.clock.now()
    held = sum(page.held(POINTS) for page in pages.values())
    free = sum(page.available(POINTS, now) for page in pages.values())
    pot = (await services.rewards.pots.find([stock_pot(offer)]))[stock_pot(offer)]
    return {
        "flash_sale_vouchers": Figure(outcomes["VOUCHER"], f"of {FLASH_ITEMS} items", FLASH_ITEMS),
        "flash_sale_sold_out": Figure(outcomes["SOLD_OUT"], "refusals", FLASH_CITIZENS - FLASH_ITEMS),
        "flash_sale_points_held": Figure(held, "points", FLASH_ITEMS * PRICE),
        "flash_sale_points_missing": Figure(
            FLASH_CITIZENS * POINTS_EACH - held - free, "points", 0, is_less_better=True
        ),
        "flash_sale_stock_left": Figure(pot.free + len(pot.pending), "items", 0, is_less_better=True),
        "flash_sale_answered": Figure(round(FLASH_CITIZENS / took_s), "requests/s, all at once"),
        "flash_sale_p95": Figure(bench.percentile_ms(95), "ms, all at once"),
    }


async def measure_pace(bench: Bench) -> dict[str, Figure]:
    """A steady rate of redemptions, each of another citizen."""
    offer = await open_offer(bench.services, "steady", PACED * 2)
    citizens = [f"steady-{number:04}" for number in range(PACED)]
    await settle_in(bench.services, citizens)
    bench.latencies_ms.clear()
    begun = time.monotonic()

    async def send(number: int) -> dict[str, Any]:
        await asyncio.sleep(max(0.0, begun + number / PACE_PER_S - time.monotonic()))
        return await bench.redeem(citizens[number], offer)

    answers = await asyncio.gather(*map(send, range(PACED)))
    took_s = time.monotonic() - begun
    redeemed = sum("id" in answer for answer in answers)
    return {
        # A hundredth less than is asked for: the last answers come after the last request.
        "redeemed_at": Figure(round(redeemed / took_s), f"redemptions/s of {PACE_PER_S}", PACE_PER_S * 99 // 100),
        "redeem_p50": Figure(round(statistics.median(bench.latencies_ms)), "ms"),
        "redeem_p95": Figure(bench.percentile_ms(95), "ms", P95_GOAL_MS, is_less_better=True),
        "redeem_p99": Figure(bench.percentile_ms(99), "ms"),
    }


async def measure_captures(bench: Bench) -> dict[str, Figure]:
    """The counter captures what was redeemed, sixteen at once."""
    services = bench.services
    token = bench.token(OWNER)
    gate = asyncio.Semaphore(CASHIERS)
    found = await services.database.find("vouchers", {}, limit=CAPTURES, fields=["_id"])
    ids = [VoucherId(document["_id"]) for document in found]
    held = await services.rewards.vouchers.find(ids)
    bench.latencies_ms.clear()

    async def capture(number: int) -> dict[str, Any]:
        async with gate:
            shown = services.rewards.vouchers.shown_code(held[ids[number]])
            code = shown.token if shown else ""
            return await bench.call(token, "CaptureVoucher", {"idempotencyKey": f"capture-{number:06}", "code": code})

    begun = time.monotonic()
    answers = await asyncio.gather(*map(capture, range(len(ids))))
    took_s = time.monotonic() - begun
    done = sum(answer.get("status") == "CAPTURED" for answer in answers)
    return {
        "captured": Figure(done, f"of {len(ids)}", len(ids)),
        "captures": Figure(round(done / took_s), f"captures/s, {CASHIERS} at once"),
        "capture_p95": Figure(bench.percentile_ms(95), "ms"),
    }


async def measure(services: Services, urls: Sequence[str]) -> dict[str, Figure]:
    """What goes over HTTP, and the books after it."""
    await open_shop(services)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        bench = Bench(urls, services, session)
        figures = await measure_flash_sale(bench) | await measure_pace(bench) | await measure_captures(bench)
    audit = await audit_books(services)
    return figures | {"audit": Figure("clean" if audit.clean else audit.findings[0], "", "clean")}


def main() -> None:
    """Run it; exit 1 where a goal is missed."""
    quiet_logs()
    figures: dict[str, Figure] = {}
    for part in (_counter, _settlement):
        with tempfile.TemporaryDirectory(prefix="tanhui-bench-") as folder:
            figures |= part(Settings().model_copy(update={"data_dir": Path(folder)}))
    sys.exit(0 if report("rewards", figures) else 1)


def _counter(settings: Settings) -> dict[str, Figure]:
    with running_stack(settings, workers=1) as stack:
        port = free_ports(1)[0]
        stack.commands["second api"] = command("api", "--port", str(port))
        stack.launch("second api")
        second = f"http://{LOOPBACK}:{port}"
        await_server(lambda: httpx.get(f"{second}/readyz").is_success)
        return with_services(stack.settings, lambda services: measure(services, [stack.url, second]))


def await_server(answers: Callable[[], bool]) -> None:
    """Return once it answers.

    Raises:
        TimeoutError: it does not in half a minute.
    """
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if answers():
                return
        time.sleep(0.1)
    raise TimeoutError


def _settlement(settings: Settings) -> dict[str, Figure]:
    with running_servers(settings) as servers:
        return with_services(servers.settings, measure_settlement)


if __name__ == "__main__":
    main()
