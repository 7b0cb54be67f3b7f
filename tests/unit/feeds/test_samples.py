"""Samples: reproducible, of the local day, in every feed's format, with every sort of bad row."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

from backend.actions.feeds.afc import AfcStatistics, read_afc
from backend.actions.feeds.bikeshare import read_bikeshare
from backend.actions.feeds.model import DistanceBasis, FeedAct
from backend.actions.feeds.network import load_network
from backend.actions.feeds.samples import SampleFiles, SampleSizes, write_samples
from backend.actions.feeds.track import read_tracks

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from backend.actions.feeds.model import Feed, FeedItem

    Tally = Callable[[Iterable[FeedItem]], Counter[str]]

DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> SampleFiles:
    return write_samples(tmp_path_factory.mktemp("samples"), seed=7, day=DAY, citizens=100)


def feeds_of(samples: SampleFiles) -> list[Feed]:
    return [
        read_afc(samples.taps, load_network(samples.network_json)),
        read_bikeshare(samples.trips, zone=samples.zone),
        read_bikeshare(samples.old_trips, zone=samples.zone),
        read_tracks(samples.tracks, now=NOW),
    ]


def test_the_taps_hold_rides_and_every_trap(samples: SampleFiles, tally: Tally) -> None:
    feed = read_afc(samples.taps, load_network(samples.network_json))
    counts = tally(feed)
    assert 1_900 <= feed.rows == sum(counts.values()) <= 2_100
    assert set(counts) == {
        "metro",
        "bus_ride",
        "MALFORMED",
        "UNPAIRED_ENTRY",
        "UNPAIRED_EXIT",
        "SAME_STATION",
        "BLANK_STATION",
        "UNKNOWN_STATION",
        "DUPLICATE_TAP",
    }
    # Invented fares follow the invented ways, so all of them agree.
    total = counts["metro"] // 2
    assert feed.statistics == AfcStatistics(
        pairs=sum(counts[name] for name in ("metro", "SAME_STATION", "BLANK_STATION", "UNKNOWN_STATION")) // 2,
        same_station=counts["SAME_STATION"] // 2,
        fare_band_total=total,
        fare_band_agree=total,
    )


def test_the_trips_hold_both_kinds_and_every_trap(samples: SampleFiles, tally: Tally) -> None:
    counts = tally(read_bikeshare(samples.trips, zone=samples.zone))
    assert sum(counts.values()) == 480
    assert set(counts) == {
        "bike_share",
        "ebike_share",
        "MALFORMED",
        "NO_END",
        "SAME_DOCK",
        "NEGATIVE_DURATION",
        "IMPLAUSIBLE_SPEED",
        "TOO_LONG",
    }
    assert tally(read_bikeshare(samples.old_trips, zone=samples.zone)) == {"bike_share": 20}


def test_the_recordings_come_out_as_their_names_say(samples: SampleFiles) -> None:
    expected = {"walk": "walk_trace", "ride": "bike_own", "car": "MOTORISED", "undated": "UNDATED"}
    names = [path.stem.partition("-")[2] for path in sorted(samples.tracks.iterdir())]
    items = list(read_tracks(samples.tracks, now=NOW))
    found = [item.kind if isinstance(item, FeedAct) else item.reason.value for item in items]
    assert found == [expected[name] for name in names]


def test_every_act_happens_on_the_local_day_and_cards_are_known(samples: SampleFiles) -> None:
    acts = [item for feed in feeds_of(samples) for item in feed if isinstance(item, FeedAct)]
    assert {act.occurred_at.astimezone(samples.zone).date() for act in acts} == {DAY}
    assert {(act.ended_at or act.occurred_at).astimezone(samples.zone).date() for act in acts} == {DAY}
    assert {act.holder for act in acts} == {None, *samples.cards}
    assert len({act.ref for act in acts}) == len(acts)


def test_rows_never_vanish(samples: SampleFiles) -> None:
    for feed in feeds_of(samples):
        assert sum(item.rows for item in feed) == feed.rows
        assert feed.position == feed.total_bytes


def test_the_same_seed_writes_the_same_bytes(samples: SampleFiles, tmp_path: Path) -> None:
    again = write_samples(tmp_path / "again", seed=7, day=DAY, citizens=100)
    other = write_samples(tmp_path / "other", seed=8, day=DAY, citizens=100)
    assert again.taps.read_bytes() == samples.taps.read_bytes() != other.taps.read_bytes()
    assert again.trips.read_bytes() == samples.trips.read_bytes()
    assert again.cards == samples.cards
    for path in sorted(samples.tracks.iterdir()):
        assert (again.tracks / path.name).read_bytes() == path.read_bytes()


def test_sizes_are_a_parameter(tmp_path: Path) -> None:
    sizes = SampleSizes(taps=30, trips=3, old_trips=0, tracks=1)
    samples = write_samples(tmp_path, seed=1, day=DAY, citizens=2, sizes=sizes)
    rows = []
    for feed in feeds_of(samples):
        list(feed)
        rows.append(feed.rows)
    assert 15 <= rows[0] <= 40
    assert rows[1:] == [3, 0, 1]
    with pytest.raises(ValueError, match="at least one citizen"):
        write_samples(tmp_path, seed=1, day=DAY, citizens=0)


def test_the_invented_table_reads_without_its_map(samples: SampleFiles, tmp_path: Path) -> None:
    alone = tmp_path / "alone.csv"
    alone.write_bytes(samples.network_csv.read_bytes())
    assert load_network(alone).basis is DistanceBasis.HOPS
    assert load_network(alone).stations == load_network(samples.network_json).stations
