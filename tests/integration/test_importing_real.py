"""Operators' real files through the whole road: the published figures come out, every row is accounted for.

Skipped where the data is absent ($TANHUI_REAL_DATA). Files: Shenzhen Tong taps of 2018-09-01 (Shenzhen Municipal
Government Data Open Platform), Citi Bike Jersey City trips of February 2021 (Lyft), recorded tracks (Fister et al.,
2017; Krajina's gpxpy test files).
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backend.actions.feeds.afc import read_afc
from backend.actions.feeds.bikeshare import read_bikeshare
from backend.actions.feeds.network import load_network
from backend.actions.feeds.track import read_tracks
from backend.actions.importing import ImportPlan, digest_of
from backend.actions.model import Status
from backend.audit import audit_books
from backend.cli.feeds import OPERATOR
from backend.kernel.ids import CitizenId
from backend.rules.model import EvidenceTier
from tests.integration.test_importing import accounted, import_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Path of a real file; the test is skipped, saying so, where it is absent."""
    root = Path(os.environ.get("TANHUI_REAL_DATA", CHECKOUT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"real data {name} is not in $TANHUI_REAL_DATA ({root})")
        return path

    return find


def plan_for(path: Path, source: str, tier: EvidenceTier, citizen: str | None = None) -> ImportPlan:
    return ImportPlan(
        principal=OPERATOR,
        source=source,
        digest=digest_of(path),
        tier=tier,
        backfill=True,
        citizen=CitizenId(citizen) if citizen else None,
        test_citizens=0 if citizen else 2_000,
    )


async def test_a_month_of_bicycle_trips(services: Services, real_data: Callable[[str], Path]) -> None:
    path = real_data("citibike_jersey_city/JC-202102-citibike-tripdata.csv")
    plan = plan_for(path, "bike-share", EvidenceTier.OPERATOR)
    summary, rejects = await import_file(services, read_bikeshare(path), plan)
    assert summary.rows == 4_881
    assert summary.credited + summary.review + summary.rejected.total() == 4_881
    assert summary.duplicate == 0
    waiting = Counter(IMPLAUSIBLE=summary.review)
    assert Counter(reason for _, reason in rejects.rows) == summary.rejected + waiting
    # 3,388 mg per 100 m, rounded down once per act; points are whole grams of each act.
    totals = {total.status: total for total in await services.actions.list_totals() if total.status is Status.CREDITED}
    assert summary.reduction_mg >= 1_000 * summary.points > 0
    assert totals[Status.CREDITED].reduction_mg == summary.reduction_mg
    assert (await audit_books(services)).findings == []


async def test_a_morning_of_smart_card_taps(
    services: Services, real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    # Without the 18,119 bus taps, each an act of its own, the file takes seconds; the feed's tests read it whole.
    path = tmp_path / "metro.csv"
    lines = real_data("shenzhen_szt_afc/14_14.csv").read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "巴士" not in line), "utf-8")
    feed = read_afc(path, load_network(real_data("shenzhen_metro_network/szmc.net-metro.csv")))
    summary, rejects = await import_file(services, feed, plan_for(path, "metro-afc", EvidenceTier.OPERATOR))
    assert (feed.statistics.pairs, feed.statistics.same_station) == (486, 24)
    assert summary.rows == 9_620 + 9_261
    # A ride is two taps; those of a card that enters and leaves at one station earn nothing.
    assert summary.recorded == 388
    assert summary.credited + summary.rejected["CAP_REACHED"] + summary.rejected["BELOW_MINIMUM"] == 388
    assert summary.rejected["SAME_STATION"] == 48
    assert sum(reason == "SAME_STATION" for _, reason in rejects.rows) == 24
    assert {total.kind for total in await services.actions.list_totals(summary.run)} == {"metro"}
    assert (await audit_books(services)).findings == []


async def test_recorded_tracks(services: Services, real_data: Callable[[str], Path]) -> None:
    folder = real_data("gps_tracks")
    await services.identity.register_citizens({CitizenId("alice"): "Alice"})
    plan = plan_for(folder, "track", EvidenceTier.DEVICE, "alice")
    feed = read_tracks(folder, now=services.clock.now())
    summary, rejects = await import_file(services, feed, plan)
    assert summary.rows == accounted(summary)
    assert {"MOTORISED", "UNDATED"} <= {reason for _, reason in rejects.rows}
    assert summary.credited > 0
    again, _ = await import_file(services, read_tracks(folder, now=services.clock.now()), plan)
    assert (again.recorded, again.duplicate) == (0, summary.recorded)
    assert (await audit_books(services)).findings == []


@pytest.mark.parametrize(
    ("name", "reason"), [("around-visnjan-with-car.gpx", "MOTORISED"), ("Mojstrovka.gpx", "UNDATED")]
)
async def test_a_drive_and_a_walk_of_1901_earn_nothing(
    services: Services, real_data: Callable[[str], Path], name: str, reason: str
) -> None:
    path = real_data(f"gps_tracks/{name}")
    await services.identity.register_citizens({CitizenId("alice"): "Alice"})
    plan = plan_for(path, "track", EvidenceTier.DEVICE, "alice")
    summary, rejects = await import_file(services, read_tracks(path, now=services.clock.now()), plan)
    assert (summary.recorded, summary.credited, summary.points) == (0, 0, 0)
    assert {reason for _, reason in rejects.rows} == {reason}
