"""Distance fares of the Shenzhen metro as an independent check of measured rides. Decides nothing about any ride."""

from __future__ import annotations

# Longest way in metres per fare in fen. Shenzhen Metro fare table in force in 2018: 2 yuan to 4 km, 1 yuan more per
# 4 km to 12 km, per 6 km to 24 km, per 8 km beyond.
_UPPER_M = {200: 4_000, 300: 8_000, 400: 12_000, 500: 18_000, 600: 24_000, 700: 32_000, 800: 40_000, 900: 48_000}


def fare_agrees(fare_fen: int, distance_m: int) -> bool:
    """Whether the way lies in the charged band; its lower edge gives 20 %, for straight lines undershoot the track."""
    upper_m = _UPPER_M.get(fare_fen)
    if upper_m is None:
        return False
    lower_m = max((edge for edge in _UPPER_M.values() if edge < upper_m), default=0)
    return lower_m * 8 < distance_m * 10 and distance_m <= upper_m


def fare_for(distance_m: int) -> int:
    """The fare in fen of a way, the highest known one beyond the table."""
    return next((fare for fare, upper_m in _UPPER_M.items() if distance_m <= upper_m), max(_UPPER_M))
