"""Certificates as they may be, for tests of what is printed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from backend.kernel.errors import Text
from backend.kernel.ids import CitizenId, TransactionId
from backend.ledger.model import citizen_owner, credit_asset
from backend.market.pooling.model import ActsSummary, KindSum
from backend.market.retirement.model import (
    Beneficiary,
    Certificate,
    CertificateId,
    CreditFacts,
    Origin,
    RetirementPurpose,
)
from backend.market.retirement.wording import Seal, Setting
from backend.market.serials.model import SerialRange

ZONE = ZoneInfo("Asia/Shanghai")
SETTING = Setting(
    programme=Text("碳惠宜", "Tanhuiyi (Zhenjiang)"),
    kinds={"metro_ride": Text("地铁出行", "Metro ride"), "bus_ride": Text("公交出行", "Bus ride")},
    zone=ZONE,
    url="https://tanhui.example",
)
SEAL = Seal(1_042, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")


def certificate(**changes: Any) -> Certificate:
    """The spring marathon's, of 1.25 tonnes out of two ranges."""
    given: dict[str, Any] = {
        "id": CertificateId("crt_1"),
        "number": "TH-ZHENJIANG-2026-7K3M9QX2",
        "owner": citizen_owner(CitizenId("alice")),
        "owner_name": None,
        "beneficiary": Beneficiary("Zhenjiang Spring Marathon", "镇江春季马拉松"),
        "purpose": RetirementPurpose.EVENT,
        "statement": "抵消 2026 镇江春季马拉松全体参赛者与观众的往返交通排放。",
        "credit": credit_asset("zhenjiang-conservative-transit-2026-001"),
        "grams": 1_250_000,
        "serials": (SerialRange(1, 1_000_000), SerialRange(2_000_001, 2_250_000)),
        "transaction": TransactionId("tx_0123456789abcdef0123456789abcdef"),
        "at": datetime(2026, 11, 20, 17, 30, tzinfo=UTC),
        "payload": "0" * 64,
        "origin": Origin(
            CreditFacts(
                project=Text("镇江公共交通减排", "Zhenjiang public transport"),
                methodologies=("深圳市低碳公共出行碳普惠方法学", "T/ACEF 107-2023"),
                vintage=2026,
                verifier="江苏绿色认证有限公司",
                report="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            ),
            ActsSummary(
                kinds=(KindSum("metro_ride", 2_104, 980_000), KindSum("bus_ride", 1_210, 270_000)),
                citizens=312,
                acts=3_314,
                first=datetime(2026, 1, 3, tzinfo=UTC),
                last=datetime(2026, 3, 30, tzinfo=UTC),
            ),
        ),
    }
    return Certificate(**{**given, **changes})
