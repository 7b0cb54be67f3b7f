"""What settlement reads of the book: a period's lines and their sums, and how a statement compares with all others."""

from __future__ import annotations

from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING

from backend.kernel.errors import Text
from backend.ledger.model import CNY, POINTS
from backend.rewards.settlement.model import DetailedLine
from backend.rewards.settlement.rules import Tally, line_of, reconcile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Container, Mapping, Sequence
    from datetime import datetime

    from backend.kernel.ids import TransactionId
    from backend.ledger.service import Ledger
    from backend.rewards.merchants.model import MerchantId, ShopId
    from backend.rewards.settlement.model import Difference, Line, Statement
    from backend.rewards.settlement.store import SettlementReads

    LinePlace = tuple[datetime, TransactionId]

MAX_PAGE = 200
BATCH = 500


class Lines:
    """Lines of merchants out of the book, never stored a second time."""

    def __init__(self, ledger: Ledger, reads: SettlementReads) -> None:
        self._ledger = ledger
        self._reads = reads

    async def stream(self, merchant: MerchantId, since: datetime, until: datetime) -> AsyncGenerator[Line, None]:
        """The merchant's lines with ``since <= at < until``, by time and id. Whoever stops half-way closes it."""
        async with aclosing(self._ledger.stream_merchant(merchant, since=since, until=until)) as stream:
            async for posted in stream:
                line = line_of(posted, merchant)
                if line is not None:
                    yield line

    async def stream_listed(self, statement: Statement, since: datetime) -> AsyncGenerator[Line, None]:
        """The statement's lines from ``since`` on: what corrections list is theirs alone, all else the period's own."""
        if not statement.lines:
            return
        late = await self._reads.find_late(statement.merchant, statement.until)
        own = statement.id if statement.corrects else None
        async with aclosing(self.stream(statement.merchant, since, statement.until)) as lines:
            async for line in lines:
                if late.get(line.transaction) == own:
                    yield line

    async def tally(
        self, merchant: MerchantId, since: datetime, until: datetime, but: Container[TransactionId] = ()
    ) -> tuple[Tally, Tally, list[TransactionId]]:
        """The lines of that time added up, those without ``but`` added up, and the ids of the latter."""
        whole, rest, ids = Tally(), Tally(), []
        async with aclosing(self.stream(merchant, since, until)) as lines:
            async for line in lines:
                whole.add(line)
                if line.transaction not in but:
                    rest.add(line)
                    ids.append(line.transaction)
        return whole, rest, ids

    async def compare(self, statement: Statement, history: list[Statement]) -> Difference:
        """What book and vouchers know beyond the statement and the merchant's others.

        Three sources that share no code: the lines added up, balances summed by the server, the vouchers' own records.
        """
        merchant = statement.merchant
        return reconcile(
            statement,
            [other for other in history if other.number != statement.number],
            balance_points=await self._ledger.merchant_balance(merchant, POINTS, until=statement.until),
            balance_fen=await self._ledger.merchant_balance(merchant, CNY, until=statement.until),
            recorded=await self._reads.sum_recorded(merchant, statement.since, statement.until),
        )


class DetailedLines:
    """Lines as people read them: with what their vouchers say."""

    def __init__(self, lines: Lines, reads: SettlementReads) -> None:
        self._lines = lines
        self._reads = reads

    async def list_page(
        self,
        statement: Statement,
        shops: Mapping[ShopId, Text],
        *,
        limit: int,
        after: LinePlace | None = None,
        before: LinePlace | None = None,
        last: bool = False,
    ) -> Sequence[DetailedLine]:
        """At most ``limit`` (≤ 200) lines strictly between two places, by time and id; the first, or the ``last``.

        The last ones are found by reading all before them.
        """
        limit = min(limit, MAX_PAGE)
        if limit <= 0:
            return []
        found: deque[Line] = deque(maxlen=limit)
        since = max(after[0], statement.since) if after else statement.since
        async with aclosing(self._lines.stream_listed(statement, since)) as lines:
            async for line in lines:
                place = (line.at, line.transaction)
                if before is not None and place >= before:
                    break
                if after is None or place > after:
                    found.append(line)
                if len(found) == limit and not last:
                    break
        return await self._detailed(found, shops)

    async def stream(
        self, statement: Statement, shops: Mapping[ShopId, Text]
    ) -> AsyncGenerator[Sequence[DetailedLine], None]:
        """All lines of a statement, some hundreds at a time. Whoever stops half-way closes it."""
        batch: list[Line] = []
        async with aclosing(self._lines.stream_listed(statement, statement.since)) as lines:
            async for line in lines:
                batch.append(line)
                if len(batch) == BATCH:
                    yield await self._detailed(batch, shops)
                    batch = []
        if batch:
            yield await self._detailed(batch, shops)

    async def _detailed(self, lines: Collection[Line], shops: Mapping[ShopId, Text]) -> Sequence[DetailedLine]:
        handovers = await self._reads.find_handovers(line.voucher for line in lines)
        detailed = []
        for line in lines:
            handover = handovers.get(line.transaction)
            if handover is None:
                detailed.append(DetailedLine(line, line.voucher, Text(line.offer, line.offer), None))
            else:
                # A shop that was removed has no name any more.
                shop = shops.get(handover.shop) if handover.shop else None
                detailed.append(DetailedLine(line, handover.number, handover.title, shop))
        return detailed
