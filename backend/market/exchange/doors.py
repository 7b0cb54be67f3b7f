"""Makes the doors of the exchange out of what the market stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.market.exchange.changing import OrderChanging
from backend.market.exchange.desk import MarketDesk
from backend.market.exchange.documents import COLLECTIONS as ORDER_COLLECTIONS
from backend.market.exchange.hours import Timetable
from backend.market.exchange.matching import Matching
from backend.market.exchange.placing import OrderPlacing
from backend.market.exchange.service import MarketData, Orders
from backend.market.exchange.trade_documents import COLLECTIONS as TRADE_COLLECTIONS
from backend.mongo.idempotency import IdempotencyKeys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from zoneinfo import ZoneInfo

    from backend.kernel.clock import Clock
    from backend.kernel.errors import Refusal
    from backend.ledger.model import Asset, OwnerId
    from backend.ledger.service import Ledger
    from backend.market.settings import MarketSettings
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions
    from backend.valkey.channels import Channels
    from backend.valkey.leases import Leases
    from backend.valkey.nudges import Nudges

COLLECTIONS = (*ORDER_COLLECTIONS, *TRADE_COLLECTIONS)


@dataclass(frozen=True)
class Exchange:
    """What traders, staff, workers and everybody find at the exchange."""

    orders: Orders
    desk: MarketDesk
    matching: Matching
    data: MarketData

    async def flush(self) -> None:
        """Wait until every matcher that was woken has been told so."""
        await self.matching.flush()


def open_exchange(
    *,
    settings: MarketSettings,
    zone: ZoneInfo,
    database: Database,
    transactions: Transactions,
    clock: Clock,
    ledger: Ledger,
    leases: Leases,
    channels: Channels,
    nudges: Nudges,
    is_issued: Callable[[Asset], Awaitable[bool]],
    find_barred: Callable[[Iterable[OwnerId]], Awaitable[Mapping[OwnerId, Refusal]]],
) -> Exchange:
    """The doors, joined; ``find_barred`` names those who may not order, and why."""
    hours = Timetable(settings, zone)
    placing = OrderPlacing(
        database=database,
        transactions=transactions,
        ledger=ledger,
        keys=IdempotencyKeys(database),
        clock=clock,
        hours=hours,
        nudges=nudges,
        leases=leases,
        find_barred=find_barred,
    )
    changing = OrderChanging(
        database=database, transactions=transactions, clock=clock, hours=hours, nudges=nudges, leases=leases
    )
    return Exchange(
        orders=Orders(
            database=database, ledger=ledger, channels=channels, clock=clock, placing=placing, changing=changing
        ),
        desk=MarketDesk(transactions=transactions, clock=clock, hours=hours, nudges=nudges, is_issued=is_issued),
        matching=Matching(
            database=database,
            transactions=transactions,
            ledger=ledger,
            leases=leases,
            nudges=nudges,
            channels=channels,
            clock=clock,
            hours=hours,
        ),
        data=MarketData(database, clock, hours),
    )
