"""Rides to replay, drafts to try on them, and back-tests brought to their end, for tests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backend.actions.backtesting.model import Backtest, Days
from backend.kernel.clock import local_date
from backend.rules.drafts import Subject
from tests.factories import bus_ride, citizen
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import FLAT, begin, order

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.rules.drafts import Draft
    from backend.runtime import Services

WIDE: dict[str, Any] = {"rule": "R-BUS2", "formula": FLAT}


async def validated(services: Services, changes: dict[str, Any], subject: Subject = Subject.RULE) -> Draft:
    """Ann's draft, in which nothing was found wrong."""
    draft = await services.lifecycle.validate(order(await begin(services, changes, subject)))
    assert draft.problems == ()
    return draft


async def finished(services: Services, job: Backtest) -> Backtest:
    """The job, all of its parts replayed here."""
    while await services.backtesting.replay_next():
        pass
    return await services.backtesting.get(job.id)


def days_before(services: Services, first: int, last: int = 0) -> Days:
    """The local days from ``first`` days ago until ``last`` days ago, the last one included."""
    today = local_date(services.clock.now(), services.programme.zone)
    return Days(today - timedelta(days=first), today - timedelta(days=last - 1))


async def ride(services: Services, clock: ManualClock, names: list[str], rides: int = 2) -> None:
    """So many bus rides of each citizen yesterday, settled."""
    yesterday = clock.now() - timedelta(days=1)
    for name in names:
        for number in range(rides):
            at = yesterday.replace(hour=1, minute=0) + timedelta(hours=2 * number)
            await services.actions.record(
                citizen(name), bus_ride(f"{name}-{number}", occurred_at=at), key=f"key-{name}-{number}"
            )
    await services.settling.settle(ALL_SHARDS)
    clock.advance(timedelta(seconds=1))
