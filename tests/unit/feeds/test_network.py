"""Metro networks: shortest ways, both layouts, fares as a check, the real map."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from backend.actions.feeds.fares import fare_agrees, fare_for
from backend.actions.feeds.model import DistanceBasis, FeedFormatError
from backend.actions.feeds.network import DEFAULT_HOP_M, load_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backend.actions.feeds.network import Network

TABLE = "1,一号线,1,甲,0101\n1,一号线,3,丙,0103\n1,一号线,2,乙,0102\n2,二号线,1,乙,0201\n2,二号线,2,丁,0202\n"


def station(name: str, longitude: str) -> dict[str, str]:
    return {"n": name, "sl": f"{longitude},30.0"}


def write_map(path: Path, *lines: list[dict[str, str]]) -> Path:
    path.write_text(json.dumps({"l": [{"ln": "x", "st": line} for line in lines]}), encoding="utf-8")
    return path


def test_the_shortest_way_is_rounded_down_to_metres(metro: Network) -> None:
    assert metro.distance_m("青屿", "东堤") == 7_001
    assert metro.distance_m("东堤", "青屿") == 7_001
    assert metro.distance_m("青屿", "望汐") == 3_000
    assert metro.distance_m("青屿", "青屿") == 0


def test_no_way_and_no_station_have_no_distance(metro: Network) -> None:
    assert metro.distance_m("青屿", "孤岛") is None
    assert metro.distance_m("青屿", "无") is None
    assert metro.distance_m("无", "青屿") is None


def test_lines_meet_at_stations_of_one_name(tmp_path: Path, kilometre: int) -> None:
    path = write_map(
        tmp_path / "m.json",
        [station("甲", "120.00"), station("乙", "120.01"), station("乙", "120.01"), station("丙", "120.02")],
        [station("乙", "120.01"), station("丁", "120.02")],
    )
    network = load_network(path)
    assert network.basis is DistanceBasis.NETWORK
    assert network.stations == frozenset("甲乙丙丁")
    assert network.distance_m("甲", "丁") in {2 * kilometre, 2 * kilometre + 1}


def test_a_loop_closes_where_its_first_station_is_named_again(tmp_path: Path, kilometre: int) -> None:
    ring = [station("甲", "120.00"), station("乙", "120.01"), station("丙", "120.02"), station("丁", "120.01")]
    assert load_network(write_map(tmp_path / "a.json", ring)).distance_m("甲", "丁") in range(
        3 * kilometre, 3 * kilometre + 3
    )
    assert load_network(write_map(tmp_path / "b.json", [*ring, ring[0]])).distance_m("甲", "丁") == kilometre


def test_a_table_counts_hops_in_order_of_seq(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("\ufeff" + TABLE, encoding="utf-8")
    network = load_network(path)
    assert network.basis is DistanceBasis.HOPS
    assert network.distance_m("甲", "丙") == 2 * DEFAULT_HOP_M
    assert load_network(path, hop_m=1000).distance_m("甲", "丁") == 2000


def test_a_table_takes_the_map_beside_it(tmp_path: Path, kilometre: int) -> None:
    (tmp_path / "m.csv").write_text(TABLE, encoding="utf-8")
    write_map(tmp_path / "m.json", [station("甲", "120.00"), station("乙", "120.01")])
    network = load_network(tmp_path / "m.csv")
    assert (network.basis, network.distance_m("甲", "乙")) == (DistanceBasis.NETWORK, kilometre)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.json", ""),
        ("m.json", "[]"),
        ("m.json", '{"l": [{"st": [{"n": "甲"}]}]}'),
        ("m.json", '{"l": [{"st": [{"n": "甲", "sl": "0,0"}]}]}'),
        ("m.json", '{"l": [{"st": [{"n": "甲", "sl": "nan,inf"}]}]}'),
        ("m.json", '{"l": [{"st": [{"n": "甲", "sl": "120,30"}]}]}'),
        ("m.json", '{"l": 5}'),
        ("m.csv", ""),
        ("m.csv", "line_no,line_name,seq,station,station_code\n"),
        ("m.csv", "1,一号线,1,甲,0101\n"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(FeedFormatError, match=f"file {name} is not in this feed's format"):
        load_network(tmp_path / name)


@pytest.mark.parametrize(
    ("fare_fen", "distance_m", "agrees"),
    [
        (200, 1, True),
        (200, 4_000, True),
        (200, 4_001, False),
        (300, 3_200, False),
        (300, 3_201, True),
        (700, 32_000, True),
        (150, 1_000, False),
    ],
)
def test_a_fare_agrees_within_its_widened_band(fare_fen: int, distance_m: int, agrees: bool) -> None:  # noqa: FBT001
    assert fare_agrees(fare_fen, distance_m) is agrees


def test_the_fare_follows_the_way() -> None:
    assert [fare_for(metres) for metres in (1, 4_000, 4_001, 24_000, 99_000)] == [200, 200, 300, 600, 900]


def test_the_real_network_is_read_whole(real_data: Callable[[str], Path]) -> None:
    folder = real_data("shenzhen_metro_network")
    network = load_network(folder / "szmc.net-metro.json")
    assert len(network.stations) == 181
    assert network.distance_m("罗湖", "机场东") == 39_321
    assert all(network.distance_m("罗湖", name) is not None for name in network.stations)
    beside = load_network(folder / "szmc.net-metro.csv")
    assert (beside.basis, beside.stations) == (DistanceBasis.NETWORK, network.stations)


def test_the_real_table_alone_has_the_same_stations(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = real_data("shenzhen_metro_network")
    alone = tmp_path / "alone.csv"
    alone.symlink_to(folder / "szmc.net-metro.csv")
    network = load_network(alone)
    assert network.basis is DistanceBasis.HOPS
    assert network.stations == load_network(folder / "szmc.net-metro.json").stations
    assert network.distance_m("罗湖", "国贸") == DEFAULT_HOP_M == 1_370
