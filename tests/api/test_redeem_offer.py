"""redeemOffer: what the citizen gets, each refusal in both languages, who may, keys, and codes made by the phone."""

from __future__ import annotations

import base64
import hmac
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.ledger.model import POINTS
from backend.rewards.offers.model import Audience, CitizenLimits, Stock, StockKind
from schemas.operations import read_operation
from schemas.relay import to_global_id
from tests.api.documents import shown
from tests.api.reward_documents import KEY, Told, ask, denials, everything, only, outcome, refused
from tests.api.selling import OWNER, Town
from tests.factories import account, holding, owner, shop
from tests.unit.rewards.trading import RITA, ROOT, code_terms, donation_terms, works

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

BALANCES = "{ viewer { ... on Citizen { pointsBalance pointsAvailable pointsHeld vouchers { nodes { id status } } } } }"


@pytest.fixture
async def town(services: Services, token_for: Callable[..., str]) -> Town:
    """A town where alice has a thousand points."""
    made = await Town(services, token_for).open()
    await made.earn()
    return made


async def test_a_voucher_is_all_that_the_offer_promised(api: Api, town: Town, services: Services) -> None:
    offer = await town.offer(items=3, cash_fen=800, shops=(town.house.shops[0].id,))
    given = {"offer": to_global_id("Offer", offer.id), "units": 2}
    result = (await ask(api, "redeemOffer", town.token("citizen"), **given)).result
    secrets = {name: result.pop(name) for name in ("secret", "partnerCode", "shownCode")}
    now = services.clock.now()
    [voucher] = await services.rewards.vouchers.list_vouchers(
        owner().removeprefix("citizen:"), limit=2, older=None, newer=None, newest=True
    )
    assert result == {
        "__typename": "Voucher",
        "id": to_global_id("Voucher", voucher.id),
        "kind": "VOUCHER",
        "status": "HELD",
        "title": "A pot of tea",
        "handover": "Serve a pot",
        "offerId": to_global_id("Offer", offer.id),
        "merchantId": to_global_id("Merchant", town.house.id),
        "shops": [to_global_id("Shop", town.house.shops[0].id)],
        "units": 2,
        "items": 6,
        "itemsLeft": 6,
        "points": 1_000,
        "pointsCaptured": 0,
        "pointsRefunded": 0,
        "cashFen": 800,
        "borneBy": "PROGRAMME",
        "createdAt": shown(now),
        "expiresAt": shown(voucher.expires_at),
        "captures": [],
        "refunds": [],
        "dispute": None,
    }
    assert secrets["partnerCode"] is None
    assert made_by_the_phone(secrets["secret"], voucher.number, int(now.timestamp())) == secrets["shownCode"]["token"]
    assert secrets["shownCode"]["typed"].startswith(f"{voucher.number[:4]}-{voucher.number[4:]} ")
    assert secrets["shownCode"]["svg"].startswith("<svg ")
    step = int(now.timestamp()) // 30
    assert secrets["shownCode"]["validUntil"] == shown(now.fromtimestamp((step + 1) * 30, now.tzinfo))
    assert (await api.post(BALANCES, token=town.token("citizen"))).result == {
        "pointsBalance": 1_000,
        "pointsAvailable": 0,
        "pointsHeld": 1_000,
        "vouchers": {"nodes": [{"id": result["id"], "status": "HELD"}]},
    }


def made_by_the_phone(secret: str, number: str, seconds: int) -> str:
    """The token that a phone without a network makes, as docs/vouchers.md tells its programmer."""
    message = f"tanhui voucher 1{number}{seconds // 30}".encode()
    mac = hmac.digest(base64.b64decode(secret), message, "sha256")[:15]
    return f"TH1.{number}.{seconds // 30}.{base64.urlsafe_b64encode(mac).decode()}"


async def test_the_app_speaks_chinese_where_nothing_else_is_asked(api: Api, town: Town) -> None:
    offer = await town.offer()
    variables = {"input": {"idempotencyKey": KEY, "offer": to_global_id("Offer", offer.id)}}
    document = read_operation("RedeemOffer")
    result = (await api.post(document, variables, token=town.token("citizen"), language=None)).result
    assert (result["title"], result["handover"], result["units"]) == ("茶一壶", "请上茶", 1)


async def test_a_gift_is_given_and_a_partners_code_is_told_at_once(api: Api, town: Town) -> None:
    tree = await town.offer(make=donation_terms, price_points=600)
    given = (await ask(api, "redeemOffer", town.token("citizen"), offer=tree.id)).result
    assert (given["kind"], given["status"], given["itemsLeft"]) == ("DONATION", "CAPTURED", 0)
    assert (given["shownCode"], given["partnerCode"]) == (None, None)
    film = await sold_by_code(town, "FILM-0001")
    told = (await ask(api, "redeemOffer", town.token("citizen"), offer=film, key="key-0002")).result
    assert (told["kind"], told["status"], told["partnerCode"]) == ("CODE", "CAPTURED", "FILM-0001")
    node = "query ($id: ID!) { node(id: $id) { ... on Voucher { partnerCode secret shownCode { typed } } } }"
    again = (await api.post(node, {"id": told["id"]}, token=town.token("citizen"))).result
    assert (again["partnerCode"], again["shownCode"]) == ("FILM-0001", None)
    for who in ("owner", "cashier", "administrator"):
        seen = (await api.post(node, {"id": told["id"]}, token=town.token(who))).result
        assert (who, seen) == (who, {"partnerCode": None, "secret": None, "shownCode": None})


async def sold_by_code(town: Town, *codes: str) -> str:
    """An offer of third parties' codes."""
    offers = town.services.rewards.offers
    draft = await offers.create(works(OWNER), None, code_terms(town.services.clock.now()), key=town.key())
    return (await town.approve(await offers.add_codes(works(OWNER), draft.id, codes, key=town.key()))).id


async def test_the_same_key_gives_the_same_voucher_and_another_order_under_it_a_conflict(
    api: Api, town: Town, services: Services
) -> None:
    offer = await town.offer()
    first = (await ask(api, "redeemOffer", town.token("citizen"), offer=offer.id)).result
    before = await everything(town)
    for given in (offer.id, to_global_id("Offer", offer.id)):
        assert (await ask(api, "redeemOffer", town.token("citizen"), offer=given)).result == first
    assert await everything(town) == before
    conflict = (
        "IDEMPOTENCY_CONFLICT",
        f"幂等键 {KEY} 已用于内容不同的请求",
        f"idempotency key {KEY} was already used with another payload",
    )
    await refused(api, town, "redeemOffer", conflict, offer=offer.id, units=2)


CLOSED = "OFFER_CLOSED"
REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], Told]] = {
    "no such offer": (
        {},
        {"offer": "off_none"},
        ("UNKNOWN_OFFER", "没有兑换项目 off_none", "there is no offer off_none"),
    ),
    "nothing": ({}, {"units": 0}, ("INVALID_INPUT", "字段 units 无效：1–20", "field units is invalid: 1–20")),
    "too much": ({}, {"units": 21}, ("INVALID_INPUT", "字段 units 无效：1–20", "field units is invalid: 1–20")),
    "a short key": (
        {},
        {"key": "1234567"},
        (
            "INVALID_INPUT",
            "字段 idempotencyKey 无效：8–64 个可打印 ASCII 字符",
            "field idempotencyKey is invalid: 8–64 printable ASCII characters",
        ),
    ),
    "for others": (
        {"audience": Audience(districts=frozenset({"句容市"}))},
        {},
        ("NOT_IN_AUDIENCE", "仅限句容市市民兑换", "this is only for citizens of 句容市"),
    ),
    "beyond the day's limit": (
        {"limits": CitizenLimits(per_day=1)},
        {"units": 2},
        ("LIMIT_REACHED", "每人每天限兑 1 份", "at most 1 may be redeemed a day"),
    ),
    "beyond the limit": (
        {"limits": CitizenLimits(in_all=1)},
        {"units": 2},
        ("LIMIT_REACHED", "每人总共限兑 1 份", "at most 1 may be redeemed in all"),
    ),
    "sold out": (
        {"stock": Stock(StockKind.TOTAL, 1)},
        {"units": 2},
        ("SOLD_OUT", "已兑完（剩余 1 份）", "sold out (1 left)"),
    ),
    "too dear": (
        {"price_points": 1_001},
        {},
        ("INSUFFICIENT_POINTS", "积分不足：需要 1001，可用 1000", "not enough points: 1001 needed, 1000 available"),
    ),
}


@pytest.mark.parametrize(("terms", "given", "expected"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_says_why_in_both_languages(
    api: Api, town: Town, terms: dict[str, Any], given: dict[str, Any], expected: Told
) -> None:
    offer = await town.offer(**terms)
    await refused(api, town, "redeemOffer", expected, **{"offer": offer.id, **given})


async def test_what_is_not_on_sale_is_closed(api: Api, town: Town, services: Services, clock: ManualClock) -> None:
    offer, later = await town.offer(), services.clock.now() + timedelta(days=2)
    begins = await town.offer(valid_from=later, valid_to=later + timedelta(days=9))
    told = (CLOSED, "当前不可兑换：活动尚未开始", "this cannot be redeemed now: it has not begun")
    await refused(api, town, "redeemOffer", told, offer=begins.id)
    await services.rewards.offers.pause(works(OWNER), offer.id, key="pause-0001")
    told = (CLOSED, "当前不可兑换：项目未上架", "this cannot be redeemed now: it is not on sale")
    await refused(api, town, "redeemOffer", told, offer=offer.id)
    await services.rewards.offers.resume(works(OWNER), offer.id, key="resume-0001")
    await services.rewards.merchants.suspend(ROOT, town.house.id, "复核中", key="suspend-01")
    told = (CLOSED, "当前不可兑换：商户暂停服务", "this cannot be redeemed now: the merchant does not sell")
    await refused(api, town, "redeemOffer", told, offer=offer.id)
    await services.rewards.merchants.resume(RITA, town.house.id, key="resume-0002")
    clock.advance(timedelta(days=30))
    told = (CLOSED, "当前不可兑换：活动已结束", "this cannot be redeemed now: it is over")
    # Tokens are over by then, too.
    await refused(api, town, "redeemOffer", told, offer=offer.id)


async def test_what_the_programme_pays_a_merchant_is_bounded(api: Api, town: Town) -> None:
    await town.merchant("wang", 3, budget_fen=900)
    offer = await town.offer("wang")
    assert outcome(await ask(api, "redeemOffer", town.token("citizen"), offer=offer.id)) == "Voucher"
    told = ("BUDGET_SPENT", "该商户本期兑换额度已用完", "this merchant's budget of the period is spent")
    await refused(api, town, "redeemOffer", told, offer=offer.id, key="key-0002")


async def test_nobody_has_more_than_two_hundred_vouchers_open(api: Api, town: Town, services: Services) -> None:
    until = services.clock.now() + timedelta(days=1)
    for number in range(200):
        await services.ledger.post(holding(f"hold-{number}", account(), shop(), 1, until=until))
    offer = await town.offer()
    told = ("TOO_MANY_VOUCHERS", "未使用的券不能超过 200 张", "at most 200 vouchers may be open at once")
    await refused(api, town, "redeemOffer", told, offer=offer.id)
    assert (await services.ledger.get_page(owner())).held(POINTS) == 200


async def test_citizens_redeem_for_themselves_and_nobody_else_does(api: Api, town: Town) -> None:
    offer = await town.offer()
    forbidden = ("not permitted: redemption is citizens'", "无权执行该操作：积分兑换")
    told = denials("citizen", other_citizen="INSUFFICIENT_POINTS")
    await only(api, town, "redeemOffer", told, forbidden, offer=offer.id)
    unregistered = town.token_for("citizen", "nemo")
    assert (await ask(api, "redeemOffer", unregistered, offer=offer.id)).code == "FORBIDDEN"
    assert outcome(await ask(api, "redeemOffer", town.token("citizen"), offer=offer.id)) == "Voucher"
