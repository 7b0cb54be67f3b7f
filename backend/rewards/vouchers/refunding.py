"""Gives captured points back to the lots they came from: refunds by merchants and staff, disputes of citizens."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.identity import rules as identity_rules
from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind, StaffRole
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import InvalidInputError, Text
from backend.ledger.model import (
    DONATIONS,
    POINTS,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    merchant_owner,
)
from backend.mongo.idempotency import Use
from backend.rewards.offers.model import OfferKind
from backend.rewards.vouchers import rules
from backend.rewards.vouchers.changing import Change
from backend.rewards.vouchers.errors import (
    DisputeClosedError,
    DisputeExistsError,
    NoDisputeError,
    RefundClosedError,
    RefundExceededError,
    UnknownVoucherError,
)
from backend.rewards.vouchers.making import moving, owed
from backend.rewards.vouchers.model import OPEN, Dispute, DisputeStage, Refund, VoucherStatus
from backend.rewards.vouchers.telling import wrong_status
from backend.rewards.webhooks.events import EventType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.ids import TransactionId
    from backend.mongo.transactions import Tx
    from backend.rewards.vouchers.changing import Changing, Desks
    from backend.rewards.vouchers.model import Voucher, VoucherId

MAX_REASON = 200
MAX_REFUNDS = 50
OFTEN = Text("退款次数过多，请一次退完", "refunded too often; give back the rest at once")
DISPUTE_DAYS = 30
DECIDES = frozenset({StaffRole.ADMIN, StaffRole.REVIEWER})


class Refunding:
    """Refunds and disputes."""

    def __init__(self, *, changing: Changing, desks: Desks, zone: ZoneInfo) -> None:
        self._changing = changing
        self._desks = desks
        self._zone = zone

    async def refund(
        self, principal: Principal, voucher: VoucherId, points: int | None, reason: str, *, key: str
    ) -> Voucher:
        """Give back ``points`` (all that are left where None) of what was captured, last captured first.

        A member of the merchant may within the offer's days after the last capture; an administrator always.

        Raises:
            ForbiddenError: neither of these.
            InvalidInputError: the key, the number or the reason (1–200 characters).
            UnknownVoucherError: none of that id, or another merchant's.
            WrongVoucherStatusError: nothing was captured.
            RefundClosedError, RefundExceededError: in this order.
            IdempotencyConflictError: the key was used for another refund.
        """
        identity_rules.require_idempotency_key(key)
        identity_rules.require_note("reason", reason, limit=MAX_REASON)
        if points is not None:
            identity_rules.require_points(points)
        desk = None if principal.is_admin else await self._desks.desk(principal)
        use = Use(str(principal), "refundVoucher", key, payload_hash([voucher, points, reason]))

        def decide(before: Voucher, now: datetime) -> Change:
            if desk is not None and before.merchant != desk.merchant.id:
                raise UnknownVoucherError
            if not before.captures:
                raise wrong_status(before, now, self._zone)
            days = before.promise.refund_days
            if desk is not None and now >= before.captures[-1].at + timedelta(days=days):
                raise RefundClosedError(days)
            if points is not None and len(before.refunds) >= MAX_REFUNDS:
                raise InvalidInputError("points", OFTEN)
            return _refund(before, points, reason, str(principal), use.id)

        async def guard(tx: Tx) -> None:
            if desk is not None:
                await self._desks.desk_within(tx, principal)

        return await self._changing.change(voucher, use, decide, guard=guard)

    async def dispute(self, principal: Principal, voucher: VoucherId, reason: str, *, key: str) -> Voucher:
        """Complain of a capture, within thirty days, once a voucher; staff decide.

        Raises:
            ForbiddenError: not a citizen.
            InvalidInputError: the key or the reason (1–200 characters).
            UnknownVoucherError: none of that id, or somebody else's.
            WrongVoucherStatusError: nothing was captured.
            DisputeExistsError, DisputeClosedError: in this order.
            IdempotencyConflictError: the key was used for another complaint.
        """
        identity_rules.require_idempotency_key(key)
        identity_rules.require_note("reason", reason, limit=MAX_REASON)
        if principal.citizen is None:
            raise ForbiddenError(Text("对兑换提出争议", "disputes are citizens'"))
        use = Use(str(principal), "disputeVoucher", key, payload_hash([voucher, reason]))

        def decide(before: Voucher, now: datetime) -> Change:
            if before.citizen != principal.citizen:
                raise UnknownVoucherError
            if not before.captures:
                raise wrong_status(before, now, self._zone)
            if before.dispute is not None:
                raise DisputeExistsError(before.dispute.stage)
            if now >= before.captures[-1].at + timedelta(days=DISPUTE_DAYS):
                raise DisputeClosedError(DISPUTE_DAYS)
            opened = Dispute(
                stage=DisputeStage.OPEN, opened_at=now, reason=reason, decided_at=None, decided_by=None, answer=None
            )
            after = dataclasses.replace(before, dispute=opened, version=before.version + 1)
            return Change(lambda _: after)

        return await self._changing.change(voucher, use, decide)

    async def decide_dispute(
        self, principal: Principal, voucher: VoucherId, points: int, answer: str, *, key: str
    ) -> Voucher:
        """Uphold a complaint by refunding ``points``, or dismiss it with 0; the answer is read by citizen and merchant.

        Raises:
            ForbiddenError: neither administrator nor reviewer.
            InvalidInputError: the key, the number or the answer (1–200 characters).
            UnknownVoucherError: none of that id.
            NoDisputeError, RefundExceededError: in this order.
            IdempotencyConflictError: the key was used for another decision.
        """
        identity_rules.require_idempotency_key(key)
        identity_rules.require_note("answer", answer, limit=MAX_REASON)
        if points:
            identity_rules.require_points(points)
        if principal.kind is not PrincipalKind.STAFF or not principal.staff_roles & DECIDES:
            raise ForbiddenError(Text("处理兑换争议", "deciding disputes"))
        use = Use(str(principal), "decideDispute", key, payload_hash([voucher, points, answer]))

        def decide(before: Voucher, now: datetime) -> Change:
            dispute = before.dispute
            if dispute is None or dispute.stage is not DisputeStage.OPEN:
                raise NoDisputeError
            decided = dataclasses.replace(
                dispute,
                stage=DisputeStage.UPHELD if points else DisputeStage.DISMISSED,
                decided_at=now,
                decided_by=str(principal),
                answer=answer,
            )
            before = dataclasses.replace(before, dispute=decided)
            if points:
                return _refund(before, points, answer, str(principal), use.id)
            after = dataclasses.replace(before, version=before.version + 1)
            return Change(lambda _: after)

        return await self._changing.change(voucher, use, decide)


def _refund(voucher: Voucher, points: int | None, reason: str, by: str, use: str) -> Change:
    """Reverse captures, the last first, until so many points are back."""
    open_captures = rules.refundable(voucher)
    left = sum(captured for _, captured in open_captures)
    asked = left if points is None else points
    if not 0 < asked <= left:
        raise RefundExceededError(asked, left)
    parts: list[tuple[Transaction, int, int]] = []
    done = 0
    for capture, captured in open_captures:
        part = min(captured, asked - done)
        if not part:
            break
        fen = rules.fen_of_refund(voucher, part, before=done)
        parts.append((_reversal(voucher, capture, part, fen, f"refund:{use}:{len(parts)}"), part, fen))
        done += part

    def after(times: Mapping[TransactionId, datetime]) -> Voucher:
        refunds = tuple(
            Refund(
                transaction=reversal.id,
                of=reversal.corrects or reversal.id,
                at=times[reversal.id],
                points=part,
                fen=fen,
                by=by,
                reason=reason,
            )
            for reversal, part, fen in parts
        )
        is_over = voucher.status not in OPEN and asked == left
        return dataclasses.replace(
            voucher,
            status=VoucherStatus.REFUNDED if is_over else voucher.status,
            refunds=(*voucher.refunds, *refunds),
            version=voucher.version + 1,
        )

    told: dict[str, str | int] = {"points": asked, "fen": sum(fen for _, _, fen in parts), "reason": reason}
    return Change(after, tuple(reversal for reversal, _, _ in parts), EventType.VOUCHER_REFUNDED, told)


def _reversal(voucher: Voucher, capture: TransactionId, points: int, fen: int, key: str) -> Transaction:
    citizen = account_of(citizen_owner(voucher.citizen), POINTS)
    cause = {"voucher": voucher.id, "offer": voucher.offer}
    if voucher.promise.kind is OfferKind.DONATION:
        payer = DONATIONS
    else:
        payer = account_of(merchant_owner(voucher.merchant), POINTS)
        cause |= owed(voucher.merchant, -fen, voucher.promise)
    return Transaction(
        key=key,
        kind=TransactionKind.REVERSE,
        postings=(moving(payer, citizen, points),),
        cause=cause,
        corrects=capture,
    )
