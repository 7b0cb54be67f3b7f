"""What an audit counted and found, and how differences are worded. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from backend.mongo.batches import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from backend.mongo.client import Document

MAX_FINDINGS = 100
MAX_SHOWN = 300


@dataclass
class Audit:
    """What an audit counted and what it found wrong: the first hundred findings, and how many there are."""

    transactions: int = 0
    postings: int = 0
    pages: int = 0
    blocks: int = 0
    waiting: int = 0
    actions: int = 0
    balances: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    differences: int = 0

    @property
    def clean(self) -> bool:
        """Whether everything adds up."""
        return not self.findings

    def report(self, place: str, problem: str) -> None:
        """Note a difference."""
        self.differences += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(f"{place}: {problem}")


class Side(Protocol):
    """What takes the entries of two sides that must be equal: a tally, or in a second pass its suspects."""

    def add(self, entry: bytes, times: int = 1) -> None:
        """Count the entry."""

    def add_all(self, entries: Iterable[bytes], times: int = 1) -> None:
        """Count each of the entries."""


class Nobody:
    """Takes the entries of a side that is not asked."""

    def add(self, entry: bytes, times: int = 1) -> None:
        """Do nothing with it."""

    def add_all(self, entries: Iterable[bytes], times: int = 1) -> None:
        """Do nothing with them."""


def unlike(stored: Document, raw: bytes, expected: Mapping[str, Any]) -> Iterator[str]:
    """In which fields the stored document is not, value and type, what it must be."""
    if encode(expected) == raw:
        return
    for name in sorted({*expected, *stored}):
        if name not in expected:
            yield f"{name} is {shown(stored[name])}, the replay gives none"
        elif name not in stored:
            yield f"{name} is missing, the replay gives {shown(expected[name])}"
        elif encode({"": stored[name]}) != encode({"": expected[name]}):
            yield f"{name} is {shown(stored[name])}, the replay gives {shown(expected[name])}"


def shown(value: object) -> str:
    """The value as a finding tells it."""
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
