"""A day of a city, ready to be played: partners' records read from files, and what citizens record themselves.

Files are the real ones where they are at hand, else generated samples; their acts are moved to a recent day, hour kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, time
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from backend.actions.feeds.afc import read_afc
from backend.actions.feeds.bikeshare import read_bikeshare
from backend.actions.feeds.model import FeedAct
from backend.actions.feeds.network import load_network
from backend.actions.feeds.samples import write_samples
from backend.actions.feeds.track import read_tracks
from backend.cli.city import BIKES, METRO, RECYCLER, holder_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from backend.actions.feeds.model import Feed

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
TRANSIT_ACTS = 1_200
TRIP_ACTS = 500
RECYCLED_ACTS = 120
SEED = 20261121
RECYCLED = ("recycle_pet", "recycle_paper", "recycle_aluminium", "recycle_glass")
DECLARED = (("no_cutlery", 1, "COUNT"), ("own_bag", 1, "COUNT"), ("paperless", 2, "COUNT"))


@dataclass(frozen=True)
class Day:
    """What will be recorded: by partners (partner → inputs), and by citizens (number of the citizen → inputs)."""

    origin: str
    partners: dict[str, list[dict[str, Any]]]
    citizens: dict[int, list[dict[str, Any]]]
    cards: dict[str, int]


@dataclass(frozen=True)
class _Files:
    origin: str
    taps: Path
    network: Path
    trips: Path
    tracks: Path
    trip_zone: ZoneInfo


def real_data() -> Path | None:
    """Folder of the operators' files, where there is one."""
    folder = Path(os.environ.get("TANHUI_REAL_DATA", REAL_DATA))
    return folder if (folder / "shenzhen_szt_afc").is_dir() else None


def plan_day(folder: Path, *, day: date, zone: ZoneInfo, now: datetime, citizens: int) -> Day:
    """Read the files (samples are written to ``folder``) and plan the records of the local ``day``."""
    files = _find_files(folder, day=day, citizens=citizens)
    move = _Move(day, zone)
    cards: dict[str, int] = {}
    metro = []
    for act in _acts(read_afc(files.taps, load_network(files.network)), TRANSIT_ACTS):
        assert act.holder is not None
        cards.setdefault(act.holder, len(cards) % citizens)
        metro.append(_input(act, METRO.sources[0], act.holder, move))
    trips = [
        _input(act, BIKES.sources[0], holder_of(number % citizens), move)
        for number, act in enumerate(_acts(read_bikeshare(files.trips, zone=files.trip_zone), TRIP_ACTS))
    ]
    chance = Random(SEED)  # noqa: S311 - a reproducible day, not a secret
    own = {number: [_declared(number, chance, move)] for number in range(0, citizens, 3)}
    for number, act in enumerate(_acts(read_tracks(files.tracks, now=now), TRIP_ACTS)):
        own.setdefault(number, []).append(
            {**_input(act, "app", None, move), "evidence": {"tier": "DEVICE", "reference": "track"}}
        )
    recycled = [_recycled(number, citizens, chance, move) for number in range(RECYCLED_ACTS)]
    return Day(files.origin, {METRO.id: metro, BIKES.id: trips, RECYCLER.id: recycled}, own, cards)


def _find_files(folder: Path, *, day: date, citizens: int) -> _Files:
    real = real_data()
    if real is not None:
        return _Files(
            "operators' files (Shenzhen taps, Jersey City trips, recorded tracks)",
            real / "shenzhen_szt_afc" / "14_14.csv",
            real / "shenzhen_metro_network" / "szmc.net-metro.csv",
            real / "citibike_jersey_city" / "JC-202102-citibike-tripdata.csv",
            real / "gps_tracks",
            ZoneInfo("America/New_York"),
        )
    made = write_samples(folder, seed=SEED, day=day, citizens=citizens)
    return _Files("generated samples", made.taps, made.network_csv, made.trips, made.tracks, made.zone)


def _acts(feed: Feed, limit: int) -> Iterator[FeedAct]:
    yield from islice((item for item in feed if isinstance(item, FeedAct)), limit)
    feed.close()


@dataclass(frozen=True)
class _Move:
    """Moves moments to the same local hour of the played day."""

    day: date
    zone: ZoneInfo

    def __call__(self, moment: datetime) -> datetime:
        return moment + (self.day - moment.astimezone(self.zone).date())

    def at(self, hour: int, minute: int) -> datetime:
        """That local hour and minute of the day."""
        return datetime.combine(self.day, time(hour, minute), self.zone)


def _input(act: FeedAct, source: str, holder: str | None, move: _Move) -> dict[str, Any]:
    begun = move(act.occurred_at)
    ended = begun + (act.ended_at - act.occurred_at) if act.ended_at else None
    return {
        "kind": act.kind,
        "quantity": act.quantity,
        "unit": act.unit.value,
        "occurredAt": begun.isoformat(),
        "endedAt": ended.isoformat() if ended else None,
        "source": source,
        "ref": act.ref,
        "externalId": holder,
        "attributes": dict(act.attributes),
    }


def _declared(number: int, chance: Random, move: _Move) -> dict[str, Any]:
    kind, quantity, unit = DECLARED[number % len(DECLARED)]
    moment = move.at(12, chance.randrange(60))
    return _own(kind, quantity, unit, moment, f"own-{move.day}-{number}")


def _own(kind: str, quantity: int, unit: str, moment: datetime, ref: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "quantity": quantity,
        "unit": unit,
        "occurredAt": moment.isoformat(),
        "source": "app",
        "ref": ref,
    }


def _recycled(number: int, citizens: int, chance: Random, move: _Move) -> dict[str, Any]:
    kind = RECYCLED[number % len(RECYCLED)]
    act = _own(kind, chance.randrange(20, 600), "GRAM", move.at(18, chance.randrange(60)), f"scale-{move.day}-{number}")
    return {**act, "source": RECYCLER.sources[0], "externalId": holder_of(number % citizens)}


def steps(moment: datetime, ref: str) -> dict[str, Any]:
    """Five hundred steps that the citizen's phone counted."""
    return {**_own("walk", 500, "STEP", moment, ref), "evidence": {"tier": "DEVICE", "reference": "pedometer"}}


def chunks(items: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """The items in lists of at most ``size``."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
