"""Offers as citizens find them and merchants list them: everything written is read again, pages meet, nothing leaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.rewards.offers.model import Stock, StockKind, Window
from backend.rewards.stock.model import Want, stock_pot
from schemas.operations import read_operation
from schemas.relay import to_global_id
from tests.api.documents import written
from tests.api.trade_documents import KEY, terms
from tests.integration.market import open_market
from tests.unit.rewards.trading import DAY, LAT_E6, LON_E6, member_details, offer_terms, shop_details, works

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api
    from tests.integration.market import Market

    Token = Callable[..., str]

pytestmark = pytest.mark.anyio
OWNER = ("merchant", "chen")
CHEN = works("chen")
TOTAL = StockKind.TOTAL
CREATE = """mutation ($input: CreateOfferInput!) { createOffer(input: $input) {
  ... on ManagedOffer { id } ... on Refusal { code message } } }"""


@pytest.fixture
async def market(services: Services) -> Market:
    """Chen sells, with the cashier li; wu sells too."""
    made = open_market(services)
    await made.approved()
    await made.merchants.add_member(CHEN, None, "li", member_details(), key=made.key())
    await made.approved("wu", number=2)
    return made


async def test_all_that_is_written_of_an_offer_is_read_again(api: Api, market: Market, token_for: Token) -> None:
    desk = await market.merchants.desk(CHEN)
    place = to_global_id("Shop", desk.merchant.shops[0].id)
    now = market.services.clock.now()
    whole = {
        "cashFen": 990,
        "items": 10,
        "stock": {"kind": "DAILY", "units": 20},
        "limits": {"perDay": 1, "inAll": 5},
        "audience": {"districts": ["京口区"], "newcomerDays": 30},
        "windows": [{"weekdays": [1, 2], "fromMinute": 600, "toMinute": 720}],
        "vouchersUntil": written(now + 60 * DAY),
        "borneBy": "MERCHANT",
        "shops": [place],
    }
    given = {"input": {"idempotencyKey": KEY, "terms": terms(market, **whole)}}
    made = await api.post(CREATE, given, token=token_for(*OWNER))
    fields = """cashFen items stock { kind units } limits { perDay inAll } audience { districts newcomerDays }
      windows { weekdays fromMinute toMinute } borneBy shops title text titles { zh en } texts { zh en }
      handover { zh en } pricePoints kind category voucherDays refundDays pictureUrl"""
    document = f"{{ merchantDesk {{ offers {{ nodes {{ id terms {{ {fields} }} }} }} }} }}"
    (seen,) = (await api.post(document, token=token_for("merchant", "li"))).result["offers"]["nodes"]
    assert seen["id"] == made.result["id"]
    plain = {name: value for name, value in whole.items() if name != "vouchersUntil"}
    assert {name: seen["terms"][name] for name in plain} == plain
    assert seen["terms"]["texts"] == {"zh": "任选一款茶", "en": "Any tea"}
    assert seen["terms"]["handover"] == {"zh": "请上茶", "en": "Serve a pot"}
    rest = ("title", "text", "pricePoints", "kind", "category", "voucherDays", "refundDays", "pictureUrl")
    assert [seen["terms"][name] for name in rest] == ["A pot of tea", "Any tea", 500, "VOUCHER", "FOOD", 7, 7, None]


async def test_everybody_sees_an_offer_on_sale_and_nobody_else_one_that_is_not(
    api: Api, market: Market, token_for: Token
) -> None:
    offer = await market.live(stock=Stock(TOTAL, 5))
    variables = {"id": to_global_id("Offer", offer.id)}
    seen = (await api.post(read_operation("Offer"), variables, language="zh")).result
    assert (seen["id"], seen["unitsLeft"], seen["closedBecause"]) == (variables["id"], 5, None)
    assert (seen["terms"]["title"], seen["merchant"]["name"]) == ("茶一壶", "金山茶馆")
    assert [shop["name"] for shop in seen["shops"]] == ["大市口店"]
    node = "query ($id: ID!) { node(id: $id) { __typename ... on Offer { terms { title } } } }"
    assert (await api.post(node, variables)).result == {"__typename": "Offer", "terms": {"title": "A pot of tea"}}
    pot = stock_pot(offer.id)
    await market.pots.finish(await market.pots.reserve("rsv", {pot: Want(2, 5)}), {pot: 2})
    assert (await api.post(read_operation("Offer"), variables)).result["unitsLeft"] == 3
    await market.offers.pause(CHEN, offer.id, key=market.key())
    for document in (read_operation("Offer"), node):
        assert (await api.post(document, variables, token=token_for(*OWNER))).result is None
        assert (await api.post(document, {"id": to_global_id("Offer", "off_none")})).result is None


async def test_an_offer_says_why_it_is_closed(api: Api, market: Market) -> None:
    minutes = market.services.clock.now().astimezone(market.services.programme.zone)
    other_day = (minutes.isoweekday() + 2) % 7 + 1
    offer = await market.live(windows=(Window((other_day,), 0, 1_440),))
    document = "query ($id: ID!) { offer(id: $id) { closedBecause } }"
    variables = {"id": to_global_id("Offer", offer.id)}
    assert (await api.post(document, variables)).result == {
        "closedBecause": "this cannot be redeemed now: outside its hours"
    }
    assert (await api.post(document, variables, language="zh")).result == {
        "closedBecause": "当前不可兑换：不在可兑换时段"
    }


def titles(found: Any) -> list[str]:
    """Titles of what was found."""
    return [node["offer"]["terms"]["title"] for node in found["nodes"]]


async def test_offers_are_found_newest_or_nearest_first_and_page_by_page(api: Api, market: Market) -> None:
    clock: Any = market.services.clock
    far = shop_details(lat_e6=LAT_E6 + 8_994, lon_e6=LON_E6)
    await market.merchants.save_shop(works("wu"), None, None, far, key=market.key())
    first_shop = (await market.merchants.desk(works("wu"))).merchant.shops[0].id
    await market.merchants.remove_shop(works("wu"), None, first_shop, key=market.key())
    for title, owner, price in (("Tea", "chen", 100), ("Film", "wu", 200), ("Green tea", "chen", 300)):
        clock.advance(DAY // 1_440)
        words = offer_terms().title._replace(en=title)
        await market.live(owner, title=words, price_points=price)
    document = read_operation("Offers")
    newest = (await api.post(document, {})).result
    assert titles(newest) == ["Green tea", "Film", "Tea"]
    assert [node["distanceM"] for node in newest["nodes"]] == [None] * 3
    first = (await api.post(document, {"first": 2})).result
    rest = (await api.post(document, {"first": 2, "after": first["pageInfo"]["endCursor"]})).result
    assert (titles(first), titles(rest)) == (["Green tea", "Film"], ["Tea"])
    assert (first["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    for wanted, expected in (
        ({"text": "TEA"}, ["Green tea", "Tea"]),
        ({"affordable": 200}, ["Film", "Tea"]),
        ({"category": "SPORT"}, []),
        ({"kind": "VOUCHER", "district": "京口区", "text": "film"}, ["Film"]),
    ):
        assert titles((await api.post(document, {"filter": wanted})).result) == expected
    near = {"latE6": LAT_E6 + 8_994, "lonE6": LON_E6, "radiusM": 5_000}
    nearest = (await api.post(document, {"near": near})).result
    assert [node["distanceM"] for node in nearest["nodes"]] == [0, 1_000, 1_000]
    assert titles(nearest)[0] == "Film"
    one = (await api.post(document, {"near": near, "first": 1})).result
    more = (await api.post(document, {"near": near, "after": one["pageInfo"]["endCursor"]})).result
    assert [*one["nodes"], *more["nodes"]] == nearest["nodes"]


async def test_a_search_that_cannot_be_is_refused(api: Api) -> None:
    document = read_operation("Offers")
    near = {"latE6": 0, "lonE6": 0, "radiusM": 50_001}
    for variables in (
        {"filter": {"text": ""}},
        {"filter": {"district": "玄武区"}},
        {"near": near},
        {"first": 101},
        {"after": "nonsense"},
        {"near": {**near, "radiusM": 1}, "after": "bm9uc2Vuc2V8eA"},
    ):
        answer = await api.post(document, variables)
        assert (variables, answer.code) == (variables, "INVALID_INPUT")


async def test_a_merchants_offers_are_listed_where_one_works(api: Api, market: Market, token_for: Token) -> None:
    for number in range(3):
        await market.draft(price_points=100 + number)
    document = """query ($after: String) { merchantDesk { offers(first: 2, after: $after) {
      pageInfo { hasNextPage endCursor } nodes { terms { pricePoints } } } } }"""
    token = token_for(*OWNER)
    first = (await api.post(document, token=token)).result["offers"]
    after = first["pageInfo"]["endCursor"]
    second = (await api.post(document, {"after": after}, token=token)).result["offers"]
    prices = [node["terms"]["pricePoints"] for node in (*first["nodes"], *second["nodes"])]
    assert sorted(prices) == [100, 101, 102]
    elsewhere = (await api.post(document, token=token_for("merchant", "wu"))).result["offers"]
    assert elsewhere["nodes"] == []
