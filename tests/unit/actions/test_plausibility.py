"""Plausibility: each doubt at its bound, what their sum decides, and that ordinary days raise none."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.actions import plausibility
from backend.actions.model import Action, Decision, Doubt, DoubtCode, Review
from backend.actions.plausibility import Fate, Surroundings, Verdict, carriers, fate_of, judge, span
from backend.kernel.ids import CitizenId
from backend.kernel.units import Unit
from backend.rules.model import Category, EvidenceTier, Kind, Motion

if TYPE_CHECKING:
    from collections.abc import Sequence

EIGHT = datetime(2026, 11, 2, tzinfo=UTC)
ALICE = CitizenId("alice")


def make_kind(code: str, **changes: Any) -> Kind:
    given: dict[str, Any] = {
        "unit": Unit.METRE,
        "category": Category.TRANSIT,
        "name_zh": code,
        "name_en": code,
        "maximum": 150_000,
        "has_duration": True,
        "exclusion": "travel",
        "motion": Motion(slowest_m_per_h=3_000, fastest_m_per_h=120_000, longest_s=14_400),
    }
    return Kind(code=code, **{**given, **changes})


KINDS = {
    kind.code: kind
    for kind in (
        make_kind("metro"),
        make_kind("metro_ride", unit=Unit.COUNT, motion=None, maximum=1),
        make_kind("bus_ride", unit=Unit.COUNT, motion=None, maximum=1, has_duration=False),
        make_kind(
            "bike_share",
            category=Category.CYCLING,
            motion=Motion(slowest_m_per_h=1_000, fastest_m_per_h=35_000, longest_s=14_400),
        ),
        make_kind("walk", unit=Unit.STEP, category=Category.WALKING, exclusion=None, motion=None),
    )
}


def minutes(count: int) -> timedelta:
    return timedelta(minutes=count)


def act(ref: str = "it", start: int = 0, lasted: int | None = 20, **changes: Any) -> Action:
    """Alice's metro ride of ten kilometres, ``start`` minutes after eight, of ``lasted`` minutes."""
    begun = EIGHT + minutes(start)
    given: dict[str, Any] = {
        "citizen": ALICE,
        "source": "metro",
        "ref": ref,
        "kind": "metro",
        "quantity": 10_000,
        "unit": KINDS[changes.get("kind", "metro")].unit,
        "occurred_at": begun,
        "ended_at": None if lasted is None else begun + minutes(lasted),
        "attributes": {},
        "tier": EvidenceTier.OPERATOR,
        "evidence": None,
        "recorded_at": EIGHT,
        "recorded_by": "partner:metro",
        "backfill": False,
    }
    return Action(**{**given, **changes})


def around(*acts: Action) -> Surroundings:
    surroundings = Surroundings(KINDS)
    for credited in acts:
        surroundings.add(credited)
    return surroundings


def verdict(action: Action, *others: Action) -> Verdict:
    return judge(action, KINDS[action.kind], around(*others))


def doubts(action: Action, *others: Action) -> list[tuple[DoubtCode, int]]:
    return [(doubt.code, doubt.score) for doubt in verdict(action, *others).doubts]


def test_an_ordinary_ride_is_credited() -> None:
    assert verdict(act()) == Verdict(Fate.CREDIT, ())


@pytest.mark.parametrize(
    ("changes", "decision", "expected"),
    [
        # at most 120 km/h over 21 minutes: the ride's twenty, and one for the clocks
        ({"quantity": 42_000}, Fate.CREDIT, []),
        ({"quantity": 42_001}, Fate.REVIEW, [(DoubtCode.TOO_FAST, 40)]),
        ({"quantity": 84_000}, Fate.REVIEW, [(DoubtCode.TOO_FAST, 40)]),
        ({"quantity": 84_001}, Fate.REJECT, [(DoubtCode.TOO_FAST, 100)]),
        ({"quantity": 2_000, "lasted": 0}, Fate.CREDIT, []),
        ({"quantity": 4_001, "lasted": 0}, Fate.REJECT, [(DoubtCode.TOO_FAST, 100)]),
        # at least 3 km/h over 19 minutes
        ({"quantity": 950}, Fate.CREDIT, []),
        ({"quantity": 949}, Fate.CREDIT, [(DoubtCode.TOO_SLOW, 20)]),
        ({"quantity": 100_000, "lasted": 240}, Fate.CREDIT, []),
        ({"quantity": 100_000, "lasted": 241}, Fate.REVIEW, [(DoubtCode.TOO_LONG, 40)]),
        ({"quantity": 1_000, "lasted": 241}, Fate.REVIEW, [(DoubtCode.TOO_SLOW, 20), (DoubtCode.TOO_LONG, 40)]),
        # without an end there is no speed, and some kinds have no bounds
        ({"quantity": 150_000, "lasted": None}, Fate.CREDIT, []),
        ({"kind": "metro_ride", "quantity": 1, "lasted": 600}, Fate.CREDIT, []),
    ],
)
def test_speed_and_duration_have_bounds(
    changes: dict[str, Any], decision: Fate, expected: list[tuple[DoubtCode, int]]
) -> None:
    result = verdict(act(**changes))
    assert (result.decision, [(doubt.code, doubt.score) for doubt in result.doubts]) == (decision, expected)


@pytest.mark.parametrize(
    ("start", "lasted", "overlaps"),
    [
        (18, 20, False),
        (17, 20, True),
        (-18, 20, False),
        (-17, 20, True),
        (5, 10, True),
        (-10, 60, True),
        # another act's beginning, inside this one's twenty minutes
        (2, None, False),
        (3, None, True),
        (17, None, True),
        (18, None, False),
        (25, None, False),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_one_citizen_cannot_make_two_rides_at_once(
    start: int,
    lasted: int | None,
    overlaps: bool,  # noqa: FBT001
    turned: bool,  # noqa: FBT001
) -> None:
    ride = act()
    bike = act("bike", start, lasted, kind="bike_share", quantity=1_000)
    action, other = (bike, ride) if turned else (ride, bike)
    expected = (Doubt(DoubtCode.OVERLAPS, 50, other.id),)
    assert [doubt for doubt in verdict(action, other).doubts if doubt.code is DoubtCode.OVERLAPS] == [
        *expected * overlaps
    ]
    assert verdict(ride, act("bike", 5, 10, kind="bike_share", quantity=1_000)).decision is Fate.REVIEW


def test_two_acts_without_end_do_not_overlap() -> None:
    assert verdict(act(lasted=None), act("bus", 0, None, kind="bus_ride", quantity=1)).doubts == ()


def test_only_the_same_citizens_acts_of_the_same_class_are_near() -> None:
    assert verdict(act(), act("other", citizen=CitizenId("bob"))).doubts == ()
    assert verdict(act(), act("steps", kind="walk", quantity=9_000)).doubts == ()
    assert verdict(act(kind="walk", quantity=9_000), act("ride")).doubts == ()
    assert verdict(act(), act()).doubts == ()


@pytest.mark.parametrize("tier", EvidenceTier)
def test_the_same_ride_from_another_source_is_rejected_unless_it_is_better_proved(tier: EvidenceTier) -> None:
    app = act("app", 3, 20, source="app", quantity=8_500, tier=EvidenceTier.DEVICE)
    expected = {
        EvidenceTier.DECLARED: (Fate.REJECT, 100),
        EvidenceTier.DEVICE: (Fate.REJECT, 100),
        EvidenceTier.OPERATOR: (Fate.REVIEW, 40),
    }
    decision, score = expected[tier]
    # it overlaps too, but one ride is one doubt
    assert verdict(act(tier=tier), app) == Verdict(decision, (Doubt(DoubtCode.SAME_RIDE, score, app.id),))


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"start": -3}, True),
        ({"start": -4}, False),
        ({"start": 4}, False),
        ({"quantity": 8_499}, False),
        ({"quantity": 11_764}, True),
        ({"quantity": 11_765}, False),
        ({"source": "metro"}, False),
        ({"kind": "metro_ride", "quantity": 1}, True),
        ({"kind": "bike_share"}, False),
    ],
)
def test_a_ride_is_the_same_by_source_start_quantity_and_category(changes: dict[str, Any], same: bool) -> None:  # noqa: FBT001
    other = act("app", **{"source": "app", "tier": EvidenceTier.DEVICE, **changes})
    codes = [code for code, _ in doubts(act(tier=EvidenceTier.DECLARED), other)]
    assert codes == [DoubtCode.SAME_RIDE if same else DoubtCode.OVERLAPS]


@pytest.mark.parametrize(
    ("start", "here", "there", "impossible"),
    [
        (79, "无锡", "镇江", True),
        (80, "无锡", "镇江", False),
        (-79, "无锡", "镇江", True),
        (-80, "无锡", "镇江", False),
        (30, "无锡", "无锡市 ", False),
        (30, "", "镇江", False),
        (30, "无锡", "", False),
    ],
)
def test_two_cities_are_an_hour_apart(start: int, here: str, there: str, impossible: bool) -> None:  # noqa: FBT001
    other = act("there", start, attributes={"city": there})
    expected = Doubt(DoubtCode.IMPOSSIBLE_SEQUENCE, 40, other.id)
    result = verdict(act(attributes={"city": here}), other)
    assert result == Verdict(Fate.REVIEW if impossible else Fate.CREDIT, (expected,) * impossible)


def test_so_many_rides_an_hour_and_no_more() -> None:
    rides = [act(f"ride-{start}", start, None) for start in (-50, -40, -30, -20, 9)]
    assert doubts(act(lasted=None), *rides) == []
    for start, expected in ((-51, []), (10, []), (-45, [(DoubtCode.TOO_MANY, 40)]), (5, [(DoubtCode.TOO_MANY, 40)])):
        assert doubts(act(lasted=None), *rides, act("one more", start, None)) == expected
    # an hour that ends as the act begins says nothing about the act
    before = [act(f"before-{number}", start, None) for number, start in enumerate((-60, -60, -60, -40, -30, -20, -10))]
    assert doubts(act(lasted=None), *before) == []


def test_a_card_serves_three_citizens_in_thirty_days() -> None:
    card = {"card": " ８９０１ "}
    ride = act(attributes=card, tier=EvidenceTier.DEVICE)
    surroundings = around(
        *(
            act(citizen=CitizenId(name), start=-60, attributes=card, tier=EvidenceTier.DEVICE)
            for name in ("alice", "bob")
        )
    )
    (carrier,) = carriers(act(attributes={"card": "8901"}, tier=EvidenceTier.DEVICE))
    surroundings.add_use(carrier, CitizenId("carol"), EIGHT - timedelta(days=30))
    surroundings.add_use(carrier, CitizenId("dan"), EIGHT - timedelta(days=30, seconds=1))
    assert judge(ride, KINDS["metro"], surroundings) == Verdict(Fate.CREDIT, ())
    surroundings.add_use(carrier, CitizenId("dan"), EIGHT - timedelta(days=1))
    surroundings.add_use(carrier, CitizenId("dan"), EIGHT - timedelta(days=40))
    assert judge(ride, KINDS["metro"], surroundings) == Verdict(Fate.REVIEW, (Doubt(DoubtCode.SHARED_CARD, 50),))
    assert judge(act(attributes={"card": "8902"}), KINDS["metro"], surroundings).doubts == ()
    steps = act(kind="walk", quantity=9_000, attributes={"pedometer": "8901"})
    assert judge(steps, KINDS["walk"], surroundings).doubts == ()


def test_carriers_are_cards_and_devices() -> None:
    device = {"tier": EvidenceTier.DEVICE}
    assert carriers(act(attributes={"card": "", "meter": "1", "car": "2"}, **device)) == ()
    assert len(set(carriers(act(attributes={"card": "1", "device": "1", "pedometer": "1"}, **device)))) == 3
    assert carriers(act(attributes={"card": " Ａ1"}, **device)) == carriers(
        act("other", attributes={"card": "a1"}, **device)
    )
    # what an operator's record names is bound to one citizen already
    assert carriers(act(attributes={"card": "1"})) == ()


@pytest.mark.parametrize(("start", "end"), [("entry_station", "exit_station"), ("from", "to")])
def test_a_ride_to_where_it_began_is_doubted(start: str, end: str) -> None:
    same = {start: "三阳广场", end: "三阳广场 "}
    assert verdict(act(attributes=same)) == Verdict(Fate.REVIEW, (Doubt(DoubtCode.SAME_PLACE, 50),))
    assert verdict(act(attributes={start: "三阳广场", end: "胜利门"})).doubts == ()
    assert verdict(act(attributes={start: "", end: ""})).doubts == ()
    assert verdict(act(kind="bike_share", quantity=3_000, attributes=same)).doubts == ()


@pytest.mark.parametrize(
    ("scores", "fate"),
    [
        ((), Fate.CREDIT),
        ((39,), Fate.CREDIT),
        ((20, 20), Fate.REVIEW),
        ((59, 40), Fate.REVIEW),
        ((50, 50), Fate.REJECT),
    ],
)
def test_the_sum_of_scores_decides(scores: tuple[int, ...], fate: Fate) -> None:
    assert fate_of(Doubt(DoubtCode.OVERLAPS, one) for one in scores) is fate


def test_doubts_add_up_to_a_rejection() -> None:
    ride = act(attributes={"from": "a", "to": "a"})
    bike = act("bike", 5, 10, kind="bike_share", quantity=1_000)
    assert verdict(ride, bike) == Verdict(
        Fate.REJECT, (Doubt(DoubtCode.OVERLAPS, 50, bike.id), Doubt(DoubtCode.SAME_PLACE, 50))
    )


def test_of_several_neighbours_the_weightiest_and_first_is_named() -> None:
    later, earlier = act("later", 10), act("earlier", -10)
    app = act("app", 1, source="app")
    declared = act("declared", 0, source="declared", tier=EvidenceTier.DECLARED)
    result = verdict(act(), later, declared, earlier, app)
    assert result.doubts == (Doubt(DoubtCode.OVERLAPS, 50, earlier.id), Doubt(DoubtCode.SAME_RIDE, 100, app.id))


@pytest.mark.parametrize(("decision", "fate"), [(Decision.APPROVE, Fate.CREDIT), (Decision.REJECT, Fate.REJECT)])
def test_what_a_reviewer_approved_is_not_doubted_again(decision: Decision, fate: Fate) -> None:
    review = Review(by="staff-1", at=EIGHT, decision=decision, reason="ok")
    assert verdict(act(quantity=150_000, review=review)).decision is fate


def test_every_doubt_has_a_sentence_in_both_languages() -> None:
    assert set(plausibility.SENTENCES) == set(DoubtCode)
    assert all(text.zh and text.en for text in plausibility.SENTENCES.values())
    assert plausibility.SENTENCES[DoubtCode.TOO_MANY] == (
        "一小时内同类行为超过 6 次",
        "more than 6 such acts happened within an hour",
    )


def test_an_end_is_believed_for_a_day_only() -> None:
    endless = act("endless", 0, 60 * 24 * 40, kind="metro_ride", quantity=1)
    assert span(endless) == (EIGHT - timedelta(hours=25), EIGHT + timedelta(hours=25))
    assert span(act(lasted=None)) == (EIGHT - timedelta(hours=25), EIGHT + timedelta(hours=1))
    assert doubts(act(start=60 * 24 - 3), endless) == [(DoubtCode.OVERLAPS, 50)]
    assert doubts(act(start=60 * 24 - 2), endless) == []


ACTS = st.builds(
    lambda ref, start, lasted, source, kind, quantity, city, tier: act(
        f"{ref}", start, lasted, source=source, kind=kind, quantity=quantity, attributes={"city": city}, tier=tier
    ),
    st.integers(0, 10**9),
    st.integers(-2_000, 2_000),
    st.none() | st.integers(0, 3_000),
    st.sampled_from(["metro", "app"]),
    st.sampled_from(["metro", "metro_ride", "bus_ride", "bike_share", "walk"]),
    st.integers(1, 150_000),
    st.sampled_from(["", "无锡", "镇江"]),
    st.sampled_from(EvidenceTier),
)
NEAR_ACTS = st.builds(
    lambda ref, start: act(f"near-{ref}", start, 30, source="app"), st.integers(0, 10**9), st.integers(-90, 90)
)


def score(result: Verdict) -> int:
    return sum(doubt.score for doubt in result.doubts)


def distinct(acts: Sequence[Action]) -> list[Action]:
    return list({one.id: one for one in acts}.values())


@given(ACTS, st.lists(ACTS | NEAR_ACTS, max_size=12), st.integers())
def test_the_order_of_neighbours_does_not_matter(action: Action, others: list[Action], seed: int) -> None:
    others = distinct(others)
    shuffled = random.Random(seed).sample(others, len(others))
    assert verdict(action, *others) == verdict(action, *shuffled)


@given(ACTS, st.lists(ACTS | NEAR_ACTS, min_size=1, max_size=12))
def test_a_neighbour_more_never_weighs_less(action: Action, others: list[Action]) -> None:
    *fewer, more = distinct(others)
    assert score(verdict(action, *fewer)) <= score(verdict(action, *fewer, more))


@given(ACTS, ACTS)
def test_no_act_outside_the_span_could_say_anything(action: Action, other: Action) -> None:
    earliest, latest = span(action)
    between = plausibility._doubts_between(action, KINDS[action.kind], other, KINDS[other.kind].category)
    if not earliest <= other.occurred_at <= latest:
        assert list(between) == []


@st.composite
def ordinary_days(draw: st.DrawFn) -> list[Action]:
    """A day's rides one after the other, at usual speeds, a quarter of an hour or more from start to start."""
    rides, start = [], 0
    for number in range(draw(st.integers(1, 10))):
        start += draw(st.integers(0, 90))
        kind, m_per_minute = draw(st.sampled_from([("metro", 500), ("bus_ride", 0), ("bike_share", 200)]))
        lasted = draw(st.integers(12, 60))
        distance = m_per_minute * lasted * draw(st.integers(50, 150)) // 100 or 1
        stations = {"card": "1", "city": "无锡", "entry_station": f"in {number}", "exit_station": f"out {number}"}
        ended = None if kind == "bus_ride" else lasted
        rides.append(act(f"ride-{number}", start, ended, kind=kind, quantity=distance, attributes=stations))
        start += lasted
    return draw(st.permutations(rides))


@given(ordinary_days())
def test_an_ordinary_day_raises_no_doubt(rides: list[Action]) -> None:
    surroundings = around()
    for ride in rides:
        assert judge(ride, KINDS[ride.kind], surroundings) == Verdict(Fate.CREDIT, ())
        surroundings.add(ride)
