"""Money, serials and the exchange of the reference market: part of ``market_model``, under the same oath.

Serials are stretches side by side; what is held follows from orders and payouts. Books are those of
``reference_market``; a matcher that comes late does what was queued as of when it was.
"""

from __future__ import annotations

import copy
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from backend.market.exchange.book import Fill, Outcome, Side, TimeInForce
from tests.simulation.market_values import BPS, Instrument, Order, Register, Wish, up
from tests.simulation.reference import demand
from tests.unit.market.reference_market import accepts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend.market.settings import MarketSettings

AT_ONCE = {TimeInForce.IOC, TimeInForce.FOK}
CALLS, UNDER_WAY = {"CALL", "AUCTION"}, {"REQUESTED", "SETTLING"}
MOST_PAYOUTS = 5


class Trading:
    """Owners with fen and serials who trade; ``ValueError`` says why something is refused."""

    def __init__(self, zone: tzinfo, settings: MarketSettings) -> None:
        self.zone, self.settings = zone, settings
        self.fen: Counter[str] = Counter()
        self.registers: dict[str, Register] = {}
        self.instruments: dict[str, Instrument] = {}
        self.orders: dict[str, Order] = {}
        self.payouts: dict[str, tuple[str, int, str, datetime]] = {}
        # Holds of orders that were over before anybody set them free: owner, asset, amount, end.
        self.overdue: list[tuple[str, str, int, datetime]] = []
        # Orders whose holds the book has set free while no matcher came to end them.
        self.lapsed: set[str] = set()
        # Orders whose holds were over when they were to be filled.
        self.lost: set[str] = set()

    # What is whose, and when

    def grams(self, owner: str, credit: str) -> int:
        return self.registers[credit].grams(owner)

    def held(self, owner: str, asset: str) -> int:
        mine = [one for one in self.orders.values() if (one.owner, one.asset) == (owner, asset)]
        orders = sum(one.held for one in mine if one.id not in self.lapsed)
        payouts = sum(fen for whose, fen, stage, _ in self.payouts.values() if whose == owner and stage in UNDER_WAY)
        over = sum(amount for whose, what, amount, _ in self.overdue if (whose, what) == (owner, asset))
        return orders + over + (payouts if asset == "cny" else 0)

    def available(self, owner: str, asset: str) -> int:
        return (self.fen[owner] if asset == "cny" else self.grams(owner, asset)) - self.held(owner, asset)

    def day(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def midnight(self, moment: datetime, days: int) -> datetime:
        """The beginning of the local day so many days later."""
        day = self.day(moment) + timedelta(days=days)
        return datetime.combine(day, time(), self.zone).astimezone(UTC)

    def phase(self, credit: str, moment: datetime) -> tuple[str, datetime]:
        """What the market does, and until when."""
        instrument, settings = self.instruments[credit], self.settings
        for since, until, *_ in instrument.auctions:
            if since <= moment < until:
                return "AUCTION", until
        for since, until in [one for one in instrument.sessions if one[0] <= moment][-1:]:
            if since <= moment < until:
                return "CONTINUOUS", until
        local = moment.astimezone(self.zone)
        spans = [("CALL", settings.call), *(("CONTINUOUS", hours) for hours in settings.sessions)]
        for kind, hours in spans if local.isoweekday() in settings.weekdays else ():
            if hours and hours.opens <= f"{local:%H:%M}" < hours.closes:
                closes = datetime.combine(local.date(), time.fromisoformat(hours.closes), self.zone)
                return kind, closes.astimezone(UTC)
        return "CLOSED", moment

    def reference(self, credit: str, now: datetime) -> int:
        instrument = self.instruments[credit]
        is_new = self.day(now) > instrument.day
        return instrument.last if is_new and instrument.last is not None else instrument.reference

    def band(self, reference: int) -> tuple[int, int]:
        width = self.settings.band_bps
        return max(1, up(reference * (BPS - width), BPS)), max(1, reference * (BPS + width) // BPS)

    # What is asked

    def demand_trading(self, credit: str, now: datetime) -> str:
        demand(not self.instruments[credit].halted, "MARKET_HALTED")
        phase = self.phase(credit, now)[0]
        demand(phase != "CLOSED", "MARKET_CLOSED")
        return phase

    def demand_quantity(self, owner: str, grams: int) -> None:
        demand(grams % self.settings.lot_g == 0, "OFF_LOT")
        least = self.settings.enterprise_minimum_g if owner.startswith("enterprise:") else self.settings.lot_g
        demand(grams >= least, "BELOW_MINIMUM")

    def demand_price(self, credit: str, price: int, now: datetime) -> None:
        low, high = self.band(self.reference(credit, now))
        demand(low <= price <= high, "OUTSIDE_BAND")
        floor = self.auction(credit, now)[0]
        demand(floor is None or price >= floor, "BELOW_FLOOR")

    def auction(self, credit: str, now: datetime) -> tuple[int | None, bool]:
        """Floor of the staff's auction that runs, and whether its orders are irrevocable."""
        runs = [rest for since, until, *rest in self.instruments[credit].auctions if since <= now < until]
        return (runs[0][0], runs[0][1]) if runs else (None, False)  # type: ignore[return-value]

    def list_instrument(self, credit: str, reference: int, now: datetime) -> None:
        demand(credit in self.registers, "NOT_ISSUED")
        demand(credit not in self.instruments, "ALREADY_LISTED")
        self.instruments[credit] = Instrument(reference, self.day(now))

    def halt(self, credit: str, *, is_halted: bool) -> None:
        demand(self.instruments[credit].halted is not is_halted, "MARKET_HALTED" if is_halted else "NOT_HALTED")
        self.instruments[credit].halted = is_halted

    def open_session(self, credit: str, until: datetime, now: datetime) -> None:
        self.demand_phase(credit, {"CLOSED", "CONTINUOUS"}, now)
        self.instruments[credit].sessions.append((now, until))

    def open_auction(self, credit: str, until: datetime, floor: int | None, now: datetime, *, is_final: bool) -> None:
        """Staff's call phase; ``is_final``: nothing is taken back."""
        self.demand_phase(credit, {"CLOSED", "CONTINUOUS"}, now)
        if floor is not None:
            self.demand_price(credit, floor, now)
        self.instruments[credit].auctions.append((now, until, floor, is_final))

    def demand_phase(self, credit: str, allowed: set[str], now: datetime) -> None:
        demand(not self.instruments[credit].halted, "MARKET_HALTED")
        demand(self.phase(credit, now)[0] in allowed, "MARKET_CLOSED")

    def place(
        self,
        id_: str,
        owner: str,
        credit: str,
        side: Side,
        price: int | None,
        grams: int,
        tif: TimeInForce,
        until: datetime | None,
        now: datetime,
    ) -> Order:
        """An order; without a price it takes what the day's band allows."""
        demand(credit in self.instruments, "UNKNOWN_INSTRUMENT")
        demand(side is Side.SELL or not owner.startswith("pool:"), "POOL_BUYS")
        phase = self.demand_trading(credit, now)
        demand(
            until is None or not self.auction(credit, now)[1] or until >= self.phase(credit, now)[1], "INVALID_INPUT"
        )
        demand(phase not in CALLS or not (price is None or tif in AT_ONCE), "LIMIT_ONLY")
        self.demand_quantity(owner, grams)
        if price is None:
            price = self.band(self.reference(credit, now))[side is Side.BUY]
        else:
            self.demand_price(credit, price, now)
        ends = until or (now + timedelta(minutes=5) if tif in AT_ONCE else self.midnight(now, self.settings.order_days))
        order = Order(id_, owner, credit, side, price, grams, tif, ends, grams, now)
        demand(phase not in CALLS or not self.crosses_own(order, price, self.orders.values()), "SELF_TRADE")
        needs, available = order.needs(self.most_bps), self.available(owner, order.asset)
        if needs > available:
            raise ValueError("INSUFFICIENT_MONEY" if side is Side.BUY else "TOO_FEW_CREDITS", needs, available)
        order.held = needs
        self.orders[id_] = order
        return order

    @property
    def most_bps(self) -> int:
        return max(self.settings.maker_fee_bps, self.settings.taker_fee_bps)

    @staticmethod
    def crosses_own(order: Order, price: int, others: Iterable[Order]) -> bool:
        return any(
            other.is_open
            and (other.owner, other.credit) == (order.owner, order.credit)
            and other.side is not order.side
            and accepts(order.entry._replace(price_fen=price), other.price)
            for other in others
        )

    def ask(self, id_: str, by: str, wish: Wish, now: datetime) -> None:
        """Cancel, or amend what is given; ``by`` an owner, or ``staff``."""
        order = self.orders[id_]
        is_staff = by == "staff" and not order.owner.startswith("pool:")
        kind, price, grams = ("STAFF", None, None) if is_staff and wish[0] == "CANCEL" else wish
        mine = by in {order.owner, "staff"} and (kind != "AMEND" or not is_staff)
        demand(mine, "UNKNOWN_ORDER")
        demand(order.is_open, "ORDER_CLOSED")
        demand(order.wish is None or (order.wish[0] == "AMEND" and kind != "AMEND"), "COMMAND_PENDING")
        is_halted = self.instruments[order.credit].halted
        demand(is_halted or is_staff or not self.auction(order.credit, now)[1], "IRREVOCABLE")
        if kind == "AMEND":
            demand(order.tif not in AT_ONCE, "INVALID_INPUT")
            self.demand_trading(order.credit, now)
            if grams is not None:
                self.demand_quantity(order.owner, grams)
            self.demand_price(order.credit, order.price if price is None else price, now)
        order.wish, order.queued = (kind, price, grams), order.queued or now

    # The matcher

    def match(self, now: datetime) -> None:
        """Match everything; what was to be filled by a hold that is over ends before anything else happens."""
        for credit in sorted(self.instruments):
            self.lost = set[str]()
            is_sound = False
            while not is_sound:
                mine = [one for one in self.orders.values() if one.credit == credit and one.is_open]
                before = copy.deepcopy(self.__dict__) if any(one.hold_ends <= now for one in mine) else self.__dict__
                known = set(self.lost)
                self.match_one(credit, mine, now)
                is_sound = self.lost == known
                if not is_sound:
                    self.__dict__ = before | {"lost": self.lost}

    def match_one(self, credit: str, mine: list[Order], now: datetime) -> None:
        """What was queued and what ended, as if everything had been done in its time."""
        instrument = self.instruments[credit]
        for order in mine:
            if order.id in self.lost and order.status == "OPEN":
                self.finish(order, "CANCELLED", "HOLD_LOST", now)
        turns = [(one.ends, 0, one.id) for one in mine if one.ends <= now]
        turns += [
            (one.queued, 1, one.id)
            for one in mine
            if one.queued and not (instrument.halted and (one.wish is None or one.wish[0] == "AMEND"))
        ]
        for moment, is_request, id_ in sorted(turns):
            if not instrument.halted:
                self.advance(credit, moment, now)
            order = self.orders[id_]
            if order.is_open and is_request:
                self.take(order, instrument, now)
            elif order.is_open:
                self.finish(order, "CANCELLED", "EXPIRED", now)
        if not instrument.halted:
            self.advance(credit, now, now)

    def advance(self, credit: str, moment: datetime, now: datetime) -> None:
        """Let calls end and days begin as they had by then."""
        instrument = self.instruments[credit]
        if instrument.call and moment >= instrument.call[0]:
            self.execute(instrument, now)
        if self.day(moment) > instrument.day:
            instrument.reference, instrument.day = self.reference(credit, moment), self.day(moment)
            low, high = self.band(instrument.reference)
            for entry in instrument.book.resting():
                if not low <= entry.price_fen <= high:
                    self.finish(self.orders[entry.id], "CANCELLED", "OUTSIDE_BAND", now)
        phase, until = self.phase(credit, moment)
        if phase in CALLS:
            instrument.book.collects = True
            instrument.call = until, self.auction(credit, moment)[0]

    def execute(self, instrument: Instrument, now: datetime) -> None:
        """All that can be executed at the one price that executes the most."""
        book, floor = instrument.book, instrument.call[1] if instrument.call else None
        buys, sells = book.sides[Side.BUY], book.sides[Side.SELL]
        prices = {one.price_fen for one in book.resting()} | {instrument.reference} | ({floor} if floor else set())
        price = book.uniform_price(
            [
                one
                for one in sorted(prices)
                if buys and sells and max(sells[0].price_fen, floor or 0) <= one <= buys[0].price_fen
            ],
            instrument.reference,
        )
        while price and buys and sells and accepts(buys[0], price) and accepts(sells[0], price):
            buy, sell = buys[0], sells[0]
            grams = min(buy.remaining_g, sell.remaining_g)
            for side in (buys, sells):
                rest = side[0].remaining_g - grams
                side[:1] = [side[0]._replace(remaining_g=rest)] if rest else []
            first, second = sorted((buy, sell), key=lambda one: one.sequence)
            self.fill(instrument, Fill(first.id, second.id, price, grams), None, now)
        while buys and sells and buys[0].price_fen >= sells[0].price_fen:
            later = max(buys[0], sells[0], key=lambda one: one.sequence)
            self.finish(self.orders[later.id], "CANCELLED", "BELOW_FLOOR", now)
        instrument.call, book.collects = None, False

    def take(self, order: Order, instrument: Instrument, now: datetime) -> None:
        """Do what the order waits for."""
        wish, order.wish, order.queued = order.wish, None, None
        if order.id in self.lost:
            self.finish(order, "CANCELLED", "HOLD_LOST", now)
        elif wish and wish[0] != "AMEND":
            order.outcome = "DONE"
            self.finish(order, "CANCELLED", "BY_STAFF" if wish[0] == "STAFF" else "BY_OWNER", now)
        elif order.status == "PENDING":
            if wish:
                self.amend(order, wish, now)
            self.enter(order, now)
        elif wish:
            before = order.entry
            if self.amend(order, wish, now):
                if order.price != before.price_fen or order.open > before.remaining_g:
                    order.sequence = self.next_sequence(instrument)
                outcome = instrument.book.amend(order.id, order.price, order.open, order.sequence)
                assert outcome is not None
                self.settle(order, instrument, outcome, now)

    def enter(self, order: Order, now: datetime) -> None:
        """Into the book, if the market as it is takes it."""
        instrument = self.instruments[order.credit]
        order.status, order.sequence = "OPEN", self.next_sequence(instrument)
        if order.tif in AT_ONCE and (order.ends <= now or instrument.book.collects):
            self.finish(order, "CANCELLED", "EXPIRED" if order.ends <= now else "IOC_REST", now)
        elif problem := self.problem(order, order.price):
            self.finish(order, "CANCELLED", problem, now)
        else:
            self.settle(order, instrument, instrument.book.place(order.entry, order.tif), now)

    def problem(self, order: Order, price: int) -> str | None:
        """Why the book does not take that limit."""
        instrument = self.instruments[order.credit]
        low, high = self.band(instrument.reference)
        if not low <= price <= high:
            return "OUTSIDE_BAND"
        if instrument.call and price < (instrument.call[1] or 0):
            return "BELOW_FLOOR"
        resting = [self.orders[entry.id] for entry in instrument.book.resting()]
        return "SELF_TRADE" if instrument.book.collects and self.crosses_own(order, price, resting) else None

    @staticmethod
    def next_sequence(instrument: Instrument) -> int:
        instrument.sequence += 1
        return instrument.sequence

    def amend(self, order: Order, wish: Wish, now: datetime) -> bool:
        """Give the order its new price and grams, if the book takes that and its owner can pay for it."""
        before = order.price, order.asked, order.open, order.held
        price = order.price if wish[1] is None else wish[1]
        grams = order.open if wish[2] is None else wish[2]
        order.outcome = self.problem(order, price)
        if order.outcome:
            return False
        order.asked += grams - order.open
        order.price, order.open, order.held = price, grams, 0
        needs = order.needs(self.most_bps)
        if needs and (order.hold_ends <= now or needs > self.available(order.owner, order.asset)):
            order.price, order.asked, order.open, order.held = before
            order.outcome = "INSUFFICIENT_FUNDS"
            return False
        order.held, order.outcome = needs, "DONE"
        return True

    def settle(self, order: Order, instrument: Instrument, outcome: Outcome, now: datetime) -> None:
        for fill in outcome.fills:
            self.fill(instrument, fill, order, now)
        if outcome.stop:
            self.finish(order, "CANCELLED", outcome.stop.value, now)

    def fill(self, instrument: Instrument, fill: Fill, taker: Order | None, now: datetime) -> None:
        both = self.orders[fill.maker], self.orders[fill.taker]
        buy, sell = sorted(both, key=lambda one: one.side)
        price, grams, value = fill.price_fen, fill.quantity_g, buy.worth(fill.price_fen, fill.quantity_g)
        fees = []
        self.lost |= {one.id for one in both if one.hold_ends <= now}
        for order in (buy, sell):
            bps = self.settings.taker_fee_bps if order is taker else self.settings.maker_fee_bps
            fees.append(min(order.due(value, bps), value))
            order.fee += fees[-1]
            order.fills.append((price, grams, value, bps))
            order.open -= grams
        buy.held -= value + fees[0]
        sell.held -= grams
        self.fen.update({buy.owner: -value - fees[0], sell.owner: value - fees[1], "fees": sum(fees)})
        serials = self.registers[buy.credit].move(grams, sell.owner, buy.owner)
        side = taker.side.value if taker else None
        instrument.trades.append((price, grams, value, buy.id, sell.id, *fees, side, tuple(serials), now))
        instrument.last = price
        for order in (buy, sell):
            if not order.open:
                self.finish(order, "FILLED", None, now)

    def finish(self, order: Order, status: str, reason: str | None, now: datetime) -> None:
        """What is held for it is free, or waits for the book's worker where its time is over."""
        if order.held and order.hold_ends <= now and order.id not in self.lapsed:
            self.overdue.append((order.owner, order.asset, order.held, order.hold_ends))
        self.instruments[order.credit].book.cancel(order.id)
        order.status, order.reason, order.open, order.held, order.wish, order.queued = status, reason, 0, 0, None, None
