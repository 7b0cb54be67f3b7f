"""placeOrder, placeOrders: what traders get, each refusal in both languages, who may, keys."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.ledger.model import pool_owner
from backend.market.funds.model import EnterpriseStep, FundAccount
from schemas.relay import to_global_id
from tests.api.documents import shown
from tests.api.exchange_documents import (
    INSTRUMENT_ID,
    KEY,
    ORDER,
    Hall,
    Told,
    ask,
    bid,
    denials,
    only,
    outcome,
    refused,
)
from tests.conftest import dump
from tests.factories import ADMIN
from tests.floor import CREDIT, EVERYWHERE, give_credits, give_fen
from tests.integration.banking import Bank
from tests.integration.trading_floor import KG

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.market.exchange.model import Order
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


async def test_an_order_is_told_as_it_stands(api: Api, hall: Hall, clock: ManualClock) -> None:
    result = (await ask(api, "placeOrder", hall.token("enterprise"), **bid(quantityG=4_000))).result
    now = clock.now()
    [order] = await hall.services.market.orders.list_orders(
        "enterprise:steelworks", open_only=True, limit=9, older=None, newer=None, newest=True
    )
    assert result == {
        "__typename": "Order",
        "id": to_global_id("Order", order.id),
        "instrumentId": INSTRUMENT_ID,
        "side": "BUY",
        "kind": "LIMIT",
        "timeInForce": "GTC",
        "status": "PENDING",
        "reason": None,
        "priceFen": 6_000,
        "quantityG": 4_000,
        "filledG": 0,
        "remainingG": 4_000,
        "cancelledG": 0,
        "valueFen": 0,
        "feeFen": 0,
        "reservedFen": 25,
        "reservedG": 0,
        "goodUntil": shown(order.good_until),
        "createdAt": shown(now),
        "isQueued": True,
        "lastCommand": None,
    }
    sold = (await ask(api, "placeOrder", hall.token("citizen"), **bid(side="SELL", quantityG=3_000))).result
    assert (sold["reservedFen"], sold["reservedG"]) == (0, 3_000)
    await hall.match()
    document = f"query ($id: ID!) {{ order(id: $id) {{ {ORDER} }} node(id: $id) {{ id ... on Order {{ filledG }} }} }}"
    told = (await api.post(document, {"id": result["id"]}, token=hall.token("enterprise"))).data
    assert told["node"] == {"id": result["id"], "filledG": 3_000}
    assert told["order"] == {
        **result,
        "status": "OPEN",
        "isQueued": False,
        "filledG": 3_000,
        "remainingG": 1_000,
        "valueFen": 18,
        "feeFen": 1,
        "reservedFen": 6,
    }


async def test_the_answer_tells_of_the_fill_where_a_matcher_is_at_work(api: Api, hall: Hall) -> None:
    hall.services.market.orders.patience_s = 5
    await hall.sell("alice", 4, 5_900)
    await hall.match()
    matched: list[int] = []

    class Watching:
        """Matches as soon as the order is there, as a worker does."""

        def __init__(self, placing: Any) -> None:
            self._placing = placing

        async def place(self, *given: Any, **named: Any) -> Order:
            order: Order = await self._placing.place(*given, **named)
            matched.append(await hall.services.market.exchange.matching.run(EVERYWHERE))
            return order

    orders = hall.services.market.orders
    usual, orders._placing = orders._placing, Watching(orders._placing)  # type: ignore[assignment]
    try:
        result = (await ask(api, "placeOrder", hall.token("enterprise"), **bid(quantityG=4_000))).result
    finally:
        orders._placing = usual
    assert (result["status"], result["filledG"], result["isQueued"], matched) == ("FILLED", 4_000, False, [1])


async def test_a_market_order_does_not_wait_unless_it_says_so(api: Api, hall: Hall) -> None:
    given = {"instrument": CREDIT, "side": "BUY", "kind": "MARKET", "quantityG": 1_000}
    result = (await ask(api, "placeOrder", hall.token("enterprise"), **given)).result
    assert (result["kind"], result["timeInForce"], result["priceFen"]) == ("MARKET", "IOC", 6_600)
    fok = (await ask(api, "placeOrder", hall.token("enterprise"), key="key-0002", **given, timeInForce="FOK")).result
    assert fok["timeInForce"] == "FOK"


async def test_the_same_key_gives_the_same_order_and_another_under_it_a_conflict(api: Api, hall: Hall) -> None:
    first = (await ask(api, "placeOrder", hall.token("enterprise"), **bid())).result
    before = await dump(hall.services)
    for instrument in (INSTRUMENT_ID, CREDIT, CREDIT.removeprefix("credit:")):
        given = bid(instrument=instrument)
        assert (await ask(api, "placeOrder", hall.token("enterprise"), **given)).result == first
    assert await dump(hall.services) == before
    told = (
        "IDEMPOTENCY_CONFLICT",
        f"幂等键 {KEY} 已用于内容不同的请求",
        f"idempotency key {KEY} was already used with another payload",
    )
    await refused(api, hall, "placeOrder", told, **bid(quantityG=2_000))


REFUSALS: dict[str, tuple[dict[str, Any], Told]] = {
    "a short key": (
        {"key": "1234567"},
        (
            "INVALID_INPUT",
            "字段 idempotencyKey 无效：8–64 个可打印 ASCII 字符",
            "field idempotencyKey is invalid: 8–64 printable ASCII characters",
        ),
    ),
    "no price": (
        {"priceFen": None},
        (
            "INVALID_INPUT",
            "字段 priceFen 无效：限价委托必须有价格",
            "field priceFen is invalid: a limit order needs a price",
        ),
    ),
    "a price too many": (
        {"kind": "MARKET"},
        (
            "INVALID_INPUT",
            "字段 priceFen 无效：市价委托不能带价格",
            "field priceFen is invalid: a market order has no price",
        ),
    ),
    "a market order that waits": (
        {"kind": "MARKET", "priceFen": None, "timeInForce": "GTC"},
        (
            "INVALID_INPUT",
            "字段 timeInForce 无效：市价委托只能是 IOC 或 FOK",
            "field timeInForce is invalid: a market order is IOC or FOK",
        ),
    ),
    "no end": (
        {"timeInForce": "GTD"},
        (
            "INVALID_INPUT",
            "字段 goodUntil 无效：GTD 委托必须有截止时间",
            "field goodUntil is invalid: a GTD order needs its end",
        ),
    ),
    "an end too many": (
        {"goodUntil": "2026-11-20T00:00:00+08:00"},
        (
            "INVALID_INPUT",
            "字段 goodUntil 无效：仅 GTD 委托有截止时间",
            "field goodUntil is invalid: only a GTD order has an end",
        ),
    ),
    "an end in the past": (
        {"timeInForce": "GTD", "goodUntil": "2026-11-01T00:00:00+08:00"},
        (
            "INVALID_INPUT",
            "字段 goodUntil 无效：须在当前之后、90 天之内",
            "field goodUntil is invalid: must be to come, within 90 days",
        ),
    ),
    "an end too far": (
        {"timeInForce": "GTD", "goodUntil": "2027-11-01T00:00:00+08:00"},
        (
            "INVALID_INPUT",
            "字段 goodUntil 无效：须在当前之后、90 天之内",
            "field goodUntil is invalid: must be to come, within 90 days",
        ),
    ),
    "an unknown instrument": (
        {"instrument": "none"},
        ("UNKNOWN_INSTRUMENT", "没有交易品种 credit:none", "there is no instrument credit:none"),
    ),
    "nothing": (
        {"quantityG": 0},
        ("INVALID_INPUT", f"字段 quantityG 无效：1–{10**12}", f"field quantityG is invalid: 1–{10**12}"),
    ),
    "less than nothing": (
        {"quantityG": -1_000},
        ("INVALID_INPUT", f"字段 quantityG 无效：1–{10**12}", f"field quantityG is invalid: 1–{10**12}"),
    ),
    "more than there is": (
        {"quantityG": 2**63 - 1},
        ("INVALID_INPUT", f"字段 quantityG 无效：1–{10**12}", f"field quantityG is invalid: 1–{10**12}"),
    ),
    "off the lot": (
        {"quantityG": 1_500},
        ("OFF_LOT", "数量 1500 克不是 1000 克的整数倍", "1500 g is not a multiple of the lot of 1000 g"),
    ),
    "a price below zero": (
        {"priceFen": -1},
        ("INVALID_INPUT", f"字段 priceFen 无效：1–{10**6}", f"field priceFen is invalid: 1–{10**6}"),
    ),
    "above the band": (
        {"priceFen": 6_601},
        (
            "OUTSIDE_BAND",
            "价格 6601 分/吨超出当日涨跌幅范围 5400–6600",
            "6601 fen/t is outside the day's band of 5400–6600",
        ),
    ),
    "below the band": (
        {"priceFen": 5_399},
        (
            "OUTSIDE_BAND",
            "价格 5399 分/吨超出当日涨跌幅范围 5400–6600",
            "5399 fen/t is outside the day's band of 5400–6600",
        ),
    ),
    "too dear": (
        {"quantityG": 2_000_000},
        (
            "INSUFFICIENT_MONEY",
            "资金不足：需要 12060 分，可用 10000 分",
            "not enough money: 12060 fen needed, 10000 available",
        ),
    ),
    "more than one has": (
        {"side": "SELL"},
        ("TOO_FEW_CREDITS", "减排量不足：需要 1000 克，可用 0 克", "not enough credits: 1000 g needed, 0 g available"),
    ),
}


@pytest.mark.parametrize(("given", "expected"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_says_why_in_both_languages_and_moves_nothing(
    api: Api, hall: Hall, given: dict[str, Any], expected: Told
) -> None:
    await refused(api, hall, "placeOrder", expected, **bid(**given))


async def test_nothing_is_placed_while_the_market_is_closed_or_halted(api: Api, hall: Hall, clock: ManualClock) -> None:
    order = await hall.buy("@steelworks", 1)
    await hall.match()
    await hall.services.market.exchange.desk.halt(ADMIN, CREDIT, "检查", key="halt-0001")
    told = ("MARKET_HALTED", "该品种已暂停交易：检查", "trading is halted: 检查")
    await refused(api, hall, "placeOrder", told, **bid())
    await refused(api, hall, "amendOrder", told, order=order.id, quantityG=2_000)
    await hall.services.market.exchange.desk.resume(ADMIN, CREDIT, key="resume-0001")
    clock.advance(timedelta(hours=2))
    told = ("MARKET_CLOSED", "当前为休市时段，不能进行该操作", "this cannot be done now: the market is closed")
    await refused(api, hall, "placeOrder", told, **bid())
    await refused(api, hall, "amendOrder", told, order=order.id, quantityG=2_000)
    # A request to give up what is left is taken at any hour.
    assert outcome(await ask(api, "cancelOrder", hall.token("enterprise"), order=order.id)) == "Order"


async def test_a_call_takes_only_limit_orders_that_do_not_cross_their_owners(
    api: Api, hall: Hall, clock: ManualClock
) -> None:
    clock.advance(timedelta(days=1, minutes=-44))
    only_limits = (
        "LIMIT_ONLY",
        "集合竞价阶段仅接受 GTC、GTD 限价委托",
        "a call phase takes only limit orders that wait (GTC, GTD)",
    )
    await refused(api, hall, "placeOrder", only_limits, **bid(timeInForce="IOC"))
    await refused(api, hall, "placeOrder", only_limits, **bid(kind="MARKET", priceFen=None))
    order = await hall.sell("alice", 1, 6_000)
    crossed = (
        "SELF_TRADE",
        f"与本人委托 {order.id} 价格交叉",
        f"the order would cross your own order {order.id}",
    )
    await refused(api, hall, "placeOrder", crossed, who="citizen", **bid())


async def test_an_auction_has_a_floor_and_may_be_irrevocable(api: Api, hall: Hall, clock: ManualClock) -> None:
    desk, until = hall.services.market.exchange.desk, clock.now() + timedelta(hours=1)
    order = await hall.buy("@steelworks", 1)
    await hall.match()
    await desk.open_auction(ADMIN, CREDIT, until, floor_fen=5_900, irrevocable=True, key="auction-0001")
    told = ("BELOW_FLOOR", "价格 5899 分/吨低于拍卖底价 5900", "5899 fen/t is below the auction's floor of 5900")
    await refused(api, hall, "placeOrder", told, **bid(priceFen=5_899))
    told = (
        "IRREVOCABLE",
        "本次拍卖申报不可撤销、不可修改",
        "orders in this auction can be neither changed nor taken back",
    )
    await refused(api, hall, "cancelOrder", told, order=order.id)
    await refused(api, hall, "amendOrder", told, order=order.id, quantityG=2_000)


async def test_an_owner_has_at_most_fifty_orders_open(api: Api, hall: Hall) -> None:
    given = [bid(priceFen=5_500)] * 50
    placed = (await ask(api, "placeOrders", hall.token("enterprise"), orders=given)).result
    assert {one["__typename"] for one in placed["results"]} == {"Order"}
    told = ("TOO_MANY_ORDERS", "未完成的委托不能超过 50 笔", "at most 50 orders may be open at once")
    await refused(api, hall, "placeOrder", told, key="key-0002", **bid())


async def test_several_orders_are_placed_or_refused_one_by_one(api: Api, hall: Hall) -> None:
    given = [bid(), bid(quantityG=1_001), bid(side="SELL"), bid(priceFen=5_999)]
    token = hall.token("enterprise")
    first = (await ask(api, "placeOrders", token, orders=given)).result["results"]
    told = [one.get("code") or one["status"] for one in first]
    assert told == ["PENDING", "OFF_LOT", "TOO_FEW_CREDITS", "PENDING"]
    before = await dump(hall.services)
    assert (await ask(api, "placeOrders", token, orders=given)).result["results"] == first
    assert await dump(hall.services) == before
    told_conflict = (
        "IDEMPOTENCY_CONFLICT",
        f"幂等键 {KEY} 已用于内容不同的请求",
        f"idempotency key {KEY} was already used with another payload",
    )
    await refused(api, hall, "placeOrders", told_conflict, orders=given[:1])
    none = ("INVALID_INPUT", "字段 orders 无效：至少一笔", "field orders is invalid: at least one")
    await refused(api, hall, "placeOrders", none, key="key-0002", orders=[])
    many = ("TOO_MANY_PLACINGS", "一次最多提交 100 笔委托", "at most 100 orders can be placed at once")
    await refused(api, hall, "placeOrders", many, key="key-0003", orders=[bid()] * 101)


async def test_citizens_and_enterprises_trade_and_nobody_else(api: Api, hall: Hall) -> None:
    denied = denials("citizen", "other citizen", "enterprise")
    await only(api, hall, "placeOrder", denied, TRADING, **bid())
    await only(api, hall, "placeOrders", denied, TRADING, orders=[bid()])
    pools = denials("administrator")
    await only(api, hall, "placeOrder", pools, TRADING, **bid(pool="batch-1"))


async def test_a_suspended_enterprise_places_nothing_more(api: Api, hall: Hall) -> None:
    bank = Bank(hall.services)
    name = await bank.approved()
    await bank.deposited(FundAccount(enterprise=name))
    token = hall.token_for("enterprise", name)
    first = await ask(api, "placeOrder", token, **bid())
    assert outcome(first) == "Order"
    await bank.step(name, EnterpriseStep.SUSPEND, "资料过期")
    kept = await dump(hall.services)
    answer = await ask(api, "placeOrder", token, key="key-0002", **bid())
    told = f"enterprise {name} is SUSPENDED, so this cannot be done"
    assert (answer.result["code"], answer.result["message"]) == ("ENTERPRISE_STAGE", told)
    assert await dump(hall.services) == kept
    # What was placed before is still told under its key.
    assert (await ask(api, "placeOrder", token, **bid())).result["id"] == first.result["id"]


async def test_an_administrator_sells_for_a_pool_and_lists_its_orders(api: Api, hall: Hall) -> None:
    pool, admin = CREDIT.removeprefix("credit:"), hall.token("administrator")
    await give_fen(hall.services, pool_owner(pool), 100)
    told = (
        "POOL_BUYS",
        "归集池只能卖出，其资金归参与者所有",
        "a pool only sells; its money belongs to its contributors",
    )
    await refused(api, hall, "placeOrder", told, who="administrator", **bid(pool=pool))
    await give_credits(hall.services, pool_owner(pool), 5_000, first=10**9)
    result = (await ask(api, "placeOrder", admin, key="key-0002", **bid(side="SELL", pool=pool))).result
    assert result["status"] == "PENDING"
    listing = "query ($pool: String!) { poolOrders(pool: $pool, first: 5) { nodes { id } } }"
    assert (await api.post(listing, {"pool": pool}, token=admin)).result == {"nodes": [{"id": result["id"]}]}
    for who, code in denials("administrator").items():
        assert (who, (await api.post(listing, {"pool": pool}, token=hall.token(who))).code) == (who, code)
    changed = (await ask(api, "amendOrder", admin, order=result["id"], quantityG=2_000)).result
    assert changed["isQueued"]
    await hall.match()
    page = await hall.services.ledger.get_page(pool_owner(pool))
    assert (page.held("cny"), page.held(CREDIT)) == (0, 2_000_000)
    told = (
        "INVALID_INPUT",
        "字段 pool 无效：1–64 个字母、数字、点、横线或下划线",
        "field pool is invalid: 1–64 letters, digits, dots, dashes and underscores",
    )
    await refused(api, hall, "placeOrder", told, who="administrator", key="key-0009", **bid(pool="a:b"))
