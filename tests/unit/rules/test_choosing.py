"""Which version and which campaigns bind an act: by when it happened, and by what was published by then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backend.rules.conversion import choose_campaigns, choose_version
from tests.unit.rules.factories import make_campaign, make_version

TURN = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "number"),
    [(TURN - timedelta(milliseconds=1), 1), (TURN, 2), (TURN + timedelta(days=30), None)],
)
def test_version_in_force_when_the_act_happened_is_chosen(moment: datetime, number: int | None) -> None:
    versions = [
        make_version(version=2, valid_from=TURN, valid_to=TURN + timedelta(days=30)),
        make_version(version=1, valid_to=TURN),
        make_version(version=9, kind="bus"),
    ]
    chosen = choose_version(versions, "metro", moment)
    assert (chosen.version if chosen else None) == number


@pytest.mark.parametrize(("revision", "number"), [(None, 3), (9, 3), (5, 3), (4, 2), (2, 2), (1, 1), (0, None)])
def test_of_the_versions_known_then_the_one_published_last_is_chosen(revision: int | None, number: int | None) -> None:
    versions = [make_version(version=n, revision=r) for n, r in ((3, 5), (1, 1), (2, 2))]
    chosen = choose_version(versions, "metro", TURN, revision=revision)
    assert (chosen.version if chosen else None) == number


def test_a_later_version_for_another_time_does_not_take_the_place() -> None:
    versions = [make_version(revision=1), make_version(version=2, revision=2, valid_from=TURN)]
    chosen = choose_version(versions, "metro", TURN - timedelta(days=1))
    assert chosen == versions[0]


@pytest.mark.parametrize(
    ("revision", "known"), [(None, [("b", 3)]), (2, [("a", 1), ("b", 2)]), (1, [("a", 1)]), (0, [])]
)
def test_campaigns_are_taken_as_last_published(revision: int | None, known: list[tuple[str, int]]) -> None:
    campaigns = [
        make_campaign("b", revision=2, starts_at=TURN),
        make_campaign("a", revision=1, starts_at=TURN),
        # Stopped at once, and one that is wrongly sorted.
        make_campaign("a", revision=3, starts_at=TURN, days=0),
        make_campaign("b", revision=3, starts_at=TURN),
        make_campaign("other", kinds=frozenset({"bus"}), starts_at=TURN),
    ]
    chosen = choose_campaigns(campaigns, "metro", TURN, revision=revision)
    assert [(campaign.code, campaign.revision) for campaign in chosen] == known


@pytest.mark.parametrize(("moment", "count"), [(-1, 0), (0, 1), (86_399, 1), (86_400, 0)])
def test_a_campaign_lasts_until_just_before_its_end(moment: int, count: int) -> None:
    campaign = make_campaign(kinds=frozenset({"bus", "metro"}), starts_at=TURN, days=1)
    assert len(choose_campaigns([campaign], "metro", TURN + timedelta(seconds=moment))) == count
