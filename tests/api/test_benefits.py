"""Mutations and queries on benefit return: what each answers, whom it refuses and why; nothing changed then."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.ledger.model import CNY, EXCHANGE, Posting, Transaction, TransactionKind, account_of
from backend.market.benefits.documents import ROUNDS
from backend.market.pooling.model import BatchCode, BatchStage, Benefit
from schemas.relay import to_global_id
from tests.api.trade_documents import Case, refused
from tests.conftest import dump
from tests.integration.returning import CODE, POOL, Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api
    from tests.api.trade_documents import Inputs

    Token = Callable[..., str]

pytestmark = pytest.mark.anyio
FAY, FRED, ROOT = ("finance", "fay"), ("finance", "fred"), ("admin", "root")
# Of finance, with the name of a contributor.
ALICES_OWN = ("finance", "alice")
EVERYBODY = (
    ("citizen", "alice"),
    ("merchant", "chen"),
    ("partner", "metro"),
    ("enterprise", "steelworks"),
    ("reviewer", "ray"),
    ("verifier", "vera"),
)
FIELDS = """id batch number fen stage pointsPerYuan sharesG citizens paidFen convertedFen points
  proposedAt proposedBy decidedAt decidedBy reason doneAt"""
NO_ROUND = {"round": to_global_id("BenefitRound", "round_none")}


@pytest.fixture
def pool(services: Services) -> Pool:
    """A batch that is not issued yet."""
    return Pool(services)


async def sold(pool: Pool) -> Inputs:
    """Alice and bob have shares in the pool, which has a thousand fen."""
    await pool.issue({"alice": 300, "bob": (100, Benefit.POINTS)})
    await pool.sell(1_000)
    return {"batch": to_global_id("Batch", CODE)}


async def unsold(pool: Pool) -> Inputs:
    """The pool has nothing."""
    await pool.issue({"alice": 1})
    return {"batch": CODE}


async def issuing(pool: Pool) -> Inputs:
    """The batch is being issued."""
    await pool.issue({"alice": 1}, stage=BatchStage.ISSUING)
    return {"batch": CODE}


async def nobodys(pool: Pool) -> Inputs:
    """All of the batch was issued to its citizens."""
    await pool.issue({}, own={"alice": 5})
    await pool.sell(1_000)
    return {"batch": CODE}


async def proposed(pool: Pool) -> Inputs:
    """Fay proposed to share eight hundred."""
    await sold(pool)
    return {"round": to_global_id("BenefitRound", (await pool.proposed(800)).id)}


async def open_already(pool: Pool) -> Inputs:
    """The same, with the batch at hand."""
    await proposed(pool)
    return {"batch": CODE}


async def to_reject(pool: Pool) -> Inputs:
    """The same, with a reason."""
    return {**await proposed(pool), "reason": "金额有误"}


async def running(pool: Pool) -> Inputs:
    """Fred approved."""
    await sold(pool)
    return {"round": to_global_id("BenefitRound", (await pool.approved(800)).id)}


async def paid_to_reject(pool: Pool) -> Inputs:
    """It was paid; with a reason."""
    given = await running(pool)
    await pool.services.market.paying.work_off()
    return {**given, "reason": "x"}


async def generous(pool: Pool) -> Inputs:
    """Somebody wrote another rate into the round that fay proposed."""
    given = await proposed(pool)
    change = {"$set": {"points_per_yuan": Int64(999_999)}}
    assert await pool.services.database.update_one(ROUNDS.name, {}, change)
    return given


async def spent_meanwhile(pool: Pool) -> Inputs:
    """The pool reserved most of what it has for an order."""
    given = await proposed(pool)
    moved = Posting(from_account=account_of(POOL, CNY), to_account=EXCHANGE, asset=CNY, amount=201)
    until = pool.services.clock.now() + timedelta(days=1)
    await pool.services.ledger.post(
        Transaction(key="order-1", kind=TransactionKind.HOLD, postings=(moved,), expires_at=until)
    )
    return given


def case(name: str, prepare: Any, other: Inputs, who: tuple[str, str], **expected: Any) -> Case:
    """A mutation on rounds."""
    return Case(name, prepare, other, (who,), "BenefitRound", FIELDS, expected=expected)


CASES = {
    one.name: one
    for one in (
        case("returnBenefits", sold, {"fen": 1}, FAY, stage="PROPOSED", fen=1_000, batch=CODE, proposedBy="staff:fay"),
        case("approveBenefits", proposed, NO_ROUND, FRED, stage="RUNNING", fen=800, decidedBy="staff:fred"),
        case("rejectBenefits", to_reject, {"reason": "x"}, ROOT, stage="REJECTED", reason="金额有误"),
    )
}


@pytest.mark.parametrize("name", CASES)
async def test_it_takes_effect_once_and_another_payload_conflicts(
    api: Api, services: Services, pool: Pool, token_for: Token, name: str
) -> None:
    one = CASES[name]
    given, token = await one.prepare(pool), token_for(*one.allowed[0])
    first = (await one.ask(api, token, given)).result
    assert {field: first[field] for field in one.expected} == one.expected
    before = await dump(services)
    assert (await one.ask(api, token, given)).result == first
    assert await dump(services) == before
    code = (await refused(services, one, api, token, {**given, **one.other}))[0]
    # Where the other payload names nothing, that is told first.
    assert code == ("UNKNOWN_ROUND" if one.other is NO_ROUND else "IDEMPOTENCY_CONFLICT")


@pytest.mark.parametrize("name", CASES)
async def test_whoever_else_asks_is_denied_and_changes_nothing(
    api: Api, services: Services, pool: Pool, token_for: Token, name: str
) -> None:
    one = CASES[name]
    given = await one.prepare(pool)
    before = await dump(services)
    for role, who in EVERYBODY:
        assert (role, (await one.ask(api, token_for(role, who), given)).code) == (role, "FORBIDDEN")
    assert (await one.ask(api, None, given)).code == "UNAUTHENTICATED"
    assert await dump(services) == before


REFUSED: list[tuple[str, Any, Inputs, tuple[str, str], str]] = [
    ("returnBenefits", sold, {"batch": "none"}, FAY, "UNKNOWN_BATCH"),
    ("returnBenefits", issuing, {}, FAY, "BATCH_STAGE"),
    ("returnBenefits", nobodys, {}, FAY, "NO_SHARES"),
    ("returnBenefits", open_already, {}, FRED, "ROUND_OPEN"),
    ("returnBenefits", sold, {}, ALICES_OWN, "OWN_INTEREST"),
    ("returnBenefits", unsold, {}, FAY, "INSUFFICIENT_FUNDS"),
    ("returnBenefits", sold, {"fen": 1_001}, FAY, "INSUFFICIENT_FUNDS"),
    ("returnBenefits", sold, {"fen": 0}, FAY, "INVALID_INPUT"),
    ("returnBenefits", sold, {"fen": -1}, FAY, "INVALID_INPUT"),
    ("returnBenefits", sold, {"fen": str(2**63 - 1)}, FAY, "INVALID_INPUT"),
    ("returnBenefits", sold, {"idempotencyKey": "x"}, FAY, "INVALID_INPUT"),
    ("approveBenefits", proposed, NO_ROUND, FRED, "UNKNOWN_ROUND"),
    ("approveBenefits", running, {}, ROOT, "ROUND_STAGE"),
    ("approveBenefits", proposed, {}, FAY, "OWN_PROPOSAL"),
    ("approveBenefits", proposed, {}, ALICES_OWN, "OWN_INTEREST"),
    ("approveBenefits", generous, {}, FRED, "RATE_TOO_HIGH"),
    ("approveBenefits", spent_meanwhile, {}, FRED, "INSUFFICIENT_FUNDS"),
    ("approveBenefits", proposed, {"idempotencyKey": "x"}, FRED, "INVALID_INPUT"),
    ("rejectBenefits", to_reject, NO_ROUND, FRED, "UNKNOWN_ROUND"),
    ("rejectBenefits", paid_to_reject, {}, ROOT, "ROUND_STAGE"),
    ("rejectBenefits", to_reject, {"reason": " "}, FRED, "INVALID_INPUT"),
]


@pytest.mark.parametrize(
    ("name", "prepare", "changes", "who", "code"),
    REFUSED,
    ids=[f"{one[0]}-{one[4]}-{number}" for number, one in enumerate(REFUSED)],
)
async def test_it_says_why_it_refuses_and_changes_nothing(
    api: Api,
    services: Services,
    pool: Pool,
    token_for: Token,
    name: str,
    prepare: Any,
    changes: Inputs,
    who: tuple[str, str],
    code: str,
) -> None:
    given = {**await prepare(pool), **changes}
    told, zh, en = await refused(services, CASES[name], api, token_for(*who), given)
    assert told == code
    assert any("一" <= letter <= "鿿" for letter in zh)
    assert en != zh


def test_every_refusal_of_every_mutation_is_tried() -> None:
    tried = {(name, code) for name, *_, code in REFUSED} | {(name, "IDEMPOTENCY_CONFLICT") for name in CASES}
    # By a programme of another rate: tests/integration/test_benefits.py.
    tried |= {("returnBenefits", "RATE_TOO_HIGH")}
    assert {(name, code) for name, one in CASES.items() for code in one.refusals} == tried


async def test_a_round_that_runs_and_paid_nobody_is_ended_with_a_reason(api: Api, pool: Pool, token_for: Token) -> None:
    given = {**await running(pool), "reason": "池内资金不足"}
    ended = (await CASES["rejectBenefits"].ask(api, token_for(*FRED), given)).result
    assert (ended["stage"], ended["reason"], ended["citizens"]) == ("REJECTED", "池内资金不足", 0)
    assert await pool.services.market.paying.work_off() == 0
    assert await pool.findings() == []


async def test_whoever_proposed_a_round_may_take_it_back(api: Api, pool: Pool, token_for: Token) -> None:
    given = await to_reject(pool)
    assert (await CASES["rejectBenefits"].ask(api, token_for(*FAY), given)).result["stage"] == "REJECTED"


MINE = """query ($id: ID!) { node(id: $id) { ... on Citizen { money { balanceFen } pointsBalance
  benefits(first: 1) { nodes { round batch sharesG fen choice points at transactionId }
    pageInfo { hasNextPage endCursor } } } } }"""
LISTED = """query ($batch: ID, $stage: BenefitRoundStage) { admin { benefitRounds(batch: $batch, stage: $stage) {
  nodes { number stage fen sharesG citizens paidFen convertedFen points } } } }"""


async def test_citizens_see_what_they_got_and_staff_what_was_paid(
    api: Api, pool: Pool, token_for: Token, clock: ManualClock
) -> None:
    await running(pool)
    await pool.services.market.paying.work_off()
    clock.advance(timedelta(minutes=1))
    second = await pool.returned()
    bob, token = {"id": to_global_id("Citizen", "bob")}, token_for("citizen", "bob")
    shown = (await api.post(MINE, bob, token=token)).result
    [got] = shown["benefits"]["nodes"]
    assert got.pop("transactionId").startswith("tx_")
    assert got.pop("at") == clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert got == {
        "round": to_global_id("BenefitRound", second.id),
        "batch": CODE,
        "sharesG": 100,
        "fen": 50,
        "choice": "POINTS",
        "points": 625,
    }
    assert (shown["money"]["balanceFen"], shown["pointsBalance"]) == (0, 3_125)
    assert shown["benefits"]["pageInfo"]["hasNextPage"] is True
    for who in (("citizen", "alice"), ("enterprise", "steelworks"), ("merchant", "chen")):
        assert (await api.post(MINE, bob, token=token_for(*who))).result is None
    again = (await api.post(MINE, bob, token=token)).result
    assert (await api.post(MINE, bob, token=token_for("verifier", "vera"))).result == again
    listed = (await api.post(LISTED, {"batch": CODE}, token=token_for("reviewer", "ray"))).result["benefitRounds"]
    done = {"stage": "DONE", "sharesG": 400, "citizens": 2}
    assert listed["nodes"] == [
        {**done, "number": 2, "fen": 200, "paidFen": 150, "convertedFen": 50, "points": 625},
        {**done, "number": 1, "fen": 800, "paidFen": 600, "convertedFen": 200, "points": 2_500},
    ]
    nothing = {"nodes": []}
    for asked in ({"stage": "RUNNING"}, {"batch": BatchCode("none")}):
        assert (await api.post(LISTED, asked, token=token_for(*FAY))).result["benefitRounds"] == nothing
    assert (await api.post(LISTED, {}, token=token_for("citizen", "bob"))).code == "FORBIDDEN"
