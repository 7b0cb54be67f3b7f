"""Situations of money that the API's tests begin in, each with the input that follows on it, and who is in them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backend.kernel.clock import local_date
from backend.market.funds.model import EnterpriseStep, FundAccount
from schemas.relay import to_global_id
from tests.integration.banking import BOB, firm

if TYPE_CHECKING:
    from backend.market.funds.model import Payout
    from tests.api.trade_documents import Inputs
    from tests.integration.banking import Bank

PAYEE = {"name": "王芳", "number": "6222 0212 3456 7890", "bank": "中国工商银行镇江分行"}


def today(bank: Bank, days: int = 0) -> str:
    """The local day, or one some days later."""
    now = bank.services.clock.now()
    return (local_date(now, bank.services.programme.zone) + timedelta(days=days)).isoformat()


async def to_deposit(bank: Bank) -> Inputs:
    """A hundred yuan for alice."""
    account = {"citizen": to_global_id("Citizen", "alice")}
    entry = {"reference": "ICBC-0001", "valueDate": today(bank)}
    return {"account": account, "fen": 10_000, **entry, "note": "充值"}


async def proposed(bank: Bank) -> Inputs:
    """A deposit that fay proposed."""
    return {"deposit": to_global_id("Deposit", (await bank.proposed()).id)}


async def to_reject(bank: Bank) -> Inputs:
    """The same, with a reason."""
    return {**await proposed(bank), "reason": "金额有误"}


async def approved(bank: Bank) -> Inputs:
    """A deposit that was approved."""
    return {"deposit": to_global_id("Deposit", (await bank.deposited()).id), "reason": "x"}


async def to_request(bank: Bank) -> Inputs:
    """Alice has a hundred yuan and wants thirty."""
    await bank.deposited()
    return {"fen": 3_000, "payee": PAYEE}


async def requested(bank: Bank) -> Inputs:
    """Alice asked for thirty yuan."""
    await bank.deposited()
    return {"payout": to_global_id("Payout", (await bank.requested()).id)}


async def to_settle(bank: Bank) -> Inputs:
    """The same, with the bank's transfer at hand."""
    return {**await requested(bank), "reference": "ICBC-0002", "valueDate": today(bank)}


async def settling(bank: Bank) -> Inputs:
    """Fay recorded the transfer, too."""
    await bank.deposited()
    return _as_recorded(await bank.settling())


def _as_recorded(payout: Payout) -> Inputs:
    assert payout.entry is not None
    return {"payout": to_global_id("Payout", payout.id), "reference": payout.entry.reference}


async def to_turn_down(bank: Bank) -> Inputs:
    """Alice asked, with a reason at hand."""
    return {**await requested(bank), "reason": "账户不符"}


async def settling_to_turn_down(bank: Bank) -> Inputs:
    """Fay recorded the transfer, with a reason at hand."""
    return {"payout": (await settling(bank))["payout"], "reason": "账户不符"}


async def paid(bank: Bank) -> Inputs:
    """It was paid."""
    await bank.deposited()
    return _as_recorded(await bank.paid())


async def suspended(bank: Bank) -> Inputs:
    """A suspended enterprise for which something comes in."""
    enterprise = await bank.approved()
    await bank.step(enterprise, EnterpriseStep.SUSPEND, "核查中")
    return {**await to_deposit(bank), "account": {"enterprise": enterprise}}


async def suspended_meanwhile(bank: Bank) -> Inputs:
    """An enterprise that was suspended after its deposit was proposed."""
    enterprise = await bank.approved()
    deposit = await bank.proposed(bank.order(FundAccount(enterprise=enterprise)))
    await bank.step(enterprise, EnterpriseStep.SUSPEND, "核查中")
    return {"deposit": to_global_id("Deposit", deposit.id)}


async def gone_meanwhile(bank: Bank) -> Inputs:
    """An enterprise that is no longer there: what no operation does, and no approval follows."""
    given = await suspended_meanwhile(bank)
    await bank.services.database.raw["market_enterprises"].delete_many({})
    return given


async def to_settle_suspended(bank: Bank) -> Inputs:
    """An enterprise asked for money and was suspended; the bank's transfer is at hand."""
    payout = await _of_suspended(bank, bank.requested)
    return {"payout": to_global_id("Payout", payout.id), "reference": "ICBC-0002", "valueDate": today(bank)}


async def settling_suspended(bank: Bank) -> Inputs:
    """An enterprise was suspended after fay recorded the transfer."""
    return _as_recorded(await _of_suspended(bank, bank.settling))


async def _of_suspended(bank: Bank, ask: Any) -> Payout:
    enterprise = await bank.approved()
    await bank.deposited(FundAccount(enterprise=enterprise))
    payout: Payout = await ask(firm(enterprise))
    await bank.step(enterprise, EnterpriseStep.SUSPEND, "核查中")
    return payout


async def to_settle_gone(bank: Bank) -> Inputs:
    """The same of an enterprise that is no longer there: what no operation does."""
    given = await to_settle_suspended(bank)
    await bank.services.database.raw["market_enterprises"].delete_many({})
    return given


async def settling_gone(bank: Bank) -> Inputs:
    """The same, recorded."""
    given = await settling_suspended(bank)
    await bank.services.database.raw["market_enterprises"].delete_many({})
    return given


async def recorded(bank: Bank) -> Inputs:
    """That line of the bank's statement was recorded already."""
    await bank.proposed(bank.order(entry=bank.entry("ICBC-0001")))
    return await to_deposit(bank)


async def recorded_in(bank: Bank) -> Inputs:
    """The line of the transfer is that of a deposit."""
    given = await to_settle(bank)
    await bank.proposed(bank.order(entry=bank.entry("ICBC-0002")))
    return given


async def five_under_way(bank: Bank) -> Inputs:
    """Alice asked five times."""
    given = await to_request(bank)
    for _ in range(5):
        await bank.requested(fen=10)
    return given


async def foreign(bank: Bank) -> Inputs:
    """Bob's payout."""
    await bank.deposited(FundAccount(citizen=BOB.citizen))
    return {"payout": to_global_id("Payout", (await bank.requested(BOB)).id)}
