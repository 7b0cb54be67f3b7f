"""Tasks of webhooks."""

from __future__ import annotations

from workers import loop
from workers.app import app


@app.task(name="webhooks.deliver")
def deliver() -> None:
    """Try the deliveries to merchants' systems that are due."""
    loop.run(lambda services: services.rewards.webhooks.deliver_due())
