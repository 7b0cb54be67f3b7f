"""Invented GPS recordings as GPX 1.1: walks and rides, a drive that pretends to be a ride, a track without a clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

from backend.actions.feeds.sample_city import stations

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path
    from random import Random
    from zoneinfo import ZoneInfo

_STEP_S: Final = 5
_METRES_PER_DEGREE: Final = 111_195
# Horizontal error of a phone in a street, as the standard deviation of one fix from the next.
_NOISE_M: Final = 1.5
_FIRST_START: Final = time(7, 0)
_STARTS_WITHIN_MIN: Final = 12 * 60


@dataclass(frozen=True, slots=True)
class _Sort:
    """What a recording holds: name, declared sport, speed, minutes, and whether its clock runs."""

    name: str
    sport: str
    m_per_s: float
    minutes: int
    has_clock: bool = True


_SORTS: Final = (
    _Sort("walk", "walking", 1.3, 24),
    _Sort("ride", "cycling", 5.2, 22),
    _Sort("car", "cycling", 17.0, 9),
    _Sort("walk", "hiking", 1.1, 35),
    _Sort("ride", "cycling", 6.1, 31),
    _Sort("undated", "walking", 1.2, 15, has_clock=False),
)


def write_tracks(folder: Path, chance: Random, *, day: date, zone: ZoneInfo, count: int) -> None:
    """Write ``count`` recordings of the local day, sorts in turn: walk, ride, car, walk, ride, one without a clock."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sort in enumerate(islice(cycle(_SORTS), count), start=1):
        begun = datetime.combine(day, _FIRST_START, zone) + timedelta(minutes=chance.randrange(_STARTS_WITHIN_MIN))
        path = folder / f"{number:02}-{sort.name}.gpx"
        path.write_text(_gpx(sort, chance, begun.astimezone(UTC)), encoding="utf-8")


def _gpx(sort: _Sort, chance: Random, begun: datetime) -> str:
    latitude, longitude = chance.choice(sorted(stations().values()))
    heading = chance.uniform(0, math.tau)
    points = []
    for index in range(sort.minutes * 60 // _STEP_S):
        moment = begun + timedelta(seconds=index * _STEP_S) if sort.has_clock else datetime(1970, 1, 1, tzinfo=UTC)
        clock = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        points.append(f'<trkpt lat="{latitude:.7f}" lon="{longitude:.7f}"><time>{clock}</time></trkpt>')
        heading += chance.gauss(0, 0.08)
        way_m = sort.m_per_s * _STEP_S * chance.uniform(0.85, 1.15)
        latitude += (way_m * math.cos(heading) + chance.gauss(0, _NOISE_M)) / _METRES_PER_DEGREE
        narrowing = _METRES_PER_DEGREE * math.cos(math.radians(latitude))
        longitude += (way_m * math.sin(heading) + chance.gauss(0, _NOISE_M)) / narrowing
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<gpx version="1.1" creator="tanhui samples" xmlns="http://www.topografix.com/GPX/1/1">\n'
        f"<trk><type>{sort.sport}</type><trkseg>\n" + "\n".join(points) + "\n</trkseg></trk></gpx>\n"
    )
