"""An act explains itself to its citizen, in either language: the arithmetic, the reason, the doubts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from tests.api.documents import RECORD, ride, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio
ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]
EXPLAIN = """query ($id: ID!) {
  action(id: $id) { status points explanation awards { campaign points } doubts { code message } }
}"""


async def test_a_credited_act_tells_its_arithmetic(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    token = token_for("citizen", "alice")
    identity = (await api.post(RECORD, ride(), token=token)).result["id"]
    waiting = (await api.post(EXPLAIN, {"id": identity}, token=token)).result
    assert waiting == {"status": "PENDING", "points": 0, "explanation": [], "awards": [], "doubts": []}
    await services.settling.settle(ALL_SHARDS)
    told = (await api.post(EXPLAIN, {"id": identity}, token=token, language="en")).result
    assert told["explanation"] == [
        "Recorded: Bus ride, distance unknown, 1 time",
        (
            "Factor: 80 g/time (Luzhou Green Sprout points, on ACEF algorithms (Guangming Daily and People's Daily, "
            "2024), Luzhou Green Sprout programme, 2024)"
        ),
        "Self-declared: counts half, for points only",
        "1 time × 80 g/time × 1/2 = 40 g",
        "40 g, each 1 g worth 1 point: 40 points",
        "Together: 40 g and 40 points",
    ]
    chinese = (await api.post(EXPLAIN, {"id": identity}, token=token, language="zh-CN")).result
    assert chinese["explanation"] == [
        "记录：公交（里程未知），1 次",
        "减排因子：80 克/次（《泸州绿芽积分（中华环保联合会绿普惠云算法）》，Luzhou Green Sprout programme，2024 年）",
        "自行申报：计一半，仅用于积分",
        "1 次 × 80 克/次 × 1/2 = 40 克",
        "40 克，每 1 克计 1 分：40 分",
        "合计：减排 40 克，积分 40 分",
    ]


async def test_an_act_that_earned_nothing_tells_why(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    begun = services.clock.now() - timedelta(hours=1)
    rocket = ride(
        "rocket",
        kind="bike_own",
        quantity=9_000,
        unit="METRE",
        occurredAt=written(begun),
        endedAt=written(begun + timedelta(minutes=3)),
    )
    identity = (await api.post(RECORD, rocket, token=token)).result["id"]
    await services.settling.settle(ALL_SHARDS)
    told = (await api.post(EXPLAIN, {"id": identity}, token=token, language="en")).result
    assert told == {
        "status": "REJECTED",
        "points": 0,
        "explanation": ["what was recorded is not plausible", "faster than this way of moving can be"],
        "awards": [],
        "doubts": [{"code": "TOO_FAST", "message": "faster than this way of moving can be"}],
    }
    chinese = (await api.post(EXPLAIN, {"id": identity}, token=token, language="zh-CN")).result
    assert chinese["explanation"] == ["记录内容不合常理", "速度超出该出行方式的可能范围"]
