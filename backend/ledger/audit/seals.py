"""The seals beside the book: blocks one behind the other, their leaves, keys and days, and what waits to be sealed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backend.kernel import merkle
from backend.kernel.clock import local_date
from backend.kernel.ids import new_id
from backend.ledger.audit import store
from backend.ledger.audit.findings import unlike
from backend.ledger.audit.replay import id_bytes
from backend.ledger.model import TransactionKind
from backend.ledger.sealing.canonical import day_bytes, day_object, key_id, leaf_digest
from backend.ledger.sealing.chain import block_problems, leaf_problems
from backend.ledger.sealing.model import Block, Day, KeyId
from backend.ledger.sealing.receipts import is_signed
from backend.ledger.sealing.store import block_document, block_from_document
from backend.mongo.batches import decode, long

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from backend.ledger.audit.findings import Audit, Side
    from backend.ledger.lots import PointsPolicy
    from backend.mongo.client import Document, Snapshot

HASH = merkle.HASH_BYTES
UNSEALED_PREFIX = "uns"
UNSEALED_ID = re.compile(r"uns_[0-9a-f]{32}")
UNSEALED_TIME = len("uns_") + 12  # the part of the id that is its time
READ_SIZE = 1_000
MAX_GAP = 10


@dataclass
class Seals:
    """One pass over everything the sealer wrote or is going to read."""

    snapshot: Snapshot
    audit: Audit
    side: Side
    policy: PointsPolicy | None
    keys: dict[KeyId, str] = field(default_factory=dict)
    registered: dict[KeyId, Any] = field(default_factory=dict)
    signed_first: dict[KeyId, datetime] = field(default_factory=dict)
    days: dict[str, tuple[Document, bytes]] = field(default_factory=dict)

    async def run(self) -> None:
        """Check all of it."""
        await self._read_keys()
        await self._read_days()
        await self._check_chain()
        for key, at in self.registered.items():
            first = self.signed_first.get(key)
            if first is None:
                self.audit.report(f"key {key}", "never signed a block")
            elif at != first:
                self.audit.report(f"key {key}", f"at is {at}, its first block was sealed at {first}")
        for name in self.days:
            self.audit.report(f"day {name}", "no block is of it")
        await self._check_waiting()
        async for item in store.stream_unsealable(self.snapshot):
            self.audit.report(
                f"transaction {item.get('transaction')}",
                f"was announced and could not be sealed: {item.get('reason')} (block {item.get('height')})",
            )

    async def _read_keys(self) -> None:
        for raw in await store.list_keys(self.snapshot):
            document = _read(raw)
            name, public, at = document.get("_id"), document.get("public"), document.get("at")
            place = f"key {name}"
            if document.keys() != {"_id", "public", "at"} or not isinstance(at, datetime):
                self.audit.report(place, "is malformed")
            elif not isinstance(name, str) or not isinstance(public, str) or not _is_named(public, name):
                self.audit.report(place, "is the name of another key")
            else:
                self.keys[KeyId(name)], self.registered[KeyId(name)] = public, at

    async def _read_days(self) -> None:
        for raw in await store.list_days(self.snapshot):
            document = _read(raw)
            self.days[str(document.get("_id"))] = (document, raw)

    async def _check_chain(self) -> None:
        """Blocks and leaves side by side, by height."""
        leaves = _Ahead(store.stream_leaves(self.snapshot))
        await leaves.advance()
        previous: Block | None = None
        day: list[Block] = []
        async for raw in store.stream_blocks(self.snapshot):
            document = _read(raw)
            height = document.get("_id")
            block = self._block(document, raw, previous)
            await self._check_leaves(height, block, leaves)
            if block is None:
                continue
            if day and block.day != day[-1].day:
                self._check_day(day, is_last=False)
                day = []
            day.append(block)
            self.signed_first.setdefault(block.header.key, block.header.sealed_at)
            previous = block
        if day:
            self._check_day(day, is_last=True)
        while leaves.document is not None:
            self.audit.report(f"block {leaves.id}", "has leaves and is not there itself")
            await leaves.advance()

    def _block(self, document: Document, raw: bytes, previous: Block | None) -> Block | None:
        """The block, with all that is wrong with it reported; None where it cannot be read."""
        audit, place = self.audit, f"block {document.get('_id')}"
        audit.blocks += 1
        try:
            block = block_from_document(document, self.keys)
            problems = [*unlike(document, raw, block_document(block)), *block_problems(block, None)]
            if bytes.fromhex(block.signature).hex() != block.signature:
                problems.append("its signature is written otherwise than signatures are")
            height = block.header.height
            after = previous.header.height if previous else 0
            for missing in range(after + 1, min(height, after + 1 + MAX_GAP)):
                audit.report(f"block {missing}", "is missing")
            if previous is not None and height == after + 1:
                # What it says by itself has been checked already.
                problems += [problem for problem in block_problems(block, previous) if problem not in problems]
            if self.policy and local_date(block.header.sealed_at, self.policy.zone) != block.day:
                problems.append(f"date is {block.day}, it was sealed at {block.header.sealed_at}")
        except Exception as error:  # noqa: BLE001 - whatever a forged block breaks is a finding, never a traceback
            audit.report(place, str(error) or repr(error))
            return None
        for problem in problems:
            audit.report(place, problem)
        return block

    async def _check_leaves(self, height: object, block: Block | None, leaves: _Ahead) -> None:
        while leaves.document is not None and _is_before(leaves.id, height):
            self.audit.report(f"block {leaves.id}", "has leaves and is not there itself")
            await leaves.advance()
        if leaves.document is None or leaves.id != height:
            self.audit.report(f"block {height}", "its leaves are missing")
            return
        place = f"block {height}"
        try:
            transactions, hashes = leaves_of(leaves.document)
            for problem in leaf_problems(block, transactions, hashes) if block else ():
                self.audit.report(place, problem)
            places = range(0, len(hashes), HASH)
            entries = [
                hashes[at : at + HASH] + transaction for at, transaction in zip(places, transactions, strict=False)
            ]
            self.side.add_all(entries, -1)
        except Exception as error:  # noqa: BLE001 - likewise
            self.audit.report(place, f"its leaves {str(error) or repr(error)}")
        await leaves.advance()

    def _check_day(self, blocks: list[Block], *, is_last: bool) -> None:
        """The published day against its blocks; the day of the last block is not final."""
        name = blocks[0].day.isoformat()
        stored, raw = self.days.pop(name, (None, b""))
        if stored is None:
            self.audit.report(f"day {name}", "is not published")
            return
        try:
            problems = list(self._day_problems(stored, raw, blocks, is_final=not is_last))
        except Exception as error:  # noqa: BLE001 - likewise
            problems = [str(error) or repr(error)]
        for problem in problems:
            self.audit.report(f"day {name}", problem)

    def _day_problems(self, stored: Document, raw: bytes, blocks: list[Block], *, is_final: bool) -> Iterator[str]:
        key, first, last = KeyId(stored["key"]), blocks[0].header.height, blocks[-1].header.height
        entries = (merkle.leaf_hash(bytes.fromhex(block.hash)) for block in blocks)
        root = merkle.root(b"".join(entries)).hex()
        day = Day(blocks[0].day, is_final, first, last, root, key, stored["signature"])
        expected = {"final": is_final, "first": long(first), "last": long(last), "root": root}
        yield from unlike(stored, raw, {"_id": stored["_id"], **expected, "key": key, "signature": day.signature})
        if key not in self.keys:
            yield f"its key {key} is not registered"
            return
        document = day_object(blocks[0].header.programme, day, blocks, self.keys[key])
        is_plain = bytes.fromhex(day.signature).hex() == day.signature
        if not is_plain or not is_signed(day_bytes(document), day.signature, self.keys[key]):
            yield "its signature does not hold"

    async def _check_waiting(self) -> None:
        """What waits to be sealed is in the book; with the blocks it is all of the book, once."""
        waiting: list[tuple[str, str]] = []
        async for raw in store.stream_unsealed(self.snapshot):
            document = _read(raw)
            place = f"announcement {document.get('_id')}"
            for problem in _announcement_problems(document):
                self.audit.report(place, problem)
            names = document.get("transactions")
            waiting += [(str(name), place) for name in (names if isinstance(names, list) else ())]
            while len(waiting) >= READ_SIZE:
                await self._look_up(waiting[:READ_SIZE])
                waiting = waiting[READ_SIZE:]
        await self._look_up(waiting)

    async def _look_up(self, waiting: list[tuple[str, str]]) -> None:
        homes = await store.find_homes(self.snapshot, [name for name, _ in waiting]) if waiting else {}
        self.audit.waiting += len(waiting)
        for name, place in waiting:
            document = homes.get(name)
            if document is None:
                self.audit.report(place, f"names transaction {name}, which is not in the book")
                continue
            try:
                self.side.add(leaf_digest(document) + id_bytes(name), -1)
                problem = _terms_problem(document, self.policy) if self.policy else None
            except Exception as error:  # noqa: BLE001 - likewise
                problem = f"cannot be sealed: {error!r}"
            if problem:
                self.audit.report(f"transaction {name}", problem)


class _Ahead:
    """The leaves of all blocks, one block ahead."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self.document: Document | None = None

    @property
    def id(self) -> object:
        """The height they are stored under."""
        return self.document.get("_id") if self.document else None

    async def advance(self) -> None:
        """Go to the next block's."""
        raw = await anext(self._stream, None)
        self.document = None if raw is None else _read(raw)


def _read(raw: bytes) -> Document:
    """The document; one that cannot be decoded is as good as empty."""
    try:
        return decode(raw)
    except ValueError:
        return {}


def _is_named(public: str, name: str) -> bool:
    """Whether it is the key of that name, written as keys are."""
    try:
        raw = bytes.fromhex(public)
    except ValueError:
        return False
    return raw.hex() == public and key_id(raw) == name


def _is_before(height: object, other: object) -> bool:
    return isinstance(height, int) and isinstance(other, int) and height < other


def leaves_of(document: Document) -> tuple[list[bytes], bytes]:
    """The transactions (16 bytes each) and leaf hashes of a stored document of leaves.

    Raises:
        ValueError: it is malformed.
    """
    transactions, leaves = document.get("transactions"), document.get("leaves")
    if document.keys() != {"_id", "transactions", "leaves"} or type(document["_id"]) is not type(long(0)):
        raise ValueError("are malformed")
    # Another subtype of binary data is another type here.
    if type(leaves) is not bytes or not isinstance(transactions, list) or {*map(type, transactions)} - {bytes}:
        raise ValueError("are no binary data")
    return transactions, leaves


def _announcement_problems(document: Document) -> Iterator[str]:
    """What is wrong with an announcement by itself."""
    name, names, at = document.get("_id"), document.get("transactions"), document.get("at")
    if document.keys() != {"_id", "transactions", "at"} or not isinstance(name, str) or not isinstance(at, datetime):
        yield "is malformed"
        return
    if not UNSEALED_ID.fullmatch(name) or new_id(UNSEALED_PREFIX, at)[:UNSEALED_TIME] != name[:UNSEALED_TIME]:
        yield f"its id is not that of an announcement at {at}"
    if not isinstance(names, list) or not names or not all(isinstance(item, str) for item in names):
        yield "names no transactions"


def _terms_problem(document: Document, policy: PointsPolicy) -> str | None:
    """Whether points of a transaction that waits end as today's settings say; what is sealed cannot change any more."""
    due = policy.opens(TransactionKind(document["kind"]), document["at"])
    return None if document["opens"] == due else f"opens is {document['opens']}, the programme gives {due}"
