"""Changes one voucher, once under its idempotency key: voucher, book, event and stock in one MongoDB transaction."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from redis.exceptions import RedisError

from backend.kernel.ids import new_id
from backend.ledger.errors import HoldExpiredError, HoldNotActiveError
from backend.mongo.idempotency import claim, claimed_at
from backend.outbox.relay import Item, write_item
from backend.rewards.stock.store import PotWrites
from backend.rewards.vouchers.errors import UnknownVoucherError, VoucherExpiredError
from backend.rewards.vouchers.store import VoucherWrites
from backend.rewards.webhooks.events import WEBHOOK_TOPIC, Event, to_payload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.kernel.ids import CitizenId, TransactionId
    from backend.ledger.model import Transaction
    from backend.ledger.service import Ledger
    from backend.mongo.idempotency import Use
    from backend.mongo.transactions import Transactions, Tx
    from backend.outbox.relay import Relay
    from backend.rewards.merchants.model import Desk
    from backend.rewards.vouchers.model import Voucher, VoucherId
    from backend.rewards.webhooks.events import EventType


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a voucher: what is posted, how it is afterwards (given when that happened), what is told of it.

    ``returned`` are units that go back to their pots.
    """

    after: Callable[[Mapping[TransactionId, datetime]], Voucher]
    transactions: tuple[Transaction, ...] = ()
    tells: EventType | None = None
    told: Mapping[str, str | int] = field(default_factory=dict)
    returned: Mapping[str, int] = field(default_factory=dict)


class Desks(Protocol):
    """What the counter asks of the merchants' door."""

    async def desk(self, principal: Principal) -> Desk:
        """Who is at work; ForbiddenError for anybody else."""
        ...

    async def desk_within(self, tx: Tx, principal: Principal) -> Desk:
        """The same as a transaction sees it."""
        ...


class Changing:
    """What capture, cancellation, refund and dispute share."""

    def __init__(
        self,
        *,
        transactions: Transactions,
        ledger: Ledger,
        clock: Clock,
        relay: Relay,
        tell: Callable[[CitizenId, VoucherId], Awaitable[None]],
    ) -> None:
        self._transactions = transactions
        self._ledger = ledger
        self._clock = clock
        self._relay = relay
        self._tell = tell
        self._sending: set[asyncio.Task[None]] = set()

    async def change(
        self,
        voucher: VoucherId,
        use: Use,
        decide: Callable[[Voucher, datetime], Change],
        *,
        guard: Callable[[Tx], Awaitable[None]] | None = None,
    ) -> Voucher:
        """The voucher after its change; under a key used before, as it stands now.

        ``guard`` refuses, inside the transaction, who may not any more.

        Raises:
            UnknownVoucherError: there is none of that id.
            VoucherExpiredError: the points were no longer held.
            IdempotencyConflictError: the key was used for something else.
            Refusal: whatever ``decide`` raises; nothing changed.
        """
        now = self._clock.now()
        unsealed, item_id = new_id("uns", now), new_id("out", now)

        async def body(tx: Tx) -> tuple[Voucher, Item | None]:
            writes = VoucherWrites(tx)
            repeated = await claimed_at(tx, use)
            before = await writes.find(voucher)
            if before is None:
                raise UnknownVoucherError
            if repeated is not None:
                return before, None
            if guard is not None:
                await guard(tx)
            decided = decide(before, now)
            sheet = await self._ledger.open_within(tx, decided.transactions)
            for transaction in decided.transactions:
                await sheet.post(transaction, now)
            after = decided.after(sheet.posted)
            await writes.change([before], [after])
            await claim(tx, use, now)
            item = _item(item_id, after, decided, now)
            if item:
                await write_item(tx, item, now)
            await sheet.write(unsealed, now)
            await PotWrites(tx).give_back(decided.returned)
            return after, item

        try:
            after, item = await self._transactions.run(body)
        except (HoldExpiredError, HoldNotActiveError) as error:
            raise VoucherExpiredError from error
        if item:
            # The counter need not wait for it; should the process die first, the outbox has it.
            sending = asyncio.create_task(self._relay.send(item), name="event of a voucher")
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        await self.tell(after)
        return after

    async def flush(self) -> None:
        """Wait until what was changed has been sent on."""
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def tell(self, voucher: Voucher) -> None:
        """Let the citizen's phones know that the voucher is another than before, if they listen."""
        with suppress(RedisError):  # who does not hear it reads it
            await self._tell(voucher.citizen, voucher.id)


def _item(item_id: str, voucher: Voucher, change: Change, now: datetime) -> Item | None:
    if change.tells is None:
        return None
    data: dict[str, str | int] = {
        "voucher": voucher.id,
        "offer": voucher.offer,
        "title": voucher.promise.title.zh,
        "status": voucher.status.value,
        **change.told,
    }
    event = Event(
        id=f"evt_{item_id.removeprefix('out_')}", type=change.tells, merchant=voucher.merchant, at=now, data=data
    )
    return Item(item_id, WEBHOOK_TOPIC, [to_payload(event)])
