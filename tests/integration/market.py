"""What tests of merchants and offers share: the services under test, and merchants and offers made through them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.crypto import load_lookup_key
from backend.rewards.offers.codes import OfferCodes
from tests.conftest import dump
from tests.unit.rewards.trading import RITA, ROOT, application, contract_terms, offer_terms, shop_details, works

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from backend.identity.model import Principal
    from backend.kernel.errors import DomainError
    from backend.rewards.merchants.model import Merchant
    from backend.rewards.merchants.service import Merchants
    from backend.rewards.offers.model import Offer
    from backend.rewards.offers.pictures import Pictures
    from backend.rewards.offers.service import Offers
    from backend.rewards.stock.service import Pots
    from backend.runtime import Services


@dataclass
class Market:
    """The services of merchants and offers on one database."""

    services: Services
    merchants: Merchants
    offers: Offers
    codes: OfferCodes
    pictures: Pictures
    pots: Pots
    keys: itertools.count[int]

    def key(self) -> str:
        """A key that nobody used."""
        return f"key-{next(self.keys):06}"

    async def applied(self, owner: str = "chen", number: int = 1, **changes: Any) -> Merchant:
        """A merchant that has applied, owned by that login."""
        return await self.merchants.register(works(owner), application(number, **changes), key=self.key())

    async def approved(self, owner: str = "chen", number: int = 1, *, shops: int = 1, **changes: Any) -> Merchant:
        """A merchant that sells, with shops."""
        merchant = await self.applied(owner, number, **changes)
        for _ in range(shops):
            merchant = await self.merchants.save_shop(works(owner), None, None, shop_details(), key=self.key())
        return await self.merchants.approve(ROOT, merchant.id, contract_terms(), key=self.key())

    async def draft(self, owner: str = "chen", **changes: Any) -> Offer:
        """A draft of that owner's merchant; ``terms`` makes the terms from the present."""
        make = changes.pop("terms", offer_terms)
        terms = make(self.services.clock.now(), **changes)
        return await self.offers.create(works(owner), None, terms, key=self.key())

    async def live(self, owner: str = "chen", **changes: Any) -> Offer:
        """An offer on sale."""
        draft = await self.draft(owner, **changes)
        waiting = await self.offers.submit(works(owner), draft.id, key=self.key())
        return await self.offers.approve(RITA, draft.id, seen=waiting.version, key=self.key())

    async def refused(self, asked: Awaitable[Any], error: type[DomainError]) -> DomainError:
        """Assert that this is refused and changes nothing; the refusal."""
        before = await dump(self.services)
        with pytest.raises(error) as refused:
            await asked
        assert type(refused.value) is error
        assert await dump(self.services) == before
        return refused.value

    async def again(self, principal: Principal, asked: Any, result: Any) -> None:
        """Assert that the same request again changes nothing and answers the same."""
        before = await dump(self.services)
        assert await asked(principal) == result
        assert await dump(self.services) == before


def open_market(services: Services) -> Market:
    """The services of merchants and offers."""
    rewards, keys = services.rewards, services.settings.keys_dir
    return Market(
        services=services,
        merchants=rewards.merchants,
        offers=rewards.offers,
        codes=OfferCodes(
            services.database,
            services.clock,
            key=load_lookup_key(keys / "offer-codes.key"),
            lookup_key=load_lookup_key(keys / "lookup.key"),
        ),
        pictures=rewards.pictures,
        pots=rewards.pots,
        keys=itertools.count(1),
    )
