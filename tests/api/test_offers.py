"""Mutations and queries on offers: what each answers, whom it refuses and why, and that nothing changed then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.rewards.offers.model import Stock, StockKind
from backend.rewards.stock.model import Want, stock_pot
from schemas.relay import to_global_id
from tests.api.documents import written
from tests.api.trade_documents import MANAGED, Case, refused, terms
from tests.conftest import dump
from tests.integration.market import open_market
from tests.unit.rewards.trading import (
    RITA,
    ROOT,
    code_terms,
    member_details,
    works,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.rewards.offers.model import Offer
    from backend.runtime import Services
    from tests.api.client import Api
    from tests.api.trade_documents import Inputs
    from tests.integration.market import Market

    Token = Callable[..., str]

pytestmark = pytest.mark.anyio
ADMIN, OWNER = ("admin", "root"), ("merchant", "chen")
BOTH = (OWNER, ADMIN)
CHEN = works("chen")
EVERYBODY = (
    ADMIN,
    OWNER,
    ("merchant", "li"),
    ("merchant", "wu"),
    ("merchant", "nobody"),
    ("citizen", "chen"),
    ("partner", "chen"),
    ("enterprise", "chen"),
    ("reviewer", "rita"),
    ("verifier", "vera"),
)
TOTAL = StockKind.TOTAL


@pytest.fixture
async def market(services: Services) -> Market:
    """Chen sells, with the cashier li; wu sells too."""
    made = open_market(services)
    await made.approved()
    await made.merchants.add_member(CHEN, None, "li", member_details(), key=made.key())
    await made.approved("wu", number=2)
    return made


def named(offer: Offer) -> Inputs:
    """The offer as an input names it."""
    return {"offer": to_global_id("Offer", offer.id)}


async def new(market: Market) -> Inputs:
    """Terms at hand."""
    return {"terms": terms(market)}


async def drafted(market: Market) -> Inputs:
    """A draft."""
    return named(await market.draft())


async def to_write(market: Market) -> Inputs:
    """A draft, with other terms at hand."""
    return {**await drafted(market), "terms": terms(market, pricePoints=700)}


async def waiting(market: Market) -> Inputs:
    """An offer that waits for approval."""
    draft = await market.draft()
    return named(await market.offers.submit(CHEN, draft.id, key=market.key()))


async def to_approve(market: Market) -> Inputs:
    """The same, as it was seen."""
    return {**await waiting(market), "version": 2}


async def to_return(market: Market) -> Inputs:
    """The same, with a reason."""
    return {**await waiting(market), "reason": "缺少图片"}


async def live(market: Market) -> Inputs:
    """An offer on sale."""
    return named(await market.live())


async def paused(market: Market) -> Inputs:
    """An offer off sale for a while."""
    offer = await market.live()
    return named(await market.offers.pause(CHEN, offer.id, key=market.key()))


async def withheld(market: Market) -> Inputs:
    """An offer that staff took off sale for a while."""
    offer = await market.live()
    return named(await market.offers.pause(ROOT, offer.id, key=market.key()))


async def ended(market: Market) -> Inputs:
    """An offer off sale for good."""
    offer = await market.live()
    return named(await market.offers.end(CHEN, offer.id, key=market.key()))


async def to_stock(market: Market) -> Inputs:
    """Ten units, of which four are redeemed, and eight wanted."""
    offer = await market.live(stock=Stock(TOTAL, 10))
    pot = stock_pot(offer.id)
    reserved = await market.pots.reserve(market.key(), {pot: Want(4, 10)})
    await market.pots.finish(reserved, {pot: 4})
    return {**named(offer), "stock": {"kind": "TOTAL", "units": 8}}


async def to_fill(market: Market) -> Inputs:
    """An offer of codes, and codes for it."""
    return {**named(await market.draft(terms=code_terms)), "codes": ["CODE-1", "CODE-2"]}


async def closed(market: Market, given: Inputs) -> Inputs:
    """The same when chen's merchant is closed."""
    desk = await market.merchants.desk(CHEN)
    await market.merchants.close(ROOT, desk.merchant.id, "gave up", key=market.key())
    return given


def of_offers(name: str, prepare: Any, other: Inputs, *allowed: tuple[str, str], **expected: Any) -> Case:
    """A mutation on an offer."""
    return Case(name, prepare, other, allowed, "ManagedOffer", MANAGED, "UNKNOWN_OFFER", expected)


ELSEWHERE = {"offer": "other"}
CASES = {
    case.name: case
    for case in (
        Case(
            "createOffer",
            new,
            {"merchant": "other"},
            (OWNER,),
            "ManagedOffer",
            MANAGED,
            "UNKNOWN_MERCHANT",
            {"stage": "DRAFT", "version": 1, "unitsLeft": None},
        ),
        of_offers("updateOffer", to_write, {}, *BOTH, stage="DRAFT", revision=2),
        of_offers("submitOffer", drafted, ELSEWHERE, *BOTH, stage="SUBMITTED"),
        of_offers("approveOffer", to_approve, {"version": 1}, ADMIN, stage="LIVE", submittedAt=None),
        of_offers("returnOffer", to_return, {"reason": "x"}, ADMIN, stage="DRAFT", reason="缺少图片"),
        of_offers("pauseOffer", live, ELSEWHERE, *BOTH, stage="PAUSED"),
        of_offers("resumeOffer", paused, ELSEWHERE, *BOTH, stage="LIVE"),
        of_offers("endOffer", live, ELSEWHERE, *BOTH, stage="ENDED"),
        of_offers("setOfferStock", to_stock, {"stock": {"kind": "TOTAL", "units": 9}}, *BOTH, unitsLeft=4),
        of_offers("addOfferCodes", to_fill, {"codes": ["CODE-3"]}, *BOTH, unitsLeft=2),
    )
}


@pytest.mark.parametrize("name", CASES)
async def test_it_takes_effect_once_and_another_payload_conflicts(
    api: Api, services: Services, market: Market, token_for: Token, name: str
) -> None:
    case = CASES[name]
    given, second = await case.prepare(market), await market.draft()
    token = token_for(*case.allowed[0])
    first = (await case.ask(api, token, given)).result
    assert first["__typename"] == "ManagedOffer"
    assert {field: first[field] for field in case.expected} == case.expected
    before = await dump(services)
    assert (await case.ask(api, token, given)).result == first
    assert await dump(services) == before
    other = dict(case.other)
    if name == "createOffer":
        other = {"merchant": to_global_id("Merchant", second.merchant), "terms": terms(market, pricePoints=1)}
    elif not other:
        other = {"terms": terms(market, pricePoints=1)}
    elif other == ELSEWHERE:
        other = named(second)
    assert (await refused(services, case, api, token, {**given, **other}))[0] == "IDEMPOTENCY_CONFLICT"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.allowed) > 1])
async def test_administrators_do_for_owners_what_owners_may(
    api: Api, market: Market, token_for: Token, name: str
) -> None:
    case = CASES[name]
    answer = await case.ask(api, token_for(*ADMIN), await case.prepare(market))
    assert answer.result["__typename"] == "ManagedOffer"


@pytest.mark.parametrize("name", CASES)
async def test_whoever_else_asks_is_denied_and_changes_nothing(
    api: Api, services: Services, market: Market, token_for: Token, name: str
) -> None:
    case = CASES[name]
    given = await case.prepare(market)
    if name == "createOffer":
        desk = await market.merchants.desk(CHEN)
        given = {**given, "merchant": to_global_id("Merchant", desk.merchant.id)}
    before = await dump(services)
    for role, who in EVERYBODY:
        if (role, who) in case.allowed or (name == "createOffer" and (role, who) == ADMIN):
            continue
        answer = await case.ask(api, token_for(role, who), given)
        if who == "wu" and OWNER in case.allowed:
            assert answer.result["code"] == case.hidden_as
        else:
            assert (role, who, answer.code) == (role, who, "FORBIDDEN")
    assert (await case.ask(api, None, given)).code == "UNAUTHENTICATED"
    assert await dump(services) == before


SHORT = {"idempotencyKey": "short"}
UNKNOWN = {"offer": "off_none"}
# Mutation, how to make ready, whether the merchant is closed then, what to send else, the refusal.
REFUSED: list[tuple[str, Any, bool, Inputs, str]] = [
    ("createOffer", new, False, {"merchant": "mer_none"}, "UNKNOWN_MERCHANT"),
    ("createOffer", new, True, {}, "MERCHANT_STAGE"),
    ("createOffer", new, False, {"pricePoints": 0}, "INVALID_INPUT"),
    ("updateOffer", to_write, False, UNKNOWN, "UNKNOWN_OFFER"),
    ("updateOffer", ended, False, {"pricePoints": 1}, "OFFER_STAGE"),
    ("updateOffer", to_write, True, {}, "MERCHANT_STAGE"),
    ("updateOffer", to_write, False, {"pricePoints": 0}, "INVALID_INPUT"),
    ("submitOffer", drafted, False, UNKNOWN, "UNKNOWN_OFFER"),
    ("submitOffer", live, False, {}, "OFFER_STAGE"),
    ("submitOffer", drafted, True, {}, "MERCHANT_STAGE"),
    ("submitOffer", drafted, False, SHORT, "INVALID_INPUT"),
    ("approveOffer", to_approve, False, UNKNOWN, "UNKNOWN_OFFER"),
    ("approveOffer", drafted, False, {"version": 1}, "OFFER_STAGE"),
    ("approveOffer", to_approve, True, {}, "MERCHANT_STAGE"),
    ("approveOffer", to_approve, False, {"version": 1}, "STALE_OFFER"),
    ("approveOffer", to_approve, False, SHORT, "INVALID_INPUT"),
    ("returnOffer", to_return, False, UNKNOWN, "UNKNOWN_OFFER"),
    ("returnOffer", live, False, {"reason": "x"}, "OFFER_STAGE"),
    ("returnOffer", to_return, True, {}, "MERCHANT_STAGE"),
    ("returnOffer", to_return, False, {"reason": ""}, "INVALID_INPUT"),
    ("pauseOffer", live, False, UNKNOWN, "UNKNOWN_OFFER"),
    ("pauseOffer", drafted, False, {}, "OFFER_STAGE"),
    ("pauseOffer", live, True, {}, "MERCHANT_STAGE"),
    ("pauseOffer", live, False, SHORT, "INVALID_INPUT"),
    ("resumeOffer", paused, False, UNKNOWN, "UNKNOWN_OFFER"),
    ("resumeOffer", live, False, {}, "OFFER_STAGE"),
    ("resumeOffer", withheld, False, {}, "STAFF_PAUSED"),
    ("resumeOffer", paused, True, {}, "MERCHANT_STAGE"),
    ("resumeOffer", paused, False, SHORT, "INVALID_INPUT"),
    ("endOffer", live, False, UNKNOWN, "UNKNOWN_OFFER"),
    ("endOffer", ended, False, {}, "OFFER_STAGE"),
    ("endOffer", live, False, SHORT, "INVALID_INPUT"),
    ("setOfferStock", to_stock, False, UNKNOWN, "UNKNOWN_OFFER"),
    ("setOfferStock", ended, False, {"stock": {"kind": "UNLIMITED"}}, "OFFER_STAGE"),
    ("setOfferStock", to_stock, True, {}, "MERCHANT_STAGE"),
    ("setOfferStock", to_stock, False, {"stock": {"kind": "TOTAL", "units": 3}}, "STOCK_TAKEN"),
    ("setOfferStock", to_stock, False, {"stock": {"kind": "DAILY", "units": 10}}, "INVALID_INPUT"),
    ("addOfferCodes", to_fill, False, UNKNOWN, "UNKNOWN_OFFER"),
    ("addOfferCodes", ended, False, {"codes": ["x"]}, "OFFER_STAGE"),
    ("addOfferCodes", to_fill, True, {}, "MERCHANT_STAGE"),
    ("addOfferCodes", to_fill, False, {"codes": ["x", "x"]}, "INVALID_INPUT"),
]


@pytest.mark.parametrize("name", CASES)
def test_every_refusal_of_a_mutation_is_tried(name: str) -> None:
    tried = {code for mutation, _, _, _, code in REFUSED if mutation == name}
    own = {"OWN_APPROVAL"} if name == "approveOffer" else set()
    assert tried | {"IDEMPOTENCY_CONFLICT"} | own == CASES[name].refusals


@pytest.mark.parametrize(("name", "prepare", "is_closed", "changes", "code"), REFUSED)
async def test_what_cannot_be_is_refused_with_its_code_and_changes_nothing(
    api: Api,
    services: Services,
    market: Market,
    token_for: Token,
    name: str,
    prepare: Any,
    *,
    is_closed: bool,
    changes: Inputs,
    code: str,
) -> None:
    given = await prepare(market)
    if is_closed:
        await closed(market, given)
    if "pricePoints" in changes:
        changes = {"terms": terms(market, **changes)}
    case = CASES[name]
    who = OWNER if OWNER in case.allowed and "merchant" not in changes else ADMIN
    told = await refused(services, case, api, token_for(*who), {**given, **changes})
    assert told[0] == code
    assert told[1] != told[2]


async def test_refusals_say_why_in_both_languages(
    api: Api, services: Services, market: Market, token_for: Token
) -> None:
    given = await to_approve(market)
    name = (await market.offers.list_waiting(RITA, limit=1, older=None, newer=None, newest=True))[0].id
    token = token_for(*ADMIN)
    assert await refused(services, CASES["approveOffer"], api, token, {**given, "version": 1}) == (
        "STALE_OFFER",
        f"兑换项目 {name} 已被修改（现为第 2 版），请重新查看",
        f"offer {name} has changed (version 2 now); look at it again",
    )
    stocked = await to_stock(market)
    taken = {**stocked, "stock": {"kind": "TOTAL", "units": 3}}
    assert await refused(services, CASES["setOfferStock"], api, token_for(*OWNER), taken) == (
        "STOCK_TAKEN",
        "只剩 6 份未兑换，不能减少 7 份",
        "6 units are left, so 7 cannot be taken away",
    )
    free = {"terms": terms(market, pricePoints=0)}
    assert await refused(services, CASES["createOffer"], api, token_for(*OWNER), free) == (
        "INVALID_INPUT",
        "字段 pricePoints 无效：1–1000000000",
        "field pricePoints is invalid: 1–1000000000",
    )


async def test_who_submitted_an_offer_does_not_approve_it(
    api: Api, services: Services, market: Market, token_for: Token
) -> None:
    draft = await market.draft()
    await market.offers.submit(ROOT, draft.id, key=market.key())
    given = {**named(draft), "version": 2}
    told = await refused(services, CASES["approveOffer"], api, token_for(*ADMIN), given)
    assert told[0] == "OWN_APPROVAL"
    approved = await CASES["approveOffer"].ask(api, token_for("admin", "rita"), given)
    assert approved.result["stage"] == "LIVE"


async def test_a_change_of_the_bargain_waits_and_is_approved(api: Api, market: Market, token_for: Token) -> None:
    offer = await market.live()
    changed = terms(
        market,
        pricePoints=700,
        title={"zh": "好茶", "en": "Good tea"},
        validFrom=written(offer.terms.valid_from),
        validTo=written(offer.terms.valid_to),
    )
    answer = await CASES["updateOffer"].ask(api, token_for(*OWNER), {**named(offer), "terms": changed})
    assert (answer.result["stage"], answer.result["terms"]) == (
        "LIVE",
        {"title": "Good tea", "pricePoints": 500, "stock": {"kind": "UNLIMITED", "units": 0}},
    )
    queue = "{ admin { offersToApprove { nodes { id version proposed { pricePoints titles { zh en } } } } } }"
    token = token_for(*ADMIN)
    (seen,) = (await api.post(queue, token=token)).result["offersToApprove"]["nodes"]
    assert seen["proposed"] == {"pricePoints": 700, "titles": {"zh": "好茶", "en": "Good tea"}}
    given = {**named(offer), "version": seen["version"]}
    assert (await CASES["approveOffer"].ask(api, token, given)).result["terms"]["pricePoints"] == 700
    assert (await api.post(queue, token=token_for("reviewer", "rita"))).result["offersToApprove"]["nodes"] == []
    for role, who in (OWNER, ("citizen", "chen")):
        assert (await api.post(queue, token=token_for(role, who))).code == "FORBIDDEN"
