"""Corrections: what may be taken back or added, by which postings, and how often."""

from __future__ import annotations

import dataclasses

import pytest

from backend.ledger import corrections
from backend.ledger.corrections import Standing
from backend.ledger.errors import MalformedTransactionError, NotCorrectableError, OverCorrectedError
from backend.ledger.model import (
    MINTS,
    POINTS,
    QUANTIFIED,
    Lot,
    Posting,
    Transaction,
)
from tests.factories import (
    account,
    adjustment,
    donation,
    earning,
    paying,
    payout,
    posting,
    release,
    restatement,
    reversal,
    settlement,
    shop,
    spending,
    transfer,
)
from tests.unit.ledger.correcting import (
    DECEMBER,
    FIRST,
    HOLD,
    MINT,
    NOVEMBER,
    SECOND,
    SPEND,
    Kind,
    book_of,
    correcting,
    named,
    refused,
)


def test_no_more_is_taken_back_than_was_moved() -> None:
    book = book_of(SPEND)
    assert vars(refused(book, reversal(SPEND, amounts=(13,)))) == {
        "transaction": SPEND.id,
        "needed": 13,
        "remaining": 12,
    }
    twice = correcting(SPEND, posting(shop(), account(), 8), posting(shop(), account(), 5))
    assert vars(refused(book, twice)) == {"transaction": SPEND.id, "needed": 5, "remaining": 4}
    book.post(reversal(SPEND, amounts=(10,)), DECEMBER)
    assert vars(refused(book, reversal(SPEND, "more", (3,)))) == {"transaction": SPEND.id, "needed": 3, "remaining": 2}


WRONG = {
    "to another": posting(shop(), account("bob"), 1),
    "from another": posting(shop("other"), account(), 1),
    "to nobody concerned": posting(shop("one"), account("bob"), 1),
    "another asset": posting(shop(asset=QUANTIFIED), account(asset=QUANTIFIED), 1),
    "to a mint": posting(account(), MINT, 1),
    "from a mint": posting(MINT, account(), 1),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_reversal_mirrors_what_it_takes_back(name: str) -> None:
    right = posting(shop(), account(), 1)
    for postings in ((WRONG[name],), (right, WRONG[name])):
        refusal = refused(book_of(SPEND), correcting(SPEND, *postings))
        assert isinstance(refusal, NotCorrectableError)
        assert str(refusal) == f"NOT_CORRECTABLE: transaction {SPEND.id} cannot be corrected so"


def test_a_reversal_does_not_go_the_same_way_again() -> None:
    gift = transfer(amount=5)
    assert isinstance(
        refused(book_of(gift), correcting(gift, posting(account(), account("bob"), 1))), NotCorrectableError
    )


def test_there_is_nothing_to_correct_in_what_never_was() -> None:
    never = spending("never")
    refusal = refused(book_of(), reversal(never))
    assert isinstance(refusal, NotCorrectableError)
    assert refusal.transaction == never.id
    assert isinstance(refused(book_of(), adjustment(1, corrects=never)), NotCorrectableError)


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ([], Kind.HOLD),
        ([release(HOLD)], Kind.VOID),
        ([spending(amount=12), reversal(spending(amount=12))], Kind.REVERSE),
        ([restatement(earning("november", amount=5), 3)], Kind.RESTATE),
        ([adjustment(3, corrects=earning("november", amount=5))], Kind.ADJUST),
        ([spending(amount=12), reversal(earning("november", amount=5))], Kind.LEND),
        ([spending(amount=12), reversal(earning("november", amount=5)), earning("new", amount=9)], Kind.REPAY),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_moved_nothing_and_what_corrects_is_never_corrected(ends: list[Transaction], kind: Kind) -> None:
    book = book_of(*([HOLD, *ends] if kind in {Kind.HOLD, Kind.VOID} else ends))
    original = next(item.transaction for item in reversed(book.journal) if item.transaction.kind is kind)
    for each in original.postings or HOLD.postings:
        back = posting(each.to_account, each.from_account, 1)
        # Between debts, and of what went back, no correction is even well-formed.
        if kind not in {Kind.LEND, Kind.REPAY, Kind.REVERSE}:
            assert isinstance(refused(book, correcting(original, back)), NotCorrectableError)
        with pytest.raises(NotCorrectableError):
            corrections.prepare(correcting(original, back), book.standing(original.id))


def test_what_pays_and_receives_on_one_account_is_not_corrected() -> None:
    through = Transaction(
        key="through",
        kind=Kind.TRANSFER,
        postings=(posting(account(), account("bob"), 5), posting(account("bob"), shop(), 5)),
    )
    assert isinstance(refused(book_of(through), reversal(through)), NotCorrectableError)


def test_between_accounts_without_a_page_nothing_is_corrected() -> None:
    """None of these is even well-formed; the auditor asks for what it finds."""
    between = paying("between", shop(), shop("other"), 5)
    mixed = Transaction(
        key="mixed", kind=Kind.TRANSFER, postings=(posting(account(), shop(), 5), posting(shop("b"), shop("c"), 5))
    )
    for original in (between, mixed):
        with pytest.raises(NotCorrectableError):
            corrections.prepare(reversal(original), Standing(original, {}, []))


@pytest.mark.parametrize("original", [settlement(), payout()])
@pytest.mark.parametrize("kind", [Kind.REVERSE, Kind.ADJUST, Kind.RESTATE])
def test_what_was_settled_or_paid_out_is_corrected_by_another_settlement_only(
    original: Transaction, kind: Kind
) -> None:
    book = book_of(spending(amount=10), original)
    back = dataclasses.replace(reversal(original), kind=kind)
    with pytest.raises(MalformedTransactionError, match=f"a {kind} cannot move from "):
        book.post(back, DECEMBER)
    with pytest.raises(NotCorrectableError):
        corrections.prepare(back, book.standing(original.id))
    # Nor what well-formed postings name it.
    assert isinstance(refused(book, correcting(original, posting(shop(), account(), 1))), NotCorrectableError)


def test_a_gift_to_a_cause_is_taken_back_to_its_lots() -> None:
    given = donation(amount=8)
    book = book_of(given)
    assert book.lots() == {SECOND: 4}
    assert named(book, reversal(given, amounts=(5,))) == {account(): (Lot(FIRST, 2), Lot(SECOND, 3))}
    assert book.lots() == {FIRST: 2, SECOND: 7}
    assert vars(refused(book, reversal(given, "more", (4,)))) == {"transaction": given.id, "needed": 4, "remaining": 3}


def test_an_earning_of_several_assets_is_taken_back_in_each() -> None:
    both = Transaction(
        key="both",
        kind=Kind.EARN,
        postings=(posting(MINT, account(), 5), posting(MINTS[QUANTIFIED], account(asset=QUANTIFIED), 80)),
    )
    book = book_of(both)
    assert named(book, reversal(both, amounts=(5, 30))) == {account(): (Lot(SECOND, 5),)}
    assert (book.page().balance(POINTS), book.page().balance(QUANTIFIED)) == (12, 50)
    assert vars(refused(book, reversal(both, "more", (0, 51)))) == {
        "transaction": both.id,
        "needed": 51,
        "remaining": 50,
    }


@pytest.mark.parametrize("way", ["restate", "adjust"])
def test_more_and_less_count_towards_what_is_left(way: str) -> None:
    def change(amount: int, key: str) -> Transaction:
        if way == "restate":
            return restatement(NOVEMBER, amount, key)
        return adjustment(amount, key, corrects=NOVEMBER)

    book = book_of()
    # What is added joins the lot that was given, whenever it is added.
    assert named(book, change(20, "up")) == {account(): (Lot(FIRST, 20),)}
    assert book.lots() == {FIRST: 25, SECOND: 7}
    assert named(book, change(-3, "down")) == {account(): (Lot(FIRST, 25),)}
    assert book.lots() == {FIRST: 22, SECOND: 7}
    assert vars(refused(book, reversal(NOVEMBER, amounts=(23,)))) == {
        "transaction": NOVEMBER.id,
        "needed": 23,
        "remaining": 22,
    }
    assert named(book, reversal(NOVEMBER, amounts=(22,))) == {account(): (Lot(FIRST, 22),)}
    assert book.lots() == {SECOND: 7}
    assert isinstance(refused(book, change(-1, "again")), OverCorrectedError)
    book.post(change(1, "at last"), DECEMBER)
    assert book.lots() == {FIRST: 1, SECOND: 7}


def test_what_was_added_is_taken_back_from_where_it_went() -> None:
    december = earning("december-2", amount=3)
    book = book_of(december, restatement(december, 20))
    assert book.lots() == {FIRST: 5, SECOND: 30}
    assert named(book, reversal(december, amounts=(23,))) == {account(): (Lot(SECOND, 23),)}
    assert book.lots() == {FIRST: 5, SECOND: 7}


def test_what_several_postings_add_joins_one_lot() -> None:
    gifts = Transaction(
        key="gifts",
        kind=Kind.TRANSFER,
        postings=(posting(account("bob"), account("carol"), 3), posting(account(), account("carol"), 2)),
    )
    book = book_of(earning("bobs", "bob", 9), gifts)
    more = tuple(posting(moved.from_account, moved.to_account, 1) for moved in gifts.postings)
    assert named(book, correcting(gifts, *more, kind=Kind.ADJUST)) == {account("carol"): (Lot(SECOND, 2),)}
    assert book.lots("carol") == {FIRST: 2, SECOND: 5}


def test_what_a_correction_took_more_is_given_back_to_its_lots() -> None:
    spend = spending(amount=5)
    book = book_of(spend)
    book.post(correcting(spend, posting(account(), shop(), 7), kind=Kind.ADJUST, key="more"), DECEMBER)
    assert book.lots() == {}
    assert named(book, reversal(spend, amounts=(12,))) == {account(): (Lot(FIRST, 5), Lot(SECOND, 7))}
    assert book.lots() == {FIRST: 5, SECOND: 7}


def test_only_earnings_are_restated() -> None:
    gift = transfer(amount=5)
    book = book_of(gift)
    for back in (posting(account("bob"), account(), 1), posting(account(), account("bob"), 1)):
        assert isinstance(refused(book, correcting(gift, back, kind=Kind.RESTATE)), NotCorrectableError)
    other = correcting(NOVEMBER, posting(MINT, account("bob"), 1), kind=Kind.RESTATE)
    assert isinstance(refused(book, other), NotCorrectableError)


def test_a_restatement_gives_what_the_earning_had_too_little_for() -> None:
    grams = earning("grams", amount=500, asset=QUANTIFIED)
    book = book_of(grams)
    point = posting(MINT, account(), 1)
    assert isinstance(refused(book, correcting(grams, point, kind=Kind.ADJUST)), NotCorrectableError)
    book.post(correcting(grams, point, kind=Kind.RESTATE, key="a-point"), DECEMBER)
    assert book.page().balance(POINTS) == 12 + 1
    for other in (posting(MINT, account("bob"), 1), posting(account("bob"), account(), 1)):
        assert isinstance(refused(book, correcting(grams, other, kind=Kind.RESTATE, key="b")), NotCorrectableError)


@pytest.mark.parametrize(("given", "back"), [(4, posting(account(), MINT, 4)), (-4, posting(MINT, account(), 4))])
def test_an_adjustment_of_staffs_own_accord_is_taken_back(given: int, back: Posting) -> None:
    adjusted = adjustment(given)
    book = book_of(adjusted)
    assert book.page().balance(POINTS) == 12 + given
    book.post(correcting(adjusted, back), DECEMBER)
    assert book.lots() == {FIRST: 5, SECOND: 7}
    assert isinstance(refused(book, correcting(adjusted, back, key="again")), OverCorrectedError)


def test_each_party_of_a_transaction_is_corrected_by_itself() -> None:
    shared = Transaction(
        key="shared", kind=Kind.EARN, postings=(posting(MINT, account(), 5), posting(MINT, account("bob"), 6))
    )
    book = book_of(shared)
    book.post(correcting(shared, posting(account("bob"), MINT, 6), key="bob"), DECEMBER)
    assert isinstance(refused(book, correcting(shared, posting(account("bob"), MINT, 1), key="b2")), OverCorrectedError)
    book.post(correcting(shared, posting(account(), MINT, 5), key="alice"), DECEMBER)
    assert (book.lots(), book.lots("bob")) == ({FIRST: 5, SECOND: 7}, {})
