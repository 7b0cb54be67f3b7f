"""Makes the rooms of the market out of what the process has: the only place that knows how they are joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.kernel.ids import CitizenId
from backend.ledger.model import CREDIT
from backend.market.benefits.documents import COLLECTIONS as BENEFIT_COLLECTIONS
from backend.market.benefits.paying import Paying
from backend.market.benefits.service import Benefits
from backend.market.benefits.store import Shares
from backend.market.exchange.doors import COLLECTIONS as EXCHANGE_COLLECTIONS
from backend.market.exchange.doors import Exchange, open_exchange
from backend.market.funds.deposits import Deposits
from backend.market.funds.documents import COLLECTIONS as FUND_COLLECTIONS
from backend.market.funds.enterprises import Enterprises
from backend.market.funds.model import EnterpriseId
from backend.market.funds.payouts import Payouts
from backend.market.neutrality.buying import ExchangeBuying
from backend.market.neutrality.documents import COLLECTIONS as NEUTRALITY_COLLECTIONS
from backend.market.neutrality.service import Neutrality
from backend.market.pooling.collections import COLLECTIONS as POOLING_COLLECTIONS
from backend.market.pooling.doors import Pooling, open_pooling
from backend.market.retirement.documents import COLLECTIONS as RETIREMENT_COLLECTIONS
from backend.market.retirement.model import CreditFacts
from backend.market.retirement.service import Asking, Retirement
from backend.market.serials.store import COLLECTIONS as SERIAL_COLLECTIONS
from backend.market.serials.store import find_owners

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.ledger.model import Asset, OwnerId
    from backend.ledger.service import Ledger
    from backend.market.exchange.service import Orders
    from backend.market.settings import MarketSettings
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions
    from backend.rules.service import Rules
    from backend.valkey.channels import Channels
    from backend.valkey.leases import Leases
    from backend.valkey.nudges import Nudges

COLLECTIONS = (
    *SERIAL_COLLECTIONS,
    *POOLING_COLLECTIONS,
    *FUND_COLLECTIONS,
    *BENEFIT_COLLECTIONS,
    *RETIREMENT_COLLECTIONS,
    *NEUTRALITY_COLLECTIONS,
    *EXCHANGE_COLLECTIONS,
)


@dataclass(frozen=True)
class Market:
    """Every door of the market."""

    settings: MarketSettings
    enterprises: Enterprises
    deposits: Deposits
    payouts: Payouts
    benefits: Benefits
    paying: Paying
    pooling: Pooling
    retirement: Retirement
    neutrality: Neutrality
    exchange: Exchange

    @property
    def orders(self) -> Orders:
        """The traders' door to the exchange."""
        return self.exchange.orders


@dataclass(frozen=True)
class Ground:
    """What the market stands on; ``programme`` is its code, ``nudges`` wake the matchers."""

    settings: MarketSettings
    programme: str
    zone: ZoneInfo
    database: Database
    transactions: Transactions
    clock: Clock
    identity: Identity
    rules: Rules
    ledger: Ledger
    leases: Leases
    channels: Channels
    lookup_key: bytes
    nudges: Nudges


def open_market(ground: Ground) -> Market:
    """The rooms, joined."""
    stored: dict[str, Any] = {
        "database": ground.database,
        "transactions": ground.transactions,
        "clock": ground.clock,
    }
    posting: dict[str, Any] = {**stored, "ledger": ground.ledger, "zone": ground.zone}
    sharing: dict[str, Any] = {**stored, "ledger": ground.ledger, "stream_shares": Shares(ground.database).stream}
    enterprises = Enterprises(**stored)
    pooling = open_pooling(
        settings=ground.settings,
        programme=ground.programme,
        zone=ground.zone,
        rules=ground.rules,
        ledger=ground.ledger,
        leases=ground.leases,
        lookup_key=ground.lookup_key,
        **stored,
    )
    exchange = _exchange(ground, pooling, enterprises)
    retirement = _retirement(ground, pooling, enterprises)
    return Market(
        settings=ground.settings,
        enterprises=enterprises,
        deposits=Deposits(identity=ground.identity, **posting),
        payouts=Payouts(lookup_key=ground.lookup_key, **posting),
        benefits=Benefits(points_per_yuan=ground.settings.points_per_yuan, **sharing),
        paying=Paying(leases=ground.leases, **sharing),
        pooling=pooling,
        retirement=retirement,
        neutrality=Neutrality(
            database=ground.database,
            ledger=ground.ledger,
            clock=ground.clock,
            settings=ground.settings,
            buying=ExchangeBuying(exchange.orders),
            retirement=retirement,
        ),
        exchange=exchange,
    )


def _exchange(ground: Ground, pooling: Pooling, enterprises: Enterprises) -> Exchange:
    async def is_issued(credit: Asset) -> bool:
        [owner] = await find_owners(ground.database, credit, [1])
        return owner is not None and not await pooling.batches.is_under_way(credit.removeprefix(CREDIT))

    return open_exchange(
        settings=ground.settings,
        zone=ground.zone,
        database=ground.database,
        transactions=ground.transactions,
        clock=ground.clock,
        ledger=ground.ledger,
        leases=ground.leases,
        channels=ground.channels,
        nudges=ground.nudges,
        is_issued=is_issued,
        find_barred=enterprises.find_barred,
    )


def _retirement(ground: Ground, pooling: Pooling, enterprises: Enterprises) -> Retirement:
    async def name_of(owner: OwnerId) -> str | None:
        kind, _, name = owner.partition(":")
        if kind == "citizen":
            citizen = (await ground.identity.find_citizens([CitizenId(name)])).get(CitizenId(name))
            return citizen.display_name if citizen else None
        if kind == "enterprise":
            enterprise = (await enterprises.find_enterprises([EnterpriseId(name)])).get(EnterpriseId(name))
            return enterprise.name if enterprise else None
        return None

    async def describe(credit: Asset) -> CreditFacts | None:
        batch = await pooling.batches.find(None, credit.removeprefix(CREDIT))
        if batch is None or batch.issue is None or batch.verdict is None:
            return None
        return CreditFacts(
            project=batch.project,
            methodologies=batch.issue.methodologies,
            vintage=batch.vintage,
            verifier=batch.verdict.organisation,
            report=batch.verdict.report_hash,
        )

    return Retirement(
        database=ground.database,
        transactions=ground.transactions,
        ledger=ground.ledger,
        clock=ground.clock,
        zone=ground.zone,
        programme=ground.programme,
        number_key=ground.lookup_key,
        asking=Asking(summarise=pooling.origins.summarise_acts, describe=describe, name_of=name_of),
    )
