"""Vouchers: what everybody concerned sees of them, redeeming and giving up, the code on the citizen's phone."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import strawberry

from backend.identity.errors import ForbiddenError
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.ids import CitizenId
from backend.rewards.offers import errors as offer_errors
from backend.rewards.offers.model import OfferId
from backend.rewards.vouchers import codes, errors
from backend.rewards.vouchers.codes import ShownCode
from backend.rewards.vouchers.model import OPEN, Capture, Dispute, Refund, Voucher, VoucherId
from backend.runtime import voucher_channel
from schemas.actions import next_events
from schemas.context import Info
from schemas.enums import Bearer, DisputeStage, OfferKind, VoucherStatus
from schemas.refusals import result_union
from schemas.relay import (
    Connection,
    Node,
    connect_by_moment,
    local_id_of,
    page_span,
    to_global_id,
)
from schemas.scalars import BigInt
from schemas.view import view


@view(of=ShownCode, name="VoucherCode")
class VoucherCodeType:
    """What the citizen shows at the counter until ``validUntil``: a QR code of ``token``, or ``typed`` read aloud."""

    token: str
    typed: str
    valid_until: datetime

    @strawberry.field
    @staticmethod
    def svg(parent: strawberry.Parent[ShownCode]) -> str:
        """The QR code as SVG."""
        return codes.qr_svg(parent.token)

    @strawberry.field
    @staticmethod
    def png(parent: strawberry.Parent[ShownCode]) -> str:
        """The QR code as PNG, in base64."""
        return base64.b64encode(codes.qr_png(parent.token)).decode()


@view(of=Capture, name="VoucherCapture")
class CaptureType:
    """Items handed over at a shop."""

    at: datetime
    items: int

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Capture]) -> str:
        """Id of the transaction in the book, to ask for its receipt."""
        return parent.transaction

    @strawberry.field
    @staticmethod
    def points(parent: strawberry.Parent[Capture]) -> BigInt:
        """Points that moved to the merchant."""
        return BigInt(parent.points)

    @strawberry.field
    @staticmethod
    def shop(parent: strawberry.Parent[Capture]) -> strawberry.ID | None:
        """Global id of the shop, where one was named."""
        return to_global_id("Shop", parent.shop) if parent.shop else None


@view(of=Refund, name="VoucherRefund")
class RefundType:
    """Points given back, to the lots they came from, and why."""

    at: datetime
    reason: str

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Refund]) -> str:
        """Id of the transaction in the book."""
        return parent.transaction

    @strawberry.field
    @staticmethod
    def points(parent: strawberry.Parent[Refund]) -> BigInt:
        """Points that came back."""
        return BigInt(parent.points)


@view(of=Dispute, name="VoucherDispute")
class DisputeType:
    """A citizen's complaint, and staff's answer."""

    stage: DisputeStage
    opened_at: datetime
    reason: str
    decided_at: datetime | None
    answer: str | None


def _is_owner(voucher: Voucher, info: Info) -> bool:
    principal = info.context.principal
    return principal is not None and principal.citizen == voucher.citizen


@view(of=Voucher, name="Voucher")
class VoucherType(Node):
    """A redemption, seen by its citizen, by the merchant and by staff; codes and secret by its citizen alone."""

    units: int
    items: int
    created_at: datetime
    expires_at: datetime

    @strawberry.field
    @staticmethod
    def status(parent: strawberry.Parent[Voucher], info: Info) -> VoucherStatus:
        """Where it stands now."""
        return parent.status_at(info.context.services.clock.now())

    @strawberry.field
    @staticmethod
    def kind(parent: strawberry.Parent[Voucher]) -> OfferKind:
        """What redeeming it gave."""
        return parent.promise.kind

    @strawberry.field
    @staticmethod
    def title(parent: strawberry.Parent[Voucher], info: Info) -> str:
        """What it is for, in the reader's language."""
        return parent.promise.title.said(info.context.language)

    @strawberry.field
    @staticmethod
    def handover(parent: strawberry.Parent[Voucher], info: Info) -> str:
        """What the cashier hands over, in the reader's language."""
        return parent.promise.handover.said(info.context.language)

    @strawberry.field
    @staticmethod
    def offer_id(parent: strawberry.Parent[Voucher]) -> strawberry.ID:
        """Global id of the offer."""
        return to_global_id("Offer", parent.offer)

    @strawberry.field
    @staticmethod
    def merchant_id(parent: strawberry.Parent[Voucher]) -> strawberry.ID:
        """Global id of the merchant."""
        return to_global_id("Merchant", parent.merchant)

    @strawberry.field
    @staticmethod
    def shops(parent: strawberry.Parent[Voucher]) -> list[strawberry.ID]:
        """Global ids of the shops where it counts; none named: all of the merchant's."""
        return [to_global_id("Shop", shop) for shop in parent.promise.shops]

    @strawberry.field
    @staticmethod
    def items_left(parent: strawberry.Parent[Voucher], info: Info) -> int:
        """How many items can still be handed over."""
        is_open = parent.status_at(info.context.services.clock.now()) in OPEN
        return parent.items - parent.items_captured if is_open else 0

    @strawberry.field
    @staticmethod
    def points(parent: strawberry.Parent[Voucher]) -> BigInt:
        """Points of the whole voucher."""
        return BigInt(parent.points)

    @strawberry.field
    @staticmethod
    def points_captured(parent: strawberry.Parent[Voucher]) -> BigInt:
        """Points that moved to the merchant, refunded ones included."""
        return BigInt(parent.points_captured)

    @strawberry.field
    @staticmethod
    def points_refunded(parent: strawberry.Parent[Voucher]) -> BigInt:
        """Points that came back."""
        return BigInt(parent.points_refunded)

    @strawberry.field
    @staticmethod
    def cash_fen(parent: strawberry.Parent[Voucher]) -> BigInt:
        """Fen to be paid at the counter for each unit."""
        return BigInt(parent.promise.cash_fen)

    @strawberry.field
    @staticmethod
    def borne_by(parent: strawberry.Parent[Voucher]) -> Bearer:
        """Who bears the cost."""
        return parent.promise.bearer

    @strawberry.field(graphql_type=list[CaptureType])
    @staticmethod
    def captures(parent: strawberry.Parent[Voucher]) -> tuple[Capture, ...]:
        """What was handed over, first things first."""
        return parent.captures

    @strawberry.field(graphql_type=list[RefundType])
    @staticmethod
    def refunds(parent: strawberry.Parent[Voucher]) -> tuple[Refund, ...]:
        """What was given back, first things first."""
        return parent.refunds

    @strawberry.field(graphql_type=DisputeType | None)
    @staticmethod
    def dispute(parent: strawberry.Parent[Voucher]) -> Dispute | None:
        """The complaint about it, where there is one."""
        return parent.dispute

    @strawberry.field(graphql_type=VoucherCodeType | None)
    @staticmethod
    def shown_code(parent: strawberry.Parent[Voucher], info: Info) -> ShownCode | None:
        """What to show at the counter now; null for all but its citizen, and where nothing is left to hand over."""
        return info.context.services.rewards.vouchers.shown_code(parent) if _is_owner(parent, info) else None

    @strawberry.field
    @staticmethod
    def secret(parent: strawberry.Parent[Voucher], info: Info) -> str | None:
        """What the citizen's phone makes codes of while it has no network (docs/vouchers.md): 32 bytes in base64."""
        if not _is_owner(parent, info):
            return None
        return base64.b64encode(info.context.services.rewards.vouchers.secret_of(parent)).decode()

    @strawberry.field
    @staticmethod
    async def partner_code(parent: strawberry.Parent[Voucher], info: Info) -> str | None:
        """The third party's code it paid for, where the offer is of codes; for its citizen alone."""
        return await info.context.services.rewards.vouchers.partner_code(parent) if _is_owner(parent, info) else None


@strawberry.input
class RedeemOfferInput:
    """1–20 units of an offer."""

    idempotency_key: str
    offer: strawberry.ID
    units: int = 1


@strawberry.input
class CancelVoucherInput:
    """A voucher to be given up, as far as nothing of it is handed over."""

    idempotency_key: str
    voucher: strawberry.ID


ANY = (IdempotencyConflictError, InvalidInputError)
RedeemOfferResult: Any = result_union(
    "RedeemOfferResult",
    VoucherType,
    offer_errors.UnknownOfferError,
    offer_errors.OfferClosedError,
    offer_errors.NotInAudienceError,
    offer_errors.LimitReachedError,
    offer_errors.SoldOutError,
    offer_errors.BudgetSpentError,
    errors.TooManyVouchersError,
    errors.InsufficientPointsError,
    *ANY,
)
CancelVoucherResult: Any = result_union(
    "CancelVoucherResult",
    VoucherType,
    errors.UnknownVoucherError,
    errors.WrongVoucherStatusError,
    errors.VoucherExpiredError,
    *ANY,
)


def voucher_id_of(given: str) -> VoucherId:
    """The voucher that an input names, by its global id or its own."""
    return VoucherId(local_id_of(Voucher.__name__, given))


@strawberry.type
class VouchersMutation:
    """Mutations on vouchers."""

    @strawberry.mutation(graphql_type=RedeemOfferResult)
    async def redeem_offer(self, info: Info, input: RedeemOfferInput) -> Voucher:  # noqa: A002
        """Redeem an offer for the citizen who asks: points are held, and the voucher's code can be shown at once."""
        principal = info.context.require_principal()
        offer = OfferId(local_id_of("Offer", input.offer))
        vouchers = info.context.services.rewards.vouchers
        return await vouchers.redeem(principal, offer, input.units, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=CancelVoucherResult)
    async def cancel_voucher(self, info: Info, input: CancelVoucherInput) -> Voucher:  # noqa: A002
        """Give up what is not handed over yet; the points return to the lots they came from."""
        principal = info.context.require_principal()
        vouchers = info.context.services.rewards.vouchers
        return await vouchers.cancel(principal, voucher_id_of(input.voucher), key=input.idempotency_key)


async def connect_vouchers(
    info: Info, citizen: CitizenId, first: int | None, after: str | None, last: int | None, before: str | None
) -> Connection[Voucher]:
    """A page of a citizen's vouchers, newest first."""

    async def list_page(**span: Any) -> list[Voucher]:
        return await info.context.services.rewards.vouchers.list_vouchers(citizen, **span)

    return await connect_by_moment(
        page_span(first, after, last, before), list_page, lambda voucher: (voucher.created_at, voucher.id)
    )


@strawberry.type
class VouchersSubscription:
    """Subscriptions on vouchers."""

    @strawberry.subscription(graphql_type=VoucherType)
    async def voucher_changed(self, info: Info) -> AsyncGenerator[Voucher, None]:
        """The caller's own vouchers as they are made, captured, refunded or over."""
        principal = info.context.require_principal()
        if principal.citizen is None:
            raise ForbiddenError(Text("订阅兑换券", "voucherChanged"))
        async with info.context.services.channels.listen(voucher_channel(principal.citizen)) as events:
            while True:
                ids = [VoucherId(event["voucher"]) for event in await next_events(events)]
                info.context.require_principal()  # a websocket can outlive its token
                found = await info.context.services.rewards.vouchers.find(ids)
                for voucher in map(found.get, dict.fromkeys(ids)):
                    if voucher is not None and voucher.citizen == principal.citizen:
                        yield voucher
