"""Which phase the market is in: hours, days, staff's word; and when orders end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from backend.ledger.model import Asset
from backend.market.exchange.book import TimeInForce
from backend.market.exchange.hours import Timetable
from backend.market.exchange.model import ExtraSession, Halt, Instrument, PhaseKind, StaffAuction
from backend.market.settings import MarketSettings

ZONE = ZoneInfo("Asia/Shanghai")
HOURS = Timetable(MarketSettings(), ZONE)
CLOSED, CALL, CONTINUOUS = PhaseKind.CLOSED, PhaseKind.CALL, PhaseKind.CONTINUOUS


def local(day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    """A moment in November 2026; the second is a Monday."""
    return datetime(2026, 11, day, hour, minute, second, tzinfo=ZONE).astimezone(UTC)


def instrument(**changes: object) -> Instrument:
    """An instrument in its usual hours."""
    return Instrument(
        id=Asset("credit:x"),
        listed_at=local(2, 0),
        listed_by="staff:root",
        reference_fen=6_000,
        day=date(2026, 11, 2),
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("at", "kind", "until"),
    [
        (local(2, 0), CLOSED, local(2, 9, 15)),
        (local(2, 9, 14, 59), CLOSED, local(2, 9, 15)),
        (local(2, 9, 15), CALL, local(2, 9, 25)),
        (local(2, 9, 24, 59), CALL, local(2, 9, 25)),
        (local(2, 9, 25), CLOSED, local(2, 9, 30)),
        (local(2, 9, 30), CONTINUOUS, local(2, 11, 30)),
        (local(2, 11, 30), CLOSED, local(2, 13)),
        (local(2, 14, 59, 59), CONTINUOUS, local(2, 15)),
        (local(2, 15), CLOSED, local(3, 9, 15)),
        (local(6, 15), CLOSED, local(9, 9, 15)),
        (local(7, 10), CLOSED, local(9, 9, 15)),
    ],
)
def test_the_hours_of_the_week(at: datetime, kind: PhaseKind, until: datetime) -> None:
    phase = HOURS.phase_at(instrument(), at)
    assert (phase.kind, phase.until) == (kind, until)


def test_a_market_without_days_is_closed_for_ever() -> None:
    phase = Timetable(MarketSettings(weekdays=[]), ZONE).phase_at(instrument(), local(2, 10))
    assert (phase.kind, phase.until) == (CLOSED, None)


def test_a_market_without_call_opens_with_its_session() -> None:
    hours = Timetable(MarketSettings(call=None), ZONE)
    assert hours.phase_at(instrument(), local(2, 9, 20)).until == local(2, 9, 30)


def test_staffs_word_goes_before_the_hours_from_when_it_was_spoken() -> None:
    since, until = local(2, 10), local(2, 20)
    extra = instrument(extra=ExtraSession("staff:root", since, until))
    auction = instrument(auction=StaffAuction("staff:root", since, until, 6_000, irrevocable=True))
    halted = instrument(
        halt=Halt("staff:root", "检查", since),
        auction=auction.auction,
        extra=extra.extra,
    )
    told = [
        [HOURS.phase_at(one, at).kind for at in (since - timedelta(milliseconds=1), since, local(2, 19), until)]
        for one in (extra, auction, halted)
    ]
    assert told == [
        [CONTINUOUS, CONTINUOUS, CONTINUOUS, CLOSED],
        [CONTINUOUS, PhaseKind.AUCTION, PhaseKind.AUCTION, CLOSED],
        [CONTINUOUS, PhaseKind.HALTED, PhaseKind.HALTED, PhaseKind.HALTED],
    ]
    assert HOURS.phase_at(halted, until).until is None


def test_when_orders_end() -> None:
    now, named = local(2, 10), local(5, 12)
    ends = [HOURS.end_of(tif, None, now) for tif in (TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTC)]
    # Ninety local days after this one at midnight.
    assert ends == [now + timedelta(minutes=5)] * 2 + [datetime(2027, 1, 31, tzinfo=ZONE)]
    assert HOURS.end_of(TimeInForce.GTD, named, now) == named
