"""The merchant's counter and what follows on a capture: looking codes up, handing over, refunds, disputes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import strawberry

from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.rewards.merchants import errors as merchant_errors
from backend.rewards.merchants.model import ShopId
from backend.rewards.vouchers import errors
from backend.rewards.vouchers.model import Voucher
from schemas.context import Info
from schemas.refusals import result_union
from schemas.relay import Connection, connect, local_id_of, moment_place, page_span, read_moment_place
from schemas.scalars import BigInt
from schemas.vouchers import VoucherType, voucher_id_of

MAX_CAPTURED = timedelta(days=31)


@strawberry.input
class CaptureVoucherInput:
    """What a scanner or a cashier read, and how many items to hand over (all that are left where none is given)."""

    idempotency_key: str
    code: str
    items: int | None = None
    shop: strawberry.ID | None = None


@strawberry.input
class RefundVoucherInput:
    """Points to give back (all that were captured where none are given), and why, in 1–200 characters."""

    idempotency_key: str
    voucher: strawberry.ID
    reason: str
    points: BigInt | None = None


@strawberry.input
class DisputeVoucherInput:
    """A complaint about what was captured, in 1–200 characters."""

    idempotency_key: str
    voucher: strawberry.ID
    reason: str


@strawberry.input
class DecideDisputeInput:
    """Points to give back, 0 to dismiss the complaint, and the answer, in 1–200 characters that the citizen reads."""

    idempotency_key: str
    voucher: strawberry.ID
    points: BigInt
    answer: str


ANY = (IdempotencyConflictError, InvalidInputError)
CaptureVoucherResult: Any = result_union(
    "CaptureVoucherResult",
    VoucherType,
    merchant_errors.MerchantStageError,
    merchant_errors.UnknownShopError,
    errors.TooManyCodesError,
    errors.CodeInvalidError,
    errors.TypedCodeLockedError,
    errors.CodeExpiredError,
    errors.WrongVoucherStatusError,
    errors.VoucherExpiredError,
    errors.CodeReplayedError,
    errors.WrongShopError,
    errors.ItemsExceededError,
    *ANY,
)
RefundVoucherResult: Any = result_union(
    "RefundVoucherResult",
    VoucherType,
    errors.UnknownVoucherError,
    errors.WrongVoucherStatusError,
    errors.RefundClosedError,
    errors.RefundExceededError,
    *ANY,
)
DisputeVoucherResult: Any = result_union(
    "DisputeVoucherResult",
    VoucherType,
    errors.UnknownVoucherError,
    errors.WrongVoucherStatusError,
    errors.DisputeExistsError,
    errors.DisputeClosedError,
    *ANY,
)
DecideDisputeResult: Any = result_union(
    "DecideDisputeResult",
    VoucherType,
    errors.UnknownVoucherError,
    errors.NoDisputeError,
    errors.RefundExceededError,
    *ANY,
)
VoucherLookupResult: Any = result_union(
    "VoucherLookupResult",
    VoucherType,
    errors.TooManyCodesError,
    errors.CodeInvalidError,
    errors.TypedCodeLockedError,
    errors.CodeExpiredError,
)


@strawberry.type
class CounterMutation:
    """Mutations at the counter, and on what was captured there."""

    @strawberry.mutation(graphql_type=CaptureVoucherResult)
    async def capture_voucher(self, info: Info, input: CaptureVoucherInput) -> Voucher:  # noqa: A002
        """Hand over what a shown code is for; at the merchant's counter, for exactly one of all who try."""
        principal = info.context.require_principal()
        shop = ShopId(local_id_of("Shop", input.shop)) if input.shop is not None else None
        return await info.context.services.rewards.counter.capture(
            principal, input.code, items=input.items, shop=shop, key=input.idempotency_key
        )

    @strawberry.mutation(graphql_type=RefundVoucherResult)
    async def refund_voucher(self, info: Info, input: RefundVoucherInput) -> Voucher:  # noqa: A002
        """Give captured points back; for the merchant within the offer's days, for administrators always."""
        principal = info.context.require_principal()
        return await info.context.services.rewards.refunding.refund(
            principal, voucher_id_of(input.voucher), input.points, input.reason, key=input.idempotency_key
        )

    @strawberry.mutation(graphql_type=DisputeVoucherResult)
    async def dispute_voucher(self, info: Info, input: DisputeVoucherInput) -> Voucher:  # noqa: A002
        """Complain about what was captured; once, within thirty days; staff decide."""
        principal = info.context.require_principal()
        refunding = info.context.services.rewards.refunding
        return await refunding.dispute(principal, voucher_id_of(input.voucher), input.reason, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=DecideDisputeResult)
    async def decide_dispute(self, info: Info, input: DecideDisputeInput) -> Voucher:  # noqa: A002
        """Decide on a complaint; for reviewers and administrators."""
        principal = info.context.require_principal()
        return await info.context.services.rewards.refunding.decide_dispute(
            principal, voucher_id_of(input.voucher), input.points, input.answer, key=input.idempotency_key
        )


@strawberry.type
class CounterQueries:
    """What the counter reads."""

    @strawberry.field(graphql_type=VoucherLookupResult)
    async def voucher(self, info: Info, code: str) -> Voucher:
        """The voucher whose code is shown, before anything is captured: what to hand over, and how much is left."""
        principal = info.context.require_principal()
        return await info.context.services.rewards.counter.look_up(principal, code)

    @strawberry.field(graphql_type=list[VoucherType])
    async def captured(self, info: Info, since: datetime, until: datetime) -> list[Voucher]:
        """Vouchers of which something was captured in at most 31 days, last captured first; at most 500."""
        context = info.context
        desk = await context.services.rewards.merchants.desk(context.require_principal())
        if not timedelta() < until - since <= MAX_CAPTURED:
            days = MAX_CAPTURED.days
            problem = Text(f"应晚于 since，且不超过 {days} 天", f"after since, by {days} days at most")
            raise InvalidInputError("until", problem)
        return await context.services.rewards.vouchers.list_captured(desk.merchant.id, since, until)


@strawberry.type
class DisputeQueries:
    """What those read who decide on complaints."""

    @strawberry.field(graphql_type=Connection[VoucherType])
    async def disputes(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Voucher]:
        """Vouchers with an open complaint, the longest waiting first; at most 100 a page."""
        span = page_span(first, after, last, before)
        behind, ahead = read_moment_place(span.after, "after"), read_moment_place(span.before, "before")
        vouchers = info.context.services.rewards.vouchers

        async def fetch(limit: int) -> list[Voucher]:
            return await vouchers.list_disputed(limit=limit, behind=behind, ahead=ahead, last=not span.newest)

        return await connect(span, fetch, _disputed_place)


def _disputed_place(voucher: Voucher) -> str:
    assert voucher.dispute is not None
    return moment_place(voucher.dispute.opened_at, voucher.id)
