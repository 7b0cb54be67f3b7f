"""What orders and their fills are in the book of the ledger. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.ids import TransactionId, derived_id
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import (
    CNY,
    FEES,
    Draw,
    HoldRef,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    exchange_of,
)
from backend.market.exchange.rules import reserved_asset
from backend.market.serials.store import cause_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backend.ledger.model import AccountId, Asset
    from backend.market.exchange.model import Order, OrderId, Trade
    from backend.market.serials.model import Ranges


def hold_key(order: OrderId, number: int) -> str:
    """The ledger key of an order's hold of that number, from 1."""
    return f"order:{order}:{number}"


def hold_id(order: OrderId, number: int) -> TransactionId:
    """The id of that hold: that of the transaction that makes it."""
    return TransactionId(derived_id("tx", hold_key(order, number)))


def reserving(order: Order) -> Transaction:
    """What reserves all that the order may need."""
    asset = reserved_asset(order.side, order.instrument)
    return Transaction(
        key=hold_key(order.id, order.holds),
        kind=TransactionKind.HOLD,
        postings=(_move(account_of(order.owner, asset), exchange_of(asset), asset, order.held),),
        cause={"order": order.id, "instrument": order.instrument},
        expires_at=order.hold_until,
    )


def releasing(order: Order) -> Transaction:
    """What sets free all that is left of the order's hold."""
    return Transaction(
        key=f"{hold_key(order.id, order.holds)}:void",
        kind=TransactionKind.VOID,
        hold=HoldRef(order.owner, order.hold),
        cause={"order": order.id, "instrument": order.instrument},
    )


def trading(trade: Trade, ranges: Ranges, draws: Sequence[Draw]) -> Transaction:
    """Credits one way, money the other, fees to the programme, out of the holds of both orders."""
    return Transaction(
        key=f"trade:{trade.instrument}:{trade.number}",
        kind=TransactionKind.TRADE,
        postings=tuple(postings_of(trade)),
        cause={
            "trade": trade.id,
            "instrument": trade.instrument,
            "price_fen": str(trade.price_fen),
            **cause_of(trade.instrument, ranges),
        },
        draws=tuple(draws),
    )


def postings_of(trade: Trade) -> Iterator[Posting]:
    """What moves in a trade; the seller's fee is of the money just received."""
    credit, buyer, seller = trade.instrument, trade.buyer, trade.seller
    yield _move(account_of(seller, credit), account_of(buyer, credit), credit, trade.quantity_g * MG_PER_GRAM)
    for payer, payee, fen in (
        (buyer, account_of(seller, CNY), trade.value_fen),
        (buyer, FEES, trade.buyer_fee_fen),
        (seller, FEES, trade.seller_fee_fen),
    ):
        if fen:
            yield _move(account_of(payer, CNY), payee, CNY, fen)


def _move(payer: AccountId, payee: AccountId, asset: Asset, amount: int) -> Posting:
    return Posting(from_account=payer, to_account=payee, asset=asset, amount=amount)
