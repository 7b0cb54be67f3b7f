"""Who acts on a merchant or its offers, and one change of it: key, right, stage, effect and log in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind
from backend.identity.rules import require_idempotency_key, require_note
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import Text
from backend.mongo.idempotency import Use
from backend.rewards.merchants.errors import UnknownMerchantError
from backend.rewards.merchants.model import Desk, MemberRole, MerchantLogEntry
from backend.rewards.merchants.rules import MAX_REASON, STAFF_STEPS

if TYPE_CHECKING:
    from datetime import datetime

    from backend.identity.model import Principal
    from backend.rewards.merchants.model import Firm, MerchantId, MerchantStep
    from backend.rewards.merchants.store import MerchantWrites

NOT_YOURS = Text("商户管理", "managing merchants")
OWNERS_ONLY = Text("仅店主可操作", "for owners")
# Prefix and time of an entry's id.
_BORN = len("mlog_") + 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A change somebody asks for: who, which step, of what (``payload``, plain values), why, under which key."""

    principal: Principal
    step: MerchantStep
    key: str
    payload: Any
    reason: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be asked for.

        Raises:
            InvalidInputError: the key, or a reason beyond 1–500 characters.
            ForbiddenError: the step is staff's, or the principal neither staff nor a merchant's.
        """
        require_idempotency_key(self.key)
        is_merchant = self.principal.kind is PrincipalKind.MERCHANT
        if not self.principal.is_admin and (not is_merchant or self.step in STAFF_STEPS):
            raise ForbiddenError(NOT_YOURS)
        if self.reason is not None:
            require_note("reason", self.reason, limit=MAX_REASON)

    @property
    def use(self) -> Use:
        """The use of the key."""
        payload = payload_hash([self.payload, self.reason])
        return Use(str(self.principal), f"merchants.{self.step.value}", self.key, payload)

    def entry(
        self,
        name: str,
        now: datetime,
        merchant: MerchantId,
        *,
        version: int,
        before: str | None,
        after: str,
        offer: str | None = None,
    ) -> MerchantLogEntry:
        """What the log says of it. ``name`` is a fresh id; of one millisecond, steps stand in order of ``version``."""
        return MerchantLogEntry(
            id=f"{name[:_BORN]}{version:08x}{name[_BORN:]}",
            at=now,
            merchant=merchant,
            offer=offer,
            actor=str(self.principal),
            step=self.step,
            reason=self.reason,
            before=before,
            after=after,
        )


async def require_firm(
    writes: MerchantWrites, principal: Principal, merchant: str | None, *, leaving: str | None = None
) -> Firm:
    """The merchant that the principal may change: an administrator any, an owner their own (None: whichever that is).

    Where somebody (``leaving``) is to work there no more, they may ask for it themselves.

    Raises:
        UnknownMerchantError: there is none, or the caller works elsewhere.
        ForbiddenError: the caller works nowhere, or there and is no owner.
    """
    if principal.is_admin:
        firm = await writes.find_firm(merchant or "")
        if firm is None:
            raise UnknownMerchantError(merchant or "")
        return firm
    member = await writes.find_member(principal.id)
    if principal.kind is not PrincipalKind.MERCHANT or member is None or not member.is_active:
        raise ForbiddenError(NOT_YOURS)
    if merchant not in {None, member.merchant}:
        raise UnknownMerchantError(merchant or "")
    if member.role is not MemberRole.OWNER and member.id != leaving:
        raise ForbiddenError(OWNERS_ONLY)
    firm = await writes.find_firm(member.merchant)
    assert firm is not None
    return firm


async def require_desk(writes: MerchantWrites, login: str) -> Desk:
    """Who works under that login, and where, as the transaction sees it.

    Raises:
        ForbiddenError: nobody, or nobody any more.
    """
    member = await writes.find_member(login)
    merchant = await writes.find_merchant(member.merchant) if member is not None and member.is_active else None
    if member is None or merchant is None:
        raise ForbiddenError(NOT_YOURS)
    return Desk(merchant, member)
