"""The only door to offers: drafting, approval, sale, stock, partners' codes, finding them.

Every change has an idempotency key, which is taken in the transaction of its effect together with an entry of the
merchants' log. Redeeming an offer is the vouchers' business.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind
from backend.kernel.clock import local_date
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.ids import derived_id, new_id
from backend.rewards.merchants.acting import NOT_YOURS, Order, require_firm
from backend.rewards.merchants.errors import UnknownMerchantError
from backend.rewards.merchants.model import Firm, MerchantId, MerchantStage, MerchantStep
from backend.rewards.merchants.store import MerchantReads, MerchantWrites
from backend.rewards.offers import life, rules
from backend.rewards.offers.documents import stock_to_document, terms_to_document
from backend.rewards.offers.errors import UnknownOfferError
from backend.rewards.offers.model import Offer, OfferId, OfferKind, OfferStage, Stock, StockKind
from backend.rewards.offers.search import OfferSearch
from backend.rewards.offers.store import OfferReads, OfferWrites, digest_of
from backend.rewards.stock.model import stock_pot
from backend.rewards.stock.store import PotWrites

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx
    from backend.rewards.offers.codes import OfferCodes
    from backend.rewards.offers.model import OfferTerms

    Effect = Callable[[Tx, Offer, Firm, datetime], Awaitable[Offer]]

STAFF_ONLY = Text("兑换项目审批", "approving offers")


class Offers:
    """Offers of all merchants.

    Every method that changes something raises, beside what it names:
        ForbiddenError: the principal is neither an administrator nor an owner at work, where owners may do it.
        UnknownOfferError: there is none, or it is of a merchant where the caller does not work.
        OfferStageError, MerchantStageError: they do not stand so that this could be done.
        InvalidInputError, IdempotencyConflictError: a field, or the key.
    """

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        clock: Clock,
        zone: ZoneInfo,
        districts: Iterable[str],
        codes: OfferCodes,
    ) -> None:
        self._reads = OfferReads(database)
        self._merchants = MerchantReads(database)
        self._transactions = transactions
        self._clock = clock
        self._zone = zone
        self._districts = frozenset(districts)
        self._codes = codes
        self.search = OfferSearch(database, self._reads, clock, self._districts)
        """Finding offers as citizens do."""

    async def create(self, principal: Principal, merchant: MerchantId | None, terms: OfferTerms, *, key: str) -> Offer:
        """Begin a draft; an owner may leave ``merchant`` out (None): their own is meant.

        Raises:
            UnknownMerchantError: there is none, or the caller works elsewhere.
        """
        payload = [merchant, terms_to_document(terms)]
        order = Order(principal=principal, step=MerchantStep.CREATE_OFFER, key=key, payload=payload)
        offer, now = OfferId(derived_id("off", str(principal), key)), self._clock.now()
        name = new_id("mlog", now)

        async def body(tx: Tx) -> Offer:
            writes, offers = MerchantWrites(tx), OfferWrites(tx)
            firm = await require_firm(writes, principal, merchant)
            taken, known = await writes.claimed_at(order.use), await offers.find_offer(offer)
            if known is not None:
                # The id follows from the key, which is remembered for a month only.
                if taken is None:
                    raise IdempotencyConflictError(key)
                return known
            life.require_merchant(firm.merchant, order.step)
            written = await self._written(tx, terms, firm, codes=0, now=now)
            made = _drafted(offer, firm.merchant.id, written, now)
            await offers.insert(made)
            entry = order.entry(name, now, firm.merchant.id, version=1, before=None, after=digest_of(made), offer=offer)
            await writes.log(entry)
            await writes.claim(order.use, now)
            return made

        return await self._transactions.run(body)

    async def update(self, principal: Principal, offer: OfferId, terms: OfferTerms, *, key: str) -> Offer:
        """Write an offer anew: a draft becomes one again.

        On sale, texts, picture, handover and shops change at once; the rest is proposed until others approve it.
        """

        async def effect(tx: Tx, before: Offer, firm: Firm, now: datetime) -> Offer:
            codes = before.terms.stock.units if before.terms.kind is OfferKind.CODE else 0
            written = await self._written(tx, terms, firm, codes=codes, now=now)
            return life.edited(before, written, str(principal), now)

        return await self._change(
            principal, offer, MerchantStep.UPDATE_OFFER, effect, key=key, payload=terms_to_document(terms)
        )

    async def submit(self, principal: Principal, offer: OfferId, *, key: str) -> Offer:
        """Ask for approval of a draft."""

        async def effect(tx: Tx, before: Offer, firm: Firm, now: datetime) -> Offer:
            await self._require_sellable(OfferWrites(tx), before, before.terms, firm, now)
            return life.submitted(before, str(principal), now)

        return await self._change(principal, offer, MerchantStep.SUBMIT_OFFER, effect, key=key)

    async def approve(self, principal: Principal, offer: OfferId, *, seen: int, key: str) -> Offer:
        """Put an offer on sale, or the terms proposed of one on sale, as seen at that version; by an administrator.

        Raises:
            OwnApprovalError, StaleOfferError: the same person submitted it, or it was changed since.
        """

        async def effect(tx: Tx, before: Offer, firm: Firm, now: datetime) -> Offer:
            after = life.approved(before, seen, str(principal))
            await self._require_sellable(OfferWrites(tx), before, after.terms, firm, now)
            return after

        return await self._change(principal, offer, MerchantStep.APPROVE_OFFER, effect, key=key, payload=seen)

    async def return_(self, principal: Principal, offer: OfferId, reason: str, *, key: str) -> Offer:
        """Send an offer, or the terms proposed of one, back and say why (1–500 characters); by an administrator."""
        step = MerchantStep.RETURN_OFFER
        return await self._change(
            principal, offer, step, _pure(lambda before: life.returned(before, reason)), key=key, reason=reason
        )

    async def pause(self, principal: Principal, offer: OfferId, *, key: str) -> Offer:
        """Take an offer off sale for a while."""
        effect = _pure(partial(life.paused, by_staff=principal.is_admin))
        return await self._change(principal, offer, MerchantStep.PAUSE_OFFER, effect, key=key)

    async def resume(self, principal: Principal, offer: OfferId, *, key: str) -> Offer:
        """Put a paused offer on sale again.

        Raises:
            StaffPausedError: an administrator paused it, and an owner asks.
        """
        effect = _pure(partial(life.resumed, by_staff=principal.is_admin))
        return await self._change(principal, offer, MerchantStep.RESUME_OFFER, effect, key=key)

    async def end(self, principal: Principal, offer: OfferId, *, key: str) -> Offer:
        """Take an offer off sale for good; its vouchers stay."""
        return await self._change(principal, offer, MerchantStep.END_OFFER, _pure(life.ended), key=key)

    async def set_stock(self, principal: Principal, offer: OfferId, stock: Stock, *, key: str) -> Offer:
        """Set how many units there are in all or, from today on, a day.

        Raises:
            StockTakenError: more units are redeemed than would be there.
        """
        rules.require_stock(stock)

        async def effect(tx: Tx, before: Offer, _: Firm, now: datetime) -> Offer:
            after = life.stocked(before, stock)
            await self._move_pot(tx, before, after, now)
            return after

        return await self._change(
            principal, offer, MerchantStep.SET_STOCK, effect, key=key, payload=stock_to_document(stock)
        )

    async def add_codes(self, principal: Principal, offer: OfferId, codes: Sequence[str], *, key: str) -> Offer:
        """Add third parties' codes (1–5,000, each 1–64 characters) to a code offer; the stock grows by as many.

        Raises:
            InvalidInputError: beside the usual, one that this merchant added before.
        """
        if len(codes) > rules.MAX_CODES_A_CALL:
            raise InvalidInputError(
                "codes", Text(f"最多 {rules.MAX_CODES_A_CALL} 个", f"at most {rules.MAX_CODES_A_CALL}")
            )

        async def effect(tx: Tx, before: Offer, firm: Firm, now: datetime) -> Offer:
            if before.terms.kind is not OfferKind.CODE:
                raise InvalidInputError("offer", Text("不是券码类项目", "not an offer of codes"))
            ids = self._codes.code_ids(firm.merchant.id, codes)
            writes = OfferWrites(tx)
            if await writes.known_codes(list(ids)):
                raise InvalidInputError("codes", Text("含有已添加过的券码", "some were added before"))
            await writes.insert_codes(offer, self._codes.seal(offer, ids))
            stock = Stock(StockKind.TOTAL, before.terms.stock.units + len(ids))
            rules.require_stock(stock)
            after = life.with_stock(before, stock)
            await self._move_pot(tx, before, after, now)
            return after

        return await self._change(
            principal, offer, MerchantStep.ADD_CODES, effect, key=key, payload=payload_hash(list(codes))
        )

    async def find_offers(self, ids: Iterable[OfferId]) -> dict[OfferId, Offer]:
        """Those of the offers that exist, in any stage, for whoever asks within the programme."""
        return await self._reads.find_offers(ids)

    async def find_public(self, offer: OfferId) -> Offer | None:
        """The offer, where it is on sale and its merchant sells."""
        found = (await self._reads.find_offers([offer])).get(offer)
        if found is None or found.stage is not OfferStage.LIVE:
            return None
        merchant = (await self._merchants.find_merchants([found.merchant])).get(found.merchant)
        return found if merchant is not None and merchant.stage is MerchantStage.APPROVED else None

    async def list_of_merchant(
        self,
        principal: Principal,
        merchant: MerchantId,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Offer]:
        """A merchant's offers in all stages, newest first; for who works there and staff.

        Raises:
            ForbiddenError: anybody else.
        """
        if not principal.staff_roles:
            desk = await self._merchants.find_desk(principal.id)
            if principal.kind is not PrincipalKind.MERCHANT or desk is None or desk.merchant.id != merchant:
                raise ForbiddenError(NOT_YOURS)
        return await self._reads.list_of_merchant(merchant, limit=limit, older=older, newer=newer, newest=newest)

    async def list_waiting(
        self, principal: Principal, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Offer]:
        """Offers that wait for approval, last submitted first; for staff.

        Raises:
            ForbiddenError: the principal is not staff.
        """
        if principal.kind is not PrincipalKind.STAFF or not principal.staff_roles:
            raise ForbiddenError(STAFF_ONLY)
        return await self._reads.list_waiting(limit=limit, older=older, newer=newer, newest=newest)

    async def _move_pot(self, tx: Tx, before: Offer, after: Offer, now: datetime) -> None:
        """Let the pot of an offer on sale follow its stock; before that nobody can have asked it, and none is made."""
        stock = after.terms.stock
        if before.stage not in life.ON_SALE or stock.kind is StockKind.UNLIMITED:
            return
        day = local_date(now, self._zone) if stock.kind is StockKind.DAILY else None
        change = stock.units - before.terms.stock.units
        await PotWrites(tx).resize(stock_pot(after.id, day), change, total=stock.units)

    async def _written(self, tx: Tx, terms: OfferTerms, firm: Firm, *, codes: int, now: datetime) -> OfferTerms:
        """The terms as they are stored; no shop that they name is removed meanwhile."""
        if terms.shops:
            await MerchantWrites(tx).hold(firm.merchant)
        return await self._checked(OfferWrites(tx), terms, firm, codes=codes, now=now)

    async def _checked(
        self, writes: OfferWrites, terms: OfferTerms, firm: Firm, *, codes: int, now: datetime
    ) -> OfferTerms:
        checked = rules.require_terms(terms, merchant=firm.merchant, districts=self._districts, codes=codes, now=now)
        if checked.picture is not None and not await writes.has_picture(checked.picture):
            raise InvalidInputError("picture", Text("没有这张图片", "there is no such picture"))
        return checked

    async def _require_sellable(
        self, writes: OfferWrites, offer: Offer, terms: OfferTerms, firm: Firm, now: datetime
    ) -> None:
        """Look at the terms once more: the programme may have changed since they were written, and time has passed."""
        codes = offer.terms.stock.units if offer.terms.kind is OfferKind.CODE else 0
        await self._checked(writes, terms, firm, codes=codes, now=now)
        rules.require_future(terms, now)

    async def _change(
        self,
        principal: Principal,
        offer: OfferId,
        step: MerchantStep,
        effect: Effect,
        *,
        key: str,
        payload: Any = None,
        reason: str | None = None,
    ) -> Offer:
        """Let the key take its effect, once; the offer after it, or as it stands where it had taken it before."""
        order = Order(principal=principal, step=step, key=key, payload=[offer, payload], reason=reason)
        now = self._clock.now()
        name = new_id("mlog", now)

        async def body(tx: Tx) -> Offer:
            writes, offers = MerchantWrites(tx), OfferWrites(tx)
            before = await offers.find_offer(offer)
            firm = await _firm_of(writes, principal, offer, before)
            assert before is not None
            if await writes.claimed_at(order.use) is not None:
                return before
            life.require_stage(before, firm.merchant, step)
            changed = await effect(tx, before, firm, now)
            after = dataclasses.replace(changed, version=before.version + 1)
            await offers.save(before, after)
            await writes.log(
                order.entry(
                    name,
                    now,
                    before.merchant,
                    version=after.version,
                    before=digest_of(before),
                    after=digest_of(after),
                    offer=offer,
                )
            )
            await writes.claim(order.use, now)
            return after

        return await self._transactions.run(body)


async def _firm_of(writes: MerchantWrites, principal: Principal, offer: OfferId, found: Offer | None) -> Firm:
    """The offer's merchant, where the principal may change it; to others the offer is not there."""
    try:
        firm = await require_firm(writes, principal, found.merchant if found else None)
    except UnknownMerchantError:
        raise UnknownOfferError(offer) from None
    if found is None:
        raise UnknownOfferError(offer)
    return firm


def _pure(effect: Callable[[Offer], Offer]) -> Effect:
    async def run(_: Tx, before: Offer, _firm: Firm, _now: datetime) -> Offer:
        return effect(before)

    return run


def _drafted(offer: OfferId, merchant: MerchantId, terms: OfferTerms, now: datetime) -> Offer:
    return Offer(
        id=offer,
        merchant=merchant,
        terms=terms,
        stage=OfferStage.DRAFT,
        reason=None,
        revision=1,
        version=1,
        created_at=now,
        submitted_by=None,
    )
