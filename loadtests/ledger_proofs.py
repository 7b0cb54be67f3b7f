"""What the proofs cost: sealing, auditing, verifying a receipt, and the disk a transaction takes."""

from __future__ import annotations

import statistics
import time
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from backend.kernel.clock import local_date
from backend.ledger.model import OwnerId
from backend.ledger.sealing.canonical import canonical_bytes, receipt_object
from backend.ledger.sealing.receipts import verify
from loadtests.ledger_book import BATCH, ROUNDS, BooksError, audit, earn, median, owner, post_batch, redemption
from loadtests.report import Figure

if TYPE_CHECKING:
    from backend.runtime import Services

BOOK = ("ledger_transactions", "ledger_pages", "ledger_unsealed")
SEALS = ("ledger_blocks", "ledger_leaves", "ledger_days", "ledger_keys")
RECEIPTS = 100
EARNINGS_FROM = 50_000_000  # numbers of earnings that no other part uses


class Disk(NamedTuple):
    """Bytes on disk after a checkpoint."""

    documents: int
    indexes: int
    seals: int

    @property
    def total(self) -> int:
        """All of the book's bytes."""
        return sum(self)


async def disk(services: Services) -> Disk:
    """What the book takes once everything written has reached its files."""
    await services.database.client.admin.command("fsync")

    async def size(collection: str, name: str) -> int:
        return int((await services.database.raw.command("collStats", collection))[name])

    return Disk(
        documents=sum([await size(name, "storageSize") for name in BOOK]),
        indexes=sum([await size(name, "totalIndexSize") for name in BOOK]),
        seals=sum([await size(name, part) for name in SEALS for part in ("storageSize", "totalIndexSize")]),
    )


async def _sealed(services: Services) -> int:
    sums = await services.database.aggregate("ledger_blocks", [{"$group": {"_id": None, "size": {"$sum": "$size"}}}])
    return int(sums[0]["size"]) if sums else 0


async def seal(services: Services) -> float:
    """Seal all that waits; transactions that stand in a block afterwards and did not before, per second.

    Raises:
        BooksError: something had to be left out, so what was quick was no sealing.
    """
    before = await _sealed(services)
    begun = time.perf_counter()
    await services.sealing.seal_now()
    taken_s = time.perf_counter() - begun
    left_out = await services.sealing.list_unsealable(1)
    if left_out:
        raise BooksError(f"{left_out[0].transaction} cannot be sealed: {left_out[0].reason.value}")
    return (await _sealed(services) - before) / taken_s


async def redeem(services: Services, citizens: int) -> None:
    """Let so many citizens who have earned reserve a point each, and a merchant capture it."""
    now, merchant = services.clock.now(), OwnerId("merchant:corner-shop")
    pairs = [redemption(number, owner(str(number)), merchant, now + timedelta(hours=1)) for number in range(citizens)]
    for start in range(0, citizens, BATCH // 2):
        await post_batch(services, list(chain.from_iterable(pairs[start : start + BATCH // 2])), now)


async def measure_audit(services: Services, name: str, *, goal: int | None = None) -> dict[str, Figure]:
    """The same book replayed several times, in one process beside mongod; the goal is for the work of one core."""
    walls, works = [], []
    for number in range(ROUNDS):
        begun, work = time.perf_counter(), time.process_time()
        result = await audit(services, f"{name}, round {number + 1}")
        walls.append(result.postings / (time.perf_counter() - begun))
        works.append(result.postings / (time.process_time() - work))
    return {
        name: Figure(median(walls), "postings/s"),
        f"{name}_per_cpu_second": Figure(median(works), "postings", goal),
    }


async def measure_disk(services: Services) -> dict[str, Figure]:
    """Bytes per transaction: documents with pages, indexes, and blocks with their leaves."""
    await seal(services)
    count = await services.database.count("ledger_transactions", {"copy_of": None})
    taken = await disk(services)
    return {
        "disk_per_transaction": Figure(round(taken.total / count), "bytes"),
        "disk_documents": Figure(round(taken.documents / count), "bytes"),
        "disk_indexes": Figure(round(taken.indexes / count), "bytes"),
        "disk_seals": Figure(round(taken.seals / count), "bytes"),
    }


async def measure_receipt(services: Services) -> dict[str, Figure]:
    """A receipt's text checked as a stranger would, by itself and against the published day."""
    clock = services.clock
    alone: list[float] = []
    published: list[float] = []
    batch = [earn(EARNINGS_FROM + number, owner(f"holder-{number}")) for number in range(RECEIPTS)]
    await post_batch(services, batch, clock.now())
    await seal(services)
    document = await services.sealing.day_document(local_date(clock.now(), services.programme.zone))
    day = document.text if document else None
    for transaction in batch:
        receipt = await services.sealing.find_receipt(transaction.id, may_see=lambda _owner: True)
        if receipt is None:
            raise AssertionError(f"{transaction.id} has no receipt")
        text = canonical_bytes(receipt_object(receipt))
        for times, roots in ((alone, None), (published, day)):
            begun = time.perf_counter()
            if not verify(text, roots).holds:
                raise AssertionError(f"the receipt of {transaction.id} does not verify")
            times.append((time.perf_counter() - begun) * 1000)
    return {
        "verify_receipt": Figure(round(statistics.median(alone), 2), "ms", 5, is_less_better=True),
        "verify_receipt_and_day": Figure(round(statistics.median(published), 2), "ms"),
    }
