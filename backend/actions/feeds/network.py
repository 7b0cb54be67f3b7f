"""A metro network to measure rides on: stations joined line by line, shortest way in metres. Knows no taps, no fares.

Two published layouts of the Shenzhen network are read: the operator's map JSON (lines ``l`` with stations ``st`` in
running order, name ``n``, place ``sl`` as "longitude,latitude") and the table without header
``line_no,line_name,seq,station,station_code``. Station-to-station lengths are straight, so a ride is measured 10-20 %
shorter than the track: the error never favours the claimant.
"""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import orjson

from backend.actions.feeds.geometry import great_circle_mm, parse_position
from backend.actions.feeds.lines import split_fields
from backend.actions.feeds.model import DistanceBasis, FeedFormatError, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from backend.actions.feeds.geometry import Position

# Mean straight length of the 207 station-to-station hops of the Shenzhen map of April 2020, lines 1-5, 7, 9 and 11.
DEFAULT_HOP_M = 1_370
_MAX_NETWORK_BYTES = 50_000_000
_CSV_WIDTH = 5

Hop = tuple[str, str, int]


class Network:
    """Stations and the hops between them (lengths in millimetres); equal names are one station, so lines meet there.

    A line is open unless it names its first station again at its end; a branch is a line of its own.
    """

    def __init__(self, hops: Iterable[Hop], basis: DistanceBasis) -> None:
        self.basis = basis
        self._near: dict[str, dict[str, int]] = {}
        for start, end, length_mm in hops:
            # A map may list a station twice in a row (another entrance); that is no hop.
            if start != end:
                self._join(start, end, length_mm)
                self._join(end, start, length_mm)
        self._reach: dict[str, dict[str, int]] = {}

    def _join(self, start: str, end: str, length_mm: int) -> None:
        near = self._near.setdefault(start, {})
        near[end] = min(length_mm, near.get(end, length_mm))

    @property
    def stations(self) -> frozenset[str]:
        """Names of all stations."""
        return frozenset(self._near)

    def __contains__(self, station: object) -> bool:
        return station in self._near

    def distance_m(self, start: str, end: str) -> int | None:
        """Shortest way in whole metres, rounded down; None where a station is unknown or the two are not connected."""
        if start not in self._near or end not in self._near:
            return None
        if start not in self._reach:
            self._reach[start] = self._distances_from(start)
        length_mm = self._reach[start].get(end)
        return None if length_mm is None else length_mm // 1000

    def _distances_from(self, start: str) -> dict[str, int]:
        """Millimetres to every station that can be reached (Dijkstra's algorithm)."""
        settled: dict[str, int] = {}
        queue = [(0, start)]
        while queue:
            length_mm, station = heapq.heappop(queue)
            if station in settled:
                continue
            settled[station] = length_mm
            for neighbour, hop_mm in self._near[station].items():
                if neighbour not in settled:
                    heapq.heappush(queue, (length_mm + hop_mm, neighbour))
        return settled


def load_network(path: Path, *, hop_m: int = DEFAULT_HOP_M) -> Network:
    """The network in a ``.json`` or ``.csv`` file.

    A table has no places: the JSON of the same name beside it is taken where there is one, else every hop counts
    ``hop_m`` metres and the network's basis says so.

    Raises:
        FeedFormatError: missing, too large, or not in one of the two layouts.
    """
    if size_of(path) > _MAX_NETWORK_BYTES:
        raise FeedFormatError(path.name, f"a network file holds at most {_MAX_NETWORK_BYTES} bytes")
    if path.suffix.lower() == ".json":
        return Network(_hops_of_map(path), DistanceBasis.NETWORK)
    beside = path.with_suffix(".json")
    if beside.is_file():
        return load_network(beside)
    return Network(_hops_of_table(path, hop_m * 1000), DistanceBasis.HOPS)


def _hops_of_map(path: Path) -> list[Hop]:
    try:
        lines = orjson.loads(path.read_bytes())["l"]
        stations = [[_place(station) for station in line["st"]] for line in lines]
    except (ValueError, TypeError, LookupError) as error:
        raise FeedFormatError(path.name, f"not a metro map: {type(error).__name__} {error}") from error
    hops = [
        (start, end, great_circle_mm(start_at, end_at))
        for line in stations
        for (start, start_at), (end, end_at) in pairwise(line)
    ]
    if not hops:
        raise FeedFormatError(path.name, "no line with two stations")
    return hops


def _place(station: dict[str, Any]) -> tuple[str, Position]:
    name = str(station["n"]).strip()
    longitude, latitude = str(station["sl"]).split(",")
    position = parse_position(latitude, longitude)
    if not name or position is None:
        message = f"station {name!r} has no place"
        raise ValueError(message)
    return name, position


def _hops_of_table(path: Path, hop_mm: int) -> list[Hop]:
    lines: dict[str, list[tuple[int, str]]] = {}
    for text in path.read_bytes().decode("utf-8-sig", errors="replace").splitlines():
        fields = [field.strip() for field in split_fields(text)]
        # Numbers may have holes (a station planned, not built), and a table may come with a header after all.
        if len(fields) == _CSV_WIDTH and fields[2].isascii() and fields[2].isdigit() and fields[3]:
            lines.setdefault(fields[0], []).append((int(fields[2]), fields[3]))
    hops = [(start, end, hop_mm) for line in lines.values() for (_, start), (_, end) in pairwise(sorted(line))]
    if not hops:
        raise FeedFormatError(path.name, "no row of line_no,line_name,seq,station,station_code")
    return hops
