"""disputeVoucher, decideDispute and admin.disputes: a complaint, its decision, who may; each refusal, keys, pages."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.documents import shown
from tests.api.reward_documents import KEY, ask, denials, everything, global_id, only, outcome, refused
from tests.api.selling import Town
from tests.factories import replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.rewards.vouchers.model import Voucher
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

UNKNOWN = ("UNKNOWN_VOUCHER", "没有这张券", "there is no such voucher")
CONFLICT = (
    "IDEMPOTENCY_CONFLICT",
    f"幂等键 {KEY} 已用于内容不同的请求",
    f"idempotency key {KEY} was already used with another payload",
)
SHORT = (
    "INVALID_INPUT",
    "字段 idempotencyKey 无效：8–64 个可打印 ASCII 字符",
    "field idempotencyKey is invalid: 8–64 printable ASCII characters",
)
WAITING = """
query ($first: Int, $after: String, $last: Int, $before: String) {
  admin { disputes(first: $first, after: $after, last: $last, before: $before) {
    nodes { id dispute { stage reason } } edges { cursor } pageInfo { hasNextPage hasPreviousPage }
  } }
}
"""


def note(field: str) -> tuple[str, str, str]:
    """What is said of a note that is empty."""
    return (
        "INVALID_INPUT",
        f"字段 {field} 无效：1–200 个字符，不含控制字符",
        f"field {field} is invalid: 1–200 characters, none of them control characters",
    )


@pytest.fixture
async def town(services: Services, token_for: Callable[..., str]) -> Town:
    """A town where alice has ten thousand points."""
    made = await Town(services, token_for).open()
    await made.earn(10_000)
    return made


async def complain(api: Api, town: Town, voucher: Voucher, **given: Any) -> Any:
    """The voucher after its citizen's complaint."""
    sent = {"voucher": global_id(voucher), "reason": "没拿到", **given}
    return (await ask(api, "disputeVoucher", town.token("citizen"), **sent)).result


async def test_a_complaint_is_upheld_by_giving_points_back(api: Api, town: Town, services: Services) -> None:
    voucher = await town.capture(await town.redeem())
    opened = await complain(api, town, voucher)
    now = shown(services.clock.now())
    dispute = {"stage": "OPEN", "openedAt": now, "reason": "没拿到", "decidedAt": None, "answer": None}
    assert (opened["status"], opened["dispute"]) == ("CAPTURED", dispute)
    before = await everything(town)
    assert await complain(api, town, voucher) == opened
    assert await everything(town) == before
    await refused(api, town, "disputeVoucher", CONFLICT, voucher=voucher.id, reason="拿错了")
    given = {"voucher": global_id(voucher), "points": 500, "answer": "全额退还"}
    decided = (await ask(api, "decideDispute", town.token("reviewer"), **given)).result
    assert decided["dispute"] == {**dispute, "stage": "UPHELD", "decidedAt": now, "answer": "全额退还"}
    assert (decided["status"], decided["pointsRefunded"]) == ("REFUNDED", 500)
    [refund] = decided["refunds"]
    assert (refund["points"], refund["reason"]) == (500, "全额退还")
    before = await everything(town)
    assert (await ask(api, "decideDispute", town.token("reviewer"), **given)).result == decided
    assert await everything(town) == before
    await refused(api, town, "decideDispute", CONFLICT, who="reviewer", **{**given, "points": 400})
    assert (await replay(services)).findings == []


async def test_a_complaint_is_dismissed_with_an_answer_that_all_read(api: Api, town: Town) -> None:
    voucher = await town.capture(await town.redeem())
    await complain(api, town, voucher)
    given = {"voucher": voucher.id, "points": 0, "answer": "监控显示已领取"}
    decided = (await ask(api, "decideDispute", town.token("administrator"), **given)).result
    assert (decided["status"], decided["refunds"], decided["dispute"]["stage"]) == ("CAPTURED", [], "DISMISSED")
    node = "query ($id: ID!) { node(id: $id) { ... on Voucher { dispute { answer } } } }"
    for who in ("citizen", "cashier"):
        seen = await api.post(node, {"id": global_id(voucher)}, token=town.token(who))
        assert seen.result == {"dispute": {"answer": "监控显示已领取"}}


async def test_a_complaint_is_refused_in_both_languages(api: Api, town: Town, clock: ManualClock) -> None:
    voucher = await town.redeem()
    made = voucher.created_at.astimezone(town.services.programme.zone)
    given = {"voucher": voucher.id, "reason": "没拿到"}
    held = (
        "VOUCHER_STATUS",
        f"该券尚未核销（兑换于 {made:%Y-%m-%d %H:%M:%S}），不能执行该操作",
        f"the voucher is not handed over yet (redeemed {made:%Y-%m-%d %H:%M:%S}), so this cannot be done",
    )
    await refused(api, town, "disputeVoucher", held, **given)
    voucher = await town.capture(voucher)
    await refused(api, town, "disputeVoucher", UNKNOWN, **{**given, "voucher": "vou_none"})
    await refused(api, town, "disputeVoucher", note("reason"), **{**given, "reason": ""})
    await refused(api, town, "disputeVoucher", SHORT, **given, key="1234567")
    clock.advance(timedelta(days=30))
    closed = (
        "DISPUTE_CLOSED",
        "核销超过 30 天，不能再提出争议",
        "what was captured more than 30 days ago cannot be disputed",
    )
    await refused(api, town, "disputeVoucher", closed, **given)
    clock.advance(-timedelta(milliseconds=1))
    assert (await complain(api, town, voucher))["dispute"]["stage"] == "OPEN"
    twice = ("DISPUTE_EXISTS", "该券已有争议记录（OPEN）", "the voucher has been disputed already (OPEN)")
    await refused(api, town, "disputeVoucher", twice, **given, key="key-0002")


async def test_a_decision_is_refused_in_both_languages(api: Api, town: Town) -> None:
    voucher = await town.capture(await town.redeem())
    given: dict[str, Any] = {"voucher": voucher.id, "points": 500, "answer": "退"}
    none = ("NO_DISPUTE", "该券没有待处理的争议", "no dispute of this voucher is open")
    await refused(api, town, "decideDispute", none, who="reviewer", **given)
    await refused(api, town, "decideDispute", UNKNOWN, who="reviewer", **{**given, "voucher": "vou_none"})
    await complain(api, town, voucher)
    for changes, expected in (
        ({"answer": ""}, note("answer")),
        ({"points": 501}, ("REFUND_EXCEEDED", "可退 500 积分，不足 501", "500 points can be refunded, not 501")),
        (
            {"points": -1},
            (
                "INVALID_INPUT",
                "字段 points 无效：1–1000000000000",
                "field points is invalid: 1–1000000000000",
            ),
        ),
        ({"key": "1234567"}, SHORT),
    ):
        await refused(api, town, "decideDispute", expected, who="reviewer", **{**given, **changes})


async def test_citizens_complain_of_their_own_and_reviewers_decide(api: Api, town: Town) -> None:
    voucher = await town.capture(await town.redeem())
    forbidden = ("not permitted: disputes are citizens'", "无权执行该操作：对兑换提出争议")
    told = denials("citizen", other_citizen="UNKNOWN_VOUCHER")
    await only(api, town, "disputeVoucher", told, forbidden, voucher=voucher.id, reason="没拿到")
    assert (await complain(api, town, voucher))["dispute"]["stage"] == "OPEN"
    forbidden = ("not permitted: deciding disputes", "无权执行该操作：处理兑换争议")
    given = {"voucher": voucher.id, "points": 500, "answer": "退"}
    await only(api, town, "decideDispute", denials("reviewer", "administrator"), forbidden, **given)
    assert outcome(await ask(api, "decideDispute", town.token("administrator"), **given)) == "Voucher"


async def test_staff_read_open_complaints_the_longest_waiting_first(api: Api, town: Town, clock: ManualClock) -> None:
    offer = await town.offer()
    ids = []
    for number in range(4):
        clock.advance(timedelta(minutes=1))
        voucher = await town.capture(await town.redeem(offer))
        await complain(api, town, voucher, key=f"key-{number:04}", reason=f"第 {number} 次")
        ids.append(global_id(voucher))
    staff = town.token("verifier")

    async def page(**span: Any) -> Any:
        return (await api.post(WAITING, span, token=staff)).result["disputes"]

    whole = await page()
    assert [node["id"] for node in whole["nodes"]] == ids
    assert whole["nodes"][0]["dispute"] == {"stage": "OPEN", "reason": "第 0 次"}
    cursors = [edge["cursor"] for edge in whole["edges"]]
    middle = await page(first=2, after=cursors[0])
    assert ([node["id"] for node in middle["nodes"]], middle["pageInfo"]["hasNextPage"]) == (ids[1:3], True)
    back = await page(last=2, before=cursors[3])
    assert ([node["id"] for node in back["nodes"]], back["pageInfo"]["hasPreviousPage"]) == (ids[1:3], True)
    given = {"voucher": ids[1], "points": 0, "answer": "否"}
    assert outcome(await ask(api, "decideDispute", town.token("reviewer"), **given)) == "Voucher"
    assert [node["id"] for node in (await page())["nodes"]] == [ids[0], *ids[2:]]
    for who, code in denials("verifier", "reviewer", "administrator").items():
        assert (who, (await api.post(WAITING, token=town.token(who))).code) == (who, code)
