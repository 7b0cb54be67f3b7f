"""How often a serving process looks for garbage in cycles."""

from __future__ import annotations

import gc

# Python's own are 700, 10, 10: two thirds of the time it takes to make documents by the hundred, which have no cycles.
THRESHOLDS = (50_000, 20, 50)


def collect_rarely() -> None:
    """Call once when the process has built what it keeps: that is set aside for good, the rest is looked at seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
