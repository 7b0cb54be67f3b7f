"""openBatch, cancelBatch, drawSample, verifyBatch, rejectBatch, issueBatch; what staff and public read of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.relay import to_global_id
from tests.api.batch_documents import BATCH, send, send_as_anybody_but, send_refused
from tests.api.documents import shown
from tests.conftest import dump
from tests.integration.batching import BEN, BOTH, PROJECT, REPORT, Floor, off

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio
KILO = 1_000_000
LIST = "query ($stage: BatchStage) { admin { batches(stage: $stage, first: 5) { nodes { batch } } } }"
ONE = f"query ($id: ID!) {{ admin {{ batch(id: $id) {{ {BATCH} }} }} }}"
NODE = f"query ($id: ID!) {{ node(id: $id) {{ ... on Batch {{ {BATCH} }} }} }}"
REGISTRY = f"{{ registry(first: 1) {{ nodes {{ {BATCH} }} pageInfo {{ hasNextPage endCursor }} }} }}"
ORIGIN = """query ($credit: String!, $serial: BigInt!) { creditOrigin(credit: $credit, serial: $serial) {
  contributionId issuanceTransactionId
  acts { actionId kind mg occurredAt earningTransactionId poolingTransactionId } } }"""


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    return await Floor(services, clock).open("alice", "bob")


async def test_a_batch_on_its_way_from_opening_to_issuance(
    api: Api, floor: Floor, token_for: Callable[..., str]
) -> None:
    acts = [*await floor.rides("alice", 900, 200), *await floor.rides("bob", 300)]
    ann, ben, vera = token_for("admin", "ann"), token_for("admin", "ben"), token_for("verifier", "vera")
    opened = (await send(api, floor, "openBatch", ann)).result
    now, (since, until) = shown(floor.clock.now()), floor.days
    code = f"zhenjiang-conservative-transit-{since.year}-001"
    expected: dict[str, Any] = {
        "__typename": "Batch",
        "id": to_global_id("Batch", code),
        "batch": code,
        "number": 1,
        "scenario": "TRANSIT",
        "profile": "conservative",
        "vintage": since.year,
        "stage": "GATHERING",
        "credit": f"credit:{code}",
        "project": PROJECT.en,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "opener": "staff:ann",
        "contributors": 0,
        "acts": 0,
        "quantifiedMg": 0,
        "openedAt": now,
        "gatheredAt": None,
        "sample": None,
        "verdict": None,
        "ending": None,
        "issuance": None,
    }
    assert opened == expected
    await floor.pooling.batches.work_off()
    expected |= {"stage": "GATHERED", "contributors": 2, "acts": 3, "quantifiedMg": 1_400 * KILO, "gatheredAt": now}
    drawn = (await send(api, floor, "drawSample", vera, code)).result
    sample = drawn["sample"]
    assert (sample["size"], sample["drawnBy"], len(sample["actionIds"])) == (2, "staff:vera", 2)
    assert set(sample["actionIds"]) < {to_global_id("Action", act.id) for act in acts}
    expected["sample"] = sample
    assert drawn == expected
    adjustment = {"action": to_global_id("Action", acts[1].id), "reason": "EVIDENCE_LACKING", "note": "无行程记录"}
    too_much = [adjustment, {"bps": 50, "reason": "UNCERTAINTY", "note": "抽样误差"}]
    nearly_all = [*too_much, {"bps": 2_000, "reason": "UNCERTAINTY", "note": "x"}]
    refused = await send_refused(api, floor, "verifyBatch", vera, code, adjustments=nearly_all)
    assert (refused["code"], refused["message"]) == (
        "BATCH_TOO_SMALL",
        "955200 g would be left, which is less than a tonne: nothing could be issued; reject the batch",
    )
    verified = (await send(api, floor, "verifyBatch", vera, code, adjustments=too_much)).result
    expected |= {"stage": "VERIFIED"}
    expected["verdict"] = {
        "organisation": REPORT.organisation,
        "reportHash": REPORT.hash,
        "reportName": REPORT.name,
        "statement": REPORT.statement,
        "verifier": "staff:vera",
        "contentHash": sample["seed"],
        "deductedMg": 206_000_000,
        "adjustments": [
            {"actionId": adjustment["action"], "bps": None, **_without(adjustment, "action"), "mg": 200 * KILO},
            {"actionId": None, **too_much[1], "mg": 6_000_000},
        ],
    }
    assert verified == expected
    issuing = (await send(api, floor, "issueBatch", ben, code)).result
    assert (issuing["stage"], issuing["issuance"]["issuedG"]) == ("ISSUING", 1_000_000)


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


async def issued(floor: Floor) -> str:
    """A batch of 1,100 kilograms, issued."""
    acts = await floor.rides("alice", 600, 200, 10)
    await floor.rides("bob", 300)
    batch = await floor.gathered()
    await floor.verified(batch.code, off(acts[2].id))
    return (await floor.issued(batch.code)).code


async def test_an_issued_batch_is_public_but_for_who_did_what(
    api: Api, floor: Floor, token_for: Callable[..., str]
) -> None:
    first = await issued(floor)
    hidden = await floor.gathered()
    page = (await api.post(REGISTRY)).result
    [public] = page["nodes"]
    assert page["pageInfo"]["hasNextPage"] is False
    assert (public["batch"], public["stage"], public["project"]) == (first, "ISSUED", PROJECT.en)
    assert (public["opener"], public["sample"], public["verdict"]["verifier"]) == (None, None, None)
    assert public["verdict"]["adjustments"][0] == {
        "actionId": None,
        "bps": None,
        "reason": "DUPLICATE_CLAIM",
        "note": "记录重复",
        "mg": 10 * KILO,
    }
    assert public["issuance"] == {
        "issuedG": 1_000_000,
        "residualMg": 100 * KILO,
        "methodologies": ["SZ-TRAVEL-2021"],
        "issuer": None,
        "issuedAt": shown(floor.clock.now()),
    }
    seen = await api.post(NODE, {"id": to_global_id("Batch", first)})
    assert seen.result == public
    secret = to_global_id("Batch", hidden.code)
    assert (await api.post(NODE, {"id": secret}, token=token_for("citizen", "alice"))).result is None
    assert (await api.post(NODE, {"id": secret}, token=token_for("verifier", "vera"))).result["stage"] == "GATHERED"
    admin = token_for("admin", "ann")
    assert (await api.post(ONE, {"id": secret}, token=admin)).result["batch"]["opener"] == "staff:ann"
    assert (await api.post(ONE, {"id": "none"}, token=admin)).result["batch"] is None
    listed = (await api.post(LIST, token=admin)).result["batches"]["nodes"]
    assert {one["batch"] for one in listed} == {first, hidden.code}
    listed = (await api.post(LIST, {"stage": "GATHERED"}, token=admin)).result["batches"]["nodes"]
    assert [one["batch"] for one in listed] == [hidden.code]
    assert (await api.post(LIST, token=token_for("citizen", "alice"))).code == "FORBIDDEN"


async def test_the_registry_is_read_page_by_page(api: Api, floor: Floor) -> None:
    codes = []
    for number in range(2):
        floor.clock.advance(timedelta(minutes=1))
        await floor.rides("alice", 999, 2, first=3 * number)
        batch = await floor.gathered()
        await floor.verified(batch.code)
        codes.append((await floor.issued(batch.code)).code)
    page = (await api.post(REGISTRY)).result
    assert ([one["batch"] for one in page["nodes"]], page["pageInfo"]["hasNextPage"]) == (codes[1:], True)
    document = "query ($after: String) { registry(first: 1, after: $after) { nodes { batch } } }"
    following = await api.post(document, {"after": page["pageInfo"]["endCursor"]})
    assert [one["batch"] for one in following.result["nodes"]] == codes[:1]


async def test_a_gram_leads_to_its_act_for_its_citizen_and_staff(
    api: Api, floor: Floor, token_for: Callable[..., str]
) -> None:
    code = await issued(floor)
    [given] = await floor.contributions("alice")
    [first, *_] = await floor.acts(given)
    assert given.pool is not None
    expected = {
        "contributionId": to_global_id("Contribution", given.id),
        "issuanceTransactionId": given.pool.transaction,
        "acts": [
            {
                "actionId": to_global_id("Action", first.action),
                "kind": "tram",
                "mg": 1_000,
                "occurredAt": shown(first.occurred_at),
                "earningTransactionId": first.earned,
                "poolingTransactionId": first.pooled,
            }
        ],
    }
    for credit in (code, f"credit:{code}"):
        for role, name in (("citizen", "alice"), ("verifier", "vera"), ("admin", "ann")):
            answer = await api.post(ORIGIN, {"credit": credit, "serial": 1}, token=token_for(role, name))
            assert answer.result == expected
    for token, serial in ((token_for("citizen", "bob"), 1), (token_for("admin", "ann"), 1_000_001)):
        assert (await api.post(ORIGIN, {"credit": code, "serial": serial}, token=token)).result is None
    assert (await api.post(ORIGIN, {"credit": "no", "serial": 1}, token=token_for("admin", "a"))).result is None
    assert (
        await api.post(ORIGIN, {"credit": code, "serial": 1}, token=token_for("merchant", "chen"))
    ).code == "FORBIDDEN"
    assert (await api.post(ORIGIN, {"credit": code, "serial": 1})).code == "UNAUTHENTICATED"


async def test_called_off_or_rejected_a_batch_says_why(api: Api, floor: Floor, token_for: Callable[..., str]) -> None:
    await floor.rides("alice", 6)
    first, vera = await floor.gathered(), token_for("verifier", "vera")
    cancelled = (await send(api, floor, "cancelBatch", token_for("admin", "ben"), first.code)).result
    assert (cancelled["stage"], cancelled["ending"]) == (
        "CANCELLING",
        {"by": "staff:ben", "reason": "时段有误", "rejected": False},
    )
    await floor.pooling.batches.work_off()
    second = await floor.gathered()
    rejected = (await send(api, floor, "rejectBatch", vera, second.code)).result
    assert rejected["ending"] == {"by": "staff:vera", "reason": "证据不足", "rejected": True}
    assert (await send(api, floor, "rejectBatch", vera, second.code)).result == rejected


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("openBatch", {"projectZh": " "}, "projectZh"),
    ("openBatch", {"projectEn": "x" * 201}, "projectEn"),
    ("openBatch", {"idempotencyKey": "short"}, "idempotencyKey"),
    ("openBatch", {"since": "2026-01-05", "until": "2026-01-05"}, "until"),
    ("openBatch", {"since": "0001-01-01", "until": "0001-01-02"}, "since"),
    ("openBatch", {"since": "2025-12-31", "until": "2026-01-02"}, "until"),
    ("openBatch", {"since": "2099-12-01", "until": "2099-12-31"}, "until"),
    ("cancelBatch", {"reason": ""}, "reason"),
    ("drawSample", {"size": 0}, "size"),
    ("drawSample", {"size": 1_001}, "size"),
    ("verifyBatch", {"reportHash": "AB" * 32}, "reportHash"),
    ("verifyBatch", {"reportHash": "ab" * 31}, "reportHash"),
    ("verifyBatch", {"reportName": ""}, "reportName"),
    ("verifyBatch", {"verifierOrganisation": ""}, "verifierOrganisation"),
    ("verifyBatch", {"statement": ""}, "statement"),
    ("verifyBatch", {"adjustments": [{"reason": "UNCERTAINTY", "note": "x"}]}, "adjustments"),
    ("verifyBatch", {"adjustments": [{"reason": "UNCERTAINTY", "note": "x", "bps": 1, "action": "a"}]}, "adjustments"),
    ("verifyBatch", {"adjustments": [{"reason": "UNCERTAINTY", "note": "x", "bps": 0}]}, "bps"),
    ("verifyBatch", {"adjustments": [{"reason": "UNCERTAINTY", "note": "x", "bps": 10_001}]}, "bps"),
    ("verifyBatch", {"adjustments": [{"reason": "UNCERTAINTY", "note": "", "bps": 1}]}, "note"),
    ("verifyBatch", {"adjustments": [{"reason": "UNCERTAINTY", "note": "x", "bps": 1}] * 201}, "adjustments"),
    ("rejectBatch", {"reason": "x" * 201}, "reason"),
    ("issueBatch", {"idempotencyKey": "short"}, "idempotencyKey"),
]


@pytest.mark.parametrize(("name", "given", "field"), BAD)
async def test_input_that_no_batch_can_have(
    api: Api, floor: Floor, token_for: Callable[..., str], name: str, given: dict[str, Any], field: str
) -> None:
    role = "verifier" if name in {"drawSample", "verifyBatch", "rejectBatch"} else "admin"
    refused = await send_refused(api, floor, name, token_for(role, "vera"), **given)
    assert (refused["code"], refused["field"]) == ("INVALID_INPUT", field)


async def test_another_profile_is_never_mixed_in(api: Api, floor: Floor, token_for: Callable[..., str]) -> None:
    refused = await send_refused(api, floor, "openBatch", token_for("admin", "ann"), profile="shanghai-2026")
    assert (refused["code"], refused["message"]) == (
        "FOREIGN_PROFILE",
        "this programme does not use the profile shanghai-2026; two profiles are never mixed",
    )


@pytest.mark.parametrize("name", ["cancelBatch", "drawSample", "verifyBatch", "rejectBatch", "issueBatch"])
async def test_a_batch_that_is_not_there(api: Api, floor: Floor, token_for: Callable[..., str], name: str) -> None:
    token = token_for("admin" if name in {"cancelBatch", "issueBatch"} else "verifier", "ann")
    refused = await send_refused(api, floor, name, token)
    assert (refused["code"], refused["message"]) == ("UNKNOWN_BATCH", "there is no such batch")


async def test_what_the_stage_or_the_contents_do_not_allow(
    api: Api, floor: Floor, token_for: Callable[..., str]
) -> None:
    ann, vera = token_for("admin", "ann"), token_for("verifier", "vera")
    batch = await floor.begun()
    for name in ("drawSample", "verifyBatch", "rejectBatch"):
        refused = await send_refused(api, floor, name, vera, batch.code)
        assert (refused["code"], refused["message"]) == (
            "BATCH_STAGE",
            "the batch is GATHERING, so this cannot be done",
        )
    await floor.pooling.batches.work_off()
    assert (await send_refused(api, floor, "issueBatch", ann, batch.code))["code"] == "BATCH_STAGE"
    for name in ("drawSample", "verifyBatch"):
        refused = await send_refused(api, floor, name, vera, batch.code)
        assert (refused["code"], refused["message"]) == ("EMPTY_BATCH", "the batch holds nothing")
    await floor.rides("alice", 999, 6)
    full = await floor.gathered()
    refused = await send_refused(api, floor, "verifyBatch", vera, full.code)
    assert (refused["code"], refused["message"]) == (
        "SAMPLE_NEEDED",
        "no sample was drawn of what the batch holds now; draw one first",
    )
    await floor.sampled(full.code)
    foreign = [{"reason": "NOT_ELIGIBLE", "note": "x", "action": to_global_id("Action", "act_none")}]
    refused = await send_refused(api, floor, "verifyBatch", vera, full.code, adjustments=foreign)
    assert (refused["code"], refused["message"]) == (
        "NOT_IN_BATCH",
        "the action act_none is not in the batch, or is named twice",
    )
    await floor.verified(full.code)
    assert (await send_refused(api, floor, "cancelBatch", ann, full.code))["code"] == "BATCH_STAGE"


async def test_nobody_does_two_of_three_things(api: Api, floor: Floor, services: Services) -> None:
    await floor.rides("alice", 999, 2)
    batch = await floor.gathered(BOTH)
    both = services.tokens.issue(BOTH, timedelta(minutes=5))
    for name in ("verifyBatch", "rejectBatch"):
        refused = await send_refused(api, floor, name, both, batch.code)
        assert (refused["code"], refused["message"]) == (
            "FOUR_EYES",
            "opening, verifying and issuing a batch is done by different persons, the last two without a part in it",
        )
    await floor.verified(batch.code)
    assert (await send_refused(api, floor, "issueBatch", both, batch.code))["code"] == "FOUR_EYES"
    ben = services.tokens.issue(BEN, timedelta(minutes=5))
    issuing = (await send(api, floor, "issueBatch", ben, batch.code)).result
    assert (issuing["stage"], issuing["issuance"]["issuer"]) == ("ISSUING", "staff:ben")
    before = await dump(services)
    assert (await send(api, floor, "issueBatch", ben, batch.code)).result == issuing
    assert await dump(services) == before


@pytest.mark.parametrize("name", ["openBatch", "cancelBatch", "issueBatch"])
async def test_only_administrators_manage(api: Api, floor: Floor, token_for: Callable[..., str], name: str) -> None:
    await send_as_anybody_but(api, floor, token_for, name, "none", {"administrator"})


@pytest.mark.parametrize("name", ["drawSample", "verifyBatch", "rejectBatch"])
async def test_only_verifiers_verify(api: Api, floor: Floor, token_for: Callable[..., str], name: str) -> None:
    await send_as_anybody_but(api, floor, token_for, name, "none", {"verifier"})


@pytest.mark.parametrize("name", ["openBatch", "cancelBatch", "drawSample", "verifyBatch", "rejectBatch", "issueBatch"])
async def test_the_same_key_with_another_payload_conflicts(
    api: Api, floor: Floor, token_for: Callable[..., str], name: str
) -> None:
    await floor.rides("alice", 999, 2)
    batch = await floor.gathered()
    if name == "issueBatch":
        await floor.verified(batch.code)
    if name == "verifyBatch":
        await floor.sampled(batch.code)
    token = token_for("verifier" if name in {"drawSample", "verifyBatch", "rejectBatch"} else "admin", "zoe")
    assert (await send(api, floor, name, token, batch.code)).result["__typename"] == "Batch"
    other: dict[str, dict[str, Any]] = {
        "openBatch": {"projectEn": "Another"},
        "cancelBatch": {"reason": "别的"},
        "drawSample": {"size": 1},
        "verifyBatch": {"statement": "别的"},
        "rejectBatch": {"reason": "别的"},
        "issueBatch": {"batch": (await floor.begun()).code},
    }
    refused = await send_refused(api, floor, name, token, batch.code, **other[name])
    assert refused["code"] == "IDEMPOTENCY_CONFLICT"
