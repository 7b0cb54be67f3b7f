"""Merchants, offers and counters as tests need them, and the doors to vouchers over any catalogue of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backend.identity.errors import ForbiddenError
from backend.identity.model import Principal, PrincipalKind
from backend.kernel.errors import Text
from backend.kernel.ids import CitizenId
from backend.kernel.units import Ratio
from backend.ledger.model import POINTS
from backend.mongo.transactions import Transactions, Tx
from backend.outbox.relay import Relay
from backend.rewards.merchants.model import (
    Contract,
    Cycle,
    Desk,
    Member,
    MemberRole,
    Merchant,
    MerchantId,
    MerchantStage,
    Shop,
    ShopId,
)
from backend.rewards.offers.model import (
    Audience,
    Bearer,
    CitizenLimits,
    Offer,
    OfferCategory,
    OfferId,
    OfferKind,
    OfferStage,
    OfferTerms,
    Stock,
    StockKind,
)
from backend.rewards.stock.service import Pots
from backend.rewards.stock.store import PotStore
from backend.rewards.vouchers.capturing import Counter
from backend.rewards.vouchers.changing import Changing
from backend.rewards.vouchers.ending import Ending
from backend.rewards.vouchers.redeeming import Catalogue, Redeeming
from backend.rewards.vouchers.refunding import Refunding
from backend.rewards.vouchers.service import Vouchers
from backend.rewards.webhooks.events import WEBHOOK_TOPIC
from tests import factories

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.outbox.relay import Item
    from backend.rewards.vouchers.model import Voucher, VoucherId
    from backend.runtime import Services

KEY = bytes(range(32))
LONG_AGO = timedelta(days=400)


def cashier(name: str = "cai", merchant: str = "cafe") -> Principal:
    """Somebody at a merchant's counter: their login says where they work."""
    return Principal(PrincipalKind.MERCHANT, f"{merchant}.{name}")


def contract(now: datetime, **changes: Any) -> Contract:
    """One point is 7/10 of a fen, 2 % commission, settled by month, no budget."""
    given: dict[str, Any] = {
        "number": 1,
        "rate": Ratio(7, 10),
        "commission_bps": 200,
        "cycle": Cycle.MONTH,
        "budget_fen": None,
        "valid_from": now - LONG_AGO,
    }
    return Contract(**{**given, **changes})


def shop_at(name: str = "east") -> Shop:
    """A shop in Zhenjiang."""
    return Shop(
        id=ShopId(name),
        name=Text("东门店", "East Gate"),
        address="东门广场 1 号",
        district="京口区",
        lat_e6=32_200_000,
        lon_e6=119_450_000,
        phone=None,
        hours=(),
    )


def merchant(now: datetime, name: str = "cafe", **changes: Any) -> Merchant:
    """An approved café with one shop."""
    given: dict[str, Any] = {
        "id": MerchantId(name),
        "name": Text("咖啡馆", "Café"),
        "legal_name": "镇江咖啡有限公司",
        "credit_code": "91350100M000100Y43",
        "contact_name": "王店主",
        "contact_phone": "051100000000",
        "stage": MerchantStage.APPROVED,
        "reason": None,
        "contracts": (contract(now),),
        "shops": (shop_at(),),
        "registered_at": now - LONG_AGO,
        "registered_by": "staff:root",
        "version": 1,
    }
    return Merchant(**{**given, **changes})


def offer(now: datetime, name: str = "coffee", *, of: str = "cafe", **changes: Any) -> Offer:
    """A coffee for 30 points, unlimited, to be refunded within seven days; ``changes`` are of its terms."""
    given: dict[str, Any] = {
        "kind": OfferKind.VOUCHER,
        "category": OfferCategory.FOOD,
        "title": Text("咖啡一杯", "A coffee"),
        "text": Text("任选一杯", "Any one"),
        "handover": Text("中杯任选", "Any medium cup"),
        "picture": None,
        "price_points": 30,
        "cash_fen": 0,
        "items": 1,
        "stock": Stock(StockKind.UNLIMITED),
        "limits": CitizenLimits(),
        "audience": Audience(),
        "windows": (),
        "valid_from": now - timedelta(days=30),
        "valid_to": now + timedelta(days=300),
        "voucher_days": 7,
        "vouchers_until": None,
        "refund_days": 7,
        "bearer": Bearer.PROGRAMME,
        "shops": (),
    }
    return Offer(
        id=OfferId(name),
        merchant=MerchantId(of),
        terms=OfferTerms(**{**given, **changes}),
        stage=OfferStage.LIVE,
        reason=None,
        revision=1,
        version=1,
        created_at=now - timedelta(days=30),
        submitted_by="staff:root",
    )


@dataclass
class Street:
    """Merchants and offers of a test, and all doors to vouchers on them."""

    services: Services
    merchants: dict[MerchantId, Merchant] = field(default_factory=dict)
    offers: dict[OfferId, Offer] = field(default_factory=dict)
    told: list[tuple[CitizenId, VoucherId]] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)
    heard: list[Mapping[str, Any]] = field(default_factory=list)
    """What merchants' systems would be told."""

    def __post_init__(self) -> None:
        services, transactions = self.services, Transactions(self.services.database)
        now = services.clock.now()
        self.add(merchant(now))
        self.pots = Pots(PotStore(services.database), services.clock)
        self.changing = Changing(
            transactions=transactions,
            ledger=services.ledger,
            clock=services.clock,
            relay=Relay(services.database, services.clock, {WEBHOOK_TOPIC: self._hear}),
            tell=self._tell,
        )
        shared: dict[str, Any] = {
            "database": services.database,
            "clock": services.clock,
            "zone": services.programme.zone,
            "server_key": KEY,
        }
        self.redeeming = Redeeming(
            transactions=transactions,
            ledger=services.ledger,
            identity=services.identity,
            pots=self.pots,
            catalogue=Catalogue(self._find_offers, self._find_merchants),
            **shared,
        )
        self.vouchers = Vouchers(redeeming=self.redeeming, changing=self.changing, give_code=self._give_code, **shared)
        self.counter = Counter(changing=self.changing, desks=self, **shared)
        self.refunding = Refunding(changing=self.changing, desks=self, zone=services.programme.zone)
        self.ending = Ending(services.database, transactions, services.ledger, services.clock, self.changing)

    def add(self, *things: Merchant | Offer) -> None:
        """Put merchants and offers in the street, or others in their place."""
        for thing in things:
            if isinstance(thing, Merchant):
                self.merchants[thing.id] = thing
            else:
                self.offers[thing.id] = thing

    async def settle_in(self, *names: str, points: int = 100) -> None:
        """Register citizens and give each so many points."""
        await self.services.identity.register_citizens({CitizenId(name): name for name in names})
        for name in names:
            if points:
                await self.services.ledger.post(factories.earning(f"gift-{name}-{points}", name, points))

    async def redeem(self, name: str, offer: str = "coffee", units: int = 1, *, key: str = "redeem-0001") -> Any:
        """The voucher, or the refusal."""
        return await answer(self.vouchers.redeem(factories.citizen(name), OfferId(offer), units, key=key))

    async def shown(self, voucher: VoucherId) -> str:
        """What the voucher's phone shows now."""
        found = (await self.vouchers.find([voucher]))[voucher]
        code = self.vouchers.shown_code(found)
        return code.token if code else ""

    async def _find_offers(self, ids: Sequence[OfferId]) -> dict[OfferId, Offer]:
        return {one: self.offers[one] for one in ids if one in self.offers}

    async def _find_merchants(self, ids: Sequence[MerchantId]) -> dict[MerchantId, Merchant]:
        return {one: self.merchants[one] for one in ids}

    async def _give_code(self, offer: OfferId, voucher: VoucherId) -> str:
        return self.codes.setdefault(voucher, f"{offer}-{len(self.codes)}")

    async def desk(self, principal: Principal) -> Desk:
        """Who is at work: a login says where."""
        firm, _, name = principal.id.partition(".")
        if principal.kind is not PrincipalKind.MERCHANT or MerchantId(firm) not in self.merchants:
            raise ForbiddenError(Text("柜台", "the counter"))
        role = MemberRole.OWNER if name == "owner" else MemberRole.CASHIER
        found = self.merchants[MerchantId(firm)]
        member = Member(id=principal.id, merchant=found.id, name=name, role=role, shop=None, is_active=True)
        return Desk(found, member)

    async def desk_within(self, tx: Tx, principal: Principal) -> Desk:
        """The same as a transaction sees it."""
        return await self.desk(principal)

    async def _hear(self, item: Item) -> None:
        self.heard += item.payload

    async def _tell(self, citizen: CitizenId, voucher: VoucherId) -> None:
        self.told.append((citizen, voucher))


async def answer(call: Any) -> Any:
    """What the call gives, or the error it raises."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        return error


def changed(thing: Any, **changes: Any) -> Any:
    """The same value with some fields of it, or of an offer's terms, otherwise."""
    if isinstance(thing, Offer):
        mine = {name: changes.pop(name) for name in list(changes) if hasattr(thing, name)}
        return dataclasses.replace(thing, terms=dataclasses.replace(thing.terms, **changes), **mine)
    return dataclasses.replace(thing, **changes)


async def capture(street: Street, voucher: Voucher, **changes: Any) -> Any:
    """The voucher after its code was captured, or why it was not."""
    given = {"items": None, "shop": ShopId("east"), "key": "capture-0001", **changes}
    code = given.pop("code", None) or await street.shown(voucher.id)
    return await answer(street.counter.capture(given.pop("by", cashier()), code, **given))


async def points(services: Services) -> tuple[int, int]:
    """What alice can spend and what is held."""
    page = await services.ledger.get_page(factories.owner())
    return page.available(POINTS, services.clock.now()), page.held(POINTS)
