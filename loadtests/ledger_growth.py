"""How the book grows: filled by bulk earnings to millions of transactions, measured at every power of ten.

A cohort of citizens earns more than a statement page at the start, so that every measurement reads full pages;
everybody else follows in turn. The earnings spread over a year, so pages carry the lots of many months.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.ledger.model import POINTS, account_of
from loadtests.ledger_book import BATCH, BooksError, audit, earn, owner, post_batch, rate_per_s
from loadtests.ledger_proofs import disk, seal
from loadtests.report import Figure, report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backend.ledger.model import Transaction
    from backend.runtime import Services

RESULT = "ledger_growth"
CITIZENS = 200_000
STRIDE = 7_919  # without common divisor with CITIZENS, so that 200,000 earnings in a row reach each citizen once
COHORT = 100
COHORT_EARNINGS = 60
STATEMENT_PAGE = 50
CHUNK = 20 * BATCH
LANES = 2
SPAN = timedelta(days=365)
FIRST_CHECKPOINT = 10_000
NEEDED_BYTES = 3_000  # of free disk per transaction
PROGRESS_S = 10.0


class NoRoomError(RuntimeError):
    """The disk is too small for so many transactions."""


@dataclass
class Clocked:
    """Seconds spent on filling and on sealing since the last measurement, and the transactions they were spent on."""

    transactions: int = 0
    fill_s: float = 0.0
    seal_s: float = 0.0


class Growth:
    """A book that is being filled up to ``total`` transactions."""

    def __init__(self, services: Services, total: int) -> None:
        self._services = services
        self._total = total
        self._begun = services.clock.now() - SPAN
        self._started = self._told = time.monotonic()
        self._cohort = [owner(f"grown-{number}") for number in range(COHORT)]
        self._lap = Clocked()
        self.done = 0

    def _batch(self, first: int, count: int) -> list[Transaction]:
        """Earnings ``first`` and following: the cohort's, then everybody's in turn."""
        early = COHORT * COHORT_EARNINGS
        return [
            earn(
                number,
                self._cohort[number % COHORT] if number < early else owner(f"grown-{number * STRIDE % CITIZENS}"),
            )
            for number in range(first, first + count)
        ]

    async def fill(self, until: int) -> None:
        """Post in batches, two at a time, and seal every ten thousand."""
        while self.done < until:
            first, count = self.done, min(CHUNK, until - self.done)
            batches = [
                self._batch(start, min(BATCH, first + count - start)) for start in range(first, first + count, BATCH)
            ]

            begun = time.perf_counter()
            await self._post(
                batches, self._begun + SPAN * (first / self._total), at_once=LANES if first else 1
            )  # the cohort meets on its own pages
            filled = time.perf_counter()
            await seal(self._services)
            self._lap.transactions += count
            self._lap.fill_s += filled - begun
            self._lap.seal_s += time.perf_counter() - filled
            self.done += count
            self._tell()

    async def _post(self, batches: Sequence[list[Transaction]], at: datetime, *, at_once: int) -> None:
        async def post(number: int) -> None:
            await post_batch(self._services, batches[number], at)

        await rate_per_s(len(batches), post, at_once=at_once)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= PROGRESS_S or self.done == self._total:
            left_s = (now - self._started) / self.done * (self._total - self.done)
            print(f"  {self.done:,} of {self._total:,} transactions; about {left_s / 60:.0f} min left", flush=True)
            self._told = now

    async def measure(self) -> dict[str, Figure]:
        """The figures at this size; the audit's own memory is in the peak."""
        lap, self._lap = self._lap, Clocked()
        taken = await disk(self._services)
        newest, oldest = await self._statement_ms()
        begun = time.perf_counter()
        try:
            rate: int | str = round(
                (await audit(self._services, f"{self.done:,}")).postings / (time.perf_counter() - begun)
            )
        except BooksError:
            raise
        except Exception as error:  # noqa: BLE001 - the figures of an hour are not to be lost to the last of them
            rate = f"failed after {time.perf_counter() - begun:.0f} s: {error!r}"[:120]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        server = await self._services.database.client.admin.command("serverStatus")
        return {
            "fill": Figure(round(lap.transactions / lap.fill_s), "transactions/s"),
            "seal": Figure(round(lap.transactions / lap.seal_s), "transactions/s"),
            "disk_per_transaction": Figure(round(taken.total / self.done), "bytes"),
            "disk_indexes": Figure(round(taken.indexes / self.done), "bytes per transaction"),
            "statement_page": Figure(newest, "ms"),
            "statement_oldest_page": Figure(oldest, "ms"),
            "audit": Figure(rate, "postings/s"),
            "peak_memory": Figure(peak // (1 << 20 if sys.platform == "darwin" else 1 << 10), "MiB"),
            "mongod_memory": Figure(int(server["mem"]["resident"]), "MiB"),
        }

    async def _statement_ms(self) -> tuple[float, float]:
        """Median milliseconds of the cohort's newest statement pages, and of their oldest."""
        times: tuple[list[float], list[float]] = ([], [])
        for name in self._cohort:
            for place, newest in enumerate((True, False)):
                begun = time.perf_counter()
                account = account_of(name, POINTS)
                lines = await self._services.ledger.list_statement(account, limit=STATEMENT_PAGE, newest=newest)
                times[place].append((time.perf_counter() - begun) * 1000)
                if len(lines) != STATEMENT_PAGE:
                    raise AssertionError(f"{account} has a page of {len(lines)} lines")
        return round(statistics.median(times[0]), 2), round(statistics.median(times[1]), 2)


async def measure_growth(services: Services, total: int) -> bool:
    """Fill and measure, writing the result after each measurement; whether growth is linear and statements stay quick.

    Raises:
        NoRoomError: the disk has less than 3 kB a transaction.
    """
    free = shutil.disk_usage(services.settings.data_dir).free
    if free < total * NEEDED_BYTES:
        raise NoRoomError(
            f"{total * NEEDED_BYTES:,} bytes are needed in {services.settings.data_dir}, {free:,} are free"
        )
    growth = Growth(services, total)
    figures: dict[str, Figure] = {}
    taken: list[dict[str, Figure]] = []
    sizes = [*(10**power for power in range(4, 12) if 10**power < total), total]
    for before, size in zip([0, *sizes], sizes, strict=False):
        await growth.fill(size)
        taken.append(await growth.measure())
        figures |= {f"{name}_at_{size}": figure for name, figure in taken[-1].items()}
        figures |= _verdicts(taken, before)
        is_met = report(RESULT, figures)
    return is_met


def _verdicts(taken: Sequence[dict[str, Figure]], size_before: int) -> dict[str, Figure]:
    """How the last measurement stands to the one before (disk) and to the first (statement page).

    Disk has a goal only once everybody had a page the time before: until then pages and lots are still being made.
    """
    if len(taken) < 2:
        return {}
    bytes_before, bytes_now = (float(figures["disk_per_transaction"].value) for figures in taken[-2:])
    first_ms, last_ms = (float(taken[place]["statement_page"].value) for place in (0, -1))
    goal = 115 if size_before > CITIZENS else None
    return {
        "disk_growth_since_last_size": Figure(round(bytes_now * 100 / bytes_before), "%", goal, is_less_better=True),
        "statement_page_growth": Figure(round(last_ms * 100 / first_ms), "%", 200, is_less_better=True),
    }
