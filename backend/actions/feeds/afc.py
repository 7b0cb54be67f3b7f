"""Shenzhen fare-collection feed (``shenzhen-afc``): metro entries and exits paired into rides, bus taps as rides.

Measures rides over a metro network; must not know who the card's citizen is or what a ride earns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from backend.actions.feeds.afc_taps import Tap, TapRows, TapSorter, TapType
from backend.actions.feeds.fares import fare_agrees
from backend.actions.feeds.model import Feed, FeedAct, FeedItem, FeedReason, FeedReject
from backend.kernel.units import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from backend.actions.feeds.network import Network

# Longer than any ride the gates let out without staff (the network crosses in under 3 h), shorter than a night's pause.
MAX_JOURNEY = timedelta(hours=6)
_SHANGHAI = ZoneInfo("Asia/Shanghai")
_BLANK = frozenset({"", "-"})
_STATION_SUFFIX = "站"
# Names of the 2018 taps as the 2020 map writes them; the broken ones are a letter outside the exporter's character set.
_ALIASES = {"马鞍山": "马安山", "深圳大学": "深大", "?I岭": "孖岭", "\ufffdI岭": "孖岭"}


@dataclass(slots=True)
class AfcStatistics:
    """Counts of one pass: complete entry-exit pairs, those at one station, and the check against the distance fare.

    ``fare_band_total`` are pairs of two stations with a measured way and a fare, ``fare_band_agree`` those of them
    whose way lies in the band the operator charged.
    """

    pairs: int = 0
    same_station: int = 0
    fare_band_total: int = 0
    fare_band_agree: int = 0


class AfcFeed(Feed):
    """A tap file being read; ``statistics`` are complete once it is exhausted.

    Malformed rows come first in the file's order, then all taps by card and time. The bytes count twice: for sorting
    and for pairing.
    """

    def __init__(
        self,
        path: Path,
        network: Network,
        *,
        zone: ZoneInfo = _SHANGHAI,
        max_journey: timedelta = MAX_JOURNEY,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self._taps = TapRows(path, zone)
        self._network = network
        self._max_journey_ms = int(max_journey / timedelta(milliseconds=1))
        self.statistics = AfcStatistics()
        super().__init__(2 * self._taps.source.total_bytes, on_progress)

    def _read(self) -> Generator[FeedItem]:
        sorter = TapSorter()
        try:
            for tap in self._taps:
                self.rows += 1
                self._reached(self._taps.source.position)
                if isinstance(tap, Tap):
                    sorter.add(tap)
                else:
                    yield FeedReject(tap[0], FeedReason.MALFORMED, tap[1])
            yield from self._paired(self._told(sorter))
            self._reached(self.total_bytes)
        finally:
            sorter.close()

    def _told(self, sorter: TapSorter) -> Iterator[Tap]:
        half = self.total_bytes // 2
        for done, tap in enumerate(sorter.sorted(), start=1):
            self._reached(half + half * done // sorter.count)
            yield tap

    def _paired(self, taps: Iterator[Tap]) -> Iterator[FeedItem]:
        entry: Tap | None = None
        last: Tap | None = None
        for tap in taps:
            if last is not None and tap.identity == last.identity:
                yield FeedReject(tap.row, FeedReason.DUPLICATE_TAP, f"the same tap as row {last.row}")
                continue
            last = tap
            if tap.type is TapType.BUS:
                yield _bus_ride(tap)
                continue
            if entry is not None and not self._may_pair(entry, tap):
                yield _unpaired(entry)
                entry = None
            if tap.type is TapType.ENTRY:
                entry = tap
            elif entry is None:
                yield _unpaired(tap)
            else:
                yield self._ride(entry, tap)
                entry = None
        if entry is not None:
            yield _unpaired(entry)

    def _may_pair(self, entry: Tap, tap: Tap) -> bool:
        return tap.type is TapType.EXIT and tap.card == entry.card and tap.at_ms - entry.at_ms <= self._max_journey_ms

    def _ride(self, entry: Tap, leave: Tap) -> FeedItem:
        self.statistics.pairs += 1
        if entry.station in _BLANK or leave.station in _BLANK:
            return _refused(entry, FeedReason.BLANK_STATION, leave)
        start, end = self._station(entry.station), self._station(leave.station)
        if start == end:
            self.statistics.same_station += 1
            return _refused(entry, FeedReason.SAME_STATION, leave)
        if start not in self._network or end not in self._network:
            return _refused(entry, FeedReason.UNKNOWN_STATION, leave)
        distance_m = self._network.distance_m(start, end)
        if distance_m is None:
            return _refused(entry, FeedReason.NO_PATH, leave)
        if leave.fare_fen > 0:
            self.statistics.fare_band_total += 1
            self.statistics.fare_band_agree += fare_agrees(leave.fare_fen, distance_m)
        return FeedAct(
            row=entry.row,
            kind="metro",
            quantity=distance_m,
            unit=Unit.METRE,
            occurred_at=entry.at,
            ended_at=leave.at,
            ref=f"metro:{entry.card}:{_rfc3339(entry)}",
            holder=entry.card,
            attributes={
                "card": entry.card,
                "entered_at": _rfc3339(entry),
                "from": start,
                "to": end,
                "fare_fen": str(leave.fare_fen),
                "line": leave.line,
                "distance_basis": self._network.basis.value,
            },
            rows=2,
        )

    def _station(self, name: str) -> str:
        """The map's name of the station a gate names; gates may write 站 behind it."""
        if name in self._network:
            return name
        name = name.removesuffix(_STATION_SUFFIX)
        return _ALIASES.get(name, name)


def read_afc(
    path: Path,
    network: Network,
    *,
    zone: ZoneInfo = _SHANGHAI,
    max_journey: timedelta = MAX_JOURNEY,
    on_progress: Callable[[int], None] | None = None,
) -> AfcFeed:
    """Metro rides (metres over the network) and bus rides (one each) of a Shenzhen tap file; the holder is the card.

    Raises:
        FeedFormatError: missing file, or a header without the feed's columns.
    """
    return AfcFeed(path, network, zone=zone, max_journey=max_journey, on_progress=on_progress)


def _rfc3339(tap: Tap) -> str:
    return tap.at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _refused(entry: Tap, reason: FeedReason, leave: Tap) -> FeedReject:
    detail = f"{entry.station or '(blank)'} to {leave.station or '(blank)'}, exit in row {leave.row}"
    return FeedReject(entry.row, reason, detail, rows=2)


def _unpaired(tap: Tap) -> FeedReject:
    reason = FeedReason.UNPAIRED_ENTRY if tap.type is TapType.ENTRY else FeedReason.UNPAIRED_EXIT
    return FeedReject(tap.row, reason, f"{tap.station or '(blank)'} at {_rfc3339(tap)}")


def _bus_ride(tap: Tap) -> FeedAct:
    tapped_at = _rfc3339(tap)
    attributes = {"card": tap.card, "entered_at": tapped_at, "route": tap.station, "line": tap.line}
    return FeedAct(
        row=tap.row,
        kind="bus_ride",
        quantity=1,
        unit=Unit.COUNT,
        occurred_at=tap.at,
        ended_at=None,
        # Masked card numbers may meet in one second, hence the device.
        ref=f"bus:{tap.card}:{tapped_at}:{tap.device}",
        holder=tap.card,
        attributes={**attributes, "fare_fen": str(tap.fare_fen)},
    )
