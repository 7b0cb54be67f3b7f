"""The review queue: who decides on what, and once; what an approval takes back from a weaker record."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.documents import ACTIONS
from backend.actions.model import Decision, DoubtCode, Reason, Status
from backend.actions.review_store import REVIEW_LOG
from backend.audit import audit_books
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.crypto import keyed_hash, load_lookup_key
from backend.kernel.errors import DomainError, Language
from backend.kernel.ids import ActionId, CitizenId
from backend.ledger.model import POINTS, RECOGNISED, TransactionKind, citizen_owner
from backend.rules.model import EvidenceTier
from backend.runtime import citizen_channel
from tests.conftest import dump
from tests.factories import ADMIN, bus_ride, citizen, partner, spending
from tests.integration.conftest import ALL_SHARDS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from backend.actions.model import Action
    from backend.kernel.clock import ManualClock
    from backend.ledger.model import Page
    from backend.runtime import Services

REVIEWER = Principal(PrincipalKind.STAFF, "rita", frozenset({StaffRole.REVIEWER}))
VERIFIER = Principal(PrincipalKind.STAFF, "vera", frozenset({StaffRole.VERIFIER}))
ROUND_TRIP = {"from": "大市口", "to": "大市口"}
TRIP = {"trip_id": "T-1"}


@pytest.fixture(autouse=True)
async def people(services: Services) -> None:
    await services.identity.register_citizens({CitizenId("alice"): "王芳", CitizenId("bob"): "李伟"}, district="京口区")


async def settled(services: Services, who: Principal, ref: str, **changes: Any) -> Action:
    """The act, recorded and settled."""
    action = await services.actions.record(who, bus_ride(ref, **changes), key=f"key-{ref:>04}")
    await services.settling.settle(ALL_SHARDS)
    return await found(services, action.id)


async def found(services: Services, action: ActionId) -> Action:
    return (await services.actions.find_actions([action]))[action]


async def implausible(services: Services, ref: str = "odd", who: str = "alice", **changes: Any) -> Action:
    """An act that waits for a person."""
    action = await settled(services, citizen(who), ref, attributes=ROUND_TRIP, **changes)
    assert action.status is Status.REVIEW
    return action


async def contested(services: Services) -> tuple[Action, Action]:
    """A ride counted on alice's word, and the operator's record of it, which waits for a person."""
    weak = await settled(services, citizen(), "weak", attributes=TRIP)
    strong = await settled(
        services, ADMIN, "strong", citizen=CitizenId("alice"), source="bus", tier=EvidenceTier.OPERATOR, attributes=TRIP
    )
    assert (weak.status, strong.status, strong.reason) == (Status.CREDITED, Status.REVIEW, Reason.CLAIMED_BY_WEAKER)
    return weak, strong


async def decide(
    services: Services,
    action: Action | str,
    decision: Decision,
    who: Principal = REVIEWER,
    *,
    reason: str = "核对过行程",
    key: str = "review-0001",
) -> Action:
    name = ActionId(action if isinstance(action, str) else action.id)
    return await services.reviewing.review(who, name, decision, reason, key=key)


async def page(services: Services, name: str = "alice") -> Page:
    return await services.ledger.get_page(citizen_owner(CitizenId(name)))


async def refusal(services: Services, asked: Awaitable[Any]) -> DomainError:
    """Why it was refused; nothing changed."""
    before = await dump(services)
    with pytest.raises(DomainError) as caught:
        await asked
    assert await dump(services) == before
    return caught.value


async def test_an_approved_act_is_credited_without_another_look(services: Services, clock: ManualClock) -> None:
    action = await implausible(services)
    assert action.settlement is not None
    assert [doubt.code for doubt in action.settlement.doubts] == [DoubtCode.SAME_PLACE]
    clock.advance(timedelta(minutes=1))
    waiting = await decide(services, action, Decision.APPROVE)
    assert (waiting.status, waiting.settlement) == (Status.PENDING, None)
    assert (await audit_books(services)).findings == []
    assert await services.settling.settle(ALL_SHARDS) == 1
    credited = await found(services, action.id)
    assert (credited.status, credited.points) == (Status.CREDITED, 40)
    lookup_key = load_lookup_key(services.settings.keys_dir / "lookup.key")
    assert credited.review is not None
    assert credited.review.by == keyed_hash(lookup_key, "staff", "rita")[:32]
    assert (credited.review.at, credited.review.decision) == (clock.now(), Decision.APPROVE)
    [entry] = (await dump(services))["review_log"]
    assert (entry["actor"], entry["action"], entry["previous"], entry["reversed"]) == (
        "staff:rita",
        action.id,
        None,
        [],
    )
    assert entry["settlement"]["doubts"][0]["code"] == "SAME_PLACE"
    audit = await audit_books(services)
    assert (audit.findings, audit.actions) == ([], 1)


async def test_a_rejected_act_says_so_and_its_citizen_is_told(services: Services) -> None:
    action = await implausible(services)
    async with services.channels.listen(citizen_channel("alice")) as phone:
        rejected = await decide(services, action, Decision.REJECT)
        assert await phone.get() == {"citizen": "alice", "action": action.id, "status": "REJECTED"}
    assert (rejected.status, rejected.reason, rejected.points) == (Status.REJECTED, Reason.REVIEW_REJECTED, 0)
    assert await found(services, action.id) == rejected
    assert await services.settling.settle(ALL_SHARDS) == 0
    assert (await page(services)).version == 0
    assert (await audit_books(services)).findings == []


async def test_the_better_record_takes_the_place_of_the_weaker_one(services: Services, clock: ManualClock) -> None:
    weak, strong = await contested(services)
    late = await settled(services, citizen("bob"), "late", attributes=TRIP)
    assert late.reason is Reason.CLAIMED
    clock.advance(timedelta(minutes=1))
    await decide(services, strong, Decision.APPROVE)
    gone = await found(services, weak.id)
    assert (gone.status, gone.reason, gone.points, gone.reduction_mg) == (Status.REVERSED, Reason.SUPERSEDED, 0, 0)
    assert gone.reversal is not None
    assert (gone.reversal.at, gone.reversal.superseded_by) == (clock.now(), strong.id)
    assert gone.settlement == weak.settlement
    empty = await page(services)
    assert (empty.balance(POINTS), empty.balance(RECOGNISED)) == (0, 0)
    assert (await dump(services))["claims"] == []
    assert (await audit_books(services)).findings == []
    assert await services.settling.settle(ALL_SHARDS) == 1
    counted = await found(services, strong.id)
    assert (counted.status, counted.points, counted.reduction_mg) == (Status.CREDITED, 80, 80_000)
    stored = await dump(services)
    assert {claim["action"] for claim in stored["claims"]} == {strong.id}
    # The weaker record left its place among the rides of the day.
    assert {total["count"] for total in stored["cap_totals"]} == {1}
    [entry] = stored["review_log"]
    assert entry["reversed"] == [weak.id]
    kinds = [item["kind"] for item in stored["ledger_transactions"]]
    assert sorted(kinds) == ["EARN", "EARN", "REVERSE"]
    assert (await audit_books(services)).findings == []


async def test_what_the_weaker_record_earned_and_was_spent_is_owed(services: Services) -> None:
    _, strong = await contested(services)
    await services.ledger.post(spending(amount=30))
    await decide(services, strong, Decision.APPROVE)
    assert ((await page(services)).balance(POINTS), (await page(services)).debt(POINTS)) == (0, 30)
    await services.settling.settle(ALL_SHARDS)
    assert ((await page(services)).balance(POINTS), (await page(services)).debt(POINTS)) == (50, 0)
    assert (await audit_books(services)).findings == []


async def test_where_nobody_owes_the_weaker_record_stands(services: Services) -> None:
    _, strong = await contested(services)
    await services.ledger.post(spending(amount=30))
    services.ledger._policy = dataclasses.replace(services.ledger._policy, debt_allowed=False)
    error = await refusal(services, decide(services, strong, Decision.APPROVE))
    assert (error.code, error.message()) == ("INSUFFICIENT_FUNDS", "insufficient balance: 40 needed, 10 available")
    assert (await decide(services, strong, Decision.REJECT)).status is Status.REJECTED
    assert (await audit_books(services)).findings == []


async def test_what_staff_took_back_by_hand_is_not_taken_back_again(services: Services) -> None:
    weak, strong = await contested(services)
    assert weak.settlement is not None
    alice, earning = CitizenId("alice"), weak.settlement.transaction
    await services.adjusting.adjust_points(ADMIN, alice, -10, "a test", key="adjust-0001", corrects=earning)
    error = await refusal(services, decide(services, strong, Decision.APPROVE))
    assert (error.code, error.message()) == (
        "OVER_CORRECTED",
        f"transaction {earning} has 30 left to correct, not 40",
    )


async def test_an_act_counted_meanwhile_on_evidence_as_good_is_not_approved(services: Services) -> None:
    weak, strong = await contested(services)
    await services.database.raw["claims"].update_many({}, {"$set": {"action": weak.id}})
    await services.database.raw[ACTIONS.name].update_one({"_id": weak.id}, {"$set": {"tier": "OPERATOR"}})
    error = await refusal(services, decide(services, strong, Decision.APPROVE))
    assert error.code == "NOT_APPROVABLE"


async def test_what_approval_would_not_change_is_tried_again_or_rejected(services: Services) -> None:
    action = await services.actions.record(citizen(), bus_ride(), key="key-0001")
    raw = services.database.raw[ACTIONS.name]
    await raw.update_one({"_id": action.id}, {"$set": {"kind": "teleport"}}, bypass_document_validation=True)
    await services.settling.settle(ALL_SHARDS)
    error = await refusal(services, decide(services, action, Decision.APPROVE))
    assert (error.code, error.values(Language.EN)) == ("NOT_APPROVABLE", {"reason": "PROCESSING_FAILED"})
    # Nothing is any better yet: it comes back, and may be decided on again.
    await decide(services, action, Decision.RETRY)
    await services.settling.settle(ALL_SHARDS)
    assert (await found(services, action.id)).status is Status.REVIEW
    assert (await audit_books(services)).findings == []
    await raw.update_one({"_id": action.id}, {"$set": {"kind": "bus_ride"}})
    await decide(services, action, Decision.RETRY, key="review-0002")
    await services.settling.settle(ALL_SHARDS)
    assert (await found(services, action.id)).status is Status.CREDITED
    entries = (await dump(services))["review_log"]
    assert sorted((entry["previous"] or {}).get("decision", "") for entry in entries) == ["", "RETRY"]
    assert (await audit_books(services)).findings == []


async def test_a_doubtful_act_tried_again_is_doubted_again(services: Services) -> None:
    action = await implausible(services)
    await decide(services, action, Decision.RETRY)
    await services.settling.settle(ALL_SHARDS)
    again = await found(services, action.id)
    assert (again.status, again.reason) == (Status.REVIEW, Reason.IMPLAUSIBLE)
    assert (await decide(services, action, Decision.APPROVE, key="review-0002")).status is Status.PENDING
    assert (await audit_books(services)).findings == []


@pytest.mark.parametrize("decision", [Decision.APPROVE, Decision.REJECT])
async def test_of_ten_reviewers_at_once_one_decides(services: Services, decision: Decision) -> None:
    _, strong = await contested(services)
    reviewers = [Principal(PrincipalKind.STAFF, f"r{n}", frozenset({StaffRole.REVIEWER})) for n in range(10)]
    outcomes = await asyncio.gather(
        *(decide(services, strong, decision, who) for who in reviewers), return_exceptions=True
    )
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, DomainError)]
    assert codes == ["ALREADY_REVIEWED"] * 9
    assert len((await dump(services))["review_log"]) == 1
    await services.settling.settle(ALL_SHARDS)
    assert (await page(services)).balance(POINTS) == (80 if decision is Decision.APPROVE else 40)
    assert (await audit_books(services)).findings == []


async def test_a_decision_is_taken_once_for_its_key(services: Services) -> None:
    action = await implausible(services)
    await decide(services, action, Decision.APPROVE)
    await services.settling.settle(ALL_SHARDS)
    before = await dump(services)
    again = await decide(services, action, Decision.APPROVE)
    assert again.status is Status.CREDITED
    assert await dump(services) == before
    error = await refusal(services, decide(services, action, Decision.REJECT))
    assert error.code == "IDEMPOTENCY_CONFLICT"
    error = await refusal(services, decide(services, action, Decision.REJECT, key="review-0002"))
    assert (error.code, error.message()) == ("ALREADY_REVIEWED", "somebody decided on the action already (APPROVE)")


async def test_who_may_not_decide_and_what_is_not_to_be_decided(services: Services) -> None:
    action = await implausible(services)
    own = Principal(PrincipalKind.STAFF, "alice", frozenset({StaffRole.REVIEWER}))
    for who in (citizen(), partner(), VERIFIER, own):
        for target in (action, "act_none") if who is not own else (action,):
            assert (await refusal(services, decide(services, target, Decision.APPROVE, who))).code == "FORBIDDEN"
    error = await refusal(services, decide(services, "act_none", Decision.APPROVE))
    assert (error.code, error.message()) == ("UNKNOWN_ACTION", "there is no action act_none")
    credited = await settled(services, citizen("bob"), "plain")
    error = await refusal(services, decide(services, credited, Decision.REJECT))
    assert (error.code, error.message()) == ("NOT_IN_REVIEW", "the action is CREDITED; it waits for nobody's decision")
    for reason, key in ((" ", "review-0001"), ("x" * 201, "review-0001"), ("seen", "short")):
        asked = decide(services, action, Decision.REJECT, reason=reason, key=key)
        assert (await refusal(services, asked)).code == "INVALID_INPUT"
    recorded = await settled(services, ADMIN, "by-root", citizen=CitizenId("bob"), source="bus", attributes=ROUND_TRIP)
    assert (await refusal(services, decide(services, recorded, Decision.APPROVE, ADMIN))).code == "FORBIDDEN"


async def test_the_queue_shows_who_waits_longest_first_and_can_be_narrowed(
    services: Services, clock: ManualClock
) -> None:
    names = []
    for number in range(5):
        occurred_at = clock.now() - timedelta(hours=1)
        names.append((await implausible(services, f"odd{number}", occurred_at=occurred_at)).id)
        clock.advance(timedelta(hours=3))
    _, strong = await contested(services)
    raw = services.database.raw[ACTIONS.name]
    await raw.update_one({"_id": names[2]}, {"$set": {"tier": "RUMOUR"}}, bypass_document_validation=True)
    readable = [names[0], names[1], names[3], names[4], strong.id]

    async def listed(**given: Any) -> list[str]:
        return [action.id for action in await services.reviewing.list_waiting(REVIEWER, **{"limit": 9, **given})]

    assert await listed() == readable
    assert await listed(limit=3) == readable[:3]
    assert await listed(limit=3, last=True) == readable[2:]
    place = (await found(services, names[1])).recorded_at, names[1]
    assert await listed(after=place) == readable[2:]
    assert await listed(before=place) == readable[:1]
    assert await listed(reason=Reason.IMPLAUSIBLE) == readable[:4]
    assert await listed(reason=Reason.CLAIMED_BY_WEAKER) == [strong.id]
    assert await listed(kind="metro") == []
    for who in (citizen(), VERIFIER):
        with pytest.raises(DomainError, match="FORBIDDEN"):
            await services.reviewing.list_waiting(who, limit=1)


async def forged(services: Services, collection: str, query: dict[str, Any], change: dict[str, Any]) -> list[str]:
    """What the auditor says to a changed document, which is put back."""
    raw = services.database.raw[collection]
    before = await raw.find_one(query)
    assert before is not None
    await raw.update_one(query, change, bypass_document_validation=True)
    findings = (await audit_books(services)).findings
    await raw.replace_one({"_id": before["_id"]}, before, bypass_document_validation=True)
    return findings


async def test_the_auditor_names_decisions_and_reversals_that_were_changed(services: Services) -> None:
    weak, strong = await contested(services)
    await decide(services, strong, Decision.APPROVE)
    odd = await implausible(services, who="bob")
    await decide(services, odd, Decision.REJECT, key="review-0002")
    await services.settling.settle(ALL_SHARDS)
    assert (await audit_books(services)).findings == []
    for action, change in (
        (weak, {"$set": {"status": "CREDITED"}}),
        (weak, {"$unset": {"reversal": ""}}),
        (weak, {"$set": {"reversal.superseded_by": odd.id}}),
        (weak, {"$set": {"reversal.transaction": None}}),
        (weak, {"$set": {"reversal.at": weak.recorded_at - timedelta(days=1)}}),
        (strong, {"$unset": {"review": ""}}),
        (strong, {"$set": {"review.by": "somebody"}}),
        (strong, {"$set": {"review.decision": "REJECT"}}),
        (odd, {"$set": {"review.reason": "other"}}),
        (odd, {"$set": {"review.at": weak.recorded_at - timedelta(days=1)}}),
    ):
        findings = await forged(services, ACTIONS.name, {"_id": action.id}, change)
        assert any(action.id in finding for finding in findings), (action.ref, change, findings)
    entries: tuple[dict[str, Any], ...] = (
        {"review.by": "somebody"},
        {"reversed": []},
        {"action": odd.id},
        {"previous": {"by": "x"}},
    )
    for entry in entries:
        assert await forged(services, REVIEW_LOG.name, {"action": strong.id}, {"$set": entry}) != [], entry
    [reversal] = await services.database.find("ledger_transactions", {"kind": TransactionKind.REVERSE}, limit=2)
    await services.database.raw[REVIEW_LOG.name].delete_one({"action": strong.id})
    assert len((await audit_books(services)).findings) == 2
    assert reversal["key"] == f"unclaim:{weak.id}"
