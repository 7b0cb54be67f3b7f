"""Makes the doors of pooling out of what the market stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.market.pooling.auditing import Auditing
from backend.market.pooling.consenting import Consents
from backend.market.pooling.contents import Contents
from backend.market.pooling.gathering import Gathering
from backend.market.pooling.issuing import Issuing
from backend.market.pooling.packing import BatchFiles
from backend.market.pooling.returning import Returning
from backend.market.pooling.service import Batches
from backend.market.pooling.tracing import Origins
from backend.market.pooling.verifying import Verifying

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from backend.kernel.clock import Clock
    from backend.ledger.service import Ledger
    from backend.market.settings import MarketSettings
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions
    from backend.rules.service import Rules
    from backend.valkey.leases import Leases


@dataclass(frozen=True)
class Pooling:
    """Every door of pooling; ``gathering`` and ``issuing`` are what ``batches`` lets workers do."""

    consents: Consents
    batches: Batches
    gathering: Gathering
    issuing: Issuing
    verifying: Verifying
    origins: Origins
    files: BatchFiles
    auditing: Auditing


def open_pooling(
    *,
    settings: MarketSettings,
    programme: str,
    zone: ZoneInfo,
    database: Database,
    transactions: Transactions,
    clock: Clock,
    rules: Rules,
    ledger: Ledger,
    leases: Leases,
    lookup_key: bytes,
) -> Pooling:
    """The doors, joined."""
    stored: dict[str, Any] = {"database": database, "transactions": transactions, "clock": clock}
    contents = Contents(database=database, rules=rules, lookup_key=lookup_key)
    returning = Returning(ledger=ledger, threshold_g=settings.aggregation_threshold_g)
    gathering = Gathering(settings=settings, rules=rules, ledger=ledger, zone=zone, returning=returning, **stored)
    issuing = Issuing(ledger=ledger, contents=contents, **stored)
    return Pooling(
        consents=Consents(**stored),
        batches=Batches(
            programme=programme,
            zone=zone,
            rules=rules,
            leases=leases,
            gathering=gathering,
            issuing=issuing,
            contents=contents,
            **stored,
        ),
        gathering=gathering,
        issuing=issuing,
        verifying=Verifying(ledger=ledger, contents=contents, **stored),
        origins=Origins(database=database),
        auditing=Auditing(contents=contents, threshold_g=settings.aggregation_threshold_g),
        files=BatchFiles(settings=settings, database=database, rules=rules, lookup_key=lookup_key),
    )
