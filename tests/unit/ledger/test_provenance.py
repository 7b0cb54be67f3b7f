"""Provenance by example: which act a point is told to come from, and what became of it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.kernel.errors import Language
from backend.ledger import lots
from backend.ledger.attribution import ENDLESS, Attribution, UntraceableError
from backend.ledger.errors import MalformedTransactionError
from backend.ledger.model import (
    DONATIONS,
    MINTS,
    POINTS,
    QUANTIFIED,
    Lot,
    Transaction,
    account_of,
    debt_of,
)
from backend.ledger.provenance import (
    MAX_DEPTH,
    TraceTooLargeError,
)
from tests.unit.ledger.pure_book import (
    ALICE,
    BOB,
    CAROL,
    FIRM,
    SHOP,
    Book,
    Kind,
    credit,
    move,
    names,
    origins,
    points,
    run,
    uses,
)

if TYPE_CHECKING:
    from backend.ledger.model import OwnerId


def test_spending_takes_what_was_earned_first_and_names_its_act() -> None:
    book = Book()
    book.earn("ride", 40)
    book.earn("walk", 30)
    book.pay("bread", 50)
    assert origins(book, "bread") == [("ride", 40), ("walk", 10)]
    [part] = book.back("bread").parts
    assert [(one.kind, one.action, one.through) for one in part.origins] == [
        (Kind.EARN, "act_ride", ()),
        (Kind.EARN, "act_walk", ()),
    ]
    assert uses(book, "ride") == [("bread", 40)]
    assert uses(book, "walk") == [("bread", 10)]
    assert credit(book, "walk").unspent == 20
    [use] = credit(book, "ride").uses
    assert (use.kind, use.to_account) == (Kind.TRANSFER, points(SHOP))


def test_an_earning_is_its_own_origin() -> None:
    book = Book()
    book.earn("ride", 40)
    assert origins(book, "ride") == [("ride", 40)]


def test_the_lot_that_ends_first_goes_before_what_was_earned_first() -> None:
    book = Book()
    book.earn("november", 10)
    book.now += timedelta(days=40)
    book.earn("december", 10)
    book.reverse("refused", 10, of=book.pay("first", 10))
    # Back in its lot of November, behind nothing.
    book.pay("second", 15)
    assert origins(book, "second") == [("november", 10), ("december", 5)]


def test_a_refund_gives_back_the_units_that_were_taken_last() -> None:
    book = Book()
    for name in ("one", "two", "three"):
        book.earn(name, 10)
    book.pay("bread", 25)
    book.reverse("refund", 12, of="bread")
    assert origins(book, "bread") == [("one", 10), ("two", 10), ("three", 5)]
    assert origins(book, "refund") == [("two", 7), ("three", 5)]
    # What never left stands before what came back.
    book.pay("milk", 17)
    assert origins(book, "milk") == [("three", 10), ("two", 7)]
    assert uses(book, "two") == [("bread", 10), ("refund", -7), ("milk", 7)]
    assert uses(book, "refund") == [("milk", 12)]
    assert credit(book, "two").unspent == 0


def test_refund_after_refund_gives_back_everything_once() -> None:
    book = Book()
    book.earn("one", 10)
    book.earn("two", 10)
    book.pay("bread", 20)
    for number, expected in enumerate(([("two", 6)], [("one", 2), ("two", 4)], [("one", 8)])):
        book.reverse(f"refund-{number}", sum(amount for _, amount in expected), of="bread")
        assert origins(book, f"refund-{number}") == expected
    assert credit(book, "one").unspent == credit(book, "two").unspent == 10


def test_a_reversed_act_takes_its_own_units_where_they_still_are() -> None:
    book = Book()
    for name in ("one", "two", "three"):
        book.earn(name, 10)
    book.reverse("fraud", 10, of="two")
    assert origins(book, "fraud") == [("two", 10)]
    book.pay("bread", 20)
    assert origins(book, "bread") == [("one", 10), ("three", 10)]
    assert uses(book, "two") == [("fraud", 10)]


def test_a_reversed_act_already_spent_takes_others_and_an_advance() -> None:
    book = Book()
    book.earn("one", 10)
    book.pay("bread", 8)
    book.earn("two", 3)
    book.reverse("fraud", 10, of="one")
    lend = next(key for key in book.posted if key.startswith("lend:"))
    assert origins(book, "fraud") == [("one", 2), ("two", 3), (lend, 5)]
    assert origins(book, lend) == [(lend, 5)]
    book.earn("three", 7)
    repay = next(key for key in book.posted if key.startswith("repay:"))
    assert origins(book, repay) == [("three", 5)]
    [use] = credit(book, "three", reader=ALICE).uses
    assert (use.kind, use.to_account) == (Kind.REPAY, debt_of(ALICE, POINTS))


def test_a_hold_takes_nothing_before_it_is_posted() -> None:
    book = Book()
    book.earn("one", 10)
    book.earn("two", 10)
    book.hold("voucher", 5)
    assert book.back("voucher").parts == ()
    assert book.forward("voucher").credits == ()
    book.pay("bread", 4)
    book.capture("part", "voucher", 2, final=False)
    book.capture("rest", "voucher", 3)
    assert origins(book, "bread") == [("one", 4)]
    assert origins(book, "part") == [("one", 2)]
    assert origins(book, "rest") == [("one", 3)]
    assert credit(book, "one").unspent == 1
    book.reverse("refund", 3, of="rest")
    assert uses(book, "one") == [("bread", 4), ("part", 2), ("rest", 3), ("refund", -3)]


def test_points_that_ended_in_a_hold_keep_their_act_in_grace_until_they_expire() -> None:
    book = Book()
    book.earn("one", 10)
    book.hold("voucher", 10, hours=24 * 100)
    book.now += timedelta(days=95)
    book.earn("late", 5)
    book.capture("part", "voucher", 4)
    assert [(lot.amount, lot.expires_at > book.now) for lot in book.attribution(points(ALICE)).lots()] == [
        (6, True),
        (5, True),
    ]
    book.pay("bread", 2)
    assert origins(book, "bread") == [("one", 2)]
    book.now += timedelta(days=11)
    book.expire()
    [expired] = [key for key in book.posted if key.startswith("expire:")]
    assert uses(book, "one") == [("part", 4), ("bread", 2), (expired, 4)]
    assert origins(book, expired) == [("one", 4)]
    # Expiry by mistake is reversed, too.
    book.reverse("kindness", 3, of=expired)
    assert origins(book, "kindness") == [("one", 3)]
    assert credit(book, "one").unspent == 3


def test_a_transfer_is_followed_to_the_page_it_came_from_and_the_page_it_went_to() -> None:
    book = Book()
    book.earn("alices", 10)
    book.earn("bobs", 4, BOB)
    book.pay("gift", 7, ALICE, BOB)
    book.pay("onward", 6, BOB, CAROL)
    book.pay("bread", 3, CAROL)
    assert origins(book, "gift") == [("alices", 7)]
    assert origins(book, "onward") == [("bobs", 4), ("alices", 2, "gift")]
    assert origins(book, "bread") == [("bobs", 3, "onward")]
    book.pay("milk", 3, CAROL)
    assert origins(book, "milk") == [("bobs", 1, "onward"), ("alices", 2, "gift", "onward")]
    found = credit(book, "alices")
    assert names(book, found.uses) == [("gift", 7)]
    assert names(book, found.onward) == [("onward", 2, "gift"), ("milk", 2, "gift", "onward")]
    assert uses(book, "gift") == [("onward", 2)]
    assert names(book, credit(book, "gift").onward) == [("milk", 2, "onward")]


def test_a_transfer_taken_back_leaves_each_unit_where_it_was() -> None:
    book = Book()
    book.earn("alices", 10)
    book.earn("bobs", 10, BOB)
    book.pay("gift", 8, ALICE, BOB)
    book.reverse("regret", 5, of="gift")
    assert origins(book, "regret") == [("alices", 5, "gift")]
    assert uses(book, "alices") == [("gift", 8), ("regret", -5)]
    assert credit(book, "bobs").unspent == 10
    book.pay("bread", 7)
    assert origins(book, "bread") == [("alices", 7)]


def test_points_that_go_round_come_back_as_a_gift() -> None:
    book = Book()
    book.earn("own", 10)
    book.pay("there", 10, ALICE, BOB)
    book.pay("back", 10, BOB, ALICE)
    book.pay("bread", 10)
    assert origins(book, "bread") == [("own", 10, "there", "back")]
    assert names(book, credit(book, "own").onward) == [("back", 10, "there"), ("bread", 10, "there", "back")]
    assert origins(book, "bread", reader=ALICE) == [("back", 10)]


def test_a_reader_sees_their_own_part_and_nobody_elses() -> None:
    book = Book()
    book.earn("alices", 10)
    book.earn("bobs", 4, BOB)
    book.pay("gift", 7, ALICE, BOB)
    book.pay("bread", 9, BOB)
    [part] = book.back("bread", reader=BOB).parts
    assert [(one.kind, one.action, one.amount) for one in part.origins] == [
        (Kind.EARN, "act_bobs", 4),
        (Kind.TRANSFER, None, 5),
    ]
    assert origins(book, "gift", reader=BOB) == [("gift", 7)]
    assert uses(book, "gift", reader=BOB) == [("bread", 5)]
    assert origins(book, "gift", reader=ALICE) == [("alices", 7)]
    assert book.forward("gift", reader=ALICE).credits == ()
    [use] = credit(book, "alices", reader=ALICE).uses
    assert (use.to_account, use.amount) == ("citizen:*:points", 7)
    assert credit(book, "alices", reader=ALICE).onward == ()
    for stranger in (CAROL, FIRM):
        assert book.back("gift", reader=stranger).parts == ()
        assert book.forward("gift", reader=stranger).credits == ()


def test_the_parts_of_one_transaction_are_told_apart_by_asset() -> None:
    book = Book()
    mint, account = MINTS[QUANTIFIED], account_of(ALICE, QUANTIFIED)
    postings = (move(mint, account, 900), move(MINTS[POINTS], points(ALICE), 40))
    book.post(Transaction(key="ride", kind=Kind.EARN, postings=postings, cause={"action": "act_1"}))
    sale = move(account, account_of(FIRM, QUANTIFIED), 500)
    book.post(Transaction(key="sale", kind=Kind.TRANSFER, postings=(sale,)))
    assert origins(book, "sale", asset=QUANTIFIED) == [("ride", 500)]
    assert book.back("sale").parts == ()
    assert credit(book, "ride", asset=QUANTIFIED).unspent == 400
    assert credit(book, "ride").unspent == 40
    assert [(lot.expires_at, lot.amount) for lot in book.attribution(account).lots()] == [(ENDLESS, 400)]


def test_one_transaction_that_brings_and_takes_in_several_postings() -> None:
    book = Book()
    book.earn("own", 5)
    chain = (
        move(MINTS[POINTS], points(ALICE), 10),
        move(points(ALICE), points(BOB), 12),
        move(points(BOB), points(FIRM), 11),
    )
    book.post(Transaction(key="chain", kind=Kind.EARN, postings=chain))
    parts = book.back("chain").parts
    assert [names(book, part.origins) for part in parts] == [
        [("chain", 10)],
        [("own", 5), ("chain", 7)],
        [("own", 5, "chain"), ("chain", 6, "chain")],
    ]
    first, second, third = book.forward("chain").credits
    assert (names(book, first.uses), first.unspent) == ([("chain", 7)], 3)
    assert (names(book, second.uses), second.unspent) == ([("chain", 11)], 1)
    assert (third.uses, third.unspent) == ((), 11)


def test_a_merchant_gives_no_prizes_of_the_points_it_was_paid() -> None:
    """They would begin a new life, and their acts would be forgotten."""
    book = Book()
    book.earn("ride", 10)
    book.pay("bread", 10)
    prize = Transaction(key="prize", kind=Kind.TRANSFER, postings=(move(points(SHOP), points(BOB), 10),))
    with pytest.raises(MalformedTransactionError, match="a TRANSFER cannot move from merchant:shop:points to "):
        book.post(prize)
    assert book.forward("ride").credits[0].unspent == 0


@pytest.mark.parametrize("reader", [None, ALICE])
def test_a_gift_to_a_cause_is_told_like_a_purchase(reader: OwnerId | None) -> None:
    book = Book()
    book.earn("ride", 10)
    book.earn("walk", 5)
    given = Transaction(key="tree", kind=Kind.TRANSFER, postings=(move(points(ALICE), DONATIONS, 12),))
    book.post(given)
    book.reverse("back", 3, "tree")
    assert origins(book, "tree", reader=reader) == [("ride", 10), ("walk", 2)]
    [use, _] = credit(book, "ride", reader=reader).uses
    assert (use.kind, use.to_account, use.amount) == (Kind.TRANSFER, "programme:donations", 10)
    assert uses(book, "ride", reader=reader) == [("tree", 10), ("back", -1)]
    assert uses(book, "walk", reader=reader) == [("tree", 2), ("back", -2)]
    assert credit(book, "ride", reader=reader).onward == ()


def test_a_gift_passed_on_32_times_is_traced_and_once_more_is_refused() -> None:
    book = Book()
    book.earn("ride", 1)
    for number in range(MAX_DEPTH):
        book.pay(f"gift-{number}", 1, (ALICE, BOB)[number % 2], (BOB, ALICE)[number % 2])
    book.pay("bread", 1)
    [(name, amount, *through)] = origins(book, "bread")
    assert (name, amount, through) == ("ride", 1, [f"gift-{number}" for number in range(MAX_DEPTH)])
    assert names(book, credit(book, "ride").onward)[-1] == ("bread", 1, *through)
    book.earn("walk", 1, BOB)
    for number in range(MAX_DEPTH + 1):
        book.pay(f"walk-{number}", 1, (BOB, ALICE)[number % 2], (ALICE, BOB)[number % 2])
    book.pay("milk", 1)
    for refused in (lambda: book.back("milk"), lambda: book.forward("walk")):
        with pytest.raises(TraceTooLargeError) as caught:
            refused()
        assert str(caught.value) == "TRACE_TOO_LARGE: the trace takes more than 32 transfers in a row"
        assert caught.value.message(Language.ZH_CN) == "溯源超过 32 次连续转让"


def test_work_is_bounded_and_the_bound_is_told() -> None:
    book = Book()
    for number in range(50):
        book.earn(f"ride-{number}", 1)
    book.pay("bread", 50)
    bread = book.posted["bread"]
    assert len(run(book.tracer(limit=500).back(bread, POINTS)).parts[0].origins) == 50
    with pytest.raises(TraceTooLargeError, match="more than 100 steps"):
        run(book.tracer(limit=100).back(bread, POINTS))


@pytest.mark.parametrize("damage", ["balance", "lots", "missing", "too much"])
def test_a_damaged_book_is_not_traced(damage: str) -> None:
    book = Book()
    book.earn("ride", 10)
    book.pay("bread", 4)
    (_, earned), (_, paid) = book.movements[ALICE]
    page = Attribution(points(ALICE))
    if damage == "missing":
        earned = dataclasses.replace(earned, line=earned.line._replace(balance=0, lots=()), taken=[()])
        earned = dataclasses.replace(earned, transaction=dataclasses.replace(earned.transaction, kind=Kind.HOLD))
    else:
        page.apply(earned)
        lot = Lot(paid.line.lots[0].expires_at, 1)
        line = {
            "balance": paid.line._replace(balance=7),
            "lots": paid.line._replace(lots=(lot,)),
            "too much": paid.line,
        }[damage]
        paid = dataclasses.replace(paid, line=line)
        if damage == "too much":
            paid = dataclasses.replace(paid, taken=[(lots.Lot(lot.expires_at, 11),)])
    with pytest.raises(UntraceableError):
        page.apply(paid)
