"""What enterprises, deposits and payouts may be, which step follows which, what each posts and what is shown of it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from backend.kernel.errors import InvalidInputError
from backend.kernel.ids import CitizenId
from backend.ledger import shape
from backend.ledger.model import CNY, TransactionKind, citizen_owner, enterprise_owner
from backend.market.funds import rules
from backend.market.funds.errors import EnterpriseStageError, PayoutStageError
from backend.market.funds.model import (
    BankEntry,
    Deposit,
    DepositId,
    DepositOrder,
    DepositStage,
    Enterprise,
    EnterpriseApplication,
    EnterpriseId,
    EnterpriseStage,
    EnterpriseStep,
    FundAccount,
    Payee,
    Payout,
    PayoutId,
    PayoutStage,
    StepTaken,
    account_of_owner,
)
from tests.unit.rewards.trading import credit_code

ZONE = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
TODAY = date(2026, 11, 21)
ALICE = citizen_owner(CitizenId("alice"))
SEEN = StepTaken(NOON, "staff:root", EnterpriseStep.REGISTER, None)


def application(**changes: Any) -> EnterpriseApplication:
    given: dict[str, Any] = {
        "name": "镇江钢铁有限公司",
        "credit_code": credit_code(),
        "contact": "赵敏 0511-86000000",
        "purpose": "自愿抵消",
    }
    return EnterpriseApplication(**{**given, **changes})


def enterprise(stage: EnterpriseStage) -> Enterprise:
    return Enterprise(
        id=EnterpriseId("steel"),
        name="镇江钢铁有限公司",
        credit_code=credit_code(),
        contact="赵敏",
        purpose="自愿抵消",
        stage=stage,
        steps=(SEEN,),
    )


def order(**changes: Any) -> DepositOrder:
    given: dict[str, Any] = {
        "account": FundAccount(citizen=CitizenId("alice")),
        "fen": 1,
        "entry": BankEntry("ICBC-1", TODAY),
    }
    return DepositOrder(**{**given, **changes})


def payout(**changes: Any) -> Payout:
    given: dict[str, Any] = {
        "id": PayoutId("pay_1"),
        "owner": ALICE,
        "fen": 300,
        "masked": Payee("王**", "****7890", "中国工商银行"),
        "sealed": "x",
        "salt": "salt",
        "stage": PayoutStage.REQUESTED,
        "requested_at": NOON,
        "expires_at": NOON + timedelta(days=30),
    }
    return Payout(**{**given, **changes})


SETTLING = {
    "stage": PayoutStage.SETTLING,
    "settled_at": NOON,
    "settled_by": "staff:fay",
    "entry": BankEntry("ICBC-2", TODAY),
}


def test_an_application_is_stored_with_its_code_in_capitals() -> None:
    assert rules.require_application(application(credit_code=f" {credit_code().lower()} ")) == application()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": " "}),
        ("name", {"name": "钢" * 101}),
        ("contact", {"contact": ""}),
        ("contact", {"contact": "x" * 101}),
        ("purpose", {"purpose": "a\nb"}),
        ("purpose", {"purpose": "x" * 201}),
        ("creditCode", {"credit_code": "91350100M000100Y44"}),
        ("creditCode", {"credit_code": ""}),
    ],
)
def test_an_application_with_a_field_that_cannot_be_is_refused(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        rules.require_application(application(**changes))
    assert refused.value.field == field


@pytest.mark.parametrize("stage", EnterpriseStage)
@pytest.mark.parametrize("step", [step for step in EnterpriseStep if step is not EnterpriseStep.REGISTER])
def test_a_step_leads_from_the_stages_it_follows_on_and_from_no_other(
    stage: EnterpriseStage, step: EnterpriseStep
) -> None:
    ways = {
        (EnterpriseStage.PROPOSED, EnterpriseStep.APPROVE): EnterpriseStage.APPROVED,
        (EnterpriseStage.PROPOSED, EnterpriseStep.REJECT): EnterpriseStage.REJECTED,
        (EnterpriseStage.APPROVED, EnterpriseStep.SUSPEND): EnterpriseStage.SUSPENDED,
        (EnterpriseStage.SUSPENDED, EnterpriseStep.RESUME): EnterpriseStage.APPROVED,
    }
    taken = StepTaken(NOON, "staff:rita", step, "照片不清")
    if (stage, step) in ways:
        after = rules.stepped(enterprise(stage), taken)
        assert (after.stage, after.steps, after.reason) == (ways[stage, step], (SEEN, taken), "照片不清")
    else:
        with pytest.raises(EnterpriseStageError) as refused:
            rules.stepped(enterprise(stage), taken)
        assert (refused.value.enterprise, refused.value.stage) == ("steel", stage)


def test_a_deposit_of_one_fen_and_of_the_most_there_is_can_be() -> None:
    rules.require_deposit(order(), TODAY)
    rules.require_deposit(order(fen=10**13, entry=BankEntry("x" * 64, date(2000, 1, 1)), note="x" * 200), TODAY)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("fen", {"fen": 0}),
        ("fen", {"fen": -1}),
        ("fen", {"fen": 10**13 + 1}),
        ("reference", {"entry": BankEntry("", TODAY)}),
        ("reference", {"entry": BankEntry("x" * 65, TODAY)}),
        ("reference", {"entry": BankEntry(" ", TODAY)}),
        ("reference", {"entry": BankEntry("IC\u200bBC", TODAY)}),
        ("reference", {"entry": BankEntry("ICBC–1", TODAY)}),
        ("reference", {"entry": BankEntry("IСBC-1", TODAY)}),
        ("reference", {"entry": BankEntry("ıcbc-1", TODAY)}),
        ("reference", {"entry": BankEntry("流水1", TODAY)}),
        ("reference", {"entry": BankEntry("ICBC:1", TODAY)}),
        ("valueDate", {"entry": BankEntry("ICBC", TODAY + timedelta(days=1))}),
        ("valueDate", {"entry": BankEntry("ICBC", date(1999, 12, 31))}),
        ("note", {"note": ""}),
        ("note", {"note": "x" * 201}),
    ],
)
def test_a_deposit_with_a_field_that_cannot_be_is_refused(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        rules.require_deposit(order(**changes), TODAY)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "typed",
    ["ICBC-2026/0001", "icbc-2026/0001", " ICBC-2026/0001\n", "ICBC - 2026 / 0001", "ＩＣＢＣ－２０２６／０００１"],
)
def test_a_reference_has_one_form_however_it_is_typed(typed: str) -> None:
    assert rules.require_entry(BankEntry(typed, TODAY), TODAY) == BankEntry("ICBC-2026/0001", TODAY)
    assert rules.require_deposit(order(entry=BankEntry(typed, TODAY)), TODAY).entry.reference == "ICBC-2026/0001"


def test_a_pseudonym_is_of_its_record_and_its_bearer_alone() -> None:
    known = rules.pseudonym("salt", "staff:fay")
    assert rules.pseudonym("salt", "staff:fay") == known
    assert len({known, rules.pseudonym("other", "staff:fay"), rules.pseudonym("salt", "staff:fred")}) == 3


def test_a_bank_account_is_stored_without_blanks_and_shown_by_a_letter_and_four_digits() -> None:
    payee = rules.require_payee(Payee(" 王芳 ", "6222 0212 3456 7890", "中国工商银行"))
    assert payee == Payee("王芳", "6222021234567890", "中国工商银行")
    assert rules.masked(payee) == Payee("王**", "****7890", "中国工商银行")
    assert rules.require_payee(Payee("A", "de89 3704 0044 0532 0130 00", "B")).number == "DE89370400440532013000"


@pytest.mark.parametrize(
    ("field", "payee"),
    [
        ("payee.name", Payee("", "12345678", "B")),
        ("payee.name", Payee("x" * 71, "12345678", "B")),
        ("payee.bank", Payee("A", "12345678", " ")),
        ("payee.number", Payee("A", "1234567", "B")),
        ("payee.number", Payee("A", "1" * 35, "B")),
        ("payee.number", Payee("A", "1234-5678", "B")),
        ("payee.number", Payee("A", "１２３４５６７８", "B")),
    ],
)
def test_what_can_be_no_bank_account_is_refused(field: str, payee: Payee) -> None:
    with pytest.raises(InvalidInputError) as refused:
        rules.require_payee(payee)
    assert refused.value.field == field


def test_a_hold_ends_at_the_local_midnight_after_so_many_whole_days() -> None:
    assert rules.end_of_hold(NOON, 30, ZONE) == datetime(2026, 12, 21, 16, 0, tzinfo=UTC)
    late = datetime(2026, 11, 21, 15, 59, 59, tzinfo=UTC)
    assert rules.end_of_hold(late, 0, ZONE) == datetime(2026, 11, 21, 16, 0, tzinfo=UTC)


def test_whoever_owns_the_money_is_told_from_the_account_and_back() -> None:
    for account in (FundAccount(citizen=CitizenId("alice")), FundAccount(enterprise=EnterpriseId("steel"))):
        assert account_of_owner(account.owner) == account
    assert FundAccount(enterprise=EnterpriseId("steel")).owner == enterprise_owner("steel")


def test_every_transaction_of_a_payout_can_stand_in_a_book() -> None:
    open_until = NOON + timedelta(days=30)
    asked, settled = payout(), payout(**SETTLING)
    paid = payout(**{**SETTLING, "stage": PayoutStage.PAID, "decided_at": NOON, "decided_by": "staff:fred"})
    posted = [
        rules.requesting(asked, open_until),
        *rules.settling(asked, open_until),
        rules.paying(paid),
        rules.freeing(asked),
        rules.freeing(settled),
    ]
    for transaction in posted:
        shape.check(transaction)
        assert transaction.cause["payout"] == "pay_1"
    assert [transaction.kind for transaction in posted] == [
        TransactionKind.HOLD,
        TransactionKind.VOID,
        TransactionKind.HOLD,
        TransactionKind.POST,
        TransactionKind.VOID,
        TransactionKind.VOID,
    ]
    # What is paid or freed is the hold in force.
    request, exchange, held = (transaction.id for transaction in posted[:3])
    assert exchange not in {request, held}
    assert [transaction.hold.id for transaction in posted if transaction.hold] == [request, held, request, held]
    assert posted[3].cause == {
        "payout": "pay_1",
        "reference": "ICBC-2",
        "proposer": rules.pseudonym("salt", "staff:fay"),
        "approver": rules.pseudonym("salt", "staff:fred"),
    }


def test_the_payee_as_encrypted_and_as_shown_is_sealed_with_the_request() -> None:
    until = NOON + timedelta(days=30)
    others = [payout(sealed="y"), payout(masked=Payee("李**", "****7890", "中国工商银行"))]
    told = {rules.requesting(one, until).cause["payee"] for one in [payout(), *others]}
    assert len(told) == 3


def test_a_deposit_brings_its_fen_in_and_names_the_banks_reference() -> None:
    deposit = Deposit(
        id=DepositId("dep_1"),
        owner=ALICE,
        fen=500,
        entry=BankEntry("ICBC-1", TODAY),
        note=None,
        salt="salt",
        stage=DepositStage.APPROVED,
        proposed_at=NOON,
        proposed_by="staff:fay",
        decided_at=NOON,
        decided_by="staff:fred",
    )
    transaction = rules.depositing(deposit)
    shape.check(transaction)
    [moved] = transaction.postings
    assert (transaction.key, moved.to_account, moved.asset, moved.amount) == (
        "deposit:dep_1",
        "citizen:alice:cny",
        CNY,
        500,
    )
    assert transaction.cause == {
        "deposit": "dep_1",
        "reference": "ICBC-1",
        "proposer": rules.pseudonym("salt", "staff:fay"),
        "approver": rules.pseudonym("salt", "staff:fred"),
    }


@pytest.mark.parametrize("stage", PayoutStage)
def test_from_the_end_of_its_hold_on_what_was_open_has_lapsed(stage: PayoutStage) -> None:
    one = payout(stage=stage)
    is_open = stage in {PayoutStage.REQUESTED, PayoutStage.SETTLING}
    assert one.stage_at(one.expires_at - timedelta(milliseconds=1)) is stage
    assert one.stage_at(one.expires_at) is (PayoutStage.LAPSED if is_open else stage)
    with pytest.raises(PayoutStageError) as refused:
        rules.require_stage(dataclasses.replace(one), one.expires_at, PayoutStage.REQUESTED)
    assert refused.value.stage == one.stage_at(one.expires_at)
