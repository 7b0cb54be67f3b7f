"""Corrections: into which lots points return, and out of which they are taken back."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backend.ledger.errors import OverCorrectedError
from backend.ledger.expiry import endings
from backend.ledger.lots import GRACE_MARK
from backend.ledger.model import (
    BREAKAGE,
    POINTS,
    AccountId,
    Lot,
    Transaction,
    account_of,
)
from tests.factories import (
    account,
    capture,
    earning,
    paying,
    posting,
    reversal,
    shop,
    spending,
    transfer,
)
from tests.unit.ledger.book import DAY, FIRM, HISTORIES, NOON, Book, Step, midnight, play
from tests.unit.ledger.correcting import (
    DECEMBER,
    FIRST,
    HOLD,
    NOVEMBER,
    SECOND,
    SPEND,
    Kind,
    book_of,
    correcting,
    named,
    refused,
)


def test_a_spend_taken_back_whole_returns_to_its_lots() -> None:
    book = book_of(SPEND)
    assert book.lots() == {}
    assert named(book, reversal(SPEND)) == {account(): (Lot(FIRST, 5), Lot(SECOND, 7))}
    assert book.lots() == {FIRST: 5, SECOND: 7}
    assert book.page().balance(POINTS) == 12


def test_parts_return_to_the_lots_that_end_last_first() -> None:
    book = book_of(SPEND)
    parts = [(4, {SECOND: 4}), (5, {FIRST: 2, SECOND: 3}), (3, {FIRST: 3})]
    for number, (amount, lots) in enumerate(parts):
        assert named(book, reversal(SPEND, f"part-{number}", (amount,))) == {
            account(): tuple(Lot(*lot) for lot in sorted(lots.items()))
        }
    assert book.lots() == {FIRST: 5, SECOND: 7}
    over = refused(book, reversal(SPEND, "more", (1,)))
    assert isinstance(over, OverCorrectedError)
    assert str(over) == f"OVER_CORRECTED: transaction {SPEND.id} has 0 left to correct, not 1"


def test_points_that_ended_meanwhile_return_into_grace() -> None:
    book = book_of(SPEND)
    book.post(reversal(SPEND), FIRST)
    # Thirty days and the running one after that midnight is the end of what was earned in December, but for the mark.
    assert book.lots() == {SECOND - GRACE_MARK: 5, SECOND: 7}
    book = book_of(SPEND)
    book.post(reversal(SPEND, amounts=(9,)), SECOND)
    assert book.lots() == {midnight(2029, 2, 1) - GRACE_MARK: 9}


def test_postings_of_one_spend_are_taken_back_together_or_apart() -> None:
    both = Transaction(
        key="both",
        kind=Kind.TRANSFER,
        postings=(posting(account(), shop("one"), 5), posting(account(), shop("two"), 7)),
    )
    book = book_of(both)
    assert named(book, reversal(both)) == {account(): (Lot(FIRST, 5), Lot(SECOND, 7))}
    assert book.lots() == {FIRST: 5, SECOND: 7}
    book = book_of(both)
    book.post(correcting(both, posting(shop("one"), account(), 5), key="one"), DECEMBER)
    assert book.lots() == {SECOND: 5}
    book.post(correcting(both, posting(shop("two"), account(), 7), key="two"), DECEMBER)
    assert book.lots() == {FIRST: 5, SECOND: 7}
    assert isinstance(refused(book, correcting(both, posting(shop("one"), account(), 1))), OverCorrectedError)


def test_an_earning_taken_back_leaves_the_lot_it_filled() -> None:
    book = book_of()
    december_again = earning("december-2", amount=5)
    book.post(december_again, DECEMBER)
    assert named(book, reversal(december_again)) == {account(): (Lot(SECOND, 5),)}
    assert book.lots() == {FIRST: 5, SECOND: 7}
    assert named(book, reversal(NOVEMBER, "other")) == {account(): (Lot(FIRST, 5),)}
    assert book.lots() == {SECOND: 7}


def test_expired_points_taken_back_have_the_days_of_grace() -> None:
    book = book_of()
    [expired] = endings(book.page(), FIRST)
    book.post(expired, FIRST)
    assert book.lots() == {SECOND: 7}
    back = correcting(expired, posting(BREAKAGE, account(), 5))
    assert book.post(back, FIRST + DAY).pages[book.page().owner].lots == (
        Lot(SECOND, 7),
        Lot(midnight(2029, 1, 2) - GRACE_MARK, 5),
    )
    assert book.journal[-1].transaction.lots == {account(): (Lot(FIRST, 5),)}
    assert isinstance(
        refused(book, correcting(expired, posting(BREAKAGE, account(), 1), key="more")), OverCorrectedError
    )


def test_grace_is_given_once() -> None:
    book = book_of()
    [expired] = endings(book.page(), FIRST)
    book.post(expired, FIRST)
    book.post(correcting(expired, posting(BREAKAGE, account(), 5)), FIRST + DAY)
    grace = midnight(2029, 1, 2) - GRACE_MARK
    [once, again] = endings(book.page(), grace)
    assert once.lots == {account(): (Lot(SECOND, 7),)}
    book.post(again, grace)
    # Given back by mistake, it is the lot that has ended, and ends again under a key of its own.
    book.post(correcting(again, posting(BREAKAGE, account(), 5), key="back again"), grace + DAY)
    assert book.lots() == {grace: 5, SECOND: 7}
    assert book.page().available(POINTS, grace + DAY) == 0
    [_, last] = endings(book.page(), grace + DAY)
    assert (last.lots, last.key == again.key) == ({account(): (Lot(grace, 5),)}, False)
    book.post(last, grace + DAY)
    assert book.page().balance(POINTS) == 7


def test_a_posted_hold_is_taken_back_as_a_spend_is() -> None:
    book = book_of(HOLD, capture(HOLD, amount=9))
    posted = book.journal[-1].transaction
    assert named(book, reversal(posted, amounts=(6,))) == {account(): (Lot(FIRST, 2), Lot(SECOND, 4))}
    assert named(book, reversal(posted, "rest", (3,))) == {account(): (Lot(FIRST, 3),)}
    assert book.lots() == {FIRST: 5, SECOND: 7}


def test_whatever_lots_a_caller_names_the_book_names_its_own() -> None:
    sly = Transaction(
        key="sly",
        kind=Kind.REVERSE,
        postings=reversal(SPEND).postings,
        corrects=SPEND.id,
        lots={account(): (Lot(SECOND + 1000 * DAY, 12),)},
    )
    assert named(book_of(SPEND), sly) == {account(): (Lot(FIRST, 5), Lot(SECOND, 7))}


GIFT = transfer("gift", amount=10)


def test_a_gift_taken_back_returns_to_the_givers_lots() -> None:
    book = book_of(GIFT)
    assert (book.lots(), book.lots("bob")) == ({SECOND: 2}, {FIRST: 5, SECOND: 5})
    assert named(book, reversal(GIFT, amounts=(4,))) == {
        # The taker's: whatever the gift filled; the giver's: as much as comes back.
        account("bob"): (Lot(FIRST, 5), Lot(SECOND, 5)),
        account(): (Lot(SECOND, 4),),
    }
    assert (book.lots(), book.lots("bob")) == ({SECOND: 6}, {FIRST: 1, SECOND: 5})
    assert named(book, reversal(GIFT, "rest", (6,))) == {
        account("bob"): (Lot(FIRST, 1), Lot(SECOND, 5)),
        account(): (Lot(FIRST, 5), Lot(SECOND, 1)),
    }
    assert (book.lots(), book.lots("bob")) == ({FIRST: 5, SECOND: 7}, {})


def test_what_the_taker_spent_is_taken_from_what_else_the_gift_filled_then_from_other_lots_then_lent() -> None:
    book = book_of(GIFT, spending("bobs", "bob", amount=5), earning("bobs own", "bob", 3))
    assert book.lots("bob") == {SECOND: 8}
    book.post(reversal(GIFT, amounts=(5,)), DECEMBER)
    assert book.journal[-1].applied.taken == ((Lot(SECOND, 5),),)
    book.post(reversal(GIFT, "rest", (5,)), DECEMBER)
    assert book.lots() == {FIRST: 5, SECOND: 7}
    assert (book.page("bob").balance(POINTS), book.page("bob").debt(POINTS)) == (0, 2)


def test_a_gift_to_an_enterprise_is_taken_back_likewise() -> None:
    gift = paying("gift", account(), account_of(FIRM, POINTS), 8)
    book = book_of(gift)
    assert book.lots(FIRM) == {FIRST: 5, SECOND: 3}
    book.post(reversal(gift), DECEMBER)
    assert (book.lots(), book.lots(FIRM)) == ({FIRST: 5, SECOND: 7}, {})


MONTHS = st.dictionaries(st.integers(0, 5), st.integers(1, 20), min_size=1)


@hypothesis_settings(max_examples=60)
@given(
    earned=MONTHS, parts=st.lists(st.integers(1, 30), min_size=1, max_size=6), kind=st.sampled_from(["spend", "gift"])
)
def test_taken_back_in_whatever_parts_everything_is_as_before(
    earned: dict[int, int], parts: list[int], kind: str
) -> None:
    book, at = Book(), NOON
    for month, amount in sorted(earned.items()):
        at = NOON + 31 * month * DAY
        book.post(earning(f"earn-{month}", amount=amount), at)
    before = book.page()
    total = min(sum(parts), before.balance(POINTS))
    moved = (spending if kind == "spend" else transfer)(amount=total)
    book.post(moved, at)
    for number, part in enumerate(parts):
        amount = min(part, total)
        if amount:
            book.post(reversal(moved, f"part-{number}", (amount,)), at + number * timedelta(hours=1))
            total -= amount
    assert (book.page().lots, book.page().balances) == (before.lots, before.balances)
    assert book.page("bob").balance(POINTS) == 0


@hypothesis_settings(max_examples=60)
@given(steps=HISTORIES)
def test_no_history_takes_back_more_than_was_moved_nor_returns_lots_that_were_not_taken(steps: list[Step]) -> None:
    book = play(steps)
    for item in book.journal:
        standing = book.standing(item.transaction.id)
        if standing is None or not standing.corrections:
            continue
        ways: Counter[tuple[AccountId, AccountId]] = Counter()
        returned: Counter[tuple[AccountId, datetime]] = Counter()
        taken: Counter[tuple[AccountId, datetime]] = Counter()
        payers = {moved.from_account for moved in item.transaction.postings}
        for correction in standing.corrections:
            for moved, left in zip(correction.transaction.postings, correction.taken, strict=True):
                ways[moved.from_account, moved.to_account] += moved.amount
                taken.update({(moved.from_account, end): amount for end, amount in left})
            payees = {moved.to_account for moved in correction.transaction.postings}
            for name, lots in correction.transaction.lots.items():
                for end, amount in lots if name in payees else ():
                    # What is added joins a lot that was given.
                    assert name in payers or dict(standing.lots[name])[end] > 0
                    returned[name, end] += amount if name in payers else 0
        for moved in item.transaction.postings:
            there, back = (moved.from_account, moved.to_account), (moved.to_account, moved.from_account)
            same = sum(one.amount for one in item.transaction.postings if (one.from_account, one.to_account) == there)
            assert ways[back] <= same + ways[there]
        for (name, end), amount in returned.items():
            assert amount <= taken[name, end] - dict(standing.lots[name]).get(end, 0) or name not in payers
