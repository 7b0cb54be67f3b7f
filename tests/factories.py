"""Functions that make domain values with sensible defaults."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backend.actions.model import ActionRequest
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.clock import SystemClock
from backend.kernel.ids import CitizenId
from backend.kernel.units import Unit
from backend.ledger.invariants import audit_ledger
from backend.ledger.model import MINTS, POINTS, Posting, Transaction, TransactionKind, account_of, citizen_owner

if TYPE_CHECKING:
    from backend.ledger.invariants import Audit
    from backend.ledger.model import Asset
    from backend.runtime import Services

ADMIN = Principal(PrincipalKind.STAFF, "root", frozenset({StaffRole.ADMIN}))


def citizen(name: str = "alice") -> Principal:
    """A citizen as principal."""
    return Principal(PrincipalKind.CITIZEN, name)


def partner(name: str = "metro") -> Principal:
    """A partner as principal."""
    return Principal(PrincipalKind.PARTNER, name)


def bus_ride(ref: str = "ride-1", **changes: Any) -> ActionRequest:
    """A bus ride an hour ago, from the citizen's own app."""
    given: dict[str, Any] = {
        "kind": "bus_ride",
        "quantity": 1,
        "unit": Unit.COUNT,
        "occurred_at": SystemClock().now() - timedelta(hours=1),
        "source": "app",
        "ref": ref,
    }
    return ActionRequest(**{**given, **changes})


def earning(key: str = "earn-1", name: str = "alice", amount: int = 100, asset: Asset = POINTS) -> Transaction:
    """New ``asset`` for a citizen."""
    owner = citizen_owner(CitizenId(name))
    posting = Posting(from_account=MINTS[asset], to_account=account_of(owner, asset), asset=asset, amount=amount)
    return Transaction(key=key, kind=TransactionKind.EARN, postings=(posting,))


async def replay(services: Services) -> Audit:
    """The ledger's own audit: what these tests post stands for no action, which the whole audit would ask for."""
    async with services.database.snapshot() as snapshot:
        return await audit_ledger(snapshot)


def transfer(key: str = "pay-1", payer: str = "alice", payee: str = "bob", amount: int = 10) -> Transaction:
    """Points from one citizen to another."""
    accounts = [account_of(citizen_owner(CitizenId(name)), POINTS) for name in (payer, payee)]
    posting = Posting(from_account=accounts[0], to_account=accounts[1], asset=POINTS, amount=amount)
    return Transaction(key=key, kind=TransactionKind.TRANSFER, postings=(posting,))
