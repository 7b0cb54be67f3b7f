"""Many at once on one market, through two processes with a matcher each: exact counts, and books that add up."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import BusyError, DomainError, TransientError
from backend.kernel.ids import CitizenId
from backend.ledger.model import CNY, citizen_owner, enterprise_owner, is_credit
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.documents import order_from_document
from backend.market.exchange.model import Amending, OrderId, OrderKind, OrderStatus, Placing
from backend.market.funds.model import FundAccount
from backend.market.pooling.model import BatchStage
from backend.market.retirement.model import Beneficiary, RetirementPurpose, Retiring
from backend.runtime import open_services
from tests import factories
from tests.counters import answer
from tests.floor import CREDIT, EVERYWHERE, give_credits
from tests.integration.banking import ICBC, Bank, firm
from tests.integration.batching import Floor
from tests.simulation.chance import seeded
from tests.simulation.market_real import BORN, findings, serials_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from random import Random

    from backend.identity.model import Principal
    from backend.kernel.clock import ManualClock
    from backend.ledger.model import OwnerId
    from backend.market.exchange.model import Order
    from backend.runtime import Services
    from backend.settings import Settings

CITIZENS, FIRMS, TURNS = 16, 4, 25
KG, REFERENCE_FEN = 1_000, 8_000
FEN_EACH, KILOS_EACH = 60_000, 900
REFUSED = {"ORDER_CLOSED", "COMMAND_PENDING", "TOO_MANY_PAYOUTS", "INSUFFICIENT_FUNDS", "INSUFFICIENT_MONEY"}
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK


@dataclass
class Square:
    """Two processes on one database, owners with money and credits, and one instrument that is traded."""

    both: Sequence[Services]
    chance: Random
    bank: Bank
    people: dict[OwnerId, Principal] = field(default_factory=dict)
    fen: int = 0
    grams: int = 0

    @property
    def one(self) -> Services:
        """Some process."""
        return self.chance.choice(list(self.both))

    async def endow(self, owner: OwnerId, account: FundAccount, principal: Principal, kilos: int, fen: int) -> None:
        """Pay in, and issue."""
        self.people[owner] = principal
        if fen:
            await self.bank.deposited(account, fen)
        if kilos:
            await give_credits(self.both[0], owner, kilos * KG, first=self.grams + 1)
        self.fen, self.grams = self.fen + fen, self.grams + kilos * KG

    async def settle_in(self, *names: str, kilos: int = 0, fen: int = 0) -> None:
        """Let citizens come with so much."""
        await self.both[0].identity.register_citizens({CitizenId(name): name for name in names})
        for name in names:
            account = FundAccount(citizen=CitizenId(name))
            await self.endow(citizen_owner(CitizenId(name)), account, factories.citizen(name), kilos, fen)

    async def list_it(self) -> None:
        """Let it be traded."""
        desk = self.both[0].market.exchange.desk
        await desk.list_instrument(factories.ADMIN, CREDIT, REFERENCE_FEN, key="list-it-0001")

    async def place(self, who: Principal, side: Side, kilos: int, price: int | None, tif: TimeInForce, key: str) -> Any:
        """An order through some process; the refusal if it is refused."""
        kind = OrderKind.LIMIT if price else OrderKind.MARKET
        placing = Placing(CREDIT, side, kind, price, kilos * KG, tif)
        return await insist(lambda: self.one.market.orders.place(who, placing, key=key))

    async def orders(self) -> dict[str, Order]:
        """Every order as it is stored."""
        found = await self.both[0].database.raw["market_orders"].find().to_list(None)
        return {order.id: order for order in map(order_from_document, found)}

    @asynccontextmanager
    async def matching(self) -> AsyncIterator[None]:
        """Both matchers run without a pause; at the end all is matched that was queued."""
        # Not cancelled: Python 3.11's wait_for, in the driver, may swallow that.
        is_over = asyncio.Event()

        async def match(services: Services) -> None:
            while not is_over.is_set():
                await services.market.exchange.matching.run(EVERYWHERE)
                await asyncio.sleep(0.001)

        tasks = [asyncio.create_task(match(services)) for services in self.both]
        try:
            yield
        finally:
            is_over.set()
            await asyncio.gather(*tasks)
        while await self.both[0].market.exchange.matching.run(EVERYWHERE):
            pass

    async def check_sums(self) -> None:
        """No fen and no gram came or went but by the bank and into fees, and nobody is below zero."""
        raw = self.both[0].database.raw
        pages = await self.both[0].ledger.find_pages(list(self.people))
        for page in pages.values():
            held = {asset: page.held(asset) for asset in page.balances}
            assert all(0 <= held[asset] <= amount for asset, amount in page.balances.items()), page
        trades = await raw["market_trades"].find().to_list(None)
        fees = sum(one["buyer_fee_fen"] + one["seller_fee_fen"] for one in trades)
        assert sum(page.balance(CNY) for page in pages.values()) + fees == self.fen
        serials = serials_of(await raw["market_serials"].find().to_list(None))[CREDIT]
        runs = sorted(run for owned in serials.values() for run in owned)
        assert [first for first, _ in runs] == [1, *(last + 1 for _, last in runs[:-1])]
        assert runs[-1][1] == self.grams
        for owner, page in pages.items():
            grams = sum(last - first + 1 for first, last in serials.get(owner, ()))
            assert {asset: amount for asset, amount in page.balances.items() if is_credit(asset) and amount} == (
                {CREDIT: grams * KG} if grams else {}
            )
        assert await findings(self.both[0], of_acts=False) == []


async def insist(call: Callable[[], Awaitable[Any]]) -> Any:
    """The answer to a call that is made again as long as it hears only that there is a crowd."""
    heard: Any = BusyError()
    while isinstance(heard, TransientError):
        heard = await answer(call())
    return heard


def codes(answers: Sequence[Any]) -> Counter[str]:
    """How often each refusal was given; ``DONE`` for what was not refused."""
    return Counter(getattr(one, "code", "DONE") for one in answers)


@pytest.fixture
async def square(services: Services, settings: Settings, clock: ManualClock) -> AsyncIterator[Square]:
    """Two processes on a Friday morning."""
    clock.current = BORN
    async with open_services(settings, clock) as other:
        yield Square((services, other), seeded(), Bank(services))


@dataclass
class Traders:
    """Who trades at once, and what was acknowledged to them; every call is made through some process."""

    square: Square
    orders: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    certificates: dict[str, int] = field(default_factory=dict)
    payouts: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)

    async def live(self, owner: OwnerId, who: Principal) -> None:
        """One thing after the other, by chance."""
        mine: list[str] = []
        for turn in range(TURNS):
            chance, key = self.square.chance, f"{owner}-{turn:04}"
            what = chance.choice([self.trade, self.trade, self.trade, self.change, self.change, self.retire, self.cash])
            told = await what(who, mine, key)
            self.refused.update([told.code] if isinstance(told, DomainError) else [])

    async def trade(self, who: Principal, mine: list[str], key: str) -> Any:
        """An order."""
        chance = self.square.chance
        side, tif = chance.choice(list(Side)), chance.choice([GTC, GTC, GTC, IOC, FOK])
        told = await self.square.place(who, side, chance.randint(1, 60), self.price, tif, key)
        if not isinstance(told, DomainError):
            self.orders.add(told.id)
            mine.append(told.id)
        return told

    @property
    def price(self) -> int:
        """Near the reference."""
        return REFERENCE_FEN + self.square.chance.randint(-4, 4) * 40

    async def change(self, who: Principal, mine: list[str], key: str) -> Any:
        """Cancel or amend an order, which may be filled."""
        if not mine:
            return None
        chance, order = self.square.chance, OrderId(self.square.chance.choice(mine))
        if chance.randrange(2):
            amending = Amending(self.price, chance.randint(1, 9) * KG)
            return await insist(lambda: self.square.one.market.orders.amend(who, order, amending, key=key))
        told = await insist(lambda: self.square.one.market.orders.cancel(who, order, key=key))
        self.cancelled.update([] if isinstance(told, DomainError) else [order])
        return told

    async def retire(self, who: Principal, _mine: list[str], key: str) -> Any:
        """Some kilograms for ever."""
        asked = Retiring(
            credit=CREDIT,
            grams=self.square.chance.randint(1, 20_000),
            beneficiary=Beneficiary("Spring Marathon"),
            purpose=RetirementPurpose.EVENT,
            statement="",
        )
        told = await insist(lambda: self.square.one.market.retirement.retire(who, asked, key=key))
        self.certificates.update({} if isinstance(told, DomainError) else {told.id: asked.grams})
        return told

    async def cash(self, who: Principal, _mine: list[str], key: str) -> Any:
        """Money out."""
        fen = self.square.chance.randint(1, 2_000)
        told = await insist(lambda: self.square.one.market.payouts.request(who, fen, ICBC, key=key))
        self.payouts.update([] if isinstance(told, DomainError) else [told.id])
        return told


async def test_twenty_owners_trade_retire_and_are_paid_out_at_once(square: Square) -> None:
    """What was acknowledged is there, nothing else; whoever cancelled has no order that is still open."""
    await square.settle_in(*(f"c{number}" for number in range(CITIZENS)), kilos=KILOS_EACH, fen=FEN_EACH)
    for number in range(FIRMS):
        name = await square.bank.approved(number + 1)
        await square.endow(enterprise_owner(name), FundAccount(enterprise=name), firm(name), KILOS_EACH, FEN_EACH)
    await square.list_it()
    traders = Traders(square)
    async with square.matching():
        await asyncio.gather(*(traders.live(owner, who) for owner, who in square.people.items()))

    orders = await square.orders()
    assert set(orders) == traders.orders
    assert [one for one in traders.cancelled if orders[OrderId(one)].is_open] == []
    assert [one for one in orders.values() if one.queued_at or one.status is OrderStatus.PENDING] == []
    raw = square.both[0].database.raw
    stored = await raw["market_certificates"].find().to_list(None)
    assert {one["_id"]: int(one["grams"]) for one in stored} == traders.certificates
    assert {one["_id"] for one in await raw["market_payouts"].find().to_list(None)} == traders.payouts
    # Who amends an order that does not wait hears so.
    assert set(traders.refused) <= {*REFUSED, "INVALID_INPUT"}
    assert sum(one.status is OrderStatus.FILLED for one in orders.values()) > 2 * CITIZENS
    await square.check_sums()


async def test_the_last_kilos_are_sold_once_while_two_matchers_compete(square: Square) -> None:
    """A hundred kilograms for thirty buyers of ten: ten are served, to the gram and the fen."""
    buyers = [f"b{number}" for number in range(30)]
    await square.settle_in(*buyers, fen=1_000)
    await square.settle_in("seller", kilos=100)
    await square.list_it()
    await square.place(factories.citizen("seller"), Side.SELL, 100, REFERENCE_FEN, GTC, "sell-0001")
    async with square.matching():
        told = await asyncio.gather(
            *(square.place(factories.citizen(name), Side.BUY, 10, REFERENCE_FEN, FOK, "buy-0001") for name in buyers)
        )
    assert codes(told) == {"DONE": 30}
    orders = await square.orders()
    ended = Counter((orders[one.id].status.value, orders[one.id].filled_g) for one in told)
    assert ended == {("FILLED", 10 * KG): 10, ("CANCELLED", 0): 20}
    page = await square.both[0].ledger.get_page(citizen_owner(CitizenId("seller")))
    assert (page.balance(CNY), page.balance(CREDIT)) == (800, 0)
    await square.check_sums()


async def test_money_and_the_number_of_orders_bound_one_owner_in_two_processes(square: Square) -> None:
    """8 fen an order, and a fen of fee: money for 25, then room for 50."""
    await square.settle_in("alice", fen=9 * 25 + 8)
    await square.settle_in("founder", kilos=1)
    await square.list_it()
    alice = factories.citizen("alice")

    async def rush(count: int, name: str) -> list[Any]:
        prices = [REFERENCE_FEN - number % 3 for number in range(count)]
        keys = [f"{name}-{number:04}" for number in range(count)]
        return await asyncio.gather(
            *(square.place(alice, Side.BUY, 1, price, GTC, key) for price, key in zip(prices, keys, strict=True))
        )

    async with square.matching():
        assert codes(await rush(40, "poor")) == {"DONE": 25, "INSUFFICIENT_MONEY": 15}
        await square.bank.deposited(FundAccount(citizen=CitizenId("alice")), 10_000)
        square.fen += 10_000
        assert codes(await rush(60, "rich")) == {"DONE": 25, "TOO_MANY_ORDERS": 35}
    assert [one.status for one in (await square.orders()).values()] == [OrderStatus.OPEN] * 50
    await square.check_sums()


async def test_contributors_who_take_back_while_two_workers_gather_have_everything(
    square: Square, clock: ManualClock
) -> None:
    """Whoever was let out has all; whoever was too early or late is in the batch with all; nothing is in between."""
    names, floors = [f"g{number}" for number in range(8)], [Floor(one, clock) for one in square.both]
    await floors[0].open(*names)
    for services in square.both:
        services.market.pooling.gathering.acts_of_one = 1
    for name in names:
        await floors[0].rides(name, 200, 150)
    batch = await floors[0].begun()

    async def withdraw(name: str) -> Any:
        await asyncio.sleep(0.01 * square.chance.random())
        batches = square.one.market.pooling.batches
        return await insist(lambda: batches.withdraw(factories.citizen(name), batch.code, key=f"back-{name}-1"))

    async def gather(services: Services) -> Any:
        while (await floors[0].get(batch.code)).stage is BatchStage.GATHERING:
            await insist(services.market.pooling.batches.work_off)

    told = await asyncio.gather(*map(gather, square.both), *map(withdraw, names[::2]))
    out = [name for name, one in zip(names[::2], told[2:], strict=True) if not isinstance(one, DomainError)]
    assert set(codes(told[2:])) <= {"DONE", "NO_CONTRIBUTION"}
    left = [350_000_000 if name in out else 0 for name in names]
    assert await floors[0].quantified(*names) == left
    assert await floors[0].pool(batch.code) == (8 * 350_000_000 - sum(left), 0)
    assert (await floors[0].get(batch.code)).totals.contributions == 8 - len(out)
    assert await findings(square.both[0]) == []
