"""The real services of two processes, asked what the model is asked, and what they hold, in the model's words.

Decides nothing about right answers.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backend.audit import audit_books
from backend.identity.model import Principal, PrincipalKind
from backend.kernel.clock import ManualClock
from backend.kernel.errors import DomainError, TransientError
from backend.kernel.grouping import Groups
from backend.kernel.ids import CitizenId
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import CNY, POINTS, QUANTIFIED, is_credit
from backend.market.benefits.invariants import audit_benefits
from backend.market.exchange.candle_invariants import audit_candles
from backend.market.exchange.documents import instrument_from_document, order_from_document
from backend.market.exchange.invariants import audit_exchange
from backend.market.exchange.matching import Size
from backend.market.exchange.trade_documents import trade_from_document
from backend.market.funds.invariants import audit_funds
from backend.market.funds.model import FundAccount
from backend.market.neutrality.invariants import audit_neutrality
from backend.market.pooling.documents import contribution_from_document
from backend.market.pooling.invariants import audit_pooling
from backend.market.retirement.invariants import audit_retirement
from backend.market.serials.invariants import audit_serials
from backend.runtime import open_services
from tests import factories
from tests.fault.test_redemption_kills import Mortal
from tests.integration.banking import Bank
from tests.integration.batching import Floor
from tests.simulation.market_values import joined

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from backend.market.exchange.model import Instrument, Order, Trade
    from backend.runtime import Services
    from backend.settings import Settings

ROOMS = (audit_serials, audit_pooling, audit_exchange, audit_funds, audit_benefits, audit_retirement, audit_neutrality)
Dump = dict[str, list[Any]]
# A Friday, 11:04 in the programme's zone: trading goes on.
BORN = datetime(2031, 11, 21, 3, 4, 5, 678_000, tzinfo=UTC)
CHANGING = (
    "ledger_",
    "market_",
    "benefit_",
    "actions",
    "claims",
    "cap_totals",
    "shard_fences",
    "idempotency_keys",
    "outbox",
)
DATA = {
    "INSUFFICIENT_MONEY": ("needed_fen", "available_fen"),
    "TOO_FEW_CREDITS": ("needed_g", "available_g"),
    "INSUFFICIENT_CREDITS": ("needed_g", "available_g"),
    "INSUFFICIENT_FUNDS": ("needed", "available"),
}


@dataclass
class RealMarket:
    """Two processes on one database, asked by turns from code that knows no loop."""

    runner: asyncio.Runner
    both: Sequence[Services]
    clock: ManualClock
    floor: Floor
    bank: Bank
    firm: str = ""
    turn: int = 0
    deaths: int = 0
    base: Dump = field(default_factory=dict)

    @property
    def services(self) -> Services:
        """The process whose turn it is."""
        self.turn += 1
        return self.both[self.turn % 2]

    def run(self, call: Awaitable[Any]) -> Any:
        """What the call gives."""

        async def wait() -> Any:
            return await call

        return self.runner.run(wait())

    def ask(self, call: Callable[[Services], Awaitable[Any]]) -> Any:
        """What the process answers, or the refusal's code with its figures."""

        async def insist() -> Any:
            while True:
                try:
                    return await call(self.services)
                except TransientError:
                    continue
                except DomainError as error:
                    return (error.code, *(getattr(error, name) for name in DATA.get(error.code, ())))

        return self.run(insist())

    def ask_mortal(self, call: Callable[[Services], Any], at: int, credit: str = "") -> Any:
        """Ask a process that dies at the ``at``-th instant at which it waits; then the other, which knows nothing.

        With a credit it is who writes orders together that dies.
        """

        async def die() -> None:
            services = self.services
            if credit:
                mortal_group(services, credit, at)
            outcome = await outcome_of(Mortal(call(services), 0 if credit else at))
            self.deaths += isinstance(outcome, asyncio.CancelledError)
            # The time of its leases passes.
            await services.valkey.flushdb()

        if at:
            self.run(die())
        return self.ask(call)

    # What is held

    def documents(self) -> Dump:
        """Every document that somebody could change."""

        async def read() -> Dump:
            database = self.both[0].database.raw
            names = [one for one in await database.list_collection_names() if one.startswith(CHANGING)]
            found = await asyncio.gather(*(database[name].find().to_list(None) for name in names))
            return dict(zip(names, found, strict=True))

        result: Dump = self.run(read())
        return result

    def restore(self) -> None:
        """Make the database what it was in the beginning; both processes are new."""

        async def put() -> None:
            database = self.both[0].database.raw
            for name, documents in self.base.items():
                await database[name].delete_many({})
                if documents:
                    await database[name].insert_many(documents)
            await self.both[0].valkey.flushdb()

        self.run(put())
        for services in self.both:
            services.market.exchange.matching._floors.clear()
            services.market.pooling.issuing._laid_out = "", []
        self.turn = 0

    def held(self, owners: Sequence[str]) -> dict[str, Any]:
        """Pages, serials, orders, instruments, trades, batches and payouts as they are stored."""

        async def read() -> dict[str, Any]:
            database = self.both[0].database.raw
            names = ("serials", "orders", "instruments", "trades", "batches", "contributions", "payouts")
            found = await asyncio.gather(*(database[f"market_{name}"].find().to_list(None) for name in names))
            pages = await self.both[1].ledger.find_pages([*owners])  # type: ignore[list-item]
            return {"pages": pages, **dict(zip(names, found, strict=True))}

        raw = self.run(read())
        orders = [order_from_document(one) for one in raw["orders"]]
        trades = sorted((trade_from_document(one) for one in raw["trades"]), key=lambda one: one.number)
        return {
            "pages": {owner: paged(page) for owner, page in raw["pages"].items()},
            "serials": serials_of(raw["serials"]),
            "orders": {order.id: order_told(order) for order in orders},
            "instruments": {one["_id"]: instrument_told(instrument_from_document(one)) for one in raw["instruments"]},
            "trades": {
                one["_id"]: [trade_told(trade) for trade in trades if trade.instrument == one["_id"]]
                for one in raw["instruments"]
            },
            "batches": {one["_id"]: one["stage"] for one in raw["batches"]},
            "contributions": contributions_told(raw["contributions"]),
            "payouts": {one["_id"]: (one["owner"], one["fen"], one["stage"]) for one in raw["payouts"]},
        }

    def cut_rounds(self, *, is_cut: bool) -> None:
        """Let the rounds of one of the matchers have room for next to nothing."""
        matching = self.both[1].market.exchange.matching
        matching.size = Size(orders=3, moves=2) if is_cut else Size()
        matching._sizes.clear()

    def findings(self) -> list[str]:
        """What all auditors find."""
        found: list[str] = self.run(findings(self.both[0]))
        return found


def mortal_group(services: Services, credit: str, at: int) -> None:
    """Let the next group of orders die at that instant, once."""
    placing = services.market.orders._placing

    async def commit(wishes: Any) -> Any:
        del placing._groups[credit]  # type: ignore[arg-type]
        return await Mortal(placing._place_group(wishes), at)

    placing._groups[credit] = Groups(commit, limit=128, name="mortal orders")  # type: ignore[index]


async def outcome_of(mortal: Mortal) -> Any:
    """What became of the call, made in a task of its own."""

    async def live() -> Any:
        return await mortal

    outcome: Any = (await asyncio.gather(asyncio.create_task(live()), return_exceptions=True))[0]
    assert isinstance(outcome, asyncio.CancelledError | DomainError) or not isinstance(outcome, BaseException), outcome
    return outcome


async def findings(services: Services, *, of_acts: bool = True) -> list[str]:
    """What the auditors of acts (where they are what was earned for), book and every room of the market find."""
    if of_acts:
        return (await audit_books(services)).findings
    audit = await factories.replay(services)
    async with services.database.snapshot() as snapshot:
        for room in ROOMS:
            await room(snapshot, audit)
        await audit_candles(snapshot, audit, services.programme.zone)
        await services.market.pooling.auditing.check(snapshot, audit)
    return audit.findings


def principal_of(owner: str) -> tuple[Principal, str | None]:
    """Who acts for an owner, and for which pool."""
    kind, _, name = owner.partition(":")
    if kind == "pool":
        return factories.ADMIN, name
    return Principal(PrincipalKind(kind), name), None


def account_of(owner: str) -> FundAccount:
    """Where deposits for the owner go."""
    kind, _, name = owner.partition(":")
    return FundAccount(**{kind: name})  # type: ignore[arg-type]


def paged(page: Any) -> tuple[Any, ...]:
    """Fen and what of it is held; milligrams; of each credit grams and what is held; points."""
    of_credits = {
        str(asset): (page.balance(asset) // MG_PER_GRAM, page.held(asset) // MG_PER_GRAM)
        for asset, amount in page.balances.items()
        if is_credit(asset) and amount
    }
    return page.balance(CNY), page.held(CNY), page.balance(QUANTIFIED), of_credits, page.balance(POINTS)


def serials_of(documents: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[int, int]]]]:
    """Serials by credit and owner."""
    found: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for one in documents:
        found.setdefault(one["credit"], {}).setdefault(one["owner"], []).append((int(one["first"]), int(one["last"])))
    return {credit: {owner: joined(runs) for owner, runs in owners.items()} for credit, owners in found.items()}


def order_told(order: Order) -> tuple[object, ...]:
    """How an order stands; what is held of credits in grams."""
    held = order.held if order.side.value == "BUY" else order.held // MG_PER_GRAM
    reason = order.reason.value if order.reason else None
    whole = str(order.owner), order.side.value, order.quantity_g, order.remaining_g, order.price_fen, held
    filled = order.filled_g, order.value_fen, order.fee_fen
    outcome = order.last_command.outcome.value if order.last_command else None
    return order.status.value, reason, *whole, order.sequence, *filled, outcome, order.queued_at


def instrument_told(one: Instrument) -> tuple[object, ...]:
    """How an instrument stands."""
    call = (one.collecting.until, one.collecting.floor_fen) if one.collecting else None
    return one.reference_fen, one.day, one.last_fen, call, one.sequence, one.trades


def trade_told(trade: Trade) -> tuple[object, ...]:
    """What was exchanged."""
    whole = trade.price_fen, trade.quantity_g, trade.value_fen, trade.buy_order, trade.sell_order
    side = trade.taker_side.value if trade.taker_side else None
    return *whole, trade.buyer_fee_fen, trade.seller_fee_fen, side, tuple(map(tuple, trade.serials)), trade.at


def contributions_told(documents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[object, ...]]:
    """What citizens gave and what became of it, by batch and citizen."""
    found = map(contribution_from_document, documents)
    return {
        (str(one.batch), str(one.citizen)): (
            (
                one.benefit.value,
                one.acts,
                (one.pool_mg, one.own_mg),
                one.deducted_mg,
                one.residual_mg,
                one.pool_g,
                one.own_g,
            )
            if one.stage.value == "GIVEN"
            else (one.stage.value,)
        )
        for one in found
    }


@contextmanager
def open_markets(chosen: Settings, *names: str) -> Iterator[RealMarket]:
    """Two processes on a new database, with citizens and an enterprise that is let in."""
    with asyncio.Runner() as runner:
        clock = ManualClock(BORN)
        stack = AsyncExitStack()
        both = [runner.run(stack.enter_async_context(open_services(chosen, clock))) for _ in range(2)]
        try:
            real = RealMarket(runner, both, clock, Floor(both[0], clock), Bank(both[0]))
            real.run(both[0].valkey.flushdb())
            real.run(real.floor.open())
            real.run(both[0].identity.register_citizens({CitizenId(name): name for name in names}))
            real.firm = real.run(real.bank.approved())
            for services in both:
                # So few that gathering, issuing and paying take several transactions.
                services.market.pooling.gathering.acts_of_one = 2
                services.market.pooling.issuing.shares_at_once = 2
                services.market.paying._batch_size = 1
            yield real
            runner.run(both[0].database.client.drop_database(chosen.database))
        finally:
            runner.run(stack.aclose())
