"""Who sees which statements, and their lines out of the book."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from backend.identity.errors import ForbiddenError
from backend.kernel.errors import Text
from backend.rewards.merchants.model import MerchantId
from backend.rewards.settlement.model import (
    LineKind,
    StatementStage,
    Sums,
    statement_id,
)
from backend.rewards.settlement.store import SettlementReads
from tests.factories import citizen, partner
from tests.integration.selling import (
    BEGIN,
    DAY,
    HOUR,
    MAKER,
    REST,
    TEA,
    WEEK_END,
    Market,
    give_back,
    open_market,
    owner_of,
    register,
    sell,
)

if TYPE_CHECKING:
    from backend.runtime import Services

READY = StatementStage.READY
APPROVED = StatementStage.APPROVED
FIRST = statement_id(TEA, 1)


@pytest.fixture
async def market(services: Services) -> Market:
    """A market at the beginning of a week."""
    return await open_market(services)


async def test_lines_come_out_of_the_book_page_by_page(market: Market) -> None:
    services, settlement = market.services, market.settlement
    await register(services)
    await sell(services, TEA, 9, 9, at=BEGIN - HOUR)
    sold = [await sell(services, TEA, 100 + number, 70, at=BEGIN + number // 2 * HOUR) for number in range(5)]
    await give_back(services, sold[0], 40, 30, at=BEGIN + DAY)
    await sell(services, TEA, 9, 9, at=WEEK_END)
    await market.close_at(WEEK_END + REST)
    made = (await market.statements())[0]
    found, after = [], None
    while page := await settlement.list_lines(made, after=after, limit=2):
        found += page
        after = (page[-1].line.at, page[-1].line.transaction)
    assert [len(found), found] == [6, list(await settlement.list_lines(made, limit=100))]
    assert sorted(one.line.points for one in found) == [-40, 100, 101, 102, 103, 104]
    assert [one.line.at for one in found] == sorted(one.line.at for one in found)
    last = found[-1]
    assert (last.line.kind, last.line.fen, last.line.commission_bps) == (LineKind.REFUND, -30, 200)
    assert (last.number, last.title, last.shop) == (
        sold[0].number,
        Text("一杯茶", "A cup of tea"),
        Text("人民路店", "People's Road"),
    )
    assert [one async for batch in settlement.stream_lines(made) for one in batch] == found


async def test_owners_see_their_own_statements_and_staff_all(market: Market) -> None:
    services, settlement = market.services, market.settlement
    for name in ("tea", "book"):
        await sell(services, await register(services, name), at=BEGIN)
    await market.close_at(WEEK_END + REST)
    await market.approve(FIRST)
    mine, other = await settlement.find(owner_of(TEA), FIRST), statement_id(MerchantId("book"), 1)
    assert mine is not None
    assert mine.stage is APPROVED
    assert await settlement.find(owner_of(TEA), other) is None
    assert [one.merchant for one in await settlement.list_statements(owner_of(TEA), limit=9)] == ["tea"]
    # Naming another merchant does not widen what an owner sees.
    stolen = await settlement.list_statements(owner_of(TEA), merchant=MerchantId("book"), limit=9)
    assert [one.merchant for one in stolen] == ["tea"]
    assert {one.merchant for one in await settlement.list_statements(MAKER, limit=9)} == {"tea", "book"}
    assert [one.merchant for one in await settlement.list_statements(MAKER, stage=READY, limit=9)] == ["book"]
    newest = await settlement.list_statements(MAKER, limit=1)
    place = (newest[0].made_at, newest[0].id)
    [older] = await settlement.list_statements(MAKER, limit=9, older=place)
    assert await settlement.list_statements(MAKER, limit=9, newer=(older.made_at, older.id)) == newest
    for stranger in (citizen(), partner()):
        with pytest.raises(ForbiddenError):
            await settlement.find(stranger, FIRST)
        with pytest.raises(ForbiddenError):
            await settlement.list_statements(stranger, limit=9)


async def test_the_vouchers_records_of_a_period_are_found_by_index(market: Market) -> None:
    services = market.services
    for name in ("tea", "book"):
        merchant = await register(services, name)
        for day in range(40):
            voucher = await sell(services, merchant, 100, 70, at=BEGIN + day * DAY)
            if day % 4 == 0:
                await give_back(services, voucher, 10, 7, at=BEGIN + day * DAY + 20 * DAY)
    examined: list[int] = []

    class Explaining:
        """A database that tells how many documents a pipeline looked at."""

        async def aggregate(self, collection: str, pipeline: Any) -> Any:
            asked = {"aggregate": collection, "pipeline": pipeline, "cursor": {}}
            told = await services.database.raw.command({"explain": asked, "verbosity": "executionStats"})
            examined.append(told["stages"][0]["$cursor"]["executionStats"]["totalDocsExamined"])
            return await services.database.aggregate(collection, pipeline)

    reads = SettlementReads(cast("Any", Explaining()))
    since, until = BEGIN + 28 * DAY, BEGIN + 35 * DAY
    assert await reads.sum_recorded(TEA, since, until) == (Sums(7, 700, 490), Sums(2, 20, 14))
    # Seven captured and two refunded vouchers, each looked at once or twice.
    assert 9 <= examined[0] <= 18
