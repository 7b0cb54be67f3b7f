"""The citizen's door to vouchers: redeem, read, show the code, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity import rules as identity_rules
from backend.identity.errors import ForbiddenError
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import Text
from backend.mongo.idempotency import Use
from backend.rewards.offers.model import OfferKind
from backend.rewards.vouchers import codes
from backend.rewards.vouchers.ending import cancelling
from backend.rewards.vouchers.errors import UnknownVoucherError
from backend.rewards.vouchers.model import OPEN
from backend.rewards.vouchers.store import VoucherReads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.kernel.ids import CitizenId
    from backend.mongo.client import Database
    from backend.rewards.merchants.model import MerchantId
    from backend.rewards.offers.model import OfferId
    from backend.rewards.vouchers.changing import Change, Changing
    from backend.rewards.vouchers.codes import ShownCode
    from backend.rewards.vouchers.model import Voucher, VoucherId
    from backend.rewards.vouchers.redeeming import Redeeming
    from backend.rewards.vouchers.store import Place

MAX_CAPTURED = 500


class Vouchers:
    """Vouchers of citizens."""

    def __init__(
        self,
        *,
        database: Database,
        redeeming: Redeeming,
        changing: Changing,
        give_code: Callable[[OfferId, VoucherId], Awaitable[str]],
        clock: Clock,
        zone: ZoneInfo,
        server_key: bytes,
    ) -> None:
        self._reads = VoucherReads(database)
        self._redeeming = redeeming
        self._changing = changing
        self._give_code = give_code
        self._clock = clock
        self._zone = zone
        self._server_key = server_key

    async def redeem(self, principal: Principal, offer: OfferId, units: int, *, key: str) -> Voucher:
        """Redeem units of an offer: see ``Redeeming.redeem``."""
        voucher = await self._redeeming.redeem(principal, offer, units, key=key)
        await self._changing.tell(voucher)
        return voucher

    async def cancel(self, principal: Principal, voucher: VoucherId, *, key: str) -> Voucher:
        """Give up what is not handed over yet; its points return to their lots, unused units to the stock.

        Raises:
            ForbiddenError: not a citizen.
            InvalidInputError: the key.
            UnknownVoucherError: none of that id, or somebody else's.
            WrongVoucherStatusError, VoucherExpiredError: nothing is held any more.
            IdempotencyConflictError: the key was used for another voucher.
        """
        identity_rules.require_idempotency_key(key)
        if principal.citizen is None:
            raise ForbiddenError(Text("取消兑换", "cancelling is citizens'"))

        def decide(before: Voucher, now: datetime) -> Change:
            if before.citizen != principal.citizen:
                raise UnknownVoucherError
            return cancelling(before, now, self._zone)

        use = Use(str(principal), "cancelVoucher", key, payload_hash([voucher]))
        return await self._changing.change(voucher, use, decide)

    async def find(self, ids: Sequence[VoucherId]) -> dict[VoucherId, Voucher]:
        """Those of the vouchers that exist; the caller decides who may see them."""
        return await self._reads.find_many(ids)

    async def list_vouchers(
        self, citizen: CitizenId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Voucher]:
        """The citizen's vouchers, newest first."""
        return await self._reads.list_of_citizen(citizen, limit=limit, older=older, newer=newer, newest=newest)

    async def list_captured(self, merchant: MerchantId, since: datetime, until: datetime) -> list[Voucher]:
        """Vouchers of which the merchant captured something in the period, at most 500, last captured first."""
        return await self._reads.list_captured(merchant, since=since, until=until, limit=MAX_CAPTURED)

    async def list_disputed(
        self, *, limit: int, behind: Place | None, ahead: Place | None = None, last: bool = False
    ) -> list[Voucher]:
        """Vouchers with an open dispute, the longest waiting first; with ``last`` those next to the end."""
        return await self._reads.list_disputed(limit=limit, behind=behind, ahead=ahead, last=last)

    def shown_code(self, voucher: Voucher) -> ShownCode | None:
        """What the citizen shows at the counter now; None where nothing is left to hand over."""
        now = self._clock.now()
        if voucher.status_at(now) not in OPEN:
            return None
        return codes.show(self.secret_of(voucher), voucher.number, now)

    def secret_of(self, voucher: Voucher) -> bytes:
        """What the citizen's phone computes codes from while it has no network: 32 bytes."""
        return codes.secret_of(self._server_key, voucher.id)

    async def partner_code(self, voucher: Voucher) -> str | None:
        """The third party's code that belongs to the voucher, the same for ever; None where the offer has none."""
        if voucher.promise.kind is not OfferKind.CODE:
            return None
        return await self._give_code(voucher.offer, voucher.id)
