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

from backend.kernel.errors import BusyError
from backend.kernel.ids import SHARD_COUNT, ShardNumber, new_id
from backend.ledger.errors import (
    HoldExceededError,
    HoldExpiredError,
    HoldNotActiveError,
    InsufficientFundsError,
    TooManyHoldsError,
)
from backend.ledger.model import Draw, HoldRef, TransactionKind
from backend.market.exchange.booking import trading
from backend.market.exchange.candles import Interval, fold
from backend.market.exchange.candles import Trade as Print
from backend.market.exchange.model import PhaseKind, order_channel, trade_channel
from backend.market.exchange.planning import Drawn, Floor, Round, Setbacks, UnknownRestingError
from backend.market.exchange.store import ExchangeReads, ExchangeWrites, OvertakenError
from backend.market.exchange.turns import turn
from backend.market.serials.store import SerialSheet, TooFewSerialsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.ledger.model import Asset, Hold, OwnerId, Transaction
    from backend.ledger.service import Ledger
    from backend.ledger.sheet import Sheet
    from backend.market.exchange.candles import Candle
    from backend.market.exchange.hours import Timetable
    from backend.market.exchange.model import Instrument, OrderId, Trade
    from backend.market.serials.model import Ranges
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.valkey.channels import Channels
    from backend.valkey.leases import Leases
    from backend.valkey.nudges import Nudges

LOG = structlog.get_logger(__name__)
LEASE_MS = 15_000
ROUND_LIMIT = 300
MAX_ROUNDS = 40
# A round that finds setbacks starts again with what it knows; what it did not know of before is rare.
MAX_TRIES = 20
MAX_PASSES = 50
GONE = (HoldNotActiveError, HoldExpiredError, HoldExceededError)
SHORT = (InsufficientFundsError, TooManyHoldsError)


class _SetbackError(Exception):
    """The book refused a move: what was decided must be decided anew, knowing that."""


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
    ) -> None:
        self._reads = ExchangeReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._leases = leases
        self._nudges = nudges
        self._channels = channels
        self._clock = clock
        self._hours = hours
        self._floors: dict[Asset, Floor] = {}

    async def run(self, shards: Sequence[ShardNumber]) -> int:
        """Match what waits in the instruments of those shards that no other worker matches; how many orders it saw.

        Raises:
            UnavailableError: MongoDB does not answer; what waits stays queued.
        """
        count = 0
        for _ in range(MAX_PASSES):
            if not shards:
                return count
            async with self._leases.hold([_lease(shard) for shard in shards], ttl_ms=LEASE_MS) as held:
                mine = [shard for shard in shards if _lease(shard) in held]
                if not mine:
                    return count
                # Before reading: what is placed from now on sends its own nudge.
                await self._nudges.begin(mine)
                for instrument in await self._reads.list_instruments(mine):
                    count += await self._match(instrument.id)
            # Whoever was nudged for these shards meanwhile found them held and left them to this worker.
            shards = [ShardNumber(shard) for shard in await self._nudges.asked(mine)]
        # Another task goes on, so that this worker can do something else or end.
        await self._nudges.begin(shards)
        self._nudges.nudge(shards)
        return count

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
        is_over = collecting is not None and collecting.until <= now
        is_halted = self._hours.phase_at(instrument, now).kind is PhaseKind.HALTED
        return not is_halted and (is_over or self._hours.day_of(now) > instrument.day)

    async def flush(self) -> None:
        """Wait until every nudge asked for so far is on its way."""
        await self._nudges.flush()

    async def match_all(self) -> int:
        """Match whatever waits anywhere."""
        return await self.run([ShardNumber(number) for number in range(SHARD_COUNT)])

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
            now = self._clock.now()
            is_halted = self._hours.phase_at(stored, now).kind is PhaseKind.HALTED
            expired = await self._reads.list_expired(name, now, limit=ROUND_LIMIT)
            queued = await self._reads.list_queued(name, limit=ROUND_LIMIT, cancels_only=is_halted)
            planned = Round(floor, self._hours, now, setbacks)
            try:
                planned.run(queued, expired)
                if planned.changed or planned.instrument != stored:
                    trades = await self._write(stored, planned)
                    floor.instrument = dataclasses.replace(
                        planned.instrument, revision=stored.revision + 1, turned_by=stored.holder
                    )
                    await self._tell(planned, trades)
            except (OvertakenError, UnknownRestingError, _SetbackError) as error:
                LOG.info("round decided anew", instrument=name, reason=repr(error))
                continue
            self._floors[name] = floor
            return len(queued) + len(expired), len(queued) < ROUND_LIMIT and len(expired) < ROUND_LIMIT
        raise BusyError

    async def _load(self, stored: Instrument) -> Floor | None:
        """The floor at that revision; None where the orders have gone on while they were read."""
        resting = await self._reads.list_resting(stored.id)
        again = await self._reads.find_instrument(stored.id)
        return Floor.load(stored, resting) if again == stored else None

    async def _write(self, before: Instrument, planned: Round) -> list[Trade]:
        """Write the round, once; the trades as they happened.

        Raises:
            OvertakenError, _SetbackError: it must be decided anew; nothing changed.
        """
        unsealed = new_id("uns", planned.now)

        async def body(tx: Tx) -> list[Trade]:
            writes = ExchangeWrites(tx)
            # First what shows soonest that the round was decided on what is no longer so.
            await writes.turn(before, planned.instrument)
            await writes.write_orders(planned.changed.values(), planned.handled)
            serials = SerialSheet(tx)
            try:
                moves = await _moves(serials, planned)
            except TooFewSerialsError as error:
                # Whose hold is gone may have used up their credits meanwhile.
                planned.setbacks.lost |= await self._find_lost(planned)
                raise _SetbackError from error
            sheet = await self._ledger.open_within(tx, [move.transaction for move in moves])
            posting = _Posting(sheet, planned)
            for move in moves:
                await posting.post(move)
            if posting.failed:
                raise _SetbackError
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
            for candle in fold(sorted(prints, key=lambda one: one.at), interval, self._hours.zone)
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


@dataclass(frozen=True, slots=True)
class _Move:
    """A transaction of the round; of a trade with what was decided and the serials that it moves."""

    transaction: Transaction
    drawn: Drawn | None = None
    ranges: Ranges = ()


async def _moves(serials: SerialSheet, planned: Round) -> list[_Move]:
    """The round's transactions in their order; trades name the serials that they move."""
    credit = planned.instrument.id
    await serials.read_ahead(credit, list({drawn.trade.seller: None for drawn in planned.trades}))
    moves: list[_Move] = []
    for move in planned.moves:
        if isinstance(move, Drawn):
            trade = move.trade
            ranges = await serials.move(credit, trade.quantity_g, trade.seller, trade.buyer)
            moves.append(_Move(trading(trade, ranges, _draws(move)), move, ranges))
        else:
            moves.append(_Move(move))
    return moves


def _draws(drawn: Drawn) -> list[Draw]:
    draws = [Draw(HoldRef(drawn.trade.seller, drawn.seller.hold), drawn.last_of_seller)]
    if drawn.buyer_pays:
        draws.append(Draw(HoldRef(drawn.trade.buyer, drawn.buyer.hold), drawn.last_of_buyer))
    return draws


class _Posting:
    """Posts a round's moves on a sheet, one after the other; what is refused is noted, so that all is found at once."""

    def __init__(self, sheet: Sheet, planned: Round) -> None:
        self._sheet = sheet
        self._planned = planned
        self.trades: list[Trade] = []
        self.failed = False

    async def post(self, move: _Move) -> None:
        """Post one move; a hold that is gone cannot be set free any more, and need not be."""
        transaction, drawn, setbacks = move.transaction, move.drawn, self._planned.setbacks
        try:
            await self._sheet.post(transaction, self._planned.now)
        except (*GONE, *SHORT) as error:
            if transaction.kind is TransactionKind.HOLD:
                setbacks.unfunded.add(self._planned.amended[transaction.id])
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
            if name not in self._planned.setbacks.unfunded
            and not any(
                hold.id == order.hold and hold.expires_at > self._planned.now for hold in self._holds(order.owner)
            )
        }
        return lost if lost or self.failed else set(both)

    def _holds(self, owner: OwnerId) -> tuple[Hold, ...]:
        page = self._sheet.turned.get(owner) or self._sheet.before.get(owner)
        return page.holds if page else ()
