"""Tasks of stock and vouchers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers import loop
from workers.app import app

if TYPE_CHECKING:
    from backend.runtime import Services


@app.task(name="rewards.sweep")
def sweep() -> None:
    """Return units of reservations whose process died, and end vouchers whose time is over."""
    loop.run(_sweep)


async def _sweep(services: Services) -> None:
    await services.rewards.pots.recover()
    await services.rewards.ending.end_due()
