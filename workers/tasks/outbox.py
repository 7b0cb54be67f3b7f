"""Tasks of the outbox."""

from __future__ import annotations

from workers import loop
from workers.app import app


@app.task(name="outbox.drain")
def drain() -> None:
    """Deliver what no process delivered right after its commit."""
    loop.run(lambda services: services.relay.drain())
