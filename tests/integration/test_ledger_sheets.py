"""A sheet on a real server: transactions decided one after the other, each added or refused by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import IdempotencyConflictError
from backend.kernel.ids import new_id
from backend.ledger.errors import InsufficientFundsError, MalformedTransactionError
from backend.ledger.model import CNY, POINTS, QUANTIFIED, Transaction, TransactionKind, debt_of
from backend.mongo.transactions import Transactions
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import (
    account,
    capture,
    earning,
    holding,
    owner,
    payout,
    posting,
    replay,
    reversal,
    settlement,
    shop,
    spending,
    transfer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.kernel.clock import ManualClock
    from backend.mongo.client import Document
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

NAMES = ("alice", "bob")


async def post_each(
    services: Services, given: Sequence[Transaction], *, opened: Sequence[Transaction] | None = None
) -> tuple[list[str], list[str]]:
    """Post them one after the other on one sheet: what each was answered, and the keys that were not passed over."""
    at = services.clock.now()
    unsealed = new_id("uns", at)

    async def body(tx: Tx) -> tuple[list[str], list[str]]:
        sheet = await services.ledger.open_within(tx, given if opened is None else opened)
        answers = []
        for transaction in given:
            try:
                await sheet.post(transaction, at)
            except (InsufficientFundsError, IdempotencyConflictError) as refusal:
                answers.append(refusal.code)
            except MalformedTransactionError as malformed:
                answers.append(str(malformed))
            else:
                answers.append("posted")
        assert all(moment == at for moment in sheet.posted.values())
        await sheet.write(unsealed, at)
        return answers, [transaction.key for transaction in given if transaction.id in sheet.posted]

    return await Transactions(services.database).run(body)


async def balances(services: Services) -> list[tuple[int, int]]:
    pages = await services.ledger.find_pages([owner(name) for name in NAMES])
    return [(page.balance(POINTS), page.balance(QUANTIFIED)) for page in pages.values()]


def written(dumped: dict[str, list[Any]]) -> dict[str, list[Document]]:
    """What the book holds, but for the random ids of what waits to be sealed."""
    book = {name: documents for name, documents in dumped.items() if name.startswith("ledger_")}
    return book | {"ledger_unsealed": [{**one, "_id": ""} for one in book["ledger_unsealed"]]}


@pytest.mark.parametrize("is_opened", [True, False], ids=["read at once", "read as they come"])
async def test_a_refusal_in_the_middle_changes_nothing_and_the_others_are_written(
    services: Services, *, is_opened: bool
) -> None:
    for transaction in (earning(), earning("mg", amount=9, asset=QUANTIFIED), earning("bobs", "bob", 5)):
        await services.ledger.post(transaction)
    given = [
        spending("bread", amount=40),
        spending("house", amount=61),  # 60 are left
        spending("air", amount=10, asset=QUANTIFIED),  # of 9
        Transaction(
            key="half",
            kind=TransactionKind.TRANSFER,
            # The first posting could be; together they cannot.
            postings=(posting(account(), account("bob"), 7), posting(account(), shop(), 54)),
        ),
        spending("grams", amount=9, asset=QUANTIFIED),
        transfer("gift", amount=60),
        spending("all", "bob", amount=65),
        spending("more", "bob", amount=1),
    ]
    answers, posted = await post_each(services, given, opened=None if is_opened else [])
    no = "INSUFFICIENT_FUNDS"
    assert answers == ["posted", no, no, no, "posted", "posted", "posted", no]
    assert posted == ["bread", "grams", "gift", "all"]
    assert await balances(services) == [(0, 0), (0, 0)]
    dumped = await dump(services)
    homes = [one["key"] for one in dumped["ledger_transactions"] if one["copy_of"] is None]
    assert sorted(homes) == sorted(["earn-1", "mg", "bobs", *posted])
    assert [len(one["transactions"]) for one in dumped["ledger_unsealed"]].count(4) == 1
    assert (await replay(services)).findings == []


async def test_a_sheet_writes_what_a_call_without_the_refused_writes(services: Services, clock: ManualClock) -> None:
    """Refused corrections and holds leave no trace in what comes after them either."""
    earned, spent = earning(amount=20), spending("spent", amount=12)
    hold = holding(amount=5, until=clock.now() + timedelta(hours=1))
    sound = [earned, spent, hold, reversal(spent, "back", (4,)), capture(hold, amount=2), settlement(), payout()]
    refused = [
        spending("too much", amount=21),
        transfer("too much too", amount=9),
        holding("too many", amount=11, until=clock.now() + timedelta(hours=1)),
    ]
    mixed = [sound[0], refused[0], *sound[1:3], refused[1], sound[3], *sound[4:], refused[2]]

    async def together(tx: Tx) -> None:
        await services.ledger.post_within(tx, sound, at=clock.now())

    await Transactions(services.database).run(together)
    alone = written(await dump(services))
    for name in alone:
        await services.database.raw[name].delete_many({})
    # That went past the ledger on purpose.
    LEDGER_WATCH.strays.clear()
    answers, posted = await post_each(services, mixed)
    assert [code for code in answers if code != "posted"] == ["INSUFFICIENT_FUNDS"] * 3
    assert posted == [one.key for one in sound]
    assert written(await dump(services)) == alone


async def test_a_key_again_on_the_same_sheet_or_a_later_one_is_passed_over(services: Services) -> None:
    first = [earning(), spending(amount=30), spending(amount=30), spending(amount=31), replace(spending(amount=30))]
    answers, posted = await post_each(services, first)
    assert answers == ["posted", "posted", "posted", "IDEMPOTENCY_CONFLICT", "posted"]
    # Asked by key, for the replayed are among those posted.
    assert set(posted) == {"earn-1", "spend-1"}
    assert await balances(services) == [(70, 0), (0, 0)]
    before = await dump(services)
    assert await post_each(services, [earning(), spending(amount=30), spending(amount=31)]) == (
        ["posted", "posted", "IDEMPOTENCY_CONFLICT"],
        [],
    )
    # What was spent already cannot be spent again: that is no refusal.
    await post_each(services, [spending("rest", amount=70)])
    assert await post_each(services, [spending("rest", amount=70)]) == (["posted"], [])
    after = await dump(services)
    assert len(after["ledger_transactions"]) == len(before["ledger_transactions"]) + 1
    assert await balances(services) == [(0, 0), (0, 0)]


async def test_two_who_were_opened_under_one_key_do_not_hide_each_others_pages(services: Services) -> None:
    await post_each(services, [earning("a", "alice", 5), earning("b", "bob", 5)])
    one, other = spending("key", "alice", amount=3), spending("key", "bob", amount=3)
    assert await post_each(services, [one, other]) == (["posted", "IDEMPOTENCY_CONFLICT"], ["key", "key"])
    assert await balances(services) == [(2, 0), (5, 0)]


async def test_nothing_malformed_is_opened_or_posted(services: Services) -> None:
    await services.ledger.post(earning())
    before = await dump(services)
    prize = replace(spending("prize"), postings=(posting(shop(), account(), 10),))
    owed = replace(
        spending("owed"), kind=TransactionKind.REPAY, postings=(posting(account(), debt_of(owner(), POINTS), 1),)
    )
    for bad, said in (
        (prize, "prize: a TRANSFER cannot move from merchant:shop:points to citizen:alice:points"),
        (owed, "owed: REPAY is the book's own"),
        (spending("nothing", amount=0), "nothing: amount 0 is not positive"),
    ):
        with pytest.raises(MalformedTransactionError) as caught:
            await post_each(services, [bad])
        assert str(caught.value) == said
        assert await post_each(services, [bad], opened=[]) == ([said], [])
        # Of the key of a sound one that was opened.
        assert await post_each(services, [bad], opened=[spending(bad.key)]) == ([said], [])
    assert await dump(services) == before


async def test_an_empty_sheet_writes_nothing(services: Services) -> None:
    before = await dump(services)
    assert await post_each(services, []) == ([], [])
    assert await post_each(services, [], opened=[earning()]) == ([], [])
    assert await dump(services) == before


async def test_a_time_on_a_page_is_never_gone_back_on(services: Services, clock: ManualClock) -> None:
    """``posted`` tells the page's time where this server's clock lags behind it."""
    await services.ledger.post(earning())
    late = clock.now()
    clock.advance(timedelta(seconds=-5))

    async def body(tx: Tx) -> tuple[Any, Any]:
        sheet = await services.ledger.open_within(tx, [spending(), settlement()])
        await sheet.post(spending(), clock.now())
        await sheet.post(settlement(), clock.now())
        await sheet.write(new_id("uns", clock.now()), clock.now())
        return sheet.posted[spending().id], sheet.posted[settlement().id]

    assert await Transactions(services.database).run(body) == (late, clock.now())


async def test_what_is_settled_and_paid_out_balances_in_points_and_in_fen(services: Services) -> None:
    for transaction in (
        earning(amount=100),
        spending("one", payee="shop", amount=40),
        spending("two", payee="other", amount=25),
        settlement("s-1", "shop", 40, 360, 11),
        payout("p-1", "shop", 349),
        settlement("s-2", "other", 25, 250, 0),
        # A later period with more refunds than captures.
        settlement("s-3", "shop", -3, -27, -1),
    ):
        await services.ledger.post(transaction)
    audit = await replay(services)
    assert audit.findings == []
    assert {name: amount for name, amount in audit.balances.items() if amount} == {
        "programme:issuance": -100,
        "citizen:*:points": 35,
        "merchant:*:points": 3,
        "programme:redeemed": 62,
        "programme:rewards": -583,
        "programme:commission": 10,
        "programme:bank": 349,
        "merchant:*:cny": 224,
    }
    fen = ("programme:rewards", "programme:commission", "programme:bank", f"merchant:*:{CNY}")
    assert sum(audit.balances[name] for name in fen) == 0
