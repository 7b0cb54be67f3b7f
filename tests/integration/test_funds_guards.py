"""What money is refused: a line of the bank twice, one's own, a suspended enterprise's; and payees that are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.ids import CitizenId
from backend.ledger.model import (
    enterprise_owner,
)
from backend.market.funds.documents import PAYOUTS
from backend.market.funds.errors import (
    DuplicateReferenceError,
    EnterpriseStageError,
    OwnInterestError,
)
from backend.market.funds.model import (
    DepositStage,
    EnterpriseStep,
    FundAccount,
    Payee,
    PayoutStage,
)
from tests.integration.banking import (
    ALICES,
    FAY,
    FRED,
    ICBC,
    firm,
    open_bank,
)

if TYPE_CHECKING:
    from backend.runtime import Services
    from tests.integration.banking import Bank

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bank(services: Services) -> Bank:
    """The bank's desk."""
    return await open_bank(services)


async def test_a_line_counts_once_however_its_reference_is_typed(bank: Bank) -> None:
    await bank.proposed(bank.order(entry=bank.entry("ICBC-2026/0001")))
    await bank.deposited()
    payout = await bank.settling()
    for typed in ("icbc-2026/0001", " ICBC-2026/0001 ", "ICBC -2026/ 0001", "ＩＣＢＣ－２０２６／０００１"):
        entry = bank.entry(typed)
        await bank.refused(bank.proposed(bank.order(entry=entry)), DuplicateReferenceError)
        settled = bank.services.market.payouts.settle(FAY, payout.id, entry, key=bank.key())
        await bank.refused(settled, DuplicateReferenceError)
    # Whoever approves may type it so, too.
    assert payout.entry is not None
    typed = f" {payout.entry.reference.lower()} "
    paid = await bank.services.market.payouts.approve(FRED, payout.id, typed, key=bank.key())
    assert paid.stage is PayoutStage.PAID
    assert await bank.findings() == []


async def test_nobody_handles_money_of_their_own(bank: Bank) -> None:
    alice = Principal(PrincipalKind.STAFF, "alice", frozenset({StaffRole.FINANCE}))
    deposits, payouts = bank.services.market.deposits, bank.services.market.payouts
    await bank.refused(deposits.propose(alice, bank.order(), key=bank.key()), OwnInterestError)
    waiting = await bank.proposed()
    await bank.refused(deposits.approve(alice, waiting.id, key=bank.key()), OwnInterestError)
    await bank.refused(deposits.reject(alice, waiting.id, "x", key=bank.key()), OwnInterestError)
    await deposits.approve(FRED, waiting.id, key=bank.key())
    asked = await bank.requested()
    await bank.refused(payouts.settle(alice, asked.id, bank.entry(), key=bank.key()), OwnInterestError)
    settling = await payouts.settle(FAY, asked.id, bank.entry(), key=bank.key())
    await bank.refused(bank.agreed(settling, alice), OwnInterestError)
    # Turned down after the bank has paid, it would be paid and kept.
    await bank.refused(payouts.reject(alice, asked.id, "x", key=bank.key()), OwnInterestError)
    # Money of others is nobody's own.
    bobs = bank.order(FundAccount(citizen=CitizenId("bob")))
    assert (await deposits.propose(alice, bobs, key=bank.key())).stage is DepositStage.PROPOSED


async def test_a_payee_that_cannot_be_read_is_told_by_the_audit_and_hides_nothing_else(bank: Bank) -> None:
    await bank.deposited()
    first, second = await bank.requested(fen=10), await bank.requested(fen=20)
    for sealed in ("xx", "", "无", second.sealed):
        change = {"$set": {"sealed": sealed, "masked": second.masked._asdict()}}
        assert await bank.services.database.update_one(PAYOUTS.name, {"_id": first.id}, change)
        listed = await bank.services.market.payouts.list_payouts(
            FAY, ALICES, None, limit=9, older=None, newer=None, newest=True
        )
        read = {one.id: bank.services.market.payouts.reveal_payee(FAY, one) for one in listed}
        assert read == {first.id: None, second.id: Payee("王芳", "6222021234567890", "中国工商银行镇江分行")}
        assert any("is not what its deposit or payout says" in one for one in await bank.findings())


async def test_a_suspended_enterprise_is_paid_neither_in_nor_out(bank: Bank) -> None:
    enterprise = await bank.approved()
    account = FundAccount(enterprise=enterprise)
    await bank.deposited(account, 5_000)
    waiting = await bank.proposed(bank.order(account))
    await bank.step(enterprise, EnterpriseStep.SUSPEND, "核查中")
    deposits, payouts = bank.services.market.deposits, bank.services.market.payouts
    await bank.refused(bank.proposed(bank.order(account)), EnterpriseStageError)
    await bank.refused(deposits.approve(FRED, waiting.id, key=bank.key()), EnterpriseStageError)
    await bank.refused(payouts.request(firm(enterprise), 10, ICBC, key=bank.key()), EnterpriseStageError)
    await bank.step(enterprise, EnterpriseStep.RESUME, "核查完毕")
    await deposits.approve(FRED, waiting.id, key=bank.key())
    asked = await payouts.request(firm(enterprise), 14_000, ICBC, key=bank.key())
    settled = await bank.settling(firm(enterprise), 1_000)
    await bank.step(enterprise, EnterpriseStep.SUSPEND, "核查中")
    await bank.refused(payouts.settle(FAY, asked.id, bank.entry(), key=bank.key()), EnterpriseStageError)
    await bank.refused(payouts.settle(FAY, settled.id, bank.entry(), key=bank.key()), EnterpriseStageError)
    await bank.refused(bank.agreed(settled), EnterpriseStageError)
    assert await bank.money(enterprise_owner(enterprise)) == (15_000, 15_000)
    # What is not paid yet is still its owner's to take back.
    await payouts.cancel(firm(enterprise), asked.id, key=bank.key())
    await bank.step(enterprise, EnterpriseStep.RESUME, "核查完毕")
    assert (await bank.agreed(settled)).stage is PayoutStage.PAID
    assert await bank.money(enterprise_owner(enterprise)) == (14_000, 0)
    assert await bank.findings() == []
