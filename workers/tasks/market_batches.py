"""Tasks of batches of reductions."""

from __future__ import annotations

from workers import loop
from workers.app import app


@app.task(name="market.gather")
def gather() -> None:
    """Go on gathering, giving back and issuing batches."""
    loop.run(lambda services: services.market.pooling.batches.work_off())
