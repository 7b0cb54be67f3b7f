"""Webhooks over the API: endpoints and their secrets, what is sent to them, replays; who may, each refusal, keys."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.api.documents import shown
from tests.api.reward_documents import (
    DELIVERY,
    ENDPOINT,
    KEY,
    SIGN_IN,
    Told,
    ask,
    denials,
    everything,
    outcome,
    refused,
)
from tests.api.selling import OWNER, PEOPLE, Town
from tests.integration.receiving import receiving, signed_by
from tests.unit.rewards.trading import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

URL = "https://erp.example.cn/tanhui"
TYPES = ["VOUCHER_CAPTURED", "VOUCHER_REFUNDED"]
DESK = f"""
query ($stage: WebhookDeliveryStage, $endpoint: ID, $first: Int, $after: String) {{
  merchantDesk {{
    webhookEndpoints {{ {ENDPOINT} }}
    webhookDeliveries(stage: $stage, endpoint: $endpoint, first: $first, after: $after) {{
      nodes {{ {DELIVERY} }} pageInfo {{ endCursor hasNextPage }}
    }}
  }}
}}
"""
GOOD: dict[str, dict[str, Any]] = {
    "createWebhookEndpoint": {"url": URL, "types": TYPES, "description": "收银系统"},
    "updateWebhookEndpoint": {
        "endpoint": "whe_none",
        "url": URL,
        "types": TYPES,
        "description": "",
        "stage": "ACTIVE",
    },
    "rotateWebhookSecret": {"endpoint": "whe_none"},
    "deleteWebhookEndpoint": {"endpoint": "whe_none"},
    "testWebhookEndpoint": {"endpoint": "whe_none"},
    "replayWebhookDelivery": {"delivery": "whd_none"},
    "replayDeadWebhooks": {"endpoint": "whe_none", "since": "2026-11-01T00:00:00+08:00"},
}
UNKNOWN = ("UNKNOWN_ENDPOINT", "该商户没有回调地址 whe_none", "the merchant has no webhook endpoint whe_none")
CONFLICT = (
    "IDEMPOTENCY_CONFLICT",
    f"幂等键 {KEY} 已用于内容不同的请求",
    f"idempotency key {KEY} was already used with another payload",
)


@pytest.fixture
async def town(services: Services, token_for: Callable[..., str]) -> Town:
    """A town where alice has a thousand points."""
    made = await Town(services, token_for).open()
    await made.earn()
    return made


async def send(api: Api, town: Town, name: str, *, who: str = "owner", key: str = KEY, **given: Any) -> Any:
    """What an owner's mutation answers, its input good but for what is given."""
    return (await ask(api, name, town.token(who), key=key, **{**GOOD[name], **given})).result


async def created(api: Api, town: Town, **given: Any) -> Any:
    """A new endpoint of the tea house, with its secret."""
    return await send(api, town, "createWebhookEndpoint", key=town.key(), **given)


async def desk(api: Api, town: Town, who: str = "owner", **variables: Any) -> Any:
    """What the desk shows of webhooks."""
    return (await api.post(DESK, variables, token=town.token(who))).result


async def test_an_endpoint_is_made_written_anew_and_forgotten(api: Api, town: Town, services: Services) -> None:
    made = await send(api, town, "createWebhookEndpoint")
    assert made["secret"].startswith("whsec_")
    endpoint = made["endpoint"]
    assert endpoint.pop("id").startswith("whe_")
    assert endpoint == {
        "url": URL,
        "types": TYPES,
        "description": "收银系统",
        "stage": "ACTIVE",
        "reason": None,
        "createdAt": shown(services.clock.now()),
        "failingSince": None,
        "oldSecretUntil": None,
    }
    [listed] = (await desk(api, town))["webhookEndpoints"]
    name = listed.pop("id")
    assert listed == endpoint
    changes = {"types": ["SETTLEMENT_READY"], "description": "", "stage": "DISABLED"}
    changed = await send(api, town, "updateWebhookEndpoint", endpoint=name, **changes)
    assert changed == {"__typename": "WebhookEndpoint", "id": name, **endpoint, **changes, "reason": "OWNER"}
    gone = await send(api, town, "deleteWebhookEndpoint", endpoint=name)
    assert gone == {"__typename": "WebhookEndpointDeleted", "endpoint": name}
    assert (await desk(api, town))["webhookEndpoints"] == []


async def test_a_secret_is_told_when_it_is_made_and_to_who_repeats_that(
    api: Api, town: Town, clock: ManualClock
) -> None:
    made = await send(api, town, "createWebhookEndpoint")
    name = made["endpoint"]["id"]
    before = await everything(town)
    assert await send(api, town, "createWebhookEndpoint") == made
    assert await everything(town) == before
    rotated = await send(api, town, "rotateWebhookSecret", endpoint=name)
    assert rotated["secret"] != made["secret"]
    assert rotated["endpoint"]["oldSecretUntil"] == shown(clock.now() + timedelta(hours=24))
    before = await everything(town)
    assert await send(api, town, "rotateWebhookSecret", endpoint=name) == rotated
    assert await everything(town) == before
    clock.advance(timedelta(hours=24))
    assert (await desk(api, town))["webhookEndpoints"][0]["oldSecretUntil"] is None


async def test_a_capture_reaches_the_merchants_system_signed_and_is_listed(
    api: Api, town: Town, services: Services
) -> None:
    async with receiving() as till:
        made = await created(api, town, url=till.url("/hook"))
        voucher = await town.capture(await town.redeem())
        await services.rewards.flush()
        assert await services.rewards.webhooks.deliver_due() == 1
        [call] = till.calls
    assert signed_by(call, made["secret"])
    body = orjson.loads(call.body)
    assert (body["type"], body["data"]["voucher"], body["data"]["points"]) == ("voucher.captured", voucher.id, 500)
    [delivery] = (await desk(api, town))["webhookDeliveries"]["nodes"]
    [attempt] = delivery.pop("tries")
    assert attempt.pop("tookMs") >= 0
    assert attempt == {"at": shown(services.clock.now()), "status": 200, "fault": None}
    assert delivery.pop("id").startswith("whd_")
    assert delivery == {
        "endpoint": made["endpoint"]["id"],
        "event": call.headers["webhook-id"],
        "type": "VOUCHER_CAPTURED",
        "body": call.body,
        "at": shown(services.clock.now()),
        "stage": "DELIVERED",
        "dueAt": None,
        "attempts": 1,
    }
    assert (await desk(api, town, "other merchant"))["webhookDeliveries"]["nodes"] == []


async def test_a_try_and_a_replay_are_sent_once_a_key(api: Api, town: Town, services: Services) -> None:
    async with receiving() as till:
        made = await created(api, town, url=till.url("/hook"))
        name = made["endpoint"]["id"]
        tried = await send(api, town, "testWebhookEndpoint", endpoint=name)
        assert (tried["type"], tried["stage"], tried["attempts"]) == ("WEBHOOK_TEST", "PENDING", 0)
        before = await everything(town)
        assert await send(api, town, "testWebhookEndpoint", endpoint=name) == tried
        assert await everything(town) == before
        assert await services.rewards.webhooks.deliver_due() == 1
        again = await send(api, town, "replayWebhookDelivery", delivery=tried["id"])
        assert (again["id"], again["stage"], len(again["tries"])) == (tried["id"], "PENDING", 1)
        before = await everything(town)
        assert await send(api, town, "replayWebhookDelivery", delivery=tried["id"]) == again
        assert await everything(town) == before
        assert await services.rewards.webhooks.deliver_due() == 1
        assert [call.headers["webhook-id"] for call in till.calls] == [tried["event"]] * 2


async def test_what_died_is_listed_by_stage_and_endpoint_and_sent_again_together(
    api: Api, town: Town, services: Services, clock: ManualClock
) -> None:
    async with receiving() as till:
        # 410 Gone: the endpoint is disabled, and what waits for it is dead.
        till.answers["/gone"] = ["410 Gone"]
        gone, kept = [(await created(api, town, url=till.url(path)))["endpoint"]["id"] for path in ("/gone", "/kept")]
        for _ in range(2):
            await send(api, town, "testWebhookEndpoint", endpoint=gone, key=town.key())
            clock.advance(timedelta(minutes=1))
        await send(api, town, "testWebhookEndpoint", endpoint=kept, key=town.key())
        await services.rewards.webhooks.deliver_due()
        clock.advance(timedelta(seconds=10))
        await services.rewards.webhooks.deliver_due()
        dead = (await desk(api, town, stage="DEAD", first=1))["webhookDeliveries"]
        assert (dead["nodes"][0]["endpoint"], dead["pageInfo"]["hasNextPage"]) == (gone, True)
        rest = (await desk(api, town, stage="DEAD", after=dead["pageInfo"]["endCursor"]))["webhookDeliveries"]
        assert ([node["endpoint"] for node in rest["nodes"]], rest["pageInfo"]["hasNextPage"]) == ([gone], False)
        assert [node["stage"] for node in (await desk(api, town, endpoint=kept))["webhookDeliveries"]["nodes"]] == [
            "DELIVERED"
        ]
        given = {"endpoint": gone, "since": shown(services.clock.now() - timedelta(hours=1))}
        disabled = (
            "ENDPOINT_DISABLED",
            f"回调地址 {gone} 已停用，请先启用",
            f"the webhook endpoint {gone} is disabled; enable it first",
        )
        await refused(api, town, "replayDeadWebhooks", disabled, who="owner", **given)
        await refused(api, town, "testWebhookEndpoint", disabled, who="owner", endpoint=gone)
        await refused(api, town, "replayWebhookDelivery", disabled, who="owner", delivery=dead["nodes"][0]["id"])
        await send(api, town, "updateWebhookEndpoint", endpoint=gone, url=till.url("/back"))
        assert (await send(api, town, "replayDeadWebhooks", **given))["count"] == 2
        before = await everything(town)
        assert (await send(api, town, "replayDeadWebhooks", **given))["count"] == 0
        assert await everything(town) == before
        await refused(api, town, "replayDeadWebhooks", CONFLICT, who="owner", **{**given, "endpoint": kept})
        assert await services.rewards.webhooks.deliver_due() == 2
        assert len(till.bodies("/back")) == 2


REFUSALS: dict[str, tuple[str, dict[str, Any], Told]] = {
    "another scheme": (
        "createWebhookEndpoint",
        {"url": "ftp://erp.example.cn"},
        ("INVALID_INPUT", "字段 url 无效：须以 https:// 开头", "field url is invalid: https only"),
    ),
    "no types": (
        "createWebhookEndpoint",
        {"types": []},
        (
            "INVALID_INPUT",
            "字段 types 无效：至少一个：settlement.ready, voucher.captured, voucher.refunded",
            "field types is invalid: one or more of settlement.ready, voucher.captured, voucher.refunded",
        ),
    ),
    "a test to subscribe to": (
        "createWebhookEndpoint",
        {"types": ["WEBHOOK_TEST"]},
        (
            "INVALID_INPUT",
            "字段 types 无效：至少一个：settlement.ready, voucher.captured, voucher.refunded",
            "field types is invalid: one or more of settlement.ready, voucher.captured, voucher.refunded",
        ),
    ),
    "no such endpoint to write anew": ("updateWebhookEndpoint", {}, UNKNOWN),
    "no such endpoint to rotate": ("rotateWebhookSecret", {}, UNKNOWN),
    "no such endpoint to forget": ("deleteWebhookEndpoint", {}, UNKNOWN),
    "no such endpoint to try": ("testWebhookEndpoint", {}, UNKNOWN),
    "no such endpoint to send to again": ("replayDeadWebhooks", {}, UNKNOWN),
    "no such delivery": (
        "replayWebhookDelivery",
        {},
        (
            "UNKNOWN_DELIVERY",
            "该商户没有回调记录 whd_none，或已过保存期",
            "the merchant has no webhook delivery whd_none, or it is no longer kept",
        ),
    ),
}


@pytest.mark.parametrize(("name", "given", "expected"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_says_why_in_both_languages(
    api: Api, town: Town, name: str, given: dict[str, Any], expected: Told
) -> None:
    await refused(api, town, name, expected, who="owner", **{**GOOD[name], **given})


async def test_a_merchant_has_ten_endpoints(api: Api, town: Town) -> None:
    for _ in range(10):
        assert (await created(api, town))["__typename"] == "WebhookSecret"
    full = ("TOO_MANY_ENDPOINTS", "每个商户最多 10 个回调地址", "a merchant has at most 10 webhook endpoints")
    await refused(api, town, "createWebhookEndpoint", full, who="owner", **GOOD["createWebhookEndpoint"])


async def test_no_secret_is_given_while_the_one_before_is_in_force(api: Api, town: Town, clock: ManualClock) -> None:
    name = (await created(api, town))["endpoint"]["id"]
    await send(api, town, "rotateWebhookSecret", endpoint=name, key=town.key())
    until = (clock.now() + timedelta(hours=24)).isoformat()
    told = (
        "OLD_SECRET_IN_FORCE",
        f"回调地址 {name} 的上一个密钥在 {until} 前仍有效，之后才能再次更换",
        f"the secret of the webhook endpoint {name} before this one is in force until {until}; rotate again then",
    )
    await refused(api, town, "rotateWebhookSecret", told, who="owner", endpoint=name)


async def test_an_endpoint_is_tested_once_a_minute(api: Api, town: Town, clock: ManualClock) -> None:
    name = (await created(api, town))["endpoint"]["id"]
    await send(api, town, "testWebhookEndpoint", endpoint=name, key=town.key())
    until = (clock.now() + timedelta(minutes=1)).isoformat()
    told = (
        "TOO_MANY_TESTS",
        f"回调地址 {name} 每分钟只能测试一次，请在 {until} 后再试",
        f"the webhook endpoint {name} is tested once a minute; try again after {until}",
    )
    await refused(api, town, "testWebhookEndpoint", told, who="owner", endpoint=name)


async def test_who_is_not_approved_is_not_called(api: Api, town: Town) -> None:
    name = (await created(api, town))["endpoint"]["id"]
    house = town.house.id
    await town.services.rewards.merchants.suspend(ROOT, house, "卫生检查未通过", key=town.key())
    told = (
        "MERCHANT_STAGE",
        f"商户 {house} 当前状态为 SUSPENDED，不能执行该操作",
        f"merchant {house} is SUSPENDED, so this cannot be done",
    )
    mine = {"endpoint": name}
    await refused(api, town, "createWebhookEndpoint", told, who="owner", **GOOD["createWebhookEndpoint"])
    await refused(api, town, "updateWebhookEndpoint", told, who="owner", **{**GOOD["updateWebhookEndpoint"], **mine})
    await refused(api, town, "testWebhookEndpoint", told, who="owner", **mine)
    # What is left to it: to be called no more.
    changed = await send(api, town, "updateWebhookEndpoint", **mine, stage="DISABLED")
    assert changed["stage"] == "DISABLED"


@pytest.mark.parametrize("name", GOOD)
async def test_a_key_is_for_one_request(api: Api, town: Town, clock: ManualClock, name: str) -> None:
    endpoint, other = [(await created(api, town))["endpoint"]["id"] for _ in range(2)]
    deliveries = [
        (await send(api, town, "testWebhookEndpoint", endpoint=one, key=town.key()))["id"] for one in (endpoint, other)
    ]
    clock.advance(timedelta(minutes=1))
    subject = "delivery" if name == "replayWebhookDelivery" else "endpoint"
    one, two = deliveries if subject == "delivery" else (endpoint, other)
    first = {"url": f"{URL}/1"} if name == "createWebhookEndpoint" else {subject: one}
    second = {"url": f"{URL}/2"} if name == "createWebhookEndpoint" else {subject: two}
    assert "code" not in await send(api, town, name, **first)
    await refused(api, town, name, CONFLICT, who="owner", **{**GOOD[name], **second})
    short = (
        "INVALID_INPUT",
        "字段 idempotencyKey 无效：8–64 个可打印 ASCII 字符",
        "field idempotencyKey is invalid: 8–64 printable ASCII characters",
    )
    await refused(api, town, name, short, who="owner", **{**GOOD[name], **second}, key="1234567")


@pytest.mark.parametrize("name", GOOD)
async def test_nobody_but_its_owners_touches_a_merchants_webhooks(
    api: Api, town: Town, clock: ManualClock, name: str
) -> None:
    endpoint = (await created(api, town))["endpoint"]["id"]
    delivery = (await send(api, town, "testWebhookEndpoint", endpoint=endpoint, key=town.key()))["id"]
    clock.advance(timedelta(minutes=1))
    subjects = {"endpoint": endpoint, "delivery": delivery}
    given = {field: subjects.get(field, value) for field, value in GOOD[name].items()}
    before = await everything(town)
    for who in denials("owner", "other merchant"):
        for language, is_english in (("en", True), ("zh", False)):
            answer = await ask(api, name, town.token(who), language=language, **given)
            assert (who, answer.refusal, answer.body["data"]) == (who, denied(who, is_english=is_english), None)
    if name != "createWebhookEndpoint":
        answer = await ask(api, name, town.token("other merchant"), **given)
        assert outcome(answer) == ("UNKNOWN_DELIVERY" if "delivery" in given else "UNKNOWN_ENDPOINT")
    assert await everything(town) == before
    assert "code" not in await send(api, town, name, **given)


def denied(who: str, *, is_english: bool) -> tuple[str, str]:
    """Code and message of a denial."""
    if PEOPLE[who] is None:
        return "UNAUTHENTICATED", SIGN_IN[not is_english]
    if who == "cashier":
        return "FORBIDDEN", "not permitted: for owners" if is_english else "无权执行该操作：仅店主可操作"
    return "FORBIDDEN", "not permitted: managing merchants" if is_english else "无权执行该操作：商户管理"


async def test_nobody_but_its_owners_reads_a_merchants_webhooks(api: Api, town: Town) -> None:
    await created(api, town)
    for who in denials("owner", "other merchant"):
        answer = await api.post(DESK, token=town.token(who))
        assert (who, answer.body["data"], {error["extensions"]["code"] for error in answer.body["errors"]}) == (
            who,
            None,
            {denied(who, is_english=True)[0]},
        )
    assert (await desk(api, town, "other merchant"))["webhookEndpoints"] == []
    assert len((await desk(api, town))["webhookEndpoints"]) == 1
    owner = await town.services.rewards.merchants.owner_desk(
        town.services.tokens.read(town.token_for("merchant", OWNER))
    )
    assert owner.merchant.id == town.house.id
