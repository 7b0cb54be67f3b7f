"""Operators' naive local times as UTC, the clock change included. Strict: one written form, nothing guessed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backend.kernel.clock import to_milliseconds

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_SECONDS_FORM = len("2018-09-01 11:17:31")
# No fare gate or shared bicycle of these feeds is older; an earlier year is a device whose clock was lost.
EARLIEST_YEAR = 2000


def parse_local(text: str) -> datetime | None:
    """The naive time written ``YYYY-MM-DD HH:MM:SS`` with an optional fraction; None for anything else."""
    text = text.strip()
    # The parser of ISO 8601 also takes week dates, basic forms and offsets; one glance at the marks excludes them.
    if len(text) < _SECONDS_FORM or text[4] != "-" or text[7] != "-" or text[10] not in " T":
        return None
    if text[_SECONDS_FORM:][:1] not in {"", "."}:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is None and moment.year >= EARLIEST_YEAR else None


def to_utc(moment: datetime, zone: ZoneInfo, *, fold: int = 0) -> datetime:
    """The naive local ``moment`` in UTC, whole milliseconds; ``fold`` 1 takes the offset after a clock change."""
    return to_milliseconds(moment.replace(tzinfo=zone, fold=fold).astimezone(UTC))


def to_utc_interval(
    start: datetime, end: datetime, zone: ZoneInfo, *, duration_s: int | None = None
) -> tuple[datetime, datetime]:
    """Naive local ``start`` and ``end`` in UTC.

    A time that the clock change makes double (autumn) or skips (spring) has two readings, one per offset. The pair that
    ends after it starts and comes closest to the duration the operator recorded is taken, or the shortest such pair
    where none was recorded. Where no pair does, the reading before the change stands: the end is not after the start.
    """
    first = to_utc(start, zone), to_utc(end, zone)
    last = to_utc(start, zone, fold=1), to_utc(end, zone, fold=1)
    if first == last:
        return first
    best, best_error_ms = first, None
    for begun in (first[0], last[0]):
        for ended in (first[1], last[1]):
            length_ms = (ended - begun).total_seconds() * 1000
            error_ms = abs(length_ms - (duration_s or 0) * 1000)
            # Strictly better only: of equal pairs the one read with the offset before the change stands.
            if length_ms > 0 and (best_error_ms is None or error_ms < best_error_ms):
                best, best_error_ms = (begun, ended), error_ms
    return best
