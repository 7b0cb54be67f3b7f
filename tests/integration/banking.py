"""Enterprises, deposits and payouts made through their doors, and who records money."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.clock import local_date
from backend.kernel.ids import CitizenId
from backend.ledger.audit.findings import Audit
from backend.ledger.model import CNY, citizen_owner
from backend.market.funds.invariants import audit_funds
from backend.market.funds.model import (
    BankEntry,
    DepositOrder,
    EnterpriseApplication,
    EnterpriseStep,
    FundAccount,
    Payee,
)
from tests.conftest import dump
from tests.factories import citizen, replay
from tests.unit.rewards.trading import RITA, ROOT, credit_code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from backend.kernel.errors import DomainError
    from backend.ledger.model import OwnerId
    from backend.market.funds.model import Deposit, Enterprise, EnterpriseId, Payout
    from backend.runtime import Services

FAY = Principal(PrincipalKind.STAFF, "fay", frozenset({StaffRole.FINANCE}))
FRED = Principal(PrincipalKind.STAFF, "fred", frozenset({StaffRole.FINANCE}))
ALICE, BOB = citizen("alice"), citizen("bob")
ALICES, BOBS = citizen_owner(CitizenId("alice")), citizen_owner(CitizenId("bob"))
ICBC = Payee("王芳", "6222 0212 3456 7890", "中国工商银行镇江分行")
DAY = timedelta(days=1)


def firm(enterprise: str) -> Principal:
    """Somebody with that enterprise's token."""
    return Principal(PrincipalKind.ENTERPRISE, enterprise)


def application(number: int = 1, **changes: Any) -> EnterpriseApplication:
    """A steelworks that is to buy credits."""
    given: dict[str, Any] = {
        "name": "镇江钢铁有限公司",
        "credit_code": credit_code(number),
        "contact": "赵敏 0511-8600 0000",
        "purpose": "自愿抵消经营排放",
    }
    return EnterpriseApplication(**{**given, **changes})


@dataclass
class Bank:
    """Deposits, payouts and enterprises of one database."""

    services: Services
    keys: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def key(self) -> str:
        """A key that nobody used."""
        return f"bank-{next(self.keys):06}"

    def entry(self, reference: str | None = None, days_ago: int = 0) -> BankEntry:
        """A line of the bank's statement that nobody recorded, of today or some days ago."""
        today = local_date(self.services.clock.now(), self.services.programme.zone)
        return BankEntry(reference or f"ICBC-{next(self.keys):08}", today - timedelta(days=days_ago))

    def order(self, account: FundAccount | None = None, fen: int = 10_000, **changes: Any) -> DepositOrder:
        """A hundred yuan for alice."""
        given: dict[str, Any] = {"account": account or FundAccount(citizen=CitizenId("alice")), "fen": fen}
        return DepositOrder(**{**given, "entry": changes.pop("entry", None) or self.entry(), **changes})

    async def registered(self, number: int = 1) -> Enterprise:
        """A registered enterprise."""
        return await self.services.market.enterprises.register(ROOT, application(number), key=self.key())

    async def approved(self, number: int = 1) -> EnterpriseId:
        """An enterprise that is let in."""
        enterprise = (await self.registered(number)).id
        await self.step(enterprise, EnterpriseStep.APPROVE)
        return enterprise

    async def step(self, enterprise: EnterpriseId, step: EnterpriseStep, reason: str | None = None) -> Enterprise:
        """Another administrator's step with it."""
        return await self.services.market.enterprises.take(RITA, enterprise, step, reason, key=self.key())

    async def proposed(self, order: DepositOrder | None = None) -> Deposit:
        """A deposit that fay proposes."""
        return await self.services.market.deposits.propose(FAY, order or self.order(), key=self.key())

    async def deposited(self, account: FundAccount | None = None, fen: int = 10_000) -> Deposit:
        """A deposit that fay proposed and fred approved."""
        proposed = await self.proposed(self.order(account, fen))
        return await self.services.market.deposits.approve(FRED, proposed.id, key=self.key())

    async def requested(self, principal: Principal = ALICE, fen: int = 3_000) -> Payout:
        """A payout that somebody asks for."""
        return await self.services.market.payouts.request(principal, fen, ICBC, key=self.key())

    async def settling(self, principal: Principal = ALICE, fen: int = 3_000) -> Payout:
        """A payout of which fay recorded the bank's transfer."""
        payout = await self.requested(principal, fen)
        return await self.services.market.payouts.settle(FAY, payout.id, self.entry(), key=self.key())

    async def paid(self, principal: Principal = ALICE, fen: int = 3_000) -> Payout:
        """A payout that fred approved."""
        payout = await self.settling(principal, fen)
        return await self.agreed(payout)

    async def agreed(self, payout: Payout, who: Principal = FRED, key: str | None = None) -> Payout:
        """The payout as somebody approves what they see of it."""
        assert payout.entry is not None
        reference = payout.entry.reference
        return await self.services.market.payouts.approve(who, payout.id, reference, key=key or self.key())

    async def money(self, owner: OwnerId = ALICES) -> tuple[int, int]:
        """The owner's balance and what of it is held, in fen."""
        page = await self.services.ledger.get_page(owner)
        return page.balance(CNY), page.held(CNY)

    async def findings(self) -> list[str]:
        """What the audits of money and of the book find."""
        async with self.services.database.snapshot() as snapshot:
            audit = Audit()
            await audit_funds(snapshot, audit)
        return audit.findings + (await replay(self.services)).findings

    async def refused(self, asked: Awaitable[Any], error: type[DomainError]) -> DomainError:
        """Assert that this is refused and changes nothing; the refusal."""
        before = await dump(self.services)
        with pytest.raises(error) as refused:
            await asked
        assert type(refused.value) is error
        assert await dump(self.services) == before
        return refused.value


async def open_bank(services: Services) -> Bank:
    """The bank's desk; alice and bob are citizens."""
    await services.identity.register_citizens({CitizenId("alice"): "王芳", CitizenId("bob"): "李伟"})
    return Bank(services)
