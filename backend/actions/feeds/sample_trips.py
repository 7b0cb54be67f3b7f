"""Invented bicycle trips in the old and the new published layout, with a few bad rows of each sort. Seeded."""

from __future__ import annotations

import csv
from datetime import datetime, time, timedelta
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final

from backend.actions.feeds.geometry import great_circle_mm
from backend.actions.feeds.sample_city import docks

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path
    from random import Random

_NEW: Final = [
    "ride_id",
    "rideable_type",
    "started_at",
    "ended_at",
    "start_station_name",
    "start_station_id",
    "end_station_name",
    "end_station_id",
    "start_lat",
    "start_lng",
    "end_lat",
    "end_lng",
    "member_casual",
]
_OLD: Final = [
    "tripduration",
    "starttime",
    "stoptime",
    "start station id",
    "start station name",
    "start station latitude",
    "start station longitude",
    "end station id",
    "end station name",
    "end station latitude",
    "end station longitude",
    "bikeid",
    "usertype",
    "birth year",
    "gender",
]
_RIDER: Final = ("Subscriber", 1988, 1)
_TYPES: Final = ("docked_bike", "classic_bike", "classic_bike", "electric_bike")
_SPEED_M_PER_S: Final = (3, 5)
_FIRST_START: Final = time(6, 30)
_STARTS_WITHIN_S: Final = 14 * 3600


def _lost(trip: dict[str, Any]) -> None:
    trip.update(dict.fromkeys(("end_station_name", "end_station_id", "end_lat", "end_lng"), ""))


def _returned_at_once(trip: dict[str, Any]) -> None:
    trip["ended_at"] = trip["started_at"] + timedelta(seconds=33)
    for part in ("station_name", "station_id", "lat", "lng"):
        trip[f"end_{part}"] = trip[f"start_{part}"]


def _backward(trip: dict[str, Any]) -> None:
    trip["started_at"], trip["ended_at"] = trip["ended_at"], trip["started_at"]


def _too_fast(trip: dict[str, Any]) -> None:
    trip["ended_at"] = trip["started_at"] + timedelta(seconds=9)


def _kept(trip: dict[str, Any]) -> None:
    trip["ended_at"] = trip["started_at"] + timedelta(hours=25)


def _nowhere(trip: dict[str, Any]) -> None:
    trip["start_lat"] = trip["start_lng"] = 0


def _unknown_type(trip: dict[str, Any]) -> None:
    trip["rideable_type"] = "hovercraft"


_FLAWS: Final = (_lost, _returned_at_once, _backward, _too_fast, _kept, _nowhere, _unknown_type)
# Every 25th trip is flawed, each flaw in turn.
_FLAW_EVERY: Final = 25


def _trip(chance: Random, day: date) -> dict[str, Any]:
    (start_id, start_name, start), (end_id, end_name, end) = chance.sample(docks(), 2)
    started_at = datetime.combine(day, _FIRST_START) + timedelta(seconds=chance.randrange(_STARTS_WITHIN_S))
    distance_m = great_circle_mm(start, end) // 1000
    riding_s = 45 + distance_m // chance.randint(*_SPEED_M_PER_S)
    return {
        "ride_id": f"{chance.getrandbits(64):016X}",
        "rideable_type": chance.choice(_TYPES),
        "started_at": started_at,
        "ended_at": started_at + timedelta(seconds=riding_s),
        "start_station_name": start_name,
        "start_station_id": start_id,
        "end_station_name": end_name,
        "end_station_id": end_id,
        "start_lat": start[0],
        "start_lng": start[1],
        "end_lat": end[0],
        "end_lng": end[1],
        "member_casual": chance.choice(("member", "casual")),
    }


def write_trips(path: Path, chance: Random, *, day: date, count: int) -> None:
    """Write ``count`` trips of the local day in the new layout, every 25th of them flawed."""
    flaws = cycle(_FLAWS)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _NEW, lineterminator="\n")
        writer.writeheader()
        for number in range(1, count + 1):
            trip = _trip(chance, day)
            if number % _FLAW_EVERY == 0:
                next(flaws)(trip)
            writer.writerow(trip)


def write_old_trips(path: Path, chance: Random, *, day: date, count: int) -> None:
    """Write ``count`` sound trips of the local day in the old layout."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(_OLD)
        for number, trip in enumerate(islice(iter(lambda: _trip(chance, day), None), count), start=1):
            start, end = trip["started_at"], trip["ended_at"]
            begun, ended = (f"{moment}.{chance.randrange(10_000):04}" for moment in (start, end))
            places = [
                trip[f"{end_of}_{part}"]
                for end_of in ("start", "end")
                for part in ("station_id", "station_name", "lat", "lng")
            ]
            writer.writerow([int((end - start).total_seconds()), begun, ended, *places, 70_000 + number, *_RIDER])
