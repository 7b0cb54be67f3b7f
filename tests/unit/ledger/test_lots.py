"""Lots: when points end in local time, and in which order they are taken."""

from __future__ import annotations

import calendar
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.ledger import lots as lots_of
from backend.ledger.lots import GRACE_MARK, PointsPolicy
from backend.ledger.model import Lot, TransactionKind
from tests.unit.ledger.book import NOON, POLICY, SHANGHAI, midnight

Kind = TransactionKind
BERLIN, NEW_YORK, CHATHAM = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Pacific/Chatham")
RETURNING = {Kind.POST, Kind.VOID, Kind.LAPSE, Kind.REVERSE}
ENDS = [NOON + timedelta(days=days) for days in range(-2, 4)]
HAVING = st.dictionaries(st.sampled_from(ENDS), st.integers(1, 20))
NAMED = HAVING.map(lambda lots: tuple(Lot(*lot) for lot in sorted(lots.items())))
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2039, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - zone given


@pytest.mark.parametrize(
    ("at", "months", "expected"),
    [
        # The example of the programme's terms: earned in November 2026, usable through 30 November 2028.
        (midnight(2026, 11, 21), 24, midnight(2028, 12, 1)),
        (midnight(2026, 11, 1), 24, midnight(2028, 12, 1)),
        (midnight(2026, 12, 1) - timedelta(milliseconds=1), 24, midnight(2028, 12, 1)),
        (midnight(2026, 12, 1), 24, midnight(2029, 1, 1)),
        (midnight(2027, 1, 1) - timedelta(milliseconds=1), 24, midnight(2029, 1, 1)),
        (midnight(2027, 1, 1), 24, midnight(2029, 2, 1)),
        # 16:00 UTC is the next day in Shanghai, and on the last day of a month the next month.
        (datetime(2026, 11, 30, 15, 59, 59, 999_000, UTC), 24, datetime(2028, 11, 30, 16, tzinfo=UTC)),
        (datetime(2026, 11, 30, 16, tzinfo=UTC), 24, datetime(2028, 12, 31, 16, tzinfo=UTC)),
        # Through February, of a leap year and of none.
        (midnight(2026, 2, 28), 24, midnight(2028, 3, 1)),
        (midnight(2028, 2, 29), 12, midnight(2029, 3, 1)),
        (midnight(2028, 1, 31), 1, midnight(2028, 3, 1)),
        (midnight(2026, 11, 21), 1, midnight(2027, 1, 1)),
        (midnight(2026, 12, 31), 1, midnight(2027, 2, 1)),
        (midnight(2026, 11, 21), 12, midnight(2027, 12, 1)),
        (midnight(2026, 12, 21), 12, midnight(2028, 1, 1)),
        (midnight(2026, 11, 21), 120, midnight(2036, 12, 1)),
    ],
)
def test_earned_points_end_with_the_month_so_many_months_later(at: datetime, months: int, expected: datetime) -> None:
    assert PointsPolicy(SHANGHAI, months).opens(Kind.EARN, at) == expected


@given(at=MOMENTS, months=st.integers(1, 120), zone=st.sampled_from([SHANGHAI, BERLIN, NEW_YORK, CHATHAM]))
def test_the_last_day_of_points_is_the_last_of_its_month(at: datetime, months: int, zone: ZoneInfo) -> None:
    ends = PointsPolicy(zone, months).opens(Kind.EARN, at)
    assert ends.tzinfo is UTC
    local = ends.astimezone(zone)
    assert (local.day, local.hour, local.minute, local.second, local.microsecond) == (1, 0, 0, 0, 0)
    last, earned = (ends - timedelta(milliseconds=1)).astimezone(zone), at.astimezone(zone)
    assert last.day == calendar.monthrange(last.year, last.month)[1]
    assert (last.year - earned.year) * 12 + last.month - earned.month == months


@pytest.mark.parametrize("kind", Kind)
def test_what_returns_without_a_lot_has_the_days_of_grace(kind: Kind) -> None:
    # The running day and thirty more.
    grace = midnight(2026, 12, 22) - GRACE_MARK
    assert POLICY.opens(kind, NOON) == (grace if kind in RETURNING else midnight(2028, 12, 1))


@pytest.mark.parametrize(
    ("at", "days", "expected"),
    [
        (midnight(2026, 11, 21), 30, midnight(2026, 12, 22)),
        (midnight(2026, 11, 22) - timedelta(milliseconds=1), 30, midnight(2026, 12, 22)),
        (midnight(2026, 11, 22), 30, midnight(2026, 12, 23)),
        (midnight(2028, 2, 28), 1, midnight(2028, 3, 1)),
        (midnight(2026, 12, 31), 0, midnight(2027, 1, 1)),
    ],
)
def test_grace_ends_just_before_a_local_midnight(at: datetime, days: int, expected: datetime) -> None:
    assert PointsPolicy(SHANGHAI, grace_days=days).opens(Kind.VOID, at) == expected - timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("at", "grace", "earned"),
    [
        # Germany's clocks: back on 25 October 2026, forward on 28 March 2027; midnight is 22:00 or 23:00 UTC.
        ("2026-09-20T12:00", "2026-10-20T22:00", "2028-09-30T22:00"),
        ("2026-09-24T12:00", "2026-10-24T22:00", "2028-09-30T22:00"),
        ("2026-09-25T12:00", "2026-10-25T23:00", "2028-09-30T22:00"),
        ("2026-10-24T12:00", "2026-11-23T23:00", "2028-10-31T23:00"),
        ("2027-03-01T12:00", "2027-03-31T22:00", "2029-03-31T22:00"),
        # 23:30 UTC on 31 March is April there.
        ("2027-03-31T23:30", "2027-05-01T22:00", "2029-04-30T22:00"),
    ],
)
def test_midnight_is_local_where_clocks_change(at: str, grace: str, earned: str) -> None:
    policy, moment = PointsPolicy(BERLIN), datetime.fromisoformat(f"{at}Z")
    assert policy.opens(Kind.LAPSE, moment) + GRACE_MARK == datetime.fromisoformat(f"{grace}Z")
    assert policy.opens(Kind.EARN, moment) == datetime.fromisoformat(f"{earned}Z")


@given(at=MOMENTS, days=st.integers(0, 400), zone=st.sampled_from([SHANGHAI, BERLIN, NEW_YORK, CHATHAM]))
def test_grace_gives_whole_days(at: datetime, days: int, zone: ZoneInfo) -> None:
    ends = PointsPolicy(zone, grace_days=days).opens(Kind.REVERSE, at) + GRACE_MARK
    local: date = ends.astimezone(zone).date()
    assert ends.astimezone(zone).time() == datetime.min.time()
    assert local == at.astimezone(zone).date() + timedelta(days=days + 1)


@given(at=MOMENTS, later=st.timedeltas(timedelta(), timedelta(4_000)), kind=st.sampled_from(Kind))
def test_only_lots_that_have_ended_and_are_not_of_grace_have_grace(at: datetime, later: timedelta, kind: Kind) -> None:
    lot = Lot(POLICY.opens(kind, at), 1)
    assert lots_of.has_grace(lot, at + later) is (lot.expires_at <= at + later and kind not in RETURNING)


@given(lots=st.lists(st.tuples(st.sampled_from(ENDS), st.integers(-20, 20))))
def test_collecting_sums_by_end_in_order_and_leaves_out_nothings(lots: list[tuple[datetime, int]]) -> None:
    collected = lots_of.collect(lots)
    sums: Counter[datetime] = Counter()
    for end, amount in lots:
        sums[end] += amount
    assert dict(collected) == {end: amount for end, amount in sums.items() if amount}
    assert [end for end, _ in collected] == sorted(dict(collected))
    assert all(isinstance(lot, Lot) for lot in collected)
    assert lots_of.total(collected) == lots_of.total(lots)
    assert lots_of.collect(collected) == collected


@given(having=HAVING, amount=st.integers(-1, 60), data=st.data())
def test_taking_goes_in_the_order_given_and_as_far_as_there_is(
    having: dict[datetime, int], amount: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(sorted(having)))
    taken = dict(lots_of.take([(end, having[end]) for end in order], amount))
    assert sum(taken.values()) == max(0, min(amount, sum(having.values())))
    # All of the first ones, a part of at most one, nothing of the rest.
    shares = [(taken.get(end, 0), having[end]) for end in order]
    full = [*(part == has for part, has in shares), False]
    assert all(part == 0 for part, _ in shares[full.index(False) + 1 :])
    assert all(0 <= part <= has for part, has in shares)
    assert list(taken) == sorted(taken)


def counting(having: dict[datetime, int]) -> dict[datetime, int]:
    return {end: amount for end, amount in having.items() if end > NOON}


@given(having=HAVING, amount=st.integers(1, 60))
def test_spending_takes_the_soonest_to_end_and_never_what_has_ended(having: dict[datetime, int], amount: int) -> None:
    before = dict(having)
    taken = lots_of.take_preferring(having, amount, (), NOON)
    assert having == before
    assert taken == lots_of.take(sorted(counting(having).items()), amount)
    assert all(end > NOON for end, _ in taken)


@given(having=HAVING, amount=st.integers(1, 60), first=NAMED)
def test_preferred_lots_come_first_as_far_as_they_are_there(
    having: dict[datetime, int], amount: int, first: tuple[Lot, ...]
) -> None:
    taken = dict(lots_of.take_preferring(having, amount, first, NOON))
    usable = counting(having)
    assert sum(taken.values()) == min(amount, sum(usable.values()))
    assert all(part <= usable.get(end, 0) for end, part in taken.items())
    preferred = {end: min(part, usable[end]) for end, part in first if end in usable}
    if sum(preferred.values()) >= amount:
        assert taken == dict(lots_of.take(sorted(preferred.items()), amount))
    else:
        assert all(taken.get(end, 0) >= part for end, part in preferred.items())
        rest = {end: has - preferred.get(end, 0) for end, has in usable.items()}
        soonest = dict(lots_of.take(sorted(rest.items()), amount - sum(preferred.values())))
        assert taken == {end: n for end in usable if (n := preferred.get(end, 0) + soonest.get(end, 0))}


def test_a_lot_that_ends_this_instant_has_ended() -> None:
    assert lots_of.take_preferring({NOON: 5}, 5, (Lot(NOON, 5),), NOON) == ()
    just = NOON + timedelta(milliseconds=1)
    assert lots_of.take_preferring({just: 5}, 5, (), NOON) == (Lot(just, 5),)
