"""Which transactions can stand in a book at all: every kind against everything a transaction may carry."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from backend.kernel.ids import TransactionId
from backend.ledger import shape
from backend.ledger.errors import MalformedTransactionError
from backend.ledger.model import (
    BREAKAGE,
    MINTS,
    POINTS,
    QUANTIFIED,
    AccountId,
    HoldRef,
    Lot,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    debt_of,
)
from tests.factories import account, owner, posting, shop
from tests.unit.ledger.book import FIRM, NOON

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = TransactionKind
MINT, DEBT = MINTS[POINTS], debt_of(owner(), POINTS)
EARNED = posting(MINT, account(), 10)
SPENT = posting(account(), shop(), 10)
HOLD = HoldRef(owner(), TransactionId("tx_hold"))
CORRECTED = TransactionId("tx_1")


class Form(NamedTuple):
    """What a kind demands (True), allows (None) or refuses (False), with a posting that suits it."""

    posting: Posting
    most: int
    hold: bool = False
    part: bool = False
    end: bool = False
    corrects: bool | None = False
    lots: bool | None = False


FORMS: Mapping[Kind, Form] = {
    Kind.EARN: Form(EARNED, 1_000),
    Kind.TRANSFER: Form(SPENT, 1_000),
    Kind.HOLD: Form(SPENT, 1, end=True),
    Kind.POST: Form(SPENT, 1, hold=True, part=True),
    Kind.VOID: Form(SPENT, 0, hold=True),
    Kind.LAPSE: Form(SPENT, 0, hold=True),
    Kind.EXPIRE: Form(posting(account(), BREAKAGE, 10), 1, lots=None),
    Kind.REVERSE: Form(posting(account(), MINT, 10), 1_000, corrects=True, lots=None),
    Kind.ADJUST: Form(EARNED, 1_000, corrects=None),
    Kind.RESTATE: Form(EARNED, 1_000, corrects=True, lots=None),
    Kind.LEND: Form(posting(DEBT, account(), 10), 1),
    Kind.REPAY: Form(posting(account(), DEBT, 10), 1),
}


def formed(kind: Kind, **changes: Any) -> Transaction:
    """The least that the kind demands, otherwise in these fields."""
    form = FORMS[kind]
    given: dict[str, Any] = {
        "key": "key",
        "kind": kind,
        "postings": (form.posting,) if form.most else (),
        "hold": HOLD if form.hold else None,
        "expires_at": NOON if form.end else None,
        "corrects": CORRECTED if form.corrects else None,
    }
    return Transaction(**{**given, **changes})


def problem_of(transaction: Transaction) -> str | None:
    try:
        shape.check(transaction)
    except MalformedTransactionError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("count", [0, 1, 2, 1_000, 1_001])
def test_each_kind_has_its_number_of_postings(kind: Kind, count: int) -> None:
    form = FORMS[kind]
    is_right = count == 0 if form.most == 0 else 1 <= count <= form.most
    problem = problem_of(formed(kind, postings=(form.posting,) * count))
    assert problem == (None if is_right else f"key: {count} postings")


CARRIED: Mapping[str, tuple[str, Any, Any, str]] = {
    # Field of Form: field of the transaction, something, nothing, what is said.
    "hold": ("hold", HOLD, None, "key: a {} and a hold to end do not go together"),
    "part": ("final", False, True, "key: a {} leaves no hold open"),
    "end": ("expires_at", NOON, None, "key: a {} and an end do not go together"),
    "corrects": ("corrects", CORRECTED, None, "key: a {} and a transaction to correct do not go together"),
    "lots": ("lots", {account(): (Lot(NOON, 10),)}, {}, "key: a {} and lots do not go together"),
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


WAYS: Mapping[tuple[AccountId, AccountId], tuple[set[Kind], str]] = {
    (MINT, account()): (
        {Kind.EARN, Kind.ADJUST, Kind.RESTATE, Kind.REVERSE},
        "a {kind} cannot take from programme:issuance",
    ),
    (account(), MINT): ({Kind.ADJUST, Kind.RESTATE, Kind.REVERSE}, "a {kind} cannot pay to programme:issuance"),
    (account(), BREAKAGE): ({Kind.EXPIRE}, "a {kind} cannot pay to programme:breakage"),
    (BREAKAGE, account()): ({Kind.REVERSE}, "a {kind} cannot take from programme:breakage"),
    (MINT, BREAKAGE): (set(), "a {kind} cannot {verb}"),
    (DEBT, account()): ({Kind.LEND}, "a {kind} cannot move from citizen:alice:debt.points to citizen:alice:points"),
    (account(), DEBT): ({Kind.REPAY}, "a {kind} cannot move from citizen:alice:points to citizen:alice:debt.points"),
    (DEBT, shop()): (set(), "a {kind} cannot move from citizen:alice:debt.points to merchant:shop:points"),
    (account("bob"), DEBT): (set(), "a {kind} cannot move from citizen:bob:points to citizen:alice:debt.points"),
}
SPECIAL = {Kind.EXPIRE, Kind.LEND, Kind.REPAY}
# Between accounts of people and merchants: all but what has places of its own.
PLAIN = set(Kind) - SPECIAL - {Kind.VOID, Kind.LAPSE}


@pytest.mark.parametrize("kind", [kind for kind in Kind if FORMS[kind].most])
@pytest.mark.parametrize("way", WAYS)
def test_mints_breakage_and_debts_take_part_only_in_the_kinds_made_for_them(
    kind: Kind, way: tuple[AccountId, AccountId]
) -> None:
    allowed, said = WAYS[way]
    problem = problem_of(formed(kind, postings=(posting(*way, 10),)))
    if kind in allowed:
        assert problem is None
    elif way == (MINT, BREAKAGE):
        takes = kind in {Kind.EARN, Kind.ADJUST, Kind.RESTATE, Kind.REVERSE}
        verb = "pay to programme:breakage" if takes else "take from programme:issuance"
        assert problem == f"key: a {kind} cannot {verb}"
    elif kind in {Kind.LEND, Kind.REPAY} and way in {(DEBT, shop()), (account("bob"), DEBT)}:
        fits = (kind is Kind.LEND) is (way[0] == DEBT)
        assert problem == ("key: a debt is nobody else's" if fits else f"key: {said.format(kind=kind)}")
    else:
        assert problem == f"key: {said.format(kind=kind)}"


@pytest.mark.parametrize("kind", [kind for kind in Kind if FORMS[kind].most])
@pytest.mark.parametrize(
    "way",
    [(account(), shop()), (account(), account("bob")), (account(), account_of(FIRM, POINTS))],
    ids=["merchant", "citizen", "enterprise"],
)
def test_people_pay_each_other_in_the_plain_kinds_only(kind: Kind, way: tuple[AccountId, AccountId]) -> None:
    problem = problem_of(formed(kind, postings=(posting(*way, 10),)))
    if kind in PLAIN - {Kind.ADJUST}:
        assert problem is None
    elif kind is Kind.EXPIRE:
        assert problem == "key: only a citizen's points expire"
    else:
        assert problem == f"key: a {kind} cannot move from {way[0]} to {way[1]}"


def test_staff_adjust_between_others_only_what_they_correct() -> None:
    back = posting(shop(), account(), 10)
    assert problem_of(formed(Kind.ADJUST, postings=(back,))) == (
        "key: a ADJUST cannot move from merchant:shop:points to citizen:alice:points"
    )
    corrected = formed(Kind.ADJUST, postings=(back,), corrects=CORRECTED)
    assert problem_of(corrected) is None
    assert problem_of(dataclasses.replace(corrected, lots={account(): (Lot(NOON, 10),)})) is None


def test_only_guarded_owners_hold_and_only_what_is_theirs_is_posted() -> None:
    paid = posting(shop(), account(), 10)
    assert problem_of(formed(Kind.HOLD, postings=(paid,))) == "key: merchant:shop needs no hold"
    assert problem_of(formed(Kind.POST, postings=(paid,))) == "key: merchant:shop did not reserve that"
    bobs = posting(account("bob"), shop(), 10)
    assert problem_of(formed(Kind.POST, postings=(bobs,))) == "key: citizen:bob did not reserve that"
    assert problem_of(formed(Kind.EXPIRE, postings=(posting(shop(), BREAKAGE, 10),))) == (
        "key: only a citizen's points expire"
    )
    assert problem_of(formed(Kind.HOLD, postings=(posting(account_of(FIRM, POINTS), shop(), 10),))) is None


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
