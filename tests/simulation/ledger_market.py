"""Pools, credits, orders and fen on both ledgers, with little else to keep them apart."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import CNY, QUANTIFIED, TransactionKind
from tests import factories, trading
from tests.factories import owner
from tests.simulation.machine import AMOUNTS, NAMES, OWNERS, PEOPLE, SHARES, Bookkeeping
from tests.trading import CREDIT, POOL, payer_of

if TYPE_CHECKING:
    from backend.ledger.model import Asset, Draw, OwnerId, Transaction

TRADERS = st.sampled_from(OWNERS)
HOURS = st.sampled_from([1, 1_000, 100_000, 100_000, 100_000])
FEES = st.tuples(st.integers(0, 4), st.integers(0, 4))
# Which of the two orders a fill draws on, mostly both, and which of them end with it.
DRAWN = st.sampled_from([(True, True), (True, True), (True, True), (True, False), (False, True)])
ENDS = st.tuples(st.booleans(), st.booleans())


class MarketMachine(Bookkeeping):
    """What the market does to the book, and what it must not be able to."""

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[Transaction] = []
        self.pooled: list[Transaction] = []
        self.paid_out: list[Transaction] = []

    @initialize(grams=st.integers(5, 60), fen=st.integers(20, 400))
    def some_have_something(self, grams: int, fen: int) -> None:
        """Grams of every citizen, most of them pooled, much of that issued to everybody; and money."""
        for name in NAMES:
            self.earn_grams(name, grams)
            self.pool(name, 3)
        for one in OWNERS:
            self.issue(one, 1)
            self.deposit(one, fen)

    @rule(name=PEOPLE, grams=st.integers(1, 30))
    def earn_grams(self, name: str, grams: int) -> None:
        assert self.both(factories.earning(self.key(), name, grams * MG_PER_GRAM - 1, QUANTIFIED)) == "POSTED"

    @rule(name=PEOPLE, share=SHARES)
    def pool(self, name: str, share: int) -> None:
        pooled = trading.pooling(self.key(), owner(name), (self.some_of(name, QUANTIFIED, share),))
        self.pooled.append(pooled)
        self.both(pooled)

    @precondition(lambda self: self.pooled)
    @rule(data=st.data(), share=SHARES)
    def withdraw(self, data: st.DataObject, share: int) -> None:
        """In parts, more than there was, or after it has become credits."""
        pooled = data.draw(st.sampled_from(self.pooled))
        self.both(factories.reversal(pooled, self.key(), (max(1, pooled.postings[0].amount * share // 4),)))

    @rule(share=SHARES)
    def deduct(self, share: int) -> None:
        self.both(trading.deduction(self.key(), max(1, self.part_of(POOL, QUANTIFIED, share) // 5)))

    @rule(one=TRADERS, share=SHARES)
    def issue(self, one: OwnerId, share: int) -> None:
        grams = self.part_of(POOL, QUANTIFIED, share, MG_PER_GRAM) // MG_PER_GRAM
        self.both(trading.issuance(self.key(), one, grams))

    @rule(one=TRADERS, fen=AMOUNTS)
    def deposit(self, one: OwnerId, fen: int) -> None:
        assert self.both(trading.deposit(self.key(), one, fen)) == "POSTED"

    @rule(one=TRADERS, share=SHARES, is_sale=st.booleans(), hours=HOURS)
    def place(self, one: OwnerId, share: int, hours: int, *, is_sale: bool) -> None:
        self.reserve(one, share, hours, is_sale=is_sale)

    def reserve(self, one: OwnerId, share: int, hours: int, *, is_sale: bool) -> Transaction:
        """What an order reserves."""
        asset, unit = (CREDIT, MG_PER_GRAM) if is_sale else (CNY, 1)
        until = self.now + timedelta(hours=hours)
        order = trading.order(self.key(), one, asset, self.part_of(one, asset, share, unit), until=until)
        self.orders.append(order)
        self.both(order)
        return order

    def is_open(self, hold: Transaction) -> bool:
        return f"hold:{hold.id}" in self.reference.holds

    def open_orders(self, asset: Asset) -> list[Transaction]:
        return [one for one in self.orders if one.postings[0].asset == asset and self.is_open(one)]

    def left(self, hold: Transaction) -> int:
        return self.reference.lots[f"hold:{hold.id}"].total()

    def fill(
        self, sell: Transaction, buy: Transaction, amounts: tuple[int, int], fees: tuple[int, int], draws: list[Draw]
    ) -> Transaction:
        return trading.trade(self.key(), payer_of(sell), payer_of(buy), *amounts, draws=draws, fees=fees)

    @rule(
        people=st.permutations(OWNERS),
        reserved=st.tuples(st.integers(1, 4), st.integers(1, 4)),
        parts=st.lists(st.tuples(SHARES, st.integers(0, 5), FEES, ENDS), min_size=1, max_size=4),
    )
    def sell_and_buy(
        self,
        people: list[OwnerId],
        reserved: tuple[int, int],
        parts: list[tuple[int, int, tuple[int, int], tuple[bool, bool]]],
    ) -> None:
        """Two orders are filled in parts until one of them is over, or asked for more than it has."""
        sell = self.reserve(people[0], reserved[0], 1_000, is_sale=True)
        buy = self.reserve(people[1], reserved[1], 1_000, is_sale=False)
        for share, of_fen, fees, ends in parts:
            if self.is_open(sell) and self.is_open(buy):
                draws = [trading.drawn(hold, final=end) for hold, end in zip((sell, buy), ends, strict=True)]
                self.both(self.fill(sell, buy, self.amounts(sell, buy, (share, of_fen)), fees, draws))

    def pairs(self) -> list[tuple[Transaction, Transaction]]:
        """Open orders that can meet."""
        sells, buys = self.open_orders(CREDIT), self.open_orders(CNY)
        return [(sell, buy) for sell in sells for buy in buys if payer_of(sell) != payer_of(buy)]

    def amounts(self, sell: Transaction, buy: Transaction, shares: tuple[int, int]) -> tuple[int, int]:
        """Quarters of what is left of both: four are all of it, five too much; of fen perhaps nothing."""
        grams = max(1, self.left(sell) // MG_PER_GRAM * shares[0] // 4)
        return grams * MG_PER_GRAM, self.left(buy) * shares[1] // 4

    @precondition(lambda self: self.pairs())
    @rule(data=st.data(), shares=st.tuples(SHARES, st.integers(0, 5)), fees=FEES, drawn=DRAWN, ends=ENDS)
    def trade(
        self,
        data: st.DataObject,
        shares: tuple[int, int],
        fees: tuple[int, int],
        drawn: tuple[bool, bool],
        ends: tuple[bool, bool],
    ) -> None:
        """Of one of the two no order: they pay from what is free."""
        pair = data.draw(st.sampled_from(self.pairs()))
        draws = [
            trading.drawn(hold, final=end) for hold, is_drawn, end in zip(pair, drawn, ends, strict=True) if is_drawn
        ]
        self.both(self.fill(*pair, self.amounts(*pair, shares), fees, draws))

    @precondition(lambda self: self.pairs())
    @rule(data=st.data(), shares=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=2, max_size=4))
    def trade_in_parts(self, data: st.DataObject, shares: list[tuple[int, int]]) -> None:
        """The same two orders meet again and again, in one MongoDB transaction."""
        pair = data.draw(st.sampled_from(self.pairs()))
        fills = [
            replace(self.fill(*pair, self.amounts(*pair, part), (0, 0), list(map(trading.drawn, pair))), key=key)
            for number, part in enumerate(shares)
            for key in [f"{self.key()}-{number}"]
        ]
        self.both(*fills)

    @precondition(lambda self: self.pairs())
    @rule(data=st.data(), count=st.integers(2, 4), share=st.integers(1, 4), end=st.booleans())
    def crowd(self, data: st.DataObject, count: int, share: int, *, end: bool) -> None:
        """Several want the same two orders at once: each is answered for itself."""
        pair = data.draw(st.sampled_from(self.pairs()))
        draws = [trading.drawn(hold, final=end) for hold in pair]
        whole = self.fill(*pair, self.amounts(*pair, (share, share)), (0, 0), draws)
        crowd = [replace(whole, key=f"{self.key()}-{number}") for number in range(count)]
        expected = [self.reference.post([one], self.now) for one in crowd]
        self.made += crowd
        assert self.real.post_together(crowd) == [None if one == "POSTED" else one for one in expected]

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), fen=st.integers(0, 5), fees=FEES)
    def trade_on_anything(self, data: st.DataObject, fen: int, fees: tuple[int, int]) -> None:
        """Orders that ended, that were refused, holds for the bank."""
        sells = [one for one in self.orders if one.postings[0].asset == CREDIT]
        buys = [one for one in (*self.orders, *self.paid_out) if one.postings[0].asset == CNY]
        if sells and buys:
            pair = data.draw(st.sampled_from(sells)), data.draw(st.sampled_from(buys))
            if payer_of(pair[0]) != payer_of(pair[1]):
                self.both(self.fill(*pair, (MG_PER_GRAM, fen), fees, list(map(trading.drawn, pair))))

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), kind=st.sampled_from([TransactionKind.VOID, TransactionKind.VOID, TransactionKind.LAPSE]))
    def cancel(self, data: st.DataObject, kind: TransactionKind) -> None:
        self.both(factories.release(data.draw(st.sampled_from(self.orders)), self.key(), kind=kind))

    @rule(one=TRADERS, share=SHARES)
    def retire(self, one: OwnerId, share: int) -> None:
        self.both(trading.retirement(self.key(), one, self.part_of(one, CREDIT, share, MG_PER_GRAM) // MG_PER_GRAM))

    @rule(name=PEOPLE, share=SHARES, points=st.sampled_from([0, 0, 1, 125]))
    def return_benefit(self, name: str, share: int, points: int) -> None:
        self.both(trading.benefit(self.key(), owner(name), self.part_of(POOL, CNY, share), points))

    @rule(one=TRADERS, share=SHARES)
    def ask_for_payout(self, one: OwnerId, share: int) -> None:
        until = self.now + timedelta(days=30)
        hold = trading.payout_hold(self.key(), one, self.part_of(one, CNY, share), until=until)
        self.paid_out.append(hold)
        self.both(hold)

    @precondition(lambda self: self.paid_out)
    @rule(data=st.data(), is_paid=st.booleans())
    def pay_out(self, data: st.DataObject, *, is_paid: bool) -> None:
        hold = data.draw(st.sampled_from(self.paid_out))
        self.both(factories.capture(hold, self.key()) if is_paid else factories.release(hold, self.key()))

    @precondition(lambda self: self.made)
    @rule(data=st.data(), share=SHARES)
    def reverse(self, data: st.DataObject, share: int) -> None:
        """Only what was earned or pooled can be taken back."""
        original = data.draw(st.sampled_from([one for one in self.made if one.postings]))
        amounts = tuple(max(1, posting.amount * share // 4) for posting in original.postings)
        self.both(factories.reversal(original, self.key(), amounts))

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """The same is passed over; with another draw it is refused."""
        posted = self.reference.posted
        trades = [one for one in posted.values() if one.kind == TransactionKind.TRADE]
        known = data.draw(st.sampled_from([*trades, *posted.values()]))
        if known.kind in {TransactionKind.LEND, TransactionKind.REPAY, TransactionKind.EXPIRE}:
            return
        assert self.both(replace(known, lots={})) == "REPLAYED"
        if known.draws:
            first, *others = known.draws
            assert self.both(replace(known, draws=(first._replace(final=not first.final), *others))) == (
                "IDEMPOTENCY_CONFLICT"
            )

    @rule()
    def seal(self) -> None:
        self.real.run(self.real.services.sealing.seal_now())
