"""The server's schemas accept the documents of every kind, and give back what was written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from bson import Int64
from pymongo.errors import WriteError

from backend.kernel.units import INT64_MAX
from backend.ledger.documents import (
    PAGES,
    TRANSACTIONS,
    UNSEALED,
    page_from_document,
    page_to_document,
    transaction_from_document,
)
from backend.ledger.errors import MalformedTransactionError, OverCorrectedError
from backend.ledger.model import POINTS, QUANTIFIED, AccountId, Transaction, TransactionKind, debt_of
from backend.mongo.transactions import Transactions
from tests.conftest import dump
from tests.factories import (
    account,
    adjustment,
    capture,
    earning,
    holding,
    owner,
    payout,
    posting,
    release,
    replay,
    restatement,
    reversal,
    settlement,
    spending,
    transfer,
)
from tests.integration.conftest import ALL_SHARDS
from tests.trading import market_life

if TYPE_CHECKING:
    from typing import Any

    from backend.kernel.clock import ManualClock
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

Kind = TransactionKind
DAY = timedelta(days=1)


async def test_every_kind_is_stored_and_read_as_it_was_posted(services: Services, clock: ManualClock) -> None:
    earned, spent = earning(amount=50), spending(amount=30)
    one, two, three = (holding(f"hold-{number}", amount=4, until=clock.now() + DAY) for number in range(3))
    part, rest = capture(one, amount=3, final=False), capture(one, "post-2", 1)
    given = [
        earned, earning("mg", amount=9, asset=QUANTIFIED), transfer(), one, two, three, part, rest, release(two), spent,
        reversal(spent, amounts=(5,)), adjustment(3), restatement(earned, -40), earning("again", amount=5),
        settlement(), payout(), *market_life(until=clock.now() + DAY),
    ]  # fmt: skip
    for transaction in given:
        assert await services.ledger.post(transaction) == transaction.id
    clock.advance(DAY)
    # Alice's hold, and the orders of the firm and the pool that went on.
    assert await services.expiry.expire_due(ALL_SHARDS) == 3
    clock.advance(800 * DAY)
    assert await services.expiry.expire_due(ALL_SHARDS) >= 1
    documents = (await dump(services))["ledger_transactions"]
    assert {document["kind"] for document in documents} == set(Kind)
    stored = {document["_id"]: transaction_from_document(document) for document in documents}
    for transaction in given:
        found = stored[transaction.id]
        assert (found.payload, found.expires_at) == (transaction.payload, transaction.expires_at)
        assert await services.ledger.find_transaction(transaction.id) == found
    for document in (await dump(services))["ledger_pages"]:
        page = page_from_document(document)
        assert page == await services.ledger.get_page(document["_id"])
        assert page_to_document(page) == document
    assert (await services.ledger.get_page(owner())).debt(POINTS) > 0
    assert str(debt_of(owner(), POINTS)) in {posting["from"] for item in documents for posting in item["postings"]}
    assert (await replay(services)).findings == []


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "a lot of nothing": (PAGES.name, {"$set": {"lots.0.amount": Int64(0)}}),
    "a lot of 32 bits": (PAGES.name, {"$set": {"lots.0.amount": 10}}),
    "a lot without end": (PAGES.name, {"$unset": {"lots.0.expires_at": ""}}),
    "a negative balance": (PAGES.name, {"$set": {"balances.0.posted": Int64(-1)}}),
    "a negative debt": (PAGES.name, {"$set": {"balances.0.debt": Int64(-1)}}),
    "a hold without amount": (PAGES.name, {"$unset": {"holds.0.amount": ""}}),
    "an end that is text": (PAGES.name, {"$set": {"due_at": "soon"}}),
    "a field more": (PAGES.name, {"$set": {"colour": "green"}}),
    "an unknown kind": (TRANSACTIONS.name, {"$set": {"kind": "GIFT"}}),
    "a posting of nothing": (TRANSACTIONS.name, {"$set": {"postings.0.amount": Int64(0)}}),
    "a hold by id only": (TRANSACTIONS.name, {"$set": {"hold": {"id": "tx_1"}}}),
    "a taken lot of nothing": (
        TRANSACTIONS.name,
        {"$set": {"postings.0.lots": [{"expires_at": None, "amount": Int64(1)}]}},
    ),
    "named lots of nobody": (TRANSACTIONS.name, {"$set": {"lots": [{"amount": Int64(1)}]}}),
    "a draw that is final or not": (TRANSACTIONS.name, {"$set": {"draws": [{"owner": "x", "id": "tx_1"}]}}),
    "a draw of so much": (
        TRANSACTIONS.name,
        {"$set": {"draws": [{"owner": "x", "id": "tx_1", "final": True, "amount": Int64(1)}]}},
    ),
}


@pytest.fixture
async def held(services: Services, clock: ManualClock) -> None:
    """A page with lots and a hold."""
    await services.ledger.post(earning())
    await services.ledger.post(holding(until=clock.now() + DAY))


async def test_no_document_of_another_form_is_accepted(services: Services, held: None) -> None:
    for name, (collection, change) in BAD.items():

        async def body(tx: Tx, collection: str = collection, change: dict[str, Any] = change) -> None:
            await tx.update_one(collection, {"owner" if collection == TRANSACTIONS.name else "_id": owner()}, change)

        with pytest.raises(WriteError, match="Document failed validation") as caught:
            await Transactions(services.database).run(body)
        assert (name, caught.value.code) == (name, 121)
    assert (await replay(services)).findings == []


@pytest.mark.parametrize("how", ["batch", "group"])
async def test_a_correction_beside_its_transaction_is_posted(services: Services, how: str) -> None:
    gift = transfer(amount=30)
    back, too_much = reversal(gift, amounts=(20,)), reversal(gift, "more", (11,))
    both = [earning(), gift, back]
    if how == "batch":

        async def body(tx: Tx) -> None:
            await services.ledger.post_within(tx, both, at=services.clock.now())

        await Transactions(services.database).run(body)
    else:
        await asyncio.gather(*map(services.ledger.post, both))
    pages = await services.ledger.find_pages([owner(), owner("bob")])
    assert [page.balance(POINTS) for page in pages.values()] == [90, 10]
    # Both gave and received in the lots of the gift: a part of it is left to correct, and no more.
    assert len({lot.expires_at for page in pages.values() for lot in page.lots}) == 1
    with pytest.raises(OverCorrectedError) as caught:
        await services.ledger.post(too_much)
    assert (caught.value.needed, caught.value.remaining) == (11, 10)
    assert (await replay(services)).findings == []


async def test_an_amount_beyond_64_bits_is_the_callers_own_failure(services: Services) -> None:
    given = [earning(amount=INT64_MAX), earning("beyond", amount=1), earning("bobs", "bob", 5)]
    first, beyond, other = await asyncio.gather(*map(services.ledger.post, given), return_exceptions=True)
    assert (first, other) == (given[0].id, given[2].id)
    assert isinstance(beyond, OverflowError)
    unsealed = (await dump(services))[UNSEALED.name]
    # One group wrote both; it was not done again one by one.
    assert len(unsealed) == 1


@pytest.mark.parametrize("way", [Kind.LEND, Kind.REPAY])
async def test_only_the_book_lends_and_is_repaid(services: Services, way: TransactionKind) -> None:
    debt: AccountId = debt_of(owner(), POINTS)
    ends = (debt, account()) if way is Kind.LEND else (account(), debt)
    asked = Transaction(key="sly", kind=way, postings=(posting(*ends, 5),))
    # After an earning that leaves a debt of five behind, either would fit the page.
    earned = earning(amount=5)
    for transaction in (earned, spending(amount=5), reversal(earned)):
        await services.ledger.post(transaction)
    before = await dump(services)

    async def body(tx: Tx) -> None:
        await services.ledger.post_within(tx, [replace(earned, key="fine"), asked], at=services.clock.now())

    with pytest.raises(MalformedTransactionError, match="is the book's own"):
        await services.ledger.post(asked)
    with pytest.raises(MalformedTransactionError, match="is the book's own"):
        await Transactions(services.database).run(body)
    assert await dump(services) == before
