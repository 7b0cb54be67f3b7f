"""Positions on the globe: parsing and great-circle lengths. The one place of the feeds where floats are at home."""

from __future__ import annotations

import math

# Mean radius R1 of the GRS 80 ellipsoid; Moritz, H., "Geodetic Reference System 1980", Journal of Geodesy 74, 2000.
_MM_RADIUS = 6_371_008_771.4
_MAX_LATITUDE = 90
_MAX_LONGITUDE = 180

Position = tuple[float, float]


def valid_position(latitude: float, longitude: float) -> bool:
    """Whether degrees name a place on the globe; 0 is what devices write for "unknown", never a place people ride."""
    return 0 < abs(latitude) <= _MAX_LATITUDE and 0 < abs(longitude) <= _MAX_LONGITUDE


def parse_position(latitude: str, longitude: str) -> Position | None:
    """Degrees written as text; None unless both are finite, in range and not 0."""
    try:
        position = float(latitude), float(longitude)
    except ValueError:
        return None
    # A comparison with NaN is false, so NaN is refused here too.
    return position if valid_position(*position) else None


def great_circle_mm(start: Position, end: Position) -> int:
    """Length of the great circle between two positions in whole millimetres, rounded down (haversine formula)."""
    latitude_1, longitude_1, latitude_2, longitude_2 = map(math.radians, (*start, *end))
    chord = (
        math.sin((latitude_2 - latitude_1) / 2) ** 2
        + math.cos(latitude_1) * math.cos(latitude_2) * math.sin((longitude_2 - longitude_1) / 2) ** 2
    )
    return int(2 * _MM_RADIUS * math.asin(min(1.0, math.sqrt(chord))))
