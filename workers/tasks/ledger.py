"""Tasks of the ledger."""

from __future__ import annotations

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from workers import loop
from workers.app import app


@app.task(name="ledger.seal")
def seal() -> None:
    """Seal what has waited long enough."""
    loop.run(lambda services: services.sealing.seal_due())


@app.task(name="ledger.expire")
def expire() -> None:
    """End the holds and lots whose time is over."""
    loop.run(lambda services: services.expiry.expire_due([ShardNumber(number) for number in range(SHARD_COUNT)]))
