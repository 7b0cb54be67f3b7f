"""The sealer and the reader of seals: makes blocks of what waits, hands out receipts, blocks and published days.

Only what seals needs the private key, and loads it then: a process that only reads never touches it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import structlog
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backend.kernel import merkle
from backend.kernel.clock import local_date
from backend.kernel.errors import BusyError
from backend.ledger.model import OwnerId, split_account
from backend.ledger.sealing import canonical, receipts
from backend.ledger.sealing.chain import block_problems
from backend.ledger.sealing.model import (
    NO_BLOCK,
    Block,
    Day,
    DayDocument,
    Header,
    Receipt,
    SealBrokenError,
    Unsealable,
    UnsealableReason,
)
from backend.ledger.sealing.store import OutrunError, SealedBeforeError, SealReads, block_from_document, write_block

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date
    from zoneinfo import ZoneInfo

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from backend.kernel.clock import Clock
    from backend.kernel.ids import TransactionId
    from backend.ledger.sealing.model import Backlog, KeyId
    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Transactions, Tx

LOG = structlog.get_logger(__name__)
BLOCK_SIZE = 10_000
LONGEST_WAIT = timedelta(seconds=60)
MAX_OUTRUNS = 20
CACHED_DAYS = 8
ID = re.compile(r"tx_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class _Contents:
    """What goes into a block: transactions in order with their leaves; and what cannot."""

    announcements: Sequence[str]
    leaves: Mapping[str, bytes]
    left_out: Mapping[str, UnsealableReason]


@dataclass
class _Signer:
    """The private key with its name and public key."""

    key: Ed25519PrivateKey
    public_key: str = field(init=False)
    id: KeyId = field(init=False)

    def __post_init__(self) -> None:
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_key, self.id = raw.hex(), canonical.key_id(raw)


class Sealing:
    """Blocks over the book."""

    def __init__(
        self,
        database: Database,
        transactions: Transactions,
        clock: Clock,
        *,
        programme: str,
        zone: ZoneInfo,
        load_key: Callable[[], Ed25519PrivateKey],
        block_size: int = BLOCK_SIZE,
    ) -> None:
        self._reads = SealReads(database)
        self._transactions = transactions
        self._clock = clock
        self._programme = programme
        self._zone = zone
        self._load_key = load_key
        self._block_size = block_size
        self._signer: _Signer | None = None
        self._keys: dict[KeyId, str] = {}
        # The verified blocks of the day of the last block; they never change, so they are read once.
        self._chain: list[Block] = []
        self._published: OrderedDict[Day, DayDocument] = OrderedDict()

    async def seal_due(self) -> int:
        """Seal while 10,000 transactions wait, or one waits since 60 s, or a new day has no block yet; how many blocks.

        Raises:
            SealBrokenError: the chain to be continued is not what was signed; nothing more is sealed until it is.
            BusyError, UnavailableError: see ``Transactions.run``.
        """
        made = 0
        while True:
            backlog = await self.backlog()
            waited = backlog.since is not None and self._clock.now() - backlog.since >= LONGEST_WAIT
            due = waited or backlog.transactions >= self._block_size
            if not await self._seal(force=due):
                return made
            made += 1

    async def seal_now(self) -> int:
        """Seal all that waits; how many blocks.

        Raises:
            SealBrokenError, BusyError, UnavailableError: see ``seal_due``.
        """
        made = 0
        while await self._seal(force=True):
            made += 1
        return made

    async def backlog(self) -> Backlog:
        """What waits to be sealed."""
        return await self._reads.backlog(self._block_size)

    async def _seal(self, *, force: bool) -> bool:
        """Make the next block; whether there was a reason to."""
        is_suspect = False
        for _ in range(MAX_OUTRUNS):
            try:
                last = await self._continue_chain()
                is_first_of_day = last is not None and self._today(last) > last.day
                if not force and not is_first_of_day:
                    return False
                contents = await self._collect(is_suspect=is_suspect)
                if not contents.announcements and not is_first_of_day:
                    return False
                await self._write(last, contents)
            except OutrunError:
                # The other sealer's block is there now: what it took waits no more.
                continue
            except SealedBeforeError as error:
                if is_suspect:
                    # No transaction left in it is sealed, so it is the height whose leaves are there without a block.
                    height = last.header.height + 1 if last else 1
                    raise SealBrokenError(f"block {height}: its leaves are there, itself is missing") from error
                is_suspect = True
                continue
            return True
        raise BusyError

    def _today(self, last: Block) -> date:
        return local_date(max(self._clock.now(), last.header.sealed_at), self._zone)

    async def _continue_chain(self) -> Block | None:
        """The last block, with its whole day verified; a signature over what we did not sign would make it ours.

        Raises:
            OutrunError: another sealer made a block meanwhile.
            SealBrokenError: which block is not what was signed.
        """
        stored = await self._reads.last_block()
        if stored is None:
            self._chain = []
            return None
        if not self._chain or stored["hash"] != self._chain[-1].hash or stored["_id"] != self._chain[-1].header.height:
            day = await self._reads.find_day(block_from_document(stored, await self._known_keys(stored["key"])).day)
            if day is None or day.last != stored["_id"]:
                # Two reads: another sealer may have gone on in between; if none has, they belong together.
                if await self._reads.last_block() != stored:
                    raise OutrunError
                raise SealBrokenError(f"block {stored['_id']}: its day {stored['date']} does not end with it")
            self._chain = await self._blocks(day)
            for number, block in enumerate(self._chain):
                for problem in block_problems(block, self._chain[number - 1] if number else None):
                    raise SealBrokenError(f"block {block.header.height}: {problem}")
        return self._chain[-1]

    async def _collect(self, *, is_suspect: bool) -> _Contents:
        """The longest waiting with their leaves; what cannot be sealed is left out by name."""
        announcements, named = await self._reads.take_waiting(self._block_size)
        # In the order of ids, which is that of their bytes.
        names = sorted(filter(ID.fullmatch, named))
        before = await self._reads.find_sealed([id_bytes(name) for name in names]) if is_suspect else frozenset()
        found = await self._reads.find_leaves(names)
        left_out = dict.fromkeys(named.difference(names), UnsealableReason.MALFORMED)
        leaves: dict[str, bytes] = {}
        for name in names:
            leaf = found.get(name)
            if before and id_bytes(name) in before:
                left_out[name] = UnsealableReason.SEALED_BEFORE
            elif leaf is None:
                left_out[name] = UnsealableReason.MALFORMED if name in found else UnsealableReason.MISSING
            else:
                leaves[name] = leaf
        return _Contents(announcements, leaves, left_out)

    async def _write(self, last: Block | None, contents: _Contents) -> None:
        signer = self._signer = self._signer or _Signer(self._load_key())
        now = self._clock.now()
        leaves = b"".join(contents.leaves.values())
        header = Header(
            programme=self._programme,
            height=last.header.height + 1 if last else 1,
            previous=last.hash if last else NO_BLOCK,
            size=len(contents.leaves),
            root=merkle.root(leaves).hex(),
            sealed_at=max(now, last.header.sealed_at) if last else now,
            key=signer.id,
        )
        signed = canonical.header_bytes(header)
        block = Block(
            header,
            sha256(signed).hexdigest(),
            signer.key.sign(signed).hex(),
            signer.public_key,
            local_date(header.sealed_at, self._zone),
        )
        chain = [*self._chain, block] if last and last.day == block.day else [block]
        days = [self._sign_day(chain, is_final=False)]
        if last and last.day < block.day:
            days.append(self._sign_day(self._chain, is_final=True))
        unsealable = [
            Unsealable(name, reason, header.height, now) for name, reason in sorted(contents.left_out.items())
        ]

        async def body(tx: Tx) -> None:
            await write_block(
                tx,
                block,
                transactions=[id_bytes(name) for name in contents.leaves],
                leaves=leaves,
                days=days,
                announcements=contents.announcements,
                unsealable=unsealable,
            )

        await self._transactions.run(body)
        self._chain = chain
        for item in unsealable:
            LOG.error("announced transaction not sealed", transaction=item.transaction, reason=item.reason.value)
        LOG.info("sealed", height=header.height, transactions=header.size)

    def _sign_day(self, blocks: Sequence[Block], *, is_final: bool) -> Day:
        assert self._signer is not None
        day = Day(
            date=blocks[0].day,
            is_final=is_final,
            first=blocks[0].header.height,
            last=blocks[-1].header.height,
            root=merkle.root(b"".join(merkle.leaf_hash(bytes.fromhex(block.hash)) for block in blocks)).hex(),
            key=self._signer.id,
            signature="",
        )
        document = canonical.day_object(self._programme, day, blocks, self._signer.public_key)
        return replace(day, signature=self._signer.key.sign(canonical.day_bytes(document)).hex())

    async def find_block(self, height: int) -> Block | None:
        """The block of that height.

        Raises:
            SealBrokenError: it is stored with a key that never signed.
        """
        stored = await self._reads.find_block(height)
        return block_from_document(stored, await self._known_keys(stored["key"])) if stored else None

    async def find_receipt(
        self, transaction: TransactionId, may_see: Callable[[OwnerId], bool] | None
    ) -> Receipt | None:
        """The transaction's receipt where it is sealed and the reader may see an owner whose account it touches.

        ``may_see=None`` is for readers who may see every account.

        Raises:
            SealBrokenError: the stored transaction, leaves or block are not what was sealed.
        """
        document = await self._reads.find_transaction(transaction) if ID.fullmatch(transaction) else None
        if document is None or (may_see and not any(map(may_see, _owners(document)))):
            return None
        place = await self._reads.find_place(id_bytes(transaction))
        if place is None:
            return None
        height, index, leaves = place
        block = await self.find_block(height)
        if block is None:
            raise SealBrokenError(f"block {height}: its leaves are there, itself is missing")
        if len(leaves) != block.header.size * merkle.HASH_BYTES or index >= block.header.size:
            raise SealBrokenError(f"block {height}: {len(leaves)} bytes of leaves for a size of {block.header.size}")
        siblings = tuple(sibling.hex() for sibling in merkle.path(leaves, index))
        receipt = Receipt(transaction, canonical.leaf_object(document), index, siblings, block)
        verdict = receipts.verify(canonical.canonical_bytes(canonical.receipt_object(receipt)))
        for failure in verdict.failures:
            raise SealBrokenError(f"transaction {transaction} in block {height}: {failure.place}")
        return receipt

    async def list_days(self) -> list[Day]:
        """Every local date that has blocks, oldest first."""
        return await self._reads.list_days()

    async def days_document(self) -> bytes:
        """The list of days and of all keys, as published."""
        days = await self._reads.list_days()
        return canonical.canonical_bytes(canonical.days_object(self._programme, days, await self._reads.keys()))

    async def day_document(self, day: date) -> DayDocument | None:
        """The day as published; None where no block was made on that local date.

        Raises:
            SealBrokenError: a block of it is missing.
        """
        found = await self._reads.find_day(day)
        if found is None:
            return None
        if found not in self._published:
            keys = await self._known_keys(found.key)
            blocks = await self._blocks(found)
            text = canonical.canonical_bytes(canonical.day_object(self._programme, found, blocks, keys[found.key]))
            self._published[found] = DayDocument(text, found.is_final)
            if len(self._published) > CACHED_DAYS:
                self._published.popitem(last=False)
        return self._published[found]

    async def list_unsealable(self, limit: int = 100) -> list[Unsealable]:
        """The latest announced transactions that blocks had to leave out; each is a finding for the auditor."""
        return await self._reads.list_unsealable(limit)

    async def list_keys(self) -> dict[KeyId, str]:
        """Every public key that ever signed (hex), by its name."""
        return await self._reads.keys()

    async def _known_keys(self, key: str) -> Mapping[KeyId, str]:
        """All registered keys, read again where this one is new."""
        if key not in self._keys:
            self._keys = await self._reads.keys()
        return self._keys

    async def _blocks(self, day: Day) -> list[Block]:
        stored = await self._reads.list_blocks(day.first, day.last)
        if [document["_id"] for document in stored] != list(range(day.first, day.last + 1)):
            raise SealBrokenError(f"day {day.date}: not all blocks from {day.first} to {day.last} are there")
        return [block_from_document(document, await self._known_keys(document["key"])) for document in stored]


def id_bytes(transaction: str) -> bytes:
    """The 16 bytes of a transaction's id."""
    return bytes.fromhex(transaction.removeprefix("tx_"))


def _owners(document: Document) -> set[OwnerId]:
    """Whose accounts and holds the transaction touches."""
    accounts = {account for posting in document["postings"] for account in (posting["from"], posting["to"])}
    owners = {split_account(account).owner for account in accounts}
    return owners | {OwnerId(document["hold"]["owner"])} if "hold" in document else owners
