"""What vouchers cost, are worth and return: parts sum to wholes, refunds undo captures, days end at local midnight."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.errors import Text
from backend.kernel.ids import CitizenId, TransactionId
from backend.kernel.units import Ratio
from backend.rewards.merchants.cycles import period_end, period_start
from backend.rewards.merchants.model import Cycle, MerchantId
from backend.rewards.offers.model import Bearer, OfferId, OfferKind
from backend.rewards.vouchers import rules
from backend.rewards.vouchers.ending import ended, returned
from backend.rewards.vouchers.model import Capture, PotUse, Promise, Refund, Voucher, VoucherId, VoucherStatus
from tests.counters import changed, offer

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 11, 21, 15, 59, 59, 999_000, tzinfo=UTC)  # the last millisecond of a day in Shanghai
PROMISE = Promise(
    kind=OfferKind.VOUCHER,
    title=Text("卡", "A card"),
    handover=Text("一次", "Once"),
    cash_fen=0,
    refund_days=7,
    bearer=Bearer.PROGRAMME,
    rate=Ratio(7, 10),
    commission_bps=200,
    shops=(),
    offer_revision=1,
)
CARD = Voucher(
    id=VoucherId("vou_1"),
    citizen=CitizenId("alice"),
    offer=OfferId("card"),
    merchant=MerchantId("cafe"),
    promise=PROMISE,
    number="1G50E503",
    units=1,
    items=10,
    points=77,
    hold=TransactionId("tx_hold"),
    status=VoucherStatus.HELD,
    created_at=NOW,
    day=date(2026, 11, 21),
    expires_at=datetime(2026, 12, 1, tzinfo=UTC),
    captures=(),
    refunds=(),
    dispute=None,
    pots=(PotUse(pot="offer:card", units=1), PotUse(pot="budget:cafe:2026-11-01", units=53)),
    last_step=0,
    payload="",
    version=1,
)


def captured(voucher: Voucher, items: int) -> Voucher:
    """The voucher after so many items more."""
    points = rules.share(voucher, items)
    one = Capture(
        transaction=TransactionId(f"tx_{len(voucher.captures)}"),
        at=NOW,
        items=items,
        points=points,
        fen=rules.fen_of_capture(voucher, points),
        shop=None,
        member="cai",
    )
    return dataclasses.replace(voucher, captures=(*voucher.captures, one))


def refunded(voucher: Voucher, points: int) -> Voucher:
    """The voucher after so many points came back, the last captured first."""
    done = 0
    for capture, left in rules.refundable(voucher):
        part = min(left, points - done)
        if part:
            fen = rules.fen_of_refund(voucher, part)
            one = Refund(
                transaction=TransactionId("tx"),
                of=capture,
                at=NOW,
                points=part,
                fen=fen,
                by="staff:root",
                reason="洒了",
            )
            voucher = dataclasses.replace(voucher, refunds=(*voucher.refunds, one))
            done += part
    return voucher


RATES = st.builds(Ratio, st.integers(1, 500), st.integers(1, 300))


@given(
    points=st.integers(1, 10_000),
    parts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    rate=RATES,
    back=st.lists(st.integers(1, 4_000), max_size=5),
)
def test_parts_sum_to_the_whole_and_refunds_undo_what_captures_did(
    points: int, parts: list[int], rate: Ratio, back: list[int]
) -> None:
    items = sum(parts)
    points = max(points, items)
    promise = dataclasses.replace(PROMISE, rate=rate)
    voucher = dataclasses.replace(CARD, points=points, items=items, promise=promise)
    for part in parts:
        voucher = captured(voucher, part)
    assert all(one.points >= 1 and one.fen >= 0 for one in voucher.captures)
    assert (voucher.points_captured, sum(one.fen for one in voucher.captures)) == (points, rate.floor_times(points))
    for asked in [*back, points]:
        voucher = refunded(voucher, min(asked, points - voucher.points_refunded))
        net = points - voucher.points_refunded
        owed = sum(one.fen for one in voucher.captures) - sum(one.fen for one in voucher.refunds)
        assert owed == rate.floor_times(net)
    assert (voucher.points_refunded, rules.refundable(voucher)) == (points, [])
    assert sum(one.fen for one in voucher.refunds) == sum(one.fen for one in voucher.captures)


def test_a_refund_in_parts_of_one_request_is_worth_what_one_part_is() -> None:
    voucher = captured(captured(CARD, 4), 6)
    whole = rules.fen_of_refund(voucher, 50)
    parts = rules.fen_of_refund(voucher, 47) + rules.fen_of_refund(voucher, 3, before=47)
    assert (whole, parts) == (35, 35)


@pytest.mark.parametrize(
    ("changes", "fen"),
    [({}, 53), ({"bearer": Bearer.MERCHANT}, 0), ({"kind": OfferKind.DONATION}, 0), ({"kind": OfferKind.CODE}, 53)],
    ids=["programme", "merchant", "gift", "code"],
)
def test_what_the_programme_owes_goes_by_who_bears_the_cost(changes: dict[str, object], fen: int) -> None:
    assert rules.value_fen(dataclasses.replace(PROMISE, **changes), 77) == fen  # type: ignore[arg-type]


def test_a_voucher_counts_to_the_end_of_a_local_day_or_to_its_offers_end() -> None:
    week = offer(NOW, voucher_days=7).terms
    today = changed(offer(NOW), voucher_days=0).terms
    fixed = changed(offer(NOW), vouchers_until=datetime(2026, 11, 22, tzinfo=UTC)).terms
    assert rules.ends_at(week, NOW, SHANGHAI) == datetime(2026, 11, 28, 16, tzinfo=UTC)
    assert rules.ends_at(today, NOW, SHANGHAI) == datetime(2026, 11, 21, 16, tzinfo=UTC)
    assert rules.ends_at(fixed, NOW, SHANGHAI) == datetime(2026, 11, 22, tzinfo=UTC)


def test_what_ends_unused_returns_its_units_and_what_was_begun_does_not() -> None:
    part = dataclasses.replace(captured(CARD, 3), status=VoucherStatus.PART)
    assert returned([CARD, part, CARD]) == {"offer:card": 2, "budget:cafe:2026-11-01": 106}
    assert ended(CARD, VoucherStatus.EXPIRED).status is VoucherStatus.EXPIRED
    assert ended(part, VoucherStatus.CANCELLED).status is VoucherStatus.CAPTURED
    assert ended(refunded(part, part.points_captured), VoucherStatus.EXPIRED).status is VoucherStatus.REFUNDED


def test_a_voucher_is_over_from_its_end_on_whoever_has_noted_it() -> None:
    part = dataclasses.replace(captured(CARD, 3), status=VoucherStatus.PART)
    before, end = NOW, CARD.expires_at
    assert (CARD.status_at(before), CARD.status_at(end)) == (VoucherStatus.HELD, VoucherStatus.EXPIRED)
    assert (part.status_at(before), part.status_at(end)) == (VoucherStatus.PART, VoucherStatus.CAPTURED)
    assert refunded(part, part.points_captured).status_at(end) is VoucherStatus.REFUNDED


@pytest.mark.parametrize(
    ("cycle", "moment", "start", "end"),
    [
        (Cycle.MONTH, NOW, date(2026, 11, 1), datetime(2026, 11, 30, 16, tzinfo=UTC)),
        (
            Cycle.MONTH,
            datetime(2026, 12, 31, 15, 59, tzinfo=UTC),
            date(2026, 12, 1),
            datetime(2026, 12, 31, 16, tzinfo=UTC),
        ),
        (
            Cycle.MONTH,
            datetime(2026, 12, 31, 16, 0, tzinfo=UTC),
            date(2027, 1, 1),
            datetime(2027, 1, 31, 16, tzinfo=UTC),
        ),
        (Cycle.WEEK, NOW, date(2026, 11, 16), datetime(2026, 11, 22, 16, tzinfo=UTC)),
        (
            Cycle.WEEK,
            datetime(2026, 11, 22, 16, tzinfo=UTC),
            date(2026, 11, 23),
            datetime(2026, 11, 29, 16, tzinfo=UTC),
        ),
    ],
)
def test_periods_are_local_weeks_and_months(cycle: Cycle, moment: datetime, start: date, end: datetime) -> None:
    assert (period_start(cycle, moment, SHANGHAI), period_end(cycle, moment, SHANGHAI)) == (start, end)
