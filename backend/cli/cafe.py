"""The demo's café: registered by its owner, approved by staff, with a coffee on sale; and somebody who drinks one.

Never for production: logins are invented, and the unified social credit code belongs to nobody.
"""

from __future__ import annotations

import dataclasses
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import segno
from rich.table import Table
from rich.text import Text as Line

from backend.cli.city import ADMIN, TOKEN_LIFETIME, City, seed_city
from backend.cli.client import Client, ClientError
from backend.cli.console import OUT
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import Text
from backend.kernel.ids import TransactionId
from backend.kernel.units import Ratio
from backend.rewards.merchants.model import (
    ContractTerms,
    Cycle,
    MemberDetails,
    MemberRole,
    MerchantApplication,
    ShopDetails,
)
from backend.rewards.offers.model import (
    Audience,
    Bearer,
    CitizenLimits,
    OfferCategory,
    OfferKind,
    OfferStage,
    OfferTerms,
    Stock,
    StockKind,
)

if TYPE_CHECKING:
    import httpx

    from backend.runtime import Services

OWNER = Principal(PrincipalKind.MERCHANT, "cafe-owner")
CASHIER = Principal(PrincipalKind.MERCHANT, "cafe-cashier")
# Puts the coffee on sale, which the owner submitted and whose merchant another approved.
SECOND_ADMIN = Principal(PrincipalKind.STAFF, "second-admin", frozenset({StaffRole.ADMIN}))
PRICE, GIVEN_BACK = 500, 100
CUPS_A_DAY = 100
APPLICATION = MerchantApplication(
    name=Text("江边咖啡", "Riverside Café"),
    legal_name="镇江江边咖啡有限公司",
    credit_code="91321102MA1CAFE000",
    contact_name="赵敏",
    contact_phone="0511-8500 0000",
)
# A point is worth one fen; the programme keeps five per cent.
CONTRACT = ContractTerms(rate=Ratio(1, 1), commission_bps=500, cycle=Cycle.MONTH)


async def seed_demo(services: Services) -> City:
    """The demo city with its café, and tokens for who works there; the same again changes nothing."""
    city = await seed_city(services)
    await seed_cafe(services)
    return with_cafe(services, city)


def with_cafe(services: Services, city: City) -> City:
    """The city with tokens for the café's owner and cashier, too."""
    issue = services.tokens.issue
    tokens = {"café owner": issue(OWNER, TOKEN_LIFETIME), "café cashier": issue(CASHIER, TOKEN_LIFETIME)}
    return dataclasses.replace(city, tokens={**city.tokens, **tokens})


async def seed_cafe(services: Services) -> None:
    """Register the café and put its coffee on sale; where that was done before, nothing changes."""
    merchants, offers = services.rewards.merchants, services.rewards.offers
    cafe = await merchants.register(OWNER, APPLICATION, key="demo-cafe-register")
    known = await offers.list_of_merchant(OWNER, cafe.id, limit=100, older=None, newer=None, newest=True)
    if any(offer.stage not in {OfferStage.DRAFT, OfferStage.SUBMITTED} for offer in known):
        return
    shop = ShopDetails(
        name=Text("西津渡店", "Xijin Ferry"),
        address="小码头街 1 号",
        district=services.programme.districts[0],
        lat_e6=32_214_000,
        lon_e6=119_428_000,
    )
    await merchants.save_shop(OWNER, None, None, shop, key="demo-cafe-shop")
    await merchants.approve(ADMIN, cafe.id, CONTRACT, key="demo-cafe-approve")
    cashier = MemberDetails(name="钱磊", role=MemberRole.CASHIER)
    await merchants.add_member(OWNER, None, CASHIER.id, cashier, key="demo-cafe-cashier")
    draft = await offers.create(OWNER, None, _coffee(services.clock.now()), key="demo-cafe-coffee")
    waiting = await offers.submit(OWNER, draft.id, key="demo-cafe-submit")
    sold = await offers.approve(SECOND_ADMIN, draft.id, seen=waiting.version, key="demo-cafe-on-sale")
    assert sold.stage is OfferStage.LIVE


def _coffee(now: datetime) -> OfferTerms:
    return OfferTerms(
        kind=OfferKind.VOUCHER,
        category=OfferCategory.FOOD,
        title=Text("咖啡一杯", "A cup of coffee"),
        text=Text("任选一款，自带杯子再送一块饼干。", "Any one; a biscuit for who brings a cup."),
        handover=Text("任选一款咖啡，中杯", "Any coffee, medium"),
        picture=None,
        price_points=PRICE,
        cash_fen=0,
        items=1,
        stock=Stock(StockKind.DAILY, CUPS_A_DAY),
        limits=CitizenLimits(per_day=1),
        audience=Audience(),
        windows=(),
        # Of one year, so that seeding again says the same.
        valid_from=datetime(now.year, 1, 1, tzinfo=UTC),
        valid_to=datetime(now.year + 2, 1, 1, tzinfo=UTC),
        voucher_days=7,
        vouchers_until=None,
        refund_days=7,
        bearer=Bearer.PROGRAMME,
        shops=(),
    )


class Coffee:
    """One coffee, from the offer on the phone to the points that moved; everybody speaks GraphQL over HTTP."""

    def __init__(self, http: httpx.AsyncClient, url: str, services: Services, phone: Client) -> None:
        self._phone = phone
        self._counter = Client(http, url, services.tokens.issue(CASHIER, TOKEN_LIFETIME))
        self._steps = Table("step", "balance", "available", "held", title=f"a coffee for {PRICE} points")

    async def drink(self) -> TransactionId:
        """Find it, redeem it, show the code, have it captured, get some points back; what moved the points."""
        offer = await self._find()
        voucher = await _done(self._phone, "redeemOffer", key="demo-coffee-redeem", offer=offer)
        await self._note(f"redeemed: {voucher['title']}")
        code = voucher["shownCode"]
        OUT.print(_drawn(code["token"]))
        OUT.print(f"on the phone until {code['validUntil']}, or typed: [bold]{code['typed']}[/]", highlight=False)
        looked = (await self._counter.call("LookUpVoucher", {"code": code["token"]}))["merchantDesk"]["voucher"]
        OUT.print(f"the counter reads it: hand over {looked['itemsLeft']} × {looked['handover']}", highlight=False)
        captured = await _done(self._counter, "captureVoucher", key="demo-coffee-capture", code=code["token"])
        await self._note("captured at the counter")
        again = await self._try_again(code["token"])
        await _done(
            self._counter,
            "refundVoucher",
            key="demo-coffee-refund",
            voucher=voucher["id"],
            points=GIVEN_BACK,
            reason="饼干没有了",
        )
        await self._note(f"{GIVEN_BACK} given back: no biscuits left")
        OUT.print(self._steps)
        OUT.print(f"the same code a second time: {again}")
        [capture] = captured["captures"]
        return TransactionId(capture["transactionId"])

    async def _find(self) -> str:
        found = await self._phone.call("Offers", {"filter": {"category": "FOOD", "affordable": PRICE}})
        [item] = found["offers"]["nodes"]
        return str(item["offer"]["id"])

    async def _try_again(self, token: str) -> str:
        given = {"idempotencyKey": "demo-coffee-again", "code": token}
        answer = (await self._counter.call("CaptureVoucher", {"input": given}))["captureVoucher"]
        return str(answer.get("code") or answer["__typename"])

    async def _note(self, step: str) -> None:
        person = (await self._phone.call("Home", {"first": 1}))["viewer"]
        figures = (person[name] for name in ("pointsBalance", "pointsAvailable", "pointsHeld"))
        self._steps.add_row(step, *(f"{figure:,}" for figure in figures))


async def _done(client: Client, mutation: str, *, key: str, **given: Any) -> dict[str, Any]:
    """The voucher after a mutation.

    Raises:
        ClientError: it was refused.
    """
    operation = mutation[0].upper() + mutation[1:]
    answer: dict[str, Any] = (await client.call(operation, {"input": {"idempotencyKey": key, **given}}))[mutation]
    if answer["__typename"] != "Voucher":
        raise ClientError(f"{mutation}: {answer['code']}: {answer['message']}")
    return answer


def _drawn(token: str) -> Line:
    """The QR code in half blocks, light squares light."""
    drawing = io.StringIO()
    segno.make_qr(token, error="m").terminal(drawing, border=2, compact=True)
    return Line(drawing.getvalue().rstrip(), style="white on black", no_wrap=True)
