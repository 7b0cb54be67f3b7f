"""What a resolver knows of the request: the services, who asks, the language, and loaders that batch reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from strawberry.dataloader import DataLoader
from strawberry.types import Info as StrawberryInfo

from backend.identity.errors import ForbiddenError, UnauthenticatedError
from backend.identity.model import Principal
from backend.kernel.errors import Language, Text

if TYPE_CHECKING:
    from backend.actions.model import Action
    from backend.identity.model import Citizen
    from backend.identity.tokens import Tokens
    from backend.kernel.ids import ActionId, CitizenId
    from backend.ledger.model import OwnerId, Page
    from backend.rewards.merchants.model import Desk, Merchant, MerchantId
    from backend.rewards.offers.model import Offer, OfferId
    from backend.rewards.stock.model import Pot, PotId
    from backend.rewards.vouchers.model import Voucher, VoucherId
    from backend.rules.service import RuleBook
    from backend.runtime import Services


@dataclass
class Context:
    """One request's context."""

    services: Services
    principal: Principal | None
    language: Language
    # Strawberry's websocket handler stores the payload of connection_init here.
    connection_params: dict[str, Any] | None = None
    handshake_authorization: str | None = None
    actions: DataLoader[ActionId, Action | None] = field(init=False)
    citizens: DataLoader[CitizenId, Citizen | None] = field(init=False)
    pages: DataLoader[OwnerId, Page] = field(init=False)
    books: DataLoader[None, RuleBook] = field(init=False)
    vouchers: DataLoader[VoucherId, Voucher | None] = field(init=False)
    desks: DataLoader[None, Desk | None] = field(init=False)
    merchants: DataLoader[MerchantId, Merchant | None] = field(init=False)
    offers: DataLoader[OfferId, Offer | None] = field(init=False)
    pots: DataLoader[PotId, Pot | None] = field(init=False)

    def __post_init__(self) -> None:
        """Make the loaders; each batches what is asked for in one tick of the loop.

        None remembers: a websocket's context lives as long as its connection.
        """
        self.actions = DataLoader(self._load_actions, cache=False)
        self.citizens = DataLoader(self._load_citizens, cache=False)
        self.pages = DataLoader(self._load_pages, cache=False)
        self.books = DataLoader(self._load_books, cache=False)
        self.vouchers = DataLoader(self._load_vouchers, cache=False)
        self.desks = DataLoader(self._load_desks, cache=False)
        self.merchants = DataLoader(self._load_merchants, cache=False)
        self.offers = DataLoader(self._load_offers, cache=False)
        self.pots = DataLoader(self._load_pots, cache=False)

    async def _load_actions(self, ids: list[ActionId]) -> list[Action | None]:
        found = await self.services.actions.find_actions(ids)
        return [found.get(action) for action in ids]

    async def _load_citizens(self, ids: list[CitizenId]) -> list[Citizen | None]:
        found = await self.services.identity.find_citizens(ids)
        return [found.get(citizen) for citizen in ids]

    async def _load_pages(self, owners: list[OwnerId]) -> list[Page]:
        found = await self.services.ledger.find_pages(owners)
        return [found[owner] for owner in owners]

    async def _load_books(self, asked: list[None]) -> list[RuleBook]:
        return [await self.services.rules.book()] * len(asked)

    async def _load_vouchers(self, ids: list[VoucherId]) -> list[Voucher | None]:
        found = await self.services.rewards.vouchers.find(list(dict.fromkeys(ids)))
        return [found.get(voucher) for voucher in ids]

    async def _load_desks(self, asked: list[None]) -> list[Desk | None]:
        try:
            desk = await self.services.rewards.merchants.desk(self.require_principal())
        except ForbiddenError:
            desk = None
        return [desk] * len(asked)

    async def _load_merchants(self, ids: list[MerchantId]) -> list[Merchant | None]:
        found = await self.services.rewards.merchants.find_merchants(ids)
        return [found.get(merchant) for merchant in ids]

    async def _load_offers(self, ids: list[OfferId]) -> list[Offer | None]:
        found = await self.services.rewards.offers.find_offers(ids)
        return [found.get(offer) for offer in ids]

    async def _load_pots(self, ids: list[PotId]) -> list[Pot | None]:
        found = await self.services.rewards.pots.find(list(dict.fromkeys(ids)))
        return [found.get(pot) for pot in ids]

    async def book(self) -> RuleBook:
        """The rule book as it stands now."""
        return await self.books.load(None)

    def require_principal(self) -> Principal:
        """Who asks.

        Raises:
            UnauthenticatedError: nobody signed in.
        """
        principal = self.principal
        if principal is None:
            raise UnauthenticatedError(Text("没有令牌", "no token"))
        # A websocket can outlive its token.
        if principal.expires_at is not None and self.services.clock.now() >= principal.expires_at:
            raise UnauthenticatedError(Text("令牌已过期", "token expired"))
        return principal

    def may_see(self, citizen: CitizenId) -> bool:
        """Whether the principal may see this citizen's data: the citizen and staff may."""
        principal = self.principal
        return principal is not None and (principal.citizen == citizen or bool(principal.staff_roles))

    async def may_see_voucher(self, voucher: Voucher) -> bool:
        """Whether the principal may see the voucher: its citizen, staff, and who works at its merchant."""
        if self.principal is None:
            return False
        if self.may_see(voucher.citizen):
            return True
        desk = await self.desks.load(None)
        return desk is not None and desk.merchant.id == voucher.merchant

    def require_sight(self, citizen: CitizenId) -> None:
        """Let pass who may see this citizen's data.

        Raises:
            UnauthenticatedError, ForbiddenError: the principal may not.
        """
        self.require_principal()
        if not self.may_see(citizen):
            raise ForbiddenError(Text("他人的数据", "another citizen's data"))


Info: TypeAlias = StrawberryInfo[Context, None]


def preferred_language(accept_language: str | None) -> Language:
    """The language of the first tag we speak in an Accept-Language header; Chinese where none is."""
    for tag in (accept_language or "").split(","):
        name = tag.split(";")[0].strip().lower()
        if name.startswith("en"):
            return Language.EN
        if name.startswith("zh"):
            return Language.ZH_CN
    return Language.ZH_CN


def authenticate(tokens: Tokens, authorization: str) -> Principal:
    """The principal of an ``Authorization: Bearer …`` value.

    Raises:
        UnauthenticatedError: another scheme, or a token that is not valid.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError(Text("应为 Bearer 令牌", "Bearer token expected"))
    return tokens.read(token.strip())
