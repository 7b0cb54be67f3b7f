"""Checks of batches for which the audit needs the programme's threshold, rules and key, at one instant.

What a verdict was about is still what the batch holds; the book has the verdict's deductions and the issuance, with who
gave and issued and on which report; and every citizen's grams are split at the yearly threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.ledger.audit.store import find_homes
from backend.ledger.model import citizen_owner, pool_owner
from backend.market.pooling.entries import deductions, issuance
from backend.market.pooling.model import BOUND, BatchCode
from backend.market.pooling.rules import split_again
from backend.market.pooling.snapshots import UNREADABLE, stream_batches, stream_by_citizen, stream_contributions

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from backend.kernel.ids import CitizenId
    from backend.ledger.audit.findings import Audit
    from backend.ledger.model import Transaction
    from backend.market.pooling.contents import Contents
    from backend.market.pooling.model import Batch, Contribution
    from backend.mongo.client import Snapshot

AT_ONCE = 200


class Auditing:
    """Holds verified batches against hashes and book, and contributions against the threshold."""

    def __init__(self, *, contents: Contents, threshold_g: int) -> None:
        self._contents = contents
        self._threshold_g = threshold_g

    async def check(self, snapshot: Snapshot, audit: Audit) -> None:
        """Check all batches of the snapshot that can be read; ``audit_pooling`` names the others."""
        bound = set[BatchCode]()
        async for batch in stream_batches(snapshot, _pass_by):
            if batch.stage in BOUND:
                bound.add(batch.code)
            if batch.verdict is not None:
                await self._check_hashes(snapshot, batch, audit)
                expected = list(deductions(batch, batch.verdict, self._contents.staff(batch.verdict.verifier)))
                await _check_booked(snapshot, batch, expected, audit)
            if batch.verdict is not None and batch.issue is not None:
                await self._check_issuance(snapshot, batch, audit)
        await self._check_splits(snapshot, bound, audit)

    async def _check_hashes(self, snapshot: Snapshot, batch: Batch, audit: Audit) -> None:
        assert batch.verdict is not None
        try:
            found = await self._contents.hash_acts(snapshot, batch), await self._contents.hash_shares(snapshot, batch)
        except UNREADABLE as error:
            audit.report(f"batch {batch.code}", f"what it holds cannot be hashed: {error!r}")
            return
        told = batch.verdict.content, batch.verdict.shares
        for what, one, other in zip(("acts", "contributions"), found, told, strict=True):
            if one != other:
                audit.report(f"batch {batch.code}", f"its {what} have the hash {one}, the verdict is on {other}")

    async def _check_issuance(self, snapshot: Snapshot, batch: Batch, audit: Audit) -> None:
        assert batch.issue is not None
        issuer = self._contents.staff(batch.issue.issuer)
        expected: list[Transaction] = []
        async for one in stream_contributions(snapshot, batch.code, given=True, on_broken=_pass_by):
            for share, owner in ((one.pool, pool_owner(batch.code)), (one.own, citizen_owner(one.citizen))):
                if share is not None:
                    expected.append(issuance(batch, one, share.run, owner, issuer))
            if len(expected) >= AT_ONCE:
                await _check_booked(snapshot, batch, expected, audit)
                expected = []
        await _check_booked(snapshot, batch, expected, audit)

    async def _check_splits(self, snapshot: Snapshot, bound: AbstractSet[BatchCode], audit: Audit) -> None:
        """Hold pool and own shares of all that does not stand behind a verdict against the threshold."""
        some: list[Contribution] = []
        whose: tuple[CitizenId, int] | None = None
        async for one in stream_by_citizen(snapshot, _pass_by):
            if (one.citizen, one.vintage) != whose:
                self._check_split(some, bound, audit)
                some, whose = [], (one.citizen, one.vintage)
            some.append(one)
        self._check_split(some, bound, audit)

    def _check_split(self, given: Iterable[Contribution], bound: AbstractSet[BatchCode], audit: Audit) -> None:
        found = {one.id: one for one in given}
        for expected in split_again(found.values(), bound, self._threshold_g):
            one = found[expected.id]
            if one.pool_mg != expected.pool_mg:
                problem = f"{one.pool_mg} mg of it are the pool's, {expected.pool_mg} mg are below the threshold"
                audit.report(f"contribution {one.id}", problem)


async def _check_booked(snapshot: Snapshot, batch: Batch, expected: Iterable[Transaction], audit: Audit) -> None:
    """Hold transactions against the book, from who is behind them to the last gram."""
    wanted = {transaction.id: transaction for transaction in expected}
    homes = await find_homes(snapshot, sorted(wanted))
    for name, transaction in wanted.items():
        home = homes.get(name)
        if home is None or home["payload"] != transaction.payload:
            how = "missing" if home is None else "another"
            audit.report(f"batch {batch.code}", f"its {transaction.kind} {transaction.key} is {how} in the book")


def _pass_by(_what: str, _error: Exception) -> None:
    """Say nothing: ``audit_pooling`` has said it."""
