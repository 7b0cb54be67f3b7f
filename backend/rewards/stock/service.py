"""The only door to pots: set units aside before a transaction, say afterwards how many it used, find what was orphaned.

A transaction on a pot that everybody wants would conflict with all others. So units are set aside by one change of
one document; the transaction that uses them touches no pot, it only inserts a proof; and what was not used goes back.
Should the process die in between, ``recover`` finds the reservation after ``HOLD_FOR`` and lets the proof decide.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from backend.kernel.errors import UnavailableError
from backend.rewards.stock.model import Reservation, is_budget

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backend.kernel.clock import Clock
    from backend.rewards.stock.model import Pot, PotId, Reserved, Want
    from backend.rewards.stock.store import PotStore

LOG = structlog.get_logger(__name__)
# Longer than a transaction is retried and a server keeps one open; with the sweeper's seconds less than a minute.
HOLD_FOR = timedelta(seconds=40)
BATCH = 100


class Pots:
    """Units of offers' stock and of merchants' budgets."""

    def __init__(self, store: PotStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def reserve(self, reservation: str, wants: Mapping[PotId, Want]) -> Reservation:
        """Set aside, of each pot, the units wanted or as many as are free; durable on return.

        Raises:
            UnavailableError: MongoDB does not answer; what was set aside returns within a minute.
        """
        until = self._clock.now() + HOLD_FOR

        async def take(pot: PotId, want: Want) -> Reserved:
            # A budget is what the contract in force says; stock changes by hand.
            total = want.total if is_budget(pot) else None
            taken = await self._store.take(reservation, pot, want.units, until, total=total)
            if taken is None:
                await self._store.open(pot, want.total)
                taken = await self._store.take(reservation, pot, want.units, until)
            assert taken is not None
            return taken

        taken = await asyncio.gather(*(take(pot, want) for pot, want in wants.items()))
        return Reservation(reservation, dict(zip(wants, taken, strict=True)))

    async def finish(self, reservation: Reservation, used: Mapping[PotId, int]) -> None:
        """Return what the transaction, which has ended, did not use; left to ``recover`` where MongoDB is away."""
        closing = (
            self._store.close(reservation.id, pot, reserved.units - used.get(pot, 0))
            for pot, reserved in reservation.pots.items()
            if reserved.units
        )
        try:
            await asyncio.gather(*closing)
        except UnavailableError as error:
            LOG.warning("reservation not closed; it will be recovered", reservation=reservation.id, error=repr(error))

    async def recover(self) -> int:
        """Close the reservations whose process has died; returns how many.

        Raises:
            UnavailableError: MongoDB does not answer; what was closed stays closed.
        """
        now, count = self._clock.now(), 0
        for pot in await self._store.list_orphaned(now, limit=BATCH):
            for pending in pot.pending:
                if pending.until <= now:
                    used = await self._store.settle_use(pending.reservation, pot.id, now)
                    await self._store.close(pending.reservation, pot.id, pending.units - used)
                    count += 1
        return count

    async def find(self, ids: Iterable[PotId]) -> dict[PotId, Pot]:
        """Those of the pots that were ever asked."""
        return await self._store.find(ids)
