"""The rule book a trial makes, which version and terms bind an act by a book, and since when counters are needed.

Pure. The trial stands beside all else that is published: it binds acts of its kind on every day of the replay, as if
it had been published last.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from datetime import date, timedelta
from typing import TYPE_CHECKING

from backend.actions.backtesting.errors import UnknownProfileError, UnknownVersionError
from backend.kernel.clock import local_date
from backend.rules.conversion import NOTHING_MORE
from backend.rules.drafts import Subject
from backend.rules.model import Period
from backend.rules.profile import list_shipped_profiles, shipped_profile
from backend.rules.wording import read_campaign, read_limits, read_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.actions.backtesting.model import Days, Trial
    from backend.rules.conversion import Terms
    from backend.rules.model import Cap, RuleVersion
    from backend.rules.service import RuleBook

EARLIEST = date(1970, 1, 1)


def book_at(book: RuleBook, revision: int) -> RuleBook:
    """The book without what was published after ``revision``."""
    return dataclasses.replace(
        book,
        revision=revision,
        versions={
            kind: tuple(version for version in versions if version.revision <= revision)
            for kind, versions in book.versions.items()
        },
        campaigns=tuple(campaign for campaign in book.campaigns if campaign.revision <= revision),
        limits=tuple(limits for limits in book.limits if limits.revision <= revision),
    )


def trial_book(book: RuleBook, trial: Trial) -> RuleBook:
    """The book with the trial published last.

    Raises:
        UnknownProfileError, UnknownVersionError: there is no such profile or version.
    """
    revision = book.revision + 1
    tried = dataclasses.replace(book, revision=revision)
    if trial.profile is not None:
        return _with_profile(tried, trial.profile)
    if trial.rule is not None:
        found = next((v for v in book.find_rule(trial.rule) if v.version == trial.version), None)
        if found is None:
            raise UnknownVersionError(trial.rule, trial.version or 0)
        return _with_version(tried, found)
    assert trial.wording is not None
    if trial.subject is Subject.RULE:
        return _with_version(tried, read_version(trial.wording))
    if trial.subject is Subject.CAMPAIGN:
        campaign = dataclasses.replace(read_campaign(trial.wording), revision=revision)
        return dataclasses.replace(tried, campaigns=(*book.campaigns, campaign))
    assert trial.subject is Subject.LIMITS, "a kind has no acts before it is published"
    limits = dataclasses.replace(read_limits(trial.wording), revision=revision)
    return dataclasses.replace(tried, limits=(*book.limits, limits))


def _with_version(book: RuleBook, version: RuleVersion) -> RuleBook:
    last = dataclasses.replace(version, valid_from=None, valid_to=None, revision=book.revision)
    return dataclasses.replace(
        book, versions={**book.versions, version.kind: (*book.versions.get(version.kind, ()), last)}
    )


def _with_profile(book: RuleBook, code: str) -> RuleBook:
    if code not in list_shipped_profiles():
        raise UnknownProfileError(code)
    profile = shipped_profile(code)
    versions: dict[str, tuple[RuleVersion, ...]] = {}
    for version in profile.versions:
        versions[version.kind] = (
            *versions.get(version.kind, ()),
            dataclasses.replace(version, revision=book.revision),
        )
    return dataclasses.replace(book, profile=code, versions=versions)


def count_from(book: RuleBook, tried: RuleBook, days: Days, zone: ZoneInfo) -> date:
    """The first local day whose acts bear on the counters of acts in ``days``, by either book."""
    begin = days.begin
    starts = [begin]
    for period in {cap.period for each in (book, tried) for cap in _caps(each)}:
        match period:
            case Period.DAY:
                pass
            case Period.WEEK:
                starts.append(begin - timedelta(days=begin.weekday()))
            case Period.MONTH:
                starts.append(begin.replace(day=1))
            case Period.YEAR:
                starts.append(begin.replace(month=1, day=1))
            case Period.ALWAYS:
                starts.append(EARLIEST)
    for campaign in (*book.campaigns, *tried.campaigns):
        first, last = local_date(campaign.starts_at, zone), local_date(campaign.ends_at, zone)
        if first < days.end and begin <= last:
            starts.append(first)
    return min(starts)


def _caps(book: RuleBook) -> Iterator[Cap]:
    for versions in book.versions.values():
        for version in versions:
            yield from version.caps
    for limits in book.limits:
        yield from (limit.cap for limit in limits.limits)


class Binding:
    """Which version and terms of a book bind an act; found once for the time between two turns of its kind."""

    def __init__(self, book: RuleBook) -> None:
        self._book = book
        self._turns: dict[str, list[datetime]] = {}
        self._found: dict[tuple[str, int | None, int], tuple[RuleVersion | None, Terms]] = {}

    def find(self, kind: str, moment: datetime, revision: int | None = None) -> tuple[RuleVersion | None, Terms]:
        """What binds an act of ``kind`` at that moment, by the book or as it was at ``revision``."""
        turns = self._turns.get(kind)
        if turns is None:
            turns = self._turns[kind] = self._list_turns(kind)
        place = (kind, revision, bisect_right(turns, moment))
        found = self._found.get(place)
        if found is None:
            version = self._book.version_for(kind, moment, revision=revision)
            terms = self._book.terms_for(kind, moment, revision=revision) if version else NOTHING_MORE
            found = self._found[place] = (version, terms)
        return found

    def _list_turns(self, kind: str) -> list[datetime]:
        """The moments at which a version or a campaign begins or ends."""
        versions = self._book.versions.get(kind, ())
        moments = {moment for version in versions for moment in (version.valid_from, version.valid_to)}
        moments |= {moment for campaign in self._book.campaigns for moment in (campaign.starts_at, campaign.ends_at)}
        return sorted(moment for moment in moments if moment is not None)
