"""Holds: reserving, posting in full or in part, setting free, lapsing; what becomes of their lots."""

from __future__ import annotations

import copy
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import Refusal
from backend.ledger import rules
from backend.ledger.errors import (
    HoldExceededError,
    HoldExpiredError,
    HoldNotActiveError,
    InsufficientFundsError,
    TooManyHoldsError,
)
from backend.ledger.lots import GRACE_MARK
from backend.ledger.model import (
    POINTS,
    QUANTIFIED,
    AccountId,
    Applied,
    Hold,
    HoldRef,
    Line,
    Lot,
    OwnerId,
    Page,
    Terms,
    Transaction,
    TransactionKind,
)
from tests.factories import account, capture, earning, holding, owner, release, shop, spending
from tests.unit.ledger.book import DAY, NOON, POLICY, Book, midnight

if TYPE_CHECKING:
    from datetime import datetime

Kind = TransactionKind
Pages = dict[OwnerId, Page]
ALICE, BOB = owner("alice"), owner("bob")
SOON, EARLY, LATE = NOON + 5 * DAY, NOON + 10 * DAY, NOON + 20 * DAY
INSTANT = timedelta(milliseconds=1)
# A page with lots of 5, 5 and 10 points.
PAGES = {ALICE: Page(ALICE, 7, NOON, {POINTS: 20}, lots=(Lot(SOON, 5), Lot(EARLY, 5), Lot(LATE, 10)))}
HOLD = holding(amount=12, until=LATE)


def do(transaction: Transaction, pages: Pages | None = None, at: datetime = NOON) -> Applied:
    """Apply it at that time."""
    given = {ALICE: PAGES[ALICE]} if pages is None else pages
    return rules.apply(transaction, given, Terms(at, POLICY.opens(transaction.kind, at)))


def held(hold: Transaction = HOLD) -> Pages:
    """Alice's page with the hold."""
    return dict(do(hold).pages)


def refused(transaction: Transaction, pages: Pages, at: datetime = NOON) -> Refusal:
    """The refusal, which changed nothing."""
    kept = copy.deepcopy(pages)
    with pytest.raises(Refusal) as caught:
        do(transaction, pages, at)
    assert pages == kept
    return caught.value


def lines(applied: Applied) -> list[list[Line]]:
    return [list(entry.lines) for entry in applied.entries]


def test_a_hold_reserves_the_soonest_to_end_and_moves_nothing() -> None:
    applied = do(HOLD)
    page = applied.pages[ALICE]
    taken = (Lot(SOON, 5), Lot(EARLY, 5), Lot(LATE, 2))
    assert applied.taken == (taken,)
    assert page.holds == (Hold(id=HOLD.id, asset=POINTS, to_account=shop(), amount=12, expires_at=LATE, lots=taken),)
    assert (page.version, page.balance(POINTS), page.held(POINTS), page.available(POINTS, NOON)) == (8, 20, 12, 8)
    assert page.lots == (Lot(LATE, 8),)
    assert lines(applied) == [[Line(POINTS, 0, 20, held=12)]]
    assert page.due_at == LATE
    assert do(holding(amount=1, until=NOON + INSTANT)).pages[ALICE].due_at == NOON + INSTANT


def test_a_hold_for_a_citizen_turns_the_payers_page_only() -> None:
    hold = holding(payee=account("bob"), until=LATE)
    assert hold.owners == (ALICE,)
    assert list(do(hold).pages) == [ALICE]


def test_what_never_expires_is_held_without_lots() -> None:
    pages = {ALICE: Page(ALICE, 1, NOON, {QUANTIFIED: 9})}
    hold = holding(payer=account(asset=QUANTIFIED), payee=shop(asset=QUANTIFIED), amount=7, until=LATE)
    page = do(hold, pages).pages[ALICE]
    assert (page.held(QUANTIFIED), page.available(QUANTIFIED, NOON), page.holds[0].lots) == (7, 2, ())
    spent = refused(spending(amount=3, asset=QUANTIFIED), {ALICE: page})
    assert vars(spent) == {"account": "citizen:alice:co2e.quantified", "needed": 3, "available": 2}
    posted = do(capture(hold, amount=4), {ALICE: page}).pages[ALICE]
    assert (posted.balance(QUANTIFIED), posted.held(QUANTIFIED), posted.holds) == (5, 0, ())


def test_only_what_is_free_and_has_not_ended_can_be_held() -> None:
    refusal = refused(holding("more", amount=9, until=LATE), held())
    assert isinstance(refusal, InsufficientFundsError)
    assert vars(refusal) == {"account": "citizen:alice:points", "needed": 9, "available": 8}
    later = refused(holding("more", amount=16, until=LATE), dict(PAGES), SOON)
    assert vars(later) == {"account": "citizen:alice:points", "needed": 16, "available": 15}
    spent = refused(spending(amount=9), held())
    assert vars(spent) == {"account": "citizen:alice:points", "needed": 9, "available": 8}


@pytest.mark.parametrize("until", [NOON, NOON - INSTANT])
def test_a_hold_must_end_after_it_begins(until: datetime) -> None:
    hold = holding(until=until)
    refusal = refused(hold, dict(PAGES))
    assert isinstance(refusal, HoldExpiredError)
    assert refusal.hold == hold.id


def test_a_page_carries_two_hundred_holds() -> None:
    pages: Pages = {ALICE: Page(ALICE, 1, NOON, {POINTS: 300}, lots=(Lot(LATE, 300),))}
    for number in range(200):
        pages = dict(do(holding(f"hold-{number}", amount=1, until=LATE), pages).pages)
    refusal = refused(holding("hold-200", amount=1, until=LATE), pages)
    assert isinstance(refusal, TooManyHoldsError)
    assert str(refusal) == "TOO_MANY_HOLDS: at most 200 holds may be open at once"
    [one, *_] = pages[ALICE].holds
    freed = do(Transaction(key="void", kind=Kind.VOID, hold=HoldRef(ALICE, one.id)), pages)
    do(holding("hold-200", amount=1, until=LATE), dict(freed.pages))


def test_a_hold_posted_in_full_moves_what_it_held() -> None:
    applied = do(capture(HOLD), held())
    page = applied.pages[ALICE]
    assert applied.taken == ((Lot(SOON, 5), Lot(EARLY, 5), Lot(LATE, 2)),)
    assert (page.balance(POINTS), page.held(POINTS), page.holds, page.lots) == (8, 0, (), (Lot(LATE, 8),))
    assert lines(applied) == [[Line(POINTS, -12, 8, lots=(Lot(SOON, -5), Lot(EARLY, -5), Lot(LATE, -2)))]]


def test_a_final_part_frees_the_rest_to_its_lots() -> None:
    applied = do(capture(HOLD, amount=7), held())
    page = applied.pages[ALICE]
    assert applied.taken == ((Lot(SOON, 5), Lot(EARLY, 2)),)
    assert (page.balance(POINTS), page.holds, page.lots) == (13, (), (Lot(EARLY, 3), Lot(LATE, 10)))
    assert lines(applied) == [[Line(POINTS, -7, 13, lots=(Lot(SOON, -5), Lot(EARLY, -2)))]]


def test_a_part_that_is_not_final_leaves_the_rest_held() -> None:
    first = do(capture(HOLD, amount=7, final=False), held())
    [left] = first.pages[ALICE].holds
    assert (left.amount, left.lots, left.expires_at) == (5, (Lot(EARLY, 3), Lot(LATE, 2)), LATE)
    assert lines(first) == [[Line(POINTS, -7, 13, held=5, lots=(Lot(SOON, -5), Lot(EARLY, -2)))]]
    assert first.pages[ALICE].lots == (Lot(LATE, 8),)
    second = do(capture(HOLD, "post-2", 4, final=False), dict(first.pages))
    assert second.taken == ((Lot(EARLY, 3), Lot(LATE, 1)),)
    too_much = refused(capture(HOLD, "post-3", 2), dict(second.pages))
    assert isinstance(too_much, HoldExceededError)
    assert vars(too_much) == {"hold": HOLD.id, "needed": 2, "held": 1}
    last = do(release(HOLD), dict(second.pages)).pages[ALICE]
    assert (last.balance(POINTS), last.holds, last.lots) == (9, (), (Lot(LATE, 9),))


def test_the_last_part_ends_the_hold_even_where_it_is_not_called_final() -> None:
    page = do(capture(HOLD, amount=12, final=False), held()).pages[ALICE]
    assert (page.holds, page.balance(POINTS), page.lots) == ((), 8, (Lot(LATE, 8),))


def test_a_voided_hold_frees_everything_to_its_lots() -> None:
    applied = do(release(HOLD), held())
    page = applied.pages[ALICE]
    assert (page.balance(POINTS), page.holds, page.lots) == (20, (), PAGES[ALICE].lots)
    assert lines(applied) == [[Line(POINTS, 0, 20)]]
    assert applied.taken == ()


def test_lots_that_ended_while_held_become_a_lot_of_grace() -> None:
    # At EARLY the lots SOON and EARLY have ended: 10 of the 12 are given grace.
    at, grace = EARLY, midnight(2027, 1, 1) - GRACE_MARK
    assert at == NOON + 10 * DAY
    applied = do(release(HOLD), held(), at)
    page = applied.pages[ALICE]
    assert page.lots == (Lot(LATE, 10), Lot(grace, 10))
    assert lines(applied) == [[Line(POINTS, 0, 20, lots=(Lot(SOON, -5), Lot(EARLY, -5), Lot(grace, 10)))]]


def test_a_final_part_takes_ended_lots_first_and_gives_the_rest_of_them_grace() -> None:
    grace = midnight(2027, 1, 1) - GRACE_MARK
    applied = do(capture(HOLD, amount=7), held(), EARLY)
    assert applied.taken == ((Lot(SOON, 5), Lot(EARLY, 2)),)
    assert applied.pages[ALICE].lots == (Lot(LATE, 10), Lot(grace, 3))
    assert lines(applied) == [[Line(POINTS, -7, 13, lots=(Lot(SOON, -5), Lot(EARLY, -5), Lot(grace, 3)))]]


@pytest.mark.parametrize("payee", [shop(), account("bob")])
def test_a_lot_of_grace_that_ended_while_held_has_no_more_grace(payee: AccountId) -> None:
    grace = midnight(2026, 12, 1) - GRACE_MARK
    pages = {ALICE: Page(ALICE, 7, NOON, {POINTS: 12}, lots=(Lot(SOON, 5), Lot(grace, 7)))}
    hold = holding(payee=payee, amount=12, until=LATE)
    pages = dict(do(hold, pages).pages)
    assert grace < LATE - DAY
    freed = do(release(hold), pages, LATE - DAY).pages[ALICE]
    again = POLICY.opens(Kind.VOID, LATE - DAY)
    assert freed.lots == (Lot(grace, 7), Lot(again, 5))
    assert freed.available(POINTS, LATE - DAY) == 5
    turned = do(capture(hold), pages, LATE - DAY).pages
    assert BOB not in turned or turned[BOB].lots == freed.lots


def test_points_posted_to_a_citizen_keep_their_ends_and_the_ended_ones_get_grace() -> None:
    hold = holding(payee=account("bob"), amount=12, until=LATE)
    in_time = do(capture(hold), held(hold)).pages[BOB]
    assert in_time.lots == (Lot(SOON, 5), Lot(EARLY, 5), Lot(LATE, 2))
    late = do(capture(hold), held(hold), EARLY)
    grace = midnight(2027, 1, 1) - GRACE_MARK
    assert late.pages[BOB].lots == (Lot(LATE, 2), Lot(grace, 10))
    assert lines(late)[1] == [Line(POINTS, 12, 12, lots=(Lot(LATE, 2), Lot(grace, 10)))]


@pytest.mark.parametrize("end", [capture(HOLD), capture(HOLD, amount=1, final=False), release(HOLD)])
def test_what_is_over_is_refused_in_time_though_nothing_has_lapsed_it(end: Transaction) -> None:
    do(end, held(), LATE - INSTANT)
    for at in (LATE, LATE + DAY):
        refusal = refused(end, held(), at)
        assert isinstance(refusal, HoldExpiredError)
        assert str(refusal) == f"HOLD_EXPIRED: hold {HOLD.id} has expired"


def test_a_hold_lapses_when_its_time_is_over_and_not_before() -> None:
    lapse = release(HOLD, "lapse", kind=Kind.LAPSE)
    refusal = refused(lapse, held(), LATE - INSTANT)
    assert isinstance(refusal, HoldNotActiveError)
    # The hold ends with the last of its lots: all twelve have the days of grace; the eight that were free have ended.
    page = do(lapse, held(), LATE).pages[ALICE]
    assert (page.holds, page.lots) == ((), (Lot(LATE, 8), Lot(midnight(2027, 1, 11) - GRACE_MARK, 12)))
    short = holding("short", amount=12, until=NOON + DAY)
    page = do(release(short, "lapse", kind=Kind.LAPSE), held(short), NOON + DAY).pages[ALICE]
    assert (page.holds, page.lots) == ((), PAGES[ALICE].lots)


@pytest.mark.parametrize("last", [capture(HOLD, "last"), release(HOLD, "last")])
@pytest.mark.parametrize(
    "again", [capture(HOLD, "again", 1), release(HOLD, "again"), release(HOLD, "again", kind=Kind.LAPSE)]
)
def test_a_hold_ends_once(last: Transaction, again: Transaction) -> None:
    pages = dict(do(last, held()).pages)
    for at in (NOON, LATE):
        refusal = refused(again, pages, at)
        assert isinstance(refusal, HoldNotActiveError)
        assert str(refusal) == f"HOLD_NOT_ACTIVE: hold {HOLD.id} does not exist or has ended"


def test_there_is_no_hold_that_nobody_made() -> None:
    never = holding("never", until=LATE)
    for end in (capture(never), release(never), release(never, kind=Kind.LAPSE)):
        assert isinstance(refused(end, held()), HoldNotActiveError)
        assert isinstance(refused(end, {}), HoldNotActiveError)


@pytest.mark.parametrize(
    "changes",
    [
        {"to_account": shop("other")},
        {"to_account": account("bob")},
        {"from_account": account(asset=QUANTIFIED), "to_account": shop(asset=QUANTIFIED), "asset": QUANTIFIED},
    ],
    ids=["another merchant", "a citizen", "another asset"],
)
def test_a_hold_is_posted_to_whom_it_was_made_for(changes: dict[str, Any]) -> None:
    [moved] = capture(HOLD).postings
    other = dataclasses.replace(capture(HOLD), postings=(dataclasses.replace(moved, **changes),))
    assert isinstance(refused(other, held()), HoldNotActiveError)


def test_two_holds_are_kept_apart() -> None:
    book = Book()
    book.post(earning(amount=30))
    one, two = holding("one", amount=10, until=LATE), holding("two", payee=shop("two"), amount=15, until=EARLY)
    book.post(one)
    book.post(two)
    assert [(hold.id, hold.amount) for hold in book.page().holds] == [(one.id, 10), (two.id, 15)]
    assert book.page().due_at == EARLY
    book.post(capture(one, amount=4))
    assert [(hold.id, hold.amount) for hold in book.page().holds] == [(two.id, 15)]
    assert (book.page().balance(POINTS), book.page().available(POINTS, NOON)) == (26, 11)
