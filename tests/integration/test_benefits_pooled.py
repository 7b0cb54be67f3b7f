"""From rides to benefits: an enterprise buys from a pool, and its contributors share what it paid."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.kernel.ids import CitizenId
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import CNY, Asset, citizen_owner, pool_owner
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.model import OrderKind, OrderStatus, Placing
from backend.market.funds.model import FundAccount
from backend.market.pooling.model import Benefit
from tests.factories import ADMIN
from tests.floor import EVERYWHERE
from tests.integration.banking import FAY, FRED, Bank, firm
from tests.integration.batching import Floor

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.market.funds.model import EnterpriseId
    from backend.market.pooling.model import Batch
    from backend.runtime import Services

pytestmark = pytest.mark.anyio
# Fen a tonne.
PRICE = 900_000


async def sell(services: Services, batch: Batch, buyer: EnterpriseId) -> None:
    """All whole kilograms that the pool has, to the enterprise, on the exchange."""
    credit, market = Asset(batch.credit), services.market
    until = services.clock.now() + timedelta(hours=1)
    await market.exchange.desk.list_instrument(ADMIN, credit, PRICE, key="listing-0001")
    await market.exchange.desk.open_session(ADMIN, credit, until, key="session-0001")
    pooled = (await services.ledger.get_page(pool_owner(batch.code))).balance(credit) // MG_PER_GRAM
    given = {"instrument": credit, "kind": OrderKind.LIMIT, "price_fen": PRICE, "time_in_force": TimeInForce.GTC}
    amount = {"quantity_g": pooled // 1_000 * 1_000}
    bid = await market.orders.place(firm(buyer), Placing(side=Side.BUY, **given, **amount), key="bid-0001")
    offer = Placing(side=Side.SELL, pool=batch.code, **given, **amount)
    ask = await market.orders.place(ADMIN, offer, key="ask-0001")
    await market.exchange.matching.run(EVERYWHERE)
    assert {one.status for one in (await market.orders.find([bid.id, ask.id])).values()} == {OrderStatus.FILLED}


async def test_contributors_share_the_proceeds_by_the_grams_they_gave_to_the_pool(
    services: Services, clock: ManualClock
) -> None:
    floor, bank = await Floor(services, clock).open("alice", "bob", "carol"), Bank(services)
    await floor.agree("bob", benefit=Benefit.POINTS)
    # Alice stays below the yearly threshold of ten kilograms; what lies above it is the others' own.
    for name, kgs in (("alice", (4,)), ("bob", (200, 100)), ("carol", (900, 700))):
        await floor.rides(name, *kgs)
    batch = await floor.gathered()
    await floor.verified(batch.code)
    await floor.issued(batch.code)
    pooled = {name: (await floor.contributions(name))[0].pool_g for name in ("alice", "bob", "carol")}
    assert min(pooled.values()) > 0
    assert len(set(pooled.values())) > 1
    enterprise = await bank.approved()
    await bank.deposited(FundAccount(enterprise=enterprise), PRICE)
    await sell(services, batch, enterprise)
    pool = pool_owner(batch.code)
    proceeds = (await services.ledger.get_page(pool)).balance(CNY)
    assert proceeds > 0

    benefits = services.market.benefits
    proposed = await benefits.propose(FAY, batch.code, None, key="return-0001")
    await benefits.approve(FRED, proposed.id, key="approve-0001")
    assert await services.market.paying.work_off() == 3

    pages = await services.ledger.find_pages([citizen_owner(CitizenId(name)) for name in pooled])
    alices, bobs, carols = (page.balance(CNY) for page in pages.values())
    parts = {name: proceeds * grams // sum(pooled.values()) for name, grams in pooled.items()}
    [payment] = await benefits.list_payments(CitizenId("bob"), limit=9, older=None, newer=None, newest=True)
    assert (bobs, alices + payment.fen + carols) == (0, proceeds)
    for part, name in ((alices, "alice"), (payment.fen, "bob"), (carols, "carol")):
        assert part - parts[name] in {0, 1}
    assert (payment.points, payment.grams) == (payment.fen * 1_250 // 100, pooled["bob"])
    assert (await services.ledger.get_page(pool)).balance(CNY) == 0
    assert await bank.findings() == []
    assert await floor.audit() == []
