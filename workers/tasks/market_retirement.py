"""Tasks of retirement and neutrality."""

from __future__ import annotations

from workers import loop
from workers.app import app


@app.task(name="market.neutralise")
def neutralise() -> None:
    """Go on with neutralisations that nobody works on."""
    loop.run(lambda services: services.market.neutrality.work_off())
