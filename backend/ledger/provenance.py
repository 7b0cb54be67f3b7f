"""Traces amounts of the book: back to the acts and grants they came from, forward to where they went. Only reads.

Which units are which is decided page by page (``attribution``); here pages are joined at transfers between guarded
owners: the receiver's units are the payer's, in the order in which they were taken. Beyond merchants and the programme
nothing is followed: there amounts flow together. Tracing back goes back in time, so it ends; it follows at most 32
transfers in a row and takes a bounded number of steps, else it refuses and says so.

``reader`` limits the answer to what one owner may know: their own part of the transaction, from their own page alone.
What came from another guarded owner is told as received by the transfer, an account of another is told without its
owner's id. Nobody else's page is read for it, so nothing of theirs can show.
"""

from __future__ import annotations

import dataclasses
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from backend.kernel.errors import Text
from backend.ledger.attribution import Attribution, PostingRef, Units, overlap
from backend.ledger.errors import TraceTooLargeError
from backend.ledger.model import DEBT, POINTS, POOL, AccountId, TransactionKind, is_credit, is_guarded, split_account
from backend.ledger.provenance_store import find_transaction, stream_movements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from datetime import datetime

    from backend.kernel.ids import TransactionId
    from backend.ledger.model import Asset, OwnerId, Posting, Transaction
    from backend.mongo.client import Database, Snapshot

MAX_DEPTH = 32
MAX_STEPS = 100_000
STEPS = Text("步", "steps")
TRANSFERS = Text("次连续转让", "transfers in a row")
Path = tuple["TransactionId", ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """``amount`` units came into the book, or into the reader's view, by this transaction, caused by that act.

    ``through`` are the transfers that then carried them from page to page, oldest first.
    """

    transaction: TransactionId
    kind: TransactionKind
    action: str | None
    amount: int
    through: Path = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One posting and where its amount came from, first taken first; the origins sum to the posting's amount."""

    posting: Posting
    origins: tuple[Origin, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """A transaction back to the acts: each posting of the asset that moved a guarded owner's units."""

    transaction: TransactionId
    kind: TransactionKind
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """``amount`` of the units went to that account by this transaction; negative where a correction gave them back.

    ``through`` are the transfers that had carried them to other pages before.
    """

    transaction: TransactionId
    kind: TransactionKind
    to_account: AccountId
    amount: int
    through: Path = ()


Told = TypeVar("Told", Origin, Use)


@dataclass(frozen=True, slots=True)
class Credit:
    """One posting to a guarded owner and what became of it there: ``uses`` and ``unspent`` sum to its amount.

    ``unspent`` are still there, held or free. ``onward`` are uses on the pages of others that the units came to.
    """

    posting: Posting
    uses: tuple[Use, ...]
    unspent: int
    onward: tuple[Use, ...] = ()


@dataclass(frozen=True, slots=True)
class Fate:
    """A transaction forward to where it went: each posting of the asset that brought a guarded owner units."""

    transaction: TransactionId
    kind: TransactionKind
    credits: tuple[Credit, ...]


@dataclass(slots=True)
class Meter:
    """Counts the steps of one trace: transactions read, runs of units moved or looked at."""

    limit: int
    used: int = 0

    def charge(self, steps: int) -> None:
        """Count so many more.

        Raises:
            TraceTooLargeError: they are too many.
        """
        self.used += steps
        if self.used > self.limit:
            raise TraceTooLargeError(self.limit, STEPS)


class Tracer:
    """Joins the pages that ``load`` gives: to go back, at least up to the traced transaction; to go forward, whole."""

    def __init__(
        self, load: Callable[[AccountId], Awaitable[Attribution]], meter: Meter, reader: OwnerId | None = None
    ) -> None:
        self._load = load
        self._meter = meter
        self._reader = reader

    async def back(self, transaction: Transaction, asset: Asset) -> Trace:
        """Where the amounts of the transaction came from.

        Raises:
            TraceTooLargeError: it takes too many steps or transfers.
        """
        parts = []
        for ref, posting in _moving(transaction, asset):
            if self._sees(posting.from_account):
                page = await self._load(posting.from_account)
                parts.append(Part(posting, joined(await self._origins(page, page.taken_by(ref), ()))))
            elif self._sees(posting.to_account):
                page = await self._load(posting.to_account)
                parts.append(Part(posting, joined(await self._origins(page, page.brought_by(ref).units, ()))))
        return Trace(transaction.id, transaction.kind, tuple(parts))

    async def forward(self, transaction: Transaction, asset: Asset) -> Fate:
        """What became of the amounts that the transaction brought.

        Raises:
            TraceTooLargeError: it takes too many steps or transfers.
        """
        found = []
        for ref, posting in _moving(transaction, asset):
            if self._sees(posting.to_account):
                page = await self._load(posting.to_account)
                order, units = page.brought_by(ref)
                uses = await self._uses(page, units, (), since=order)
                direct = joined(use for use in uses if not use.through)
                onward = joined(use for use in uses if use.through)
                found.append(Credit(posting, direct, self._waiting(page, units), onward))
        return Fate(transaction.id, transaction.kind, tuple(found))

    def _sees(self, account: AccountId) -> bool:
        """Whether the account's page is one to look at."""
        return is_tracked(account) and self._reader in (None, split_account(account).owner)

    async def _origins(self, page: Attribution, units: Iterable[Units], through: Path) -> list[Origin]:
        """Where units of the page came from, in their order."""
        if len(through) > MAX_DEPTH:
            raise TraceTooLargeError(MAX_DEPTH, TRANSFERS)
        found = []
        for run in units:
            self._meter.charge(1)
            ref = run.brought_by
            arrival = page.arrivals[ref]
            is_received = is_tracked(arrival.payer)
            if is_received and self._reader is None:
                upstream = await self._load(arrival.payer)
                taken = self._cut(upstream.taken_by(ref), run.start, run.amount)
                found += await self._origins(upstream, taken, (ref.transaction, *through))
            else:
                action = None if is_received else arrival.action
                found.append(Origin(ref.transaction, arrival.kind, action, run.amount, through))
        return found

    def _cut(self, units: Iterable[Units], start: int, amount: int) -> Iterator[Units]:
        """Of these units, ``amount`` from the ``start``-th on."""
        for run in units:
            self._meter.charge(1)
            skipped = min(start, run.amount)
            part = min(amount, run.amount - skipped)
            start -= skipped
            amount -= part
            if part:
                yield run.tail(skipped).head(part)
            if not amount:
                return

    async def _uses(self, page: Attribution, units: Iterable[Units], through: Path, *, since: int) -> list[Use]:
        """What became of units after the page's posting number ``since``: there in order of time, then elsewhere."""
        if len(through) > MAX_DEPTH:
            raise TraceTooLargeError(MAX_DEPTH, TRANSFERS)
        found: list[tuple[int, Use]] = []
        handed: dict[tuple[TransactionId, AccountId], list[Units]] = {}
        for run in units:
            moves = page.moves.get(run.brought_by, ())
            self._meter.charge(1 + len(moves))
            for move in moves:
                common = overlap(run, move.units)
                if common is None or move.order <= since:
                    continue
                ref, to = move.posting, move.to_account
                shown = self._shown(to)
                found.append((move.order, Use(ref.transaction, move.kind, shown, move.sign * common.amount, through)))
                if move.sign > 0 and is_tracked(to) and self._reader is None:
                    offset = move.offset + common.start - move.units.start
                    handed.setdefault((ref.transaction, to), []).append(Units(ref, offset, common.amount))
        uses = [use for _, use in sorted(found, key=lambda item: item[0])]
        for (transfer, account), received in handed.items():
            uses += await self._uses(await self._load(account), received, (*through, transfer), since=0)
        return uses

    def _waiting(self, page: Attribution, units: Iterable[Units]) -> int:
        """How many of the units are still on the page."""
        there: dict[PostingRef, list[Units]] = {}
        for run in page.waiting():
            self._meter.charge(1)
            there.setdefault(run.brought_by, []).append(run)
        common = (overlap(run, other) for run in units for other in there.get(run.brought_by, ()))
        return sum(run.amount for run in common if run)

    def _shown(self, account: AccountId) -> AccountId:
        """The account as the reader may know it."""
        owner, asset, is_debt = split_account(account)
        if self._reader in (None, owner) or not is_guarded(owner):
            return account
        return AccountId(f"{owner.partition(':')[0]}:*:{DEBT if is_debt else ''}{asset}")


def is_tracked(account: AccountId) -> bool:
    """Whether the account's units are told apart: a guarded owner's, but not what they owe.

    In a pool amounts flow together, and credits are told apart by their serials: the market traces both.
    """
    owner, asset, is_debt = split_account(account)
    return is_guarded(owner) and not is_debt and not is_credit(asset) and not owner.startswith(POOL)


def _moving(transaction: Transaction, asset: Asset) -> Iterator[tuple[PostingRef, Posting]]:
    """The postings that move amounts of the asset; those of a HOLD do not."""
    for number, posting in enumerate(transaction.postings if transaction.kind is not TransactionKind.HOLD else ()):
        if posting.asset == asset:
            yield PostingRef(transaction.id, number), posting


def joined(found: Iterable[Told]) -> tuple[Told, ...]:
    """The same with one amount for all that differ by nothing else, in the order of the first."""
    sums: dict[Told, int] = {}
    for told in found:
        key = dataclasses.replace(told, amount=0)
        sums[key] = sums.get(key, 0) + told.amount
    return tuple(dataclasses.replace(key, amount=amount) for key, amount in sums.items())


class Provenance:
    """The only door to provenance: reads pages from the book, each whole account by one indexed stream."""

    def __init__(self, database: Database, *, limit: int = MAX_STEPS) -> None:
        self._database = database
        self._limit = limit

    async def trace_back(
        self, transaction: TransactionId, *, asset: Asset = POINTS, reader: OwnerId | None = None
    ) -> Trace | None:
        """Where what the transaction moved came from; None where there is none, or none that concerns the reader.

        Raises:
            TraceTooLargeError: it takes more steps than the limit, or more than 32 transfers.
        """
        async with self._open(transaction, reader, whole=False) as opened:
            return await opened[0].back(opened[1], asset) if opened else None

    async def trace_forward(
        self, transaction: TransactionId, *, asset: Asset = POINTS, reader: OwnerId | None = None
    ) -> Fate | None:
        """Where what the transaction brought went; None where there is none, or none that concerns the reader.

        Raises:
            TraceTooLargeError: it takes more steps than the limit, or more than 32 transfers.
        """
        async with self._open(transaction, reader, whole=True) as opened:
            return await opened[0].forward(opened[1], asset) if opened else None

    async def trace(
        self, transaction: TransactionId, *, asset: Asset = POINTS, reader: OwnerId | None = None
    ) -> tuple[Trace, Fate] | None:
        """Both at one instant; each page is read once.

        Raises:
            TraceTooLargeError: it takes more steps than the limit, or more than 32 transfers.
        """
        async with self._open(transaction, reader, whole=True) as opened:
            if opened is None:
                return None
            tracer, posted = opened
            return await tracer.back(posted, asset), await tracer.forward(posted, asset)

    @asynccontextmanager
    async def _open(
        self, transaction: TransactionId, reader: OwnerId | None, *, whole: bool
    ) -> AsyncIterator[tuple[Tracer, Transaction] | None]:
        """The transaction and a tracer at one instant; None where it is not there or not for the reader to know."""
        async with self._database.snapshot() as snapshot:
            found = await find_transaction(snapshot, transaction)
            if found is None or (reader is not None and reader not in found[0].owners):
                yield None
                return
            posted, at = found
            meter = Meter(self._limit)
            pages: dict[AccountId, Attribution] = {}

            async def load(account: AccountId) -> Attribution:
                if account not in pages:
                    pages[account] = await _read_page(snapshot, account, meter, until=None if whole else at)
                return pages[account]

            yield Tracer(load, meter, reader), posted


async def _read_page(snapshot: Snapshot, account: AccountId, meter: Meter, *, until: datetime | None) -> Attribution:
    """The account's units after all its transactions up to then."""
    page = Attribution(account)
    async with aclosing(stream_movements(snapshot, account, until=until)) as movements:
        async for movement in movements:
            before = page.steps
            page.apply(movement)
            meter.charge(page.steps - before)
    return page
