"""The only door to merchants: registration, approval, contracts, shops, the people who work there, and who is at work.

Every change has an idempotency key, which is taken in the transaction of its effect together with an entry of the log.
Who may do it is read in that transaction too: a member that was removed does nothing more.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind, StaffRole
from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.ids import derived_id, new_id
from backend.rewards.merchants import rules
from backend.rewards.merchants.acting import NOT_YOURS, OWNERS_ONLY, Order, require_desk, require_firm
from backend.rewards.merchants.documents import shop_to_document, terms_to_document
from backend.rewards.merchants.errors import (
    CreditCodeTakenError,
    MemberTakenError,
    OwnApprovalError,
    ShopInUseError,
)
from backend.rewards.merchants.model import (
    Firm,
    Member,
    MemberRole,
    Merchant,
    MerchantId,
    MerchantStage,
    MerchantStep,
    ShopId,
)
from backend.rewards.merchants.store import MerchantReads, MerchantWrites, digest_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx
    from backend.rewards.merchants.model import (
        ContractTerms,
        Desk,
        MemberDetails,
        MerchantApplication,
        MerchantLogEntry,
        ShopDetails,
    )

    Effect = Callable[[Firm, datetime], Firm]
    Premise = Callable[[Tx, Firm], Awaitable[None]]

STAFF_ONLY = Text("商户资料", "merchants' data")


class Merchants:
    """Merchants of one programme.

    Every method that changes something raises, beside what it names:
        ForbiddenError: the principal is neither an administrator nor an owner at work, where owners may do it.
        UnknownMerchantError: there is none, or the caller works elsewhere.
        MerchantStageError: it does not stand so that this could be done.
        InvalidInputError, IdempotencyConflictError: a field, or the key.

    An owner may leave ``merchant`` out (None): their own is meant. ``find_offer_at`` finds an offer that is not ended
    and names that shop.
    """

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        clock: Clock,
        zone: ZoneInfo,
        districts: Iterable[str],
        find_offer_at: Callable[[Tx, MerchantId, ShopId], Awaitable[str | None]],
    ) -> None:
        self._reads = MerchantReads(database)
        self._transactions = transactions
        self._clock = clock
        self._zone = zone
        self._districts = frozenset(districts)
        self._find_offer_at = find_offer_at

    async def register(self, principal: Principal, application: MerchantApplication, *, key: str) -> Merchant:
        """Register a merchant: somebody who works nowhere becomes its owner, or staff name who does.

        Raises:
            CreditCodeTakenError: a merchant that was not rejected has the code.
            MemberTakenError: the owner-to-be works at a merchant that is neither rejected nor closed.
        """
        given = rules.require_application(application)
        owner = given.owner if principal.is_admin else principal.id
        if owner is None or given.owner not in {None, owner}:
            problem = Text("管理员须填写店主账号，商户不可代填", "staff name the owner's login, merchants their own")
            raise InvalidInputError("owner", problem)
        plain = [*given.name, given.legal_name, given.credit_code, given.contact_name, given.contact_phone, owner]
        order = Order(principal=principal, step=MerchantStep.REGISTER, key=key, payload=plain)
        now = self._clock.now()
        firm = _registered(order, given, owner, now)
        entry = order.entry(new_id("mlog", now), now, firm.merchant.id, version=1, before=None, after=digest_of(firm))

        async def body(tx: Tx) -> Merchant:
            writes = MerchantWrites(tx)
            taken = await writes.claimed_at(order.use)
            known = await writes.find_merchant(firm.merchant.id)
            if known is not None:
                if taken is None and known.credit_code != given.credit_code:
                    raise IdempotencyConflictError(key)
                return known
            if await writes.is_code_held(given.credit_code):
                raise CreditCodeTakenError(given.credit_code)
            await _require_free(writes, owner, elsewhere_than=None)
            await writes.insert(firm)
            await writes.log(entry)
            await writes.claim(order.use, now)
            return firm.merchant

        return await self._transactions.run(body)

    async def approve(
        self, principal: Principal, merchant: MerchantId, contract: ContractTerms, *, key: str
    ) -> Merchant:
        """Let the merchant sell, under its first contract; by an administrator other than who registered it.

        Raises:
            OwnApprovalError: the same person registered it.
        """
        terms = _to_milliseconds(contract)

        def effect(firm: Firm, now: datetime) -> Firm:
            if firm.merchant.registered_by == str(principal):
                raise OwnApprovalError
            agreed = rules.with_contract(firm, rules.next_contract(firm.merchant, terms, now, self._zone))
            return rules.moved(agreed, MerchantStep.APPROVE, None)

        payload = [merchant, terms_to_document(terms)]
        order = Order(principal=principal, step=MerchantStep.APPROVE, key=key, payload=payload)
        return await self._change(order, merchant, effect)

    async def agree(self, principal: Principal, merchant: MerchantId, contract: ContractTerms, *, key: str) -> Merchant:
        """Agree a further contract, from now or a later moment on; by an administrator.

        With another cycle it begins where a period of the cycle before ends.
        """
        terms = _to_milliseconds(contract)
        order = Order(
            principal=principal, step=MerchantStep.AGREE, key=key, payload=[merchant, terms_to_document(terms)]
        )
        return await self._change(
            order,
            merchant,
            lambda firm, now: rules.with_contract(firm, rules.next_contract(firm.merchant, terms, now, self._zone)),
        )

    async def reject(self, principal: Principal, merchant: MerchantId, reason: str, *, key: str) -> Merchant:
        """Turn an application down, and say why (1–500 characters); by an administrator."""
        return await self._move(principal, merchant, MerchantStep.REJECT, reason, key)

    async def suspend(self, principal: Principal, merchant: MerchantId, reason: str, *, key: str) -> Merchant:
        """Stop a merchant's selling at once, and say why (1–500 characters); by an administrator."""
        return await self._move(principal, merchant, MerchantStep.SUSPEND, reason, key)

    async def resume(self, principal: Principal, merchant: MerchantId, *, key: str) -> Merchant:
        """Let a suspended merchant sell again; by an administrator."""
        return await self._move(principal, merchant, MerchantStep.RESUME, None, key)

    async def close(self, principal: Principal, merchant: MerchantId, reason: str, *, key: str) -> Merchant:
        """End a merchant for good, and say why (1–500 characters); by an administrator."""
        return await self._move(principal, merchant, MerchantStep.CLOSE, reason, key)

    async def save_shop(
        self, principal: Principal, merchant: MerchantId | None, shop: ShopId | None, details: ShopDetails, *, key: str
    ) -> Merchant:
        """Open a shop (``shop`` None) or write one anew; by an owner or administrator.

        Raises:
            UnknownShopError: the merchant has none of that id.
        """
        name = ShopId(derived_id("shop", str(principal), key)) if shop is None else shop
        written = rules.require_shop(details, name, self._districts)
        payload = [merchant, shop, shop_to_document(details)]
        order = Order(principal=principal, step=MerchantStep.SAVE_SHOP, key=key, payload=payload)
        return await self._change(order, merchant, lambda firm, _: rules.with_shop(firm, written, is_new=shop is None))

    async def remove_shop(
        self, principal: Principal, merchant: MerchantId | None, shop: ShopId, *, key: str
    ) -> Merchant:
        """Close a shop; by an owner or administrator.

        Raises:
            UnknownShopError: there is none.
            ShopInUseError: a cashier is bound to it, or an offer that is not ended names it.
        """

        async def premise(tx: Tx, firm: Firm) -> None:
            offer = await self._find_offer_at(tx, firm.merchant.id, shop)
            if offer is not None:
                raise ShopInUseError(shop, Text(f"兑换项目 {offer}", f"the offer {offer}"))

        order = Order(principal=principal, step=MerchantStep.REMOVE_SHOP, key=key, payload=[merchant, shop])
        return await self._change(order, merchant, lambda firm, _: rules.without_shop(firm, shop), premise=premise)

    async def add_member(
        self, principal: Principal, merchant: MerchantId | None, login: str, details: MemberDetails, *, key: str
    ) -> Merchant:
        """Let somebody work there; by an owner or administrator.

        Raises:
            MemberTakenError: the login works there, or at another merchant that is neither rejected nor closed.
            UnknownShopError: the merchant has no such shop.
        """

        async def premise(tx: Tx, firm: Firm) -> None:
            await _require_free(MerchantWrites(tx), login, elsewhere_than=firm.merchant.id)

        order = _staffing(principal, MerchantStep.ADD_MEMBER, key, merchant, login, details)
        return await self._change(
            order, merchant, lambda firm, _: rules.with_member(firm, login, details, is_new=True), premise=premise
        )

    async def change_member(
        self, principal: Principal, merchant: MerchantId | None, login: str, details: MemberDetails, *, key: str
    ) -> Merchant:
        """Give somebody who works there another name, role or shop; by an owner or administrator.

        Raises:
            UnknownMemberError, UnknownShopError, LastOwnerError: in this order.
        """
        order = _staffing(principal, MerchantStep.CHANGE_MEMBER, key, merchant, login, details)
        return await self._change(
            order, merchant, lambda firm, _: rules.with_member(firm, login, details, is_new=False)
        )

    async def remove_member(
        self, principal: Principal, merchant: MerchantId | None, login: str, *, key: str
    ) -> Merchant:
        """Let somebody work there no more, at once; by an owner, an administrator, or whoever leaves.

        Raises:
            UnknownMemberError, LastOwnerError: nobody does, or no owner would be left.
        """
        order = _staffing(principal, MerchantStep.REMOVE_MEMBER, key, merchant, login, None)
        return await self._change(order, merchant, lambda firm, _: rules.without_member(firm, login), leaving=login)

    async def desk(self, principal: Principal) -> Desk:
        """Who is at work, and where; a suspended merchant's people too: the caller looks at the stage.

        Raises:
            ForbiddenError: the principal works nowhere.
        """
        found = await self._reads.find_desk(principal.id) if principal.kind is PrincipalKind.MERCHANT else None
        if found is None:
            raise ForbiddenError(NOT_YOURS)
        return found

    async def desk_within(self, tx: Tx, principal: Principal) -> Desk:
        """The same as a transaction sees it: for what must not be done by whom the merchant has just let go.

        Raises:
            ForbiddenError: the principal works nowhere.
        """
        return await require_desk(MerchantWrites(tx), principal.id)

    async def owner_desk(self, principal: Principal) -> Desk:
        """The same for owners.

        Raises:
            ForbiddenError: the principal owns no merchant.
        """
        found = await self.desk(principal)
        if not found.is_owner:
            raise ForbiddenError(OWNERS_ONLY)
        return found

    async def find_merchants(self, ids: Iterable[MerchantId]) -> dict[MerchantId, Merchant]:
        """Those of the merchants that exist, for whoever asks within the programme."""
        return await self._reads.find_merchants(ids)

    async def find_public(self, merchant: MerchantId) -> Merchant | None:
        """The merchant, where it sells."""
        found = (await self._reads.find_merchants([merchant])).get(merchant)
        return found if found is not None and found.stage is MerchantStage.APPROVED else None

    async def list_members(self, principal: Principal, merchant: MerchantId) -> list[Member]:
        """All who work or worked there, by login; for its owners and staff.

        Raises:
            ForbiddenError: anybody else.
        """
        if not principal.staff_roles and (await self.owner_desk(principal)).merchant.id != merchant:
            raise ForbiddenError(NOT_YOURS)
        return await self._reads.list_members(merchant)

    async def find_merchant(self, principal: Principal, merchant: MerchantId) -> Merchant | None:
        """A merchant in any stage, for staff.

        Raises:
            ForbiddenError: the principal is not staff.
        """
        _require_staff(principal)
        return (await self._reads.find_merchants([merchant])).get(merchant)

    async def list_merchants(
        self,
        principal: Principal,
        stage: MerchantStage | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Merchant]:
        """Merchants in that stage or in any, by registration, newest first; for staff.

        Raises:
            ForbiddenError: the principal is not staff.
        """
        _require_staff(principal)
        return await self._reads.list_merchants(stage, limit=limit, older=older, newer=newer, newest=newest)

    async def list_log(
        self,
        principal: Principal,
        merchant: str | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[MerchantLogEntry]:
        """What was done to that merchant and its offers, or to any, newest first; for staff.

        Raises:
            ForbiddenError: the principal is not staff.
        """
        _require_staff(principal)
        return await self._reads.list_log(merchant, limit=limit, older=older, newer=newer, newest=newest)

    async def _move(
        self, principal: Principal, merchant: MerchantId, step: MerchantStep, reason: str | None, key: str
    ) -> Merchant:
        order = Order(principal=principal, step=step, key=key, payload=[merchant], reason=reason)
        return await self._change(order, merchant, lambda firm, _: rules.moved(firm, step, reason))

    async def _change(
        self,
        order: Order,
        merchant: MerchantId | None,
        effect: Effect,
        *,
        premise: Premise | None = None,
        leaving: str | None = None,
    ) -> Merchant:
        """Let the key take its effect, once; the merchant after it, or as it stands where it had taken it before.

        ``premise`` refuses by what is stored elsewhere.
        """
        now = self._clock.now()
        name = new_id("mlog", now)

        async def body(tx: Tx) -> Merchant:
            writes = MerchantWrites(tx)
            before = await require_firm(writes, order.principal, merchant, leaving=leaving)
            if await writes.claimed_at(order.use) is not None:
                return before.merchant
            rules.require_stage(before.merchant, order.step)
            if premise is not None:
                await premise(tx, before)
            changed = effect(before, now)
            version = before.merchant.version + 1
            after = Firm(dataclasses.replace(changed.merchant, version=version), changed.members)
            await writes.save(before, after)
            await writes.log(
                order.entry(
                    name, now, after.merchant.id, version=version, before=digest_of(before), after=digest_of(after)
                )
            )
            await writes.claim(order.use, now)
            return after.merchant

        return await self._transactions.run(body)


def _registered(order: Order, given: MerchantApplication, owner: str, now: datetime) -> Firm:
    merchant = Merchant(
        # The id follows from the key: repeated after the key is forgotten, the request meets its own merchant.
        id=MerchantId(derived_id("mer", str(order.principal), order.key)),
        name=given.name,
        legal_name=given.legal_name,
        credit_code=given.credit_code,
        contact_name=given.contact_name,
        contact_phone=given.contact_phone,
        stage=MerchantStage.APPLIED,
        reason=None,
        contracts=(),
        shops=(),
        registered_at=now,
        registered_by=str(order.principal),
        version=1,
    )
    member = Member(
        id=owner, merchant=merchant.id, name=given.contact_name, role=MemberRole.OWNER, shop=None, is_active=True
    )
    return Firm(merchant, (member,))


async def _require_free(writes: MerchantWrites, login: str, *, elsewhere_than: MerchantId | None) -> None:
    """Refuse a login that works there already or at another merchant; rejected and closed ones bind nobody."""
    member = await writes.find_member(login)
    if member is None or not member.is_active:
        return
    if member.merchant != elsewhere_than:
        merchant = await writes.find_merchant(member.merchant)
        if merchant is None or merchant.stage in {MerchantStage.REJECTED, MerchantStage.CLOSED}:
            return
    raise MemberTakenError(login)


def _staffing(
    principal: Principal,
    step: MerchantStep,
    key: str,
    merchant: MerchantId | None,
    login: str,
    details: MemberDetails | None,
) -> Order:
    payload = [merchant, login, None if details is None else [details.name, details.role.value, details.shop]]
    return Order(principal=principal, step=step, key=key, payload=payload)


def _to_milliseconds(terms: ContractTerms) -> ContractTerms:
    begins = terms.valid_from
    return terms if begins is None else dataclasses.replace(terms, valid_from=to_milliseconds(begins))


def _require_staff(principal: Principal) -> None:
    if principal.kind is not PrincipalKind.STAFF or not principal.staff_roles & frozenset(StaffRole):
        raise ForbiddenError(STAFF_ONLY)
