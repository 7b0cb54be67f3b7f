"""Citizens' authorisation of pooling: given in versions that each stand as they were, withdrawn for the future."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity.errors import ForbiddenError
from backend.identity.rules import require_idempotency_key
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import InvalidInputError, Text
from backend.market.pooling.errors import NotAuthorisedError
from backend.market.pooling.model import WORDING, Consent
from backend.market.pooling.store import PoolingReads, PoolingWrites
from backend.mongo.idempotency import Use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.kernel.ids import CitizenId
    from backend.market.pooling.model import Benefit
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.model import Category

AUTHORISING = Text("授权归集减排量", "authorising the pooling of reductions")


class Consents:
    """What citizens agreed to."""

    def __init__(self, *, database: Database, transactions: Transactions, clock: Clock) -> None:
        self._reads = PoolingReads(database)
        self._transactions = transactions
        self._clock = clock

    async def authorise(
        self, principal: Principal, scenarios: Sequence[Category] | None, benefit: Benefit, *, key: str
    ) -> CitizenId:
        """Agree to pooling of acts in these scenarios (None: all), in place of what was agreed before; who did.

        Acts of the past that are in no batch are covered too. What stands in a batch stays there. Who agrees to what
        is in force already makes no new version.

        Raises:
            ForbiddenError: not a citizen.
            InvalidInputError: the key, or no scenario at all.
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        citizen = citizen_of(principal, AUTHORISING)
        require_idempotency_key(key)
        chosen = None if scenarios is None else frozenset(scenarios)
        if chosen is not None and not chosen:
            raise InvalidInputError("scenarios", Text("至少选择一个场景", "choose one scenario at least"))
        told = None if chosen is None else sorted(scenario.value for scenario in chosen)
        use = Use(str(principal), "authorisePooling", key, payload_hash([told, benefit.value]))
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            writes = PoolingWrites(tx)
            if await writes.claimed_at(use) is not None:
                return
            last = await writes.last_consent(citizen)
            if last is not None and last.until is None:
                if (last.scenarios, last.benefit, last.wording) == (chosen, benefit, WORDING):
                    await writes.claim(use, now)
                    return
                await writes.end_consent(last, now)
            consent = Consent(
                citizen=citizen,
                number=last.number + 1 if last else 1,
                scenarios=chosen,
                benefit=benefit,
                wording=WORDING,
                since=now,
            )
            await writes.insert_consent(consent)
            await writes.claim(use, now)

        await self._transactions.run(body)
        return citizen

    async def withdraw(self, principal: Principal, *, key: str) -> CitizenId:
        """Take the authorisation back for the future: nothing is gathered from now on; whose it was.

        What a batch has already is given back by ``Batches.withdraw`` only, as long as it is not verified.

        Raises:
            ForbiddenError: not a citizen.
            NotAuthorisedError: nothing is in force.
            InvalidInputError, IdempotencyConflictError: the key.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        citizen = citizen_of(principal, AUTHORISING)
        require_idempotency_key(key)
        use = Use(str(principal), "withdrawPooling", key, payload_hash([]))
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            writes = PoolingWrites(tx)
            if await writes.claimed_at(use) is not None:
                return
            last = await writes.last_consent(citizen)
            if last is None or last.until is not None:
                raise NotAuthorisedError
            await writes.end_consent(last, now)
            await writes.claim(use, now)

        await self._transactions.run(body)
        return citizen

    async def find(self, citizen: CitizenId) -> Consent | None:
        """The citizen's authorisation in force. Whether the caller may see it the face has asked."""
        return await self._reads.find_consent(citizen)

    async def list_history(
        self, citizen: CitizenId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Consent]:
        """Every version of the citizen's authorisation, newest first."""
        return await self._reads.list_consents(citizen, limit=limit, older=older, newer=newer, newest=newest)


def citizen_of(principal: Principal, what: Text) -> CitizenId:
    """The citizen who asks.

    Raises:
        ForbiddenError: it is none.
    """
    if principal.citizen is None:
        raise ForbiddenError(what)
    return principal.citizen
