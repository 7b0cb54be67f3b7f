"""The sums of a part of a back-test, and of all parts together. Pure; integers only."""

from __future__ import annotations

import dataclasses
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from backend.actions.backtesting.model import Comparison, Cuts, Difference, Mover, Result, Row, Side
from backend.kernel.errors import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SAMPLE = 50
MOVERS = 20
TENTHS = 10
COLUMNS = tuple(column.name for column in dataclasses.fields(Comparison))
POINTS_BEFORE, POINTS_AFTER = COLUMNS.index("points_before"), COLUMNS.index("points_after")
Sums = list[int]
Name = TypeVar("Name", str, int)


def no_sums() -> Sums:
    """Nothing yet, in the order of ``COLUMNS``."""
    return [0] * len(COLUMNS)


def add(sums: Sums, more: Sequence[int]) -> None:
    """Add column by column."""
    for column, amount in enumerate(more):
        sums[column] += amount


@dataclass
class Tally:
    """Sums of acts: by kind and local day, by district, and of citizens by the points they had before.

    ``cells`` are named ``kind|day``; ``districts`` and ``levels`` (by points before) end with the number of citizens.
    ``sample`` holds the differences of the lowest rank.
    """

    cells: dict[str, Sums] = field(default_factory=dict)
    districts: dict[str, Sums] = field(default_factory=dict)
    levels: dict[int, Sums] = field(default_factory=dict)
    gaining: int = 0
    losing: int = 0
    unchanged: int = 0
    movers: list[tuple[int, str]] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    to_review: int = 0
    kept: int = 0
    waiting: int = 0
    unreadable: int = 0
    sample: list[tuple[str, Difference]] = field(default_factory=list)

    def add_citizen(self, district: str, pseudonym: str, sums: Sums) -> None:
        """Count a citizen whose acts came to ``sums``."""
        counted = [*sums, 1]
        add(self.districts.setdefault(district, [*no_sums(), 0]), counted)
        add(self.levels.setdefault(sums[POINTS_BEFORE], [*no_sums(), 0]), counted)
        self._move(sums[POINTS_AFTER] - sums[POINTS_BEFORE], pseudonym)

    def _move(self, points: int, pseudonym: str) -> None:
        self.gaining += points > 0
        self.losing += points < 0
        self.unchanged += points == 0
        if points:
            self.movers.append((points, pseudonym))
            if len(self.movers) > 20 * MOVERS:
                self.movers = _farthest(self.movers)

    def merge(self, other: Tally) -> None:
        """Take another part's sums into these."""
        _merge(self.cells, other.cells)
        _merge(self.districts, other.districts)
        _merge(self.levels, other.levels)
        for name, counts in other.cuts.items():
            add(self.cuts.setdefault(name, [0, 0]), counts)
        for name in ("gaining", "losing", "unchanged", "to_review", "kept", "waiting", "unreadable"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.movers = _farthest(self.movers + other.movers)
        self.sample = heapq.nsmallest(SAMPLE, self.sample + other.sample, key=lambda ranked: ranked[0])

    def result(self) -> Result:
        """What the sums say, in a fixed order."""
        total, kinds, days = no_sums(), dict[str, Sums](), dict[str, Sums]()
        for name, sums in self.cells.items():
            kind, _, day = name.partition("|")
            add(total, sums)
            add(kinds.setdefault(kind, no_sums()), sums)
            add(days.setdefault(day, no_sums()), sums)
        movers = sorted(self.movers, key=lambda mover: (-abs(mover[0]), mover[1]))
        return Result(
            total=Comparison(*total),
            kinds=_rows(kinds),
            districts=_rows(self.districts),
            days=_rows(days),
            deciles=_deciles(self.levels),
            gaining=self.gaining,
            losing=self.losing,
            unchanged=self.unchanged,
            most_gaining=tuple(Mover(who, points) for points, who in movers if points > 0)[:MOVERS],
            most_losing=tuple(Mover(who, points) for points, who in movers if points < 0)[:MOVERS],
            cuts=tuple(Cuts(name, *self.cuts[name]) for name in sorted(self.cuts)),
            to_review=self.to_review,
            kept=self.kept,
            waiting=self.waiting,
            unreadable=self.unreadable,
            sample=tuple(difference for _, difference in sorted(self.sample, key=lambda ranked: ranked[0])),
        )


def _merge(mine: dict[Name, Sums], theirs: Mapping[Name, Sums]) -> None:
    for name, sums in theirs.items():
        if name in mine:
            add(mine[name], sums)
        else:
            mine[name] = sums


def _farthest(movers: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """The movers that can be among those who gain or lose most."""
    ranked = sorted(movers, key=lambda mover: (-abs(mover[0]), mover[1]))
    gaining = [mover for mover in ranked if mover[0] > 0]
    losing = [mover for mover in ranked if mover[0] < 0]
    return gaining[:MOVERS] + losing[:MOVERS]


def _rows(sums: dict[str, Sums]) -> tuple[Row, ...]:
    return tuple(_row(name, sums[name]) for name in sorted(sums))


def _row(name: str, sums: Sums) -> Row:
    columns = len(COLUMNS)
    return Row(name, sums[columns] if len(sums) > columns else None, Comparison(*sums[:columns]))


def _deciles(levels: dict[int, Sums]) -> tuple[Row, ...]:
    """Tenths of the citizens by points before; who had the same stay together, in the tenth of the first of them."""
    citizens = sum(sums[-1] for sums in levels.values())
    tenths: dict[int, Sums] = {}
    place = 0
    for points in sorted(levels):
        sums = levels[points]
        add(tenths.setdefault(place * TENTHS // citizens, [*no_sums(), 0]), sums)
        place += sums[-1]
    return tuple(_row(str(tenth + 1), sums) for tenth, sums in tenths.items())


def write_tally(tally: Tally) -> str:
    """The tally as text."""
    return orjson.dumps(tally, default=list, option=orjson.OPT_NON_STR_KEYS).decode()


def read_tally(text: str) -> Tally:
    """The tally of a text."""
    plain = orjson.loads(text)
    return Tally(
        **{
            **plain,
            "levels": {int(points): sums for points, sums in plain["levels"].items()},
            "movers": [(points, who) for points, who in plain["movers"]],
            "sample": [(rank, _read_difference(found)) for rank, found in plain["sample"]],
        }
    )


def write_result(result: Result) -> str:
    """The result as text."""
    return orjson.dumps(result, default=list).decode()


def read_result(text: str) -> Result:
    """The result of a text."""
    plain: dict[str, Any] = orjson.loads(text)
    rows = {
        name: tuple(Row(row["name"], row["citizens"], Comparison(**row["sums"])) for row in plain[name])
        for name in ("kinds", "districts", "days", "deciles")
    }
    return Result(
        **{
            **plain,
            **rows,
            "total": Comparison(**plain["total"]),
            "most_gaining": tuple(Mover(**mover) for mover in plain["most_gaining"]),
            "most_losing": tuple(Mover(**mover) for mover in plain["most_losing"]),
            "cuts": tuple(Cuts(**cuts) for cuts in plain["cuts"]),
            "sample": tuple(map(_read_difference, plain["sample"])),
        }
    )


def _read_difference(plain: dict[str, Any]) -> Difference:
    sides = {
        name: Side(**{**plain[name], "lines": tuple(Text(*line) for line in plain[name]["lines"])})
        for name in ("before", "after")
    }
    return Difference(plain["action"], plain["kind"], **sides)
