"""A program that matches whatever is queued, without a pause, until it is killed. Decides nothing about right answers.

It imports nothing of the tests, which are no package that a program could rely on.

Usage: python tests/fault/market_matcher.py MONGODB_URL VALKEY_URL DATABASE DATA_DIR MOMENT
MOMENT (ISO 8601) is the time it takes it to be, all the while.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path

from backend.kernel.clock import ManualClock
from backend.kernel.errors import TransientError
from backend.runtime import open_services
from backend.settings import Settings
from tests.floor import EVERYWHERE

PAUSE_S = 0.002


async def main(mongodb_url: str, valkey_url: str, database: str, data_dir: str, moment: str) -> None:
    """Match for ever."""
    settings = Settings(mongodb_url=mongodb_url, valkey_url=valkey_url, database=database, data_dir=Path(data_dir))
    async with open_services(settings, ManualClock(datetime.fromisoformat(moment))) as services:
        while True:
            try:
                await services.market.exchange.matching.run(EVERYWHERE)
            except TransientError:
                continue
            finally:
                await asyncio.sleep(PAUSE_S)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
