"""Tasks of restatement."""

from __future__ import annotations

from workers import loop
from workers.app import app


@app.task(name="actions.restate")
def restate() -> None:
    """Estimate what was proposed, and go on with what was approved."""
    loop.run(lambda services: services.restating.work_off())
