"""Credits that change hands with their serials, and the audit of book and serials together."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.kernel.units import MG_PER_GRAM
from backend.ledger.audit.whole import audit_ledger
from backend.market.serials.invariants import audit_serials
from backend.market.serials.model import spelled
from backend.market.serials.store import SerialSheet, cause_of, retired_owner
from backend.mongo.transactions import Transactions
from tests.trading import CREDIT, drawn, order, retirement, trade

if TYPE_CHECKING:
    from backend.ledger.audit.findings import Audit
    from backend.ledger.model import OwnerId
    from backend.market.serials.model import Ranges
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

_NUMBERS = itertools.count(1)


async def hand_over(services: Services, payer: OwnerId, payee: OwnerId, grams: int) -> Ranges:
    """Credits for nothing, out of an order; which serials."""
    number, amount = next(_NUMBERS), grams * MG_PER_GRAM
    sell = order(f"sell-{number}", payer, CREDIT, amount, until=services.clock.now() + timedelta(days=1))
    await services.ledger.post(sell)

    async def body(tx: Tx) -> Ranges:
        serials = SerialSheet(tx)
        moved = await serials.move(CREDIT, grams, payer, payee)
        draws, cause = [drawn(sell, final=True)], cause_of(CREDIT, moved)
        fill = trade(f"fill-{number}", payer, payee, amount, 0, draws=draws, cause=cause)
        await services.ledger.post_within(tx, [fill], at=services.clock.now())
        await serials.write()
        return moved

    return await Transactions(services.database).run(body)


async def retire(services: Services, payer: OwnerId, grams: int, certificate: str) -> Ranges:
    """Credits that leave for ever under that certificate; which serials."""

    async def body(tx: Tx) -> Ranges:
        serials = SerialSheet(tx)
        moved = await serials.move(CREDIT, grams, payer, retired_owner(certificate))
        gone = retirement(certificate, payer, grams, spelled(moved))
        await services.ledger.post_within(tx, [gone], at=services.clock.now())
        await serials.write()
        return moved

    return await Transactions(services.database).run(body)


async def audit_all(services: Services) -> Audit:
    """The audit of the book and of the serials beside it."""
    async with services.database.snapshot() as snapshot:
        audit = await audit_ledger(snapshot)
        await audit_serials(snapshot, audit)
        return audit
