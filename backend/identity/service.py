"""The only door to identity: register citizens and partners, bind external ids, find whom they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity.errors import AlreadyBoundError, SourceTakenError
from backend.identity.model import NAME, NAME_RULE, Binding, Citizen, ExternalId, Partner
from backend.kernel.crypto import keyed_hash
from backend.kernel.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from backend.identity.store import IdentityStore
    from backend.kernel.clock import Clock
    from backend.kernel.ids import CitizenId


def _require_name(field: str, value: str) -> None:
    if not NAME.fullmatch(value):
        raise InvalidInputError(field, NAME_RULE)


class Identity:
    """Citizens, partners and who is bound to what."""

    def __init__(self, store: IdentityStore, clock: Clock, lookup_key: bytes) -> None:
        self._store = store
        self._clock = clock
        self._lookup_key = lookup_key

    async def register_citizens(self, citizens: Mapping[CitizenId, str], *, district: str | None = None) -> int:
        """Register those (id → display name) who are new; returns how many were.

        Raises:
            InvalidInputError: an id is malformed.
        """
        for citizen in citizens:
            _require_name("citizen", citizen)
        now = self._clock.now()
        return await self._store.insert_citizens(
            [Citizen(citizen, name, district, now) for citizen, name in citizens.items()]
        )

    async def register_partner(self, partner: Partner) -> None:
        """Register a partner and its sources; the same again changes nothing.

        Raises:
            InvalidInputError: the id or a source is malformed.
            SourceTakenError: a source belongs to another partner.
        """
        _require_name("partner", partner.id)
        for source in partner.sources:
            _require_name("source", source)
        await self._require_free(partner)
        await self._store.insert_partner(partner)
        # Another registration may have taken a source in between; the unique _id decided who.
        await self._require_free(partner)

    async def _require_free(self, partner: Partner) -> None:
        for source, owner in (await self._store.source_owners(partner.sources)).items():
            if owner != partner.id:
                raise SourceTakenError(source)

    async def bind(self, citizens: Mapping[ExternalId, CitizenId]) -> None:
        """Bind external ids (→ citizen); what is bound to the same citizen already stays.

        Raises:
            AlreadyBoundError: an external id stands for another citizen; the free ones are bound.
        """
        bindings = [Binding(self._hash(external), external.source, citizen) for external, citizen in citizens.items()]
        await self._store.insert_bindings(bindings, self._clock.now())
        bound = await self._store.bound_citizens(binding.hash for binding in bindings)
        for binding in bindings:
            if bound[binding.hash] != binding.citizen:
                raise AlreadyBoundError(binding.source)

    async def find_bound(self, external_ids: Iterable[ExternalId]) -> dict[ExternalId, CitizenId]:
        """The citizen of each external id that is bound."""
        hashes = {external: self._hash(external) for external in external_ids}
        found = await self._store.bound_citizens(hashes.values())
        return {external: found[hashed] for external, hashed in hashes.items() if hashed in found}

    async def find_bound_pairs(self, pairs: AbstractSet[tuple[CitizenId, str]]) -> frozenset[tuple[CitizenId, str]]:
        """Those (citizen, source) for which some external id of the source stands for the citizen."""
        return await self._store.bound_pairs(pairs) if pairs else frozenset()

    async def find_source_owners(self, sources: Iterable[str]) -> Mapping[str, str]:
        """The partner of each source that belongs to one."""
        return await self._store.source_owners(sources)

    async def find_citizens(self, ids: Iterable[CitizenId]) -> dict[CitizenId, Citizen]:
        """Those of the citizens who are registered."""
        return await self._store.find_citizens(ids)

    def _hash(self, external: ExternalId) -> str:
        return keyed_hash(self._lookup_key, external.source, external.value)
