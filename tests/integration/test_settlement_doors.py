"""What the real doors to vouchers leave behind is settled to the fen: parts, refunds, codes, gifts, what expires."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from backend.kernel.errors import Text
from backend.ledger.model import BANK, CNY, COMMISSION, DONATIONS, POINTS, REWARDS
from backend.rewards.merchants.model import Cycle
from backend.rewards.offers.model import Bearer, OfferCategory, OfferKind
from backend.rewards.settlement.model import LineKind, StatementStage, Sums
from tests.counters import Street, cashier, contract, merchant, offer
from tests.factories import citizen, replay
from tests.integration.selling import (
    APPROVER,
    BEGIN,
    DAY,
    HOUR,
    PAYER,
    REST,
    WEEK_END,
    move_to,
    open_market,
    put_merchant,
)

if TYPE_CHECKING:
    from backend.rewards.vouchers.model import Voucher
    from backend.runtime import Services


async def capture(street: Street, voucher: Voucher, key: str, items: int | None = None) -> Voucher:
    """Hand over so many items, or all that are left."""
    # Each code is good once; the phone makes the next half a minute later.
    street.services.clock.advance(timedelta(seconds=60))  # type: ignore[attr-defined]
    shown = await street.shown(voucher.id)
    return await street.counter.capture(cashier(), shown, items=items, shop=None, key=key)


async def test_a_week_of_everything_that_can_happen(services: Services) -> None:
    market = await open_market(services)
    street = Street(services)
    # 7/10 fen a point, 2 %, by week.
    firm = merchant(BEGIN, contracts=(contract(BEGIN, valid_from=BEGIN, cycle=Cycle.WEEK),))
    await put_merchant(services, firm)
    street.add(
        firm,
        offer(BEGIN, refund_days=14),
        offer(BEGIN, "card", items=3, price_points=101),
        offer(BEGIN, "free", price_points=40, bearer=Bearer.MERCHANT),
        offer(BEGIN, "code", kind=OfferKind.CODE, price_points=15, refund_days=0),
        offer(BEGIN, "tree", kind=OfferKind.DONATION, category=OfferCategory.CHARITY, price_points=9, refund_days=0),
    )
    await street.settle_in("alice", "bob", points=1_000)
    move_to(services, BEGIN + HOUR)

    card = await street.redeem("alice", "card", key="redeem-card")
    await capture(street, card, "capture-0001", 1)
    await capture(street, card, "capture-0002", 1)
    coffee = await street.redeem("alice", "coffee", units=2, key="redeem-coffee")
    await capture(street, coffee, "capture-0003")
    await street.refunding.refund(cashier(), coffee.id, 31, "洒了", key="refund-0001")
    free = await street.redeem("bob", "free", key="redeem-free")
    await capture(street, free, "capture-0004")
    await street.redeem("bob", "code", key="redeem-code")
    await street.redeem("bob", "tree", key="redeem-tree")
    cancelled = await street.redeem("bob", "coffee", key="redeem-none")
    await street.vouchers.cancel(citizen("bob"), cancelled.id, key="cancel-0001")

    await market.close_at(WEEK_END + REST)
    [made] = await market.statements(firm.id)
    # Two thirds of 101 points, two coffees, what the merchant gives, and a code: 67 + 60 + 40 + 15.
    assert made.totals.captures == Sums(5, 182, 46 + 42 + 0 + 10)
    # Of 60 points 29 are left, worth 20 fen.
    assert made.totals.refunds == Sums(1, 31, 22)
    assert (made.totals.gross_fen, made.totals.commission_fen, made.payable_fen) == (76, 1, 75)
    assert (made.stage, made.difference.is_nothing) == (StatementStage.READY, True)

    # The rest of the card is over; a refund and another capture come in the week that follows.
    move_to(services, WEEK_END + DAY)
    await street.ending.end_due()
    await street.refunding.refund(cashier(), coffee.id, None, "也洒了", key="refund-0002")
    again = await street.redeem("bob", "coffee", key="redeem-more")
    await capture(street, again, "capture-0005")
    await market.close_at(WEEK_END + 7 * DAY + REST)
    _, second = await market.statements(firm.id)
    assert (second.totals.captures, second.totals.refunds) == (Sums(1, 30, 21), Sums(1, 29, 20))
    assert (second.net_fen, second.stage) == (1, StatementStage.READY)
    [line] = [one for one in await market.settlement.list_lines(second, limit=9) if one.line.kind is LineKind.REFUND]
    assert (line.number, line.title.zh, line.shop) == (coffee.number, "咖啡一杯", Text("东门店", "East Gate"))

    for one in (made, second):
        await market.settlement.approve(APPROVER, one.id, key=f"approve-{one.number}")
        await market.settlement.pay(PAYER, one.id, "x", key=f"pay-{one.number:05}")
    left = await market.balances()
    assert (left[BANK], left[COMMISSION], left[REWARDS], left[DONATIONS]) == (76, 1, -77, 9)
    for asset in (POINTS, CNY):
        assert await services.ledger.merchant_balance(firm.id, asset, until=None) == 0
    assert (await replay(services)).findings == []
