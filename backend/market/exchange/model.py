"""Instruments, orders, trades and what may be asked of them, as immutable values.

Quantities are whole grams, prices whole fen per tonne, money whole fen. *Call phase*: orders are collected and executed
together at one price at its end. *Queued*: the matcher has something to do with the order, which it does not see
before. *Numerator*: a sum of products before its division, so that parts telescope to the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

from backend.kernel.ids import shard_of
from backend.market.exchange.book import Side, StopReason, TimeInForce

if TYPE_CHECKING:
    from datetime import date, datetime

    from backend.kernel.ids import ShardNumber, TransactionId
    from backend.ledger.model import Asset, OwnerId
    from backend.market.serials.model import Ranges

OrderId = NewType("OrderId", str)
TradeId = NewType("TradeId", str)
TRADE_DIGITS = 12
# Orders that do not wait.
IMMEDIATE = frozenset({TimeInForce.IOC, TimeInForce.FOK})


class OrderKind(StrEnum):
    """Whether an order names its worst price, or takes what the price band allows."""

    LIMIT = "LIMIT"
    MARKET = "MARKET"


class OrderStatus(StrEnum):
    """Where an order stands."""

    PENDING = "PENDING"
    """Accepted and reserved for; the matcher has not seen it yet, or has more fills for it than one round takes."""
    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"


class EndReason(StrEnum):
    """Why an order, or what was left of it, was cancelled."""

    BY_OWNER = "BY_OWNER"
    BY_STAFF = "BY_STAFF"
    IOC_REST = "IOC_REST"
    FOK_UNFILLABLE = "FOK_UNFILLABLE"
    SELF_TRADE = "SELF_TRADE"
    EXPIRED = "EXPIRED"
    OUTSIDE_BAND = "OUTSIDE_BAND"
    """A new day's reference price left its limit outside the band."""
    BELOW_FLOOR = "BELOW_FLOOR"
    """An auction with a floor above its limit was opened before the matcher saw it."""
    HOLD_LOST = "HOLD_LOST"
    """What was reserved for it is reserved no more: the matcher was away for longer than a hold lasts."""


STOPPED = {stop: EndReason(stop.value) for stop in StopReason}


class CommandKind(StrEnum):
    """What may be asked of an order."""

    CANCEL = "CANCEL"
    AMEND = "AMEND"


class CommandOutcome(StrEnum):
    """What became of it."""

    DONE = "DONE"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    SELF_TRADE = "SELF_TRADE"
    """In a call phase the amended order would have crossed one of the same owner."""
    OUTSIDE_BAND = "OUTSIDE_BAND"
    """The band had moved before the matcher saw the request."""
    BELOW_FLOOR = "BELOW_FLOOR"
    """An auction with a floor was opened before the matcher saw the request."""


class PhaseKind(StrEnum):
    """What the market in an instrument does at a moment."""

    CLOSED = "CLOSED"
    CALL = "CALL"
    CONTINUOUS = "CONTINUOUS"
    AUCTION = "AUCTION"
    """A call phase that staff opened."""
    HALTED = "HALTED"


COLLECTING = frozenset({PhaseKind.CALL, PhaseKind.AUCTION})


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase and the first moment after it; None where only staff end it."""

    kind: PhaseKind
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Halt:
    """Trading was stopped by staff."""

    by: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class ExtraSession:
    """Continuous trading outside the usual hours, ``since <= t < until``."""

    by: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class StaffAuction:
    """A call phase of staff's, ``since <= t < until``; no price below ``floor_fen``; irrevocable: all stand."""

    by: str
    since: datetime
    until: datetime
    floor_fen: int | None
    irrevocable: bool


@dataclass(frozen=True, slots=True)
class Collecting:
    """The call phase that the book is in; at ``until`` it is executed.

    ``price_fen`` is set once that has begun at this price: what is left of it comes before anything else.
    """

    until: datetime
    floor_fen: int | None
    price_fen: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """The credits of one batch as they are traded.

    ``reference_fen`` is that of the local ``day``; ``last_*`` are of the last trade. ``sequence`` and ``trades`` count
    what the matcher gave out, ``revision`` what changed; ``holder`` is the matcher that may turn its book now,
    ``turned_by`` the one that did last. ``taking``: the order whose fills began in a round that had no room for all of
    them; the others come before anything else.
    """

    id: Asset
    listed_at: datetime
    listed_by: str
    reference_fen: int
    day: date
    last_fen: int | None = None
    last_at: datetime | None = None
    halt: Halt | None = None
    extra: ExtraSession | None = None
    auction: StaffAuction | None = None
    collecting: Collecting | None = None
    taking: OrderId | None = None
    sequence: int = 0
    trades: int = 0
    revision: int = 1
    holder: str = ""
    turned_by: str = ""

    @property
    def shard(self) -> ShardNumber:
        """Whose matcher this is, for ever the same."""
        return shard_of(self.id)


@dataclass(frozen=True, slots=True)
class Placing:
    """What somebody asks for: an order before it is one. A market order names no price, and does not wait."""

    instrument: Asset
    side: Side
    kind: OrderKind
    price_fen: int | None
    quantity_g: int
    time_in_force: TimeInForce
    good_until: datetime | None = None
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Amending:
    """An order's new limit and how much of it shall be open; what is None stays."""

    price_fen: int | None
    quantity_g: int | None


@dataclass(frozen=True, slots=True)
class Fees:
    """Hundredths of a per cent of a fill's value, as they were when the order was placed."""

    maker_bps: int
    taker_bps: int

    @property
    def most_bps(self) -> int:
        """What a fill may cost at most."""
        return max(self.maker_bps, self.taker_bps)


@dataclass(frozen=True, slots=True)
class Command:
    """What was asked of an order and the matcher has not done yet; for an amendment limit and open grams wanted.

    What is None shall be as it is when the request is carried out.
    """

    kind: CommandKind
    at: datetime
    by_staff: bool
    price_fen: int | None = None
    quantity_g: int | None = None


@dataclass(frozen=True, slots=True)
class LastCommand:
    """What was last asked of an order, and what became of it."""

    kind: CommandKind
    at: datetime
    outcome: CommandOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An offer to buy or sell; ``quantity_g`` is all of it, cancelled grams included.

    ``numerator`` is the sum of price times grams of its fills and ``value_fen`` what they came to; ``fee_numerator``
    the sum of value times basis points and ``fee_fen`` what was paid of it. ``hold`` names what is reserved for it,
    ``held`` how much of that is left (fen, or milligrams of credits), ``holds`` how many it has had. ``commands``
    counts what was asked of it. ``queued_at``: since when the matcher has something to do with it; of those of one
    moment the lower ``turn`` came first.
    """

    id: OrderId
    instrument: Asset
    owner: OwnerId
    placed_by: str
    side: Side
    kind: OrderKind
    time_in_force: TimeInForce
    price_fen: int
    quantity_g: int
    remaining_g: int
    good_until: datetime
    created_at: datetime
    fees: Fees
    hold: TransactionId
    held: int
    hold_until: datetime
    payload: str
    holds: int = 1
    filled_g: int = 0
    numerator: int = 0
    value_fen: int = 0
    fee_numerator: int = 0
    fee_fen: int = 0
    status: OrderStatus = OrderStatus.PENDING
    reason: EndReason | None = None
    sequence: int = 0
    queued_at: datetime | None = None
    turn: int = 0
    command: Command | None = None
    commands: int = 0
    last_command: LastCommand | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may still be filled."""
        return self.status in {OrderStatus.PENDING, OrderStatus.OPEN}

    @property
    def cancelled_g(self) -> int:
        """Grams that were given up."""
        return self.quantity_g - self.filled_g - self.remaining_g


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """What two orders exchanged; the maker was there first. ``taker_side`` is None in an auction, where nobody took."""

    instrument: Asset
    number: int
    at: datetime
    price_fen: int
    quantity_g: int
    value_fen: int
    buy_order: OrderId
    sell_order: OrderId
    buyer: OwnerId
    seller: OwnerId
    buyer_fee_fen: int
    seller_fee_fen: int
    taker_side: Side | None
    transaction: TransactionId | None = None
    serials: Ranges = ()

    @property
    def id(self) -> TradeId:
        """The id that this instrument's trade of this number always has."""
        return trade_id(self.instrument, self.number)


def trade_id(instrument: Asset, number: int) -> TradeId:
    """The id of the instrument's trade of that number; ids are in the order of numbers."""
    return TradeId(f"{instrument}#{number:0{TRADE_DIGITS}}")


@dataclass(frozen=True, slots=True)
class Holding:
    """What somebody has of one credit.

    ``cost_fen`` is what was paid for it, fees included: of all that was ever paid for this credit the part that what is
    still there has in all that ever came in, rounded down. ``value_fen`` is at the last price, rounded down.
    """

    owner: OwnerId
    instrument: Asset
    grams: int
    available_g: int
    serials: Ranges
    cost_fen: int
    value_fen: int | None


def order_channel(owner: OwnerId) -> str:
    """The channel on which an owner is told of their orders."""
    return f"orders:{owner}"


def trade_channel(instrument: Asset) -> str:
    """The channel on which everybody is told of an instrument's trades."""
    return f"trades:{instrument}"
