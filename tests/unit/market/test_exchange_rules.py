"""What fills cost and orders reserve: sums are exact, a hold always suffices, nothing is below zero."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.ids import TransactionId
from backend.ledger.model import Asset, OwnerId
from backend.market.exchange import rules
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.model import Fees, Instrument, Order, OrderId, OrderKind
from backend.market.settings import MarketSettings

NOW = datetime(2026, 11, 2, 2, 0, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Shanghai")
PRICES, GRAMS = st.integers(1, 10**6), st.integers(1, 10**12)
BPS = st.integers(0, 1_000)


def order(**changes: object) -> Order:
    """A bid for a kilogram."""
    plain = Order(
        id=OrderId("ord_1"),
        instrument=Asset("credit:batch"),
        owner=OwnerId("citizen:alice"),
        placed_by="citizen:alice",
        side=Side.BUY,
        kind=OrderKind.LIMIT,
        time_in_force=TimeInForce.GTC,
        price_fen=6_000,
        quantity_g=1_000,
        remaining_g=1_000,
        good_until=NOW,
        created_at=NOW,
        fees=Fees(0, 50),
        hold=TransactionId("tx_1"),
        held=0,
        hold_until=NOW,
        payload="",
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def instrument(**changes: object) -> Instrument:
    """An instrument listed at 6,000 fen a tonne on that day."""
    plain = Instrument(
        id=Asset("credit:batch"), listed_at=NOW, listed_by="staff:root", reference_fen=6_000, day=date(2026, 11, 2)
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


@given(price=PRICES, parts=st.lists(st.integers(1, 10**10), min_size=1, max_size=30))
def test_parts_of_an_order_cost_together_what_the_whole_costs(price: int, parts: list[int]) -> None:
    numerator = paid = 0
    for grams in parts:
        value = rules.fill_value(numerator, price, grams)
        assert value >= 0
        numerator, paid = numerator + price * grams, paid + value
    assert paid == -(-price * sum(parts) // 1_000_000)


@given(
    fills=st.lists(st.tuples(PRICES, st.integers(1, 10**10), BPS), min_size=1, max_size=30),
)
def test_fees_are_the_rounded_up_part_of_all_fills_and_never_more_than_a_fill_is_worth(
    fills: list[tuple[int, int, int]],
) -> None:
    numerator = owed = paid = 0
    for price, grams, bps in fills:
        value = rules.fill_value(numerator, price, grams)
        fee = rules.fee_of(owed, paid, value, bps)
        assert 0 <= fee <= value
        numerator, owed, paid = numerator + price * grams, owed + value * bps, paid + fee
        assert paid == rules.fee_due(owed) == -(-owed // 10_000)


@given(price=PRICES, parts=st.lists(st.integers(1, 10**9), min_size=1, max_size=20), bps=BPS)
def test_splitting_an_order_saves_no_fee(price: int, parts: list[int], bps: int) -> None:
    """Whoever takes so many grams in one order, or in an order for each part, at the same price."""
    whole = rules.fee_of(0, 0, rules.fill_value(0, price, sum(parts)), bps)
    split = [rules.fee_of(0, 0, rules.fill_value(0, price, grams), bps) for grams in parts]
    assert sum(split) >= whole


@given(values=st.lists(st.integers(0, 10**9), min_size=1, max_size=20), bps=BPS)
def test_a_seller_who_splits_what_others_bid_saves_no_fee(values: list[int], bps: int) -> None:
    assert sum(rules.fee_of(0, 0, value, bps) for value in values) >= rules.fee_of(0, 0, sum(values), bps)


def test_sixteen_orders_of_66_kg_cost_a_fee() -> None:
    """At 29.98 yuan a tonne each is worth less than two yuan, of which half a per cent is less than a fen."""
    values = [rules.fill_value(0, 2_998, grams) for grams in [*[66_000] * 15, 10_000]]
    assert [rules.fee_of(0, 0, value, 50) for value in values] == [1] * 16
    assert rules.fee_of(0, 0, rules.fill_value(0, 2_998, 1_000_000), 50) == 15


@given(
    limit=PRICES,
    fees=st.builds(Fees, BPS, BPS),
    side=st.sampled_from(Side),
    fills=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 10**9), st.booleans()), min_size=1, max_size=20),
    spare=st.integers(0, 10**9),
)
def test_what_is_held_always_suffices(
    limit: int, fees: Fees, side: Side, fills: list[tuple[int, int, bool]], spare: int
) -> None:
    """A bid is filled at its limit or below, at any fee, in any parts; what is left covers what is still open."""
    quantity = sum(grams for _, grams, _ in fills) + spare
    now = order(side=side, price_fen=limit, quantity_g=quantity, remaining_g=quantity, fees=fees)
    held = rules.needed(now)
    assert held > 0
    for better, grams, is_taker in fills:
        price = max(1, limit - limit * better // 100) if side is Side.BUY else limit + better
        value = rules.fill_value(now.numerator, price, grams)
        bps = fees.taker_bps if is_taker else fees.maker_bps
        fee = rules.fee_of(now.fee_numerator, now.fee_fen, value, bps)
        held -= value + fee if side is Side.BUY else grams * 1_000
        now = dataclasses.replace(
            now,
            remaining_g=now.remaining_g - grams,
            numerator=now.numerator + price * grams,
            fee_numerator=now.fee_numerator + value * bps,
            fee_fen=now.fee_fen + fee,
        )
        assert held >= rules.needed(now) >= 0
    assert side is Side.BUY or held == rules.needed(now)


@given(price=PRICES, grams=GRAMS, fees=st.builds(Fees, BPS, BPS))
def test_amounts_stay_within_64_bits(price: int, grams: int, fees: Fees) -> None:
    worst = order(price_fen=price, quantity_g=grams, remaining_g=grams, fees=fees)
    assert rules.needed(worst) * 10_000 < 2**63
    assert price * grams < 2**63
    assert rules.needed(dataclasses.replace(worst, side=Side.SELL)) < 2**63


@given(reference=PRICES, tick=st.integers(1, 100), width=st.integers(1, 10_000))
def test_a_band_lies_on_the_tick_and_within_its_width(reference: int, tick: int, width: int) -> None:
    band = rules.band_of(reference, MarketSettings(tick_fen=tick, band_bps=width))
    assert band.low_fen % tick == band.high_fen % tick == 0
    assert band.low_fen >= tick
    assert band.low_fen == tick or band.low_fen * 10_000 >= reference * (10_000 - width)
    assert band.high_fen == tick or band.high_fen * 10_000 <= reference * (10_000 + width)


@pytest.mark.parametrize(
    ("reference", "low", "high"), [(6_000, 5_400, 6_600), (6_001, 5_401, 6_601), (5, 5, 5), (1, 1, 1)]
)
def test_a_band_is_ten_per_cent_around_the_reference_rounded_inwards(reference: int, low: int, high: int) -> None:
    band = rules.band_of(reference, MarketSettings())
    assert (band.low_fen, band.high_fen) == (low, high)
    assert (band.edge(Side.BUY), band.edge(Side.SELL)) == (high, low)
    assert band.has(low)
    assert not band.has(low - 1)
    assert not band.has(high + 1)


def test_the_reference_of_a_new_day_is_the_last_price_of_a_day_before() -> None:
    listed, traded = instrument(), instrument(last_fen=6_300, last_at=NOW)
    tomorrow = NOW + timedelta(days=1)
    assert [rules.reference_at(one, at, ZONE) for one in (listed, traded) for at in (NOW, tomorrow)] == [
        6_000,
        6_000,
        6_000,
        6_300,
    ]
    # 16:00 UTC is midnight in Shanghai.
    assert rules.reference_at(traded, datetime(2026, 11, 2, 15, 59, tzinfo=UTC), ZONE) == 6_000
    assert rules.reference_at(traded, datetime(2026, 11, 2, 16, 0, tzinfo=UTC), ZONE) == 6_300


@pytest.mark.parametrize(
    ("paid", "bought", "sold", "held", "cost"),
    [
        (100, 10, 0, 10, 100),
        (100, 10, 5, 5, 50),
        (100, 10, 0, 3, 30),
        (100, 10, 0, 20, 100),
        (0, 0, 0, 7, 0),
        (9, 2, 2, 0, 0),
    ],
    ids=["bought", "half sold", "some retired", "issued besides", "issued only", "all sold"],
)
def test_what_is_held_cost_its_part_of_what_was_paid(paid: int, bought: int, sold: int, held: int, cost: int) -> None:
    assert rules.cost_of(paid, bought, sold, held) == cost


@given(paid=GRAMS, bought=GRAMS, sold=GRAMS, held=GRAMS)
def test_no_holding_cost_more_than_was_paid(paid: int, bought: int, sold: int, held: int) -> None:
    assert 0 <= rules.cost_of(paid, bought, sold, held) <= paid
