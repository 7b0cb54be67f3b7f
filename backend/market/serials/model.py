"""Ranges of serials as immutable values, and their spelling. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_SPELLED = re.compile(r"([1-9][0-9]{0,17})-([1-9][0-9]{0,17})")


class SerialRange(NamedTuple):
    """Serials ``first`` to ``last``, both included: one gram each."""

    first: int
    last: int

    @property
    def grams(self) -> int:
        """How many."""
        return self.last - self.first + 1

    def head(self, grams: int) -> SerialRange:
        """The first so many."""
        return SerialRange(self.first, self.first + grams - 1)

    def tail(self, grams: int) -> SerialRange:
        """All but the first so many."""
        return SerialRange(self.first + grams, self.last)

    def __str__(self) -> str:
        """Spell the range: ``1-1000``."""
        return f"{self.first}-{self.last}"


Ranges = tuple[SerialRange, ...]  # by first serial; no two touch or overlap


def total_grams(ranges: Iterable[SerialRange]) -> int:
    """How many serials they have together."""
    return sum(run.grams for run in ranges)


def joined(ranges: Iterable[SerialRange]) -> Ranges:
    """The same serials in as few ranges as possible, by first serial.

    Raises:
        ValueError: two of them overlap.
    """
    runs: list[SerialRange] = []
    for run in sorted(ranges):
        if runs and run.first <= runs[-1].last:
            message = f"serials {runs[-1]} and {run} overlap"
            raise ValueError(message)
        if runs and run.first == runs[-1].last + 1:
            runs[-1] = SerialRange(runs[-1].first, run.last)
        else:
            runs.append(run)
    return tuple(runs)


def taken(ranges: Iterable[SerialRange], grams: int) -> tuple[Ranges, Ranges]:
    """The first ``grams`` serials of ranges in order, fewer where there are fewer, and the rest."""
    first: list[SerialRange] = []
    rest: list[SerialRange] = []
    for run in ranges:
        part = min(run.grams, grams)
        grams -= part
        if part:
            first.append(run.head(part))
        if part < run.grams:
            rest.append(run.tail(part))
    return tuple(first), tuple(rest)


def spelled(ranges: Iterable[SerialRange]) -> str:
    """The ranges as a cause and a certificate spell them: ``1-1000,2001-2500``."""
    return ",".join(map(str, ranges))


def parse_ranges(text: str) -> Ranges:
    """The ranges so spelled.

    Raises:
        ValueError: it is no such text, a range runs backwards, or they are not in order.
    """
    runs: list[SerialRange] = []
    for part in text.split(","):
        found = _SPELLED.fullmatch(part)
        if found is None or int(found[2]) < int(found[1]) or (runs and int(found[1]) <= runs[-1].last):
            message = f"no ranges of serials: {text[:80]!r}"
            raise ValueError(message)
        runs.append(SerialRange(int(found[1]), int(found[2])))
    return tuple(runs)
