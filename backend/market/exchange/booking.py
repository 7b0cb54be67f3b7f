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

# Who took in an auction.
NOBODY = "NOBODY"


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
        cause=terms_of(order),
        expires_at=order.hold_until,
    )


def terms_of(order: Order) -> dict[str, str]:
    """What the hold tells of its order, so that it is sealed with it: nothing of it changes but with another hold."""
    return {
        "order": order.id,
        "instrument": order.instrument,
        "side": order.side.value,
        "kind": order.kind.value,
        "time_in_force": order.time_in_force.value,
        "price_fen": str(order.price_fen),
        "quantity_g": str(order.quantity_g),
        "maker_bps": str(order.fees.maker_bps),
        "taker_bps": str(order.fees.taker_bps),
    }


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
            "taker": taker_of(trade),
            **cause_of(trade.instrument, ranges),
        },
        draws=tuple(draws),
    )


def taker_of(trade: Trade) -> str:
    """Which side took, as the transaction tells it."""
    return trade.taker_side.value if trade.taker_side else NOBODY


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
