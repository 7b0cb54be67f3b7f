"""Local times: one form, both clock changes."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from backend.actions.feeds.localtime import parse_local, to_utc_interval

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2021-03-14",
        "20210314T010203",
        "2021-W10-7 01:02:03",
        "2021-W10-7 01:02:03.5",
        "2021-03-14 25:00:00",
        "2021-02-30 01:00:00",
        "2021-03-14 01:02:03Z",
        "2021-03-14 01:02:03+08:00",
        "1901-12-13 20:45:52",
        "3/14/2021 01:02:03",
    ],
)
def test_only_one_form_is_a_time(text: str) -> None:
    assert parse_local(text) is None


def test_a_fraction_of_any_length_is_read() -> None:
    assert parse_local(" 2021-01-01 00:03:35.5100 ") == datetime(2021, 1, 1, 0, 3, 35, 510_000)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("start", "end", "duration_s", "begun", "minutes"),
    [
        # An ordinary winter day, five hours behind.
        ("2021-02-01 10:00:00", "2021-02-01 10:30:00", None, "2021-02-01 15:00:00", 30),
        # Spring, 2021-03-14: the hour from 02:00 is skipped.
        ("2021-03-14 01:58:01", "2021-03-14 03:02:01", None, "2021-03-14 06:58:01", 4),
        ("2021-03-14 02:10:00", "2021-03-14 02:30:00", None, "2021-03-14 07:10:00", 20),
        ("2021-03-14 02:59:00", "2021-03-14 03:05:00", None, "2021-03-14 06:59:00", 6),
        # Autumn, 2021-11-07: the hour from 01:00 comes twice.
        ("2021-11-07 01:50:00", "2021-11-07 01:10:00", None, "2021-11-07 05:50:00", 20),
        ("2021-11-07 01:10:00", "2021-11-07 01:50:00", None, "2021-11-07 05:10:00", 40),
        ("2021-11-07 01:10:00", "2021-11-07 01:50:00", 6000, "2021-11-07 05:10:00", 100),
        ("2021-11-07 01:50:00", "2021-11-07 02:10:00", None, "2021-11-07 06:50:00", 20),
        ("2021-11-07 01:50:00", "2021-11-07 02:10:00", 4800, "2021-11-07 05:50:00", 80),
        # Nothing makes this end after its start.
        ("2021-11-07 01:50:00", "2021-11-07 00:10:00", None, "2021-11-07 05:50:00", -100),
    ],
)
def test_the_clock_change_never_turns_a_trip_around(
    start: str, end: str, duration_s: int | None, begun: str, minutes: int
) -> None:
    naive = datetime.fromisoformat(start), datetime.fromisoformat(end)
    first, last = to_utc_interval(*naive, NEW_YORK, duration_s=duration_s)
    assert first == datetime.fromisoformat(begun).replace(tzinfo=UTC)
    assert (last - first).total_seconds() == minutes * 60
