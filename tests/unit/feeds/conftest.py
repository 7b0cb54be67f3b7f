"""Where the feeds' tests find real data, an invented metro, and small tap files."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backend.actions.feeds.geometry import great_circle_mm
from backend.actions.feeds.model import DistanceBasis, FeedAct, FeedReject
from backend.actions.feeds.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CHECKOUT = Path(__file__).resolve().parents[3]
NEAR = (30.0, 120.0), (30.0, 120.01)


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Path of a real data set; the test is skipped, saying so, where it is absent."""
    root = Path(os.environ.get("TANHUI_REAL_DATA", CHECKOUT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"real data {name} is not in $TANHUI_REAL_DATA ({root})")
        return path

    return find


@pytest.fixture
def metro() -> Network:
    """Three stations in a row, 3 km and 4 km apart, and two that are not connected to them."""
    hops = [("青屿", "望汐", 3_000_900), ("望汐", "东堤", 4_000_900), ("孤岛", "离岸", 1_000_000)]
    return Network(hops, DistanceBasis.NETWORK)


@pytest.fixture
def tally() -> Callable[[Iterable[FeedAct | FeedReject]], Counter[str]]:
    """Count the rows of items by kind or reason."""

    def count(items: Iterable[FeedAct | FeedReject]) -> Counter[str]:
        counted: Counter[str] = Counter()
        for item in items:
            counted[item.kind if isinstance(item, FeedAct) else item.reason.value] += item.rows
        return counted

    return count


@pytest.fixture
def kilometre() -> int:
    """Whole metres between two places 0.01 degrees of longitude apart at 30 degrees north."""
    return great_circle_mm(*NEAR) // 1000
