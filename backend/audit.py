"""The whole audit: the book by itself, then actions and claims against the book, all at one instant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.actions.invariants import audit_actions
from backend.ledger.invariants import audit_ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.ledger.invariants import Audit
    from backend.runtime import Services


async def audit_books(services: Services, on_progress: Callable[[int], None] | None = None) -> Audit:
    """Replay everything; ``audit.clean`` tells whether it adds up and ``audit.findings`` where it does not."""
    async with services.database.snapshot() as snapshot:
        audit = await audit_ledger(snapshot, on_progress)
        # Read after the snapshot began: whatever converted its actions is in it, and versions never change.
        book = await services.rules.book()
        audit.actions = await audit_actions(snapshot, book, services.programme.zone, audit)
    return audit
