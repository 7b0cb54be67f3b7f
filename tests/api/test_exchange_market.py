"""The market as everybody sees it, what administrators decide of it, and its news over a real websocket."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.market.exchange.model import order_channel, trade_channel
from schemas.relay import to_global_id
from tests.api.documents import shown
from tests.api.exchange_documents import (
    INSTRUMENT,
    INSTRUMENT_ID,
    KEY,
    ORDER,
    Hall,
    Told,
    ask,
    denials,
    only,
    refused,
)
from tests.conftest import dump
from tests.floor import CREDIT, give_credits
from tests.integration.trading_floor import KG, OPEN, REFERENCE_FEN, owner_named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api
    from tests.api.sockets import Phone, Server

pytestmark = pytest.mark.anyio

RUNNING = ("not permitted: running the market", "无权执行该操作：交易管理")
UNKNOWN = ("UNKNOWN_INSTRUMENT", "没有交易品种 credit:none", "there is no instrument credit:none")
OTHER = "zhenjiang-conservative-cycling-2026-001"


@pytest.fixture
async def hall(services: Services, clock: ManualClock, token_for: Callable[..., str]) -> Hall:
    """A hall in which alice and bob have ten kilograms, the steelworks money; ten in the morning of a Monday."""
    hall = Hall(services, clock)
    hall.token_for = token_for
    services.market.orders.patience_s = 0.01
    await hall.open()
    for name in ("alice", "bob"):
        await hall.give_credits(name, 10 * KG)
    await hall.give_fen("@steelworks", 10_000)
    return hall


async def trade(hall: Hall, *prices: int) -> None:
    """One kilogram at each of these prices."""
    for price in prices:
        await hall.sell("alice", 1, price)
        await hall.buy("@steelworks", 1, price)
    await hall.match()


async def test_an_instrument_is_told_to_everybody(api: Api, hall: Hall, clock: ManualClock) -> None:
    await trade(hall, 6_000, 5_900, 6_100)
    document = (
        f"query ($id: ID!) {{ instruments {{ {INSTRUMENT} }} instrument(id: $id) {{ id }} node(id: $id) {{ id }} }}"
    )
    told = (await api.post(document, {"id": INSTRUMENT_ID})).data
    day = OPEN.replace(hour=1, minute=30)
    assert told == {
        "instruments": [
            {
                "__typename": "Instrument",
                "id": INSTRUMENT_ID,
                "credit": CREDIT,
                "batch": CREDIT.removeprefix("credit:"),
                "phase": "CONTINUOUS",
                "phaseUntil": shown(day + timedelta(hours=2)),
                "haltReason": None,
                "auctionFloorFen": None,
                "isIrrevocable": False,
                "referenceFen": REFERENCE_FEN,
                "band": {"lowFen": 5_400, "highFen": 6_600},
                "lotG": 1_000,
                "tickFen": 1,
                "makerFeeBps": 0,
                "takerFeeBps": 50,
                "listedAt": shown(OPEN),
                "lastAt": shown(clock.now()),
                "ticker": {
                    "lastFen": 6_100,
                    "changeFen": 100,
                    "changeBps": 166,
                    "highFen": 6_100,
                    "lowFen": 5_900,
                    "volumeG": 3_000,
                    "valueFen": 19,
                    "trades": 3,
                },
            }
        ],
        "instrument": {"id": INSTRUMENT_ID},
        "node": {"id": INSTRUMENT_ID},
    }
    assert (await api.post(document, {"id": "none"})).data["instrument"] is None


BOOK = """query ($id: ID!, $depth: Int! = 10) { orderBook(instrument: $id, depth: $depth) {
  bids { priceFen quantityG orders } asks { priceFen quantityG orders } sequence at } }"""


async def test_the_book_shows_prices_and_no_names(api: Api, hall: Hall, clock: ManualClock) -> None:
    for name, kg, price in (("alice", 2, 6_050), ("bob", 3, 6_050), ("bob", 1, 6_040)):
        await hall.sell(name, kg, price)
    for kg, price in ((1, 5_990), (4, 6_000)):
        await hall.buy("@steelworks", kg, price)
    await hall.match()
    await hall.buy("@steelworks", 9, 5_900)
    level = {"priceFen": 6_050, "quantityG": 5_000, "orders": 2}
    best = {"priceFen": 6_040, "quantityG": 1_000, "orders": 1}
    bids = [{"priceFen": price, "quantityG": grams, "orders": 1} for price, grams in ((6_000, 4_000), (5_990, 1_000))]
    told = {"bids": bids, "asks": [best, level], "sequence": 5, "at": shown(clock.now())}
    assert (await api.post(BOOK, {"id": INSTRUMENT_ID})).result == told
    narrow = (await api.post(BOOK, {"id": INSTRUMENT_ID, "depth": 1})).result
    assert (narrow["bids"], narrow["asks"]) == (bids[:1], [best])
    assert (await api.post(BOOK, {"id": "none"})).result is None
    for depth in (0, 51):
        assert (await api.post(BOOK, {"id": INSTRUMENT_ID, "depth": depth})).code == "INVALID_INPUT"


TRADES = """query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {
  trades(instrument: $id, first: $first, after: $after, last: $last, before: $before) {
    nodes { id number priceFen quantityG valueFen takerSide instrumentId transactionId at }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""


async def test_trades_are_told_page_by_page(api: Api, hall: Hall) -> None:
    await trade(hall, 6_000, 6_010, 6_020)
    first = (await api.post(TRADES, {"id": INSTRUMENT_ID, "first": 2})).result
    assert [node["number"] for node in first["nodes"]] == [3, 2]
    rest = (await api.post(TRADES, {"id": INSTRUMENT_ID, "after": first["pageInfo"]["endCursor"]})).result
    [oldest] = rest["nodes"]
    [stored] = (await hall.trades())[:1]
    assert oldest == {
        "id": to_global_id("Trade", stored.id),
        "number": 1,
        "priceFen": 6_000,
        "quantityG": 1_000,
        "valueFen": 6,
        "takerSide": "BUY",
        "instrumentId": INSTRUMENT_ID,
        "transactionId": stored.transaction,
        "at": shown(stored.at),
    }
    back = (await api.post(TRADES, {"id": INSTRUMENT_ID, "last": 2, "before": rest["pageInfo"]["endCursor"]})).result
    assert [node["number"] for node in back["nodes"]] == [3, 2]
    assert (await api.post(TRADES, {"id": "none"})).result["nodes"] == []
    assert (await api.post(TRADES, {"id": INSTRUMENT_ID, "after": "bm8"})).code == "INVALID_INPUT"
    node = "query ($id: ID!) { node(id: $id) { ... on Trade { number } } }"
    assert (await api.post(node, {"id": oldest["id"]})).result == {"number": 1}


CANDLES = """query ($id: ID!, $interval: CandleInterval!, $since: DateTime!, $until: DateTime!) {
  candles(instrument: $id, interval: $interval, since: $since, until: $until) {
    start openFen highFen lowFen closeFen volumeG valueFen trades } }"""


async def test_candles_of_all_lengths(api: Api, hall: Hall, clock: ManualClock) -> None:
    await trade(hall, 6_000, 5_900)
    clock.advance(timedelta(minutes=1))
    await trade(hall, 6_200)
    await trade(hall, 6_100)
    clock.advance(timedelta(minutes=10))
    await trade(hall, 6_050)

    async def candles(interval: str, since: Any = OPEN, until: Any = None) -> list[tuple[Any, ...]]:
        span = {"since": shown(since), "until": shown(until or OPEN + timedelta(hours=1))}
        found = (await api.post(CANDLES, {"id": INSTRUMENT_ID, "interval": interval, **span})).result
        return [tuple(candle.values()) for candle in found]

    minute = [
        (shown(OPEN), 6_000, 6_000, 5_900, 5_900, 2_000, 12, 2),
        (shown(OPEN + timedelta(minutes=1)), 6_200, 6_200, 6_100, 6_100, 2_000, 14, 2),
        (shown(OPEN + timedelta(minutes=11)), 6_050, 6_050, 6_050, 6_050, 1_000, 7, 1),
    ]
    assert await candles("MINUTE") == minute
    assert await candles("MINUTE", OPEN + timedelta(minutes=1), OPEN + timedelta(minutes=11)) == minute[1:2]
    assert await candles("MINUTES_5") == [
        (shown(OPEN), 6_000, 6_200, 5_900, 6_100, 4_000, 26, 4),
        (shown(OPEN + timedelta(minutes=10)), 6_050, 6_050, 6_050, 6_050, 1_000, 7, 1),
    ]
    whole = (6_000, 6_200, 5_900, 6_050, 5_000, 33, 5)
    assert await candles("HOUR") == [(shown(OPEN), *whole)]
    midnight = OPEN.replace(hour=16) - timedelta(days=1)
    assert await candles("DAY", midnight) == [(shown(midnight), *whole)]
    assert await candles("DAY", midnight + timedelta(minutes=1)) == []
    long = {"since": shown(OPEN), "until": shown(OPEN + timedelta(days=2))}
    answer = await api.post(CANDLES, {"id": INSTRUMENT_ID, "interval": "MINUTE", **long})
    assert answer.refusal == ("INVALID_INPUT", "field until is invalid: at most 500 candles")


async def test_an_issued_batch_is_listed_once(api: Api, hall: Hall) -> None:
    await give_credits(hall.services, owner_named("alice"), KG, batch=OTHER)
    admin = hall.token("administrator")
    none = ("NOT_ISSUED", "credit:none 尚未签发，不能上市", "credit:none has not been issued and cannot be listed")
    await refused(api, hall, "listInstrument", none, who="administrator", credit="none", referenceFen=6_000)
    for price in (0, -1, 10**6 + 1):
        told = ("INVALID_INPUT", "字段 referenceFen 无效：1–1000000", "field referenceFen is invalid: 1–1000000")
        await refused(api, hall, "listInstrument", told, who="administrator", credit=OTHER, referenceFen=price)
    await only(api, hall, "listInstrument", denials("administrator"), RUNNING, credit=OTHER, referenceFen=6_000)
    listed = (await ask(api, "listInstrument", admin, credit=OTHER, referenceFen=7_000)).result
    assert (listed["batch"], listed["referenceFen"], listed["ticker"]["lastFen"]) == (OTHER, 7_000, None)
    before = await dump(hall.services)
    assert (await ask(api, "listInstrument", admin, credit=OTHER, referenceFen=7_000)).result == listed
    assert await dump(hall.services) == before
    conflict = (
        "IDEMPOTENCY_CONFLICT",
        f"幂等键 {KEY} 已用于内容不同的请求",
        f"idempotency key {KEY} was already used with another payload",
    )
    await refused(api, hall, "listInstrument", conflict, who="administrator", credit=OTHER, referenceFen=7_001)
    again = ("ALREADY_LISTED", f"credit:{OTHER} 已上市交易", f"credit:{OTHER} is listed already")
    given = {"who": "administrator", "key": "key-0002"}
    await refused(api, hall, "listInstrument", again, **given, credit=OTHER, referenceFen=7_000)


async def test_trading_is_halted_and_resumed(api: Api, hall: Hall) -> None:
    admin = hall.token("administrator")
    for name, given in (("haltTrading", {"reason": "检查"}), ("resumeTrading", {})):
        await only(api, hall, name, denials("administrator"), RUNNING, instrument=INSTRUMENT_ID, **given)
        await refused(api, hall, name, UNKNOWN, who="administrator", instrument="none", **given)
    blank = (
        "INVALID_INPUT",
        "字段 reason 无效：1–200 个字符，不含控制字符",
        "field reason is invalid: 1–200 characters, none of them control characters",
    )
    await refused(api, hall, "haltTrading", blank, who="administrator", instrument=INSTRUMENT_ID, reason=" ")
    on = ("NOT_HALTED", "该品种未暂停交易", "trading is not halted")
    await refused(api, hall, "resumeTrading", on, who="administrator", instrument=INSTRUMENT_ID)
    halted = (await ask(api, "haltTrading", admin, instrument=INSTRUMENT_ID, reason="检查")).result
    assert (halted["phase"], halted["phaseUntil"], halted["haltReason"]) == ("HALTED", None, "检查")
    assert (await ask(api, "haltTrading", admin, instrument=INSTRUMENT_ID, reason="检查")).result == halted
    off = ("MARKET_HALTED", "该品种已暂停交易：检查", "trading is halted: 检查")
    given: dict[str, Any] = {"who": "administrator", "key": "key-0002", "instrument": INSTRUMENT_ID}
    await refused(api, hall, "haltTrading", off, **given, reason="again")
    until = shown(hall.clock.now() + timedelta(hours=1))
    await refused(api, hall, "openSession", off, **given, until=until)
    await refused(api, hall, "openAuction", off, **given, until=until)
    resumed = (await ask(api, "resumeTrading", admin, instrument=INSTRUMENT_ID)).result
    assert (resumed["phase"], resumed["haltReason"]) == ("CONTINUOUS", None)


async def test_a_session_is_opened_outside_the_hours(api: Api, hall: Hall, clock: ManualClock) -> None:
    clock.advance(timedelta(hours=10))
    admin, until = hall.token("administrator"), shown(clock.now() + timedelta(hours=1))
    given: dict[str, Any] = {"instrument": INSTRUMENT_ID, "until": until}
    await only(api, hall, "openSession", denials("administrator"), RUNNING, **given)
    await refused(api, hall, "openSession", UNKNOWN, who="administrator", instrument="none", until=until)
    told = (
        "INVALID_INPUT",
        "字段 until 无效：须晚于当前时间且在 7 天之内",
        "field until is invalid: must be to come, within seven days",
    )
    for moment in (clock.now(), clock.now() + timedelta(days=8)):
        past = {"instrument": INSTRUMENT_ID, "until": shown(moment)}
        await refused(api, hall, "openSession", told, who="administrator", **past)
        await refused(api, hall, "openAuction", told, who="administrator", **past)
    opened = (await ask(api, "openSession", admin, **given)).result
    assert (opened["phase"], opened["phaseUntil"]) == ("CONTINUOUS", until)


REFUSED_FLOORS: dict[str, tuple[int, Told]] = {
    "no price": (0, ("INVALID_INPUT", "字段 priceFen 无效：1–1000000", "field priceFen is invalid: 1–1000000")),
    "outside the band": (
        5_000,
        (
            "OUTSIDE_BAND",
            "价格 5000 分/吨超出当日涨跌幅范围 5400–6600",
            "5000 fen/t is outside the day's band of 5400–6600",
        ),
    ),
}


async def test_an_auction_is_opened_with_its_terms(api: Api, hall: Hall, clock: ManualClock) -> None:
    admin, until = hall.token("administrator"), shown(clock.now() + timedelta(hours=1))
    given: dict[str, Any] = {"instrument": INSTRUMENT_ID, "until": until, "floorFen": 5_900, "irrevocable": True}
    await only(api, hall, "openAuction", denials("administrator"), RUNNING, **given)
    await refused(api, hall, "openAuction", UNKNOWN, who="administrator", **{**given, "instrument": "none"})
    for floor_fen, expected in REFUSED_FLOORS.values():
        await refused(api, hall, "openAuction", expected, who="administrator", **{**given, "floorFen": floor_fen})
    opened = (await ask(api, "openAuction", admin, **given)).result
    assert (opened["phase"], opened["phaseUntil"]) == ("AUCTION", until)
    assert (opened["auctionFloorFen"], opened["isIrrevocable"]) == (5_900, True)
    assert (await ask(api, "openAuction", admin, **given)).result == opened
    busy = (
        "MARKET_CLOSED",
        "当前为集合竞价阶段，不能进行该操作",
        "this cannot be done now: orders are being collected for an auction",
    )
    await refused(api, hall, "openAuction", busy, who="administrator", key="key-0002", **given)
    late = {"instrument": INSTRUMENT_ID, "until": until}
    await refused(api, hall, "openSession", busy, who="administrator", key="key-0002", **late)


EXECUTED = "subscription ($id: ID!) { tradeExecuted(instrument: $id) { number priceFen quantityG takerSide } }"
CHANGED = f"subscription {{ orderChanged {{ {ORDER} }} }}"


@asynccontextmanager
async def watching(
    server: Server, hall: Hall, who: str, document: str, channel: str, phones: int = 1
) -> AsyncIterator[Phone]:
    """A phone of theirs that hears on that channel, the last of so many."""
    async with server.phone(headers={"accept-language": "en"}) as phone:
        await phone.greet(hall.token(who))
        await phone.ask(document, variables={"id": INSTRUMENT_ID} if document is EXECUTED else None)
        await server.until_heard("", phones, channel_of=lambda _: channel)
        yield phone


async def heard(phone: Phone) -> Any:
    """The next thing the phone learns of."""
    [value] = (await phone.receive())["payload"]["data"].values()
    return value


async def heard_nothing(phone: Phone) -> None:
    """Assert that nothing waits for the phone: the next thing it hears is the answer to its own ping."""
    await phone.send("ping")
    assert (await phone.receive())["type"] == "pong"


async def test_trades_reach_everybody_and_orders_their_owners_alone(server: Server, hall: Hall) -> None:
    own, other = order_channel(owner_named("@steelworks")), order_channel(owner_named("bob"))
    async with (
        watching(server, hall, "other citizen", EXECUTED, trade_channel(CREDIT)) as watcher,
        watching(server, hall, "enterprise", CHANGED, own) as buyer,
        watching(server, hall, "other citizen", CHANGED, other) as stranger,
    ):
        bid = await hall.buy("@steelworks", 2, 6_000)
        await hall.match()
        resting = await heard(buyer)
        assert (resting["id"], resting["status"], resting["filledG"]) == (to_global_id("Order", bid.id), "OPEN", 0)
        await hall.sell("alice", 1, 6_000)
        await hall.match()
        assert await heard(watcher) == {"number": 1, "priceFen": 6_000, "quantityG": 1_000, "takerSide": "SELL"}
        filled = await heard(buyer)
        assert (filled["filledG"], filled["valueFen"], filled["status"]) == (1_000, 6, "OPEN")
        await hall.match(await hall.cancel(bid))
        ended = await heard(buyer)
        assert (ended["status"], ended["reason"], ended["cancelledG"]) == ("CANCELLED", "BY_OWNER", 1_000)
        for phone in (watcher, buyer, stranger):
            await heard_nothing(phone)


@pytest.mark.parametrize(
    ("document", "who", "code"),
    [
        (EXECUTED, "nobody", "UNAUTHENTICATED"),
        (CHANGED, "nobody", "UNAUTHENTICATED"),
        (CHANGED, "administrator", "FORBIDDEN"),
        (CHANGED, "owner", "FORBIDDEN"),
    ],
)
async def test_who_may_not_watch_is_told_so(server: Server, hall: Hall, document: str, who: str, code: str) -> None:
    async with server.phone(headers={"accept-language": "en"}) as phone:
        await phone.greet(hall.token(who))
        await phone.ask(document, variables={"id": INSTRUMENT_ID} if document is EXECUTED else None)
        answer = await phone.receive()
        [error] = answer["payload"] if answer["type"] == "error" else answer["payload"]["errors"]
        assert error["extensions"] == {"code": code}
