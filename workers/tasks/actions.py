"""Tasks of the actions capability."""

from __future__ import annotations

from datetime import timedelta

from backend.kernel.errors import TransientError
from backend.kernel.ids import SHARD_COUNT, ShardNumber
from backend.runtime import SETTLE_TASK, Services
from workers import loop
from workers.app import app

SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]


@app.task(name=SETTLE_TASK, autoretry_for=(TransientError,), max_retries=3, retry_backoff=1)  # type: ignore[untyped-decorator]
def settle(shard: int) -> None:
    """Settle what waits in the shard."""
    loop.run(lambda services: services.settling.settle_shard(ShardNumber(shard)))


@app.task(name="actions.sweep")  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Wake the shards whose nudge was lost."""
    loop.run(_sweep)


async def _sweep(services: Services) -> None:
    before = services.clock.now() - timedelta(milliseconds=services.settings.sweep_after_ms)
    for shard in await services.settling.list_waiting(SHARDS, before=before):
        await services.settling.settle_shard(shard)
