"""Provenance of whatever may happen: nothing lost, nothing made, and back and forward tell the same."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.kernel.errors import Refusal
from backend.ledger import lots
from backend.ledger.attribution import PostingRef
from backend.ledger.corrections import CORRECTABLE
from backend.ledger.errors import MalformedTransactionError
from backend.ledger.model import (
    DONATIONS,
    MINTS,
    POINTS,
    QUANTIFIED,
    HoldRef,
    Transaction,
    account_of,
)
from backend.ledger.provenance import (
    is_tracked,
)
from tests.unit.ledger.pure_book import (
    OWNERS,
    SHOP,
    Book,
    Kind,
    move,
    points,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Step:
    """One thing that may happen; numbers choose among what is possible then."""

    what: str
    who: int
    other: int
    amount: int
    pick: int


WHAT = [
    "earn", "earn", "earn", "carbon", "pay", "pay", "give", "give", "sell", "hold", "hold", "post", "post", "void",
    "reverse", "reverse", "reverse", "restate", "adjust", "chain", "wait", "wait long",
]  # fmt: skip
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(WHAT),
        st.integers(0, 3),
        st.integers(1, 3),
        st.integers(1, 30),
        st.integers(0, 1000),
    ),
    min_size=1,
    max_size=40,
)


def plan(book: Book, step: Step, key: str) -> Transaction | None:
    """The transaction that a step asks for, if there is anything to ask for."""
    me, you = OWNERS[step.who], OWNERS[(step.who + step.other) % len(OWNERS)]
    carbon, amount = (account_of(owner, QUANTIFIED) for owner in (me, you)), step.amount
    mine, yours = points(me), points(you)
    simple = {
        "earn": (Kind.EARN, [move(MINTS[POINTS], mine, amount)]),
        "carbon": (Kind.EARN, [move(MINTS[QUANTIFIED], next(carbon), amount), move(MINTS[POINTS], mine, amount)]),
        "pay": (Kind.TRANSFER, [move(mine, (points(SHOP), DONATIONS)[step.pick % 2], amount)]),
        "give": (Kind.TRANSFER, [move(mine, yours, amount)]),
        "sell": (Kind.TRANSFER, [move(account_of(me, QUANTIFIED), account_of(you, QUANTIFIED), amount)]),
        "chain": (
            Kind.EARN,
            [move(MINTS[POINTS], mine, 5), move(mine, yours, amount), move(yours, mine, 4)],
        ),
    }
    if step.what in simple:
        kind, postings = simple[step.what]
        return Transaction(key=key, kind=kind, postings=tuple(postings), cause={"action": f"act_{key}"})
    if step.what == "hold":
        end = book.now + timedelta(days=step.pick % 100 + 1)
        to = (points(SHOP), yours)[step.pick % 2]
        return Transaction(key=key, kind=Kind.HOLD, postings=(move(mine, to, amount),), expires_at=end)
    return plan_ending(book, step, key) if step.what in {"post", "void"} else plan_correction(book, step, key)


def plan_ending(book: Book, step: Step, key: str) -> Transaction | None:
    holds = [(page.owner, hold) for page in book.pages.values() for hold in page.holds]
    if not holds:
        return None
    owner, hold = holds[step.pick % len(holds)]
    ref = HoldRef(owner, hold.id)
    if step.what == "void":
        return Transaction(key=key, kind=Kind.VOID, hold=ref)
    posting = move(account_of(owner, hold.asset), hold.to_account, min(step.amount, hold.amount))
    return Transaction(key=key, kind=Kind.POST, postings=(posting,), hold=ref, final=step.who % 2 == 0)


def plan_correction(book: Book, step: Step, key: str) -> Transaction | None:
    if step.what == "adjust" and step.pick % 3 == 0:
        way = (MINTS[POINTS], points(OWNERS[step.who]))[:: 1 if step.pick % 2 else -1]
        return Transaction(key=key, kind=Kind.ADJUST, postings=(move(*way, step.amount),))
    kinds = {"reverse": CORRECTABLE, "restate": {Kind.EARN}, "adjust": CORRECTABLE}[step.what]
    found = [one for one in book.posted.values() if one.kind in kinds]
    if not found:
        return None
    original = found[step.pick % len(found)]
    is_up = step.what != "reverse" and step.other == 1
    postings = tuple(
        dataclasses.replace(one, amount=step.amount)
        if is_up
        else move(one.to_account, one.from_account, min(step.amount, one.amount))
        for one in original.postings[:: 1 if is_up else -1]
    )
    return Transaction(key=key, kind=Kind[step.what.upper()], postings=postings, corrects=original.id)


def play(steps: Sequence[Step]) -> Book:
    """The book after all of the steps that it did not refuse."""
    book = Book()
    for number, step in enumerate(steps):
        if step.what.startswith("wait"):
            book.now += timedelta(days=step.amount * (5 if step.what == "wait long" else 1), hours=step.pick % 24)
            book.expire()
            continue
        transaction = plan(book, step, f"{step.what}-{number}")
        if transaction is not None:
            try:
                book.post(transaction)
            except (Refusal, MalformedTransactionError):
                continue
    return book


def check_queues(book: Book) -> None:
    """Every queue holds what the page says: its lots, held ones included, or its balance."""
    for owner, page in book.pages.items():
        held = [lot for hold in page.holds for lot in hold.lots]
        assert book.attribution(points(owner)).lots() == lots.collect((*page.lots, *held))
        for asset, balance in page.balances.items():
            found = book.attribution(account_of(owner, asset))
            assert lots.total(found.lots()) == found.balance == balance


def check_agreement(book: Book) -> None:
    """Σ origins = posting; Σ uses + unspent = credit; a payment names an origin as that origin names the payment."""
    back: Counter[tuple[Any, ...]] = Counter()
    forward: Counter[tuple[Any, ...]] = Counter()
    returning = set()
    for transaction in book.posted.values():
        for asset in (POINTS, QUANTIFIED):
            tracer = book.tracer(limit=10**9)
            for part in run(tracer.back(transaction, asset)).parts:
                assert sum(one.amount for one in part.origins) == part.posting.amount
                assert all(one.amount > 0 for one in part.origins)
                for one in part.origins if is_tracked(part.posting.from_account) else ():
                    path = (one.transaction, *one.through)
                    for place, step in enumerate(path):
                        back[step, path[place + 1 :], transaction.id, part.posting.to_account] += one.amount
            for found in run(tracer.forward(transaction, asset)).credits:
                assert sum(use.amount for use in found.uses) + found.unspent == found.posting.amount
                assert found.unspent >= 0
                for use in (*found.uses, *found.onward):
                    forward[transaction.id, use.through, use.transaction, use.to_account] += max(use.amount, 0)
                page = book.attribution(found.posting.to_account)
                ref = PostingRef(transaction.id, transaction.postings.index(found.posting))
                if any(units.brought_by != ref for units in page.brought_by(ref).units):
                    returning.add(transaction.id)
    # What a correction gave back has an older origin, which answers for it.
    assert {row: n for row, n in back.items() if row[0] not in returning} == {
        row: n for row, n in forward.items() if row[0] not in returning and n
    }


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_happens_nothing_is_lost_and_back_and_forward_agree(steps: list[Step]) -> None:
    book = play(steps)
    check_queues(book)
    check_agreement(book)
