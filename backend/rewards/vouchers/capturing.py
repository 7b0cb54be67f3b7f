"""The merchant's counter: look a code up, see what to hand over, capture it; whichever cashier comes first."""

from __future__ import annotations

import dataclasses
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backend.identity import rules as identity_rules
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import InvalidInputError, Text
from backend.ledger.model import (
    POINTS,
    HoldRef,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    merchant_owner,
)
from backend.mongo.idempotency import Use
from backend.rewards.merchants.errors import MerchantStageError, UnknownShopError
from backend.rewards.merchants.model import MerchantStage
from backend.rewards.vouchers import codes, rules
from backend.rewards.vouchers.changing import Change
from backend.rewards.vouchers.codes import TypedProof
from backend.rewards.vouchers.errors import (
    CodeExpiredError,
    CodeInvalidError,
    CodeReplayedError,
    ItemsExceededError,
    TooManyCodesError,
    VoucherExpiredError,
    WrongShopError,
)
from backend.rewards.vouchers.making import moving, owed
from backend.rewards.vouchers.model import OPEN, Capture, VoucherStatus
from backend.rewards.vouchers.store import VoucherReads
from backend.rewards.vouchers.telling import wrong_status
from backend.rewards.webhooks.events import EventType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.kernel.ids import TransactionId
    from backend.mongo.client import Database
    from backend.rewards.merchants.model import Desk, ShopId
    from backend.rewards.vouchers.changing import Changing
    from backend.rewards.vouchers.codes import ReadCode
    from backend.rewards.vouchers.model import Voucher, VoucherId

MAX_ITEMS = 2_000
MAX_TRIES = 10
TRIES_SPAN = timedelta(minutes=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Counter:
    """What cashiers and owners do at the counter."""

    def __init__(
        self,
        *,
        database: Database,
        changing: Changing,
        desk_of: Callable[[Principal], Awaitable[Desk]],
        clock: Clock,
        zone: ZoneInfo,
        server_key: bytes,
    ) -> None:
        self._reads = VoucherReads(database)
        self._changing = changing
        self._desk_of = desk_of
        self._clock = clock
        self._zone = zone
        self._server_key = server_key

    async def look_up(self, principal: Principal, code: str) -> Voucher:
        """The voucher whose code is shown, with what is left to hand over; nothing is captured yet.

        Raises:
            ForbiddenError: not a member of a merchant.
            TooManyCodesError, CodeInvalidError, CodeExpiredError: in this order.
        """
        desk = await self._desk_of(principal)
        async with self._counting(desk, code):
            voucher, read = await self._find(desk, code)
            found = (await self._reads.find_many([voucher]))[voucher]
            self._step(read, found, self._clock.now())
        return found

    async def capture(
        self, principal: Principal, code: str, *, items: int | None, shop: ShopId | None, key: str
    ) -> Voucher:
        """Hand over ``items`` (all that are left where None) at a shop: the points move from citizen to merchant.

        Raises:
            ForbiddenError: not a member of a merchant.
            InvalidInputError: the key or the number of items.
            MerchantStageError, UnknownShopError, TooManyCodesError, CodeInvalidError, CodeExpiredError,
            WrongVoucherStatusError, VoucherExpiredError, CodeReplayedError, WrongShopError, ItemsExceededError: in this
                order; nothing changed but, for a wrong code, the count of them.
            IdempotencyConflictError: the key was used for another capture.
        """
        identity_rules.require_idempotency_key(key)
        if items is not None and not 1 <= items <= MAX_ITEMS:
            raise InvalidInputError("items", Text(f"1–{MAX_ITEMS}", f"1–{MAX_ITEMS}"))
        desk = await self._desk_of(principal)
        if desk.merchant.stage is not MerchantStage.APPROVED:
            raise MerchantStageError(desk.merchant.id, desk.merchant.stage)
        counter = _shop(desk, shop)
        use = Use(str(principal), "captureVoucher", key, payload_hash([code, items, shop]))
        async with self._counting(desk, code):
            voucher, read = await self._find(desk, code)

            def decide(before: Voucher, now: datetime) -> Change:
                step = self._step(read, before, now)
                self._require_capturable(before, step, counter, now)
                return _capture(before, items, Capturer(use.id, step, counter, desk.member.id))

            return await self._changing.change(voucher, use, decide)

    async def _find(self, desk: Desk, code: str) -> tuple[VoucherId, ReadCode]:
        """The merchant's voucher that the code claims to be."""
        read = codes.read(code)
        voucher = await self._reads.find_numbered(read.number, desk.merchant.id) if read else None
        if read is None or voucher is None:
            raise CodeInvalidError
        return voucher, read

    def _step(self, read: ReadCode, voucher: Voucher, now: datetime) -> int:
        """The step of a code that is the voucher's own and of this minute."""
        verified = codes.verify(read, codes.secret_of(self._server_key, voucher.id), now)
        if verified is codes.Fault.EXPIRED:
            raise CodeExpiredError
        if isinstance(verified, codes.Fault):
            raise CodeInvalidError
        return verified.step

    def _require_capturable(self, voucher: Voucher, step: int, shop: ShopId | None, now: datetime) -> None:
        if voucher.status not in OPEN:
            raise wrong_status(voucher, now, self._zone)
        if voucher.expires_at <= now:
            raise VoucherExpiredError
        if step <= voucher.last_step:
            raise CodeReplayedError
        if voucher.promise.shops and shop not in voucher.promise.shops:
            raise WrongShopError

    @asynccontextmanager
    async def _counting(self, desk: Desk, code: str) -> AsyncIterator[None]:
        """Count wrong codes against the member, and let nobody go on who gave too many.

        Four digits can be guessed: such a code is counted before it is looked at, so that many at once are no more
        guesses than one after the other; and against its voucher too, so that many members are no more than one.
        """
        now = self._clock.now()
        span, expires_at = (now - _EPOCH) // TRIES_SPAN, now + TRIES_SPAN
        read = codes.read(code)
        names = [f"{desk.member.id}:{span}"]
        is_guess = read is not None and isinstance(read.proof, TypedProof)
        if read is not None and is_guess:
            names.append(f"#{read.number}:{span}")
            tries = [await self._reads.note_try(name, 1, expires_at=expires_at) for name in names]
        else:
            tries = [await self._reads.count_tries(names[0]) + 1]
        if max(tries) > MAX_TRIES:
            raise TooManyCodesError(MAX_TRIES, TRIES_SPAN // timedelta(minutes=1))
        is_wrong = False
        try:
            yield
        except CodeInvalidError:
            is_wrong = True
            raise
        finally:
            if is_wrong is not is_guess:
                for name in names:
                    await self._reads.note_try(name, 1 if is_wrong else -1, expires_at=expires_at)


@dataclass(frozen=True, slots=True)
class Capturer:
    """Under which key, with which step of the code, where and by whom something is captured."""

    use: str
    step: int
    shop: ShopId | None
    member: str


def _shop(desk: Desk, given: ShopId | None) -> ShopId | None:
    """Where the member stands: at the one shop of theirs, at the one named, or at the only one there is."""
    shops = [shop.id for shop in desk.merchant.shops]
    bound = desk.member.shop
    if given is not None and (given not in shops or bound not in (None, given)):
        raise UnknownShopError(given)
    return given or bound or (shops[0] if len(shops) == 1 else None)


def _capture(voucher: Voucher, items: int | None, by: Capturer) -> Change:
    left = voucher.items - voucher.items_captured
    taken = left if items is None else items
    if taken > left:
        raise ItemsExceededError(taken, left)
    points = rules.share(voucher, taken)
    fen = rules.fen_of_capture(voucher, points)
    payer = citizen_owner(voucher.citizen)
    cause = {"voucher": voucher.id, "offer": voucher.offer, **owed(voucher.merchant, fen, voucher.promise)}
    post = Transaction(
        key=f"capture:{by.use}",
        kind=TransactionKind.POST,
        postings=(moving(account_of(payer, POINTS), account_of(merchant_owner(voucher.merchant), POINTS), points),),
        cause=cause,
        hold=HoldRef(payer, voucher.hold),
        final=taken == left,
    )

    def after(times: Mapping[TransactionId, datetime]) -> Voucher:
        capture = Capture(
            transaction=post.id,
            at=times[post.id],
            items=taken,
            points=points,
            fen=fen,
            shop=by.shop,
            member=by.member,
        )
        return dataclasses.replace(
            voucher,
            status=VoucherStatus.CAPTURED if taken == left else VoucherStatus.PART,
            captures=(*voucher.captures, capture),
            last_step=by.step,
            version=voucher.version + 1,
        )

    told: dict[str, str | int] = {"items": taken, "points": points, "fen": fen, "shop": by.shop or ""}
    return Change(after, (post,), EventType.VOUCHER_CAPTURED, told)
