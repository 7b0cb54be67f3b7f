"""Mutations and queries on enterprises: what each answers, whom it refuses and why, and that nothing changed then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.market.funds.model import EnterpriseStep, FundAccount
from schemas.relay import to_global_id
from tests.api.trade_documents import Case, refused
from tests.conftest import dump
from tests.integration.banking import open_bank
from tests.unit.rewards.trading import credit_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api
    from tests.api.trade_documents import Inputs
    from tests.integration.banking import Bank

    Token = Callable[..., str]

pytestmark = pytest.mark.anyio
ROOT, RITA = ("admin", "root"), ("admin", "rita")
EVERYBODY = (
    ("citizen", "alice"),
    ("merchant", "chen"),
    ("partner", "metro"),
    ("enterprise", "steelworks"),
    ("reviewer", "ray"),
    ("verifier", "vera"),
    ("finance", "fay"),
)
FIELDS = """id login name creditCode contact purpose stage reason proposedAt proposedBy
  steps { at actor step reason } money { balanceFen }"""


@pytest.fixture
async def bank(services: Services) -> Bank:
    """The bank's desk."""
    return await open_bank(services)


def registration(**changes: Any) -> Inputs:
    """A steelworks that is to buy credits."""
    given = {
        "name": "镇江钢铁有限公司",
        "creditCode": credit_code(),
        "contact": "赵敏 0511-8600 0000",
        "purpose": "自愿抵消经营排放",
    }
    return {**given, **changes}


async def nothing_yet(_: Bank) -> Inputs:
    """Nobody is registered."""
    return registration()


async def registered(bank: Bank) -> Inputs:
    """Root registered an enterprise."""
    return {"enterprise": to_global_id("Enterprise", (await bank.registered()).id)}


async def to_reject(bank: Bank) -> Inputs:
    """The same, with a reason."""
    return {**await registered(bank), "reason": "材料不全"}


async def approved(bank: Bank) -> Inputs:
    """An enterprise that is let in, with a reason at hand."""
    return {"enterprise": to_global_id("Enterprise", await bank.approved()), "reason": "核查中"}


async def suspended(bank: Bank) -> Inputs:
    """A suspended one, with a reason at hand."""
    enterprise = await bank.approved()
    await bank.step(enterprise, EnterpriseStep.SUSPEND, "核查中")
    return {"enterprise": to_global_id("Enterprise", enterprise), "reason": "核查完毕"}


async def rejected(bank: Bank) -> Inputs:
    """A rejected one, with a reason at hand."""
    enterprise = (await bank.registered()).id
    await bank.step(enterprise, EnterpriseStep.REJECT, "材料不全")
    return {"enterprise": to_global_id("Enterprise", enterprise), "reason": "x"}


def case(name: str, prepare: Any, other: Inputs, who: tuple[str, str], stage: str, reason: str | None = None) -> Case:
    """A mutation on enterprises."""
    expected = {"stage": stage, "reason": reason}
    return Case(name, prepare, other, (who,), "EnterpriseAccount", FIELDS, expected=expected)


CASES = {
    one.name: one
    for one in (
        case("registerEnterprise", nothing_yet, {"purpose": "x"}, ROOT, "PROPOSED"),
        case("approveEnterprise", registered, {"enterprise": "other"}, RITA, "APPROVED"),
        case("rejectEnterprise", to_reject, {"reason": "x"}, RITA, "REJECTED", "材料不全"),
        case("suspendEnterprise", approved, {"reason": "x"}, ROOT, "SUSPENDED", "核查中"),
        case("resumeEnterprise", suspended, {"reason": "x"}, ROOT, "APPROVED", "核查完毕"),
    )
}


@pytest.mark.parametrize("name", CASES)
async def test_it_takes_effect_once_and_another_payload_conflicts(
    api: Api, services: Services, bank: Bank, token_for: Token, name: str
) -> None:
    one = CASES[name]
    given, token = await one.prepare(bank), token_for(*one.allowed[0])
    first = (await one.ask(api, token, given)).result
    assert first["__typename"] == "EnterpriseAccount"
    assert {field: first[field] for field in one.expected} == one.expected
    before = await dump(services)
    assert (await one.ask(api, token, given)).result == first
    assert await dump(services) == before
    code = (await refused(services, one, api, token, {**given, **one.other}))[0]
    # Where the other payload names nothing, that is told first.
    assert code == ("UNKNOWN_ENTERPRISE" if name == "approveEnterprise" else "IDEMPOTENCY_CONFLICT")


@pytest.mark.parametrize("name", CASES)
async def test_whoever_else_asks_is_denied_and_changes_nothing(
    api: Api, services: Services, bank: Bank, token_for: Token, name: str
) -> None:
    one = CASES[name]
    given = await one.prepare(bank)
    before = await dump(services)
    for role, who in EVERYBODY:
        assert (role, (await one.ask(api, token_for(role, who), given)).code) == (role, "FORBIDDEN")
    assert (await one.ask(api, None, given)).code == "UNAUTHENTICATED"
    assert await dump(services) == before


UNKNOWN = {"enterprise": to_global_id("Enterprise", "ent_none"), "reason": "x"}
# Mutation, how to make ready, what to send else, who asks, the refusal.
REFUSED: list[tuple[str, Any, Inputs, tuple[str, str], str]] = [
    ("registerEnterprise", approved, registration(), ROOT, "ENTERPRISE_REGISTERED"),
    ("registerEnterprise", nothing_yet, {"creditCode": "91350100M000100Y44"}, ROOT, "INVALID_INPUT"),
    ("registerEnterprise", nothing_yet, {"name": " "}, ROOT, "INVALID_INPUT"),
    ("registerEnterprise", nothing_yet, {"contact": "x" * 101}, ROOT, "INVALID_INPUT"),
    ("registerEnterprise", nothing_yet, {"purpose": ""}, ROOT, "INVALID_INPUT"),
    ("registerEnterprise", nothing_yet, {"idempotencyKey": "short"}, ROOT, "INVALID_INPUT"),
    ("approveEnterprise", registered, {}, ROOT, "OWN_PROPOSAL"),
    ("approveEnterprise", approved, {}, RITA, "ENTERPRISE_STAGE"),
    ("approveEnterprise", rejected, {}, RITA, "ENTERPRISE_STAGE"),
    ("approveEnterprise", registered, {"enterprise": "ent_none"}, RITA, "UNKNOWN_ENTERPRISE"),
    ("approveEnterprise", registered, {"idempotencyKey": ""}, RITA, "INVALID_INPUT"),
    ("rejectEnterprise", to_reject, {}, ROOT, "OWN_PROPOSAL"),
    ("rejectEnterprise", approved, {}, RITA, "ENTERPRISE_STAGE"),
    ("rejectEnterprise", to_reject, UNKNOWN, RITA, "UNKNOWN_ENTERPRISE"),
    ("rejectEnterprise", to_reject, {"reason": " "}, RITA, "INVALID_INPUT"),
    ("suspendEnterprise", suspended, {}, ROOT, "ENTERPRISE_STAGE"),
    ("suspendEnterprise", to_reject, {}, ROOT, "ENTERPRISE_STAGE"),
    ("suspendEnterprise", approved, UNKNOWN, ROOT, "UNKNOWN_ENTERPRISE"),
    ("suspendEnterprise", approved, {"reason": "x" * 501}, ROOT, "INVALID_INPUT"),
    ("resumeEnterprise", approved, {}, ROOT, "ENTERPRISE_STAGE"),
    ("resumeEnterprise", suspended, UNKNOWN, ROOT, "UNKNOWN_ENTERPRISE"),
    ("resumeEnterprise", suspended, {"reason": ""}, ROOT, "INVALID_INPUT"),
]


@pytest.mark.parametrize(
    ("name", "prepare", "changes", "who", "code"),
    REFUSED,
    ids=[f"{one[0]}-{one[4]}-{number}" for number, one in enumerate(REFUSED)],
)
async def test_it_says_why_it_refuses_and_changes_nothing(
    api: Api,
    services: Services,
    bank: Bank,
    token_for: Token,
    name: str,
    prepare: Any,
    changes: Inputs,
    who: tuple[str, str],
    code: str,
) -> None:
    given = {field: value for field, value in {**await prepare(bank), **changes}.items() if _takes(name, field)}
    told, zh, en = await refused(services, CASES[name], api, token_for(*who), given)
    assert told == code
    assert any("一" <= letter <= "鿿" for letter in zh)
    assert en != zh


def _takes(name: str, field: str) -> bool:
    """Whether the mutation's input has the field: cases share what makes them ready."""
    is_registration = name == "registerEnterprise"
    fields = set(registration()) if is_registration else {"enterprise", "reason"}
    return field in fields - ({"reason"} if name == "approveEnterprise" else set()) | {"idempotencyKey"}


def test_every_refusal_of_every_mutation_is_tried() -> None:
    tried = {(name, code) for name, *_, code in REFUSED} | {(name, "IDEMPOTENCY_CONFLICT") for name in CASES}
    assert {(name, code) for name, one in CASES.items() for code in one.refusals} == tried


VIEWER = """query { viewer { kind ... on Enterprise { name stage money {
  balanceFen availableFen heldFen
  statement { nodes { kind change balance asset } } payouts { nodes { fen stage } } } } } }"""


async def test_an_enterprise_sees_its_name_stage_and_money(api: Api, bank: Bank, token_for: Token) -> None:
    enterprise = await bank.approved()
    await bank.deposited(FundAccount(enterprise=enterprise), 1_000)
    shown = (await api.post(VIEWER, token=token_for("enterprise", enterprise))).result
    assert shown == {
        "kind": "ENTERPRISE",
        "name": "镇江钢铁有限公司",
        "stage": "APPROVED",
        "money": {
            "balanceFen": 1_000,
            "availableFen": 1_000,
            "heldFen": 0,
            "statement": {"nodes": [{"kind": "DEPOSIT", "change": 1_000, "balance": 1_000, "asset": "CNY"}]},
            "payouts": {"nodes": []},
        },
    }
    nobody = (await api.post(VIEWER, token=token_for("enterprise", "steelworks"))).result
    assert (nobody["name"], nobody["stage"], nobody["money"]["balanceFen"]) == (None, None, 0)


LISTED = """query ($stage: EnterpriseState, $first: Int, $after: String) { admin {
  enterprises(stage: $stage, first: $first, after: $after) {
    nodes { login stage } pageInfo { hasNextPage endCursor } } } }"""


async def test_staff_list_enterprises_by_stage_and_nobody_else_does(api: Api, bank: Bank, token_for: Token) -> None:
    waiting = (await bank.registered(1)).id
    let_in = [await bank.approved(number) for number in (2, 3)]
    token = token_for("verifier", "vera")

    async def listed(**given: Any) -> Any:
        return (await api.post(LISTED, given, token=token)).result["enterprises"]

    assert [node["login"] for node in (await listed(stage="PROPOSED"))["nodes"]] == [waiting]
    first = await listed(stage="APPROVED", first=1)
    assert first["pageInfo"]["hasNextPage"] is True
    rest = await listed(stage="APPROVED", first=5, after=first["pageInfo"]["endCursor"])
    assert {node["login"] for node in first["nodes"] + rest["nodes"]} == set(let_in)
    assert len((await listed())["nodes"]) == 3
    assert (await api.post(LISTED, {}, token=token_for("citizen", "alice"))).code == "FORBIDDEN"
    one = "query ($id: ID!) { admin { enterprise(id: $id) { login money { balanceFen } } } }"
    found = (await api.post(one, {"id": to_global_id("Enterprise", waiting)}, token=token)).result
    assert found == {"enterprise": {"login": waiting, "money": {"balanceFen": 0}}}
    assert (await api.post(one, {"id": "ent_none"}, token=token)).result == {"enterprise": None}
