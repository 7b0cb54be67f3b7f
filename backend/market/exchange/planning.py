"""One round of an instrument's matcher: what queued orders, commands, phases and ends do to the book. Pure.

Orders and commands take effect in the phase in which they were queued, in the order in which they were, and what ends
does so in its place among them: a matcher that was late comes to the same trades as one that was not. A round changes
the floor that it is given, for good or until that is thrown away.

There is room for so much in a round. What has begun and found no room, the fills of an order or of an auction, was
decided on when it began: the next round goes on with it before anything else happens, a halt included.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import CNY
from backend.market.exchange import rules
from backend.market.exchange.auction import list_fills, uncross
from backend.market.exchange.book import Outcome, Room, Side
from backend.market.exchange.booking import hold_id, releasing, reserving
from backend.market.exchange.filling import Drawn, drawn_on
from backend.market.exchange.floor import entry_of
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
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from backend.ledger.model import Asset, OwnerId, Transaction
    from backend.market.exchange.book import Fill
    from backend.market.exchange.floor import Floor, Most, Setbacks, Waiting
    from backend.market.exchange.hours import Timetable
    from backend.market.exchange.model import Command, Instrument, Order, OrderId


class UnknownRestingError(Exception):
    """An order that should rest is not in the book: the floor is not what is stored."""


@dataclass
class Round:
    """What one round comes to: ``moves`` are for the ledger, in their order; ``changed`` are the orders as they are.

    ``purses`` tell what owners of amended orders have free, by asset. ``is_cut``: there was no room for something.
    """

    floor: Floor
    hours: Timetable
    now: datetime
    setbacks: Setbacks
    most: Most
    purses: dict[tuple[OwnerId, Asset], int] = field(default_factory=dict)
    is_cut: bool = False
    moves: list[Drawn | Transaction] = field(default_factory=list)
    changed: dict[OrderId, Order] = field(default_factory=dict)
    handled: dict[OrderId, int] = field(default_factory=dict)
    amended: dict[str, OrderId] = field(default_factory=dict)
    """Ids of the new holds of amended orders: funds may be gone that were in the purse."""
    _last_draw: dict[OrderId, Drawn] = field(default_factory=dict)
    # Every order and trade counts on: the instrument learns of it at the end.
    _sequence: int = field(init=False)
    _trades: int = field(init=False)
    _last_fen: int | None = field(init=False)
    # Since when what is done now has waited.
    _moment: datetime = field(init=False)

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

    def run(self, waiting: Waiting) -> None:
        """Go on with what has begun, then let everything happen in its turn, then let the phases come to the present.

        While trading is halted only ends and cancellations are given.

        Raises:
            UnknownRestingError: the floor is not what is stored.
        """
        for lost in sorted(self.setbacks.lost & self.floor.orders.keys()):
            self._end(self.floor.orders[lost], EndReason.HOLD_LOST)
        if self._goes_on(waiting.taking):
            self._work_off(waiting)
        self._count()

    def _goes_on(self, taking: Order | None) -> bool:
        """Do what has begun; whether that is done."""
        if taking is not None:
            self._go_on(taking)
        collecting = self.instrument.collecting
        if not self.is_cut and collecting is not None and collecting.price_fen is not None:
            self._execute(collecting)
        return not self.is_cut

    def _go_on(self, order: Order) -> None:
        self._turn(taking=None)
        assert order.queued_at is not None
        self._moment = order.queued_at
        if order.command is None:  # else it stays queued for that
            self.handled[order.id] = order.commands
        order = dataclasses.replace(order, status=OrderStatus.OPEN, queued_at=None, command=None)
        if order.id in self.setbacks.lost:
            self._end(order, EndReason.HOLD_LOST)
        else:
            self._settle(order, self.floor.book.go_on(entry_of(order), order.time_in_force, self._room()))

    def _work_off(self, waiting: Waiting) -> None:
        is_halted = self.hours.phase_at(self.instrument, self.now).kind is PhaseKind.HALTED
        for moment, order, is_end in self._turns(waiting, is_halted=is_halted):
            if not self._has_room() or (not is_halted and not self._advance(moment)):
                return
            if is_end:
                self._expire(order)
            else:
                self._take(order)
            if self.is_cut:
                return
        if not is_halted:
            self._advance(waiting.until)

    def _turns(self, waiting: Waiting, *, is_halted: bool) -> Iterator[tuple[datetime, Order, bool]]:
        """What is to be done, when, and whether it is an order's end; what ends at a moment is not there any more."""
        begun = waiting.taking.id if waiting.taking else None
        turns = [(order.good_until, order, True) for order in waiting.expired]
        turns += [(min(order.queued_at, self.now), order, False) for order in waiting.queued if order.queued_at]
        for turn in sorted(turns, key=lambda one: (one[0], not one[2])):
            if turn[1].id != begun and (is_halted or turn[0] <= waiting.until):
                yield turn

    def _has_room(self) -> bool:
        self.is_cut = self.is_cut or len(self.moves) >= self.most.moves
        return not self.is_cut

    def _room(self) -> Room:
        first_g = self.most.first_g if not self.moves else None
        return Room(max(0, self.most.moves - len(self.moves)), first_g)

    def _count(self) -> None:
        """Let the instrument know how far sequences and trades have come."""
        last_at = self.now if self._trades > self.instrument.trades else self.instrument.last_at
        self._turn(sequence=self._sequence, trades=self._trades, last_fen=self._last_fen, last_at=last_at)

    def _known(self, order: Order) -> Order:
        """The order as it stands in this round: what is in memory is as the matcher left it, what is asked is news."""
        self.handled[order.id] = order.commands
        if order.id in self.changed:
            # What this round has answered is newer than what is stored.
            return dataclasses.replace(self.changed[order.id], commands=order.commands)
        if order.status is OrderStatus.PENDING:
            return order
        standing = self.floor.orders.get(order.id)
        if standing is None:
            raise UnknownRestingError(order.id)
        return dataclasses.replace(standing, commands=order.commands, last_command=order.last_command)

    def _advance(self, moment: datetime) -> bool:
        """Let the phases come to that moment: execute an auction that is over, begin a day, begin to collect.

        Whether there was room for that.
        """
        collecting = self.instrument.collecting
        if collecting is not None and moment >= collecting.until:
            self._execute(collecting)
        if not self.is_cut and self.hours.day_of(moment) > self.instrument.day:
            self._begin_day(moment)
        if self.is_cut:
            return False
        phase = self.hours.phase_at(self.instrument, moment)
        if phase.kind in COLLECTING and phase.until is not None:
            auction = self.instrument.auction
            floor_fen = auction.floor_fen if auction is not None and phase.kind is PhaseKind.AUCTION else None
            self.floor.book.open_call()
            self._turn(collecting=Collecting(phase.until, floor_fen))
        return True

    def _begin_day(self, moment: datetime) -> None:
        self._count()
        reference_fen = rules.reference_at(self.instrument, moment, self.hours.zone)
        band = rules.band_of(reference_fen, self.hours.settings)
        for order in [one for one in self.floor.orders.values() if not band.has(one.price_fen)]:
            if not self._has_room():
                return
            self._end(order, EndReason.OUTSIDE_BAND)
        self._turn(day=self.hours.day_of(moment), reference_fen=reference_fen)

    def _execute(self, collecting: Collecting) -> None:
        book, price_fen = self.floor.book, collecting.price_fen
        if price_fen is None:
            tick_fen = self.hours.settings.tick_fen
            price_fen = uncross(book, self.instrument.reference_fen, tick_fen, collecting.floor_fen).price_fen
        if price_fen is not None:
            self._turn(collecting=dataclasses.replace(collecting, price_fen=price_fen))
            room = self._room()
            fills = list_fills(book, price_fen, room.fills or 0)
            if room.first_g is not None:
                fills = tuple(fill._replace(quantity_g=min(fill.quantity_g, room.first_g)) for fill in fills[:1])
            book.execute(fills)
            for fill in fills:
                self._fill(fill, None)
            if list_fills(book, price_fen, 1):
                self.is_cut = True
                return
        # What lies below the floor and is not executed: it cannot stay beside what it crosses.
        while (crossing := book.crossing()) is not None:
            if not self._has_room():
                return
            later = max(crossing, key=lambda entry: entry.sequence)
            self._end(self.floor.orders[later.id], EndReason.BELOW_FLOOR)  # type: ignore[index]
        book.close_call()
        self._turn(collecting=None)

    def _turn(self, **changes: object) -> None:
        self.floor.instrument = dataclasses.replace(self.floor.instrument, **changes)  # type: ignore[arg-type]

    def _expire(self, order: Order) -> None:
        order = self._known(order)
        if order.is_open:
            self._end(order, EndReason.EXPIRED)

    def _take(self, order: Order) -> None:
        """Do what the order waits for: to be entered, cancelled or amended."""
        assert order.queued_at is not None
        self._moment = order.queued_at
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
        else:
            self._amend(order, command, is_new=is_new)

    def _enter(self, order: Order) -> None:
        """Give the order its turn in the book, if the market as it is then takes it."""
        self._sequence += 1
        order = dataclasses.replace(
            order, sequence=self._sequence, status=OrderStatus.OPEN, queued_at=None, command=None
        )
        book, is_immediate = self.floor.book, order.time_in_force in IMMEDIATE
        reason: EndReason | None = None
        if is_immediate and order.good_until <= self.now:
            reason = EndReason.EXPIRED  # nobody waits for it any more
        elif is_immediate and book.collects:
            reason = EndReason.IOC_REST
        else:
            reason = self._problem(order, order.price_fen)
        if reason is not None:
            self._end(order, reason)
        else:
            self._settle(order, book.place(entry_of(order), order.time_in_force, self._room()))

    def _problem(self, order: Order, price_fen: int) -> EndReason | None:
        """Why the market as it is now does not take that limit, which it did when it was asked."""
        collecting = self.instrument.collecting
        if not rules.band_of(self.instrument.reference_fen, self.hours.settings).has(price_fen):
            return EndReason.OUTSIDE_BAND
        if collecting is not None and collecting.floor_fen is not None and price_fen < collecting.floor_fen:
            return EndReason.BELOW_FLOOR
        if collecting is not None and self.floor.book.meets_own(order.owner, order.side, price_fen):
            return EndReason.SELF_TRADE
        return None

    def _settle(self, order: Order, outcome: Outcome) -> None:
        """Note what the book made of an order placed or amended."""
        self._set(order)
        for fill in outcome.fills:
            self._fill(fill, order.side)
        if outcome.stop is not None:
            self._end(self.changed[order.id], STOPPED[outcome.stop])
        elif outcome.waiting_g:
            # It does not rest, so it is as one that the matcher has not seen but for what it has.
            begun = dataclasses.replace(
                self.changed[order.id], status=OrderStatus.PENDING, queued_at=self._moment, command=None
            )
            self.floor.orders.pop(order.id)
            self.changed[order.id] = begun
            self._turn(taking=order.id)
            self.is_cut = True

    def _set(self, order: Order) -> None:
        self.changed[order.id] = order
        if order.is_open:
            self.floor.orders[order.id] = order
        else:
            self.floor.orders.pop(order.id, None)

    def _fill(self, fill: Fill, taker_side: Side | None) -> None:
        maker, taker = (self.floor.orders[id_] for id_ in (fill.maker, fill.taker))  # type: ignore[index]
        buyer, seller = (maker, taker) if maker.side is Side.BUY else (taker, maker)
        self._trades, self._last_fen = self._trades + 1, fill.price_fen
        drawn, after = drawn_on(buyer, seller, fill, taker_side, self._trades, self.now)
        self.moves.append(drawn)
        self._gain(seller.owner, CNY, drawn.trade.value_fen - drawn.trade.seller_fee_fen)
        self._gain(buyer.owner, self.instrument.id, fill.quantity_g * MG_PER_GRAM)
        self._last_draw[seller.id] = drawn
        if drawn.buyer_pays:
            self._last_draw[buyer.id] = drawn
        for order in after:
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
        self._gain(order.owner, rules.reserved_asset(order.side, order.instrument), order.held)
        if drawn is None:
            self.moves.append(releasing(order))
        elif order.side is Side.BUY:
            drawn.last_of_buyer = True
        else:
            drawn.last_of_seller = True

    def _gain(self, owner: OwnerId, asset: Asset, amount: int) -> None:
        if (owner, asset) in self.purses:
            self.purses[owner, asset] += amount

    def _amend(self, order: Order, command: Command, *, is_new: bool) -> None:
        """Let the order be what is asked for, unless that cannot be; a new one enters as whichever it is then."""
        price_fen = command.price_fen if command.price_fen is not None else order.price_fen
        problem = self._problem(order, price_fen)
        if problem is not None:
            amended, outcome = None, CommandOutcome(problem.value)
        else:
            amended, outcome = self._amended(order, price_fen, command.quantity_g), CommandOutcome.INSUFFICIENT_FUNDS
        if amended is None:
            order = _answered(order, command, outcome)
            if is_new:
                self._enter(order)
            else:
                self._set(order)
            return
        amended = _answered(amended, command, CommandOutcome.DONE)
        if is_new:
            self._enter(amended)
            return
        keeps_turn = amended.price_fen == order.price_fen and amended.remaining_g <= order.remaining_g
        if not keeps_turn:
            self._sequence += 1
            amended = dataclasses.replace(amended, sequence=self._sequence)
        done = self.floor.book.amend(order.id, price_fen, amended.remaining_g, amended.sequence, self._room())
        if done is None:
            raise UnknownRestingError(order.id)
        self._settle(amended, done)

    def _amended(self, order: Order, price_fen: int, quantity_g: int | None) -> Order | None:
        """The order with its new limit and open grams, reserved for anew; None where its owner cannot pay for that."""
        remaining_g = quantity_g if quantity_g is not None else order.remaining_g
        number = order.holds + 1
        amended = dataclasses.replace(
            order,
            price_fen=price_fen,
            quantity_g=order.filled_g + remaining_g,
            remaining_g=remaining_g,
            hold=hold_id(order.id, number),
            holds=number,
        )
        amended = dataclasses.replace(amended, held=rules.needed(amended))
        asset = rules.reserved_asset(order.side, order.instrument)
        spare = 0 if order.owner in self.setbacks.short else self.purses.get((order.owner, asset))
        if order.id in self.setbacks.unfunded or (spare is not None and spare + order.held < amended.held):
            return None
        self._release(order)
        if amended.held:  # what was paid before can cover a fen's rest
            hold = reserving(amended)
            self.moves.append(hold)
            self.amended[hold.id] = order.id
            self._gain(order.owner, asset, -amended.held)
        return amended


def _answered(order: Order, command: Command, outcome: CommandOutcome) -> Order:
    """The order with what became of a command."""
    return dataclasses.replace(order, last_command=LastCommand(command.kind, command.at, outcome))
