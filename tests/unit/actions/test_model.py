"""Actions: what makes two records the same, and the words for every reason."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backend.actions.model import Action, Reason
from backend.kernel.errors import Language
from backend.kernel.ids import CitizenId
from backend.kernel.units import Unit
from backend.rules.model import EvidenceTier, Period

NOW = datetime(2026, 11, 2, 1, tzinfo=UTC)
ACTION = Action(
    citizen=CitizenId("alice"),
    source="app",
    ref="ride-1",
    kind="bus_ride",
    quantity=1,
    unit=Unit.COUNT,
    occurred_at=NOW,
    ended_at=None,
    attributes={},
    tier=EvidenceTier.DECLARED,
    evidence=None,
    recorded_at=NOW,
    recorded_by="citizen:alice",
    backfill=False,
)
CONTENT: list[tuple[str, Any]] = [
    ("kind", "bus"),
    ("quantity", 2),
    ("unit", Unit.METRE),
    ("occurred_at", NOW + timedelta(milliseconds=1)),
    ("ended_at", NOW),
    ("attributes", {"card": "1"}),
    ("tier", EvidenceTier.DEVICE),
    ("evidence", "photo"),
]
CIRCUMSTANCE: list[tuple[str, Any]] = [
    ("recorded_at", NOW + timedelta(days=1)),
    ("recorded_by", "staff:root"),
    ("backfill", True),
]


@pytest.mark.parametrize(("field", "value"), CONTENT)
def test_other_content_is_another_payload_of_the_same_action(field: str, value: Any) -> None:
    other = dataclasses.replace(ACTION, **{field: value})
    assert other.id == ACTION.id
    assert other.payload != ACTION.payload


@pytest.mark.parametrize(("field", "value"), CIRCUMSTANCE)
def test_when_and_by_whom_it_was_recorded_is_not_content(field: str, value: Any) -> None:
    other = dataclasses.replace(ACTION, **{field: value})
    assert (other.id, other.payload) == (ACTION.id, ACTION.payload)


@pytest.mark.parametrize("field", ["citizen", "source", "ref"])
def test_citizen_source_and_reference_name_the_action(field: str) -> None:
    assert dataclasses.replace(ACTION, **{field: "other"}).id != ACTION.id  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("period", [None, *Period])
def test_every_reason_has_a_sentence_in_both_languages(reason: Reason, period: Period | None) -> None:
    chinese, english = (reason.sentence(language, period) for language in (Language.ZH_CN, Language.EN))
    assert english.isascii()
    assert not chinese.isascii()
    assert "{" not in chinese + english
