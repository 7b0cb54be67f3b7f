"""restateRule and approveRestatement: one person proposes, another approves; what citizens read of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.relay import to_global_id
from tests.conftest import dump
from tests.factories import bus_ride, citizen
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import BUS, begin, published

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Answer, Api

pytestmark = pytest.mark.anyio
JOB = """id rule { code version } kind from to reason dryRun proposer approver stage
  estimate { count { acts unchanged refused reductionMg points unrestatable { action code } } citizens debts
    largest { action reductionMg points } }
  done { acts refused reductionMg points }"""
RESTATE = f"""mutation ($input: RestateRuleInput!) {{ restateRule(input: $input) {{ __typename
  ... on Restatement {{ {JOB} }} ... on Refusal {{ code message }} }} }}"""
APPROVE = f"""mutation ($input: ApproveRestatementInput!) {{ approveRestatement(input: $input) {{ __typename
  ... on Restatement {{ {JOB} }} ... on Refusal {{ code message }} }} }}"""
FIND = f"query ($id: ID!) {{ admin {{ restatement(id: $id) {{ {JOB} }} }} }}"
ACT = "query ($id: ID!) { action(id: $id) { points reductionMg restatements { rule { version } reductionMg points } } }"


@pytest.fixture
async def version(services: Services, clock: ManualClock) -> int:
    """Alice's ride, and the version of its rule published for its past; modules share their rules."""
    action = await services.actions.record(citizen(), bus_ride("ride"), key="key-0001")
    await services.settling.settle(ALL_SHARDS)
    settled = (await services.actions.find_actions([action.id]))[action.id].settlement
    assert settled is not None
    assert settled.rule is not None
    points = settled.points + 10
    wording = {**BUS, "formula": {"family": "PER_QUANTITY", "rate": f"{points * 2_000}/1"}}
    draft = await begin(services, wording, key=f"correction-{settled.rule.version}")
    await published(services, draft, valid_from=clock.now() - timedelta(days=2))
    return settled.rule.version + 1


async def restate(api: Api, services: Services, token: str | None, number: int, **given: Any) -> Answer:
    now = services.clock.now()
    base = {
        "idempotencyKey": "restate-0001",
        "rule": "R-BUS2",
        "version": number,
        "from": (now - timedelta(days=1)).isoformat(),
        "to": now.isoformat(),
        "reason": "系数有误",
        "dryRun": False,
    }
    language = given.pop("language", "en")
    return await api.post(RESTATE, {"input": {**base, **given}}, token=token, language=language)


async def approve(api: Api, token: str | None, job: str, key: str = "approve-0001", language: str = "en") -> Answer:
    return await api.post(
        APPROVE, {"input": {"idempotencyKey": key, "restatement": job}}, token=token, language=language
    )


async def test_one_proposes_another_approves_and_the_citizen_reads_the_difference(
    api: Api, services: Services, token_for: Callable[..., str], version: int
) -> None:
    admin, reviewer = token_for("admin", "ann"), token_for("reviewer", "rita")
    proposed = (await restate(api, services, admin, version)).result
    assert (proposed["stage"], proposed["estimate"], proposed["kind"]) == ("ESTIMATING", None, "bus_ride")
    await services.restating.work_off()
    estimated = (await api.post(FIND, {"id": proposed["id"]}, token=reviewer)).result["restatement"]
    [action] = (await dump(services))["actions"]
    assert estimated["stage"] == "PROPOSED"
    assert estimated["estimate"] == {
        "count": {"acts": 1, "unchanged": 0, "refused": 0, "reductionMg": 10_000, "points": 10, "unrestatable": []},
        "citizens": 1,
        "debts": 0,
        "largest": [{"action": action["_id"], "reductionMg": 10_000, "points": 10}],
    }
    approved = (await approve(api, reviewer, proposed["id"])).result
    assert (approved["stage"], approved["proposer"], approved["approver"]) == ("RUNNING", "staff:ann", "staff:rita")
    await services.restating.work_off()
    done = (await api.post(FIND, {"id": proposed["id"]}, token=admin)).result["restatement"]
    assert (done["stage"], done["done"]) == (
        "DONE",
        {"acts": 1, "refused": 0, "reductionMg": 10_000, "points": 10},
    )
    alice = token_for("citizen", "alice")
    seen = (await api.post(ACT, {"id": to_global_id("Action", action["_id"])}, token=alice)).result
    assert seen["points"] == int(action["settlement"]["points"]) + 10
    assert seen["restatements"] == [{"rule": {"version": version}, "reductionMg": 10_000, "points": 10}]
    listed = "{ admin { restatements(first: 5) { nodes { id } } } }"
    assert (await api.post(listed, token=admin)).result["restatements"]["nodes"] == [{"id": proposed["id"]}]


async def test_a_dry_run_is_never_approved(
    api: Api, services: Services, token_for: Callable[..., str], version: int
) -> None:
    job = (await restate(api, services, token_for("admin", "ann"), version, dryRun=True)).result["id"]
    await services.restating.work_off()
    before = await dump(services)
    refused = (await approve(api, token_for("reviewer", "rita"), job)).result
    assert (refused["code"], refused["message"]) == (
        "NOT_PROPOSED",
        "the restatement is ESTIMATED; it does not wait for approval",
    )
    assert await dump(services) == before


async def test_roles(api: Api, services: Services, token_for: Callable[..., str], version: int) -> None:
    job = (await restate(api, services, token_for("admin", "ann"), version)).result["id"]
    await services.restating.work_off()
    before = await dump(services)
    for role in ("citizen", "partner", "merchant", "enterprise", "verifier", "reviewer"):
        assert (await restate(api, services, token_for(role, "somebody"), version)).code == "FORBIDDEN"
        if role != "reviewer":
            assert (await approve(api, token_for(role, "somebody"), job)).code == "FORBIDDEN"
    assert (await restate(api, services, None, version)).code == "UNAUTHENTICATED"
    assert (await approve(api, None, job)).code == "UNAUTHENTICATED"
    assert (await api.post(FIND, {"id": job}, token=token_for("citizen", "alice"))).code == "FORBIDDEN"
    for language, message in (
        ("zh", "提出重算者不能审批，须由他人审批"),
        ("en", "who proposed a restatement cannot approve it; another person must"),
    ):
        own = (await approve(api, token_for("admin", "ann"), job, language=language)).result
        assert (own["code"], own["message"]) == ("OWN_RESTATEMENT", message)
    assert await dump(services) == before


async def test_refusals_say_why_in_both_languages(
    api: Api, services: Services, token_for: Callable[..., str], version: int
) -> None:
    token = token_for("admin", "ann")
    moment = services.clock.now().isoformat()
    cases: list[tuple[dict[str, Any], tuple[str, str, str]]] = [
        (
            {"number": 99},
            ("UNKNOWN_VERSION", "规则 R-BUS2 没有已发布的第 99 版", "no version 99 of the rule R-BUS2 was published"),
        ),
        (
            {"from": moment, "to": moment},
            ("INVALID_INPUT", "字段 to 无效：须晚于 from", "field to is invalid: must be after from"),
        ),
        (
            {"reason": " "},
            (
                "INVALID_INPUT",
                "字段 reason 无效：1–500 个字符，不含控制字符",
                "field reason is invalid: 1–500 characters, none of them control characters",
            ),
        ),
    ]
    before = await dump(services)
    for given, (code, zh, en) in cases:
        for language, message in (("zh", zh), ("en", en)):
            asked = {"number": version, "language": language, **given}
            result = (await restate(api, services, token, **asked)).result
            assert (result["code"], result["message"]) == (code, message)
    for language, message in (("zh", "没有重算任务 none"), ("en", "there is no restatement none")):
        result = (await approve(api, token, "none", language=language)).result
        assert (result["code"], result["message"]) == ("UNKNOWN_RESTATEMENT", message)
    assert await dump(services) == before
    await restate(api, services, token, version)
    taken = (await restate(api, services, token, version, reason="别的")).result
    assert taken["code"] == "IDEMPOTENCY_CONFLICT"
