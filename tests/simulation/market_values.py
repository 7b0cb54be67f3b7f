"""Serials, orders and instruments of the reference market as plain values: part of ``market_model``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from backend.market.exchange.book import Order as Entry
from backend.market.exchange.book import Side, TimeInForce
from tests.unit.market.reference_market import ReferenceMarket

if TYPE_CHECKING:
    from collections.abc import Iterable

TONNE, BPS = 1_000_000, 10_000
Run = tuple[int, int]
# What is asked, and of an amendment price and grams that shall be others.
Wish = tuple[str, int | None, int | None]


def up(numerator: int, denominator: int) -> int:
    """Rounded up."""
    return -(-numerator // denominator)


def joined(runs: Iterable[Run]) -> list[Run]:
    """The same serials in as few runs as possible."""
    found: list[Run] = []
    for first, last in sorted(runs):
        touches = bool(found) and found[-1][1] + 1 == first
        found[-1:] = [(found[-1][0], last)] if touches else [*found[-1:], (first, last)]
    return found


@dataclass
class Register:
    """One credit: stretches of grams of one owner, side by side from serial 1 on."""

    stretches: list[tuple[int, str]] = field(default_factory=list)

    def move(self, grams: int, payer: str, payee: str) -> list[Run]:
        """The payer's lowest serials become the payee's; which."""
        after, moved, first = [], [], 1
        for length, owner in self.stretches:
            part = min(length, grams) if owner == payer else 0
            grams -= part
            after += [one for one in ((part, payee), (length - part, owner)) if one[0]]
            moved += [(first, first + part - 1)] if part else []
            first += length
        assert grams == 0, (payer, grams)
        self.stretches = after
        return joined(moved)

    def runs(self) -> dict[str, list[Run]]:
        """Serials by owner."""
        found, first = defaultdict(list), 1
        for length, owner in self.stretches:
            found[owner].append((first, first + length - 1))
            first += length
        return {owner: joined(runs) for owner, runs in found.items()}

    def grams(self, owner: str) -> int:
        return sum(length for length, whose in self.stretches if whose == owner)


@dataclass
class Order:
    """``fills`` are price, grams, value and the fee's basis points; ``wish`` is what was asked and not done yet."""

    id: str
    owner: str
    credit: str
    side: Side
    price: int
    asked: int
    tif: TimeInForce
    ends: datetime
    open: int
    queued: datetime | None
    held: int = 0
    status: str = "PENDING"
    reason: str | None = None
    sequence: int = 0
    wish: Wish | None = None
    outcome: str | None = None
    fills: list[tuple[int, int, int, int]] = field(default_factory=list)
    fee: int = 0

    @property
    def is_open(self) -> bool:
        return self.status in {"PENDING", "OPEN"}

    @property
    def asset(self) -> str:
        return "cny" if self.side is Side.BUY else self.credit

    @property
    def hold_ends(self) -> datetime:
        return self.ends + timedelta(days=1)

    def worth(self, price: int, grams: int) -> int:
        """Fen of one more fill: all fills of a buyer together are rounded up once."""
        before = sum(price * grams for price, grams, _, _ in self.fills)
        return up(before + price * grams, TONNE) - up(before, TONNE)

    def due(self, value: int, bps: int) -> int:
        """Fen of fee of one more fill: the rounded up fee of all together, without what is paid."""
        return up(sum(value * bps for _, _, value, bps in self.fills) + value * bps, BPS) - self.fee

    def needs(self, most_bps: int) -> int:
        """Grams of a seller; of a buyer the fen that the rest may cost, fees included."""
        most = self.worth(self.price, self.open)
        return self.open if self.side is Side.SELL else most + self.due(most, most_bps)

    @property
    def entry(self) -> Entry:
        return Entry(self.id, self.owner, self.side, self.price, self.open, self.sequence)

    @property
    def told(self) -> tuple[object, ...]:
        whole = self.owner, self.side.value, self.asked, self.open, self.price, self.held, self.sequence
        filled, value = (sum(fill[place] for fill in self.fills) for place in (1, 2))
        return self.status, self.reason, *whole, filled, value, self.fee, self.outcome, self.queued


@dataclass
class Instrument:
    """``call`` is the call phase the book is in: its end and floor; ``auctions`` also tell whether irrevocable."""

    reference: int
    day: date
    last: int | None = None
    halted: bool = False
    sessions: list[tuple[datetime, datetime]] = field(default_factory=list)
    auctions: list[tuple[datetime, datetime, int | None, bool]] = field(default_factory=list)
    call: tuple[datetime, int | None] | None = None
    sequence: int = 0
    book: ReferenceMarket = field(default_factory=ReferenceMarket)
    trades: list[tuple[object, ...]] = field(default_factory=list)
