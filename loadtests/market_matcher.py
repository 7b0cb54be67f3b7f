"""The matching engine by itself: orders per second of the book, every answer held against the reference market."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, NamedTuple

from backend.market.exchange.book import Book, Outcome
from loadtests.ledger_book import ROUNDS, median
from loadtests.report import Figure
from tests.unit.market.order_flow import OrderFlow, play
from tests.unit.market.reference_market import ReferenceMarket

if TYPE_CHECKING:
    from tests.unit.market.order_flow import Market, Step

SEED = 20_261_121
ORDERS = 100_000
GOAL_PER_S = 50_000
# Some 500 price levels and 1,200 orders, which rest before the measurement begins.
SPREAD, CROWD = 400, 1_200
WARM_UP = 20_000
ALL_LEVELS = 10_000
EQUAL = "equal"


class Played(NamedTuple):
    """What a market answered to the measured steps, and how long it took."""

    answers: list[Outcome | int | None]
    taken_s: float


def _play(market: Market, steps: list[Step]) -> Played:
    """Warm the market up and measure it on the steps after that."""
    for step in steps[:WARM_UP]:
        play(market, step)
    measured = steps[WARM_UP:]
    gc.collect()
    begun = time.perf_counter()
    answers = [play(market, step) for step in measured]
    return Played(answers, time.perf_counter() - begun)


def _difference(book: Book, reference: ReferenceMarket, played: Played, expected: Played) -> str:
    """Where the two markets part for the first time."""
    for number, (answer, should) in enumerate(zip(played.answers, expected.answers, strict=True)):
        if answer != should:
            return f"step {number}: {answer} instead of {should}"
    return EQUAL if list(book) == reference.resting() else "other orders rest"


def measure() -> dict[str, Figure]:
    """Medians of several rounds of the same 100,000 orders; the reference plays them once beside it."""
    steps = OrderFlow(SEED, spread=SPREAD, crowd=CROWD).steps(WARM_UP + ORDERS)
    reference = ReferenceMarket()
    expected = _play(reference, steps)
    rates, results = [], []
    for _ in range(ROUNDS):
        book = Book()
        played = _play(book, steps)
        rates.append(ORDERS / played.taken_s)
        results.append(_difference(book, reference, played, expected))
    bids, asks = book.depth(ALL_LEVELS)
    fills = sum(len(answer.fills) for answer in expected.answers if isinstance(answer, Outcome))
    return {
        "matcher": Figure(median(rates), "orders/s", GOAL_PER_S),
        "matcher_against_reference": Figure(next((r for r in results if r != EQUAL), EQUAL), "", EQUAL),
        "matcher_faster_than_reference": Figure(round(median(rates) * expected.taken_s / ORDERS), "times"),
        "matcher_fills": Figure(fills, "fills"),
        "matcher_levels": Figure(len(bids) + len(asks), "price levels"),
    }
