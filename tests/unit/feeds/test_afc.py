"""Fare-collection taps: rides, traps with their reasons, order, memory and the real file."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backend.actions.feeds.afc import AfcStatistics, read_afc
from backend.actions.feeds.model import FeedAct, FeedFormatError, FeedItem, FeedReason, FeedReject
from backend.actions.feeds.network import load_network
from backend.kernel.units import Unit

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from backend.actions.feeds.network import Network

    Tally = Callable[[Iterable[FeedItem]], Counter[str]]

COLUMNS = ("card_no", "deal_date", "deal_type", "deal_money", "deal_value", "equ_no", "company_name", "station")
ENTRY, EXIT, BUS = "地铁入站", "地铁出站", "巴士"


def tap(kind: str, clock: str, station: str, *, card: str = "AAA", fare: str = "0", device: str = "g1") -> str:
    return f"{card},2018-09-01 {clock},{kind},0,{fare},{device},地铁一号线,{station}"


def write(path: Path, *rows: str, columns: tuple[str, ...] = COLUMNS) -> Path:
    path.write_text("\n".join((",".join(columns), *rows)) + "\n", encoding="utf-8")
    return path


def test_an_entry_and_its_exit_are_one_ride(tmp_path: Path, metro: Network) -> None:
    path = write(
        tmp_path / "t.csv", tap(EXIT, "08:25:30", "东堤站", fare="300"), tap(ENTRY, "08:00:00", "青屿", card="AAA")
    )
    assert list(read_afc(path, metro)) == [
        FeedAct(
            row=2,
            kind="metro",
            quantity=7_001,
            unit=Unit.METRE,
            occurred_at=datetime(2018, 9, 1, 0, 0, tzinfo=UTC),
            ended_at=datetime(2018, 9, 1, 0, 25, 30, tzinfo=UTC),
            ref="metro:AAA:2018-09-01T00:00:00Z",
            holder="AAA",
            attributes={
                "card": "AAA",
                "entered_at": "2018-09-01T00:00:00Z",
                "from": "青屿",
                "to": "东堤",
                "fare_fen": "300",
                "line": "地铁一号线",
                "distance_basis": "network",
            },
            rows=2,
        )
    ]


def test_a_bus_tap_is_one_ride(tmp_path: Path, metro: Network) -> None:
    path = write(tmp_path / "t.csv", tap(BUS, "09:00:00", "M375", fare="250", device="d7"))
    [act] = read_afc(path, metro)
    assert isinstance(act, FeedAct)
    assert (act.kind, act.quantity, act.unit, act.ended_at) == ("bus_ride", 1, Unit.COUNT, None)
    assert (act.ref, act.holder) == ("bus:AAA:2018-09-01T01:00:00Z:d7", "AAA")
    assert act.attributes == {
        "card": "AAA",
        "entered_at": "2018-09-01T01:00:00Z",
        "route": "M375",
        "line": "地铁一号线",
        "fare_fen": "250",
    }


@pytest.mark.parametrize(
    ("rows", "rejects"),
    [
        ([tap(ENTRY, "08:00:00", ""), tap(EXIT, "08:30:00", "东堤")], [(1, "BLANK_STATION", 2)]),
        ([tap(ENTRY, "08:00:00", "青屿"), tap(EXIT, "08:30:00", "-")], [(1, "BLANK_STATION", 2)]),
        ([tap(ENTRY, "08:00:00", "青屿"), tap(EXIT, "08:30:00", "云外")], [(1, "UNKNOWN_STATION", 2)]),
        ([tap(ENTRY, "08:00:00", "云外"), tap(EXIT, "08:30:00", "青屿")], [(1, "UNKNOWN_STATION", 2)]),
        ([tap(ENTRY, "08:00:00", "青屿站"), tap(EXIT, "08:30:00", "青屿")], [(1, "SAME_STATION", 2)]),
        ([tap(ENTRY, "08:00:00", "青屿"), tap(EXIT, "08:30:00", "孤岛")], [(1, "NO_PATH", 2)]),
        ([tap(ENTRY, "08:00:00", "青屿")], [(1, "UNPAIRED_ENTRY", 1)]),
        ([tap(EXIT, "08:00:00", "青屿")], [(1, "UNPAIRED_EXIT", 1)]),
        (
            [tap(ENTRY, "08:00:00", "青屿"), tap(EXIT, "08:30:00", "东堤", card="BBB")],
            [(1, "UNPAIRED_ENTRY", 1), (2, "UNPAIRED_EXIT", 1)],
        ),
        (
            [tap(ENTRY, "08:00:00", "青屿"), tap(EXIT, "14:00:01", "东堤")],
            [(1, "UNPAIRED_ENTRY", 1), (2, "UNPAIRED_EXIT", 1)],
        ),
        ([tap("轮渡", "08:00:00", "青屿")], [(1, "MALFORMED", 1)]),
        ([tap(ENTRY, "25:00:00", "青屿")], [(1, "MALFORMED", 1)]),
        ([tap(ENTRY, "08:00", "青屿")], [(1, "MALFORMED", 1)]),
        ([tap(ENTRY, "08:00:00", "青屿", fare="-1")], [(1, "MALFORMED", 1)]),
        ([tap(ENTRY, "08:00:00", "青屿", fare="2.5")], [(1, "MALFORMED", 1)]),
        ([tap(ENTRY, "08:00:00", "青屿", fare="２００")], [(1, "MALFORMED", 1)]),
        ([tap(ENTRY, "08:00:00", "青屿", card=" ")], [(1, "MALFORMED", 1)]),
        ([tap(ENTRY, "08:00:00", "青屿", card="A" * 33)], [(1, "MALFORMED", 1)]),
        (["garbage"], [(1, "MALFORMED", 1)]),
        ([tap(ENTRY, "08:00:00", "青屿") + ",more"], [(1, "MALFORMED", 1)]),
    ],
)
def test_a_trap_is_rejected_with_its_reason(
    tmp_path: Path, metro: Network, rows: list[str], rejects: list[tuple[int, str, int]]
) -> None:
    found = list(read_afc(write(tmp_path / "t.csv", *rows), metro))
    assert all(isinstance(item, FeedReject) for item in found)
    assert [(item.row, item.reason, item.rows) for item in found if isinstance(item, FeedReject)] == rejects


def test_six_hours_is_still_a_ride(tmp_path: Path, metro: Network, tally: Tally) -> None:
    path = write(tmp_path / "t.csv", tap(ENTRY, "08:00:00", "青屿"), tap(EXIT, "14:00:00", "东堤"))
    assert tally(read_afc(path, metro)) == {"metro": 2}
    short = read_afc(path, metro, max_journey=timedelta(hours=5))
    assert tally(short) == {"UNPAIRED_ENTRY": 1, "UNPAIRED_EXIT": 1}


def test_the_same_tap_twice_counts_once(tmp_path: Path, metro: Network) -> None:
    rows = [tap(BUS, "07:00:00", "M1"), tap(ENTRY, "08:00:00", "青屿"), tap(EXIT, "08:30:00", "东堤", fare="300")]
    items = list(read_afc(write(tmp_path / "t.csv", *rows, *rows), metro))
    acts = [(item.kind, item.row) for item in items if isinstance(item, FeedAct)]
    rejects = [(item.row, item.reason, item.detail) for item in items if isinstance(item, FeedReject)]
    assert acts == [("bus_ride", 1), ("metro", 2)]
    assert rejects == [
        (4, FeedReason.DUPLICATE_TAP, "the same tap as row 1"),
        (5, FeedReason.DUPLICATE_TAP, "the same tap as row 2"),
        (6, FeedReason.DUPLICATE_TAP, "the same tap as row 3"),
    ]


def test_leaving_and_entering_in_one_second_are_two_journeys(tmp_path: Path, metro: Network) -> None:
    path = write(
        tmp_path / "t.csv",
        tap(ENTRY, "08:30:00", "东堤"),
        tap(EXIT, "08:30:00", "东堤"),
        tap(ENTRY, "08:00:00", "青屿"),
        tap(EXIT, "09:00:00", "望汐"),
    )
    found = [(item.row, item.attributes["to"]) for item in read_afc(path, metro) if isinstance(item, FeedAct)]
    assert found == [(3, "东堤"), (1, "望汐")]


def test_an_entry_without_exit_gives_way_to_the_next(tmp_path: Path, metro: Network, tally: Tally) -> None:
    path = write(
        tmp_path / "t.csv",
        tap(ENTRY, "08:00:00", "青屿"),
        tap(ENTRY, "09:00:00", "望汐"),
        tap(EXIT, "09:20:00", "东堤"),
        tap(EXIT, "09:40:00", "东堤"),
    )
    feed = read_afc(path, metro)
    assert tally(feed) == {"UNPAIRED_ENTRY": 1, "metro": 2, "UNPAIRED_EXIT": 1}
    assert feed.statistics == AfcStatistics(pairs=1)


def test_columns_are_found_by_name(tmp_path: Path, metro: Network, tally: Tally) -> None:
    columns = ("station", "extra", *COLUMNS[:-1])
    row = tap(BUS, "07:00:00", "M1")
    text, station = row.rsplit(",", 1)
    assert tally(read_afc(write(tmp_path / "t.csv", f"{station},x,{text}", columns=columns), metro)) == {"bus_ride": 1}


def test_a_header_without_the_columns_is_refused(tmp_path: Path, metro: Network) -> None:
    with pytest.raises(FeedFormatError) as caught:
        read_afc(write(tmp_path / "t.csv", columns=("card_no", "station")), metro)
    assert caught.value.problem == "the header lacks deal_date, deal_type, deal_value, equ_no, company_name"


def test_progress_reaches_its_total_and_never_falls_back(tmp_path: Path, metro: Network) -> None:
    told: list[int] = []
    path = write(tmp_path / "t.csv", *(tap(BUS, f"07:00:{second:02}", "M1") for second in range(60)))
    feed = read_afc(path, metro, on_progress=told.append)
    assert (len(list(feed)), feed.rows) == (60, 60)
    assert told == sorted(told)
    assert told[-1] == feed.position == feed.total_bytes == 2 * path.stat().st_size


def test_memory_does_not_grow_with_the_file(tmp_path: Path, metro: Network) -> None:
    path = tmp_path / "t.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        # Cards come in no order, so that sorting has something to do.
        for number in range(6_000):
            clock = f"{6 + number % 16:02}:{number // 60 % 60:02}:{number % 60:02}"
            file.write(tap((ENTRY, EXIT, BUS)[number % 3], clock, "青屿", card=f"C{number * 7919 % 3_000}") + "\n")
    tracemalloc.start()
    rows = sum(item.rows for item in read_afc(path, metro))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 6_000
    # Kept in a list, these rows would take 3 MB and more.
    assert peak < 1_000_000


def test_the_real_taps_give_the_published_figures(real_data: Callable[[str], Path], tally: Tally) -> None:
    network = load_network(real_data("shenzhen_metro_network") / "szmc.net-metro.json")
    feed = read_afc(real_data("shenzhen_szt_afc") / "14_14.csv", network)
    items = list(feed)
    assert tally(items) == {
        "bus_ride": 18_118,
        "metro": 776,
        "UNPAIRED_ENTRY": 9_134,
        "UNPAIRED_EXIT": 8_775,
        "BLANK_STATION": 148,
        "SAME_STATION": 48,
        "DUPLICATE_TAP": 1,
    }
    assert sum(item.rows for item in items) == feed.rows == 37_000
    # 382 of 383 pairs agree without the aliases of 马鞍山 and the broken 孖岭; these add five pairs, which all agree.
    assert feed.statistics == AfcStatistics(486, 24, fare_band_total=388, fare_band_agree=387)
    aliased = {"孖岭", "马安山"}
    rides = [item for item in items if isinstance(item, FeedAct) and item.kind == "metro"]
    assert sum(aliased.isdisjoint((ride.attributes["from"], ride.attributes["to"])) for ride in rides) == 383
    refs = [item.ref for item in items if isinstance(item, FeedAct)]
    assert len(set(refs)) == len(refs)
