"""Asks the matcher to cancel or amend an order: the request is queued with the order and carried out in its turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity import rules as identity_rules
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import InvalidInputError, Text
from backend.ledger.model import POOL
from backend.market.exchange import checking
from backend.market.exchange.errors import CommandPendingError, IrrevocableError, OrderClosedError, UnknownOrderError
from backend.market.exchange.model import IMMEDIATE, Command, CommandKind, PhaseKind
from backend.market.exchange.store import ExchangeReads, ExchangeWrites
from backend.market.exchange.turns import turn
from backend.market.traders import owner_of
from backend.mongo.idempotency import Use

if TYPE_CHECKING:
    from datetime import datetime

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.market.exchange.hours import Timetable
    from backend.market.exchange.model import Amending, Instrument, Order, OrderId
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.valkey.leases import Leases
    from backend.valkey.nudges import Nudges

NOTHING = Text("请给出新的价格或数量", "give another price or quantity")
DOES_NOT_WAIT = Text("IOC、FOK 委托不能修改", "an IOC or FOK order cannot be amended")


class OrderChanging:
    """Queues what owners ask of their orders; administrators may cancel anybody's and act for pools."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        clock: Clock,
        hours: Timetable,
        nudges: Nudges,
        leases: Leases,
    ) -> None:
        self._reads = ExchangeReads(database)
        self._leases = leases
        self._transactions = transactions
        self._clock = clock
        self._hours = hours
        self._nudges = nudges

    async def cancel(self, principal: Principal, order: OrderId, *, key: str) -> Order:
        """Ask for the rest of an order to be given up; a cancellation replaces an amendment that still waits.

        Raises:
            ForbiddenError: nobody who may own orders.
            InvalidInputError: the key.
            UnknownOrderError, OrderClosedError, CommandPendingError, IrrevocableError: in this order; nothing changed.
            IdempotencyConflictError: the key was used for another order.
        """
        return await self._ask(principal, order, None, Use(str(principal), "cancelOrder", key, payload_hash([order])))

    async def amend(self, principal: Principal, order: OrderId, amending: Amending, *, key: str) -> Order:
        """Ask for another limit, or for other open grams; whether its owner can pay for it is known once it is done.

        Raises:
            ForbiddenError: nobody who may own orders, or an administrator for an order that is not a pool's.
            InvalidInputError: the key, or nothing to amend.
            UnknownOrderError, OrderClosedError, CommandPendingError, IrrevocableError, MarketHaltedError,
            MarketClosedError, OffLotError, BelowMinimumError, OffTickError, OutsideBandError, BelowFloorError:
            in this order; nothing changed.
            IdempotencyConflictError: the key was used for another amendment.
        """
        if amending.price_fen is None and amending.quantity_g is None:
            raise InvalidInputError("priceFen", NOTHING)
        payload = payload_hash([order, amending.price_fen, amending.quantity_g])
        return await self._ask(principal, order, amending, Use(str(principal), "amendOrder", key, payload))

    async def _ask(self, principal: Principal, order: OrderId, amending: Amending | None, use: Use) -> Order:
        identity_rules.require_idempotency_key(use.key)
        if not principal.is_admin:
            owner_of(principal)
        now = self._clock.now()

        async def body(tx: Tx) -> tuple[Order, Instrument]:
            writes = ExchangeWrites(tx)
            found = (await writes.find_orders([order])).get(order)
            if found is None or not _may_touch(principal, found, amends=amending is not None):
                raise UnknownOrderError
            instrument = await writes.find_instrument(found.instrument)
            assert instrument is not None
            if await writes.claimed_at(use) is None:
                command = self._command(principal, found, instrument, amending, now)
                await writes.ask(found, command)
                await writes.claim(use, now)
                found = (await writes.find_orders([order]))[order]
            return found, instrument

        known = (await self._reads.find_orders([order])).get(order)
        if known is None:
            raise UnknownOrderError
        # Whoever asks writes the orders that the matcher does.
        async with turn(self._leases, known.instrument):
            asked, instrument = await self._transactions.run(body)
        self._nudges.nudge([instrument.shard])
        return asked

    def _command(
        self, principal: Principal, order: Order, instrument: Instrument, amending: Amending | None, now: datetime
    ) -> Command:
        is_foreign = principal.is_admin and not order.owner.startswith(POOL)
        if not order.is_open:
            raise OrderClosedError(order.status)
        waiting = order.command.kind if order.command else None
        if waiting is CommandKind.CANCEL or (waiting is CommandKind.AMEND and amending is not None):
            raise CommandPendingError
        phase = self._hours.phase_at(instrument, now).kind
        auction = instrument.auction
        if phase is PhaseKind.AUCTION and auction is not None and auction.irrevocable and not is_foreign:
            raise IrrevocableError
        if amending is None:
            return Command(CommandKind.CANCEL, now, is_foreign)
        if order.time_in_force in IMMEDIATE:
            raise InvalidInputError("order", DOES_NOT_WAIT)
        checking.require_trading(instrument, self._hours, now)
        price_fen, quantity_g = amending.price_fen, amending.quantity_g
        if quantity_g is not None:
            checking.require_quantity(quantity_g, order.owner, self._hours.settings)
        checking.require_price(price_fen if price_fen is not None else order.price_fen, instrument, self._hours, now)
        return Command(CommandKind.AMEND, now, by_staff=False, price_fen=price_fen, quantity_g=quantity_g)


def _may_touch(principal: Principal, order: Order, *, amends: bool) -> bool:
    if principal.is_admin:
        return not amends or order.owner.startswith(POOL)
    return order.owner == owner_of(principal)
