"""Checks of neutralisations beside their orders and certificates, at one instant: each ends in one retirement or none.

What was asked is sealed by its hash; what it emits follows from it by the factors of the version that was used, as long
as those come with the product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.snapshots import find_orders_at
from backend.market.neutrality.factors import shipped_factors
from backend.market.neutrality.model import GOING, NeutralStage
from backend.market.neutrality.rules import beneficiary_of, certificate_of, estimate, payload_of, retiring
from backend.market.neutrality.store import stream_neutralisations
from backend.market.retirement.rules import payload_of as retired_payload
from backend.market.retirement.store import find_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.ledger.audit.findings import Audit
    from backend.market.exchange.model import Order
    from backend.market.neutrality.model import Neutralisation
    from backend.market.retirement.model import Certificate
    from backend.mongo.client import Snapshot

BATCH = 500
GRAM = 1


async def audit_neutrality(snapshot: Snapshot, audit: Audit) -> None:
    """Check all neutralisations of the snapshot; findings go to ``audit``."""
    batch: list[Neutralisation] = []
    async for one, is_sound in stream_neutralisations(snapshot, audit):
        if not is_sound:
            audit.report(f"neutralisation {one.id}", "is stored otherwise than it follows from itself")
        batch.append(one)
        if len(batch) == BATCH:
            await _check(snapshot, audit, batch)
            batch = []
    await _check(snapshot, audit, batch)


async def _check(snapshot: Snapshot, audit: Audit, batch: list[Neutralisation]) -> None:
    certificates = await find_at(snapshot, [certificate_of(one.id) for one in batch])
    orders = await find_orders_at(snapshot, [one.order for one in batch if one.order])
    for one in batch:
        place = f"neutralisation {one.id}"
        try:
            for problem in _problems(one, orders.get(one.order or ""), certificates.get(certificate_of(one.id))):
                audit.report(place, problem)
        except Exception as error:  # noqa: BLE001 - whatever a forged document breaks is a finding, never a traceback
            audit.report(place, f"cannot be checked: {error!r}")


def _problems(one: Neutralisation, order: Order | None, certificate: Certificate | None) -> Iterator[str]:
    yield from _stage_problems(one)
    yield from _order_problems(one, order)
    yield from _certificate_problems(one, certificate)
    yield from _asked_problems(one)


def _asked_problems(one: Neutralisation) -> Iterator[str]:
    """In what it is not what was asked for."""
    asked = one.asked
    if one.payload != payload_of(one.owner, asked):
        yield "says something else than what was asked"
    if one.beneficiary != beneficiary_of(asked):
        yield f"is for {one.beneficiary.name}, not for {beneficiary_of(asked).name}"
    if one.factors == shipped_factors().version:
        grams = estimate(asked.legs, asked.days, shipped_factors(), GRAM).grams
        if one.total_g < grams:
            yield f"retires {one.total_g} g for {grams} g that are emitted"
    if one.to_buy_g > one.total_g or (one.to_buy_g != one.total_g and not asked.uses_holdings):
        yield f"buys {one.to_buy_g} g of {one.total_g} g"


def _stage_problems(one: Neutralisation) -> Iterator[str]:
    """In what it has not what its stage asks for."""
    stage = one.stage
    if (one.failure is not None) is not (stage is NeutralStage.FAILED):
        yield f"is {stage} and failed for {one.failure}"
    if (one.ended_at is None) is not (stage in GOING) or (one.ended_at is not None and one.ended_at < one.made_at):
        yield f"is {stage}, was begun at {one.made_at} and ended at {one.ended_at}"
    if one.certificate != (certificate_of(one.id) if stage is NeutralStage.RETIRED else None):
        yield f"is {stage} and names {one.certificate} as its certificate"
    if stage in {NeutralStage.BOUGHT, NeutralStage.RETIRED} and one.bought_g != one.to_buy_g:
        yield f"is {stage} with {one.bought_g} of {one.to_buy_g} g bought"


def _order_problems(one: Neutralisation, order: Order | None) -> Iterator[str]:
    """In what the order is not the one that buys for it."""
    if one.order is None:
        if one.bought_g:
            yield f"has bought {one.bought_g} g without an order"
        return
    if order is None:
        yield f"names {one.order}, which is no order"
        return
    due = (one.owner, one.asked.credit, Side.BUY, TimeInForce.FOK, one.asked.max_price_fen, one.to_buy_g)
    told = (order.owner, order.instrument, order.side, order.time_in_force, order.price_fen, order.quantity_g)
    if told != due:
        yield f"names {order.id}, which is another's or another order"
    # While it buys, the order is ahead of what is noted of it.
    if one.stage is not NeutralStage.BUYING and one.bought_g != order.filled_g:
        yield f"notes {one.bought_g} g bought, its order gave {order.filled_g} g"
    is_short = one.stage is NeutralStage.FAILED and order.filled_g < one.to_buy_g
    if is_short and order.reason is not None and one.failure != order.reason.value:
        yield f"failed for {one.failure}, its order for {order.reason}"


def _certificate_problems(one: Neutralisation, certificate: Certificate | None) -> Iterator[str]:
    if certificate is None:
        if one.stage is NeutralStage.RETIRED:
            yield "is retired without a certificate"
        return
    # Between the retirement and the note of it a neutralisation is BOUGHT.
    if one.stage in {NeutralStage.BUYING, NeutralStage.FAILED}:
        yield f"is {one.stage} and has a certificate"
    if certificate.payload != retired_payload(one.owner, retiring(one)):
        yield "has a certificate that says something else"
