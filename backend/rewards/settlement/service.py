"""The only door to settlement: statements are made by the clock, approved, paid, corrected, read and listed.

Amounts enter the book with the approval, in the same MongoDB transaction; paying takes them out again. Whoever approves
does not pay, and nobody approves a correction of their own. Every change takes its idempotency key with its effect.
"""

from __future__ import annotations

import dataclasses
from contextlib import aclosing
from typing import TYPE_CHECKING

from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind
from backend.identity.rules import require_idempotency_key, require_note
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import BusyError, InvalidInputError, Text
from backend.mongo.idempotency import Use
from backend.rewards.merchants.errors import OwnApprovalError
from backend.rewards.settlement.closing import Closing, draft_correction, explaining, following, ready_item
from backend.rewards.settlement.errors import (
    EarlierUnpaidError,
    NotReconciledError,
    UnknownStatementError,
    WrongStatementStageError,
)
from backend.rewards.settlement.lines import DetailedLines, Lines
from backend.rewards.settlement.model import Adjustment, StatementStage
from backend.rewards.settlement.rules import known_of_period, payout, same_period, settling
from backend.rewards.settlement.store import SettlementReads, SettlementWrites

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.ledger.model import Transaction
    from backend.ledger.service import Ledger
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx
    from backend.outbox.relay import Relay
    from backend.rewards.merchants.model import Merchant, MerchantId, ShopId
    from backend.rewards.settlement.closing import MerchantDesks
    from backend.rewards.settlement.lines import LinePlace
    from backend.rewards.settlement.model import DetailedLine, Statement, StatementId

MAX_REASON = 200
MAX_REFERENCE = 64
MAX_ADJUSTMENT_FEN = 10**12
TRIES = 5


class Settlement:
    """Statements of one programme's merchants."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        merchants: MerchantDesks,
        relay: Relay,
        clock: Clock,
        zone: ZoneInfo,
    ) -> None:
        self.zone = zone
        self._reads = SettlementReads(database)
        self._lines = Lines(ledger, self._reads)
        self._details = DetailedLines(self._lines, self._reads)
        self._transactions = transactions
        self._ledger = ledger
        self._merchants = merchants
        self._relay = relay
        self._clock = clock
        self._closing = Closing(
            reads=self._reads,
            lines=self._lines,
            transactions=transactions,
            merchants=merchants,
            relay=relay,
            clock=clock,
            zone=zone,
        )

    async def close_due(self) -> int:
        """Make the statements of all periods that ended fifteen minutes ago or more; how many were made.

        May be called at any time, by any number of workers, and again after a crash: each statement is made once.
        """
        return await self._closing.close_due()

    async def approve(self, principal: Principal, statement: StatementId, *, key: str) -> Statement:
        """Approve a statement: what it is about is settled in the book, and what is payable becomes owed.

        Raises:
            ForbiddenError: not an administrator.
            UnknownStatementError, NotReconciledError, WrongStatementStageError: in this order.
            OwnApprovalError: the caller made that correction.
            InvalidInputError, IdempotencyConflictError: the key.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        _require_admin(principal, key)
        use = _use(principal, "approveStatement", key, statement)
        for _ in range(TRIES):
            stands = await self._approve(principal, statement, use)
            if stands is not None and stands.stage is StatementStage.UNRECONCILED:
                raise _not_reconciled(stands)
            if stands is not None:
                return await self._get(statement)
        raise BusyError

    async def _approve(self, principal: Principal, statement: StatementId, use: Use) -> Statement | None:
        """Try once, on what book and vouchers say now; None where somebody else touched the account meanwhile."""
        now = self._clock.now()
        merchant = (await self._get(statement)).merchant
        account = (await self._reads.find_accounts([merchant]))[merchant]
        history = await self._reads.list_history(merchant)
        found = next(one for one in history if one.id == statement)
        again = await self._closing.compared(found, history)

        async def body(tx: Tx) -> Statement | None:
            writes = SettlementWrites(tx)
            if await writes.claimed_at(use) is not None:
                return await writes.find(statement)
            if await writes.find_account(merchant) != account:
                return None
            _require_stage(found, StatementStage.READY)
            # Who makes a correction, or explains away what vouchers say, asks another to approve it.
            if str(principal) in {one.made_by for one in same_period(history, found) if one is found or one.explains}:
                raise OwnApprovalError
            after = again
            if again.stage is StatementStage.READY:
                await self._post(tx, settling(found), now)
                after = dataclasses.replace(
                    found, stage=StatementStage.APPROVED, approved_at=now, approved_by=str(principal)
                )
                await writes.claim(use, now)
            await _change(writes, found, after)
            return after

        return await self._transactions.run(body)

    async def pay(self, principal: Principal, statement: StatementId, bank_reference: str, *, key: str) -> Statement:
        """Note that what is payable was paid by that transfer; statements are paid in the order of their numbers.

        Raises:
            ForbiddenError: not an administrator.
            UnknownStatementError, NotReconciledError, WrongStatementStageError: in this order.
            OwnApprovalError: the caller approved it.
            EarlierUnpaidError: an earlier statement of the merchant waits.
            InvalidInputError: the key, or the reference (1–64 characters).
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        _require_admin(principal, key)
        require_note("bankReference", bank_reference, limit=MAX_REFERENCE)

        async def effect(tx: Tx, now: datetime) -> None:
            writes = SettlementWrites(tx)
            found = await writes.find(statement)
            if found is None:
                raise UnknownStatementError
            _require_stage(found, StatementStage.APPROVED)
            if found.approved_by == str(principal):
                raise OwnApprovalError
            waiting = await writes.find_unpaid_before(found)
            if waiting is not None:
                raise EarlierUnpaidError(waiting)
            await self._post(tx, payout(found), now)
            paid = dataclasses.replace(
                found,
                stage=StatementStage.PAID,
                paid_at=now,
                paid_by=str(principal),
                bank_reference=bank_reference,
            )
            await _change(writes, found, paid)

        await self._once(_use(principal, "payStatement", key, statement, bank_reference), effect)
        return await self._get(statement)

    async def correct(
        self, principal: Principal, statement: StatementId, adjustment_fen: int, reason: str, *, key: str
    ) -> Statement:
        """Make a statement that corrects another: what the book has of its period beyond it, and an adjustment.

        It has a number of its own, and is approved and paid like any other. Where the other is not reconciled, it
        accounts for what the vouchers know beyond the book, and the other goes on as soon as it is compared again.

        Raises:
            ForbiddenError: not an administrator.
            UnknownStatementError: no such statement.
            NotReconciledError: it is not, and the book has what no line of its period accounts for.
            InvalidInputError: the key, the reason (1–200 characters), the adjustment (±10^12), or nothing to correct.
            IdempotencyConflictError: the key was used otherwise.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        _require_admin(principal, key)
        require_note("reason", reason, limit=MAX_REASON)
        if abs(adjustment_fen) > MAX_ADJUSTMENT_FEN:
            raise InvalidInputError("adjustmentFen", Text(f"±{MAX_ADJUSTMENT_FEN}", f"±{MAX_ADJUSTMENT_FEN}"))
        use = _use(principal, "correctStatement", key, statement, str(adjustment_fen), reason)
        asked = Adjustment(adjustment_fen, reason, str(principal))
        # Approvals and payments of the merchant's other statements may come between; they are few.
        for _ in range(TRIES):
            made = await self._correct(statement, asked, use)
            if made is not None:
                return made
        raise BusyError

    async def _correct(self, statement: StatementId, asked: Adjustment, use: Use) -> Statement | None:
        """Try once; None where somebody else touched the merchant's account meanwhile."""
        now = self._clock.now()
        corrected = await self._get(statement)
        account = (await self._reads.find_accounts([corrected.merchant]))[corrected.merchant]
        history = await self._reads.list_history(corrected.merchant)
        listed = await self._reads.find_listed(corrected.merchant, corrected.until)
        whole, late, ids = await self._lines.tally(corrected.merchant, corrected.since, corrected.until, listed)
        totals = whole.totals().less(known_of_period(history, corrected))
        correction = await self._closing.compared(
            draft_correction(account, corrected, totals, late, asked=asked, now=now), history
        )
        is_stuck = corrected.stage is StatementStage.UNRECONCILED
        if is_stuck:
            correction = explaining(correction, late)
        item = ready_item(correction, now)

        async def body(tx: Tx) -> datetime | None:
            writes = SettlementWrites(tx)
            taken = await writes.claimed_at(use)
            if taken is not None:
                return taken
            if await writes.find_account(account.merchant) != account:
                return None
            if is_stuck and not correction.difference.is_nothing:
                raise _not_reconciled(correction)
            if correction.totals.is_nothing and not asked.fen and not correction.explains:
                raise InvalidInputError("adjustmentFen", Text("没有需要更正的内容", "there is nothing to correct"))
            await writes.insert(correction, ids)
            if item is not None:
                await writes.write_item(item, now)
            await writes.put_account(
                account, dataclasses.replace(following(account, correction), version=account.version + 1)
            )
            await writes.claim(use, now)
            return now

        made_at = await self._transactions.run(body)
        if made_at == now and item is not None:
            await self._relay.send(item)
        if made_at is None:
            return None
        return await self._made(statement, asked, made_at)

    async def _made(self, corrected: StatementId, asked: Adjustment, made_at: datetime) -> Statement | None:
        """The correction that was made then."""
        history = await self._reads.list_history((await self._get(corrected)).merchant)
        told = (corrected, asked, made_at)
        return next((other for other in history if (other.corrects, other.asked, other.made_at) == told), None)

    async def find(self, principal: Principal, statement: StatementId) -> Statement | None:
        """The statement, for staff and for the owner of its merchant; None for other owners.

        Raises:
            ForbiddenError: neither staff nor an owner.
        """
        merchant = await self._scope(principal)
        found = (await self._reads.find_many([statement])).get(statement)
        return found if found and merchant in (None, found.merchant) else None

    async def list_statements(
        self,
        principal: Principal,
        *,
        merchant: MerchantId | None = None,
        stage: StatementStage | None = None,
        limit: int,
        older: Place | None = None,
        newer: Place | None = None,
        newest: bool = True,
    ) -> list[Statement]:
        """Statements, newest first: for staff of all merchants or one, for an owner of their own merchant.

        Raises:
            ForbiddenError: neither staff nor an owner.
        """
        return await self._reads.list_page(
            merchant=await self._scope(principal) or merchant,
            stage=stage,
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )

    async def find_merchant(self, statement: Statement) -> Merchant:
        """The merchant of a statement.

        Raises:
            UnknownStatementError: there is no such merchant.
        """
        found = (await self._merchants.find_merchants([statement.merchant])).get(statement.merchant)
        if found is None:
            raise UnknownStatementError
        return found

    async def list_lines(
        self,
        statement: Statement,
        *,
        limit: int,
        after: LinePlace | None = None,
        before: LinePlace | None = None,
        last: bool = False,
    ) -> Sequence[DetailedLine]:
        """At most ``limit`` (≤ 200) lines strictly between two places out of the book, the first or the ``last``."""
        shops = await self._shops(statement)
        return await self._details.list_page(statement, shops, limit=limit, after=after, before=before, last=last)

    async def stream_lines(self, statement: Statement) -> AsyncGenerator[Sequence[DetailedLine], None]:
        """All lines of a statement, some hundreds at a time. Whoever stops half-way closes it."""
        async with aclosing(self._details.stream(statement, await self._shops(statement))) as batches:
            async for batch in batches:
                yield batch

    async def _shops(self, statement: Statement) -> Mapping[ShopId, Text]:
        merchant = await self.find_merchant(statement)
        return {shop.id: shop.name for shop in merchant.shops}

    async def _scope(self, principal: Principal) -> MerchantId | None:
        """The merchant whose statements the caller may see; None for staff, who see all."""
        if principal.kind is PrincipalKind.STAFF:
            return None
        return (await self._merchants.owner_desk(principal)).merchant.id

    async def _get(self, statement: StatementId) -> Statement:
        found = (await self._reads.find_many([statement])).get(statement)
        if found is None:
            raise UnknownStatementError
        return found

    async def _post(self, tx: Tx, transaction: Transaction, now: datetime) -> None:
        if transaction.postings:
            await self._ledger.post_within(tx, [transaction], at=now)

    async def _once(self, use: Use, effect: Callable[[Tx, datetime], Awaitable[None]]) -> None:
        """Let the key take its effect, once."""
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            writes = SettlementWrites(tx)
            if await writes.claimed_at(use) is None:
                await effect(tx, now)
                await writes.claim(use, now)

        await self._transactions.run(body)


def _require_admin(principal: Principal, key: str) -> None:
    if not principal.is_admin:
        raise ForbiddenError(Text("审批与支付结算单", "approving, paying and correcting statements"))
    require_idempotency_key(key)


def _use(principal: Principal, operation: str, key: str, *payload: str) -> Use:
    return Use(str(principal), operation, key, payload_hash(payload))


def _require_stage(statement: Statement, stage: StatementStage) -> None:
    if statement.stage is StatementStage.UNRECONCILED:
        raise _not_reconciled(statement)
    if statement.stage is not stage:
        raise WrongStatementStageError(statement.stage)


def _not_reconciled(statement: Statement) -> NotReconciledError:
    difference = statement.difference
    vouchers = difference.captures.less(difference.refunds)
    return NotReconciledError(difference.points, difference.fen, vouchers.points, vouchers.fen)


async def _change(writes: SettlementWrites, before: Statement, after: Statement) -> None:
    """Bring a statement into another stage, and note on the merchant's account that something was done."""
    account = await writes.find_account(before.merchant)
    assert account is not None, "a statement was made with its account"
    await writes.change(before, after)
    await writes.put_account(account, dataclasses.replace(account, version=account.version + 1))
