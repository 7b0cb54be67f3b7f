"""The door to deposits: finance staff record what came in by the bank, another of them approves, and it is in the book.

The line of the bank's statement is taken with the proposal, so that no line is recorded twice; stage and ledger
transaction commit together.
"""

from __future__ import annotations

import dataclasses
import secrets
from typing import TYPE_CHECKING

from backend.actions.errors import UnknownCitizenError
from backend.identity.rule_desk import require_staff
from backend.kernel.clock import local_date
from backend.kernel.errors import IdempotencyConflictError
from backend.kernel.ids import derived_id
from backend.market.funds import rules
from backend.market.funds.acting import (
    ANY_STAFF,
    RECORDING_MONEY,
    require_disinterested,
    require_finance,
    require_other,
    use_of,
)
from backend.market.funds.enterprises import require_approved
from backend.market.funds.errors import DepositStageError, DuplicateReferenceError, UnknownDepositError
from backend.market.funds.model import Deposit, DepositId, DepositStage, account_of_owner
from backend.market.funds.store import FundReads, FundWrites

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.ledger.service import Ledger
    from backend.market.funds.model import DepositOrder, FundAccount
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx


class Deposits:
    """Deposits of one programme.

    Every method that changes something is for finance staff and administrators and raises, beside what it names:
        ForbiddenError: the principal is neither.
        InvalidInputError, IdempotencyConflictError: a field, or the key.
        BusyError, UnavailableError: see ``Transactions.run``.
    """

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        identity: Identity,
        clock: Clock,
        zone: ZoneInfo,
    ) -> None:
        self._reads = FundReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._identity = identity
        self._clock = clock
        self._zone = zone

    async def propose(self, principal: Principal, order: DepositOrder, *, key: str) -> Deposit:
        """Record money that came in; it is in the book once another has approved it.

        Raises:
            UnknownCitizenError, OwnInterestError, UnknownEnterpriseError, EnterpriseStageError: the account, in this
                order; nobody records money of their own.
            DuplicateReferenceError: that line of the bank's statement was recorded already.
        """
        require_finance(principal, key)
        now, actor = self._clock.now(), str(principal)
        order = rules.require_deposit(order, local_date(now, self._zone))
        owner, entry = order.account.owner, order.entry
        use = use_of(principal, "depositFunds", key, owner, order.fen, *map(str, entry), order.note)
        deposit = Deposit(
            # The id follows from the key: repeated after the key is forgotten, the request meets its own deposit.
            id=DepositId(derived_id("dep", actor, key)),
            owner=owner,
            fen=order.fen,
            entry=entry,
            note=order.note,
            salt=secrets.token_hex(rules.SALT_BYTES),
            stage=DepositStage.PROPOSED,
            proposed_at=now,
            proposed_by=actor,
        )
        await self._require_citizen(order.account)
        require_disinterested(principal, owner)

        async def body(tx: Tx) -> Deposit:
            writes = FundWrites(tx)
            taken = await writes.claimed_at(use)
            known = await writes.find_deposit(deposit.id)
            if known is not None:
                if taken is None and (known.owner, known.fen, known.entry) != (owner, order.fen, entry):
                    raise IdempotencyConflictError(key)
                return known
            if order.account.enterprise is not None:
                await require_approved(writes, order.account.enterprise)
            if await writes.is_reference_used(entry.reference):
                raise DuplicateReferenceError(entry.reference)
            await writes.insert_deposit(deposit)
            await writes.use_reference(entry.reference, deposit.id)
            await writes.claim(use, now)
            return deposit

        return await self._transactions.run(body)

    async def approve(self, principal: Principal, deposit: str, *, key: str) -> Deposit:
        """Bring a deposit into the book.

        Raises:
            UnknownDepositError, DepositStageError: in this order.
            EnterpriseStageError: the enterprise was suspended meanwhile.
            OwnInterestError, OwnProposalError: it is the caller's own money; the caller proposed it.
        """
        return await self._decide(principal, deposit, DepositStage.APPROVED, None, key=key)

    async def reject(self, principal: Principal, deposit: str, reason: str, *, key: str) -> Deposit:
        """Turn a deposit down, and say why (1–500 characters); its line of the bank's statement is free again.

        Raises:
            UnknownDepositError, DepositStageError: in this order.
            OwnInterestError, OwnProposalError: it is the caller's own money; the caller proposed it.
        """
        return await self._decide(principal, deposit, DepositStage.REJECTED, reason, key=key)

    async def _decide(
        self, principal: Principal, deposit: str, stage: DepositStage, reason: str | None, *, key: str
    ) -> Deposit:
        require_finance(principal, key, reason=reason)
        now = self._clock.now()
        use = use_of(principal, f"deposit.{stage.value}", key, deposit, reason)

        async def body(tx: Tx) -> Deposit:
            writes = FundWrites(tx)
            before = await writes.find_deposit(deposit)
            if before is None:
                raise UnknownDepositError(deposit)
            if await writes.claimed_at(use) is not None:
                return before
            if before.stage is not DepositStage.PROPOSED:
                raise DepositStageError(before.id, before.stage)
            require_disinterested(principal, before.owner)
            require_other(principal, before.proposed_by)
            after = dataclasses.replace(before, stage=stage, decided_at=now, decided_by=str(principal), reason=reason)
            if stage is DepositStage.APPROVED:
                enterprise = account_of_owner(before.owner).enterprise
                if enterprise is not None:
                    await require_approved(writes, enterprise)
                await self._ledger.post_within(tx, [rules.depositing(after)], at=now)
            else:
                await writes.free_reference(before.entry.reference, before.id)
            await writes.save_deposit(before, after)
            await writes.claim(use, now)
            return after

        return await self._transactions.run(body)

    async def list_deposits(
        self,
        principal: Principal,
        stage: DepositStage | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Deposit]:
        """Deposits in that stage or in any, newest first; for staff.

        Raises:
            ForbiddenError: the principal is not staff.
        """
        require_staff(principal, ANY_STAFF, RECORDING_MONEY)
        return await self._reads.list_deposits(stage, limit=limit, older=older, newer=newer, newest=newest)

    async def _require_citizen(self, account: FundAccount) -> None:
        citizen = account.citizen
        if citizen is not None and not await self._identity.find_citizens([citizen]):
            raise UnknownCitizenError(citizen)
