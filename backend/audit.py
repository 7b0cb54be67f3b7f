"""The audits of a process: of the book and all that stands beside it at one instant, and following."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.actions.invariants import ActionsAudit
from backend.ledger.audit.follow import Following
from backend.ledger.audit.whole import audit_ledger
from backend.market.benefits.invariants import audit_benefits
from backend.market.exchange.candle_invariants import audit_candles
from backend.market.exchange.invariants import audit_exchange
from backend.market.funds.invariants import audit_funds
from backend.market.neutrality.invariants import audit_neutrality
from backend.market.pooling.invariants import audit_pooling
from backend.market.retirement.invariants import audit_retirement
from backend.market.serials.invariants import audit_serials
from backend.rewards.settlement.invariants import audit_settlement
from backend.rewards.vouchers.invariants import audit_vouchers

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.ledger.audit.findings import Audit
    from backend.ledger.audit.follow_store import Followed
    from backend.runtime import Services

BESIDE_THE_BOOK = (
    audit_vouchers,
    audit_settlement,
    audit_pooling,
    audit_serials,
    audit_funds,
    audit_exchange,
    audit_benefits,
    audit_retirement,
    audit_neutrality,
)


async def audit_books(services: Services, on_progress: Callable[[int], None] | None = None) -> Audit:
    """Replay everything; ``audit.clean`` tells whether it adds up and ``audit.findings`` where it does not."""
    async with services.database.snapshot() as snapshot:
        explains = ActionsAudit(snapshot, services.rules.book, services.programme.zone)
        audit = await audit_ledger(snapshot, on_progress, policy=services.programme.points_policy, explains=explains)
        for check in BESIDE_THE_BOOK:
            await check(snapshot, audit)
        await audit_candles(snapshot, audit, services.programme.zone)
        await services.market.pooling.auditing.check(snapshot, audit)
        return audit


async def follow_books(services: Services) -> Followed:
    """Audit the blocks made since the last time; how far that came, with the number of differences so far.

    Raises:
        UnavailableError: MongoDB does not answer; the next run goes on where this one was.
    """
    return await _following(services).follow()


async def followed_books(services: Services) -> Followed:
    """How far following came the last time."""
    return await _following(services).status()


async def list_alerts(services: Services) -> list[str]:
    """The latest hundred differences that following found, as findings."""
    return await _following(services).list_alerts()


def _following(services: Services) -> Following:
    return Following(services.database, services.clock, services.programme.zone)
