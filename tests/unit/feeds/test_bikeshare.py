"""Bicycle trips in both layouts: acts, reasons, the clock change, memory and the real months."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from backend.actions.feeds.bikeshare import read_bikeshare
from backend.actions.feeds.model import FeedAct, FeedFormatError, FeedItem, FeedReject
from backend.kernel.units import Unit

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Tally = Callable[[Iterable[FeedItem]], Counter[str]]

NEW = {
    "ride_id": "R1",
    "rideable_type": "classic_bike",
    "started_at": "2021-02-01 10:00:00",
    "ended_at": "2021-02-01 10:10:00",
    "start_station_name": "甲",
    "start_station_id": "A",
    "end_station_name": "乙",
    "end_station_id": "B",
    "start_lat": "30.0",
    "start_lng": "120.0",
    "end_lat": "30.0",
    "end_lng": "120.01",
    "member_casual": "member",
}
OLD = {
    "tripduration": "600",
    "starttime": "2021-02-01 10:00:00.5100",
    "stoptime": "2021-02-01 10:10:00.7770",
    "start station id": "3273",
    "start station name": "甲",
    "start station latitude": "30.0",
    "start station longitude": "120.0",
    "end station id": "3209",
    "end station name": "乙",
    "end station latitude": "30.0",
    "end station longitude": "120.01",
    "bikeid": "42494",
    "usertype": "Subscriber",
}


def write(path: Path, *rows: dict[str, str]) -> Path:
    lines = [",".join(f'"{name}"' for name in rows[0]), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_trip_of_the_new_layout_is_measured_dock_to_dock(tmp_path: Path, kilometre: int) -> None:
    assert list(read_bikeshare(write(tmp_path / "t.csv", NEW))) == [
        FeedAct(
            row=1,
            kind="bike_share",
            quantity=kilometre,
            unit=Unit.METRE,
            occurred_at=datetime(2021, 2, 1, 15, 0, tzinfo=UTC),
            ended_at=datetime(2021, 2, 1, 15, 10, tzinfo=UTC),
            ref="R1",
            holder=None,
            attributes={
                "trip_id": "R1",
                "from": "A",
                "from_name": "甲",
                "to": "B",
                "to_name": "乙",
                "distance_basis": "great_circle",
            },
        )
    ]


def test_a_trip_of_the_old_layout_is_known_by_bicycle_and_start(tmp_path: Path, kilometre: int) -> None:
    [act] = read_bikeshare(write(tmp_path / "t.csv", OLD))
    assert isinstance(act, FeedAct)
    assert (act.kind, act.quantity) == ("bike_share", kilometre)
    assert act.ref == act.attributes["trip_id"] == "42494@2021-02-01 10:00:00.5100"
    assert act.occurred_at == datetime(2021, 2, 1, 15, 0, 0, 510_000, tzinfo=UTC)


def test_columns_may_stand_in_any_order(tmp_path: Path, tally: Tally) -> None:
    assert tally(read_bikeshare(write(tmp_path / "t.csv", dict(reversed(NEW.items()))))) == {"bike_share": 1}


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"rideable_type": "docked_bike"}, "bike_share"),
        ({"rideable_type": "electric_bike"}, "ebike_share"),
        ({"rideable_type": "hovercraft"}, "MALFORMED"),
        ({"ride_id": ""}, "MALFORMED"),
        ({"ride_id": "x" * 65}, "MALFORMED"),
        ({"started_at": "yesterday"}, "MALFORMED"),
        ({"ended_at": "later"}, "MALFORMED"),
        ({"ended_at": ""}, "NO_END"),
        ({"end_station_id": "", "end_station_name": "", "end_lat": "", "end_lng": ""}, "NO_END"),
        # An electric bicycle locked to a rack: no station, but a place.
        ({"end_station_id": "", "end_station_name": ""}, "bike_share"),
        ({"end_station_id": "", "start_station_id": ""}, "bike_share"),
        ({"end_station_id": "A"}, "SAME_DOCK"),
        ({"end_lng": "120.0"}, "SAME_DOCK"),
        ({"ended_at": "2021-02-01 10:00:00"}, "NEGATIVE_DURATION"),
        ({"ended_at": "2021-02-01 09:59:00"}, "NEGATIVE_DURATION"),
        ({"ended_at": "2021-02-02 10:00:00"}, "bike_share"),
        ({"ended_at": "2021-02-02 10:00:01"}, "TOO_LONG"),
        # 962 m at 35 km/h are 98.95 s.
        ({"ended_at": "2021-02-01 10:01:38"}, "IMPLAUSIBLE_SPEED"),
        ({"ended_at": "2021-02-01 10:01:39"}, "bike_share"),
        ({"end_lng": "120.0001"}, "bike_share"),
        ({"start_lat": "0"}, "MALFORMED"),
        ({"start_lng": "0.0"}, "MALFORMED"),
        ({"start_lat": "nan"}, "MALFORMED"),
        ({"end_lat": "inf"}, "MALFORMED"),
        ({"end_lat": "91"}, "MALFORMED"),
        ({"end_lng": "-181"}, "MALFORMED"),
        ({"end_lat": ""}, "MALFORMED"),
        ({"start_lat": ""}, "MALFORMED"),
        ({"start_station_name": "x" * 101}, "MALFORMED"),
    ],
)
def test_every_trip_has_its_kind_or_its_reason(
    tmp_path: Path, tally: Tally, changes: dict[str, str], outcome: str
) -> None:
    assert tally(read_bikeshare(write(tmp_path / "t.csv", NEW | changes))) == {outcome: 1}


def test_the_clock_change_makes_no_negative_trip(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        NEW | {"started_at": "2021-11-07 01:50:00", "ended_at": "2021-11-07 01:10:00"},
        NEW | {"started_at": "2021-03-14 01:58:01", "ended_at": "2021-03-14 03:02:00"},
    )
    lengths = [
        (item.ended_at - item.occurred_at).total_seconds()
        for item in read_bikeshare(path)
        if isinstance(item, FeedAct) and item.ended_at
    ]
    assert lengths == [1200, 239]


def test_a_trip_number_that_appears_twice_is_kept_twice(tmp_path: Path) -> None:
    items = list(read_bikeshare(write(tmp_path / "t.csv", NEW, NEW)))
    assert [(item.row, item.ref) for item in items if isinstance(item, FeedAct)] == [(1, "R1"), (2, "R1")]


def test_another_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedFormatError, match="neither the old nor the new trip layout"):
        read_bikeshare(write(tmp_path / "t.csv", {"a": "1"}))
    with pytest.raises(FeedFormatError, match="the header lacks end_lat"):
        read_bikeshare(write(tmp_path / "t.csv", {name: text for name, text in NEW.items() if name != "end_lat"}))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", NEW)
    row = path.read_text(encoding="utf-8").splitlines()[1]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{row}\n" for _ in range(3_999))
    tracemalloc.start()
    feed = read_bikeshare(path)
    rows = sum(item.rows for item in feed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == feed.rows == 4_000
    assert feed.position == feed.total_bytes == path.stat().st_size
    # Kept in a list, these acts would take 3 MB and more.
    assert peak < 500_000


@pytest.mark.parametrize(
    ("month", "counts"),
    [
        ("202101", {"bike_share": 10_542, "SAME_DOCK": 1_076, "TOO_LONG": 6}),
        (
            "202102",
            {
                "bike_share": 4_164,
                "SAME_DOCK": 633,
                "NO_END": 68,
                "TOO_LONG": 9,
                "IMPLAUSIBLE_SPEED": 4,
                "NEGATIVE_DURATION": 3,
            },
        ),
        (
            "202103",
            {
                "bike_share": 14_357,
                "SAME_DOCK": 2_659,
                "NO_END": 77,
                "TOO_LONG": 11,
                "IMPLAUSIBLE_SPEED": 10,
                "NEGATIVE_DURATION": 9,
            },
        ),
    ],
)
def test_the_real_months_are_read_to_the_last_row(
    real_data: Callable[[str], Path], tally: Tally, month: str, counts: dict[str, int]
) -> None:
    feed = read_bikeshare(real_data("citibike_jersey_city") / f"JC-{month}-citibike-tripdata.csv")
    items = list(feed)
    assert tally(items) == counts
    assert sum(counts.values()) == feed.rows
    rejects = [item for item in items if isinstance(item, FeedReject)]
    assert all(item.detail for item in rejects)
    if month == "202103":
        # 33 seconds from a dock to the same dock.
        assert (items[0].row, rejects[0].reason) == (1, "SAME_DOCK")
