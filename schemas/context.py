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

    def __post_init__(self) -> None:
        """Make the loaders; each batches what is asked for in one tick of the loop.

        None remembers: a websocket's context lives as long as its connection.
        """
        self.actions = DataLoader(self._load_actions, cache=False)
        self.citizens = DataLoader(self._load_citizens, cache=False)
        self.pages = DataLoader(self._load_pages, cache=False)
        self.books = DataLoader(self._load_books, cache=False)

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
