"""Makes statements of periods that are over: one MongoDB transaction a merchant and period.

That transaction inserts the statement and moves the merchant's account on, on the condition that nobody touched the
account since it was read: two workers make each statement once, one that dies leaves nothing behind, and what is
compared with the book was not approved or paid meanwhile.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Protocol

import structlog

from backend.kernel.ids import derived_id
from backend.rewards.merchants.cycles import period_end
from backend.rewards.settlement.model import (
    NO_DIFFERENCE,
    Account,
    Statement,
    StatementKind,
    StatementStage,
    Sums,
)
from backend.rewards.settlement.rules import REST
from backend.rewards.settlement.store import SettlementWrites
from backend.rewards.webhooks.events import Event, EventType, event_item

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.kernel.ids import TransactionId
    from backend.mongo.transactions import Transactions, Tx
    from backend.outbox.relay import Item, Relay
    from backend.rewards.merchants.model import Desk, Merchant, MerchantId
    from backend.rewards.settlement.lines import Lines
    from backend.rewards.settlement.model import Adjustment, Totals
    from backend.rewards.settlement.rules import Tally
    from backend.rewards.settlement.store import SettlementReads

LOG = structlog.get_logger(__name__)
PAGE = 200
AT_ONCE = 4


class MerchantDesks(Protocol):
    """What settlement asks of the merchants' door."""

    async def find_merchants(self, ids: Sequence[MerchantId]) -> Mapping[MerchantId, Merchant]:
        """Those of the merchants that exist."""
        ...

    async def owner_desk(self, principal: Principal) -> Desk:
        """The desk of a merchant's owner; ForbiddenError for anybody else."""
        ...


class Closing:
    """The making of statements, and their comparison with book and vouchers."""

    def __init__(
        self,
        *,
        reads: SettlementReads,
        lines: Lines,
        transactions: Transactions,
        merchants: MerchantDesks,
        relay: Relay,
        clock: Clock,
        zone: ZoneInfo,
    ) -> None:
        self._reads = reads
        self._lines = lines
        self._transactions = transactions
        self._merchants = merchants
        self._relay = relay
        self._clock = clock
        self._zone = zone

    async def close_due(self) -> int:
        """Make the statements of all periods that ended fifteen minutes ago or more; how many were made.

        What one merchant's books meet does not hold up the others'; the first such error is raised at the end.
        """
        made = 0
        errors: list[BaseException] = []
        places = asyncio.Semaphore(AT_ONCE)

        async def close(merchant: Merchant, account: Account | None) -> int:
            async with places:
                return await self._close(merchant, account)

        after: MerchantId | None = None
        while ids := await self._reads.list_merchants(after, limit=PAGE):
            merchants = await self._merchants.find_merchants(ids)
            accounts = await self._reads.find_accounts(ids)
            calls = (close(merchant, accounts.get(merchant.id)) for merchant in merchants.values())
            for merchant, outcome in zip(merchants, await asyncio.gather(*calls, return_exceptions=True), strict=True):
                if isinstance(outcome, BaseException):
                    LOG.error("merchant not settled", merchant=merchant, error=repr(outcome))
                    errors.append(outcome)
                else:
                    made += outcome
            after = ids[-1]
        errors += await self._compare_again()
        if errors:
            raise errors[0]
        return made

    async def _close(self, merchant: Merchant, account: Account | None) -> int:
        """Make the merchant's statements up to now, one period after the other."""
        made = 0
        while True:
            span = self._span(merchant, account)
            if span is None or span[1] + REST > self._clock.now():
                return made
            made += await self._close_period(merchant, account, *span)
            account = (await self._reads.find_accounts([merchant.id])).get(merchant.id)

    def _span(self, merchant: Merchant, account: Account | None) -> tuple[datetime, datetime] | None:
        """The first period not settled yet: by the cycle of the contract in force as it begins."""
        if not merchant.contracts:
            return None
        since = account.settled_until if account else merchant.contracts[0].valid_from
        contract = merchant.contract_at(since) or merchant.contracts[0]
        return since, period_end(contract.cycle, since, self._zone)

    async def _close_period(self, merchant: Merchant, before: Account | None, since: datetime, until: datetime) -> bool:
        """Settle one period; whether a statement was made: none where nothing happened, what is owed is carried on."""
        now = self._clock.now()
        account = before or Account(merchant.id, since)
        tally, _, ids = await self._lines.tally(merchant.id, since, until)
        history = await self._reads.list_history(merchant.id)
        statement = await self.compared(draft(account, tally, until=until, now=now), history)
        if not statement.lines and statement.difference.is_nothing:
            await self._commit(before, dataclasses.replace(account, settled_until=until), None, ids)
            return False
        after = dataclasses.replace(following(account, statement), settled_until=until)
        return await self._commit(before, after, statement, ids)

    async def compared(self, statement: Statement, history: list[Statement]) -> Statement:
        """The statement as it stands beside book and vouchers: ready, or unreconciled and by how much."""
        difference = await self._lines.compare(statement, history)
        stage = StatementStage.READY if difference.is_nothing else StatementStage.UNRECONCILED
        return dataclasses.replace(statement, difference=difference, stage=stage)

    async def _commit(
        self, before: Account | None, after: Account, statement: Statement | None, ids: Sequence[TransactionId]
    ) -> bool:
        """Write statement and account unless the account was touched since it was read; whether it was written."""
        now = self._clock.now()
        after = dataclasses.replace(after, version=(before.version if before else 0) + 1)
        item = ready_item(statement, now) if statement else None

        async def body(tx: Tx) -> bool:
            writes = SettlementWrites(tx)
            if await writes.find_account(after.merchant) != before:
                return False
            if statement is not None:
                await writes.insert(statement, ids)
            if item is not None:
                await writes.write_item(item, now)
            await writes.put_account(before, after)
            return True

        written = await self._transactions.run(body)
        if written and item is not None:
            await self._relay.send(item)
        return written

    async def _compare_again(self) -> list[BaseException]:
        """Look again at what was not reconciled: it is ready once book and vouchers agree; errors met on the way."""
        errors: list[BaseException] = []
        for statement in await self._reads.list_unreconciled(limit=PAGE):
            try:
                account = (await self._reads.find_accounts([statement.merchant]))[statement.merchant]
                again = await self.compared(statement, await self._reads.list_history(statement.merchant))
                if again != statement:
                    await self._replace(account, statement, again)
            except Exception as error:
                LOG.exception("statement not compared", statement=statement.id)
                errors.append(error)
        return errors

    async def _replace(self, account: Account, before: Statement, after: Statement) -> None:
        now = self._clock.now()
        item = ready_item(after, now)

        async def body(tx: Tx) -> bool:
            writes = SettlementWrites(tx)
            if await writes.find_account(account.merchant) != account or await writes.find(before.id) != before:
                return False
            await writes.change(before, after)
            if item is not None:
                await writes.write_item(item, now)
            await writes.put_account(account, dataclasses.replace(account, version=account.version + 1))
            return True

        if await self._transactions.run(body) and item is not None:
            await self._relay.send(item)


def draft(account: Account, tally: Tally, *, until: datetime, now: datetime) -> Statement:
    """The merchant's next statement, of what has happened since the last, not compared with anything yet."""
    statement = Statement(
        merchant=account.merchant,
        number=account.number + 1,
        kind=StatementKind.REGULAR,
        since=account.settled_until,
        until=until,
        corrects=None,
        totals=tally.totals(),
        adjustment_fen=0,
        reason=None,
        brought_forward_fen=account.carried_fen,
        lines=tally.count,
        checksum="",
        stage=StatementStage.UNRECONCILED,
        difference=NO_DIFFERENCE,
        made_at=now,
        made_by=None,
    )
    return dataclasses.replace(statement, checksum=tally.checksum(statement))


def draft_correction(
    account: Account, corrected: Statement, totals: Totals, late: Tally, *, asked: Adjustment, now: datetime
) -> Statement:
    """A correction by what the book has of the period beyond what was known, and by the adjustment asked for.

    ``late`` are the lines that no statement of the period lists.
    """
    statement = Statement(
        merchant=account.merchant,
        number=account.number + 1,
        kind=StatementKind.CORRECTION,
        since=corrected.since,
        until=corrected.until,
        corrects=corrected.id,
        totals=totals,
        adjustment_fen=asked.fen,
        reason=asked.reason,
        brought_forward_fen=account.carried_fen,
        lines=late.count,
        checksum="",
        stage=StatementStage.UNRECONCILED,
        difference=NO_DIFFERENCE,
        made_at=now,
        made_by=asked.by,
    )
    return dataclasses.replace(statement, checksum=late.checksum(statement))


def explaining(correction: Statement, late: Tally) -> Statement:
    """The correction, accounting for what the vouchers know beyond the book; what the book has is never explained."""
    difference = correction.difference
    left = dataclasses.replace(difference, captures=Sums(), refunds=Sums())
    explained = dataclasses.replace(
        correction,
        explained=dataclasses.replace(difference, points=0, fen=0),
        difference=left,
        stage=StatementStage.READY if left.is_nothing else StatementStage.UNRECONCILED,
    )
    return dataclasses.replace(explained, checksum=late.checksum(explained))


def following(account: Account, statement: Statement) -> Account:
    """The account after the statement."""
    return dataclasses.replace(account, number=statement.number, carried_fen=statement.carried_forward_fen)


def ready_item(statement: Statement, now: datetime) -> Item | None:
    """What tells the merchant's systems of a statement that is ready; nothing while it is not."""
    if statement.stage is not StatementStage.READY:
        return None
    event = Event(
        id=derived_id("evt", "settlement.ready", statement.id),
        type=EventType.SETTLEMENT_READY,
        merchant=statement.merchant,
        at=now,
        data={
            "statement": statement.id,
            "number": statement.number,
            "kind": statement.kind.value,
            "since": statement.since.isoformat(),
            "until": statement.until.isoformat(),
            "net_fen": statement.net_fen,
            "payable_fen": statement.payable_fen,
            "checksum": statement.checksum,
        },
    )
    return event_item([event], now)
