"""Market data out of trades: candles and the ticker of one instrument. Pure: no clock, no storage, integers only.

A trade by itself is a candle, and two candles that follow on each other join into one: all folding here is that. An
interval in which nothing traded has no candle. All begin on the clock of the programme's time zone, days at midnight.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from backend.kernel.clock import local_date

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TICKER_WINDOW = timedelta(hours=24)
BASIS_POINTS = 10_000


class Interval(StrEnum):
    """How long a candle lasts."""

    MINUTE = "MINUTE"
    MINUTES_5 = "MINUTES_5"
    MINUTES_15 = "MINUTES_15"
    HOUR = "HOUR"
    DAY = "DAY"
    """A local day: 23 or 25 hours where clocks are changed."""


# In ascending order; a day has no fixed length.
LENGTHS = {
    Interval.MINUTE: MINUTE,
    Interval.MINUTES_5: timedelta(minutes=5),
    Interval.MINUTES_15: timedelta(minutes=15),
    Interval.HOUR: timedelta(hours=1),
}
FROM_SHORT_TO_LONG = (*LENGTHS, Interval.DAY)


class Trade(NamedTuple):
    """What market data needs of a trade."""

    price_fen: int
    """Fen per tonne."""
    quantity_g: int
    value_fen: int
    """What was paid, fees aside."""
    at: datetime


class Candle(NamedTuple):
    """What was traded from ``start`` on; prices in fen per tonne."""

    interval: Interval
    start: datetime
    open_fen: int
    high_fen: int
    low_fen: int
    close_fen: int
    volume_g: int
    value_fen: int
    trades: int


class Ticker(NamedTuple):
    """Where an instrument stands; prices in fen per tonne. Highest and lowest are None where nothing was traded."""

    last_fen: int | None
    change_fen: int | None
    """Last price minus reference."""
    change_bps: int | None
    """The same in hundredths of a per cent of the reference, rounded towards zero."""
    high_fen: int | None
    low_fen: int | None
    volume_g: int
    value_fen: int
    trades: int


def candle_start(interval: Interval, moment: datetime, zone: ZoneInfo) -> datetime:
    """When the candle begins that the moment belongs to, in UTC."""
    if interval is Interval.DAY:
        return datetime.combine(local_date(moment, zone), time(), zone).astimezone(UTC)
    # Whole hours of the zone, which are not those of UTC everywhere, so that days are made of whole candles.
    offset = moment.astimezone(zone).utcoffset() or timedelta()
    return moment.astimezone(UTC) - (moment - EPOCH + offset) % LENGTHS[interval]


def candle_of(trade: Trade, interval: Interval, zone: ZoneInfo) -> Candle:
    """The candle of a single trade."""
    price, start = trade.price_fen, candle_start(interval, trade.at, zone)
    return Candle(interval, start, price, price, price, price, trade.quantity_g, trade.value_fen, 1)


def join(earlier: Candle, later: Candle) -> Candle:
    """One candle of both: what is in ``later`` was traded after what is in ``earlier``.

    Raises:
        ValueError: they are not of the same interval and start.
    """
    if (earlier.interval, earlier.start) != (later.interval, later.start):
        raise ValueError(f"{later.interval} of {later.start} does not belong to {earlier.interval} of {earlier.start}")
    return earlier._replace(
        high_fen=max(earlier.high_fen, later.high_fen),
        low_fen=min(earlier.low_fen, later.low_fen),
        close_fen=later.close_fen,
        volume_g=earlier.volume_g + later.volume_g,
        value_fen=earlier.value_fen + later.value_fen,
        trades=earlier.trades + later.trades,
    )


def fold(trades: Iterable[Trade], interval: Interval, zone: ZoneInfo) -> list[Candle]:
    """The candles of these trades, by start.

    Trades come in the order of their numbers: by it the first of a candle opens and the last closes it. Their times are
    those of the book and may go back by as much as the clocks of several servers differ.
    """
    return _join_all(sorted((candle_of(trade, interval, zone) for trade in trades), key=lambda candle: candle.start))


def merge(candles: Iterable[Candle], interval: Interval, zone: ZoneInfo) -> list[Candle]:
    """Candles of a longer interval out of shorter ones, which come in the order of time.

    Raises:
        ValueError: one is of a longer interval already, or belongs before the one that came before it.
    """
    return _join_all(_widened(candle, interval, zone) for candle in candles)


def ticker(
    candles: Sequence[Candle], *, last_fen: int | None, reference_fen: int, now: datetime, zone: ZoneInfo
) -> Ticker:
    """The last price, which may be older than the window, beside the reference, and what the last 24 hours traded.

    ``candles`` are those of minutes, in the order of time; the window is the minute of ``now`` and the 1,439 before it.

    Raises:
        ValueError: the reference is not a price, or the candles are not of minutes.
    """
    if reference_fen <= 0:
        raise ValueError(f"a reference of {reference_fen} fen is no price")
    if any(candle.interval is not Interval.MINUTE for candle in candles):
        raise ValueError("the window of a ticker is made of minutes")
    begin = candle_start(Interval.MINUTE, now, zone) - TICKER_WINDOW + MINUTE
    window = [candle for candle in candles if candle.start >= begin]
    change_fen = None if last_fen is None else last_fen - reference_fen
    return Ticker(
        last_fen=last_fen,
        change_fen=change_fen,
        change_bps=None if change_fen is None else _towards_zero(change_fen * BASIS_POINTS, reference_fen),
        high_fen=max((candle.high_fen for candle in window), default=None),
        low_fen=min((candle.low_fen for candle in window), default=None),
        volume_g=sum(candle.volume_g for candle in window),
        value_fen=sum(candle.value_fen for candle in window),
        trades=sum(candle.trades for candle in window),
    )


def _join_all(candles: Iterable[Candle]) -> list[Candle]:
    joined: list[Candle] = []
    for candle in candles:
        if joined and candle.start == joined[-1].start:
            joined[-1] = join(joined[-1], candle)
        elif joined and candle.start < joined[-1].start:
            raise ValueError(f"{candle.start} comes after {joined[-1].start}")
        else:
            joined.append(candle)
    return joined


def _widened(candle: Candle, interval: Interval, zone: ZoneInfo) -> Candle:
    if FROM_SHORT_TO_LONG.index(candle.interval) > FROM_SHORT_TO_LONG.index(interval):
        raise ValueError(f"a candle of {candle.interval} is longer than one of {interval}")
    return candle._replace(interval=interval, start=candle_start(interval, candle.start, zone))


def _towards_zero(numerator: int, denominator: int) -> int:
    return numerator // denominator if numerator >= 0 else -(-numerator // denominator)
