"""One round of an instrument's matcher: what queued orders, commands, phases and ends do to the book. Pure.

Orders and commands take effect in the phase in which they were queued, in the order in which they were: a matcher that
was late comes to the same trades as one that was not. A round changes the floor that it is given, for good or until
that is thrown away.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.kernel.units import MG_PER_GRAM
from backend.market.exchange import rules
from backend.market.exchange.auction import uncross
from backend.market.exchange.book import Book, Outcome, Side
from backend.market.exchange.book import Order as Entry
from backend.market.exchange.booking import hold_id, releasing, reserving
from backend.market.exchange.model import (
    COLLECTING,
    IMMEDIATE,
    STOPPED,
    Collecting,
    CommandKind,
    CommandOutcome,
    EndReason,
    LastCommand,
    OrderStatus,
    PhaseKind,
    Trade,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from backend.ledger.model import Transaction
    from backend.market.exchange.book import Fill
    from backend.market.exchange.hours import Timetable
    from backend.market.exchange.model import Command, Instrument, Order, OrderId


class UnknownRestingError(Exception):
    """An order that should rest is not in the book: the floor is not what is stored."""


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
        book = Book.load(map(_entry, orders.values()), collects=instrument.collecting is not None)
        return cls(instrument, book, orders)


@dataclass
class Drawn:
    """A trade that was decided on; whether it is the last to draw on the one or the other order's hold."""

    trade: Trade
    buyer: Order
    seller: Order
    last_of_buyer: bool = False
    last_of_seller: bool = False

    @property
    def buyer_pays(self) -> bool:
        """Whether the buyer's hold is drawn on at all: a fill can be worth less than a fen."""
        return bool(self.trade.value_fen or self.trade.buyer_fee_fen)


@dataclass
class Setbacks:
    """What earlier tries of a round found: orders whose hold is gone, amendments for which funds do not suffice."""

    lost: set[OrderId] = field(default_factory=set)
    unfunded: set[OrderId] = field(default_factory=set)


@dataclass
class Round:
    """What one round comes to: ``moves`` are for the ledger, in their order; ``changed`` are the orders as they are."""

    floor: Floor
    hours: Timetable
    now: datetime
    setbacks: Setbacks
    moves: list[Drawn | Transaction] = field(default_factory=list)
    changed: dict[OrderId, Order] = field(default_factory=dict)
    handled: dict[OrderId, int] = field(default_factory=dict)
    amended: dict[str, OrderId] = field(default_factory=dict)
    """Ids of the new holds of amended orders: for them funds may not suffice."""
    _last_draw: dict[OrderId, Drawn] = field(default_factory=dict)
    # Every order and trade counts on: the instrument learns of it at the end.
    _sequence: int = field(init=False)
    _trades: int = field(init=False)
    _last_fen: int | None = field(init=False)

    def __post_init__(self) -> None:
        """Count on from where the instrument stands."""
        instrument = self.floor.instrument
        self._sequence, self._trades, self._last_fen = instrument.sequence, instrument.trades, instrument.last_fen

    @property
    def instrument(self) -> Instrument:
        """The instrument as the round has left it."""
        return self.floor.instrument

    @property
    def trades(self) -> list[Drawn]:
        """The trades in their order."""
        return [move for move in self.moves if isinstance(move, Drawn)]

    def run(self, queued: Sequence[Order], expired: Sequence[Order]) -> None:
        """End what has ended, then take what is queued one by one, then let the phases come to the present.

        While trading is halted only ends and cancellations are given.

        Raises:
            UnknownRestingError: the floor is not what is stored.
        """
        for order in expired:
            self._end(self._known(order), EndReason.EXPIRED)
        for lost in sorted(self.setbacks.lost & self.floor.orders.keys()):
            self._end(self.floor.orders[lost], EndReason.HOLD_LOST)
        is_halted = self.hours.phase_at(self.instrument, self.now).kind is PhaseKind.HALTED
        for order in queued:
            if not is_halted:
                assert order.queued_at is not None
                self._advance(min(order.queued_at, self.now))
            self._take(order)
        if not is_halted:
            self._advance(self.now)
        self._count()

    def _count(self) -> None:
        """Let the instrument know how far sequences and trades have come."""
        last_at = self.now if self._trades > self.instrument.trades else self.instrument.last_at
        self._turn(sequence=self._sequence, trades=self._trades, last_fen=self._last_fen, last_at=last_at)

    def _known(self, order: Order) -> Order:
        """The order as it stands in this round: what is in memory is as the matcher left it, what is asked is news."""
        self.handled[order.id] = order.commands
        if order.id in self.changed or order.status is OrderStatus.PENDING:
            return self.changed.get(order.id, order)
        standing = self.floor.orders.get(order.id)
        if standing is None:
            raise UnknownRestingError(order.id)
        return dataclasses.replace(standing, commands=order.commands, last_command=order.last_command)

    def _advance(self, moment: datetime) -> None:
        """Let the phases come to that moment: execute an auction that is over, begin a day, begin to collect."""
        collecting = self.instrument.collecting
        if collecting is not None and moment >= collecting.until:
            self._execute(collecting)
        day = self.hours.day_of(moment)
        if day > self.instrument.day:
            self._count()
            reference_fen = rules.reference_at(self.instrument, moment, self.hours.zone)
            self._turn(day=day, reference_fen=reference_fen)
            band = rules.band_of(reference_fen, self.hours.settings)
            for order in [one for one in self.floor.orders.values() if not band.has(one.price_fen)]:
                self._end(order, EndReason.OUTSIDE_BAND)
        phase = self.hours.phase_at(self.instrument, moment)
        if phase.kind in COLLECTING and phase.until is not None:
            auction = self.instrument.auction
            floor_fen = auction.floor_fen if auction is not None and phase.kind is PhaseKind.AUCTION else None
            self.floor.book.open_call()
            self._turn(collecting=Collecting(phase.until, floor_fen))

    def _execute(self, collecting: Collecting) -> None:
        book, settings = self.floor.book, self.hours.settings
        found = uncross(book, self.instrument.reference_fen, settings.tick_fen, collecting.floor_fen)
        book.execute(found.fills)
        for fill in found.fills:
            self._fill(fill, None)
        book.close_call()
        self._turn(collecting=None)

    def _turn(self, **changes: object) -> None:
        self.floor.instrument = dataclasses.replace(self.floor.instrument, **changes)  # type: ignore[arg-type]

    def _take(self, order: Order) -> None:
        """Do what the order waits for: to be entered, cancelled or amended."""
        command, is_new = order.command, order.status is OrderStatus.PENDING
        order = self._known(order)
        if not order.is_open:  # it ended earlier in this round
            return
        if order.id in self.setbacks.lost:
            self._end(order, EndReason.HOLD_LOST)
        elif command is None:
            self._enter(order)
        elif command.kind is CommandKind.CANCEL:
            reason = EndReason.BY_STAFF if command.by_staff else EndReason.BY_OWNER
            self._end(_answered(order, command, CommandOutcome.DONE), reason)
        elif is_new:
            amended = self._amended(order, command)
            self._enter(amended or _answered(order, command, CommandOutcome.INSUFFICIENT_FUNDS))
        else:
            self._amend_resting(order, command)

    def _enter(self, order: Order) -> None:
        """Give the order its turn in the book."""
        self._sequence += 1
        order = dataclasses.replace(
            order, sequence=self._sequence, status=OrderStatus.OPEN, queued_at=None, command=None
        )
        book = self.floor.book
        if book.collects and book.meets_own(order.owner, order.side, order.price_fen):
            self._end(order, EndReason.SELF_TRADE)
        elif book.collects and order.time_in_force in IMMEDIATE:
            self._end(order, EndReason.IOC_REST)
        else:
            self._settle(order, book.place(_entry(order), order.time_in_force))

    def _settle(self, order: Order, outcome: Outcome) -> None:
        """Note what the book made of an order placed or amended."""
        self._set(order)
        for fill in outcome.fills:
            self._fill(fill, order.side)
        if outcome.stop is not None:
            self._end(self.changed[order.id], STOPPED[outcome.stop])

    def _set(self, order: Order) -> None:
        self.changed[order.id] = order
        if order.is_open:
            self.floor.orders[order.id] = order
        else:
            self.floor.orders.pop(order.id, None)

    def _fill(self, fill: Fill, taker_side: Side | None) -> None:
        maker, taker = (self.floor.orders[id_] for id_ in (fill.maker, fill.taker))  # type: ignore[index]
        buyer, seller = (maker, taker) if maker.side is Side.BUY else (taker, maker)
        value_fen = rules.fill_value(buyer.numerator, fill.price_fen, fill.quantity_g)
        buyer_after = _filled(buyer, fill, value_fen, is_taker=taker_side is Side.BUY)
        seller_after = _filled(seller, fill, value_fen, is_taker=taker_side is Side.SELL)
        self._trades, self._last_fen = self._trades + 1, fill.price_fen
        trade = Trade(
            instrument=self.instrument.id,
            number=self._trades,
            at=self.now,
            price_fen=fill.price_fen,
            quantity_g=fill.quantity_g,
            value_fen=value_fen,
            buy_order=buyer.id,
            sell_order=seller.id,
            buyer=buyer.owner,
            seller=seller.owner,
            buyer_fee_fen=buyer_after.fee_fen - buyer.fee_fen,
            seller_fee_fen=seller_after.fee_fen - seller.fee_fen,
            taker_side=taker_side,
        )
        drawn = Drawn(trade, buyer, seller)
        self.moves.append(drawn)
        self._last_draw[seller.id] = drawn
        if drawn.buyer_pays:
            self._last_draw[buyer.id] = drawn
        for order in (buyer_after, seller_after):
            self._set(order)
            if not order.remaining_g:
                self._finish(order, OrderStatus.FILLED, None)

    def _end(self, order: Order, reason: EndReason) -> None:
        """Give up what is left of an order."""
        self.floor.book.cancel(order.id)
        self._finish(order, OrderStatus.CANCELLED, reason)

    def _finish(self, order: Order, status: OrderStatus, reason: EndReason | None) -> None:
        self._release(order)
        self._set(
            dataclasses.replace(
                order, status=status, reason=reason, remaining_g=0, held=0, queued_at=None, command=None
            )
        )

    def _release(self, order: Order) -> None:
        """Set free what is left of the order's hold: with the last trade that drew on it, or by itself."""
        drawn = self._last_draw.pop(order.id, None)
        if not order.held:
            return
        if drawn is None:
            self.moves.append(releasing(order))
        elif order.side is Side.BUY:
            drawn.last_of_buyer = True
        else:
            drawn.last_of_seller = True

    def _amend_resting(self, order: Order, command: Command) -> None:
        book = self.floor.book
        assert command.price_fen is not None
        if book.collects and book.meets_own(order.owner, order.side, command.price_fen):
            self._set(_answered(order, command, CommandOutcome.SELF_TRADE))
            return
        amended = self._amended(order, command)
        if amended is None:
            self._set(_answered(order, command, CommandOutcome.INSUFFICIENT_FUNDS))
            return
        keeps_turn = amended.price_fen == order.price_fen and amended.remaining_g <= order.remaining_g
        if not keeps_turn:
            self._sequence += 1
            amended = dataclasses.replace(amended, sequence=self._sequence)
        outcome = book.amend(order.id, amended.price_fen, amended.remaining_g, amended.sequence)
        if outcome is None:
            raise UnknownRestingError(order.id)
        self._settle(amended, outcome)

    def _amended(self, order: Order, command: Command) -> Order | None:
        """The order with its new limit and open grams, reserved for anew; None where its owner cannot pay for that."""
        if order.id in self.setbacks.unfunded:
            return None
        assert command.price_fen is not None
        assert command.quantity_g is not None
        self._release(order)
        number = order.holds + 1
        amended = dataclasses.replace(
            order,
            price_fen=command.price_fen,
            quantity_g=order.filled_g + command.quantity_g,
            remaining_g=command.quantity_g,
            hold=hold_id(order.id, number),
            holds=number,
        )
        amended = dataclasses.replace(amended, held=rules.needed(amended))
        if amended.held:  # what was paid before can cover a fen's rest
            hold = reserving(amended)
            self.moves.append(hold)
            self.amended[hold.id] = order.id
        return _answered(amended, command, CommandOutcome.DONE)


def _answered(order: Order, command: Command, outcome: CommandOutcome) -> Order:
    """The order with what became of a command."""
    return dataclasses.replace(order, last_command=LastCommand(command.kind, command.at, outcome))


def _entry(order: Order) -> Entry:
    """The order as the book knows it."""
    return Entry(order.id, order.owner, order.side, order.price_fen, order.remaining_g, order.sequence)


def _filled(order: Order, fill: Fill, value_fen: int, *, is_taker: bool) -> Order:
    bps = order.fees.taker_bps if is_taker else order.fees.maker_bps
    fee_fen = rules.fee_of(order.fee_numerator, order.fee_fen, value_fen, bps)
    drawn = value_fen + fee_fen if order.side is Side.BUY else fill.quantity_g * MG_PER_GRAM
    return dataclasses.replace(
        order,
        filled_g=order.filled_g + fill.quantity_g,
        remaining_g=order.remaining_g - fill.quantity_g,
        numerator=order.numerator + fill.price_fen * fill.quantity_g,
        value_fen=order.value_fen + value_fen,
        fee_numerator=order.fee_numerator + value_fen * bps,
        fee_fen=order.fee_fen + fee_fen,
        held=order.held - drawn,
    )
