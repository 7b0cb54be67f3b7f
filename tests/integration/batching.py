"""Batches for tests: citizens with heavy acts that their operator recorded, who agreed to pooling, and staff."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.model import ActionRequest, Status
from backend.audit import audit_books
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.clock import local_date
from backend.kernel.errors import Text
from backend.kernel.ids import ActionId, CitizenId
from backend.kernel.units import Unit
from backend.ledger.model import QUANTIFIED, citizen_owner, credit_asset, pool_owner
from backend.market.pooling.model import Adjustment, AdjustmentReason, BatchStage, Benefit
from backend.market.pooling.store import PoolingReads
from backend.market.pooling.verifying import Report
from backend.mongo.transactions import Transactions
from backend.rules.drafts import Subject
from backend.rules.model import Category, EvidenceTier
from tests.conftest import dump
from tests.factories import ADMIN, citizen
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import TRAM, TRAM_RULE, begin, published

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence
    from datetime import date

    from backend.actions.model import Action
    from backend.kernel.clock import ManualClock
    from backend.kernel.errors import DomainError
    from backend.market.pooling.doors import Pooling
    from backend.market.pooling.model import Batch, BatchCode, Contribution, PooledAct
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

ANN = Principal(PrincipalKind.STAFF, "ann", frozenset({StaffRole.ADMIN}))
BEN = Principal(PrincipalKind.STAFF, "ben", frozenset({StaffRole.ADMIN}))
VERA = Principal(PrincipalKind.STAFF, "vera", frozenset({StaffRole.VERIFIER}))
VICTOR = Principal(PrincipalKind.STAFF, "victor", frozenset({StaffRole.VERIFIER}))
# Who opens batches and verifies, were it allowed.
BOTH = Principal(PrincipalKind.STAFF, "both", frozenset({StaffRole.ADMIN, StaffRole.VERIFIER}))
PROJECT = Text("镇江公共交通 2026", "Zhenjiang transit 2026")
REPORT = Report(hash="ab" * 32, name="report.pdf", organisation="China Quality Certification", statement="核证通过")
# A tram ride's milligrams for a metre: a ride of ten kilometres is a hundred kilograms.
RATE_MG = 10_000
KG = 100


@dataclass
class Floor:
    """A programme whose tram rides weigh much, and people who take part."""

    services: Services
    clock: ManualClock
    keys: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def pooling(self) -> Pooling:
        """The doors under test."""
        return self.services.market.pooling

    @property
    def today(self) -> date:
        """The programme's local day."""
        return local_date(self.clock.now(), self.services.programme.zone)

    @property
    def days(self) -> tuple[date, date]:
        """Days of one year that are over, yesterday the last of them."""
        yesterday = self.today - timedelta(days=1)
        return max(yesterday - timedelta(days=4), yesterday.replace(month=1, day=1)), self.today

    def key(self) -> str:
        """A key that nobody used."""
        return f"floor-{next(self.keys):06}"

    async def open(self, *names: str) -> Floor:
        """Publish kind and rule, and let these citizens agree to everything."""
        await self.services.identity.register_citizens({CitizenId(name): name for name in names})
        if "tram" not in (await self.services.rules.book()).kinds:
            wording = {**TRAM, "claims": [["trip_id"]]}
            kind = await begin(self.services, wording, Subject.KIND, key=self.key())
            await published(self.services, kind, valid_from=None)
            formula = {"family": "PER_QUANTITY", "rate": f"{RATE_MG}/1"}
            wording = {**TRAM_RULE, "formula": formula, "minimum": 1, "maximum": 100_000}
            rule = await begin(self.services, wording, key=self.key())
            await published(self.services, rule, valid_from=self.clock.now() - timedelta(days=10))
        for name in names:
            await self.agree(name)
        return self

    async def agree(
        self, name: str, scenarios: Sequence[Category] | None = None, benefit: Benefit = Benefit.FEN
    ) -> None:
        """Let a citizen authorise pooling."""
        await self.pooling.consents.authorise(citizen(name), scenarios, benefit, key=self.key())

    def moment(self, minute: int = 0) -> datetime:
        """So many minutes after yesterday's local noon."""
        yesterday = self.today - timedelta(days=1)
        noon = datetime.combine(yesterday, time(12), self.services.programme.zone)
        return noon.astimezone(UTC) + timedelta(minutes=minute)

    async def ride(self, name: str, kg: int = 100, minute: int = 0, **changes: Any) -> Action:
        """A settled ride of so many kilograms that the operator recorded."""
        given: dict[str, Any] = {
            "kind": "tram",
            "quantity": kg * KG,
            "unit": Unit.METRE,
            "occurred_at": self.moment(minute),
            "source": "tram",
            "ref": f"tram-{next(self.keys)}",
            "citizen": CitizenId(name),
            "tier": EvidenceTier.OPERATOR,
        }
        action = await self.services.actions.record(ADMIN, ActionRequest(**{**given, **changes}), key=self.key())
        await self.services.settling.settle(ALL_SHARDS)
        settled = await self.act(action.id)
        assert settled.status is Status.CREDITED, settled
        return settled

    async def rides(self, name: str, *kgs: int, first: int = 0) -> list[Action]:
        """Several rides, an hour after one another."""
        return [await self.ride(name, kg, 60 * (first + place)) for place, kg in enumerate(kgs)]

    async def tonne(self) -> tuple[Batch, dict[str, list[Action]]]:
        """A gathered batch of 1,350 kilograms: 800 of alice's, 300 of bob's, 250 of carol's; and their acts."""
        acts = {
            "alice": await self.rides("alice", 600, 200),
            "bob": await self.rides("bob", 4, 296),
            "carol": await self.rides("carol", 250),
        }
        return await self.gathered(), acts

    async def act(self, action: ActionId) -> Action:
        """The act as it stands."""
        return (await self.services.actions.find_actions([action]))[action]

    async def acts(self, contribution: Contribution) -> list[PooledAct]:
        """The acts of a contribution."""
        reads = PoolingReads(self.services.database)
        return (await reads.list_acts_of([contribution]))[contribution.citizen]

    async def reverse(self, action: Action) -> None:
        """Let better evidence of the act be found: what it earned is taken back."""
        book, now = await self.services.rules.book(), self.clock.now()

        async def body(tx: Tx) -> None:
            await self.services.reviewing._reverse(tx, action, ActionId("act_better"), book, now)

        await Transactions(self.services.database).run(body)

    async def begun(self, opener: Principal = ANN, **changes: Any) -> Batch:
        """A batch that is to be gathered."""
        since, until = self.days
        given = {
            "scenario": Category.TRANSIT,
            "profile": self.services.rules.profile,
            "since": since,
            "until": until,
            "project": PROJECT,
            "key": self.key(),
        }
        return await self.pooling.batches.open(opener, **{**given, **changes})

    async def gathered(self, opener: Principal = ANN, **changes: Any) -> Batch:
        """A batch that holds what citizens gave."""
        batch = await self.begun(opener, **changes)
        await self.pooling.batches.work_off()
        return await self.get(batch.code)

    async def sampled(self, code: BatchCode) -> Batch:
        """The gathered batch with a sample of two acts."""
        return await self.pooling.verifying.draw_sample(VERA, code, 2, key=self.key())

    async def verified(self, code: BatchCode, *adjustments: Adjustment) -> Batch:
        """The batch with a verdict, on a sample."""
        await self.sampled(code)
        return await self.pooling.verifying.verify(VERA, code, REPORT, adjustments, key=self.key())

    async def issued(self, code: BatchCode) -> Batch:
        """The verified batch when it is issued."""
        await self.pooling.batches.issue(BEN, code, key=self.key())
        await self.pooling.batches.work_off()
        batch = await self.get(code)
        assert batch.stage is BatchStage.ISSUED
        return batch

    async def get(self, code: str) -> Batch:
        """The batch as it stands."""
        found = await self.pooling.batches.find(ANN, code)
        assert found is not None
        return found

    async def contributions(self, name: str) -> list[Contribution]:
        """What the citizen gave, newest first."""
        stakes = await self.pooling.batches.list_contributions(
            CitizenId(name), limit=100, older=None, newer=None, newest=True
        )
        return [stake.contribution for stake in stakes]

    async def quantified(self, *names: str) -> list[int]:
        """Milligrams on these citizens' pages."""
        owners = [citizen_owner(CitizenId(name)) for name in names]
        pages = await self.services.ledger.find_pages(owners)
        return [pages[owner].balance(QUANTIFIED) for owner in owners]

    async def pool(self, code: BatchCode) -> tuple[int, int]:
        """Quantified milligrams and credits (milligrams) on the batch's page."""
        page = await self.services.ledger.get_page(pool_owner(code))
        return page.balance(QUANTIFIED), page.balance(credit_asset(code))

    async def audit(self) -> list[str]:
        """What the audit of everything finds."""
        return (await audit_books(self.services)).findings

    async def credits(self, code: BatchCode, *names: str) -> list[int]:
        """Grams of credits that these citizens have of the batch."""
        owners = [citizen_owner(CitizenId(name)) for name in names]
        pages = await self.services.ledger.find_pages(owners)
        return [pages[owner].balance(credit_asset(code)) // 1_000 for owner in owners]

    async def refused(self, asked: Awaitable[Any], error: type[DomainError]) -> DomainError:
        """Why it was refused; nothing changed."""
        before = await dump(self.services)
        with pytest.raises(error) as caught:
            await asked
        assert type(caught.value) is error
        assert await dump(self.services) == before
        return caught.value


def off(action: ActionId, note: str = "记录重复") -> Adjustment:
    """One act taken off."""
    return Adjustment(action=action, bps=None, reason=AdjustmentReason.DUPLICATE_CLAIM, note=note)


def share_off(bps: int) -> Adjustment:
    """A share of everything taken off."""
    return Adjustment(action=None, bps=bps, reason=AdjustmentReason.UNCERTAINTY, note="不确定性")
