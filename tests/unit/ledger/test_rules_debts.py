"""Debts: what owners are lent when a correction takes back what they have spent, and how they repay it."""

from __future__ import annotations

import copy

import pytest

from backend.kernel.units import INT64_MAX
from backend.ledger import rules
from backend.ledger.errors import InsufficientFundsError, MalformedTransactionError
from backend.ledger.lots import PointsPolicy
from backend.ledger.model import (
    MINTS,
    POINTS,
    QUANTIFIED,
    Asset,
    Line,
    Lot,
    OwnerId,
    Page,
    Posting,
    Terms,
    Transaction,
    TransactionKind,
    debt_of,
)
from tests.factories import (
    account,
    adjustment,
    earning,
    holding,
    owner,
    posting,
    release,
    restatement,
    reversal,
    spending,
    transfer,
)
from tests.unit.ledger.book import DAY, NOON, SHANGHAI, Book, midnight

Kind = TransactionKind
ALICE, BOB = owner("alice"), owner("bob")
NEXT = midnight(2028, 12, 1)
TERMS = Terms(NOON, NEXT)
DEBT = debt_of(ALICE, POINTS)


def lending(amount: int, asset: Asset = POINTS) -> Transaction:
    lent = Posting(from_account=debt_of(ALICE, asset), to_account=account(asset=asset), asset=asset, amount=amount)
    return Transaction(key="lend", kind=Kind.LEND, postings=(lent,))


def repaying(amount: int) -> Transaction:
    return Transaction(key="repay", kind=Kind.REPAY, postings=(posting(account(), DEBT, amount),))


def has(points: int, debt: int = 0, *, held: int = 0) -> dict[OwnerId, Page]:
    """Alice's page with free points, and some held, and what she owes."""
    total = points + held
    lots = (Lot(NEXT, total),) if total else ()
    pages = {ALICE: Page(ALICE, 1, NOON, {POINTS: total}, {POINTS: debt} if debt else {}, lots)}
    if held:
        pages = dict(rules.apply(holding(amount=held, until=NOON + DAY), pages, TERMS).pages)
    return pages


def kinds(book: Book) -> list[tuple[Kind, int]]:
    return [
        (posted.transaction.kind, sum(moved.amount for moved in posted.transaction.postings)) for posted in book.journal
    ]


def test_what_is_lent_is_there_and_owed() -> None:
    applied = rules.apply(lending(7), has(1), TERMS)
    page = applied.pages[ALICE]
    assert (page.balance(POINTS), page.debt(POINTS), page.lots) == (8, 7, (Lot(NEXT, 8),))
    assert applied.entries[0].lines == (Line(POINTS, 7, 8, debt=7, lots=(Lot(NEXT, 7),)),)
    assert applied.taken == ((),)
    milligrams = rules.apply(lending(7, QUANTIFIED), {}, TERMS).pages[ALICE]
    assert (milligrams.balance(QUANTIFIED), milligrams.debt(QUANTIFIED), milligrams.debt(POINTS)) == (7, 7, 0)


def test_what_is_repaid_is_gone_and_no_longer_owed() -> None:
    applied = rules.apply(repaying(3), has(8, 7), TERMS)
    page = applied.pages[ALICE]
    assert (page.balance(POINTS), page.debt(POINTS), page.lots) == (5, 4, (Lot(NEXT, 5),))
    assert applied.entries[0].lines == (Line(POINTS, -3, 5, debt=4, lots=(Lot(NEXT, -3),)),)
    assert applied.taken == ((Lot(NEXT, 3),),)
    assert rules.apply(repaying(7), has(8, 7), TERMS).pages[ALICE].debts == {}


def test_nobody_repays_more_than_is_owed_or_there() -> None:
    pages = has(8, 7)
    kept = copy.deepcopy(pages)
    with pytest.raises(MalformedTransactionError, match=r"^repay: repays more than citizen:alice owes$"):
        rules.apply(repaying(8), pages, TERMS)
    with pytest.raises(InsufficientFundsError):
        rules.apply(repaying(4), has(3, 7), TERMS)
    assert pages == kept


def test_a_debt_beyond_64_bits_is_an_error() -> None:
    pages = {ALICE: Page(ALICE, 1, NOON, {POINTS: 0}, {POINTS: INT64_MAX})}
    with pytest.raises(OverflowError, match=rf"^debt does not fit in 64 bits: {2**63}$"):
        rules.apply(lending(1), pages, TERMS)


EARN = earning(amount=10)


@pytest.mark.parametrize(
    ("pages", "taken", "short"),
    [
        (has(10), 10, 0),
        (has(11), 10, 0),
        (has(9), 10, 1),
        (has(0), 10, 10),
        ({}, 10, 10),
        (has(4, held=6), 10, 6),
        (has(3, 5), 10, 7),
        ({ALICE: Page(ALICE, 1, NOON, {POINTS: 10}, lots=(Lot(NOON, 6), Lot(NEXT, 4)))}, 10, 6),
    ],
    ids=["all there", "more", "one short", "spent", "no page", "held", "owes already", "ended"],
)
def test_what_is_not_there_to_take_back_is_lent(pages: dict[OwnerId, Page], taken: int, short: int) -> None:
    back = reversal(EARN, amounts=(taken,))
    lendings = list(rules.lendings(back, pages, NOON))
    if not short:
        assert lendings == []
        return
    [lent] = lendings
    assert (lent.key, lent.kind) == (f"lend:{back.id}:citizen:alice:points", Kind.LEND)
    assert lent.postings == (posting(DEBT, account(), short),)
    assert lent.cause == {"transaction": back.id}
    rules.apply(back, rules.apply(lent, pages, TERMS).pages, TERMS)


def test_each_owner_and_asset_is_lent_what_it_lacks() -> None:
    back = Transaction(
        key="back",
        kind=Kind.REVERSE,
        postings=(
            posting(account(), MINTS[POINTS], 4),
            posting(account(asset=QUANTIFIED), MINTS[QUANTIFIED], 9),
            posting(account("bob"), MINTS[POINTS], 5),
            posting(account(), MINTS[POINTS], 3),
        ),
    )
    lent = [item.postings[0] for item in rules.lendings(back, has(5), NOON)]
    assert [(str(item.to_account), item.amount) for item in lent] == [
        ("citizen:alice:points", 2),
        ("citizen:alice:co2e.quantified", 9),
        ("citizen:bob:points", 5),
    ]


@pytest.mark.parametrize(
    ("granting", "amount"),
    [(EARN, 10), (adjustment(10), 10), (restatement(EARN, 10), 10)],
    ids=["earned", "adjusted", "restated"],
)
def test_what_is_granted_repays_first(granting: Transaction, amount: int) -> None:
    [repaid] = rules.repayments(granting, has(amount, 7), NOON)
    assert (repaid.key, repaid.kind) == (f"repay:{granting.id}:citizen:alice:points", Kind.REPAY)
    assert repaid.postings == (posting(account(), DEBT, 7),)
    assert repaid.cause == {"transaction": granting.id}
    [part] = rules.repayments(granting, has(amount, 25), NOON)
    assert part.postings[0].amount == 10


@pytest.mark.parametrize(
    ("transaction", "pages"),
    [
        (EARN, has(10)),
        (EARN, {}),
        (EARN, has(0, 7, held=9)),
        (earning(name="bob"), has(10, 7)),
    ],
    ids=["owes nothing", "no page", "nothing free", "another"],
)
def test_nothing_else_repays(transaction: Transaction, pages: dict[OwnerId, Page]) -> None:
    assert list(rules.repayments(transaction, pages, NOON)) == []


@pytest.mark.parametrize(
    "transaction",
    [
        earning(asset=QUANTIFIED),
        adjustment(-3),
        restatement(EARN, -3),
        transfer(payer="bob", payee="alice"),
        transfer(),
        reversal(spending()),
        release(holding(until=NOON + DAY)),
    ],
    ids=["other asset", "less", "restated", "given", "giving", "refund", "set free"],
)
def test_whatever_leaves_something_free_repays(transaction: Transaction) -> None:
    [repaid] = rules.repayments(transaction, has(10, 7), NOON)
    assert repaid.key == f"repay:{transaction.id}:citizen:alice:points"
    assert repaid.postings == (posting(account(), DEBT, 7),)
    [part] = rules.repayments(transaction, has(5, 7, held=4), NOON)
    assert part.postings == (posting(account(), DEBT, 5),)


def test_what_a_hold_kept_from_a_debt_repays_it_when_it_is_free() -> None:
    hold = holding(amount=6, until=NOON + DAY)
    book = posted_after(EARN, hold, reversal(EARN))
    assert (book.page().balance(POINTS), book.page().debt(POINTS)) == (6, 6)
    book.post(release(hold))
    assert kinds(book)[-2:] == [(Kind.VOID, 0), (Kind.REPAY, 6)]
    assert (book.page().balance(POINTS), book.page().debts, book.page().lots) == (0, {}, ())


def posted_after(*transactions: Transaction, policy: PointsPolicy | None = None) -> Book:
    book = Book(policy) if policy else Book()
    for transaction in transactions:
        book.post(transaction)
    return book


def test_a_reversed_earning_that_was_spent_is_lent_and_later_earnings_repay_it() -> None:
    book = posted_after(EARN, spending(amount=8), reversal(EARN))
    assert kinds(book)[2:] == [(Kind.LEND, 8), (Kind.REVERSE, 10)]
    assert (book.page().balance(POINTS), book.page().debt(POINTS), book.page().lots) == (0, 8, ())
    book.post(earning("earn-2", amount=5))
    assert (book.page().balance(POINTS), book.page().debt(POINTS)) == (0, 3)
    book.post(earning("earn-3", amount=5))
    assert kinds(book)[4:] == [(Kind.EARN, 5), (Kind.REPAY, 5), (Kind.EARN, 5), (Kind.REPAY, 3)]
    assert (book.page().balance(POINTS), book.page().debts, book.page().lots) == (2, {}, (Lot(NEXT, 2),))


@pytest.mark.parametrize("taking", [reversal(EARN), restatement(EARN, -10), adjustment(-10)])
def test_without_debts_a_shortfall_is_refused(taking: Transaction) -> None:
    book = posted_after(EARN, spending(amount=8), policy=PointsPolicy(SHANGHAI, debt_allowed=False))
    before = (dict(book.pages), list(book.journal))
    with pytest.raises(InsufficientFundsError) as caught:
        book.post(taking)
    assert vars(caught.value) == {"account": "citizen:alice:points", "needed": 10, "available": 2}
    assert (dict(book.pages), book.journal) == before


def test_where_debts_are_not_repaid_first_they_stay() -> None:
    policy = PointsPolicy(SHANGHAI, repays_debt_first=False)
    book = posted_after(EARN, spending(amount=8), reversal(EARN), earning("earn-2"), policy=policy)
    assert (book.page().balance(POINTS), book.page().debt(POINTS)) == (100, 8)


def test_spending_never_lends() -> None:
    book = posted_after(EARN, spending(amount=5))
    with pytest.raises(InsufficientFundsError):
        book.post(spending("spend-2", amount=6))
    assert book.page().debts == {}
