"""Mutations and queries on money: what each answers, whom it refuses and why, and that nothing changed then."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.market.funds.model import EnterpriseStep, FundAccount
from schemas.relay import to_global_id
from tests.api.fund_documents import (
    PAYEE,
    approved,
    five_under_way,
    foreign,
    gone_meanwhile,
    paid,
    proposed,
    recorded,
    recorded_in,
    requested,
    settling,
    settling_gone,
    settling_suspended,
    settling_to_turn_down,
    suspended,
    suspended_meanwhile,
    to_deposit,
    to_reject,
    to_request,
    to_settle,
    to_settle_gone,
    to_settle_suspended,
    to_turn_down,
    today,
)
from tests.api.trade_documents import Case, refused
from tests.conftest import dump
from tests.integration.banking import open_bank

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api
    from tests.api.trade_documents import Inputs
    from tests.integration.banking import Bank

    Token = Callable[..., str]

pytestmark = pytest.mark.anyio
FAY, FRED_, ROOT = ("finance", "fay"), ("finance", "fred"), ("admin", "root")
ALICE = ("citizen", "alice")
EVERYBODY = (
    ALICE,
    ("citizen", "bob"),
    ("merchant", "chen"),
    ("partner", "metro"),
    ("enterprise", "steelworks"),
    ("reviewer", "ray"),
    ("verifier", "vera"),
    ROOT,
    FAY,
    FRED_,
)
RECORDERS = {FAY, FRED_, ROOT}
DEPOSIT = "id fen note stage proposedAt proposedBy decidedAt decidedBy reason citizen enterprise reference valueDate"
PAYOUT = """id fen stage requestedAt expiresAt settledAt settledBy decidedAt decidedBy reason citizen enterprise
  payee { name number bank } fullPayee { name number bank } reference valueDate transactionId"""


@pytest.fixture
async def bank(services: Services) -> Bank:
    """The bank's desk."""
    return await open_bank(services)


def deposits(name: str, prepare: Any, other: Inputs, who: tuple[str, str], **expected: Any) -> Case:
    """A mutation on deposits."""
    return Case(name, prepare, other, (who,), "Deposit", DEPOSIT, expected=expected)


def payouts(name: str, prepare: Any, other: Inputs, who: tuple[str, str], **expected: Any) -> Case:
    """A mutation on payouts."""
    return Case(name, prepare, other, (who,), "Payout", PAYOUT, expected=expected)


MASKED = {"name": "王**", "number": "****7890", "bank": "中国工商银行镇江分行"}
FULL = {**PAYEE, "number": "6222021234567890"}
CASES = {
    one.name: one
    for one in (
        deposits(
            "depositFunds",
            to_deposit,
            {"fen": 1},
            FAY,
            stage="PROPOSED",
            fen=10_000,
            citizen=to_global_id("Citizen", "alice"),
            enterprise=None,
            reference="ICBC-0001",
            proposedBy="staff:fay",
        ),
        deposits("approveDeposit", proposed, {"deposit": "other"}, FRED_, stage="APPROVED", decidedBy="staff:fred"),
        deposits("rejectDeposit", to_reject, {"reason": "x"}, ROOT, stage="REJECTED", reason="金额有误"),
        payouts(
            "requestPayout",
            to_request,
            {"payee": {**PAYEE, "number": "6222000000000000"}},
            ALICE,
            stage="REQUESTED",
            fen=3_000,
            payee=MASKED,
            fullPayee=None,
        ),
        payouts("cancelPayout", requested, {"payout": "other"}, ALICE, stage="CANCELLED", decidedBy=None),
        payouts(
            "settlePayout",
            to_settle,
            {"reference": "x"},
            FAY,
            stage="SETTLING",
            reference="ICBC-0002",
            settledBy="staff:fay",
            fullPayee=FULL,
        ),
        payouts("approvePayout", settling, {"reference": "other"}, ROOT, stage="PAID", fullPayee=None, payee=MASKED),
        payouts("rejectPayout", to_turn_down, {"reason": "x"}, FAY, stage="REJECTED", reason="账户不符"),
    )
}
# Who of EVERYBODY may do it beside the one of the case, or is told something else than FORBIDDEN.
OWNERS_OWN = {"requestPayout", "cancelPayout"}


@pytest.mark.parametrize("name", CASES)
async def test_it_takes_effect_once_and_another_payload_conflicts(
    api: Api, services: Services, bank: Bank, token_for: Token, name: str
) -> None:
    one = CASES[name]
    given, token = await one.prepare(bank), token_for(*one.allowed[0])
    first = (await one.ask(api, token, given)).result
    assert {field: first[field] for field in one.expected} == one.expected
    before = await dump(services)
    assert (await one.ask(api, token, given)).result == first
    assert await dump(services) == before
    code = (await refused(services, one, api, token, {**given, **one.other}))[0]
    # Where the other payload names nothing, that is told first.
    unknown = {"deposit": "UNKNOWN_DEPOSIT", "payout": "UNKNOWN_PAYOUT"}
    assert code == next((unknown[field] for field in one.other if field in unknown), "IDEMPOTENCY_CONFLICT")
    assert await bank.findings() == []


@pytest.mark.parametrize("name", CASES)
async def test_whoever_else_asks_is_denied_and_changes_nothing(
    api: Api, services: Services, bank: Bank, token_for: Token, name: str
) -> None:
    one = CASES[name]
    given = await one.prepare(bank)
    before = await dump(services)
    for who in EVERYBODY:
        answer = await one.ask(api, token_for(*who), given) if who not in _allowed(name) else None
        if answer is None:
            continue
        if name in OWNERS_OWN and who[0] in {"citizen", "enterprise"}:
            # A foreign payout answers like a missing one; bob has no money, the steelworks is not registered.
            expected = {("citizen", "bob"): "INSUFFICIENT_FUNDS"}.get(who, "UNKNOWN_ENTERPRISE")
            assert answer.result["code"] == ("UNKNOWN_PAYOUT" if name == "cancelPayout" else expected)
        else:
            assert (who, answer.code) == (who, "FORBIDDEN")
    assert (await one.ask(api, None, given)).code == "UNAUTHENTICATED"
    assert await dump(services) == before


def _allowed(name: str) -> set[tuple[str, str]]:
    return {ALICE} if name in OWNERS_OWN else RECORDERS


NO_DEPOSIT = {"deposit": to_global_id("Deposit", "dep_none")}
NO_PAYOUT = {"payout": to_global_id("Payout", "pay_none")}
# Of finance, with the name that a citizen has.
ALICES_OWN = ("finance", "alice")
TOMORROW = {"valueDate": "2999-01-01"}
# Mutation, how to make ready, what to send else, who asks, the refusal.
REFUSED: list[tuple[str, Any, Inputs, tuple[str, str], str]] = [
    ("depositFunds", to_deposit, {"account": {"citizen": "nobody"}}, FAY, "UNKNOWN_CITIZEN"),
    ("depositFunds", to_deposit, {"account": {"enterprise": "nobody"}}, FAY, "UNKNOWN_ENTERPRISE"),
    ("depositFunds", suspended, {}, FAY, "ENTERPRISE_STAGE"),
    ("depositFunds", to_deposit, {}, ALICES_OWN, "OWN_INTEREST"),
    ("depositFunds", recorded, {}, FRED_, "DUPLICATE_REFERENCE"),
    ("depositFunds", recorded, {"reference": " icbc-0001"}, FRED_, "DUPLICATE_REFERENCE"),
    ("depositFunds", recorded, {"reference": "ＩＣＢＣ－０００１"}, FRED_, "DUPLICATE_REFERENCE"),
    ("depositFunds", to_deposit, {"reference": "ICBC#1"}, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, {"reference": "流水"}, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, {"account": {}}, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, {"account": {"citizen": "alice", "enterprise": "x"}}, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, {"fen": 0}, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, {"fen": -5}, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, {"fen": str(2**63 - 1)}, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, {"reference": " "}, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, TOMORROW, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, {"note": "x" * 201}, FAY, "INVALID_INPUT"),
    ("depositFunds", to_deposit, {"idempotencyKey": "x"}, FAY, "INVALID_INPUT"),
    ("approveDeposit", proposed, NO_DEPOSIT, FRED_, "UNKNOWN_DEPOSIT"),
    ("approveDeposit", approved, {}, ROOT, "DEPOSIT_STAGE"),
    ("approveDeposit", proposed, {}, FAY, "OWN_PROPOSAL"),
    ("approveDeposit", proposed, {}, ALICES_OWN, "OWN_INTEREST"),
    ("approveDeposit", suspended_meanwhile, {}, FRED_, "ENTERPRISE_STAGE"),
    ("approveDeposit", gone_meanwhile, {}, FRED_, "UNKNOWN_ENTERPRISE"),
    ("approveDeposit", proposed, {"idempotencyKey": "x"}, FRED_, "INVALID_INPUT"),
    ("rejectDeposit", to_reject, NO_DEPOSIT, FRED_, "UNKNOWN_DEPOSIT"),
    ("rejectDeposit", approved, {}, ROOT, "DEPOSIT_STAGE"),
    ("rejectDeposit", to_reject, {}, FAY, "OWN_PROPOSAL"),
    ("rejectDeposit", to_reject, {}, ALICES_OWN, "OWN_INTEREST"),
    ("rejectDeposit", to_reject, {"reason": ""}, FRED_, "INVALID_INPUT"),
    ("requestPayout", to_request, {"fen": 10_001}, ALICE, "INSUFFICIENT_FUNDS"),
    ("requestPayout", five_under_way, {}, ALICE, "TOO_MANY_PAYOUTS"),
    ("requestPayout", to_request, {"fen": 0}, ALICE, "INVALID_INPUT"),
    ("requestPayout", to_request, {"payee": {**PAYEE, "name": ""}}, ALICE, "INVALID_INPUT"),
    ("requestPayout", to_request, {"payee": {**PAYEE, "number": "12"}}, ALICE, "INVALID_INPUT"),
    ("requestPayout", to_request, {"payee": {**PAYEE, "bank": ""}}, ALICE, "INVALID_INPUT"),
    ("requestPayout", to_request, {}, ("enterprise", "steelworks"), "UNKNOWN_ENTERPRISE"),
    ("cancelPayout", requested, NO_PAYOUT, ALICE, "UNKNOWN_PAYOUT"),
    ("cancelPayout", foreign, {}, ALICE, "UNKNOWN_PAYOUT"),
    ("cancelPayout", settling, {}, ALICE, "PAYOUT_STAGE"),
    ("cancelPayout", paid, {}, ALICE, "PAYOUT_STAGE"),
    ("approvePayout", settling, {"reference": "other"}, FRED_, "REFERENCE_CHANGED"),
    ("cancelPayout", requested, {"idempotencyKey": "x"}, ALICE, "INVALID_INPUT"),
    ("settlePayout", to_settle, NO_PAYOUT, FAY, "UNKNOWN_PAYOUT"),
    ("settlePayout", to_settle_suspended, {}, FAY, "ENTERPRISE_STAGE"),
    ("settlePayout", to_settle_gone, {}, FAY, "UNKNOWN_ENTERPRISE"),
    ("settlePayout", to_settle, {}, ALICES_OWN, "OWN_INTEREST"),
    ("settlePayout", recorded_in, {}, FAY, "DUPLICATE_REFERENCE"),
    ("settlePayout", recorded_in, {"reference": "icbc - 0002"}, FAY, "DUPLICATE_REFERENCE"),
    ("settlePayout", to_settle, TOMORROW, FAY, "INVALID_INPUT"),
    ("settlePayout", to_settle, {"reference": "x" * 65}, FAY, "INVALID_INPUT"),
    ("approvePayout", settling, NO_PAYOUT, FRED_, "UNKNOWN_PAYOUT"),
    ("approvePayout", requested, {"reference": "x"}, FRED_, "PAYOUT_STAGE"),
    ("approvePayout", paid, {}, ROOT, "PAYOUT_STAGE"),
    ("approvePayout", settling, {}, FAY, "OWN_PROPOSAL"),
    ("approvePayout", settling, {}, ALICES_OWN, "OWN_INTEREST"),
    ("approvePayout", settling_suspended, {}, FRED_, "ENTERPRISE_STAGE"),
    ("approvePayout", settling_gone, {}, FRED_, "UNKNOWN_ENTERPRISE"),
    ("approvePayout", settling, {"reference": ""}, FRED_, "INVALID_INPUT"),
    ("approvePayout", settling, {"idempotencyKey": "x"}, FRED_, "INVALID_INPUT"),
    ("rejectPayout", to_turn_down, NO_PAYOUT, FAY, "UNKNOWN_PAYOUT"),
    ("rejectPayout", settling_to_turn_down, {}, FAY, "OWN_PROPOSAL"),
    ("rejectPayout", to_turn_down, {}, ALICES_OWN, "OWN_INTEREST"),
    ("rejectPayout", to_turn_down, {"reason": "x" * 501}, FAY, "INVALID_INPUT"),
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
    given = {**await prepare(bank), **changes}
    unasked = {"approveDeposit": "reason", "cancelPayout": "reference"}
    given.pop(unasked.get(name, ""), None)
    told, zh, en = await refused(services, CASES[name], api, token_for(*who), given)
    assert told == code
    assert any("一" <= letter <= "鿿" for letter in zh)
    assert en != zh


async def test_what_was_paid_is_neither_settled_nor_turned_down_again(
    api: Api, services: Services, bank: Bank, token_for: Token
) -> None:
    given = await paid(bank)
    transfer = {**given, "reference": "ICBC-0003", "valueDate": today(bank)}
    for name, sent in (("settlePayout", transfer), ("rejectPayout", {"payout": given["payout"], "reason": "x"})):
        told, zh, en = await refused(services, CASES[name], api, token_for(*ROOT), sent)
        assert (told, "PAID" in zh, "PAID" in en) == ("PAYOUT_STAGE", True, True)


async def test_a_suspended_enterprise_asks_for_nothing(
    api: Api, services: Services, bank: Bank, token_for: Token
) -> None:
    enterprise = await bank.approved()
    await bank.deposited(FundAccount(enterprise=enterprise))
    await bank.step(enterprise, EnterpriseStep.SUSPEND, "核查中")
    token = token_for("enterprise", enterprise)
    code = (await refused(services, CASES["requestPayout"], api, token, {"fen": 10, "payee": PAYEE}))[0]
    assert code == "ENTERPRISE_STAGE"


async def test_by_another_servers_clock_a_hold_may_have_ended(
    api: Api, services: Services, bank: Bank, token_for: Token, clock: ManualClock
) -> None:
    given = {
        "cancelPayout": await requested(bank),
        "settlePayout": {**await requested(bank), "reference": "ICBC-9", "valueDate": today(bank)},
        "rejectPayout": {**await requested(bank), "reason": "x"},
        "approvePayout": await settling(bank),
    }
    now = clock.now()
    clock.advance(timedelta(days=400))
    # Something else that happens on the page, by a server whose clock is ahead.
    await bank.deposited(fen=5)
    clock.current = now
    for name, who in (
        ("cancelPayout", ALICE),
        ("settlePayout", FAY),
        ("rejectPayout", FRED_),
        ("approvePayout", FRED_),
    ):
        code, _, _ = await refused(services, CASES[name], api, token_for(*who), given[name])
        assert (name, code) == (name, "HOLD_EXPIRED")


def test_every_refusal_of_every_mutation_is_tried() -> None:
    tried = {(name, code) for name, *_, code in REFUSED}
    tried |= {(name, "IDEMPOTENCY_CONFLICT") for name in CASES}
    tried |= {(name, "PAYOUT_STAGE") for name in ("settlePayout", "rejectPayout")}
    tried |= {("requestPayout", "ENTERPRISE_STAGE")}
    # Those of the book are tried above by a clock, and in tests/integration/test_funds.py.
    of_payout = ("cancelPayout", "settlePayout", "rejectPayout", "approvePayout")
    tried |= {(name, code) for name in of_payout for code in ("HOLD_EXPIRED", "HOLD_NOT_ACTIVE")}
    tried |= {("requestPayout", "TOO_MANY_HOLDS")}
    assert {(name, code) for name, one in CASES.items() for code in one.refusals} == tried
