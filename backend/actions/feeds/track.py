"""Recorded activities (GPX, TCX, FIT) as walks and rides: one act per activity, refused where it cannot be one.

Must not believe a file: neither its structure nor its labels; only where the recorder was, and when.
"""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backend.actions.feeds.localtime import EARLIEST_YEAR
from backend.actions.feeds.model import (
    DistanceBasis,
    Feed,
    FeedAct,
    FeedFormatError,
    FeedItem,
    FeedReason,
    FeedReject,
    size_of,
)
from backend.actions.feeds.track_fit import read_fit
from backend.actions.feeds.track_motion import Motion, Verdict, decide, measure
from backend.actions.feeds.track_source import MAX_BYTES, TrackFileError, malformed, too_large
from backend.actions.feeds.track_xml import is_usable, read_gpx, read_tcx
from backend.kernel.units import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from backend.actions.feeds.track_source import Point, RecordedTrack

MIN_POINTS = 10
MAX_DURATION = timedelta(hours=24)
# Clocks of phones and watches are set by satellite; more than this ahead of us is no clock error.
CLOCK_SKEW = timedelta(minutes=5)
# A receiver may lack time or place for its first fixes, not for a tenth of the way.
MAX_UNDATED_PERCENT = 10
_READERS = {".gpx": read_gpx, ".tcx": read_tcx, ".fit": read_fit}
_EARLIEST_MS = int(datetime(EARLIEST_YEAR, 1, 1, tzinfo=UTC).timestamp() * 1000)
_POINT = struct.Struct("<iiq")
_DEGREES_TO_INTEGER = 10_000_000


class TrackFeed(Feed):
    """Track files being read, by name: ``row`` is the file's place among them, ``rows`` counts the recorded tracks.

    A file with several tracks gives several items of one row; a file that cannot be read counts as one.
    """

    def __init__(self, path: Path, *, now: datetime, on_progress: Callable[[int], None] | None = None) -> None:
        if path.is_dir():
            self._files = sorted(file for file in path.iterdir() if file.suffix.lower() in _READERS and file.is_file())
        else:
            self._files = [path]
        self._latest_ms = int((now + CLOCK_SKEW).timestamp() * 1000)
        super().__init__(sum(size_of(file) for file in self._files), on_progress)

    def _read(self) -> Generator[FeedItem]:
        for row, file in enumerate(self._files, start=1):
            for item in self._items_of(row, file):
                self.rows += 1
                yield item
            self._reached(self.position + size_of(file))

    def _items_of(self, row: int, file: Path) -> Iterator[FeedItem]:
        try:
            tracks = _tracks_of(file)
        except TrackFileError as error:
            yield FeedReject(row, error.reason, f"{file.name}: {error.detail}")
            return
        for number, track in enumerate(tracks, start=1):
            item = self._judge(row, track)
            if isinstance(item, FeedReject):
                item = FeedReject(row, item.reason, f"{file.name}, track {number}: {item.detail}")
            yield item

    def _judge(self, row: int, track: RecordedTrack) -> FeedItem:
        """The act a recorded track proves, or why it proves none."""
        points = [[point for point in piece if is_usable(point)] for piece in track.pieces]
        dated = [[point for point in piece if self._is_dated(point)] for piece in points]
        count, known = sum(map(len, points)), sum(map(len, dated))
        if count < MIN_POINTS:
            return FeedReject(row, FeedReason.TOO_FEW_POINTS, f"{count} points")
        if (count - known) * 100 > MAX_UNDATED_PERCENT * count:
            return FeedReject(row, FeedReason.UNDATED, f"{count - known} of {count} points without a credible time")
        motion = measure(dated)
        if motion.backward * 100 > MAX_UNDATED_PERCENT * motion.steps:
            return FeedReject(row, FeedReason.UNDATED, f"time runs backward {motion.backward} times")
        times = [point.at_ms or 0 for piece in dated for point in piece]
        begun, ended = _utc(min(times)), _utc(max(times))
        if ended - begun > MAX_DURATION:
            return FeedReject(row, FeedReason.TOO_LONG, f"{begun} to {ended}")
        verdict = decide(motion, track.sport)
        if verdict.mode is None:
            return FeedReject(row, verdict.refusal or FeedReason.MALFORMED, f"{verdict.why}: {_speeds(motion)}")
        ref = _content_hash(dated)
        return FeedAct(
            row=row,
            kind=verdict.mode.value,
            quantity=motion.distance_mm // 1000,
            unit=Unit.METRE,
            occurred_at=begun,
            ended_at=ended,
            ref=ref,
            holder=None,
            attributes={
                # The same recording under another source is the same act: this is what a claim is made of.
                "track_hash": ref,
                "started": begun.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "points": str(known),
                **_motion_attributes(track, motion, verdict),
            },
        )

    def _is_dated(self, point: Point) -> bool:
        return point.at_ms is not None and _EARLIEST_MS <= point.at_ms <= self._latest_ms


def read_tracks(path: Path, *, now: datetime, on_progress: Callable[[int], None] | None = None) -> TrackFeed:
    """Walks and rides (metres of the trace) of one track file or of all track files in a folder, other files ignored.

    ``now`` is the aware present, after which nothing can have been recorded. The ref is the digest of the points, so
    the same activity has the same ref under any file name.

    Raises:
        FeedFormatError: no such file or folder.
    """
    if now.tzinfo is None:
        raise FeedFormatError(path.name, "the present needs an offset")
    return TrackFeed(path, now=now, on_progress=on_progress)


def _tracks_of(file: Path) -> list[RecordedTrack]:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise malformed("neither .gpx, .tcx nor .fit")
    if file.stat().st_size > MAX_BYTES:
        raise too_large(f"more than {MAX_BYTES} bytes")
    tracks = reader(file.read_bytes())
    if not tracks:
        raise TrackFileError(FeedReason.TOO_FEW_POINTS, "no track in it")
    return tracks


def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)


def _content_hash(pieces: list[list[Point]]) -> str:
    """SHA-256 of places (ten-millionths of a degree) and times, hex."""
    digest = hashlib.sha256()
    for piece in pieces:
        for point in piece:
            place = round(point.latitude * _DEGREES_TO_INTEGER), round(point.longitude * _DEGREES_TO_INTEGER)
            digest.update(_POINT.pack(*place, point.at_ms or 0))
    return digest.hexdigest()


def _speeds(motion: Motion) -> str:
    return f"sustained {motion.sustained}, fastest minute {motion.fastest}, moving {motion.moving} m/h"


def _motion_attributes(track: RecordedTrack, motion: Motion, verdict: Verdict) -> dict[str, str]:
    attributes = {
        "distance_basis": DistanceBasis.TRACE.value,
        "mode_reason": verdict.why,
        "sustained_m_per_h": str(motion.sustained),
        "fastest_minute_m_per_h": str(motion.fastest),
        "moving_m_per_h": str(motion.moving),
        "jumps_left_out": str(motion.jumps),
        "gaps_left_out": str(motion.gaps),
    }
    if track.device_m is not None:
        attributes["device_m"] = str(track.device_m)
    return attributes
