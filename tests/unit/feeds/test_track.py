"""Recorded activities: what becomes a walk or a ride, what is refused and why, and every real file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backend.actions.feeds.model import FeedAct, FeedFormatError, FeedItem, FeedReject
from backend.actions.feeds.track import read_tracks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 21, tzinfo=UTC)
BEGIN = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
# Degrees of latitude in a metre.
METRE = 1 / 111_195


def gpx(*tracks: str) -> str:
    return f'<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">{"".join(tracks)}</gpx>'


def trk(*speeds_m_per_s: float, sport: str = "", begin: datetime | None = BEGIN, step_s: int = 5) -> str:
    """A track straight north with one point per step, each at its speed."""
    points, latitude = [], 45.0
    for index, speed in enumerate((0.0, *speeds_m_per_s)):
        latitude += speed * step_s * METRE
        clock = f"<time>{(begin + timedelta(seconds=index * step_s)).isoformat()}</time>" if begin else ""
        points.append(f'<trkpt lat="{latitude:.8f}" lon="14.0">{clock}</trkpt>')
    return f"<trk>{f'<type>{sport}</type>' if sport else ''}<trkseg>{''.join(points)}</trkseg></trk>"


def read(path: Path, content: str | bytes) -> list[FeedItem]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_tracks(path, now=NOW))


def outcome(item: FeedItem) -> str:
    return item.kind if isinstance(item, FeedAct) else item.reason.value


def test_a_walk_is_measured_along_its_trace(tmp_path: Path) -> None:
    [act] = read(tmp_path / "a.gpx", gpx(trk(*[1.4] * 120)))
    assert isinstance(act, FeedAct)
    assert (act.row, act.kind, act.holder, act.rows) == (1, "walk_trace", None, 1)
    assert act.quantity in {839, 840}
    assert (act.occurred_at, act.ended_at) == (BEGIN, BEGIN + timedelta(minutes=10))
    assert act.attributes["started"] == "2026-11-20T01:00:00Z"
    assert act.attributes["points"] == "121"
    assert act.attributes["distance_basis"] == "trace"
    assert act.attributes["mode_reason"] == "walking_pace"
    assert "device_m" not in act.attributes


@pytest.mark.parametrize(
    ("speeds", "sport", "result"),
    [
        ([1.4] * 100, "cycling", "walk_trace"),
        ([3.0] * 100, "running", "walk_trace"),
        ([3.0] * 100, "", "walk_trace"),
        ([3.0] * 100, "cycling", "bike_own"),
        ([5.0] * 100, "running", "walk_trace"),
        ([5.0] * 100, "", "bike_own"),
        ([8.0] * 100, "walking", "bike_own"),
        # Red lights do not make a car a bicycle, nor a label.
        (([0.0] * 12 + [16.0] * 15) * 6, "cycling", "MOTORISED"),
        ([11.0] * 100, "cycling", "MOTORISED"),
        (([6.0] * 5 + [13.0] * 5) * 10, "cycling", "MOTORISED"),
        # A descent at 46 km/h for half a minute belongs to a ride.
        ([6.0] * 100 + [13.0] * 6 + [6.0] * 60, "", "bike_own"),
        # A long walk with two minutes of a bus in it.
        ([1.2] * 500 + [9.0] * 24, "walking", "IMPLAUSIBLE_SPEED"),
        ([83.0] * 100, "cycling", "IMPLAUSIBLE_SPEED"),
        ([0.0] * 100, "walking", "TOO_FEW_POINTS"),
        ([1.4] * 8, "walking", "TOO_FEW_POINTS"),
        ([1.4] * 11, "walking", "TOO_FEW_POINTS"),
    ],
)
def test_the_mode_comes_from_sustained_speed(tmp_path: Path, speeds: list[float], sport: str, result: str) -> None:
    assert [outcome(item) for item in read(tmp_path / "a.gpx", gpx(trk(*speeds, sport=sport)))] == [result]


def test_a_jump_is_left_out_and_is_not_fatal(tmp_path: Path) -> None:
    [act] = read(tmp_path / "a.gpx", gpx(trk(*[6.0] * 50, 92.0, *[6.0] * 50)))
    assert isinstance(act, FeedAct)
    assert (act.kind, act.attributes["jumps_left_out"]) == ("bike_own", "1")
    assert act.quantity in {2_999, 3_000}


def test_a_way_without_points_is_not_counted(tmp_path: Path) -> None:
    way = trk(*[5.0] * 60)
    later = trk(*[5.0] * 60, begin=BEGIN + timedelta(minutes=20)).replace('lat="45.', 'lat="46.')
    joined = way.replace("</trkseg></trk>", "") + later.split("<trkseg>")[1]
    in_two = way.replace("</trk>", "") + later.removeprefix("<trk>")
    [gap] = read(tmp_path / "a.gpx", gpx(joined))
    [cut] = read(tmp_path / "b.gpx", gpx(in_two))
    assert isinstance(gap, FeedAct)
    assert isinstance(cut, FeedAct)
    assert gap.attributes["jumps_left_out"] == "1"
    assert gap.quantity == cut.quantity
    assert gap.quantity in {2_999, 3_000}


def test_a_slow_gap_is_left_out_too(tmp_path: Path) -> None:
    points = trk(*[5.0] * 60, begin=BEGIN)
    later = trk(*[5.0] * 60, begin=BEGIN + timedelta(minutes=15)).replace('lat="45.0', 'lat="45.05')
    [act] = read(tmp_path / "a.gpx", gpx(points.replace("</trkseg></trk>", "") + later.split("<trkseg>")[1]))
    assert isinstance(act, FeedAct)
    assert act.attributes["gaps_left_out"] == "1"


@pytest.mark.parametrize(
    "begin", [None, datetime(1901, 12, 13, tzinfo=UTC), datetime(1999, 12, 31, tzinfo=UTC), NOW + timedelta(hours=1)]
)
def test_no_credible_time_is_undated(tmp_path: Path, begin: datetime | None) -> None:
    [reject] = read(tmp_path / "a.gpx", gpx(trk(*[1.4] * 60, begin=begin)))
    assert isinstance(reject, FeedReject)
    assert reject.reason == "UNDATED"
    assert reject.detail == "a.gpx, track 1: 61 of 61 points without a credible time"


def test_time_that_runs_backward_is_undated(tmp_path: Path) -> None:
    points = trk(*[1.4] * 60).split("<trkpt")
    [reject] = read(tmp_path / "a.gpx", gpx("<trkpt".join([points[0], *reversed(points[1:-1])]) + "</trkseg></trk>"))
    assert outcome(reject) == "UNDATED"


def test_more_than_a_day_is_too_long(tmp_path: Path) -> None:
    far = NOW - timedelta(days=30)
    assert [outcome(item) for item in read(tmp_path / "a.gpx", gpx(trk(*[1.0] * 1_000, begin=far, step_s=100)))] == [
        "TOO_LONG"
    ]


def test_every_track_of_a_file_is_an_item(tmp_path: Path) -> None:
    content = gpx(trk(*[1.4] * 100), "<trk><trkseg/></trk>", trk(*[6.0] * 100, begin=BEGIN + timedelta(hours=1)))
    items = read(tmp_path / "a.gpx", content)
    assert [(item.row, outcome(item)) for item in items] == [
        (1, "walk_trace"),
        (1, "TOO_FEW_POINTS"),
        (1, "bike_own"),
    ]


def test_a_folder_is_read_by_name_and_other_files_ignored(tmp_path: Path) -> None:
    (tmp_path / "b.GPX").write_text(gpx(trk(*[1.4] * 100)))
    (tmp_path / "a.tcx").write_text("<broken")
    (tmp_path / "SOURCE.md").write_text("text")
    (tmp_path / "c.gpx").mkdir()
    told: list[int] = []
    feed = read_tracks(tmp_path, now=NOW, on_progress=told.append)
    assert [(item.row, outcome(item)) for item in feed] == [(1, "MALFORMED"), (2, "walk_trace")]
    assert (feed.rows, feed.position, told[-1]) == (2, feed.total_bytes, feed.total_bytes)


def test_the_same_recording_is_the_same_act_under_any_name(tmp_path: Path) -> None:
    content = gpx(trk(*[1.4] * 100))
    [first] = read(tmp_path / "a.gpx", content)
    [again] = read(tmp_path / "renamed.gpx", content.replace("<trkseg>", "\n <trkseg> "))
    [other] = read(tmp_path / "other.gpx", gpx(trk(*[1.4] * 101)))
    assert first == again
    assert isinstance(first, FeedAct)
    assert isinstance(other, FeedAct)
    assert first.ref != other.ref
    assert len(first.ref) == 64
    assert first.attributes["track_hash"] == first.ref


def test_what_is_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedFormatError, match="no such file"):
        read_tracks(tmp_path / "none.gpx", now=NOW)
    with pytest.raises(FeedFormatError, match="the present needs an offset"):
        read_tracks(tmp_path, now=NOW.replace(tzinfo=None))


REAL = {
    "2.tcx": ["bike_own 24655"],
    "Mojstrovka.gpx": ["UNDATED"],
    "around-visnjan-with-car.gpx": ["MOTORISED"],
    "broken1.gpx": ["bike_own 27012"],
    "broken2.gpx": ["bike_own 33384"],
    "cerknicko-jezero.gpx": [
        "TOO_FEW_POINTS",
        "walk_trace 1912",
        "bike_own 873",
        "TOO_FEW_POINTS",
        "bike_own 1168",
        "TOO_FEW_POINTS",
        "TOO_FEW_POINTS",
        "walk_trace 346",
    ],
    "fit_format_test_File.FIT": ["walk_trace 4542"],
    "korita-zbevnica.gpx": ["TOO_FEW_POINTS", "UNDATED", "walk_trace 2281", "walk_trace 3979"],
    "riderx3.gpx": ["bike_own 5768"],
    "walking_activity_1.tcx": ["walk_trace 3979"],
}


def test_the_real_recordings_come_out_as_they_are_labelled(real_data: Callable[[str], Path]) -> None:
    feed = read_tracks(real_data("gps_tracks"), now=NOW)
    names = sorted(REAL)
    found: dict[str, list[str]] = {name: [] for name in names}
    for item in feed:
        metres = f" {item.quantity}" if isinstance(item, FeedAct) else ""
        found[names[item.row - 1]].append(outcome(item) + metres)
        if isinstance(item, FeedAct) and names[item.row - 1].endswith(".tcx"):
            device_m = int(item.attributes["device_m"])
            assert abs(item.quantity - device_m) * 100 <= 3 * device_m
    assert found == REAL
    assert (feed.rows, feed.position) == (20, feed.total_bytes)


def test_a_single_jump_of_331_km_per_hour_costs_its_step_only(real_data: Callable[[str], Path]) -> None:
    items = list(read_tracks(real_data("gps_tracks") / "cerknicko-jezero.gpx", now=NOW))
    jumps = [item.attributes["jumps_left_out"] for item in items if isinstance(item, FeedAct)]
    assert jumps == ["0", "0", "1", "0"]
