"""What pools, credits and trades must be to stand in a book: whole grams, gram for gram, holds of those who trade."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backend.kernel.ids import TransactionId
from backend.ledger.model import (
    CNY,
    EXCHANGE,
    QUANTIFIED,
    AccountId,
    Draw,
    HoldRef,
    Posting,
    Purpose,
    account_of,
    credit_account,
    credit_asset,
    debt_of,
    split_account,
)
from tests.factories import account, owner, posting
from tests.unit.ledger.book import FIRM

if TYPE_CHECKING:
    from backend.ledger.model import Asset, OwnerId

from tests.unit.ledger.forms import (
    AMOUNT,
    CREDIT,
    CREDITS,
    DRAW,
    FORMS,
    GRAMS,
    ISSUED,
    ISSUING,
    ORDERED,
    POOL,
    POOLED,
    PURSE,
    RETIRED,
    Kind,
    formed,
    problem_of,
)


@pytest.mark.parametrize(
    ("one", "asset"), [(owner(), CNY), (owner(), CREDIT), (POOL, QUANTIFIED), (POOL, CNY), (POOL, CREDIT)]
)
def test_nobody_owes_money_or_credits_and_a_pool_nothing(one: OwnerId, asset: Asset) -> None:
    owed = posting(debt_of(one, asset), account_of(one, asset), AMOUNT)
    for kind, moved in ((Kind.LEND, owed), (Kind.REPAY, posting(owed.to_account, owed.from_account, AMOUNT))):
        assert problem_of(formed(kind, postings=(moved,))) == (
            f"key: a {kind} cannot move from {moved.from_account} to {moved.to_account}"
        )


@pytest.mark.parametrize("kind", [Kind.ISSUE, Kind.TRADE, Kind.RETIRE, Kind.HOLD])
@pytest.mark.parametrize("amount", [1, 999, 1_001, 2**63 - 1])
def test_credits_move_in_whole_grams(kind: Kind, amount: int) -> None:
    ways = {
        Kind.ISSUE: (ISSUING, CREDITS),
        Kind.RETIRE: (CREDITS, RETIRED),
        Kind.HOLD: (CREDITS, ORDERED),
        Kind.TRADE: (CREDITS, account_of(FIRM, CREDIT)),
    }
    problem = f"key: {amount} mg of credit:b1 are no whole grams"
    assert problem_of(formed(kind, postings=(posting(*ways[kind], amount),))) == problem
    # Of grams as such any milligram counts.
    assert problem_of(formed(Kind.POOL, postings=(posting(GRAMS, POOLED, amount),))) is None


@pytest.mark.parametrize("name", ["programme:issuing:points", "programme:issuing:", "programme:owing:credit:b1"])
def test_the_programme_has_accounts_for_three_purposes_of_credits_alone(name: str) -> None:
    with pytest.raises(ValueError, match="no account can be called"):
        split_account(AccountId(name))
    assert split_account(ISSUING) == ("programme", CREDIT, False)


def test_one_credit_never_becomes_another() -> None:
    other = credit_asset("b2")
    for payer, payee in (
        (ISSUING, account(asset=other)),
        (CREDITS, account_of(FIRM, other)),
        (CREDITS, credit_account(Purpose.RETIRED, other)),
        (CREDITS, EXCHANGE),
        (PURSE, ORDERED),
    ):
        for kind in (Kind.ISSUE, Kind.TRADE, Kind.RETIRE, Kind.HOLD):
            said = problem_of(formed(kind, postings=(posting(payer, payee, AMOUNT),)))
            assert said == f"key: {split_account(payer).asset} cannot move from {payer} to {payee}"


@pytest.mark.parametrize(
    ("postings", "problem"),
    [
        ((FORMS[Kind.ISSUE].posting,), "key: it converts 10000 mg and issues 0"),
        ((ISSUED,), "key: it converts 0 mg and issues 10000"),
        ((FORMS[Kind.ISSUE].posting, posting(ISSUING, CREDITS, 9_000)), "key: it converts 10000 mg and issues 9000"),
        ((FORMS[Kind.ISSUE].posting, ISSUED, ISSUED), "key: it converts 10000 mg and issues 20000"),
        (
            (
                FORMS[Kind.ISSUE].posting,
                posting(ISSUING, CREDITS, 3_000),
                posting(ISSUING, account_of(POOL, CREDIT), 7_000),
            ),
            None,
        ),
    ],
)
def test_a_gram_issued_is_a_gram_converted(postings: tuple[Posting, ...], problem: str | None) -> None:
    assert problem_of(formed(Kind.ISSUE, postings=postings)) == problem


BOBS = HoldRef(owner("bob"), TransactionId("tx_bobs"))
FILL = (FORMS[Kind.TRADE].posting, posting(account("bob", CNY), PURSE, 10))


@pytest.mark.parametrize(
    ("draws", "problem"),
    [
        ((DRAW,), None),
        ((DRAW, Draw(BOBS, final=False)), None),
        # A fill may be worth less than a fen: who buys then pays nothing, and ends the order all the same.
        ((Draw(BOBS, final=True),), None),
        ((DRAW, DRAW), "key: it draws on a hold twice"),
        ((DRAW, DRAW._replace(final=False)), "key: it draws on a hold twice"),
        ((DRAW, Draw(BOBS._replace(owner=FIRM), final=True)), "key: it draws on a hold of somebody who does not trade"),
    ],
)
def test_a_trade_draws_on_holds_of_those_who_trade(draws: tuple[Draw, ...], problem: str | None) -> None:
    assert problem_of(formed(Kind.TRADE, postings=FILL, draws=draws)) == problem
    for moved in (FILL, FILL[:1]):
        assert problem_of(formed(Kind.TRADE, postings=moved, draws=draws)) == problem


def test_what_a_trade_draws_on_is_part_of_its_payload() -> None:
    drawn = ((DRAW,), (DRAW._replace(final=False),), (DRAW, Draw(BOBS, final=True)), (Draw(BOBS, final=True), DRAW))
    trades = [formed(Kind.TRADE, postings=FILL, draws=draws) for draws in drawn]
    assert [len({trade.id for trade in trades}), len({trade.payload for trade in trades})] == [1, 4]
