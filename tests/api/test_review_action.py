"""reviewAction and the review queue: what staff see and decide, what citizens read of it, and who is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.model import Status
from backend.kernel.ids import CitizenId
from backend.ledger.model import POINTS, citizen_owner
from backend.rules.model import EvidenceTier
from schemas.relay import to_global_id
from tests.conftest import dump
from tests.factories import ADMIN, bus_ride, citizen, spending
from tests.integration.conftest import ALL_SHARDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.actions.model import Action
    from backend.runtime import Services
    from tests.api.client import Answer, Api

pytestmark = pytest.mark.anyio
SHOWN = "id status reasonCode reason points reductionMg review { by decision reason }"
MUTATION = f"""mutation ($input: ReviewActionInput!) {{ reviewAction(input: $input) {{ __typename
  ... on Action {{ {SHOWN} }} ... on Refusal {{ code message }} }} }}"""
QUEUE = """query ($reason: ActionReason, $kind: String, $first: Int, $after: String) {
  admin { reviewQueue(reason: $reason, kind: $kind, first: $first, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes { ref evidence evidenceTier attributes reasonCode doubts { code } claimedBy { ref points } } } } }"""


async def recorded(services: Services, ref: str, who: str = "alice", **changes: Any) -> Action:
    """A settled act on the citizen's own word."""
    action = await services.actions.record(citizen(who), bus_ride(ref, **changes), key=f"key-{ref:>04}")
    await services.settling.settle(ALL_SHARDS)
    return (await services.actions.find_actions([action.id]))[action.id]


async def in_review(services: Services, ref: str = "odd") -> Action:
    """Bob's ride to where it began."""
    action = await recorded(services, ref, "bob", attributes={"from": "大市口", "to": "大市口"})
    assert action.status is Status.REVIEW
    return action


async def contested(services: Services) -> tuple[Action, Action]:
    """Alice's ride on her word, and the operator's record of it, which waits."""
    weak = await recorded(services, "weak", attributes={"trip_id": "T-1"})
    given = {"citizen": CitizenId("alice"), "source": "bus", "tier": EvidenceTier.OPERATOR, "evidence": "afc/7"}
    strong = await services.actions.record(
        ADMIN, bus_ride("strong", attributes={"trip_id": "T-1"}, **given), key="key-0002"
    )
    await services.settling.settle(ALL_SHARDS)
    return weak, strong


async def ask(api: Api, token: str | None, action: Action | str, language: str = "en", **given: Any) -> Answer:
    name = action if isinstance(action, str) else to_global_id("Action", action.id)
    base = {"idempotencyKey": "review-0001", "action": name, "decision": "APPROVE", "reason": "核对过行程"}
    return await api.post(MUTATION, {"input": {**base, **given}}, token=token, language=language)


async def refused(services: Services, api: Api, token: str, action: Action | str, **given: Any) -> tuple[str, str, str]:
    """Code and messages in Chinese and English of a refusal, which changed nothing."""
    before = await dump(services)
    zh, en = [(await ask(api, token, action, language, **given)).result for language in ("zh", "en")]
    assert await dump(services) == before
    return en["code"], zh["message"], en["message"]


@pytest.mark.parametrize("role", ["reviewer", "admin"])
async def test_staff_approve_and_the_citizen_reads_why(
    api: Api, services: Services, token_for: Callable[..., str], role: str
) -> None:
    action = await in_review(services)
    given = (await ask(api, token_for(role, "rita"), action)).result
    review = given.pop("review")
    assert given == {
        "__typename": "Action",
        "id": to_global_id("Action", action.id),
        "status": "PENDING",
        "reasonCode": None,
        "reason": None,
        "points": 0,
        "reductionMg": 0,
    }
    await services.settling.settle(ALL_SHARDS)
    document = f"query ($id: ID!) {{ action(id: $id) {{ {SHOWN} }} }}"
    seen = (await api.post(document, {"id": action.id}, token=token_for("citizen", "bob"))).result
    assert (seen["status"], seen["points"]) == ("CREDITED", 40)
    assert seen["review"] == review == {"by": review["by"], "decision": "APPROVE", "reason": "核对过行程"}
    # A pseudonym, not the name.
    assert len(review["by"]) == 32
    assert "rita" not in review["by"]


async def test_staff_reject(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    action = await in_review(services)
    given = (await ask(api, token_for("reviewer", "rita"), action, decision="REJECT", language="zh")).result
    assert (given["status"], given["reasonCode"], given["reason"]) == (
        "REJECTED",
        "REVIEW_REJECTED",
        "人工核实后未予计入",
    )


async def test_what_was_taken_back_names_the_record_that_counts(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    weak, strong = await contested(services)
    await ask(api, token_for("reviewer", "rita"), strong)
    await services.settling.settle(ALL_SHARDS)
    document = (
        f"query ($id: ID!) {{ action(id: $id) {{ {SHOWN} claimedBy {{ ref points }} reversal {{ transactionId }} }} }}"
    )
    seen = (await api.post(document, {"id": weak.id}, token=token_for("citizen", "alice"))).result
    assert (seen["status"], seen["reasonCode"], seen["points"], seen["reductionMg"]) == ("REVERSED", "SUPERSEDED", 0, 0)
    assert seen["reason"] == (
        "the act is counted through a better proved record instead; what this one earned was taken back"
    )
    assert seen["claimedBy"] == {"ref": "strong", "points": 80}
    posted = await services.ledger.find_transaction(seen["reversal"]["transactionId"])
    assert posted is not None
    assert posted.cause == {"action": weak.id, "superseded_by": strong.id}


async def test_another_citizens_record_is_not_shown_to_the_loser(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    await recorded(services, "mine", attributes={"trip_id": "T-2"})
    lost = await recorded(services, "late", "bob", attributes={"trip_id": "T-2"})
    document = "query ($id: ID!) { action(id: $id) { reasonCode claimedBy { ref } } }"
    for role, who, shown in (("citizen", "bob", None), ("reviewer", "rita", {"ref": "mine"})):
        seen = (await api.post(document, {"id": lost.id}, token=token_for(role, who))).result
        assert seen == {"reasonCode": "CLAIMED", "claimedBy": shown}


async def test_the_queue_shows_evidence_doubts_and_the_winner(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    await in_review(services)
    await contested(services)
    token = token_for("reviewer", "rita")
    odd = {
        "ref": "odd",
        "evidence": None,
        "evidenceTier": "DECLARED",
        "attributes": {"from": "大市口", "to": "大市口"},
        "reasonCode": "IMPLAUSIBLE",
        "doubts": [{"code": "SAME_PLACE"}],
        "claimedBy": None,
    }
    strong = {
        "ref": "strong",
        "evidence": "afc/7",
        "evidenceTier": "OPERATOR",
        "attributes": {"trip_id": "T-1"},
        "reasonCode": "CLAIMED_BY_WEAKER",
        "doubts": [],
        "claimedBy": {"ref": "weak", "points": 40},
    }

    async def queue(**given: Any) -> dict[str, Any]:
        result: dict[str, Any] = (await api.post(QUEUE, given, token=token)).result["reviewQueue"]
        return result

    both = await queue()
    assert sorted(both["nodes"], key=lambda node: node["ref"]) == [odd, strong]
    first = await queue(first=1)
    second = await queue(first=1, after=first["pageInfo"]["endCursor"])
    assert [*first["nodes"], *second["nodes"]] == both["nodes"]
    assert (first["pageInfo"]["hasNextPage"], second["pageInfo"]["hasNextPage"]) == (True, False)
    assert (await queue(reason="CLAIMED_BY_WEAKER"))["nodes"] == [strong]
    assert (await queue(kind="metro"))["nodes"] == []
    for role in ("citizen", "partner", "verifier"):
        assert (await api.post(QUEUE, {}, token=token_for(role, "vera"))).code == "FORBIDDEN"


async def test_who_is_no_reviewer_learns_nothing_and_changes_nothing(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    action = await in_review(services)
    before = await dump(services)
    for role, who in (
        ("citizen", "bob"),
        ("citizen", "alice"),
        ("partner", "metro"),
        ("merchant", "shop"),
        ("enterprise", "firm"),
        ("verifier", "vera"),
        # the reviewer's own act
        ("reviewer", "bob"),
    ):
        assert (await ask(api, token_for(role, who), action)).code == "FORBIDDEN"
    # To whom it may not concern, an act that is not there is the same.
    assert (await ask(api, token_for("citizen", "bob"), "act_none")).code == "FORBIDDEN"
    assert (await ask(api, None, action)).code == "UNAUTHENTICATED"
    assert await dump(services) == before


async def test_refusals_say_why_in_both_languages(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    token = token_for("reviewer", "rita")
    assert await refused(services, api, token, "act_none") == (
        "UNKNOWN_ACTION",
        "没有低碳行为记录 act_none",
        "there is no action act_none",
    )
    weak, strong = await contested(services)
    assert await refused(services, api, token, weak) == (
        "NOT_IN_REVIEW",
        "该行为处于 CREDITED 状态，无需人工核实",
        "the action is CREDITED; it waits for nobody's decision",
    )
    assert (await refused(services, api, token, strong, reason=""))[0] == "INVALID_INPUT"
    assert (await refused(services, api, token, strong, idempotencyKey="short"))[0] == "INVALID_INPUT"
    odd = await in_review(services)
    await services.database.raw["actions"].update_one(
        {"_id": odd.id}, {"$set": {"settlement.reason": "CONDITION_FAILED", "settlement.doubts": []}}
    )
    assert await refused(services, api, token, odd) == (
        "NOT_APPROVABLE",
        "因 CONDITION_FAILED 待核实的行为不能直接通过：请先更正规则或数据，再重新核算（RETRY），或予以驳回",
        (
            "an action waiting for CONDITION_FAILED is not approved: correct the rule or the record and RETRY, "
            "or reject it"
        ),
    )
    await ask(api, token, odd, decision="REJECT")
    assert await refused(services, api, token, odd, idempotencyKey="review-0002") == (
        "ALREADY_REVIEWED",
        "该行为已由他人核实（REJECT）",
        "somebody decided on the action already (REJECT)",
    )
    assert (await refused(services, api, token, strong))[0] == "IDEMPOTENCY_CONFLICT"
    await services.ledger.post(spending(amount=1))
    page = await services.ledger.get_page(citizen_owner(CitizenId("alice")))
    assert page.balance(POINTS) == 39
