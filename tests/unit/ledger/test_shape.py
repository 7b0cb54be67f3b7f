"""Which transactions can stand in a book at all: every kind against everything a transaction may carry."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.ids import TransactionId
from backend.ledger.model import (
    BREAKAGE,
    CNY,
    COMMISSION,
    DONATIONS,
    MINTS,
    QUANTIFIED,
    REDEEMED,
    REWARDS,
    AccountId,
    Draw,
    HoldRef,
    Lot,
    Transaction,
    split_account,
)
from tests.factories import account, owner, posting, shop
from tests.unit.ledger.book import NOON

if TYPE_CHECKING:
    from collections.abc import Mapping


from tests.unit.ledger.forms import (
    AMOUNT,
    CORRECTED,
    DRAW,
    EARNED,
    FORMS,
    HOLD,
    MINT,
    Kind,
    formed,
    problem_of,
    several,
)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("count", [0, 1, 2, 1_000, 1_001])
def test_each_kind_has_its_number_of_postings(kind: Kind, count: int) -> None:
    form = FORMS[kind]
    is_right = count == 0 if form.most == 0 else 1 <= count <= form.most
    problem = problem_of(formed(kind, postings=several(kind, count)))
    if is_right and form.beside and count % 2:
        assert problem == f"key: it converts {count // 2 * AMOUNT + AMOUNT} mg and issues {count // 2 * AMOUNT}"
    else:
        assert problem == (None if is_right else f"key: {count} postings")


CARRIED: Mapping[str, tuple[str, Any, Any, str]] = {
    # Field of Form: field of the transaction, something, nothing, what is said.
    "hold": ("hold", HOLD, None, "key: a {} and a hold to end do not go together"),
    "part": ("final", False, True, "key: a {} leaves no hold open"),
    "end": ("expires_at", NOON, None, "key: a {} and an end do not go together"),
    "corrects": ("corrects", CORRECTED, None, "key: a {} and a transaction to correct do not go together"),
    "lots": ("lots", {account(): (Lot(NOON, 10),)}, {}, "key: a {} and lots do not go together"),
    "draws": ("draws", (DRAW,), (), "key: a {} and holds to draw on do not go together"),
}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("thing", CARRIED)
def test_each_kind_carries_what_it_needs_and_nothing_else(kind: Kind, thing: str) -> None:
    name, something, nothing, said = CARRIED[thing]
    wanted: bool | None = getattr(FORMS[kind], thing)
    with_it = problem_of(formed(kind, **{name: something}))
    without = problem_of(formed(kind, **{name: nothing}))
    assert with_it == (said.format(kind) if wanted is False else None)
    # A POST is final or not: both are whole.
    assert without == (said.format(kind) if wanted and thing != "part" else None)


def test_grams_move_like_points_but_are_not_given_to_a_cause() -> None:
    grams = posting(account(asset=QUANTIFIED), shop(asset=QUANTIFIED), 10)
    assert problem_of(formed(Kind.TRANSFER, postings=(grams,))) is None
    given = dataclasses.replace(grams, to_account=DONATIONS)
    assert problem_of(formed(Kind.TRANSFER, postings=(given,))) == (
        "key: co2e.quantified cannot move from citizen:alice:co2e.quantified to programme:donations"
    )


def test_a_period_is_settled_in_one_transaction_either_way() -> None:
    money = shop(asset=CNY)
    captured = (posting(shop(), REDEEMED, 100), posting(REWARDS, money, 900), posting(money, COMMISSION, 27))
    assert problem_of(formed(Kind.SETTLE, postings=captured)) is None
    refunded = tuple(posting(one.to_account, one.from_account, one.amount) for one in captured)
    assert problem_of(formed(Kind.SETTLE, postings=refunded)) is None


ONE_MERCHANT = "key: a SETTLE is of the one merchant whom its cause names"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cause": {"merchant": "shop", "settlement": "set_1"}}, None),
        ({"cause": {}}, ONE_MERCHANT),
        ({"cause": {"merchant": ""}}, ONE_MERCHANT),
        ({"cause": {"merchant": "other"}}, ONE_MERCHANT),
        ({"cause": {"merchant": "merchant:shop"}}, ONE_MERCHANT),
        ({"postings": (posting(shop(), REDEEMED, 1), posting(shop("other"), REDEEMED, 1))}, ONE_MERCHANT),
        ({"postings": (posting(shop(), REDEEMED, 1), posting(REWARDS, shop("other", CNY), 1))}, ONE_MERCHANT),
        (
            {"postings": (posting(shop(), REDEEMED, 1), posting(REWARDS, COMMISSION, 1))},
            "key: a SETTLE cannot move from programme:rewards to programme:commission",
        ),
        ({"postings": (posting(REWARDS, COMMISSION, 1),)}, "key: a SETTLE cannot move from {} to {}"),
    ],
)
def test_a_settlement_is_of_one_merchant(changes: dict[str, Any], problem: str | None) -> None:
    told = problem and problem.format(REWARDS, COMMISSION)
    assert problem_of(formed(Kind.SETTLE, **changes)) == told


def test_a_payout_names_its_merchant() -> None:
    assert problem_of(formed(Kind.PAYOUT, cause={"merchant": "other"})) == (
        "key: a PAYOUT is of the one merchant whom its cause names"
    )


@pytest.mark.parametrize("payer", [shop(), MINT, DONATIONS, REDEEMED])
def test_nobody_reserves_for_who_keeps_no_page(payer: AccountId) -> None:
    """A hold of a merchant would be posted unseen, for no page says whether it is there."""
    hold = HoldRef(split_account(payer).owner, TransactionId("tx_hold"))
    paid = posting(payer, account(), 10)
    assert problem_of(formed(Kind.POST, postings=(paid,), hold=hold)) == (
        f"key: a POST cannot move from {payer} to citizen:alice:points"
    )


LATER = NOON.replace(year=2027)
NAMED: Mapping[str, tuple[dict[AccountId, tuple[Lot, ...]], str | None]] = {
    "in order": ({account(): (Lot(NOON, 3), Lot(LATER, 7))}, None),
    "none": ({account(): ()}, None),
    "twice the same end": (
        {account(): (Lot(NOON, 3), Lot(NOON, 7))},
        "key: the lots of citizen:alice:points are not in order",
    ),
    "latest first": (
        {account(): (Lot(LATER, 3), Lot(NOON, 7))},
        "key: the lots of citizen:alice:points are not in order",
    ),
    "an empty one": ({account(): (Lot(NOON, 0),)}, "key: the lots of citizen:alice:points are not in order"),
    "less than nothing": ({account(): (Lot(NOON, -1),)}, "key: the lots of citizen:alice:points are not in order"),
    "somebody else's": ({account("bob"): (Lot(NOON, 1),)}, "key: it moves no lots of citizen:bob:points"),
    "of the programme": ({MINT: (Lot(NOON, 1),)}, "key: it moves no lots of programme:issuance"),
    "of what never expires": (
        {account(asset=QUANTIFIED): (Lot(NOON, 1),)},
        "key: it moves no lots of citizen:alice:co2e.quantified",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_lots_are_named_in_order_and_only_of_points_that_move(name: str) -> None:
    lots, problem = NAMED[name]
    milligrams = posting(account(asset=QUANTIFIED), MINTS[QUANTIFIED], 1)
    transaction = formed(Kind.REVERSE, postings=(FORMS[Kind.REVERSE].posting, milligrams), lots=lots)
    assert problem_of(transaction) == problem


MALFORMED: Mapping[str, tuple[dict[str, Any], str]] = {
    "zero": ({"amount": 0}, "amount 0 is not positive"),
    "negative": ({"amount": -1}, "amount -1 is not positive"),
    "fraction": ({"amount": 1.0}, "amount must be an integer, not float"),
    "truth": ({"amount": True}, "amount must be an integer, not bool"),
    "text": ({"amount": "1"}, "amount must be an integer, not str"),
    "more than 64 bits": ({"amount": 2**63}, f"amount does not fit in 64 bits: {2**63}"),
    "unknown owner": ({"to_account": "robot:x:points"}, "no account can be called 'robot:x:points'"),
    "owner without name": ({"to_account": "citizen::points"}, "no account can be called 'citizen::points'"),
    "account without asset": ({"to_account": "citizen:x"}, "no account can be called 'citizen:x'"),
    "debt of nothing": ({"to_account": "citizen:x:debt."}, "no account can be called 'citizen:x:debt.'"),
    "debt of a merchant": (
        {"to_account": "merchant:x:debt.points"},
        "no account can be called 'merchant:x:debt.points'",
    ),
    "unknown programme account": ({"from_account": "programme:pocket"}, "no account can be called 'programme:pocket'"),
    "asset of another account": (
        {"asset": QUANTIFIED},
        "co2e.quantified cannot move from programme:issuance to citizen:alice:points",
    ),
    "another mint": (
        {"from_account": MINTS[QUANTIFIED]},
        "points cannot move from programme:quantification to citizen:alice:points",
    ),
    "milligrams turned to breakage": (
        {"from_account": account(asset=QUANTIFIED), "to_account": BREAKAGE},
        "points cannot move from citizen:alice:co2e.quantified to programme:breakage",
    ),
    "to oneself": ({"from_account": account()}, "citizen:alice:points cannot pay itself"),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("place", [0, 1])
def test_what_breaks_double_entry_is_named_wherever_it_stands(name: str, place: int) -> None:
    changes, problem = MALFORMED[name]
    postings = [EARNED] * 2
    postings[place] = dataclasses.replace(EARNED, **changes)
    assert problem_of(formed(Kind.EARN, postings=tuple(postings))) == f"key: {problem}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"key": ""}, ": its key is empty or too long"),
        ({"key": "k" * 513}, f"{'k' * 513}: its key is empty or too long"),
        ({"key": "k" * 512}, None),
        ({"cause": {"rule_2": "x"}}, None),
        ({"cause": {"action": "a", "Rule": "x"}}, "key: its cause has a name that is none"),
        ({"cause": {"": "x"}}, "key: its cause has a name that is none"),
        ({"cause": {"2x": "x"}}, "key: its cause has a name that is none"),
        ({"cause": {"a.b": "x"}}, "key: its cause has a name that is none"),
        ({"cause": {"$set": "x"}}, "key: its cause has a name that is none"),
    ],
)
def test_keys_and_causes_have_a_form(changes: dict[str, Any], problem: str | None) -> None:
    assert problem_of(formed(Kind.EARN, **changes)) == problem


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "k\ud800"},
        {"cause": {"reason": "\udfff"}},
        {"cause": {"reason": 5}},
        {"cause": {"reason": None}},
        {"cause": {"reason": {"nested": "x"}}},
        {"cause": {"reason": NOON}},
        {"cause": {7: "x"}},
        {"key": 7},
        {"postings": (posting(MINT, account("\ud800"), 1),)},
        {"corrects": TransactionId("tx_\ud800")},
        {"hold": HoldRef(owner(), TransactionId("tx_\ud800"))},
        {"draws": (DRAW, Draw(HoldRef(owner(), TransactionId("tx_\ud800")), final=True))},
    ],
)
def test_what_cannot_be_written_is_malformed(changes: dict[str, Any]) -> None:
    problem = problem_of(formed(Kind.EARN, **changes))
    assert problem is not None
    assert problem.partition(": ")[2].startswith(("it cannot be written: ", "its key or cause is no text"))


def test_a_transaction_touches_a_limited_number_of_owners() -> None:
    def shared(people: int) -> Transaction:
        return formed(Kind.EARN, postings=tuple(posting(MINT, account(f"c{number}"), 1) for number in range(people)))

    assert problem_of(shared(32)) is None
    assert problem_of(shared(33)) == "key: it touches 33 owners, 32 at most may be"
    # Several postings of one owner turn one page; merchants keep none.
    assert problem_of(formed(Kind.EARN, postings=shared(32).postings * 3)) is None
    assert (
        problem_of(formed(Kind.TRANSFER, postings=tuple(posting(account(), shop(f"s{n}"), 1) for n in range(40))))
        is None
    )
