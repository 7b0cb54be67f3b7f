"""recordAction: what is recorded, what is refused and in which words; a refusal leaves the database as it was."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from tests.api.documents import RECORD, RECORD_DETAILS, ride, shown, written
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio
ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]
OUT_OF_RANGE = (
    "QUANTITY_OUT_OF_RANGE",
    "数量 {} 超出范围（单次 1–1）",
    "quantity {} is out of range (1–1 for one act)",
)
BAD_TEXT = "1–128 characters, none of them control characters"
BAD_NAME = "1–64 letters, digits, dots, dashes and underscores"
BAD_ATTRIBUTE = "names like station_from, texts of at most 200 characters"
ATTRIBUTES = "names like station_from, texts of at most 200 characters"
BAD_KEY = "8–64 printable ASCII characters"


def out_of_range(quantity: int) -> tuple[str, str, str]:
    """Code and messages for that quantity."""
    code, zh, en = OUT_OF_RANGE
    return code, zh.format(quantity), en.format(quantity)


# The problems of a field, in Chinese.
CHINESE = {
    BAD_KEY: "8–64 个可打印 ASCII 字符",
    "1–64 letters, digits, dots, dashes and underscores": "1–64 个字母、数字、点、横线或下划线",
    "1–128 characters, none of them control characters": "1–128 个字符，不含控制字符",
    "names like station_from, texts of at most 200 characters": "名称形如 station_from，值为不超过 200 个字符的文本",
    "at most 20": "最多 20 项",
    "day is required": "缺少 day",
}


def invalid(field: str, problem: str) -> tuple[str, str, str]:
    """Code and messages for that field."""
    return (
        "INVALID_INPUT",
        f"字段 {field} 无效：{CHINESE.get(problem, problem)}",
        f"field {field} is invalid: {problem}",
    )


# What differs from a good ride → code, message in Chinese, message in English.
REFUSALS: list[tuple[str, dict[str, Any], tuple[str, str, str]]] = [
    (
        "unknown kind",
        {"kind": "teleport"},
        ("UNKNOWN_KIND", "未知的低碳行为：teleport", "unknown kind of action: teleport"),
    ),
    (
        "kind in other letters",
        {"kind": "BUS_RIDE"},
        ("UNKNOWN_KIND", "未知的低碳行为：BUS_RIDE", "unknown kind of action: BUS_RIDE"),
    ),
    (
        "wrong unit",
        {"unit": "METRE"},
        ("WRONG_UNIT", "bus_ride 应以 COUNT 计量，而不是 METRE", "bus_ride is counted in COUNT, not in METRE"),
    ),
    ("nothing", {"quantity": 0}, out_of_range(0)),
    ("negative", {"quantity": -1}, out_of_range(-1)),
    ("one too many", {"quantity": 2}, out_of_range(2)),
    ("absurd, as a text", {"quantity": "9223372036854775807"}, out_of_range(2**63 - 1)),
    ("far below zero", {"quantity": "-9223372036854775808"}, out_of_range(-(2**63 - 1))),
    ("blank source", {"source": ""}, invalid("source", BAD_NAME)),
    ("source with a slash", {"source": "a/b"}, invalid("source", BAD_NAME)),
    ("source of 65 letters", {"source": "s" * 65}, invalid("source", BAD_NAME)),
    ("source with NUL", {"source": "app\x00"}, invalid("source", BAD_NAME)),
    ("blank ref", {"ref": ""}, invalid("ref", BAD_TEXT)),
    ("ref of 129 characters", {"ref": "r" * 129}, invalid("ref", BAD_TEXT)),
    ("ref with NUL", {"ref": "ride\x00"}, invalid("ref", BAD_TEXT)),
    ("ref with a line break", {"ref": "ride\n1"}, invalid("ref", BAD_TEXT)),
    ("evidence with DEL", {"evidence": {"reference": "photo\x7f"}}, invalid("evidence", BAD_TEXT)),
    ("attribute in capitals", {"attributes": {"Card": "1"}}, invalid("attributes", BAD_ATTRIBUTE)),
    ("attribute of 201 characters", {"attributes": {"card": "x" * 201}}, invalid("attributes", BAD_ATTRIBUTE)),
    ("attribute with NUL", {"attributes": {"card": "\x00"}}, invalid("attributes", BAD_ATTRIBUTE)),
    ("attribute that is a number", {"attributes": {"card": 7}}, invalid("attributes", ATTRIBUTES)),
    ("attribute that is null", {"attributes": {"card": None}}, invalid("attributes", ATTRIBUTES)),
    ("21 attributes", {"attributes": {f"a{n}": "" for n in range(21)}}, invalid("attributes", "at most 20")),
    (
        "required attribute missing",
        {"kind": "car_free_day", "attributes": {"car": "苏L12345"}},
        invalid("attributes", "day is required"),
    ),
    ("key of 7 characters", {"idempotencyKey": "1234567"}, invalid("idempotencyKey", BAD_KEY)),
    ("key of 65 characters", {"idempotencyKey": "k" * 65}, invalid("idempotencyKey", BAD_KEY)),
    ("key with a blank", {"idempotencyKey": "key 00001"}, invalid("idempotencyKey", BAD_KEY)),
    ("key in Chinese", {"idempotencyKey": "幂等键幂等键幂等键"}, invalid("idempotencyKey", BAD_KEY)),
]
UNREADABLE: list[tuple[str, dict[str, Any], str]] = [
    ("no offset", {"occurredAt": "2026-11-21T08:30:00"}, "DateTime needs RFC 3339 with an offset"),
    ("no offset at the end", {"endedAt": "2026-11-21T08:30:00"}, "DateTime needs RFC 3339 with an offset"),
    ("a date", {"occurredAt": "2026-11-21"}, "DateTime needs RFC 3339 with an offset"),
    ("a number", {"occurredAt": 1_790_000_000}, "DateTime needs RFC 3339 with an offset"),
    ("30 February", {"occurredAt": "2026-02-30T08:30:00Z"}, "DateTime names no moment of the calendar"),
    ("before the year 1", {"occurredAt": "0001-01-01T00:00:00+14:00"}, "DateTime names no moment of the calendar"),
    ("a fraction", {"quantity": 1.5}, "BigInt needs a whole number"),
    ("a whole float", {"quantity": 1.0}, "BigInt needs a whole number"),
    ("true", {"quantity": True}, "BigInt needs a whole number"),
    ("full-width digits", {"quantity": "１"}, "BigInt needs a whole number"),
    ("one beyond 64 bits", {"quantity": 2**63}, "BigInt needs a whole number"),
    ("one beyond 64 bits, as a text", {"quantity": "9223372036854775808"}, "BigInt needs a whole number"),
    ("one below 64 bits", {"quantity": "-9223372036854775809"}, "BigInt needs a whole number"),
    ("20 digits", {"quantity": "1" * 20}, "BigInt needs a whole number"),
    ("unknown unit", {"unit": "MILE"}, "Value 'MILE' does not exist in 'Unit' enum"),
    ("attributes in a list", {"attributes": ["card"]}, "JSON needs an object here"),
    ("unknown field", {"points": 1_000_000}, "not to include unknown field 'points'"),
    ("ref null", {"ref": None}, "Expected value of non-null type 'String!' not to be None"),
]


async def test_a_recorded_act_is_shown_whole_and_earns_after_settling(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    now = services.clock.now()
    given = ride(
        occurredAt=written(now - timedelta(hours=1)),
        endedAt=written(now - timedelta(minutes=30)),
        attributes={"route": "2路"},
        evidence={"reference": "photo-1"},
    )
    recorded = (await api.post(RECORD_DETAILS, given, token=token)).result
    identity = recorded.pop("id")
    assert recorded == {
        "kind": "bus_ride",
        "status": "PENDING",
        "quantity": 1,
        "unit": "COUNT",
        "occurredAt": shown(now - timedelta(hours=1)),
        "endedAt": shown(now - timedelta(minutes=30)),
        "recordedAt": shown(now),
        "source": "app",
        "ref": "ride-1",
        "reductionMg": 0,
        "points": 0,
        "evidenceTier": "DECLARED",
        "settledAt": None,
        "creditedQuantity": 0,
        "rule": None,
        "reasonCode": None,
        "reason": None,
        "transactionId": None,
    }
    assert await services.settling.settle(ALL_SHARDS) == 1

    # The same record again is the first one, as it now stands.
    settled = (await api.post(RECORD_DETAILS, given, token=token)).result
    assert settled["id"] == identity
    assert settled.pop("transactionId").startswith("tx_")
    assert {key: settled[key] for key in ("status", "reductionMg", "points", "creditedQuantity", "rule")} == {
        "status": "CREDITED",
        "reductionMg": 40_000,
        "points": 40,
        "creditedQuantity": 1,
        "rule": {"code": "R-BUS2", "version": 1},
    }
    assert settled["settledAt"] == shown(now)
    assert len((await dump(services))["actions"]) == 1


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
async def test_a_refusal_says_what_is_wrong_in_both_languages_and_writes_nothing(
    changes: dict[str, Any],
    expected: tuple[str, str, str],
    api: Api,
    services: Services,
    token_for: Callable[..., str],
) -> None:
    token, before = token_for("citizen", "alice"), await dump(services)
    code, zh, en = expected
    for language, message in (("zh-CN", zh), ("en-GB", en)):
        answer = await api.post(RECORD, ride(**changes), token=token, language=language)
        assert (answer.result["code"], answer.result["message"]) == (code, message)
    assert await dump(services) == before


@pytest.mark.parametrize(
    ("changes", "problem"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE]
)
async def test_what_is_no_value_of_its_type_is_an_error_and_writes_nothing(
    changes: dict[str, Any], problem: str, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    before = await dump(services)
    answer = await api.post(RECORD, ride(**changes), token=token_for("citizen", "alice"))
    assert (answer.status, answer.code) == (200, "BAD_USER_INPUT")
    assert problem in answer.refusal[1]
    assert "data" not in answer.body
    assert await dump(services) == before


async def test_the_intake_window_is_exact_at_both_ends(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token, now = token_for("citizen", "alice"), services.clock.now()
    millisecond = timedelta(milliseconds=1)
    oldest, latest = now - timedelta(days=30), now + timedelta(minutes=5)
    for ref, moment in (("oldest", oldest), ("latest", latest)):
        answer = await api.post(RECORD, ride(ref, occurredAt=written(moment)), token=token)
        assert answer.result["status"] == "PENDING"
    before = await dump(services)
    late = written(latest + millisecond)
    cases = [
        ({"occurredAt": written(oldest - millisecond)}, ("TOO_OLD", "the act is older than 30 days")),
        ({"occurredAt": late}, ("IN_FUTURE", f"the time {_long(late)} is in the future")),
        ({"endedAt": late}, ("IN_FUTURE", f"the time {_long(late)} is in the future")),
        (
            {"occurredAt": written(now), "endedAt": written(now - millisecond)},
            ("END_BEFORE_START", "the act ends before it starts"),
        ),
    ]
    for changes, expected in cases:
        answer = await api.post(RECORD, ride("beyond", **changes), token=token)
        assert (answer.result["code"], answer.result["message"]) == expected
    assert await dump(services) == before
    chinese = [
        (await api.post(RECORD, ride("beyond", **changes), token=token, language="zh")).result["message"]
        for changes, _ in cases
    ]
    assert chinese == [
        "该行为发生已超过 30 天，不再受理",
        f"时间 {_long(late)} 在未来",
        f"时间 {_long(late)} 在未来",
        "结束时间早于开始时间",
    ]


def _long(moment: str) -> str:
    """The moment with microseconds, as the message repeats it."""
    return moment.replace("+08:00", "000+08:00")


async def test_the_same_reference_with_other_content_is_a_conflict(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token, given = token_for("citizen", "alice"), ride()
    assert (await api.post(RECORD, given, token=token)).result["status"] == "PENDING"
    before = await dump(services)
    other = ride(attributes={"route": "9"}, idempotencyKey="another-key", occurredAt=given["input"]["occurredAt"])
    for language, message in (
        ("en", "the record app/ride-1 exists with other content"),
        ("zh", "记录 app/ride-1 已存在且内容不同"),
    ):
        answer = await api.post(RECORD, other, token=token, language=language)
        assert (answer.result["code"], answer.result["message"]) == ("CONFLICT", message)
    assert await dump(services) == before
    # The refused record did not use up its key.
    again = {**other, "input": {**other["input"], "ref": "ride-2"}}
    assert (await api.post(RECORD, again, token=token)).result["status"] == "PENDING"


async def test_a_key_used_for_another_act_is_refused_and_writes_nothing(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    alice = token_for("citizen", "alice")
    assert (await api.post(RECORD, ride("one", idempotencyKey="same-key"), token=alice)).result["status"] == "PENDING"
    before = await dump(services)
    for language, message in (
        ("en", "idempotency key same-key was already used with another payload"),
        ("zh", "幂等键 same-key 已用于内容不同的请求"),
    ):
        answer = await api.post(RECORD, ride("two", idempotencyKey="same-key"), token=alice, language=language)
        assert (answer.result["code"], answer.result["message"]) == ("IDEMPOTENCY_CONFLICT", message)
    assert await dump(services) == before
    # Keys are each principal's own.
    bob = await api.post(RECORD, ride("two", idempotencyKey="same-key"), token=token_for("citizen", "bob"))
    assert bob.result["status"] == "PENDING"


async def test_a_refusal_does_not_use_up_its_key(api: Api, token_for: Callable[..., str]) -> None:
    token = token_for("citizen", "alice")
    assert (await api.post(RECORD, ride(quantity=0), token=token)).result["code"] == "QUANTITY_OUT_OF_RANGE"
    assert (await api.post(RECORD, ride(quantity=1), token=token)).result["status"] == "PENDING"


async def test_refusals_carry_their_data(api: Api, token_for: Callable[..., str]) -> None:
    document = """mutation ($input: RecordActionInput!) { recordAction(input: $input) {
      __typename ... on QuantityOutOfRange { code quantity minimum maximum } } }"""
    given = ride(kind="metro", unit="METRE", quantity="9007199254740992")
    assert (await api.post(document, given, token=token_for("citizen", "alice"))).result == {
        "__typename": "QuantityOutOfRange",
        "code": "QUANTITY_OUT_OF_RANGE",
        # Beyond 2^53 - 1 a JSON number would be rounded by most clients: it is shown as a text.
        "quantity": "9007199254740992",
        "minimum": 1,
        "maximum": 150_000,
    }
