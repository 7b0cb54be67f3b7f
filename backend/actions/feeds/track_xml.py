"""GPX and TCX files as recorded tracks. Must not resolve an entity, follow a reference or build an unchecked tree.

Formats: GPX 1.0 and 1.1 (Topografix, 2002 and 2004), Training Center Database v2 (Garmin, 2007).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import ParseError

import gpxpy
import gpxpy.gpx
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, iterparse

from backend.actions.feeds.geometry import parse_position, valid_position
from backend.actions.feeds.track_source import MAX_POINTS, Point, RecordedTrack, malformed, too_large

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_ELEMENTS: Final = 10 * MAX_POINTS
# GPX extensions nest four deep; the readers walk them recursively, so depth is bounded before they do.
_MAX_DEPTH: Final = 32
_POINT_TAGS: Final = frozenset({"trkpt", "rtept", "wpt", "Trackpoint"})
# gpxpy looks for name space declarations by pattern, in quadratic time where the word stands without a value.
_LOOSE_NAMESPACE: Final = re.compile(r"\sxmlns(?![:\w.-]{0,64}\s{0,8}=)")
_XML_ERRORS: Final = (ParseError, DefusedXmlException, ValueError, LookupError)


class _Census:
    """Parser target that only counts, so that a file is known to be harmless before a tree of it is built."""

    def __init__(self) -> None:
        self.root = ""
        self._elements = self._points = self._depth = 0

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        name = _local(tag)
        self.root = self.root or name
        self._elements += 1
        self._depth += 1
        self._points += name in _POINT_TAGS
        if self._elements > _MAX_ELEMENTS or self._points > MAX_POINTS:
            raise too_large(f"more than {MAX_POINTS} points or {_MAX_ELEMENTS} elements")
        if self._depth > _MAX_DEPTH:
            raise malformed(f"elements nested deeper than {_MAX_DEPTH}")

    def end(self, _tag: str) -> None:
        self._depth -= 1

    def data(self, _text: str) -> None:
        """Text needs no counting: the file's size bounds it."""

    def close(self) -> str:
        return self.root


def _checked_root(content: bytes) -> str:
    """Local name of the root element of well-formed XML without a document type and within the limits.

    Raises:
        TrackFileError: anything else.
    """
    parser: Any = DefusedXMLParser(target=_Census(), forbid_dtd=True)
    try:
        parser.feed(content)
        return str(parser.close())
    except _XML_ERRORS as error:
        raise malformed(f"not safe XML: {type(error).__name__} {error}") from error


def read_gpx(content: bytes) -> list[RecordedTrack]:
    """The tracks of a GPX file, one per ``trk``; routes and way points are plans, not records.

    Raises:
        TrackFileError: broken, unsafe, over a limit or not GPX.
    """
    if _checked_root(content) != "gpx":
        raise malformed("the root element is not gpx")
    try:
        text = _decoded(content)
        if _LOOSE_NAMESPACE.search(text):
            raise malformed("a name space declaration without a value")
        parsed = gpxpy.parse(text)
    except (gpxpy.gpx.GPXException, *_XML_ERRORS, TypeError, AttributeError) as error:
        raise malformed(f"not GPX: {type(error).__name__} {error}") from error
    return [
        RecordedTrack([[_gpx_point(point) for point in segment.points] for segment in track.segments], track.type)
        for track in parsed.tracks
    ]


def _decoded(content: bytes) -> str:
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return content.decode(encoding)
    declared = re.match(rb"""<\?xml[^>]{0,200}?encoding\s{0,8}=\s{0,8}["']([A-Za-z0-9._-]{1,40})["']""", content)
    return content.decode(declared[1].decode() if declared else "utf-8")


def _gpx_point(point: gpxpy.gpx.GPXTrackPoint) -> Point:
    return Point(point.latitude, point.longitude, _milliseconds(point.time) if point.time else None)


def read_tcx(content: bytes) -> list[RecordedTrack]:
    """The activities of a TCX file; ``device_m`` adds the laps' own distances, whole metres rounded down.

    Raises:
        TrackFileError: broken, unsafe, over a limit or not TCX.
    """
    if _checked_root(content) != "TrainingCenterDatabase":
        raise malformed("the root element is not TrainingCenterDatabase")
    tracks: list[RecordedTrack] = []
    path: list[str] = []
    device_m = 0.0
    element: Element
    for event, element in iterparse(BytesIO(content), events=("start", "end"), forbid_dtd=True):
        name = _local(element.tag)
        if event == "start":
            path.append(name)
            if name == "Activity":
                tracks.append(RecordedTrack([[]], element.get("Sport")))
                device_m = 0.0
            continue
        path.pop()
        if not tracks or "Activity" not in path:
            element.clear()
        elif name == "DistanceMeters" and path[-1] == "Lap":
            device_m += _metres(element.text)
            tracks[-1].device_m = int(device_m)
        elif name == "Trackpoint":
            point = _tcx_point(element)
            if point is not None:
                tracks[-1].pieces[0].append(point)
        if name in {"Trackpoint", "Track", "Lap", "Activity"}:
            # What was read is dropped at once; of a point only its empty shell stays until its track ends.
            element.clear()
    return tracks


def _metres(text: str | None) -> float:
    try:
        metres = float(text or "")
    except ValueError:
        return 0.0
    return metres if 0 <= metres < 1e7 else 0.0  # noqa: PLR2004 - a quarter of the globe, beyond any activity


def _tcx_point(element: Element) -> Point | None:
    texts = {_local(part.tag): part.text or "" for part in element.iter()}
    position = parse_position(texts.get("LatitudeDegrees", ""), texts.get("LongitudeDegrees", ""))
    if position is None:
        return None
    try:
        at_ms = _milliseconds(datetime.fromisoformat(texts.get("Time", "").strip()))
    except (ValueError, OverflowError):
        at_ms = None
    return Point(*position, at_ms)


def _milliseconds(moment: datetime) -> int:
    # Both formats prescribe UTC; a recorder that leaves the Z out means it all the same.
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def is_usable(point: Point) -> bool:
    """Whether the point names a place on the globe."""
    return valid_position(point.latitude, point.longitude)
