"""What merchants are owed month by month, in words one can check; must not import the rules it judges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from backend.ledger.model import BANK, CNY, COMMISSION, REDEEMED, REWARDS
from tests.factories import shop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backend.ledger.model import AccountId

REST = timedelta(minutes=15)
Posted = frozenset[tuple["AccountId", "AccountId", int]]
"""What a transaction moved: from, to, how much."""


@dataclass(frozen=True)
class Line:
    """A capture, or less than zero a refund, and the commission promised for it."""

    merchant: str
    at: datetime
    points: int
    fen: int
    bps: int


@dataclass
class Statement:
    """A merchant's month; ``brought`` is what the merchant owed before, less than zero."""

    merchant: str
    number: int
    since: datetime
    until: datetime
    lines: list[Line]
    brought: int
    stage: str = "READY"

    def sums(self, sign: int) -> tuple[int, int, int]:
        """Count, points and fen of captures (1) or refunds (-1)."""
        mine = [one for one in self.lines if one.points * sign > 0]
        return len(mine), sign * sum(one.points for one in mine), sign * sum(one.fen for one in mine)

    @property
    def points(self) -> int:
        return sum(one.points for one in self.lines)

    @property
    def gross(self) -> int:
        return sum(one.fen for one in self.lines)

    @property
    def commission(self) -> int:
        """Rounded once a rate, never against whoever pays it."""
        kept = 0
        for bps in {one.bps for one in self.lines}:
            gross = sum(one.fen for one in self.lines if one.bps == bps)
            kept += gross * bps // 10_000 if gross > 0 else -(-gross * bps // 10_000)
        return kept

    @property
    def net(self) -> int:
        return self.gross - self.commission

    @property
    def payable(self) -> int:
        return max(0, self.brought + self.net)

    @property
    def told(self) -> tuple[object, ...]:
        whose = self.merchant, self.number, self.since, self.until
        sums = self.sums(1), self.sums(-1), len(self.lines)
        return *whose, *sums, self.gross, self.commission, self.net, self.brought, self.payable, self.stage

    def postings(self) -> Mapping[str, Posted]:
        """What the book has of it by now, by kind of transaction."""
        points, money = shop(self.merchant), shop(self.merchant, CNY)
        settled = [(points, REDEEMED, self.points), (REWARDS, money, self.gross), (money, COMMISSION, self.commission)]
        paid = [(money, BANK, self.payable)]
        steps = {"SETTLE": settled if self.stage != "READY" else [], "PAYOUT": paid if self.stage == "PAID" else []}
        return {
            kind: frozenset(
                (payer, payee, moved) if moved > 0 else (payee, payer, -moved) for payer, payee, moved in moves if moved
            )
            for kind, moves in steps.items()
        }


class Months:
    """The statements made so far."""

    def __init__(self, zone: tzinfo, begin: datetime, merchants: Iterable[str]) -> None:
        self.zone = zone
        self.settled_until = dict.fromkeys(merchants, begin)
        self.statements: list[Statement] = []

    def end(self, now: datetime) -> datetime:
        """The first instant of the next month."""
        today = now.astimezone(self.zone).date()
        first = (today.replace(day=1) + timedelta(days=31)).replace(day=1)
        return datetime.combine(first, time(), self.zone).astimezone(UTC)

    def close(self, lines: list[Line], now: datetime) -> int:
        """Make the statements due: of months in which something happened; how many."""
        before = len(self.statements)
        for merchant in self.settled_until:
            while (until := self.end(since := self.settled_until[merchant])) + REST <= now:
                inside = [one for one in lines if one.merchant == merchant and since <= one.at < until]
                if inside:
                    earlier = self.of(merchant)
                    brought = min(0, sum(one.net - one.payable for one in earlier))
                    self.statements.append(Statement(merchant, len(earlier) + 1, since, until, inside, brought))
                self.settled_until[merchant] = until
        return len(self.statements) - before

    def postings(self) -> Mapping[tuple[str, int, str], Posted]:
        """What settling moved in the book; what moves nothing is not in it."""
        return {
            (one.merchant, one.number, kind): moved
            for one in self.statements
            for kind, moved in one.postings().items()
            if moved
        }

    def of(self, merchant: str) -> list[Statement]:
        return [one for one in self.statements if one.merchant == merchant]

    def points(self, merchant: str) -> int:
        """Points that the merchant handed back."""
        return sum(one.points for one in self.of(merchant) if one.stage != "READY")

    def fen(self, merchant: str) -> int:
        """Fen of the merchant's that are not paid, or are owed where less than zero."""
        approved = sum(one.net for one in self.of(merchant) if one.stage != "READY")
        return approved - sum(one.payable for one in self.of(merchant) if one.stage == "PAID")
