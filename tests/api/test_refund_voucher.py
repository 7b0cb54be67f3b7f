"""refundVoucher: captured points come back to their lots, within the policy; who may, each refusal, keys."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.operations import read_operation
from tests.api.documents import shown
from tests.api.reward_documents import KEY, Told, ask, denials, everything, global_id, only, outcome, refused
from tests.api.selling import Town
from tests.api.test_capture_voucher import NOT_YOURS
from tests.factories import owner, replay
from tests.unit.rewards.trading import donation_terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

UNKNOWN = ("UNKNOWN_VOUCHER", "没有这张券", "there is no such voucher")


@pytest.fixture
async def town(services: Services, token_for: Callable[..., str]) -> Town:
    """A town where alice has a thousand points."""
    made = await Town(services, token_for).open()
    await made.earn()
    return made


async def test_a_refund_returns_points_to_their_lots_part_by_part(api: Api, town: Town, services: Services) -> None:
    lots = (await services.ledger.get_page(owner())).lots
    voucher = await town.capture(await town.redeem())
    variables: dict[str, Any] = {
        "input": {"idempotencyKey": KEY, "voucher": global_id(voucher), "points": 120, "reason": "洒了"}
    }
    part = (await api.post(read_operation("RefundVoucher"), variables, token=town.token("cashier"))).result
    [refund] = part.pop("refunds")
    assert refund.pop("transactionId").startswith("tx_")
    assert refund == {"at": shown(services.clock.now()), "points": 120, "reason": "洒了"}
    assert part == {
        "__typename": "Voucher",
        "id": global_id(voucher),
        "status": "CAPTURED",
        "pointsCaptured": 500,
        "pointsRefunded": 120,
    }
    rest = await ask(api, "refundVoucher", town.token("owner"), voucher=voucher.id, reason="全退", key="key-0002")
    assert (rest.result["status"], rest.result["pointsRefunded"]) == ("REFUNDED", 500)
    assert [one["points"] for one in rest.result["refunds"]] == [120, 380]
    assert (await services.ledger.get_page(owner())).lots == lots
    assert (await replay(services)).findings == []


async def test_the_same_key_refunds_once_and_another_refund_under_it_is_a_conflict(api: Api, town: Town) -> None:
    voucher = await town.capture(await town.redeem())
    given = {"voucher": voucher.id, "points": 120, "reason": "洒了"}
    first = (await ask(api, "refundVoucher", town.token("cashier"), **given)).result
    before = await everything(town)
    assert (await ask(api, "refundVoucher", town.token("cashier"), **given)).result == first
    assert await everything(town) == before
    conflict = (
        "IDEMPOTENCY_CONFLICT",
        f"幂等键 {KEY} 已用于内容不同的请求",
        f"idempotency key {KEY} was already used with another payload",
    )
    await refused(api, town, "refundVoucher", conflict, who="cashier", **{**given, "points": 121})


MILLION = "1–1000000000000"
REFUSALS: dict[str, tuple[dict[str, Any], Told]] = {
    "no such voucher": ({"voucher": "vou_none"}, UNKNOWN),
    "more than was captured": (
        {"points": 501},
        ("REFUND_EXCEEDED", "可退 500 积分，不足 501", "500 points can be refunded, not 501"),
    ),
    "nothing": (
        {"points": 0},
        ("INVALID_INPUT", f"字段 points 无效：{MILLION}", f"field points is invalid: {MILLION}"),
    ),
    "less than nothing": (
        {"points": -1},
        ("INVALID_INPUT", f"字段 points 无效：{MILLION}", f"field points is invalid: {MILLION}"),
    ),
    "no reason": (
        {"reason": " "},
        (
            "INVALID_INPUT",
            "字段 reason 无效：1–200 个字符，不含控制字符",
            "field reason is invalid: 1–200 characters, none of them control characters",
        ),
    ),
    "a short key": (
        {"key": "1234567"},
        (
            "INVALID_INPUT",
            "字段 idempotencyKey 无效：8–64 个可打印 ASCII 字符",
            "field idempotencyKey is invalid: 8–64 printable ASCII characters",
        ),
    ),
}


@pytest.mark.parametrize(("given", "expected"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refund_is_refused_in_both_languages(
    api: Api, town: Town, given: dict[str, Any], expected: Told
) -> None:
    voucher = await town.capture(await town.redeem())
    sent = {"voucher": voucher.id, "reason": "洒了", **given}
    await refused(api, town, "refundVoucher", expected, who="cashier", **sent)


async def test_what_was_not_captured_or_too_long_ago_is_not_refunded(api: Api, town: Town, clock: ManualClock) -> None:
    voucher = await town.redeem()
    made = voucher.created_at.astimezone(town.services.programme.zone)
    held = (
        "VOUCHER_STATUS",
        f"该券尚未核销（兑换于 {made:%Y-%m-%d %H:%M:%S}），不能执行该操作",
        f"the voucher is not handed over yet (redeemed {made:%Y-%m-%d %H:%M:%S}), so this cannot be done",
    )
    given = {"voucher": voucher.id, "reason": "洒了"}
    await refused(api, town, "refundVoucher", held, who="cashier", **given)
    captured = await town.capture(voucher)
    clock.current = captured.captures[0].at + timedelta(days=7)
    closed = ("REFUND_CLOSED", "已超出退款期限（7 天）", "the time for refunds is over (7 days)")
    await refused(api, town, "refundVoucher", closed, who="owner", **given)
    goodwill = (await ask(api, "refundVoucher", town.token("administrator"), **given)).result
    assert (goodwill["status"], goodwill["secret"]) == ("REFUNDED", None)


async def test_a_gift_to_a_cause_comes_back_by_administrators_alone(api: Api, town: Town) -> None:
    voucher = await town.redeem(await town.offer(make=donation_terms))
    given = {"voucher": voucher.id, "reason": "误点"}
    closed = ("REFUND_CLOSED", "已超出退款期限（0 天）", "the time for refunds is over (0 days)")
    await refused(api, town, "refundVoucher", closed, who="owner", **given)
    assert (await ask(api, "refundVoucher", town.token("administrator"), **given)).result["status"] == "REFUNDED"


async def test_nobody_but_the_merchant_and_administrators_refunds(api: Api, town: Town) -> None:
    voucher = await town.capture(await town.redeem())
    given = {"voucher": voucher.id, "points": 10, "reason": "洒了"}
    told = denials("owner", "cashier", "administrator", other_merchant="UNKNOWN_VOUCHER")
    await only(api, town, "refundVoucher", told, NOT_YOURS, **given)
    for who in ("owner", "cashier", "administrator"):
        assert (who, outcome(await ask(api, "refundVoucher", town.token(who), **given))) == (who, "Voucher")
