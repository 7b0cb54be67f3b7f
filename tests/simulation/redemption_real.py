"""The model's requests sent to the real services of two processes, and what these hold, in the model's words.

Decides nothing about right answers.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backend.kernel.clock import ManualClock
from backend.kernel.errors import DomainError, TransientError
from backend.kernel.ids import CitizenId
from backend.ledger.model import CNY, POINTS, SETTLING
from backend.mongo.transactions import Transactions
from backend.outbox.relay import Relay
from backend.rewards.merchants.documents import MERCHANTS as MERCHANT_DOCUMENTS
from backend.rewards.merchants.documents import merchant_to_document
from backend.rewards.merchants.model import MerchantId
from backend.rewards.offers.model import Bearer, CitizenLimits, OfferId, OfferKind, Stock, StockKind
from backend.rewards.settlement.model import statement_id
from backend.rewards.settlement.service import Settlement
from backend.rewards.vouchers import codes
from backend.rewards.vouchers.documents import voucher_from_document
from backend.rewards.vouchers.invariants import audit_vouchers
from backend.rewards.webhooks.events import WEBHOOK_TOPIC
from backend.runtime import open_services
from tests import factories
from tests.counters import KEY, Street, cashier, contract, merchant, offer
from tests.integration.selling import APPROVER, PAYER
from tests.simulation.redemption_model import (
    BORN,
    BUDGETS,
    CLOSES,
    COMMISSIONS_BPS,
    GOODS,
    ROOT,
    STEP_S,
    Answer,
    Cancel,
    Capture,
    Complain,
    Decide,
    Goods,
    Redeem,
    Refund,
    Request,
    Ticket,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
    from datetime import datetime

    from backend.identity.model import Principal
    from backend.rewards.merchants.model import Desk, Merchant
    from backend.rewards.offers.model import Offer
    from backend.rewards.settlement.model import Statement
    from backend.rewards.vouchers.model import Voucher
    from backend.runtime import Services
    from backend.settings import Settings
    from tests.simulation.redemption_months import Posted

NAMES = ("alice", "bob", "carol")
MERCHANTS = ("cafe", "bakery")
CHANGING = ("ledger_", "voucher", "stock_", "settlement_", "idempotency_keys", "outbox")
DATA = {
    "LIMIT_REACHED": ("limit",),
    "SOLD_OUT": ("left",),
    "INSUFFICIENT_POINTS": ("needed", "available"),
    "ITEMS_EXCEEDED": ("asked", "left"),
    "REFUND_EXCEEDED": ("asked", "left"),
}
Dump = dict[str, dict[str, Any]]


def offered(name: str, goods: Goods, now: datetime) -> Offer:
    """The offer that promises so."""
    bounds = ((StockKind.TOTAL, goods.total), (StockKind.DAILY, goods.daily), (StockKind.UNLIMITED, 0))
    return offer(
        now,
        name,
        of=goods.merchant,
        kind=OfferKind(goods.kind),
        price_points=goods.price,
        items=goods.items,
        stock=next(Stock(kind, units) for kind, units in bounds if units is not None),
        limits=CitizenLimits(goods.per_day, goods.in_all),
        bearer=Bearer.PROGRAMME if goods.is_paid else Bearer.MERCHANT,
        valid_to=CLOSES,
        voucher_days=goods.days,
        refund_days=goods.refund_days,
    )


def furnished(services: Services) -> Street:
    """A process's doors to vouchers over the model's goods."""
    street = Street(services)
    for name, terms in COMMISSIONS_BPS.items():
        contracts = tuple(
            contract(BORN, number=number, valid_from=begin, commission_bps=bps, budget_fen=BUDGETS.get(name))
            for number, (begin, bps) in enumerate(terms.items(), 1)
        )
        street.add(merchant(BORN, name, credit_code=name, contracts=contracts))
    street.add(*(offered(name, goods, BORN) for name, goods in GOODS.items()))
    return street


@dataclass
class Firms:
    """A street's merchants as settlement asks for them."""

    street: Street

    async def find_merchants(self, ids: Sequence[MerchantId]) -> Mapping[MerchantId, Merchant]:
        return await self.street._find_merchants(ids)

    async def owner_desk(self, principal: Principal) -> Desk:
        return await self.street.desk(principal)


def settling(street: Street) -> Settlement:
    """A process's door to settlement of the street's merchants."""
    services = street.services
    return Settlement(
        database=services.database,
        transactions=Transactions(services.database),
        ledger=services.ledger,
        merchants=Firms(street),
        relay=Relay(services.database, services.clock, {WEBHOOK_TOPIC: street._hear}),
        clock=services.clock,
        zone=services.programme.zone,
    )


@dataclass
class RealStreets:
    """Two processes' doors to the same vouchers, called from code that knows no loop."""

    runner: asyncio.Runner
    services: Services
    clock: ManualClock
    streets: Sequence[Street] = ()
    settlements: Sequence[Settlement] = ()
    vouchers: dict[Ticket, Voucher] = field(default_factory=dict)

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(call)

    def clear(self) -> None:
        for name in self.run(self.services.database.raw.list_collection_names()):
            if name.startswith(CHANGING):
                self.run(self.services.database.raw[name].delete_many({}))
        self.clock.current = BORN
        self.vouchers.clear()
        self.streets = [furnished(self.services) for _ in range(2)]
        self.settlements = [settling(street) for street in self.streets]

    def ask(self, request: Request) -> Answer:
        return self.ask_together([request])[0]

    def ask_together(self, requests: Sequence[Request]) -> list[Answer]:
        """All at the same moment, by turns to the one process and the other; the answers in their order."""

        async def together() -> list[Answer]:
            both = self.streets
            told = await asyncio.gather(*(self.answer(both[n % 2], one) for n, one in enumerate(requests)))
            await asyncio.gather(*(street.changing.flush() for street in both))
            return told

        answers: list[Answer] = self.run(together())
        return answers

    async def answer(self, street: Street, request: Request) -> Answer:
        """``OK`` and the voucher as it is answered, or the refusal with its figures."""
        call = self.calls(street, request)
        while True:
            try:
                voucher = await call()
            except TransientError:
                continue
            except DomainError as error:
                return (error.code, *(getattr(error, name) for name in DATA.get(error.code, ())))
            ticket = (request.name, request.key) if isinstance(request, Redeem) else request.ticket
            self.vouchers[ticket] = voucher
            return ("OK", *ticket, *told(voucher))

    def calls(self, street: Street, request: Request) -> Any:
        """The request as a call that can be made again."""
        key: dict[str, Any] = {"key": request.key}
        if isinstance(request, Redeem):
            who = factories.citizen(request.name)
            return lambda: street.vouchers.redeem(who, OfferId(request.offer), request.units, **key)
        voucher = self.vouchers[request.ticket].id
        who, staff = factories.citizen(request.name), factories.ADMIN
        match request:
            case Cancel():
                return lambda: street.vouchers.cancel(who, voucher, **key)
            case Capture():
                code, items = self.code(request), request.items
                return lambda: street.counter.capture(member(request.name), code, items=items, shop=None, **key)
            case Refund():
                by = staff if request.name == ROOT else member(request.name)
                return lambda: street.refunding.refund(by, voucher, request.points, "洒了", **key)
            case Complain():
                return lambda: street.refunding.dispute(who, voucher, "没拿到", **key)
            case Decide():
                return lambda: street.refunding.decide_dispute(staff, voucher, request.points, "已核实", **key)

    def code(self, request: Capture) -> str:
        voucher = self.vouchers[request.ticket]
        shown_at = codes._EPOCH + timedelta(seconds=STEP_S * request.step)
        token = codes.show(codes.secret_of(KEY, voucher.id), voucher.number, shown_at).token
        return token[:-1] + ("A" if token[-1] != "A" else "B") if request.is_forged else token

    def at_both(self, call: Callable[[Settlement], Awaitable[Any]]) -> list[Any]:
        """What settlement answers in each process, asked at the same moment."""

        async def together() -> list[Any]:
            return await asyncio.gather(*map(call, self.settlements))

        answers: list[Any] = self.run(together())
        return answers

    def close(self) -> int:
        """Make the statements due, by two workers at once; how many they made."""
        return sum(self.at_both(lambda one: one.close_due()))

    def move_on(self, name: str, number: int, stage: str) -> None:
        """Approve a statement, or pay it; asked twice."""
        statement, key = statement_id(MerchantId(name), number), f"{stage}-{name}-{number}"
        if stage == "APPROVED":
            self.at_both(lambda one: one.approve(APPROVER, statement, key=key))
        else:
            self.at_both(lambda one: one.pay(PAYER, statement, "ICBC-1", key=key))

    def statements(self) -> list[Statement]:
        """Every statement, by merchant and number."""
        found = self.run(self.settlements[0].list_statements(APPROVER, limit=1_000))
        return sorted(found, key=lambda one: (one.merchant, one.number))

    def dump(self) -> Dump:
        """Every document that a request could change."""

        async def read() -> Dump:
            database = self.services.database.raw
            names = [one for one in await database.list_collection_names() if one.startswith(CHANGING)]
            found = await asyncio.gather(*(database[name].find().to_list(None) for name in names))
            return {name: {one["_id"]: one for one in many} for name, many in zip(names, found, strict=True)}

        result: Dump = self.run(read())
        return result

    def pages(self) -> dict[str, Any]:
        """Of each citizen: what can be spent, what is held, the free lots, the holds by voucher."""
        of_hold = {voucher.hold: ticket for ticket, voucher in self.vouchers.items()}
        found = self.run(self.services.ledger.find_pages([factories.owner(name) for name in NAMES]))
        return {
            name: (
                page.available(POINTS, self.clock.now()),
                page.held(POINTS),
                {lot.expires_at: lot.amount for lot in page.lots},
                {of_hold[hold.id]: {lot.expires_at: lot.amount for lot in hold.lots} for hold in page.holds},
            )
            for name, page in zip(NAMES, found.values(), strict=True)
        }

    def owed(self, name: str) -> tuple[int, int, int]:
        """The merchant's points and money, and the fen that the book's causes say its captures were worth."""
        ledger, until = self.services.ledger, self.clock.now() + timedelta(days=1)

        async def fen() -> int:
            told = ledger.stream_merchant(name, since=None, until=until)
            moved = [one.transaction async for one in told if one.transaction.kind not in SETTLING]
            return sum(int(one.cause["fen"]) for one in moved)

        points, money = (self.run(ledger.merchant_balance(name, asset, until=None)) for asset in (POINTS, CNY))
        return points, money, self.run(fen())

    def findings(self) -> list[str]:
        """What the auditors of book and vouchers find."""
        return self.run(findings(self.services))  # type: ignore[no-any-return]


async def findings(services: Services) -> list[str]:
    """What the auditors of book and vouchers find."""
    audit = await factories.replay(services)
    async with services.database.snapshot() as snapshot:
        await audit_vouchers(snapshot, audit)
    return audit.findings


def member(name: str) -> Principal:
    """``merchant.cashier`` as principal."""
    firm, _, cashiers_name = name.partition(".")
    return cashier(cashiers_name, firm)


def told(voucher: Voucher) -> tuple[object, ...]:
    """How a voucher stands, in the model's words."""
    fen = sum(one.fen for one in voucher.captures) - sum(one.fen for one in voucher.refunds)
    stage = voucher.dispute.stage.value if voucher.dispute else None
    captured, refunded = voucher.points_captured, voucher.points_refunded
    return voucher.status.value, voucher.items_captured, captured, refunded, fen, stage


def stated(one: Statement) -> tuple[object, ...]:
    """What a statement says, in the model's words; the difference is nothing once book and vouchers agree."""
    captures, refunds = ((sums.count, sums.points, sums.fen) for sums in (one.totals.captures, one.totals.refunds))
    amounts = one.totals.gross_fen, one.totals.commission_fen, one.net_fen, one.brought_forward_fen, one.payable_fen
    whose = str(one.merchant), one.number, one.since, one.until
    stage = one.stage.value if one.difference.is_nothing else f"{one.difference}"
    return *whose, captures, refunds, one.lines, *amounts, stage


def settled(dump: Dump) -> Mapping[tuple[str, int, str], Posted]:
    """What settling moved in the book, by merchant, number of the statement, and kind."""
    moved: dict[tuple[str, int, str], Posted] = {}
    for one in dump["ledger_transactions"].values():
        if one["kind"] in SETTLING and one["copy_of"] is None:
            statement = dump["settlement_statements"][one["cause"]["statement"]]
            key = statement["merchant"], statement["number"], one["kind"]
            assert key not in moved
            moved[key] = frozenset((part["from"], part["to"], part["amount"]) for part in one["postings"])
    return moved


def stored_vouchers(dump: Dump) -> Mapping[str, Voucher]:
    """The stored vouchers by id."""
    return {one: voucher_from_document(document) for one, document in dump["vouchers"].items()}


def seen(dump: Dump, before: Dump) -> Dump:
    """What anybody could see of it: without counts of wrong codes, and pots that are as when nobody had asked."""
    pots = {
        one: pot
        for one, pot in dump["stock_pots"].items()
        if one in before["stock_pots"] or pot["free"] != pot["total"] or pot["pending"]
    }
    return {**dump, "stock_pots": pots, "stock_uses": {}, "voucher_tries": {}}


@contextmanager
def open_streets(chosen: Settings) -> Iterator[RealStreets]:
    with asyncio.Runner() as runner:
        clock = ManualClock(BORN)
        stack = AsyncExitStack()
        services = runner.run(stack.enter_async_context(open_services(chosen, clock)))
        try:
            real = RealStreets(runner, services, clock)
            runner.run(services.identity.register_citizens({CitizenId(one): one for one in NAMES}))
            firms = [merchant_to_document(one) for one in furnished(services).merchants.values()]
            runner.run(services.database.insert_many(MERCHANT_DOCUMENTS.name, firms))
            yield real
            runner.run(services.database.client.drop_database(chosen.database))
        finally:
            runner.run(stack.aclose())
