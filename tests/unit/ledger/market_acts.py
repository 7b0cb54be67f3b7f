"""What pools and traders may do in a random history; much of it is refused, as in life."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import CNY, QUANTIFIED, TransactionKind, exchange_of
from tests.factories import earning, owner
from tests.trading import (
    CREDIT,
    FIRM,
    POOL,
    benefit,
    deduction,
    deposit,
    drawn,
    issuance,
    order,
    payer_of,
    payout_hold,
    pooling,
    retirement,
    trade,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from backend.ledger.model import Asset, Draw, OwnerId, Transaction
    from tests.unit.ledger.book import Book, Step

Kind = TransactionKind


def _trader(step: Step) -> OwnerId:
    """One of those who trade: citizens, the firm, the pool."""
    return (owner(step.people[0]), owner(step.people[1]), FIRM, POOL, owner(step.people[0]))[step.pick % 5]


def _pool(book: Book, step: Step, key: str, _at: datetime) -> list[Transaction]:
    """Some of what two of the citizen's earnings brought, of the later one first."""
    mine = [posted.transaction for posted in book.journal if posted.transaction.kind is Kind.EARN]
    of = [one for one in mine if one.postings[0].asset == QUANTIFIED and owner(step.people[0]) in one.owners][-2:]
    parts = (step.amount * MG_PER_GRAM, 500)[: 1 + step.pick % 2]
    return [pooling(key, owner(step.people[0]), parts, of[::-1][: len(parts)])]


def _order(_book: Book, step: Step, key: str, at: datetime) -> list[Transaction]:
    asset, unit = (CREDIT, MG_PER_GRAM) if step.amount % 2 else (CNY, 1)
    until = at.replace(year=at.year + 2)
    return [order(key, _trader(step), asset, step.amount * unit, until=until)]


def _orders(book: Book, asset: Asset) -> list[Transaction]:
    """The open orders of that asset, as their holds."""
    open_now = {hold.id for page in book.pages.values() for hold in page.holds if hold.to_account == exchange_of(asset)}
    return [
        posted.transaction
        for posted in book.journal
        if posted.transaction.id in open_now and posted.transaction.postings[0].asset == asset
    ]


def _trade(book: Book, step: Step, key: str, _at: datetime) -> list[Transaction]:
    """A fill between two orders, now and then one of the two without an order; sometimes it asks for too much."""
    sells, buys = _orders(book, CREDIT), _orders(book, CNY)
    if not sells or not buys:
        return []
    sell, buy = sells[step.pick % len(sells)], buys[(step.pick + step.amount) % len(buys)]
    seller, buyer = payer_of(sell), payer_of(buy)
    if seller == buyer:
        return []
    draws: list[Draw] = [drawn(sell, final=step.pick % 3 == 0), drawn(buy, final=step.pick % 4 == 0)]
    del draws[len(draws) if step.pick % 5 else step.amount % 2 :]
    if not draws:
        draws = [drawn(sell)]
    return [
        trade(
            key,
            seller,
            buyer,
            (1 + step.amount % 7) * MG_PER_GRAM,
            step.amount % 11,
            draws=draws,
            fees=(step.pick % 3, step.pick % 2),
        )
    ]


MARKET_ACTS: Mapping[str, Callable[[Book, Step, str, datetime], list[Transaction]]] = {
    "earn g": lambda _b, step, key, _at: [earning(key, step.people[0], 2_000 * step.amount, QUANTIFIED)],
    "pool": _pool,
    "deduct": lambda _b, step, key, _at: [deduction(key, 100 * step.amount)],
    "issue": lambda _b, step, key, _at: [issuance(key, _trader(step), step.amount)],
    "deposit": lambda _b, step, key, _at: [deposit(key, _trader(step), 10 * step.amount)],
    "payout": lambda _b, step, key, at: [
        payout_hold(key, _trader(step), step.amount, until=at.replace(year=at.year + 1))
    ],
    "order": _order,
    "trade": _trade,
    "benefit": lambda _b, step, key, _at: [benefit(key, owner(step.people[0]), step.amount, step.pick // 2)],
    "retire": lambda _b, step, key, _at: [retirement(key, _trader(step), 1 + step.amount % 4)],
}
