"""The merchant's desk, a merchant's public face, and what staff read of merchants; nobody sees more than they may."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from schemas.relay import to_global_id
from tests.api.documents import shown, written
from tests.api.test_merchants import ADMIN, CASES, OWNER, selling, suspended, to_open, to_suspend
from tests.api.trade_documents import ACCOUNT, contract, shop
from tests.integration.market import open_market

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api
    from tests.integration.market import Market

    Token = Callable[..., str]

pytestmark = pytest.mark.anyio


@pytest.fixture
def market(services: Services) -> Market:
    """Merchants and offers through their services."""
    return open_market(services)


DESK = f"""{{ merchantDesk {{
  merchant {{ {ACCOUNT} contracts {{ number rateNumerator rateDenominator commissionBps cycle budgetFen validFrom }}
    members {{ login name role shop isActive }} }}
  member {{ login name role shop isActive }} }} }}"""
PLAIN_DESK = "{ merchantDesk { merchant { id stage shops { id } } member { login role } } }"


async def test_an_owner_sees_the_whole_desk_and_a_cashier_the_counter(
    api: Api, services: Services, market: Market, token_for: Token
) -> None:
    given = await to_open(market)
    later = services.clock.now() + timedelta(days=3)
    await CASES["saveShop"].ask(api, token_for(*OWNER), {**shop(phone="0511-1234567"), "merchant": given["merchant"]})
    await CASES["agreeContract"].ask(
        api,
        token_for(*ADMIN),
        {"merchant": given["merchant"], "contract": contract(budgetFen=5, validFrom=written(later))},
    )
    desk = (await api.post(DESK, token=token_for(*OWNER))).result
    assert desk["member"] == {"login": "chen", "name": "陈静", "role": "OWNER", "shop": None, "isActive": True}
    assert [member["login"] for member in desk["merchant"]["members"]] == ["chen", "li"]
    assert desk["merchant"]["contracts"][1] == {
        "number": 2,
        "rateNumerator": 1,
        "rateDenominator": 1,
        "commissionBps": 500,
        "cycle": "MONTH",
        "budgetFen": 5,
        "validFrom": shown(later),
    }
    opened = desk["merchant"]["shops"][1]
    assert {field: opened[field] for field in ("address", "district", "latE6", "phone", "hours", "name")} == {
        "address": "中山东路 1 号",
        "district": "京口区",
        "latE6": 32_209_000,
        "phone": "0511-1234567",
        "hours": [{"weekday": 1, "fromMinute": 540, "toMinute": 1_200}],
        "name": "Dashikou shop",
    }
    cashier = token_for("merchant", "li")
    counter = (await api.post(PLAIN_DESK, token=cashier)).result
    assert (counter["member"], counter["merchant"]["id"]) == ({"login": "li", "role": "CASHIER"}, given["merchant"])
    for secret in ("contracts { number }", "members { login }"):
        answer = await api.post(f"{{ merchantDesk {{ merchant {{ {secret} }} }} }}", token=cashier)
        assert answer.code == "FORBIDDEN"
    for role, who in (("merchant", "nobody"), ("citizen", "chen"), ADMIN):
        assert (await api.post(PLAIN_DESK, token=token_for(role, who))).code == "FORBIDDEN"
    assert (await api.post(PLAIN_DESK)).code == "UNAUTHENTICATED"


async def test_a_suspended_merchants_people_still_come_to_their_desk(
    api: Api, market: Market, token_for: Token
) -> None:
    await suspended(market)
    assert (await api.post(PLAIN_DESK, token=token_for(*OWNER))).result["merchant"]["stage"] == "SUSPENDED"


async def test_everybody_sees_a_merchant_that_sells_and_no_secret_of_it(
    api: Api, market: Market, token_for: Token
) -> None:
    given = await selling(market)
    document = "query ($id: ID!) { merchant(id: $id) { id name shops { name } } }"
    node = "query ($id: ID!) { node(id: $id) { __typename id ... on MerchantProfile { name } } }"
    variables = {"id": given["merchant"]}
    expected = {"id": given["merchant"], "name": "Jinshan tea house", "shops": [{"name": "Dashikou shop"}]}
    assert (await api.post(document, variables)).result == expected
    assert (await api.post(node, variables)).result == {
        "__typename": "MerchantProfile",
        "id": given["merchant"],
        "name": "Jinshan tea house",
    }
    for secret in ("legalName", "creditCode", "contracts { number }", "members { login }"):
        asked = await api.post(f"query ($id: ID!) {{ merchant(id: $id) {{ {secret} }} }}", variables)
        assert asked.body["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    await CASES["suspendMerchant"].ask(api, token_for(*ADMIN), {**given, "reason": "x"})
    for asked_for in (document, node):
        assert (await api.post(asked_for, variables, token=token_for(*OWNER))).result is None
        assert (await api.post(asked_for, {"id": to_global_id("Merchant", "mer_none")})).result is None


ADMIN_LIST = """query ($stage: MerchantState, $first: Int, $after: String) {
  admin { merchants(stage: $stage, first: $first, after: $after) {
    pageInfo { hasNextPage endCursor } nodes { id stage legalName members { login } } } } }"""
ADMIN_ONE = "query ($id: ID!) { admin { merchant(id: $id) { id stage contracts { number } } } }"
ADMIN_LOG = """query ($merchant: ID) { admin { merchantLog(merchant: $merchant) {
  nodes { at actor step reason before after merchantId offerId } } } }"""


async def test_staff_list_merchants_and_read_the_log(api: Api, market: Market, token_for: Token) -> None:
    given = await to_suspend(market)
    await CASES["suspendMerchant"].ask(api, token_for(*ADMIN), given)
    token = token_for("reviewer", "rita")
    first = (await api.post(ADMIN_LIST, {"first": 1}, token=token)).result["merchants"]
    after = first["pageInfo"]["endCursor"]
    second = (await api.post(ADMIN_LIST, {"first": 1, "after": after}, token=token)).result["merchants"]
    assert (first["pageInfo"]["hasNextPage"], second["pageInfo"]["hasNextPage"]) == (True, False)
    assert {node["id"] for node in [*first["nodes"], *second["nodes"]]} >= {given["merchant"]}
    stopped = (await api.post(ADMIN_LIST, {"stage": "SUSPENDED"}, token=token)).result["merchants"]["nodes"]
    assert [(node["id"], [who["login"] for who in node["members"]]) for node in stopped] == [
        (given["merchant"], ["chen", "li"])
    ]
    one = (await api.post(ADMIN_ONE, {"id": given["merchant"]}, token=token)).result["merchant"]
    assert one == {"id": given["merchant"], "stage": "SUSPENDED", "contracts": [{"number": 1}]}
    assert (await api.post(ADMIN_ONE, {"id": "mer_none"}, token=token)).result["merchant"] is None
    log = (await api.post(ADMIN_LOG, {"merchant": given["merchant"]}, token=token)).result["merchantLog"]["nodes"]
    assert (log[0]["actor"], log[0]["step"], log[0]["reason"]) == ("staff:root", "SUSPEND", "投诉较多")
    assert (log[0]["merchantId"], log[0]["offerId"], log[0]["before"]) == (given["merchant"], None, log[1]["after"])
    for role, who in (OWNER, ("citizen", "chen"), ("partner", "chen")):
        for document in (ADMIN_LIST, ADMIN_LOG):
            assert (await api.post(document, {}, token=token_for(role, who))).code == "FORBIDDEN"
