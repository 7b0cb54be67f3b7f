"""The uniform price of a call auction: each criterion by hand, and everything against a search through all prices."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.market.exchange.auction import Uncrossing, uncross
from backend.market.exchange.book import Book, Fill, Order, Side, TimeInForce
from tests.unit.market.reference_market import ReferenceMarket

BUY, SELL = Side.BUY, Side.SELL
Written = tuple[Side, int, int]


def collected(*orders: Written) -> Book:
    """A book that collects: side, limit and grams of ``o1``, ``o2`` …, each of an owner of its own."""
    return Book.load(
        [Order(f"o{number}", f"owner-{number}", *order, number) for number, order in enumerate(orders, 1)],
        collects=True,
    )


def cleared(
    *orders: Written, reference_fen: int = 100, tick_fen: int = 1, floor_fen: int | None = None
) -> tuple[int | None, int]:
    """Price and volume of the auction over these orders."""
    price_fen, volume_g, _ = uncross(collected(*orders), reference_fen, tick_fen, floor_fen)
    return price_fen, volume_g


@pytest.mark.parametrize(
    "orders",
    [(), ((BUY, 100, 5),), ((SELL, 100, 5),), ((BUY, 99, 5), (SELL, 100, 5))],
    ids=["none", "buyer", "seller", "apart"],
)
def test_without_crossing_nothing_trades(orders: tuple[Written, ...]) -> None:
    assert uncross(collected(*orders), 100, 1) == Uncrossing(None, 0, ())


def test_the_price_is_the_one_that_executes_most() -> None:
    orders = ((BUY, 105, 10), (BUY, 103, 20), (BUY, 101, 40), (SELL, 99, 10), (SELL, 101, 35), (SELL, 104, 50))
    assert cleared(*orders) == (101, 45)


def test_of_the_same_volume_the_least_surplus_decides() -> None:
    # 10 g at either limit, but at 104 nobody is left over.
    assert cleared((BUY, 104, 10), (BUY, 100, 5), (SELL, 100, 10)) == (104, 10)


def test_of_the_same_surplus_pressure_of_buyers_raises_and_of_sellers_lowers_the_price() -> None:
    assert cleared((BUY, 106, 15), (SELL, 98, 10), reference_fen=98) == (106, 10)
    assert cleared((BUY, 106, 10), (SELL, 98, 15), reference_fen=106) == (98, 10)


@pytest.mark.parametrize(("reference_fen", "price_fen"), [(90, 98), (98, 98), (101, 101), (106, 106), (120, 106)])
def test_without_pressure_the_reference_decides_where_it_lies_between(reference_fen: int, price_fen: int) -> None:
    assert cleared((BUY, 106, 10), (SELL, 98, 10), reference_fen=reference_fen) == (price_fen, 10)


def test_buyers_over_at_one_and_sellers_over_at_the_other_price_leave_it_to_the_reference() -> None:
    orders = ((BUY, 104, 10), (BUY, 100, 5), (SELL, 100, 10), (SELL, 104, 5))
    assert cleared(*orders, reference_fen=105) == (104, 10)
    assert cleared(*orders, reference_fen=99) == (100, 10)
    # Between them nobody is left over.
    assert cleared(*orders, reference_fen=103) == (103, 10)


def test_of_two_prices_as_near_the_lower_is_taken() -> None:
    # The reference is no price on the tick, and 100 and 110 are as far from it.
    assert cleared((BUY, 120, 10), (SELL, 90, 10), reference_fen=105, tick_fen=10) == (100, 10)


def test_a_reference_off_the_tick_counts_as_its_neighbours() -> None:
    assert cleared((BUY, 120, 10), (SELL, 90, 10), reference_fen=107, tick_fen=10) == (110, 10)
    assert cleared((BUY, 120, 10), (SELL, 90, 10), reference_fen=103, tick_fen=10) == (100, 10)


def test_the_price_is_not_below_the_floor() -> None:
    orders = ((BUY, 120, 10), (SELL, 90, 10), (BUY, 95, 10))
    assert cleared(*orders, reference_fen=91, floor_fen=101) == (101, 10)
    assert cleared(*orders, reference_fen=91, tick_fen=5, floor_fen=101) == (105, 10)
    assert cleared(*orders, reference_fen=91, floor_fen=120) == (120, 10)
    assert cleared(*orders, reference_fen=91, floor_fen=121) == (None, 0)


def test_an_auction_of_one_seller_clears_at_the_lowest_accepted_bid() -> None:
    # As a PHCER auction: 100 offered from a floor on, bids by price, the last one served in part.
    orders = ((SELL, 2_998, 100), (BUY, 3_200, 40), (BUY, 3_050, 70), (BUY, 3_010, 50))
    book = collected(*orders)
    assert uncross(book, 2_998, 1, 2_998) == Uncrossing(
        3_050, 100, (Fill("o1", "o2", 3_050, 40), Fill("o1", "o3", 3_050, 60))
    )


def test_fills_pair_both_sides_by_price_and_then_time_and_the_earlier_is_the_maker() -> None:
    book = collected((BUY, 100, 10), (SELL, 100, 4), (BUY, 102, 5), (SELL, 99, 8), (BUY, 100, 5), (SELL, 100, 6))
    before = list(book)
    result = uncross(book, 100, 1)
    assert result == Uncrossing(
        100,
        18,
        (
            Fill("o3", "o4", 100, 5),
            Fill("o1", "o4", 100, 3),
            Fill("o1", "o2", 100, 4),
            Fill("o1", "o6", 100, 3),
            Fill("o5", "o6", 100, 3),
        ),
    )
    assert list(book) == before
    book.execute(result.fills)
    book.close_call()
    assert [(order.id, order.remaining_g) for order in book] == [("o5", 2)]


def test_orders_that_cross_one_of_their_own_owner_are_a_bug_of_the_caller() -> None:
    orders = [
        Order("o1", "ann", SELL, 100, 5, 1),
        Order("o2", "bob", BUY, 105, 5, 2),
        Order("o3", "ann", BUY, 100, 5, 3),
    ]
    with pytest.raises(AssertionError, match="o3 crosses an order of its own owner"):
        uncross(Book.load(orders, collects=True), 100, 1)
    dearer = Order("o4", "ann", SELL, 110, 5, 4)
    with pytest.raises(AssertionError, match="o3 crosses an order of its own owner"):
        uncross(Book.load([*orders, dearer], collects=True), 100, 1)
    apart = orders[2]._replace(price_fen=99)
    assert uncross(Book.load([*orders[:2], apart], collects=True), 100, 1).volume_g == 5


orders_written = st.lists(st.tuples(st.sampled_from(Side), st.integers(18, 30), st.integers(1, 6)), max_size=14)


@settings(max_examples=500, deadline=None)
@given(orders_written, st.integers(70, 130), st.sampled_from((1, 2, 4)), st.none() | st.integers(75, 115))
def test_the_price_equals_a_search_through_all_prices(
    written: list[Written], reference_fen: int, tick_fen: int, floor_fen: int | None
) -> None:
    # Limits are multiples of 4, so that they lie on every tick tried; the floor is then any price at all.
    book = collected(*[(side, 4 * price, grams) for side, price, grams in written])
    reference = ReferenceMarket(collects=True)
    for order in sorted(book, key=lambda order: order.sequence):
        reference.place(order, TimeInForce.GTC)
    ticks = [price for price in range(64, 132) if price % tick_fen == 0 and (floor_fen is None or price >= floor_fen)]
    near = [price for price in ticks if abs(price - reference_fen) < tick_fen]
    limits = {order.price_fen for order in book}
    candidates = [
        price for price in ticks if price in limits or price in near or (price == ticks[0] and floor_fen is not None)
    ]

    result = uncross(book, reference_fen, tick_fen, floor_fen)

    assert result.price_fen == reference.uniform_price(candidates, reference_fen)
    # Nor is there any other price on the tick at which more would trade.
    assert result.volume_g == max(reference.at_price(price)[0] for price in ticks)
    assert result.fills == gram_by_gram(book, result)


def gram_by_gram(book: Book, result: Uncrossing) -> tuple[Fill, ...]:
    """The fills found by laying buyers' and sellers' single grams side by side."""
    price = result.price_fen
    if price is None:
        return ()
    bought = [order for order in book.orders(BUY) if order.price_fen >= price for _ in range(order.remaining_g)]
    sold = [order for order in book.orders(SELL) if order.price_fen <= price for _ in range(order.remaining_g)]
    fills = []
    for pair, grams in groupby(zip(bought, sold, strict=False)):
        maker, taker = sorted(pair, key=lambda order: order.sequence)
        fills.append(Fill(maker.id, taker.id, price, len(list(grams))))
    return tuple(fills)


@settings(max_examples=150, deadline=None)
@given(orders_written, st.integers(15, 35))
def test_after_an_auction_nothing_crosses_and_no_gram_is_lost(written: list[Written], reference_fen: int) -> None:
    book = collected(*written)
    before_g = sum(order.remaining_g for order in book)
    result = uncross(book, reference_fen, 1)
    book.execute(result.fills)
    book.close_call()
    assert sum(order.remaining_g for order in book) == before_g - 2 * result.volume_g
    assert uncross(book, reference_fen, 1) == Uncrossing(None, 0, ())
