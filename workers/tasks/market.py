"""Tasks of the exchange."""

from __future__ import annotations

from backend.kernel.errors import TransientError
from backend.kernel.ids import ShardNumber
from backend.runtime import MATCH_TASK
from workers import loop
from workers.app import app


@app.task(name=MATCH_TASK, autoretry_for=(TransientError,), max_retries=3, retry_backoff=1)
def match(shards: list[int]) -> None:
    """Match what waits in the instruments of these shards."""
    loop.run(lambda services: services.market.exchange.matching.run([ShardNumber(shard) for shard in shards]))


@app.task(name="market.sweep")
def sweep() -> None:
    """Match what a lost nudge forgot, end what has ended, execute auctions that are over."""
    loop.run(lambda services: services.market.exchange.matching.sweep())
