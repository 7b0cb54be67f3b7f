"""Trades: who pays out of which hold, in part or to its end, and what cannot be drawn on."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.kernel.errors import Refusal
from backend.ledger import rules
from backend.ledger.errors import (
    HoldExceededError,
    HoldExpiredError,
    HoldNotActiveError,
    InsufficientFundsError,
    MalformedTransactionError,
    OverCorrectedError,
)
from backend.ledger.model import CNY, POINTS, QUANTIFIED, Line, Lot, OwnerId, Page, Terms, Transaction, account_of
from tests.factories import capture, earning, holding, owner, release, reversal, shop
from tests.trading import (
    CREDIT,
    FIRM,
    POOL,
    benefit,
    deduction,
    deposit,
    drawn,
    issuance,
    order,
    payout_hold,
    pooling,
    retirement,
    trade,
)
from tests.unit.ledger.book import DAY, NOON, POLICY, Book

if TYPE_CHECKING:
    from datetime import datetime

    from backend.ledger.model import Applied

ALICE = owner("alice")
UNTIL = NOON + 10 * DAY
INSTANT = timedelta(milliseconds=1)
LIFE = Lot(NOON + 90 * DAY, 30)
Pages = dict[OwnerId, Page]
SELL = order("sell", ALICE, CREDIT, 8_000, until=UNTIL)
BUY = order("buy", FIRM, CNY, 500, until=UNTIL)
# Alice has ten credits, eight of them ordered, and points; the firm has 600 fen, 500 of them ordered.
START = {
    ALICE: Page(ALICE, 3, NOON, {CREDIT: 10_000, CNY: 5, POINTS: 30}, lots=(LIFE,)),
    FIRM: Page(FIRM, 2, NOON, {CNY: 600}),
}


def do(transaction: Transaction, pages: Pages, at: datetime = NOON) -> Applied:
    """Apply it; each owner alone, as the auditor does it, must come to the same."""
    terms = Terms(at, POLICY.opens(transaction.kind, at))
    applied = rules.apply(transaction, pages, terms)
    for number, one in enumerate(transaction.owners):
        alone = rules.apply_to(pages.get(one) or Page(one), transaction, terms, applied.taken)
        assert (alone.pages, alone.entries) == ({one: applied.pages[one]}, (applied.entries[number],))
    return applied


def after(*transactions: Transaction, pages: Pages | None = None, at: datetime = NOON) -> Pages:
    """The pages after all of these."""
    found = dict(START if pages is None else pages)
    for transaction in transactions:
        found |= do(transaction, found, at).pages
    return found


ORDERED = after(SELL, BUY)


def fill(
    amount: int = 3_000, fen: int = 90, fees: tuple[int, int] = (0, 0), *, sold: bool = False, bought: bool = False
) -> Transaction:
    """A fill between the two orders; each may be over with it."""
    draws = (drawn(SELL, final=sold), drawn(BUY, final=bought))
    return trade("fill", ALICE, FIRM, amount, fen, draws=draws, fees=fees)


def refused(transaction: Transaction, pages: Pages, at: datetime = NOON) -> Exception:
    """What it is refused with, by all pages and by the page of one of its owners alone; nothing changed."""
    kept, terms = copy.deepcopy(pages), Terms(at, UNTIL)
    with pytest.raises((Refusal, MalformedTransactionError)) as caught:
        rules.apply(transaction, pages, terms)
    alone = []
    for one in transaction.owners:
        try:
            rules.apply_to(pages.get(one) or Page(one), transaction, terms, [()] * len(transaction.postings))
        except (Refusal, MalformedTransactionError) as error:
            alone.append(str(error))
    assert str(caught.value) in alone
    assert pages == kept
    return caught.value


def holds(page: Page) -> list[tuple[str, int]]:
    return [(hold.id, hold.amount) for hold in page.holds]


def test_a_fill_pays_out_of_both_holds_and_leaves_the_rest_reserved() -> None:
    applied = do(fill(), ORDERED)
    alice, firm = applied.pages[ALICE], applied.pages[FIRM]
    assert (holds(alice), holds(firm)) == ([(SELL.id, 5_000)], [(BUY.id, 410)])
    assert [entry.lines for entry in applied.entries] == [
        (Line(CREDIT, -3_000, 7_000, held=5_000), Line(CNY, 90, 95)),
        (Line(CREDIT, 3_000, 3_000), Line(CNY, -90, 510, held=410)),
    ]
    # What the order did not reserve is as free as before.
    assert (alice.available(CREDIT, NOON), firm.available(CNY, NOON)) == (2_000, 100)
    assert alice.lots == (LIFE,)
    assert applied.taken == ((), ())


def test_a_final_draw_frees_what_is_left() -> None:
    applied = do(fill(sold=True, bought=True), ORDERED)
    assert (holds(applied.pages[ALICE]), holds(applied.pages[FIRM])) == ([], [])
    assert applied.pages[ALICE].available(CREDIT, NOON) == 7_000
    assert applied.pages[FIRM].available(CNY, NOON) == 510
    assert [line.held for entry in applied.entries for line in entry.lines] == [0] * 4
    assert applied.pages[FIRM].due_at is None


def test_a_hold_that_is_used_up_ends_though_the_draw_is_not_final() -> None:
    applied = do(fill(8_000, 500), ORDERED)
    assert (holds(applied.pages[ALICE]), holds(applied.pages[FIRM])) == ([], [])
    refusal = refused(fill(1_000, 1), dict(applied.pages))
    assert isinstance(refusal, HoldNotActiveError)
    assert refusal.hold == SELL.id


@pytest.mark.parametrize("is_final", [True, False])
def test_who_buys_for_less_than_a_fen_pays_nothing_and_the_order_goes_on_or_ends(*, is_final: bool) -> None:
    applied = do(fill(1_000, 0, bought=is_final), ORDERED)
    firm = applied.pages[FIRM]
    assert (firm.balance(CNY), firm.balance(CREDIT)) == (600, 1_000)
    assert (holds(firm), firm.held(CNY)) == (([], 0) if is_final else ([(BUY.id, 500)], 500))
    freed = [Line(CNY, 0, 600)] if is_final else []
    assert list(applied.entries[1].lines) == [Line(CREDIT, 1_000, 1_000), *freed]


def test_the_sellers_fee_comes_out_of_what_the_fill_brought_and_the_buyers_out_of_the_hold() -> None:
    applied = do(fill(3_000, 90, (95, 10)), ORDERED)
    assert [entry.lines for entry in applied.entries] == [
        (Line(CREDIT, -3_000, 7_000, held=5_000), Line(CNY, -5, 0)),
        (Line(CREDIT, 3_000, 3_000), Line(CNY, -100, 500, held=400)),
    ]
    refusal = refused(fill(3_000, 90, (96, 10)), ORDERED)
    assert isinstance(refusal, InsufficientFundsError)
    assert vars(refusal) == {"account": "citizen:alice:cny", "needed": 96, "available": 95}


def test_the_postings_of_a_trade_happen_in_their_order() -> None:
    sold, paid, fee = fill(3_000, 90, (90, 0)).postings
    early = Transaction(
        key="early", kind=fill().kind, postings=(sold, fee, paid), draws=(drawn(SELL), drawn(BUY)), cause=fill().cause
    )
    assert isinstance(refused(early, ORDERED), InsufficientFundsError)


def test_who_has_no_order_pays_from_what_is_free() -> None:
    free = trade("take", ALICE, FIRM, 8_000, 100, draws=[drawn(SELL)])
    applied = do(free, ORDERED)
    assert (holds(applied.pages[ALICE]), holds(applied.pages[FIRM])) == ([], [(BUY.id, 500)])
    assert applied.pages[FIRM].available(CNY, NOON) == 0
    dear = trade("take", ALICE, FIRM, 8_000, 101, draws=[drawn(SELL)])
    assert vars(refused(dear, ORDERED)) == {"account": "enterprise:firm:cny", "needed": 101, "available": 100}
    more = trade("take", ALICE, FIRM, 3_000, 100, draws=[drawn(BUY)])
    assert vars(refused(more, ORDERED)) == {"account": "citizen:alice:credit:b1", "needed": 3_000, "available": 2_000}


@pytest.mark.parametrize(
    ("amount", "fen", "fees", "hold", "needed", "held"),
    [
        (9_000, 90, (0, 0), SELL, 9_000, 8_000),
        (1_000, 501, (0, 0), BUY, 501, 500),
        # The fee is refused for what the value has left of the hold, though a hundred more are free.
        (1_000, 490, (0, 11), BUY, 11, 10),
    ],
)
def test_no_more_is_drawn_than_is_left_of_the_hold(
    amount: int, fen: int, fees: tuple[int, int], hold: Transaction, needed: int, held: int
) -> None:
    refusal = refused(fill(amount, fen, fees), ORDERED)
    assert isinstance(refusal, HoldExceededError)
    assert vars(refusal) == {"hold": hold.id, "needed": needed, "held": held}


@pytest.mark.parametrize(
    "other",
    [
        payout_hold("other", FIRM, 50, until=UNTIL),
        holding("other", account_of(FIRM, POINTS), shop(), 5, until=UNTIL),
        holding("other", account_of(FIRM, CREDIT), account_of(ALICE, CREDIT), 1_000, until=UNTIL),
    ],
    ids=["a payout", "a redemption", "a gift of credits"],
)
def test_only_an_order_is_drawn_on(other: Transaction) -> None:
    rich = Page(FIRM, 9, NOON, {CNY: 700, CREDIT: 5_000, POINTS: 30}, lots=(LIFE,))
    pages = after(other, pages={**ORDERED, FIRM: rich})
    refusal = refused(trade("fill", ALICE, FIRM, 1_000, 9, draws=[drawn(SELL), drawn(other)]), pages)
    assert isinstance(refusal, HoldNotActiveError)
    assert refusal.hold == other.id


def test_an_order_for_another_asset_reserves_nothing_for_this_one() -> None:
    selling = order("selling", FIRM, CREDIT, 1_000, until=UNTIL)
    pages = after(selling, pages={**ORDERED, FIRM: Page(FIRM, 9, NOON, {CNY: 20, CREDIT: 1_000})})
    # Its credits stay reserved, and the fen are paid from what is free.
    firm = do(trade("fill", ALICE, FIRM, 1_000, 20, draws=[drawn(SELL), drawn(selling)]), pages).pages[FIRM]
    assert (holds(firm), firm.balance(CNY), firm.balance(CREDIT)) == ([(selling.id, 1_000)], 0, 2_000)


def test_two_orders_of_one_owner_and_asset_are_not_drawn_on_at_once() -> None:
    again = order("again", FIRM, CNY, 100, until=UNTIL)
    malformed = refused(
        trade("fill", ALICE, FIRM, 1_000, 90, draws=[drawn(SELL), drawn(BUY), drawn(again)]),
        after(again, pages=ORDERED),
    )
    assert isinstance(malformed, MalformedTransactionError)
    assert str(malformed) == "fill: draws on two holds of cny of enterprise:firm"


def test_what_has_ended_is_not_drawn_on() -> None:
    for end in (release(BUY), fill(8_000, 90, bought=True)):
        refusal = refused(fill(1_000, 1), after(end, pages=ORDERED))
        assert isinstance(refusal, HoldNotActiveError)
    nobodys = order("never", FIRM, CNY, 1, until=UNTIL)
    assert isinstance(
        refused(trade("fill", ALICE, FIRM, 1_000, 1, draws=[drawn(nobodys)]), ORDERED), HoldNotActiveError
    )


def test_what_is_over_is_not_drawn_on_though_nothing_has_lapsed_it() -> None:
    do(fill(), ORDERED, UNTIL - INSTANT)
    refusal = refused(fill(), ORDERED, UNTIL)
    assert isinstance(refusal, HoldExpiredError)
    assert refusal.hold == SELL.id


def test_credits_and_fen_that_are_reserved_cannot_go_another_way() -> None:
    assert vars(refused(retirement(payer=ALICE, grams=3), ORDERED)) == {
        "account": "citizen:alice:credit:b1",
        "needed": 3_000,
        "available": 2_000,
    }
    assert isinstance(refused(payout_hold("out", FIRM, 101, until=UNTIL), ORDERED), InsufficientFundsError)
    assert isinstance(refused(order("more", ALICE, CREDIT, 3_000, until=UNTIL), ORDERED), InsufficientFundsError)
    rest = after(
        retirement(payer=ALICE, grams=2), payout_hold("out", FIRM, 100, until=UNTIL), fill(8_000, 500), pages=ORDERED
    )
    assert (rest[ALICE].balance(CREDIT), rest[FIRM].available(CNY, NOON)) == (0, 0)


def test_a_payout_is_reserved_posted_and_gone() -> None:
    out = payout_hold("out", FIRM, 100, until=UNTIL)
    pages = after(out, capture(out))
    assert (pages[FIRM].balance(CNY), pages[FIRM].holds) == (500, ())
    assert isinstance(refused(release(out), pages), HoldNotActiveError)


def pooled_book() -> tuple[Book, Transaction]:
    """Alice has pooled 4,500 of 5,000 milligrams."""
    book, pooled = Book(), pooling(payer=ALICE, amounts=(3_000, 1_500))
    book.post(earning("grams", "alice", 5_000, QUANTIFIED))
    book.post(pooled)
    return book, pooled


def test_what_is_pooled_is_the_pools_until_it_is_given_back() -> None:
    book, pooled = pooled_book()
    assert (book.page().balance(QUANTIFIED), book.page(POOL).balance(QUANTIFIED)) == (500, 4_500)
    # What has left the page can be spent by nobody else: not pooled again, not given away.
    assert isinstance(refused(pooling("again", ALICE, (501,)), book.pages), InsufficientFundsError)
    book.post(reversal(pooled, "back", (3_000, 500)))
    assert (book.page().balance(QUANTIFIED), book.page(POOL).balance(QUANTIFIED)) == (4_000, 1_000)
    for amounts, left in (((1_001, 0), 1_000), ((0, 1_001), 1_000)):
        with pytest.raises(OverCorrectedError) as caught:
            book.post(reversal(pooled, "too much", amounts))
        assert caught.value.remaining == left


def test_what_was_issued_is_not_given_back_and_no_pool_is_lent_anything() -> None:
    book, pooled = pooled_book()
    assert isinstance(refused(issuance(grams=5), book.pages), InsufficientFundsError)
    book.post(issuance(grams=3))
    kept = dict(book.pages)
    with pytest.raises(InsufficientFundsError) as caught:
        book.post(reversal(pooled, "back"))
    assert vars(caught.value) == {"account": "pool:b1:co2e.quantified", "needed": 3_000, "available": 1_500}
    assert book.pages == kept
    book.post(deduction(amount=1_500))
    assert book.page(POOL).balances == {QUANTIFIED: 0, CREDIT: 3_000}
    assert book.page(POOL).debts == {}


def test_who_spent_what_is_corrected_still_owes_though_it_lies_in_a_pool() -> None:
    """The pool keeps what it has: the citizen owes the grams."""
    book, _ = pooled_book()
    book.post(reversal(earning("grams", "alice", 5_000, QUANTIFIED), "fraud"))
    assert (book.page().balance(QUANTIFIED), book.page().debt(QUANTIFIED)) == (0, 4_500)
    assert book.page(POOL).balance(QUANTIFIED) == 4_500


def test_proceeds_return_as_fen_or_as_points_made_for_them() -> None:
    pages = {POOL: Page(POOL, 1, NOON, {CNY: 30})}
    fen = after(benefit("fen", ALICE, 10), pages=pages)
    assert (fen[POOL].balance(CNY), fen[ALICE].balance(CNY)) == (20, 10)
    points = after(benefit("points", ALICE, 20, 250), pages=fen)
    assert points[POOL].balance(CNY) == 0
    assert points[ALICE].lots == (Lot(POLICY.opens(benefit("", ALICE, 1).kind, NOON), 250),)
    assert isinstance(refused(benefit("more", ALICE, 21), fen), InsufficientFundsError)
    assert after(deposit(payee=POOL, fen=1), pages=points)[POOL].balance(CNY) == 1
