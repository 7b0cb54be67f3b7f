"""What a trial makes of the rule book, and since when counters have to be counted for its days."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from backend.actions.backtesting.errors import UnknownProfileError, UnknownVersionError
from backend.actions.backtesting.model import Days, Trial, midnight
from backend.actions.backtesting.trying import Binding, book_at, count_from, trial_book
from backend.rules.drafts import Subject
from backend.rules.model import Audience, Campaign, Cap, Limit, Limits, Measure, Period, RuleVersion
from backend.rules.profile import shipped_profile
from backend.rules.service import RuleBook
from backend.rules.wording import write_campaign, write_limits, write_version

ZONE = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 10, 14, 4, tzinfo=UTC)
DAYS = Days(date(2026, 10, 14), date(2026, 10, 21))  # from a Wednesday on
PROFILE = shipped_profile("conservative")
BUS = next(version for version in PROFILE.versions if version.rule == "R-BUS2")


def cap(period: Period) -> Cap:
    """Some cap over that period."""
    return Cap(group=f"per_{period.lower()}", period=period, measure=Measure.COUNT, limit=1, basis="test")


def campaign(begin: datetime, end: datetime) -> Campaign:
    """A campaign for all acts."""
    return Campaign(
        code="spring",
        name_zh="春",
        name_en="Spring",
        starts_at=begin,
        ends_at=end,
        kinds=frozenset(),
        condition=None,
        audience=Audience.EVERY_ACT,
        streak_days=0,
        percent=10,
        bonus=0,
        stackable=True,
        priority=0,
        budget=1_000,
        revision=1,
    )


def book(*versions: RuleVersion, campaigns: tuple[Campaign, ...] = (), caps: tuple[Cap, ...] = ()) -> RuleBook:
    """A book with bus rides alone."""
    return RuleBook(
        revision=5,
        profile="conservative",
        kinds={kind.code: kind for kind in PROFILE.kinds},
        versions={"bus_ride": versions or (dataclasses.replace(BUS, revision=1, caps=()),)},
        campaigns=campaigns,
        limits=(Limits(revision=1, limits=tuple(Limit(cap=each) for each in caps)),),
        publications=(),
    )


@pytest.mark.parametrize(
    ("period", "first"),
    [
        (Period.DAY, date(2026, 10, 14)),
        (Period.WEEK, date(2026, 10, 12)),
        (Period.MONTH, date(2026, 10, 1)),
        (Period.YEAR, date(2026, 1, 1)),
        (Period.ALWAYS, date(1970, 1, 1)),
    ],
)
def test_counting_begins_with_the_period_of_the_longest_cap_of_either_book(period: Period, first: date) -> None:
    plain, capped = book(), book(caps=(cap(Period.DAY), cap(period)))
    assert count_from(plain, capped, DAYS, ZONE) == first
    assert count_from(capped, plain, DAYS, ZONE) == first
    ruled = book(dataclasses.replace(BUS, revision=1, caps=(cap(period),)))
    assert count_from(plain, ruled, DAYS, ZONE) == first


def test_counting_begins_with_a_campaign_that_reaches_into_the_days() -> None:
    begin = midnight(date(2026, 9, 3), ZONE)
    reaching = book(campaigns=(campaign(begin, NOON),))
    assert count_from(reaching, book(), DAYS, ZONE) == date(2026, 9, 3)
    over = book(campaigns=(campaign(begin, begin + timedelta(days=3)),))
    assert count_from(over, book(), DAYS, ZONE) == DAYS.begin
    later = midnight(DAYS.end, ZONE)
    assert count_from(book(campaigns=(campaign(later, later + timedelta(days=9)),)), book(), DAYS, ZONE) == DAYS.begin


def test_a_version_or_draft_binds_all_days_and_a_campaign_its_own() -> None:
    old = dataclasses.replace(BUS, revision=1)
    new = dataclasses.replace(BUS, version=2, revision=5, valid_from=NOON + timedelta(days=90))
    found = book(old, new)
    assert Binding(found).find("bus_ride", NOON)[0] is old
    again = Binding(trial_book(found, Trial(rule=BUS.rule, version=2))).find("bus_ride", NOON)[0]
    assert again == dataclasses.replace(new, valid_from=None, revision=6)
    wording = write_version(dataclasses.replace(BUS, version=3, minimum=7, maximum=9))
    drafted = Trial(draft="draft_1", subject=Subject.RULE, wording=wording)
    assert (version := Binding(trial_book(found, drafted)).find("bus_ride", NOON)[0])
    assert (version.version, version.minimum) == (3, 7)
    spring = campaign(NOON, NOON + timedelta(days=1))
    terms = Binding(trial_book(found, Trial(draft="draft_1", subject=Subject.CAMPAIGN, wording=write_campaign(spring))))
    shown = [terms.find("bus_ride", NOON + timedelta(hours=hours))[1].campaigns for hours in (-1, 0, 23, 24)]
    assert [[each.code for each in campaigns] for campaigns in shown] == [[], ["spring"], ["spring"], []]
    limits = Limits(revision=0, limits=(Limit(cap=cap(Period.WEEK)),))
    limited = trial_book(found, Trial(draft="draft_1", subject=Subject.LIMITS, wording=write_limits(limits)))
    assert Binding(limited).find("bus_ride", NOON)[1].caps == (cap(Period.WEEK),)


def test_a_profile_takes_the_place_of_all_versions() -> None:
    tried = trial_book(book(), Trial(profile="shanghai-2026"))
    assert Binding(tried).find("bus_ride", NOON)[0] is None
    assert {version.profile for versions in tried.versions.values() for version in versions} == {"shanghai-2026"}


def test_what_does_not_exist_is_not_tried() -> None:
    with pytest.raises(UnknownVersionError) as version:
        trial_book(book(), Trial(rule="R-BUS2", version=2))
    assert version.value.message() == "no version 2 of the rule R-BUS2 was published"
    with pytest.raises(UnknownProfileError) as profile:
        trial_book(book(), Trial(profile="utopia"))
    assert profile.value.message() == "there is no profile utopia"


def test_a_book_is_read_as_it_was() -> None:
    old, new = dataclasses.replace(BUS, revision=1), dataclasses.replace(BUS, version=2, revision=5)
    assert Binding(book(old, new)).find("bus_ride", NOON)[0] is new
    assert Binding(book_at(book(old, new), 4)).find("bus_ride", NOON)[0] is old
    binding = Binding(book(old, new))
    assert [binding.find("bus_ride", NOON, revision)[0] for revision in (0, 1, 5, None)] == [None, old, new, new]
