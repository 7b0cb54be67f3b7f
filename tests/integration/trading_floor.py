"""Traders with fen and credits, one listed instrument, and its matcher, called by hand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from backend.identity.model import Principal, PrincipalKind
from backend.ledger.audit.whole import audit_ledger
from backend.ledger.model import CNY, OwnerId, citizen_owner, enterprise_owner
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.candle_invariants import audit_candles
from backend.market.exchange.invariants import audit_exchange
from backend.market.exchange.model import Amending, OrderKind, Placing
from backend.market.serials.invariants import audit_serials
from tests.counters import answer
from tests.factories import ADMIN, citizen
from tests.floor import CREDIT, EVERYWHERE, give_credits, give_fen

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.market.exchange.model import Instrument, Order, Trade
    from backend.runtime import Services

# 6,000 fen a tonne; 10:00 on Monday 2 November 2026 in the programme's zone, while the market matches.
REFERENCE_FEN = 6_000
OPEN = datetime(2026, 11, 2, 2, 0, tzinfo=UTC)
KG = 1_000
GTC, IOC, FOK, GTD = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTD


def works(name: str = "steelworks") -> Principal:
    """An enterprise as principal."""
    return Principal(PrincipalKind.ENTERPRISE, name)


def owner_named(name: str) -> OwnerId:
    """A citizen as owner, or with ``@`` before the name an enterprise."""
    return enterprise_owner(name[1:]) if name.startswith("@") else citizen_owner(citizen(name).id)  # type: ignore[arg-type]


def principal_named(name: str) -> Principal:
    """The same as principal."""
    return works(name[1:]) if name.startswith("@") else citizen(name)


@dataclass
class TradingFloor:
    """One instrument and everybody at it; orders are placed through the doors, matched by ``match``."""

    services: Services
    clock: ManualClock
    keys: itertools.count[int] = field(default_factory=itertools.count)
    issued: int = 0

    async def open(self, *, reference_fen: int = REFERENCE_FEN) -> TradingFloor:
        """Let the clock stand in a session and list the instrument, of which nobody has more than a gram yet."""
        self.clock.current = OPEN
        # What is shown is of this very moment.
        self.services.market.exchange.data.shown_for_s = 0
        await self.give_credits("founder", 1)
        await self.services.market.exchange.desk.list_instrument(ADMIN, CREDIT, reference_fen, key=self.key())
        return self

    def key(self) -> str:
        """A key that nobody used."""
        return f"floor-{next(self.keys):06}"

    async def give_fen(self, name: str, fen: int) -> None:
        """Put money on somebody's account."""
        await give_fen(self.services, owner_named(name), fen)

    async def give_credits(self, name: str, grams: int) -> None:
        """Issue credits to somebody."""
        await give_credits(self.services, owner_named(name), grams, first=self.issued + 1)
        self.issued += grams

    async def place(self, name: str, side: Side, kg: int, price_fen: int | None, **changes: Any) -> Order:
        """An order as it stands when it is accepted: a limit order that waits, but for the changes."""
        key = changes.pop("key", None) or self.key()
        by = changes.pop("by", None) or principal_named(name)
        given: dict[str, Any] = {
            "instrument": CREDIT,
            "side": side,
            "kind": OrderKind.LIMIT if price_fen is not None else OrderKind.MARKET,
            "price_fen": price_fen,
            "quantity_g": kg * KG,
            "time_in_force": GTC if price_fen is not None else IOC,
        }
        self.wait(milliseconds=1)
        return await self.services.market.orders.place(by, Placing(**{**given, **changes}), key=key)

    async def buy(self, name: str, kg: int, price_fen: int | None = REFERENCE_FEN, **changes: Any) -> Order:
        """A bid."""
        return await self.place(name, Side.BUY, kg, price_fen, **changes)

    async def sell(self, name: str, kg: int, price_fen: int | None = REFERENCE_FEN, **changes: Any) -> Order:
        """An offer."""
        return await self.place(name, Side.SELL, kg, price_fen, **changes)

    async def refused(self, call: Any) -> Any:
        """The refusal of a call that is refused."""
        return await answer(call)

    async def cancel(self, order: Order, **changes: Any) -> Order:
        """Ask for the rest of the order to be given up."""
        by, key = changes.get("by") or _placer(order), changes.get("key") or self.key()
        self.wait(milliseconds=1)
        return await self.services.market.orders.cancel(by, order.id, key=key)

    async def amend(self, order: Order, price_fen: int | None = None, kg: int | None = None, **changes: Any) -> Order:
        """Ask for another limit or other open kilograms."""
        by, key = changes.get("by") or _placer(order), changes.get("key") or self.key()
        self.wait(milliseconds=1)
        amending = Amending(price_fen, None if kg is None else kg * KG)
        return await self.services.market.orders.amend(by, order.id, amending, key=key)

    async def match(self, *orders: Order) -> list[Order]:
        """Let the matcher do all it has to do; these orders as they stand then."""
        await self.services.market.exchange.matching.run(EVERYWHERE)
        return [await self.now(order) for order in orders]

    async def now(self, order: Order) -> Order:
        """The order as it stands."""
        return (await self.services.market.orders.find([order.id]))[order.id]

    async def trades(self) -> list[Trade]:
        """All trades, first things first."""
        data = self.services.market.exchange.data
        return (await data.list_trades(CREDIT, below=None, above=None, limit=1_000, newest=True))[::-1]

    async def instrument(self) -> Instrument:
        """The instrument as it stands."""
        found = await self.services.market.exchange.data.find_instrument(CREDIT)
        assert found is not None
        return found

    async def fen(self, name: str) -> tuple[int, int]:
        """What somebody has in money, and what of it is available."""
        page = await self.services.ledger.get_page(owner_named(name))
        return page.balance(CNY), page.available(CNY, self.clock.now())

    async def grams(self, name: str) -> tuple[int, int]:
        """What somebody has in credits, and what of it is available, in grams."""
        page = await self.services.ledger.get_page(owner_named(name))
        return page.balance(CREDIT) // KG, page.available(CREDIT, self.clock.now()) // KG

    async def fills(self) -> list[tuple[int, int, int]]:
        """Price, kilograms and value of all trades, first things first."""
        return [(trade.price_fen, trade.quantity_g // KG, trade.value_fen) for trade in await self.trades()]

    def wait(self, **span: int) -> None:
        """Let time pass."""
        self.clock.advance(timedelta(**span))

    async def findings(self) -> list[str]:
        """What the auditors of book, serials and exchange find."""
        return await findings(self.services)


def _placer(order: Order) -> Principal:
    kind, _, name = order.placed_by.partition(":")
    return ADMIN if kind == "staff" else Principal(PrincipalKind(kind), name)


async def findings(services: Services) -> list[str]:
    """What the auditors of book, serials and exchange find."""
    async with services.database.snapshot() as snapshot:
        audit = await audit_ledger(snapshot, policy=services.programme.points_policy)
        await audit_serials(snapshot, audit)
        await audit_exchange(snapshot, audit)
        await audit_candles(snapshot, audit, services.programme.zone)
    return audit.findings
