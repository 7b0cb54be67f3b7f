"""Makes the rooms of the market out of what the process has: the only place that knows how they are joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.market.serials.store import COLLECTIONS as SERIAL_COLLECTIONS

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.ledger.service import Ledger
    from backend.market.settings import MarketSettings
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions
    from backend.rules.service import Rules
    from backend.valkey.channels import Channels
    from backend.valkey.leases import Leases
    from backend.valkey.nudges import Nudges

COLLECTIONS = (*SERIAL_COLLECTIONS,)


@dataclass(frozen=True)
class Market:
    """Every door of the market."""

    settings: MarketSettings


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
    return Market(settings=ground.settings)
