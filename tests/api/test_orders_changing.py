"""cancelOrder, amendOrder, and who sees orders and holdings: each refusal in both languages, who may, keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.market.exchange.model import OrderStatus
from schemas.relay import to_global_id
from tests.api.documents import shown
from tests.api.exchange_documents import (
    INSTRUMENT_ID,
    KEY,
    Hall,
    Told,
    ask,
    denials,
    only,
    refused,
)
from tests.floor import CREDIT
from tests.integration.trading_floor import KG

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

TRADING = ("not permitted: owning and trading credits", "无权执行该操作：持有与交易减排量")


@pytest.fixture
async def hall(services: Services, clock: ManualClock, token_for: Callable[..., str]) -> Hall:
    """A hall in which alice has ten kilograms, the steelworks ten thousand fen; nobody waits long for the matcher."""
    hall = Hall(services, clock)
    hall.token_for = token_for
    services.market.orders.patience_s = 0.01
    await hall.open()
    await hall.give_credits("alice", 10 * KG)
    await hall.give_fen("@steelworks", 10_000)
    await hall.give_fen("alice", 100)
    return hall


async def test_an_order_is_given_up_by_its_owner_or_by_administrators(api: Api, hall: Hall) -> None:
    mine, foreign = await hall.buy("@steelworks", 1), await hall.buy("alice", 1)
    await hall.match()
    unknown = ("UNKNOWN_ORDER", "没有这笔委托", "there is no such order")
    await refused(api, hall, "cancelOrder", unknown, order=foreign.id)
    await refused(api, hall, "cancelOrder", unknown, order="ord_none")
    asked = (await ask(api, "cancelOrder", hall.token("enterprise"), order=to_global_id("Order", mine.id))).result
    assert (asked["isQueued"], asked["status"]) == (True, "OPEN")
    pending = (
        "COMMAND_PENDING",
        "该委托有未处理的请求，请稍后重试",
        "an earlier request on this order is still waiting; try again in a moment",
    )
    await refused(api, hall, "cancelOrder", pending, key="key-0002", order=mine.id)
    assert (await ask(api, "cancelOrder", hall.token("enterprise"), order=mine.id)).result == asked
    await ask(api, "cancelOrder", hall.token("administrator"), order=foreign.id)
    mine, foreign = await hall.match(mine, foreign)
    assert [(order.status, order.reason) for order in (mine, foreign)] == [
        (OrderStatus.CANCELLED, "BY_OWNER"),
        (OrderStatus.CANCELLED, "BY_STAFF"),
    ]
    closed = ("ORDER_CLOSED", "委托已结束（CANCELLED）", "the order has ended (CANCELLED)")
    await refused(api, hall, "cancelOrder", closed, key="key-0003", order=mine.id)
    await refused(api, hall, "amendOrder", closed, key="key-0003", order=mine.id, quantityG=2_000)
    told = denials("enterprise", citizen="UNKNOWN_ORDER", other_citizen="UNKNOWN_ORDER", administrator="ORDER_CLOSED")
    await only(api, hall, "cancelOrder", told, TRADING, key="key-0004", order=mine.id)


AMENDMENTS: dict[str, tuple[dict[str, Any], Told]] = {
    "nothing": (
        {},
        (
            "INVALID_INPUT",
            "字段 priceFen 无效：请给出新的价格或数量",
            "field priceFen is invalid: give another price or quantity",
        ),
    ),
    "off the lot": (
        {"quantityG": 1_001},
        ("OFF_LOT", "数量 1001 克不是 1000 克的整数倍", "1001 g is not a multiple of the lot of 1000 g"),
    ),
    "no grams": (
        {"quantityG": 0},
        ("INVALID_INPUT", f"字段 quantityG 无效：1–{10**12}", f"field quantityG is invalid: 1–{10**12}"),
    ),
    "outside the band": (
        {"priceFen": 9_000},
        (
            "OUTSIDE_BAND",
            "价格 9000 分/吨超出当日涨跌幅范围 5400–6600",
            "9000 fen/t is outside the day's band of 5400–6600",
        ),
    ),
    "another's": (
        {"order": "ord_none", "priceFen": 6_000},
        ("UNKNOWN_ORDER", "没有这笔委托", "there is no such order"),
    ),
}


@pytest.mark.parametrize(("given", "expected"), AMENDMENTS.values(), ids=AMENDMENTS)
async def test_an_amendment_that_cannot_be_is_refused(
    api: Api, hall: Hall, given: dict[str, Any], expected: Told
) -> None:
    order = await hall.buy("@steelworks", 1)
    await hall.match()
    await refused(api, hall, "amendOrder", expected, **{"order": order.id, **given})


async def test_an_amendment_is_carried_out_in_its_turn(api: Api, hall: Hall, clock: ManualClock) -> None:
    order = await hall.buy("@steelworks", 1)
    await hall.match()
    token = hall.token("enterprise")
    asked = (await ask(api, "amendOrder", token, order=order.id, priceFen=6_100, quantityG=2_000)).result
    assert (asked["priceFen"], asked["isQueued"]) == (6_000, True)
    await hall.match()
    done = (await ask(api, "amendOrder", token, order=order.id, priceFen=6_100, quantityG=2_000)).result
    assert (done["priceFen"], done["quantityG"], done["isQueued"]) == (6_100, 2_000, False)
    assert done["lastCommand"] == {"kind": "AMEND", "at": shown(clock.now()), "outcome": "DONE"}
    conflict = (
        "IDEMPOTENCY_CONFLICT",
        f"幂等键 {KEY} 已用于内容不同的请求",
        f"idempotency key {KEY} was already used with another payload",
    )
    await refused(api, hall, "amendOrder", conflict, order=order.id, priceFen=6_000)
    ioc = await hall.buy("@steelworks", 1, None)
    told = (
        "INVALID_INPUT",
        "字段 order 无效：IOC、FOK 委托不能修改",
        "field order is invalid: an IOC or FOK order cannot be amended",
    )
    await refused(api, hall, "amendOrder", told, key="key-0002", order=ioc.id, quantityG=2_000)
    denied = denials(
        "enterprise", citizen="UNKNOWN_ORDER", other_citizen="UNKNOWN_ORDER", administrator="UNKNOWN_ORDER"
    )
    await only(api, hall, "amendOrder", denied, TRADING, key="key-0003", order=order.id, quantityG=2_000)


ORDERS = "orders(openOnly: $open, first: 2) { nodes { id } pageInfo { hasNextPage endCursor } }"
HOLDINGS = "holdings { grams availableG costFen valueFen credit instrumentId serials { first last } }"


async def test_owners_see_their_orders_and_holdings_and_staff_do(api: Api, hall: Hall) -> None:
    orders = [await hall.buy("@steelworks", 1, 6_000 + number) for number in range(3)]
    await hall.sell("alice", 1)
    await hall.match()
    document = f"query ($open: Boolean!) {{ viewer {{ ... on Enterprise {{ {ORDERS} {HOLDINGS} }} }} }}"
    shown_all = (await api.post(document, {"open": False}, token=hall.token("enterprise"))).result
    ids = [to_global_id("Order", order.id) for order in orders]
    assert [one["id"] for one in shown_all["orders"]["nodes"]] == ids[:0:-1]
    assert shown_all["orders"]["pageInfo"]["hasNextPage"]
    open_only = (await api.post(document, {"open": True}, token=hall.token("enterprise"))).result
    assert [one["id"] for one in open_only["orders"]["nodes"]] == ids[1::-1]
    # The highest bid was filled.
    assert shown_all["holdings"] == [
        {
            "grams": 1_000,
            "availableG": 1_000,
            "costFen": 7,
            "valueFen": 6,
            "credit": CREDIT,
            "instrumentId": INSTRUMENT_ID,
            "serials": [{"first": 2, "last": 1_001}],
        }
    ]
    alice = to_global_id("Citizen", "alice")
    node = f"query ($id: ID!, $open: Boolean!) {{ node(id: $id) {{ ... on Citizen {{ {ORDERS} {HOLDINGS} }} }} }}"
    for who in ("citizen", "administrator"):
        seen = (await api.post(node, {"id": alice, "open": False}, token=hall.token(who))).result
        assert ([one["grams"] for one in seen["holdings"]], len(seen["orders"]["nodes"])) == ([9_000], 1)
    foreign = (await api.post(node, {"id": alice, "open": False}, token=hall.token("other citizen"))).result
    assert foreign is None
    one = "query ($id: ID!) { order(id: $id) { id } node(id: $id) { id } }"
    sight = {
        who: (await api.post(one, {"id": ids[0]}, token=hall.token(who))).data["order"] is not None
        for who in ("enterprise", "administrator", "verifier", "citizen", "partner", "nobody")
    }
    assert [who for who, sees in sight.items() if sees] == ["enterprise", "administrator", "verifier"]
