"""adjustPoints: staff correct points, the citizen reads why; a refusal leaves the database as it was."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.crypto import keyed_hash, load_lookup_key
from backend.ledger.model import TransactionKind
from tests.api.point_documents import BOB, ask, refused
from tests.conftest import dump
from tests.factories import earning, replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio


async def test_staff_correct_points_for_a_reason_the_citizen_reads(
    api: Api, services: Services, token_for: Callable[..., str], clock: ManualClock
) -> None:
    admin = token_for("admin", "root")
    for _ in range(2):
        given = (await ask(api, "adjustPoints", admin, points=100)).result
        given.pop("transactionId")
        assert given == {
            "__typename": "PointsAdjustment",
            "citizen": {"pointsBalance": 100, "pointsAvailable": 100, "pointsOwed": 0},
        }
    clock.advance(timedelta(seconds=1))
    taken = (
        await ask(api, "adjustPoints", admin, points=-130, citizen="alice", key="key-0002", reason="重复发放")
    ).result
    # More was taken back than there was: the citizen owes the rest, and what comes next goes there first.
    assert taken["citizen"] == {"pointsBalance": 0, "pointsAvailable": 0, "pointsOwed": 30}
    more = (await ask(api, "adjustPoints", admin, points=50, key="key-0003")).result
    assert more["citizen"] == {"pointsBalance": 20, "pointsAvailable": 20, "pointsOwed": 0}
    document = "{ viewer { ... on Citizen { statement { nodes { kind change balance owed note } } } } }"
    lines = (await api.post(document, token=token_for("citizen", "alice"))).result["statement"]["nodes"]
    assert [(line["kind"], line["change"], line["balance"], line["owed"], line["note"]) for line in lines] == [
        ("REPAY", -30, 20, 0, None),
        ("ADJUST", 50, 50, 30, "客服工单 42"),
        ("ADJUST", -130, 0, 30, "重复发放"),
        ("LEND", 30, 130, 30, None),
        ("ADJUST", 100, 100, 0, "客服工单 42"),
    ]
    found = (await dump(services))["ledger_transactions"]
    causes = [document["cause"] for document in found if document["kind"] == TransactionKind.ADJUST]
    # The citizen sees the cause: the staff member stands there by a pseudonym that only the programme can make.
    [pseudonym] = {cause["staff"] for cause in causes}
    lookup_key = load_lookup_key(services.settings.keys_dir / "lookup.key")
    assert pseudonym == keyed_hash(lookup_key, "staff", "root")[:32]
    assert (await replay(services)).findings == []


async def test_a_correction_may_name_what_it_corrects(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    admin = token_for("admin", "root")
    wrong = await services.ledger.post(earning(amount=100))
    given = {"points": -60, "corrects": wrong}
    corrected = (await ask(api, "adjustPoints", admin, **given)).result
    assert corrected["citizen"]["pointsBalance"] == 40
    document = "{ viewer { ... on Citizen { statement(first: 1) { nodes { kind change corrects } } } } }"
    (line,) = (await api.post(document, token=token_for("citizen", "alice"))).result["statement"]["nodes"]
    assert line == {"kind": "ADJUST", "change": -60, "corrects": wrong}
    too_much = (
        "OVER_CORRECTED",
        f"交易 {wrong} 仅余 40 可更正，不足 60",
        f"transaction {wrong} has 40 left to correct, not 60",
    )
    await refused(api, services, "adjustPoints", admin, too_much, **given, key="key-0002")
    for missing in ("tx_of-nobody", corrected["transactionId"][:-1]):
        unknown = (
            "NOT_CORRECTABLE",
            f"交易 {missing} 不能这样更正",
            f"transaction {missing} cannot be corrected so",
        )
        await refused(api, services, "adjustPoints", admin, unknown, key="key-0002", points=-1, corrects=missing)


RANGE = "±1–1000000000000"
REASON = ("1–200 个字符，不含控制字符", "1–200 characters, none of them control characters")
CORRECTIONS_REFUSED: list[tuple[dict[str, Any], tuple[str, str, str]]] = [
    ({"points": 0}, ("INVALID_INPUT", f"字段 points 无效：{RANGE}", f"field points is invalid: {RANGE}")),
    ({"points": 10**12 + 1}, ("INVALID_INPUT", f"字段 points 无效：{RANGE}", f"field points is invalid: {RANGE}")),
    ({"points": -(2**63)}, ("INVALID_INPUT", f"字段 points 无效：{RANGE}", f"field points is invalid: {RANGE}")),
    ({"reason": " "}, ("INVALID_INPUT", f"字段 reason 无效：{REASON[0]}", f"field reason is invalid: {REASON[1]}")),
    (
        {"reason": "x" * 201},
        ("INVALID_INPUT", f"字段 reason 无效：{REASON[0]}", f"field reason is invalid: {REASON[1]}"),
    ),
    (
        {"corrects": "tx 1"},
        (
            "INVALID_INPUT",
            "字段 corrects 无效：1–64 个字母、数字、点、横线或下划线",
            "field corrects is invalid: 1–64 letters, digits, dots, dashes and underscores",
        ),
    ),
    (
        {"citizen": "carol"},
        ("INVALID_INPUT", "字段 citizen 无效：没有这位市民", "field citizen is invalid: no such citizen"),
    ),
    (
        {"citizen": "a:b"},
        (
            "INVALID_INPUT",
            "字段 citizen 无效：1–64 个字母、数字、点、横线或下划线",
            "field citizen is invalid: 1–64 letters, digits, dots, dashes and underscores",
        ),
    ),
    (
        {"key": "used-key", "points": 6},
        (
            "IDEMPOTENCY_CONFLICT",
            "幂等键 used-key 已用于内容不同的请求",
            "idempotency key used-key was already used with another payload",
        ),
    ),
    (
        {"key": "used-key", "citizen": BOB},
        (
            "IDEMPOTENCY_CONFLICT",
            "幂等键 used-key 已用于内容不同的请求",
            "idempotency key used-key was already used with another payload",
        ),
    ),
]


async def test_a_correction_is_refused_in_both_languages(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    admin = token_for("admin", "root")
    await ask(api, "adjustPoints", admin, key="used-key")
    for given, expected in CORRECTIONS_REFUSED:
        await refused(api, services, "adjustPoints", admin, expected, **given)
