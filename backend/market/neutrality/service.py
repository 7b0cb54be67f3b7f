"""The only door to neutrality: what travel to an event emits, and buying and retiring as much in one flow.

A neutralisation is written down before anything is ordered, and each of its steps is one that changes nothing when it
is done again: the order's key and the certificate's id follow from its own id. Whoever finds one that nobody works on
goes on with it, so that a crash at any point ends in one retirement, or in a failure that leaves what was bought to
its owner.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from backend.identity.rules import require_idempotency_key
from backend.kernel.errors import IdempotencyConflictError, Refusal
from backend.kernel.ids import derived_id
from backend.kernel.units import MG_PER_GRAM
from backend.market.neutrality.factors import shipped_factors
from backend.market.neutrality.model import Neutralisation, NeutralisationId, NeutralStage
from backend.market.neutrality.rules import (
    beneficiary_of,
    certificate_of,
    checked_asking,
    estimate,
    payload_of,
    retiring,
)
from backend.market.neutrality.store import NeutralityStore
from backend.market.traders import owner_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.ledger.model import OwnerId
    from backend.ledger.service import Ledger
    from backend.market.neutrality.buying import Buying
    from backend.market.neutrality.model import Estimate, Factors, Leg, Neutralising
    from backend.market.retirement.service import Retirement
    from backend.market.settings import MarketSettings
    from backend.mongo.client import Database
    from backend.mongo.paging import Place

LOG = structlog.get_logger(__name__)
CLAIMED_FOR = timedelta(seconds=30)
AT_ONCE = 50
NOT_FILLED = "NOT_FILLED"


class Neutrality:
    """Estimates and neutralisations of one programme."""

    def __init__(
        self,
        *,
        database: Database,
        ledger: Ledger,
        clock: Clock,
        settings: MarketSettings,
        buying: Buying,
        retirement: Retirement,
    ) -> None:
        self._store = NeutralityStore(database)
        self._ledger = ledger
        self._clock = clock
        self._settings = settings
        self._buying = buying
        self._retirement = retirement

    @property
    def factors(self) -> Factors:
        """The factors in use."""
        return shipped_factors()

    def estimate(self, legs: Sequence[Leg], days: int) -> Estimate:
        """What these legs emit in an event of so many days, rounded up to the lot in which credits are traded.

        Raises:
            InvalidInputError, UnsourcedModeError: see ``rules.estimate``.
        """
        return estimate(legs, days, self.factors, self._settings.lot_g)

    async def neutralise(self, principal: Principal, asked: Neutralising, *, key: str) -> Neutralisation:
        """Buy and retire credits for all travel to an event; as far as that has come within a moment.

        Raises:
            ForbiddenError: neither a citizen nor an enterprise.
            InvalidInputError, UnsourcedModeError: what is asked cannot be.
            IdempotencyConflictError: the key was used otherwise.
            Refusal: any of those of placing an order; nothing is left of it.
            BusyError, UnavailableError: it may have begun; the same key tells.
        """
        owner = owner_of(principal)
        require_idempotency_key(key)
        neutralisation = NeutralisationId(derived_id("neu", str(principal), key))
        asked = checked_asking(asked)
        payload = payload_of(owner, asked)
        found = await self._store.find(neutralisation)
        if found is None:
            begun = await self._begin(neutralisation, owner, asked, payload)
            if await self._store.insert(begun):
                return await self._drive(begun, is_new=True)
            found = await self._store.find(neutralisation)
        if found is None or found.payload != payload:
            raise IdempotencyConflictError(key)
        return await self._resume(found)

    async def _begin(
        self, neutralisation: NeutralisationId, owner: OwnerId, asked: Neutralising, payload: str
    ) -> Neutralisation:
        now = self._clock.now()
        told = self.estimate(asked.legs, asked.days)
        held_g = await self._free_lots_g(owner, asked) if asked.uses_holdings else 0
        begun = Neutralisation(
            id=neutralisation,
            owner=owner,
            payload=payload,
            asked=asked,
            beneficiary=beneficiary_of(asked),
            factors=told.version,
            total_g=told.total_g,
            to_buy_g=max(0, told.total_g - held_g),
            made_at=now,
            claimed_until=now + CLAIMED_FOR,
        )
        # What no certificate can carry is refused before anything is bought.
        retiring(begun)
        return begun

    async def _free_lots_g(self, owner: OwnerId, asked: Neutralising) -> int:
        page = await self._ledger.get_page(owner)
        grams = page.available(asked.credit, self._clock.now()) // MG_PER_GRAM
        return grams // self._settings.lot_g * self._settings.lot_g

    async def work_off(self) -> int:
        """Go on with what is under way and nobody works on; how many have ended.

        May be called at any time, by any number of workers.
        """
        ended = 0
        for name in await self._store.list_free(self._clock.now(), limit=AT_ONCE):
            try:
                found = await self._store.find(name)
                after = await self._resume(found) if found else None
            except Exception:
                # One that cannot go on holds up no other; whoever sweeps next tries it again.
                LOG.exception("neutralisation cannot go on", neutralisation=name)
            else:
                ended += after is not None and after.ended_at is not None
        return ended

    async def _resume(self, found: Neutralisation) -> Neutralisation:
        """Go on with it, unless it has ended or somebody works on it."""
        now = self._clock.now()
        if found.ended_at is not None or found.claimed_until > now:
            return found
        claimed = await self._change(found, claimed_until=now + CLAIMED_FOR)
        return await self._drive(claimed) if claimed else await self._again(found)

    async def _drive(self, one: Neutralisation, *, is_new: bool = False) -> Neutralisation:
        """Take all steps that can be taken now."""
        if one.stage is NeutralStage.BUYING:
            try:
                bought = await self._buy(one)
            except Refusal as error:
                if is_new and await self._store.forget(one):
                    raise
                bought = await self._end(one, NeutralStage.FAILED, failure=error.code)
            if bought is None:
                return await self._again(one)
            one = bought
        return await self._retire(one) if one.stage is NeutralStage.BOUGHT else one

    async def _buy(self, one: Neutralisation) -> Neutralisation | None:
        """The next version; None where somebody else went on with it."""
        if not one.to_buy_g:
            return await self._change(one, stage=NeutralStage.BOUGHT)
        asked = one.asked
        bought = await self._buying.buy(one.owner, asked.credit, one.to_buy_g, asked.max_price_fen, key=one.id)
        if not bought.is_over:
            # The matcher has not seen it yet; whoever looks next goes on.
            return await self._change(one, order=bought.order, claimed_until=self._clock.now())
        done = {"order": bought.order, "bought_g": bought.filled_g}
        if bought.filled_g < one.to_buy_g:
            return await self._end(one, NeutralStage.FAILED, failure=bought.reason or NOT_FILLED, **done)
        return await self._change(one, stage=NeutralStage.BOUGHT, **done)

    async def _retire(self, one: Neutralisation) -> Neutralisation:
        certificate = certificate_of(one.id)
        try:
            await self._retirement.retire_as(one.owner, retiring(one), certificate=certificate, key=one.id)
        except Refusal as error:
            ended = await self._end(one, NeutralStage.FAILED, failure=error.code)
        else:
            ended = await self._end(one, NeutralStage.RETIRED, certificate=certificate)
        return ended or await self._again(one)

    async def _end(self, one: Neutralisation, stage: NeutralStage, **changes: object) -> Neutralisation | None:
        LOG.info("neutralisation ended", neutralisation=one.id, stage=stage.value)
        return await self._change(one, stage=stage, ended_at=self._clock.now(), **changes)

    async def _change(self, one: Neutralisation, **changes: object) -> Neutralisation | None:
        return await self._store.change(one, dataclasses.replace(one, **changes))  # type: ignore[arg-type]

    async def _again(self, one: Neutralisation) -> Neutralisation:
        """As it stands, somebody else having changed it."""
        return await self._store.find(one.id) or one

    async def find(self, principal: Principal, neutralisation: NeutralisationId) -> Neutralisation | None:
        """The neutralisation, for its owner and for staff; None for others."""
        found = await self._store.find(neutralisation)
        is_sight = principal.staff_roles or (found is not None and found.owner == str(principal))
        return found if is_sight else None

    async def list_own(
        self,
        principal: Principal,
        *,
        limit: int,
        older: Place | None = None,
        newer: Place | None = None,
        newest: bool = True,
    ) -> list[Neutralisation]:
        """The principal's own, newest first.

        Raises:
            ForbiddenError: neither a citizen nor an enterprise.
        """
        return await self._store.list_page(owner_of(principal), limit=limit, older=older, newer=newer, newest=newest)

    def estimated(self, one: Neutralisation) -> Estimate | None:
        """What was estimated for it, line by line; None where that was by factors that are no longer in use."""
        return None if one.factors != self.factors.version else self.estimate(one.asked.legs, one.asked.days)
