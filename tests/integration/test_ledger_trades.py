"""Trades in a real book: many at once on the same holds, refusals that change nothing, forgeries that are named."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.audit import follow_books, list_alerts
from backend.kernel.errors import DomainError
from backend.kernel.ids import TransactionId, new_id
from backend.ledger.documents import transaction_from_document
from backend.ledger.errors import (
    HoldExceededError,
    HoldExpiredError,
    HoldNotActiveError,
    InsufficientFundsError,
    MalformedTransactionError,
)
from backend.ledger.model import CNY, MINTS, POINTS, QUANTIFIED, Transaction, TransactionKind, account_of
from backend.ledger.provenance import Provenance
from backend.mongo.transactions import Transactions
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import adjustment, capture, holding, owner, posting, release, replay, reversal, shop
from tests.integration.conftest import ALL_SHARDS
from tests.trading import (
    CREDIT,
    FIRM,
    POOL,
    benefit,
    deduction,
    deposit,
    drawn,
    issuance,
    market_life,
    order,
    payout_hold,
    pooling,
    retirement,
    trade,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backend.kernel.clock import ManualClock
    from backend.ledger.model import Draw
    from backend.mongo.client import Document
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

ALICE, BOB = owner("alice"), owner("bob")
DAY = timedelta(days=1)


class Floor:
    """Alice has ten credits, eight of them in an order; the firm has 600 fen, 500 of them in an order."""

    def __init__(self, services: Services) -> None:
        self.services = services
        until = services.clock.now() + DAY
        self.sell = order("sell", ALICE, CREDIT, 8_000, until=until)
        self.buy = order("buy", FIRM, CNY, 500, until=until)
        self.payout = payout_hold("payout", FIRM, 50, until=until)
        self.redemption = holding("redemption", account_of(FIRM, POINTS), shop(), 5, until=until)
        self.pooled = pooling(payer=ALICE, amounts=(10_500,))

    async def open(self) -> None:
        """Everything up to the orders."""
        given = adjustment(11_000, "grams", "alice", QUANTIFIED)
        issued = issuance(payee=ALICE, grams=10, serials="1-10")
        for transaction in (given, self.pooled, issued, deposit(fen=600), self.sell, self.buy):
            await self.services.ledger.post(transaction)

    def fill(self, key: str = "fill", grams: int = 1, fen: int = 9, *draws: Draw) -> Transaction:
        """A fill between the two orders."""
        chosen = draws or (drawn(self.sell), drawn(self.buy))
        return trade(key, ALICE, FIRM, 1_000 * grams, fen, draws=chosen)

    async def has(self) -> tuple[int, int, int, int]:
        """Alice's credits and fen, the firm's."""
        pages = await self.services.ledger.find_pages([ALICE, FIRM])
        return tuple(pages[one].balance(asset) for one in (ALICE, FIRM) for asset in (CREDIT, CNY))  # type: ignore[return-value]


@pytest.fixture
async def floor(services: Services) -> AsyncIterator[Floor]:
    opened = Floor(services)
    await opened.open()
    yield opened
    LEDGER_WATCH.strays.clear()


async def test_a_fill_stands_on_both_pages_and_the_book_is_clean(floor: Floor) -> None:
    ledger = floor.services.ledger
    fill = floor.fill("fill", 3, 90, drawn(floor.sell), drawn(floor.buy, final=True))
    assert await ledger.post(fill) == await ledger.post(fill) == fill.id
    assert await floor.has() == (7_000, 90, 3_000, 510)
    assert await ledger.find_transaction(fill.id) == fill
    for one, asset, held in ((ALICE, CREDIT, 5_000), (ALICE, CNY, 0), (FIRM, CREDIT, 0), (FIRM, CNY, 0)):
        [line, *_] = await ledger.list_statement(account_of(one, asset), limit=5)
        assert (line.transaction, line.line.held, line.cause) == (fill.id, held, fill.cause)
    assert (await ledger.get_page(FIRM)).holds == ()
    assert (await replay(floor.services)).findings == []


async def test_of_many_at_once_the_hold_pays_as_many_as_it_can(floor: Floor) -> None:
    fills = [floor.fill(f"fill-{number}", 1, 10) for number in range(12)]
    others = [order("more", ALICE, CREDIT, 2_000, until=floor.services.clock.now() + DAY), deposit("more-fen", ALICE)]
    answers = await asyncio.gather(*map(floor.services.ledger.post, [*fills, *others]), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    # The eighth gram ends the order.
    assert [type(refusal) for refusal in refused] == [HoldNotActiveError] * 4
    assert await floor.has() == (2_000, 1_080, 8_000, 520)
    assert (await replay(floor.services)).findings == []


async def test_fills_and_the_cancelling_of_an_order_come_in_some_order(floor: Floor) -> None:
    transactions = [floor.fill(f"fill-{number}", 1, 10) for number in range(5)]
    transactions.insert(3, release(floor.sell, "cancel"))
    services = floor.services

    async def alone(transaction: Transaction) -> str | None:
        async def body(tx: Tx) -> None:
            await services.ledger.post_within(tx, [transaction], at=services.clock.now())

        try:
            await Transactions(services.database).run(body)
        except DomainError as refusal:
            return refusal.code
        return None

    answers = await asyncio.gather(*map(alone, transactions))
    assert answers[3] is None
    assert set(answers) <= {None, "HOLD_NOT_ACTIVE"}
    done = answers.count(None) - 1
    assert await floor.has() == (10_000 - 1_000 * done, 10 * done, 1_000 * done, 600 - 10 * done)
    assert (await services.ledger.get_page(ALICE)).held(CREDIT) == 0
    assert (await replay(services)).findings == []


async def test_orders_are_placed_filled_and_cancelled_on_one_sheet(floor: Floor, clock: ManualClock) -> None:
    services, at = floor.services, clock.now()
    second = order("second", FIRM, CNY, 100, until=at + DAY)
    steps = [
        floor.fill("one", 8, 500, drawn(floor.sell), drawn(floor.buy)),
        second,
        trade("two", ALICE, FIRM, 2_000, 40, draws=[drawn(second)]),
        release(second, "cancel"),
        trade("three", ALICE, FIRM, 1_000, 1, draws=[drawn(second)]),
    ]
    unsealed = new_id("uns", at)

    async def body(tx: Tx) -> list[str]:
        sheet = await services.ledger.open_within(tx, steps)
        answers = []
        for step in steps:
            try:
                await sheet.post(step, at)
            except DomainError as refusal:
                answers.append(refusal.code)
            else:
                answers.append("posted")
        await sheet.write(unsealed, at)
        return answers

    assert await Transactions(services.database).run(body) == [*["posted"] * 4, "HOLD_NOT_ACTIVE"]
    assert await floor.has() == (0, 540, 10_000, 60)
    assert (await replay(services)).findings == []


REFUSED: dict[str, tuple[Callable[[Floor], Transaction], type[Exception]]] = {
    "more than is reserved of credits": (lambda floor: floor.fill("x", 9), HoldExceededError),
    "more than is reserved of fen": (lambda floor: floor.fill("x", 1, 501), HoldExceededError),
    "more than is free": (lambda floor: floor.fill("x", 1, 51, drawn(floor.sell)), InsufficientFundsError),
    "a payout": (lambda floor: floor.fill("x", 1, 9, drawn(floor.sell), drawn(floor.payout)), HoldNotActiveError),
    "a redemption": (
        lambda floor: floor.fill("x", 1, 9, drawn(floor.sell), drawn(floor.redemption)),
        HoldNotActiveError,
    ),
    "an order that is over": (
        lambda floor: floor.fill("x", 1, 9, drawn(order("gone", FIRM, CNY, 1, until=floor.services.clock.now() + DAY))),
        HoldNotActiveError,
    ),
    "an order twice": (
        lambda floor: floor.fill("x", 1, 9, drawn(floor.sell), drawn(floor.sell)),
        MalformedTransactionError,
    ),
    "somebody else's order": (
        lambda floor: trade("x", BOB, FIRM, 1_000, 1, draws=[drawn(floor.sell)]),
        MalformedTransactionError,
    ),
    "half a gram": (
        lambda floor: trade("x", ALICE, FIRM, 500, 1, draws=[drawn(floor.sell)]),
        MalformedTransactionError,
    ),
    "an order posted": (lambda floor: capture(floor.buy, "x"), MalformedTransactionError),
    "retiring what is ordered": (lambda _: retirement("x", ALICE, 3, "1-3"), InsufficientFundsError),
    "retiring what is another's": (lambda _: retirement("x", FIRM, 1), InsufficientFundsError),
    "issuing a gram twice": (lambda _: issuance("x", ALICE, 1, "11-11"), InsufficientFundsError),
    "withdrawing what was issued": (lambda floor: reversal(floor.pooled, "x", (501,)), InsufficientFundsError),
    "deducting what was issued": (lambda _: deduction("x", 501), InsufficientFundsError),
    "paying out what is ordered": (
        lambda floor: payout_hold("x", FIRM, 51, until=floor.services.clock.now() + DAY),
        InsufficientFundsError,
    ),
    "proceeds that there are not": (lambda _: benefit("x", ALICE, 1), InsufficientFundsError),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_changes_nothing(floor: Floor, name: str) -> None:
    ledger = floor.services.ledger
    points = posting(MINTS[POINTS], account_of(FIRM, POINTS), 9)
    gone = order("gone", FIRM, CNY, 1, until=floor.services.clock.now() + DAY)
    for one in (
        Transaction(key="points", kind=TransactionKind.ADJUST, postings=(points,)),
        floor.redemption,
        floor.payout,
        gone,
        release(gone, "gone-void"),
    ):
        await ledger.post(one)
    wrong, error = REFUSED[name]
    kept = await dump(floor.services)
    with pytest.raises(error):
        await ledger.post(wrong(floor))
    assert await dump(floor.services) == kept


async def test_what_is_over_is_not_traded_and_lapses(floor: Floor, clock: ManualClock) -> None:
    clock.advance(DAY)
    kept = await dump(floor.services)
    with pytest.raises(HoldExpiredError):
        await floor.services.ledger.post(floor.fill())
    assert await dump(floor.services) == kept
    assert await floor.services.expiry.expire_due(ALL_SHARDS) == 2
    pages = await floor.services.ledger.find_pages([ALICE, FIRM])
    assert [page.holds for page in pages.values()] == [(), ()]
    assert (await replay(floor.services)).findings == []


# Forgeries that were carried through: payload and every copy say the same.


async def forge(services: Services, key: str, change: Callable[[Document], None]) -> TransactionId:
    """Change the transaction wherever it stands, with the payload that fits."""
    raw = services.database.raw["ledger_transactions"]
    documents = await raw.find({"key": key}).to_list(None)
    assert documents
    for document in documents:
        change(document)
        document["payload"] = transaction_from_document(document).payload
        await raw.replace_one({"_id": document["_id"]}, document, bypass_document_validation=True)
    return transaction_from_document(documents[0]).id


def _set_draws(change: Callable[[list[Document]], Any]) -> Callable[[Document], None]:
    def apply(document: Document) -> None:
        change(document["draws"])

    return apply


def _final(number: int, *, final: bool) -> Callable[[Document], None]:
    return _set_draws(lambda draws: draws[number].update(final=final))


FORGED: dict[str, tuple[Callable[[Document], None], str]] = {
    "a draw removed": (_set_draws(list.pop), "balances is"),
    "both draws removed": (_set_draws(list.clear), "a TRADE and holds to draw on do not go together"),
    "a hold drawn twice": (_set_draws(lambda draws: draws.append(dict(draws[0]))), "it draws on a hold twice"),
    "a draw that ends the order": (_final(0, final=True), "holds is"),
    "a draw that ends it no more": (_final(1, final=False), "holds is"),
    "another hold": (_set_draws(lambda draws: draws[1].update(id="tx_" + "0" * 32)), "does not exist or has ended"),
    "a hold of another": (_set_draws(lambda draws: draws[1].update(owner=BOB)), "of somebody who does not trade"),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_draw_that_was_changed_everywhere_is_found(floor: Floor, name: str) -> None:
    services = floor.services
    await services.ledger.post(floor.fill("fill", 3, 90, drawn(floor.sell), drawn(floor.buy, final=True)))
    assert (await replay(services)).findings == []
    change, words = FORGED[name]
    forged = await forge(services, "fill", change)
    findings = (await replay(services)).findings
    named = [one for one in findings if forged in one or one.startswith((f"page {ALICE}", f"page {FIRM}"))]
    assert any(words in one for one in named), findings


async def test_a_draw_that_was_sealed_is_found_by_its_block_and_by_who_follows(floor: Floor) -> None:
    services = floor.services
    await services.ledger.post(floor.fill("fill", 3, 90, drawn(floor.sell), drawn(floor.buy)))
    await services.sealing.seal_now()
    forged = await forge(services, "fill", _final(0, final=True))
    assert f"transaction {forged}: is not what block 1 sealed" in (await replay(services)).findings
    await follow_books(services)
    assert any("is not what block 1 sealed" in alert for alert in await list_alerts(services))


async def test_a_book_with_everything_of_the_market_is_followed_without_alert(services: Services) -> None:
    for transaction in market_life(until=services.clock.now() + DAY):
        await services.ledger.post(transaction)
    last = order("last", FIRM, CNY, 30, until=services.clock.now() + DAY)
    await services.ledger.post(last)
    # Worth less than a fen, and the end of the buyer's order: a line without posting.
    await services.ledger.post(trade("tiny", POOL, FIRM, 1_000, 0, draws=[drawn(last, final=True)]))
    await services.sealing.seal_now()
    followed = await follow_books(services)
    assert (followed.findings, await list_alerts(services)) == (0, [])
    assert (await replay(services)).findings == []


async def test_provenance_reads_what_the_market_did(services: Services) -> None:
    life = {one.key: one for one in market_life(until=services.clock.now() + DAY)}
    for one in life.values():
        await services.ledger.post(one)
    provenance = Provenance(services.database)
    for one in life.values():
        for asset in (POINTS, QUANTIFIED, CNY, CREDIT):
            for reader in (None, *one.owners):
                assert await provenance.trace(one.id, asset=asset, reader=reader) is not None
    pooled = await provenance.trace_back(life["market-pool"].id, asset=QUANTIFIED)
    assert pooled is not None
    earned = life["market-earn"].id
    assert [[(one.transaction, one.amount) for one in part.origins] for part in pooled.parts] == [
        [(earned, 5_000)],
        [(earned, 400)],
    ]
    fate = await provenance.trace_forward(earned, asset=QUANTIFIED)
    assert fate is not None
    [credit] = fate.credits
    assert [(use.transaction, use.amount) for use in credit.uses] == [
        (life["market-pool"].id, 5_400),
        (life["market-withdraw"].id, -700),
    ]
    assert credit.unspent == 1_300
