"""FIT files as recorded tracks. Must not trust a byte of them: no grammar makes a broken file fail early.

Format: Flexible and Interoperable Data Transfer (FIT) Protocol (Garmin).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fitdecode

from backend.actions.feeds.track_source import MAX_POINTS, Point, RecordedTrack, malformed, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_FRAMES = 10 * MAX_POINTS
_DEGREES_PER_SEMICIRCLE = 180 / 2**31
_MAX_DEVICE_M = 10_000_000
# What the decoder lets through where lengths, types or dates inside the file contradict each other.
_BROKEN = (
    fitdecode.FitError,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
)


def read_fit(content: bytes) -> list[RecordedTrack]:
    """The sessions of a FIT activity file, each with its own points; one track where the file names no session.

    Raises:
        TrackFileError: broken, or over a limit.
    """
    if not content:
        raise malformed("empty")
    points: list[Point] = []
    sessions: list[tuple[int, RecordedTrack]] = []
    try:
        for message in _messages(content):
            if message.name == "record":
                points.extend(_point(message))
                if len(points) > MAX_POINTS:
                    raise too_large(f"more than {MAX_POINTS} points")
            elif message.name == "session":
                sessions.append(_session(message))
    except _BROKEN as error:
        raise malformed(f"not FIT: {type(error).__name__} {error}") from error
    if not sessions:
        return [RecordedTrack([points])] if points else []
    sessions.sort(key=lambda session: session[0])
    starts = [start for start, _ in sessions]
    for point in points:
        # A point between two sessions belongs to the one before it; one before all of them to the first.
        index = bisect_right(starts, point.at_ms or 0) - 1
        sessions[max(index, 0)][1].pieces[0].append(point)
    return [track for _, track in sessions]


def _messages(content: bytes) -> Iterator[Any]:
    with fitdecode.FitReader(
        BytesIO(content), check_crc=fitdecode.CrcCheck.RAISE, error_handling=fitdecode.ErrorHandling.RAISE
    ) as reader:
        for count, frame in enumerate(reader):
            if count >= _MAX_FRAMES:
                raise too_large(f"more than {_MAX_FRAMES} messages")
            if frame.frame_type == fitdecode.FIT_FRAME_DATA:
                yield frame


def _value(message: Any, name: str) -> Any:
    return message.get_value(name, fallback=None)


def _milliseconds(value: object) -> int | None:
    if not isinstance(value, datetime):
        return None
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)


def _point(message: Any) -> Iterator[Point]:
    latitude, longitude = _value(message, "position_lat"), _value(message, "position_long")
    if isinstance(latitude, int) and isinstance(longitude, int):
        at_ms = _milliseconds(_value(message, "timestamp"))
        yield Point(latitude * _DEGREES_PER_SEMICIRCLE, longitude * _DEGREES_PER_SEMICIRCLE, at_ms)


def _session(message: Any) -> tuple[int, RecordedTrack]:
    sport, metres = _value(message, "sport"), _value(message, "total_distance")
    known = isinstance(metres, int | float) and 0 <= metres < _MAX_DEVICE_M
    track = RecordedTrack([[]], sport if isinstance(sport, str) else None, int(metres) if known else None)
    return _milliseconds(_value(message, "start_time")) or 0, track
