"""How a recorded track moved: its length without jumps and gaps, its sustained speeds, and so: foot, bicycle or motor.

Speeds are judged over a minute, never over single steps, for a satellite position is off by several metres at any
moment. Pure; must not know files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from backend.actions.feeds.geometry import great_circle_mm
from backend.actions.feeds.model import FeedReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backend.actions.feeds.track_source import Point

WINDOW_MS: Final = 60_000
# A window that needs three minutes to reach its next point tells nothing about a minute.
MAX_WINDOW_MS: Final = 180_000
# A single step faster than this is the receiver's jump: no bicycle does it, and a car that does it does so for minutes.
JUMP_M_PER_H: Final = 120_000
# More jumps than this are no receiver's errors but a train, an aeroplane or invented points.
MAX_JUMPS_PERCENT: Final = 5
MAX_SINGLE_JUMPS: Final = 3
# Two minutes without a point over half a kilometre: the way between is not recorded, and may have been a bus.
GAP_MS: Final = 120_000
GAP_MM: Final = 500_000
# Below 1.8 km/h a track stands still; red lights and breaks must not make a car look slow.
STANDING_M_PER_H: Final = 1_800
# Up to here everyone walks: race walking apart, nobody walks 7.5 km/h for long, and nobody cycles below it all the way.
WALK_M_PER_H: Final = 7_500
# From here on foot only trained runners go on; undeclared, it is a bicycle.
RUN_M_PER_H: Final = 14_000
# The marathon world record is 21 km/h: no one on foot is faster over a minute for long.
FOOT_LIMIT_M_PER_H: Final = 21_000
# A minute above 50 km/h needs a long steep descent or a motor; the rides measured reach 42 (a hilly 25 km) at most.
MOTOR_MINUTE_M_PER_H: Final = 50_000
# Moving average of amateur rides is 20-28 km/h; shared and licence-free e-bikes stop helping at 25.
MOTOR_MOVING_M_PER_H: Final = 35_000
# A car in town spends half its way above 45 km/h, a racing bicycle 2 % (measured: 46 % and 1.9 %).
MOTOR_STEP_M_PER_H: Final = 45_000
MOTOR_SHARE_PERCENT: Final = 20

_FOOT_SPORTS: Final = ("walk", "hik", "run", "foot", "trek")
_MS_PER_HOUR: Final = 3_600_000


class Mode(Enum):
    """What moved; the value is the kind of action it records."""

    WALK = "walk_trace"
    RIDE = "bike_own"


@dataclass(slots=True)
class Motion:
    """A track's length in millimetres, and what was left out of it; speeds in metres per hour.

    ``sustained`` is the speed that nine tenths of the moving minutes stay under, ``fastest`` that of the fastest
    minute, ``moving`` the average without standing, ``fast_percent`` the share of the way above
    ``MOTOR_STEP_M_PER_H``.
    """

    distance_mm: int = 0
    steps: int = 0
    jumps: int = 0
    gaps: int = 0
    backward: int = 0
    moving: int = 0
    sustained: int = 0
    fastest: int = 0
    fast_percent: int = 0
    minutes: list[int] = field(default_factory=list, repr=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Foot or bicycle with the reason in one word, or why neither."""

    mode: Mode | None
    why: str
    refusal: FeedReason | None = None


def speed(length_mm: int, time_ms: int) -> int:
    """Metres per hour, rounded down; time must be positive."""
    return length_mm * _MS_PER_HOUR // (time_ms * 1000)


def measure(pieces: Iterable[Sequence[Point]]) -> Motion:
    """The motion of dated points in the order they were recorded; between two pieces nothing was."""
    motion = Motion()
    steps: list[tuple[int, int]] = []
    for piece in pieces:
        run: list[tuple[int, int]] = []
        for length_mm, time_ms in _steps(piece):
            motion.steps += 1
            if _is_recorded(length_mm, time_ms, motion):
                run.append((length_mm, time_ms))
            else:
                _add_minutes(run, motion.minutes)
                steps += run
                run = []
        _add_minutes(run, motion.minutes)
        steps += run
    _sum_up(steps, motion)
    return motion


def _steps(piece: Sequence[Point]) -> Iterable[tuple[int, int]]:
    for start, end in pairwise(piece):
        length_mm = great_circle_mm((start.latitude, start.longitude), (end.latitude, end.longitude))
        yield length_mm, (end.at_ms or 0) - (start.at_ms or 0)


def _is_recorded(length_mm: int, time_ms: int, motion: Motion) -> bool:
    """Whether a step belongs to the way; what does not is counted by its cause."""
    if time_ms < 0:
        motion.backward += 1
    elif (time_ms == 0 and length_mm > 0) or (time_ms > 0 and speed(length_mm, time_ms) > JUMP_M_PER_H):
        motion.jumps += 1
    elif time_ms > GAP_MS and length_mm > GAP_MM:
        motion.gaps += 1
    else:
        return True
    return False


def _add_minutes(run: list[tuple[int, int]], minutes: list[int]) -> None:
    """Speeds of all moving windows of about a minute in an unbroken run of steps, one per step that ends one."""
    first, length_mm, time_ms = 0, 0, 0
    for step_mm, step_ms in run:
        length_mm += step_mm
        time_ms += step_ms
        while time_ms - run[first][1] >= WINDOW_MS:
            length_mm -= run[first][0]
            time_ms -= run[first][1]
            first += 1
        if WINDOW_MS <= time_ms <= MAX_WINDOW_MS and (pace := speed(length_mm, time_ms)) > STANDING_M_PER_H:
            minutes.append(pace)


def _sum_up(steps: list[tuple[int, int]], motion: Motion) -> None:
    motion.distance_mm = sum(length_mm for length_mm, _ in steps)
    moving = [(mm, ms) for mm, ms in steps if 0 < ms <= WINDOW_MS and speed(mm, ms) > STANDING_M_PER_H]
    if moving:
        length_mm = sum(mm for mm, _ in moving)
        motion.moving = speed(length_mm, sum(ms for _, ms in moving))
        motion.fast_percent = sum(mm for mm, ms in moving if speed(mm, ms) > MOTOR_STEP_M_PER_H) * 100 // length_mm
    if motion.minutes:
        motion.minutes.sort()
        motion.sustained = motion.minutes[len(motion.minutes) * 9 // 10]
        motion.fastest = motion.minutes[-1]


def decide(motion: Motion, sport: str | None) -> Verdict:
    """Foot or bicycle, or the refusal. The declared sport counts only where the speed fits both runners and riders."""
    if motion.jumps > MAX_SINGLE_JUMPS and motion.jumps * 100 > MAX_JUMPS_PERCENT * motion.steps:
        return Verdict(None, "jumps", FeedReason.IMPLAUSIBLE_SPEED)
    if motion.fastest > MOTOR_MINUTE_M_PER_H:
        return Verdict(None, "fastest_minute", FeedReason.MOTORISED)
    if motion.moving > MOTOR_MOVING_M_PER_H:
        return Verdict(None, "moving_average", FeedReason.MOTORISED)
    if motion.fast_percent > MOTOR_SHARE_PERCENT:
        return Verdict(None, "share_of_fast_way", FeedReason.MOTORISED)
    if not motion.minutes:
        return Verdict(None, "no_moving_minute", FeedReason.TOO_FEW_POINTS)
    return _foot_or_bicycle(motion, (sport or "").lower())


def _foot_or_bicycle(motion: Motion, sport: str) -> Verdict:
    on_foot = any(word in sport for word in _FOOT_SPORTS)
    if motion.sustained <= WALK_M_PER_H:
        # A walk with a minute faster than any runner was driven or ridden in part, and which part is not told.
        if motion.fastest > FOOT_LIMIT_M_PER_H:
            return Verdict(None, "walk_with_a_ride", FeedReason.IMPLAUSIBLE_SPEED)
        return Verdict(Mode.WALK, "walking_pace")
    if on_foot and motion.fastest <= FOOT_LIMIT_M_PER_H:
        return Verdict(Mode.WALK, "declared_run")
    if motion.sustained > RUN_M_PER_H:
        return Verdict(Mode.RIDE, "riding_pace")
    if "cycl" in sport or "bik" in sport:
        return Verdict(Mode.RIDE, "declared_ride")
    # A slow ride and a run look the same; the foot earns less, so undeclared it is the foot.
    return Verdict(Mode.WALK, "running_pace")
