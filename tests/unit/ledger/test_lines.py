"""What the lines of a document must be beside those before it: true ones pass in any history, forged ones are named."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from backend.ledger.audit.lines import Standing, line_problems, standing_of
from backend.ledger.documents import transaction_documents
from backend.ledger.model import CNY, Asset, TransactionKind
from tests.factories import owner
from tests.trading import CREDIT, FIRM, deposit, drawn, issuance, order, pooling, trade
from tests.unit.ledger.book import DAY, HISTORIES, NOON, Book, play

if TYPE_CHECKING:
    from tests.unit.ledger.book import Posted, Step

ALICE = owner("alice")


def before(posted: Posted, one: str) -> dict[Asset, Standing]:
    """How the owner's assets stood."""
    page = next((page for name, page in posted.before.items() if name == one), None)
    return {a: Standing(page.balance(a), page.held(a), page.debt(a)) for a in page.balances} if page else {}


@hypothesis_settings(max_examples=60)
@given(steps=HISTORIES)
def test_the_lines_of_any_history_follow_from_each_other(steps: list[Step]) -> None:
    for posted in play(steps).journal:
        for document in transaction_documents(posted.transaction, posted.applied, posted.terms):
            standing = before(posted, document["owner"])
            assert list(line_problems(posted.transaction, document, standing)) == []
            for line in document["lines"]:
                assert standing_of(line) == _after(posted, document["owner"], line["asset"])


def _after(posted: Posted, one: str, asset: Asset) -> Standing:
    page = next(page for name, page in posted.applied.pages.items() if name == one)
    return Standing(page.balance(asset), page.held(asset), page.debt(asset))


def a_fill(*, bought: bool, fen: int) -> Posted:
    """The firm buys a gram of alice's two, out of an order for 50 fen."""
    book, until = Book(), NOON + DAY
    sell, buy = (order("sell", ALICE, CREDIT, 2_000, until=until), order("buy", FIRM, CNY, 50, until=until))
    book.pages[ALICE] = type(book.page())(ALICE, 1, NOON, {Asset("co2e.quantified"): 2_000})
    draws = [drawn(sell), drawn(buy, final=bought)]
    for one in (pooling(payer=ALICE, amounts=(2_000,)), issuance(payee=ALICE, grams=2), deposit(), sell, buy):
        book.post(one)
    book.post(trade("fill", ALICE, FIRM, 1_000, fen, draws=draws))
    assert book.journal[-1].transaction.kind is TransactionKind.TRADE
    return book.journal[-1]


@pytest.mark.parametrize(
    ("number", "name", "value", "said"),
    [
        (1, "held", 51, "held of cny is 51 after 50, which a TRADE cannot do"),
        (1, "held", 39, "held of cny is 39 after 50, which a TRADE cannot do"),
        (1, "held", 0, "held of cny is 0 after 50, which a TRADE cannot do"),
        (1, "balance", 991, "balance of cny is 991, 1000 and -10 give another"),
        (1, "change", -9, "change of cny is -9, its postings give -10"),
        (0, "held", 1_000, "held of credit:b1 is 1000 after 0, which a TRADE cannot do"),
    ],
)
def test_a_line_that_a_trade_cannot_leave_is_named(number: int, name: str, value: int, said: str) -> None:
    posted = a_fill(bought=False, fen=10)
    [firms] = [
        document
        for document in transaction_documents(posted.transaction, posted.applied, posted.terms)
        if document["owner"] == FIRM
    ]
    assert list(line_problems(posted.transaction, firms, before(posted, FIRM))) == []
    forged: dict[str, Any] = copy.deepcopy(firms)
    forged["lines"][number][name] = value
    assert said in list(line_problems(posted.transaction, forged, before(posted, FIRM)))


@pytest.mark.parametrize("bought", [True, False])
def test_what_a_trade_frees_needs_no_posting_but_a_final_draw(*, bought: bool) -> None:
    posted = a_fill(bought=bought, fen=0)
    firms = transaction_documents(posted.transaction, posted.applied, posted.terms)[1]
    assert [line["asset"] for line in firms["lines"]] == [CREDIT, CNY][: 1 + bought]
    assert list(line_problems(posted.transaction, firms, before(posted, FIRM))) == []
    more = {**firms, "lines": [firms["lines"][0], {**firms["lines"][0], "asset": "cny", "change": 0}]}
    found = list(line_problems(posted.transaction, more, before(posted, FIRM)))
    assert ("lines are of credit:b1, cny, its postings are of credit:b1" in found) is not bought
