"""An invented city for samples: a metro of three crossing lines and bicycle docks, in the published layouts.

Must not resemble a real network: names and places are made up, in the open sea.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from backend.actions.feeds.geometry import Position

_LINES: Final = {
    "1号线/澜汀线": ("青屿", "望汐", "石榴里", "听雨桥", "澜汀中心", "半亩塘", "云杉路", "采薇", "东堤", "晴川门"),
    "2号线/长堤线": ("北芦", "稻香里", "木犀巷", "书院坡", "澜汀中心", "鹭鸣洲", "柑橘园", "灯塔", "南屿"),
    "3号线/斜月线": ("松风", "书院坡", "半亩塘", "竹筏口", "斜月湾", "东堤"),
}
# Line 1 runs west to east, line 2 north to south, line 3 cuts the corner. Degrees north and east: first, step.
_COURSES: Final = {
    "1号线/澜汀线": ((28.500, 123.400), (0.0015, 0.0130)),
    "2号线/长堤线": ((28.554, 123.449), (-0.0120, 0.0008)),
}
_CORNERS: Final = {"松风": (28.530, 123.436), "竹筏口": (28.494, 123.482), "斜月湾": (28.499, 123.496)}


def stations() -> dict[str, Position]:
    """Every station of the invented metro with latitude and longitude in degrees."""
    places = dict(_CORNERS)
    for line, ((latitude, longitude), (north, east)) in _COURSES.items():
        for index, name in enumerate(_LINES[line]):
            places.setdefault(name, (round(latitude + north * index, 6), round(longitude + east * index, 6)))
    return places


def line_of(station: str) -> str:
    """Name of the first line that calls at the station, as gates write it."""
    return next(f"地铁{line.partition('/')[0]}" for line, names in _LINES.items() if station in names)


def write_network(json_path: Path, csv_path: Path) -> None:
    """Write the metro as the operator's map and as the table without header."""
    places = stations()
    lines, rows = [], []
    for number, (line, names) in enumerate(_LINES.items(), start=1):
        codes = [f"{number:02}{index:02}" for index in range(1, len(names) + 1)]
        lines.append(
            {
                "ln": line,
                "st": [
                    {"n": name, "sl": f"{places[name][1]:.6f},{places[name][0]:.6f}", "poiid": code}
                    for name, code in zip(names, codes, strict=True)
                ],
            }
        )
        named = zip(names, codes, strict=True)
        rows += [f"{number},地铁{number}号线,{index},{name},{code}" for index, (name, code) in enumerate(named, 1)]
    json_path.write_text(json.dumps({"s": "澜汀地铁", "l": lines}, ensure_ascii=False), encoding="utf-8")
    csv_path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def docks() -> list[tuple[str, str, Position]]:
    """Bicycle docks as (number, name, place): two a little way off each station."""
    return [
        (f"LT{index:02}{side}", f"{name}{side}口", (round(latitude + offset, 6), round(longitude + offset, 6)))
        for index, (name, (latitude, longitude)) in enumerate(sorted(stations().items()), start=1)
        for side, offset in (("A", 0.0012), ("B", -0.0015))
    ]
