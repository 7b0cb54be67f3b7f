"""What of an order contradicts itself or the hold that the book sealed for it. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import POOL, TransactionKind, account_of, exchange_of
from backend.market.exchange import rules
from backend.market.exchange.book import Side
from backend.market.exchange.booking import hold_id, terms_of
from backend.market.exchange.hours import HOLD_AFTER
from backend.market.exchange.model import IMMEDIATE, OrderKind, OrderStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backend.market.exchange.model import Order


def order_problems(order: Order) -> Iterator[str]:
    """In what the order contradicts itself."""
    yield from _sum_problems(order)
    yield from _standing_problems(order)
    yield from _queue_problems(order)
    if order.placed_by != order.owner and not (order.owner.startswith(POOL) and order.placed_by.startswith("staff:")):
        yield f"is {order.owner}'s and was placed by {order.placed_by}"
    if order.kind is OrderKind.MARKET and order.time_in_force not in IMMEDIATE:
        yield f"is a market order that waits ({order.time_in_force})"
    if not order.created_at < order.good_until == order.hold_until - HOLD_AFTER:
        yield f"was placed at {order.created_at}, ends at {order.good_until}, its hold at {order.hold_until}"


def _sum_problems(order: Order) -> Iterator[str]:
    if order.side is Side.BUY and order.value_fen != rules.value_of(order.numerator):
        yield f"paid {order.value_fen} fen for {order.numerator}"
    if order.fee_fen != rules.fee_due(order.fee_numerator):
        yield f"paid {order.fee_fen} fen of fees for {order.fee_numerator}"
    if order.hold != hold_id(order.id, order.holds):
        yield f"names {order.hold} as its hold"


def _standing_problems(order: Order) -> Iterator[str]:
    enough = rules.needed(order)
    if order.is_open:
        if order.cancelled_g or not order.remaining_g:
            yield f"is {order.status} with {order.remaining_g} g open"
        if order.held < enough or (order.side is Side.SELL and order.held > enough):
            yield f"holds {order.held}, and may need {enough}"
    elif order.remaining_g or order.held:
        yield f"is {order.status} and holds {order.held} for {order.remaining_g} g"
    if order.cancelled_g < 0:
        yield f"has {order.filled_g} of {order.quantity_g} g filled and {order.remaining_g} g open"
    if (order.status is OrderStatus.FILLED) is not (order.filled_g == order.quantity_g):
        yield f"is {order.status} with {order.filled_g} of {order.quantity_g} g filled"
    if (order.status is OrderStatus.CANCELLED) is not (order.reason is not None):
        yield f"is {order.status} for {order.reason}"


def _queue_problems(order: Order) -> Iterator[str]:
    """The matcher has something to do with new orders and with those that something is asked of, and no others."""
    is_new, queued_at = order.status is OrderStatus.PENDING, order.queued_at
    if (queued_at is not None) is not (is_new or order.command is not None):
        yield f"is {order.status}, queued since {queued_at}, and asked for {order.command}"
    if queued_at is not None and (not order.is_open or queued_at < order.created_at):
        yield f"is {order.status}, of {order.created_at}, and queued since {queued_at}"
    if order.status is OrderStatus.OPEN and not order.sequence:
        yield "is open without a sequence"
    asked = (order.command is not None) + (order.last_command is not None)
    if order.commands < asked:
        yield f"was asked {asked} things and counts {order.commands}"


def hold_problems(order: Order, home: Mapping[str, Any] | None) -> Iterator[str]:
    """In what the order is not what was sealed when it was reserved for; ``home`` is the transaction of its hold."""
    if home is None:
        # What was paid before can cover a fen's rest: an amendment then reserves nothing.
        if order.held or order.holds == 1:
            yield f"names {order.hold} as its hold, which is not in the book"
        return
    asset = rules.reserved_asset(order.side, order.instrument)
    [posting, *others] = home["postings"]
    expected = {
        "kind": TransactionKind.HOLD.value,
        "expires_at": order.hold_until,
        "cause": terms_of(order),
        "from": account_of(order.owner, asset),
        "to": exchange_of(asset),
    }
    told = {name: home.get(name) for name in ("kind", "expires_at", "cause")}
    told |= {name: posting[name] for name in ("from", "to")}
    for name, value in expected.items():
        if told[name] != value:
            yield f"its {name} is {value}, its hold says {told[name]}"
    amount = int(posting["amount"])
    if others or amount < order.held or (order.holds == 1 and amount != _first_need(order)):
        yield f"holds {order.held} of the {amount} that were reserved"
    if order.holds == 1 and home["at"] < order.created_at:
        yield f"is of {order.created_at}, its hold of {home['at']}"


def _first_need(order: Order) -> int:
    """What the order reserved when it was new."""
    if order.side is Side.SELL:
        return order.quantity_g * MG_PER_GRAM
    new = dataclasses.replace(order, remaining_g=order.quantity_g, numerator=0, fee_numerator=0, fee_fen=0)
    return rules.needed(new)
