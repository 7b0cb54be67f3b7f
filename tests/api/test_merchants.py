"""Mutations and queries on merchants: what each answers, whom it refuses and why, and that nothing changed then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from schemas.relay import to_global_id
from tests.api.trade_documents import Case, contract, refused, registration, shop
from tests.conftest import dump
from tests.integration.market import open_market
from tests.unit.rewards.trading import ROOT, credit_code, member_details, works

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.rewards.merchants.model import Merchant
    from backend.runtime import Services
    from tests.api.client import Api
    from tests.api.trade_documents import Inputs
    from tests.integration.market import Market

    Token = Callable[..., str]

pytestmark = pytest.mark.anyio
ADMIN, OWNER = ("admin", "root"), ("merchant", "chen")
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


@pytest.fixture
def market(services: Services) -> Market:
    """Merchants and offers through their services."""
    return open_market(services)


def named(merchant: Merchant) -> str:
    """The merchant's global id."""
    return to_global_id("Merchant", merchant.id)


async def nothing_yet(_: Market) -> Inputs:
    """Nobody has registered."""
    return registration()


async def applied(market: Market) -> Inputs:
    """Chen has registered."""
    return {"merchant": named(await market.applied())}


async def to_approve(market: Market) -> Inputs:
    """The same, with a contract at hand."""
    return {**await applied(market), "contract": contract()}


async def to_reject(market: Market) -> Inputs:
    """The same, with a reason."""
    return {**await applied(market), "reason": "照片不清"}


async def selling(market: Market) -> Inputs:
    """Chen sells, with the cashier li; wu sells too."""
    merchant = await market.approved()
    await market.merchants.add_member(works("chen"), None, "li", member_details(), key=market.key())
    await market.approved("wu", number=2)
    return {"merchant": named(merchant)}


async def to_suspend(market: Market) -> Inputs:
    """The same, with a reason."""
    return {**await selling(market), "reason": "投诉较多"}


async def suspended(market: Market) -> Inputs:
    """Chen's merchant is suspended."""
    given = await selling(market)
    desk = await market.merchants.desk(works("chen"))
    await market.merchants.suspend(ROOT, desk.merchant.id, "complaints", key=market.key())
    return given


async def closed(market: Market) -> Inputs:
    """Chen's merchant is closed."""
    given = await selling(market)
    desk = await market.merchants.desk(works("chen"))
    await market.merchants.close(ROOT, desk.merchant.id, "gave up", key=market.key())
    return given


async def to_agree(market: Market) -> Inputs:
    """Chen sells, with another contract at hand."""
    return {**await selling(market), "contract": contract(commissionBps=300)}


async def to_open(market: Market) -> Inputs:
    """Chen sells, with another shop at hand."""
    return {**await selling(market), **shop()}


async def with_shop(market: Market) -> Inputs:
    """Chen sells in a shop."""
    given = await selling(market)
    desk = await market.merchants.desk(works("chen"))
    return {**given, "shop": to_global_id("Shop", desk.merchant.shops[0].id)}


async def to_add(market: Market) -> Inputs:
    """Chen sells, with somebody new at hand."""
    return {**await selling(market), "login": "zhao", "name": "小赵", "role": "CASHIER"}


async def to_change(market: Market) -> Inputs:
    """Chen sells, and li is to own the merchant too."""
    return {**await selling(market), "login": "li", "name": "李老板", "role": "OWNER"}


async def to_remove(market: Market) -> Inputs:
    """Chen sells, and the second cashier zhao is to leave."""
    given = await selling(market)
    await market.merchants.add_member(works("chen"), None, "zhao", member_details(), key=market.key())
    return {**given, "login": "zhao"}


BOTH = (OWNER, ADMIN)
CASES = {
    case.name: case
    for case in (
        Case("registerMerchant", nothing_yet, {"legalName": "另一家"}, (OWNER,), expected={"stage": "APPLIED"}),
        Case(
            "approveMerchant",
            to_approve,
            {"contract": contract(commissionBps=1)},
            (ADMIN,),
            expected={"stage": "APPROVED"},
        ),
        Case(
            "rejectMerchant",
            to_reject,
            {"reason": "x"},
            (ADMIN,),
            expected={"stage": "REJECTED", "reason": "照片不清"},
        ),
        Case(
            "suspendMerchant",
            to_suspend,
            {"reason": "x"},
            (ADMIN,),
            expected={"stage": "SUSPENDED", "reason": "投诉较多"},
        ),
        Case("resumeMerchant", suspended, {"merchant": "other"}, (ADMIN,), expected={"stage": "APPROVED"}),
        Case("closeMerchant", to_suspend, {"reason": "x"}, (ADMIN,), expected={"stage": "CLOSED"}),
        Case("agreeContract", to_agree, {"contract": contract(commissionBps=1)}, (ADMIN,)),
        Case("saveShop", to_open, {"address": "x"}, BOTH),
        Case("removeShop", with_shop, {"shop": "other"}, BOTH, expected={"shops": []}),
        Case("addMember", to_add, {"name": "x"}, BOTH),
        Case("changeMember", to_change, {"name": "x"}, BOTH),
        Case("removeMember", to_remove, {"login": "chen"}, BOTH),
    )
}


@pytest.mark.parametrize("name", CASES)
async def test_it_takes_effect_once_and_another_payload_conflicts(
    api: Api, services: Services, market: Market, token_for: Token, name: str
) -> None:
    case = CASES[name]
    given = await case.prepare(market)
    token = token_for(*case.allowed[0])
    first = (await case.ask(api, token, given)).result
    assert first["__typename"] == "MerchantAccount"
    assert {field: first[field] for field in case.expected} == case.expected
    before = await dump(services)
    assert (await case.ask(api, token, given)).result == first
    assert await dump(services) == before
    # Where the other payload names nothing, that is told first.
    code = (await refused(services, case, api, token, {**given, **case.other}))[0]
    assert code == ("UNKNOWN_MERCHANT" if name == "resumeMerchant" else "IDEMPOTENCY_CONFLICT")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.allowed) > 1])
async def test_administrators_do_for_owners_what_owners_may(
    api: Api, market: Market, token_for: Token, name: str
) -> None:
    case = CASES[name]
    given = await case.prepare(market)
    assert (await case.ask(api, token_for(*ADMIN), given)).result["__typename"] == "MerchantAccount"


@pytest.mark.parametrize("name", CASES)
async def test_whoever_else_asks_is_denied_and_changes_nothing(
    api: Api, services: Services, market: Market, token_for: Token, name: str
) -> None:
    case = CASES[name]
    given, owners = await case.prepare(market), OWNER in case.allowed
    before = await dump(services)
    for role, who in EVERYBODY:
        may_register = name == "registerMerchant" and role in {"merchant", "admin"}
        if (role, who) in case.allowed or may_register:
            continue
        answer = await case.ask(api, token_for(role, who), given)
        if owners and who == "wu":
            assert answer.result["code"] == case.hidden_as
        else:
            assert (role, who, answer.code) == (role, who, "FORBIDDEN")
    assert (await case.ask(api, None, given)).code == "UNAUTHENTICATED"
    assert await dump(services) == before


async def last_owner(market: Market) -> Inputs:
    """Chen, the only owner, is to be a cashier, or to leave."""
    return {**await selling(market), "login": "chen", "name": "陈静", "role": "CASHIER"}


async def in_use(market: Market) -> Inputs:
    """A cashier is bound to the shop."""
    given = await with_shop(market)
    desk = await market.merchants.desk(works("chen"))
    bound = member_details(shop=desk.merchant.shops[0].id)
    await market.merchants.change_member(works("chen"), None, "li", bound, key=market.key())
    return given


async def offered(market: Market) -> Inputs:
    """An offer on sale names the shop."""
    given = await with_shop(market)
    desk = await market.merchants.desk(works("chen"))
    await market.live(shops=(desk.merchant.shops[0].id,))
    return given


UNKNOWN = {"merchant": "mer_none"}
HUGE = {"contract": contract(budgetFen=str(2**63 - 1))}
BAD_RATE = {"contract": contract(rate={"numerator": 0, "denominator": 1})}
NO_RATE = {"contract": contract(rate={"numerator": 1, "denominator": 0})}
# Mutation, how to make ready, what to send else, the refusal; all by an administrator but where it says so.
REFUSED: list[tuple[str, Any, Inputs, str]] = [
    ("registerMerchant", selling, registration(owner="zhao"), "CREDIT_CODE_TAKEN"),
    ("registerMerchant", selling, registration(owner="li", creditCode="91350100M000100Y43"), "MEMBER_TAKEN"),
    ("registerMerchant", nothing_yet, {"owner": "zhao", "creditCode": "91350100M000100Y44"}, "INVALID_INPUT"),
    ("approveMerchant", to_approve, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("approveMerchant", selling, {"contract": contract()}, "MERCHANT_STAGE"),
    ("approveMerchant", to_approve, BAD_RATE, "INVALID_INPUT"),
    ("approveMerchant", to_approve, NO_RATE, "INVALID_INPUT"),
    ("approveMerchant", to_approve, HUGE, "INVALID_INPUT"),
    ("rejectMerchant", to_reject, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("rejectMerchant", to_suspend, {}, "MERCHANT_STAGE"),
    ("rejectMerchant", to_reject, {"reason": ""}, "INVALID_INPUT"),
    ("suspendMerchant", to_suspend, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("suspendMerchant", to_reject, {}, "MERCHANT_STAGE"),
    ("suspendMerchant", to_suspend, {"reason": "x" * 501}, "INVALID_INPUT"),
    ("resumeMerchant", suspended, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("resumeMerchant", selling, {}, "MERCHANT_STAGE"),
    ("resumeMerchant", suspended, {"idempotencyKey": "short"}, "INVALID_INPUT"),
    ("closeMerchant", to_suspend, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("closeMerchant", to_reject, {}, "MERCHANT_STAGE"),
    ("closeMerchant", to_suspend, {"reason": " "}, "INVALID_INPUT"),
    ("agreeContract", to_agree, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("agreeContract", to_approve, {}, "MERCHANT_STAGE"),
    ("agreeContract", to_agree, BAD_RATE, "INVALID_INPUT"),
    ("saveShop", to_open, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("saveShop", closed, shop(), "MERCHANT_STAGE"),
    ("saveShop", to_open, {"shop": "shop_none"}, "UNKNOWN_SHOP"),
    ("saveShop", to_open, {"latE6": 90_000_001}, "INVALID_INPUT"),
    ("removeShop", with_shop, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("removeShop", closed, {"shop": "shop_none"}, "MERCHANT_STAGE"),
    ("removeShop", with_shop, {"shop": "shop_none"}, "UNKNOWN_SHOP"),
    ("removeShop", in_use, {}, "SHOP_IN_USE"),
    ("removeShop", offered, {}, "SHOP_IN_USE"),
    ("removeShop", with_shop, {"idempotencyKey": "short"}, "INVALID_INPUT"),
    ("addMember", to_add, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("addMember", closed, {"login": "zhao", "name": "x", "role": "OWNER"}, "MERCHANT_STAGE"),
    ("addMember", applied, {"login": "zhao", "name": "x", "role": "OWNER"}, "MERCHANT_STAGE"),
    ("addMember", to_add, {"login": "li"}, "MEMBER_TAKEN"),
    ("addMember", to_add, {"login": "wu"}, "MEMBER_TAKEN"),
    ("addMember", to_add, {"shop": "shop_none"}, "UNKNOWN_SHOP"),
    ("addMember", to_add, {"login": "two words"}, "INVALID_INPUT"),
    ("changeMember", to_change, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("changeMember", closed, {"login": "li", "name": "x", "role": "OWNER"}, "MERCHANT_STAGE"),
    ("changeMember", to_change, {"login": "wu"}, "UNKNOWN_MEMBER"),
    ("changeMember", to_change, {"role": "CASHIER", "shop": "shop_none"}, "UNKNOWN_SHOP"),
    ("changeMember", last_owner, {}, "LAST_OWNER"),
    ("changeMember", to_change, {"name": ""}, "INVALID_INPUT"),
    ("removeMember", to_remove, UNKNOWN, "UNKNOWN_MERCHANT"),
    ("removeMember", to_remove, {"login": "wu"}, "UNKNOWN_MEMBER"),
    ("removeMember", to_remove, {"login": "chen"}, "LAST_OWNER"),
    ("removeMember", to_remove, {"idempotencyKey": "short"}, "INVALID_INPUT"),
]
# Told by a test of its own.
ELSEWHERE = {"approveMerchant": {"OWN_APPROVAL"}}


@pytest.mark.parametrize("name", CASES)
def test_every_refusal_of_a_mutation_is_tried(name: str) -> None:
    tried = {code for mutation, _, _, code in REFUSED if mutation == name}
    assert tried | {"IDEMPOTENCY_CONFLICT"} | ELSEWHERE.get(name, set()) == CASES[name].refusals


@pytest.mark.parametrize(("name", "prepare", "changes", "code"), REFUSED)
async def test_what_cannot_be_is_refused_with_its_code_and_changes_nothing(
    api: Api, services: Services, market: Market, token_for: Token, name: str, prepare: Any, changes: Inputs, code: str
) -> None:
    given = {**await prepare(market), **changes}
    if name == "registerMerchant":
        given.pop("merchant", None)
    if name == "removeMember":
        given = {field: given[field] for field in ("merchant", "login", "idempotencyKey") if field in given}
    told = await refused(services, CASES[name], api, token_for(*ADMIN), given)
    assert told[0] == code
    assert told[1] != told[2]


async def test_a_number_beyond_64_bits_is_no_variable(
    api: Api, services: Services, market: Market, token_for: Token
) -> None:
    given, before = await to_approve(market), await dump(services)
    for name in ("approveMerchant", "agreeContract"):
        for value in (2**63, str(2**63), str(-(2**63) - 1)):
            for wrong in ({"budgetFen": value}, {"rate": {"numerator": value, "denominator": 1}}):
                sent = {**given, "contract": contract(**wrong)}
                answer = await CASES[name].ask(api, token_for(*ADMIN), sent)
                assert "BigInt needs a whole number" in answer.body["errors"][0]["message"]
    assert await dump(services) == before


async def test_a_cashier_leaves_by_herself(api: Api, services: Services, market: Market, token_for: Token) -> None:
    await selling(market)
    remove, li = CASES["removeMember"], token_for("merchant", "li")
    assert (await remove.ask(api, li, {"login": "li"})).result["__typename"] == "MerchantAccount"
    before = await dump(services)
    assert (await remove.ask(api, li, {"login": "li", "idempotencyKey": "key-api-0002"})).code == "FORBIDDEN"
    alone = await remove.ask(api, token_for(*OWNER), {"login": "chen"})
    assert alone.result["code"] == "LAST_OWNER"
    assert await dump(services) == before


async def test_refusals_say_why_in_both_languages(
    api: Api, services: Services, market: Market, token_for: Token
) -> None:
    token = token_for(*ADMIN)
    given = await to_approve(market)
    assert await refused(services, CASES["approveMerchant"], api, token, {**given, **BAD_RATE}) == (
        "INVALID_INPUT",
        "字段 rate 无效：须大于零，分子分母不超过 1000000",
        "field rate is invalid: above zero, its terms up to 1000000",
    )
    code = credit_code()
    assert await refused(services, CASES["registerMerchant"], api, token, registration(owner="zhao")) == (
        "CREDIT_CODE_TAKEN",
        f"统一社会信用代码 {code} 已登记",
        f"a merchant is registered under {code} already",
    )
    alone = {"merchant": given["merchant"], "login": "chen"}
    assert await refused(services, CASES["removeMember"], api, token, alone) == (
        "LAST_OWNER",
        "商户至少要保留一名店主",
        "a merchant keeps at least one owner",
    )


async def test_who_registered_a_merchant_does_not_approve_it(api: Api, services: Services, token_for: Token) -> None:
    register, approve = CASES["registerMerchant"], CASES["approveMerchant"]
    made = (await register.ask(api, token_for(*ADMIN), registration(owner="chen"))).result
    given = {"merchant": made["id"], "contract": contract()}
    told = await refused(services, approve, api, token_for(*ADMIN), given)
    assert told == ("OWN_APPROVAL", "不能审批自己提交的内容", "what one submitted oneself, another approves")
    assert (await approve.ask(api, token_for("admin", "rita"), given)).result["stage"] == "APPROVED"
