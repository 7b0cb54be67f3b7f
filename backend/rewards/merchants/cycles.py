"""The periods by which merchants are settled: local ISO weeks and calendar months. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from backend.kernel.clock import local_date
from backend.rewards.merchants.model import Cycle

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

MONTHS = 12
WEEK = timedelta(days=7)


def period_start(cycle: Cycle, moment: datetime, zone: ZoneInfo) -> date:
    """The first local day of the period in which the moment lies."""
    today = local_date(moment, zone)
    return today.replace(day=1) if cycle is Cycle.MONTH else today - timedelta(days=today.weekday())


def period_end(cycle: Cycle, moment: datetime, zone: ZoneInfo) -> datetime:
    """The first instant after the period in which the moment lies."""
    start = period_start(cycle, moment, zone)
    if cycle is Cycle.WEEK:
        after = start + WEEK
    else:
        after = date(start.year + start.month // MONTHS, start.month % MONTHS + 1, 1)
    return datetime.combine(after, time(), zone).astimezone(UTC)
