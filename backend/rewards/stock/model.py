"""Pots as values, and their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

PotId = NewType("PotId", str)


def stock_pot(offer: str, day: date | None = None) -> PotId:
    """The pot of an offer's units, or of its units of one local day."""
    return PotId(f"offer:{offer}" if day is None else f"offer:{offer}:{day}")


def budget_pot(merchant: str, period: date) -> PotId:
    """The pot of the fen that vouchers of a merchant may be worth in the period that begins on that local day."""
    return PotId(f"budget:{merchant}:{period}")


def is_budget(pot: PotId) -> bool:
    """Whether the pot is of a merchant's budget."""
    return pot.startswith("budget:")


class Want(NamedTuple):
    """So many units are wanted of a pot, which holds ``total`` when it is first asked."""

    units: int
    total: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """What one reservation took of a pot: ``units`` of those wanted; ``in_hand`` are units others have reserved."""

    units: int
    in_hand: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Units set aside, by pot, for whoever proves by ``id`` in time that they were used."""

    id: str
    pots: Mapping[PotId, Reserved]


@dataclass(frozen=True, slots=True)
class Pending:
    """Units of a pot that are in somebody's hand until they are used, returned, or the time is over."""

    reservation: str
    units: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Pot:
    """``total`` units, of which ``free`` are neither used nor pending."""

    id: PotId
    total: int
    free: int
    pending: tuple[Pending, ...]

    @property
    def used(self) -> int:
        """Units that somebody has."""
        return self.total - self.free - sum(pending.units for pending in self.pending)
