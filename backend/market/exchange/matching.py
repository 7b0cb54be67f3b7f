"""The matcher: works off what is queued in each instrument, one round a MongoDB transaction.

One matcher holds an instrument: a lease avoids waste, the fence in the instrument's document makes it right. The book
is kept in memory as long as the document's revision is the one it stands at; else it is loaded from the orders. A round
that could not be written is thrown away with its book.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from backend.kernel.errors import BusyError, UnavailableError
from backend.kernel.ids import ShardNumber, new_id
from backend.market.exchange.candles import Interval, fold
from backend.market.exchange.candles import Trade as Print
from backend.market.exchange.floor import Floor, Most, Setbacks, Waiting
from backend.market.exchange.model import CommandKind, PhaseKind, order_channel, trade_channel
from backend.market.exchange.planning import Round, UnknownRestingError
from backend.market.exchange.posting import Posting, SetbackError, moves_of
from backend.market.exchange.rules import reserved_asset
from backend.market.exchange.store import ExchangeReads, ExchangeWrites, OvertakenError
from backend.market.exchange.turns import turn
from backend.market.serials.store import SerialSheet, TooFewSerialsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.ledger.model import Asset, OwnerId
    from backend.ledger.service import Ledger
    from backend.market.exchange.candles import Candle
    from backend.market.exchange.hours import Timetable
    from backend.market.exchange.model import Instrument, Order, OrderId, Trade
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.valkey.channels import Channels
    from backend.valkey.leases import Leases
    from backend.valkey.nudges import Nudges

LOG = structlog.get_logger(__name__)
LEASE_MS = 15_000
MAX_ROUNDS = 40
# A round that finds setbacks starts again with what it knows; what it did not know of before is rare.
MAX_TRIES = 20
MAX_PASSES = 50
# One instrument whose writes the server does not take is its own matter; a second one is the server's.
MAX_UNAVAILABLE = 2


@dataclass(frozen=True, slots=True)
class Size:
    """How much one round may be, for it is one MongoDB transaction: it must end in time and fit into the cache.

    ``orders`` to look at, ``moves`` of the ledger (fills, holds made and released), ``ranges`` of serials moved.
    """

    orders: int = 300
    moves: int = 400
    ranges: int = 4_000

    def times(self, factor: int) -> Size:
        """So many times as much."""
        return Size(self.orders * factor, self.moves * factor, self.ranges * factor)

    def part(self, parts: int) -> Size:
        """One of so many parts; never nothing."""
        return Size(max(1, self.orders // parts), max(1, self.moves // parts), max(1, self.ranges // parts))

    def within(self, other: Size) -> Size:
        """This, but nowhere more than the other."""
        return Size(min(self.orders, other.orders), min(self.moves, other.moves), min(self.ranges, other.ranges))


STEP = 4


class Matching:
    """Matches orders."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        leases: Leases,
        nudges: Nudges,
        channels: Channels,
        clock: Clock,
        hours: Timetable,
        size: Size = Size(),
    ) -> None:
        self.size = size
        self._reads = ExchangeReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._leases = leases
        self._nudges = nudges
        self._channels = channels
        self._clock = clock
        self._hours = hours
        self._floors: dict[Asset, Floor] = {}
        # Of instruments whose rounds were too large for the server a while ago.
        self._sizes: dict[Asset, Size] = {}

    async def run(self, shards: Sequence[ShardNumber]) -> int:
        """Match what waits in the instruments of those shards that no other worker matches; how many orders it saw.

        What goes wrong in one instrument keeps no other from being matched.

        Raises:
            UnavailableError: MongoDB does not answer; what waits stays queued.
            Exception: what went wrong first, after all others were matched.
        """
        count = 0
        failures: list[Exception] = []
        for _ in range(MAX_PASSES):
            if not shards:
                break
            async with self._leases.hold([_lease(shard) for shard in shards], ttl_ms=LEASE_MS) as held:
                mine = [shard for shard in shards if _lease(shard) in held]
                if not mine:
                    break
                # Before reading: what is placed from now on sends its own nudge.
                await self._nudges.begin(mine)
                for instrument in await self._reads.list_instruments(mine):
                    count += await self._match_apart(instrument.id, failures)
            # Whoever was nudged for these shards meanwhile found them held and left them to this worker.
            shards = [ShardNumber(shard) for shard in await self._nudges.asked(mine)]
        else:
            # Another task goes on, so that this worker can do something else or end.
            await self._nudges.begin(shards)
            self._nudges.nudge(shards)
        if failures:
            raise failures[0]
        return count

    async def _match_apart(self, instrument: Asset, failures: list[Exception]) -> int:
        """Match one instrument; what goes wrong is noted and logged."""
        try:
            return await self._match(instrument)
        except Exception as error:
            LOG.exception("instrument not matched", instrument=instrument)
            failures.append(error)
            if sum(isinstance(failure, UnavailableError) for failure in failures) >= MAX_UNAVAILABLE:
                raise
            return 0

    async def sweep(self) -> int:
        """Match wherever something waits whose nudge was lost, has ended, or a phase or day is over."""
        now = self._clock.now()
        waiting = await self._reads.list_waiting(now)
        due = {
            instrument.shard
            for instrument in await self._reads.list_instruments()
            if instrument.id in waiting or self._is_due(instrument, now)
        }
        return await self.run(sorted(due))

    def _is_due(self, instrument: Instrument, now: datetime) -> bool:
        collecting = instrument.collecting
        if collecting is not None and collecting.price_fen is not None:
            return True
        is_over = collecting is not None and collecting.until <= now
        is_halted = self._hours.phase_at(instrument, now).kind is PhaseKind.HALTED
        return not is_halted and (is_over or self._hours.day_of(now) > instrument.day)

    async def flush(self) -> None:
        """Wait until every nudge asked for so far is on its way."""
        await self._nudges.flush()

    async def _match(self, instrument: Asset) -> int:
        """Rounds until nothing waits in the instrument, or enough for one holder."""
        taken = await self._reads.take_fence(instrument, new_id("fence", self._clock.now()))
        count = 0
        for _ in range(MAX_ROUNDS):
            try:
                seen, is_empty = await self._round(taken.id, taken.holder)
            except BusyError:
                break
            count += seen
            if is_empty:
                return count
        # More is waiting: another task takes over, so that no instrument keeps a worker for itself.
        self._nudges.nudge([taken.shard])
        return count

    async def _round(self, name: Asset, holder: str) -> tuple[int, bool]:
        """Decide and write one round; how many orders it saw, and whether nothing is left."""
        setbacks = Setbacks()
        for _ in range(MAX_TRIES):
            # What is not known to be written is not known.
            floor = self._floors.pop(name, None)
            stored = await self._reads.find_instrument(name)
            if stored is None or stored.holder != holder:
                return 0, True
            if floor is None or not _is_as_stored(floor.instrument, stored):
                floor = await self._load(stored)
                if floor is None:
                    continue
            floor.instrument = stored
            size = self._sizes.get(name, self.size)
            now = self._clock.now()
            waiting, is_all = await self._look(stored, now, size)
            most = min(setbacks.most or Most(size.moves), Most(size.moves), key=lambda one: one.moves)
            purses = await self._purses(waiting.queued, now)
            planned = Round(floor, self._hours, now, setbacks, most, purses)
            try:
                planned.run(waiting)
                if planned.changed or planned.instrument != stored:
                    trades = await self._write_sized(stored, planned, size)
                    floor.instrument = dataclasses.replace(
                        planned.instrument, revision=stored.revision + 1, turned_by=stored.holder
                    )
                    await self._tell(planned, trades)
            except (OvertakenError, UnknownRestingError, SetbackError) as error:
                LOG.info("round decided anew", instrument=name, reason=repr(error))
                continue
            self._floors[name] = floor
            return len(planned.handled), is_all and not planned.is_cut
        raise BusyError

    async def _look(self, stored: Instrument, now: datetime, size: Size) -> tuple[Waiting, bool]:
        """What there is to do in the instrument, and whether that is all."""
        is_halted = self._hours.phase_at(stored, now).kind is PhaseKind.HALTED
        expired = await self._reads.list_expired(stored.id, now, limit=size.orders)
        queued = await self._reads.list_queued(stored.id, limit=size.orders, cancels_only=is_halted)
        ends = [one.good_until for one in expired[-1:] if len(expired) == size.orders]
        # What was queued later was not read, and comes before what ends later.
        ends += [one.queued_at for one in queued[-1:] if len(queued) == size.orders and one.queued_at]
        begun = await self._reads.find_orders([stored.taking] if stored.taking else [])
        taking = begun[stored.taking] if stored.taking else None
        # What is asked of an order whose fills have begun comes after them: in another round.
        is_all = not ends and (taking is None or taking.command is None)
        return Waiting(queued, expired, min([now, *ends]), taking), is_all

    async def _purses(self, queued: Sequence[Order], now: datetime) -> dict[tuple[OwnerId, Asset], int]:
        """What owners who amend an order have free of what it reserves."""
        amended = [order for order in queued if order.command and order.command.kind is CommandKind.AMEND]
        if not amended:
            return {}
        pages = await self._ledger.find_pages(list({order.owner: None for order in amended}))
        purses = {}
        for order in amended:
            page, asset = pages[order.owner], reserved_asset(order.side, order.instrument)
            held = sum(hold.amount for hold in page.holds if hold.asset == asset and hold.expires_at > now)
            purses[order.owner, asset] = page.balance(asset) - held
        return purses

    async def _write_sized(self, before: Instrument, planned: Round, size: Size) -> list[Trade]:
        """Write the round; where the server does not take it, the next ones are smaller.

        Raises:
            OvertakenError, SetbackError: as ``_write``; and it was too large, nothing changed.
        """
        try:
            trades = await self._write(before, planned, size)
        except (OvertakenError, SetbackError):
            raise
        except Exception as error:
            smaller = size.part(STEP)
            if smaller == size:
                raise
            self._sizes[before.id] = smaller
            LOG.warning("round not written; smaller ones follow", instrument=before.id, error=repr(error))
            raise SetbackError from error
        self._sizes[before.id] = size.times(STEP).within(self.size)
        return trades

    async def _load(self, stored: Instrument) -> Floor | None:
        """The floor at that revision; None where the orders have gone on while they were read."""
        resting = await self._reads.list_resting(stored.id)
        again = await self._reads.find_instrument(stored.id)
        return Floor.load(stored, resting) if again == stored else None

    async def _write(self, before: Instrument, planned: Round, size: Size) -> list[Trade]:
        """Write the round, once; the trades as they happened.

        Raises:
            OvertakenError, SetbackError: it must be decided anew; nothing changed.
        """
        unsealed = new_id("uns", planned.now)

        async def body(tx: Tx) -> list[Trade]:
            writes = ExchangeWrites(tx)
            # First what shows soonest that the round was decided on what is no longer so.
            await writes.turn(before, planned.instrument)
            await writes.write_orders(planned.changed.values(), planned.handled)
            serials = SerialSheet(tx, size.ranges)
            try:
                moves = await moves_of(serials, planned, self._hours.settings.lot_g)
            except TooFewSerialsError as error:
                # Whose hold is gone may have used up their credits meanwhile.
                planned.setbacks.lost |= await self._find_lost(planned)
                raise SetbackError from error
            sheet = await self._ledger.open_within(tx, [move.transaction for move in moves])
            posting = Posting(sheet, planned)
            for move in moves:
                await posting.post(move)
            if posting.failed:
                raise SetbackError
            await sheet.write(unsealed, planned.now)
            await serials.write()
            await writes.insert_trades(posting.trades)
            await writes.add_candles(before.id, self._candles(posting.trades))
            return posting.trades

        async with turn(self._leases, before.id):
            return await self._transactions.run(body)

    async def _find_lost(self, planned: Round) -> set[OrderId]:
        """Orders of the round's trades that have no hold any more.

        Raises:
            TooFewSerialsError: there are none.
        """
        orders = {order.id: order for drawn in planned.trades for order in (drawn.buyer, drawn.seller) if order.held}
        pages = await self._ledger.find_pages(list({order.owner: None for order in orders.values()}))
        held = {hold.id for page in pages.values() for hold in page.holds if hold.expires_at > planned.now}
        amended = set(planned.amended.values())
        lost = {name for name, order in orders.items() if order.hold not in held and name not in amended}
        if not lost:
            raise TooFewSerialsError(f"{planned.instrument.id}: every order of the round is held for")
        return lost

    def _candles(self, trades: Sequence[Trade]) -> list[Candle]:
        prints = [Print(trade.price_fen, trade.quantity_g, trade.value_fen, trade.at) for trade in trades]
        return [
            candle
            for interval in (Interval.MINUTE, Interval.DAY)
            for candle in fold(prints, interval, self._hours.zone)
        ]

    async def _tell(self, planned: Round, trades: Sequence[Trade]) -> None:
        """Let owners and whoever watches know; they look for themselves where they are not told."""
        messages: list[tuple[str, Mapping[str, str]]] = [
            (order_channel(order.owner), {"order": order.id}) for order in planned.changed.values()
        ]
        messages += [(trade_channel(trade.instrument), {"trade": trade.id}) for trade in trades]
        with contextlib.suppress(RedisError):
            await self._channels.publish_many(messages)


def _is_as_stored(known: Instrument, stored: Instrument) -> bool:
    """Whether nobody has turned the instrument since."""
    return (known.revision, known.turned_by) == (stored.revision, stored.turned_by)


def _lease(shard: ShardNumber) -> str:
    return f"match:{shard}"
