"""The book's arithmetic: postings in their order, lots, and that nothing is made or lost in any history."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from backend.kernel.units import INT64_MAX
from backend.ledger import lots as lots_of
from backend.ledger import rules
from backend.ledger.errors import InsufficientFundsError, MalformedTransactionError
from backend.ledger.lots import GRACE_MARK
from backend.ledger.model import (
    BREAKAGE,
    MINTS,
    POINTS,
    QUANTIFIED,
    Applied,
    Asset,
    Line,
    Lot,
    OwnerId,
    Page,
    Posting,
    Terms,
    Transaction,
    TransactionKind,
    account_of,
)
from tests.factories import account, earning, owner, paying, posting, shop, spending, transfer
from tests.unit.ledger.book import DAY, FIRM, HISTORIES, NOON, POLICY, Book, guarded, lent, midnight, outside, play

if TYPE_CHECKING:
    from datetime import datetime

    from backend.kernel.errors import Refusal
    from tests.unit.ledger.book import Posted, Step

Kind = TransactionKind
ALICE, BOB = owner("alice"), owner("bob")
MINT = MINTS[POINTS]
NEXT = midnight(2028, 12, 1)
TERMS = Terms(NOON, NEXT)
EARLY, LATE = NOON + 10 * DAY, NOON + 20 * DAY
PLENTY = hypothesis_settings(max_examples=60)


def rich(*lots: tuple[datetime, int], one: OwnerId = ALICE) -> dict[OwnerId, Page]:
    """A page with these free lots."""
    total = lots_of.total(lots)
    return {one: Page(one, 1, NOON, {POINTS: total}, lots=tuple(Lot(*lot) for lot in lots))}


def moving(*postings: Posting, kind: Kind = Kind.TRANSFER, key: str = "key") -> Transaction:
    """These postings, together."""
    return Transaction(key=key, kind=kind, postings=postings)


# What holds in every history.


def assert_whole(page: Page, at: datetime) -> None:
    """Nothing below zero, lots and holds are the balance, ends in order."""
    assert all(balance >= 0 for balance in page.balances.values())
    assert all(owed > 0 for owed in page.debts.values())
    assert page.at is not None
    held = [lot for hold in page.holds for lot in hold.lots]
    assert lots_of.total(page.lots) + lots_of.total(held) == page.balance(POINTS)
    assert lots_of.collect(page.lots) == page.lots
    for hold in page.holds:
        assert hold.amount > 0
        assert lots_of.collect(hold.lots) == hold.lots
        assert lots_of.total(hold.lots) == (hold.amount if hold.asset == POINTS else 0)
    for asset in page.balances:
        assert 0 <= page.available(asset, at) <= page.balance(asset) - page.held(asset)


def assert_line(line: Line, before: Page, after: Page) -> None:
    """A line tells what changed and how it stands."""
    asset = line.asset
    assert line.change == after.balance(asset) - before.balance(asset)
    assert (line.balance, line.held, line.debt) == (after.balance(asset), after.held(asset), after.debt(asset))
    assert lots_of.total(line.lots) == (line.change if asset == POINTS else 0)
    whole = [(lot for hold in page.holds for lot in hold.lots) for page in (before, after)]
    had, has = (lots_of.collect((*page.lots, *held)) for page, held in zip((before, after), whole, strict=True))
    if asset == POINTS:
        assert lots_of.collect((*had, *line.lots)) == has


def assert_posted(posted: Posted) -> None:
    """One entry for each page turned, in the owners' order, with every asset that changed."""
    applied = posted.applied
    assert [entry.owner for entry in applied.entries] == list(posted.transaction.owners) == guarded(posted)
    for entry in applied.entries:
        before, after = posted.before.get(entry.owner) or Page(entry.owner), applied.pages[entry.owner]
        assert (entry.sequence, after.at) == (before.version + 1, posted.terms.at)
        assert after.version == entry.sequence
        assert len({line.asset for line in entry.lines}) == len(entry.lines) > 0
        assert_whole(after, posted.terms.at)
        for line in entry.lines:
            assert_line(line, before, after)
        silent = set(after.balances) - {line.asset for line in entry.lines}
        assert all(before.balance(asset) == after.balance(asset) for asset in silent)


@PLENTY
@given(steps=HISTORIES)
def test_nothing_is_made_or_lost_and_every_line_is_true(steps: list[Step]) -> None:
    book = play(steps)
    for posted in book.journal:
        assert_posted(posted)
    for asset in (POINTS, QUANTIFIED):
        has = sum(page.balance(asset) for page in book.pages.values())
        owed = sum(page.debt(asset) for page in book.pages.values())
        assert has + sum(outside(posted, asset) for posted in book.journal) == 0
        assert owed + sum(lent(posted, asset) for posted in book.journal) == 0


@PLENTY
@given(steps=HISTORIES)
def test_each_owner_alone_is_replayed_to_the_same_page(steps: list[Step]) -> None:
    for posted in play(steps).journal:
        transaction, terms, before, applied = posted
        for number, one in enumerate(guarded(posted)):
            alone = rules.apply_to(before.get(one) or Page(one), transaction, terms, applied.taken)
            assert alone.pages == {one: applied.pages[one]}
            assert alone.entries == (applied.entries[number],)
            assert alone.taken == applied.taken


@PLENTY
@given(steps=HISTORIES)
def test_a_refusal_leaves_everything_as_it_was(steps: list[Step]) -> None:
    class Watched(Book):
        def post(self, transaction: Transaction, at: datetime = NOON) -> Applied:
            pages, journal = copy.deepcopy(self.pages), list(self.journal)
            try:
                return super().post(transaction, at)
            except Exception:
                assert self.pages == pages
                assert self.journal == journal
                raise

    refused: list[Refusal] = []
    play(steps, lambda _transaction, refusal: refused.append(refusal), book=Watched())
    assert all(type(again)(*vars(again).values()).message() == again.message() for again in refused)


@PLENTY
@given(steps=HISTORIES)
def test_inputs_are_never_changed(steps: list[Step]) -> None:
    for transaction, terms, before, applied in play(steps).journal:
        kept = copy.deepcopy(before)
        assert rules.apply(transaction, before, terms) == applied
        assert before == kept


# Postings, one after the other.


def test_a_balance_may_be_spent_to_zero_and_not_below() -> None:
    pages = rich((LATE, 10))
    turned = rules.apply(spending(), pages, TERMS).pages
    assert (turned[ALICE].balance(POINTS), turned[ALICE].lots, turned[ALICE].due_at) == (0, (), None)
    with pytest.raises(InsufficientFundsError) as caught:
        rules.apply(spending(), turned, TERMS)
    assert (caught.value.account, caught.value.needed, caught.value.available) == ("citizen:alice:points", 10, 0)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes, as a task queue keeps them
    assert str(again) == "INSUFFICIENT_FUNDS: insufficient balance: 10 needed, 0 available"


def test_what_comes_in_may_go_out_with_the_same_transaction_but_not_before() -> None:
    earned, spent = posting(MINT, account(), 10), posting(account(), account("bob"), 10)
    applied = rules.apply(moving(earned, spent, kind=Kind.EARN), {}, TERMS)
    assert {one: page.balance(POINTS) for one, page in applied.pages.items()} == {ALICE: 0, BOB: 10}
    lines = [[(line.change, line.balance, line.lots) for line in entry.lines] for entry in applied.entries]
    assert lines == [[(0, 0, ())], [(10, 10, (Lot(NEXT, 10),))]]
    assert applied.taken == ((), (Lot(NEXT, 10),))
    with pytest.raises(InsufficientFundsError):
        rules.apply(moving(spent, earned, kind=Kind.EARN), {}, TERMS)


def test_owners_that_keep_no_page_get_no_entry() -> None:
    paid = rules.apply(moving(posting(MINT, shop(), 5), kind=Kind.EARN), {}, TERMS)
    assert (paid.pages, paid.entries, paid.taken) == ({}, (), ((),))
    assert moving(posting(shop(), account(), 1), posting(account("bob"), shop(), 1)).owners == (ALICE, BOB)


def test_what_does_not_expire_has_no_lots() -> None:
    turned = rules.apply(earning(amount=7, asset=QUANTIFIED), {}, TERMS).pages[ALICE]
    assert (turned.balance(QUANTIFIED), turned.available(QUANTIFIED, NOON), turned.lots) == (7, 7, ())
    paid = rules.apply(spending(amount=7, asset=QUANTIFIED), {ALICE: turned}, TERMS)
    assert (paid.pages[ALICE].balance(QUANTIFIED), paid.taken) == (0, ((),))
    with pytest.raises(InsufficientFundsError):
        rules.apply(spending(amount=8, asset=QUANTIFIED), {ALICE: turned}, TERMS)


# Lots.


def test_earned_points_join_the_lot_of_their_month() -> None:
    book = Book()
    book.post(earning("one", amount=3), NOON)
    book.post(earning("two", amount=4), midnight(2026, 12, 1) - DAY)
    book.post(earning("three", amount=5), midnight(2026, 12, 1))
    assert book.lots() == {midnight(2028, 12, 1): 7, midnight(2029, 1, 1): 5}


def test_spending_takes_the_soonest_to_end() -> None:
    applied = rules.apply(spending(amount=8), rich((EARLY, 5), (LATE, 5)), TERMS)
    assert applied.taken == ((Lot(EARLY, 5), Lot(LATE, 3)),)
    assert applied.pages[ALICE].lots == (Lot(LATE, 2),)
    assert applied.entries[0].lines == (Line(POINTS, -8, 2, lots=(Lot(EARLY, -5), Lot(LATE, -3))),)


def test_ended_points_are_not_spent_though_nothing_removed_them_yet() -> None:
    pages = rich((NOON, 5), (LATE, 5))
    with pytest.raises(InsufficientFundsError) as caught:
        rules.apply(spending(amount=6), pages, TERMS)
    assert (caught.value.needed, caught.value.available) == (6, 5)
    turned = rules.apply(spending(amount=5), pages, TERMS).pages[ALICE]
    assert (turned.lots, turned.balance(POINTS), turned.available(POINTS, NOON)) == ((Lot(NOON, 5),), 5, 0)


def test_points_passed_between_citizens_keep_their_ends() -> None:
    pages = rich((EARLY, 5), (LATE, 5)) | rich((LATE, 1), one=BOB)
    applied = rules.apply(transfer(amount=7), pages, TERMS)
    assert applied.pages[BOB].lots == (Lot(EARLY, 5), Lot(LATE, 3))
    assert applied.entries[1].lines == (Line(POINTS, 7, 8, lots=(Lot(EARLY, 5), Lot(LATE, 2))),)
    given = rules.apply(paying("gift", account(), account_of(FIRM, POINTS), 6), pages, TERMS)
    assert given.pages[FIRM].lots == (Lot(EARLY, 5), Lot(LATE, 1))


def test_points_from_a_merchant_open_a_lot() -> None:
    turned = rules.apply(paying("back", shop(), account(), 6), rich((EARLY, 5)), TERMS).pages[ALICE]
    assert turned.lots == (Lot(EARLY, 5), Lot(NEXT, 6))


def expiring(*lots: tuple[datetime, int], amount: int | None = None) -> Transaction:
    named = tuple(Lot(*lot) for lot in lots)
    gone = posting(account(), BREAKAGE, lots_of.total(named) if amount is None else amount)
    return Transaction(key="expire", kind=Kind.EXPIRE, postings=(gone,), lots={account(): named})


def test_ended_lots_turn_to_breakage() -> None:
    pages = rich((NOON - DAY, 2), (NOON, 3), (LATE, 5))
    one = rules.apply(expiring((NOON, 3)), pages, TERMS)
    assert one.pages[ALICE].lots == (Lot(NOON - DAY, 2), Lot(LATE, 5))
    assert one.taken == ((Lot(NOON, 3),),)
    assert one.entries[0].lines == (Line(POINTS, -3, 7, lots=(Lot(NOON, -3),)),)
    both = rules.apply(expiring((NOON - DAY, 2), (NOON, 3)), pages, TERMS)
    assert both.pages[ALICE].lots == (Lot(LATE, 5),)


@pytest.mark.parametrize(
    "transaction",
    [
        expiring((LATE, 5)),
        expiring((NOON, 4)),
        expiring((NOON, 3), amount=2),
        expiring((NOON, 3), amount=4),
        expiring((NOON - DAY, 1)),
        expiring(amount=3),
    ],
    ids=["not ended", "more than there is", "less than named", "more than named", "no such lot", "none named"],
)
def test_only_lots_that_are_there_and_have_ended_turn_to_breakage(transaction: Transaction) -> None:
    with pytest.raises(MalformedTransactionError, match=r"^expire: those lots have not ended$"):
        rules.apply(transaction, rich((NOON, 3), (LATE, 5)), TERMS)


def returning(amount: int, *lots: tuple[datetime, int], payer: str | None = None) -> Transaction:
    back = posting(account(payer) if payer else shop(), account(), amount)
    named = {account(): tuple(Lot(*lot) for lot in lots)} if lots else {}
    return Transaction(key="back", kind=Kind.REVERSE, postings=(back,), lots=named)


GRACE = POLICY.opens(Kind.REVERSE, NOON)
BACK = Terms(NOON, GRACE)


def test_returned_points_go_into_the_lots_named_and_the_ended_ones_into_grace() -> None:
    pages = rich((LATE, 1))
    whole = rules.apply(returning(9, (EARLY, 4), (LATE, 5)), pages, BACK).pages[ALICE]
    assert whole.lots == (Lot(EARLY, 4), Lot(LATE, 6))
    ended = rules.apply(returning(9, (NOON - DAY, 1), (NOON, 3), (LATE, 5)), pages, BACK).pages[ALICE]
    assert ended.lots == (Lot(LATE, 6), Lot(GRACE, 4))
    assert midnight(2026, 12, 22) == GRACE + GRACE_MARK
    none = rules.apply(returning(9), pages, BACK).pages[ALICE]
    assert none.lots == (Lot(LATE, 1), Lot(GRACE, 9))


def test_several_postings_of_a_correction_share_the_lots_it_names() -> None:
    back = (posting(shop("one"), account(), 5), posting(shop("two"), account(), 7))
    named = {account(): (Lot(EARLY, 5), Lot(LATE, 7))}
    turned = rules.apply(
        Transaction(key="back", kind=Kind.REVERSE, postings=back, lots=named), rich((LATE, 1)), BACK
    ).pages[ALICE]
    assert turned.lots == (Lot(EARLY, 5), Lot(LATE, 8))


def test_what_is_taken_back_leaves_the_lots_named_first() -> None:
    taken = posting(account(), MINT, 7)
    named = {account(): (Lot(EARLY, 1), Lot(LATE, 5), Lot(NEXT, 2))}
    applied = rules.apply(
        Transaction(key="back", kind=Kind.REVERSE, postings=(taken,), lots=named),
        rich((EARLY, 4), (LATE, 5), (NEXT, 1)),
        BACK,
    )
    assert applied.taken == ((Lot(EARLY, 1), Lot(LATE, 5), Lot(NEXT, 1)),)
    assert applied.pages[ALICE].lots == (Lot(EARLY, 3),)


def test_postings_that_take_back_share_the_lots_named_too() -> None:
    named = {account(): (Lot(LATE, 5),)}
    both = (posting(account(), shop("one"), 4), posting(account(), shop("two"), 4))
    applied = rules.apply(
        Transaction(key="back", kind=Kind.REVERSE, postings=both, lots=named), rich((EARLY, 9), (LATE, 9)), BACK
    )
    assert applied.taken == ((Lot(LATE, 4),), (Lot(EARLY, 3), Lot(LATE, 1)))


def test_between_citizens_points_return_to_the_lots_they_had() -> None:
    transaction = returning(4, (LATE, 4), payer="bob")
    pages = rich((LATE, 1)) | rich((EARLY, 9), one=BOB)
    applied = rules.apply(transaction, pages, BACK)
    assert (applied.pages[ALICE].lots, applied.pages[BOB].lots) == ((Lot(LATE, 5),), (Lot(EARLY, 5),))


# Beyond int64.


@pytest.mark.parametrize("asset", [POINTS, QUANTIFIED])
def test_a_balance_beyond_64_bits_is_an_error_and_not_a_wrap(asset: Asset) -> None:
    full = rules.apply(earning(amount=INT64_MAX, asset=asset), {}, TERMS).pages
    assert full[ALICE].balance(asset) == INT64_MAX
    kept = copy.deepcopy(full)
    with pytest.raises(OverflowError, match=f"^balance does not fit in 64 bits: {2**63}$"):
        rules.apply(earning("more", amount=1, asset=asset), full, TERMS)
    assert full == kept


# Ids and payloads.


def test_the_id_follows_from_the_key_and_the_payload_from_everything_else() -> None:
    first = earning("one")
    assert earning("one", amount=11).id == first.id
    assert earning("one", amount=11).payload != first.payload
    assert earning("two").id != first.id
    assert earning("two").payload == first.payload
    assert moving(*first.postings, key="one").payload != first.payload
