"""Bicycle-sharing trip files in the two layouts of Lyft-operated systems: one trip per row, measured dock to dock.

Layouts: Citi Bike "System Data" trip histories (Lyft), to January 2021 (``tripduration``, ``starttime`` ...) and since
February 2021 (``ride_id``, ``rideable_type`` ...). The files name no rider, so no act has a holder. Must not judge
short trips: what a trip earns is the rules' matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from backend.actions.feeds.geometry import great_circle_mm, parse_position
from backend.actions.feeds.lines import CsvRows
from backend.actions.feeds.localtime import parse_local, to_utc_interval
from backend.actions.feeds.model import (
    DistanceBasis,
    Feed,
    FeedAct,
    FeedFormatError,
    FeedItem,
    FeedReason,
    FeedReject,
)
from backend.kernel.units import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime
    from pathlib import Path

    from backend.actions.feeds.geometry import Position

_NEW_YORK = ZoneInfo("America/New_York")
MAX_TRIP = timedelta(hours=24)
# Shared bicycles have 3 to 8 gears and 20 kg, shared e-bikes cut out at 25 to 32 km/h; the straight line understates.
MAX_AVERAGE_SPEED_M_PER_H = 35_000
_MAX_ID = 64
_MAX_TIME = 32
_MAX_NAME = 100

_KINDS = {"docked_bike": "bike_share", "classic_bike": "bike_share", "electric_bike": "ebike_share"}
_PLACES = ("from", "from_name", "start_lat", "start_lng", "to", "to_name", "end_lat", "end_lng")
# Our field: the column of each layout, names compared in lower case without spaces.
_NEW = {
    "id": "ride_id",
    "type": "rideable_type",
    "start": "started_at",
    "end": "ended_at",
    "from": "start_station_id",
    "from_name": "start_station_name",
    "to": "end_station_id",
    "to_name": "end_station_name",
    **{name: name for name in _PLACES if name.endswith(("_lat", "_lng"))},
}
_OLD = {
    "id": "bikeid",
    "duration": "tripduration",
    "start": "starttime",
    "end": "stoptime",
    "from": "startstationid",
    "from_name": "startstationname",
    "start_lat": "startstationlatitude",
    "start_lng": "startstationlongitude",
    "to": "endstationid",
    "to_name": "endstationname",
    "end_lat": "endstationlatitude",
    "end_lng": "endstationlongitude",
}


@dataclass(frozen=True, slots=True)
class _Trip:
    """A row whose texts are read; the end is what it may still lack."""

    row: int
    ref: str
    kind: str
    start: datetime
    end: datetime
    start_at: Position
    end_at: Position
    texts: dict[str, str]
    duration_s: int | None


class BikeshareFeed(Feed):
    """A trip file being read, in the file's order. A trip number that appears twice gives two acts of the same ref."""

    def __init__(self, path: Path, *, zone: ZoneInfo, on_progress: Callable[[int], None] | None = None) -> None:
        self._source = CsvRows(path, lambda name: name.strip().lower().replace(" ", ""))
        known = self._source.columns
        layout = next((layout for layout in (_NEW, _OLD) if layout["start"] in known and layout["id"] in known), None)
        if layout is None:
            raise FeedFormatError(path.name, "the header is neither the old nor the new trip layout")
        self._fields = tuple(zip(layout, self._source.require(*layout.values()), strict=True))
        self._zone = zone
        super().__init__(self._source.total_bytes, on_progress)

    def _read(self) -> Generator[FeedItem]:
        for row, fields in self._source:
            self.rows += 1
            self._reached(self._source.position)
            if fields is None:
                yield FeedReject(row, FeedReason.MALFORMED, "not a row of this file")
                continue
            trip = _parse(row, {name: fields[column].strip() for name, column in self._fields})
            yield trip if isinstance(trip, FeedReject) else self._judge(trip)

    def _judge(self, trip: _Trip) -> FeedItem:
        """The act a trip proves, or why it proves none."""
        begun, ended = to_utc_interval(trip.start, trip.end, self._zone, duration_s=trip.duration_s)
        length = ended - begun
        if length <= timedelta(0):
            return FeedReject(trip.row, FeedReason.NEGATIVE_DURATION, f"{trip.start} to {trip.end}")
        if length > MAX_TRIP:
            return FeedReject(trip.row, FeedReason.TOO_LONG, f"{trip.start} to {trip.end}")
        distance_m = great_circle_mm(trip.start_at, trip.end_at) // 1000
        same = trip.texts["from"] == trip.texts["to"] != ""
        if same or distance_m == 0:
            return FeedReject(trip.row, FeedReason.SAME_DOCK, trip.texts["from_name"] or trip.texts["from"])
        length_ms = length // timedelta(milliseconds=1)
        if distance_m * 3_600_000 > MAX_AVERAGE_SPEED_M_PER_H * length_ms:
            return FeedReject(trip.row, FeedReason.IMPLAUSIBLE_SPEED, f"{distance_m} m in {length_ms // 1000} s")
        return FeedAct(
            row=trip.row,
            kind=trip.kind,
            quantity=distance_m,
            unit=Unit.METRE,
            occurred_at=begun,
            ended_at=ended,
            ref=trip.ref,
            holder=None,
            attributes={
                "trip_id": trip.ref,
                **{name: text for name, text in trip.texts.items() if text},
                "distance_basis": DistanceBasis.GREAT_CIRCLE.value,
            },
        )


def read_bikeshare(
    path: Path, *, zone: ZoneInfo = _NEW_YORK, on_progress: Callable[[int], None] | None = None
) -> BikeshareFeed:
    """Trips (metres of the great circle between the docks) of a trip file; times in the file are local to ``zone``.

    Raises:
        FeedFormatError: missing file, or a header of neither layout.
    """
    return BikeshareFeed(path, zone=zone, on_progress=on_progress)


def _parse(row: int, field: dict[str, str]) -> _Trip | FeedReject:
    identity, kind, problem = _identity(field)
    if problem:
        return FeedReject(row, FeedReason.MALFORMED, problem)
    start = parse_local(field["start"])
    start_at = parse_position(field["start_lat"], field["start_lng"])
    if start is None or start_at is None:
        return FeedReject(row, FeedReason.MALFORMED, "no readable time or place of the start")
    # A bicycle that was lost or never docked has neither a station nor a place of return.
    if not field["end"] or not (field["to"] or field["end_lat"] or field["end_lng"]):
        return FeedReject(row, FeedReason.NO_END, identity)
    end = parse_local(field["end"])
    end_at = parse_position(field["end_lat"], field["end_lng"])
    if end is None or end_at is None:
        return FeedReject(row, FeedReason.MALFORMED, "no readable time or place of the end")
    texts = {name: field[name] for name in ("from", "from_name", "to", "to_name")}
    duration = field.get("duration", "")
    duration_s = int(duration) if duration.isascii() and duration.isdigit() and len(duration) <= _MAX_ID else None
    return _Trip(row, identity, kind, start, end, start_at, end_at, texts, duration_s)


def _identity(field: dict[str, str]) -> tuple[str, str, str]:
    """The trip's reference and kind of action, and what is wrong with them (empty: nothing)."""
    identity = field["id"]
    if not identity or len(identity) > _MAX_ID or any(len(field[name]) > _MAX_NAME for name in _PLACES):
        return "", "", "no trip number, or a text is too long"
    if "type" not in field:
        # The old layout has no trip number, but one bicycle starts one trip at a time.
        start = field["start"]
        return (
            (f"{identity}@{start}", "bike_share", "") if len(start) <= _MAX_TIME else ("", "", "no time of the start")
        )
    kind = _KINDS.get(field["type"])
    return (identity, kind, "") if kind else ("", "", f"rideable_type {field['type'][:_MAX_ID]!r}")
