"""cancelVoucher: points come back, once; who may, each refusal in both languages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backend.rewards.stock.model import stock_pot
from schemas.operations import read_operation
from tests.api.reward_documents import KEY, ask, denials, everything, global_id, only, refused, snapshot
from tests.api.selling import Town
from tests.unit.rewards.trading import Stock, StockKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

POINTS = "{ viewer { ... on Citizen { pointsAvailable pointsHeld } } }"
UNKNOWN = ("UNKNOWN_VOUCHER", "没有这张券", "there is no such voucher")


@pytest.fixture
async def town(services: Services, token_for: Callable[..., str]) -> Town:
    """A town where alice has a thousand points."""
    made = await Town(services, token_for).open()
    await made.earn()
    return made


async def test_what_is_given_up_returns_points_and_stock_once(api: Api, town: Town, services: Services) -> None:
    offer = await town.offer(stock=Stock(StockKind.TOTAL, 5))
    voucher = await town.redeem(offer, units=2)
    variables = {"input": {"idempotencyKey": KEY, "voucher": global_id(voucher)}}
    ended = (await api.post(read_operation("CancelVoucher"), variables, token=town.token("citizen"))).result
    assert ended == {
        "__typename": "Voucher",
        "id": global_id(voucher),
        "status": "CANCELLED",
        "itemsLeft": 0,
        "points": 1_000,
        "pointsCaptured": 0,
    }
    assert (await api.post(POINTS, token=town.token("citizen"))).result == {"pointsAvailable": 1_000, "pointsHeld": 0}
    [pot] = (await services.rewards.pots.find([stock_pot(offer.id)])).values()
    assert (pot.free, pot.used) == (5, 0)
    before = await everything(town)
    # A local id will do, too, and is the same request.
    again = (await ask(api, "cancelVoucher", town.token("citizen"), voucher=voucher.id)).result
    assert (again["status"], again["shownCode"]) == ("CANCELLED", None)
    assert await everything(town) == before


async def test_of_a_card_what_was_handed_over_stays_paid(api: Api, town: Town) -> None:
    voucher = await town.redeem(await town.offer(items=5))
    await town.capture(voucher, items=2)
    ended = (await ask(api, "cancelVoucher", town.token("citizen"), voucher=voucher.id)).result
    assert (ended["status"], ended["itemsLeft"], ended["pointsCaptured"]) == ("CAPTURED", 0, 200)
    assert (await api.post(POINTS, token=town.token("citizen"))).result == {"pointsAvailable": 800, "pointsHeld": 0}


async def test_cancelling_is_refused_in_both_languages(api: Api, town: Town, clock: ManualClock) -> None:
    voucher = await town.redeem()
    made = voucher.created_at.astimezone(town.services.programme.zone)
    await refused(api, town, "cancelVoucher", UNKNOWN, voucher="vou_none")
    await refused(api, town, "cancelVoucher", UNKNOWN, who="other citizen", voucher=voucher.id)
    short = (
        "INVALID_INPUT",
        "字段 idempotencyKey 无效：8–64 个可打印 ASCII 字符",
        "field idempotencyKey is invalid: 8–64 printable ASCII characters",
    )
    await refused(api, town, "cancelVoucher", short, voucher=voucher.id, key="1234567")
    await ask(api, "cancelVoucher", town.token("citizen"), voucher=voucher.id)
    over = (
        "VOUCHER_STATUS",
        f"该券已取消（兑换于 {made:%Y-%m-%d %H:%M:%S}），不能执行该操作",
        f"the voucher is cancelled (redeemed {made:%Y-%m-%d %H:%M:%S}), so this cannot be done",
    )
    await refused(api, town, "cancelVoucher", over, voucher=voucher.id, key="key-0002")
    other = await town.redeem()
    conflict = (
        "IDEMPOTENCY_CONFLICT",
        f"幂等键 {KEY} 已用于内容不同的请求",
        f"idempotency key {KEY} was already used with another payload",
    )
    await refused(api, town, "cancelVoucher", conflict, voucher=other.id)
    clock.current = other.expires_at
    late = ("VOUCHER_EXPIRED", "该券已过期，积分已退回", "the voucher has expired and its points are returned")
    await refused(api, town, "cancelVoucher", late, voucher=other.id, key="key-0003")


async def test_nobody_but_its_citizen_gives_a_voucher_up(api: Api, town: Town) -> None:
    voucher = await town.redeem()
    forbidden = ("not permitted: cancelling is citizens'", "无权执行该操作：取消兑换")
    told = denials("citizen", other_citizen="UNKNOWN_VOUCHER")
    await only(api, town, "cancelVoucher", told, forbidden, voucher=voucher.id)
    before = await snapshot(town)
    assert (await ask(api, "cancelVoucher", town.token("citizen"), voucher=voucher.id)).result["status"] == "CANCELLED"
    assert await snapshot(town) != before
