"""Candles beside the trades that they are made of, at one instant: every trade is in one of a minute and one of a day.

Both sides are streamed once and compared in constant memory; only where they differ they are streamed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.kernel.tally import Tally
from backend.ledger.audit.findings import Audit
from backend.market.exchange.candles import Interval, candle_of, join
from backend.market.exchange.candles import Trade as Print
from backend.market.exchange.snapshots import stream_candles, stream_trades
from backend.market.exchange.trade_documents import candle_id

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from backend.ledger.audit.findings import Side
    from backend.ledger.model import Asset
    from backend.market.exchange.candles import Candle
    from backend.mongo.client import Snapshot

STORED = (Interval.MINUTE, Interval.DAY)
# Trades come in the order of their numbers: their times go back by seconds at most, not by so many minutes of trade.
OPEN_AT_ONCE = 1_000


@dataclass
class _Folding:
    """The candles of one instrument that may still grow, by interval and start."""

    side: Side
    zone: ZoneInfo
    instrument: Asset | None = None
    open: dict[tuple[str, str], Candle] = field(default_factory=dict)

    def add(self, instrument: Asset, trade: Print) -> None:
        """Add the next trade."""
        if instrument != self.instrument:
            self.close()
            self.instrument = instrument
        for interval in STORED:
            candle = candle_of(trade, interval, self.zone)
            name = (interval.value, candle.start.isoformat())
            known = self.open.get(name)
            self.open[name] = join(known, candle) if known else candle
        if len(self.open) > OPEN_AT_ONCE:
            self.close(len(self.open) - OPEN_AT_ONCE // 2)

    def close(self, count: int | None = None) -> None:
        """Count so many candles, the first begun first; all where it is not said."""
        for name in list(self.open)[:count]:
            assert self.instrument is not None
            candle = self.open.pop(name)
            self.side.add(_entry(candle_id(self.instrument, candle), self.instrument, candle), 1)


async def audit_candles(snapshot: Snapshot, audit: Audit, zone: ZoneInfo) -> None:
    """Check all candles of the snapshot, days being those of the zone; findings go to ``audit``."""
    tally = Tally()
    await _go(snapshot, audit, zone, tally)
    suspects = tally.suspects()
    if suspects:
        await _go(snapshot, Audit(), zone, suspects)
        for entry, lead in suspects.differences():
            side = "is told by trades and not stored so" if lead > 0 else "is stored so and not told by trades"
            audit.report(f"candle {entry.decode(errors='replace')}", side)


async def _go(snapshot: Snapshot, audit: Audit, zone: ZoneInfo, side: Side) -> None:
    folding = _Folding(side, zone)
    # A trade that cannot be read is told where trades are checked.
    async for trade, _ in stream_trades(snapshot, Audit()):
        folding.add(trade.instrument, Print(trade.price_fen, trade.quantity_g, trade.value_fen, trade.at))
    folding.close()
    async for name, instrument, candle in stream_candles(snapshot, audit):
        side.add(_entry(name, instrument, candle), -1)


def _entry(name: str, instrument: Asset, candle: Candle) -> bytes:
    numbers = " ".join(map(str, candle[2:]))
    return f"{name}: {instrument} {candle.interval} {candle.start.isoformat()} {numbers}".encode()
