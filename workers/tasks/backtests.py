"""Tasks of back-tests."""

from __future__ import annotations

from backend.kernel.errors import TransientError
from backend.runtime import BACKTEST_TASK
from workers import loop
from workers.app import app


@app.task(name=BACKTEST_TASK, autoretry_for=(TransientError,), max_retries=3, retry_backoff=1)
def replay(parts: list[int]) -> None:
    """Replay one of these parts of whatever back-test waits longest."""
    loop.run(lambda services: services.backtesting.replay_next(parts))


@app.task(name="backtests.sweep")
def sweep() -> None:
    """Go on with what a lost task or a dead worker left."""
    loop.run(lambda services: services.backtesting.sweep())
