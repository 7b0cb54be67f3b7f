"""What staff decide of an instrument: listing, halt and resumption, extra sessions, auctions."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.identity import rules as identity_rules
from backend.identity.errors import ForbiddenError
from backend.kernel.clock import to_milliseconds
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import BusyError, InvalidInputError, Text
from backend.market.exchange.checking import MAX_PRICE_FEN, require_price, require_trading
from backend.market.exchange.errors import (
    AlreadyListedError,
    MarketClosedError,
    MarketHaltedError,
    NotHaltedError,
    NotIssuedError,
    OffTickError,
    UnknownInstrumentError,
)
from backend.market.exchange.model import ExtraSession, Halt, Instrument, PhaseKind, StaffAuction
from backend.market.exchange.store import ExchangeWrites
from backend.mongo.idempotency import Use

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.ledger.model import Asset
    from backend.market.exchange.hours import Timetable
    from backend.mongo.transactions import Transactions, Tx
    from backend.valkey.nudges import Nudges

MAX_REASON = 200
RUNNING_MARKET = Text("交易管理", "running the market")
COLLECTING_NOW = Text("集合竞价阶段", "orders are being collected for an auction")
NOT_TO_COME = Text("须晚于当前时间且在 7 天之内", "must be to come, within seven days")
MAX_AHEAD = timedelta(days=7)


class MarketDesk:
    """The administrators' door to the market."""

    def __init__(
        self,
        *,
        transactions: Transactions,
        clock: Clock,
        hours: Timetable,
        nudges: Nudges,
        is_issued: Callable[[Asset], Awaitable[bool]],
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._hours = hours
        self._nudges = nudges
        self._is_issued = is_issued

    async def list_instrument(self, principal: Principal, credit: Asset, reference_fen: int, *, key: str) -> Instrument:
        """Let the credits of an issued batch be traded, the first day around a reference price (fen per tonne).

        Raises:
            ForbiddenError: no administrator.
            InvalidInputError, OffTickError: the key or the price.
            NotIssuedError, AlreadyListedError: see there.
            IdempotencyConflictError: the key was used for another listing.
        """
        _require_admin(principal)
        identity_rules.require_idempotency_key(key)
        if not 0 < reference_fen <= MAX_PRICE_FEN:
            raise InvalidInputError("referenceFen", Text(f"1–{MAX_PRICE_FEN}", f"1–{MAX_PRICE_FEN}"))
        tick_fen = self._hours.settings.tick_fen
        if reference_fen % tick_fen:
            raise OffTickError(reference_fen, tick_fen)
        if not await self._is_issued(credit):
            raise NotIssuedError(credit)
        now = self._clock.now()
        use = Use(str(principal), "listInstrument", key, payload_hash([credit, reference_fen]))
        new = Instrument(
            id=credit,
            listed_at=now,
            listed_by=str(principal),
            reference_fen=reference_fen,
            day=self._hours.day_of(now),
        )

        async def body(tx: Tx) -> Instrument:
            writes = ExchangeWrites(tx)
            known = await writes.find_instrument(credit)
            if await writes.claimed_at(use) is not None:
                assert known is not None
                return known
            if known is not None:
                raise AlreadyListedError(credit)
            await writes.insert_instrument(new)
            await writes.claim(use, now)
            return new

        return await self._transactions.run(body)

    async def halt(self, principal: Principal, instrument: Asset, reason: str, *, key: str) -> Instrument:
        """Stop trading at once: nothing is placed, amended or matched until it is resumed; orders may be cancelled.

        Raises:
            ForbiddenError, InvalidInputError, UnknownInstrumentError, MarketHaltedError, IdempotencyConflictError:
            no administrator; the key or the reason; see there; halted already; another payload.
        """
        _require_admin(principal)
        identity_rules.require_note("reason", reason, limit=MAX_REASON)

        def decide(before: Instrument, now: datetime) -> Instrument:
            if before.halt is not None:
                raise MarketHaltedError(before.halt.reason)
            return dataclasses.replace(before, halt=Halt(str(principal), reason, now))

        return await self._change(principal, instrument, "haltTrading", key, [reason], decide)

    async def resume(self, principal: Principal, instrument: Asset, *, key: str) -> Instrument:
        """Trade again by the hours.

        Raises:
            ForbiddenError, InvalidInputError, UnknownInstrumentError, NotHaltedError, IdempotencyConflictError: alike.
        """
        _require_admin(principal)

        def decide(before: Instrument, _now: datetime) -> Instrument:
            if before.halt is None:
                raise NotHaltedError
            return dataclasses.replace(before, halt=None)

        return await self._change(principal, instrument, "resumeTrading", key, [], decide)

    async def open_session(self, principal: Principal, instrument: Asset, until: datetime, *, key: str) -> Instrument:
        """Match continuously from now until that moment, whatever the usual hours.

        Raises:
            ForbiddenError, InvalidInputError, UnknownInstrumentError, MarketHaltedError, MarketClosedError,
            IdempotencyConflictError: as ``halt``; and a call phase runs.
        """
        _require_admin(principal)

        def decide(before: Instrument, now: datetime) -> Instrument:
            self._require_to_come(until, now)
            self._require_phase(before, now, PhaseKind.CLOSED, PhaseKind.CONTINUOUS)
            extra = ExtraSession(str(principal), now, to_milliseconds(until))
            return dataclasses.replace(before, extra=extra)

        return await self._change(principal, instrument, "openSession", key, [_text(until)], decide)

    async def open_auction(
        self,
        principal: Principal,
        instrument: Asset,
        until: datetime,
        *,
        floor_fen: int | None,
        irrevocable: bool,
        key: str,
    ) -> Instrument:
        """Collect orders from now until that moment and execute them at one price, none below the floor.

        The form is that of Guangdong's PHCER auctions: uniform price, price priority, a floor price, bids that cannot
        be taken back (Guangzhou Emissions Exchange, auction of 2025-12-29).

        Raises:
            ForbiddenError, InvalidInputError, UnknownInstrumentError, MarketHaltedError, MarketClosedError,
            OffTickError, OutsideBandError, IdempotencyConflictError: as ``halt``; a call phase runs; the floor.
            BusyError: the auction before it is not executed yet.
        """
        _require_admin(principal)

        def decide(before: Instrument, now: datetime) -> Instrument:
            self._require_to_come(until, now)
            self._require_phase(before, now, PhaseKind.CLOSED, PhaseKind.CONTINUOUS)
            if floor_fen is not None:
                require_price(floor_fen, before, self._hours, now)
            auction = StaffAuction(str(principal), now, to_milliseconds(until), floor_fen, irrevocable)
            return dataclasses.replace(before, auction=auction)

        payload = [_text(until), floor_fen, irrevocable]
        return await self._change(principal, instrument, "openAuction", key, payload, decide)

    @staticmethod
    def _require_to_come(until: datetime, now: datetime) -> None:
        if not now < until <= now + MAX_AHEAD:
            raise InvalidInputError("until", NOT_TO_COME)

    def _require_phase(self, instrument: Instrument, now: datetime, *allowed: PhaseKind) -> None:
        phase = self._hours.phase_at(instrument, now).kind
        if phase is PhaseKind.HALTED:
            require_trading(instrument, self._hours, now)
        if phase not in allowed:
            raise MarketClosedError(COLLECTING_NOW)

    async def _change(
        self,
        principal: Principal,
        instrument: Asset,
        operation: str,
        key: str,
        payload: Sequence[object],
        decide: Callable[[Instrument, datetime], Instrument],
    ) -> Instrument:
        identity_rules.require_idempotency_key(key)
        use = Use(str(principal), operation, key, payload_hash([instrument, *payload]))
        now = self._clock.now()

        async def body(tx: Tx) -> Instrument:
            writes = ExchangeWrites(tx)
            before = await writes.find_instrument(instrument)
            if before is None:
                raise UnknownInstrumentError(instrument)
            if await writes.claimed_at(use) is not None:
                return before
            after = decide(before, now)
            last = before.auction
            if last is not None and after.auction != last and await writes.is_any_queued(instrument, last.until):
                # By the phases that it knows, a matcher that is late would match these orders continuously.
                raise BusyError
            await writes.set_mode(before, after)
            await writes.claim(use, now)
            return dataclasses.replace(after, revision=after.revision + 1)

        changed = await self._transactions.run(body)
        self._nudges.nudge([changed.shard])
        return changed


def _require_admin(principal: Principal) -> None:
    if not principal.is_admin:
        raise ForbiddenError(RUNNING_MARKET)


def _text(moment: datetime) -> str:
    return to_milliseconds(moment).isoformat()
