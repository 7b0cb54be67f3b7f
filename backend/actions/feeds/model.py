"""What every feed reader gives: acts, rejects with a reason in both languages, and progress. No parsing here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from backend.kernel.errors import DomainError, Language

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from datetime import datetime
    from pathlib import Path

    from backend.kernel.units import Unit


class FeedReason(StrEnum):
    """Why a row proves no act; the code is stable, the sentence exists in both languages."""

    _value_: str
    zh: str
    en: str

    def __new__(cls, code: str, zh: str, en: str) -> Self:
        """A member that is its code and carries its sentences."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.zh = zh
        member.en = en
        return member

    MALFORMED = ("MALFORMED", "记录残缺或无法解读", "the record is incomplete or cannot be read")
    BLANK_STATION = ("BLANK_STATION", "刷卡记录没有站名", "the tap names no station")
    UNKNOWN_STATION = ("UNKNOWN_STATION", "线网中没有该车站", "the network does not know the station")
    SAME_STATION = ("SAME_STATION", "同一车站进出,没有乘车", "entered and left at the same station: no ride")
    NO_PATH = ("NO_PATH", "两站之间在线网中不连通", "the network has no way between the two stations")
    UNPAIRED_ENTRY = ("UNPAIRED_ENTRY", "有进站而没有对应的出站", "an entry without its exit")
    UNPAIRED_EXIT = ("UNPAIRED_EXIT", "有出站而没有对应的进站", "an exit without its entry")
    DUPLICATE_TAP = ("DUPLICATE_TAP", "同一次刷卡重复出现", "the same tap appears again")
    NO_END = ("NO_END", "行程没有还车记录", "the trip has no recorded end")
    SAME_DOCK = (
        "SAME_DOCK",
        "在同一站点借还车,里程无法证明",
        "taken and returned at the same dock: no distance proved",
    )
    NEGATIVE_DURATION = ("NEGATIVE_DURATION", "结束时间不晚于开始时间", "the trip does not end after it starts")
    IMPLAUSIBLE_SPEED = ("IMPLAUSIBLE_SPEED", "速度不合理", "the speed is not plausible")
    MOTORISED = ("MOTORISED", "速度表明乘坐了机动车", "the speed is that of a motor vehicle")
    TOO_LONG = ("TOO_LONG", "持续时间超过 24 小时", "it lasts longer than 24 hours")
    TOO_LARGE = ("TOO_LARGE", "文件超过上限", "the file is larger than allowed")
    TOO_FEW_POINTS = ("TOO_FEW_POINTS", "轨迹点太少或太短", "too few points, or too short, to measure")
    UNDATED = ("UNDATED", "轨迹没有可信的时间", "the track has no credible time")

    def sentence(self, language: Language = Language.EN) -> str:
        """The reason as a person reads it."""
        return self.zh if language is Language.ZH_CN else self.en


class DistanceBasis(StrEnum):
    """What a distance in metres was measured on; stands in an act's ``distance_basis`` attribute."""

    NETWORK = "network"
    HOPS = "hops"
    GREAT_CIRCLE = "great_circle"
    TRACE = "trace"


@dataclass(frozen=True, slots=True)
class FeedAct:
    """One act that ``rows`` data rows prove; ``row`` is the first of them, counted from 1 as they stand in the file.

    Times are aware UTC; ``ref`` is stable and unique in the operator's world; ``holder`` is None where the feed names
    no user. ``attributes`` come from the act alone (never from the file's name), so the same act read again is equal.
    """

    row: int
    kind: str
    quantity: int
    unit: Unit
    occurred_at: datetime
    ended_at: datetime | None
    ref: str
    holder: str | None
    attributes: Mapping[str, str]
    rows: int = 1


@dataclass(frozen=True, slots=True)
class FeedReject:
    """``rows`` data rows, ``row`` the first of them, that prove nothing, and why; ``detail`` is for the operator."""

    row: int
    reason: FeedReason
    detail: str
    rows: int = 1


FeedItem = FeedAct | FeedReject


@dataclass(eq=False)
class FeedFormatError(DomainError):
    """The file as a whole is not of the feed's format, so no row of it can be read."""

    file: str
    problem: str

    code = "FEED_FORMAT"
    zh = "文件 {file} 无法按此格式读取:{problem}"
    en = "file {file} is not in this feed's format: {problem}"


class Feed(Iterator[FeedItem], ABC):
    """A file being read, once, in constant memory and always in the same order.

    ``position`` of ``total_bytes`` bytes of work is done (a reader that passes its rows twice counts them twice);
    ``rows`` data rows were read so far.
    """

    def __init__(self, total_bytes: int, on_progress: Callable[[int], None] | None = None) -> None:
        self.total_bytes = total_bytes
        self.position = 0
        self.rows = 0
        self._on_progress = on_progress
        self._items = self._read()

    def __next__(self) -> FeedItem:
        return next(self._items)

    def close(self) -> None:
        """Stop reading and let go of files and temporary space; further reading ends at once."""
        self._items.close()

    def _reached(self, position: int) -> None:
        self.position = position
        if self._on_progress is not None:
            self._on_progress(position)

    @abstractmethod
    def _read(self) -> Generator[FeedItem]:
        """Produce the items; called once."""


def size_of(path: Path) -> int:
    """Bytes of the file.

    Raises:
        FeedFormatError: there is no such readable file.
    """
    try:
        if path.is_file():
            return path.stat().st_size
    except OSError as error:
        raise FeedFormatError(path.name, str(error.strerror)) from error
    raise FeedFormatError(path.name, "no such file")
