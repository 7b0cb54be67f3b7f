"""The rule book: published once, whoever starts, and read again when another process publishes."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.rules.errors import PublishedOtherwiseError
from backend.rules.model import Cap, Category, Limit, Measure, Period, Scope
from backend.rules.profile import shipped_profile
from backend.rules.refusals import ForeignProfileError
from backend.rules.store import version_to_document
from backend.runtime import open_services
from tests.conftest import dump

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.rules.model import Profile
    from backend.runtime import Services
    from backend.settings import Settings

RULES = {"rule_kinds", "rule_versions", "rule_campaigns", "rule_limits", "rule_revision", "rule_drafts", "rule_log"}
BUDGET = Cap(
    group="programme", period=Period.YEAR, measure=Measure.POINTS, limit=10**9, basis="test", scope=Scope.EVERYBODY
)


def second_bus_rule(clock: ManualClock) -> Profile:
    """The shipped profile with another version of the bus ride's rule, in force from an hour ahead."""
    profile = shipped_profile("conservative")
    first = next(version for version in profile.versions if version.kind == "bus_ride")
    second = dataclasses.replace(first, version=2, valid_from=clock.now() + timedelta(hours=1))
    return dataclasses.replace(profile, versions=(*profile.versions, second))


async def test_publishing_again_changes_nothing(services: Services) -> None:
    before = await dump(services)
    assert await services.rules.publish(shipped_profile("conservative")) == 0
    assert await dump(services) == before
    assert (await services.rules.book()).revision == 1


async def test_only_what_is_new_is_published_and_told_in_the_log(services: Services, clock: ManualClock) -> None:
    before = await dump(services)
    clock.advance(timedelta(minutes=1))
    assert await services.rules.publish(second_bus_rule(clock), actor="operator:cli") == 1
    after = await dump(services)
    (new,) = [version for version in after["rule_versions"] if version not in before["rule_versions"]]
    assert (new["rule"], new["version"], new["revision"], new["published_at"]) == ("R-BUS2", 2, 2, clock.now())
    assert len(after["rule_versions"]) == len(before["rule_versions"]) + 1
    assert after["rule_kinds"] == before["rule_kinds"]
    assert (await services.rules.book()).revision == 2
    assert [(entry["actor"], entry["step"], entry["subject"], entry["revision"]) for entry in after["rule_log"]] == [
        ("system:start", "SHIP", "profile:conservative", 1),
        ("operator:cli", "SHIP", "profile:conservative", 2),
    ]


async def test_what_is_published_is_not_published_otherwise(services: Services) -> None:
    profile = shipped_profile("conservative")
    before = await dump(services)
    kind = dataclasses.replace(profile.kinds[0], maximum=7)
    version = dataclasses.replace(profile.versions[0], note_en="another word")
    for changed, name in (
        (dataclasses.replace(profile, kinds=(kind,), versions=()), kind.code),
        (dataclasses.replace(profile, kinds=(), versions=(version,)), f"conservative/{version.rule}/1"),
    ):
        with pytest.raises(PublishedOtherwiseError) as caught:
            await services.rules.publish(changed)
        assert caught.value.name == name
    with pytest.raises(ForeignProfileError) as refused:
        await services.rules.publish(dataclasses.replace(profile, code="shanghai-2026"))
    assert refused.value.profile == "shanghai-2026"
    assert await dump(services) == before


async def test_what_staff_published_stands_before_what_comes_with_the_software(
    services: Services, clock: ManualClock
) -> None:
    profile = second_bus_rule(clock)
    second = profile.versions[-1]
    local = dataclasses.replace(second, note_en="ours", revision=1, published_at=clock.now())
    await services.database.raw["rule_versions"].insert_one(version_to_document(local, "draft_1"))
    before = await dump(services)
    assert await services.rules.publish(profile) == 0
    assert await dump(services) == before


async def test_starters_that_publish_at_once_publish_once(
    services: Services, settings: Settings, clock: ManualClock
) -> None:
    profile = second_bus_rule(clock)
    async with open_services(settings, clock) as other:
        new = await asyncio.gather(*(each.rules.publish(profile) for each in (services, other) for _ in range(4)))
    assert sorted(new) == [0] * 7 + [1]
    assert (await services.rules.book()).revision == 2


async def test_a_book_is_read_once_and_again_after_another_process_published(
    services: Services, settings: Settings, clock: ManualClock
) -> None:
    book = await services.rules.book()
    assert await services.rules.book() is book
    async with open_services(settings, clock) as other:
        await other.rules.publish(second_bus_rule(clock))
    fresh = await services.rules.book()
    assert fresh.revision == book.revision + 1
    assert [version.version for version in fresh.versions["bus_ride"]] == [1, 2]


async def test_what_is_read_back_is_what_was_published(services: Services, clock: ManualClock) -> None:
    book, profile = await services.rules.book(), shipped_profile("conservative")
    assert dict(book.kinds) == {kind.code: kind for kind in profile.kinds}
    read = sorted((version for versions in book.versions.values() for version in versions), key=lambda v: v.name)
    published = [dataclasses.replace(v, revision=1, published_at=clock.now()) for v in profile.versions]
    assert read == sorted(published, key=lambda v: v.name)
    assert set(await dump(services)) >= RULES


async def test_later_publications_leave_what_was_known_before(services: Services, clock: ManualClock) -> None:
    begun = clock.now()
    clock.advance(timedelta(minutes=-5))  # a clock that is behind: the book's own time never goes back
    await services.rules.publish(second_bus_rule(clock))
    book = await services.rules.book()
    assert [publication.at - begun for publication in book.publications] == [
        timedelta(),
        timedelta(milliseconds=1),
    ]
    moment = clock.now() + timedelta(hours=1)
    for revision, version in ((None, 2), (2, 2), (1, 1), (0, None)):
        found = book.version_for("bus_ride", moment, revision=revision)
        assert (found.version if found else None) == version
    assert [book.known_at(begun + timedelta(milliseconds=shift)) for shift in (-1, 0, 1, 2)] == [0, 1, 2, 2]


async def test_the_presets_limits_are_published_when_they_change(services: Services) -> None:
    profile = shipped_profile("conservative")
    everything, cycling = Limit(cap=BUDGET), Limit(cap=BUDGET, categories=frozenset({Category.CYCLING}))
    first = (await services.rules.book()).revision
    for limits in ((everything,), (everything,), (cycling,), ()):
        assert await services.rules.publish(profile, limits) == 0
    book = await services.rules.book()
    assert book.revision == first + 3
    asked = [(kind, first + step) for kind in ("bus_ride", "bike_share") for step in range(1, 4)]
    assert [len(book.caps_for(kind, revision)) for kind, revision in asked] == [1, 0, 0, 1, 1, 0]
    assert book.caps_for("bus_ride", first + 1) == (BUDGET,)
