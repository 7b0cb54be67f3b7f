"""A round of the matcher by itself: what it decides never lacks what the book of the ledger needs for it."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from backend.ledger import rules as ledger_rules
from backend.ledger import shape
from backend.ledger.errors import InsufficientFundsError
from backend.ledger.model import CNY, Asset, Draw, HoldRef, OwnerId, Page, Terms, exchange_of
from backend.market.exchange import rules
from backend.market.exchange.book import Book, Side, TimeInForce
from backend.market.exchange.booking import hold_id, reserving, trading
from backend.market.exchange.filling import Drawn
from backend.market.exchange.floor import Floor, Most, Setbacks, Waiting
from backend.market.exchange.hours import Timetable
from backend.market.exchange.model import (
    Collecting,
    Command,
    CommandKind,
    CommandOutcome,
    EndReason,
    Fees,
    LastCommand,
    OrderId,
    OrderStatus,
)
from backend.market.exchange.planning import Round
from backend.market.serials.model import SerialRange
from backend.market.settings import MarketSettings
from tests.unit.market.test_exchange_rules import instrument, order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backend.ledger.model import Transaction
    from backend.market.exchange.model import Order

ZONE = ZoneInfo("Asia/Shanghai")
# While the market matches, and while it collects.
OPEN = datetime(2026, 11, 2, 2, 0, tzinfo=UTC)
CALL = datetime(2026, 11, 2, 1, 16, tzinfo=UTC)
CREDIT = Asset("credit:batch")
PLENTY = Most(10_000)
# Moves that belong to what had room: the old and the new hold of an order, and what it sets free.
SLACK = 3
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK
TRADERS = tuple(OwnerId(f"citizen:{name}") for name in ("alice", "bob", "carol"))


def queued(number: int, **changes: object) -> Order:
    """A new order that holds what it may need."""
    name = OrderId(f"ord_{number}")
    at = OPEN + timedelta(milliseconds=number)
    plain = order(
        id=name,
        instrument=CREDIT,
        hold=hold_id(name, 1),
        good_until=OPEN + timedelta(days=9),
        hold_until=OPEN + timedelta(days=10),
        **{"quantity_g": 1_000, "queued_at": at, **changes},
    )
    plain = dataclasses.replace(plain, remaining_g=plain.quantity_g)
    return dataclasses.replace(plain, held=rules.needed(plain))


def empty_floor(**changes: object) -> Floor:
    """A floor on which nothing rests."""
    listed = instrument(id=CREDIT, **changes)
    return Floor(listed, Book.load([], collects=listed.collecting is not None), {})


def run(
    floor: Floor,
    orders: Sequence[Order],
    expired: Sequence[Order] = (),
    at: datetime = OPEN,
    most: Most = PLENTY,
    purses: dict[tuple[OwnerId, Asset], int] | None = None,
    taking: Order | None = None,
    **settings: object,
) -> Round:
    """One round of these orders."""
    hours = Timetable(MarketSettings(**settings), ZONE)  # type: ignore[arg-type]
    now = at + timedelta(seconds=1)
    made = Round(floor, hours, now, Setbacks(), most, purses or {})
    made.run(Waiting(orders, expired, now, taking))
    return made


class Pages:
    """The pages of all traders, turned by the ledger's own rules."""

    def __init__(self, fen: int = 10**12, mg: int = 10**12) -> None:
        self.pages = {owner: Page(owner, balances={CNY: fen, CREDIT: mg}, at=OPEN, version=1) for owner in TRADERS}
        self.terms = Terms(OPEN, OPEN)
        self.fees = 0

    def post(self, transaction: Transaction) -> None:
        """Post it, or fail the test with the book's refusal."""
        shape.check(transaction)
        self.pages |= ledger_rules.apply(transaction, self.pages, self.terms).pages

    def settle(self, made: Round) -> None:
        """Post all that the round decided."""
        for move in made.moves:
            if not isinstance(move, Drawn):
                self.post(move)
                continue
            trade = move.trade
            self.fees += trade.buyer_fee_fen + trade.seller_fee_fen
            draws = [Draw(HoldRef(trade.seller, move.seller.hold), move.last_of_seller)]
            draws += [Draw(HoldRef(trade.buyer, move.buyer.hold), move.last_of_buyer)] if move.buyer_pays else []
            self.post(trading(trade, [SerialRange(1, trade.quantity_g)], draws))  # type: ignore[arg-type]

    def purses(self) -> dict[tuple[OwnerId, Asset], int]:
        """What everybody has free."""
        return {
            (owner, asset): page.available(asset, OPEN) for owner, page in self.pages.items() for asset in (CNY, CREDIT)
        }

    def held(self) -> dict[str, int]:
        """What is held for the exchange, by hold."""
        holds = [hold for page in self.pages.values() for hold in page.holds]
        assert all(hold.to_account == exchange_of(hold.asset) for hold in holds)
        return {hold.id: hold.amount for hold in holds}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(TRADERS),
        st.sampled_from(Side),
        st.integers(1, 40),  # price: so low that fills are often worth less than a fen
        st.integers(1, 30),  # kilograms
        st.sampled_from((GTC, GTC, GTC, IOC, FOK)),
        st.sampled_from((None, None, CommandKind.CANCEL, CommandKind.AMEND)),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=40,
)


@given(
    steps=STEPS,
    per_round=st.integers(1, 12),
    fees=st.builds(Fees, st.integers(0, 1_000), st.integers(0, 1_000)),
    collects=st.booleans(),
    moves=st.integers(1, 20),
    wealth=st.sampled_from(((10**12, 10**12), (6, 60_000_000))),
)
def test_what_a_round_decides_is_never_refused_by_the_ledger(
    steps: list[tuple[OwnerId, Side, int, int, TimeInForce, CommandKind | None, int]],
    per_round: int,
    fees: Fees,
    collects: bool,  # noqa: FBT001 - Hypothesis passes it by name
    moves: int,
    wealth: tuple[int, int],
) -> None:
    """Orders come in rounds, some with a request on an earlier one; then all holds are those of open orders.

    Whatever a round has room for, the trades are those of a market with room for all.
    """
    pages, number = Pages(*wealth), 0
    until = OPEN + timedelta(milliseconds=len(steps) * 2)
    floor, whole = [
        empty_floor(reference_fen=20, collecting=Collecting(until, None) if collects else None) for _ in range(2)
    ]
    while steps:
        batch: dict[str, Order] = {}
        for owner, side, price, kg, tif, asked, place in steps[:per_round]:
            number += 2
            made = queued(
                number, owner=owner, side=side, price_fen=price, quantity_g=kg * 1_000, time_in_force=tif, fees=fees
            )
            with contextlib.suppress(InsufficientFundsError):
                pages.post(reserving(made))
                batch[made.id] = made
            earlier = [one for one in floor.orders.values() if one.id not in batch]
            if asked is not None and earlier:
                one = earlier[place % len(earlier)]
                at = OPEN + timedelta(milliseconds=number + 1)
                command = Command(asked, at, by_staff=False, price_fen=price, quantity_g=kg * 1_000)
                batch[one.id] = dataclasses.replace(one, command=command, queued_at=at, commands=one.commands + 1)
        steps = steps[per_round:]
        at, purses = OPEN + timedelta(milliseconds=number), pages.purses()
        expected = run(whole, list(batch.values()), at=at, purses=purses, band_bps=10_000)
        trades = []
        for outcome in rounds(floor, batch, at, pages, Most(moves)):
            assert len(outcome.moves) <= moves + SLACK
            pages.settle(outcome)
            trades += outcome.trades
        assert [one.trade for one in trades] == [one.trade for one in expected.trades]
        assert (floor.instrument, floor.orders) == (whole.instrument, whole.orders)
        assert list(floor.book) == list(whole.book)
        open_orders = [one for one in floor.orders.values() if one.held]
        assert pages.held() == {one.hold: one.held for one in open_orders}
        assert all(one.held >= rules.needed(one) for one in floor.orders.values())
        assert [(one.id, one.remaining_g) for one in floor.book] == [
            (one.id, floor.orders[OrderId(one.id)].remaining_g) for one in floor.book
        ]
    money = sum(page.balance(CNY) for page in pages.pages.values())
    assert money + pages.fees == len(TRADERS) * wealth[0]
    assert sum(page.balance(CREDIT) for page in pages.pages.values()) == len(TRADERS) * wealth[1]


def rounds(floor: Floor, batch: dict[str, Order], at: datetime, pages: Pages, most: Most) -> Iterator[Round]:
    """Rounds until all is done, each with what the one before left; they are settled between."""
    taking, made = None, None
    while made is None or made.is_cut:
        made = run(floor, list(batch.values()), at=at, most=most, purses=pages.purses(), taking=taking, band_bps=10_000)
        ended = {name for name, one in made.changed.items() if not one.is_open}
        batch = {name: one for name, one in batch.items() if name not in made.handled.keys() | ended}
        taking = made.changed[floor.instrument.taking] if floor.instrument.taking else None
        yield made


def test_an_order_of_two_fills_is_released_with_the_last() -> None:
    asks = [queued(n, owner=TRADERS[n], side=Side.SELL, price_fen=5_900 + n) for n in (1, 2)]
    bid = queued(3, owner=TRADERS[0], quantity_g=2_000, price_fen=6_600)
    made = run(empty_floor(), [*asks, bid])
    first, second = made.trades
    assert (first.last_of_buyer, second.last_of_buyer) == (False, True)
    # A seller's hold is used up to the gram: nothing is left to be freed.
    assert (first.last_of_seller, second.last_of_seller) == (False, False)
    assert made.moves == [first, second]
    assert {one.status for one in made.changed.values()} == {OrderStatus.FILLED}


def test_what_is_given_up_without_a_fill_is_released_by_itself() -> None:
    fok = queued(1, time_in_force=FOK)
    made = run(empty_floor(), [fok])
    [void] = made.moves
    assert not isinstance(void, Drawn)
    assert (void.kind, void.hold) == ("VOID", HoldRef(fok.owner, fok.hold))
    assert made.changed[fok.id].reason is EndReason.FOK_UNFILLABLE


def test_the_matcher_itself_sees_that_nobody_crosses_themselves_in_a_call() -> None:
    """Two API processes can each have found one of these orders to be fine."""
    bid, ask = queued(1, queued_at=CALL), queued(2, side=Side.SELL, queued_at=CALL)
    ioc = queued(3, time_in_force=IOC, queued_at=CALL)
    made = run(empty_floor(), [bid, ask, ioc], at=CALL)
    assert [made.changed[one.id].reason for one in (bid, ask, ioc)] == [
        None,
        EndReason.SELF_TRADE,
        EndReason.IOC_REST,
    ]
    assert made.instrument.collecting is not None
    assert made.trades == []


def test_an_order_takes_part_in_the_phase_in_which_it_was_queued() -> None:
    """A matcher that was away since the call: the auction first, then what came in the session."""
    in_call = [
        queued(1, owner=TRADERS[0], price_fen=6_100, queued_at=CALL),
        queued(2, owner=TRADERS[1], side=Side.SELL, price_fen=5_900, queued_at=CALL),
    ]
    later = queued(3, owner=TRADERS[2], side=Side.SELL, price_fen=5_800, queued_at=OPEN)
    made = run(empty_floor(), [*in_call, later])
    assert [(one.trade.price_fen, one.trade.taker_side) for one in made.trades] == [(6_000, None)]
    assert made.changed[later.id].status is OrderStatus.OPEN
    assert made.instrument.collecting is None


def test_a_request_on_an_order_that_is_filled_before_its_turn_is_too_late() -> None:
    floor = empty_floor()
    bid = queued(1, owner=TRADERS[0])
    run(floor, [bid])
    at = OPEN + timedelta(milliseconds=5)
    asked = dataclasses.replace(
        floor.orders[bid.id], command=Command(CommandKind.CANCEL, at, by_staff=False), queued_at=at, commands=1
    )
    made = run(floor, [queued(2, owner=TRADERS[1], side=Side.SELL), asked])
    ended = made.changed[bid.id]
    assert (ended.status, ended.command, ended.last_command) == (OrderStatus.FILLED, None, None)
    assert made.handled[bid.id] == 1


def test_what_was_tried_before_in_vain_is_not_tried_again() -> None:
    floor = empty_floor()
    lost, asked = queued(1, owner=TRADERS[0]), queued(2, owner=TRADERS[0])
    run(floor, [lost, asked])
    at = OPEN + timedelta(milliseconds=5)
    command = Command(CommandKind.AMEND, at, by_staff=False, price_fen=6_500, quantity_g=9_000)
    again = dataclasses.replace(floor.orders[asked.id], command=command, queued_at=at, commands=1)
    unseen = queued(3, owner=TRADERS[1])
    made = Round(
        floor,
        Timetable(MarketSettings(), ZONE),
        OPEN + timedelta(seconds=1),
        Setbacks({lost.id, unseen.id}, {asked.id}),
        PLENTY,
    )
    made.run(Waiting([again, unseen], [], OPEN + timedelta(seconds=1)))
    assert {one: made.changed[one].reason for one in (lost.id, unseen.id)} == {
        lost.id: EndReason.HOLD_LOST,
        unseen.id: EndReason.HOLD_LOST,
    }
    kept = made.changed[asked.id]
    assert (kept.price_fen, kept.remaining_g) == (6_000, 1_000)
    assert kept.last_command == LastCommand(CommandKind.AMEND, at, CommandOutcome.INSUFFICIENT_FUNDS)


def test_what_crosses_below_the_floor_of_an_auction_is_given_up_at_its_end() -> None:
    """It should not be there; were it, the book could never be matched again."""
    until = OPEN
    listed = instrument(id=CREDIT, collecting=Collecting(until, 6_300), sequence=2)
    resting = [
        dataclasses.replace(queued(1, owner=TRADERS[0], side=Side.SELL), status=OrderStatus.OPEN, sequence=1),
        dataclasses.replace(queued(2, owner=TRADERS[1]), status=OrderStatus.OPEN, sequence=2),
    ]
    floor = Floor.load(listed, resting)
    made = run(floor, [])
    assert {one.id: one.reason for one in made.changed.values()} == {resting[1].id: EndReason.BELOW_FLOOR}
    assert (made.instrument.collecting, made.trades, floor.book.collects) == (None, [], False)


def test_the_first_fill_of_a_round_can_be_cut() -> None:
    ask, bid = (
        queued(1, owner=TRADERS[0], side=Side.SELL, quantity_g=9_000),
        queued(2, owner=TRADERS[1], quantity_g=9_000),
    )
    floor = empty_floor()
    run(floor, [ask])
    made = run(floor, [bid], most=Most(1, 2_000))
    assert [one.trade.quantity_g for one in made.trades] == [2_000]
    begun = made.changed[bid.id]
    assert (made.is_cut, made.instrument.taking, begun.remaining_g) == (True, bid.id, 7_000)
    made = run(floor, [], taking=begun)
    assert [one.trade.quantity_g for one in made.trades] == [7_000]
    assert (made.is_cut, made.instrument.taking, made.changed[bid.id].status) == (False, None, OrderStatus.FILLED)


def test_a_request_that_the_market_no_longer_takes_changes_nothing() -> None:
    floor = empty_floor(collecting=Collecting(OPEN + timedelta(hours=1), 5_900))
    bid = queued(1)
    run(floor, [bid])
    at = OPEN + timedelta(milliseconds=5)
    for number, (price_fen, expected) in enumerate(
        ((5_800, CommandOutcome.BELOW_FLOOR), (9_000, CommandOutcome.OUTSIDE_BAND)), 1
    ):
        command = Command(CommandKind.AMEND, at, by_staff=False, price_fen=price_fen)
        asked = dataclasses.replace(floor.orders[bid.id], command=command, queued_at=at, commands=number)
        made = run(floor, [asked])
        kept = made.changed[bid.id]
        assert (kept.price_fen, kept.last_command) == (6_000, LastCommand(CommandKind.AMEND, at, expected))
        assert made.moves == []
