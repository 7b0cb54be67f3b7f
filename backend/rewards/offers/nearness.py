"""How far two places are apart, in whole metres and by integers alone.

The earth is a sphere of the mean radius 6,371,008.8 m (IUGG), and flat between the places; longitudes shrink by the
cosine of the mean latitude. Below 50 km and 70 degrees of latitude that is within 0.5 % of the great circle.
"""

from __future__ import annotations

from math import isqrt

DEGREE_E6 = 10**6
TURN_E6 = 360 * DEGREE_E6
SCALE = 10**6
# Metres a degree of a great circle, times a thousand.
MM_PER_DEGREE = 111_195_080
# Cosines of whole degrees from 0 to 90, times a million; between them straight lines.
_COSINES = """
1000000 999848 999391 998630 997564 996195 994522 992546 990268 987688 984808 981627 978148 974370 970296 965926
961262 956305 951057 945519 939693 933580 927184 920505 913545 906308 898794 891007 882948 874620 866025 857167
848048 838671 829038 819152 809017 798636 788011 777146 766044 754710 743145 731354 719340 707107 694658 681998
669131 656059 642788 629320 615661 601815 587785 573576 559193 544639 529919 515038 500000 484810 469472 453990
438371 422618 406737 390731 374607 358368 342020 325568 309017 292372 275637 258819 241922 224951 207912 190809
173648 156434 139173 121869 104528 87156 69756 52336 34899 17452 0
"""
COSINES = tuple(map(int, _COSINES.split()))


def cosine_e6(lat_e6: int) -> int:
    """The cosine of a latitude, times a million."""
    degree, rest = divmod(abs(lat_e6), DEGREE_E6)
    here = COSINES[degree]
    return here if not rest else here - (here - COSINES[degree + 1]) * rest // DEGREE_E6


def distance_m(lat_e6: int, lon_e6: int, other_lat_e6: int, other_lon_e6: int) -> int:
    """Metres between two places in microdegrees, rounded down."""
    north = other_lat_e6 - lat_e6
    apart = abs(other_lon_e6 - lon_e6)
    east = min(apart, TURN_E6 - apart) * cosine_e6((lat_e6 + other_lat_e6) // 2) // SCALE
    return isqrt(north * north + east * east) * MM_PER_DEGREE // (DEGREE_E6 * 1_000)


def box_e6(lat_e6: int, radius_m: int) -> tuple[int, int]:
    """Microdegrees of latitude and of longitude beyond which nothing is within the radius; a little generous."""
    height = radius_m * 1_000 * DEGREE_E6 // MM_PER_DEGREE + 1
    cosine = cosine_e6(min(abs(lat_e6) + height, 90 * DEGREE_E6))
    width = TURN_E6 // 2 if not cosine else min(height * SCALE // cosine + 1, TURN_E6 // 2)
    return height, width
