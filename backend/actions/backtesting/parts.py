"""Parts of a back-test, and whether what a part came to stands beside what the parts before it drew. Pure.

All parts are replayed at once, each as if it were the first. As long as what everybody draws on suffices for all, that
is the same as one after the other; the first part for which it does not is replayed again behind those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What everybody draws on: its group, its period, and what its limit measures.
Shared = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the 64: who replays it, what parts before it had drawn then, what it drew, and the limits of that."""

    job: str
    number: int
    holder: str | None
    is_open: bool
    start: Mapping[Shared, int]
    drawn: Mapping[Shared, int]
    limits: Mapping[Shared, int]


def find_untrue(parts: Iterable[Part]) -> tuple[Part, Mapping[Shared, int]] | None:
    """The first part, in their order, that would come to something else behind those before it, and their draw."""
    before: dict[Shared, int] = {}
    for part in parts:
        if not _stands(part, before):
            return part, before
        for shared, amount in part.drawn.items():
            before[shared] = before.get(shared, 0) + amount
    return None


def _stands(part: Part, before: Mapping[Shared, int]) -> bool:
    if _drawn(part.start) == _drawn(before):
        return True
    # What never met a limit meets none either with what was drawn before, as long as that leaves as much.
    return not part.start and all(
        before.get(shared, 0) + amount <= part.limits[shared] for shared, amount in part.drawn.items()
    )


def _drawn(shared: Mapping[Shared, int]) -> dict[Shared, int]:
    return {name: amount for name, amount in shared.items() if amount}
