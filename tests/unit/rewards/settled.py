"""A merchant and a statement of theirs, as tests of settlement take them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from backend.kernel.errors import Text
from backend.rewards.merchants.model import Merchant, MerchantId, MerchantStage
from backend.rewards.settlement.model import (
    Difference,
    Statement,
    StatementKind,
    StatementStage,
    Sums,
    Totals,
)

# Monday, 2 November 2026, 00:00 in Shanghai.
BEGIN = datetime(2026, 11, 1, 16, tzinfo=UTC)
TEA = MerchantId("tea")


def merchant() -> Merchant:
    """A tea house."""
    return Merchant(
        id=TEA,
        name=Text("茶铺", "Tea house"),
        legal_name="深圳茶铺有限公司",
        credit_code="91440300MA5F0L1C2X",
        contact_name="李",
        contact_phone="0755-1234567",
        stage=MerchantStage.APPROVED,
        reason=None,
        contracts=(),
        shops=(),
        registered_at=BEGIN,
        registered_by="staff:root",
        version=1,
    )


def statement(**changes: Any) -> Statement:
    """The tea house's third statement: 12.05 yuan gross, 2.00 yuan owed from before."""
    given: dict[str, Any] = {
        "merchant": TEA,
        "number": 3,
        "kind": StatementKind.REGULAR,
        "since": BEGIN,
        "until": BEGIN + timedelta(days=7),
        "corrects": None,
        "totals": Totals(captures=Sums(2, 1_700, 1_210), refunds=Sums(1, 10, 5), commission_fen=30),
        "adjustment_fen": 0,
        "reason": None,
        "brought_forward_fen": -200,
        "lines": 3,
        "checksum": "c0ffee" * 10 + "c0de",
        "stage": StatementStage.READY,
        "difference": Difference(points=0, fen=0, captures=Sums(), refunds=Sums()),
        "made_at": BEGIN + timedelta(days=7, minutes=15),
        "made_by": None,
    }
    return Statement(**{**given, **changes})
