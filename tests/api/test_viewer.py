"""viewer and programme: who asks, in which language, and what only they and staff may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from schemas.operations import read_operation
from schemas.relay import to_global_id
from tests.api.documents import HOME, RECORD, ride
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]
WHO = "{ viewer { __typename kind ... on Citizen { displayName district } ... on Staff { roles } } }"
PROGRAMME = "{ programme { code name timeZone profile districts intakeWindowDays } }"
BALANCES = read_operation("Balances")


@pytest.mark.parametrize(
    ("role", "subject", "shown"),
    [
        (
            "citizen",
            "alice",
            {"__typename": "Citizen", "kind": "CITIZEN", "displayName": "王芳", "district": "京口区"},
        ),
        ("partner", "metro", {"__typename": "Partner", "kind": "PARTNER"}),
        ("merchant", "bakery", {"__typename": "Merchant", "kind": "MERCHANT"}),
        ("enterprise", "steelworks", {"__typename": "Enterprise", "kind": "ENTERPRISE"}),
        ("admin", "root", {"__typename": "Staff", "kind": "STAFF", "roles": ["admin"]}),
        ("reviewer", "rita", {"__typename": "Staff", "kind": "STAFF", "roles": ["reviewer"]}),
        ("verifier", "vera", {"__typename": "Staff", "kind": "STAFF", "roles": ["verifier"]}),
        ("citizen", "nobody-registered", None),
    ],
)
async def test_the_viewer_is_who_the_token_speaks_for(
    role: str, subject: str, shown: dict[str, Any] | None, api: Api, token_for: Callable[..., str]
) -> None:
    assert (await api.post(WHO, token=token_for(role, subject))).result == shown


async def test_nobody_is_no_viewer(api: Api) -> None:
    answer = await api.post(WHO)
    assert answer.status == 200
    assert answer.body["data"] == {"viewer": None}
    assert answer.refusal == ("UNAUTHENTICATED", "sign in first (no token)")
    assert answer.body["errors"][0]["path"] == ["viewer"]


async def test_the_home_screen_shows_balances_and_reasons(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    for number in range(5):
        await api.post(RECORD, ride(f"ride-{number}"), token=token)
    await services.settling.settle(ALL_SHARDS)
    before = await dump(services)
    home = (await api.post(HOME, {"first": 5}, token=token)).result
    assert home["id"] == to_global_id("Citizen", "alice")
    assert (home["pointsBalance"], home["reduction"]) == (160, {"quantifiedMg": 0, "recognisedMg": 160_000})
    nodes = [edge["node"] for edge in home["actions"]["edges"]]
    assert sorted((node["status"], node["points"], node["reasonCode"], node["reason"]) for node in nodes) == sorted(
        [("CREDITED", 40, None, None)] * 4 + [("REJECTED", 0, "CAP_REACHED", "the daily limit is used up")],
        key=str,
    )
    chinese = (await api.post(HOME, {"first": 5}, token=token, language="zh-Hans-CN")).result
    reasons = {edge["node"]["reason"] for edge in chinese["actions"]["edges"]}
    assert reasons == {None, "当日可计入的额度已用完"}
    assert await dump(services) == before


@pytest.mark.parametrize(
    ("role", "subject", "sees"),
    [
        ("citizen", "alice", ["alice"]),
        ("citizen", "bob", ["bob"]),
        ("partner", "alice", []),
        ("merchant", "alice", []),
        ("enterprise", "alice", []),
        ("admin", "root", ["alice", "bob"]),
        ("reviewer", "rita", ["alice", "bob"]),
        ("verifier", "vera", ["alice", "bob"]),
    ],
)
async def test_balances_are_seen_by_their_citizen_and_staff(
    role: str, subject: str, sees: list[str], api: Api, token_for: Callable[..., str]
) -> None:
    ids = [to_global_id("Citizen", name) for name in ("alice", "bob")]
    found = (await api.post(BALANCES, {"ids": ids}, token=token_for(role, subject))).result
    expected = [
        {
            "id": global_id,
            "displayName": {"alice": "王芳", "bob": "李伟"}[name],
            "pointsBalance": 0,
            "pointsAvailable": 0,
            "pointsHeld": 0,
            "pointsOwed": 0,
            "reduction": {"quantifiedMg": 0, "recognisedMg": 0},
        }
        if name in sees
        else None
        for name, global_id in zip(("alice", "bob"), ids, strict=True)
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        (None, "碳惠宜"),
        ("zh", "碳惠宜"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "碳惠宜"),
        ("zh-TW", "碳惠宜"),
        ("en", "Tanhuiyi (Zhenjiang)"),
        ("EN-gb", "Tanhuiyi (Zhenjiang)"),
        ("fr-FR, en;q=0.5", "Tanhuiyi (Zhenjiang)"),
        ("fr", "碳惠宜"),
        ("*", "碳惠宜"),
        (";;,q", "碳惠宜"),
    ],
)
async def test_anybody_may_read_the_programme_in_their_language(accept: str | None, name: str, api: Api) -> None:
    assert (await api.post(PROGRAMME, language=accept)).result == {
        "code": "zhenjiang",
        "name": name,
        "timeZone": "Asia/Shanghai",
        "profile": "conservative",
        "districts": ["京口区", "润州区", "丹徒区", "镇江新区", "句容市", "丹阳市", "扬中市"],
        "intakeWindowDays": 30,
    }
