"""Time: whole milliseconds of aware UTC, and days of the programme's zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.clock import ManualClock, SystemClock, local_date, to_milliseconds

SHANGHAI = ZoneInfo("Asia/Shanghai")
YEARS = (datetime(2000, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 - Hypothesis adds the zone


@given(
    moment=st.datetimes(*YEARS, timezones=st.sampled_from([UTC, SHANGHAI, timezone(timedelta(hours=-3, minutes=-30))]))
)
def test_a_moment_is_cut_to_the_millisecond_and_never_moved_forward(moment: datetime) -> None:
    kept = to_milliseconds(moment)
    assert kept.tzinfo is UTC
    assert kept.microsecond % 1_000 == 0
    assert timedelta(0) <= moment - kept < timedelta(milliseconds=1)
    assert to_milliseconds(kept) == kept


def test_a_moment_without_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="a moment without an offset is ambiguous"):
        to_milliseconds(datetime(2026, 11, 2))  # noqa: DTZ001 - that is the point


def test_the_local_day_turns_at_local_midnight() -> None:
    before = datetime(2026, 11, 1, 15, 59, 59, 999_000, tzinfo=UTC)
    assert local_date(before, SHANGHAI) == date(2026, 11, 1)
    assert local_date(before + timedelta(milliseconds=1), SHANGHAI) == date(2026, 11, 2)


def test_the_manual_clock_moves_only_by_hand() -> None:
    clock = ManualClock()
    assert clock.now() == clock.now() == datetime(2026, 11, 2, 1, tzinfo=UTC)
    clock.advance(timedelta(seconds=1, microseconds=1_999))
    assert clock.now() == datetime(2026, 11, 2, 1, 0, 1, 1_000, tzinfo=UTC)


def test_the_systems_clock_speaks_utc_in_milliseconds() -> None:
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert now.microsecond % 1_000 == 0
