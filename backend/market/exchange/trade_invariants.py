"""What of a trade is not as the book and its two orders tell. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from backend.ledger.model import TransactionKind
from backend.market.exchange.book import Side
from backend.market.exchange.booking import postings_of, taker_of
from backend.market.serials.model import spelled, total_grams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backend.market.exchange.model import Order, Trade


class Evidence(NamedTuple):
    """What was found of some trades: their transactions, the holds that those drew on, their orders; by id."""

    homes: Mapping[str, Mapping[str, Any]]
    holds: Mapping[str, Mapping[str, Any]]
    orders: Mapping[str, Order]


def trade_problems(trade: Trade, evidence: Evidence) -> Iterator[str]:
    """In what a trade is not the transaction that it names, or not what its orders allow."""
    home = evidence.homes.get(trade.transaction or "")
    if home is None:
        yield "its transaction is not in the book"
    else:
        yield from _transaction_problems(trade, home)
        yield from _limit_problems(trade, home, evidence)
    buy, sell = (evidence.orders.get(name) for name in (trade.buy_order, trade.sell_order))
    for side, owner, name, order in (
        (Side.BUY, trade.buyer, trade.buy_order, buy),
        (Side.SELL, trade.seller, trade.sell_order, sell),
    ):
        if order is None:
            yield f"names {name}, which is no order"
        elif (order.side, order.owner, order.instrument) != (side, owner, trade.instrument):
            yield f"names {name}, which is to {order.side} {order.instrument} for {order.owner}"
    if trade.buyer == trade.seller:
        yield f"is one of {trade.buyer} with themselves"
    # An amendment may have given an order a later turn since.
    if buy and sell and trade.taker_side is not None and buy.holds == sell.holds == 1:
        later = Side.BUY if buy.sequence > sell.sequence else Side.SELL
        if trade.taker_side is not later:
            yield f"says {trade.taker_side} took, and {later} came later"


def _transaction_problems(trade: Trade, home: Mapping[str, Any]) -> Iterator[str]:
    expected = {
        "kind": TransactionKind.TRADE.value,
        "at": trade.at,
        "postings": [(p.from_account, p.to_account, p.asset, p.amount) for p in postings_of(trade)],
        "cause": {
            "trade": trade.id,
            "instrument": trade.instrument,
            "price_fen": str(trade.price_fen),
            "taker": taker_of(trade),
            "credit": trade.instrument,
            "serials": spelled(trade.serials),
        },
    }
    moved = [(p["from"], p["to"], p["asset"], p["amount"]) for p in home["postings"]]
    told = {"kind": home["kind"], "at": home["at"], "postings": moved, "cause": home["cause"]}
    for name, value in expected.items():
        if told[name] != value:
            yield f"its {name} is {value}, its transaction says {told[name]}"
    if total_grams(trade.serials) != trade.quantity_g:
        yield f"moves {total_grams(trade.serials)} serials for {trade.quantity_g} g"


def _limit_problems(trade: Trade, home: Mapping[str, Any], evidence: Evidence) -> Iterator[str]:
    """The limits are those of the holds that were drawn on: as they were sealed, whatever the orders say by now."""
    causes = [evidence.holds[draw["id"]]["cause"] for draw in home.get("draws", ()) if draw["id"] in evidence.holds]
    limits = {(cause.get("order"), cause.get("side")): int(cause.get("price_fen", 0)) for cause in causes}
    ask_fen = limits.pop((trade.sell_order, Side.SELL.value), None)
    if ask_fen is None:
        yield f"draws on no hold of {trade.sell_order}"
    elif ask_fen > trade.price_fen:
        yield f"is below the {ask_fen} fen that its seller asked"
    bid_fen = limits.pop((trade.buy_order, Side.BUY.value), None)
    # A fill may cost its buyer nothing, the order's rounding having paid for it before.
    if bid_fen is None and trade.value_fen + trade.buyer_fee_fen:
        yield f"draws on no hold of {trade.buy_order}"
    elif bid_fen is not None and bid_fen < trade.price_fen:
        yield f"is above the {bid_fen} fen that its buyer bid"
    if limits:
        yield f"draws on holds of {sorted(str(name) for name, _ in limits)}"
