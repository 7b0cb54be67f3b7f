"""Whether an act can have happened as recorded: doubts with scores, whose sum credits, reviews or rejects it.

Pure: looks at the act, at the same citizen's credited acts near it, and at who else used its card. All bounds and
scores are Tanhui's design: a person judges what is doubtful; only what is impossible, recorded already or doubtful in
several ways is rejected at once.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from backend.actions.model import Decision, Doubt, DoubtCode
from backend.kernel.errors import Text
from backend.kernel.ids import derived_id
from backend.rules.model import Category, EvidenceTier

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from backend.actions.model import Action
    from backend.kernel.ids import CitizenId
    from backend.rules.model import Kind

# The sum of scores from which a person looks at an act, and from which it is rejected.
REVIEW_FROM = 40
REJECT_FROM = 100

TOO_FAST = 40
# more than twice as fast as the kind can be
FAR_TOO_FAST = 100
# alone no reason to look: a ride may stand still
TOO_SLOW = 20
TOO_LONG = 40
OVERLAPS = 50
SAME_RIDE = 100
# the record credited before is the weaker one: a person may exchange them
SAME_RIDE_BETTER_PROVED = 40
IMPOSSIBLE_SEQUENCE = 40
TOO_MANY = 40
SHARED_CARD = 50
SAME_PLACE = 50

# Clocks and platforms often know whole minutes only.
CLOCK_S = 60
OVERLAP_TOLERANCE = timedelta(minutes=2)
SAME_START = timedelta(minutes=3)
SAME_QUANTITY_PERCENT = 15
BETWEEN_CITIES = timedelta(hours=1)
HOUR = timedelta(hours=1)
MOST_AN_HOUR = 6
MOST_CITIZENS = 3
USES_FOR = timedelta(days=30)
# Longer acts count as this long here, so that the acts that matter to one lie in a bounded span.
LONGEST = timedelta(days=1)

# What a citizen carries and shows or measures with; meters and cars are rightly shared by a household.
CARRIED = ("card", "device", "pedometer")
PLACES = (("entry_station", "exit_station"), ("from", "to"))

SENTENCES: Mapping[DoubtCode, Text] = {
    DoubtCode.TOO_FAST: Text("速度超出该出行方式的可能范围", "faster than this way of moving can be"),
    DoubtCode.TOO_SLOW: Text("速度低于该出行方式的通常范围", "slower than this way of moving usually is"),
    DoubtCode.TOO_LONG: Text("持续时间过长", "it lasted too long"),
    DoubtCode.OVERLAPS: Text("与另一行为的时间重叠", "it happened at the same time as another act"),
    DoubtCode.SAME_RIDE: Text(
        "疑为另一来源已记录的同一行程", "it looks like the same ride, recorded by another source"
    ),
    DoubtCode.IMPOSSIBLE_SEQUENCE: Text(
        "一小时内出现在两个城市", "another act, less than an hour away, is in another city"
    ),
    DoubtCode.TOO_MANY: Text(
        f"一小时内同类行为超过 {MOST_AN_HOUR} 次", f"more than {MOST_AN_HOUR} such acts happened within an hour"
    ),
    DoubtCode.SHARED_CARD: Text(
        f"同一卡或设备 {USES_FOR.days} 天内被超过 {MOST_CITIZENS} 人使用",
        f"more than {MOST_CITIZENS} citizens used this card or device within {USES_FOR.days} days",
    ),
    DoubtCode.SAME_PLACE: Text("进出站为同一车站", "it began and ended at the same station"),
}


class Fate(StrEnum):
    """What becomes of an act by its doubts."""

    CREDIT = "CREDIT"
    REVIEW = "REVIEW"
    REJECT = "REJECT"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an act, and every doubt about it, at most one of each code."""

    decision: Fate
    doubts: tuple[Doubt, ...] = ()


class Surroundings:
    """What plausibility knows besides the act: citizens' credited acts, and who used which card or device when."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        # by citizen and exclusion class, in the order in which the acts began
        self._acts: dict[tuple[CitizenId, str], list[Action]] = {}
        self._uses: dict[str, dict[CitizenId, datetime]] = {}

    def add(self, action: Action) -> None:
        """Know of a credited act, once."""
        for carrier in carriers(action):
            self.add_use(carrier, action.citizen, action.occurred_at)
        kind = self._kinds.get(action.kind)
        if kind is not None and kind.exclusion is not None:
            insort(self._acts.setdefault((action.citizen, kind.exclusion), []), action, key=_start)

    def add_use(self, carrier: str, citizen: CitizenId, at: datetime) -> None:
        """Know that the citizen used a card or device (as `carriers` names it) at that moment."""
        used = self._uses.setdefault(carrier, {})
        used[citizen] = max(at, used.get(citizen, at))

    def near(self, action: Action, kind: Kind) -> list[Action]:
        """The citizen's other acts of the same exclusion class whose beginning lies in the act's `span`, in order."""
        if kind.exclusion is None:
            return []
        acts = self._acts.get((action.citizen, kind.exclusion), [])
        earliest, latest = span(action)
        found = acts[bisect_left(acts, earliest, key=_start) : bisect_right(acts, latest, key=_start)]
        return sorted((other for other in found if other.id != action.id), key=lambda act: (act.occurred_at, act.id))

    def count_others(self, carrier: str, action: Action) -> int:
        """How many other citizens used the card or device since 30 days before the act."""
        since = action.occurred_at - USES_FOR
        uses = self._uses.get(carrier, {})
        return sum(at >= since for citizen, at in uses.items() if citizen != action.citizen)

    def category(self, action: Action) -> Category:
        """Where an app shows the act's kind."""
        return self._kinds[action.kind].category


def judge(action: Action, kind: Kind, surroundings: Surroundings) -> Verdict:
    """What becomes of the act; one that a reviewer approved is credited without a look."""
    if action.review is not None and action.review.decision is Decision.APPROVE:
        return Verdict(Fate.CREDIT)
    near = surroundings.near(action, kind)
    found = [
        *_motion_doubts(action, kind),
        *(doubt for other in near for doubt in _doubts_between(action, kind, other, surroundings.category(other))),
        *_frequency_doubts(action, near),
        *_carrier_doubts(action, surroundings),
        *_place_doubts(action, kind),
    ]
    # Of the doubts of one code the heaviest, the first of them: more neighbours never weigh less.
    doubts = tuple(
        max((doubt for doubt in found if doubt.code is code), key=lambda doubt: doubt.score)
        for code in DoubtCode
        if any(doubt.code is code for doubt in found)
    )
    return Verdict(fate_of(doubts), doubts)


def fate_of(doubts: Iterable[Doubt]) -> Fate:
    """What the sum of the scores decides; the auditor asks it again of a settled act."""
    score = sum(doubt.score for doubt in doubts)
    if score >= REJECT_FROM:
        return Fate.REJECT
    return Fate.REVIEW if score >= REVIEW_FROM else Fate.CREDIT


def span(action: Action) -> tuple[datetime, datetime]:
    """The first and the last moment at which an act can begin that makes this one doubtful."""
    return action.occurred_at - LONGEST - HOUR, _end(action) + HOUR


def carriers(action: Action) -> tuple[str, ...]:
    """Ids of the cards and devices that the act names.

    None for an operator's record: the binding it comes by lets a card stand for one citizen only.
    """
    if action.tier is EvidenceTier.OPERATOR:
        return ()
    values = {name: _said(action, name) for name in CARRIED}
    return tuple(derived_id("carrier", name, value) for name, value in values.items() if value)


def _motion_doubts(action: Action, kind: Kind) -> Iterator[Doubt]:
    motion = kind.motion
    if motion is None or action.ended_at is None:
        return
    lasted_s = (action.ended_at - action.occurred_at) // timedelta(seconds=1)
    # metres, times the seconds of an hour: compared with metres per hour, times seconds
    moved = action.quantity * 3_600
    possible = motion.fastest_m_per_h * (lasted_s + CLOCK_S)
    if moved > possible:
        yield Doubt(DoubtCode.TOO_FAST, FAR_TOO_FAST if moved > 2 * possible else TOO_FAST)
    if moved < motion.slowest_m_per_h * (lasted_s - CLOCK_S):
        yield Doubt(DoubtCode.TOO_SLOW, TOO_SLOW)
    if lasted_s > motion.longest_s:
        yield Doubt(DoubtCode.TOO_LONG, TOO_LONG)


def _doubts_between(action: Action, kind: Kind, other: Action, category: Category) -> Iterator[Doubt]:
    """What another act of the same exclusion class says against this one."""
    if category is kind.category and _is_same_ride(action, other):
        score = SAME_RIDE if action.tier <= other.tier else SAME_RIDE_BETTER_PROVED
        yield Doubt(DoubtCode.SAME_RIDE, score, other.id)
        return
    if _overlap(action, other) > OVERLAP_TOLERANCE:
        yield Doubt(DoubtCode.OVERLAPS, OVERLAPS, other.id)
    here, there = _said(action, "city").removesuffix("市"), _said(other, "city").removesuffix("市")
    if here and there and here != there and _gap(action, other) < BETWEEN_CITIES:
        yield Doubt(DoubtCode.IMPOSSIBLE_SEQUENCE, IMPOSSIBLE_SEQUENCE, other.id)


def _is_same_ride(action: Action, other: Action) -> bool:
    """Whether two sources tell of one ride: begun together and, where they measure the same, equally much."""
    if action.source == other.source or abs(action.occurred_at - other.occurred_at) > SAME_START:
        return False
    more, less = max(action.quantity, other.quantity), min(action.quantity, other.quantity)
    return action.unit is not other.unit or (more - less) * 100 <= SAME_QUANTITY_PERCENT * more


def _frequency_doubts(action: Action, near: Sequence[Action]) -> Iterator[Doubt]:
    """Whether some hour that holds the act's beginning holds too many."""
    others = (other.occurred_at for other in near if abs(other.occurred_at - action.occurred_at) < HOUR)
    starts = sorted([action.occurred_at, *others])
    counts = (
        bisect_left(starts, first + HOUR) - index for index, first in enumerate(starts) if first <= action.occurred_at
    )
    if max(counts) > MOST_AN_HOUR:
        yield Doubt(DoubtCode.TOO_MANY, TOO_MANY)


def _carrier_doubts(action: Action, surroundings: Surroundings) -> Iterator[Doubt]:
    if any(surroundings.count_others(carrier, action) >= MOST_CITIZENS for carrier in carriers(action)):
        yield Doubt(DoubtCode.SHARED_CARD, SHARED_CARD)


def _place_doubts(action: Action, kind: Kind) -> Iterator[Doubt]:
    """A ride of public transport to where it began; a bicycle may well be brought back."""
    pairs = ((_said(action, start), _said(action, end)) for start, end in PLACES)
    if kind.category is Category.TRANSIT and any(start and start == end for start, end in pairs):
        yield Doubt(DoubtCode.SAME_PLACE, SAME_PLACE)


def _overlap(action: Action, other: Action) -> timedelta:
    """How long both acts lasted at once; of an act without end, how deep inside the other its beginning lies."""
    if action.ended_at is None and other.ended_at is None:
        return timedelta(0)
    if action.ended_at is None or other.ended_at is None:
        point, whole = (action, other) if action.ended_at is None else (other, action)
        return min(point.occurred_at - whole.occurred_at, _end(whole) - point.occurred_at)
    return -_gap(action, other)


def _gap(action: Action, other: Action) -> timedelta:
    """Time from the end of one act to the beginning of the other; negative where they overlap."""
    return max(action.occurred_at, other.occurred_at) - min(_end(action), _end(other))


def _start(action: Action) -> datetime:
    return action.occurred_at


def _end(action: Action) -> datetime:
    return min(action.ended_at or action.occurred_at, action.occurred_at + LONGEST)


def _said(action: Action, name: str) -> str:
    """The attribute in one spelling: width, case and blanks make no difference; empty where it is missing."""
    return unicodedata.normalize("NFKC", action.attributes.get(name, "")).strip().casefold()
