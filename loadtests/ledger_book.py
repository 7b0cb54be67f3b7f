"""The book that the ledger's benchmarks fill: its transactions, its callers, its audit; measures nothing."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backend.kernel.crypto import payload_hash
from backend.kernel.errors import BusyError
from backend.kernel.ids import CitizenId, derived_id
from backend.ledger.audit.whole import audit_ledger
from backend.ledger.errors import InsufficientFundsError
from backend.ledger.model import (
    MINTS,
    POINTS,
    QUANTIFIED,
    HoldRef,
    OwnerId,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
)
from backend.mongo.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import datetime

    from backend.ledger.audit.findings import Audit
    from backend.ledger.service import Ledger
    from backend.runtime import Services

SEED = 20_261_121
ROUNDS = 5
STARTED = time.perf_counter()
BATCH = 500
MAX_REDUCTION_MG = 5_000_000
MAX_POINTS = 200


class BooksError(RuntimeError):
    """The books do not add up after a part of the benchmark, so no figure of it counts."""


def owner(name: str) -> OwnerId:
    """A citizen whose id, like a real one, says nothing and lies anywhere in an index."""
    return citizen_owner(CitizenId(derived_id("ct", "bench", name)))


def earn(number: int, to: OwnerId, *, points: int | None = None) -> Transaction:
    """The earning that settles act ``number``, as large as a real one: milligrams and points, cause of four entries."""
    act = derived_id("act", str(SEED), str(number))
    chance = int(act[-16:], 16)
    amounts = ((QUANTIFIED, 1 + chance % MAX_REDUCTION_MG), (POINTS, points or 1 + chance % MAX_POINTS))
    return Transaction(
        key=f"action:{act}",
        kind=TransactionKind.EARN,
        postings=tuple(
            Posting(from_account=MINTS[asset], to_account=account_of(to, asset), asset=asset, amount=amount)
            for asset, amount in amounts
        ),
        cause={"action": act, "payload": payload_hash(act), "rule": "metro.ride", "rule_version": "1"},
    )


def transfer(key: str, payer: OwnerId, payee: OwnerId) -> Transaction:
    """One point from the one to the other."""
    posting = Posting(
        from_account=account_of(payer, POINTS), to_account=account_of(payee, POINTS), asset=POINTS, amount=1
    )
    return Transaction(key=key, kind=TransactionKind.TRANSFER, postings=(posting,), cause={"bench": key})


def redemption(number: int, payer: OwnerId, payee: OwnerId, expires_at: datetime) -> tuple[Transaction, Transaction]:
    """One point reserved for a merchant, and captured."""
    hold = replace(transfer(f"redemption:{number}", payer, payee), kind=TransactionKind.HOLD, expires_at=expires_at)
    capture = replace(
        transfer(f"capture:{number}", payer, payee), kind=TransactionKind.POST, hold=HoldRef(payer, hold.id)
    )
    return hold, capture


@dataclass
class Outcomes:
    """How calls ended; a busy answer is told truthfully and asked again, as a client would."""

    posted: int = 0
    refused: int = 0
    busy: int = 0
    latencies_ms: list[float] = field(default_factory=list)


async def call_repeatedly(ledger: Ledger, transaction: Transaction, outcomes: Outcomes) -> None:
    """Post until the book says yes or no."""
    asked = time.perf_counter()
    while True:
        try:
            await ledger.post(transaction)
        except BusyError:
            outcomes.busy += 1
            continue
        except InsufficientFundsError:
            outcomes.refused += 1
        else:
            outcomes.posted += 1
        outcomes.latencies_ms.append((time.perf_counter() - asked) * 1000)
        return


async def rate_per_s(count: int, call: Callable[[int], Awaitable[None]], *, at_once: int) -> float:
    """Calls per second of ``at_once`` callers who share ``count`` calls, each one after the other."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for _ in range(at_once):
            callers.create_task(caller())
    return count / (time.perf_counter() - begun)


async def post_batch(services: Services, batch: Sequence[Transaction], at: datetime) -> None:
    """Post the batch in one MongoDB transaction."""
    await Transactions(services.database).run(lambda tx: services.ledger.post_within(tx, batch, at=at))


async def fund(services: Services, owners: Iterable[OwnerId], first: int, *, points: int) -> int:
    """Let each of the owners earn so many points once; the number of the next earning."""
    waiting = [earn(first + place, to, points=points) for place, to in enumerate(owners)]
    for start in range(0, len(waiting), BATCH):
        await post_batch(services, waiting[start : start + BATCH], services.clock.now())
    return first + len(waiting)


async def audit(services: Services, part: str) -> Audit:
    """Replay the whole book.

    Raises:
        BooksError: it does not add up.
    """
    async with services.database.snapshot() as snapshot:
        result = await audit_ledger(snapshot, policy=services.programme.points_policy)
    if not result.clean:
        raise BooksError(f"after {part}: {result.findings[0]} ({len(result.findings)} findings)")
    elapsed_s = time.perf_counter() - STARTED
    print(f"  {elapsed_s:.0f} s: {part}: {result.transactions:,} transactions, {result.postings:,} postings add up")
    return result


def median(values: Iterable[float]) -> int:
    """The middle value, rounded to a whole one."""
    return round(statistics.median(values))
