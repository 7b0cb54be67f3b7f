"""Which phase the market is in at a moment, and when what is placed then ends. Pure."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

from backend.kernel.clock import local_date, to_milliseconds
from backend.market.exchange.model import IMMEDIATE, Phase, PhaseKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from zoneinfo import ZoneInfo

    from backend.market.exchange.book import TimeInForce
    from backend.market.exchange.model import Instrument
    from backend.market.settings import Hours, MarketSettings

WEEK_DAYS = 8
# How long an order that does not wait may stay unseen while matchers are away.
IMMEDIATE_FOR = timedelta(minutes=5)
# A hold outlives its order, so that none ends under an order that the matcher may still fill.
HOLD_AFTER = timedelta(days=1)


class Timetable:
    """The market's hours in the programme's time zone."""

    def __init__(self, settings: MarketSettings, zone: ZoneInfo) -> None:
        self.settings = settings
        self.zone = zone

    def phase_at(self, instrument: Instrument, moment: datetime) -> Phase:
        """What the instrument's market does at that moment: staff's word goes before the hours."""
        if instrument.halt is not None and instrument.halt.since <= moment:
            return Phase(PhaseKind.HALTED, None)
        auction, extra = instrument.auction, instrument.extra
        if auction is not None and auction.since <= moment < auction.until:
            return Phase(PhaseKind.AUCTION, auction.until)
        if extra is not None and extra.since <= moment < extra.until:
            return Phase(PhaseKind.CONTINUOUS, extra.until)
        return self._scheduled(moment)

    def _scheduled(self, moment: datetime) -> Phase:
        for kind, opens, closes in self._spans(local_date(moment, self.zone)):
            if moment < opens:
                return Phase(PhaseKind.CLOSED, opens)
            if moment < closes:
                return Phase(kind, closes)
        return Phase(PhaseKind.CLOSED, None)

    def _spans(self, day: date) -> Iterator[tuple[PhaseKind, datetime, datetime]]:
        """The spans of a day and the following, in order: a closed market opens within a week."""
        settings = self.settings
        for number in range(WEEK_DAYS):
            local_day = day + timedelta(days=number)
            if local_day.isoweekday() not in settings.weekdays:
                continue
            if settings.call is not None:
                yield PhaseKind.CALL, *self._moments(local_day, settings.call)
            for hours in settings.sessions:
                yield PhaseKind.CONTINUOUS, *self._moments(local_day, hours)

    def _moments(self, day: date, hours: Hours) -> tuple[datetime, datetime]:
        opens, closes = (
            datetime.combine(day, time.fromisoformat(text), self.zone) for text in (hours.opens, hours.closes)
        )
        return to_milliseconds(opens), to_milliseconds(closes)

    def day_of(self, moment: datetime) -> date:
        """The local day."""
        return local_date(moment, self.zone)

    def last_moment(self, now: datetime) -> datetime:
        """When an order ends at the latest that is placed now: with its last local day."""
        day = local_date(now, self.zone) + timedelta(days=self.settings.order_days)
        return to_milliseconds(datetime.combine(day, time(), self.zone))

    def end_of(self, tif: TimeInForce, good_until: datetime | None, now: datetime) -> datetime:
        """When an order placed now ends by itself."""
        if tif in IMMEDIATE:
            return now + IMMEDIATE_FOR
        return to_milliseconds(good_until) if good_until is not None else self.last_moment(now)
