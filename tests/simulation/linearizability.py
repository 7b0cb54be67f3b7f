"""Whether some serial order of the calls explains what everybody was told about one account (Wing and Gong's search).

Source: J. M. Wing, C. Gong, "Testing and Verifying Concurrent Objects", Journal of Parallel and Distributed Computing
17, 1993. Must not know how the ledger decides.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Call:
    """``change`` (signed) asked for between the ticks ``called`` and ``returned``.

    ``seen`` is the balance a call without change was told; ``told`` is what a refused one was told is there, if known.
    """

    called: int
    returned: int
    change: int = 0
    is_refused: bool = False
    seen: int | None = None
    told: int | None = None

    def after(self, balance: int) -> int | None:
        """The balance once this call has happened; None where it cannot happen with that answer at ``balance``."""
        if self.seen is not None:
            return balance if balance == self.seen else None
        if self.is_refused:
            is_true = balance + self.change < 0 and self.told in {None, balance}
            return balance if is_true else None
        return balance + self.change if balance + self.change >= 0 else None


@dataclass
class History:
    """Calls with the ticks of one counter, which every concurrent caller of this process shares."""

    calls: list[Call] = field(default_factory=list)
    _ticks: itertools.count[int] = field(default_factory=itertools.count)

    def tick(self) -> int:
        """The next instant."""
        return next(self._ticks)


def explanation(calls: Sequence[Call], *, opening: int, closing: int) -> list[Call] | None:
    """An order that respects who returned before whom was called and ends at ``closing``; None if there is none."""
    hopeless: set[int] = set()  # sets of calls already done, as bits; the balance follows from the set

    def search(done: int, balance: int, order: list[Call]) -> list[Call] | None:
        if len(order) == len(calls):
            return order if balance == closing else None
        if done in hopeless:
            return None
        waiting = [(number, call) for number, call in enumerate(calls) if not done >> number & 1]
        first_return = min(call.returned for _, call in waiting)
        for number, call in waiting:
            after = call.after(balance) if call.called < first_return else None
            if after is not None and (found := search(done | 1 << number, after, [*order, call])):
                return found
        hopeless.add(done)
        return None

    return search(0, opening, [])
