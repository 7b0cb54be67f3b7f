"""Tasks of the actions capability."""

from __future__ import annotations

from datetime import timedelta

from backend.kernel.errors import TransientError
from backend.kernel.ids import SHARD_COUNT, ShardNumber
from backend.runtime import SETTLE_TASK, Services
from workers import loop
from workers.app import app

SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]


@app.task(name=SETTLE_TASK, autoretry_for=(TransientError,), max_retries=3, retry_backoff=1)
def settle(shards: list[int]) -> None:
    """Settle what waits in these shards."""
    loop.run(lambda services: services.settling.settle([ShardNumber(shard) for shard in shards]))


@app.task(name="actions.sweep")
def sweep() -> None:
    """Settle what a lost nudge forgot."""
    loop.run(_sweep)


async def _sweep(services: Services) -> None:
    before = services.clock.now() - timedelta(milliseconds=services.settings.sweep_after_ms)
    await services.settling.settle(await services.settling.list_waiting(SHARDS, before=before))
