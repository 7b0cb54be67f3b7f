"""Redeems offers: one operation takes units of stock, counts limits, reserves the points and makes the voucher.

Requests that arrive while others are being written are written together by the next MongoDB transaction; each succeeds
or is refused by itself. Stock is set aside before, and what was not used is returned after (see ``stock``).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.identity import rules as identity_rules
from backend.identity.errors import ForbiddenError
from backend.kernel.clock import local_date
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import (
    BusyError,
    IdempotencyConflictError,
    InvalidInputError,
    Refusal,
    Text,
    UnavailableError,
)
from backend.kernel.grouping import Groups
from backend.kernel.ids import derived_id, new_id
from backend.ledger.errors import HoldExpiredError, InsufficientFundsError, TooManyHoldsError
from backend.rewards.offers.errors import (
    BudgetSpentError,
    LimitReachedError,
    OfferClosedError,
    SoldOutError,
    UnknownOfferError,
)
from backend.rewards.offers.model import OfferKind
from backend.rewards.offers.rules import audience_problem, is_open
from backend.rewards.stock.model import Want, is_budget
from backend.rewards.stock.store import PotWrites
from backend.rewards.vouchers.codes import new_number
from backend.rewards.vouchers.errors import InsufficientPointsError, TooManyVouchersError
from backend.rewards.vouchers.making import made, new_voucher, transaction_of, wants_of
from backend.rewards.vouchers.model import VoucherId
from backend.rewards.vouchers.store import VoucherReads, VoucherWrites

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Citizen, Principal
    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.kernel.ids import CitizenId
    from backend.ledger.model import Transaction
    from backend.ledger.service import Ledger
    from backend.ledger.sheet import Sheet
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx
    from backend.rewards.merchants.model import Merchant, MerchantId
    from backend.rewards.offers.model import Offer, OfferId
    from backend.rewards.stock.model import PotId, Reservation
    from backend.rewards.stock.service import Pots
    from backend.rewards.vouchers.model import Voucher

GROUP_LIMIT = 128
MAX_UNITS = 20
MAX_ITEMS = 100
RETRY_FOR_S = 3.0
PAUSE_S = 0.05
NO_CONTRACT = Text("商户合同尚未生效", "its merchant has no contract in force yet")
OVER = Text("券的有效期已过", "its vouchers have ended")
TODAY = Text("每天", "a day")
IN_ALL = Text("总共", "in all")
EVER = "ever"


class _InHandError(Exception):
    """The units left are in somebody's hand: whether they are taken is known in a moment."""


class _ReservationOverError(Exception):
    """The reservation has been proved or judged already."""


@dataclass(frozen=True, slots=True)
class Order:
    """A citizen's request for units of an offer; the voucher's id follows from citizen and idempotency key."""

    citizen: CitizenId
    offer: OfferId
    units: int
    key: str
    voucher: VoucherId
    payload: str


@dataclass(frozen=True, slots=True)
class Wish:
    """An order that nothing but stock, limits and points can refuse any more."""

    order: Order
    offer: Offer
    wants: Mapping[PotId, Want]
    voucher: Voucher
    transaction: Transaction


class Catalogue:
    """Where offers and merchants are looked up."""

    def __init__(
        self,
        find_offers: Callable[[Sequence[OfferId]], Awaitable[Mapping[OfferId, Offer]]],
        find_merchants: Callable[[Sequence[MerchantId]], Awaitable[Mapping[MerchantId, Merchant]]],
    ) -> None:
        self.find_offers = find_offers
        self.find_merchants = find_merchants


class Redeeming:
    """Makes vouchers, a group of requests at a time."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        identity: Identity,
        pots: Pots,
        catalogue: Catalogue,
        clock: Clock,
        zone: ZoneInfo,
        server_key: bytes,
    ) -> None:
        self._reads = VoucherReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._identity = identity
        self._pots = pots
        self._catalogue = catalogue
        self._clock = clock
        self._zone = zone
        self._server_key = server_key
        self._groups = Groups(self._redeem_group, limit=GROUP_LIMIT, name="redemptions")

    async def redeem(self, principal: Principal, offer: OfferId, units: int, *, key: str) -> Voucher:
        """Redeem ``units`` (1–20) of an offer for the citizen who asks; the same key again gives the same voucher.

        Raises:
            ForbiddenError: not a registered citizen.
            InvalidInputError: the key or the number of units.
            UnknownOfferError, OfferClosedError, NotInAudienceError, LimitReachedError, SoldOutError, BudgetSpentError,
            TooManyVouchersError, InsufficientPointsError: in this order; nothing changed.
            IdempotencyConflictError: the key was used for another redemption.
            BusyError, UnavailableError: nothing is known of a refusal; send the same again.
        """
        order = _order(principal, offer, units, key)
        deadline = time.monotonic() + RETRY_FOR_S
        while True:
            try:
                return await self._groups.submit(order)
            except _InHandError as error:
                if time.monotonic() + PAUSE_S > deadline:
                    raise BusyError from error
            await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret

    async def _redeem_group(self, orders: Sequence[Order]) -> Sequence[Voucher | Exception]:
        now = self._clock.now()
        known = await self._reads.find_many([order.voucher for order in orders])
        outcomes: list[Voucher | Exception | None] = [_replayed(order, known.get(order.voucher)) for order in orders]
        fresh = [order for order, outcome in zip(orders, outcomes, strict=True) if outcome is None]
        told = await self._tell_apart(fresh, now)
        wishes = [wish for wish in told if isinstance(wish, Wish)]
        written = iter(await self._write(wishes, now))
        answers = iter([next(written) if isinstance(answer, Wish) else answer for answer in told])
        return [next(answers) if outcome is None else outcome for outcome in outcomes]

    async def _tell_apart(self, orders: Sequence[Order], now: datetime) -> list[Wish | Exception]:
        """For each order, why it is refused whatever the stock, or what it wants."""
        offers = await self._catalogue.find_offers(list({order.offer: None for order in orders}))
        merchants = await self._catalogue.find_merchants(list({offer.merchant: None for offer in offers.values()}))
        citizens = await self._identity.find_citizens({order.citizen for order in orders})
        told: list[Wish | Exception] = []
        for order in orders:
            offer = offers.get(order.offer)
            try:
                if offer is None:
                    raise UnknownOfferError(order.offer)
                told.append(self._wish(order, offer, merchants[offer.merchant], citizens.get(order.citizen), now))
            except (Refusal, ForbiddenError) as error:
                told.append(error)
        return told

    def _wish(self, order: Order, offer: Offer, merchant: Merchant, citizen: Citizen | None, now: datetime) -> Wish:
        if citizen is None:
            raise ForbiddenError(Text("未登记市民的兑换", "redemption by somebody who is not registered"))
        _require_units(offer, order.units)
        contract = merchant.contract_at(now)
        problem = is_open(offer, merchant, now, self._zone)
        if problem is None and contract is None:
            problem = OfferClosedError(NO_CONTRACT)
        refused = problem or audience_problem(offer.terms.audience, citizen.district, citizen.created_at, now)
        if refused is not None:
            raise refused
        assert contract is not None
        voucher = new_voucher(
            order.voucher,
            order.citizen,
            offer,
            contract,
            units=order.units,
            payload=order.payload,
            now=now,
            zone=self._zone,
        )
        wants = wants_of(offer, contract, order.units, now, self._zone)
        return Wish(order, offer, wants, voucher, transaction_of(voucher))

    async def _write(self, wishes: Sequence[Wish], now: datetime) -> Sequence[Voucher | Exception]:
        """Set the stock aside, write what can be written, return the rest of the stock."""
        if not wishes:
            return []
        reservation = await self._pots.reserve(new_id("rsv", now), _together(wishes))
        unsealed, runs = new_id("uns", now), itertools.count()

        async def body(tx: Tx) -> _Round:
            written = _Round(self, tx, reservation, now, attempt=next(runs))
            await written.fill(wishes)
            if not await PotWrites(tx).prove(reservation, written.used, now):
                raise _ReservationOverError
            await written.write(unsealed)
            return written

        try:
            written = await self._transactions.run(body)
        except _ReservationOverError:
            # An earlier run wrote it after all, or it took so long that somebody took the reservation for orphaned.
            return [_InHandError()] * len(wishes)
        except UnavailableError:
            # Written perhaps, perhaps not: the proof tells whoever recovers the reservation.
            raise
        except Exception:
            await self._pots.finish(reservation, {})
            raise
        await self._pots.finish(reservation, written.used)
        return written.outcomes

    def made(self, wish: Wish, at: datetime, *, attempt: int) -> Voucher:
        """The voucher that the wish becomes, its transaction having happened ``at``."""
        return made(wish.voucher, new_number(self._server_key, wish.voucher.id, attempt), at)

    async def open_sheet(self, tx: Tx, wishes: Sequence[Wish]) -> Sheet:
        """The book, opened at the pages of all who wish."""
        return await self._ledger.open_within(tx, [wish.transaction for wish in wishes])

    def today(self, now: datetime) -> date:
        """The local day by which limits count."""
        return local_date(now, self._zone)


class _Round:
    """One run of a group inside one MongoDB transaction: decides each wish after the other, in their order."""

    def __init__(self, redeeming: Redeeming, tx: Tx, reservation: Reservation, now: datetime, *, attempt: int) -> None:
        self._redeeming = redeeming
        self._tx = tx
        self._vouchers = VoucherWrites(tx)
        self._reservation = reservation
        self._now = now
        self._attempt = attempt
        self._counts: Counter[tuple[CitizenId, OfferId, str]] = Counter()
        self._made: dict[VoucherId, Voucher] = {}
        self._sheet: Sheet | None = None
        self.used: Counter[PotId] = Counter()
        self.outcomes: list[Voucher | Exception] = []

    async def fill(self, wishes: Sequence[Wish]) -> None:
        """Decide every wish; nothing is written yet but what the book sends ahead."""
        # Another run, or another process, may have made some of them meanwhile; the first run hopes not.
        known = {} if self._tx.is_first else await self._vouchers.find_many([wish.order.voucher for wish in wishes])
        await self._count(wishes)
        self._sheet = await self._redeeming.open_sheet(self._tx, wishes)
        for wish in wishes:
            earlier = _replayed(wish.order, known.get(wish.order.voucher) or self._made.get(wish.order.voucher))
            self.outcomes.append(earlier or await self._decide(wish, self._sheet))

    async def write(self, unsealed: str) -> None:
        """Write the vouchers and what the book holds of them."""
        assert self._sheet is not None
        await self._vouchers.insert(list(self._made.values()))
        await self._sheet.write(unsealed, self._now)

    async def _decide(self, wish: Wish, sheet: Sheet) -> Voucher | Exception:
        order = wish.order
        try:
            self._require_within_limits(wish)
            self._require_units(wish)
            await sheet.post(wish.transaction, self._now)
        except InsufficientFundsError as error:
            return InsufficientPointsError(error.needed, error.available)
        except HoldExpiredError:
            return OfferClosedError(OVER)
        except TooManyHoldsError as error:
            return TooManyVouchersError(error.limit)
        except (Refusal, _InHandError) as error:
            return error
        for pot, want in wish.wants.items():
            self.used[pot] += want.units
        for period in (self._today, EVER):
            self._counts[order.citizen, order.offer, period] += order.units
        voucher = self._redeeming.made(wish, sheet.posted[wish.transaction.id], attempt=self._attempt)
        self._made[voucher.id] = voucher
        return voucher

    @property
    def _today(self) -> str:
        return self._redeeming.today(self._now).isoformat()

    async def _count(self, wishes: Sequence[Wish]) -> None:
        """Count what those have redeemed whose offers bound it: in all, or where nothing bounds that, today."""
        bounded = {}
        for wish in wishes:
            limits = wish.offer.terms.limits
            if limits.in_all is not None or limits.per_day is not None:
                since = None if limits.in_all is not None else self._redeeming.today(self._now)
                bounded[wish.order.citizen, wish.order.offer] = since
        for citizen, offer, day, units in await self._vouchers.count_redeemed(bounded):
            for period in {day, EVER}:
                self._counts[citizen, offer, period] += units

    def _require_within_limits(self, wish: Wish) -> None:
        order, limits = wish.order, wish.offer.terms.limits
        for limit, period, words in ((limits.per_day, self._today, TODAY), (limits.in_all, EVER, IN_ALL)):
            if limit is not None and self._counts[order.citizen, order.offer, period] + order.units > limit:
                raise LimitReachedError(limit, words)

    def _require_units(self, wish: Wish) -> None:
        for pot, want in wish.wants.items():
            reserved = self._reservation.pots[pot]
            left = reserved.units - self.used[pot]
            if left >= want.units:
                continue
            if reserved.in_hand:
                raise _InHandError
            raise BudgetSpentError if is_budget(pot) else SoldOutError(wish.order.offer, left)


def _order(principal: Principal, offer: OfferId, units: int, key: str) -> Order:
    identity_rules.require_idempotency_key(key)
    if principal.citizen is None:
        raise ForbiddenError(Text("积分兑换", "redemption is citizens'"))
    if not 1 <= units <= MAX_UNITS:
        raise InvalidInputError("units", Text(f"1–{MAX_UNITS}", f"1–{MAX_UNITS}"))
    voucher = VoucherId(derived_id("vou", str(principal), key))
    return Order(principal.citizen, offer, units, key, voucher, payload_hash([offer, units]))


def _require_units(offer: Offer, units: int) -> None:
    """Refuse more units at once than one voucher can be for: of codes one, of others a hundred items."""
    most = 1 if offer.terms.kind is OfferKind.CODE else max(1, MAX_ITEMS // offer.terms.items)
    if units > most:
        raise InvalidInputError("units", Text(f"该项目每次 1–{most} 份", f"1–{most} of this offer at once"))


def _replayed(order: Order, voucher: Voucher | None) -> Voucher | Exception | None:
    """The voucher that the order's key made before; a conflict where the order was another one."""
    if voucher is None or voucher.payload == order.payload:
        return voucher
    return IdempotencyConflictError(order.key)


def _together(wishes: Iterable[Wish]) -> dict[PotId, Want]:
    wants: dict[PotId, Want] = {}
    for wish in wishes:
        for pot, want in wish.wants.items():
            wants[pot] = Want(want.units + (wants[pot].units if pot in wants else 0), want.total)
    return wants
