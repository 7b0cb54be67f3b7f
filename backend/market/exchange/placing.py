"""Places orders: what an order may need is reserved in the transaction that makes it; then the matcher is woken.

Orders in one instrument that arrive while others are being written are written together by the next MongoDB
transaction; each is placed or refused by itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.identity import rules as identity_rules
from backend.kernel.clock import to_milliseconds
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import DomainError, IdempotencyConflictError, InvalidInputError, Refusal, Text
from backend.kernel.grouping import Groups
from backend.kernel.ids import derived_id, new_id
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.errors import InsufficientFundsError, TooManyHoldsError
from backend.ledger.model import exchange_of
from backend.market.exchange import checking, rules
from backend.market.exchange.book import Side
from backend.market.exchange.booking import hold_id, reserving
from backend.market.exchange.errors import (
    InsufficientMoneyError,
    SelfTradeError,
    TooFewCreditsError,
    TooManyOrdersError,
    TooManyPlacingsError,
    UnknownInstrumentError,
)
from backend.market.exchange.hours import HOLD_AFTER
from backend.market.exchange.model import COLLECTING, Fees, Order, OrderId
from backend.market.exchange.store import ExchangeReads, ExchangeWrites
from backend.market.exchange.turns import turn
from backend.market.traders import owner_of
from backend.mongo.idempotency import Use

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.ledger.model import Asset, OwnerId, Transaction
    from backend.ledger.service import Ledger
    from backend.ledger.sheet import Sheet
    from backend.market.exchange.hours import Timetable
    from backend.market.exchange.model import Instrument, Placing
    from backend.mongo.client import Database
    from backend.mongo.idempotency import IdempotencyKeys
    from backend.mongo.transactions import Transactions, Tx
    from backend.valkey.leases import Leases
    from backend.valkey.nudges import Nudges

GROUP_LIMIT = 128
MAX_PLACINGS = 100


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody's request for an order; the order's id follows from its owner and the idempotency key."""

    id: OrderId
    owner: OwnerId
    placed_by: str
    placing: Placing
    key: str
    payload: str


class OrderPlacing:
    """Makes orders, a group of requests at a time."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        keys: IdempotencyKeys,
        clock: Clock,
        hours: Timetable,
        nudges: Nudges,
        leases: Leases,
        find_barred: Callable[[Iterable[OwnerId]], Awaitable[Mapping[OwnerId, Refusal]]],
    ) -> None:
        self._reads = ExchangeReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._keys = keys
        self._clock = clock
        self._hours = hours
        self._nudges = nudges
        self._leases = leases
        self._find_barred = find_barred
        self._groups: dict[Asset, Groups[Wish, Order]] = {}

    async def place(self, principal: Principal, placing: Placing, *, key: str) -> Order:
        """Place one order; the same key again gives the same order, as it stands then.

        Raises:
            ForbiddenError: nobody who owns credits, or a pool and no administrator.
            InvalidInputError: the key, or no order at all.
            UnknownInstrumentError, EnterpriseStageError, PoolBuysError, MarketHaltedError, MarketClosedError,
            LimitOnlyError, OffLotError, BelowMinimumError, OffTickError, OutsideBandError, BelowFloorError,
            SelfTradeError, TooManyOrdersError, InsufficientMoneyError, TooFewCreditsError: in this order; nothing
                changed.
            IdempotencyConflictError: the key was used for another order.
            BusyError, UnavailableError: nothing is known of a refusal; send the same again.
        """
        identity_rules.require_idempotency_key(key)
        return await self._submit(_wish(principal, placing, key))

    async def place_many(
        self, principal: Principal, placings: Sequence[Placing], *, key: str
    ) -> list[Order | DomainError]:
        """Place up to 100 orders under one key; each is placed or refused by itself, as by ``place``.

        Raises:
            ForbiddenError: nobody who owns credits.
            InvalidInputError: the key, or nothing to place.
            TooManyPlacingsError: more than 100.
            IdempotencyConflictError: the key was used for others.
        """
        identity_rules.require_idempotency_key(key)
        if not placings:
            raise InvalidInputError("orders", Text("至少一笔", "at least one"))
        if len(placings) > MAX_PLACINGS:
            raise TooManyPlacingsError(MAX_PLACINGS)
        wishes = [_wish(principal, placing, key, str(number)) for number, placing in enumerate(placings)]
        payload = payload_hash([wish.payload for wish in wishes])
        [is_same] = await self._keys.claim_many(
            [Use(str(principal), "placeOrders", key, payload)], now=self._clock.now()
        )
        if not is_same:
            raise IdempotencyConflictError(key)
        return await asyncio.gather(*map(self._answer, wishes))

    async def _answer(self, wish: Wish) -> Order | DomainError:
        try:
            return await self._submit(wish)
        except DomainError as error:
            return error

    async def _submit(self, wish: Wish) -> Order:
        groups = self._groups.get(wish.placing.instrument)
        if groups is None:
            # Only what is traded gets groups of its own: names are anybody's to invent.
            if await self._reads.find_instrument(wish.placing.instrument) is None:
                raise UnknownInstrumentError(wish.placing.instrument)
            groups = self._groups.setdefault(
                wish.placing.instrument, Groups(self._place_group, limit=GROUP_LIMIT, name="orders")
            )
        return await groups.submit(wish)

    async def _place_group(self, wishes: Sequence[Wish]) -> Sequence[Order | Exception]:
        """Place what can be placed of wishes for one instrument."""
        now = self._clock.now()
        name = wishes[0].placing.instrument
        instrument = await self._reads.find_instrument(name)
        if instrument is None:
            return [UnknownInstrumentError(name)] * len(wishes)
        known = await self._reads.find_orders([wish.id for wish in wishes])
        barred = await self._find_barred({wish.owner for wish in wishes})
        outcomes = [
            _replayed(wish, known.get(wish.id)) or barred.get(wish.owner) or self._made(wish, instrument, now, turn)
            for turn, wish in enumerate(wishes)
        ]
        fresh = [
            (wish, outcome)
            for wish, outcome in zip(wishes, outcomes, strict=True)
            if isinstance(outcome, Order) and wish.id not in known
        ]
        if not fresh:
            return outcomes
        collects = self._hours.phase_at(instrument, now).kind in COLLECTING
        written = iter(await self._write(fresh, now, collects=collects))
        self._nudges.nudge([instrument.shard])
        return [
            next(written) if isinstance(outcome, Order) and wish.id not in known else outcome
            for wish, outcome in zip(wishes, outcomes, strict=True)
        ]

    def _made(self, wish: Wish, instrument: Instrument, now: datetime, turn: int) -> Order | Exception:
        """The order that the wish becomes if its owner has what it needs."""
        placing, settings = wish.placing, self._hours.settings
        try:
            price_fen = checking.limit_of(placing, wish.owner, instrument, self._hours, now)
        except Refusal as error:
            return error
        fees = Fees(settings.maker_fee_bps, settings.taker_fee_bps)
        good_until = self._hours.end_of(placing.time_in_force, placing.good_until, now)
        order = Order(
            id=wish.id,
            instrument=instrument.id,
            owner=wish.owner,
            placed_by=wish.placed_by,
            side=placing.side,
            kind=placing.kind,
            time_in_force=placing.time_in_force,
            price_fen=price_fen,
            quantity_g=placing.quantity_g,
            remaining_g=placing.quantity_g,
            good_until=good_until,
            created_at=now,
            fees=fees,
            hold=hold_id(wish.id, 1),
            held=0,
            hold_until=good_until + HOLD_AFTER,
            payload=wish.payload,
            queued_at=now,
            turn=turn,
        )
        return dataclasses.replace(order, held=rules.needed(order))

    async def _write(
        self, fresh: Sequence[tuple[Wish, Order]], now: datetime, *, collects: bool
    ) -> Sequence[Order | Exception]:
        holds = [reserving(order) for _, order in fresh]
        unsealed = new_id("uns", now)

        async def body(tx: Tx) -> list[Order | Exception]:
            writes = ExchangeWrites(tx)
            # Another run, or another process, may have made some of them meanwhile; the first run hopes not.
            made = {} if tx.is_first else await writes.find_orders([order.id for _, order in fresh])
            mine = await writes.list_open({o.owner for _, o in fresh}, fresh[0][1].instrument) if collects else []
            sheet = await self._ledger.open_within(tx, holds)
            outcomes: list[Order | Exception] = []
            new: list[Order] = []
            for (wish, order), hold in zip(fresh, holds, strict=True):
                outcome = _replayed(wish, made.get(order.id)) or await self._decide(order, hold, sheet, mine, now)
                if outcome is order:
                    new.append(order)
                    made[order.id] = order
                    mine += [order] if collects else []
                outcomes.append(outcome)
            await writes.insert_orders(new)
            await sheet.write(unsealed, now)
            return outcomes

        async with turn(self._leases, fresh[0][1].instrument):
            return await self._transactions.run(body)

    async def _decide(
        self, order: Order, hold: Transaction, sheet: Sheet, mine: Sequence[Order], now: datetime
    ) -> Order | Exception:
        limit = self._hours.settings.open_orders
        crossed = next((other for other in mine if other.owner == order.owner and rules.do_cross(order, other)), None)
        page = sheet.turned.get(order.owner) or sheet.before.get(order.owner)
        held = [one for one in page.holds if one.to_account == exchange_of(one.asset)] if page else []
        outcome: Order | Exception = order
        if crossed is not None:
            outcome = SelfTradeError(crossed.id)
        elif len(held) >= limit:
            outcome = TooManyOrdersError(limit)
        else:
            try:
                await sheet.post(hold, now)
            except TooManyHoldsError:
                outcome = TooManyOrdersError(limit)
            except InsufficientFundsError as error:
                outcome = _short(order, error)
        return outcome


def _wish(principal: Principal, placing: Placing, key: str, *item: str) -> Wish:
    if placing.pool is not None:
        identity_rules.require_name("pool", placing.pool)
    owner = owner_of(principal, placing.pool)
    order = OrderId(derived_id("ord", str(principal), owner, key, *item))
    return Wish(order, owner, str(principal), placing, key, _payload(placing))


def _short(order: Order, error: InsufficientFundsError) -> Refusal:
    """What the book refused, in the words of the market."""
    if order.side is Side.BUY:
        return InsufficientMoneyError(error.needed, error.available)
    return TooFewCreditsError(error.needed // MG_PER_GRAM, error.available // MG_PER_GRAM)


def _payload(placing: Placing) -> str:
    return payload_hash(
        [
            placing.instrument,
            placing.side,
            placing.kind,
            placing.price_fen,
            placing.quantity_g,
            placing.time_in_force,
            to_milliseconds(placing.good_until).isoformat() if placing.good_until else None,
            placing.pool,
        ]
    )


def _replayed(wish: Wish, order: Order | None) -> Order | Exception | None:
    """The order that the wish's key made before; a conflict where it was another one."""
    if order is None or order.payload == wish.payload:
        return order
    return IdempotencyConflictError(wish.key)
