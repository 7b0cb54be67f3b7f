"""Distances by integers: within half a per cent of the great circle, and boxes that hold every circle."""

from __future__ import annotations

import random
from math import asin, cos, degrees, radians, sin, sqrt

import pytest

from backend.rewards.offers.nearness import COSINES, box_e6, cosine_e6, distance_m

EARTH_M = 6_371_008.8


def great_circle_m(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Metres over a sphere (haversine), degrees given."""
    north, east = radians(other_lat - lat), radians(other_lon - lon)
    half = sin(north / 2) ** 2 + cos(radians(lat)) * cos(radians(other_lat)) * sin(east / 2) ** 2
    return 2 * EARTH_M * asin(sqrt(half))


def test_cosines_are_those_of_the_degrees() -> None:
    assert tuple(round(cos(radians(degree)) * 10**6) for degree in range(91)) == COSINES
    assert [cosine_e6(lat) for lat in (0, 60_000_000, -60_000_000, 90_000_000)] == [10**6, 500_000, 500_000, 0]
    assert cosine_e6(32_500_000) == pytest.approx(cos(radians(32.5)) * 10**6, rel=1e-4)


def test_distances_below_50_km_are_those_of_the_great_circle() -> None:
    chance = random.Random(5)
    for _ in range(5_000):
        lat, lon = chance.uniform(-69, 69), chance.uniform(-180, 180)
        metres, course = chance.uniform(500, 50_000), chance.uniform(0, 6.283)
        other_lat = lat + degrees(metres / EARTH_M) * cos(course)
        other_lon = lon + degrees(metres / EARTH_M) * sin(course) / cos(radians(lat))
        there = (round(other_lat * 1e6), round((other_lon + 180) % 360 * 1e6) - 180_000_000)
        here = (round(lat * 1e6), round(lon * 1e6))
        expected = great_circle_m(*(value / 1e6 for value in (*here, *there)))
        assert distance_m(*here, *there) == pytest.approx(expected, rel=0.005, abs=1)
        assert distance_m(*here, *there) == distance_m(*there, *here)


@pytest.mark.parametrize(
    ("here", "there", "metres"),
    [
        ((0, 0), (0, 0), 0),
        ((0, 0), (1_000_000, 0), 111_195),
        ((0, 0), (0, 1_000_000), 111_195),
        ((60_000_000, 10_000_000), (60_000_000, 11_000_000), 55_597),
        # Over the date line, the short way.
        ((0, 179_990_000), (0, -179_990_000), 2_223),
        ((32_209_000, 119_455_000), (32_209_000, 119_455_010), 0),
        ((32_209_000, 119_455_000), (32_209_000, 119_455_020), 1),
        ((90_000_000, 0), (90_000_000, 90_000_000), 0),
    ],
)
def test_known_distances(here: tuple[int, int], there: tuple[int, int], metres: int) -> None:
    assert distance_m(*here, *there) == metres


def test_a_box_holds_its_circle() -> None:
    chance = random.Random(6)
    for _ in range(2_000):
        lat, lon = chance.randint(-89_000_000, 89_000_000), chance.randint(-170_000_000, 170_000_000)
        radius = chance.randint(1, 50_000)
        height, width = box_e6(lat, radius)
        other = (lat + chance.randint(-2 * height, 2 * height), lon + chance.randint(-2 * width, 2 * width))
        if abs(other[0]) <= 90_000_000 and distance_m(lat, lon, *other) <= radius:
            assert abs(other[0] - lat) <= height + 10
            assert abs(other[1] - lon) <= width + 10 * width // radius + 10
    assert box_e6(90_000_000, 1)[1] == 180_000_000
