"""What a round of the matcher begins with: the book in memory, what waits, how much there is room for. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from backend.market.exchange.book import Book
from backend.market.exchange.book import Order as Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from backend.ledger.model import OwnerId
    from backend.market.exchange.model import Instrument, Order, OrderId


@dataclass
class Floor:
    """An instrument's book in memory, with the orders that rest in it, as they stand at ``instrument.revision``."""

    instrument: Instrument
    book: Book
    orders: dict[OrderId, Order]

    @classmethod
    def load(cls, instrument: Instrument, resting: Iterable[Order]) -> Floor:
        """The floor as it was left."""
        # What is asked of them comes with the queue.
        orders = {order.id: dataclasses.replace(order, command=None, queued_at=None) for order in resting}
        book = Book.load(map(entry_of, orders.values()), collects=instrument.collecting is not None)
        return cls(instrument, book, orders)


def entry_of(order: Order) -> Entry:
    """The order as the book knows it."""
    return Entry(order.id, order.owner, order.side, order.price_fen, order.remaining_g, order.sequence)


@dataclass(frozen=True)
class Waiting:
    """What a round finds to do: all that was queued or ended up to ``until``, in the order of these moments.

    ``taking`` is the order that the instrument names as one whose fills have begun.
    """

    queued: Sequence[Order]
    expired: Sequence[Order]
    until: datetime
    taking: Order | None = None


class Most(NamedTuple):
    """For how many transactions of the ledger a round has room, and for how many grams in its first fill."""

    moves: int
    first_g: int | None = None


@dataclass
class Setbacks:
    """What earlier tries of a round found, so that no try fails for what another did.

    ``lost``: orders whose hold is gone. ``unfunded``: amendments, and ``short``: owners of any, for which funds did not
    suffice. ``most``: where the round must be cut so that it does not move too many ranges of serials.
    """

    lost: set[OrderId] = field(default_factory=set)
    unfunded: set[OrderId] = field(default_factory=set)
    short: set[OwnerId] = field(default_factory=set)
    most: Most | None = None
