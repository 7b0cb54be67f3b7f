"""The merchant's counter: look a code up, see what to hand over, capture it; whichever cashier comes first."""

from __future__ import annotations

import dataclasses
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backend.identity import rules as identity_rules
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import BusyError, InvalidInputError, Text
from backend.ledger.model import (
    POINTS,
    HoldRef,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    merchant_owner,
)
from backend.mongo.idempotency import IdempotencyKeys, Use
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
    TypedCodeLockedError,
    VoucherExpiredError,
    WrongShopError,
)
from backend.rewards.vouchers.making import moving, owed
from backend.rewards.vouchers.model import OPEN, Capture, VoucherStatus
from backend.rewards.vouchers.store import VoucherReads
from backend.rewards.vouchers.telling import wrong_status
from backend.rewards.webhooks.events import EventType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.kernel.errors import Refusal
    from backend.kernel.ids import TransactionId
    from backend.mongo.client import Database
    from backend.mongo.transactions import Tx
    from backend.rewards.merchants.model import Desk, ShopId
    from backend.rewards.vouchers.changing import Changing, Desks
    from backend.rewards.vouchers.codes import ReadCode
    from backend.rewards.vouchers.model import Voucher, VoucherId
    from backend.rewards.vouchers.store import Tries

MAX_ITEMS = 100
MAX_TRIES = 10
# Longer than any voucher counts.
VOUCHERS_LAST = timedelta(days=3 * 366)
TRIES_SPAN = timedelta(minutes=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Counter:
    """What cashiers and owners do at the counter."""

    def __init__(
        self,
        *,
        database: Database,
        changing: Changing,
        desks: Desks,
        clock: Clock,
        zone: ZoneInfo,
        server_key: bytes,
    ) -> None:
        self._reads = VoucherReads(database)
        self._keys = IdempotencyKeys(database)
        self._changing = changing
        self._desks = desks
        self._clock = clock
        self._zone = zone
        self._server_key = server_key

    async def look_up(self, principal: Principal, code: str) -> Voucher:
        """The voucher whose code is shown, with what is left to hand over; nothing is captured yet.

        Raises:
            ForbiddenError: not a member of a merchant.
            TooManyCodesError, CodeInvalidError, TypedCodeLockedError, CodeExpiredError: in this order.
        """
        desk = await self._desks.desk(principal)
        async with self._counting(desk, code) as (voucher, read):
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
            MerchantStageError, UnknownShopError, TooManyCodesError, CodeInvalidError, TypedCodeLockedError,
            CodeExpiredError, VoucherExpiredError, WrongVoucherStatusError, CodeReplayedError, WrongShopError,
            ItemsExceededError: in this order; nothing changed but, for a wrong code, the count of them.
            BusyError: many typed codes are being looked at; send the same again.
            IdempotencyConflictError: the key was used for another capture.
        """
        identity_rules.require_idempotency_key(key)
        if items is not None and not 1 <= items <= MAX_ITEMS:
            raise InvalidInputError("items", Text(f"1–{MAX_ITEMS}", f"1–{MAX_ITEMS}"))
        desk = await self._desks.desk(principal)
        use = Use(str(principal), "captureVoucher", key, payload_hash([code, items, shop]))
        done = await self._find_done(desk, code, use)
        if done is not None:
            return done
        _require_selling(desk)
        counter = _shop(desk, shop)

        async def guard(tx: Tx) -> None:
            _require_selling(await self._desks.desk_within(tx, principal))

        async with self._counting(desk, code) as (voucher, read):

            def decide(before: Voucher, now: datetime) -> Change:
                step = self._step(read, before, now)
                self._require_capturable(before, step, now)
                _require_shop(before, desk, counter)
                return _capture(before, items, Capturer(use.id, step, counter, desk.member.id))

            return await self._changing.change(voucher, use, decide, guard=guard)

    async def _find_done(self, desk: Desk, code: str, use: Use) -> Voucher | None:
        """What the key captured before, whatever has become of merchant and code since."""
        read = codes.read(code)
        if read is None or not await self._keys.is_used(use):
            return None
        voucher = await self._reads.find_numbered(read.number, desk.merchant.id)
        return (await self._reads.find_many([voucher])).get(voucher) if voucher else None

    async def _find(self, desk: Desk, read: ReadCode | None) -> tuple[VoucherId, ReadCode]:
        """The merchant's voucher that the code claims to be."""
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

    def _require_capturable(self, voucher: Voucher, step: int, now: datetime) -> None:
        if voucher.has_lapsed(now):
            raise VoucherExpiredError
        if voucher.status not in OPEN:
            raise wrong_status(voucher, now, self._zone)
        if step <= voucher.last_step:
            raise CodeReplayedError

    @asynccontextmanager
    async def _counting(self, desk: Desk, code: str) -> AsyncIterator[tuple[VoucherId, ReadCode]]:
        """The merchant's voucher that the code claims to be; wrong codes are counted, and too many let nobody go on.

        Four digits can be guessed. So typed codes are noted before they are looked at: many at once are no more guesses
        than one after the other. They count against their voucher too, for as long as it lasts.
        """
        now = self._clock.now()
        name, expires_at = f"{desk.member.id}:{(now - _EPOCH) // TRIES_SPAN}", now + TRIES_SPAN
        read = codes.read(code)
        typed = int(read is not None and isinstance(read.proof, TypedProof))
        tries = await self._note(name, typed, expires_at)
        names = {name: expires_at}
        is_wrong = False
        try:
            _require_tries(tries, TooManyCodesError(MAX_TRIES, TRIES_SPAN // timedelta(minutes=1)))
            voucher, read = await self._find(desk, read)
            if typed:
                names[voucher] = now + VOUCHERS_LAST
                tries = await self._note(voucher, typed, names[voucher])
                _require_tries(tries, TypedCodeLockedError(MAX_TRIES))
            yield voucher, read
        except CodeInvalidError:
            is_wrong = True
            raise
        finally:
            for noted, until in names.items():
                if typed or is_wrong:
                    await self._reads.note_try(noted, wrong=int(is_wrong), trying=-typed, expires_at=until)

    async def _note(self, name: str, typed: int, expires_at: datetime) -> Tries:
        """What stands under the name, a typed code that is being looked at included."""
        if not typed:
            return await self._reads.find_tries(name)
        return await self._reads.note_try(name, trying=typed, expires_at=expires_at)


@dataclass(frozen=True, slots=True)
class Capturer:
    """Under which key, with which step of the code, where and by whom something is captured."""

    use: str
    step: int
    shop: ShopId | None
    member: str


def _require_tries(tries: Tries, error: Refusal) -> None:
    """Refuse who gave too many wrong codes; who only has too many under way is told to try again.

    Raises:
        BusyError: what is being looked at may turn out wrong.
    """
    if tries.wrong >= MAX_TRIES:
        raise error
    if tries.wrong + tries.trying > MAX_TRIES:
        raise BusyError


def _require_selling(desk: Desk) -> None:
    if desk.merchant.stage is not MerchantStage.APPROVED:
        raise MerchantStageError(desk.merchant.id, desk.merchant.stage)


def _require_shop(voucher: Voucher, desk: Desk, shop: ShopId | None) -> None:
    """Refuse a counter that the voucher is not for. Promised shops that are gone bind nobody."""
    shops = {shop.id for shop in desk.merchant.shops}
    promised = shops.intersection(voucher.promise.shops)
    if not promised or promised == shops or shop in promised:
        return
    if shop is None:
        raise InvalidInputError("shop", Text("请指明门店", "name the shop"))
    raise WrongShopError


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
