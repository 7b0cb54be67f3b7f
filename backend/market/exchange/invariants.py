"""Checks of the exchange beside the book, at one instant.

Every order is what its hold in the book tells and what its trades sum to; open ones hold on their owners' pages exactly
what they say, and nothing else there is held for the exchange; every trade is the transaction that it names and within
the limits of both orders, and every TRADE of the book is a trade; what rests does not cross. Nothing here depends on
the present. Candles: ``candle_invariants``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.kernel.tally import Tally
from backend.ledger.audit.findings import Audit
from backend.ledger.audit.store import find_homes, find_pages, stream_of_credits
from backend.ledger.model import TransactionKind, exchange_of
from backend.market.exchange import rules
from backend.market.exchange.book import Side
from backend.market.exchange.booking import hold_id
from backend.market.exchange.model import EndReason, OrderStatus
from backend.market.exchange.order_invariants import hold_problems, order_problems
from backend.market.exchange.snapshots import (
    find_orders_at,
    stream_holders,
    stream_instruments,
    stream_orders,
    stream_reserved,
    stream_trades,
)
from backend.market.exchange.trade_invariants import Evidence, trade_problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from backend.ledger.audit.findings import Side as Entries
    from backend.ledger.model import Asset, Hold, OwnerId, Page
    from backend.market.exchange.model import Instrument, Order, Trade
    from backend.mongo.client import Snapshot

BATCH = 500
# How an order may end whose hold had expired before, so that there was nothing to set free.
LATE_ENDS = frozenset({EndReason.EXPIRED, EndReason.HOLD_LOST})


@dataclass
class _Market:
    """What was met of one instrument on the way through trades and orders."""

    last: Trade | None = None
    sequence: int = 0
    bid_fen: int | None = None
    ask_fen: int | None = None

    def see(self, order: Order) -> None:
        """Note an order's place in the book."""
        self.sequence = max(self.sequence, order.sequence)
        if order.status is not OrderStatus.OPEN:
            return
        if order.side is Side.BUY:
            self.bid_fen = max(order.price_fen, self.bid_fen or 0)
        else:
            self.ask_fen = min(order.price_fen, self.ask_fen or order.price_fen)


@dataclass
class _Pass:
    """One way through everything: ``entries`` are two sides of sums that must be equal."""

    snapshot: Snapshot
    audit: Audit
    entries: Entries
    markets: dict[Asset, _Market] = field(default_factory=dict)

    def market(self, place: str, instrument: Asset) -> _Market:
        """What was met of the instrument, which must be listed."""
        found = self.markets.get(instrument)
        if found is None:
            self.audit.report(place, f"is of {instrument}, which is no instrument")
        return found or _Market()

    def report(self, place: str, problems: Iterator[str]) -> None:
        """Note what is wrong there."""
        try:
            for problem in problems:
                self.audit.report(place, problem)
        except Exception as error:  # noqa: BLE001 - whatever a forged document breaks is a finding, never a traceback
            self.audit.report(place, f"cannot be checked: {error!r}")

    def add(self, order: str, sums: dict[str, int], sign: int) -> None:
        """Count what trades, or the order itself, say of an order."""
        for name, amount in sums.items():
            self.entries.add(f"order {order} {name}".encode(), sign * amount)


async def audit_exchange(snapshot: Snapshot, audit: Audit) -> None:
    """Check all orders and trades of the snapshot; findings go to ``audit``."""
    instruments = []
    async for instrument, is_sound in stream_instruments(snapshot, audit):
        instruments.append(instrument)
        if not is_sound:
            audit.report(f"instrument {instrument.id}", "is stored otherwise than it follows from itself")
    tally = Tally()
    way = _Pass(snapshot, audit, tally, {instrument.id: _Market() for instrument in instruments})
    await _go(way)
    suspects = tally.suspects()
    if suspects:
        await _go(_Pass(snapshot, Audit(), suspects, {instrument.id: _Market() for instrument in instruments}))
        for entry, lead in suspects.differences():
            kind, name, what = entry.decode(errors="replace").split(" ", 2)
            audit.report(f"{kind} {name}", f"says of its {what} what others do not: they are {lead:+} beside it")
    for instrument in instruments:
        for problem in _instrument_problems(instrument, way.markets[instrument.id]):
            audit.report(f"instrument {instrument.id}", problem)


async def _go(way: _Pass) -> None:
    """Through trades, orders and what the book has of them."""
    batch: list[Trade] = []
    async for trade, is_sound in stream_trades(way.snapshot, way.audit):
        place = f"trade {trade.id}"
        market = way.market(place, trade.instrument)
        number = market.last.number + 1 if market.last else 1
        if not is_sound or trade.number != number:
            way.audit.report(place, f"is no sound number {number}")
        market.last = trade
        batch.append(trade)
        if len(batch) == BATCH:
            await _check_trades(way, batch)
            batch = []
    await _check_trades(way, batch)
    async for home in stream_of_credits(way.snapshot):
        if home.get("kind") == TransactionKind.TRADE:
            way.entries.add(f"transaction {home['_id']} trade {home['cause'].get('trade')}".encode(), -1)
    await _check_orders(way)
    async for transaction, order in stream_reserved(way.snapshot):
        if transaction == hold_id(order, 1):  # type: ignore[arg-type]
            way.add(order, {"first hold": 1}, 1)


async def _check_trades(way: _Pass, trades: list[Trade]) -> None:
    homes = await find_homes(way.snapshot, [trade.transaction for trade in trades if trade.transaction])
    draws = {draw["id"] for home in homes.values() for draw in home.get("draws", ())}
    holds = await find_homes(way.snapshot, sorted(draws))
    orders = await find_orders_at(way.snapshot, (name for one in trades for name in (one.buy_order, one.sell_order)))
    evidence = Evidence(homes, holds, orders)
    for trade in trades:
        way.entries.add(f"transaction {trade.transaction} trade {trade.id}".encode(), 1)
        way.report(f"trade {trade.id}", trade_problems(trade, evidence))
        for side, name in ((Side.BUY, trade.buy_order), (Side.SELL, trade.sell_order)):
            way.add(name, _sums_of(trade, side, orders.get(name)), 1)


def _sums_of(trade: Trade, side: Side, order: Order | None) -> dict[str, int]:
    """What a trade adds to what an order says of itself."""
    bps = 0
    if order is not None:
        bps = order.fees.taker_bps if trade.taker_side is side else order.fees.maker_bps
    return {
        "grams filled": trade.quantity_g,
        "price times grams": trade.price_fen * trade.quantity_g,
        "fen of value": trade.value_fen,
        "fen of fee": trade.buyer_fee_fen if side is Side.BUY else trade.seller_fee_fen,
        "value times basis points": trade.value_fen * bps,
    }


async def _check_orders(way: _Pass) -> None:
    # As many as the matchers have in memory.
    due: dict[OwnerId, dict[str, Order]] = {}
    batch: list[Order] = []
    async for order, is_sound in stream_orders(way.snapshot, way.audit):
        place = f"order {order.id}"
        if not is_sound:
            way.audit.report(place, "has a flag that does not follow from its status")
        way.market(place, order.instrument).see(order)
        sums = {
            "grams filled": order.filled_g,
            "price times grams": order.numerator,
            "fen of value": order.value_fen,
            "fen of fee": order.fee_fen,
            "value times basis points": order.fee_numerator,
            "first hold": 1,
        }
        way.add(order.id, sums, -1)
        if order.is_open and order.held:
            due.setdefault(order.owner, {})[order.hold] = order
        batch.append(order)
        if len(batch) == BATCH:
            await _check_holds(way, batch)
            batch = []
    await _check_holds(way, batch)
    owners = sorted(due.keys() | {owner async for owner in stream_holders(way.snapshot)})
    for start in range(0, len(owners), BATCH):
        await _check_pages(way, owners[start : start + BATCH], due)


async def _check_holds(way: _Pass, orders: list[Order]) -> None:
    """Orders beside the holds that the book sealed for them."""
    homes = await find_homes(way.snapshot, [order.hold for order in orders])
    for order in orders:
        way.report(f"order {order.id}", order_problems(order))
        way.report(f"order {order.id}", hold_problems(order, homes.get(order.hold)))


async def _check_pages(way: _Pass, owners: list[OwnerId], due: dict[OwnerId, dict[str, Order]]) -> None:
    """What is held on these owners' pages beside what their open orders need."""
    pages = await find_pages(way.snapshot, owners)
    left: list[Hold] = []
    for owner in owners:
        page = pages.get(owner)
        held = {hold.id: hold for hold in page.holds if hold.to_account == exchange_of(hold.asset)} if page else {}
        for name, order in due.get(owner, {}).items():
            way.report(f"order {order.id}", _held_problems(name, order, held.pop(order.hold, None), page))
        left += [hold for hold in held.values() if page and page.at is not None and page.at < hold.expires_at]
    homes = await find_homes(way.snapshot, [hold.id for hold in left])
    named = {name: home["cause"].get("order", "") for name, home in homes.items()}
    orders = await find_orders_at(way.snapshot, named.values())
    for hold in left:
        ended = orders.get(named.get(hold.id, ""))
        # The book frees an expired hold by itself, when it next turns the page.
        if ended is None or ended.hold != hold.id or ended.reason not in LATE_ENDS:
            way.audit.report(f"hold {hold.id}", "is for the exchange and of no open order")


def _held_problems(name: str, order: Order, hold: Hold | None, page: Page | None) -> Iterator[str]:
    if hold is None:
        # From its end on the book frees a hold by itself, perhaps before the order is ended.
        if page is None or page.at is None or page.at < order.hold_until:
            yield f"is open and holds nothing under {name}"
    elif (hold.amount, hold.asset, hold.expires_at) != _needed(order):
        yield f"holds {hold.amount} of {hold.asset} until {hold.expires_at}"


def _needed(order: Order) -> tuple[int, Asset, datetime]:
    return order.held, rules.reserved_asset(order.side, order.instrument), order.hold_until


def _instrument_problems(instrument: Instrument, met: _Market) -> Iterator[str]:
    last = met.last
    if instrument.trades != (last.number if last else 0):
        yield f"counts {instrument.trades} trades, there are {last.number if last else 0}"
    due = (last.price_fen, last.at) if last else (None, None)
    if (instrument.last_fen, instrument.last_at) != due:
        yield f"says {instrument.last_fen} at {instrument.last_at} was the last trade, which was {due[0]} at {due[1]}"
    if instrument.sequence != met.sequence:
        yield f"gave out {instrument.sequence} sequences, its orders have {met.sequence}"
    is_crossed = met.bid_fen is not None and met.ask_fen is not None and met.bid_fen >= met.ask_fen
    if instrument.collecting is None and is_crossed:
        yield f"has a bid of {met.bid_fen} beside an ask of {met.ask_fen}"
