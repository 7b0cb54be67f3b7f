"""The door to payouts: an owner asks, finance staff record the bank's transfer, another of them approves it.

Stage and ledger transactions commit together. The payee is stored encrypted; finance staff alone read it.
"""

from __future__ import annotations

import dataclasses
import secrets
from typing import TYPE_CHECKING

import orjson
import structlog

from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind, StaffRole
from backend.identity.rule_desk import require_staff
from backend.identity.rules import require_idempotency_key
from backend.kernel.clock import local_date
from backend.kernel.crypto import canonical_json, decrypt, encrypt, keyed_hash
from backend.kernel.errors import IdempotencyConflictError, TransientError
from backend.kernel.ids import derived_id
from backend.ledger.expiry import lapse
from backend.market.funds import rules
from backend.market.funds.acting import (
    ANY_STAFF,
    RECORDING_MONEY,
    require_disinterested,
    require_finance,
    require_other,
    use_of,
)
from backend.market.funds.enterprises import require_approved
from backend.market.funds.errors import (
    DuplicateReferenceError,
    ReferenceChangedError,
    TooManyPayoutsError,
    UnknownPayoutError,
)
from backend.market.funds.model import OPEN_PAYOUT, BankEntry, Payee, Payout, PayoutId, PayoutStage, account_of_owner
from backend.market.funds.store import FundReads, FundWrites
from backend.market.traders import owner_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.ledger.model import OwnerId, Transaction
    from backend.ledger.service import Ledger
    from backend.mongo.client import Database
    from backend.mongo.idempotency import Use
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx

    Effect = Callable[[Tx, Payout, datetime], Awaitable[Payout]]

LOG = structlog.get_logger(__name__)
PAYEE_READERS = frozenset({StaffRole.FINANCE})
SWEEP = 200


class Payouts:
    """Payouts of one programme; ``lookup_key`` (32 bytes) gives the key under which payees are encrypted.

    Every method that changes something raises, beside what it names:
        ForbiddenError: the principal may not: owners ask and cancel, finance staff and administrators do the rest.
        InvalidInputError, IdempotencyConflictError: a field, or the key.
        HoldExpiredError, HoldNotActiveError: by another server's clock the hold has ended.
        BusyError, UnavailableError: see ``Transactions.run``.
    """

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        clock: Clock,
        zone: ZoneInfo,
        lookup_key: bytes,
    ) -> None:
        self._reads = FundReads(database)
        self._transactions = transactions
        self._ledger = ledger
        self._clock = clock
        self._zone = zone
        self._lookup_key = lookup_key
        self._payee_key = bytes.fromhex(keyed_hash(lookup_key, "market payees"))

    async def request(self, principal: Principal, fen: int, payee: Payee, *, key: str) -> Payout:
        """Ask for money of one's own to be paid out to that bank account; it is held from now on.

        Raises:
            UnknownEnterpriseError, EnterpriseStageError: the caller is an enterprise that is not let in.
            TooManyPayoutsError: five are under way.
            InsufficientFundsError, TooManyHoldsError: so much is not available, or its page carries no more holds.
        """
        require_idempotency_key(key)
        owner = owner_of(principal)
        rules.require_fen(fen)
        payee = rules.require_payee(payee)
        now = self._clock.now()
        payout_id = PayoutId(derived_id("pay", owner, key))
        # A plain hash would let whoever has the database try all account numbers.
        whose = keyed_hash(self._lookup_key, "payee", *payee)
        use = use_of(principal, "requestPayout", key, fen, whose)
        payout = Payout(
            id=payout_id,
            owner=owner,
            fen=fen,
            masked=rules.masked(payee),
            sealed=encrypt(self._payee_key, canonical_json(payee._asdict()), _context(payout_id)),
            salt=secrets.token_hex(rules.SALT_BYTES),
            stage=PayoutStage.REQUESTED,
            requested_at=now,
            expires_at=rules.end_of_hold(now, rules.REQUEST_DAYS, self._zone),
        )

        async def body(tx: Tx) -> Payout:
            writes = FundWrites(tx)
            taken = await writes.claimed_at(use)
            known = await writes.find_payout(payout.id)
            if known is not None:
                if taken is None and (known.fen, self._open(known)) != (fen, payee):
                    raise IdempotencyConflictError(key)
                return known
            if principal.kind is PrincipalKind.ENTERPRISE:
                await require_approved(writes, principal.id)
            if await writes.count_open_payouts(owner, limit=rules.MAX_OPEN_PAYOUTS) >= rules.MAX_OPEN_PAYOUTS:
                raise TooManyPayoutsError(rules.MAX_OPEN_PAYOUTS)
            # Requests of one owner that come together meet on its page, so that each counts the others.
            await self._post(tx, now, rules.requesting(payout, payout.expires_at))
            await writes.insert_payout(payout)
            await writes.claim(use, now)
            return payout

        return await self._transactions.run(body)

    async def cancel(self, principal: Principal, payout: str, *, key: str) -> Payout:
        """Take a request back, as long as no transfer is recorded; by its owner.

        Raises:
            UnknownPayoutError, PayoutStageError: in this order.
        """
        require_idempotency_key(key)
        owner = owner_of(principal)

        async def effect(tx: Tx, before: Payout, now: datetime) -> Payout:
            if before.owner != owner:
                raise UnknownPayoutError(payout)
            rules.require_stage(before, now, PayoutStage.REQUESTED)
            await self._post(tx, now, rules.freeing(before))
            return _decided(before, PayoutStage.CANCELLED, principal, now)

        return await self._change(use_of(principal, "cancelPayout", key, payout), payout, effect)

    async def settle(self, principal: Principal, payout: str, entry: BankEntry, *, key: str) -> Payout:
        """Record by which line of the bank's statement it was paid, or correct that; another approves it.

        Its fen are held for a year from the first record on: what the bank has paid is not spent again meanwhile.

        Raises:
            UnknownPayoutError, PayoutStageError: in this order.
            UnknownEnterpriseError, EnterpriseStageError: its owner is an enterprise that is not let in any more.
            OwnInterestError: it is the caller's own money.
            DuplicateReferenceError: that line was recorded already.
        """
        require_finance(principal, key)
        entry = rules.require_entry(entry, local_date(self._clock.now(), self._zone))

        async def effect(tx: Tx, before: Payout, now: datetime) -> Payout:
            writes = FundWrites(tx)
            rules.require_stage(before, now, *OPEN_PAYOUT)
            await _require_let_in(writes, before)
            require_disinterested(principal, before.owner)
            if before.entry is not None:
                await writes.free_reference(before.entry.reference, before.id)
            if await writes.is_reference_used(entry.reference):
                raise DuplicateReferenceError(entry.reference)
            await writes.use_reference(entry.reference, before.id)
            expires_at = before.expires_at
            if before.stage is PayoutStage.REQUESTED:
                expires_at = rules.end_of_hold(now, rules.SETTLING_DAYS, self._zone)
                await self._post(tx, now, *rules.settling(before, expires_at))
            return dataclasses.replace(
                before,
                stage=PayoutStage.SETTLING,
                expires_at=expires_at,
                entry=entry,
                settled_at=now,
                settled_by=str(principal),
            )

        return await self._change(use_of(principal, "settlePayout", key, payout, *map(str, entry)), payout, effect)

    async def approve(self, principal: Principal, payout: str, reference: str, *, key: str) -> Payout:
        """Agree that it was paid as recorded, by the line of that reference: the fen leave the book.

        Raises:
            UnknownPayoutError, PayoutStageError: in this order.
            UnknownEnterpriseError, EnterpriseStageError: its owner is an enterprise that is not let in any more.
            OwnInterestError, OwnProposalError: it is the caller's own money; the caller recorded it.
            ReferenceChangedError: another line is recorded than the caller looked at.
        """
        require_finance(principal, key)
        reference = rules.require_reference(reference)

        async def effect(tx: Tx, before: Payout, now: datetime) -> Payout:
            rules.require_stage(before, now, PayoutStage.SETTLING)
            await _require_let_in(FundWrites(tx), before)
            require_disinterested(principal, before.owner)
            require_other(principal, before.settled_by)
            assert before.entry is not None
            if before.entry.reference != reference:
                raise ReferenceChangedError(before.entry.reference)
            after = _decided(before, PayoutStage.PAID, principal, now)
            posting = rules.paying(after)
            await self._post(tx, now, posting)
            return dataclasses.replace(after, transaction=posting.id)

        return await self._change(use_of(principal, "approvePayout", key, payout, reference), payout, effect)

    async def reject(self, principal: Principal, payout: str, reason: str, *, key: str) -> Payout:
        """Turn a request down, or what was recorded of it, and say why (1–500 characters); its fen are free again.

        Raises:
            UnknownPayoutError, PayoutStageError: in this order.
            OwnInterestError, OwnProposalError: it is the caller's own money; the caller recorded a transfer of it.
        """
        require_finance(principal, key, reason=reason)

        async def effect(tx: Tx, before: Payout, now: datetime) -> Payout:
            rules.require_stage(before, now, *OPEN_PAYOUT)
            require_disinterested(principal, before.owner)
            require_other(principal, before.settled_by)
            if before.entry is not None:
                await FundWrites(tx).free_reference(before.entry.reference, before.id)
            await self._post(tx, now, rules.freeing(before))
            return dataclasses.replace(
                _decided(before, PayoutStage.REJECTED, principal, now), reason=reason, entry=None
            )

        return await self._change(use_of(principal, "rejectPayout", key, payout, reason), payout, effect)

    async def end_overdue(self) -> int:
        """Mark payouts of which the hold's time is over, whether or not the book has freed it; how many there were.

        Raises:
            UnavailableError, BusyError: what was done stays done.
        """
        overdue = await self._reads.list_overdue(self._clock.now(), limit=SWEEP)
        for payout in overdue:
            try:
                await self._end(payout)
            except TransientError:
                raise
            except Exception:
                # One that cannot be ended holds up no other.
                LOG.exception("a payout that is over cannot be ended", payout=payout)
        return len(overdue)

    async def _end(self, payout: PayoutId) -> None:
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            writes = FundWrites(tx)
            before = await writes.find_payout(payout)
            if before is None or before.stage not in OPEN_PAYOUT or before.expires_at > now:
                return
            if before.entry is not None:
                await writes.free_reference(before.entry.reference, before.id)
            # The book may have ended the hold by itself already: the same transaction, so passed over.
            await self._post(tx, now, lapse(*rules.current_hold(before)))
            after = dataclasses.replace(before, stage=PayoutStage.LAPSED, decided_at=now, entry=None)
            await writes.save_payout(before, after)

        await self._transactions.run(body)

    def reveal_payee(self, principal: Principal, payout: Payout) -> Payee | None:
        """The bank account in full, None where what is stored cannot be read any more; for finance staff.

        Raises:
            ForbiddenError: anybody else, administrators too.
        """
        require_staff(principal, PAYEE_READERS, RECORDING_MONEY)
        return self._open(payout)

    def _open(self, payout: Payout) -> Payee | None:
        try:
            return Payee(**orjson.loads(decrypt(self._payee_key, payout.sealed, _context(payout.id))))
        except ValueError:
            # Another key, or changed: the book seals what was stored, so the audit names the payout.
            LOG.exception("a payee cannot be read", payout=payout.id)
            return None

    async def list_payouts(
        self,
        principal: Principal,
        owner: OwnerId | None,
        stage: PayoutStage | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Payout]:
        """Payouts of that owner or of all, in that stage or in any, newest first; for staff, and for the owner.

        Raises:
            ForbiddenError: anybody else.
        """
        if principal.kind is PrincipalKind.STAFF or owner is None:
            require_staff(principal, ANY_STAFF, RECORDING_MONEY)
        elif owner_of(principal) != owner:
            raise ForbiddenError(RECORDING_MONEY)
        return await self._reads.list_payouts(owner, stage, limit=limit, older=older, newer=newer, newest=newest)

    async def _post(self, tx: Tx, now: datetime, *transactions: Transaction) -> None:
        await self._ledger.post_within(tx, transactions, at=now)

    async def _change(self, use: Use, payout: str, effect: Effect) -> Payout:
        """Let the key take its effect, once; the payout after it, or as it stands where it had taken it before."""
        now = self._clock.now()

        async def body(tx: Tx) -> Payout:
            writes = FundWrites(tx)
            before = await writes.find_payout(payout)
            if before is None:
                raise UnknownPayoutError(payout)
            if await writes.claimed_at(use) is not None:
                return before
            after = await effect(tx, before, now)
            await writes.save_payout(before, after)
            await writes.claim(use, now)
            return after

        return await self._transactions.run(body)


async def _require_let_in(writes: FundWrites, payout: Payout) -> None:
    enterprise = account_of_owner(payout.owner).enterprise
    if enterprise is not None:
        await require_approved(writes, enterprise)


def _decided(payout: Payout, stage: PayoutStage, principal: Principal, now: datetime) -> Payout:
    return dataclasses.replace(payout, stage=stage, decided_at=now, decided_by=str(principal))


def _context(payout: PayoutId) -> str:
    return f"payee of payout {payout}"
