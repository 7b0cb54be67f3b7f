"""Lets placing and matching in one instrument take turns: both write the pages of the same traders.

Without turns their MongoDB transactions meet, and the longer one, which is the matcher's, loses again and again. A turn
is a lease and so only a courtesy: whoever waits too long for theirs goes on without.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.ledger.model import Asset
    from backend.valkey.leases import Leases

TURN_MS = 1_000
PATIENCE_S = 1.0
PAUSE_S = 0.002


@asynccontextmanager
async def turn(leases: Leases, instrument: Asset) -> AsyncIterator[None]:
    """Have the turn in the instrument for the block, or have waited for it for a second."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while True:
        async with leases.hold([f"turn:{instrument}"], ttl_ms=TURN_MS) as held:
            if held or loop.time() > deadline:
                yield
                return
        await asyncio.sleep(PAUSE_S)
