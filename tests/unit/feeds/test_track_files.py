"""Recorders' files: hostile and broken ones are refused in words, sound ones read in every encoding."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

import pytest
from fitdecode.utils import compute_crc

from backend.actions.feeds import track_source
from backend.actions.feeds.model import FeedReason
from backend.actions.feeds.track import read_tracks
from backend.actions.feeds.track_fit import read_fit
from backend.actions.feeds.track_source import MAX_POINTS, Point, RecordedTrack, TrackFileError
from backend.actions.feeds.track_xml import read_gpx, read_tcx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENTITY = '<!DOCTYPE g [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
POINT = '<trkpt lat="45.5" lon="14.25"><time>2020-01-01T00:00:00Z</time></trkpt>'
GPX = f'<gpx version="1.1"><trk><type>hiking</type><trkseg>{POINT}</trkseg></trk></gpx>'
AT_MS = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
TCX = (
    '<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"><Activities>'
    '<Activity Sport="Biking"><Lap><DistanceMeters>1000.75</DistanceMeters><Track>{points}</Track></Lap>'
    "<Lap><DistanceMeters>500.5</DistanceMeters></Lap></Activity></Activities></TrainingCenterDatabase>"
)
TRACKPOINT = (
    "<Trackpoint><Time>2020-01-01T00:00:00.000Z</Time><Position><LatitudeDegrees>45.5</LatitudeDegrees>"
    "<LongitudeDegrees>14.25</LongitudeDegrees></Position><DistanceMeters>999999</DistanceMeters></Trackpoint>"
)


def fit_file(*records: tuple[float, float, int], sessions: tuple[tuple[int, int, int], ...] = ()) -> bytes:
    """A FIT file of (degrees, degrees, epoch seconds) records and (start, sport, centimetres) sessions."""
    epoch = 631_065_600
    body = struct.pack("<BBBHB9B", 0x40, 0, 0, 20, 3, 253, 4, 0x86, 0, 4, 0x85, 1, 4, 0x85)
    for latitude, longitude, at in records:
        semicircles = (round(degrees * 2**31 / 180) for degrees in (latitude, longitude))
        body += struct.pack("<BIii", 0, at - epoch, *semicircles)
    body += struct.pack("<BBBHB9B", 0x41, 0, 0, 18, 3, 2, 4, 0x86, 5, 1, 0x00, 9, 4, 0x86)
    for start, sport, centimetres in sessions:
        body += struct.pack("<BIBI", 1, start - epoch, sport, centimetres)
    header = struct.pack("<BBHI4s", 14, 0x10, 2132, len(body), b".FIT")
    header += struct.pack("<H", compute_crc(header))
    return header + body + struct.pack("<H", compute_crc(header + body))


def refusal_of(content: bytes) -> TrackFileError | None:
    """The refusal of a FIT file, None where it can be read; anything else it raises fails the test."""
    try:
        read_fit(content)
    except TrackFileError as error:
        return error
    return None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_gpx_is_read_in_its_encoding(encoding: str) -> None:
    [track] = read_gpx(f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>{GPX}'.encode(encoding))
    assert track == RecordedTrack([[Point(45.5, 14.25, AT_MS)]], "hiking")


def test_gpx_times_may_carry_an_offset_or_none() -> None:
    for clock in ("2020-01-01T01:00:00+01:00", "2020-01-01T00:00:00", "2020-01-01T00:00:00.000Z"):
        [track] = read_gpx(GPX.replace("2020-01-01T00:00:00Z", clock).encode())
        assert track.pieces[0][0].at_ms == AT_MS


def test_tcx_laps_are_one_activity_with_the_devices_total() -> None:
    nowhere = "<Trackpoint><Time>2020-01-01T00:00:00Z</Time></Trackpoint>"
    [track] = read_tcx(TCX.format(points=TRACKPOINT + nowhere).encode())
    assert track == RecordedTrack([[Point(45.5, 14.25, AT_MS)]], "Biking", 1501)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "ParseError"),
        ("<gpx", "ParseError"),
        ("<html/>", "the root element is not gpx"),
        (f"{ENTITY}<gpx>&b;</gpx>", "DTDForbidden"),
        ('<!DOCTYPE g SYSTEM "file:///etc/hostname"><gpx/>', "DTDForbidden"),
        ('<gpx version="1.1"><trk><trkseg><trkpt lat="a" lon="2"/></trkseg></trk></gpx>', "not GPX"),
        ('<gpx version="1.1"><trk><trkseg><trkpt/></trkseg></trk></gpx>', "not GPX"),
        (f"<gpx>{'<a>' * 40}{'</a>' * 40}</gpx>", "nested deeper than 32"),
        (f"<gpx><name>{' xmlns' * 1000}</name></gpx>", "name space declaration without a value"),
        ('<?xml version="1.0" encoding="klingon"?><gpx/>', "not safe XML"),
    ],
)
def test_bad_gpx_is_refused_in_words(content: str, words: str) -> None:
    with pytest.raises(TrackFileError) as caught:
        read_gpx(content.encode())
    assert caught.value.reason is FeedReason.MALFORMED
    assert words in caught.value.detail


def test_an_entity_bomb_in_another_encoding_is_refused_too() -> None:
    with pytest.raises(TrackFileError) as caught:
        read_gpx(f'<?xml version="1.0" encoding="utf-16"?>{ENTITY}<gpx>&b;</gpx>'.encode("utf-16"))
    assert "DTDForbidden" in caught.value.detail


@pytest.mark.parametrize("content", ["", "<gpx/>", f"{ENTITY}<TrainingCenterDatabase/>", "<TrainingCenterDatabase>"])
def test_bad_tcx_is_refused_in_words(content: str) -> None:
    with pytest.raises(TrackFileError) as caught:
        read_tcx(content.encode())
    assert caught.value.reason is FeedReason.MALFORMED


def test_more_points_than_allowed_are_refused_before_a_tree_is_built() -> None:
    with pytest.raises(TrackFileError) as caught:
        read_gpx(b"<gpx>" + b'<wpt lat="1" lon="1"/>' * (MAX_POINTS + 1) + b"</gpx>")
    assert caught.value.reason is FeedReason.TOO_LARGE


def test_a_file_over_the_byte_limit_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gpx"
    with path.open("wb") as file:
        file.truncate(track_source.MAX_BYTES + 1)
    [item] = read_tracks(path, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert (item.row, getattr(item, "reason", None)) == (1, FeedReason.TOO_LARGE)


def test_a_fit_file_without_session_is_one_track() -> None:
    [track] = read_fit(fit_file((45.5, 14.25, AT_MS // 1000)))
    [point] = track.pieces[0]
    assert (round(point.latitude, 6), round(point.longitude, 6), point.at_ms) == (45.5, 14.25, AT_MS)
    assert (track.sport, track.device_m) == (None, None)


def test_fit_sessions_divide_the_points() -> None:
    first, second = AT_MS // 1000, AT_MS // 1000 + 600
    records = [(45.5, 14.25, at) for at in (first - 1, first, first + 5, second, second + 5)]
    walk, ride = read_fit(fit_file(*records, sessions=((second, 2, 123_456), (first, 11, 70_000))))
    assert (walk.sport, walk.device_m, len(walk.pieces[0])) == ("walking", 700, 3)
    assert (ride.sport, ride.device_m, len(ride.pieces[0])) == ("cycling", 1234, 2)


def test_a_fit_file_without_points_gives_no_track() -> None:
    assert read_fit(fit_file()) == []


def test_no_damage_to_a_fit_file_is_more_than_a_refusal() -> None:
    sound = fit_file(*((45.5, 14.25, AT_MS // 1000 + index) for index in range(20)))
    chance = Random(1)
    refused = 0
    for _ in range(400):
        damaged = bytearray(sound[: chance.randrange(len(sound))] if chance.random() < 0.2 else sound)
        for _ in range(chance.choice((1, 5, 20))):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        if chance.random() < 0.5 and len(damaged) > 2:
            # A sound check sum lets the damage through to the decoder.
            damaged[-2:] = struct.pack("<H", compute_crc(bytes(damaged[:-2])))
        refused += refusal_of(bytes(damaged)) is not None
    assert refused > 300


def test_no_damage_to_a_real_fit_file_is_more_than_a_refusal(real_data: Callable[[str], Path]) -> None:
    sound = (real_data("gps_tracks") / "fit_format_test_File.FIT").read_bytes()
    chance = Random(2)
    for _ in range(25):
        damaged = bytearray(sound)
        for _ in range(3):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        damaged[-2:] = struct.pack("<H", compute_crc(bytes(damaged[:-2])))
        refusal = refusal_of(bytes(damaged))
        assert refusal is None or refusal.detail.startswith("not FIT: ")
