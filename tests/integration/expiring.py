"""What tests of the expiry run share: neighbours of one shard, their pages, and whether anything is left to do."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from backend.kernel.ids import shard_of
from backend.ledger.expiry import Expiry
from backend.ledger.model import TransactionKind
from backend.mongo.transactions import Transactions
from backend.valkey.leases import Leases
from tests.conftest import dump
from tests.factories import earning, owner, replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from backend.kernel.clock import Clock
    from backend.ledger.model import Page
    from backend.runtime import Services

Kind = TransactionKind
ALICE = owner("alice")
HOUR, DAY, INSTANT = timedelta(hours=1), timedelta(days=1), timedelta(milliseconds=1)
NOVEMBER = datetime(2026, 11, 21, 4, tzinfo=UTC)
# Midnight in Asia/Shanghai is 16:00 UTC.
END = datetime(2028, 11, 30, 16, tzinfo=UTC)
# Ten citizens of one shard.
SHARD = shard_of(ALICE)
NEIGHBOURS = [name for name in (f"n{number}" for number in range(3_000)) if shard_of(owner(name)) == SHARD][:10]


def expiry(
    services: Services, *, batch: int = 250, ledger: Any = None, redis: Redis | None = None, clock: Clock | None = None
) -> Expiry:
    """The expiry run with these collaborators."""
    return Expiry(
        services.database,
        Transactions(services.database),
        ledger or services.ledger,
        Leases(redis or services.valkey),
        clock or services.clock,
        batch=batch,
    )


async def page(services: Services, name: str = "alice") -> Page:
    """The citizen's page."""
    return await services.ledger.get_page(owner(name))


async def ended(services: Services) -> Counter[str]:
    """How many transactions of each kind that ends something stand in the book."""
    documents = (await dump(services))["ledger_transactions"]
    return Counter(item["kind"] for item in documents if item["kind"] in {Kind.EXPIRE, Kind.LAPSE})


async def assert_nothing_due(services: Services) -> None:
    """No page waits, and the book adds up."""
    now = services.clock.now()
    pages = (await dump(services))["ledger_pages"]
    due = [document["_id"] for document in pages if document["due_at"] is not None and document["due_at"] <= now]
    findings = (await replay(services)).findings
    assert (due, findings) == ([], []), (due, findings)


async def earn(services: Services, names: Sequence[str], amount: int = 10) -> None:
    """New points for each of them."""
    for name in names:
        await services.ledger.post(earning(f"earn-{name}", name, amount))
