"""The only door to retirement: credits are retired, certificates found, listed and held against the book.

A certificate is public; who retired the credits is told only where they wished it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backend.identity.rules import require_idempotency_key, require_name
from backend.kernel.clock import local_date
from backend.kernel.errors import IdempotencyConflictError
from backend.kernel.ids import TransactionId, derived_id, new_id
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import Page, is_credit
from backend.market.retirement.booking import retirement
from backend.market.retirement.errors import InsufficientCreditsError, TooFragmentedError, UnknownCreditError
from backend.market.retirement.model import Certificate, CertificateId, Origin
from backend.market.retirement.rules import checked, new_number, payload_of, read_number, require_beginning
from backend.market.retirement.store import CertificateReads, CertificateWrites
from backend.market.serials.model import SerialRange, total_grams
from backend.market.serials.store import SerialSheet, find_owners, list_ranges, retired_owner
from backend.market.traders import owner_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.kernel.clock import Clock
    from backend.ledger.model import Asset, OwnerId
    from backend.ledger.service import Ledger
    from backend.market.pooling.model import ActsSummary
    from backend.market.retirement.model import CreditFacts, Retiring
    from backend.market.serials.model import Ranges
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Transactions, Tx

# What one certificate names, and its transaction seals and moves, within a second or two.
MAX_RANGES = 2_000


@dataclasses.dataclass(frozen=True)
class Asking:
    """What retirement asks other rooms: the acts behind serials, a credit's facts, an owner's name for the public."""

    summarise: Callable[[Asset, Ranges], Awaitable[ActsSummary | None]]
    describe: Callable[[Asset], Awaitable[CreditFacts | None]]
    name_of: Callable[[OwnerId], Awaitable[str | None]]


class Retirement:
    """Certificates of one programme."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        ledger: Ledger,
        clock: Clock,
        zone: ZoneInfo,
        programme: str,
        number_key: bytes,
        asking: Asking,
        max_ranges: int = MAX_RANGES,
    ) -> None:
        self._reads = CertificateReads(database)
        self._database = database
        self._transactions = transactions
        self._ledger = ledger
        self._clock = clock
        self._zone = zone
        self._programme = programme
        self._number_key = number_key
        self._asking = asking
        self.max_ranges = max_ranges

    async def retire(self, principal: Principal, asked: Retiring, *, key: str, pool: str | None = None) -> Certificate:
        """Retire credits that the principal owns, or for an administrator those of a pool; what no order holds.

        Raises:
            ForbiddenError: the principal owns no credits.
            InvalidInputError: the key, the pool, or a field that no certificate can carry.
            IdempotencyConflictError: the key was used otherwise.
            UnknownCreditError: no such credit was ever issued.
            InsufficientCreditsError: the owner has fewer grams that no order holds.
            TooFragmentedError: they lie in more ranges of serials than are moved at once.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        if pool is not None:
            require_name("pool", pool)
        owner = owner_of(principal, pool)
        require_idempotency_key(key)
        certificate = CertificateId(derived_id("crt", str(principal), key))
        return await self.retire_as(owner, asked, certificate=certificate, key=key)

    async def retire_as(self, owner: OwnerId, asked: Retiring, *, certificate: CertificateId, key: str) -> Certificate:
        """Retire an owner's credits under an id that the caller derived from its cause; repeated, it changes nothing.

        Raises:
            InvalidInputError, IdempotencyConflictError, UnknownCreditError, InsufficientCreditsError,
            TooFragmentedError: see ``retire``.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        asked = checked(asked)
        payload = payload_of(owner, asked)
        await self._require_issued(asked.credit)
        name = await self._asking.name_of(owner) if asked.is_named else None
        now = self._clock.now()
        unsealed = new_id("uns", now)

        async def body(tx: Tx) -> Certificate:
            writes = CertificateWrites(tx)
            found = await writes.find(certificate)
            if found is not None:
                if found.payload != payload:
                    raise IdempotencyConflictError(key)
                return found
            draft = Certificate(
                id=certificate,
                number=await self._free_number(writes, certificate, now),
                owner=owner,
                owner_name=name,
                beneficiary=asked.beneficiary,
                purpose=asked.purpose,
                statement=asked.statement,
                credit=asked.credit,
                grams=asked.grams,
                serials=(SerialRange(1, asked.grams),),
                transaction=TransactionId(""),
                at=now,
                payload=payload,
            )
            made = await self._post(tx, draft, unsealed)
            await writes.insert(made)
            return made

        return await self._transactions.run(body)

    async def _require_issued(self, credit: Asset) -> None:
        if not is_credit(credit) or (await find_owners(self._database, credit, [1]))[0] is None:
            raise UnknownCreditError(credit[:200])

    async def _free_number(self, writes: CertificateWrites, certificate: CertificateId, now: datetime) -> str:
        year, attempt = local_date(now, self._zone).year, 0
        while await writes.is_taken(
            number := new_number(self._number_key, self._programme, year, certificate, attempt)
        ):
            attempt += 1
        return number

    async def _post(self, tx: Tx, draft: Certificate, unsealed: str) -> Certificate:
        """Move the credits and their serials, lowest first; the draft with what was moved and when.

        The draft's serials are anybody's: by it the owner's page is read, before it is known which serials move.
        """
        probe = retirement(draft)
        sheet = await self._ledger.open_within(tx, [probe])
        page = sheet.before.get(draft.owner) or Page(draft.owner)
        available = page.available(draft.credit, draft.at)
        if available < draft.grams * MG_PER_GRAM:
            raise InsufficientCreditsError(draft.grams, available // MG_PER_GRAM)
        await self._require_few_ranges(draft)
        serials = SerialSheet(tx)
        moved = await serials.move(draft.credit, draft.grams, draft.owner, retired_owner(draft.id))
        made = dataclasses.replace(draft, serials=moved)
        transaction = retirement(made)
        await sheet.post(transaction, draft.at)
        await sheet.write(unsealed, draft.at)
        await serials.write()
        return dataclasses.replace(made, transaction=transaction.id, at=sheet.posted[transaction.id])

    async def _require_few_ranges(self, draft: Certificate) -> None:
        """Refuse what would take longer than a transaction may. As committed: by little it may come out otherwise."""
        runs = await list_ranges(self._database, draft.owner, draft.credit, limit=self.max_ranges)
        if len(runs) == self.max_ranges and total_grams(runs) < draft.grams:
            raise TooFragmentedError(self.max_ranges, total_grams(runs))

    async def origin_of(self, certificate: Certificate) -> Origin | None:
        """Where its credits come from, looked up once: it cannot change any more. None while the batch is being issued.

        The first time, the acts of all who contributed to these serials are read.
        """
        if certificate.origin is not None:
            return certificate.origin
        facts = await self._asking.describe(certificate.credit)
        acts = await self._asking.summarise(certificate.credit, certificate.serials)
        if facts is None or acts is None:
            return None
        origin = Origin(facts, acts)
        await self._reads.note_origin(certificate.id, origin)
        return origin

    async def find(self, certificate: CertificateId) -> Certificate | None:
        """The certificate of that id, for anybody."""
        return await self._reads.find(certificate)

    async def find_numbered(self, number: str) -> Certificate | None:
        """The certificate of that number as a person typed it, for anybody."""
        known = read_number(number)
        return await self._reads.find_numbered(known) if known else None

    async def list_certificates(
        self,
        *,
        owner: OwnerId | None = None,
        credit: Asset | None = None,
        beneficiary: str | None = None,
        limit: int,
        older: Place | None = None,
        newer: Place | None = None,
        newest: bool = True,
    ) -> list[Certificate]:
        """The register, newest first: all, or those of one owner, one credit, or beneficiaries whose name begins so.

        Raises:
            InvalidInputError: no name begins so.
        """
        require_beginning(beneficiary)
        return await self._reads.list_page(
            owner=owner,
            credit=credit,
            beneficiary=beneficiary,
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )

    async def total(self, *, credit: Asset | None = None, beneficiary: str | None = None) -> tuple[int, int]:
        """How many certificates the register has (those of one credit or beneficiary), and their grams together.

        Raises:
            InvalidInputError: no name begins so.
        """
        require_beginning(beneficiary)
        return await self._reads.total(credit=credit, beneficiary=beneficiary)

    async def stands(self, certificate: Certificate) -> bool:
        """Whether book and register of serials say exactly what the certificate says: this very transaction."""
        booked = await self._ledger.find_transaction(certificate.transaction)
        if booked is None or booked.payload != retirement(certificate).payload:
            return False
        owner = retired_owner(certificate.id)
        runs = await list_ranges(self._database, owner, certificate.credit, limit=len(certificate.serials) + 1)
        return runs == certificate.serials
