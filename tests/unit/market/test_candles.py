"""Candles and the ticker: by hand, and merged against folded out of the trades themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.market.exchange.candles import (
    Candle,
    Interval,
    Ticker,
    Trade,
    candle_of,
    candle_start,
    fold,
    join,
    merge,
    ticker,
)

SHANGHAI, KOLKATA, BERLIN = ZoneInfo("Asia/Shanghai"), ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Berlin")
MINUTE, DAY = Interval.MINUTE, Interval.DAY
NOON = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)  # in Shanghai


def trade(seconds: int, price_fen: int = 7_000, quantity_g: int = 1_000, value_fen: int = 7) -> Trade:
    """A trade so many seconds after noon."""
    return Trade(price_fen, quantity_g, value_fen, NOON + timedelta(seconds=seconds))


def minute(number: int, price_fen: int = 7_000) -> Candle:
    """The candle of one trade in the ``number``-th minute after noon."""
    return candle_of(trade(60 * number, price_fen), MINUTE, SHANGHAI)


def test_a_candle_has_the_first_highest_lowest_and_last_price_and_all_that_was_traded() -> None:
    trades = [trade(0, 7_000, 1_000, 7), trade(5, 7_300, 2_000, 14), trade(30, 6_900, 500, 3), trade(59, 7_100, 100, 1)]
    assert fold(trades, MINUTE, SHANGHAI) == [Candle(MINUTE, NOON, 7_000, 7_300, 6_900, 7_100, 3_600, 25, 4)]


def test_where_nothing_was_traded_there_is_no_candle() -> None:
    trades = [trade(59), trade(60), trade(239), trade(600)]
    starts = [candle.start - NOON for candle in fold(trades, MINUTE, SHANGHAI)]
    assert starts == [timedelta(minutes=number) for number in (0, 1, 3, 10)]
    assert fold([], MINUTE, SHANGHAI) == []
    assert merge([], DAY, SHANGHAI) == []


@pytest.mark.parametrize(
    ("interval", "start"),
    [
        (Interval.MINUTE, (4, 47)),
        (Interval.MINUTES_5, (4, 45)),
        (Interval.MINUTES_15, (4, 45)),
        (Interval.HOUR, (4, 0)),
    ],
)
def test_short_candles_begin_on_the_clock(interval: Interval, start: tuple[int, int]) -> None:
    moment = datetime(2026, 11, 21, 4, 47, 59, 999_000, tzinfo=UTC)
    assert candle_start(interval, moment, SHANGHAI) == datetime(2026, 11, 21, *start, tzinfo=UTC)
    assert candle_start(interval, moment.astimezone(BERLIN), SHANGHAI).utcoffset() == timedelta()


def test_days_and_hours_are_local() -> None:
    before = datetime(2026, 11, 21, 15, 59, 59, tzinfo=UTC)
    midnight = datetime(2026, 11, 21, 16, 0, tzinfo=UTC)
    assert candle_start(DAY, before, SHANGHAI) == datetime(2026, 11, 20, 16, 0, tzinfo=UTC)
    assert candle_start(DAY, midnight, SHANGHAI) == midnight
    assert candle_start(DAY, midnight, SHANGHAI).utcoffset() == timedelta()
    assert candle_start(DAY, midnight, KOLKATA) == datetime(2026, 11, 20, 18, 30, tzinfo=UTC)
    assert candle_start(Interval.HOUR, midnight, KOLKATA) == datetime(2026, 11, 21, 15, 30, tzinfo=UTC)


def test_a_day_on_which_clocks_change_has_its_own_length() -> None:
    # 2026-10-25 in Berlin: 25 hours, of which two are called 2 o'clock.
    hours = [datetime(2026, 10, 24, 22, 30, tzinfo=UTC) + timedelta(hours=number) for number in range(26)]
    trades = [Trade(7_000, 1_000, 7, moment) for moment in hours]
    assert [candle.trades for candle in fold(trades, DAY, BERLIN)] == [25, 1]
    assert len(fold(trades, Interval.HOUR, BERLIN)) == 26


def test_only_candles_of_one_interval_and_start_are_joined() -> None:
    with pytest.raises(ValueError, match="does not belong"):
        join(minute(0), minute(1))
    with pytest.raises(ValueError, match="does not belong"):
        join(minute(0), minute(0)._replace(interval=DAY))


def test_trades_open_and_close_a_candle_in_the_order_of_their_numbers() -> None:
    trades = [trade(60, 7_000), trade(59, 6_900), trade(65, 7_100), trade(61, 7_200)]
    before, after = fold(trades, MINUTE, SHANGHAI)
    assert (before.start, before.open_fen, before.close_fen) == (NOON, 6_900, 6_900)
    assert (after.open_fen, after.close_fen, after.high_fen, after.trades) == (7_000, 7_200, 7_200, 3)


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="comes after"):
        merge([minute(5), minute(4)], Interval.MINUTES_5, SHANGHAI)


def test_a_long_candle_is_not_cut() -> None:
    hour = fold([trade(0)], Interval.HOUR, SHANGHAI)
    with pytest.raises(ValueError, match="a candle of HOUR is longer than one of MINUTES_15"):
        merge(hour, Interval.MINUTES_15, SHANGHAI)
    assert merge(hour, Interval.HOUR, SHANGHAI) == hour


histories = st.lists(
    st.tuples(st.integers(0, 5_000), st.integers(1, 9_000), st.integers(1, 10**9), st.integers(0, 10**9)), max_size=30
)


@settings(max_examples=150, deadline=None)
@given(histories, st.sampled_from(Interval), st.sampled_from(Interval), st.sampled_from((SHANGHAI, KOLKATA, BERLIN)))
def test_merging_candles_equals_folding_the_trades(
    history: list[tuple[int, int, int, int]], one: Interval, other: Interval, zone: ZoneInfo
) -> None:
    short, long = sorted((one, other), key=list(Interval).index)
    moment, trades = datetime(2026, 10, 24, 12, 0, tzinfo=UTC), []
    for gap_s, price_fen, quantity_g, value_fen in history:
        moment += timedelta(seconds=gap_s)
        trades.append(Trade(price_fen, quantity_g, value_fen, moment))
    whole = fold(trades, long, zone)
    assert merge(fold(trades, short, zone), long, zone) == whole
    assert sum(candle.volume_g for candle in whole) == sum(trade.quantity_g for trade in trades)
    assert sum(candle.value_fen for candle in whole) == sum(trade.value_fen for trade in trades)
    assert sum(candle.trades for candle in whole) == len(trades)
    for candle in whole:
        inside = [trade.price_fen for trade in trades if candle_start(long, trade.at, zone) == candle.start]
        prices = (candle.open_fen, candle.high_fen, candle.low_fen, candle.close_fen)
        assert prices == (inside[0], max(inside), min(inside), inside[-1])


def test_the_ticker_counts_the_last_24_hours_to_the_minute() -> None:
    candles = [minute(0, 9_000), minute(1, 6_500), minute(700, 7_400), minute(1_440, 7_200)]
    now = NOON + timedelta(hours=24, seconds=59)
    shown = ticker(candles, last_fen=7_200, reference_fen=7_000, now=now, zone=SHANGHAI)
    assert shown == Ticker(7_200, 200, 285, 7_400, 6_500, 3_000, 21, 3)
    earlier = ticker(candles[:3], last_fen=7_400, reference_fen=7_000, now=now - timedelta(minutes=1), zone=SHANGHAI)
    assert (earlier.high_fen, earlier.trades) == (9_000, 3)


def test_a_quiet_market_keeps_its_last_price() -> None:
    now = NOON + timedelta(days=3)
    shown = ticker([minute(0)], last_fen=6_800, reference_fen=7_000, now=now, zone=SHANGHAI)
    assert shown == Ticker(6_800, -200, -285, None, None, 0, 0, 0)


def test_before_the_first_trade_there_is_nothing_to_tell() -> None:
    shown = ticker([], last_fen=None, reference_fen=7_000, now=NOON, zone=SHANGHAI)
    assert shown == Ticker(None, None, None, None, None, 0, 0, 0)


def test_a_ticker_needs_a_reference_and_minutes() -> None:
    with pytest.raises(ValueError, match="a reference of 0 fen is no price"):
        ticker([], last_fen=7_000, reference_fen=0, now=NOON, zone=SHANGHAI)
    with pytest.raises(ValueError, match="made of minutes"):
        ticker(fold([trade(0)], DAY, SHANGHAI), last_fen=7_000, reference_fen=7_000, now=NOON, zone=SHANGHAI)
