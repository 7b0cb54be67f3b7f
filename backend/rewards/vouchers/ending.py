"""Vouchers that end unused, in whole or for what is left: cancelled by their citizen, or over."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from backend.kernel.errors import UnavailableError
from backend.kernel.ids import new_id
from backend.ledger.expiry import lapse
from backend.ledger.model import HoldRef, Transaction, TransactionKind, citizen_owner
from backend.rewards.stock.store import PotWrites
from backend.rewards.vouchers.changing import Change
from backend.rewards.vouchers.errors import VoucherExpiredError
from backend.rewards.vouchers.model import OPEN, VoucherStatus
from backend.rewards.vouchers.store import VoucherReads, VoucherWrites
from backend.rewards.vouchers.telling import wrong_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.kernel.clock import Clock
    from backend.ledger.service import Ledger
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.rewards.vouchers.changing import Changing
    from backend.rewards.vouchers.model import Voucher

LOG = structlog.get_logger(__name__)
BATCH = 50
MAX_BATCHES = 200


def cancelling(voucher: Voucher, now: datetime, zone: ZoneInfo) -> Change:
    """Give up what is not handed over yet.

    Raises:
        WrongVoucherStatusError, VoucherExpiredError: nothing is held any more.
    """
    if voucher.has_lapsed(now):
        raise VoucherExpiredError
    if voucher.status not in OPEN:
        raise wrong_status(voucher, now, zone)
    void = Transaction(
        key=f"cancel:{voucher.id}",
        kind=TransactionKind.VOID,
        cause={"voucher": voucher.id, "offer": voucher.offer},
        hold=HoldRef(citizen_owner(voucher.citizen), voucher.hold),
    )
    after = ended(voucher, VoucherStatus.CANCELLED)
    return Change(lambda _: after, (void,), returned=returned([voucher]))


def ended(voucher: Voucher, unused: VoucherStatus) -> Voucher:
    """The voucher when nothing is held any more."""
    return dataclasses.replace(voucher, status=voucher.ended(unused), version=voucher.version + 1)


def returned(ending: Iterable[Voucher]) -> Mapping[str, int]:
    """Units that go back to their pots when these end: those of vouchers of which nothing was handed over."""
    units: Counter[str] = Counter()
    for voucher in ending:
        if voucher.status is VoucherStatus.HELD:
            for use in voucher.pots:
                units[use.pot] += use.units
    return units


class Ending:
    """Ends vouchers whose time is over; their points return to the lots they came from.

    Repeatable and resumable at any instant: a voucher dealt with is no longer open.
    """

    def __init__(
        self, database: Database, transactions: Transactions, ledger: Ledger, clock: Clock, changing: Changing
    ) -> None:
        self._reads = VoucherReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._clock = clock
        self._changing = changing

    async def end_due(self) -> int:
        """End all that is over; returns how many there were.

        Raises:
            UnavailableError: MongoDB does not answer; what was done stays done.
        """
        count, stuck = 0, 0
        for _ in range(MAX_BATCHES):
            over = (await self._reads.list_over(self._clock.now(), limit=BATCH + stuck))[stuck:]
            stuck += await self._end(over)
            count += len(over)
            if len(over) < BATCH:
                break
        return count

    async def _end(self, vouchers: Sequence[Voucher]) -> int:
        """End these in one transaction, or in halves; how many cannot be ended."""
        if not vouchers:
            return 0
        now = self._clock.now()
        unsealed = new_id("uns", now)
        ids = [voucher.id for voucher in vouchers]

        async def body(tx: Tx) -> list[Voucher]:
            writes = VoucherWrites(tx)
            found = (await writes.find_many(ids)).values()
            before = [voucher for voucher in found if voucher.status in OPEN and voucher.expires_at <= now]
            # The book may have ended the hold by itself already: the same transaction, so passed over.
            lapses = [lapse(citizen_owner(voucher.citizen), voucher.hold) for voucher in before]
            sheet = await self._ledger.open_within(tx, lapses)
            for transaction in lapses:
                await sheet.post(transaction, now)
            after = [ended(voucher, VoucherStatus.EXPIRED) for voucher in before]
            await writes.change(before, after)
            await sheet.write(unsealed, now)
            await PotWrites(tx).give_back(returned(before))
            return after

        try:
            after = await self._transactions.run(body)
        except UnavailableError:
            raise
        except Exception as error:
            if len(vouchers) == 1:
                LOG.exception("a voucher that is over cannot be ended", voucher=vouchers[0].id)
                return 1
            LOG.warning("vouchers not ended together; halving them", size=len(vouchers), error=repr(error))
        else:
            for voucher in after:
                await self._changing.tell(voucher)
            return 0
        middle = len(vouchers) // 2
        return await self._end(vouchers[:middle]) + await self._end(vouchers[middle:])
