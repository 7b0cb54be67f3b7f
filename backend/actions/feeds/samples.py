"""Small invented files in the published formats of all feeds, for demonstrations and tests where real data is absent.

Seeded: the same arguments write the same bytes. Must not copy a row, a name or a place of real data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from random import Random
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from backend.actions.feeds.fares import fare_for
from backend.actions.feeds.network import load_network
from backend.actions.feeds.sample_city import line_of, stations, write_network
from backend.actions.feeds.sample_tracks import write_tracks
from backend.actions.feeds.sample_trips import write_old_trips, write_trips

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from backend.actions.feeds.network import Network

ZONE: Final = ZoneInfo("Asia/Shanghai")
_HEADER: Final = (
    "card_no,deal_date,deal_type,deal_money,deal_value,equ_no,company_name,station,car_no,conn_mark,close_date"
)
_OPENING: Final = time(6, 30)
_SERVICE_S: Final = 15 * 3600
# More taps in a day than this are nobody's day; fewer are written instead.
_MAX_TAPS_PER_CITIZEN: Final = 24
# Every 40th journey goes wrong, each way in turn.
_FLAW_EVERY: Final = 40
_BUS_PERCENT: Final = 30
_METRO_M_PER_S: Final = 9


@dataclass(frozen=True, slots=True)
class SampleSizes:
    """About how many rows each file gets."""

    taps: int = 2_000
    trips: int = 480
    old_trips: int = 20
    tracks: int = 6


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """Where the samples are, the cards that travel in them, and the zone of all their local times."""

    taps: Path
    network_json: Path
    network_csv: Path
    trips: Path
    old_trips: Path
    tracks: Path
    cards: tuple[str, ...]
    zone: ZoneInfo = ZONE


def write_samples(
    folder: Path, *, seed: int, day: date, citizens: int, sizes: SampleSizes | None = None
) -> SampleFiles:
    """Write taps, network, trips and recordings of one local day (Asia/Shanghai) for ``citizens`` cards.

    Raises:
        ValueError: no citizens.
    """
    if citizens < 1:
        message = f"samples need at least one citizen, not {citizens}"
        raise ValueError(message)
    sizes = sizes or SampleSizes()
    chance = Random(seed)  # noqa: S311 - a reproducible history, not a secret
    folder.mkdir(parents=True, exist_ok=True)
    files = SampleFiles(
        taps=folder / "taps.csv",
        network_json=folder / "metro.json",
        network_csv=folder / "metro.csv",
        trips=folder / "trips.csv",
        old_trips=folder / "trips-old.csv",
        tracks=folder / "tracks",
        cards=_cards(chance, citizens),
    )
    write_network(files.network_json, files.network_csv)
    _write_taps(files, chance, day=day, count=min(sizes.taps, citizens * _MAX_TAPS_PER_CITIZEN))
    write_trips(files.trips, chance, day=day, count=sizes.trips)
    write_old_trips(files.old_trips, chance, day=day, count=sizes.old_trips)
    write_tracks(files.tracks, chance, day=day, zone=ZONE, count=sizes.tracks)
    return files


def _cards(chance: Random, count: int) -> tuple[str, ...]:
    """Different card numbers, masked with letters as the published data masks them."""
    cards: dict[str, None] = {}
    while len(cards) < count:
        cards["".join(chance.choices("ABCDEFGHIJ", k=9))] = None
    return tuple(cards)


def _write_taps(files: SampleFiles, chance: Random, *, day: date, count: int) -> None:
    """Write about ``count`` taps: each card's day is cut into slots, one journey each; the file is not sorted."""
    network = load_network(files.network_json)
    journeys = max(1, count * 100 // (200 - _BUS_PERCENT))
    opening = datetime.combine(day, _OPENING)
    rows: list[str] = []
    for number in range(journeys):
        card = files.cards[number % len(files.cards)]
        slots = -(-journeys // len(files.cards))
        slot_s = _SERVICE_S // slots
        start = opening + timedelta(seconds=slot_s * (number // len(files.cards)) + chance.randrange(slot_s // 8))
        journey = _journey(chance, network, card, start)
        rows += _flawed(journey, number // _FLAW_EVERY) if number % _FLAW_EVERY == _FLAW_EVERY - 1 else journey
    chance.shuffle(rows)
    files.taps.write_text("\n".join((_HEADER, *rows)) + "\n", encoding="utf-8")


def _journey(chance: Random, network: Network, card: str, start: datetime) -> list[str]:
    """One bus tap, or an entry and its exit at two stations; the fare follows the way."""
    if chance.randrange(100) < _BUS_PERCENT:
        return [_tap(card, start, "巴士", 200, "澜汀巴士", f"M{chance.randint(1, 60)}路", device=chance.randrange(900))]
    origin, destination = chance.sample(sorted(stations()), 2)
    distance_m = network.distance_m(origin, destination) or 0
    leave = start + timedelta(seconds=180 + distance_m // _METRO_M_PER_S)
    fare, gate = fare_for(distance_m), chance.randrange(900)
    # Some gates write 站 behind the name, as the published ones do.
    suffix = chance.choice(("", "", "站"))
    return [
        _tap(card, start, "地铁入站", 0, line_of(origin), origin, device=gate),
        _tap(card, leave, "地铁出站", fare, line_of(destination), destination + suffix, device=gate + 1),
    ]


def _tap(card: str, moment: datetime, kind: str, fare_fen: int, line: str, station: str, *, device: int) -> str:
    paid_fen = fare_fen * 95 // 100
    midnight = datetime.combine(moment.date(), time.min)
    return (
        f"{card},{moment},{kind},{paid_fen},{fare_fen},{260_000_000 + device},{line},{station},G-{device},0,{midnight}"
    )


def _flawed(journey: list[str], turn: int) -> list[str]:
    """The journey with something wrong, another thing each turn."""
    first, last = journey[0].split(","), journey[-1].split(",")
    station, kind, moment = 7, 2, 1
    match turn % 8:
        case 0:
            last[station] = first[station]
        case 1:
            first[station] = ""
        case 2:
            last[station] = "云外"
        case 3:
            return [journey[0]]
        case 4:
            return [journey[-1]]
        case 5:
            return [*journey, journey[-1]]
        case 6:
            first[moment] = "2018-13-41 25:61:00"
        case _:
            last[kind] = "轮渡"
    return [",".join(first), *([",".join(last)] if len(journey) > 1 else [])]
