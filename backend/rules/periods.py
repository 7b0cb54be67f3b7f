"""When a version that is published may be in force: pure rules on its period beside what is published already."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from backend.kernel.errors import InvalidInputError, Text
from backend.rules.conversion import choose_version
from backend.rules.refusals import PeriodGapError, PeriodInPastError, PeriodOverlapError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backend.rules.model import RuleVersion

# Acts may be dated five minutes ahead, and a transaction has seconds to commit: what begins "now" begins after every
# act that can have been settled before it was published.
LEAD = timedelta(minutes=5, seconds=10)


def require_begin(begin: datetime, *, now: datetime, window: timedelta) -> None:
    """Refuse a beginning too far in the past.

    Raises:
        PeriodInPastError: before ``now`` by more than ``window``.
    """
    if begin < now - window:
        raise PeriodInPastError(window.days)


def require_period(version: RuleVersion, published: Sequence[RuleVersion], *, now: datetime, retires: bool) -> None:
    """Refuse a period that cannot be, beside the ``published`` versions of its kind.

    Raises:
        InvalidInputError: it ends before it begins.
        PeriodOverlapError: it covers the beginning of a planned version; beginning with it, a newer version of the same
            rule may take its place.
        PeriodGapError: after its end no version would be in force, and it does not retire the rule.
    """
    begin, end = version.valid_from, version.valid_to
    assert begin is not None, "what is published begins at a moment"
    if end is not None and end <= begin:
        raise InvalidInputError("validTo", Text("须晚于 validFrom", "must be later than validFrom"))
    for planned in published:
        start = planned.valid_from
        if start is None or start <= now or choose_version(published, version.kind, start) is not planned:
            continue
        takes_its_place = planned.rule == version.rule and start == begin
        if begin <= start and (end is None or start < end) and not takes_its_place:
            raise PeriodOverlapError(planned.name)
    if end is not None and not retires and choose_version([*published, version], version.kind, end) is None:
        raise PeriodGapError(version.kind)
