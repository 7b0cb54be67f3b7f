"""Who may own and trade credits, and in whose name somebody acts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind
from backend.kernel.errors import Text
from backend.ledger.model import OwnerId, citizen_owner, enterprise_owner, pool_owner

if TYPE_CHECKING:
    from backend.identity.model import Principal

TRADING = Text("持有与交易减排量", "owning and trading credits")


def owner_of(principal: Principal, pool: str | None = None) -> OwnerId:
    """In whose name the principal acts: a citizen and an enterprise in their own, an administrator for a pool (batch).

    Raises:
        ForbiddenError: anybody else, or a pool in the name of somebody who is no administrator.
    """
    if pool is not None and principal.is_admin:
        return pool_owner(pool)
    if pool is None and principal.citizen is not None:
        return citizen_owner(principal.citizen)
    if pool is None and principal.kind is PrincipalKind.ENTERPRISE:
        return enterprise_owner(principal.id)
    raise ForbiddenError(TRADING)
