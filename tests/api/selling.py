"""Merchants and offers made through their doors, citizens with points, and who may try what."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backend.kernel.ids import CitizenId
from backend.rewards.offers.model import OfferId
from tests.factories import citizen, earning
from tests.unit.rewards.trading import (
    RITA,
    ROOT,
    application,
    contract_terms,
    member_details,
    offer_terms,
    shop_details,
    works,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backend.rewards.merchants.model import Merchant
    from backend.rewards.offers.model import Offer
    from backend.rewards.vouchers.model import Voucher
    from backend.runtime import Services

OWNER, CASHIER, STRANGER = "chen", "xiaoli", "zhao"
# All who hold tokens, but alice, whose voucher it is in these tests; None has no token at all.
PEOPLE: dict[str, tuple[str, str] | None] = {
    "citizen": ("citizen", "alice"),
    "other citizen": ("citizen", "bob"),
    "owner": ("merchant", OWNER),
    "cashier": ("merchant", CASHIER),
    "other merchant": ("merchant", STRANGER),
    "no merchant": ("merchant", "nobody"),
    "partner": ("partner", "metro"),
    "enterprise": ("enterprise", "steelworks"),
    "verifier": ("verifier", "vera"),
    "reviewer": ("reviewer", "ray"),
    "administrator": ("admin", "root"),
    "nobody": None,
}


@dataclass
class Town:
    """A tea house with one shop, an owner and a cashier; another merchant; and what they sell."""

    services: Services
    token_for: Callable[..., str]
    house: Merchant = field(init=False)
    keys: Iterator[int] = field(default_factory=itertools.count)

    def key(self) -> str:
        """A key that nobody used."""
        return f"town-{next(self.keys):06}"

    async def open(self) -> Town:
        """Let both merchants sell."""
        self.house = await self.merchant(OWNER)
        details = member_details()
        await self.services.rewards.merchants.add_member(works(OWNER), None, CASHIER, details, key=self.key())
        await self.merchant(STRANGER, 2)
        return self

    async def merchant(self, owner: str, number: int = 1, **contract: Any) -> Merchant:
        """An approved merchant with one shop."""
        merchants = self.services.rewards.merchants
        made = await merchants.register(works(owner), application(number), key=self.key())
        await merchants.save_shop(works(owner), None, None, shop_details(), key=self.key())
        return await merchants.approve(ROOT, made.id, contract_terms(**contract), key=self.key())

    async def offer(self, owner: str = OWNER, make: Callable[..., Any] = offer_terms, **changes: Any) -> Offer:
        """An offer on sale: a pot of tea for 500 points, but for the changes."""
        offers = self.services.rewards.offers
        terms = make(self.services.clock.now(), **changes)
        draft = await offers.create(works(owner), None, terms, key=self.key())
        return await self.approve(draft, owner)

    async def approve(self, draft: Offer, owner: str = OWNER) -> Offer:
        """Put the draft on sale."""
        offers = self.services.rewards.offers
        waiting = await offers.submit(works(owner), draft.id, key=self.key())
        return await offers.approve(RITA, draft.id, seen=waiting.version, key=self.key())

    async def earn(self, points: int = 1_000, name: str = "alice") -> None:
        """Give a citizen points."""
        await self.services.ledger.post(earning(self.key(), name, points))

    async def redeem(self, offer: Offer | None = None, units: int = 1, name: str = "alice") -> Voucher:
        """What the citizen redeemed; a pot of tea where nothing is named."""
        chosen = offer or await self.offer()
        vouchers = self.services.rewards.vouchers
        return await vouchers.redeem(citizen(name), OfferId(chosen.id), units, key=self.key())

    async def capture(self, voucher: Voucher, items: int | None = None) -> Voucher:
        """The voucher after its cashier captured it."""
        counter = self.services.rewards.counter
        return await counter.capture(works(CASHIER), self.shown(voucher), items=items, shop=None, key=self.key())

    def shown(self, voucher: Voucher) -> str:
        """What its phone shows now."""
        code = self.services.rewards.vouchers.shown_code(voucher)
        assert code is not None
        return code.token

    def token(self, who: str) -> str | None:
        """The token of one of ``PEOPLE``."""
        found = PEOPLE[who]
        return self.token_for(*found) if found else None

    async def settle_in(self, *names: str) -> None:
        """Register citizens."""
        await self.services.identity.register_citizens({CitizenId(name): name for name in names})
