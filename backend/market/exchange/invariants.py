"""Checks of the exchange beside the book, at one instant.

Every open order holds on its owner's page exactly what it says, and nothing else there is held for the exchange; every
trade is the transaction that it names, and every TRADE of the book is a trade; orders are what their trades sum to;
what rests does not cross.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.ledger.audit.store import find_homes, find_pages, stream_of_credits
from backend.ledger.model import TransactionKind, exchange_of
from backend.market.exchange import rules
from backend.market.exchange.book import Side
from backend.market.exchange.booking import hold_id, postings_of
from backend.market.exchange.model import OrderStatus
from backend.market.exchange.store import stream_holders, stream_instruments, stream_orders, stream_trades
from backend.market.serials.model import spelled, total_grams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from backend.ledger.audit.findings import Audit
    from backend.ledger.model import Asset, OwnerId, Page
    from backend.market.exchange.model import Instrument, Order, Trade
    from backend.mongo.client import Snapshot

BATCH = 500


@dataclass
class _Filled:
    """What an order's trades sum to."""

    quantity_g: int = 0
    numerator: int = 0
    value_fen: int = 0
    fee_fen: int = 0


@dataclass
class _Seen:
    """What was met on the way through trades and orders."""

    filled: dict[str, _Filled] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)
    last: dict[str, Trade] = field(default_factory=dict)
    resting: dict[tuple[str, Side], list[Order]] = field(default_factory=dict)


async def audit_exchange(snapshot: Snapshot, audit: Audit) -> None:
    """Check all orders and trades of the snapshot; findings go to ``audit``."""
    seen = _Seen()
    await _check_trades(snapshot, audit, seen)
    await _check_orders(snapshot, audit, seen)
    for order, sums in seen.filled.items():
        audit.report(f"order {order}", f"does not exist, and trades filled {sums.quantity_g} g of it")
    async for instrument in stream_instruments(snapshot):
        for problem in _instrument_problems(instrument, seen):
            audit.report(f"instrument {instrument.id}", problem)


async def _check_trades(snapshot: Snapshot, audit: Audit, seen: _Seen) -> None:
    told: set[str] = set()
    batch: list[Trade] = []
    async for trade, is_sound in stream_trades(snapshot):
        seen.numbers[trade.instrument] += 1
        seen.last[trade.instrument] = trade
        if not is_sound or trade.number != seen.numbers[trade.instrument]:
            audit.report(f"trade {trade.id}", f"is no sound number {seen.numbers[trade.instrument]}")
        if trade.transaction is not None:
            told.add(trade.transaction)
        _count(trade, seen)
        batch.append(trade)
        if len(batch) == BATCH:
            await _compare(snapshot, audit, batch)
            batch = []
    await _compare(snapshot, audit, batch)
    async for home in stream_of_credits(snapshot):
        if home["kind"] == TransactionKind.TRADE and home["_id"] not in told:
            audit.report(f"transaction {home['_id']}", "is a TRADE that no trade tells")


def _count(trade: Trade, seen: _Seen) -> None:
    for order, fee_fen in ((trade.buy_order, trade.buyer_fee_fen), (trade.sell_order, trade.seller_fee_fen)):
        sums = seen.filled.setdefault(order, _Filled())
        sums.quantity_g += trade.quantity_g
        sums.numerator += trade.price_fen * trade.quantity_g
        sums.value_fen += trade.value_fen
        sums.fee_fen += fee_fen


async def _compare(snapshot: Snapshot, audit: Audit, trades: list[Trade]) -> None:
    homes = await find_homes(snapshot, [trade.transaction for trade in trades if trade.transaction])
    for trade in trades:
        for problem in _trade_problems(trade, homes.get(trade.transaction or "")):
            audit.report(f"trade {trade.id}", problem)


def _trade_problems(trade: Trade, home: Mapping[str, object] | None) -> Iterator[str]:
    if home is None:
        yield "its transaction is not in the book"
        return
    due = [(p.from_account, p.to_account, p.asset, p.amount) for p in postings_of(trade)]
    postings: list[Mapping[str, object]] = home["postings"]  # type: ignore[assignment]
    moved = [(p["from"], p["to"], p["asset"], p["amount"]) for p in postings]
    told = {"kind": home["kind"], "at": home["at"], "postings": moved, "cause": home["cause"]}
    expected = {
        "kind": TransactionKind.TRADE.value,
        "at": trade.at,
        "postings": due,
        "cause": {
            "trade": trade.id,
            "instrument": trade.instrument,
            "price_fen": str(trade.price_fen),
            "credit": trade.instrument,
            "serials": spelled(trade.serials),
        },
    }
    for name, value in expected.items():
        if told[name] != value:
            yield f"its {name} is {value}, its transaction says {told[name]}"
    if total_grams(trade.serials) != trade.quantity_g:
        yield f"moves {total_grams(trade.serials)} serials for {trade.quantity_g} g"


async def _check_orders(snapshot: Snapshot, audit: Audit, seen: _Seen) -> None:
    due: dict[OwnerId, dict[str, Order]] = {}
    async for order, is_sound in stream_orders(snapshot):
        place = f"order {order.id}"
        if not is_sound:
            audit.report(place, "has a flag that does not follow from its status")
        for problem in _order_problems(order, seen.filled.pop(order.id, _Filled())):
            audit.report(place, problem)
        if order.is_open and order.held:
            due.setdefault(order.owner, {})[order.hold] = order
        if order.status is OrderStatus.OPEN:
            seen.resting.setdefault((order.instrument, order.side), []).append(order)
    owners = sorted(due.keys() | {owner async for owner in stream_holders(snapshot)})
    for start in range(0, len(owners), BATCH):
        pages = await find_pages(snapshot, owners[start : start + BATCH])
        for owner in owners[start : start + BATCH]:
            for place, problem in _hold_problems(due.get(owner, {}), pages.get(owner)):
                audit.report(place, problem)


def _hold_problems(due: dict[str, Order], page: Page | None) -> Iterator[tuple[str, str]]:
    """Where what is held for the exchange is not what open orders need."""
    held = {hold.id: hold for hold in page.holds if hold.to_account == exchange_of(hold.asset)} if page else {}
    for name, order in due.items():
        hold = held.pop(order.hold, None)
        if hold is None:
            # From its end on the book frees a hold by itself, perhaps before the order is ended.
            if page is not None and page.at is not None and page.at < order.hold_until:
                yield f"order {order.id}", f"is open and holds nothing under {name}"
        elif (hold.amount, hold.asset, hold.expires_at) != _needed(order):
            yield f"order {order.id}", f"holds {hold.amount} of {hold.asset} until {hold.expires_at}"
    for hold in held.values():
        if page is not None and page.at is not None and page.at < hold.expires_at:
            yield f"hold {hold.id}", "is for the exchange and of no open order"


def _needed(order: Order) -> tuple[int, Asset, datetime]:
    return order.held, rules.reserved_asset(order.side, order.instrument), order.hold_until


def _order_problems(order: Order, sums: _Filled) -> Iterator[str]:
    yield from _sum_problems(order, sums)
    enough = rules.needed(order)
    if order.is_open:
        if order.cancelled_g or not order.remaining_g:
            yield f"is {order.status} with {order.remaining_g} g open"
        if order.held < enough or (order.side is Side.SELL and order.held > enough):
            yield f"holds {order.held}, and may need {enough}"
    elif order.remaining_g or order.held or order.queued_at is not None:
        yield f"is {order.status} and holds {order.held} for {order.remaining_g} g"
    if (order.status is OrderStatus.FILLED) is not (order.filled_g == order.quantity_g):
        yield f"is {order.status} with {order.filled_g} of {order.quantity_g} g filled"
    if (order.status is OrderStatus.CANCELLED) is not (order.reason is not None):
        yield f"is {order.status} for {order.reason}"


def _sum_problems(order: Order, sums: _Filled) -> Iterator[str]:
    filled = _Filled(order.filled_g, order.numerator, order.value_fen, order.fee_fen)
    if filled != sums:
        yield f"says {filled}, its trades {sums}"
    if order.side is Side.BUY and order.value_fen != rules.value_of(order.numerator):
        yield f"paid {order.value_fen} fen for {order.numerator}"
    if not 0 <= order.fee_fen <= order.fee_numerator // rules.BPS:
        yield f"paid {order.fee_fen} fen of fees for {order.fee_numerator}"
    if order.hold != hold_id(order.id, order.holds):
        yield f"names {order.hold} as its hold"


def _instrument_problems(instrument: Instrument, seen: _Seen) -> Iterator[str]:
    last = seen.last.get(instrument.id)
    if instrument.trades != seen.numbers[instrument.id]:
        yield f"counts {instrument.trades} trades, there are {seen.numbers[instrument.id]}"
    if instrument.last_fen != (last.price_fen if last else None):
        yield f"says {instrument.last_fen} was the last price"
    bids, asks = (seen.resting.get((instrument.id, side), []) for side in Side)
    if max([order.sequence for order in (*bids, *asks)], default=0) > instrument.sequence:
        yield "gave out a sequence that it does not know"
    if instrument.collecting is None and bids and asks:
        bid, ask = max(order.price_fen for order in bids), min(order.price_fen for order in asks)
        if bid >= ask:
            yield f"has a bid of {bid} beside an ask of {ask}"
