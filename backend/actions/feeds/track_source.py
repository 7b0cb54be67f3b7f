"""What the recorders' files have in common: a recorded track of timed points, and why a file gives none. No parsing."""

from __future__ import annotations

from dataclasses import dataclass, field

from backend.actions.feeds.model import FeedReason

# 200,000 points are 55 hours at one per second; with the elements around them such a file is far below the byte limit.
MAX_POINTS = 200_000
MAX_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Point:
    """A place in degrees and its UTC time in milliseconds since 1970 (None: the recorder wrote none)."""

    latitude: float
    longitude: float
    at_ms: int | None


@dataclass(slots=True)
class RecordedTrack:
    """One activity as recorded: pieces of points, the sport the recorder's owner chose, the recorder's own metres."""

    pieces: list[list[Point]] = field(default_factory=list)
    sport: str | None = None
    device_m: int | None = None


@dataclass(eq=False)
class TrackFileError(Exception):
    """The file gives no track at all."""

    reason: FeedReason
    detail: str


def malformed(detail: str) -> TrackFileError:
    """The error of a file that cannot be read."""
    return TrackFileError(FeedReason.MALFORMED, detail[:200])


def too_large(detail: str) -> TrackFileError:
    """The error of a file over a limit."""
    return TrackFileError(FeedReason.TOO_LARGE, detail)
