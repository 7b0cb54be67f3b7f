"""In whose name somebody trades."""

from __future__ import annotations

import pytest

from backend.identity.errors import ForbiddenError
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.market.traders import owner_of
from tests.factories import ADMIN, citizen, partner

STEELWORKS = Principal(PrincipalKind.ENTERPRISE, "steelworks")
FINANCE = Principal(PrincipalKind.STAFF, "fang", frozenset({StaffRole.FINANCE}))


def test_everybody_trades_in_their_own_name_and_administrators_for_pools() -> None:
    assert owner_of(citizen("alice")) == "citizen:alice"
    assert owner_of(STEELWORKS) == "enterprise:steelworks"
    assert owner_of(ADMIN, "zj-001") == "pool:zj-001"


@pytest.mark.parametrize(
    ("principal", "pool"),
    [
        (ADMIN, None),
        (FINANCE, None),
        (FINANCE, "zj-001"),
        (citizen(), "zj-001"),
        (STEELWORKS, "zj-001"),
        (partner(), None),
        (Principal(PrincipalKind.MERCHANT, "chen"), None),
    ],
)
def test_nobody_else_trades(principal: Principal, pool: str | None) -> None:
    with pytest.raises(ForbiddenError):
        owner_of(principal, pool)
