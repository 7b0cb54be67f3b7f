"""Time: aware UTC in whole milliseconds from an injected clock; local days are those of the programme's time zone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


class Clock(Protocol):
    """Source of the present."""

    def now(self) -> datetime:
        """The present: aware UTC, whole milliseconds."""
        ...


def to_milliseconds(moment: datetime) -> datetime:
    """``moment`` in UTC, truncated to the millisecond MongoDB keeps.

    Raises:
        ValueError: the moment has no offset.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        message = "a moment without an offset is ambiguous"
        raise ValueError(message)
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def local_date(moment: datetime, zone: ZoneInfo) -> date:
    """The calendar day of ``moment`` in the programme's time zone."""
    return moment.astimezone(zone).date()


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present: aware UTC, whole milliseconds."""
        return to_milliseconds(datetime.now(UTC))


@dataclass
class ManualClock:
    """A clock that tests move by hand."""

    current: datetime = field(default_factory=lambda: datetime(2026, 11, 2, 1, 0, tzinfo=UTC))

    def now(self) -> datetime:
        """The moment last set."""
        return to_milliseconds(self.current)

    def advance(self, step: timedelta) -> None:
        """Move the present by ``step``."""
        self.current += step
