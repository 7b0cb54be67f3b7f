"""Makes the rooms of rewards out of what the process has: the only place that knows how they are joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.rewards.merchants.documents import COLLECTIONS as MERCHANT_COLLECTIONS
from backend.rewards.merchants.service import Merchants
from backend.rewards.offers.codes import OfferCodes
from backend.rewards.offers.documents import COLLECTIONS as OFFER_COLLECTIONS
from backend.rewards.offers.pictures import Pictures
from backend.rewards.offers.service import Offers
from backend.rewards.offers.store import find_offer_at
from backend.rewards.settlement.documents import COLLECTIONS as SETTLEMENT_COLLECTIONS
from backend.rewards.settlement.service import Settlement
from backend.rewards.stock.service import Pots
from backend.rewards.stock.store import COLLECTIONS as STOCK_COLLECTIONS
from backend.rewards.stock.store import PotStore
from backend.rewards.vouchers.capturing import Counter
from backend.rewards.vouchers.changing import Changing
from backend.rewards.vouchers.documents import COLLECTIONS as VOUCHER_COLLECTIONS
from backend.rewards.vouchers.ending import Ending
from backend.rewards.vouchers.redeeming import Catalogue, Redeeming
from backend.rewards.vouchers.refunding import Refunding
from backend.rewards.vouchers.service import Vouchers
from backend.rewards.webhooks.documents import COLLECTIONS as WEBHOOK_COLLECTIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from zoneinfo import ZoneInfo

    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.kernel.ids import CitizenId
    from backend.ledger.service import Ledger
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions
    from backend.outbox.relay import Relay
    from backend.rewards.vouchers.model import VoucherId
    from backend.rewards.webhooks.service import Webhooks

COLLECTIONS = (
    *MERCHANT_COLLECTIONS,
    *OFFER_COLLECTIONS,
    *STOCK_COLLECTIONS,
    *VOUCHER_COLLECTIONS,
    *SETTLEMENT_COLLECTIONS,
    *WEBHOOK_COLLECTIONS,
)


@dataclass(frozen=True)
class RewardKeys:
    """32 bytes each: what codes at the counter are made with, what encrypts partners' codes, and what finds them."""

    vouchers: bytes
    codes: bytes
    lookup: bytes


@dataclass(frozen=True)
class Rewards:
    """Every door of rewards."""

    merchants: Merchants
    offers: Offers
    pictures: Pictures
    pots: Pots
    vouchers: Vouchers
    counter: Counter
    refunding: Refunding
    ending: Ending
    settlement: Settlement
    webhooks: Webhooks
    changing: Changing

    async def flush(self) -> None:
        """Wait for what goes on after an answer: merchants' systems are told of it."""
        await self.changing.flush()


def open_rewards(
    *,
    database: Database,
    transactions: Transactions,
    clock: Clock,
    zone: ZoneInfo,
    districts: Sequence[str],
    identity: Identity,
    ledger: Ledger,
    relay: Relay,
    webhooks: Webhooks,
    keys: RewardKeys,
    tell: Callable[[CitizenId, VoucherId], Awaitable[None]],
) -> Rewards:
    """The rooms, joined; ``tell`` lets a citizen's phones know that a voucher of theirs has changed."""
    stored: dict[str, Any] = {"database": database, "clock": clock}
    posting: dict[str, Any] = {"transactions": transactions, "ledger": ledger, "clock": clock}
    merchants = Merchants(
        transactions=transactions, zone=zone, districts=districts, find_offer_at=find_offer_at, **stored
    )
    codes = OfferCodes(database, clock, key=keys.codes, lookup_key=keys.lookup)
    offers = Offers(transactions=transactions, zone=zone, districts=districts, codes=codes, **stored)
    pots = Pots(PotStore(database), clock)
    changing = Changing(relay=relay, tell=tell, **posting)
    redeeming = Redeeming(
        database=database,
        identity=identity,
        pots=pots,
        catalogue=Catalogue(offers.find_offers, merchants.find_merchants),
        zone=zone,
        server_key=keys.vouchers,
        **posting,
    )
    at_hand: dict[str, Any] = {**stored, "changing": changing, "zone": zone, "server_key": keys.vouchers}
    return Rewards(
        merchants=merchants,
        offers=offers,
        pictures=Pictures(database, clock),
        pots=pots,
        vouchers=Vouchers(redeeming=redeeming, give_code=codes.give, **at_hand),
        counter=Counter(desks=merchants, **at_hand),
        refunding=Refunding(changing=changing, desks=merchants, zone=zone),
        ending=Ending(database, transactions, ledger, clock, changing),
        settlement=Settlement(database=database, merchants=merchants, relay=relay, zone=zone, **posting),
        webhooks=webhooks,
        changing=changing,
    )
