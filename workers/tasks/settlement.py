"""Tasks of settlement."""

from __future__ import annotations

from workers import loop
from workers.app import app


@app.task(name="settlement.close")
def close() -> None:
    """Make the statements of all periods that are over, and look again at what was not reconciled."""
    loop.run(lambda services: services.rewards.settlement.close_due())
