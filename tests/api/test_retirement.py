"""retireCredits and the register over GraphQL: success, each refusal, each role; a denial changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.ids import CitizenId
from backend.ledger.model import citizen_owner, enterprise_owner, pool_owner
from schemas.relay import from_global_id, to_global_id
from tests.api.selling import PEOPLE
from tests.conftest import dump
from tests.floor import BATCH, CREDIT, give_credits

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api

ALICE = citizen_owner(CitizenId("alice"))
RETIRE = """
mutation ($input: RetireCreditsInput!) {
  retireCredits(input: $input) {
    ... on Certificate {
      id number ownerName purpose statement credit at quantityG amount ranges transactionId url receiptUrl stands
      beneficiary { name nameZh creditCode } serials { first last } origin { facts { vintage } acts { acts } }
    }
    ... on Refusal { code message }
  }
}
"""
REGISTER = """
query ($credit: ID, $beneficiary: String, $first: Int, $after: String) {
  retiredG(credit: $credit, beneficiary: $beneficiary)
  retirements(credit: $credit, beneficiary: $beneficiary, first: $first, after: $after) {
    nodes { number quantityG beneficiary { name } } pageInfo { hasNextPage endCursor }
  }
}
"""


def asking(key: str = "retire-0001", **changes: Any) -> dict[str, Any]:
    """A kilogram for the spring marathon."""
    given: dict[str, Any] = {
        "idempotencyKey": key,
        "credit": CREDIT,
        "quantityG": 1_000,
        "beneficiary": {"name": "Spring Marathon", "nameZh": "春季马拉松", "creditCode": "91440300ma5f0l1c20"},
        "purpose": "EVENT",
        "statement": "Travel of all runners.",
    }
    return {"input": {**given, **changes}}


async def test_a_citizen_retires_credits(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    await give_credits(services, ALICE, 5_000)
    token = token_for("citizen", "alice")
    made = (await api.post(RETIRE, asking(named=True), token=token)).result
    assert {name: made[name] for name in made if name not in ("id", "number", "at", "transactionId")} == {
        "ownerName": "王芳",
        "purpose": "EVENT",
        "statement": "Travel of all runners.",
        "credit": CREDIT,
        "quantityG": 1_000,
        "amount": "1 kg",
        "ranges": 1,
        "url": f"/certificates/{made['number']}",
        "receiptUrl": f"/certificates/{made['number']}/receipt.json",
        "stands": True,
        "beneficiary": {"name": "Spring Marathon", "nameZh": "春季马拉松", "creditCode": "91440300MA5F0L1C20"},
        "serials": [{"first": 1, "last": 1_000}],
        "origin": None,
    }
    before = await dump(services)
    assert (await api.post(RETIRE, asking(named=True), token=token)).result == made
    assert await dump(services) == before
    # Anybody finds it, by number however typed and by id.
    by_number = "query ($number: String!) { certificate(number: $number) { id } }"
    typed = made["number"].lower()
    assert (await api.post(by_number, {"number": typed})).result == {"id": made["id"]}
    assert (await api.post(by_number, {"number": "TH-X-2026-00000001"})).result is None
    node = "query ($id: ID!) { node(id: $id) { ... on Certificate { number } } }"
    assert (await api.post(node, {"id": made["id"]})).result == {"number": made["number"]}
    assert (from_global_id(made["id"]) or ("",))[0] == "Certificate"


async def test_an_instruments_id_stands_for_its_credit(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    await give_credits(services, enterprise_owner("steelworks"), 5_000)
    asked = asking(credit=to_global_id("Instrument", CREDIT))
    made = (await api.post(RETIRE, asked, token=token_for("enterprise", "steelworks"))).result
    assert (made["credit"], made["ownerName"]) == (CREDIT, None)


async def test_an_administrator_retires_for_a_pool(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    await give_credits(services, pool_owner(BATCH), 5_000)
    made = (await api.post(RETIRE, asking(pool=BATCH), token=token_for("admin", "root"))).result
    assert made["quantityG"] == 1_000


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "too much": (
        {"quantityG": 5_001},
        ("INSUFFICIENT_CREDITS", "not enough credits: 5001 grams needed, 5000 available that no order holds"),
    ),
    "unknown": ({"credit": "credit:none"}, ("UNKNOWN_CREDIT", "no credit credit:none was ever issued")),
    "nothing": (
        {"quantityG": 0},
        ("INVALID_INPUT", f"field grams is invalid: 1–{10**15}"),
    ),
    "a blank name": (
        {"beneficiary": {"name": " "}},
        (
            "INVALID_INPUT",
            "field beneficiary.name is invalid: 1–120 characters, none of them control characters",
        ),
    ),
    "a wrong code": (
        {"beneficiary": {"name": "a", "creditCode": "91440300MA5F0L1C2Y"}},
        ("INVALID_INPUT", "field beneficiary.creditCode is invalid: not a unified social credit code (GB 32100-2015)"),
    ),
    "a pool that is none": (
        {"pool": "../etc"},
        ("INVALID_INPUT", "field pool is invalid: 1–64 letters, digits, dots, dashes and underscores"),
    ),
    "a bad key": (
        {"idempotencyKey": "short"},
        ("INVALID_INPUT", "field idempotencyKey is invalid: 8–64 printable ASCII characters"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_changes_nothing(
    api: Api, services: Services, token_for: Callable[..., str], name: str
) -> None:
    changes, (code, message) = REFUSED[name]
    await give_credits(services, ALICE, 5_000)
    before = await dump(services)
    found = (await api.post(RETIRE, asking(**changes), token=token_for("citizen", "alice"))).result
    assert found == {"code": code, "message": message}
    assert await dump(services) == before


async def test_a_key_used_otherwise_is_refused(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    await give_credits(services, ALICE, 5_000)
    token = token_for("citizen", "alice")
    await api.post(RETIRE, asking(), token=token)
    before = await dump(services)
    found = (await api.post(RETIRE, asking(quantityG=2_000), token=token)).result
    assert found["code"] == "IDEMPOTENCY_CONFLICT"
    assert await dump(services) == before


@pytest.mark.parametrize("who", PEOPLE)
async def test_who_owns_credits_retires_them(
    api: Api, services: Services, token_for: Callable[..., str], who: str
) -> None:
    await give_credits(services, ALICE, 5_000)
    await give_credits(services, enterprise_owner("steelworks"), 5_000, first=5_001)
    await give_credits(services, pool_owner(BATCH), 5_000, first=10_001)
    before = await dump(services)
    person = PEOPLE[who]
    answer = await api.post(RETIRE, asking(), token=token_for(*person) if person else None)
    if who in ("citizen", "enterprise"):
        assert answer.result["quantityG"] == 1_000
        return
    if who == "other citizen":
        assert answer.result["code"] == "INSUFFICIENT_CREDITS"
    else:
        assert answer.code == ("UNAUTHENTICATED" if who == "nobody" else "FORBIDDEN")
    assert await dump(services) == before


async def test_only_administrators_act_for_a_pool(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    await give_credits(services, pool_owner(BATCH), 5_000)
    before = await dump(services)
    for who in (("citizen", "alice"), ("enterprise", "steelworks"), ("verifier", "vera"), ("finance", "fay")):
        assert (await api.post(RETIRE, asking(pool=BATCH), token=token_for(*who))).code == "FORBIDDEN"
    assert await dump(services) == before


async def test_the_register_is_public_and_names_nobody_who_did_not_wish_it(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    await give_credits(services, ALICE, 9_000)
    await give_credits(services, enterprise_owner("steelworks"), 9_000, first=9_001)
    rows = [("alice", 1_000, "Spring Marathon"), ("steelworks", 2_000, "Steelworks"), ("alice", 3_000, "spring water")]
    for number, (who, grams, name) in enumerate(rows):
        kind = "citizen" if who == "alice" else "enterprise"
        asked = asking(f"retire-{number:04}", quantityG=grams, beneficiary={"name": name})
        await api.post(RETIRE, asked, token=token_for(kind, who))
    found = (await api.post(REGISTER)).data
    assert found["retiredG"] == 6_000
    assert {node["quantityG"] for node in found["retirements"]["nodes"]} == {1_000, 2_000, 3_000}
    assert "alice" not in str(found)
    page = (await api.post(REGISTER, {"first": 2})).data["retirements"]
    assert page["pageInfo"]["hasNextPage"]
    rest = (await api.post(REGISTER, {"after": page["pageInfo"]["endCursor"]})).data["retirements"]
    assert [node["number"] for node in page["nodes"] + rest["nodes"]] == [
        node["number"] for node in found["retirements"]["nodes"]
    ]
    spring = (await api.post(REGISTER, {"beneficiary": "Spring"})).data
    assert (spring["retiredG"], len(spring["retirements"]["nodes"])) == (4_000, 2)
    assert (await api.post(REGISTER, {"credit": "credit:none"})).data["retiredG"] == 0
    assert (await api.post(REGISTER, {"beneficiary": "\u0000"})).body["errors"][0]["extensions"]["code"] == (
        "INVALID_INPUT"
    )
    own = "{ certificates { nodes { quantityG } } }"
    mine = (await api.post(own, token=token_for("citizen", "alice"))).result
    assert sorted(node["quantityG"] for node in mine["nodes"]) == [1_000, 3_000]
    assert (await api.post(own)).code == "UNAUTHENTICATED"
    assert (await api.post(own, token=token_for("partner", "metro"))).code == "FORBIDDEN"
