"""Intake: which requests are refused and in which order, whose word is worth what, which records are one act."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.actions import rules
from backend.actions.errors import (
    EndBeforeStartError,
    InFutureError,
    QuantityOutOfRangeError,
    TooOldError,
    UnknownKindError,
    WrongUnitError,
)
from backend.actions.model import Action
from backend.identity.errors import ForbiddenError
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import DomainError, InvalidInputError, Language, Text
from backend.kernel.ids import CitizenId
from backend.kernel.units import Unit
from backend.rules.model import Category, EvidenceTier, Kind
from tests.factories import ADMIN, bus_ride, citizen, partner

if TYPE_CHECKING:
    from backend.actions.model import ActionRequest

NOW = datetime(2026, 11, 2, 1, tzinfo=UTC)
WINDOW = rules.Window(timedelta(days=30))
KIND = Kind(
    code="bus_ride",
    unit=Unit.COUNT,
    category=Category.TRANSIT,
    name_zh="公交",
    name_en="Bus",
    maximum=10,
    claims=(("card", "entered_at"), ("trip_id",)),
    required_attributes=("card",),
)
REVIEWER = Principal(PrincipalKind.STAFF, "eye", frozenset({StaffRole.REVIEWER}))


def request(**changes: Any) -> ActionRequest:
    """A ride that can be recorded."""
    good = {"occurred_at": NOW - timedelta(hours=1), "attributes": {"card": "c"}}
    return bus_ride(**{**good, **changes})


def refusal(*, backfill: bool = False, kind: Kind | None = KIND, **changes: Any) -> DomainError | None:
    """What is said about the ride with these changes."""
    asked = request(**changes)
    return rules.check_texts(asked) or rules.check_request(asked, kind, window=WINDOW, now=NOW, backfill=backfill)


def shown(error: DomainError | None) -> tuple[type[DomainError], dict[str, Any]] | None:
    return (type(error), error.values(Language.EN)) if error is not None else None


def both(words: str) -> Text:
    """A phrase; these tests read its English."""
    return Text(words, words)


def test_a_sound_request_is_recorded() -> None:
    assert refusal() is None
    assert refusal(ended_at=NOW, evidence="photo-1", external_id="card-1") is None


SHORT_TEXT = "1–128 characters, none of them control characters"
# In order of precedence: a request with several faults is told the first. Texts come first, for nothing may be looked
# up by a text that is none.
FAULTS: list[tuple[dict[str, Any], DomainError]] = [
    (
        {"source": "a b"},
        InvalidInputError("source", both("1–64 letters, digits, dots, dashes and underscores")),
    ),
    ({"ref": ""}, InvalidInputError("ref", both(SHORT_TEXT))),
    ({"external_id": "a\n"}, InvalidInputError("externalId", both(SHORT_TEXT))),
    ({"citizen": "x" * 129}, InvalidInputError("citizen", both(SHORT_TEXT))),
    ({"evidence": "\x7f"}, InvalidInputError("evidence", both(SHORT_TEXT))),
    (
        {"attributes": {"Upper": "x"}},
        InvalidInputError("attributes", both("names like station_from, texts of at most 200 characters")),
    ),
    ({"kind": None}, UnknownKindError("bus_ride")),
    ({"unit": Unit.METRE}, WrongUnitError("bus_ride", Unit.METRE, Unit.COUNT)),
    ({"quantity": 11}, QuantityOutOfRangeError(11, 1, 10)),
    (
        {"occurred_at": datetime(2026, 11, 2)},  # noqa: DTZ001 - that is the fault
        InvalidInputError("occurredAt", both("a date and time with offset")),
    ),
    ({"ended_at": NOW + timedelta(minutes=6)}, InFutureError("2026-11-02T01:06:00+00:00")),
    ({"attributes": {}}, InvalidInputError("attributes", both("card is required"))),
]


@pytest.mark.parametrize("position", range(len(FAULTS)))
def test_each_fault_is_told_with_its_figures(position: int) -> None:
    changes, expected = FAULTS[position]
    assert shown(refusal(**{"kind": KIND, **changes})) == shown(expected)


@given(data=st.data())
def test_of_several_faults_the_first_is_told(data: st.DataObject) -> None:
    chosen = sorted(data.draw(st.sets(st.integers(0, len(FAULTS) - 1), min_size=1)))
    changes: dict[str, Any] = {"kind": KIND}
    for position in reversed(chosen):
        changes.update(FAULTS[position][0])
    assert shown(refusal(**changes)) == shown(FAULTS[chosen[0]][1])


@pytest.mark.parametrize("quantity", [0, -1, 11, -(10**30), 10**30])
def test_an_absurd_quantity_is_refused_in_figures_that_can_be_shown(quantity: int) -> None:
    error = refusal(quantity=quantity)
    assert isinstance(error, QuantityOutOfRangeError)
    assert abs(error.quantity) < 2**63


def test_clocks_may_differ_by_five_minutes() -> None:
    assert refusal(occurred_at=NOW + timedelta(minutes=5)) is None
    assert isinstance(refusal(occurred_at=NOW + timedelta(minutes=5, milliseconds=1)), InFutureError)


def test_the_window_is_thirty_days_to_the_millisecond() -> None:
    edge = NOW - timedelta(days=30)
    assert refusal(occurred_at=edge) is None
    late = edge - timedelta(milliseconds=1)
    assert shown(refusal(occurred_at=late)) == shown(TooOldError(30))
    assert refusal(occurred_at=late, backfill=True) is None


def test_an_act_does_not_end_before_it_starts() -> None:
    begun = NOW - timedelta(hours=1)
    assert refusal(ended_at=begun) is None
    assert isinstance(refusal(ended_at=begun - timedelta(milliseconds=1)), EndBeforeStartError)


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_ends_of_time_are_refused_and_break_nothing(moment: datetime) -> None:
    for offset in (timedelta(hours=-14), timedelta(hours=14)):
        from_far = moment.replace(tzinfo=timezone(offset))
        assert refusal(occurred_at=from_far) is not None


@pytest.mark.parametrize(
    "attributes",
    [
        {"card": "c", **{f"a{number}": "" for number in range(20)}},
        {"card": "c", "Upper": "x"},
        {"card": "c", "1st": "x"},
        {"card": "c\x00"},
        {"card": "\udfff"},
        {"card": 7},
        {"card": "x" * 201},
        {"card": ""},
    ],
)
def test_attributes_are_few_short_and_named_plainly(attributes: dict[str, Any]) -> None:
    error = refusal(attributes=attributes)
    assert isinstance(error, InvalidInputError)
    assert error.field == "attributes"


@pytest.mark.parametrize(
    ("principal", "owner", "changes", "what"),
    [
        (citizen(), None, {}, None),
        (citizen(), None, {"citizen": CitizenId("alice")}, None),
        (citizen(), None, {"citizen": CitizenId("bob")}, "another citizen's account"),
        (citizen(), None, {"external_id": "card-1"}, "another citizen's account"),
        (citizen(), "metro", {}, "source app"),
        (partner(), "metro", {"external_id": "card-1"}, None),
        (partner(), "bikes", {}, "source app"),
        (partner(), None, {}, "source app"),
        (ADMIN, None, {"citizen": CitizenId("bob")}, None),
        (ADMIN, "metro", {}, None),
        (REVIEWER, None, {}, "recordAction"),
        (Principal(PrincipalKind.MERCHANT, "shop"), None, {}, "recordAction"),
        (Principal(PrincipalKind.ENTERPRISE, "firm"), None, {}, "recordAction"),
    ],
)
def test_who_may_record_from_which_source_for_whom(
    principal: Principal, owner: str | None, changes: dict[str, Any], what: str | None
) -> None:
    error = rules.check_authority(principal, request(**changes), owner)
    assert shown(error) == (shown(ForbiddenError(Text("", what))) if what else None)


@pytest.mark.parametrize(
    ("principal", "asked", "evidence", "given_tier"),
    [
        (citizen(), None, None, EvidenceTier.DECLARED),
        (citizen(), None, "track-1", EvidenceTier.DECLARED),
        (citizen(), EvidenceTier.DEVICE, "track-1", EvidenceTier.DEVICE),
        (citizen(), EvidenceTier.OPERATOR, "track-1", EvidenceTier.DEVICE),
        # A device that shows nothing is a word.
        (citizen(), EvidenceTier.DEVICE, None, EvidenceTier.DECLARED),
        (citizen(), EvidenceTier.OPERATOR, None, EvidenceTier.DECLARED),
        (partner(), None, None, EvidenceTier.OPERATOR),
        (partner(), EvidenceTier.DECLARED, None, EvidenceTier.DECLARED),
        (ADMIN, None, None, EvidenceTier.OPERATOR),
        (ADMIN, EvidenceTier.DEVICE, None, EvidenceTier.DEVICE),
    ],
)
def test_nobodys_word_is_worth_more_than_it_is(
    principal: Principal, asked: EvidenceTier | None, evidence: str | None, given_tier: EvidenceTier
) -> None:
    assert rules.tier_of(principal, request(tier=asked, evidence=evidence)) is given_tier


@pytest.mark.parametrize("key", ["k" * 8, "k" * 64, "!~key-01"])
def test_sound_idempotency_keys_pass(key: str) -> None:
    rules.check_idempotency_key(key)


@pytest.mark.parametrize("key", ["", "k" * 7, "k" * 65, "key 0001", "schlüssel", "key-0001\n", "键键键键键键键键"])
def test_other_idempotency_keys_do_not(key: str) -> None:
    with pytest.raises(InvalidInputError, match="idempotencyKey is invalid: 8–64 printable ASCII characters"):
        rules.check_idempotency_key(key)


def action(citizen_id: str = "alice", source: str = "app", ref: str = "ride-1", **attributes: str) -> Action:
    """A recorded ride."""
    return Action(
        citizen=CitizenId(citizen_id),
        source=source,
        ref=ref,
        kind=KIND.code,
        quantity=1,
        unit=Unit.COUNT,
        occurred_at=NOW,
        ended_at=None,
        attributes=attributes,
        tier=EvidenceTier.OPERATOR,
        evidence=None,
        recorded_at=NOW,
        recorded_by="citizen:alice",
        backfill=False,
    )


def claims(**values: str) -> set[str]:
    return set(rules.fingerprints(action(**values), KIND))


def test_one_act_meets_itself_in_every_channel() -> None:
    assert len(claims()) == 1
    assert len(claims(card="1", entered_at="9")) == 2
    assert len(claims(card="1", entered_at="9", trip_id="t")) == 3
    # The same reference of one source under another citizen; the same card and tap from another source.
    assert claims() & claims(citizen_id="bob")
    assert claims(card="1", entered_at="9") & claims(source="metro", ref="x", card="1", entered_at="9")
    # A kind that knows the distance and one that does not share the claim.
    other = dataclasses.replace(KIND, code="bus")
    assert set(rules.fingerprints(action(source="b", ref="y", trip_id="t"), other)) & claims(trip_id="t")


def test_one_spelling_of_a_value_is_as_good_as_another() -> None:
    utc = claims(card="Card-1", entered_at="2026-11-02T00:30:00Z")
    assert utc == claims(card=" card-1 ", entered_at="2026-11-02T08:30:00+08:00")
    assert utc == claims(card="Ｃａｒｄ-1", entered_at="2026-11-02 08:30:00.000+08:00")
    assert utc != claims(card="card-1", entered_at="2026-11-02T08:30:01+08:00")


def test_different_acts_do_not_meet() -> None:
    assert not claims() & claims(ref="ride-2")
    assert not claims() & claims(source="metro")
    assert not claims(card="1", entered_at="9") & claims(ref="x", card="1", entered_at="10")
    assert not claims(card="12", entered_at="3") & claims(ref="x", card="1", entered_at="23")
    # An identity that lacks one of its attributes is none.
    assert len(claims(card="1")) == len(claims(card="1", entered_at="")) == 1
