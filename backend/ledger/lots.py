"""Lots of points: when they end, which are taken first, where returned points go. Pure; knows no accounts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from backend.kernel.clock import local_date
from backend.ledger.model import RETURNING, Lot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from zoneinfo import ZoneInfo

    from backend.ledger.model import Lots, TransactionKind

MONTHS = 12
# A lot of grace ends this much before midnight: by that it is known, for grace is given once.
GRACE_MARK = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class PointsPolicy:
    """A programme's decisions on the life of points and on debts."""

    zone: ZoneInfo
    lifetime_months: int = 24
    grace_days: int = 30
    debt_allowed: bool = True
    repays_debt_first: bool = True

    def opens(self, kind: TransactionKind, at: datetime) -> datetime:
        """When points end that this transaction puts into no older lot: returned ones after the grace days."""
        today = local_date(at, self.zone)
        if kind in RETURNING:
            return _midnight(today + timedelta(days=self.grace_days + 1), self.zone) - GRACE_MARK
        return _month_end(today.year, today.month, self.lifetime_months, self.zone)


@lru_cache(maxsize=1_024)
def _month_end(year: int, month: int, later: int, zone: ZoneInfo) -> datetime:
    """The first instant after the calendar month ``later`` months after that one."""
    years, months = divmod(month + later, MONTHS)
    return _midnight(date(year + years, months + 1, 1), zone)


@lru_cache(maxsize=1_024)
def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def has_grace(lot: Lot, at: datetime) -> bool:
    """Whether the lot has ended by that moment and was not one of grace itself."""
    return lot.expires_at <= at and not lot.expires_at.microsecond


def collect(lots: Iterable[tuple[datetime, int]]) -> Lots:
    """The lots by end, each end once, without those that came to nothing."""
    sums: dict[datetime, int] = {}
    for expires_at, amount in lots:
        sums[expires_at] = sums.get(expires_at, 0) + amount
    return in_order(sums)


def in_order(amounts: Mapping[datetime, int]) -> Lots:
    """The amounts by end as lots, soonest end first, without those that came to nothing."""
    return tuple([Lot(end, amounts[end]) for end in sorted(amounts) if amounts[end]])


def total(lots: Iterable[tuple[datetime, int]]) -> int:
    """How many points the lots have together."""
    return sum(amount for _, amount in lots)


def take(lots: Iterable[tuple[datetime, int]], amount: int) -> Lots:
    """The first ``amount`` points in the order given; fewer where there are fewer."""
    taken = []
    for expires_at, has in lots:
        if amount <= 0:
            break
        part = min(has, amount)
        taken.append((expires_at, part))
        amount -= part
    return collect(taken)


def take_preferring(lots: dict[datetime, int], amount: int, first: Lots, at: datetime) -> Lots:
    """``amount`` of the points that count at ``at``: of the lots of ``first`` as far as they go, then soonest end."""
    counting = {expires_at: has for expires_at, has in sorted(lots.items()) if expires_at > at}
    preferred = take(((end, min(part, counting.get(end, 0))) for end, part in first), amount)
    for end, part in preferred:
        counting[end] -= part
    return collect((*preferred, *take(counting.items(), amount - total(preferred))))
