"""What a redemption makes: promise, voucher, the transaction behind it, and what it takes of which pots. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backend.kernel.clock import local_date
from backend.kernel.crypto import payload_hash
from backend.kernel.ids import TransactionId, derived_id
from backend.ledger.model import (
    DONATIONS,
    POINTS,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    merchant_owner,
)
from backend.rewards.merchants.cycles import period_start
from backend.rewards.offers.model import OfferKind, StockKind
from backend.rewards.stock.model import Want, budget_pot, stock_pot
from backend.rewards.vouchers import rules
from backend.rewards.vouchers.model import Capture, PotUse, Promise, Voucher, VoucherStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.kernel.ids import CitizenId
    from backend.ledger.model import AccountId
    from backend.rewards.merchants.model import Contract
    from backend.rewards.offers.model import Offer
    from backend.rewards.stock.model import PotId
    from backend.rewards.vouchers.model import VoucherId

# What redeeming itself hands over: nothing is left for a counter to do.
AT_ONCE = frozenset({OfferKind.CODE, OfferKind.DONATION})


def promise_of(offer: Offer, contract: Contract) -> Promise:
    """What the citizen and the merchant may count on from now."""
    terms = offer.terms
    return Promise(
        kind=terms.kind,
        title=terms.title,
        handover=terms.handover,
        cash_fen=terms.cash_fen,
        refund_days=terms.refund_days,
        bearer=terms.bearer,
        rate=contract.rate,
        commission_bps=contract.commission_bps,
        shops=terms.shops,
        offer_revision=offer.revision,
    )


def wants_of(offer: Offer, contract: Contract, units: int, now: datetime, zone: ZoneInfo) -> Mapping[PotId, Want]:
    """The pots that bound so many units of the offer, and how much of each they take."""
    stock, wants = offer.terms.stock, {}
    if stock.kind is not StockKind.UNLIMITED:
        day = local_date(now, zone) if stock.kind is StockKind.DAILY else None
        wants[stock_pot(offer.id, day)] = Want(units, stock.units)
    worth = rules.value_fen(promise_of(offer, contract), offer.terms.price_points * units)
    if contract.budget_fen is not None and worth:
        period = period_start(contract.cycle, now, zone)
        wants[budget_pot(offer.merchant, period)] = Want(worth, contract.budget_fen)
    return wants


def transaction_of(voucher: Voucher) -> Transaction:
    """What the redemption posts: points reserved for the merchant until the voucher's end, or moved at once.

    Its cause seals all that was promised: nobody changes it afterwards without the auditor's notice.
    """
    promise = voucher.promise
    account = account_of(citizen_owner(voucher.citizen), POINTS)
    shop = account_of(merchant_owner(voucher.merchant), POINTS)
    cause = {"voucher": voucher.id, "offer": voucher.offer, "promise": seal_of(voucher)}
    match promise.kind:
        case OfferKind.VOUCHER:
            kind, payee = TransactionKind.HOLD, shop
        case OfferKind.CODE:
            kind, payee = TransactionKind.TRANSFER, shop
            cause |= owed(voucher.merchant, rules.value_fen(promise, voucher.points), promise)
        case OfferKind.DONATION:
            kind, payee = TransactionKind.TRANSFER, DONATIONS
    return Transaction(
        key=f"redeem:{voucher.id}",
        kind=kind,
        postings=(moving(account, payee, voucher.points),),
        cause=cause,
        expires_at=voucher.expires_at if kind is TransactionKind.HOLD else None,
    )


def seal_of(voucher: Voucher) -> str:
    """SHA-256 of what never changes of a voucher, but for its number."""
    promise = voucher.promise
    return payload_hash(
        [
            [voucher.merchant, voucher.units, voucher.items, voucher.points],
            [voucher.created_at, voucher.day, voucher.expires_at],
            [[use.pot, use.units] for use in voucher.pots],
            [promise.kind, list(promise.title), list(promise.handover), promise.cash_fen, promise.refund_days],
            [promise.bearer, str(promise.rate), promise.commission_bps, list(promise.shops), promise.offer_revision],
        ]
    )


def moving(payer: AccountId, payee: AccountId, points: int) -> Posting:
    """So many points from one account to another."""
    return Posting(from_account=payer, to_account=payee, asset=POINTS, amount=points)


def owed(merchant: str, fen: int, promise: Promise) -> dict[str, str]:
    """What a transaction's cause tells the merchant's settlement: fen owed more, or less, and the commission."""
    return {"merchant": merchant, "fen": str(fen), "commission_bps": str(promise.commission_bps)}


def new_voucher(
    voucher: VoucherId,
    citizen: CitizenId,
    offer: Offer,
    contract: Contract,
    *,
    units: int,
    payload: str,
    now: datetime,
    zone: ZoneInfo,
) -> Voucher:
    """The voucher as it is asked for: held, without a number yet."""
    terms = offer.terms
    return Voucher(
        id=voucher,
        citizen=citizen,
        offer=offer.id,
        merchant=offer.merchant,
        promise=promise_of(offer, contract),
        number="",
        units=units,
        items=terms.items * units,
        points=terms.price_points * units,
        hold=TransactionId(derived_id("tx", f"redeem:{voucher}")),
        status=VoucherStatus.HELD,
        created_at=now,
        day=local_date(now, zone),
        expires_at=rules.ends_at(terms, now, zone),
        captures=(),
        refunds=(),
        dispute=None,
        pots=tuple(
            PotUse(pot=pot, units=want.units) for pot, want in wants_of(offer, contract, units, now, zone).items()
        ),
        last_step=0,
        payload=payload,
        version=1,
    )


def made(voucher: Voucher, number: str, at: datetime) -> Voucher:
    """The voucher with its number, its transaction having happened ``at``: captured, where redeeming does that."""
    if voucher.promise.kind not in AT_ONCE:
        return dataclasses.replace(voucher, number=number)
    capture = Capture(
        transaction=voucher.hold,
        at=at,
        items=voucher.items,
        points=voucher.points,
        fen=rules.value_fen(voucher.promise, voucher.points),
        shop=None,
        member=None,
    )
    return dataclasses.replace(voucher, number=number, status=VoucherStatus.CAPTURED, captures=(capture,))
