"""Tasks of money: payouts that nobody worked off in time, and rounds of benefit return."""

from __future__ import annotations

from workers import loop
from workers.app import app


@app.task(name="market.funds")
def end_payouts() -> None:
    """Mark payouts of which the hold's time is over."""
    loop.run(lambda services: services.market.payouts.end_overdue())


@app.task(name="market.benefits")
def return_benefits() -> None:
    """Pay the rounds that were approved."""
    loop.run(lambda services: services.market.paying.work_off())
