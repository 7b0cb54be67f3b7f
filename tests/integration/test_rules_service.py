"""The rule book: published once, whoever starts, and read again when another process publishes."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.rules.profile import shipped_profile
from backend.runtime import open_services
from tests.conftest import dump

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.rules.model import Profile
    from backend.runtime import Services
    from backend.settings import Settings

RULES = {"rule_kinds", "rule_versions", "rule_revision"}


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


async def test_only_what_is_new_is_published(services: Services, clock: ManualClock) -> None:
    before = await dump(services)
    assert await services.rules.publish(second_bus_rule(clock)) == 1
    after = await dump(services)
    assert [version for version in after["rule_versions"] if version in before["rule_versions"]] == before[
        "rule_versions"
    ]
    assert after["rule_kinds"] == before["rule_kinds"]
    assert (await services.rules.book()).revision == 2


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


async def test_what_is_read_back_is_what_was_published(services: Services) -> None:
    book, profile = await services.rules.book(), shipped_profile("conservative")
    assert dict(book.kinds) == {kind.code: kind for kind in profile.kinds}
    read = sorted((version for versions in book.versions.values() for version in versions), key=lambda v: v.name)
    assert read == sorted(profile.versions, key=lambda v: v.name)
    assert set(await dump(services)) >= RULES
