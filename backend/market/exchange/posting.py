"""Posts what a round of the matcher decided on the sheet of a MongoDB transaction, and finds out what was refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.ledger.errors import (
    HoldExceededError,
    HoldExpiredError,
    HoldNotActiveError,
    InsufficientFundsError,
    TooManyHoldsError,
)
from backend.ledger.model import Draw, HoldRef, TransactionKind
from backend.market.exchange.booking import trading
from backend.market.exchange.filling import Drawn
from backend.market.exchange.floor import Most
from backend.market.serials.store import TooManyRangesError

if TYPE_CHECKING:
    from backend.ledger.model import Hold, OwnerId, Transaction
    from backend.ledger.sheet import Sheet
    from backend.market.exchange.model import OrderId, Trade
    from backend.market.exchange.planning import Round
    from backend.market.serials.model import Ranges
    from backend.market.serials.store import SerialSheet

GONE = (HoldNotActiveError, HoldExpiredError, HoldExceededError)
SHORT = (InsufficientFundsError, TooManyHoldsError)


class SetbackError(Exception):
    """The round cannot be written so: it must be decided anew, knowing what its setbacks say now."""


@dataclass(frozen=True, slots=True)
class Move:
    """A transaction of the round; of a trade with what was decided and the serials that it moves."""

    transaction: Transaction
    drawn: Drawn | None = None
    ranges: Ranges = ()


async def moves_of(serials: SerialSheet, planned: Round, lot_g: int) -> list[Move]:
    """The round's transactions in their order; trades name the serials that they move.

    Raises:
        SetbackError: there are more ranges than there is room for; the round must end before.
        TooFewSerialsError: see ``SerialSheet.move``.
    """
    credit = planned.instrument.id
    await serials.read_ahead(credit, list({drawn.trade.seller: None for drawn in planned.trades}))
    moves: list[Move] = []
    for place, move in enumerate(planned.moves):
        if isinstance(move, Drawn):
            trade = move.trade
            try:
                ranges = await serials.move(credit, trade.quantity_g, trade.seller, trade.buyer)
            except TooManyRangesError as error:
                # Whole lots where these are not more ranges by themselves.
                whole_g = error.grams - error.grams % lot_g or error.grams
                planned.setbacks.most = Most(place) if place else Most(1, whole_g)
                raise SetbackError from error
            moves.append(Move(trading(trade, ranges, _draws_of(move)), move, ranges))
        else:
            moves.append(Move(move))
    return moves


def _draws_of(drawn: Drawn) -> list[Draw]:
    draws = [Draw(HoldRef(drawn.trade.seller, drawn.seller.hold), drawn.last_of_seller)]
    if drawn.buyer_pays:
        draws.append(Draw(HoldRef(drawn.trade.buyer, drawn.buyer.hold), drawn.last_of_buyer))
    return draws


class Posting:
    """Posts a round's moves on a sheet, one after the other; what is refused is noted, so that all is found at once."""

    def __init__(self, sheet: Sheet, planned: Round) -> None:
        self._sheet = sheet
        self._planned = planned
        self.trades: list[Trade] = []
        self.failed = False

    async def post(self, move: Move) -> None:
        """Post one move; a hold that is gone cannot be set free any more, and need not be."""
        transaction, drawn, setbacks = move.transaction, move.drawn, self._planned.setbacks
        try:
            await self._sheet.post(transaction, self._planned.now)
        except (*GONE, *SHORT) as error:
            if transaction.kind is TransactionKind.HOLD:
                setbacks.unfunded.add(self._planned.amended[transaction.id])
                # Their purse was not what was read: no more guesses about what else they can pay.
                setbacks.short.update(transaction.owners)
            elif drawn is not None:
                setbacks.lost |= self._find_lost(drawn)
            elif isinstance(error, GONE):
                return
            self.failed = True
        else:
            if drawn is not None:
                at = self._sheet.posted[transaction.id]
                self.trades.append(
                    dataclasses.replace(drawn.trade, at=at, transaction=transaction.id, serials=move.ranges)
                )

    def _find_lost(self, drawn: Drawn) -> set[OrderId]:
        """Which of a trade's two orders have no hold any more; where that cannot be told and nothing else failed, both.

        An order that could not be amended has no hold either: that is not its fault.
        """
        both = {order.id: order for order in (drawn.buyer, drawn.seller)}
        lost = {
            name
            for name, order in both.items()
            if name not in self._planned.amended.values()
            and not any(
                hold.id == order.hold and hold.expires_at > self._planned.now for hold in self._holds(order.owner)
            )
        }
        return lost if lost or self.failed else set(both)

    def _holds(self, owner: OwnerId) -> tuple[Hold, ...]:
        page = self._sheet.turned.get(owner) or self._sheet.before.get(owner)
        return page.holds if page else ()
