"""Between which accounts each kind may move amounts: every kind on every way."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import pytest

from backend.ledger.model import (
    BANK,
    BENEFITS,
    BREAKAGE,
    CNY,
    COMMISSION,
    CONVERTED,
    DEDUCTED,
    DONATIONS,
    EXCHANGE,
    FEES,
    MINTS,
    OWING,
    POINTS,
    QUANTIFIED,
    REDEEMED,
    REWARDS,
    SETTLING,
    AccountId,
    Lot,
    Posting,
    Transaction,
    account_of,
    debt_of,
    pool_owner,
    split_account,
)
from tests.factories import account, owner, posting, shop
from tests.unit.ledger.book import FIRM, NOON

if TYPE_CHECKING:
    from collections.abc import Mapping


from tests.unit.ledger.forms import (
    AMOUNT,
    CORRECTED,
    CREDIT,
    CREDITS,
    DEBT,
    DRAW,
    FORMS,
    GRAMS,
    HOLD,
    ISSUED,
    ISSUING,
    MINT,
    ORDERED,
    POOL,
    POOLED,
    PURSE,
    RETIRED,
    Kind,
    formed,
    problem_of,
)

# An account of each sort, by a name, as far as points or money go.
PLACES: Mapping[str, AccountId] = {
    "mint": MINT,
    "alice": account(),
    "bob": account("bob"),
    "firm": account_of(FIRM, POINTS),
    "debt": DEBT,
    "shop": shop(),
    "other shop": shop("other"),
    "donations": DONATIONS,
    "breakage": BREAKAGE,
    "redeemed": REDEEMED,
    "money": shop(asset=CNY),
    "other money": shop("other", CNY),
    "rewards": REWARDS,
    "commission": COMMISSION,
    "bank": BANK,
    "alice's money": PURSE,
    "bob's money": account("bob", CNY),
    "firm's money": account_of(FIRM, CNY),
    "pool's money": account_of(POOL, CNY),
    "fees": FEES,
    "benefits": BENEFITS,
    "exchange": EXCHANGE,
    "pool's points": account_of(POOL, POINTS),
    "quantification": MINTS[QUANTIFIED],
    "alice's grams": GRAMS,
    "bob's grams": account("bob", QUANTIFIED),
    "grams owed": debt_of(owner(), QUANTIFIED),
    "shop's grams": shop(asset=QUANTIFIED),
    "pool": POOLED,
    "other pool": account_of(pool_owner("b2"), QUANTIFIED),
    "converted": CONVERTED,
    "deducted": DEDUCTED,
    "issuing": ISSUING,
    "alice's credits": CREDITS,
    "firm's credits": account_of(FIRM, CREDIT),
    "pool's credits": account_of(POOL, CREDIT),
    "credits owed": debt_of(owner(), CREDIT),
    "shop's credits": shop(asset=CREDIT),
    "retired": RETIRED,
    "credits' exchange": ORDERED,
}
PEOPLE, GATHERERS = ("alice", "bob", "firm"), ("alice's grams", "bob's grams")
SHOPS = ("shop", "other shop")
WALLETS = ("alice's money", "bob's money", "firm's money", "pool's money")
OWNED = ("alice's credits", "firm's credits", "pool's credits")
POOLS = ("pool", "other pool")
Way = tuple[str, str]
SHARED = {*itertools.permutations(PEOPLE, 2), *itertools.permutations(GATHERERS, 2)}
GRANTED = {("mint", one) for one in PEOPLE} | {("quantification", one) for one in GATHERERS}
WITHDRAWN = {(payee, mint) for mint, payee in GRANTED}
SPENT = (
    SHARED
    | {(one, to) for one in PEOPLE for to in (*SHOPS, "donations")}
    | {(one, "shop's grams") for one in GATHERERS}
)
RETURNED = SHARED | {(by, one) for one, by in SPENT - SHARED}
# Only alice reserved something, and only alice owes something.
ALICES = ("alice", "alice's grams", "alice's money")
PAID_OUT = {(one, "bank") for one in WALLETS}
PROCEEDS = {("pool's money", to) for to in ("alice's money", "bob's money", "firm's money", "fees", "benefits")}
ALLOWED: Mapping[Kind, set[Way]] = {
    Kind.EARN: GRANTED | SHARED,
    Kind.TRANSFER: SPENT,
    Kind.HOLD: (
        SPENT | PAID_OUT | {(one, "exchange") for one in WALLETS} | {(one, "credits' exchange") for one in OWNED}
    ),
    Kind.POST: {way for way in SPENT | PAID_OUT if way[0] in ALICES},
    Kind.EXPIRE: {(one, "breakage") for one in PEOPLE},
    Kind.REVERSE: (
        GRANTED
        | WITHDRAWN
        | RETURNED
        | {("breakage", one) for one in PEOPLE}
        | set(itertools.product(POOLS, GATHERERS))
    ),
    Kind.ADJUST: GRANTED | WITHDRAWN,
    Kind.RESTATE: GRANTED | WITHDRAWN | SHARED,
    Kind.LEND: {("debt", "alice"), ("grams owed", "alice's grams")},
    Kind.REPAY: {("alice", "debt"), ("alice's grams", "grams owed")},
    Kind.SETTLE: {
        ("shop", "redeemed"),
        ("redeemed", "shop"),
        ("rewards", "money"),
        ("money", "rewards"),
        ("commission", "money"),
        ("money", "commission"),
    },
    Kind.PAYOUT: {("money", "bank")},
    Kind.DEPOSIT: {("bank", one) for one in WALLETS},
    Kind.POOL: set(itertools.product(GATHERERS, POOLS)),
    Kind.DEDUCT: {(one, "deducted") for one in POOLS},
    Kind.ISSUE: {(one, "converted") for one in POOLS} | {("issuing", one) for one in OWNED},
    Kind.TRADE: {
        *itertools.permutations(OWNED, 2),
        *itertools.permutations(WALLETS, 2),
        *itertools.product(WALLETS, ("fees", "benefits")),
    },
    Kind.BENEFIT: PROCEEDS | {("mint", one) for one in PEOPLE},
    Kind.RETIRE: {(one, "retired") for one in OWNED},
}
MOVING = [kind for kind in Kind if FORMS[kind].most]
# Between accounts of one asset: all others are refused for that alone.
PAIRS = [
    (payer, payee)
    for payer, payee in itertools.permutations(PLACES, 2)
    if split_account(PLACES[payer]).asset == split_account(PLACES[payee]).asset
]


def said_of(kind: Kind, way: Way) -> str | None:
    """What must be said of that kind between those accounts."""
    payer, payee = way
    if way in ALLOWED[kind]:
        return None
    if kind is Kind.POST and way in SPENT | PAID_OUT:
        return f"key: {split_account(PLACES[payer]).owner} did not reserve that"
    lent = way[:: -1 if kind is Kind.REPAY else 1]
    if kind in OWING and lent in {*itertools.product(["debt"], PEOPLE), *itertools.product(["grams owed"], GATHERERS)}:
        return "key: a debt is nobody else's"
    if kind is Kind.BENEFIT and way in ALLOWED[Kind.TRADE] | GRANTED and payer not in OWNED:
        return "key: a BENEFIT is paid by a pool, or in points"
    others = {"other shop": "shop", "other money": "money"}
    if kind in SETTLING and (others.get(payer, payer), others.get(payee, payee)) in ALLOWED[kind]:
        return f"key: a {kind} is of the one merchant whom its cause names"
    return f"key: a {kind} cannot move from {PLACES[payer]} to {PLACES[payee]}"


def moving(kind: Kind, way: Way) -> Transaction:
    """The kind between those accounts: what is issued with what it converts, and a trade out of the payer's hold."""
    payer, payee = map(PLACES.__getitem__, way)
    moved = posting(payer, payee, AMOUNT)
    beside = {QUANTIFIED: (ISSUED,), CREDIT: (FORMS[Kind.ISSUE].posting,)}[moved.asset] if is_issue(kind, moved) else ()
    draw = DRAW._replace(hold=HOLD._replace(owner=split_account(payer).owner))
    return formed(kind, postings=(moved, *beside), draws=(draw,) if FORMS[kind].draws else ())


def is_issue(kind: Kind, moved: Posting) -> bool:
    return kind is Kind.ISSUE and moved.asset in (QUANTIFIED, CREDIT)


@pytest.mark.parametrize("kind", MOVING)
def test_each_kind_moves_only_between_the_accounts_made_for_it(kind: Kind) -> None:
    told = {way: problem_of(moving(kind, way)) for way in PAIRS}
    assert told == {way: said_of(kind, way) for way in PAIRS}
    assert {way for way, said in told.items() if said is None} == ALLOWED[kind]


@pytest.mark.parametrize("kind", MOVING)
def test_a_posting_out_of_place_is_found_behind_sound_ones(kind: Kind) -> None:
    wrong = posting(shop(), shop("other"), 1)
    if FORMS[kind].most > 1:
        assert problem_of(formed(kind, postings=(FORMS[kind].posting, wrong))) == (
            f"key: a {kind} cannot move from merchant:shop:points to merchant:other:points"
        )


def test_staff_move_anything_that_may_have_been_moved_where_they_correct_it() -> None:
    told = {way: problem_of(dataclasses.replace(moving(Kind.ADJUST, way), corrects=CORRECTED)) for way in PAIRS}
    assert {way for way, said in told.items() if said is None} == GRANTED | WITHDRAWN | SPENT | RETURNED
    back = formed(Kind.ADJUST, postings=(posting(shop(), account(), 10),), corrects=CORRECTED)
    assert problem_of(dataclasses.replace(back, lots={account(): (Lot(NOON, 10),)})) is None
