"""approveStatement, payStatement, correctStatement, and what staff and owners read of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.rewards.merchants.documents import MEMBERS
from backend.rewards.merchants.model import MerchantId
from backend.rewards.settlement.documents import STATEMENTS
from backend.rewards.settlement.model import Statement, StatementId, statement_id
from schemas.relay import to_global_id
from tests.conftest import dump
from tests.integration.selling import (
    BEGIN,
    DAY,
    HOUR,
    REST,
    TEA,
    WEEK_END,
    Market,
    give_back,
    open_market,
    register,
    sell,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Answer, Api

pytestmark = pytest.mark.anyio
FIRST, SECOND = (statement_id(TEA, number) for number in (1, 2))
SHOWN = """id number kind stage merchantId from to captures { count points fen } refunds { count points fen }
  grossFen commissionFen adjustmentFen reason netFen broughtForwardFen payableFen corrects checksum
  difference { points fen captures { count points fen } refunds { count points fen } }
  madeAt madeBy approvedAt approvedBy paidAt paidBy bankReference"""
UNRECONCILED = "... on NotReconciled { points fen voucherPoints voucherFen }"
REFUSALS = {
    "approveStatement": f"{UNRECONCILED} ... on WrongStatementStage {{ standing }}",
    "payStatement": f"{UNRECONCILED} ... on WrongStatementStage {{ standing }} ... on EarlierUnpaid {{ number }}",
    "correctStatement": UNRECONCILED,
}
LINES = "number transactionId at kind title shop points fen commissionBps"


def mutation(name: str) -> str:
    given = f"{name[0].upper()}{name[1:]}Input"
    return f"""mutation ($input: {given}!) {{ {name}(input: $input) {{ __typename
      ... on Statement {{ {SHOWN} }} ... on Refusal {{ code message }} ... on InvalidInput {{ field }}
      {REFUSALS[name]} }} }}"""


def global_id(statement: StatementId) -> str:
    return to_global_id(Statement.__name__, statement)


@pytest.fixture
async def market(services: Services) -> Market:
    """Two weeks of the tea house, with one refund."""
    opened = await open_market(services)
    await register(services)
    await sell(services, TEA, 1_000, 700, at=BEGIN)
    tea = await sell(services, TEA, 300, 205, at=BEGIN + HOUR)
    await give_back(services, tea, 100, 68, at=BEGIN + DAY)
    await sell(services, TEA, 100, 70, at=WEEK_END + DAY)
    await opened.close_at(WEEK_END + 7 * DAY + REST)
    return opened


async def act(api: Api, name: str, token: str | None, *, language: str = "en", **given: Any) -> Answer:
    usual = {"idempotencyKey": f"{name}-0001", "statement": global_id(FIRST)}
    if name == "payStatement":
        usual["bankReference"] = "ICBC 42"
    if name == "correctStatement":
        usual |= {"adjustmentFen": -5, "reason": "多付"}
    return await api.post(mutation(name), {"input": {**usual, **given}}, token=token, language=language)


async def test_a_statement_on_its_way_from_ready_to_paid(
    market: Market, api: Api, token_for: Callable[..., str]
) -> None:
    ann, ben = token_for("admin", "ann"), token_for("admin", "ben")
    [made, _] = await market.statements()
    approved = (await act(api, "approveStatement", ann)).result
    now = "2026-11-15T16:15:00.000Z"
    assert approved == {
        "__typename": "Statement",
        "id": global_id(FIRST),
        "number": 1,
        "kind": "REGULAR",
        "stage": "APPROVED",
        "merchantId": to_global_id("Merchant", "tea"),
        "from": "2026-11-01T16:00:00.000Z",
        "to": "2026-11-08T16:00:00.000Z",
        "captures": {"count": 2, "points": 1_300, "fen": 905},
        "refunds": {"count": 1, "points": 100, "fen": 68},
        "grossFen": 837,
        "commissionFen": 16,
        "adjustmentFen": 0,
        "reason": None,
        "netFen": 821,
        "broughtForwardFen": 0,
        "payableFen": 821,
        "corrects": None,
        "checksum": made.checksum,
        "difference": None,
        "madeAt": now,
        "madeBy": None,
        "approvedAt": now,
        "approvedBy": "staff:ann",
        "paidAt": None,
        "paidBy": None,
        "bankReference": None,
    }
    paid = (await act(api, "payStatement", ben)).result
    assert paid == {**approved, "stage": "PAID", "paidAt": now, "paidBy": "staff:ben", "bankReference": "ICBC 42"}
    assert (await market.balances())["programme:bank"] == 821
    # Again: the same, and nothing changed.
    before = await dump(market.services)
    assert (await act(api, "approveStatement", ann)).result == paid
    assert (await act(api, "payStatement", ben)).result == paid
    assert await dump(market.services) == before


async def test_a_correction_by_one_approved_by_another(market: Market, api: Api, token_for: Callable[..., str]) -> None:
    ann, ben = token_for("admin", "ann"), token_for("admin", "ben")
    made = (await act(api, "correctStatement", ann)).result
    assert (made["number"], made["kind"], made["corrects"], made["madeBy"]) == (
        3,
        "CORRECTION",
        global_id(FIRST),
        "staff:ann",
    )
    assert (made["adjustmentFen"], made["netFen"], made["payableFen"], made["reason"]) == (-5, -5, 0, "多付")
    assert (await act(api, "correctStatement", ann)).result == made
    refused = (await act(api, "approveStatement", ann, statement=made["id"])).result
    assert refused["code"] == "OWN_APPROVAL"
    assert (await act(api, "approveStatement", ben, statement=made["id"])).result["stage"] == "APPROVED"


async def test_each_refusal_says_what_is_wrong_in_both_languages(
    market: Market, api: Api, token_for: Callable[..., str]
) -> None:
    ann, ben = token_for("admin", "ann"), token_for("admin", "ben")
    for statement, key in ((FIRST, "approve-0001"), (SECOND, "approve-0002")):
        assert "code" not in (await act(api, "approveStatement", ann, statement=statement, idempotencyKey=key)).result
    before = await dump(market.services)
    for name, given, told in (
        ("approveStatement", {"statement": "stm_none"}, {"code": "UNKNOWN_STATEMENT", "message": "没有这份结算单"}),
        (
            "approveStatement",
            {"idempotencyKey": "approve-0003"},
            {
                "code": "STATEMENT_STAGE",
                "message": "结算单当前状态为 APPROVED，不能执行该操作",
                "standing": "APPROVED",
            },
        ),
        ("approveStatement", {"idempotencyKey": "short"}, {"code": "INVALID_INPUT", "field": "idempotencyKey"}),
        (
            "approveStatement",
            {"statement": SECOND, "idempotencyKey": "approve-0001"},
            {"code": "IDEMPOTENCY_CONFLICT"},
        ),
        ("payStatement", {"statement": "stm_none"}, {"code": "UNKNOWN_STATEMENT"}),
        ("payStatement", {"bankReference": ""}, {"code": "INVALID_INPUT", "field": "bankReference"}),
        (
            "payStatement",
            {"as": ben, "statement": SECOND},
            {
                "code": "EARLIER_UNPAID",
                "message": "第 1 号结算单尚未付款，须按编号顺序付款",
                "number": 1,
            },
        ),
        ("payStatement", {}, {"code": "OWN_APPROVAL", "message": "不能审批自己提交的内容"}),
        ("correctStatement", {"statement": "stm_none"}, {"code": "UNKNOWN_STATEMENT"}),
        ("correctStatement", {"adjustmentFen": 0}, {"code": "INVALID_INPUT", "field": "adjustmentFen"}),
        ("correctStatement", {"adjustmentFen": 10**12 + 1}, {"code": "INVALID_INPUT", "field": "adjustmentFen"}),
        ("correctStatement", {"reason": "\n"}, {"code": "INVALID_INPUT", "field": "reason"}),
    ):
        token = ben if "as" in given else ann
        sent = {key: value for key, value in given.items() if key != "as"}
        answer = (await act(api, name, token, language="zh-CN", **sent)).result
        assert {key: answer[key] for key in told} == told
        assert await dump(market.services) == before


async def test_what_is_not_reconciled_says_by_how_much(market: Market, api: Api, token_for: Callable[..., str]) -> None:
    services = market.services
    await sell(services, TEA, 11, 8, at=BEGIN + 2 * DAY)
    await market.close_at(WEEK_END + 14 * DAY + REST)
    admin, third = token_for("admin", "ann"), global_id(statement_id(TEA, 3))
    before = await dump(services)
    for name in ("approveStatement", "payStatement", "correctStatement"):
        told = (await act(api, name, admin, statement=third)).result
        assert told == {
            "__typename": "NotReconciled",
            "code": "NOT_RECONCILED",
            "message": "the book differs from the statement by 11 points and 0 fen, "
            "the vouchers by 0 points and 0 fen; they must agree first",
            "points": 11,
            "fen": 0,
            "voucherPoints": 0,
            "voucherFen": 0,
        }
    assert await dump(services) == before
    asked = "{ admin { statements(stage: UNRECONCILED) { nodes { id difference { points fen } } } } }"
    assert (await api.post(asked, token=admin)).result["statements"]["nodes"] == [
        {"id": third, "difference": {"points": 11, "fen": 0}}
    ]


@pytest.mark.parametrize("name", ["approveStatement", "payStatement", "correctStatement"])
@pytest.mark.parametrize(
    ("role", "subject"),
    [
        (None, ""),
        ("citizen", "alice"),
        ("partner", "metro"),
        ("enterprise", "acme"),
        ("merchant", "tea-owner"),
        ("reviewer", "rita"),
        ("verifier", "vera"),
    ],
)
async def test_only_administrators_decide(
    market: Market, api: Api, token_for: Callable[..., str], name: str, role: str | None, subject: str
) -> None:
    before = await dump(market.services)
    answer = await act(api, name, token_for(role, subject) if role else None)
    assert answer.code == ("FORBIDDEN" if role else "UNAUTHENTICATED")
    assert await dump(market.services) == before


LISTED = """query ($stage: StatementStage, $merchant: ID, $first: Int, $after: String) {
  admin { statements(stage: $stage, merchant: $merchant, first: $first, after: $after) {
    nodes { merchantId number stage } pageInfo { hasNextPage endCursor } } } }"""


async def test_staff_list_statements_page_by_page(market: Market, api: Api, token_for: Callable[..., str]) -> None:
    services = market.services
    await register(services, "book")
    await sell(services, MerchantId("book"), at=BEGIN)
    await market.close_at(WEEK_END + 7 * DAY + REST + HOUR)
    reviewer, admin = token_for("reviewer", "rita"), token_for("admin", "ann")
    await act(api, "approveStatement", admin)
    tea, book = (to_global_id("Merchant", name) for name in ("tea", "book"))

    async def ask(**given: Any) -> Any:
        return (await api.post(LISTED, given, token=reviewer)).result["statements"]

    first = await ask(first=2)
    assert first["nodes"][0] == {"merchantId": book, "number": 1, "stage": "READY"}
    assert first["pageInfo"]["hasNextPage"] is True
    rest = await ask(first=2, after=first["pageInfo"]["endCursor"])
    assert rest["pageInfo"]["hasNextPage"] is False
    assert {(one["merchantId"], one["number"]) for one in first["nodes"] + rest["nodes"]} == {
        (book, 1),
        (tea, 1),
        (tea, 2),
    }
    assert [one["number"] for one in (await ask(merchant=book))["nodes"]] == [1]
    assert (await ask(stage="APPROVED"))["nodes"] == [{"merchantId": tea, "number": 1, "stage": "APPROVED"}]
    for role, subject in (("citizen", "alice"), ("merchant", "tea-owner")):
        assert (await api.post(LISTED, {}, token=token_for(role, subject))).code == "FORBIDDEN"


NODE = f"""query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {{ node(id: $id) {{
  ... on Statement {{ number approvedBy
    lines(first: $first, after: $after, last: $last, before: $before) {{ edges {{ cursor node {{ {LINES} }} }}
      pageInfo {{ hasNextPage hasPreviousPage }} }} }} }} }}"""


async def test_lines_go_forward_and_backward(market: Market, api: Api, token_for: Callable[..., str]) -> None:
    token = token_for("merchant", "tea-owner")

    async def ask(**given: Any) -> tuple[list[Any], dict[str, bool]]:
        lines = (await api.post(NODE, {"id": global_id(FIRST), **given}, token=token)).result["lines"]
        return lines["edges"], lines["pageInfo"]

    whole, page = await ask(first=100)
    assert page == {"hasNextPage": False, "hasPreviousPage": False}
    assert [{key: one["node"][key] for key in ("kind", "points", "fen")} for one in whole] == [
        {"kind": "CAPTURE", "points": 1_000, "fen": 700},
        {"kind": "CAPTURE", "points": 300, "fen": 205},
        {"kind": "REFUND", "points": -100, "fen": -68},
    ]
    shown = whole[2]["node"]
    assert (shown["at"], shown["title"], shown["shop"], shown["commissionBps"]) == (
        "2026-11-02T16:00:00.000Z",
        "A cup of tea",
        "People's Road",
        200,
    )
    assert shown["number"] == whole[1]["node"]["number"] != whole[0]["node"]["number"]
    assert await ask(first=2) == (whole[:2], {"hasNextPage": True, "hasPreviousPage": False})
    assert await ask(first=2, after=whole[1]["cursor"]) == (whole[2:], {"hasNextPage": False, "hasPreviousPage": True})
    assert await ask(last=2) == (whole[1:], {"hasNextPage": False, "hasPreviousPage": True})
    assert await ask(last=2, before=whole[1]["cursor"]) == (
        whole[:1],
        {"hasNextPage": True, "hasPreviousPage": False},
    )
    assert (await api.post(NODE, {"id": global_id(FIRST), "after": "bm9uc2Vuc2U"}, token=token)).code == "INVALID_INPUT"
    costly = "{ admin { statements(first: 100) { nodes { lines { nodes { fen } } } } } }"
    assert (await api.post(costly, token=token_for("admin", "ann"))).code == "COST_LIMIT"


async def test_a_statement_is_found_by_staff_and_its_owner_alone(
    market: Market, api: Api, token_for: Callable[..., str]
) -> None:
    await register(market.services, "book")
    await act(api, "approveStatement", token_for("admin", "ann"))

    async def ask(token: str | None) -> Any:
        return (await api.post(NODE, {"id": global_id(FIRST)}, token=token)).result

    # Who approved it is the programme's own affair.
    assert (await ask(token_for("merchant", "tea-owner")))["approvedBy"] is None
    for role in ("admin", "reviewer", "verifier"):
        assert (await ask(token_for(role, "rita")))["approvedBy"] == "staff:ann"
    for token in (
        None,
        token_for("merchant", "book-owner"),
        token_for("merchant", "nobody"),
        token_for("citizen", "alice"),
        token_for("partner", "metro"),
    ):
        assert await ask(token) is None
    assert (
        await api.post(NODE, {"id": to_global_id("Statement", "none")}, token=token_for("admin", "a"))
    ).result is None
    assert len((await dump(market.services))[STATEMENTS.name]) == 2


DESK = """query ($stage: StatementStage) { merchantDesk { statements(stage: $stage, first: 5) {
  nodes { id number stage payableFen approvedBy } } } }"""


async def test_an_owner_reads_statements_at_the_merchants_desk(
    market: Market, api: Api, token_for: Callable[..., str]
) -> None:
    services = market.services
    await sell(services, await register(services, "book"), at=BEGIN)
    await services.database.insert_many(
        MEMBERS.name,
        [{"_id": "tea-cashier", "merchant": "tea", "name": "李", "role": "CASHIER", "shop": None, "is_active": True}],
    )
    await market.close_at(WEEK_END + 7 * DAY + REST + HOUR)
    await act(api, "approveStatement", token_for("admin", "ann"))
    owner = token_for("merchant", "tea-owner")
    told = (await api.post(DESK, {"stage": "APPROVED"}, token=owner)).result["statements"]["nodes"]
    assert told == [{"id": global_id(FIRST), "number": 1, "stage": "APPROVED", "payableFen": 821, "approvedBy": None}]
    everything = (await api.post(DESK, {}, token=owner)).result["statements"]["nodes"]
    assert sorted(one["id"] for one in everything) == sorted(map(global_id, (FIRST, SECOND)))
    for role, subject in (("merchant", "tea-cashier"), ("merchant", "nobody"), ("citizen", "alice"), ("admin", "ann")):
        assert (await api.post(DESK, {}, token=token_for(role, subject))).code == "FORBIDDEN"
