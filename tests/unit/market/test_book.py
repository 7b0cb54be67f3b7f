"""The rules of the order book, one by one."""

from __future__ import annotations

import pytest

from backend.market.exchange.book import (
    Book,
    Depth,
    Fill,
    LevelDepth,
    Order,
    Outcome,
    Side,
    StopReason,
    TimeInForce,
)

BUY, SELL = Side.BUY, Side.SELL
GTC, GTD, IOC, FOK = TimeInForce.GTC, TimeInForce.GTD, TimeInForce.IOC, TimeInForce.FOK


def order(number: int, side: Side, price_fen: int, quantity_g: int = 10, owner: str | None = None) -> Order:
    """Order ``o<number>``, the ``number``-th to come; each has an owner of its own unless named."""
    return Order(f"o{number}", owner or f"owner-{number}", side, price_fen, quantity_g, number)


def book_of(*orders: Order) -> Book:
    """A book in which these rest."""
    return Book.load(orders)


def resting(book: Book) -> list[tuple[str, int]]:
    """Who rests with what, in priority order."""
    return [(order.id, order.remaining_g) for order in book]


def test_an_order_that_meets_nobody_rests() -> None:
    book = Book()
    assert book.place(order(1, BUY, 100), GTC) == Outcome((), 10, 0, None)
    assert book.place(order(2, SELL, 101), GTD) == Outcome((), 10, 0, None)
    assert (book.best_bid, book.best_ask, len(book)) == (100, 101, 2)


def test_an_empty_book_has_nothing_best() -> None:
    book = Book()
    assert (book.best_bid, book.best_ask, len(book), list(book)) == (None, None, 0, [])
    assert book.depth(5) == Depth((), ())


def test_a_buyer_takes_the_cheapest_and_a_seller_the_dearest_at_the_resting_price() -> None:
    book = book_of(order(1, SELL, 103), order(2, SELL, 101), order(3, SELL, 102))
    assert book.place(order(4, BUY, 102, 25), GTC) == Outcome(
        (Fill("o2", "o4", 101, 10), Fill("o3", "o4", 102, 10)), 5, 0, None
    )
    assert resting(book) == [("o4", 5), ("o1", 10)]
    book = book_of(order(1, BUY, 97), order(2, BUY, 99), order(3, BUY, 98))
    assert book.place(order(4, SELL, 98, 25), GTC) == Outcome(
        (Fill("o2", "o4", 99, 10), Fill("o3", "o4", 98, 10)), 5, 0, None
    )
    assert resting(book) == [("o1", 10), ("o4", 5)]


def test_the_earlier_goes_first_at_one_price_and_keeps_its_place_when_filled_in_part() -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 100))
    assert book.place(order(3, BUY, 100, 4), GTC).fills == (Fill("o1", "o3", 100, 4),)
    assert resting(book) == [("o1", 6), ("o2", 10)]
    assert book.place(order(4, BUY, 100, 8), GTC).fills == (Fill("o1", "o4", 100, 6), Fill("o2", "o4", 100, 2))
    assert resting(book) == [("o2", 8)]


def test_a_limit_is_met_and_not_passed() -> None:
    book = book_of(order(1, SELL, 100))
    assert book.place(order(2, BUY, 99), GTC).fills == ()
    assert book.place(order(3, BUY, 100), GTC).fills == (Fill("o1", "o3", 100, 10),)


def test_ioc_takes_what_it_can_and_cancels_its_rest() -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 102))
    assert book.place(order(3, BUY, 101, 15), IOC) == Outcome((Fill("o1", "o3", 100, 10),), 0, 5, StopReason.IOC_REST)
    assert resting(book) == [("o2", 10)]
    assert book.place(order(4, BUY, 101), IOC) == Outcome((), 0, 10, StopReason.IOC_REST)
    assert book.place(order(5, BUY, 102), IOC) == Outcome((Fill("o2", "o5", 102, 10),), 0, 0, None)
    assert resting(book) == []


def test_fok_takes_all_or_nothing() -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 101), order(3, SELL, 102))
    assert book.place(order(4, BUY, 101, 21), FOK) == Outcome((), 0, 21, StopReason.FOK_UNFILLABLE)
    assert resting(book) == [("o1", 10), ("o2", 10), ("o3", 10)]
    filled = book.place(order(5, BUY, 101, 20), FOK)
    assert filled == Outcome((Fill("o1", "o5", 100, 10), Fill("o2", "o5", 101, 10)), 0, 0, None)
    assert resting(book) == [("o3", 10)]


@pytest.mark.parametrize("tif", [GTC, GTD, IOC])
def test_an_order_stops_before_its_owners_own(tif: TimeInForce) -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 101, owner="ann"), order(3, SELL, 101))
    outcome = book.place(order(4, BUY, 102, 30, owner="ann"), tif)
    assert outcome == Outcome((Fill("o1", "o4", 100, 10),), 0, 20, StopReason.SELF_TRADE)
    assert resting(book) == [("o2", 10), ("o3", 10)]


def test_what_is_filled_before_the_owners_own_order_is_no_self_trade() -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 100, owner="ann"))
    assert book.place(order(3, BUY, 100, 10, owner="ann"), GTC) == Outcome((Fill("o1", "o3", 100, 10),), 0, 0, None)
    assert book.place(order(4, BUY, 99, 10, owner="ann"), GTC) == Outcome((), 10, 0, None)


def test_fok_counts_only_what_comes_before_the_owners_own() -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 100, owner="ann"), order(3, SELL, 100))
    refused = Outcome((), 0, 11, StopReason.FOK_UNFILLABLE)
    assert book.place(order(4, BUY, 100, 11, owner="ann"), FOK) == refused
    assert resting(book) == [("o1", 10), ("o2", 10), ("o3", 10)]
    assert book.place(order(5, BUY, 100, 10, owner="ann"), FOK).fills == (Fill("o1", "o5", 100, 10),)


def test_a_cancelled_order_is_gone() -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 100), order(3, SELL, 100))
    book.place(order(4, BUY, 100, 4), IOC)
    assert (book.cancel("o1"), book.cancel("o2")) == (6, 10)
    assert (book.cancel("o2"), book.cancel("o4"), book.cancel("nobody")) == (None, None, None)
    assert book.depth(5) == Depth((), (LevelDepth(100, 10, 1),))
    assert book.cancel("o3") == 10
    assert (book.best_ask, len(book), book.depth(5)) == (None, 0, Depth((), ()))


def test_an_id_may_come_again_once_it_is_gone() -> None:
    book = book_of(order(1, SELL, 100))
    book.cancel("o1")
    assert book.place(order(1, SELL, 101)._replace(sequence=2), GTC).rested_g == 10
    assert resting(book) == [("o1", 10)]


def test_fewer_grams_at_the_same_price_keep_time_priority() -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 100))
    assert book.amend("o1", 100, 3, 5) == Outcome((), 3, 0, None)
    assert book.amend("o1", 100, 3, 6) == Outcome((), 3, 0, None)
    assert (resting(book), book.depth(1).asks) == ([("o1", 3), ("o2", 10)], (LevelDepth(100, 13, 2),))
    assert book.find("o1") == order(1, SELL, 100, 3)


@pytest.mark.parametrize(("price_fen", "remaining_g"), [(100, 11), (101, 10), (101, 5)])
def test_another_price_or_more_grams_lose_time_priority(price_fen: int, remaining_g: int) -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 100), order(3, SELL, 101))
    assert book.amend("o1", price_fen, remaining_g, 7) == Outcome((), remaining_g, 0, None)
    assert [order.id for order in book] == (["o2", "o1", "o3"] if price_fen == 100 else ["o2", "o3", "o1"])
    assert book.find("o1") == Order("o1", "owner-1", SELL, price_fen, remaining_g, 7)


def test_an_amended_order_may_match_at_once_and_the_rest_waits() -> None:
    book = book_of(order(1, SELL, 100), order(2, BUY, 99))
    assert book.amend("o2", 100, 14, 3) == Outcome((Fill("o1", "o2", 100, 10),), 4, 0, None)
    assert resting(book) == [("o2", 4)]


def test_an_amended_order_is_cancelled_before_its_owners_own() -> None:
    book = book_of(order(1, SELL, 100, owner="ann"), order(2, BUY, 99, owner="ann"))
    assert book.amend("o2", 100, 14, 3) == Outcome((), 0, 14, StopReason.SELF_TRADE)
    assert resting(book) == [("o1", 10)]


def test_an_order_that_is_not_there_cannot_be_amended() -> None:
    book = book_of(order(1, SELL, 100))
    book.place(order(2, BUY, 100), GTC)
    assert (book.amend("o1", 100, 5, 3), book.amend("o2", 100, 5, 4)) == (None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        order(4, BUY, 100)._replace(remaining_g=0),
        order(4, BUY, 100)._replace(remaining_g=-1),
        order(4, BUY, 0),
        order(4, BUY, 100)._replace(sequence=3),
        order(4, BUY, 100)._replace(id="o2"),
    ],
    ids=["no grams", "negative grams", "no price", "an old sequence", "an id that rests"],
)
def test_what_cannot_be_an_order_moves_nothing(wrong: Order) -> None:
    book = book_of(order(1, SELL, 100), order(2, SELL, 101), order(3, BUY, 90))
    before = list(book)
    with pytest.raises(ValueError, match=wrong.id):
        book.place(wrong, GTC)
    assert list(book) == before
    if wrong.id != "o2":
        with pytest.raises(ValueError, match="o3"):
            book.amend("o3", wrong.price_fen + 1 if wrong.price_fen else 0, wrong.remaining_g, wrong.sequence)
    assert list(book) == before
    assert book.place(order(4, BUY, 100), GTC).fills == (Fill("o1", "o4", 100, 10),)


def test_a_refused_fok_uses_up_its_sequence() -> None:
    book = Book()
    book.place(order(2, BUY, 100), FOK)
    with pytest.raises(ValueError, match="does not follow on 2"):
        book.place(order(3, BUY, 100)._replace(sequence=2), GTC)


def test_depth_shows_the_best_levels_first() -> None:
    book = book_of(
        order(1, BUY, 98),
        order(2, BUY, 99),
        order(3, BUY, 98, 5),
        order(4, SELL, 102),
        order(5, SELL, 101),
        order(6, SELL, 103),
    )
    assert book.depth(2) == Depth(
        (LevelDepth(99, 10, 1), LevelDepth(98, 15, 2)), (LevelDepth(101, 10, 1), LevelDepth(102, 10, 1))
    )
    assert book.depth(0) == Depth((), ())
    assert [order.id for order in book.orders(BUY)] == ["o2", "o1", "o3"]
    assert [order.id for order in book.orders(SELL)] == ["o5", "o4", "o6"]
    assert [order.id for order in book] == ["o2", "o1", "o3", "o5", "o4", "o6"]


def test_loading_puts_orders_in_the_order_of_their_sequences() -> None:
    orders = [order(1, SELL, 100), order(2, SELL, 100), order(3, BUY, 99)]
    assert list(Book.load(reversed(orders))) == [orders[2], orders[0], orders[1]]
    with pytest.raises(ValueError, match="does not follow on 3"):
        Book.load(orders).place(order(3, BUY, 99)._replace(id="new"), GTC)


def test_what_cannot_have_rested_is_not_loaded() -> None:
    with pytest.raises(ValueError, match="a bid of 101 crosses an ask of 101"):
        Book.load([order(1, SELL, 101), order(2, BUY, 101)])
    with pytest.raises(ValueError, match="o1 rests already"):
        Book.load([order(1, SELL, 101), order(1, SELL, 101)._replace(sequence=2)])
    with pytest.raises(ValueError, match="does not follow on 1"):
        Book.load([order(1, SELL, 101), order(2, SELL, 101)._replace(sequence=1)])


def test_orders_cross_without_matching_while_the_book_collects() -> None:
    book = book_of(order(1, SELL, 101))
    assert not book.collects
    book.open_call()
    assert book.collects
    assert book.place(order(2, BUY, 105), GTC) == Outcome((), 10, 0, None)
    assert book.place(order(3, BUY, 90), GTD) == Outcome((), 10, 0, None)
    assert book.amend("o3", 103, 20, 4) == Outcome((), 20, 0, None)
    assert resting(book) == [("o2", 10), ("o3", 20), ("o1", 10)]
    again = Book.load(book, collects=True)
    assert (list(again), again.collects) == (list(book), True)


@pytest.mark.parametrize("tif", [IOC, FOK])
def test_nothing_that_does_not_wait_is_collected(tif: TimeInForce) -> None:
    book = book_of(order(1, SELL, 101))
    book.open_call()
    with pytest.raises(ValueError, match=f"o2 is {tif}"):
        book.place(order(2, BUY, 105), tif)
    assert resting(book) == [("o1", 10)]


def test_the_call_closes_once_nothing_crosses() -> None:
    book = Book.load([order(1, SELL, 100), order(2, BUY, 102, 15)], collects=True)
    with pytest.raises(ValueError, match="a bid of 102 crosses an ask of 100"):
        book.close_call()
    assert book.collects
    book.execute([Fill("o1", "o2", 101, 10)])
    book.close_call()
    assert (book.collects, resting(book)) == (False, [("o2", 5)])
    assert book.place(order(3, SELL, 90, 5), GTC).fills == (Fill("o2", "o3", 102, 5),)


@pytest.mark.parametrize(
    "fills",
    [[Fill("o1", "o2", 101, 11)], [Fill("o1", "o2", 101, 6), Fill("o1", "o2", 101, 5)], [Fill("o1", "o9", 101, 1)]],
)
def test_fills_of_more_than_is_open_take_nothing(fills: list[Fill]) -> None:
    book = Book.load([order(1, SELL, 100), order(2, BUY, 102, 15)], collects=True)
    with pytest.raises(ValueError, match=r"o[19] has no \d+ g open"):
        book.execute(fills)
    assert resting(book) == [("o2", 15), ("o1", 10)]


def test_an_order_that_would_cross_its_owners_own_is_known_before() -> None:
    book = Book.load([order(1, SELL, 99), order(2, SELL, 100, owner="ann"), order(3, BUY, 98, owner="ann")])
    assert [book.meets_own("ann", BUY, price) for price in (99, 100, 101)] == [False, True, True]
    assert [book.meets_own("ann", SELL, price) for price in (99, 98, 97)] == [False, True, True]
    assert not book.meets_own("bob", BUY, 101)
