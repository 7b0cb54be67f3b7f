"""Provenance up to pools and credits: an act's own grams are pooled and come back, and beyond nothing is followed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backend.kernel.errors import Refusal
from backend.ledger.model import BANK, CNY, MINTS, POINTS, QUANTIFIED, Asset, OwnerId, Transaction, account_of
from backend.ledger.provenance import is_tracked
from tests.factories import capture, reversal
from tests.trading import CREDIT, POOL, deposit, market_life, pooling, trade
from tests.trading import drawn as draw
from tests.trading import order as ordering
from tests.unit.ledger.pure_book import ALICE, BOB, FIRM, Book, Kind, credit, move, names, origins, uses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.ledger.attribution import Attribution

GRAMS = account_of(ALICE, QUANTIFIED)


def earned(book: Book, key: str, amount: int, owner: OwnerId = ALICE) -> Transaction:
    """Grams of an act."""
    moved = move(MINTS[QUANTIFIED], account_of(owner, QUANTIFIED), amount)
    transaction = Transaction(key=key, kind=Kind.EARN, postings=(moved,), cause={"action": f"act_{key}"})
    book.post(transaction)
    return transaction


def pooled(book: Book, key: str, parts: Sequence[tuple[Transaction, int]]) -> Transaction:
    """Those parts of what these acts brought, in that order."""
    of = [one for one, _ in parts]
    transaction = pooling(key, ALICE, [amount for _, amount in parts], of)
    book.post(transaction)
    return transaction


def pooled_of(book: Book, key: str) -> list[list[tuple[object, ...]]]:
    """By posting, the acts whose units it took."""
    return [names(book, part.origins) for part in book.back(key, asset=QUANTIFIED).parts]


def test_each_posting_takes_the_units_of_the_act_that_it_names() -> None:
    book = Book()
    one, two, three = (earned(book, name, 10) for name in ("one", "two", "three"))
    # Neither the first that joined, nor in that order.
    pooled(book, "pool", [(three, 10), (two, 4)])
    assert pooled_of(book, "pool") == [[("three", 10)], [("two", 4)]]
    assert uses(book, "three", asset=QUANTIFIED) == [("pool", 10)]
    assert uses(book, "two", asset=QUANTIFIED) == [("pool", 4)]
    assert uses(book, "one", asset=QUANTIFIED) == []
    assert credit(book, "two", asset=QUANTIFIED).unspent == 6
    assert credit(book, one.key, asset=QUANTIFIED).unspent == 10
    page = book.attribution(GRAMS)
    # What is left stays in the order in which it joined.
    assert [(run.brought_by.transaction, run.amount) for run in page.waiting()] == [(one.id, 10), (two.id, 6)]


def test_where_an_acts_units_have_gone_the_first_to_have_joined_take_their_place() -> None:
    book = Book()
    one, two = (earned(book, name, 10) for name in ("one", "two"))
    book.post(Transaction(key="give", kind=Kind.TRANSFER, postings=(move(GRAMS, account_of(BOB, QUANTIFIED), 12),)))
    pooled(book, "pool", [(one, 5)])
    assert pooled_of(book, "pool") == [[("two", 5)]]
    assert credit(book, two.key, asset=QUANTIFIED).unspent == 3


def test_only_a_pooling_names_acts_so() -> None:
    book = Book()
    earned(book, "one", 10)
    two = earned(book, "two", 10)
    gift = move(GRAMS, account_of(BOB, QUANTIFIED), 5)
    book.post(Transaction(key="give", kind=Kind.TRANSFER, postings=(gift,), cause={"of_0": two.id}))
    assert origins(book, "give", asset=QUANTIFIED) == [("one", 5)]


def test_what_is_withdrawn_is_the_very_units_and_can_be_pooled_again() -> None:
    book = Book()
    one, two, three = (earned(book, name, 10) for name in ("one", "two", "three"))
    first = pooled(book, "pool", [(three, 10), (one, 10)])
    book.post(reversal(first, "back"))
    # The last taken comes back first.
    assert pooled_of(book, "back") == [[("one", 10)], [("three", 10)]]
    for act in ("one", "three"):
        assert uses(book, act, asset=QUANTIFIED) == [("pool", 10), ("back", -10)]
        assert credit(book, act, asset=QUANTIFIED).unspent == 10
    pooled(book, "again", [(three, 10), (two, 10)])
    assert pooled_of(book, "again") == [[("three", 10)], [("two", 10)]]
    assert credit(book, "one", asset=QUANTIFIED).unspent == 10


def test_a_part_withdrawn_is_the_part_taken_last() -> None:
    book = Book()
    one, two = (earned(book, name, 10) for name in ("one", "two"))
    both = pooled(book, "pool", [(two, 6), (one, 10)])
    book.post(reversal(both, "back", (12,)))
    assert next((run.brought_by.transaction, run.amount) for run in book.attribution(GRAMS).waiting()) == (two.id, 4)
    assert uses(book, "one", asset=QUANTIFIED) == [("pool", 10), ("back", -10)]
    assert uses(book, "two", asset=QUANTIFIED) == [("pool", 6), ("back", -2)]


def test_a_corrected_acts_units_count_as_its_own() -> None:
    book = Book()
    earned(book, "one", 10)
    two = earned(book, "two", 10)
    more = move(MINTS[QUANTIFIED], GRAMS, 5)
    book.post(Transaction(key="restated", kind=Kind.RESTATE, postings=(more,), corrects=two.id))
    pooled(book, "pool", [(two, 15)])
    assert pooled_of(book, "pool") == [[("two", 10), ("restated", 5)]]


@pytest.mark.parametrize("asset", [QUANTIFIED, CREDIT, CNY])
def test_pools_and_credits_are_not_told_apart(asset: Asset) -> None:
    assert not is_tracked(account_of(POOL, asset))
    assert is_tracked(account_of(FIRM, asset)) is (asset != CREDIT)


def test_every_step_of_the_market_can_be_traced_both_ways() -> None:
    book = Book()
    for transaction in market_life(until=book.now + timedelta(days=9)):
        book.post(transaction)
    found = {}
    for key in book.posted:
        for asset in (POINTS, QUANTIFIED, CNY, CREDIT):
            for reader in (None, ALICE, FIRM):
                parts = book.back(key, asset=asset, reader=reader).parts
                assert all(sum(one.amount for one in part.origins) == part.posting.amount for part in parts)
                for one in book.forward(key, asset=asset, reader=reader).credits:
                    assert sum(use.amount for use in one.uses) + one.unspent == one.posting.amount
                if reader is None:
                    found[key, asset] = [names(book, part.origins) for part in parts]
    # The grams of the act, as far as the pool; what the pool converts is nobody's any more.
    assert found["market-pool", QUANTIFIED] == [[("market-earn", 5_000)], [("market-earn", 400)]]
    assert found["market-withdraw", QUANTIFIED] == [[("market-earn", 700)]]
    assert found["market-issue-own", QUANTIFIED] == []
    assert found["market-trade", CREDIT] == found["market-retire", CREDIT] == []
    # Fen are followed like points: to the deposit, and to the sale of a pool, where it ends.
    assert found["market-trade", CNY] == [
        [("market-deposit", 50)],
        [("market-deposit", 1, "market-trade")],
        [("market-deposit", 2)],
    ]
    assert found["market-benefit", CNY] == [[("market-benefit", 10)]]
    # Points of proceeds begin where they were made.
    assert found["market-points", POINTS] == [[("market-points", 125)]]
    assert found["market-paid", CNY] == [[("market-deposit", 20, "market-trade")]]


@hypothesis_settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["earn", "pool", "back", "give"]), st.integers(1, 9), st.integers(0, 99)), max_size=25
    )
)
def test_whatever_is_pooled_and_given_back_every_unit_has_one_place(steps: list[tuple[str, int, int]]) -> None:
    book = Book()
    acts, pools = [earned(book, "first", 20)], [pooling("none", ALICE)]
    for number, (what, amount, pick) in enumerate(steps):
        key = f"step-{number}"
        pool, act = pools[pick % len(pools)], acts[pick % len(acts)]
        try:
            if what == "earn":
                acts.append(earned(book, key, amount))
            elif what == "pool":
                pools.append(pooled(book, key, [(act, amount), (acts[-1], amount)]))
            elif what == "back":
                book.post(reversal(pool, key, (min(amount, pool.postings[0].amount),)))
            else:
                moved = move(GRAMS, account_of(BOB, QUANTIFIED), amount)
                book.post(Transaction(key=key, kind=Kind.TRANSFER, postings=(moved,)))
        except Refusal:
            continue
    page: Attribution = book.attribution(GRAMS)
    assert sum(run.amount for run in page.waiting()) == page.balance == book.pages[ALICE].balance(QUANTIFIED)
    gone = sum(move.sign * move.units.amount for moves in page.moves.values() for move in moves)
    assert gone + page.balance == sum(act.postings[0].amount for act in acts)
    for act in acts:
        told = credit(book, act.key, asset=QUANTIFIED)
        assert sum(use.amount for use in told.uses) + told.unspent == act.postings[0].amount


def test_what_an_order_reserves_moves_no_unit() -> None:
    book = Book()
    until = book.now + timedelta(days=1)
    buy = ordering("buy", FIRM, CNY, 60, until=until)
    for one in (deposit("first", FIRM, 50), deposit("second", FIRM, 50), buy):
        book.post(one)
    assert uses(book, "first", asset=CNY) == []
    sold = trade("fill", ALICE, FIRM, 0, 60, draws=[draw(buy)])
    book.post(sold)
    assert origins(book, "fill", asset=CNY) == [("first", 50), ("second", 10)]
    out = Transaction(
        key="out",
        kind=Kind.HOLD,
        postings=(move(account_of(FIRM, CNY), BANK, 40),),
        expires_at=until,
    )
    book.post(out)
    book.post(capture(out))
    assert credit(book, "second", asset=CNY).unspent == 0
