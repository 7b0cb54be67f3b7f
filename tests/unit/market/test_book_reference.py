"""The order book against the reference market: every answer and every rest, on short histories and a long one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.market.exchange.book import Book, Order, Outcome, Side, StopReason, TimeInForce
from tests.unit.market.order_flow import Amend, Cancel, OrderFlow, Place, Step, play
from tests.unit.market.reference_market import ReferenceMarket

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 20_261_121
ORDERS = 100_000
PLENTY = settings(max_examples=150, deadline=None)


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """A few owners, prices and grams, so that all meets all; ids of orders there are, were and never were."""
    steps: list[Step] = []
    for number in range(1, draw(st.integers(1, 40)) + 1):
        known = f"o{draw(st.integers(1, number))}"
        price, grams = draw(st.integers(98, 102)), draw(st.integers(1, 6))
        place = Place(
            Order(f"o{number}", draw(st.sampled_from("abc")), draw(st.sampled_from(Side)), price, grams, number),
            draw(st.sampled_from(TimeInForce)),
        )
        choices: tuple[Step, ...] = (place, place, place, Cancel(known), Amend(known, price, grams, number))
        steps.append(draw(st.sampled_from(choices)))
    return steps


def open_orders(market: Book | ReferenceMarket) -> list[Order]:
    """What rests, in priority order."""
    return list(market) if isinstance(market, Book) else market.resting()


def assert_equal(steps: list[Step], restarts: Callable[[int], bool]) -> None:
    """Both markets answer every step alike and hold the same, though the book is loaded anew at some of them."""
    book, reference = Book(), ReferenceMarket()
    shuffle = random.Random(SEED).shuffle
    for number, step in enumerate(steps):
        assert (number, play(book, step)) == (number, play(reference, step))
        assert open_orders(book) == open_orders(reference)
        assert book.depth(2) == reference.depth(2)
        if restarts(number):
            orders = list(book)
            shuffle(orders)
            book = Book.load(orders)
            assert list(book) == open_orders(reference)


@PLENTY
@given(histories())
def test_the_book_equals_the_reference(steps: list[Step]) -> None:
    assert_equal(steps, lambda _: False)


@PLENTY
@given(histories(), st.sets(st.integers(0, 39)))
def test_a_restart_at_any_points_changes_nothing(steps: list[Step], points: set[int]) -> None:
    assert_equal(steps, points.__contains__)


@PLENTY
@given(histories())
def test_grams_are_filled_rest_or_are_cancelled(steps: list[Step]) -> None:
    book = Book()
    for step in steps:
        rested_g = sum(order.remaining_g for order in book)
        answer = play(book, step)
        if isinstance(step, Place):
            assert isinstance(answer, Outcome)
            filled_g = sum(fill.quantity_g for fill in answer.fills)
            assert filled_g + answer.rested_g + answer.cancelled_g == step.order.remaining_g
            assert sum(order.remaining_g for order in book) == rested_g - filled_g + answer.rested_g
            assert (answer.stop is None) == (answer.cancelled_g == 0)
        bid, ask = book.best_bid, book.best_ask
        assert bid is None or ask is None or bid < ask


def test_a_hundred_thousand_orders_equal_the_reference() -> None:
    steps = OrderFlow(SEED, spread=25, crowd=120).steps(ORDERS)
    book, reference = Book(), ReferenceMarket()
    chance = random.Random(SEED)
    restarts, fills, missed, stops = 0, 0, 0, set[StopReason | None]()
    for number, step in enumerate(steps):
        answer = play(book, step)
        assert (number, answer) == (number, play(reference, step))
        missed += answer is None
        if isinstance(answer, Outcome):
            fills += len(answer.fills)
            stops.add(answer.stop)
        if number % 500 == 0:
            assert list(book) == reference.resting()
            assert book.depth(1_000) == reference.depth(1_000)
        if chance.randrange(1_000) == 0:
            book = Book.load(list(book))
            restarts += 1
    assert list(book) == reference.resting()
    # The flow is one in which all of it happens, and often.
    assert stops == {None, *StopReason}
    assert (len(steps), fills > 30_000, missed > 3_000, restarts > 50) == (ORDERS, True, True, True)
