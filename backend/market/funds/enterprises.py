"""The door to enterprises: registered by one administrator, let in by another, suspended and resumed with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity.model import PrincipalKind
from backend.identity.rule_desk import require_staff
from backend.identity.rules import require_idempotency_key, require_note
from backend.kernel.errors import IdempotencyConflictError, Refusal, Text
from backend.kernel.ids import derived_id
from backend.ledger.model import OwnerId, enterprise_owner
from backend.market.funds import rules
from backend.market.funds.acting import ADMINISTRATORS, ANY_STAFF, require_other, use_of
from backend.market.funds.errors import EnterpriseRegisteredError, EnterpriseStageError, UnknownEnterpriseError
from backend.market.funds.model import Enterprise, EnterpriseId, EnterpriseStage, EnterpriseStep, StepTaken
from backend.market.funds.store import FundReads, FundWrites

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.market.funds.model import EnterpriseApplication
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx

MANAGING = Text("企业管理", "managing enterprises")
READING = Text("企业资料", "enterprises' data")
FIRM = enterprise_owner("")
# Of these, who decides must not be who registered it.
DECIDING = frozenset({EnterpriseStep.APPROVE, EnterpriseStep.REJECT})


class Enterprises:
    """Enterprises of one programme.

    Every method that changes something is for administrators and raises, beside what it names:
        ForbiddenError: the principal is none.
        InvalidInputError, IdempotencyConflictError: a field, or the key.
        BusyError, UnavailableError: see ``Transactions.run``.
    """

    def __init__(self, *, database: Database, transactions: Transactions, clock: Clock) -> None:
        self._reads = FundReads(database)
        self._transactions = transactions
        self._clock = clock

    async def register(self, principal: Principal, application: EnterpriseApplication, *, key: str) -> Enterprise:
        """Propose an enterprise, which another administrator lets in.

        Raises:
            EnterpriseRegisteredError: one that was not rejected has the credit code.
        """
        require_idempotency_key(key)
        require_staff(principal, ADMINISTRATORS, MANAGING)
        given = rules.require_application(application)
        now, actor = self._clock.now(), str(principal)
        use = use_of(principal, "registerEnterprise", key, given.name, given.credit_code, given.contact, given.purpose)
        enterprise = Enterprise(
            # The id follows from the key: repeated after the key is forgotten, the request meets its own enterprise.
            id=EnterpriseId(derived_id("ent", actor, key)),
            name=given.name,
            credit_code=given.credit_code,
            contact=given.contact,
            purpose=given.purpose,
            stage=EnterpriseStage.PROPOSED,
            steps=(StepTaken(now, actor, EnterpriseStep.REGISTER, None),),
        )

        async def body(tx: Tx) -> Enterprise:
            writes = FundWrites(tx)
            taken = await writes.claimed_at(use)
            known = await writes.find_enterprise(enterprise.id)
            if known is not None:
                if taken is None and known.credit_code != given.credit_code:
                    raise IdempotencyConflictError(key)
                return known
            if await writes.is_code_held(given.credit_code):
                raise EnterpriseRegisteredError(given.credit_code)
            await writes.insert_enterprise(enterprise)
            await writes.claim(use, now)
            return enterprise

        return await self._transactions.run(body)

    async def take(
        self, principal: Principal, enterprise: str, step: EnterpriseStep, reason: str | None, *, key: str
    ) -> Enterprise:
        """Let an enterprise in, or reject, suspend or resume it; all but letting in need a reason (1–500 characters).

        Raises:
            UnknownEnterpriseError, EnterpriseStageError: in this order.
            OwnProposalError: whoever registered it lets it in or rejects it.
        """
        require_idempotency_key(key)
        require_staff(principal, ADMINISTRATORS, MANAGING)
        if step is not EnterpriseStep.APPROVE:
            require_note("reason", reason or "", limit=rules.MAX_REASON)
        now = self._clock.now()
        use = use_of(principal, f"enterprise.{step.value}", key, enterprise, reason)

        async def body(tx: Tx) -> Enterprise:
            writes = FundWrites(tx)
            before = await writes.find_enterprise(enterprise)
            if before is None:
                raise UnknownEnterpriseError(enterprise)
            if await writes.claimed_at(use) is not None:
                return before
            after = rules.stepped(before, StepTaken(now, str(principal), step, reason))
            if step in DECIDING:
                require_other(principal, before.proposed_by)
            await writes.save_enterprise(before, after)
            await writes.claim(use, now)
            return after

        return await self._transactions.run(body)

    async def find_own(self, principal: Principal) -> Enterprise | None:
        """The enterprise that the principal is; None where it was never registered."""
        if principal.kind is not PrincipalKind.ENTERPRISE:
            return None
        return (await self._reads.find_enterprises([EnterpriseId(principal.id)])).get(EnterpriseId(principal.id))

    async def find_enterprises(self, ids: Iterable[EnterpriseId]) -> dict[EnterpriseId, Enterprise]:
        """Those of the enterprises that exist, for whoever asks within the programme."""
        return await self._reads.find_enterprises(ids)

    async def find_barred(self, owners: Iterable[OwnerId]) -> dict[OwnerId, Refusal]:
        """Those of the owners that are enterprises not, or no longer, let in, and how that is refused."""
        ids = [EnterpriseId(owner.removeprefix(FIRM)) for owner in owners if owner.startswith(FIRM)]
        found = await self._reads.find_enterprises(ids) if ids else {}
        return {
            enterprise_owner(one.id): EnterpriseStageError(one.id, one.stage)
            for one in found.values()
            if one.stage is not EnterpriseStage.APPROVED
        }

    async def find_enterprise(self, principal: Principal, enterprise: EnterpriseId) -> Enterprise | None:
        """The enterprise in any stage, for staff.

        Raises:
            ForbiddenError: the principal is not staff.
        """
        require_staff(principal, ANY_STAFF, READING)
        return (await self._reads.find_enterprises([enterprise])).get(enterprise)

    async def list_enterprises(
        self,
        principal: Principal,
        stage: EnterpriseStage | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Enterprise]:
        """Enterprises in that stage or in any, by registration, newest first; for staff.

        Raises:
            ForbiddenError: the principal is not staff.
        """
        require_staff(principal, ANY_STAFF, READING)
        return await self._reads.list_enterprises(stage, limit=limit, older=older, newer=newer, newest=newest)


async def require_approved(writes: FundWrites, enterprise: str) -> None:
    """Refuse money for or from an enterprise that is not let in.

    Raises:
        UnknownEnterpriseError, EnterpriseStageError: there is none, or it is not approved.
    """
    found = await writes.find_enterprise(enterprise)
    if found is None:
        raise UnknownEnterpriseError(enterprise)
    if found.stage is not EnterpriseStage.APPROVED:
        raise EnterpriseStageError(enterprise, found.stage)
