"""Who records and decides on money and enterprises, and how a request's key and payload are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity.model import StaffRole
from backend.identity.rule_desk import require_staff
from backend.identity.rules import require_idempotency_key, require_note
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import Text
from backend.market.funds.errors import OwnInterestError, OwnProposalError
from backend.market.funds.model import account_of_owner
from backend.market.funds.rules import MAX_REASON
from backend.mongo.idempotency import Use

if TYPE_CHECKING:
    from backend.identity.model import Principal
    from backend.ledger.model import OwnerId

ADMINISTRATORS = frozenset({StaffRole.ADMIN})
FINANCE = frozenset({StaffRole.FINANCE, StaffRole.ADMIN})
ANY_STAFF = frozenset(StaffRole)
RECORDING_MONEY = Text("资金记账", "recording money")


def require_finance(principal: Principal, key: str, *, reason: str | None = None) -> None:
    """Let pass finance staff and administrators who give a key, and a reason where one is given at all.

    Raises:
        InvalidInputError: the key, or a reason beyond 1–500 characters.
        ForbiddenError: anybody else.
    """
    require_idempotency_key(key)
    require_staff(principal, FINANCE, RECORDING_MONEY)
    if reason is not None:
        require_note("reason", reason, limit=MAX_REASON)


def require_other(principal: Principal, proposer: str | None) -> None:
    """Let pass whoever did not propose it.

    Raises:
        OwnProposalError: they did.
    """
    if str(principal) == proposer:
        raise OwnProposalError


def require_disinterested(principal: Principal, owner: OwnerId) -> None:
    """Let pass whoever is not the citizen whose money it is.

    Raises:
        OwnInterestError: they are.
    """
    if principal.id == account_of_owner(owner).citizen:
        raise OwnInterestError


def use_of(principal: Principal, operation: str, key: str, *payload: object) -> Use:
    """The use of the key for an operation with that payload, plain values."""
    return Use(str(principal), operation, key, payload_hash(payload))
