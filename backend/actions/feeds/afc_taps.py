"""Taps of a fare-collection file: parsed row by row and sorted by card and time outside memory. Pairs nothing.

Layout: Shenzhen Municipal Government Data Open Platform, data set 29200_00403601 "深圳通刷卡数据" (2018), as CSV.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING

from backend.actions.feeds.lines import CsvRows
from backend.actions.feeds.localtime import parse_local, to_utc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from zoneinfo import ZoneInfo

COLUMNS = ("card_no", "deal_date", "deal_type", "deal_value", "equ_no", "company_name", "station")
_BATCH = 1_000
_CACHE_KIB = 16_384
# Texts become part of an act's reference and attributes, whose lengths the intake bounds.
_MAX_ID = 32
_MAX_NAME = 64
_MAX_FARE_DIGITS = 7


class TapType(IntEnum):
    """What a tap did. The number is the order within one second: leaving comes before entering again."""

    EXIT = 0
    ENTRY = 1
    BUS = 2


_TYPES = {"地铁出站": TapType.EXIT, "地铁入站": TapType.ENTRY, "巴士": TapType.BUS}


@dataclass(frozen=True, slots=True)
class Tap:
    """One tap: card, UTC milliseconds since 1970, type, device, station (or bus route), line, fare in fen."""

    card: str
    at_ms: int
    type: TapType
    device: str
    station: str
    line: str
    fare_fen: int
    row: int

    @property
    def at(self) -> datetime:
        """When, aware UTC."""
        return datetime.fromtimestamp(self.at_ms // 1000, UTC).replace(microsecond=self.at_ms % 1000 * 1000)

    @property
    def identity(self) -> tuple[str, int, TapType, str, str]:
        """What makes two records one physical tap."""
        return self.card, self.at_ms, self.type, self.device, self.station


class TapRows:
    """The rows of a tap file as taps, or as the sentence that says what is wrong with them."""

    def __init__(self, path: Path, zone: ZoneInfo) -> None:
        self.source = CsvRows(path, str.strip)
        self._columns = self.source.require(*COLUMNS)
        self._zone = zone

    def __iter__(self) -> Iterator[Tap | tuple[int, str]]:
        for row, fields in self.source:
            yield (row, "not a row of this file") if fields is None else self._tap(row, fields)

    def _tap(self, row: int, fields: list[str]) -> Tap | tuple[int, str]:
        card, time, kind, fare, device, line, station = (fields[column].strip() for column in self._columns)
        if not 0 < len(card) <= _MAX_ID or len(device) > _MAX_ID or len(line) > _MAX_NAME or len(station) > _MAX_NAME:
            return row, "card_no is empty or a text is too long"
        if kind not in _TYPES:
            return row, f"deal_type {kind[:_MAX_NAME]!r}"
        moment = parse_local(time)
        if moment is None:
            return row, f"deal_date {time[:_MAX_NAME]!r}"
        if not (fare.isascii() and fare.isdigit() and len(fare) <= _MAX_FARE_DIGITS):
            return row, f"deal_value {fare[:_MAX_NAME]!r}"
        at_ms = int(to_utc(moment, self._zone).timestamp() * 1000)
        return Tap(card, at_ms, _TYPES[kind], device, station, line, int(fare), row)


class TapSorter:
    """Taps put in, taken out by card and time, whatever their number.

    They lie in a temporary database which the system deletes by itself: it needs about twice the file's size in the
    temporary directory and a fixed cache in memory.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
            self._database.execute(f"PRAGMA {pragma}").close()
        self._database.execute(
            "CREATE TABLE tap (card TEXT, at_ms INTEGER, type INTEGER, device TEXT, station TEXT, line TEXT,"
            " fare_fen INTEGER, row INTEGER PRIMARY KEY)"
        ).close()
        self._waiting: list[tuple[str | int, ...]] = []
        self.count = 0

    def add(self, tap: Tap) -> None:
        """Put one tap in."""
        self._waiting.append((tap.card, tap.at_ms, tap.type, tap.device, tap.station, tap.line, tap.fare_fen, tap.row))
        self.count += 1
        if len(self._waiting) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        # One transaction per batch: without it SQLite would commit every row by itself.
        self._database.execute("BEGIN").close()
        self._database.executemany("INSERT INTO tap VALUES (?,?,?,?,?,?,?,?)", self._waiting).close()
        self._database.execute("COMMIT").close()
        self._waiting.clear()

    def sorted(self) -> Iterator[Tap]:
        """All taps by card, time and type; records of one tap stand next to each other, the earlier row first."""
        self._flush()
        order = "SELECT * FROM tap ORDER BY card, at_ms, type, device, station, row"
        with closing(self._database.execute(order)) as found:
            for card, at_ms, kind, *rest in found:
                yield Tap(card, at_ms, TapType(kind), *rest)

    def close(self) -> None:
        """Give the temporary space back."""
        self._database.close()
