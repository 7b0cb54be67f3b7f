"""Settlement against a model thought out anew: any captures and refunds at any rates, to the fen."""

from __future__ import annotations

import itertools
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.ledger.model import CNY, POINTS
from backend.rewards.merchants.model import Cycle
from backend.rewards.settlement.model import (
    StatementStage,
)
from tests.factories import replay
from tests.integration.selling import (
    APPROVER,
    BEGIN,
    DAY,
    HOUR,
    PAYER,
    REST,
    ZONE,
    Happening,
    Market,
    expected,
    give_back,
    move_to,
    open_market,
    register,
    sell,
)

if TYPE_CHECKING:
    from backend.runtime import Services

READY = StatementStage.READY


@pytest.fixture
async def market(services: Services) -> Market:
    """A market at the beginning of a week."""
    return await open_market(services)


_examples = itertools.count(1)
WAYS = st.lists(
    st.tuples(
        st.integers(0, 34 * 24),
        st.integers(1, 50_000),
        st.integers(0, 99_999),
        st.sampled_from([0, 1, 150, 200, 333, 5_000]),
        st.sampled_from(["", "whole", "part"]),
        st.integers(1, 20 * 24),
    ),
    max_size=9,
)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ways=WAYS, cycle=st.sampled_from(Cycle))
async def test_statements_equal_the_model_to_the_fen(market: Market, ways: list[Any], cycle: Cycle) -> None:
    services = market.services
    merchant = await register(services, f"model-{next(_examples)}", cycle)
    happened: list[Happening] = []
    for hours, points, fen, bps, back, later in ways:
        at = BEGIN + hours * HOUR
        voucher = await sell(services, merchant, points, fen, at=at, bps=bps)
        happened.append(Happening(at, points, fen, bps))
        if back:
            given, less = (points, fen) if back == "whole" else ((points + 1) // 2, fen // 3)
            await give_back(services, voucher, given, less, at=at + later * HOUR)
            happened.append(Happening(at + later * HOUR, -given, -less, bps))
    now = BEGIN + 63 * DAY + HOUR

    def ends(since: datetime) -> datetime:
        """The first local midnight after it that begins a Monday, or a first of the month."""
        moment = since
        while True:
            moment += HOUR
            local = moment.astimezone(ZONE)
            if local.time() == time() and (local.weekday() == 0 if cycle is Cycle.WEEK else local.day == 1):
                return moment

    move_to(services, now)
    await market.settlement.close_due()
    made = await market.statements(merchant)
    assert [
        (
            one.until,
            one.totals.captures.count,
            one.totals.refunds.count,
            one.totals.points,
            one.totals.gross_fen,
            one.totals.commission_fen,
            one.net_fen,
            one.payable_fen,
        )
        for one in made
    ] == expected(happened, ends, now)
    assert [one.number for one in made] == list(range(1, len(made) + 1))
    assert {one.stage for one in made} <= {READY}
    for one in made:
        await market.settlement.approve(APPROVER, one.id, key=f"approve-{one.id}")
    for one in made:
        await market.settlement.pay(PAYER, one.id, "x", key=f"pay-{one.id}")
    assert await services.ledger.merchant_balance(merchant, POINTS, until=None) == sum(
        one.points for one in happened if one.at >= (made[-1].until if made else now)
    )
    assert await services.ledger.merchant_balance(merchant, CNY, until=None) == (
        made[-1].carried_forward_fen if made else 0
    )


async def test_the_book_is_clean_after_all_of_it(market: Market) -> None:
    services = market.services
    names = [await register(services, f"m{number}", bps=100 * number) for number in range(3)]
    for number, name in enumerate(names):
        for week in range(2):
            voucher = await sell(
                services, name, 100 + week, 70 + number, at=BEGIN + (7 * week + 1) * DAY, bps=100 * number
            )
            await give_back(services, voucher, 30, 20, at=BEGIN + (7 * week + 3) * DAY)
    move_to(services, BEGIN + 14 * DAY + REST)
    await market.settlement.close_due()
    for name in names:
        for one in await market.statements(name):
            await market.settlement.approve(APPROVER, one.id, key=f"approve-{one.id}")
            await market.settlement.pay(PAYER, one.id, "x", key=f"pay-{one.id}")
    audit = await replay(services)
    assert audit.clean, audit.findings
    assert {one.totals.refunds.count for name in names for one in await market.statements(name)} == {1}
