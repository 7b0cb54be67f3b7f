"""A week of commuting by metro, generated: what the demo's citizens pool together."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from backend.cli.city import METRO, holder_of

if TYPE_CHECKING:
    from datetime import date
    from zoneinfo import ZoneInfo

SEED = 20261121
DAYS = 6
SHORTEST_M, LONGEST_M = 18_000, 34_000
M_PER_MINUTE = 600
# Out in the morning, back in the evening.
DEPARTURES = (time(7), time(17))
SPREAD_MINUTES = 90


def plan_commutes(*, before: date, zone: ZoneInfo, citizens: int) -> list[dict[str, Any]]:
    """The metro's records of everybody's rides to work and back on the six local days before ``before``."""
    chance = Random(SEED)  # noqa: S311 - a reproducible week, not a secret
    rides = []
    for number in range(citizens):
        distance_m = chance.randrange(SHORTEST_M, LONGEST_M)
        for back in range(1, DAYS + 1):
            for departure in DEPARTURES:
                moment = datetime.combine(before - timedelta(days=back), departure, zone)
                entered = moment + timedelta(minutes=chance.randrange(SPREAD_MINUTES))
                rides.append(_ride(holder_of(number), entered.astimezone(UTC), distance_m))
    return rides


def _ride(card: str, entered: datetime, distance_m: int) -> dict[str, Any]:
    at = entered.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": "metro",
        "quantity": distance_m,
        "unit": "METRE",
        "occurredAt": entered.isoformat(),
        "endedAt": (entered + timedelta(minutes=distance_m // M_PER_MINUTE)).isoformat(),
        "source": METRO.sources[0],
        "ref": f"metro:{card}:{at}",
        "externalId": card,
        "attributes": {"card": card, "entered_at": at},
    }
